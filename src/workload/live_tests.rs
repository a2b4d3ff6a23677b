//! What stores keep of objects, how they follow a watch, and whom they tell.

use kube::runtime::watcher::Event;
use rollout_core::observed::WorkloadView;
use serde_json::{Value, json};

use super::super::view::foreign_view;
use super::*;

fn slice(name: &str, service: &str, version: u32, ready: &[(&str, bool)]) -> EndpointSlice {
    let endpoints: Vec<Value> = ready
        .iter()
        .map(|(pod, ready)| {
            json!({
                "addresses": ["10.0.0.1", "10.0.0.2"], "conditions": {"ready": ready, "serving": ready, "terminating": false},
                "targetRef": {"kind": "Pod", "name": pod, "namespace": "ml", "uid": "7"}, "nodeName": "node-1", "zone": "a",
                "deprecatedTopology": {"a": "b"},
            })
        })
        .collect();
    let object = json!({
        "metadata": {
            "name": name, "namespace": "ml", "uid": "1", "resourceVersion": version.to_string(), "generation": 3,
            "labels": {"kubernetes.io/service-name": service, "app": "legacy", "endpointslice.kubernetes.io/managed-by": "controller"},
            "annotations": {"a": "b"}, "managedFields": [{"manager": "m"}],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": service, "uid": "2"}],
        },
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 80}],
    });
    serde_json::from_value(object).unwrap()
}

fn service(name: &str) -> Service {
    let object = json!({
        "metadata": {
            "name": name, "namespace": "ml", "uid": "2", "resourceVersion": "5", "labels": {"app": "legacy", "espalier.dev/rollout": "digits"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}, "creationTimestamp": "2026-01-02T03:04:05Z",
        },
        "spec": {"selector": {"app": "legacy"}, "ports": [{"port": 80}], "clusterIP": "10.1.1.1", "type": "ClusterIP"},
        "status": {"loadBalancer": {}},
    });
    serde_json::from_value(object).unwrap()
}

fn view(service: &Service, slices: &[&EndpointSlice]) -> WorkloadView {
    let slices = slices.iter().map(|one| Arc::new((*one).clone())).collect();
    foreign_view(&Foreign { service: Some(Arc::new(service.clone())), slices, ..Foreign::default() })
}

#[test]
fn trimming_keeps_what_views_read_and_little_else() {
    let (mut service, mut slice) = (service("legacy"), slice("legacy-1", "legacy", 1, &[("a", true), ("b", false)]));
    let unnamed = json!({"addresses": ["10.0.0.9", "10.0.0.8"], "conditions": {"ready": true}, "hostname": "h"});
    slice.endpoints.push(serde_json::from_value(unnamed).unwrap());
    let before = view(&service, &[&slice]);
    assert_eq!((before.ready_endpoints, before.pods.len()), (2, 2));
    let groups = (groups_of_service(&service), groups_of_slice(&slice));
    let selected = service.spec.as_ref().unwrap().selector.clone();
    trim_service(&mut service);
    trim_slice(&mut slice);
    assert_eq!(view(&service, &[&slice]), before);
    assert_eq!((groups_of_service(&service), groups_of_slice(&slice)), groups);
    assert_eq!(service.spec.as_ref().unwrap().selector, selected);
    let labels = json!({"espalier.dev/rollout": "digits"});
    let kept = json!({"name": "legacy", "namespace": "ml", "resourceVersion": "5", "labels": labels});
    assert_eq!(serde_json::to_value(&service).unwrap()["metadata"], kept);
    let first = json!({
        "addresses": [], "conditions": {"ready": true, "serving": true, "terminating": false}, "targetRef": {"kind": "Pod", "name": "a"},
    });
    let slice = serde_json::to_value(&slice).unwrap();
    assert_eq!(slice["endpoints"][0], first);
    assert_eq!(slice["endpoints"][2], json!({"addresses": ["10.0.0.9"], "conditions": {"ready": true}}));
    assert_eq!(slice["metadata"]["labels"], json!({"kubernetes.io/service-name": "legacy"}));
}

#[test]
fn what_is_kept_of_a_healthy_workload_is_small_and_reads_as_before() {
    let labels = json!({"espalier.dev/rollout": "digits", "espalier.dev/revision": "3f0c1a2b", "app": "digits"});
    let metadata = |name: &str| {
        json!({
            "name": name, "namespace": "ml", "uid": "6c1d4f0e-0000-4000-8000-000000000000", "resourceVersion": "123456", "generation": 1,
            "creationTimestamp": "2026-01-02T03:04:05Z", "labels": labels, "annotations": {"deployment.kubernetes.io/revision": "1"},
            "ownerReferences": [{"apiVersion": "espalier.dev/v1alpha1", "kind": "ModelRollout", "name": "digits", "uid": "u"}],
        })
    };
    let container = json!({
        "name": "server", "image": "r/server:1", "args": ["--model=oci://r/m:1"], "ports": [{"containerPort": 8080}],
        "resources": {"limits": {"memory": "1Gi"}}, "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets"}],
    });
    let spec = json!({"replicas": 2, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}});
    let progress =
        json!({"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "lastUpdateTime": "2026-01-02T03:04:05Z"});
    let status = json!({"replicas": 2, "readyReplicas": 2, "conditions": [progress]});
    let deployment: Deployment =
        serde_json::from_value(json!({"metadata": metadata("digits-3f0c1a2b"), "spec": spec, "status": status})).unwrap();
    let running = json!({
        "name": "server", "image": "r/server:1", "imageID": "sha256:12", "containerID": "containerd://34", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-02T03:04:06Z"}},
    });
    let status = json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [running]});
    let pod = json!({"metadata": metadata("digits-3f0c1a2b-x"), "spec": {"containers": [container], "nodeName": "n"}, "status": status});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let view = |deployment: &Deployment, pod: &Pod| {
        let objects = Owned { deployments: vec![Arc::new(deployment.clone())], pods: vec![Arc::new(pod.clone())], ..Owned::default() };
        super::super::view::owned_views("digits", &objects)
    };
    let before = view(&deployment, &pod);
    let (mut kept_deployment, mut kept_pod) = (deployment, pod);
    trim_deployment(&mut kept_deployment);
    trim_pod(&mut kept_pod);
    assert_eq!(view(&kept_deployment, &kept_pod), before);

    let (deployments, mut writer) = index(Sorting::by(|one: &Deployment| of_rollout(&one.metadata)));
    writer.apply(&Event::Apply(kept_deployment.clone()));
    assert_eq!(*deployments.get("ml", "digits-3f0c1a2b").unwrap(), kept_deployment);
    let (pods, mut writer) = index(Sorting::by(|one: &Pod| of_rollout(&one.metadata)));
    writer.apply(&Event::Apply(kept_pod));
    let bytes = (deployments.size(), pods.size());
    assert!(bytes.0.1 < 400 && bytes.1.1 < 800, "bytes of one Deployment and of one pod: {bytes:?}");
}

#[test]
fn a_thousand_objects_of_a_kind_are_kept_as_what_is_their_own_and_read_as_they_were() {
    let one = |number: usize| -> Deployment {
        let labels = json!({"espalier.dev/rollout": format!("r{number}"), "espalier.dev/revision": format!("{:08x}", number * 40_503), "app": "digits"});
        serde_json::from_value(json!({
            "metadata": {"name": format!("r{number}-x"), "namespace": "ml", "resourceVersion": format!("{}", 100_000 + number * 7), "labels": labels},
            "spec": {"replicas": number % 5, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}},
        }))
        .unwrap()
    };
    let (kept, mut writer) = index(Sorting::by(|one: &Deployment| of_rollout(&one.metadata)));
    for number in 0..1000 {
        writer.apply(&Event::Apply(one(number)));
    }
    // The first ones go, which the others were packed with: these are read all the same.
    for number in 0..100 {
        writer.apply(&Event::Delete(one(number)));
    }
    for number in 100..1000 {
        assert_eq!(*kept.get("ml", &format!("r{number}-x")).unwrap(), one(number));
    }
    let (objects, bytes) = kept.size();
    let written: usize = (100..1000).map(|number| serde_json::to_vec(&one(number)).unwrap().len()).sum();
    assert!(objects == 900 && bytes * 3 < written, "{bytes} bytes for {objects} texts of {written}");
}

#[test]
fn services_that_want_pods_of_another_rollout_are_passed_over_and_no_others() {
    let of = |name: &str, selector: &Value| {
        let mut one = service(name);
        one.spec.as_mut().unwrap().selector = serde_json::from_value(selector.clone()).unwrap();
        one
    };
    let (services, mut writer) = index(Sorting { groups: groups_of_service, mark: mark_of_service });
    for (name, selector) in [
        ("broad", json!({"app": "m"})),
        ("mine", json!({"espalier.dev/rollout": "digits"})),
        ("none", json!(null)),
        ("other", json!({"espalier.dev/rollout": "letters", "app": "m"})),
    ] {
        writer.apply(&Event::Apply(of(name, &selector)));
    }
    let seen = services.marked("ml", &BTreeSet::from([mark("digits")]));
    assert_eq!(seen.map(|one| name(&one.metadata).to_owned()).collect::<Vec<_>>(), ["broad", "mine", "none"]);
}

fn of_services(names: &[&str]) -> BTreeSet<(String, Group)> {
    names.iter().map(|name| ("ml".to_owned(), Group::Service((*name).to_owned()))).collect()
}

fn names(found: &[Arc<EndpointSlice>]) -> Vec<&str> {
    found.iter().map(|one| name(&one.metadata)).collect()
}

#[test]
fn slices_are_found_by_service_and_a_change_tells_of_it() {
    let (slices, mut writer) = index(Sorting::by(groups_of_slice));
    let group = |service: &str| slices.group("ml", &Group::Service(service.to_owned()));
    assert_eq!(writer.apply(&Event::Apply(slice("a-1", "a", 1, &[]))), of_services(&["a"]));
    writer.apply(&Event::Apply(slice("a-2", "a", 2, &[])));
    writer.apply(&Event::Apply(slice("b-1", "b", 3, &[])));
    assert_eq!((names(&group("a")), names(&group("b"))), (vec!["a-1", "a-2"], vec!["b-1"]));
    assert!(slices.group("prod", &Group::Service("a".to_owned())).is_empty());
    assert_eq!(writer.apply(&Event::Apply(slice("a-2", "b", 4, &[]))), of_services(&["a", "b"]), "it left one Service for another");
    assert_eq!((names(&group("a")), names(&group("b"))), (vec!["a-1"], vec!["a-2", "b-1"]));
    assert_eq!(writer.apply(&Event::Delete(slice("a-1", "a", 5, &[]))), of_services(&["a"]));
    assert!(group("a").is_empty() && slices.get("ml", "a-1").is_none());
    assert_eq!(names(&slices.marked("ml", &BTreeSet::new()).collect::<Vec<_>>()), ["a-2", "b-1"]);
}

#[test]
fn a_new_list_replaces_all_at_once_and_tells_of_what_went_while_nobody_watched() {
    let (slices, mut writer) = index(Sorting::by(groups_of_slice));
    let group = |service: &str| names(&slices.group("ml", &Group::Service(service.to_owned()))).len();
    for one in ["kept", "changed", "gone"] {
        writer.apply(&Event::InitApply(slice(one, one, 1, &[])));
    }
    assert!(writer.apply(&Event::InitDone).is_empty(), "the first list is news to nobody");
    let told: Vec<_> =
        [Event::Init, Event::InitApply(slice("kept", "kept", 1, &[])), Event::InitApply(slice("changed", "changed", 2, &[]))]
            .iter()
            .map(|event| writer.apply(event).len())
            .collect();
    assert_eq!((told, group("gone")), (vec![0, 0, 0], 1), "a list under way shows nothing");
    writer.apply(&Event::InitApply(slice("new", "new", 3, &[])));
    assert_eq!(writer.apply(&Event::InitDone), of_services(&["changed", "gone", "new"]));
    assert_eq!((group("kept"), group("gone"), group("new")), (1, 0, 1));
}

#[tokio::test]
async fn an_index_is_ready_once_the_first_list_is_complete_and_never_when_its_watch_ends_before() {
    let (slices, mut writer) = index(Sorting::by(groups_of_slice));
    writer.apply(&Event::Init);
    let waiting = slices.clone();
    let waiting = tokio::spawn(async move { waiting.ready().await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    writer.apply(&Event::InitDone);
    waiting.await.unwrap().unwrap();
    let (slices, writer) = index(Sorting::by(groups_of_slice));
    drop(writer);
    slices.ready().await.unwrap_err();
}
