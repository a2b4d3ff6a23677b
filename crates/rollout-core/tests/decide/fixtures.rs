//! Rollouts in few words.

use chrono::TimeDelta;
use rollout_core::observed::Cause;
use rollout_core::revision::{self, RevisionId};
use rollout_core::spec::{PolicySpec, RolloutSpec};
use rollout_core::verdict::Overall;
use serde_json::{Value, json};

use crate::judge::{Judge, failure};
use crate::world::{NAME, Workload, World};

/// A rollout of `model` with all three kinds of stage.
pub fn spec(model: &str) -> RolloutSpec {
    spec_with(model, json!({}))
}

/// The same with other fields in place.
pub fn spec_with(model: &str, fields: Value) -> RolloutSpec {
    let mut spec = json!({
        "model": {"uri": format!("oci://registry.example/{model}@sha256:{model}")},
        "workload": {"template": {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 2, "template": {"spec": {"containers": [
            {"name": "server", "image": "server", "args": ["--model=$(model.uri)"]}]}}}}, "port": 8080},
        "route": {"template": {"parentRefs": [{"name": "gw"}], "hostnames": ["digits.example"], "rules": [{"matches": [{"path": {"value": "/"}}]}]}},
        "policyRef": {"name": "digits"},
        "stages": [
            {"name": "shadow", "type": "Shadow", "percent": "100%", "minDuration": "2m", "maxDuration": "1h"},
            {"name": "canary", "type": "Canary", "steps": ["1%", "5%", "25%"], "stepMinDuration": "2m", "maxDuration": "6h"},
            {"name": "ab", "type": "ABTest", "percent": "50%", "assignment": {"header": "x-user-id", "alphabet": "hex"}, "maxDuration": "24h"},
        ],
        "probation": {"duration": "10m"},
    });
    for (key, value) in fields.as_object().unwrap() {
        if value.is_null() {
            spec.as_object_mut().unwrap().remove(key);
        } else {
            spec[key] = value.clone();
        }
    }
    serde_json::from_value(spec).unwrap()
}

pub fn policy() -> PolicySpec {
    serde_json::from_value(json!({
        "prometheus": {"address": "http://prometheus:9090"},
        "guardrails": [{
            "name": "accuracy", "proportion": {"bad": "answers_total{good=\"no\"}", "total": "answers_total"},
            "target": "+2pp vs stable", "critical": "+5pp vs stable",
        }],
    }))
    .unwrap()
}

pub fn id_of(spec: &RolloutSpec) -> RevisionId {
    revision::id(&spec.model, &spec.workload)
}

pub fn service(spec: &RolloutSpec) -> String {
    format!("{NAME}-{}", id_of(spec))
}

/// A world in which `a` serves as the first revision.
pub fn serving(a: RolloutSpec) -> World {
    let mut world = World::new(a, policy());
    world.run_until("served", |w| w.condition("Ready") == ("True", "Promoted"));
    world.rest();
    world
}

/// A world in which `a` serves and `b` was applied just now.
pub fn trying(a: RolloutSpec, b: RolloutSpec) -> World {
    let mut world = serving(a);
    world.events.clear();
    world.exposures.clear();
    world.apply(b);
    world
}

pub fn trial() -> World {
    trying(spec("a"), spec("b"))
}

/// A trial that has come to this step.
pub fn trial_at(stage: i32, step: i32) -> World {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(stage, step));
    world
}

/// The same, with so many percent of the users on the candidate.
pub fn exposed_at(stage: i32, step: i32, percent: i32) -> World {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(stage, step) && w.candidate_share() == percent);
    world
}

/// What runs `model`.
pub fn pods<'w>(world: &'w mut World, model: &str) -> &'w mut Workload {
    world.workloads.get_mut(&id_of(&spec(model))).unwrap()
}

/// What the cluster says of a pod that was killed for memory.
pub fn killed() -> Cause {
    Cause { reason: "OOMKilled".into(), message: "container server of pod x was killed for memory".into() }
}

/// A judge that finds harm once the attempt has been `seconds` in this step.
pub fn harm_at(stage: i32, step: i32, seconds: i64) -> Judge {
    Judge::who(move |attempt, time| {
        let there = attempt.stage == stage && attempt.step == step && time >= TimeDelta::seconds(seconds);
        // Harm that was found is not forgotten while the attempt goes on.
        (there || attempt.stage > stage).then(|| Overall::Fail(failure("Harmful")))
    })
}

/// A Service of the user, with ready pods.
pub fn user_service(world: &mut World, revision: &RevisionId, name: &str) {
    world.services.insert(name.to_owned());
    world.workloads.insert(
        revision.clone(),
        Workload { exists: true, service: true, control: false, desired: 1, ready: 1, ready_at: None, tripped: None, tripped_at: None },
    );
}

/// A world with a baseline Service that the user runs, in which `b` was applied.
pub fn over_baseline(b: RolloutSpec) -> World {
    let mut world = World::new(b, policy());
    user_service(&mut world, &RevisionId::new("baseline"), "digits-fp32");
    world
}

pub fn baseline() -> Value {
    json!({"backendRef": {"name": "digits-fp32", "port": 80}})
}

/// An existing route of the user over the baseline.
pub fn user_route() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "shop", "namespace": "ns", "generation": 1, "resourceVersion": "1"},
        "spec": {"parentRefs": [{"name": "gw"}], "rules": [
            {"name": "model", "matches": [{"path": {"type": "PathPrefix", "value": "/predict"}}], "backendRefs": [{"name": "digits-fp32", "port": 80, "weight": 100}]},
            {"name": "docs", "backendRefs": [{"name": "docs", "port": 80, "weight": 100}]},
        ]},
    })
}

/// A world whose route is one rule of the user's.
pub fn adopting() -> World {
    let mut world = over_baseline(spec_with("b", json!({"baseline": baseline(), "route": {"adopt": {"name": "shop", "rule": "model"}}})));
    world.services.insert("docs".into());
    world.set_route(user_route());
    world
}

/// How every story ends that ends well: `spec` serves everybody, nothing is on trial, nothing else is referenced with weight.
pub fn failure_free_end(world: &World, spec: &RolloutSpec) {
    assert_eq!(world.stable(), id_of(spec).as_str(), "{:#?}", world.status.display);
    assert_eq!(world.share(&service(spec)), 100);
    assert_eq!(world.condition("Ready"), ("True", "Promoted"));
    assert_eq!(world.condition("Settled").0, "True");
    assert_eq!(world.condition("TrafficApplied").0, "True");
    assert!(world.status.attempt.is_none() && world.status.candidate.is_none() && world.status.probation.is_none());
    assert!(!world.status.rejected.iter().any(|r| r.revision == id_of(spec)), "what serves is not rejected");
    assert_eq!(world.status.display.stage, "Idle");
}
