//! Speaks HTTP: sends one digit or one true label and says how it ended. It keeps connections alive and counts nothing.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;

use crate::digits::Digit;
use crate::tally::{Feedback, Seen};
use crate::users::Sender;

/// Header by which the gateway names the revision that answers.
const REVISION: &str = "x-espalier-revision";
/// Header by which a server names its own address.
const SERVED_BY: &str = "x-served-by";
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

type Body = Full<axum::body::Bytes>;

/// Addresses, headers and limits that all requests share.
pub struct Client {
    http: HyperClient<HttpConnector, Body>,
    infer_url: String,
    feedback_url: String,
    host: Option<HeaderValue>,
    user_header: HeaderName,
    timeout: Duration,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    parameters: Parameters,
    outputs: Vec<Output>,
}

#[derive(Default, Deserialize)]
struct Parameters {
    revision: Option<String>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    data: Vec<Option<f64>>,
}

impl Client {
    /// A client for one gateway and model.
    pub fn new(url: &str, host: Option<&str>, model: &str, user_header: &str, timeout: Duration) -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout));
        let http = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .build(connector);
        let base = url.trim_end_matches('/');
        let client = Self {
            http,
            infer_url: format!("{base}/v2/models/{model}/infer"),
            feedback_url: format!("{base}/feedback"),
            host: host.map(HeaderValue::from_str).transpose().context("--host")?,
            user_header: user_header.parse().context("--user-header")?,
            timeout,
        };
        let uri: http::Uri = client.infer_url.parse().context("--url")?;
        anyhow::ensure!(uri.scheme_str() == Some("http"), "--url '{url}', expected http://HOST[:PORT]");
        Ok(client)
    }

    /// Sends one digit; never fails, failures are what users see.
    pub async fn infer(&self, request_id: &str, sender: &Sender, digit: &Digit) -> Seen {
        let began = Instant::now();
        let body =
            format!(r#"{{"id":"{request_id}","inputs":[{{"name":"image","shape":[1,64],"datatype":"FP32","data":{}}}]}}"#, digit.data);
        let mut headers = self.headers(request_id);
        for (name, value) in [(&self.user_header, &sender.id), (&HeaderName::from_static("x-region"), &sender.region)] {
            if let Some(value) = value.as_deref().and_then(|v| HeaderValue::from_str(v).ok()) {
                headers.insert(name, value);
            }
        }
        let ended = tokio::time::timeout(self.timeout, self.post(&self.infer_url, headers, body)).await;
        let latency = began.elapsed();
        match ended {
            Ok(Ok((status, headers, body))) => read(status, &headers, &body, latency),
            Ok(Err(kind)) => failed(kind, latency),
            Err(_) => failed("timeout", latency),
        }
    }

    /// Sends one true label: to `server` (host:port), or through the gateway to the given revision.
    pub async fn feedback(&self, request_id: &str, label: i64, server: Option<&str>, revision: Option<&str>) -> Feedback {
        let body = format!(r#"{{"request_id":"{request_id}","label":{label}}}"#);
        let (url, mut headers) = match server {
            Some(server) => (format!("http://{server}/feedback"), json_headers()),
            None => (self.feedback_url.clone(), self.headers(request_id)),
        };
        if let (None, Some(value)) = (server, revision.and_then(|r| HeaderValue::from_str(r).ok())) {
            headers.insert(REVISION, value);
        }
        let sent = tokio::time::timeout(self.timeout, self.post(&url, headers, body)).await;
        if matches!(sent, Ok(Ok((StatusCode::OK, _, _)))) { Feedback::Joined } else { Feedback::Failed }
    }

    fn headers(&self, request_id: &str) -> HeaderMap {
        let mut headers = json_headers();
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert("x-request-id", id);
        }
        if let Some(host) = &self.host {
            headers.insert(HOST, host.clone());
        }
        headers
    }

    async fn post(&self, url: &str, headers: HeaderMap, body: String) -> Result<(StatusCode, HeaderMap, Vec<u8>), &'static str> {
        let mut request = Request::post(url).body(Body::from(body)).map_err(|_| "broken")?;
        *request.headers_mut() = headers;
        let response = self.http.request(request).await.map_err(|e| if e.is_connect() { "connect" } else { "broken" })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|_| "broken")?;
        Ok((head.status, head.headers, body.to_bytes().to_vec()))
    }
}

fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

fn failed(kind: &'static str, latency: Duration) -> Seen {
    Seen { code: kind.to_owned(), revision: None, label: None, nonfinite: false, latency, served_by: None }
}

fn read(status: StatusCode, headers: &HeaderMap, body: &[u8], latency: Duration) -> Seen {
    let header = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).map(str::to_owned);
    let mut seen = Seen {
        code: status.as_str().to_owned(),
        revision: header(REVISION),
        label: None,
        nonfinite: false,
        latency,
        served_by: header(SERVED_BY),
    };
    if status != StatusCode::OK {
        return seen;
    }
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let output = |name: &str| answer.as_ref().and_then(|a| a.outputs.iter().find(|o| o.name == name));
    // Labels are small whole numbers.
    #[allow(clippy::cast_possible_truncation)]
    let label = output("label").and_then(|o| o.data.first().copied().flatten()).map(|l| l as i64);
    seen.label = label;
    seen.nonfinite = output("probabilities").is_some_and(|o| o.data.iter().any(|p| !p.is_some_and(f64::is_finite)));
    if seen.label.is_none() {
        "unreadable".clone_into(&mut seen.code);
    }
    let named = answer.and_then(|a| a.parameters.revision).filter(|r| !r.is_empty());
    seen.revision = seen.revision.or(named);
    seen
}
