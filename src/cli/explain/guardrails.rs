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
        // The operator's own sentences have the numbers that decided.
        Verdict::Harmful => format!("{name} is HARMFUL: {}", ended(&one.message)),
        Verdict::Warning => format!("{name} is TOO BAD TO PASS, though not shown to be beyond its critical bound: {}", ended(&one.message)),
        Verdict::Proven => format!("{name} is proven: {}", proven(one)),
        Verdict::Undecided => format!("{name} is not decided yet: {}", undecided(one)),
    };
    let mut details = Vec::new();
    if let Some(evidence) = evidence(&one.log_e) {
        details.push(strength(one, &evidence));
    }
    if one.verdict == Verdict::Undecided && one.eta.is_empty() && !one.interval.is_empty() && status.attempt.is_some() {
        details.push("No time can be named: with the numbers so far the proof does not come closer.".to_owned());
    }
    Sentence { text, details }
}

/// Estimate, interval and counts, as far as they are known; ends with a space.
fn measured(one: &EvidenceStatus) -> String {
    if one.value.is_empty() {
        return String::new();
    }
    let versus = one.target.split_once(" vs ").map(|(_, reference)| reference);
    let range = one
        .interval
        .split_once(" to ")
        .map(|(low, high)| format!(" (in truth between {} and {}, with 95% certainty)", than(low, None), than(high, None)));
    format!("{}{} on {}. ", than(&one.value, versus), range.unwrap_or_default(), samples(one))
}

/// `+0.4pp` as `0.4pp worse than stable`, `1.2x` as `1.2 times that of stable`, a level as it is.
fn than(value: &str, reference: Option<&str>) -> String {
    let than = reference.map(|reference| format!(" than {reference}")).unwrap_or_default();
    let of = reference.map(|reference| format!(" that of {reference}")).unwrap_or_default();
    let is_zero = value.trim_end_matches(char::is_alphabetic).parse::<f64>().is_ok_and(|number| number == 0.0);
    match (value.strip_prefix('+'), value.strip_prefix('-'), value.strip_suffix('x')) {
        (Some(size), _, _) => format!("{size} worse{than}"),
        (_, Some(size), _) => format!("{size} better{than}"),
        (_, _, Some(factor)) => format!("{factor} times{of}"),
        _ if is_zero && reference.is_some() => format!("the same as on {}", reference.unwrap_or_default()),
        _ => value.to_owned(),
    }
}

fn samples(one: &EvidenceStatus) -> String {
    let count = |n: i64| words::count(n.unsigned_abs());
    let effective = one.effective_samples.filter(|effective| *effective < one.samples);
    let effective = effective.map(|n| format!(", worth {} independent ones", count(n))).unwrap_or_default();
    let reference =
        if one.reference_samples > 0 { format!(", against {} of the reference", count(one.reference_samples)) } else { String::new() };
    format!("{} samples of the candidate{effective}{reference}", count(one.samples))
}

fn allowed(one: &EvidenceStatus) -> String {
    match (one.target.is_empty(), one.critical.is_empty() || one.critical == one.target) {
        (true, _) => String::new(),
        (false, true) => format!("Allowed is up to {}.", one.target),
        (false, false) => format!("Allowed is up to {}; beyond {} it is rolled back.", one.target, one.critical),
    }
}

fn proven(one: &EvidenceStatus) -> String {
    if one.log_e.is_empty() {
        return ended(&one.message);
    }
    format!("{}{}", measured(one), allowed(one)).trim_end().to_owned()
}

fn undecided(one: &EvidenceStatus) -> String {
    // Without an interval there are too few numbers for more than the operator says itself.
    if one.interval.is_empty() {
        return ended(&one.message);
    }
    let left = if one.eta.is_empty() { String::new() } else { format!(" About {} left if things stay as they are.", one.eta) };
    format!("{}{}{left}", measured(one), allowed(one))
}

/// The three strengths of evidence and what each needs, natural logarithms of e-values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Evidence {
    pub proof: (f64, f64),
    pub harm: (f64, f64),
    pub warning: (f64, f64),
}

/// Reads `proof 1.20/3.00 harm -0.10/4.38 warning 0.02/4.38`.
pub(super) fn evidence(text: &str) -> Option<Evidence> {
    let mut words = text.split_whitespace();
    let mut pair = |name: &str| {
        let (now, limit) = (words.next()? == name).then(|| words.next())??.split_once('/')?;
        Some((now.parse().unwrap_or(0.0), limit.parse().ok()?))
    };
    Some(Evidence { proof: pair("proof")?, harm: pair("harm")?, warning: pair("warning")? })
}

fn strength(one: &EvidenceStatus, evidence: &Evidence) -> String {
    let (proof, needed) = evidence.proof;
    let (harm, most) = evidence.harm;
    let (warning, end) = evidence.warning;
    let proof = match one.verdict {
        // What is harmful or worse than its target has no proof to wait for.
        Verdict::Harmful | Verdict::Warning => String::new(),
        _ if proof >= needed => format!("Proof: complete (strength {proof:.2} of {needed:.2}). "),
        _ => format!("Proof: {:.0}% of the way (strength {proof:.2} of {needed:.2}). ", (100.0 * proof / needed).clamp(0.0, 99.0)),
    };
    let sign = match harm {
        h if h >= most => "proven",
        h if h >= SUSPICIOUS => "signs of it",
        _ => "no clear sign",
    };
    let doubt = if one.verdict != Verdict::Harmful && warning >= SUSPICIOUS {
        format!(
            " It looks worse than its target (strength {warning:.2}): above {SUSPICIOUS:.2} nothing passes, at {end:.2} the trial ends."
        )
    } else {
        String::new()
    };
    format!("{proof}Harm: {sign} (strength {harm:.2} of {most:.2}).{doubt}")
}

/// What the strengths mean, said once; `None` when no guardrail has one.
pub(super) fn legend(status: &Status) -> Option<String> {
    let evidence = status.evidence.iter().find_map(|one| evidence(&one.log_e))?;
    let (proof, harm) = (evidence.proof.1, evidence.harm.1);
    Some(format!(
        "The strength is that of the evidence (ln E, the natural logarithm of an e-value; for drift that of 1/p). However often one looks, a candidate that is worse than its \
         target reaches {proof:.2} for the proof in fewer than {} of 100 trials, and one within its critical bound {harm:.2} for harm in fewer than {} of 100.",
        at_most((-proof).exp()),
        at_most((-harm).exp())
    ))
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
    fn differences_ratios_and_levels_are_said_in_words() {
        let stable = Some("stable");
        assert_eq!(
            [than("+0.4pp", stable), than("-1W", stable), than("0pp", stable)],
            ["0.4pp worse than stable", "1W better than stable", "the same as on stable"]
        );
        assert_eq!([than("1.2x", stable), than("2.1%", None), than("0%", None)], ["1.2 times that of stable", "2.1%", "0%"]);
    }

    #[test]
    fn a_threshold_of_three_is_five_in_a_hundred() {
        assert_eq!([at_most((-3.0_f64).exp()), at_most(0.025), at_most(0.0005)], ["5", "2.5", "0.1"]);
    }
}
