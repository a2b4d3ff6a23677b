//! Findings of the guardrails without statistics: hard limits and tripwires. Beyond the target of a limit nothing rises, and it may be met again;
//! beyond critical it is over. Weighs nothing.

use super::finding::{Found, whole};
use super::text;
use crate::evidence::{Crossing, LIMIT_TICKS, LimitState, Standing, TripwireState};
use crate::plan::{Direction, LimitBound, Test};
use crate::verdict::{Finding, Verdict};

pub(super) fn found_limit(mut finding: Finding, limit: &LimitState, test: &Test) -> Found {
    let Test::Limit { unit, direction, target, .. } = test else { return Found { finding, suspicious: false } };
    let name = finding.guardrail.clone();
    let say = |value: f64| match target {
        LimitBound::Absolute(_) => text::level(value, unit),
        LimitBound::Ratio { .. } => text::ratio(value),
    };
    finding.thresholds = (0.0, 0.0);
    finding.value = limit.latest.map(say);
    if let Some(Crossing { value, target: pod, .. }) = &limit.crossed {
        let place = if *direction == Direction::AtMost { "above" } else { "below" };
        finding.verdict = Verdict::Harmful;
        finding.reason = "LimitExceeded".into();
        finding.message = match target {
            LimitBound::Absolute(_) => format!("{name} reached {} on {pod}, {place} the limit of {}", say(*value), bare(&finding.critical)),
            LimitBound::Ratio { .. } => format!(
                "{name} was beyond the limit of {} at {LIMIT_TICKS} instants in a row: {} with {pod} as the worst pod",
                finding.critical,
                say(*value)
            ),
        };
        return Found { finding, suspicious: false };
    }
    let (Some(value), Some(standing)) = (limit.latest, limit.standing(*direction, *target)) else {
        return Found { finding, suspicious: false };
    };
    finding.samples = (1, u64::from(limit.levels.is_some()));
    let subject = match (target, limit.levels) {
        (LimitBound::Ratio { versus, .. }, Some((own, other))) => {
            let (own, other) = (text::level(own, unit), text::level(other, unit));
            format!("{name} is {} that of {} ({own} against {other} on the worst pods)", say(value), text::arm(*versus))
        }
        _ if *direction == Direction::AtMost => format!("{name} is at most {} on every pod", say(value)),
        _ => format!("{name} is at least {} on every pod", say(value)),
    };
    let bound = bare(&finding.target);
    let (verdict, reason, rest) = match (standing, *direction) {
        (Standing::Within, _) => (Verdict::Proven, "WithinLimit", format!("within the target of {bound}")),
        (Standing::Beyond, Direction::AtMost) => (Verdict::Warning, "AboveTarget", format!("above the target of {bound}: nothing rises")),
        (Standing::Beyond, Direction::AtLeast) => (Verdict::Warning, "BelowTarget", format!("below the target of {bound}: nothing rises")),
        (Standing::Watching(seen), _) => {
            (Verdict::Undecided, "Collecting", format!("watched for {seen} of {LIMIT_TICKS} instants; the target is {bound}"))
        }
    };
    (finding.verdict, finding.reason, finding.message) = (verdict, reason.into(), format!("{subject}, {rest}"));
    // A step that goes on beyond the target would expose more users to what cannot pass as it is.
    Found { finding, suspicious: standing == Standing::Beyond }
}

/// The bound as it follows "the limit of".
fn bare(bound: &str) -> &str {
    bound.strip_prefix(crate::quantity::AT_LEAST).unwrap_or(bound)
}

pub(super) fn found_tripwire(mut finding: Finding, tripwire: &TripwireState) -> Found {
    let name = finding.guardrail.clone();
    finding.thresholds = (0.0, 0.0);
    finding.value = Some(text::count(tripwire.moved));
    finding.samples = (whole(tripwire.moved), 0);
    if let Some(crossing) = &tripwire.crossed {
        finding.verdict = Verdict::Harmful;
        finding.reason = "TripwireCrossed".into();
        finding.message =
            format!("{name} moved by {} on {} and not on stable: one is too many", text::count(crossing.value), crossing.target);
    } else {
        finding.verdict = Verdict::Proven;
        let (reason, message) = if tripwire.champion_too {
            ("ChampionTripsToo", format!("warning: stable trips {name} as well, so it says nothing about the candidate and is left out"))
        } else {
            ("NotCrossed", format!("{name} did not move on the candidate"))
        };
        finding.reason = reason.into();
        finding.message = message;
    }
    Found { finding, suspicious: false }
}
