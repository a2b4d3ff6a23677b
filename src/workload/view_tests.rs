//! What views make of objects as the cluster shows them.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;

fn pod(name: &str, revision: &str, status: &Value) -> Arc<Pod> {
    let object = json!({
        "metadata": {
            "name": name, "namespace": "ml", "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"espalier.dev/rollout": "digits", "espalier.dev/revision": revision},
        },
        "spec": {"containers": [{"name": "server", "resources": {"limits": {"memory": "64Mi"}}}]},
        "status": status,
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn container(ready: bool, restarts: i32, state: &Value, last: &Value) -> Value {
    json!({"containerStatuses": [{
        "name": "server", "image": "server:1", "imageID": "", "ready": ready, "restartCount": restarts, "state": state, "lastState": last,
    }]})
}

fn deployment(revision: &str, replicas: i32, conditions: &Value) -> Arc<Deployment> {
    let object = json!({
        "metadata": {"name": format!("digits-{revision}"), "labels": {"espalier.dev/rollout": "digits", "espalier.dev/revision": revision}},
        "spec": {"replicas": replicas, "selector": {}, "template": {}},
        "status": {"conditions": conditions},
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn service(name: &str, revision: &str) -> Arc<Service> {
    let object = json!({"metadata": {"name": name, "labels": {"espalier.dev/rollout": "digits", "espalier.dev/revision": revision}}});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn slice(service: &str, endpoints: &Value) -> Arc<EndpointSlice> {
    let object = json!({"metadata": {"labels": {SERVICE_NAME: service}}, "addressType": "IPv4", "endpoints": endpoints});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn owned(pods: Vec<Arc<Pod>>, conditions: &Value) -> WorkloadView {
    let objects = Owned { deployments: vec![deployment("r1", 2, conditions)], pods, ..Owned::default() };
    owned_views("digits", &objects).remove(&RevisionId::new("r1")).unwrap()
}

#[test]
fn only_ready_endpoints_of_the_own_service_count_and_each_pod_once() {
    let target = |name: &str| json!({"kind": "Pod", "name": name});
    let slices = [
        slice(
            "digits-r1",
            &json!([
                {"addresses": ["10.0.0.1"], "targetRef": target("a"), "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "targetRef": target("b"), "conditions": {"ready": false}},
                {"addresses": ["10.0.0.3"], "targetRef": target("c"), "conditions": {"ready": true, "terminating": true}},
                {"addresses": ["10.0.0.4"], "targetRef": target("d")},
            ]),
        ),
        slice("digits-r1", &json!([{"addresses": ["fd00::1"], "targetRef": target("a"), "conditions": {"ready": true}}])),
        slice("digits-r1", &json!([{"addresses": ["10.9.9.9"], "conditions": {"ready": true}}])),
        slice("digits-r1-control", &json!([{"addresses": ["10.0.0.5"], "targetRef": target("e"), "conditions": {"ready": true}}])),
    ];
    assert_eq!(ready_endpoints("digits-r1", slices.iter().map(AsRef::as_ref)), 3);
}

#[test]
fn each_revision_is_seen_by_itself() {
    let running = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    let objects = Owned {
        deployments: vec![deployment("r1", 1, &json!([])), deployment("r2", 3, &json!([]))],
        services: vec![service("digits-r1", "r1"), service("digits-r1-control", "r1")],
        slices: vec![slice("digits-r1", &json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}]))],
        pods: vec![pod("a", "r1", &running), pod("z", "r0", &running), pod("done", "r1", &json!({"phase": "Failed"}))],
    };
    let views = owned_views("digits", &objects);
    let one = &views[&RevisionId::new("r1")];
    assert!(one.exists && one.service_exists && one.control_exists);
    assert_eq!((one.desired, one.ready_endpoints), (1, 1));
    assert_eq!(one.cause, None);
    assert_eq!(one.pods, BTreeMap::from([("a".to_owned(), "2026-01-02T03:04:05Z".parse().unwrap())]));
    let two = &views[&RevisionId::new("r2")];
    assert!(two.exists && !two.service_exists && !two.control_exists);
    assert_eq!((two.desired, two.ready_endpoints), (3, 0));
    assert_eq!(two.cause.as_ref().unwrap().reason, "NoPods");
    assert!(!views[&RevisionId::new("r0")].exists, "pods that outlive their workload");
    assert!(owned_views("other", &objects).is_empty());
}

#[test]
fn causes_are_told_in_the_clusters_words() {
    let waiting = |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
    let ended = |reason: &str, code: i32| json!({"terminated": {"reason": reason, "exitCode": code}});
    let none = json!({});
    let unscheduled = json!({"conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."},
    ]});
    let crash = json!({"terminated": {"reason": "Error", "exitCode": 137, "message": "no such model\n"}});
    let table = [
        ("ImagePullBackOff", "(image server:1): Back-off", container(false, 0, &waiting("ImagePullBackOff", "Back-off pulling"), &none)),
        ("ErrImagePull", "not found", container(false, 0, &waiting("ErrImagePull", "not found"), &none)),
        ("InvalidImageName", "couldn't parse", container(false, 0, &waiting("InvalidImageName", "couldn't parse"), &none)),
        (
            "CreateContainerConfigError",
            "secret \"x\" not found",
            container(false, 0, &waiting("CreateContainerConfigError", "secret \"x\" not found"), &none),
        ),
        (
            "CrashLoopBackOff",
            "exit code 137, Error: no such model (4 restarts)",
            container(false, 4, &waiting("CrashLoopBackOff", "back-off"), &crash),
        ),
        ("OOMKilled", "its limit is 64Mi", container(false, 1, &waiting("CrashLoopBackOff", "back-off"), &ended("OOMKilled", 137))),
        ("ContainerFailed", "exit code 2, Error", container(false, 0, &ended("Error", 2), &none)),
        ("Unschedulable", "3 Insufficient nvidia.com/gpu", unscheduled),
        ("Evicted", "low on memory", json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"})),
        ("NotReady", "readiness probe has not succeeded", container(false, 0, &json!({"running": {}}), &none)),
        ("ContainerCreating", "is being started", container(false, 0, &waiting("ContainerCreating", ""), &none)),
        ("Pending", "is being started", json!({"phase": "Pending"})),
    ];
    for (reason, words, status) in table {
        let cause = owned(vec![pod("a", "r1", &status)], &json!([])).cause.unwrap();
        assert_eq!(cause.reason, reason, "{}", cause.message);
        assert!(cause.message.contains(words) && cause.message.starts_with("pod a"), "{}", cause.message);
    }
    let quota = json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "pods \"x\" is forbidden: exceeded quota: q"}]);
    assert_eq!(owned(Vec::new(), &quota).cause.unwrap().reason, "QuotaExceeded");
    let late = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}]);
    assert_eq!(owned(Vec::new(), &late).cause.unwrap().reason, "ProgressDeadlineExceeded");
}

#[test]
fn the_most_telling_cause_wins_whatever_the_order_of_pods() {
    let creating = container(false, 0, &json!({"waiting": {"reason": "ContainerCreating"}}), &json!({}));
    let image = container(false, 0, &json!({"waiting": {"reason": "ErrImagePull", "message": "x"}}), &json!({}));
    let pods = vec![pod("a", "r1", &creating), pod("c", "r1", &image), pod("b", "r1", &image)];
    let cause = |pods| owned(pods, &json!([])).cause.unwrap();
    let expected = cause(pods.clone());
    assert!(expected.message.starts_with("pod b"), "{}", expected.message);
    assert_eq!(cause(pods.into_iter().rev().collect()), expected);
}

#[test]
fn tripwires_are_memory_kills_and_crash_loops_even_between_two_crashes() {
    let running = json!({"running": {}});
    let killed = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}});
    let failed = json!({"terminated": {"reason": "Error", "exitCode": 1}});
    let table = [
        (container(true, 1, &running, &killed), Some("OOMKilled")),
        (container(false, 1, &json!({"waiting": {"reason": "CrashLoopBackOff"}}), &failed), Some("CrashLoop")),
        (container(false, 3, &running, &failed), Some("CrashLoop")),
        (container(true, 3, &running, &failed), None),
        (container(false, 1, &running, &failed), None),
        (container(false, 0, &json!({"waiting": {"reason": "ImagePullBackOff"}}), &json!({})), None),
    ];
    for (status, expected) in table {
        let tripped = owned(vec![pod("a", "r1", &status)], &json!([])).tripped;
        assert_eq!(tripped.map(|cause| cause.reason).as_deref(), expected, "{status}");
    }
    let at = |second: i64| {
        let killed = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": format!("2027-01-15T08:00:{second}Z")}});
        container(true, 1, &running, &killed)
    };
    let view = owned(vec![pod("a", "r1", &at(10)), pod("b", "r1", &at(20)), pod("c", "r1", &at(15))], &json!([]));
    assert_eq!(view.tripped_at.unwrap().to_rfc3339(), "2027-01-15T08:00:20+00:00", "the latest");
    assert!(view.tripped.unwrap().message.contains("pod b"));
}

#[test]
fn a_users_service_is_ready_with_one_endpoint_and_absent_without_itself() {
    let missing = foreign_view(&Foreign { control_exists: true, ..Foreign::default() });
    assert!(!missing.exists && missing.control_exists && missing.ready_endpoints == 0);
    let slices = vec![slice("legacy", &json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}]))];
    let found = foreign_view(&Foreign { service: Some(service("legacy", "x")), slices, ..Foreign::default() });
    assert!(found.exists && found.service_exists);
    assert_eq!((found.desired, found.ready_endpoints, found.cause), (1, 1, None));
}

#[test]
fn the_pods_of_a_users_service_come_from_its_slices_when_nobody_listed_them() {
    let endpoint = |kind: &str, name: &str, ready: bool| json!({"addresses": ["10.0.0.1"], "targetRef": {"kind": kind, "name": name}, "conditions": {"ready": ready}});
    let slices = |ready: bool| {
        let all = json!([endpoint("Pod", "a", ready), endpoint("Pod", "b", false), endpoint("VirtualMachine", "c", false)]);
        vec![
            slice("legacy", &all),
            slice("legacy", &json!([endpoint("Pod", "a", ready)])),
            slice("other", &json!([endpoint("Pod", "x", true)])),
        ]
    };
    let found = |ready: bool, pods: Vec<Arc<Pod>>| {
        foreign_view(&Foreign { service: Some(service("legacy", "x")), slices: slices(ready), pods, control_exists: false })
    };
    let (known, unknown) = ("2026-01-02T03:04:05Z".parse().unwrap(), DateTime::UNIX_EPOCH);
    let pods = |view: &WorkloadView| view.pods.iter().map(|(name, at)| (name.clone(), *at)).collect::<Vec<_>>();
    let ready = found(true, Vec::new());
    assert_eq!((ready.ready_endpoints, ready.cause.clone()), (1, None));
    assert_eq!(pods(&ready), [("a".to_owned(), unknown), ("b".to_owned(), unknown)]);
    let unready = found(false, Vec::new()).cause.unwrap();
    assert_eq!((unready.reason.as_str(), unready.message.as_str()), ("NotReady", "none of the 2 pods of legacy is ready"));
    let killed = container(false, 1, &json!({"running": {}}), &json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}}));
    let listed = found(false, vec![pod("a", "r1", &killed)]);
    assert_eq!(pods(&listed), [("a".to_owned(), known), ("b".to_owned(), unknown)]);
    assert_eq!(listed.tripped.unwrap().reason, "OOMKilled");
    assert_eq!(listed.cause.unwrap().reason, "OOMKilled");
}

#[test]
fn a_service_that_selects_candidate_pods_is_named_and_our_own_are_not() {
    let owner = crate::workload::Owner { namespace: "ml".into(), name: "digits".into(), uid: "u".into() };
    let with = |name: &str, selector: Value| -> Service {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"selector": selector}})).unwrap()
    };
    let services = [
        with("legacy", json!({"app": "digits"})),
        with("digits-r1", json!({"espalier.dev/rollout": "digits", "espalier.dev/revision": "r1"})),
        with("digits-r1-control", json!({"espalier.dev/rollout": "digits", "espalier.dev/revision": "r1"})),
        with("all", json!({"espalier.dev/rollout": "digits"})),
        with("other", json!({"app": "other"})),
        with("half", json!({"app": "digits", "tier": "web"})),
        with("none", json!({})),
    ];
    let pairs = [("app", "digits"), ("espalier.dev/rollout", "digits"), ("espalier.dev/revision", "r1")];
    let labels = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let found = crate::workload::foreign_selectors(&owner, &RevisionId::new("r1"), &labels, &services);
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("Service all ") && found[1].contains("legacy selects the candidate's pods by app=digits"), "{found:?}");
}
