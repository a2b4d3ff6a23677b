//! What the user means: stages, guardrails and risk, complete, checked, with every default filled in.
//! Built by [`crate::validate`] once per attempt and pinned; does not change while the attempt runs.

mod test;

use std::collections::BTreeMap;

pub use anytime_stats::Measure;
use chrono::TimeDelta;

pub use self::test::{
    CountBound, CountSource, Direction, Drift, Energy, EnergyBound, Gap, LevelBound, LimitBound, MatchOp, Paired, Reference, Selector,
    Severe, Test,
};
use crate::spec::{Alphabet, OnInconclusive, OnUnmeasurable, OnUnproven, Parked, ReadyWhen, StageKind};
use crate::weights::Exposure;

/// A complete, checked plan for one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Hash over policy, stages and risk, 8 hexadecimal characters: a pass under another hash is void.
    pub hash: String,
    /// Stages in order; never empty, each with at least one step.
    pub stages: Vec<PlannedStage>,
    /// Guardrails in the user's order; never empty.
    pub guardrails: Vec<Guardrail>,
    /// Allowed probability of a false promotion, in (0, 0.2].
    pub false_promotion: f64,
    /// Allowed probability of a false rollback, in (0, 0.2], shared by guardrails by weight.
    pub false_rollback: f64,
    /// Length of a proof window.
    pub window: TimeDelta,
    /// Distance of the aligned instants at which harm is looked for.
    pub interval: TimeDelta,
    /// How long after a weight change proof windows have no weight.
    pub settle: TimeDelta,
    /// Where the realised share comes from; `None` takes the busiest total of the guardrails.
    pub requests: Option<RequestCounter>,
    /// What follows without proof.
    pub on_inconclusive: OnInconclusive,
    /// How long the old revision stays after promotion; zero for none.
    pub probation: TimeDelta,
    /// How much of it stays.
    pub parked: Parked,
    /// When the object is Ready.
    pub ready_when: ReadyWhen,
    /// How long a candidate may take to become ready.
    pub progress_deadline: TimeDelta,
    /// How many promoted revisions may be returned to without analysis.
    pub rollback_window: usize,
    /// Labels that pick out each arm's series, where its pods do not carry the revision label.
    pub baseline_matchers: BTreeMap<String, String>,
    /// The same for a workload that the user runs.
    pub candidate_matchers: BTreeMap<String, String>,
}

/// A stage with its defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStage {
    /// The user's name for it.
    pub name: String,
    /// Shadow, Canary or ABTest.
    pub kind: StageKind,
    /// Exposure per step, growing; for Shadow one, the mirrored share (exposure stays 0).
    pub steps: Vec<Exposure>,
    /// The least time of the stage, in judged windows' time.
    pub min: TimeDelta,
    /// The least time of a step.
    pub step_min: TimeDelta,
    /// The longest time without proof, in judged windows' time.
    pub max: TimeDelta,
    /// Where the user's id is, for `ABTest`.
    pub assignment: Option<PlannedAssignment>,
    /// Whether a person must approve after the pass.
    pub approval_required: bool,
}

/// Where the user's id is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedAssignment {
    /// Header or cookie.
    pub carrier: IdCarrier,
    /// Characters of the id's last places.
    pub alphabet: Alphabet,
}

/// What carries the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdCarrier {
    /// A request header.
    Header(String),
    /// A cookie.
    Cookie(String),
}

/// The counter of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestCounter {
    /// Its series.
    pub series: Selector,
    /// The label that names the backend as `namespace_service_port`, on gateways.
    pub backend_label: Option<String>,
}

/// One guardrail with its test.
#[derive(Clone, Debug, PartialEq)]
pub struct Guardrail {
    /// The user's name.
    pub name: String,
    /// What is measured and against which bounds.
    pub test: Test,
    /// Share of the rollback risk, at least 1.
    pub weight: f64,
    /// What follows when it cannot be measured.
    pub on_unmeasurable: OnUnmeasurable,
    /// The kinds of stage in which it counts; never empty.
    pub stages: Vec<StageKind>,
    /// Label that names the workload's pod, on exporters that serve many pods.
    pub pod_label: Option<String>,
    /// The win that is promised; at least one of a plan's must be shown before promotion.
    pub win: Option<Win>,
    /// Parts of the traffic that are judged one by one; only for [`Test::Counts`].
    pub slices: Option<PlannedSlices>,
    /// Labels that come late; only for [`Test::Counts`].
    pub maturity: Option<Maturity>,
    /// Requests of which the total counts those that got a label; `None` where the total is not of labels. Only for [`Test::Counts`].
    pub requests: Option<CountSource>,
    /// The profile that it comes from as it is.
    pub profile: Option<String>,
}

/// Labels that come late.
#[derive(Clone, Debug, PartialEq)]
pub struct Maturity {
    /// Age at which they count.
    pub age: TimeDelta,
    /// Share of them that has come by then, in \[0.5, 1\]: a difference is seen only in this part of the requests.
    pub captured: f64,
    /// How labels say of which requests they are; `None` when they do not.
    pub cohorts: Option<Cohorts>,
}

/// Cohorts of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Cohorts {
    /// Label whose value is the Unix second at which a cohort began.
    pub label: String,
    /// How long the requests of a cohort came.
    pub width: TimeDelta,
}

impl Maturity {
    /// The bound as it shows in the labels that have come: a difference shrinks with them, a ratio and a share among them do not.
    pub fn diluted(&self, bound: CountBound) -> CountBound {
        match bound {
            CountBound::Difference { margin, versus } => CountBound::Difference { margin: margin * self.captured, versus },
            CountBound::Ratio { .. } | CountBound::Absolute(_) => bound,
        }
    }

    /// The bound as a proof sees it beside a stable whose share of bad events is `rate`, possibly all found: without cohorts it must stand with few of the
    /// candidate's labels. A difference may be negative then, and a ratio below 1.
    pub fn provable(&self, bound: CountBound, rate: f64) -> CountBound {
        if self.cohorts.is_some() {
            return self.diluted(bound);
        }
        match bound {
            CountBound::Difference { margin, versus } => CountBound::Difference { margin: self.captured * (rate + margin) - rate, versus },
            CountBound::Ratio { factor, versus } => CountBound::Ratio { factor: self.captured * factor, versus },
            CountBound::Absolute(limit) => CountBound::Absolute(self.captured * limit),
        }
    }

    /// When the first labels count, in milliseconds, for traffic that changed at `since` and settled at `settled`.
    pub fn first_after(&self, since: i64, settled: i64) -> i64 {
        let age = self.age.num_milliseconds();
        self.cohorts.as_ref().map_or(since + age, |cohorts| {
            let width = cohorts.width.num_milliseconds().max(1);
            // The first cohort that begins in settled traffic, at its end and age.
            settled + (width - settled.rem_euclid(width)).rem_euclid(width) + width + age
        })
    }
}

/// A promised win: "no better than this" must be rejected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Win {
    /// Below this many times the reference's rate, in (0, 1); for [`Test::Counts`].
    Ratio {
        /// The factor.
        factor: f64,
        /// Compared with what.
        versus: Reference,
    },
    /// Better than this level, in the gauge's unit; for [`Test::Level`] with an absolute target.
    Level(f64),
}

/// Parts of the traffic by the values of a label.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedSlices {
    /// The label, on the guardrail's own series.
    pub label: String,
    /// Bound of every slice: to be proven better than, and beyond it is rolled back.
    pub bound: CountBound,
    /// Events of the candidate from which on a slice counts.
    pub min_samples: f64,
    /// Whether a slice that counts must be proven.
    pub on_unproven: OnUnproven,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_did_not_come_may_hide_as_much_as_they_can_unless_cohorts_bound_it() {
        let (versus, rate) = (Reference::Stable, 0.05);
        let mut maturity = Maturity { age: TimeDelta::hours(1), captured: 0.8, cohorts: None };
        let difference = CountBound::Difference { margin: 0.02, versus };
        let bounds = [difference, CountBound::Ratio { factor: 1.25, versus }, CountBound::Absolute(0.07)];
        let value = |bound| match bound {
            CountBound::Difference { margin: value, .. } | CountBound::Ratio { factor: value, .. } | CountBound::Absolute(value) => value,
        };
        let close = |bound, expected: f64| assert!((value(bound) - expected).abs() < 1e-12, "{bound:?}, expected {expected}");
        // 0.8 of the candidate's bad events are seen: 0.8 × 7 % beside 5 %, 0.8 × 1.25, 0.8 × 7 %.
        for (bound, expected) in bounds.into_iter().zip([0.006, 1.0, 0.056]) {
            close(maturity.provable(bound, rate), expected);
        }
        maturity.cohorts = Some(Cohorts { label: "cohort".into(), width: TimeDelta::hours(1) });
        for (bound, expected) in bounds.into_iter().zip([0.016, 1.25, 0.07]) {
            close(maturity.provable(bound, rate), expected);
        }
    }
}
