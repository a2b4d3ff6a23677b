//! Plans for the simulated attempts: one stage of one kind with the guardrails that a test names.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use rollout_core::plan::*;
use rollout_core::spec::{OnInconclusive, OnUnmeasurable, OnUnproven, Parked, ReadyWhen, StageKind};
use rollout_core::weights::Exposure;

pub fn selector(metric: &str, matchers: &[(&str, &str)]) -> Selector {
    let matchers = matchers.iter().map(|(k, v)| ((*k).into(), MatchOp::Equal, (*v).into())).collect();
    Selector { metric: metric.into(), matchers }
}

pub fn guardrail(name: &str, test: Test) -> Guardrail {
    Guardrail {
        name: name.into(),
        test,
        weight: 1.0,
        on_unmeasurable: OnUnmeasurable::Hold,
        stages: vec![StageKind::Shadow, StageKind::Canary, StageKind::ABTest],
        pod_label: None,
        win: None,
        slices: None,
        profile: None,
        maturity: None,
        requests: None,
    }
}

/// The same by the values of `label`, with a bound of their own.
pub fn sliced(guardrail: Guardrail, label: &str, bound: CountBound, min_samples: f64, on_unproven: OnUnproven) -> Guardrail {
    Guardrail { slices: Some(PlannedSlices { label: label.into(), bound, min_samples, on_unproven }), ..guardrail }
}

/// Wrong answers among all, on counters that say from which region a request came.
pub fn regional(target: f64, critical: f64) -> Guardrail {
    let bad = selector("answers_total", &[("correct", "false")]);
    counts("accuracy", bad, selector("answers_total", &[]), points(target), points(critical))
}

pub fn points(margin: f64) -> CountBound {
    CountBound::Difference { margin, versus: Reference::Stable }
}

pub fn times(factor: f64) -> CountBound {
    CountBound::Ratio { factor, versus: Reference::Stable }
}

pub fn counts(name: &str, bad: Selector, total: Selector, target: CountBound, critical: CountBound) -> Guardrail {
    let (bad, total) = (CountSource::Counter(bad), CountSource::Counter(total));
    guardrail(name, Test::Counts { bad, severe: None, total, target, critical, or_not_worse_than_stable: false })
}

pub fn accuracy(target: f64, critical: f64) -> Guardrail {
    let bad = selector("model_predictions_total", &[("correct", "false")]);
    counts("accuracy", bad, selector("model_predictions_total", &[]), points(target), points(critical))
}

pub fn errors(factor: f64) -> Guardrail {
    counts("errors", selector("request_errors_total", &[]), selector("requests_total", &[]), times(factor), times(factor))
}

pub fn latency(limit: f64) -> Guardrail {
    let histogram = selector("inference_seconds", &[]);
    let bad = CountSource::Above { histogram: histogram.clone(), edge: 0.1 };
    let (target, critical) = (CountBound::Absolute(limit), CountBound::Absolute(limit));
    guardrail(
        "latency",
        Test::Counts { bad, severe: None, total: CountSource::Observations(histogram), target, critical, or_not_worse_than_stable: false },
    )
}

/// The same with a second edge, above which alone is critical.
pub fn latency_of_two_edges(limit: f64) -> Guardrail {
    let mut guardrail = latency(limit);
    if let Test::Counts { severe, .. } = &mut guardrail.test {
        let bad = CountSource::Above { histogram: selector("inference_seconds", &[]), edge: 0.25 };
        *severe = Some(Severe { bad, slower_than: TimeDelta::milliseconds(250) });
    }
    guardrail
}

pub fn nan() -> Guardrail {
    guardrail("nan", Test::Tripwire { series: selector("nonfinite_total", &[]) })
}

pub fn power(target: LevelBound, critical: LevelBound) -> Guardrail {
    guardrail(
        "power",
        Test::Level { series: selector("power_watts", &[]), unit: "W".into(), direction: Direction::AtMost, target, critical },
    )
}

pub fn power_limit(target: f64, critical: f64) -> Guardrail {
    limit("power-limit", Direction::AtMost, LimitBound::Absolute(target), LimitBound::Absolute(critical))
}

/// A hard limit on watts.
pub fn limit(name: &str, direction: Direction, target: LimitBound, critical: LimitBound) -> Guardrail {
    guardrail(name, Test::Limit { series: selector("power_watts", &[]), unit: "W".into(), direction, target, critical })
}

/// Steps of a canary stage.
pub fn canary(steps: &[i32]) -> PlannedStage {
    stage(StageKind::Canary, steps)
}

pub fn stage(kind: StageKind, steps: &[i32]) -> PlannedStage {
    PlannedStage {
        name: "stage".into(),
        kind,
        steps: steps.iter().map(|p| Exposure::new(*p).unwrap()).collect(),
        min: TimeDelta::zero(),
        step_min: TimeDelta::seconds(30),
        max: TimeDelta::hours(6),
        assignment: None,
        approval_required: false,
    }
}

/// Interval 5 s, window 15 s, risks 5 %.
pub fn plan(stages: Vec<PlannedStage>, guardrails: Vec<Guardrail>) -> Plan {
    Plan {
        hash: "0123abcd".into(),
        stages,
        guardrails,
        false_promotion: 0.05,
        false_rollback: 0.05,
        window: TimeDelta::seconds(15),
        interval: TimeDelta::seconds(5),
        settle: TimeDelta::seconds(15),
        requests: None,
        on_inconclusive: OnInconclusive::Rollback,
        probation: TimeDelta::zero(),
        parked: Parked::Full,
        ready_when: ReadyWhen::Promoted,
        progress_deadline: TimeDelta::minutes(10),
        rollback_window: 2,
        baseline_matchers: BTreeMap::new(),
        candidate_matchers: BTreeMap::new(),
    }
}
