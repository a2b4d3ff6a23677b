//! Tells a comparer what was answered and what turned out to be true, in batches and off the path of requests.
//! It never waits and never retries: what finds no room or no listener is dropped, and the comparer has one pair less.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::http::{Request, Uri, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use tokio::sync::mpsc;

/// Events that may wait.
const ROOM: usize = 8_192;
/// Events of one report at most.
const BATCH: usize = 1_000;
/// Pause between reports, so that one carries many events.
const PAUSE: Duration = Duration::from_millis(200);
/// A report that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Labels of one request, predicted or true.
#[derive(Debug, Serialize)]
pub struct Labelled {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    labels: Vec<i64>,
}

#[derive(Debug)]
enum Event {
    Answer(Labelled),
    Truth(Labelled),
}

#[derive(Debug, Default, Serialize)]
struct Report {
    answers: Vec<Labelled>,
    truths: Vec<Labelled>,
}

/// The near end: takes events without waiting.
pub struct Reporter {
    revision: String,
    events: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
}

impl Reporter {
    /// Reports to `url`, such as <http://comparer:8082/reports>, in a task of its own that ends with the reporter.
    pub fn start(url: &str, revision: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("comparer '{url}'"))?;
        anyhow::ensure!(uri.scheme_str() == Some("http"), "comparer '{url}', expected http://HOST[:PORT]/reports");
        let (events, waiting) = mpsc::channel(ROOM);
        let dropped = Arc::new(AtomicU64::new(0));
        tokio::spawn(send(uri, waiting, Arc::clone(&dropped)));
        Ok(Self { revision: revision.to_owned(), events, dropped })
    }

    /// A request was answered.
    pub fn answered(&self, id: &str, labels: &[usize]) {
        let labels = labels.iter().map(|&label| i64::try_from(label).unwrap_or(i64::MAX)).collect();
        self.take(Event::Answer(Labelled { id: id.to_owned(), revision: Some(self.revision.clone()), labels }));
    }

    /// The truth about a request arrived.
    pub fn told(&self, id: &str, labels: &[i64]) {
        self.take(Event::Truth(Labelled { id: id.to_owned(), revision: None, labels: labels.to_vec() }));
    }

    /// Events that never reached the comparer.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn take(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn send(uri: Uri, mut waiting: mpsc::Receiver<Event>, dropped: Arc<AtomicU64>) {
    let client: Client<HttpConnector, Full<axum::body::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut events = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut events, BATCH).await > 0 {
        let count = events.len() as u64;
        let mut report = Report::default();
        for event in events.drain(..) {
            match event {
                Event::Answer(labels) => report.answers.push(labels),
                Event::Truth(labels) => report.truths.push(labels),
            }
        }
        if !post(&client, &uri, &report).await {
            dropped.fetch_add(count, Ordering::Relaxed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn post(client: &Client<HttpConnector, Full<axum::body::Bytes>>, uri: &Uri, report: &Report) -> bool {
    let Ok(body) = serde_json::to_vec(report) else { return false };
    let request = Request::post(uri.clone()).header(header::CONTENT_TYPE, "application/json").body(Full::from(body));
    let Ok(request) = request else { return false };
    let answer = tokio::time::timeout(PATIENCE, client.request(request)).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|response| response.status().is_success()))
}
