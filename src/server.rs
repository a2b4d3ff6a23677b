//! What Kubernetes and Prometheus ask this process: is it alive, is it ready, what does it count.
//! Answers from memory only, so that a slow API server never looks like a dead process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tracing::error;

use crate::metrics::{self, Metrics};

/// Signs of life of named loops, and work that must come to an end. A loop that is expected and silent for too long, or work that takes longer
/// than it ever may, makes `/livez` fail.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats {
    beats: Arc<Mutex<BTreeMap<&'static str, Beat>>>,
    work: Arc<Mutex<BTreeMap<u64, Work>>>,
}

#[derive(Debug)]
struct Work {
    what: String,
    since: Instant,
    limit: Duration,
}

/// Work in progress; it has ended when this is dropped.
#[derive(Debug)]
pub struct Working {
    number: u64,
    work: Arc<Mutex<BTreeMap<u64, Work>>>,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[derive(Clone, Copy, Debug)]
struct Beat {
    last: Instant,
    limit: Option<Duration>,
}

impl Heartbeats {
    /// Without any expectation.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on this loop must beat at least every `limit`.
    pub fn expect(&self, name: &'static str, limit: Duration) {
        self.lock().insert(name, Beat { last: Instant::now(), limit: Some(limit) });
    }

    /// The loop is alive.
    pub fn beat(&self, name: &'static str) {
        self.lock().entry(name).or_insert(Beat { last: Instant::now(), limit: None }).last = Instant::now();
    }

    /// Work that must end within `limit`, and is counted as ended when the answer is dropped.
    pub fn working(&self, what: String, limit: Duration) -> Working {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let number = work.last_key_value().map_or(0, |(last, _)| last + 1);
        work.insert(number, Work { what, since: Instant::now(), limit });
        Working { number, work: Arc::clone(&self.work) }
    }

    /// What is stuck, each in words.
    pub fn stuck(&self) -> Vec<String> {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let late = work.values().filter(|one| one.since.elapsed() > one.limit);
        let late = late.map(|one| format!("{} takes longer than {} s", one.what, one.limit.as_secs()));
        self.silent().into_iter().chain(late).collect()
    }

    fn silent(&self) -> Vec<String> {
        let beats = self.lock();
        let late = beats.iter().filter_map(|(name, beat)| {
            let (age, limit) = (beat.last.elapsed(), beat.limit?);
            (age > limit).then(|| format!("{name} has been silent for {} s, at most {} s are expected", age.as_secs(), limit.as_secs()))
        });
        late.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Beat>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `/readyz` answers.
#[derive(Clone, Debug)]
pub struct Readiness {
    phase: Arc<Mutex<Phase>>,
}

#[derive(Clone, Debug)]
enum Phase {
    Missing(String),
    Standby,
    Ready,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Not ready: nothing is known of the lease yet.
    pub fn new() -> Self {
        Self { phase: Arc::new(Mutex::new(Phase::Missing("the lease has not been read yet".to_owned()))) }
    }

    /// Not ready; `what` names what is missing, such as a CRD.
    pub fn missing(&self, what: impl Into<String>) {
        self.set(Phase::Missing(what.into()));
    }

    /// Ready to take over: another replica leads.
    pub fn standby(&self) {
        self.set(Phase::Standby);
    }

    /// Leading, with all stores filled.
    pub fn ready(&self) {
        self.set(Phase::Ready);
    }

    fn set(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    fn answer(&self) -> (StatusCode, String) {
        match &*self.phase.lock().unwrap_or_else(PoisonError::into_inner) {
            Phase::Missing(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {what}\n")),
            Phase::Standby => (StatusCode::OK, "ready: standing by for the lease\n".to_owned()),
            Phase::Ready => (StatusCode::OK, "ready\n".to_owned()),
        }
    }
}

/// Where the servers listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Address of /livez and /readyz.
    pub health: SocketAddr,
    /// Address of /metrics.
    pub metrics: SocketAddr,
}

/// Binds both addresses and serves until the process ends. Equal addresses share one listener.
pub async fn serve(
    health: SocketAddr,
    metrics: SocketAddr,
    counted: Arc<Metrics>,
    beats: Heartbeats,
    readiness: Readiness,
) -> std::io::Result<Listening> {
    let probes = Router::new()
        .route("/livez", get(livez).with_state(beats))
        .route("/readyz", get(|State(readiness): State<Readiness>| async move { readiness.answer() }).with_state(readiness));
    let numbers = Router::new().route("/metrics", get(counts).with_state(counted));
    if health == metrics && health.port() != 0 {
        let bound = spawn(health, probes.merge(numbers)).await?;
        return Ok(Listening { health: bound, metrics: bound });
    }
    Ok(Listening { health: spawn(health, probes).await?, metrics: spawn(metrics, numbers).await? })
}

async fn spawn(address: SocketAddr, router: Router) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            error!(%address, %error, "the server ended");
        }
    });
    Ok(bound)
}

async fn livez(State(beats): State<Heartbeats>) -> (StatusCode, String) {
    match beats.stuck() {
        stuck if stuck.is_empty() => (StatusCode::OK, "alive\n".to_owned()),
        stuck => (StatusCode::SERVICE_UNAVAILABLE, stuck.join("\n") + "\n"),
    }
}

async fn counts(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> (u16, String, String) {
        let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(format!("http://{address}{path}")).send().await.unwrap();
        let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
        (answer.status().as_u16(), kind, answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn readiness_names_what_is_missing_and_metrics_have_their_content_type() {
        let (beats, readiness) = (Heartbeats::new(), Readiness::new());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let at = serve(any, any, Arc::new(Metrics::new()), beats.clone(), readiness.clone()).await.unwrap();
        assert_eq!(ask(at.health, "/readyz").await.2, "not ready: the lease has not been read yet\n");
        readiness.missing("CRD modelrollouts.espalier.dev is not installed");
        let (code, _, text) = ask(at.health, "/readyz").await;
        assert_eq!((code, text.as_str()), (503, "not ready: CRD modelrollouts.espalier.dev is not installed\n"));
        readiness.standby();
        assert_eq!(ask(at.health, "/readyz").await.0, 200);
        readiness.ready();
        assert_eq!(ask(at.health, "/readyz").await.2, "ready\n");
        assert_eq!(ask(at.health, "/livez").await.0, 200);
        let (code, kind, text) = ask(at.metrics, "/metrics").await;
        assert_eq!((code, kind.as_str()), (200, metrics::CONTENT_TYPE));
        assert!(text.ends_with("# EOF\n"));
        beats.expect("sampler", Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(ask(at.health, "/livez").await.2, "sampler has been silent for 0 s, at most 0 s are expected\n");
    }

    #[tokio::test(start_paused = true)]
    async fn only_expected_loops_can_be_silent_too_long() {
        let beats = Heartbeats::new();
        beats.expect("sampler", Duration::from_mins(1));
        beats.beat("reconciler");
        tokio::time::advance(Duration::from_secs(59)).await;
        beats.beat("sampler");
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(beats.stuck(), Vec::<String>::new());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(beats.stuck(), ["sampler has been silent for 61 s, at most 60 s are expected"]);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_never_ends_is_stuck_and_work_that_ended_is_not() {
        let beats = Heartbeats::new();
        let (one, two) = (
            beats.working("looking at ml/one".into(), Duration::from_mins(2)),
            beats.working("looking at ml/two".into(), Duration::from_mins(3)),
        );
        tokio::time::advance(Duration::from_secs(121)).await;
        assert_eq!(beats.stuck(), ["looking at ml/one takes longer than 120 s"]);
        drop(one);
        assert_eq!(beats.stuck(), Vec::<String>::new());
        drop(two);
    }
}
