//! The few calls that workloads need, on plain JSON, each with a timeout and an error that names call and object.
//! Uses no server-side apply: with an unknown field in a template it answers 500, which looks like a fault of the server.

use std::time::Duration;

use http::{Method, Request};
use kube::{Client, Error};
use serde_json::{Value, json};

use super::FIELD_MANAGER;
use super::error::WorkloadError;

/// Longest wait for one call.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A collection of objects in one namespace.
#[derive(Clone, Debug)]
pub(super) struct Collection {
    /// Path of the collection, such as `/api/v1/namespaces/ml/services`.
    pub path: String,
    /// Kind, for messages.
    pub kind: &'static str,
}

impl Collection {
    /// The collection `plural` of `api_version` in `namespace`.
    pub fn new(api_version: &str, plural: &str, namespace: &str, kind: &'static str) -> Self {
        let root = if api_version.contains('/') { "apis" } else { "api" };
        Self { path: format!("/{root}/{api_version}/namespaces/{namespace}/{plural}"), kind }
    }

    fn object(&self, name: &str) -> String {
        format!("{} {name}", self.kind)
    }
}

/// Whether a create is only tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Create {
    /// Everything is checked and nothing is kept.
    DryRun,
    /// The object is made.
    Really,
}

/// What a create led to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Created {
    /// The object as it now is.
    New(Value),
    /// There is one of that name.
    AlreadyExists,
}

/// Calls through one client.
#[derive(Clone)]
pub(super) struct Calls {
    client: Client,
}

impl Calls {
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// The object as it is now; `None` when there is none.
    pub async fn get(&self, all: &Collection, name: &str) -> Result<Option<Value>, WorkloadError> {
        match self.send(Method::GET, &format!("{}/{name}", all.path), None, Vec::new()).await {
            Some(Ok(found)) => Ok(Some(found)),
            Some(Err(Error::Api(status))) if status.code == 404 => Ok(None),
            outcome => finish(outcome, "get", &all.object(name)).map(Some),
        }
    }

    /// Every object with these labels.
    pub async fn list(&self, all: &Collection, labels: &str) -> Result<Vec<Value>, WorkloadError> {
        let query = encode(&[("labelSelector", labels)]);
        let list = finish(self.send(Method::GET, &format!("{}?{query}", all.path), None, Vec::new()).await, "list", &all.object(labels))?;
        match list {
            Value::Object(mut fields) => match fields.remove("items") {
                Some(Value::Array(items)) => Ok(items),
                _ => Ok(Vec::new()),
            },
            _ => Ok(Vec::new()),
        }
    }

    /// Creates the object whose JSON text is `body`; unknown and repeated fields are refused.
    pub async fn create(&self, all: &Collection, name: &str, body: Vec<u8>, how: Create) -> Result<Created, WorkloadError> {
        let mut query = vec![("fieldManager", FIELD_MANAGER), ("fieldValidation", "Strict")];
        if how == Create::DryRun {
            query.push(("dryRun", "All"));
        }
        let path = format!("{}?{}", all.path, encode(&query));
        match self.send(Method::POST, &path, Some("application/json"), body).await {
            Some(Err(Error::Api(status))) if status.code == 409 && status.reason == "AlreadyExists" => Ok(Created::AlreadyExists),
            outcome => finish(outcome, "create", &all.object(name)).map(Created::New),
        }
    }

    /// Changes some fields of the object with this `uid`: another one of the same name is not touched.
    pub async fn patch(&self, all: &Collection, name: &str, uid: &str, mut change: Value) -> Result<Value, WorkloadError> {
        // A merge patch that names the uid conflicts with every other object of this name.
        if let Some(fields) = change.as_object_mut() {
            let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.insert("uid".to_owned(), json!(uid));
            }
        }
        let path = format!("{}/{name}?{}", all.path, encode(&[("fieldManager", FIELD_MANAGER)]));
        let body = change.to_string().into_bytes();
        match self.send(Method::PATCH, &path, Some("application/merge-patch+json"), body).await {
            // Another object has taken the name: the server calls that an invalid change of the uid, or a failed precondition (409).
            Some(Err(Error::Api(status))) if status.code == 422 && status.message.contains("metadata.uid") => {
                Err(WorkloadError::Conflict { call: "patch", object: all.object(name), message: status.message.clone() })
            }
            outcome => finish(outcome, "patch", &all.object(name)),
        }
    }

    /// Deletes the object with this `uid`, its dependents afterwards. That it is gone already is success.
    pub async fn delete(&self, all: &Collection, name: &str, uid: &str) -> Result<(), WorkloadError> {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background", "preconditions": {"uid": uid},
        });
        let path = format!("{}/{name}", all.path);
        match self.send(Method::DELETE, &path, Some("application/json"), options.to_string().into_bytes()).await {
            Some(Err(Error::Api(status))) if status.code == 404 => Ok(()),
            outcome => finish(outcome, "delete", &all.object(name)).map(drop),
        }
    }

    /// `None` when there was no answer in time.
    async fn send(&self, method: Method, path: &str, content: Option<&str>, body: Vec<u8>) -> Option<Result<Value, Error>> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(content) = content {
            request = request.header(http::header::CONTENT_TYPE, content);
        }
        let request = match request.body(body) {
            Ok(request) => request,
            Err(error) => return Some(Err(Error::HttpError(error))),
        };
        tokio::time::timeout(TIMEOUT, self.client.request::<Value>(request)).await.ok()
    }
}

fn finish(outcome: Option<Result<Value, Error>>, call: &'static str, object: &str) -> Result<Value, WorkloadError> {
    match outcome {
        None => Err(WorkloadError::Timeout { call, object: object.to_owned(), seconds: TIMEOUT.as_secs() }),
        Some(outcome) => outcome.map_err(|error| WorkloadError::of_call(call, object, &error)),
    }
}

/// A query string; the URL type's own encoder keeps us from writing one.
fn encode(pairs: &[(&str, &str)]) -> String {
    reqwest::Url::parse_with_params("http://query", pairs).ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
}
