//! The two ports that users do not see: metrics with the fault switch, and the simulated GPU's exporter.
//! Nothing here answers inference.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::app::{App, lock};
use crate::exposition::{self, Kind, Page};
use crate::faults::{Action, FaultPatch};

/// Memory fault: one piece per interval, so that the kernel and not an allocation failure ends the process.
const OOM_PIECE_MIB: usize = 10;
const OOM_INTERVAL: Duration = Duration::from_millis(50);
const MIB: usize = 1024 * 1024;

/// Metrics and faults.
pub fn router(app: Arc<App>, slots: usize) -> Router {
    Router::new()
        .route("/metrics", get(move |State(app): State<Arc<App>>| async move { metrics(&app, slots) }))
        .route("/admin/faults", get(faults).post(change_faults))
        .with_state(app)
}

/// The simulated GPU's exporter.
pub fn dcgm_router(app: Arc<App>) -> Router {
    Router::new().route("/metrics", get(dcgm)).with_state(app)
}

fn text(page: Page) -> Response {
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], page.finish()).into_response()
}

fn metrics(app: &App, slots: usize) -> Response {
    let mut page = Page::default();
    lock(&app.counters).render(&mut page);
    let in_flight = slots.saturating_sub(app.slots.available_permits());
    page.single("model_requests_in_flight", Kind::Gauge, "Requests being answered.", in_flight as f64);
    let queued = app.queued.load(Ordering::Relaxed);
    page.single("model_request_queue_length", Kind::Gauge, "Requests waiting for a slot.", queued as f64);
    if let Some(reporter) = &app.reporter {
        let help = "Answers and true labels that the comparer did not get.";
        page.single("model_reports_dropped_total", Kind::Counter, help, reporter.dropped() as f64);
    }
    let names = &app.identity;
    page.single("model_load_seconds", Kind::Gauge, "Time the model took to load.", names.load.as_secs_f64());
    page.single("model_file_bytes", Kind::Gauge, "Size of the model file.", names.model_bytes as f64);
    page.family("model_info", Kind::Gauge, "The model that is served.");
    page.sample("model_info", &[("model", &names.model_file), ("digest", &names.digest), ("revision", &names.revision)], 1.0);
    if let Some(bytes) = resident_bytes() {
        page.single("process_resident_memory_bytes", Kind::Gauge, "Resident memory of this process.", bytes);
    }
    let started = started_at().map_or(0.0, |d| d.as_secs_f64());
    page.single("process_start_time_seconds", Kind::Gauge, "Start of this process, seconds since 1970.", started);
    text(page)
}

fn started_at() -> Option<Duration> {
    static STARTED: std::sync::OnceLock<Option<Duration>> = std::sync::OnceLock::new();
    *STARTED.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).ok())
}

/// Notes the start of the process; later calls change nothing.
pub fn note_start() {
    let _ = started_at();
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

async fn dcgm(State(app): State<Arc<App>>) -> Response {
    let mut page = Page::default();
    let xid = lock(&app.faults).xid();
    let workload: Vec<(&str, &str)> = app.identity.workload.iter().map(|(label, value)| (*label, value.as_str())).collect();
    lock(&app.gpu).render(&mut page, &workload, xid);
    text(page)
}

async fn faults(State(app): State<Arc<App>>) -> Response {
    let now = lock(&app.faults).clone();
    Json(now).into_response()
}

async fn change_faults(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let patch: FaultPatch = match serde_json::from_slice(&body) {
        Ok(patch) => patch,
        Err(error) => return refusal(&format!("the body is no change of faults: {error}")),
    };
    if patch.reset == Some(true) {
        lock(&app.ballast).clear();
    }
    let changed = lock(&app.faults).apply(&patch);
    match changed {
        Ok(actions) => {
            for action in actions {
                act(&app, &action);
            }
            faults(State(app)).await
        }
        Err(error) => refusal(&error.to_string()),
    }
}

fn refusal(words: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": words}))).into_response()
}

/// Does what a change of faults asks for once; returns at once, the deed happens in its own task.
pub fn act(app: &Arc<App>, action: &Action) {
    match *action {
        Action::Crash(after) => {
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                eprintln!("injected fault: crash");
                std::process::exit(1);
            });
        }
        Action::Allocate(mib) => {
            let app = Arc::clone(app);
            tokio::spawn(async move {
                let mut left = usize::try_from(mib).unwrap_or(usize::MAX);
                while left > 0 {
                    let piece = left.min(OOM_PIECE_MIB);
                    // Not zero: a page of zeroes need not become resident.
                    lock(&app.ballast).push(vec![1; piece * MIB]);
                    left -= piece;
                    tokio::time::sleep(OOM_INTERVAL).await;
                }
            });
        }
    }
}
