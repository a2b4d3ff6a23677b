//! What is known about energy per inference, or carbon per million of them: how much, beside stable, and whether that is within its bounds.

use chrono::TimeDelta;

use super::finding::{DISPLAY_ALPHA, Evidences, FIRST_BATCHES, Found, LOG_E, decided, whole};
use super::text;
use crate::evidence::{EnergyState, Risk};
use crate::plan::{Energy, EnergyBound};
use crate::verdict::Finding;
use crate::words;

pub(super) fn found_energy(finding: Finding, state: &EnergyState, energy: &Energy, length: TimeDelta, risk: &Risk) -> Found {
    let (proof, harm, warning) = state.log_es(energy);
    let (batches, effective) = state.batches();
    let unit = energy.unit();
    let amount = |joules: f64| text::level(joules * energy.factor(), unit);
    let per = if energy.carbon.is_some() { "CO2e per million inferences" } else { "per inference" };
    let length = words::duration(length);
    let (say, value): (fn(f64, &str) -> String, _) = match energy.target {
        EnergyBound::Ratio(_) => {
            let ratio = state.means().filter(|(_, stable)| *stable > 0.0).map(|(candidate, stable)| candidate / stable);
            (|value, _| text::ratio(value), ratio)
        }
        EnergyBound::Absolute(_) => (text::level, state.means().map(|(candidate, _)| candidate * energy.factor())),
    };
    let interval = state.interval(energy, DISPLAY_ALPHA).map(|i| format!("{} to {}", say(i.lower, unit), say(i.upper, unit)));
    let subject = match (value, state.means()) {
        (Some(value), Some((candidate, stable))) => {
            let range = match &interval {
                Some(interval) if batches >= FIRST_BATCHES => format!("; 95%: {interval}"),
                _ => format!("; {FIRST_BATCHES} are needed"),
            };
            let versus = if matches!(energy.target, EnergyBound::Ratio(_)) { " that of stable" } else { "" };
            format!(
                "{} is {}{versus} ({} beside {} {per}, over {batches} batches of {length}{range})",
                finding.guardrail,
                say(value, unit),
                amount(candidate),
                amount(stable)
            )
        }
        _ => format!("{} has no batch of {length} at like load yet", finding.guardrail),
    };
    let finding = Finding {
        value: value.map(|value| say(value, unit)),
        interval,
        samples: (u64::from(batches), u64::from(batches)),
        effective_samples: effective.map(whole),
        ..finding
    };
    decided(finding, &subject, &Evidences { name: LOG_E, proof, harm, warning }, risk)
}
