//! What the slices of a guardrail do to its verdict: one that is proven worse makes it Harmful, one that is not proven holds it back or is only named.
//! Bonferroni over a fixed number of slices pays for looking at many of them; a pass needs no correction, because every one must be proven.

use anytime_stats::multiplicity::log_average;

use super::finding::{Bounds, Found, SUSPICIOUS, Words, estimate, subject, whole};
use super::text;
use crate::evidence::{CountState, Risk, SliceName, Slices};
use crate::plan::PlannedSlices;
use crate::spec::OnUnproven;
use crate::verdict::{SliceFinding, Verdict};

/// Most slices that a sentence names.
const NAMED: usize = 4;

/// One slice with its numbers.
struct Judged<'a> {
    finding: SliceFinding,
    state: &'a CountState,
    /// As it stands in a sentence, such as `in region eu`.
    place: String,
}

/// The finding of the whole with what its slices add.
pub(super) fn with_slices(mut found: Found, slices: &Slices, planned: &PlannedSlices, all: &CountState, risk: &Risk) -> Found {
    let risk = risk.of_slice();
    let judged: Vec<Judged> = slices.each().map(|(name, state)| judge(name, state, planned, all, &risk)).collect();
    let harmful = judged.iter().filter(|s| s.finding.verdict == Verdict::Harmful).max_by(|a, b| peak(a.state).total_cmp(&peak(b.state)));
    let suspicious = log_average(&judged.iter().map(|s| s.finding.log_e_harm).collect::<Vec<_>>()) >= SUSPICIOUS.ln();
    let finding = &mut found.finding;
    match (finding.verdict, harmful) {
        (Verdict::Harmful, _) | (Verdict::Warning, None) => {}
        (_, Some(worst)) => {
            finding.verdict = Verdict::Harmful;
            finding.reason = "SliceHarmful".into();
            finding.eta = None;
            finding.message = sentence_of_harm(&finding.guardrail, worst, planned, &risk);
        }
        (_, None) => {
            found.suspicious |= suspicious && !judged.is_empty();
            hold_back(&mut found, &judged, planned, &risk, suspicious);
        }
    }
    found.finding.slices = judged.into_iter().map(|slice| slice.finding).collect();
    found
}

/// What keeps a proven whole from passing, and what is only worth a word.
fn hold_back(found: &mut Found, judged: &[Judged<'_>], planned: &PlannedSlices, risk: &Risk, suspicious: bool) {
    let finding = &mut found.finding;
    let open: Vec<&Judged> = judged.iter().filter(|s| s.finding.verdict != Verdict::Proven).collect();
    let counting = open.iter().any(|s| s.finding.counts);
    let blocks = planned.on_unproven == OnUnproven::Block && finding.verdict == Verdict::Proven;
    if suspicious {
        let worst = judged.iter().max_by(|a, b| a.finding.log_e_harm.total_cmp(&b.finding.log_e_harm));
        let place = worst.map_or_else(String::new, |slice| format!(", most of all {}", slice.place));
        finding.reason = "SliceSuspicious".into();
        finding.message = format!("{}; slices may be worse than {} allowed{place}", finding.message, text::count_bound(planned.bound));
    } else if blocks && counting {
        finding.reason = "SliceUnproven".into();
    } else if blocks && !judged.iter().any(|s| s.finding.counts) {
        finding.reason = "SliceUnproven".into();
        finding.message = format!("{}; no slice of {} has {} events yet", finding.message, planned.label, text::count(planned.min_samples));
    } else {
        tell(finding, &open, planned, risk);
        return;
    }
    if finding.verdict == Verdict::Proven {
        finding.verdict = Verdict::Undecided;
    }
    tell(finding, &open, planned, risk);
}

/// Names the slices that are not proven.
fn tell(finding: &mut crate::verdict::Finding, open: &[&Judged<'_>], planned: &PlannedSlices, risk: &Risk) {
    if open.is_empty() {
        return;
    }
    let mut names: Vec<String> = open
        .iter()
        .take(NAMED)
        .map(|slice| {
            let SliceFinding { samples, log_e_proof, counts, .. } = &slice.finding;
            let events = text::count(samples.0 as f64);
            if *counts {
                format!("{} (ln E {} of {}, {events} events)", slice.place, text::log_e(*log_e_proof), text::log_e(risk.proof_threshold))
            } else {
                format!("{} ({events} of {} events)", slice.place, text::count(planned.min_samples))
            }
        })
        .collect();
    if open.len() > NAMED {
        names.push(format!("{} more", open.len() - NAMED));
    }
    finding.message = format!("{}; not yet proven within {}: {}", finding.message, text::count_bound(planned.bound), names.join(", "));
}

fn sentence_of_harm(guardrail: &str, worst: &Judged<'_>, planned: &PlannedSlices, risk: &Risk) -> String {
    let bounds = Bounds { target: planned.bound, words: Words::Shares, severe: None };
    let (_, interval) = estimate(worst.state, planned.bound);
    format!(
        "{}, beyond the {} allowed in a slice: ln E {} ≥ {}",
        subject(&format!("{guardrail} {}", worst.place), worst.state, bounds, interval.as_deref()),
        text::count_bound(planned.bound),
        text::log_e(peak(worst.state)),
        text::log_e(risk.harm_threshold)
    )
}

fn peak(state: &CountState) -> f64 {
    state.log_e_harm().1
}

fn judge<'a>(name: SliceName<'_>, state: &'a CountState, planned: &PlannedSlices, all: &CountState, risk: &Risk) -> Judged<'a> {
    let (log_e_proof, (log_e_harm, highest)) = (state.log_e_proof(), state.log_e_harm());
    let verdict = if highest >= risk.harm_threshold {
        Verdict::Harmful
    } else if log_e_proof >= risk.proof_threshold {
        Verdict::Proven
    } else {
        Verdict::Undecided
    };
    let label = &planned.label;
    let (slice, place) = match name {
        SliceName::Value("") => (format!("no {label}"), format!("without {label}")),
        SliceName::Value(value) => (format!("{label}={value}"), format!("in {label} {value}")),
        SliceName::Others => (format!("other {label}"), format!("in other values of {label}")),
    };
    let finding = SliceFinding {
        slice,
        verdict,
        counts: due(state, all) >= planned.min_samples,
        value: estimate(state, planned.bound).0,
        samples: (whole(state.seen().candidate.total), whole(state.seen().champion.total)),
        log_e_proof,
        log_e_harm,
        thresholds: (risk.proof_threshold, risk.harm_threshold),
    };
    Judged { finding, state, place }
}

/// Events that the candidate has in a slice, or should have by its share of the reference's: a slice that the candidate loses is not one without traffic.
fn due(state: &CountState, all: &CountState) -> f64 {
    let (own, all) = (state.seen(), all.seen());
    let share = if all.champion.total > 0.0 { own.champion.total / all.champion.total } else { 0.0 };
    own.candidate.total.max(share * all.candidate.total)
}
