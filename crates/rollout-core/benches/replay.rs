//! How long a day of a policy takes to replay: ten guardrails, two pods an arm, scraped every 15 s, judged in windows of a minute.
//! Measures time only; what is decided is not looked at here.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rollout_core::evidence::{Arm, Arms, Evidence, Query, Reading, Readings, Sample, Series};
use rollout_core::judge::{Moment, judge};
use rollout_core::plan::Plan;
use rollout_core::replay::{Replay, Subject, instants};
use rollout_core::revision::RevisionId;
use rollout_core::spec::{PolicySpec, RolloutSpec, StageKind};
use rollout_core::validate::validate;
use rollout_core::weights::{Exposure, Position};
use serde_json::json;

const BEGIN: i64 = 1_800_000_000;
const INTERVAL: i64 = 15;
const DAY: i64 = 86_400;

/// Eight guardrails on counts, one on a histogram, one tripwire; the stage cannot end within the day.
fn subject() -> Subject {
    let mut guardrails: Vec<_> = (0..8)
        .map(|n| {
            let (bad, total) = (format!("bad{n}_total"), format!("all{n}_total"));
            json!({"name": format!("g{n}"), "proportion": {"bad": bad, "total": total}, "target": "+2pp vs stable", "critical": "+5pp vs stable"})
        })
        .collect();
    guardrails.push(json!({"name": "slow", "latency": {"histogram": "seconds", "slowerThan": "100ms"}, "target": "5%"}));
    guardrails.push(json!({"name": "nan", "tripwire": {"query": "nan_total"}}));
    let policy = json!({"prometheus": {"address": "http://p:9090"}, "window": "1m", "interval": "15s", "guardrails": guardrails});
    let policy: PolicySpec = serde_json::from_value(policy).unwrap();
    let backend = |name: &str| json!({"backendRef": {"name": name, "port": 80}});
    let rollout = json!({
        "model": {"uri": "oci://r/m:1"}, "workload": backend("new"), "baseline": backend("old"), "policyRef": {"name": "p"},
        "route": {"template": {"parentRefs": [{"name": "gw"}]}},
        "stages": [{"name": "canary", "type": "Canary", "percent": "50%", "minDuration": "25h", "maxDuration": "48h"}],
    });
    let rollout: RolloutSpec = serde_json::from_value(rollout).unwrap();
    let plan = validate(&rollout, &policy).unwrap();
    Subject { rollout, policy, plan }
}

fn arms() -> Arms {
    let arm = |name: &str| Arm {
        namespace: "ml".into(),
        revision: Some(RevisionId::new(name)),
        pods: (0..2).map(|n| format!("{name}-{n}")).collect(),
        ..Arm::default()
    };
    Arms { rollout: String::new(), candidate: arm("candidate"), stable: arm("stable"), baseline: None }
}

/// Counters that grow by a fixed number with a little noise; 8 % of events are bad.
fn series(query: &Query, revision: &str, pod: usize, edge: Option<&str>, seconds: i64) -> Series {
    let metric = query.as_str().split('{').next().unwrap_or_default();
    let step = match (metric.starts_with("bad"), edge, metric) {
        (true, ..) => 12.0,
        (false, Some("0.1"), _) => 148.0,
        (_, _, "nan_total") => 0.0,
        _ => 150.0,
    };
    let mut value = 0.0;
    let samples = (0..seconds / INTERVAL).map(|n| {
        let noise = if step > 0.0 && step < 140.0 {
            f64::from(u8::try_from((n * 7919 + i64::try_from(revision.len()).unwrap()) % 7).unwrap()) - 3.0
        } else {
            0.0
        };
        value += step + noise;
        let value = if metric == "up" { 1.0 } else { value };
        Sample { at: (BEGIN + n * INTERVAL - 3 - i64::try_from(pod).unwrap()) * 1000, value }
    });
    let mut labels = BTreeMap::from([
        ("__name__".to_owned(), metric.to_owned()),
        ("pod".to_owned(), format!("{revision}-{pod}")),
        ("namespace".to_owned(), "ml".to_owned()),
        ("espalier_dev_revision".to_owned(), revision.to_owned()),
    ]);
    labels.extend(edge.map(|edge| ("le".to_owned(), edge.to_owned())));
    Series { samples: samples.collect(), labels: labels.into() }
}

fn readings(plan: &Plan, arms: &Arms, seconds: i64) -> Readings {
    let answer = |query: Query| {
        let edges: &[Option<&str>] = if query.as_str().contains("_bucket") { &[Some("0.1"), Some("0.5"), Some("+Inf")] } else { &[None] };
        let mut all = Vec::new();
        for revision in ["candidate", "stable"] {
            for pod in 0..2 {
                all.extend(edges.iter().map(|edge| Arc::new(series(&query, revision, pod, *edge, seconds))));
            }
        }
        (query, Reading::Series(all))
    };
    Evidence::queries(plan, arms).into_iter().map(answer).collect()
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(BEGIN + seconds, 0).unwrap()
}

fn a_day(criterion: &mut Criterion) {
    let (subject, arms) = (subject(), arms());
    let readings = readings(&subject.plan, &arms, DAY);
    let mut group = criterion.benchmark_group("replay");
    group.sample_size(10);
    group.bench_function("24 hours, ten guardrails, 1-minute windows", |bencher| {
        bencher.iter(|| {
            let mut replay = Replay::start(&subject, time(0));
            for at in instants(time(0), time(DAY), TimeDelta::seconds(INTERVAL)) {
                black_box(replay.step(&arms, at, &readings));
            }
            assert_eq!((replay.end(), replay.evidence().last_instant()), (None, time(DAY)));
        });
    });
    group.finish();
}

/// One instant of ten guardrails, an hour into the stage: the fold, and the judgement of what it holds.
fn an_instant(criterion: &mut Criterion) {
    let (subject, arms) = (subject(), arms());
    let plan = &subject.plan;
    let readings = readings(plan, &arms, 7200);
    let (position, exposure) = (Position { stage: 0, step: 0 }, Exposure::new(50).unwrap());
    let mut evidence = Evidence::start(plan, RevisionId::new("c"), time(0), 0);
    evidence.moved(position, exposure, StageKind::Canary, time(0));
    for at in instants(time(0), time(3600), TimeDelta::seconds(INTERVAL)) {
        evidence.absorb(plan, &arms, at, &readings);
    }
    let next = time(3600 + INTERVAL);
    criterion.bench_function("fold one instant of ten guardrails", |bencher| {
        bencher.iter_batched(
            || evidence.clone(),
            |mut evidence| {
                evidence.absorb(plan, &arms, next, &readings);
                evidence
            },
            BatchSize::SmallInput,
        );
    });
    let start = time(0);
    let moment =
        Moment { now: next, position, exposure, attempt_started: start, stage_started: start, step_started: start, last_step: true };
    criterion.bench_function("judge ten guardrails", |bencher| bencher.iter(|| black_box(judge(plan, &evidence, &moment))));
}

criterion_group!(benches, a_day, an_instant);
criterion_main!(benches);
