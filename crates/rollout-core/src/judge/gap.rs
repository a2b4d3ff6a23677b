//! What is known about the gap between groups: the widest one seen, and whether it is within its bounds. Does not say which group is treated rightly.

use super::finding::{Evidences, Found, LOG_E, decided, whole};
use super::text;
use crate::evidence::{GapState, Risk, gap_pairs};
use crate::plan::Gap;
use crate::verdict::Finding;

/// A group as it was seen.
struct Group<'a> {
    name: &'a str,
    rate: f64,
    events: f64,
}

pub(super) fn found_gap(finding: Finding, state: &GapState, gap: &Gap, risk: &Risk) -> Found {
    let risk = risk.shared_among(gap_pairs(gap.groups.len()));
    let (harm, warning) = state.log_e_harm();
    let seen: Vec<Group> = gap
        .groups
        .iter()
        .zip(state.seen())
        .filter_map(|(name, seen)| Some(Group { name, rate: seen.candidate.rate()?, events: seen.candidate.total }))
        .collect();
    let worst = seen.iter().max_by(|a, b| a.rate.total_cmp(&b.rate));
    let best = seen.iter().min_by(|a, b| a.rate.total_cmp(&b.rate));
    let (value, subject) = match worst.zip(best).filter(|_| seen.len() > 1) {
        Some((worst, best)) => {
            let size = text::points(worst.rate - best.rate).trim_start_matches('+').to_owned();
            let group = |g: &Group| format!("{} {} ({} of {})", gap.label, g.name, text::percent(g.rate), text::count(g.events));
            (Some(size.clone()), format!("{} differs by {size} at most, between {} and {}", finding.guardrail, group(worst), group(best)))
        }
        None => (None, format!("{} has too few events to compare", finding.guardrail)),
    };
    let least = state.seen().map(|seen| seen.candidate.total).fold(f64::INFINITY, f64::min);
    let reference = state.seen().map(|seen| seen.champion.total).fold(f64::INFINITY, f64::min);
    let finding =
        Finding { value, samples: (whole(least), whole(reference)), thresholds: (risk.proof_threshold, risk.harm_threshold), ..finding };
    decided(finding, &subject, &Evidences { name: LOG_E, proof: state.log_e_proof(), harm, warning }, &risk)
}
