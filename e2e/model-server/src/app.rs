//! The server's state and its public port: the Open Inference Protocol and feedback.
//! Operators' endpoints (metrics, faults, simulated GPU) are in `admin`; starting and stopping in `main`.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::counters::{Counters, FeedbackResult};
use crate::faults::{Answer, Dice, Faults, Suffering};
use crate::gpu::Gpu;
use crate::memory::{JoinError, Memory};
use crate::model::{self, CLASSES, Model};
use crate::protocol::{self, InferAnswer, Parameters};
use crate::reporter::Reporter;

/// Code for a client that went away before its answer.
const CLIENT_GONE: u16 = 499;
/// How often a hanging request looks whether it may go on.
const HANG_POLL: Duration = Duration::from_millis(50);

/// Names that do not change while the server runs.
pub struct Identity {
    /// Name of the model in URLs.
    pub model_name: String,
    /// Revision given at start, may be empty.
    pub revision: String,
    /// Model file without its ending.
    pub model_file: String,
    /// Digest of the model file.
    pub digest: String,
    /// Address at which this very process is reached.
    pub served_by: String,
    /// Labels of the simulated GPU that name its workload.
    pub workload: Vec<(&'static str, String)>,
    /// Time the model took to load.
    pub load: Duration,
    /// Size of the model file.
    pub model_bytes: usize,
}

/// Everything the handlers share.
pub struct App {
    /// Names that do not change.
    pub identity: Identity,
    /// The loaded model.
    pub model: Model,
    /// What was counted.
    pub counters: Mutex<Counters>,
    /// The faults in force.
    pub faults: Mutex<Faults>,
    /// Predictions that wait for their true labels.
    pub memory: Mutex<Memory>,
    /// The simulated GPU.
    pub gpu: Mutex<Gpu>,
    /// Chance, from a seed.
    pub dice: Dice,
    /// Memory taken by the memory fault.
    pub ballast: Mutex<Vec<Vec<u8>>>,
    /// False while starting and after SIGTERM.
    pub serving: AtomicBool,
    /// Requests that run now, at most so many at a time.
    pub slots: Semaphore,
    /// Requests that wait for a slot.
    pub queued: AtomicUsize,
    /// Most requests that may wait.
    pub max_queue: usize,
    /// Requests with an id made here.
    pub made_ids: AtomicU64,
    /// Tells a comparer, when there is one.
    pub reporter: Option<Reporter>,
}

/// Locks; a panic elsewhere must not take the counters with it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl App {
    /// Whether new requests are welcome.
    pub fn ready(&self) -> bool {
        self.serving.load(Ordering::Relaxed) && !lock(&self.faults).not_ready()
    }
}

/// The public port.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(
            "/v2",
            get(|| async { axum::Json(json!({"name": "espalier-model-server", "version": env!("CARGO_PKG_VERSION"), "extensions": []})) }),
        )
        .route("/v2/health/live", get(|| async { StatusCode::OK }))
        .route("/v2/health/ready", get(health_ready))
        .route("/v2/models/{model}", get(metadata))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/feedback", post(feedback))
        .with_state(app)
}

async fn health_ready(State(app): State<Arc<App>>) -> StatusCode {
    if app.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn model_ready(State(app): State<Arc<App>>, Path(model): Path<String>) -> Response {
    if model != app.identity.model_name {
        return unknown_model(&app, &model).into_response();
    }
    health_ready(State(app)).await.into_response()
}

async fn metadata(State(app): State<Arc<App>>, Path(model): Path<String>) -> Response {
    let id = &app.identity;
    if model != id.model_name {
        return unknown_model(&app, &model).into_response();
    }
    axum::Json(json!({
        "name": id.model_name, "versions": [id.revision], "platform": "onnx",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, model::PIXELS]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, CLASSES]},
            {"name": "label", "datatype": "INT64", "shape": [-1]},
        ],
        "parameters": {"revision": id.revision, "model": id.model_file, "digest": id.digest},
    }))
    .into_response()
}

/// Why a request gets no answer: the status and a sentence.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, axum::Json(json!({"error": self.1}))).into_response()
    }
}

impl From<protocol::BadRequest> for Refusal {
    fn from(error: protocol::BadRequest) -> Self {
        Self(StatusCode::BAD_REQUEST, error.to_string())
    }
}

fn unknown_model(app: &App, model: &str) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, format!("no model '{model}' here, this server has '{}'", app.identity.model_name))
}

/// Counts the request when it ends, also when the client goes away and the handler is dropped.
struct Visit<'a> {
    app: &'a App,
    began: Instant,
    code: u16,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        lock(&self.app.counters).request(self.code, self.began.elapsed());
    }
}

async fn infer(
    State(app): State<Arc<App>>,
    Path(model): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let mut visit = Visit { app: &app, began: Instant::now(), code: CLIENT_GONE };
    let mut response = match answer(&app, &model, &headers, body).await {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(refusal) => refusal.into_response(),
    };
    if let Ok(value) = app.identity.served_by.parse() {
        response.headers_mut().insert("x-served-by", value);
    }
    visit.code = response.status().as_u16();
    response
}

async fn answer(app: &App, model: &str, headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<String, Refusal> {
    if model != app.identity.model_name {
        return Err(unknown_model(app, model));
    }
    let body = body.map_err(|e| Refusal(StatusCode::BAD_REQUEST, e.body_text()))?;
    let batch = protocol::parse_infer(&body)?;
    let id = request_id(app, batch.id, headers)?;
    let region = lock(&app.counters).region(text(headers, "x-region")).to_owned();

    let _slot = slot(app).await?;
    let suffering = lock(&app.faults).strike(&region, &app.dice);
    suffer(app, &suffering).await?;
    let (probabilities, labels) = predict(app, &batch.pixels, suffering.answer)?;

    let nonfinite = probabilities.chunks(CLASSES).filter(|row| row.iter().any(|p| !p.is_finite())).count();
    lock(&app.counters).answered(&region, &labels, nonfinite);
    lock(&app.memory).remember(id.clone(), labels.clone(), &region, Instant::now());
    if let Some(reporter) = &app.reporter {
        reporter.answered(&id, &labels);
    }
    let names = &app.identity;
    let answer = InferAnswer {
        model_name: &names.model_name,
        model_version: &names.revision,
        id: &id,
        parameters: Parameters { revision: &names.revision, model: &names.model_file, digest: &names.digest },
        outputs: protocol::outputs(&probabilities, &labels),
    };
    serde_json::to_string(&answer).map_err(|e| Refusal(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn request_id(app: &App, from_body: Option<String>, headers: &HeaderMap) -> Result<String, Refusal> {
    match from_body.or_else(|| text(headers, "x-request-id").map(str::to_owned)) {
        Some(id) => Ok(protocol::checked_id(id)?),
        None => Ok(format!("made-{}", app.made_ids.fetch_add(1, Ordering::Relaxed))),
    }
}

/// Waits for a slot unless too many wait already.
async fn slot(app: &App) -> Result<SemaphorePermit<'_>, Refusal> {
    if let Ok(permit) = app.slots.try_acquire() {
        return Ok(permit);
    }
    let _waiting = Waiting::begin(&app.queued, app.max_queue)
        .ok_or_else(|| Refusal(StatusCode::SERVICE_UNAVAILABLE, format!("{} requests wait already", app.max_queue)))?;
    app.slots.acquire().await.map_err(|_| Refusal(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping".to_owned()))
}

/// One waiting request; leaves the queue when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(queued: &'a AtomicUsize, max: usize) -> Option<Self> {
        let waiting = Self(queued);
        (queued.fetch_add(1, Ordering::Relaxed) < max).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn suffer(app: &App, suffering: &Suffering) -> Result<(), Refusal> {
    while suffering.hang && lock(&app.faults).hang() {
        tokio::time::sleep(HANG_POLL).await;
    }
    if !suffering.delay.is_zero() {
        tokio::time::sleep(suffering.delay).await;
    }
    if suffering.answer == Answer::Error {
        return Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, "injected fault: error".to_owned()));
    }
    Ok(())
}

fn predict(app: &App, pixels: &[f32], fault: Answer) -> Result<(Vec<f32>, Vec<usize>), Refusal> {
    let failed = |e: model::ModelError| Refusal(StatusCode::INTERNAL_SERVER_ERROR, e.to_string());
    let mut probabilities = app.model.infer(pixels).map_err(failed)?;
    if fault == Answer::Wrong {
        for row in probabilities.chunks_mut(CLASSES) {
            row.rotate_right(1);
        }
    }
    if fault == Answer::Constant {
        for row in probabilities.chunks_mut(CLASSES) {
            row.fill(0.0);
            row.iter_mut().take(1).for_each(|zero| *zero = 1.0);
        }
    }
    if fault == Answer::Nan {
        probabilities.fill(f32::NAN);
    }
    let labels = model::labels(&probabilities);
    Ok((probabilities, labels))
}

async fn feedback(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let message = match protocol::parse_feedback(&body) {
        Ok(message) => message,
        Err(error) => return Refusal::from(error).into_response(),
    };
    let joined = lock(&app.memory).join(&message.request_id, &message.labels, Instant::now());
    let mut counters = lock(&app.counters);
    match joined {
        Ok(joined) => {
            if let Some(reporter) = &app.reporter {
                reporter.told(&message.request_id, &message.labels);
            }
            counters.feedback(FeedbackResult::Joined, &joined.region, joined.right, joined.rows);
            axum::Json(json!({"joined": true, "correct": joined.right, "of": joined.rows})).into_response()
        }
        Err(error) => {
            let (code, result) = match error {
                JoinError::Unknown => (StatusCode::NOT_FOUND, Some(FeedbackResult::Unknown)),
                JoinError::Duplicate => (StatusCode::CONFLICT, Some(FeedbackResult::Duplicate)),
                JoinError::Length { .. } => (StatusCode::BAD_REQUEST, None),
            };
            if let Some(result) = result {
                counters.feedback(result, "", 0, 0);
            }
            Refusal(code, error.to_string()).into_response()
        }
    }
}
