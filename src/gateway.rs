//! `HTTPRoute`s on the API server: read, create, replace with a precondition, delete. Plain JSON in and out, so no unknown field is lost.
//! Does not know what a route should say, and never writes one from memory alone: a replace names the version it was made from.

use kube::api::{ApiResource, DeleteParams, DynamicObject, GetParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::{GroupVersionKind, Request};
use kube::{Api, Client, Error};
use serde_json::Value;
use thiserror::Error;

use crate::client::{CALL_TIMEOUT, CallError, FIELD_MANAGER, timed};

const COLLECTION: &str = "/apis/gateway.networking.k8s.io/v1/namespaces";

/// Why a route could not be read or written.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// Somebody else wrote it in between: read it again.
    #[error("HTTPRoute {name} was changed in between")]
    Conflict {
        /// Name of the route.
        name: String,
    },
    /// It is gone.
    #[error("HTTPRoute {name} does not exist")]
    NotFound {
        /// Name of the route.
        name: String,
    },
    /// There is one of that name already.
    #[error("an HTTPRoute named {name} exists already")]
    AlreadyExists {
        /// Name of the route.
        name: String,
    },
    /// The object to write lacks its name, its namespace or the version that it was made from.
    #[error("an HTTPRoute is not written without metadata.{field}")]
    Incomplete {
        /// What is missing.
        field: &'static str,
    },
    /// Anything else.
    #[error("HTTPRoute {name}: {source}")]
    Call {
        /// Name of the route.
        name: String,
        /// What happened.
        source: CallError,
    },
}

impl GatewayError {
    /// A fixed word for metrics and events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "Conflict",
            Self::NotFound { .. } => "NotFound",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Incomplete { .. } => "Incomplete",
            Self::Call { source, .. } => source.category(),
        }
    }

    fn of(name: &str, source: CallError) -> Self {
        let name = name.to_owned();
        match source.category() {
            "Conflict" => Self::Conflict { name },
            "NotFound" => Self::NotFound { name },
            "AlreadyExists" => Self::AlreadyExists { name },
            _ => Self::Call { name, source },
        }
    }
}

/// The resource, as the Gateway API has it since 1.0.
pub fn resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"), "httproutes")
}

/// Routes of one namespace or of all, for watches.
pub fn api(client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource()),
        None => Api::all_with(client.clone(), &resource()),
    }
}

/// What need not stay in memory: managed fields, which are most of a route, and what gateways say of it. Writes from such a copy are safe,
/// since [`replace`] leaves the former to the API server, and the latter is written elsewhere.
pub fn trim(route: &mut DynamicObject) {
    route.metadata.managed_fields = None;
    if let Some(data) = route.data.as_object_mut() {
        data.remove("status");
    }
}

/// The route as it is now, whole; `None` when there is none.
pub async fn get(client: &Client, namespace: &str, name: &str) -> Result<Option<Value>, GatewayError> {
    let request = collection(namespace).get(name, &GetParams::default());
    match call(client, name, request).await {
        Ok(found) => Ok(Some(found)),
        Err(GatewayError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates the route. The caller has set its owner, so that it goes with the rollout.
pub async fn create(client: &Client, route: &Value) -> Result<Value, GatewayError> {
    let (namespace, name) = (field(route, "namespace")?, field(route, "name")?);
    call(client, name, collection(namespace).create(&params(), route.to_string().into_bytes())).await
}

/// Writes the whole route, if it is still the version in `metadata.resourceVersion`; else it is a [`GatewayError::Conflict`].
pub async fn replace(client: &Client, route: &Value) -> Result<Value, GatewayError> {
    let (namespace, name) = (field(route, "namespace")?, field(route, "name")?);
    field(route, "resourceVersion")?;
    let mut body = route.clone();
    // Without them the API server keeps its own; a part of them would take fields from their owners.
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    call(client, name, collection(namespace).replace(name, &params(), body.to_string().into_bytes())).await
}

/// Deletes the route with this `uid`; that it is gone, or another of that name, is success.
pub async fn delete(client: &Client, namespace: &str, name: &str, uid: &str) -> Result<(), GatewayError> {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params = DeleteParams {
        preconditions: Some(preconditions),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    match call(client, name, collection(namespace).delete(name, &params)).await {
        Ok(_) | Err(GatewayError::NotFound { .. } | GatewayError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn collection(namespace: &str) -> Request {
    Request::new(format!("{COLLECTION}/{namespace}/httproutes"))
}

fn params() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) }
}

fn field<'a>(route: &'a Value, field: &'static str) -> Result<&'a str, GatewayError> {
    let found = route.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
    found.filter(|text| !text.is_empty()).ok_or(GatewayError::Incomplete { field })
}

async fn call(
    client: &Client,
    name: &str,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Value, GatewayError> {
    let sent = async { client.request::<Value>(request.map_err(Error::BuildRequest)?).await };
    timed(CALL_TIMEOUT, sent).await.map_err(|source| GatewayError::of(name, source))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use serde_json::json;
    use tower::{BoxError, service_fn};

    use super::*;

    /// One route on a server that checks preconditions as the API server does.
    fn server(stored: Option<Value>) -> (Client, Arc<Mutex<Option<Value>>>) {
        let stored = Arc::new(Mutex::new(stored));
        let shared = Arc::clone(&stored);
        let service = service_fn(move |request: http::Request<Body>| {
            let shared = Arc::clone(&shared);
            async move {
                let (parts, body) = request.into_parts();
                let body: Value = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap_or_default();
                let mut stored = shared.lock().unwrap();
                let refuse = |code: u16, reason: &str| {
                    (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "metadata": {}}))
                };
                let (code, answer) = match (&parts.method, stored.as_ref()) {
                    (&Method::POST, Some(_)) => refuse(409, "AlreadyExists"),
                    (&Method::POST, None) => (201, body),
                    (_, None) => refuse(404, "NotFound"),
                    (&Method::PUT, Some(live)) if live["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] => {
                        refuse(409, "Conflict")
                    }
                    (&Method::PUT, _) => (200, body),
                    (_, Some(live)) => (200, live.clone()),
                };
                if code < 300 && parts.method != Method::GET {
                    *stored = Some(answer.clone());
                }
                Ok::<_, BoxError>(Response::builder().status(code).body(answer.to_string())?)
            }
        });
        (Client::new(service, "ns"), stored)
    }

    fn route(version: &str) -> Value {
        json!({"metadata": {"name": "d", "namespace": "ns", "resourceVersion": version, "managedFields": [{"manager": "a"}], "future": 1}, "spec": {"zz": [1.5]}})
    }

    #[tokio::test]
    async fn a_write_from_an_old_copy_is_a_conflict_and_changes_nothing() {
        let (client, stored) = server(Some(route("2")));
        let error = replace(&client, &route("1")).await.unwrap_err();
        assert!(matches!(error, GatewayError::Conflict { .. }), "{error}");
        assert_eq!(*stored.lock().unwrap(), Some(route("2")));
    }

    #[tokio::test]
    async fn a_replace_keeps_every_field_but_leaves_ownership_to_the_server() {
        let (client, stored) = server(Some(route("2")));
        replace(&client, &route("2")).await.unwrap();
        let mut expected = route("2");
        expected["metadata"].as_object_mut().unwrap().remove("managedFields");
        assert_eq!(*stored.lock().unwrap(), Some(expected));
    }

    #[tokio::test]
    async fn a_write_without_a_version_is_not_sent() {
        let (client, _) = server(Some(route("2")));
        let unguarded = json!({"metadata": {"name": "d", "namespace": "ns"}});
        assert!(matches!(replace(&client, &unguarded).await, Err(GatewayError::Incomplete { field: "resourceVersion" })));
    }

    #[tokio::test]
    async fn absent_is_none_and_present_is_not_created_twice() {
        let (client, _) = server(None);
        assert_eq!(get(&client, "ns", "d").await.unwrap(), None);
        assert!(matches!(replace(&client, &route("1")).await, Err(GatewayError::NotFound { .. })));
        assert!(delete(&client, "ns", "d", "u").await.is_ok());
        create(&client, &route("1")).await.unwrap();
        assert!(matches!(create(&client, &route("1")).await, Err(GatewayError::AlreadyExists { .. })));
        assert_eq!(get(&client, "ns", "d").await.unwrap(), Some(route("1")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_does_not_hold_up_a_rollback() {
        let client = Client::new(service_fn(|_: http::Request<Body>| std::future::pending::<Result<Response<String>, BoxError>>()), "ns");
        assert_eq!(replace(&client, &route("1")).await.unwrap_err().category(), "Timeout");
    }
}
