//! One guardrail in a sentence that needs no statistics: what was measured, what is allowed, how sure that is, what is still missing.
//! Reads what the operator wrote into the status; computes nothing anew but percentages of a threshold.

use rollout_core::status::{EvidenceStatus, Status};
use rollout_core::verdict::Verdict;
use rollout_core::words;

use super::story::{Sentence, ended};

/// Strength of evidence of "worse than the target" above which nothing passes: an e-value of 5.
const SUSPICIOUS: f64 = 1.61;

/// What is known about one guardrail.
pub(super) fn sentence(one: &EvidenceStatus, status: &Status) -> Sentence {
    let name = &one.guardrail;
    let text = match one.verdict {
        Verdict::Inactive => format!("{name} does not count in this stage."),
        Verdict::Unmeasurable => format!("{name} CANNOT BE MEASURED ({}): {}", one.reason, ended(&one.message)),
        Verdict::Harmful => format!("{name} is HARMFUL: {}{}", measured(one), ended(&one.message)),
        Verdict::Warning => {
            format!("{name} is TOO BAD TO PASS, though not bad enough to roll back at once: {}{}", measured(one), ended(&one.message))
        }
        Verdict::Proven => format!("{name} is proven: {}", proven(one)),
        Verdict::Undecided => format!("{name} is not decided yet: {}", undecided(one)),
    };
    let mut details = Vec::new();
    if let Some(evidence) = evidence(&one.log_e) {
        details.push(strength(one, &evidence));
    }
    if one.verdict == Verdict::Undecided && one.eta.is_empty() && !one.log_e.is_empty() && status.attempt.is_some() {
        details.push("No time can be named: with the numbers so far the proof does not come closer.".to_owned());
    }
    Sentence { text, details }
}

/// Estimate, interval, bounds and counts, as far as they are known; ends with a space.
fn measured(one: &EvidenceStatus) -> String {
    if one.value.is_empty() {
        return String::new();
    }
    let interval =
        if one.interval.is_empty() { String::new() } else { format!(" (in truth {}, with 95% certainty)", between(&one.interval)) };
    format!("measured {}{interval} on {}. ", one.value, samples(one))
}

fn between(interval: &str) -> String {
    interval.split_once(" to ").map_or_else(|| interval.to_owned(), |(low, high)| format!("between {low} and {high}"))
}

fn samples(one: &EvidenceStatus) -> String {
    let count = |n: i64| words::count(n.unsigned_abs());
    let effective = one.effective_samples.filter(|effective| *effective < one.samples);
    let effective = effective.map(|n| format!(", worth {} independent ones", count(n))).unwrap_or_default();
    let reference =
        if one.reference_samples > 0 { format!(" against {} of the reference", count(one.reference_samples)) } else { String::new() };
    format!("{} samples of the candidate{effective}{reference}", count(one.samples))
}

fn allowed(one: &EvidenceStatus) -> String {
    match (one.target.is_empty(), one.critical.is_empty() || one.critical == one.target) {
        (true, _) => String::new(),
        (false, true) => format!("Allowed is {}.", one.target),
        (false, false) => format!("Allowed is {}; beyond {} it is rolled back.", one.target, one.critical),
    }
}

fn proven(one: &EvidenceStatus) -> String {
    if one.log_e.is_empty() {
        return ended(&one.message);
    }
    format!("{}{}", measured(one), allowed(one)).trim_end().to_owned()
}

fn undecided(one: &EvidenceStatus) -> String {
    if one.log_e.is_empty() || one.value.is_empty() {
        return ended(&one.message);
    }
    let left = if one.eta.is_empty() { String::new() } else { format!(" About {} left if things stay as they are.", one.eta) };
    format!("{}{}{left}", measured(one), allowed(one))
}

/// The three strengths of evidence and what each needs, natural logarithms of e-values.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Evidence {
    proof: (f64, f64),
    harm: (f64, f64),
    warning: (f64, f64),
}

/// Reads `proof 1.20/3.00 harm -0.10/4.38 warning 0.02/4.38`.
fn evidence(text: &str) -> Option<Evidence> {
    let mut words = text.split_whitespace();
    let mut pair = |name: &str| {
        let (now, limit) = (words.next()? == name).then(|| words.next())??.split_once('/')?;
        Some((now.parse().unwrap_or(0.0), limit.parse().ok()?))
    };
    Some(Evidence { proof: pair("proof")?, harm: pair("harm")?, warning: pair("warning")? })
}

fn strength(one: &EvidenceStatus, evidence: &Evidence) -> String {
    let (proof, needed) = evidence.proof;
    let mut text = if proof >= needed {
        format!("Proof: complete, strength {proof:.2} of {needed:.2} needed")
    } else {
        format!("Proof: {:.0}% of the way, strength {proof:.2} of {needed:.2} needed", (100.0 * proof / needed).clamp(0.0, 99.0))
    };
    text += &format!(" (ln E; fewer than {} such proofs in 100 are wrong).", at_most((-needed).exp()));
    let (harm, limit) = evidence.harm;
    text += &match harm {
        h if h >= limit => format!(" Harm: proven, {h:.2} of {limit:.2}."),
        h if h >= SUSPICIOUS => format!(" Harm: signs of it, {h:.2} of the {limit:.2} that roll back."),
        h => format!(" Harm: no clear sign, {h:.2} of the {limit:.2} that roll back."),
    };
    let (warning, limit) = evidence.warning;
    if one.verdict != Verdict::Harmful && warning >= SUSPICIOUS {
        text += &format!(
            " It looks worse than its target, {warning:.2} of the {limit:.2} that end the trial; above {SUSPICIOUS:.2} nothing passes."
        );
    }
    text
}

/// Percent without decimals it does not need, rounded up a little so that "fewer than" stays true.
fn at_most(share: f64) -> String {
    let percent = (share * 1_000.0).ceil() / 10.0;
    let text = format!("{percent:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strengths_are_read_as_the_operator_writes_them() {
        let read = evidence("proof 1.20/3.00 harm -0.10/4.38 warning -/4.38").unwrap();
        assert_eq!(read, Evidence { proof: (1.2, 3.0), harm: (-0.1, 4.38), warning: (0.0, 4.38) });
        assert_eq!((evidence(""), evidence("proof 1.2 harm"), evidence("harm 1/2 proof 1/2 warning 1/2")), (None, None, None));
    }

    #[test]
    fn a_threshold_of_three_is_five_in_a_hundred() {
        assert_eq!([at_most((-3.0_f64).exp()), at_most(0.025), at_most(0.0005)], ["5", "2.5", "0.1"]);
    }
}
