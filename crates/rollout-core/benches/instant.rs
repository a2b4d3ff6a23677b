//! Time of one instant of one guardrail: its samples folded into evidence, and the judgement with its sentences.
//! `cargo bench -p rollout-core --bench instant`; prints, keeps nothing. The statistics alone are timed in `anytime-stats`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rollout_core::evidence::{Arm, Arms, Evidence, Query, Reading, Readings, Sample, Series};
use rollout_core::judge::{Moment, judge};
use rollout_core::plan::Plan;
use rollout_core::revision::RevisionId;
use rollout_core::spec::{PolicySpec, RolloutSpec, StageKind};
use rollout_core::validate::validate;
use rollout_core::weights::{Exposure, Position};

const STABLE: &str = "aaaaaaaa";
const CANDIDATE: &str = "bbbbbbbb";
const PODS: usize = 3;
/// Minutes folded before the clock starts, so that every process is under way.
const BEFORE: i64 = 120;

fn plan() -> Plan {
    let policy: PolicySpec = serde_json::from_value(serde_json::json!({
        "prometheus": {"address": "http://p:9090"}, "interval": "1m", "window": "1m",
        "guardrails": [{"name": "errors", "proportion": {"bad": "errors_total", "total": "requests_total"}, "target": "+2pp vs stable"}],
    }))
    .unwrap();
    let rollout: RolloutSpec = serde_json::from_value(serde_json::json!({
        "model": {"uri": "oci://registry.example/m:1"}, "workload": {"backendRef": {"name": "m", "port": 80}}, "policyRef": {"name": "p"},
        "route": {"template": {"parentRefs": [{"name": "gw"}]}},
        "stages": [{"name": "canary", "type": "Canary", "percent": "10%", "maxDuration": "24h"}],
    }))
    .unwrap();
    validate(&rollout, &policy).unwrap()
}

fn arms() -> Arms {
    let arm = |revision: &str| Arm { namespace: "ns".into(), revision: Some(RevisionId::new(revision)), ..Arm::default() };
    Arms { rollout: "m".into(), candidate: arm(CANDIDATE), stable: arm(STABLE), baseline: None }
}

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + minute * 60, 0).unwrap()
}

/// Two samples of every pod's counters up to a minute, as the operator's look back brings them.
fn readings(plan: &Plan, arms: &Arms, minute: i64) -> Readings {
    let series = |query: &Query, revision: &str, pod: usize| {
        let per_minute = match query.as_str().split('{').next() {
            Some("errors_total") => 8.0,
            Some("requests_total") => 100.0,
            _ => 0.0,
        };
        let share = if revision == CANDIDATE { 1.0 } else { 9.0 };
        let value = |minute: i64| if per_minute > 0.0 { (per_minute * share * minute as f64).round() } else { 1.0 };
        let sample = |minute: i64| Sample { at: at(minute).timestamp_millis() - 7_000, value: value(minute) };
        let labels = [("espalier_dev_revision", revision.to_owned()), ("namespace", "ns".to_owned()), ("pod", format!("{revision}-{pod}"))];
        let labels: BTreeMap<String, String> = labels.into_iter().map(|(label, value)| (label.to_owned(), value)).collect();
        Arc::new(Series { labels: labels.into(), samples: vec![sample(minute - 1), sample(minute)] })
    };
    let all = |query: &Query| {
        [STABLE, CANDIDATE]
            .into_iter()
            .flat_map(|arm| (0..PODS).map(move |pod| (arm, pod)))
            .map(|(arm, pod)| series(query, arm, pod))
            .collect()
    };
    Evidence::queries(plan, arms).into_iter().map(|query| (query.clone(), Reading::Series(all(&query)))).collect()
}

fn instants(criterion: &mut Criterion) {
    let (plan, arms) = (plan(), arms());
    let (position, exposure) = (Position { stage: 0, step: 0 }, Exposure::new(10).unwrap());
    let mut evidence = Evidence::start(&plan, RevisionId::new(CANDIDATE), at(0), 0);
    evidence.absorb(&plan, &arms, at(1), &readings(&plan, &arms, 1));
    evidence.moved(position, exposure, StageKind::Canary, at(1));
    (2..BEFORE).for_each(|minute| evidence.absorb(&plan, &arms, at(minute), &readings(&plan, &arms, minute)));
    let next = readings(&plan, &arms, BEFORE);
    criterion.bench_function("one instant of one guardrail: samples of 6 pods folded, window judged", |bencher| {
        bencher.iter_batched_ref(
            || evidence.clone(),
            |evidence| evidence.absorb(black_box(&plan), &arms, at(BEFORE), black_box(&next)),
            BatchSize::SmallInput,
        );
    });
    let begin = at(1);
    let moment = Moment {
        now: at(BEFORE) + TimeDelta::seconds(1),
        position,
        exposure,
        attempt_started: begin,
        stage_started: begin,
        step_started: begin,
        last_step: true,
    };
    criterion.bench_function("one judgement of one guardrail, with its sentences", |bencher| {
        bencher.iter(|| judge(black_box(&plan), black_box(&evidence), &moment));
    });
}

criterion_group!(benches, instants);
criterion_main!(benches);
