//! Cases about e-values and e-processes.

use anytime_stats::absolute_limit::AbsoluteLimitPlan;
use anytime_stats::detector::{Cusum, bernoulli_increments};
use anytime_stats::merge::{MergePlan, OpenWindow};
use anytime_stats::proof::unsettled;
use anytime_stats::risk_difference::project;
use anytime_stats::sample_ratio::log_e_at;
use anytime_stats::{
    AbsoluteLimit, EDetector, Exceedance, GaugePlan, GaugeProcess, HarmProcess, PairedMargin, Pairs, PlugInRate, ProofProcess, RateRatio,
    RiskDifference, SampleRatio, Side, Tally, Window, fixed,
};
use serde_json::{Value, json};

use super::{Inputs, Solver, number, numbers, only, rows};

pub fn solver(method: &str) -> Option<Solver> {
    Some(match method {
        "cond_binomial_rate_ratio_eprocess" => rate_ratio,
        "ripr_line_projection" => projection,
        "ripr_risk_difference_eprocess" => risk_difference,
        "start_time_mixture_eprocess" => start_mixture,
        "beta_binomial_eprocess" => beta_binomial,
        "paired_betting_eprocess" => paired,
        "srm" => sample_ratio,
        "e_detector_bernoulli" => detector,
        "gauge_difference_asympcs_ar1" => gauge,
        "two_lane_harm_eprocess" => two_lane,
        "proof_lane_eprocess" => proof_lane,
        "absolute_limit_evidence" => absolute_limit,
        _ => return None,
    })
}

fn side(inputs: &Inputs<'_>) -> Option<Side> {
    match inputs["side"].as_str()? {
        "harm" => Some(Side::Harm),
        "promote" => Some(Side::Proof),
        _ => None,
    }
}

/// Windows from four columns of counts.
fn columns(inputs: &Inputs<'_>, names: [&str; 4]) -> Option<Vec<Window>> {
    let [x_a, n_a, x_b, n_b] = names.map(|name| numbers(inputs, name));
    let champion = x_a?.into_iter().zip(n_a?).map(|(x, n)| Tally::new(x, n));
    let candidate = x_b?.into_iter().zip(n_b?).map(|(x, n)| Tally::new(x, n));
    Some(champion.zip(candidate).map(|(a, b)| Window::new(a, b)).collect())
}

fn four(row: &[f64]) -> Option<Window> {
    match row {
        [x_a, n_a, x_b, n_b] => Some(Window::new(Tally::new(*x_a, *n_a), Tally::new(*x_b, *n_b))),
        _ => None,
    }
}

fn rate_ratio(inputs: &Inputs<'_>) -> Option<Value> {
    let side = side(inputs)?;
    let test = RateRatio::new(number(inputs, "r0")?).ok()?;
    // Without a start-time mixture both sides are a plain mixture over alternatives.
    let mut process = ProofProcess::new(RateRatio::weights(side), None).ok()?;
    let mut log_e = Vec::new();
    for window in columns(inputs, ["champion_events", "champion_exposure", "candidate_events", "candidate_exposure"])? {
        process.absorb(&test.log_increments(side, &window), 1.0);
        log_e.push(process.log_e());
    }
    Some(json!({ "cumulative_log_e": log_e }))
}

fn projection(inputs: &Inputs<'_>) -> Option<Value> {
    let get = |name| number(inputs, name);
    let (a, b) = project(get("theta_a")?, get("theta_b")?, get("n_a")?, get("n_b")?, get("r")?, get("d")?)?;
    Some(json!({ "theta_a0": a, "theta_b0": b }))
}

fn plug_in(inputs: &Inputs<'_>) -> Option<PlugInRate> {
    Some(PlugInRate::new(number(inputs, "nuisance_prior_mean")?, number(inputs, "nuisance_prior_strength")?))
}

fn risk_difference(inputs: &Inputs<'_>) -> Option<Value> {
    let (side, phi) = (side(inputs)?, number(inputs, "phi")?);
    let test = RiskDifference::new(number(inputs, "margin")?).ok()?;
    let mut rate = plug_in(inputs)?;
    let mut process = ProofProcess::new(RiskDifference::weights(side), None).ok()?;
    let mut log_e = Vec::new();
    for window in columns(inputs, ["champion_failures", "champion_n", "candidate_failures", "candidate_n"])? {
        process.absorb(&test.log_increments(side, rate.rate(), &window), phi);
        rate.absorb(window.champion);
        log_e.push(process.log_e());
    }
    Some(json!({ "cumulative_log_e": log_e }))
}

fn horizon(inputs: &Inputs<'_>) -> Option<u32> {
    u32::try_from(inputs["t_max"].as_u64()?).ok()
}

fn start_mixture(inputs: &Inputs<'_>) -> Option<Value> {
    let mut process = HarmProcess::new(&numbers(inputs, "component_weights")?, number(inputs, "w0")?, horizon(inputs)?, None).ok()?;
    let mut log_e = Vec::new();
    for ells in rows(inputs, "window_log_e_per_component")? {
        process.grid_point();
        process.absorb(&ells, 1.0);
        log_e.push(process.log_e());
    }
    Some(json!({ "cumulative_log_e": log_e }))
}

fn beta_binomial(inputs: &Inputs<'_>) -> Option<Value> {
    let test = Exceedance::with_prior(number(inputs, "p0")?, number(inputs, "beta_a")?, number(inputs, "beta_b")?).ok()?;
    let counts = Tally::new(number(inputs, "successes")?, number(inputs, "n")?);
    Some(json!({
        "log_e_two_sided": test.log_e_two_sided(counts),
        "log_e_H0_p_le_p0": test.log_e(Side::Harm, counts),
        "log_e_H0_p_ge_p0": test.log_e(Side::Proof, counts),
    }))
}

fn paired(inputs: &Inputs<'_>) -> Option<Value> {
    let margin = PairedMargin::new(number(inputs, "margin")?).ok()?;
    let pairs = Pairs {
        champion_only: number(inputs, "champion_right_candidate_wrong")?,
        candidate_only: number(inputs, "champion_wrong_candidate_right")?,
        tied: number(inputs, "concordant")?,
    };
    Some(json!({ "log_e_promote": margin.log_e(Side::Proof, &pairs), "log_e_harm": margin.log_e(Side::Harm, &pairs) }))
}

fn sample_ratio(inputs: &Inputs<'_>) -> Option<Value> {
    only(inputs, "mixture_k", &json!([100, 10000]))?;
    let (counts, shares) = (numbers(inputs, "counts")?, numbers(inputs, "expected_ratio")?);
    let mut check = SampleRatio::new(&shares).ok()?;
    check.absorb(&counts);
    let single = log_e_at(&counts, &shares, number(inputs, "dirichlet_k")?);
    let (chi2, chi2_p) = fixed::sample_ratio_chi2(&counts, &shares)?;
    Some(json!({
        "log_e": single,
        "log_e_mixture": check.log_e(),
        "anytime_p": (-single).exp().min(1.0),
        "chi2": chi2,
        "chi2_p": chi2_p,
    }))
}

fn detector(inputs: &Inputs<'_>) -> Option<Value> {
    let (p0, alternatives) = (number(inputs, "p0")?, numbers(inputs, "alternatives")?);
    let n = number(inputs, "n_per_window")?;
    let mut detector = EDetector::new(&numbers(inputs, "weights")?, None).ok()?;
    let mut classical = Cusum::default();
    let (mut sr, mut cusum, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for failures in numbers(inputs, "failures")? {
        let ells = bernoulli_increments(p0, &alternatives, Tally::new(failures, n));
        detector.grid_point();
        detector.absorb(&ells, 1.0);
        sr.push(detector.log_sr().exp());
        cusum.push(detector.log_cusum().exp());
        plain.push(classical.absorb(*ells.first()?));
    }
    Some(json!({ "e_sr": sr, "e_cusum": cusum, "classical_cusum_first_alternative": plain }))
}

fn gauge(inputs: &Inputs<'_>) -> Option<Value> {
    only(inputs, "n0", &json!(48.0))?;
    let (side, margin) = (side(inputs)?, number(inputs, "margin")?);
    let filled = |history_variance| {
        let plan =
            GaugePlan { planned_batches: number(inputs, "v_opt_in_batches")?, alpha: number(inputs, "alpha_opt")?, history_variance };
        let mut process = GaugeProcess::difference(plan).ok()?;
        numbers(inputs, "batch_means_candidate_minus_champion")?.into_iter().for_each(|y| process.absorb(y));
        Some(process)
    };
    let with = filled(Some(number(inputs, "sigma2_history")?))?;
    let without = filled(None)?;
    let (known, unknown) = (with.evaluate(margin)?, without.evaluate(margin)?);
    let scale = anytime_stats::mixtures::mixture_scale(number(inputs, "v_opt_in_batches")?, 2.0 * number(inputs, "alpha_opt")?);
    Some(json!({
        "mean": known.mean,
        "variance": known.variance,
        "rho1": known.correlation,
        "long_run_variance": known.long_run_variance,
        "sigma2_used_with_history": known.variance_used,
        "R_with_history": scale * number(inputs, "sigma2_history")?,
        "log_e_with_history": with.log_e_early(side, margin),
        "rho1_upper_no_history": unknown.correlation,
        "log_e_no_history": without.log_e_early(side, margin),
    }))
}

/// Either family of increments, chosen by the case.
enum Family {
    Difference(RiskDifference),
    Ratio(RateRatio),
}

impl Family {
    fn of(inputs: &Inputs<'_>) -> Option<Self> {
        let margin = number(inputs, "margin")?;
        match inputs["kind"].as_str()? {
            "risk_difference" => Some(Self::Difference(RiskDifference::new(margin).ok()?)),
            "rate_ratio" => Some(Self::Ratio(RateRatio::new(margin).ok()?)),
            _ => None,
        }
    }

    fn weights(&self) -> &'static [f64] {
        match self {
            Self::Difference(_) => RiskDifference::weights(Side::Harm),
            Self::Ratio(_) => RateRatio::weights(Side::Harm),
        }
    }

    fn increments(&self, rate: f64, window: &Window) -> Vec<f64> {
        match self {
            Self::Difference(test) => test.log_increments(Side::Harm, rate, window),
            Self::Ratio(test) => test.log_increments(Side::Harm, window),
        }
    }
}

fn two_lane(inputs: &Inputs<'_>) -> Option<Value> {
    let family = Family::of(inputs)?;
    let (tick_seconds, grid_seconds) = (number(inputs, "tick_seconds")?, number(inputs, "grid_seconds")?);
    let mut process = HarmProcess::new(family.weights(), number(inputs, "w0")?, horizon(inputs)?, number(inputs, "cap")).ok()?;
    let plan = MergePlan { min_trials: number(inputs, "min_requests")?, max_age: number(inputs, "max_open_seconds")? };
    let mut open = OpenWindow::new(plan).ok()?;
    let mut rate = plug_in(inputs)?;
    let enough = number(inputs, "threshold_e")?.ln();
    let (mut log_e, mut closed_at, mut first) = (Vec::new(), Vec::new(), None);
    for (tick, row) in rows(inputs, "ticks")?.iter().enumerate() {
        let start = tick as f64 * tick_seconds;
        if start % grid_seconds == 0.0 {
            process.grid_point();
        }
        if let Some(closed) = open.absorb(start, start + tick_seconds, four(row)?) {
            process.absorb(&family.increments(rate.rate(), &closed.counts), number(inputs, "phi")?);
            rate.absorb(closed.counts.champion);
            closed_at.push(tick);
        }
        log_e.push(process.log_e());
        if first.is_none() && process.log_e() >= enough {
            first = Some(tick);
        }
    }
    Some(json!({ "cumulative_log_e": log_e, "closed_at_tick": closed_at, "first_tick_at_threshold": first }))
}

fn proof_lane(inputs: &Inputs<'_>) -> Option<Value> {
    let test = RiskDifference::new(number(inputs, "margin")?).ok()?;
    let mut process = ProofProcess::new(RiskDifference::weights(Side::Proof), number(inputs, "cap")).ok()?;
    let mut rate = plug_in(inputs)?;
    let (changes, settle) = (numbers(inputs, "weight_changes")?, number(inputs, "settle_seconds")?);
    let (mut log_e, mut used) = (Vec::new(), Vec::new());
    for (index, row) in rows(inputs, "windows")?.iter().enumerate() {
        let [start, end, counts @ ..] = row.as_slice() else { return None };
        let window = four(counts)?;
        if unsettled(*start, *end, &changes, settle) {
            process.skip();
        } else {
            process.absorb(&test.log_increments(Side::Proof, rate.rate(), &window), number(inputs, "phi")?);
            used.push(index);
        }
        rate.absorb(window.champion);
        log_e.push(process.log_e());
    }
    Some(json!({ "cumulative_log_e": log_e, "used_windows": used }))
}

fn absolute_limit(inputs: &Inputs<'_>) -> Option<Value> {
    let plan = AbsoluteLimitPlan {
        limit: number(inputs, "p0")?,
        blame_ratio: number(inputs, "blame_ratio")?,
        horizon: horizon(inputs)?,
        cap_harm: number(inputs, "cap_harm"),
        cap_proof: number(inputs, "cap_proof"),
        or_not_worse: false,
    };
    let mut limit = AbsoluteLimit::new(&plan).ok()?;
    let (mut absolute, mut relative, mut blame, mut proof) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in rows(inputs, "windows")? {
        let window = four(&row)?;
        limit.grid_point();
        limit.absorb_harm(&window, 1.0);
        limit.absorb_proof(&window, 1.0);
        absolute.push(limit.log_e_harm_absolute());
        relative.push(limit.log_e_harm_relative());
        blame.push(limit.log_e_harm());
        proof.push(limit.log_e_proof());
    }
    Some(json!({ "log_e_harm_absolute": absolute, "log_e_harm_relative": relative, "log_e_blame": blame, "log_e_proof": proof }))
}
