//! An API server for tests of commands: one rollout that changes with every read, and what was written to it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::cluster::{Rollouts, Target};
use crate::api::ModelRollout;

/// A rollout of generation 1 called `digits` with this status.
pub fn rollout(status: &Value) -> ModelRollout {
    let metadata = json!({"namespace": "ml", "name": "digits", "uid": "u", "resourceVersion": "1", "generation": 1});
    let spec = json!({
        "model": {"uri": "oci://registry.example/int8@sha256:41ab"}, "workload": {"backendRef": {"name": "digits-v2", "port": 80}},
        "policyRef": {"name": "digits"}, "route": {"template": {"parentRefs": [{"name": "gw"}], "rules": [{}]}},
        "stages": [{"name": "canary", "type": "Canary", "steps": ["1%", "5%", "25%"]}],
    });
    serde_json::from_value(json!({
        "apiVersion": "espalier.dev/v1alpha1", "kind": "ModelRollout", "metadata": metadata, "spec": spec, "status": status,
    }))
    .unwrap()
}

/// What the server was asked to write: query and body.
pub type Written = Arc<Mutex<Vec<(String, Value)>>>;

/// A server whose rollout is the next of `states` at every read, and the last one from then on; none is not found.
///
/// After a request was written, `lastRequest` of what is read answers it if it has the id `answer`.
pub fn server(states: Vec<ModelRollout>) -> (Rollouts, Written) {
    let written = Written::default();
    let shared = Arc::new(Mutex::new((0_usize, states, Arc::clone(&written))));
    let service = tower::service_fn(move |request: Request<Body>| {
        let shared = Arc::clone(&shared);
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            let sent: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let (code, answer) = answer(&mut shared.lock().unwrap(), &parts, sent);
            Ok::<_, Infallible>(Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
        }
    });
    let client = Client::new(service, "ml");
    (Rollouts::of(client, &Target::default()), written)
}

fn answer(
    (reads, states, written): &mut (usize, Vec<ModelRollout>, Written),
    parts: &http::request::Parts,
    sent: Value,
) -> (StatusCode, Value) {
    if parts.uri.path().ends_with("selfsubjectreviews") {
        let user = json!({"metadata": {}, "status": {"userInfo": {"username": "ann"}}});
        return (StatusCode::CREATED, user);
    }
    let index = (*reads).min(states.len().saturating_sub(1));
    let Some(state) = states.get(index) else {
        return (StatusCode::NOT_FOUND, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "", "code": 404}));
    };
    let mut state = serde_json::to_value(state).unwrap();
    if parts.method == Method::PATCH {
        written.lock().unwrap().push((parts.uri.query().unwrap_or_default().to_owned(), sent));
        return (StatusCode::OK, state);
    }
    *reads += 1;
    let asked = written.lock().unwrap().last().and_then(|(_, body)| request_of(body));
    if let Some(asked) = asked {
        state["metadata"]["annotations"] = json!({"espalier.dev/request": asked.to_string()});
        if state["status"]["lastRequest"]["id"] == "answer" {
            state["status"]["lastRequest"]["id"] = asked["id"].clone();
        }
    }
    (StatusCode::OK, state)
}

/// The request in a patch of the annotation.
pub fn request_of(patch: &Value) -> Option<Value> {
    serde_json::from_str(patch["metadata"]["annotations"]["espalier.dev/request"].as_str()?).ok()
}
