//! Workloads against an API server made of a map: what is written, in which order, and what is never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use rollout_core::revision::RevisionId;
use serde_json::{Value, json};

use super::*;

/// An API server that keeps objects by path, checks uids, and remembers what was asked.
#[derive(Default)]
struct World {
    objects: BTreeMap<String, Value>,
    log: Vec<String>,
    bodies: Vec<String>,
    /// Creates that are refused, by path, with a status and a message.
    refuse: BTreeMap<String, (u16, &'static str)>,
    next_uid: u32,
}

impl World {
    fn answer(&mut self, method: &Method, path: &str, query: &str, body: &str) -> (u16, Value) {
        self.log.push(format!("{method} {path}{}{query}", if query.is_empty() { "" } else { "?" }));
        self.bodies.push(body.to_owned());
        let sent: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        match *method {
            Method::GET if query.contains("labelSelector") => {
                let items: Vec<&Value> = self.objects.iter().filter(|(key, _)| key.starts_with(path)).map(|(_, one)| one).collect();
                (200, json!({"items": items}))
            }
            Method::GET => self.objects.get(path).map_or_else(|| failure(404, "NotFound", "no such object"), |one| (200, one.clone())),
            Method::POST => self.create(path, query, sent),
            Method::PATCH => self.patch(path, &sent),
            Method::DELETE => {
                self.objects.remove(path);
                (200, json!({"status": "Success"}))
            }
            _ => failure(405, "MethodNotAllowed", "no"),
        }
    }

    fn create(&mut self, path: &str, query: &str, mut sent: Value) -> (u16, Value) {
        let key = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap());
        if let Some((code, message)) = self.refuse.get(path) {
            return failure(*code, "Invalid", message);
        }
        if self.objects.contains_key(&key) {
            return failure(409, "AlreadyExists", "it exists");
        }
        self.next_uid += 1;
        sent["metadata"]["uid"] = json!(format!("uid-{}", self.next_uid));
        if !query.contains("dryRun=All") {
            self.objects.insert(key, sent.clone());
        }
        (201, sent)
    }

    fn patch(&mut self, path: &str, sent: &Value) -> (u16, Value) {
        let Some(live) = self.objects.get_mut(path) else { return failure(404, "NotFound", "no such object") };
        if sent["metadata"]["uid"] != live["metadata"]["uid"] {
            return failure(422, "Invalid", "metadata.uid: Invalid value: field is immutable");
        }
        merge(live, sent);
        (200, live.clone())
    }

    fn writes(&self) -> Vec<&str> {
        self.log.iter().filter(|line| !line.starts_with("GET")).map(String::as_str).collect()
    }
}

fn merge(live: &mut Value, change: &Value) {
    let Value::Object(fields) = change else {
        *live = change.clone();
        return;
    };
    if !live.is_object() {
        *live = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            live.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut live[key], value);
        }
    }
}

fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code}))
}

fn cluster() -> (Client, Arc<Mutex<World>>) {
    let world: Arc<Mutex<World>> = Arc::default();
    let shared = Arc::clone(&world);
    let service = tower::service_fn(move |request: Request<Body>| {
        let world = Arc::clone(&shared);
        async move {
            let (head, body) = request.into_parts();
            let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            let query = head.uri.query().unwrap_or_default();
            let (code, answer) = world.lock().unwrap().answer(&head.method, head.uri.path(), query, &body);
            let response = Response::builder().status(StatusCode::from_u16(code).unwrap());
            Ok::<_, Infallible>(response.body(Body::from(answer.to_string().into_bytes())).unwrap())
        }
    });
    (Client::new(service, "ml"), world)
}

fn owner() -> Owner {
    Owner { namespace: "ml".into(), name: "digits".into(), uid: "owner-uid".into() }
}

fn revision() -> RevisionId {
    RevisionId::new("1a2b3c4d")
}

fn template() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mine", "labels": {"team": "a"}, "annotations": {"note": "keep"}, "uid": "x", "resourceVersion": "7"},
        "spec": {
            "replicas": 2,
            "strategy": {"type": "Recreate"},
            "template": {
                "metadata": {"labels": {"app": "digits"}},
                "spec": {"containers": [
                    {"name": "server", "image": "server:1", "unheardOf": {"kept": true}},
                    {"name": "side", "env": [{"name": "ESPALIER_REVISION", "value": "mine"}]},
                ]},
            },
        },
        "status": {"replicas": 9},
    })
}

fn children() -> Children {
    build(&owner(), &revision(), &template(), 8080, None).unwrap()
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/ml/deployments";
const SERVICES: &str = "/api/v1/namespaces/ml/services";
const RECORDS: &str = "/apis/apps/v1/namespaces/ml/controllerrevisions";

#[test]
fn a_built_workload_keeps_the_users_fields_and_gets_name_labels_owner_and_env() {
    let built = build(&owner(), &revision(), &template(), 8080, Some(5)).unwrap();
    let own = json!({"espalier.dev/rollout": "digits", "espalier.dev/revision": "1a2b3c4d"});
    let reference = json!([{
        "apiVersion": "espalier.dev/v1alpha1", "kind": "ModelRollout", "name": "digits", "uid": "owner-uid",
        "controller": true, "blockOwnerDeletion": true,
    }]);
    let wanted = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "digits-1a2b3c4d",
            "namespace": "ml",
            "labels": {"team": "a", "espalier.dev/rollout": "digits", "espalier.dev/revision": "1a2b3c4d"},
            "annotations": {"note": "keep"},
            "ownerReferences": reference,
        },
        "spec": {
            "replicas": 5,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": own},
            "template": {
                "metadata": {"labels": {"app": "digits", "espalier.dev/rollout": "digits", "espalier.dev/revision": "1a2b3c4d"}},
                "spec": {"containers": [
                    {"name": "server", "image": "server:1", "unheardOf": {"kept": true}, "env": [{"name": "ESPALIER_REVISION", "value": "1a2b3c4d"}]},
                    {"name": "side", "env": [{"name": "ESPALIER_REVISION", "value": "mine"}]},
                ]},
            },
        },
    });
    assert_eq!(built.workload, wanted);
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "digits-1a2b3c4d", "namespace": "ml", "labels": own, "ownerReferences": reference},
        "spec": {"selector": own, "ports": [{"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP"}]},
    });
    assert_eq!(built.service, service);
    assert_eq!(built.control["metadata"]["name"], "digits-1a2b3c4d-control");
    assert_eq!(built.control["spec"], service["spec"]);
    assert_eq!(built.pod_labels().get("app").map(String::as_str), Some("digits"));
}

type Change = dyn Fn(&mut Value);

#[test]
fn templates_that_cannot_run_are_refused_with_the_path() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut template = template();
        change(&mut template);
        build(&owner(), &revision(), &template, 8080, None).unwrap_err()
    };
    let table: [(&Change, &str, &str); 6] = [
        (&|t| t["kind"] = json!("StatefulSet"), "UnsupportedWorkload", "apps/v1 StatefulSet; supported: apps/v1 Deployment"),
        (&|t| *t = json!("text"), "UnsupportedWorkload", "nothing nothing"),
        (&|t| t["spec"] = json!("text"), "MalformedTemplate", "spec.workload.template.spec is not an object"),
        (&|t| t["spec"]["template"]["spec"]["containers"] = json!([]), "MalformedTemplate", "containers is missing or empty"),
        (&|t| t["spec"]["template"]["spec"]["containers"] = json!(["x"]), "MalformedTemplate", "containers[] is not an object"),
        (&|t| t["metadata"]["labels"] = json!([]), "MalformedTemplate", "metadata.labels is not an object"),
    ];
    for (change, category, words) in table {
        let error = with(change);
        assert_eq!(error.category(), category);
        assert!(error.to_string().contains(words) && error.is_permanent(), "{error}");
    }
}

#[tokio::test]
async fn creating_is_tried_first_and_strictly_and_then_nothing_is_written_again() {
    let (client, world) = cluster();
    let done = Workloads::new(client.clone()).ensure(&owner(), &children(), None).await.unwrap();
    assert_eq!(done.created, ["Deployment digits-1a2b3c4d", "Service digits-1a2b3c4d"]);
    let strict = "fieldManager=espalier&fieldValidation=Strict";
    let wanted = [
        format!("POST {DEPLOYMENTS}?{strict}&dryRun=All"),
        format!("POST {DEPLOYMENTS}?{strict}"),
        format!("POST {SERVICES}?{strict}&dryRun=All"),
        format!("POST {SERVICES}?{strict}"),
    ];
    assert_eq!(world.lock().unwrap().writes(), wanted);
    world.lock().unwrap().log.clear();
    assert_eq!(Workloads::new(client).ensure(&owner(), &children(), Some(2)).await.unwrap(), Ensured::default());
    assert!(world.lock().unwrap().writes().is_empty());
}

#[tokio::test]
async fn a_template_that_the_server_refuses_leaves_nothing_behind() {
    let (client, world) = cluster();
    let words = "strict decoding error: unknown field \"spec.template.spec.containers[0].unheardOf\"";
    world.lock().unwrap().refuse.insert(DEPLOYMENTS.into(), (400, words));
    let error = Workloads::new(client).ensure(&owner(), &children(), None).await.unwrap_err();
    assert_eq!(error.category(), "WorkloadRefused");
    assert!(error.is_permanent() && error.to_string().contains("unheardOf"), "{error}");
    assert!(world.lock().unwrap().objects.is_empty());
}

#[tokio::test]
async fn objects_of_others_are_never_written_and_named_with_their_owner() {
    let labels = json!({"espalier.dev/rollout": "digits", "espalier.dev/revision": "1a2b3c4d"});
    let helm = json!({"name": "digits-1a2b3c4d", "uid": "u", "managedFields": [{"manager": "helm"}]});
    let other = json!([{"kind": "Deployment", "name": "boss", "uid": "b", "controller": true}]);
    let controlled = json!({"name": "digits-1a2b3c4d", "uid": "u", "labels": labels, "ownerReferences": other});
    let twin = json!([{"kind": "ModelRollout", "name": "other", "uid": "b", "controller": true}]);
    let twin = json!({"name": "digits-1a2b3c4d", "uid": "u", "labels": labels, "ownerReferences": twin});
    for (metadata, who) in [(helm, "helm"), (controlled, "Deployment boss"), (twin, "ModelRollout other")] {
        for path in [DEPLOYMENTS, SERVICES] {
            let (client, world) = cluster();
            let object = json!({"metadata": metadata, "spec": {}});
            world.lock().unwrap().objects.insert(format!("{path}/digits-1a2b3c4d"), object.clone());
            let workloads = Workloads::new(client);
            let error = workloads.ensure(&owner(), &children(), Some(3)).await.unwrap_err();
            assert_eq!(error.category(), "ForeignObject");
            assert!(error.to_string().contains(who), "{error}");
            assert!(workloads.delete(&owner(), Kind::Deployment, &revision()).await.is_err());
            if path == DEPLOYMENTS {
                assert!(workloads.scale(&owner(), Kind::Deployment, &revision(), 0).await.is_err());
            }
            assert_eq!(world.lock().unwrap().objects[&format!("{path}/digits-1a2b3c4d")], object);
        }
    }
}

#[tokio::test]
async fn orphans_of_an_earlier_rollout_of_this_name_are_adopted() {
    let (client, world) = cluster();
    let workloads = Workloads::new(client);
    let earlier = Owner { uid: "earlier".into(), ..owner() };
    workloads.ensure(&earlier, &build(&earlier, &revision(), &template(), 8080, None).unwrap(), None).await.unwrap();
    let done = workloads.ensure(&owner(), &children(), None).await.unwrap();
    assert_eq!(done.adopted, ["Deployment digits-1a2b3c4d", "Service digits-1a2b3c4d"]);
    for object in world.lock().unwrap().objects.values() {
        assert_eq!(object["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "owner-uid");
    }
}

#[tokio::test]
async fn a_deleted_service_comes_back_and_a_bent_one_is_put_right() {
    let (client, world) = cluster();
    let workloads = Workloads::new(client);
    workloads.ensure(&owner(), &children(), None).await.unwrap();
    let key = format!("{SERVICES}/digits-1a2b3c4d");
    world.lock().unwrap().objects.remove(&key);
    assert_eq!(workloads.ensure(&owner(), &children(), None).await.unwrap().created, ["Service digits-1a2b3c4d"]);
    {
        let mut world = world.lock().unwrap();
        let service = world.objects.get_mut(&key).unwrap();
        service["spec"]["selector"] = json!({"espalier.dev/rollout": "digits", "extra": "x"});
        service["spec"]["clusterIP"] = json!("10.0.0.1");
        service["spec"]["ports"][0]["nodePort"] = json!(30_000);
    }
    let done = workloads.ensure_service(&owner(), &revision(), &children().service).await.unwrap();
    assert_eq!(done.repaired, ["Service digits-1a2b3c4d"]);
    let live = world.lock().unwrap().objects[&key].clone();
    assert_eq!(live["spec"]["selector"], children().service["spec"]["selector"]);
    assert_eq!(live["spec"]["clusterIP"], "10.0.0.1");
    assert_eq!(workloads.ensure_service(&owner(), &revision(), &children().service).await.unwrap(), Ensured::default());
}

#[tokio::test]
async fn an_edit_of_the_pods_by_someone_else_is_told() {
    let (client, world) = cluster();
    let workloads = Workloads::new(client);
    workloads.ensure(&owner(), &children(), None).await.unwrap();
    let entry = |manager: &str, fields: Value| json!({"manager": manager, "fieldsV1": fields});
    let key = format!("{DEPLOYMENTS}/digits-1a2b3c4d");
    world.lock().unwrap().objects.get_mut(&key).unwrap()["metadata"]["managedFields"] = json!([
        entry("espalier", json!({"f:spec": {"f:template": {}}})),
        entry("kube-controller-manager", json!({"f:status": {}})),
        entry("kubectl-edit", json!({"f:spec": {"f:template": {"f:spec": {}}}})),
    ]);
    let done = workloads.ensure(&owner(), &children(), None).await.unwrap();
    assert_eq!(done.edited, ["Deployment digits-1a2b3c4d: its pod template was changed by kubectl-edit"]);
}

#[tokio::test]
async fn pods_that_an_autoscaler_added_are_not_taken_away() {
    let (client, world) = cluster();
    let workloads = Workloads::new(client);
    workloads.ensure(&owner(), &children(), None).await.unwrap();
    let key = format!("{DEPLOYMENTS}/digits-1a2b3c4d");
    for (live, wanted) in [(9, 9), (0, 3), (2, 3)] {
        world.lock().unwrap().objects.get_mut(&key).unwrap()["spec"]["replicas"] = json!(live);
        workloads.ensure(&owner(), &children(), Some(3)).await.unwrap();
        assert_eq!(world.lock().unwrap().objects[&key]["spec"]["replicas"], json!(wanted));
    }
}

#[tokio::test]
async fn scaling_changes_the_number_of_pods_and_nothing_else() {
    let (client, world) = cluster();
    let workloads = Workloads::new(client);
    assert!(!workloads.scale(&owner(), Kind::Deployment, &revision(), 0).await.unwrap(), "nothing there, nothing to scale");
    workloads.ensure(&owner(), &children(), None).await.unwrap();
    let key = format!("{DEPLOYMENTS}/digits-1a2b3c4d");
    let mut before = world.lock().unwrap().objects[&key].clone();
    assert!(workloads.scale(&owner(), Kind::Deployment, &revision(), 0).await.unwrap());
    assert!(!workloads.scale(&owner(), Kind::Deployment, &revision(), 0).await.unwrap());
    before["spec"]["replicas"] = json!(0);
    assert_eq!(world.lock().unwrap().objects[&key], before);
    workloads.delete(&owner(), Kind::Deployment, &revision()).await.unwrap();
    workloads.delete(&owner(), Kind::Deployment, &revision()).await.unwrap();
    assert!(world.lock().unwrap().objects.is_empty());
}

#[tokio::test]
async fn an_object_that_took_the_name_meanwhile_is_a_conflict_and_not_a_bad_template() {
    let (client, world) = cluster();
    let object = json!({"metadata": {"name": "x", "uid": "new"}});
    world.lock().unwrap().objects.insert(format!("{SERVICES}/x"), object.clone());
    let services = calls::Collection::new("v1", "services", "ml", "Service");
    let change = json!({"spec": {"selector": {}}});
    let error = calls::Calls::new(client).patch(&services, "x", "old", change).await.unwrap_err();
    assert_eq!(error.category(), "Conflict");
    assert!(!error.is_permanent());
    assert_eq!(world.lock().unwrap().objects[&format!("{SERVICES}/x")], object);
}

#[tokio::test]
async fn records_are_written_as_the_api_server_would_write_them() {
    let (client, world) = cluster();
    let records = Records::new(client);
    let content = json!({"model": {"uri": "oci://a?x=<1>&y"}, "workload": {"template": {"ratio": 1.0, "half": 0.5, "b": 1e3}, "port": 80}});
    records.ensure(&owner(), &revision(), &content, &[]).await.unwrap();
    let body = world.lock().unwrap().bodies.last().unwrap().clone();
    let data =
        r#""data":{"model":{"uri":"oci://a?x=\u003c1\u003e\u0026y"},"workload":{"port":80,"template":{"b":1000,"half":0.5,"ratio":1}}}"#;
    assert!(body.contains(data), "{body}");
    let known = records.list(&owner()).await.unwrap();
    assert_eq!((known[0].number, &known[0].revision), (1, &revision()));
    let (model, workload) = known[0].parts().unwrap();
    assert_eq!((model.uri.as_str(), workload.port), ("oci://a?x=<1>&y", Some(80)));

    world.lock().unwrap().log.clear();
    records.ensure(&owner(), &revision(), &content, &known).await.unwrap();
    assert!(world.lock().unwrap().writes().is_empty());
    let error = records.ensure(&owner(), &revision(), &json!({"model": {"uri": "b"}}), &known).await.unwrap_err();
    assert_eq!(error.category(), "RevisionCollision");
}

#[tokio::test]
async fn records_are_numbered_adopted_and_pruned_but_never_those_in_use() {
    let (client, world) = cluster();
    let records = Records::new(client);
    let earlier = Owner { uid: "earlier".into(), ..owner() };
    for n in 0..14 {
        let known = records.list(&owner()).await.unwrap();
        let id = RevisionId::new(format!("r{n:02}"));
        let by = if n == 0 { earlier.clone() } else { owner() };
        records.ensure(&by, &id, &json!({"n": n}), &known).await.unwrap();
    }
    let known = records.list(&owner()).await.unwrap();
    assert_eq!(known.iter().map(|record| record.number).collect::<Vec<_>>(), (1..=14).collect::<Vec<_>>());
    records.ensure(&owner(), &RevisionId::new("r00"), &json!({"n": 0}), &known).await.unwrap();
    let known = records.list(&owner()).await.unwrap();
    let in_use = BTreeSet::from([RevisionId::new("r00"), RevisionId::new("r02")]);
    let gone = records.prune(&owner(), &known, &in_use).await.unwrap();
    assert_eq!(gone, [RevisionId::new("r01"), RevisionId::new("r03")]);
    assert_eq!(world.lock().unwrap().objects.keys().filter(|key| key.starts_with(RECORDS)).count(), 12);
}
