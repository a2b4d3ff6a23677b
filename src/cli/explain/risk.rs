//! The risk statement of a rollout in one sentence per risk, for people who never heard of a significance level. Computes nothing.

use rollout_core::status::{RiskShare, RiskStatus};

/// What may go wrong, with which probability, and what is outside of it.
pub(super) fn sentence(risk: &RiskStatus) -> String {
    let RiskStatus { false_promotion, false_rollback, attempt, promotion, win, guardrails, outside, .. } = risk;
    let halved = match attempt {
        0 => String::new(),
        1 => format!(", half of the policy's {false_promotion} because it is a second try"),
        more => format!(", the policy's {false_promotion} halved {more} times, once for every retry"),
    };
    let win = if win.is_empty() { String::new() } else { format!(" A promised win is shown at {win}.") };
    let split = match guardrails.as_slice() {
        [] | [_] => String::new(),
        several => format!(" ({})", several.iter().map(share).collect::<Vec<_>>().join("; ")),
    };
    let outside = match outside.as_slice() {
        [] => String::new(),
        names => format!(" Outside of this, without statistics: {}.", names.join(", ")),
    };
    format!(
        "A candidate that is worse than any target is promoted in at most {promotion} of such rollouts{halved}. One that is within every critical \
         bound is rolled back in at most {false_rollback}, shared by the guardrails{split}.{win}{outside}"
    )
}

fn share(share: &RiskShare) -> String {
    let RiskShare { guardrail, rollback, split, .. } = share;
    if split.is_empty() { format!("{guardrail} {rollback}") } else { format!("{guardrail} {rollback}: {split}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn risk(attempt: i32) -> RiskStatus {
        let share = |guardrail: &str, rollback: &str| RiskShare {
            guardrail: guardrail.into(),
            weight: 1,
            rollback: rollback.into(),
            split: String::new(),
        };
        RiskStatus {
            plan_hash: "0a1b2c3d".into(),
            false_promotion: "5%".into(),
            false_rollback: "5%".into(),
            attempt,
            promotion: if attempt == 0 { "5%" } else { "2.5%" }.into(),
            win: String::new(),
            guardrails: vec![share("accuracy", "2.5%"), share("errors", "2.5%")],
            outside: vec!["nan".into()],
            sample_ratio: "0.1%".into(),
        }
    }

    #[test]
    fn the_risks_are_said_without_statistics() {
        assert_eq!(
            sentence(&risk(0)),
            "A candidate that is worse than any target is promoted in at most 5% of such rollouts. One that is within every critical bound is rolled \
             back in at most 5%, shared by the guardrails (accuracy 2.5%; errors 2.5%). Outside of this, without statistics: nan."
        );
        assert!(sentence(&risk(1)).contains("at most 2.5% of such rollouts, half of the policy's 5% because it is a second try"));
    }
}
