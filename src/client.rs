//! The connection to the API server: no hidden retries, a limit on every call, and a fence that lets only the leader write.
//! Knows no object; what is read and written is the callers'.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::config::KubeConfigOptions;
use kube::core::Status;
use kube::{Client, Config, Error};
use thiserror::Error;
use tower::{BoxError, Layer, Service};

use crate::leader::Leadership;
use crate::metrics::Metrics;

/// Field manager of everything the operator writes.
pub const FIELD_MANAGER: &str = rollout_core::route::MANAGER;
/// Longest wait for one call that is not a watch. A write that began while we led ends before another may lead.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait until an answer begins, those of lists and watches included, which have no limit of their own: without one a list that is never
/// answered would leave a store empty for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a call to the API server did not succeed.
#[derive(Debug, Error)]
pub enum CallError {
    /// No answer in time; a write may have landed all the same.
    #[error("no answer from the API server within {0:?}; a write may have landed all the same")]
    Timeout(Duration),
    /// Not sent, since this process does not hold the lease.
    #[error("{0}")]
    NotLeader(NotLeader),
    /// The API server refused.
    #[error("the API server answered {} {}: {}", .0.code, .0.reason, .0.message)]
    Refused(Box<Status>),
    /// No connection, or an answer that cannot be read.
    #[error("{0}")]
    Unreachable(#[source] Box<Error>),
}

impl CallError {
    /// A fixed word for metrics and events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "Timeout",
            Self::NotLeader(_) => "NotLeader",
            Self::Unreachable(_) => "Unreachable",
            Self::Refused(status) => match (status.code, status.reason.as_str()) {
                (409, "AlreadyExists") => "AlreadyExists",
                _ => outcome_of(status.code),
            },
        }
    }

    /// Whether somebody else wrote in between, so that reading again is all it takes.
    pub fn is_conflict(&self) -> bool {
        self.category() == "Conflict"
    }

    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.category() == "NotFound"
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(status) => Self::Refused(status),
            Error::Service(inner) => match inner.downcast::<NotLeader>() {
                Ok(fenced) => Self::NotLeader(*fenced),
                Err(inner) => Self::Unreachable(Box::new(Error::Service(inner))),
            },
            other => Self::Unreachable(Box::new(other)),
        }
    }
}

const fn outcome_of(code: u16) -> &'static str {
    match code {
        200..=299 => "ok",
        400 | 422 => "Invalid",
        401 | 403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Gone",
        429 => "Throttled",
        _ => "Unavailable",
    }
}

/// The result of a call, or a timeout after `limit`.
pub async fn timed<T>(limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, CallError> {
    tokio::time::timeout(limit, call).await.map_err(|_| CallError::Timeout(limit))?.map_err(CallError::from)
}

/// A client for reading, and for the lease: it may write whether we lead or not.
pub async fn connect() -> Result<Client, Error> {
    let config = settings(Config::infer().await.map_err(Error::InferConfig)?);
    Client::try_from(config)
}

/// A client for a person at a terminal, under a context of the kubeconfig or its current one.
pub async fn connect_under(context: Option<String>) -> Result<Client, Error> {
    let config = match context {
        None => Config::infer().await.map_err(Error::InferConfig)?,
        Some(_) => Config::from_kubeconfig(&KubeConfigOptions { context, ..KubeConfigOptions::default() }).await?,
    };
    Client::try_from(settings(config))
}

/// A client whose writes go out only while we lead, and are counted.
pub async fn connect_fenced(fence: FenceLayer) -> Result<Client, Error> {
    let config = settings(Config::infer().await.map_err(Error::InferConfig)?);
    Ok(ClientBuilder::try_from(config)?.with_layer(&fence).build())
}

fn settings(mut config: Config) -> Config {
    // The client's own retry can hold one call for minutes, and a rollback must not wait behind it.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Watches have long silences; every other call has its own limit.
    config.read_timeout = None;
    // Debug builds and `kubectl get events` alike tell who asked. HTTP/2 stays off: it was no faster here, and one connection for all calls
    // lets a slow answer hold up a rollback.
    config.headers.push((USER_AGENT, HeaderValue::from_static(concat!("espalier/", env!("CARGO_PKG_VERSION")))));
    config
}

/// Why a write was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this process may not write: it does not hold the lease")]
pub struct NotLeader;

/// Puts a [`Fence`] around a service.
#[derive(Clone)]
pub struct FenceLayer {
    /// Whether we lead.
    pub leadership: Leadership,
    /// Where writes are counted.
    pub metrics: Arc<Metrics>,
}

impl<S> Layer<S> for FenceLayer {
    type Service = Fence<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Fence { inner, leadership: self.leadership.clone(), metrics: Arc::clone(&self.metrics) }
    }
}

/// Refuses writes when we do not lead at the moment they would go out, whichever module they come from and however long they waited.
#[derive(Clone)]
pub struct Fence<S> {
    inner: S,
    leadership: Leadership,
    metrics: Arc<Metrics>,
}

impl<S, B> Service<Request<Body>> for Fence<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some((object, verb)) = write_of(&request) else {
            let answer = self.inner.call(request);
            let late = |_| -> BoxError { format!("no answer from the API server within {ANSWER_TIMEOUT:?}").into() };
            return Box::pin(async move { tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(late)?.map_err(Into::into) });
        };
        let mut count = Count { metrics: Arc::clone(&self.metrics), object, verb, outcome: "Timeout" };
        if !self.leadership.may_write() {
            count.outcome = "NotLeader";
            return Box::pin(async { Err(NotLeader.into()) });
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            // The whole guard moves in, not a copy of one field: it counts when the call ends or is given up.
            let mut count = count;
            let answer = answer.await.map_err(Into::into);
            count.outcome = answer.as_ref().map_or("Unreachable", |response| outcome_of(response.status().as_u16()));
            answer
        })
    }
}

/// Counts one write when it ends, also when its caller gave up on it.
struct Count {
    metrics: Arc<Metrics>,
    object: String,
    verb: &'static str,
    outcome: &'static str,
}

impl Drop for Count {
    fn drop(&mut self) {
        self.metrics.wrote(&self.object, self.verb, self.outcome);
    }
}

/// Resource, with subresource, and verb of a request that changes something; `None` for reads, dry runs and questions to the API server.
fn write_of(request: &Request<Body>) -> Option<(String, &'static str)> {
    let verb = match *request.method() {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => return None,
    };
    if request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "dryRun=All")) {
        return None;
    }
    let path: Vec<&str> = request.uri().path().split('/').filter(|part| !part.is_empty()).collect();
    let (["api", _, in_group @ ..] | ["apis", _, _, in_group @ ..]) = path.as_slice() else { return None };
    let object = match in_group {
        ["namespaces", _, resource, _, sub, ..] => format!("{resource}/{sub}"),
        ["namespaces", _, resource, ..] => (*resource).to_owned(),
        [resource, _, sub, ..] => format!("{resource}/{sub}"),
        [resource, ..] => (*resource).to_owned(),
        [] => return None,
    };
    (!object.ends_with("reviews")).then_some((object, verb))
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::PostParams;
    use tower::service_fn;

    use super::*;

    fn fenced(leadership: Leadership, metrics: &Arc<Metrics>, code: u16) -> Api<ConfigMap> {
        let server = service_fn(move |_: Request<Body>| async move {
            let body = serde_json::json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": "Conflict", "metadata": {}});
            let body = if code == 200 { serde_json::json!({"metadata": {"name": "x"}}) } else { body };
            Ok::<_, BoxError>(Response::builder().status(code).body(Full::from(body.to_string().into_bytes()))?)
        });
        let layer = FenceLayer { leadership, metrics: Arc::clone(metrics) };
        Api::namespaced(Client::new(layer.layer(server), "ns"), "ns")
    }

    async fn create(api: &Api<ConfigMap>) -> Result<ConfigMap, CallError> {
        timed(CALL_TIMEOUT, api.create(&PostParams::default(), &ConfigMap::default())).await
    }

    #[tokio::test]
    async fn writes_pass_while_we_lead_and_are_counted() {
        let metrics = Arc::new(Metrics::new());
        assert!(create(&fenced(Leadership::always(), &metrics, 200)).await.is_ok());
        assert_eq!(create(&fenced(Leadership::always(), &metrics, 409)).await.unwrap_err().category(), "Conflict");
        let text = metrics.encode();
        assert!(text.contains(r#"espalier_api_writes_total{object="configmaps",verb="create",outcome="ok"} 1"#), "{text}");
        assert!(text.contains(r#"espalier_api_writes_total{object="configmaps",verb="create",outcome="Conflict"} 1"#), "{text}");
    }

    #[tokio::test]
    async fn without_the_lease_nothing_is_written_and_reading_goes_on() {
        let metrics = Arc::new(Metrics::new());
        let api = fenced(Leadership::never(), &metrics, 200);
        assert!(matches!(create(&api).await.unwrap_err(), CallError::NotLeader(_)));
        assert!(timed(CALL_TIMEOUT, api.get("x")).await.is_ok());
        assert!(metrics.encode().contains(r#"outcome="NotLeader"} 1"#));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_answers_ends_and_is_counted_as_a_timeout() {
        let metrics = Arc::new(Metrics::new());
        let server = service_fn(|_: Request<Body>| std::future::pending::<Result<Response<String>, BoxError>>());
        let layer = FenceLayer { leadership: Leadership::always(), metrics: Arc::clone(&metrics) };
        let api: Api<ConfigMap> = Api::namespaced(Client::new(layer.layer(server), "ns"), "ns");
        assert!(matches!(create(&api).await.unwrap_err(), CallError::Timeout(_)));
        assert!(metrics.encode().contains(r#"outcome="Timeout"} 1"#));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_never_answered_ends_although_its_caller_sets_no_limit() {
        let server = service_fn(|_: Request<Body>| std::future::pending::<Result<Response<String>, BoxError>>());
        let layer = FenceLayer { leadership: Leadership::never(), metrics: Arc::new(Metrics::new()) };
        let api: Api<ConfigMap> = Api::namespaced(Client::new(layer.layer(server), "ns"), "ns");
        let ended = tokio::time::timeout(ANSWER_TIMEOUT * 2, api.list(&kube::api::ListParams::default())).await.unwrap();
        assert!(ended.unwrap_err().to_string().contains("no answer from the API server within 30s"));
    }

    #[test]
    fn objects_are_named_by_resource_and_subresource() {
        let check = |method: Method, path: &str, expected: Option<(&str, &str)>| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            assert_eq!(
                write_of(&request),
                expected.map(|(object, verb)| (object.to_owned(), verb)).as_ref().map(|(o, v)| (o.clone(), *v)),
                "{path}"
            );
        };
        check(Method::PUT, "/apis/gateway.networking.k8s.io/v1/namespaces/a/httproutes/b?x=y", Some(("httproutes", "update")));
        check(Method::PUT, "/apis/espalier.dev/v1alpha1/namespaces/a/modelrollouts/b/status", Some(("modelrollouts/status", "update")));
        check(Method::POST, "/api/v1/namespaces/a/services", Some(("services", "create")));
        check(Method::POST, "/api/v1/namespaces/a/services?dryRun=All", None);
        check(Method::GET, "/api/v1/namespaces/a/services", None);
        check(Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", None);
    }
}
