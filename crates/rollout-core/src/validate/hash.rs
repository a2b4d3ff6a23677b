//! The plan's hash: what was judged, in eight characters.
//! Leaves out what changes no evidence (probation, deadlines, what follows without proof), so that editing it voids nothing.

use chrono::TimeDelta;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::plan::{
    CountBound, CountSource, Direction, Drift, Energy, Gap, Guardrail, IdCarrier, LevelBound, LimitBound, Maturity, Paired, Plan,
    PlannedSlices, PlannedStage, Reference, Test, Win,
};
use crate::revision::canonical;

/// 8 lower-case hexadecimal characters of SHA-256 over the canonical JSON of policy, stages and matchers.
pub(super) fn of(plan: &Plan) -> String {
    let content = json!({
        "stages": plan.stages.iter().map(stage).collect::<Vec<_>>(),
        "guardrails": plan.guardrails.iter().map(guardrail).collect::<Vec<_>>(),
        "falsePromotion": plan.false_promotion,
        "falseRollback": plan.false_rollback,
        "window": millis(plan.window),
        "interval": millis(plan.interval),
        "settle": millis(plan.settle),
        "requests": plan.requests.as_ref().map(|requests| json!([requests.series.to_string(), requests.backend_label])),
        "baseline": plan.baseline_matchers,
        "candidate": plan.candidate_matchers,
    });
    let hash = Sha256::digest(canonical(&content).as_bytes());
    hash.iter().take(4).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

const fn millis(duration: TimeDelta) -> i64 {
    duration.num_milliseconds()
}

fn stage(stage: &PlannedStage) -> Value {
    let assignment = stage.assignment.as_ref().map(|assignment| {
        let (carrier, name) = match &assignment.carrier {
            IdCarrier::Header(name) => ("header", name),
            IdCarrier::Cookie(name) => ("cookie", name),
        };
        json!([carrier, name, assignment.alphabet])
    });
    json!({
        "name": stage.name,
        "type": stage.kind,
        "steps": stage.steps,
        "min": millis(stage.min),
        "stepMin": millis(stage.step_min),
        "max": millis(stage.max),
        "assignment": assignment,
        "approvalRequired": stage.approval_required,
    })
}

fn guardrail(guardrail: &Guardrail) -> Value {
    let mut value = json!({
        "name": guardrail.name,
        "test": test(&guardrail.test),
        "weight": guardrail.weight,
        "onUnmeasurable": guardrail.on_unmeasurable,
        "stages": guardrail.stages,
        "podLabel": guardrail.pod_label,
    });
    // Absent where it is not used: a plan without it keeps the hash that running attempts know.
    if let (Some(slices), Some(fields)) = (&guardrail.slices, value.as_object_mut()) {
        let PlannedSlices { label, bound, min_samples, on_unproven } = slices;
        fields.insert("slices".to_owned(), json!([label, count_bound(*bound), min_samples, on_unproven]));
    }
    if let (Some(Maturity { age, captured, cohorts }), Some(fields)) = (&guardrail.maturity, value.as_object_mut()) {
        let cohorts = cohorts.as_ref().map(|cohorts| json!([cohorts.label, millis(cohorts.width)]));
        fields.insert("maturity".to_owned(), json!([millis(*age), captured, cohorts]));
    }
    if let (Some(requests), Some(fields)) = (&guardrail.requests, value.as_object_mut()) {
        fields.insert("requests".to_owned(), source(requests));
    }
    if let (Some(win), Some(fields)) = (guardrail.win, value.as_object_mut()) {
        let win = match win {
            Win::Ratio { factor, versus } => json!(["ratio", factor, reference(versus)]),
            Win::Level(level) => json!(["level", level]),
        };
        fields.insert("win".to_owned(), win);
    }
    value
}

fn test(test: &Test) -> Value {
    match test {
        Test::Counts { bad, severe, total, target, critical, or_not_worse_than_stable } => {
            let mut parts = vec![json!("counts"), source(bad), source(total), count_bound(*target), count_bound(*critical)];
            parts.push(json!(or_not_worse_than_stable));
            parts.extend(severe.as_ref().map(|severe| source(&severe.bad)));
            Value::Array(parts)
        }
        Test::Paired(Paired { candidate_wrong, stable_wrong, total, revision_label, target, critical }) => {
            json!(["paired", source(candidate_wrong), source(stable_wrong), source(total), revision_label, target, critical])
        }
        Test::Gap(Gap { bad, total, label, groups, target, critical }) => {
            json!(["gap", source(bad), source(total), label, groups, target, critical])
        }
        Test::Drift(Drift { bins, label, measure, recorded, target, critical }) => {
            let recorded = recorded.as_ref().map(ToString::to_string);
            json!(["drift", bins.to_string(), label, measure, recorded, target, critical])
        }
        Test::Energy(Energy { consumption, joules, inferences, device_labels, carbon, target, critical }) => {
            let (consumption, inferences) = (consumption.to_string(), inferences.to_string());
            json!(["energy", consumption, joules, inferences, device_labels, carbon, target, critical])
        }
        Test::Level { series, unit, direction, target, critical } => {
            let parts = vec![json!("level"), json!(series.to_string()), json!(unit), level_bound(*target), level_bound(*critical)];
            directed(parts, *direction)
        }
        Test::Limit { series, unit, direction, target, critical } => {
            directed(vec![json!("limit"), json!(series.to_string()), json!(unit), limit_bound(*target), limit_bound(*critical)], *direction)
        }
        Test::Tripwire { series } => json!(["tripwire", series.to_string()]),
    }
}

/// Says the direction only where less is worse: other plans keep the hash that running attempts know.
fn directed(mut parts: Vec<Value>, direction: Direction) -> Value {
    if direction == Direction::AtLeast {
        parts.push(json!("atLeast"));
    }
    Value::Array(parts)
}

fn limit_bound(bound: LimitBound) -> Value {
    match bound {
        LimitBound::Absolute(value) => json!(value),
        LimitBound::Ratio { factor, versus } => json!(["ratio", factor, reference(versus)]),
    }
}

fn source(source: &CountSource) -> Value {
    match source {
        CountSource::Counter(selector) => json!(["counter", selector.to_string()]),
        CountSource::Above { histogram, edge } => json!(["above", histogram.to_string(), edge]),
        CountSource::Observations(histogram) => json!(["observations", histogram.to_string()]),
        CountSource::PodSeconds => json!(["podSeconds"]),
    }
}

fn count_bound(bound: CountBound) -> Value {
    match bound {
        CountBound::Difference { margin, versus } => json!(["difference", margin, reference(versus)]),
        CountBound::Ratio { factor, versus } => json!(["ratio", factor, reference(versus)]),
        CountBound::Absolute(value) => json!(["absolute", value]),
    }
}

fn level_bound(bound: LevelBound) -> Value {
    match bound {
        LevelBound::Difference { margin, versus } => json!(["difference", margin, reference(versus)]),
        LevelBound::Absolute(value) => json!(["absolute", value]),
    }
}

const fn reference(reference: Reference) -> &'static str {
    match reference {
        Reference::Stable => "stable",
        Reference::Baseline => "baseline",
    }
}
