//! The port: reports in, metrics out. It joins nothing itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use crate::counts::{CONTENT_TYPE, Counts};
use crate::pairs::{Answer, Pairs, Truth};

/// Largest report, in bytes: some thousand answers.
const MAX_REPORT: usize = 4 * 1024 * 1024;

/// What a server saw since its last report.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Report {
    answers: Vec<Answer>,
    truths: Vec<Truth>,
}

struct Books {
    pairs: Pairs,
    counts: Counts,
}

/// Everything the handlers share.
pub struct App {
    books: Mutex<Books>,
}

impl App {
    /// Remembers at most `capacity` requests, none longer than `window`.
    pub fn new(capacity: usize, window: Duration) -> Self {
        Self { books: Mutex::new(Books { pairs: Pairs::new(capacity, window), counts: Counts::new() }) }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The port.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/reports", post(report).layer(DefaultBodyLimit::max(MAX_REPORT)))
        .route("/metrics", get(metrics))
        .route("/health", get(|| async { StatusCode::OK }))
        .with_state(app)
}

async fn report(State(app): State<Arc<App>>, Json(report): Json<Report>) -> StatusCode {
    let now = Instant::now();
    let mut guard = app.books();
    let books = &mut *guard;
    let answers = report.answers.into_iter().flat_map(|answer| books.pairs.answered(answer, now)).collect::<Vec<_>>();
    let truths = report.truths.into_iter().flat_map(|truth| books.pairs.told(truth, now)).collect::<Vec<_>>();
    for pair in answers.iter().chain(&truths) {
        books.counts.count(pair);
    }
    StatusCode::NO_CONTENT
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let books = app.books();
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], books.counts.text(books.pairs.alone())).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use serde_json::json;
    use tower::ServiceExt as _;

    use super::*;

    async fn send(router: &Router, method: &str, path: &str, body: String) -> (StatusCode, String) {
        let request =
            Request::builder().method(method).uri(path).header("content-type", "application/json").body(Body::from(body)).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let code = response.status();
        (code, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_pair_counts_from_both_sides_and_the_other_outcomes_are_zero() {
        let router = router(Arc::new(App::new(10, Duration::from_mins(1))));
        let answers = json!({"answers": [{"id": "a", "revision": "old", "labels": [7]}, {"id": "a", "revision": "new", "labels": [1]}]});
        assert_eq!(send(&router, "POST", "/reports", answers.to_string()).await.0, StatusCode::NO_CONTENT);
        let truths = json!({"truths": [{"id": "a", "labels": [7]}]});
        assert_eq!(send(&router, "POST", "/reports", truths.to_string()).await.0, StatusCode::NO_CONTENT);
        let (_, text) = send(&router, "GET", "/metrics", String::new()).await;
        for series in [
            r#"comparer_labelled_pairs_total{candidate="new",champion="old",outcome="champion_only"} 1"#,
            r#"comparer_labelled_pairs_total{candidate="old",champion="new",outcome="candidate_only"} 1"#,
            r#"comparer_labelled_pairs_total{candidate="new",champion="old",outcome="candidate_only"} 0"#,
        ] {
            assert!(text.lines().any(|line| line == series), "{series} is missing in\n{text}");
        }
    }

    #[tokio::test]
    async fn a_report_with_an_unknown_field_is_refused_by_its_name() {
        let router = router(Arc::new(App::new(10, Duration::from_mins(1))));
        let (code, body) = send(&router, "POST", "/reports", json!({"answer": []}).to_string()).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(body.contains("unknown field `answer`"), "{body}");
    }
}
