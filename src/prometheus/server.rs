//! Which server is asked, with which credentials: a plain value, so that rollouts with equal servers share one client.
//! Secrets are read live and by name only; nothing here lists, watches or keeps them beyond the value.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use rollout_core::quantity::ranges::PROMETHEUS_TIMEOUT;
use rollout_core::spec::{Prometheus, SecretKey};

/// Longest wait for the API server when a Secret is read.
const SECRET_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for an answer when the policy does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Headers that belong to the protocol or to the credentials.
const RESERVED: [&str; 7] = ["authorization", "host", "content-type", "content-length", "transfer-encoding", "connection", "accept"];

/// A Prometheus-compatible server as one policy sees it. Two equal values are one server and share a client.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// Base address without a trailing slash, such as `http://prometheus.monitoring:9090`.
    pub address: String,
    /// Certificate authorities in PEM form; `None` trusts the public ones.
    pub ca: Option<Vec<u8>>,
    /// Credentials.
    pub auth: Auth,
    /// More request headers, in the user's order.
    pub headers: Vec<(String, String)>,
    /// Longest wait for one answer, body included.
    pub timeout: Duration,
}

/// Credentials of a server.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Auth {
    /// None are sent.
    #[default]
    Anonymous,
    /// A bearer token.
    Bearer(String),
    /// User name and password.
    Basic(String, String),
}

/// What `Debug` shows must be fit for a log.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("ca", &self.ca.is_some())
            .field("auth", &self.auth)
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Bearer(_) => "Bearer",
            Self::Basic(..) => "Basic",
        })
    }
}

/// Why a server cannot be asked at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The policy contradicts itself or has a value of the wrong form.
    #[error("spec.prometheus.{field}: {found}; expected {expected}")]
    Invalid {
        /// Field below `spec.prometheus`.
        field: &'static str,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A Secret or one of its keys is missing.
    #[error("Secret {namespace}/{name} has no key {key}: {problem}")]
    SecretMissing {
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        name: String,
        /// Key that was looked for.
        key: String,
        /// Whether the Secret or the key is missing.
        problem: String,
    },
    /// A Secret could not be read.
    #[error("Secret {namespace}/{name}, key {key}, could not be read: {problem}")]
    SecretUnreadable {
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        name: String,
        /// Key that was looked for.
        key: String,
        /// What happened.
        problem: String,
    },
}

impl ServerError {
    /// A fixed word for metrics and events.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "InvalidServer",
            Self::SecretMissing { .. } => "SecretMissing",
            Self::SecretUnreadable { .. } => "SecretUnreadable",
        }
    }
}

/// Where Secrets come from: the live API server, one `get` by name.
#[derive(Clone)]
pub struct SecretSource {
    client: kube::Client,
}

impl SecretSource {
    /// Reads through `client`.
    pub const fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// The bytes of one key, read now.
    async fn bytes(&self, namespace: &str, wanted: &SecretKey) -> Result<Vec<u8>, ServerError> {
        let missing = |problem: &str| ServerError::SecretMissing {
            namespace: namespace.to_owned(),
            name: wanted.name.clone(),
            key: wanted.key.clone(),
            problem: problem.to_owned(),
        };
        let unreadable = |problem: String| ServerError::SecretUnreadable {
            namespace: namespace.to_owned(),
            name: wanted.name.clone(),
            key: wanted.key.clone(),
            problem,
        };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = match tokio::time::timeout(SECRET_TIMEOUT, api.get_opt(&wanted.name)).await {
            Err(_) => return Err(unreadable(format!("no answer within {} s", SECRET_TIMEOUT.as_secs()))),
            Ok(Err(kube::Error::Api(status))) => return Err(unreadable(status.message.clone())),
            Ok(Err(error)) => return Err(unreadable(error.to_string())),
            Ok(Ok(None)) => return Err(missing("the Secret does not exist")),
            Ok(Ok(Some(secret))) => secret,
        };
        let value = secret.data.and_then(|mut data| data.remove(&wanted.key)).ok_or_else(|| missing("the Secret has no such key"))?;
        if value.0.is_empty() { Err(missing("its value is empty")) } else { Ok(value.0) }
    }

    /// The text of one key, without the line break that editors leave at the end.
    async fn text(&self, namespace: &str, wanted: &SecretKey) -> Result<String, ServerError> {
        String::from_utf8(self.bytes(namespace, wanted).await?).map(|text| text.trim_end_matches(['\r', '\n']).to_owned()).map_err(|_| {
            ServerError::SecretUnreadable {
                namespace: namespace.to_owned(),
                name: wanted.name.clone(),
                key: wanted.key.clone(),
                problem: "its value is not UTF-8 text".to_owned(),
            }
        })
    }
}

impl Server {
    /// The server that `spec` of a policy in `namespace` names, with its Secrets read now.
    ///
    /// Makes no call when the policy names no Secret. The error is a sentence with field, or with Secret and key.
    pub async fn resolve(spec: &Prometheus, namespace: &str, secrets: &SecretSource) -> Result<Self, ServerError> {
        let address = address(&spec.address)?;
        let headers = spec.headers.iter().map(|one| header(&one.name, &one.value)).collect::<Result<_, _>>()?;
        let auth = match (&spec.bearer, &spec.basic) {
            (None, None) => Auth::Anonymous,
            (Some(key), None) => Auth::Bearer(secrets.text(namespace, key).await?),
            (None, Some(basic)) => Auth::Basic(basic.username.clone(), secrets.text(namespace, &basic.password).await?),
            (Some(_), Some(_)) => {
                let found = "both bearer and basic are set".to_owned();
                return Err(ServerError::Invalid { field: "bearer", found, expected: "at most one of bearer, basic" });
            }
        };
        let ca = match spec.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
            Some(key) => Some(secrets.bytes(namespace, key).await?),
            None => None,
        };
        Ok(Self { address, ca, auth, headers, timeout: timeout(spec)? })
    }

    /// A server without credentials, TLS settings or headers, with the default timeout.
    pub fn plain(address: &str) -> Result<Self, ServerError> {
        Ok(Self { address: self::address(address)?, ca: None, auth: Auth::Anonymous, headers: Vec::new(), timeout: DEFAULT_TIMEOUT })
    }
}

/// The base address in one spelling: parsed, `http` or `https`, without credentials, query or trailing slash.
fn address(text: &str) -> Result<String, ServerError> {
    let invalid = |found: String| ServerError::Invalid {
        field: "address",
        found,
        expected: "a base address such as http://prometheus.monitoring:9090",
    };
    let url = Url::parse(text).map_err(|error| invalid(format!("{text} is not an address ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(format!("scheme {}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("credentials inside the address, which belong into bearer or basic".to_owned()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid(format!("{text} has a query or fragment")));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn header(name: &str, value: &str) -> Result<(String, String), ServerError> {
    let invalid = |found: String| ServerError::Invalid { field: "headers", found, expected: "a header name and a value in ASCII" };
    let parsed = HeaderName::try_from(name).map_err(|_| invalid(format!("{name:?} is not a header name")))?;
    if RESERVED.contains(&parsed.as_str()) {
        return Err(invalid(format!("{parsed} is set by the operator")));
    }
    HeaderValue::try_from(value).map_err(|_| invalid(format!("the value of {parsed} has characters that a header cannot carry")))?;
    Ok((parsed.as_str().to_owned(), value.to_owned()))
}

fn timeout(spec: &Prometheus) -> Result<Duration, ServerError> {
    let Some(text) = &spec.timeout else { return Ok(DEFAULT_TIMEOUT) };
    let checked = PROMETHEUS_TIMEOUT.check(text).ok().and_then(|span| span.to_std().ok());
    checked.ok_or_else(|| ServerError::Invalid {
        field: "timeout",
        found: text.as_str().to_owned(),
        expected: "a duration from 100ms to 60s, such as 5s",
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_servers_are_one_whatever_the_spelling() {
        let spellings = ["http://Prometheus:9090", "http://prometheus:9090/", "http://prometheus:9090"];
        for text in spellings {
            assert_eq!(Server::plain(text), Server::plain("http://prometheus:9090"));
        }
        assert_eq!(Server::plain("http://p/a/b/").unwrap().address, "http://p/a/b", "a path prefix stays, without a double slash");
    }

    #[test]
    fn addresses_that_cannot_be_asked_are_refused_with_the_field() {
        for (text, word) in [
            ("prometheus:9090", "scheme"),
            ("ftp://p", "scheme"),
            ("http://user:secret@p", "credentials"),
            ("http://p?x=1", "query"),
            ("not an address", "not an address"),
        ] {
            let message = Server::plain(text).unwrap_err().to_string();
            assert!(message.starts_with("spec.prometheus.address: ") && message.contains(word), "{text}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn headers_of_the_protocol_are_the_operators_own() {
        assert!(header("X-Scope-OrgID", "team-a").is_ok());
        for (name, value) in [("Authorization", "x"), ("host", "x"), ("bad name", "x"), ("x-a", "line\nbreak")] {
            assert!(header(name, value).is_err(), "{name}");
        }
    }

    #[test]
    fn credentials_do_not_show_in_debug() {
        let mut server = Server::plain("http://p").unwrap();
        server.auth = Auth::Bearer("hunter2".into());
        server.headers = vec![("x-token".into(), "hunter3".into())];
        let shown = format!("{server:?}");
        assert!(!shown.contains("hunter"), "{shown}");
    }

    /// An API server with one Secret and one that may not be read; anything but a `get` by name is a defect.
    fn secrets() -> SecretSource {
        let service = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
            assert_eq!(request.method(), http::Method::GET);
            let failure = |code: u16, reason: &str| {
                (code, json!({"kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code}))
            };
            let (code, body) = match request.uri().to_string().as_str() {
                "/api/v1/namespaces/ml/secrets/prom" => (200, json!({"data": {"token": "aHVudGVyMgo=", "empty": "", "binary": "/w=="}})),
                "/api/v1/namespaces/ml/secrets/hidden" => failure(403, "Forbidden"),
                "/api/v1/namespaces/ml/secrets/absent" => failure(404, "NotFound"),
                other => panic!("unexpected request for {other}"),
            };
            let response = http::Response::builder().status(code).body(kube::client::Body::from(body.to_string().into_bytes())).unwrap();
            Ok::<_, std::convert::Infallible>(response)
        });
        SecretSource::new(kube::Client::new(service, "ml"))
    }

    fn spec(fields: &serde_json::Value) -> Prometheus {
        let mut all = json!({"address": "http://p:9090"});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[tokio::test]
    async fn credentials_are_read_by_name_and_lose_their_line_break() {
        let bearer =
            spec(&json!({"bearer": {"name": "prom", "key": "token"}, "timeout": "250ms", "headers": [{"name": "X-Tenant", "value": "a"}]}));
        let server = Server::resolve(&bearer, "ml", &secrets()).await.unwrap();
        assert!(matches!(&server.auth, Auth::Bearer(token) if token == "hunter2"));
        assert_eq!(
            (server.timeout, server.headers.as_slice()),
            (Duration::from_millis(250), &[("x-tenant".to_owned(), "a".to_owned())][..])
        );
        let basic = spec(&json!({"basic": {"username": "u", "password": {"name": "prom", "key": "token"}}}));
        let server = Server::resolve(&basic, "ml", &secrets()).await.unwrap();
        assert!(matches!(&server.auth, Auth::Basic(user, password) if user == "u" && password == "hunter2"));
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_secret_is_told_with_its_name_and_key() {
        let table = [
            ("absent", "token", "SecretMissing", "Secret ml/absent has no key token: the Secret does not exist"),
            ("prom", "tokn", "SecretMissing", "Secret ml/prom has no key tokn: the Secret has no such key"),
            ("prom", "empty", "SecretMissing", "its value is empty"),
            ("prom", "binary", "SecretUnreadable", "not UTF-8"),
            ("hidden", "token", "SecretUnreadable", "Secret ml/hidden, key token, could not be read: Forbidden"),
        ];
        for (name, key, category, words) in table {
            let spec = spec(&json!({"bearer": {"name": name, "key": key}}));
            let error = Server::resolve(&spec, "ml", &secrets()).await.unwrap_err();
            assert_eq!(error.category(), category);
            assert!(error.to_string().contains(words), "{error}");
        }
        let both =
            json!({"bearer": {"name": "prom", "key": "token"}, "basic": {"username": "u", "password": {"name": "prom", "key": "token"}}});
        assert_eq!(Server::resolve(&spec(&both), "ml", &secrets()).await.unwrap_err().category(), "InvalidServer");
    }
}
