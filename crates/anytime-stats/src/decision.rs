//! From log e-values to a decision over several guardrails: promote, roll back, hold, end as inconclusive.
//! It sees numbers only; what a decision does to traffic is the caller's business.
//!
//! Promotion is an intersection–union test: every guardrail must be proven at the full α, so `P(promote | one is worse than its margin) ≤ α` whatever
//! their dependence. Rollback is a union: each guardrail has its Bonferroni share `w/Σw` of the risk.

use serde::{Deserialize, Serialize};

use crate::threshold::{harm_threshold, proof_threshold};

/// Risks that a decision may run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Risks {
    /// Probability of promoting something that is worse than a margin.
    pub alpha_promote: f64,
    /// Probability of rolling back something that is within all margins.
    pub alpha_rollback: f64,
    /// E-value of harm above which nothing is promoted or raised; 5 by default.
    pub hold_above_e: f64,
}

impl Default for Risks {
    fn default() -> Self {
        Self { alpha_promote: 0.05, alpha_rollback: 0.05, hold_above_e: 5.0 }
    }
}

/// Evidence about one guardrail with a target and a critical bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardrailEvidence {
    /// Name, repeated in the reasons.
    pub name: String,
    /// Share of the rollback risk, relative to the others.
    pub weight: f64,
    /// The data can be trusted now.
    pub measurable: bool,
    /// Against "worse than target".
    pub log_e_proof: f64,
    /// Against "no worse than target".
    pub log_e_harm_target: f64,
    /// Against "no worse than critical".
    pub log_e_harm_critical: f64,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// Every guardrail is proven.
    Promote,
    /// A guardrail is proven harmful.
    Rollback,
    /// It cannot pass any more, or time is up.
    Inconclusive,
    /// Not decided yet.
    Hold,
}

/// A decision with the guardrails that decide or block it, in input order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What to do.
    pub decision: Decision,
    /// Names of the guardrails because of which.
    pub because: Vec<String>,
}

/// Where the clock stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The minimum duration has passed.
    pub min_duration_met: bool,
    /// The maximum duration is reached.
    pub at_max_duration: bool,
}

/// Decides over guardrails with two bounds, in this order: roll back what is harmful against its critical bound; end as inconclusive what is proven
/// worse than its target, for it can no longer pass honestly; promote when the minimum duration is met and everything is measurable, proven and without
/// a sign of harm; at the maximum duration inconclusive; else hold.
pub fn two_bound_decision(guardrails: &[GuardrailEvidence], risks: &Risks, clock: Clock) -> Verdict {
    let weight_sum: f64 = guardrails.iter().map(|g| g.weight).sum();
    let share = |g: &GuardrailEvidence| harm_threshold(risks.alpha_rollback, weight_sum, g.weight);
    let named = |test: &dyn Fn(&GuardrailEvidence) -> bool| -> Vec<String> {
        guardrails.iter().filter(|g| test(g)).map(|g| g.name.clone()).collect()
    };
    let harmful = named(&|g| g.measurable && g.log_e_harm_critical >= share(g));
    if !harmful.is_empty() {
        return Verdict { decision: Decision::Rollback, because: harmful };
    }
    let worse = named(&|g| g.measurable && g.log_e_harm_target >= share(g));
    if !worse.is_empty() {
        return Verdict { decision: Decision::Inconclusive, because: worse };
    }
    let proven = proof_threshold(risks.alpha_promote);
    let hold = risks.hold_above_e.ln();
    let blocking = named(&|g| !(g.measurable && g.log_e_proof >= proven && g.log_e_harm_target < hold));
    let decision = match (blocking.is_empty() && !guardrails.is_empty() && clock.min_duration_met, clock.at_max_duration) {
        (true, _) => Decision::Promote,
        (false, true) => Decision::Inconclusive,
        (false, false) => Decision::Hold,
    };
    Verdict { decision, because: blocking }
}

/// Decides over guardrails with one bound each: harm and proof are about the same margin, and there is no clock.
/// The fields for the target are ignored; `log_e_harm_critical` is the harm.
pub fn guardrail_decision(guardrails: &[GuardrailEvidence], risks: &Risks) -> Verdict {
    let weight_sum: f64 = guardrails.iter().map(|g| g.weight).sum();
    let named = |test: &dyn Fn(&GuardrailEvidence) -> bool| -> Vec<String> {
        guardrails.iter().filter(|g| test(g)).map(|g| g.name.clone()).collect()
    };
    let harmful = named(&|g| g.log_e_harm_critical >= harm_threshold(risks.alpha_rollback, weight_sum, g.weight));
    if !harmful.is_empty() {
        return Verdict { decision: Decision::Rollback, because: harmful };
    }
    let (proven, hold) = (proof_threshold(risks.alpha_promote), risks.hold_above_e.ln());
    let blocking = named(&|g| !(g.log_e_proof >= proven && g.log_e_harm_critical < hold));
    let pass = blocking.is_empty() && !guardrails.is_empty();
    Verdict { decision: if pass { Decision::Promote } else { Decision::Hold }, because: blocking }
}

/// What a step inside a stage has shown; a step needs less than a promotion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepEvidence {
    /// Something cannot be measured now.
    pub any_unmeasurable: bool,
    /// Time in the step, in seconds.
    pub seconds: f64,
    /// Proof windows closed in the step.
    pub proof_windows: u64,
    /// Candidate trials in the step.
    pub candidate_trials: f64,
    /// Guardrail name and its evidence against "no worse than target".
    pub log_e_harm_target: Vec<(String, f64)>,
}

/// What a step needs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepPlan {
    /// Minimum time, in seconds.
    pub min_seconds: f64,
    /// Minimum closed proof windows.
    pub min_windows: u64,
    /// Minimum candidate trials.
    pub min_trials: f64,
    /// E-value of harm above which the step does not advance.
    pub hold_above_e: f64,
}

impl Default for StepPlan {
    /// 2 minutes, 2 windows, 20 trials, E < 5.
    fn default() -> Self {
        Self { min_seconds: 120.0, min_windows: 2, min_trials: 20.0, hold_above_e: 5.0 }
    }
}

/// One reason for which a step does not advance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepBlock {
    /// Something cannot be measured.
    Unmeasurable,
    /// The minimum time has not passed.
    MinDuration,
    /// Too few proof windows.
    Windows,
    /// Too few candidate trials.
    Trials,
    /// A guardrail shows a sign of harm.
    SignOfHarm(String),
}

/// The reasons that keep a step from advancing; empty means advance.
pub fn step_decision(step: &StepEvidence, plan: &StepPlan) -> Vec<StepBlock> {
    let conditions = [
        (step.any_unmeasurable, StepBlock::Unmeasurable),
        (step.seconds < plan.min_seconds, StepBlock::MinDuration),
        (step.proof_windows < plan.min_windows, StepBlock::Windows),
        (step.candidate_trials < plan.min_trials, StepBlock::Trials),
    ];
    let hold = plan.hold_above_e.ln();
    let harm = step.log_e_harm_target.iter().filter(|(_, log_e)| *log_e >= hold || log_e.is_nan());
    let mut blocks: Vec<StepBlock> = conditions.into_iter().filter(|(blocked, _)| *blocked).map(|(_, block)| block).collect();
    blocks.extend(harm.map(|(name, _)| StepBlock::SignOfHarm(name.clone())));
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proven(name: &str) -> GuardrailEvidence {
        let harm = -0.5;
        GuardrailEvidence {
            name: name.into(),
            weight: 1.0,
            measurable: true,
            log_e_proof: 3.5,
            log_e_harm_target: harm,
            log_e_harm_critical: harm,
        }
    }

    const RUNNING: Clock = Clock { min_duration_met: true, at_max_duration: false };

    fn decide(guardrails: &[GuardrailEvidence], clock: Clock) -> Decision {
        two_bound_decision(guardrails, &Risks::default(), clock).decision
    }

    #[test]
    fn nothing_to_judge_never_promotes() {
        assert_eq!(decide(&[], RUNNING), Decision::Hold);
        assert_eq!(guardrail_decision(&[], &Risks::default()).decision, Decision::Hold);
    }

    #[test]
    fn an_unmeasurable_guardrail_neither_passes_nor_condemns() {
        let blind = GuardrailEvidence { measurable: false, log_e_harm_critical: 99.0, ..proven("latency") };
        assert_eq!(
            two_bound_decision(&[proven("errors"), blind], &Risks::default(), RUNNING),
            Verdict { decision: Decision::Hold, because: vec!["latency".into()] }
        );
    }

    #[test]
    fn worse_than_target_ends_as_inconclusive_although_the_critical_bound_holds() {
        let warning = GuardrailEvidence { log_e_harm_target: 4.0, ..proven("errors") };
        assert_eq!(decide(&[warning.clone(), proven("b")], RUNNING), Decision::Inconclusive);
        let harmful = GuardrailEvidence { log_e_harm_critical: 4.0, ..warning };
        assert_eq!(decide(&[harmful, proven("b")], RUNNING), Decision::Rollback);
    }

    #[test]
    fn time_decides_only_where_evidence_does_not() {
        assert_eq!(decide(&[proven("a")], Clock { min_duration_met: false, at_max_duration: false }), Decision::Hold);
        assert_eq!(decide(&[proven("a")], Clock { min_duration_met: true, at_max_duration: true }), Decision::Promote);
        let open = GuardrailEvidence { log_e_proof: 1.0, ..proven("a") };
        assert_eq!(decide(&[open], Clock { min_duration_met: true, at_max_duration: true }), Decision::Inconclusive);
    }

    #[test]
    fn an_undefined_log_e_value_blocks() {
        assert_eq!(decide(&[GuardrailEvidence { log_e_proof: f64::NAN, ..proven("a") }], RUNNING), Decision::Hold);
        assert_eq!(decide(&[GuardrailEvidence { log_e_harm_target: f64::NAN, ..proven("a") }], RUNNING), Decision::Hold);
    }

    #[test]
    fn a_step_says_everything_that_blocks_it() {
        let step = StepEvidence {
            any_unmeasurable: true,
            seconds: 10.0,
            proof_windows: 0,
            candidate_trials: 3.0,
            log_e_harm_target: vec![("errors".into(), 1.7), ("latency".into(), 1.5)],
        };
        let blocks = step_decision(&step, &StepPlan::default());
        assert_eq!(blocks.len(), 5);
        assert_eq!(blocks.last(), Some(&StepBlock::SignOfHarm("errors".into())));
    }
}
