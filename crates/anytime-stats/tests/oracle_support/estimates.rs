//! Cases about bounds, confidence sequences, quantiles, and sample sizes.

use anytime_stats::Exceedance;
use anytime_stats::mixtures::{
    asymptotic_half_width, beta_binomial_log_e, gamma_poisson_log_e, mixture_scale, normal_bound_one_sided, normal_bound_two_sided,
    normal_log_e_one_sided, normal_log_e_two_sided, proportion_confidence_sequence,
};
use anytime_stats::planning::{
    Precision, mcnemar_pairs, noninferiority_proportions, paired_noninferiority, rule_of_sixteen, two_means_t, two_proportions,
};
use anytime_stats::quantile::{
    Stitching, distribution_band, double_stitching_bound, interpolated_quantile, quantile_equality_p_value, quantile_interval,
    quantile_ratio_log_e,
};
use serde_json::{Value, json};

use super::{Inputs, Solver, number, numbers, only};

pub fn solver(method: &str) -> Option<Solver> {
    Some(match method {
        "normal_mixture_log_e" => normal_mixture,
        "normal_mixture_bound" => normal_bound,
        "asymptotic_cs_halfwidth" => half_width,
        "confseq_beta_binomial_log_mixture" => beta_binomial,
        "bernoulli_confidence_sequence" => bernoulli,
        "gamma_poisson_log_mixture" => gamma_poisson,
        "empirical_process_lil_bound" => band,
        "double_stitching_bound" => stitched,
        "quantile_ab_p_value" => quantile_equality,
        "histogram_quantile_confidence_sequence" => histogram_quantile,
        "prometheus_histogram_quantile_classic" => interpolated,
        "quantile_ratio_eprocess" => quantile_ratio,
        "sample_size_two_proportions" => size_two_proportions,
        "sample_size_rule_of_16" => {
            |inputs| Some(json!({ "n_per_arm": rule_of_sixteen(number(inputs, "p")?, number(inputs, "relative_change")?) }))
        }
        "sample_size_noninferiority_proportions" => size_noninferiority,
        "sample_size_two_means_t" => {
            |inputs| Some(json!({ "n_per_group": two_means_t(number(inputs, "cohen_d")?, precision(inputs, "alpha_two_sided")?) }))
        }
        "sample_size_mcnemar" => size_mcnemar,
        "sample_size_paired_noninferiority" => size_paired,
        _ => return None,
    })
}

fn one_sided(inputs: &Inputs<'_>) -> Option<bool> {
    inputs["one_sided"].as_bool()
}

fn tuned(inputs: &Inputs<'_>) -> Option<f64> {
    let alpha = number(inputs, "alpha_opt")?;
    Some(mixture_scale(number(inputs, "v_opt")?, if one_sided(inputs)? { 2.0 * alpha } else { alpha }))
}

fn normal_mixture(inputs: &Inputs<'_>) -> Option<Value> {
    let (s, v, scale) = (number(inputs, "s")?, number(inputs, "v")?, tuned(inputs)?);
    let log_e = if one_sided(inputs)? { normal_log_e_one_sided(s, v, scale) } else { normal_log_e_two_sided(s, v, scale) };
    Some(json!({ "rho": scale, "log_e": log_e }))
}

fn normal_bound(inputs: &Inputs<'_>) -> Option<Value> {
    let (v, alpha, scale) = (number(inputs, "v")?, number(inputs, "alpha")?, tuned(inputs)?);
    let bound = if one_sided(inputs)? { normal_bound_one_sided(v, alpha, scale) } else { normal_bound_two_sided(v, alpha, scale) };
    Some(json!({ "bound": bound }))
}

fn half_width(inputs: &Inputs<'_>) -> Option<Value> {
    let get = |one_sided| {
        Some(asymptotic_half_width(
            number(inputs, "variance")?,
            number(inputs, "n")?,
            number(inputs, "n_opt")?,
            number(inputs, "alpha")?,
            one_sided,
        ))
    };
    let (two, one) = (get(false)?, get(true)?);
    Some(json!({ "rho_two_sided": two.0, "halfwidth_two_sided": two.1, "rho_one_sided": one.0, "halfwidth_one_sided": one.1 }))
}

fn beta_binomial(inputs: &Inputs<'_>) -> Option<Value> {
    only(inputs, "one_sided", &json!(false))?;
    let get = |name| number(inputs, name);
    Some(json!({ "log_e": beta_binomial_log_e(get("successes")?, get("n")?, get("p0")?, get("v_opt")?, get("alpha_opt")?) }))
}

fn bernoulli(inputs: &Inputs<'_>) -> Option<Value> {
    let get = |name| number(inputs, name);
    let interval = proportion_confidence_sequence(get("successes")?, get("n")?, get("alpha")?, get("t_opt")?, get("alpha_opt")?)?;
    Some(json!({ "lower": interval.lower, "upper": interval.upper }))
}

fn gamma_poisson(inputs: &Inputs<'_>) -> Option<Value> {
    let get = |name| number(inputs, name);
    Some(json!({ "log_e": gamma_poisson_log_e(get("s")?, get("v")?, get("v_opt")?, get("c")?, get("alpha_opt")?) }))
}

fn band(inputs: &Inputs<'_>) -> Option<Value> {
    let get = |name| number(inputs, name);
    Some(json!({ "bound": distribution_band(get("t")?, get("alpha")?, get("t_min")?, get("A")?) }))
}

fn stitched(inputs: &Inputs<'_>) -> Option<Value> {
    let get = |name| number(inputs, name);
    let stitching = Stitching { t_opt: get("t_opt")?, delta: get("delta")?, s: get("s")?, eta: get("eta")? };
    Some(json!({ "bound": double_stitching_bound(get("quantile_p")?, get("t")?, get("alpha")?, stitching) }))
}

fn quantile_equality(inputs: &Inputs<'_>) -> Option<Value> {
    let p = quantile_equality_p_value(
        &numbers(inputs, "a")?,
        &numbers(inputs, "b")?,
        number(inputs, "quantile_p")?,
        number(inputs, "t_opt")?,
        0.05,
    );
    Some(json!({ "p_value": p }))
}

/// Edges with counts; the edge "+Inf" is a string in the files.
fn buckets(inputs: &Inputs<'_>) -> Option<Vec<(f64, f64)>> {
    let edges = inputs["edges"].as_array()?.iter().map(|e| e.as_f64().or_else(|| e.as_str()?.parse().ok()));
    let edges: Vec<f64> = edges.collect::<Option<_>>()?;
    Some(edges.into_iter().zip(numbers(inputs, "cumulative_counts")?).collect())
}

fn quantile_test(inputs: &Inputs<'_>) -> Option<Exceedance> {
    Exceedance::with_prior(number(inputs, "p")?, number(inputs, "beta_a")?, number(inputs, "beta_b")?).ok()
}

fn histogram_quantile(inputs: &Inputs<'_>) -> Option<Value> {
    let interval = quantile_interval(&buckets(inputs)?, number(inputs, "n")?, &quantile_test(inputs)?, number(inputs, "alpha")?);
    Some(json!({ "lower": interval.lower, "upper": interval.upper }))
}

fn interpolated(inputs: &Inputs<'_>) -> Option<Value> {
    Some(json!({ "value": interpolated_quantile(number(inputs, "q")?, &buckets(inputs)?)? }))
}

fn quantile_ratio(inputs: &Inputs<'_>) -> Option<Value> {
    let champion = numbers(inputs, "champion_cumulative")?;
    let candidate = numbers(inputs, "candidate_cumulative")?;
    let log_e = quantile_ratio_log_e(
        (&champion, number(inputs, "champion_n")?),
        (&candidate, number(inputs, "candidate_n")?),
        usize::try_from(inputs["ratio_in_buckets"].as_u64()?).ok()?,
        &quantile_test(inputs)?,
    );
    Some(json!({ "log_e_promote": log_e }))
}

fn precision(inputs: &Inputs<'_>, level: &str) -> Option<Precision> {
    Some(Precision { alpha: number(inputs, level)?, power: number(inputs, "power")? })
}

fn size_two_proportions(inputs: &Inputs<'_>) -> Option<Value> {
    let get = |name| number(inputs, name);
    let sizes = two_proportions(get("p1")?, get("p2")?, get("n2_over_n1")?, precision(inputs, "alpha_two_sided")?)?;
    Some(json!({ "n1_unpooled": sizes.unpooled, "n1_pooled_null": sizes.pooled, "n1_arcsine": sizes.arcsine }))
}

fn size_noninferiority(inputs: &Inputs<'_>) -> Option<Value> {
    let get = |name| number(inputs, name);
    let (champion, candidate, margin) = (get("p_champion")?, get("p_candidate")?, get("margin")?);
    let n = noninferiority_proportions(champion, candidate, margin, get("champion_over_candidate")?, precision(inputs, "alpha_one_sided")?);
    Some(json!({ "n_candidate": n }))
}

fn size_mcnemar(inputs: &Inputs<'_>) -> Option<Value> {
    let n = mcnemar_pairs(number(inputs, "p_champion_only")?, number(inputs, "p_candidate_only")?, precision(inputs, "alpha_two_sided")?);
    Some(json!({ "n_pairs": n }))
}

fn size_paired(inputs: &Inputs<'_>) -> Option<Value> {
    let get = |name| number(inputs, name);
    let n = paired_noninferiority(get("p_champion_only")?, get("p_candidate_only")?, get("margin")?, precision(inputs, "alpha_one_sided")?);
    Some(json!({ "n_pairs": n }))
}
