//! Cases about fixed-sample tests, drift, multiplicity, and group-sequential boundaries.

use anytime_stats::drift::{ChiSquare, chi2_contingency, chi2_goodness_of_fit, jensen_shannon, kolmogorov_sf, ks_binned, psi};
use anytime_stats::fixed::{
    Restricted, clopper_pearson, mantel_haenszel_odds_ratio, mcnemar, newcombe, noninferiority_p, poisson_exact_conditional,
    score_interval, score_z, wilson,
};
use anytime_stats::group_sequential::{Spending, constants, peeking_error, spending_bounds};
use anytime_stats::intervals::{StratifiedDifference, StratifiedRatio};
use anytime_stats::multiplicity::{benjamini_hochberg, benjamini_yekutieli, bonferroni, e_bh, holm, log_average, p_to_log_e};
use anytime_stats::ranks::{kolmogorov_smirnov, mann_whitney, newey_west};
use anytime_stats::{Interval, Tally, Window};
use serde_json::{Value, json};

use super::{Inputs, Solver, number, numbers, only, rows};

pub fn solver(method: &str) -> Option<Solver> {
    Some(match method {
        "poisson_two_sample_exact_conditional" => poisson,
        "mcnemar" => pairs,
        "psi" => stability,
        "ks_two_sample" => ks_raw,
        "ks_binned" => ks_bins,
        "kolmogorov_sf" => |inputs| Some(json!({ "sf": kolmogorov_sf(number(inputs, "x")?) })),
        "chi2_contingency" => |inputs| Some(chi_square(&chi2_contingency(&rows(inputs, "table")?)?)),
        "chi2_goodness_of_fit" => {
            |inputs| Some(chi_square(&chi2_goodness_of_fit(&numbers(inputs, "observed")?, &numbers(inputs, "expected_ratio")?)?))
        }
        "jensen_shannon" => divergence,
        "mann_whitney_u" => ranks,
        "group_sequential_constants" => sequential_constants,
        "lan_demets_bounds" => boundaries,
        "peeking_false_positive_rate" => peeking,
        "multiple_testing" => multiplicity,
        "e_bh" => false_discoveries,
        "p_to_e_calibrator" => |inputs| Some(json!({ "e": p_to_log_e(number(inputs, "p")?, number(inputs, "kappa")?).exp() })),
        "two_proportions_fixed_n" => two_proportions,
        "newey_west_long_run_variance" => long_run_variance,
        "stratified_risk_difference" => stratified,
        _ => return None,
    })
}

fn poisson(inputs: &Inputs<'_>) -> Option<Value> {
    only(inputs, "alternative", &json!("two-sided"))?;
    let arm = |count, exposure| Some(Tally::new(number(inputs, count)?, number(inputs, exposure)?));
    let p = poisson_exact_conditional(arm("count1", "exposure1")?, arm("count2", "exposure2")?, number(inputs, "ratio_null")?);
    Some(json!({ "p_value": p }))
}

fn pairs(inputs: &Inputs<'_>) -> Option<Value> {
    let test = mcnemar(number(inputs, "b")?, number(inputs, "c")?)?;
    Some(json!({
        "exact_p": test.exact_p,
        "chi2": test.chi2,
        "p": test.p,
        "chi2_cc": test.chi2_corrected,
        "p_cc": test.p_corrected,
        "mid_p": test.mid_p,
    }))
}

fn stability(inputs: &Inputs<'_>) -> Option<Value> {
    let test = psi(&numbers(inputs, "reference_counts")?, &numbers(inputs, "live_counts")?, number(inputs, "add_to_each_bin")?, 0.05)?;
    Some(json!({
        "psi": test.psi,
        "null_mean": test.null_mean,
        "critical_95": test.critical,
        "p_value": test.p_value,
        "lower_bound_95": test.lower_bound,
    }))
}

fn ks_raw(inputs: &Inputs<'_>) -> Option<Value> {
    let test = kolmogorov_smirnov(&numbers(inputs, "x")?, &numbers(inputs, "y")?)?;
    Some(json!({ "D": test.distance, "p_exact": test.exact_p, "p_asymp_scipy": test.effective_p }))
}

fn ks_bins(inputs: &Inputs<'_>) -> Option<Value> {
    let test = ks_binned(&numbers(inputs, "reference_counts")?, &numbers(inputs, "live_counts")?)?;
    Some(json!({ "D": test.distance, "p_kolmogorov": test.p_value }))
}

fn chi_square(test: &ChiSquare) -> Value {
    json!({ "chi2": test.statistic, "dof": test.dof, "p": test.p_value, "cramers_v": test.cramers_v })
}

fn divergence(inputs: &Inputs<'_>) -> Option<Value> {
    let nats = jensen_shannon(&numbers(inputs, "p")?, &numbers(inputs, "q")?)?;
    let bits = nats / std::f64::consts::LN_2;
    Some(json!({ "divergence_nats": nats, "divergence_bits": bits, "distance_base2": bits.sqrt() }))
}

fn ranks(inputs: &Inputs<'_>) -> Option<Value> {
    let test = mann_whitney(&numbers(inputs, "experiment")?, &numbers(inputs, "control")?)?;
    Some(json!({ "U": test.u, "p_two_sided_normal_cc": test.p_value, "hodges_lehmann": test.shift }))
}

fn looks(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

fn sequential_constants(inputs: &Inputs<'_>) -> Option<Value> {
    let found = constants(looks(&inputs["K"])?, number(inputs, "alpha_two_sided")?);
    Some(json!({ "pocock": found.pocock, "obrien_fleming": found.obrien_fleming }))
}

fn boundaries(inputs: &Inputs<'_>) -> Option<Value> {
    let spending = match inputs["spending"].as_str()? {
        "obrien_fleming_type" => Spending::ObrienFleming,
        "pocock_type" => Spending::Pocock,
        _ => return None,
    };
    let bounds = spending_bounds(&numbers(inputs, "information_fractions")?, number(inputs, "alpha_one_sided")?, spending)?;
    let (z, spent): (Vec<f64>, Vec<f64>) = bounds.into_iter().unzip();
    Some(json!({ "cumulative_alpha": spent, "z_bounds": z }))
}

fn peeking(inputs: &Inputs<'_>) -> Option<Value> {
    let alpha = number(inputs, "per_look_alpha_two_sided")?;
    let rates: Option<Vec<f64>> = inputs["looks"].as_array()?.iter().map(|k| Some(peeking_error(looks(k)?, alpha))).collect();
    Some(json!({ "rate": rates? }))
}

fn multiplicity(inputs: &Inputs<'_>) -> Option<Value> {
    let p = numbers(inputs, "p_values")?;
    Some(json!({ "bonferroni": bonferroni(&p), "holm": holm(&p), "bh": benjamini_hochberg(&p), "by": benjamini_yekutieli(&p) }))
}

fn false_discoveries(inputs: &Inputs<'_>) -> Option<Value> {
    let alpha = number(inputs, "alpha")?;
    let logs: Vec<f64> = numbers(inputs, "e_values")?.into_iter().map(f64::ln).collect();
    let average = log_average(&logs).exp();
    Some(json!({
        "rejected_indices": e_bh(&logs, alpha),
        "average_e": average,
        // Compared as logarithms, as everything else is: exp(ln 20) is a little below 20.
        "global_null_rejected_by_average": log_average(&logs) >= -alpha.ln(),
    }))
}

fn two_proportions(inputs: &Inputs<'_>) -> Option<Value> {
    let arm = |bad, total| Some(Tally::new(number(inputs, bad)?, number(inputs, total)?));
    let window = Window::new(arm("champion_failures", "champion_n")?, arm("candidate_failures", "candidate_n")?);
    let (margin, confidence) = (number(inputs, "margin")?, number(inputs, "conf")?);
    // These reference values come from statsmodels, so they follow its closed form.
    let restricted = Restricted::Statsmodels;
    let ends = |interval: Interval| json!([interval.lower, interval.upper]);
    Some(json!({
        "wilson_candidate": ends(wilson(window.candidate, confidence)?),
        "clopper_pearson_candidate": ends(clopper_pearson(window.candidate, confidence)?),
        "newcombe_diff": ends(newcombe(&window, confidence)?),
        "score_diff": ends(score_interval(&window, confidence, restricted)?),
        "farrington_manning_z": score_z(&window, margin, restricted)?,
        "farrington_manning_p_noninferior": noninferiority_p(&window, margin, restricted)?,
    }))
}

fn long_run_variance(inputs: &Inputs<'_>) -> Option<Value> {
    let values = numbers(inputs, "x")?;
    let variance = newey_west(&values, looks(&inputs["lags"])?)?;
    Some(json!({ "long_run_variance": variance, "standard_error_of_mean": (variance / values.len() as f64).sqrt() }))
}

fn stratified(inputs: &Inputs<'_>) -> Option<Value> {
    let column = |bad, total| -> Option<Vec<Tally>> {
        Some(numbers(inputs, bad)?.into_iter().zip(numbers(inputs, total)?).map(|(x, n)| Tally::new(x, n)).collect())
    };
    let champion = column("champion_failures", "champion_n")?;
    let candidate = column("candidate_failures", "candidate_n")?;
    let windows: Vec<Window> = champion.into_iter().zip(candidate).map(|(a, b)| Window::new(a, b)).collect();
    let (mut difference, mut ratio) = (StratifiedDifference::default(), StratifiedRatio::default());
    for window in &windows {
        difference.absorb(window, 1.0);
        ratio.absorb(window, 1.0);
    }
    let (s, v) = difference.score(number(inputs, "margin")?);
    let pooled = difference.counts();
    Some(json!({
        "mh_risk_difference": difference.estimate()?,
        "pooled_risk_difference": pooled.candidate.rate()? - pooled.champion.rate()?,
        "S": s,
        "V": v,
        "z": s / v.sqrt(),
        "mh_risk_ratio": ratio.estimate()?,
        "mh_odds_ratio": mantel_haenszel_odds_ratio(&windows)?,
    }))
}
