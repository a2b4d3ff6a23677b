//! One server's HTTP client: a POST per query with connect and total timeouts, no redirects, and a cap on the body while it streams.
//! Keeps no samples and does not retry; [`super::batch`] decides when to ask again.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Response, Url, redirect};
use rollout_core::evidence::{Query, Series};
use rollout_core::verdict::Unmeasurable;

use super::answer::{self, Failure, Raw};
use super::labels::Labels;
use super::server::{Auth, Server, ServerError};

/// Largest body that is read, in bytes: 16 MiB.
pub const BODY_LIMIT: usize = 16 * 1024 * 1024;
/// Longest wait for a connection; shorter than the total so that a dead address is told apart from a slow answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Idle connections kept per server: each keeps the room of the largest answer that it ever had.
const IDLE_CONNECTIONS: usize = 4;

/// What stands in for HTTP, such as a server in memory.
pub trait Exchange: Send + Sync {
    /// The answer to `form`, posted to `endpoint` of `server`; or what broke. The caller ends it after the server's timeout.
    fn post<'a>(&'a self, server: &'a Server, endpoint: &'a str, form: String) -> BoxFuture<'a, Result<Answer, String>>;
}

/// What an [`Exchange`] gives.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Content type; empty when absent.
    pub content_type: String,
    /// The whole body.
    pub body: Vec<u8>,
}

/// How requests travel.
enum Transport {
    Http(reqwest::Client),
    Instead(Arc<dyn Exchange>),
}

/// A client for one [`Server`].
pub struct Client {
    transport: Transport,
    server: Server,
    endpoint: String,
    body_limit: usize,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.server).field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for `server` that asks `exchange` and makes no connection.
    pub fn instead(server: Server, body_limit: usize, exchange: Arc<dyn Exchange>) -> Self {
        Self { transport: Transport::Instead(exchange), endpoint: endpoint(&server), server, body_limit }
    }

    /// A client for `server` that reads at most `body_limit` bytes of an answer, usually [`BODY_LIMIT`].
    ///
    /// Fails when its certificates or headers cannot be used; connects to nothing.
    pub fn new(server: Server, body_limit: usize) -> Result<Self, ServerError> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(server.timeout))
            .timeout(server.timeout)
            // A redirect would carry credentials elsewhere, and usually leads to a login page.
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .default_headers(headers(&server)?);
        if let Some(pem) = &server.ca {
            builder = builder.tls_certs_only(authorities(pem)?);
        } else if server.address.starts_with("http://") {
            // Without TLS no certificate store is needed, and a minimal image has none to load.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| ServerError::Invalid {
            field: "tls",
            found: chain(&error),
            expected: "certificate authorities that can be loaded; set tls.ca where the image has no public ones",
        })?;
        Ok(Self { transport: Transport::Http(http), endpoint: endpoint(&server), server, body_limit })
    }

    /// The server that is asked.
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// The raw samples of `query` in the `range` that ends at `at`; both are sent in whole milliseconds. Labels are shared with those of `labels`.
    pub(super) async fn fetch(&self, query: &Query, at: DateTime<Utc>, range: TimeDelta, labels: &Labels) -> Result<Vec<Series>, Failure> {
        let form = form(&[
            ("query", &format!("{}[{}ms]", query.as_str(), range.num_milliseconds())),
            ("time", &seconds(at)),
            // The server gives up just before we do: its own words are better than a broken connection.
            ("timeout", &format!("{}ms", self.server.timeout.as_millis().saturating_sub(100).max(1))),
        ]);
        let answer = match &self.transport {
            Transport::Http(http) => self.over_http(http, form, query).await?,
            Transport::Instead(exchange) => self.instead_of_http(exchange.as_ref(), form, query).await?,
        };
        let Answer { status, content_type, body } = &answer;
        answer::series(Raw { address: &self.server.address, status: *status, content_type, body }, labels)
    }

    async fn instead_of_http(&self, exchange: &dyn Exchange, form: String, query: &Query) -> Result<Answer, Failure> {
        let address = &self.server.address;
        let unavailable = |message| Failure::Server(Unmeasurable::Unavailable { message });
        let late = |_| unavailable(format!("{address} did not answer within {} ms", self.server.timeout.as_millis()));
        let answer = tokio::time::timeout(self.server.timeout, exchange.post(&self.server, &self.endpoint, form)).await.map_err(late)?;
        let answer = answer.map_err(|problem| unavailable(format!("{address} broke off: {problem}")))?;
        if answer.body.len() > self.body_limit { Err(self.too_large(query)) } else { Ok(answer) }
    }

    async fn over_http(&self, http: &reqwest::Client, form: String, query: &Query) -> Result<Answer, Failure> {
        let request = http.post(&self.endpoint).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let request = match &self.server.auth {
            Auth::Basic(user, password) => request.basic_auth(user, Some(password)),
            Auth::Anonymous | Auth::Bearer(_) => request,
        };
        let response = request.send().await.map_err(|error| self.broken(error))?;
        let status = response.status().as_u16();
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        // What is not JSON is not read at all.
        let body = if content_type.contains("json") { self.body(response, query).await? } else { Vec::new() };
        Ok(Answer { status, content_type, body })
    }

    async fn body(&self, mut response: Response, query: &Query) -> Result<Vec<u8>, Failure> {
        let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        let mut body = Vec::with_capacity(announced.min(self.body_limit));
        if announced > self.body_limit {
            return Err(self.too_large(query));
        }
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(error))? {
            if body.len() + chunk.len() > self.body_limit {
                return Err(self.too_large(query));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn too_large(&self, query: &Query) -> Failure {
        let mib = self.body_limit as f64 / (1024.0 * 1024.0);
        let message = format!(
            "{} answered {} with more than {mib:.0} MiB: the selector matches too many series, narrow it",
            self.server.address,
            query.as_str()
        );
        Failure::TooLarge(Unmeasurable::Unavailable { message })
    }

    fn broken(&self, error: reqwest::Error) -> Failure {
        let address = &self.server.address;
        let message = if error.is_timeout() && !error.is_connect() {
            format!("{address} did not answer within {} ms", self.server.timeout.as_millis())
        } else if error.is_connect() {
            format!("no connection to {address}: {}", chain(&error.without_url()))
        } else {
            format!("{address} broke off: {}", chain(&error.without_url()))
        };
        Failure::Server(Unmeasurable::Unavailable { message })
    }
}

fn endpoint(server: &Server) -> String {
    format!("{}/api/v1/query", server.address)
}

/// Headers of every request, credentials marked so that nothing prints them.
fn headers(server: &Server) -> Result<HeaderMap, ServerError> {
    let invalid = |field, found: &str| ServerError::Invalid { field, found: found.to_owned(), expected: "text that a header can carry" };
    let mut map = HeaderMap::new();
    map.insert(ACCEPT, HeaderValue::from_static("application/json"));
    for (name, value) in &server.headers {
        let parsed = HeaderName::try_from(name).map_err(|_| invalid("headers", name))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| invalid("headers", name))?;
        value.set_sensitive(true);
        map.append(parsed, value);
    }
    if let Auth::Bearer(token) = &server.auth {
        let credentials = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = credentials.map_err(|_| invalid("bearer", "a value with control characters in the Secret"))?;
        value.set_sensitive(true);
        map.insert(AUTHORIZATION, value);
    }
    Ok(map)
}

fn authorities(pem: &[u8]) -> Result<Vec<Certificate>, ServerError> {
    let invalid = |found: String| ServerError::Invalid { field: "tls.ca", found, expected: "one or more certificates in PEM form" };
    let list = Certificate::from_pem_bundle(pem).map_err(|error| invalid(chain(&error)))?;
    if list.is_empty() { Err(invalid("no certificate in the Secret's key".to_owned())) } else { Ok(list) }
}

/// A form body; the URL type's own encoder keeps us from writing one.
fn form(pairs: &[(&str, &str)]) -> String {
    Url::parse_with_params("http://form", pairs).ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
}

/// Unix seconds with three decimals.
fn seconds(at: DateTime<Utc>) -> String {
    let ms = at.timestamp_millis().max(0);
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// An error with its causes: the last one usually is the one that helps.
fn chain(error: &reqwest::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = next.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_sent_with_millisecond_decimals() {
        assert_eq!(seconds(DateTime::from_timestamp_millis(1_700_000_000_007).unwrap()), "1700000000.007");
    }

    #[test]
    fn a_form_escapes_what_selectors_contain() {
        assert_eq!(form(&[("query", r#"up{a!="",b=~"x+y&z"}"#)]), "query=up%7Ba%21%3D%22%22%2Cb%3D%7E%22x%2By%26z%22%7D");
    }

    #[test]
    fn certificates_that_are_none_are_refused_with_the_field() {
        let server = Server { ca: Some(b"not a certificate".to_vec()), ..Server::plain("https://p:9090").unwrap() };
        let error = Client::new(server, BODY_LIMIT).unwrap_err();
        assert!(error.to_string().starts_with("spec.prometheus.tls.ca: "), "{error}");
    }
}
