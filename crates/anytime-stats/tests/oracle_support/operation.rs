//! Cases about the loop around the evidence: counting, decisions, over-dispersion, forecasts, late labels.

use std::collections::BTreeMap;

use anytime_stats::cohort::{Cohort, LateLabel, mature_windows};
use anytime_stats::counters::{Arm, TargetSample, TargetWindows, series_increments};
use anytime_stats::decision::{
    Clock, Decision, GuardrailEvidence, Risks, StepBlock, StepEvidence, StepPlan, Verdict, guardrail_decision, step_decision,
    two_bound_decision,
};
use anytime_stats::eta::{growth_per_window, shrunk_rate, windows_left};
use anytime_stats::overdispersion::{Halves, one_scale, two_scale};
use anytime_stats::{RiskDifference, Side, Tally};
use serde_json::{Value, json};

use super::{Inputs, Solver, number, numbers, rows};

pub fn solver(method: &str) -> Option<Solver> {
    Some(match method {
        "overdispersion_phi" => overdispersion,
        "overdispersion_two_scale" => overdispersion_two_scale,
        "guardrail_decision" => one_bound,
        "two_bound_decision" => two_bound,
        "step_decision" => step,
        "mature_cohort_counts" => cohorts,
        "counter_window_increments" => increments,
        "counter_target_windows" => target_windows,
        "proof_eta" => eta,
        _ => return None,
    })
}

fn overdispersion(inputs: &Inputs<'_>) -> Option<Value> {
    let windows: Vec<Tally> = numbers(inputs, "failures")?.into_iter().zip(numbers(inputs, "n")?).map(|(x, n)| Tally::new(x, n)).collect();
    let estimate = one_scale(&windows)?;
    let phi = estimate.overdispersion().phi(number(inputs, "champion_n_next")?, number(inputs, "candidate_n_next")?);
    Some(json!({ "phi": estimate.phi, "icc": estimate.icc, "phi_difference": phi }))
}

fn overdispersion_two_scale(inputs: &Inputs<'_>) -> Option<Value> {
    let halves = |name| -> Option<Vec<Halves>> {
        rows(inputs, name)?
            .iter()
            .map(|row| match row.as_slice() {
                [x_a, n_a, x_b, n_b] => Some(Halves { a: Tally::new(*x_a, *n_a), b: Tally::new(*x_b, *n_b) }),
                _ => None,
            })
            .collect()
    };
    let estimate = two_scale(&halves("short_windows")?, &halves("long_windows")?)?;
    let phi = estimate.overdispersion.phi(number(inputs, "champion_n_long")?, number(inputs, "candidate_n_long")?);
    Some(json!({
        "h_short": estimate.h_short,
        "h_long": estimate.h_long,
        "clump": estimate.overdispersion.clump,
        "icc": estimate.overdispersion.icc,
        "phi": phi,
    }))
}

fn risks(inputs: &Inputs<'_>) -> Option<Risks> {
    Some(Risks {
        alpha_promote: number(inputs, "alpha_promote")?,
        alpha_rollback: number(inputs, "alpha_rollback")?,
        hold_above_e: number(inputs, "hold_above_e")?,
    })
}

fn guardrails(inputs: &Inputs<'_>, target: &str, critical: &str) -> Option<Vec<GuardrailEvidence>> {
    let one = |g: &Value| {
        Some(GuardrailEvidence {
            name: g["name"].as_str()?.to_owned(),
            weight: g["weight"].as_f64()?,
            measurable: g["measurable"].as_bool().unwrap_or(true),
            log_e_proof: g["log_e_promote"].as_f64()?,
            log_e_harm_target: g[target].as_f64()?,
            log_e_harm_critical: g[critical].as_f64()?,
        })
    };
    inputs["guardrails"].as_array()?.iter().map(one).collect()
}

fn verdict(verdict: &Verdict, hold: &str) -> Value {
    let word = match verdict.decision {
        Decision::Promote => "promote",
        Decision::Rollback => "rollback",
        Decision::Inconclusive => "inconclusive",
        Decision::Hold => hold,
    };
    json!({ "decision": word, "because": verdict.because })
}

fn one_bound(inputs: &Inputs<'_>) -> Option<Value> {
    let guardrails = guardrails(inputs, "log_e_harm", "log_e_harm")?;
    Some(verdict(&guardrail_decision(&guardrails, &risks(inputs)?), "continue"))
}

fn two_bound(inputs: &Inputs<'_>) -> Option<Value> {
    let guardrails = guardrails(inputs, "log_e_harm_target", "log_e_harm_critical")?;
    let clock = Clock { min_duration_met: inputs["min_duration_met"].as_bool()?, at_max_duration: inputs["at_max_duration"].as_bool()? };
    Some(verdict(&two_bound_decision(&guardrails, &risks(inputs)?, clock), "hold"))
}

fn step(inputs: &Inputs<'_>) -> Option<Value> {
    let harm = inputs["log_e_harm_target"].as_object()?.iter().map(|(name, log_e)| Some((name.clone(), log_e.as_f64()?)));
    let evidence = StepEvidence {
        any_unmeasurable: inputs["any_unmeasurable"].as_bool()?,
        seconds: number(inputs, "seconds_in_step")?,
        proof_windows: inputs["closed_proof_windows_in_step"].as_u64()?,
        candidate_trials: number(inputs, "candidate_requests_in_step")?,
        log_e_harm_target: harm.collect::<Option<_>>()?,
    };
    let plan = StepPlan {
        min_seconds: number(inputs, "step_min_seconds")?,
        min_windows: inputs["min_windows"].as_u64()?,
        min_trials: number(inputs, "min_requests")?,
        hold_above_e: number(inputs, "hold_above_e")?,
    };
    let because: Vec<String> = step_decision(&evidence, &plan)
        .into_iter()
        .map(|block| match block {
            StepBlock::Unmeasurable => "unmeasurable".to_owned(),
            StepBlock::MinDuration => "stepMinDuration".to_owned(),
            StepBlock::Windows => "windows".to_owned(),
            StepBlock::Trials => "requests".to_owned(),
            StepBlock::SignOfHarm(name) => name,
        })
        .collect();
    Some(json!({ "decision": if because.is_empty() { "advance" } else { "hold" }, "because": because }))
}

fn arm(name: &Value) -> Option<Arm> {
    match name.as_str()? {
        "champion" => Some(Arm::Champion),
        "candidate" => Some(Arm::Candidate),
        _ => None,
    }
}

fn cohorts(inputs: &Inputs<'_>) -> Option<Value> {
    let cohort = |w: &Value| {
        Some(Cohort {
            id: w["id"].as_u64()?,
            end: w["end"].as_f64()?,
            champion_total: w["n_champion"].as_f64()?,
            candidate_total: w["n_candidate"].as_f64()?,
        })
    };
    let label = |l: &Value| Some(LateLabel { cohort: l["window"].as_u64()?, arm: arm(&l["arm"])?, arrived: l["arrived"].as_f64()? });
    let cohorts: Vec<Cohort> = inputs["windows"].as_array()?.iter().map(cohort).collect::<Option<_>>()?;
    let labels: Vec<LateLabel> = inputs["bad_labels"].as_array()?.iter().map(label).collect::<Option<_>>()?;
    let side = |t: Tally| json!({ "n": t.total, "bad": t.bad });
    let usable: Vec<Value> = mature_windows(number(inputs, "now")?, number(inputs, "maturity_age")?, &cohorts, &labels)
        .into_iter()
        .map(|(id, w)| json!({ "window": id, "champion": side(w.champion), "candidate": side(w.candidate) }))
        .collect();
    Some(json!({ "usable": usable }))
}

fn increments(inputs: &Inputs<'_>) -> Option<Value> {
    let series: BTreeMap<String, Vec<Option<f64>>> = inputs["series"]
        .as_object()?
        .iter()
        .map(|(name, samples)| Some((name.clone(), samples.as_array()?.iter().map(Value::as_f64).collect())))
        .collect::<Option<_>>()?;
    let born: BTreeMap<String, usize> = inputs["pod_started_inside_window"]
        .as_object()?
        .iter()
        .map(|(name, index)| Some((name.clone(), usize::try_from(index.as_u64()?).ok()?)))
        .collect::<Option<_>>()?;
    Some(json!({ "increments": series_increments(&series, &born) }))
}

fn target_windows(inputs: &Inputs<'_>) -> Option<Value> {
    let targets = inputs["targets"].as_array()?;
    let mut machine = TargetWindows::new();
    let mut windows = Vec::new();
    for (index, instant) in numbers(inputs, "instants")?.into_iter().enumerate() {
        let sample = |t: &Value| {
            Some(TargetSample {
                arm: arm(&t["arm"])?,
                target: t["pod_uid"].as_str()?.to_owned(),
                start_time: t["start_time"][index].as_f64(),
                total: t["total"][index].as_f64(),
                bad: t["bad"][index].as_f64(),
            })
        };
        let samples: Vec<TargetSample> = targets.iter().map(sample).collect::<Option<_>>()?;
        if let Some(window) = machine.observe(instant, &samples) {
            let side = |t: Tally| json!([t.bad, t.total]);
            let problems: Vec<String> = window.unmeasurable.iter().map(ToString::to_string).collect();
            let counts = window.counts;
            windows.push(json!({ "champion": side(counts.champion), "candidate": side(counts.candidate), "unmeasurable": problems }));
        }
    }
    Some(json!({ "windows": windows }))
}

fn eta(inputs: &Inputs<'_>) -> Option<Value> {
    let get = |name| number(inputs, name);
    let test = RiskDifference::new(get("margin")?).ok()?;
    let champion = get("theta_champion")?;
    let rate = shrunk_rate(Tally::new(get("candidate_bad")?, get("candidate_n")?), champion, get("n_fixed")?);
    let growth = growth_per_window(&test, champion, rate, get("champion_n_per_window")?, get("candidate_n_per_window")?);
    let left = windows_left(RiskDifference::weights(Side::Proof), &numbers(inputs, "log_masses")?, &growth, get("threshold_e")?.ln());
    Some(json!({ "theta_candidate_shrunk": rate, "growth_per_window": growth, "windows_left": left }))
}
