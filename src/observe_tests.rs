//! What a look at a rollout with Services of the user asks the API server, and what it asks again before it raises.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use chrono::Utc;
use clap::Parser;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use rollout_core::decide::decide;
use tokio::sync::mpsc;

use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::events::Events;
use crate::lane::Lane;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::prometheus::{SecretSource, Servers};
use crate::server::Heartbeats;
use crate::stores::Stores;
use crate::tracker::Tracker;

const ROLLOUT: &str = "/apis/espalier.dev/v1alpha1/namespaces/ml/modelrollouts/digits";
const POLICY_NOW: &str = "/apis/espalier.dev/v1alpha1/namespaces/ml/evaluationpolicies/p";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const SLICES_NOW: &str = "/apis/discovery.k8s.io/v1/namespaces/ml/endpointslices";
const PODS_NOW: &str = "/api/v1/namespaces/ml/pods";
const RECORDS: &str = "/apis/apps/v1/controllerrevisions";

/// An API server that answers reads by path; what is not there is not found, and lists are empty. Watches stay silent.
#[derive(Default)]
struct World {
    answers: BTreeMap<&'static str, Value>,
    asked: Vec<String>,
}

impl World {
    fn answer(&mut self, path: &str, query: &str) -> (StatusCode, Value) {
        let selected = if query.contains("labelSelector=") { " selected" } else { "" };
        self.asked.push(format!("{path}{selected}"));
        let listed = |items: &Value| json!({"metadata": {"resourceVersion": "1"}, "items": items});
        let list = query.contains("limit=") || query.contains("labelSelector=");
        match (self.answers.get(path), list) {
            (Some(found), false) => (StatusCode::OK, found.clone()),
            (found, true) => (StatusCode::OK, listed(found.unwrap_or(&json!([])))),
            (None, false) => {
                (StatusCode::NOT_FOUND, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "", "code": 404}))
            }
        }
    }
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    config: Config,
}

async fn context(answers: &[(&'static str, Value)]) -> (Context, Arc<Mutex<World>>) {
    let world = Arc::new(Mutex::new(World { answers: answers.iter().cloned().collect(), asked: Vec::new() }));
    let shared = Arc::clone(&world);
    let service = tower::service_fn(move |request: Request<Body>| {
        let world = Arc::clone(&shared);
        async move {
            let query = request.uri().query().unwrap_or_default();
            if query.contains("watch=true") {
                std::future::pending::<()>().await;
            }
            let (code, answer) = world.lock().unwrap().answer(request.uri().path(), query);
            Ok::<_, Infallible>(Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
        }
    });
    let client = Client::new(service, "ml");
    let metrics = Arc::new(Metrics::new());
    let (stores, wakes) = Stores::watch(&client, &[None]);
    tokio::spawn(wakes.for_each(|_| std::future::ready(())));
    stores.fill().await.unwrap();
    let context = Context {
        tenure: crate::clock::Tenure::by(&Clock::system()),
        secrets: SecretSource::new(client.clone()),
        events: Events::start(client.clone(), Arc::clone(&metrics), Clock::system()),
        stores,
        tracker: Tracker::default(),
        servers: Servers::default(),
        clock: Clock::system(),
        metrics,
        leadership: Leadership::always(),
        beats: Heartbeats::new(),
        first: crate::first::FirstLooks::default(),
        lane: Lane::new(1),
        wake: mpsc::channel(1).0,
        client,
        config: Line::parse_from(["espalier"]).config,
    };
    (context, world)
}

fn rollout(baseline: bool, status: &Value) -> Value {
    let mut spec = json!({
        "model": {"uri": "oci://r/m:1"}, "workload": {"backendRef": {"name": "digits-v2", "port": 80}}, "policyRef": {"name": "p"},
        "route": {"template": {"parentRefs": [{"name": "gw"}], "rules": [{}]}},
        "stages": [{"name": "canary", "type": "Canary", "percent": "10%"}],
    });
    if baseline {
        spec["baseline"] = json!({"backendRef": {"name": "legacy", "port": 80}});
    }
    let metadata =
        json!({"namespace": "ml", "name": "digits", "uid": "u", "resourceVersion": "1", "generation": 1, "finalizers": [FINALIZER]});
    json!({"apiVersion": "espalier.dev/v1alpha1", "kind": "ModelRollout", "metadata": metadata, "spec": spec, "status": status})
}

fn policy(generation: i64) -> Value {
    json!({
        "apiVersion": "espalier.dev/v1alpha1", "kind": "EvaluationPolicy", "metadata": {"namespace": "ml", "name": "p", "generation": generation},
        "spec": {
            "prometheus": {"address": "http://p:9090"},
            "guardrails": [{"name": "errors", "proportion": {"bad": "errors_total", "total": "requests_total"}, "target": "1%"}],
        },
    })
}

fn cluster() -> Vec<(&'static str, Value)> {
    let service = |name: &str| json!({"metadata": {"namespace": "ml", "name": name}, "spec": {"selector": {"app": name}}});
    vec![
        ("/apis/espalier.dev/v1alpha1/evaluationpolicies", json!([policy(1)])),
        ("/api/v1/services", json!([service("legacy"), service("digits-v2")])),
        (SLICES, json!([slice("legacy", "a"), slice("digits-v2", "b")])),
        (SLICES_NOW, json!([slice("digits-v2", "b")])),
    ]
}

fn slice(service: &str, pod: &str) -> Value {
    let endpoint = json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": pod}});
    json!({
        "metadata": {"namespace": "ml", "name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": [endpoint],
    })
}

fn key() -> Key {
    Key { namespace: "ml".into(), name: "digits".into() }
}

fn serving(revision: &str, service: &str) -> Value {
    json!({"revision": revision, "digest": "", "uri": "", "service": service, "port": 80, "since": "2026-01-02T03:04:05Z"})
}

/// Looks at a rollout, and tells what was seen and which calls that took.
async fn look(mut answers: Vec<(&'static str, Value)>, rollout: Value) -> (Seen, Vec<String>) {
    answers.push((ROLLOUT, rollout));
    let (ctx, world) = context(&answers).await;
    world.lock().unwrap().asked.clear();
    let seen = observe(&ctx, &key()).await.unwrap().unwrap();
    let asked = world.lock().unwrap().asked.clone();
    (seen, asked)
}

#[tokio::test]
async fn services_and_slices_are_watched_without_a_label_and_workloads_and_pods_with_ours() {
    let (_, world) = context(&cluster()).await;
    let asked = world.lock().unwrap().asked.clone();
    for wanted in ["/api/v1/services", SLICES, "/api/v1/pods selected", "/apis/apps/v1/deployments selected"] {
        assert!(asked.iter().any(|one| one == wanted), "{wanted} not in {asked:?}");
    }
}

#[tokio::test]
async fn a_look_lists_the_pods_of_the_users_candidate_and_takes_all_else_of_services_from_watches() {
    let (seen, asked) = look(cluster(), rollout(true, &json!({"stable": serving("baseline", "legacy")}))).await;
    let route = "/apis/gateway.networking.k8s.io/v1/namespaces/ml/httproutes/digits";
    assert_eq!(asked, [ROLLOUT, route, "/api/v1/namespaces/ml/pods selected"]);
    let stable = &seen.observed.workloads[&RevisionId::new(RevisionId::BASELINE)];
    assert_eq!((stable.service_exists, stable.ready_endpoints, stable.pods.len()), (true, 1, 1));
    let desired = revision::id(&seen.object.spec.model, &seen.object.spec.workload);
    assert_eq!(seen.observed.workloads[&desired].ready_endpoints, 1);
    let (_, asked) = look(cluster(), rollout(false, &json!({"stable": serving(desired.as_str(), "digits-v2")}))).await;
    assert_eq!(asked, [ROLLOUT, route], "nothing is on trial");
    let probation = json!({"previous": serving("aaaaaaaa", "legacy"), "until": "2026-01-02T03:04:05Z"});
    let (_, asked) =
        look(cluster(), rollout(false, &json!({"stable": serving(desired.as_str(), "digits-v2"), "probation": probation}))).await;
    assert_eq!(asked.len(), 3, "on probation it still trips: {asked:?}");
}

#[tokio::test]
async fn nothing_is_raised_on_endpoints_or_a_policy_that_only_an_old_watch_still_has() {
    let (ready, gone) = (json!([slice("digits-v2", "b")]), json!([]));
    for (live, policy, raises) in [(&ready, Some(policy(1)), true), (&gone, Some(policy(1)), false), (&ready, None, false)] {
        let mut answers = cluster();
        answers.push((SLICES_NOW, live.clone()));
        answers.extend(policy.map(|found| (POLICY_NOW, found)));
        answers.push((ROLLOUT, rollout(false, &json!({}))));
        let (ctx, world) = context(&answers).await;
        let mut seen = observe(&ctx, &key()).await.unwrap().unwrap();
        let raised = |seen: &Seen| {
            let decision = decide(&seen.observed, &seen.plan, None, Utc::now());
            let raises = decision.then.iter().any(|write| matches!(write, Write::Route(write) if write.ticket().is_some()));
            (decision, raises)
        };
        let (decision, first) = raised(&seen);
        assert!(first, "{:?}", decision.situation);
        world.lock().unwrap().asked.clear();
        assert_eq!(recount(&ctx, &mut seen, &decision).await.unwrap(), !raises);
        let asked: BTreeSet<String> = world.lock().unwrap().asked.drain(..).collect();
        assert_eq!(asked, BTreeSet::from([format!("{SLICES_NOW} selected"), POLICY_NOW.to_owned()]));
        let (decision, again) = raised(&seen);
        assert_eq!(again, raises, "{:?}", decision.situation);
    }
}

#[tokio::test]
async fn a_policy_that_was_edited_a_moment_ago_is_the_one_that_a_raise_is_decided_on() {
    let mut answers = cluster();
    answers.push((POLICY_NOW, policy(2)));
    answers.push((ROLLOUT, rollout(false, &json!({}))));
    let (ctx, _) = context(&answers).await;
    let mut seen = observe(&ctx, &key()).await.unwrap().unwrap();
    let decision = decide(&seen.observed, &seen.plan, None, Utc::now());
    assert!(recount(&ctx, &mut seen, &decision).await.unwrap());
    assert!(matches!(seen.observed.policy, PolicyView::Found { generation: 2, .. }));
}

#[tokio::test]
async fn nothing_is_raised_on_pods_that_were_killed_for_memory_while_the_watch_of_pods_was_silent() {
    let template =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": {"containers": [{"name": "server"}]}}}});
    let mut rollout = rollout(false, &json!({}));
    rollout["spec"]["workload"] = json!({"template": template, "port": 80});
    let spec: RolloutSpec = serde_json::from_value(rollout["spec"].clone()).unwrap();
    let revision = revision::id(&spec.model, &spec.workload);
    let child = format!("digits-{revision}");
    let labels = json!({"espalier.dev/rollout": "digits", "espalier.dev/revision": revision, "kubernetes.io/service-name": child});
    let metadata = json!({"namespace": "ml", "name": child, "labels": labels});
    let mut ready = slice(&child, "p");
    ready["metadata"]["labels"] = labels.clone();
    let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-02T03:04:05Z"}});
    let pod = |last: &Value| {
        let status = json!({"name": "server", "image": "", "imageID": "", "ready": true, "restartCount": 1, "lastState": last});
        json!([{"metadata": {"namespace": "ml", "name": "p", "labels": labels}, "status": {"containerStatuses": [status]}}])
    };
    for (now, reason) in [(pod(&json!({})), None), (pod(&killed), Some("OOMKilled"))] {
        let answers = [
            ("/apis/espalier.dev/v1alpha1/evaluationpolicies", json!([policy(1)])),
            ("/apis/apps/v1/deployments", json!([{"metadata": metadata, "spec": {"replicas": 1, "selector": {}, "template": {}}}])),
            ("/api/v1/services", json!([{"metadata": metadata, "spec": {"selector": {"app": "x"}}}])),
            ("/api/v1/pods", pod(&json!({}))),
            (SLICES, json!([ready])),
            (SLICES_NOW, json!([ready])),
            (PODS_NOW, now),
            (POLICY_NOW, policy(1)),
            (ROLLOUT, rollout.clone()),
        ];
        let (ctx, _) = context(&answers).await;
        let mut seen = observe(&ctx, &key()).await.unwrap().unwrap();
        let decision = decide(&seen.observed, &seen.plan, None, Utc::now());
        assert!(!decision.then.is_empty(), "{:?}", decision.situation);
        assert_eq!(recount(&ctx, &mut seen, &decision).await.unwrap(), reason.is_some());
        assert_eq!(seen.observed.workloads[&revision].tripped.as_ref().map(|cause| cause.reason.as_str()), reason);
    }
}

#[tokio::test]
async fn what_the_user_ran_before_is_known_by_the_matchers_of_its_own_record() {
    let record = |revision: &str, workload: Value| {
        json!({
            "metadata": {"namespace": "ml", "name": format!("digits-{revision}"),
                "labels": {"espalier.dev/rollout": "digits", "espalier.dev/revision": revision}},
            "data": {"model": {"uri": "oci://r/m:0"}, "workload": workload}, "revision": 1,
        })
    };
    let mut answers = cluster();
    let users = json!({"backendRef": {"name": "digits-v1", "port": 80}, "matchers": {"app": "digits-v1"}});
    answers.push((RECORDS, json!([record("aaaaaaaa", users), record("bbbbbbbb", json!({"template": {}, "port": 80}))])));
    let (seen, _) = look(answers, rollout(false, &json!({"stable": serving("aaaaaaaa", "digits-v1")}))).await;
    let labels = BTreeMap::from([("app".to_owned(), "digits-v1".to_owned())]);
    let (users, ours) = (RevisionId::new("aaaaaaaa"), RevisionId::new("bbbbbbbb"));
    assert_eq!(seen.matchers, BTreeMap::from([(users, labels), (ours, BTreeMap::new())]));
    assert_eq!(seen.observed.recorded.len(), 2);
}
