//! What is known about a drift: how far apart, between what, and whether that is within its bounds. Does not say which distribution is the right one.

use chrono::TimeDelta;

use super::finding::{Evidences, Found, LOG_P, decided, whole};
use super::text;
use crate::evidence::{DriftState, Risk};
use crate::plan::Drift;
use crate::verdict::{Finding, Unmeasurable, Verdict};

/// Longest time that is named, in seconds.
const LONGEST: f64 = 7.0 * 24.0 * 3600.0;

pub(super) fn found_drift(finding: Finding, state: &DriftState, drift: &Drift, risk: &Risk) -> Found {
    let (harm, warning) = state.log_harm();
    let (live, reference) = state.seen();
    let value = state.estimate().map(text::distance);
    let interval = state.interval().map(|i| format!("{} to {}", text::distance(i.lower), text::distance(i.upper)));
    let versus = if drift.recorded.is_some() { "what was recorded" } else { "stable" };
    let subject = match &value {
        Some(value) => {
            let range = interval.as_ref().map_or_else(String::new, |interval| format!("; 95%: {interval}"));
            format!(
                "{} is {} {value} from {versus} ({} events beside {} of stable{range})",
                finding.guardrail,
                drift.measure_name(),
                text::count(live),
                text::count(reference)
            )
        }
        None => format!("{} has too few events, or too few bins with any, to compare", finding.guardrail),
    };
    let proof = state.log_proof();
    let eta = if proof < risk.proof_threshold { state.seconds_left().map(around) } else { None };
    let finding = Finding {
        value,
        interval,
        samples: (whole(live), whole(reference)),
        effective_samples: Some(whole(state.effective())),
        eta,
        ..finding
    };
    let mut found = decided(finding, &subject, &Evidences { name: LOG_P, proof, harm, warning }, risk);
    if found.finding.verdict != Verdict::Undecided {
        found.finding.eta = None;
    }
    if let Some(problem) = world_drifted(&found.finding, &subject, state, drift, risk) {
        found.finding.verdict = Verdict::Unmeasurable;
        found.finding.reason = problem.category().into();
        found.finding.message = problem.to_string();
        found.finding.eta = None;
    }
    found
}

/// Far from what was recorded and not far from stable: the world has moved, and the comparison says nothing about the candidate.
fn world_drifted(finding: &Finding, subject: &str, state: &DriftState, drift: &Drift, risk: &Risk) -> Option<Unmeasurable> {
    let is_blamed = matches!(finding.verdict, Verdict::Harmful | Verdict::Warning);
    if drift.recorded.is_none() || is_blamed || state.log_beyond_target() < risk.harm_threshold {
        return None;
    }
    let (stable, apart) = state.world()?;
    let message = format!(
        "{subject}, and stable is {} from it too, {} from the candidate: the world has drifted, which is not the candidate's doing; \
         record a new reference",
        text::distance(stable),
        text::distance(apart)
    );
    Some(Unmeasurable::WorldDrifted { message })
}

/// From half to twice the forecast.
fn around(seconds: f64) -> (TimeDelta, TimeDelta) {
    // The clamp keeps it inside the integer.
    #[allow(clippy::cast_possible_truncation)]
    let time = |seconds: f64| TimeDelta::seconds(seconds.clamp(0.0, LONGEST).round() as i64);
    (time(seconds / 2.0), time(seconds * 2.0))
}
