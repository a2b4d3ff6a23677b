//! The control port, for scenarios: read what users saw so far, name a new phase, change the rate, stop.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::cli::checked_rate;
use crate::generator::Run;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    rps: f64,
}

/// The control port's routes.
pub fn router(run: Arc<Run>) -> Router {
    Router::new()
        .route("/stats", get(async |State(run): State<Arc<Run>>| Json(run.report(false))))
        .route("/mark", post(mark))
        .route("/rate", post(rate))
        .route("/stop", post(async |State(run): State<Arc<Run>>| run.stop()))
        .with_state(run)
}

async fn mark(State(run): State<Arc<Run>>, body: String) -> Response {
    match serde_json::from_str::<Mark>(&body) {
        Ok(mark) => {
            run.mark(mark.name);
            StatusCode::OK.into_response()
        }
        Err(error) => refusal(&error.to_string()),
    }
}

async fn rate(State(run): State<Arc<Run>>, body: String) -> Response {
    match serde_json::from_str::<Rate>(&body).map_err(|e| e.to_string()).and_then(|r| checked_rate(r.rps)) {
        Ok(rps) => {
            run.set_rate(rps);
            StatusCode::OK.into_response()
        }
        Err(words) => refusal(&words),
    }
}

fn refusal(words: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": words}))).into_response()
}
