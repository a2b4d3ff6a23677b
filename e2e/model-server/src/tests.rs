//! The three ports as a client sees them, without sockets.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use clap::Parser as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::app::{self, App};
use crate::{admin, assemble, cli};

struct Server {
    app: Arc<App>,
    public: Router,
    admin: Router,
}

impl Server {
    fn new(model: &str, extra: &[&str]) -> Self {
        let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../models");
        let uri = format!("file://{models}/{model}.onnx");
        let fixed = ["espalier-model-server", "--model", &uri, "--revision", "r1", "--pod-ip", "10.244.0.7", "--pod", "p-1"];
        let args = cli::Args::parse_from(fixed.iter().chain(extra));
        let (app, _) = assemble(&args, "0.0.0.0:8080".parse().unwrap()).unwrap();
        let (public, admin) = (app::router(Arc::clone(&app)), admin::router(Arc::clone(&app), args.max_concurrency));
        Self { app, public, admin }
    }

    async fn send(router: &Router, method: &str, path: &str, region: &str, body: String) -> (StatusCode, Option<String>, String) {
        let request = Request::builder().method(method).uri(path).header("x-region", region).body(Body::from(body)).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let served_by = response.headers().get("x-served-by").map(|v| v.to_str().unwrap().to_owned());
        let code = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, served_by, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn infer(&self, id: &str, region: &str) -> (StatusCode, Value) {
        let (code, served_by, body) = Self::send(&self.public, "POST", "/v2/models/digits/infer", region, infer_body(id)).await;
        assert_eq!(served_by.as_deref(), Some("10.244.0.7:8080"));
        (code, serde_json::from_str(&body).unwrap())
    }

    async fn feedback(&self, id: &str, label: i64) -> (StatusCode, Value) {
        let (code, _, body) =
            Self::send(&self.public, "POST", "/feedback", "", json!({"request_id": id, "label": label}).to_string()).await;
        (code, serde_json::from_str(&body).unwrap())
    }

    async fn faults(&self, change: Value) -> (StatusCode, String) {
        let (code, _, body) = Self::send(&self.admin, "POST", "/admin/faults", "", change.to_string()).await;
        (code, body)
    }

    async fn metric(&self, series: &str) -> String {
        let (_, _, text) = Self::send(&self.admin, "GET", "/metrics", "", String::new()).await;
        let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or("missing").to_owned()
    }
}

/// The first digit of the test set.
fn digit() -> (Vec<f32>, i64) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/digits-test.json");
    let digits: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let pixels: Vec<u8> = serde_json::from_value(digits["images"][0].clone()).unwrap();
    (pixels.iter().map(|&p| f32::from(p) / 16.0).collect(), digits["labels"][0].as_i64().unwrap())
}

fn infer_body(id: &str) -> String {
    json!({"id": id, "inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": digit().0}]}).to_string()
}

#[tokio::test]
async fn a_right_answer_counts_as_right_once_its_label_arrives() {
    let server = Server::new("fp32", &[]);
    let (code, answer) = server.infer("a", "eu").await;
    let label = digit().1;
    assert_eq!((code, &answer["outputs"][1]["data"], &answer["id"]), (StatusCode::OK, &json!([label]), &json!("a")));
    assert_eq!(answer["parameters"]["revision"], "r1");
    assert_eq!(answer["outputs"][0]["shape"], json!([1, 10]));
    let right = r#"model_predictions_total{correct="true",region="eu"}"#;
    assert_eq!(server.metric(right).await, "0");

    assert_eq!(server.feedback("a", label).await, (StatusCode::OK, json!({"joined": true, "correct": 1, "of": 1})));
    assert_eq!(server.feedback("a", label).await.0, StatusCode::CONFLICT);
    assert_eq!(server.feedback("b", label).await.0, StatusCode::NOT_FOUND);
    server.infer("c", "mars").await;
    server.feedback("c", (label + 1) % 10).await;
    for (series, expected) in [
        (right, "1"),
        (r#"model_predictions_total{correct="false",region="other"}"#, "1"),
        (r#"model_feedback_total{result="joined"}"#, "2"),
        (r#"model_feedback_total{result="duplicate"}"#, "1"),
        (r#"model_feedback_total{result="unknown"}"#, "1"),
        (&format!(r#"model_predictions_by_class_total{{class="{label}"}}"#), "2"),
        (r#"model_inference_requests_total{code="200"}"#, "2"),
        ("model_inference_duration_seconds_count", "2"),
        ("model_requests_in_flight", "0"),
    ] {
        assert_eq!(server.metric(series).await, expected, "{series}");
    }
}

#[tokio::test]
async fn faults_switch_on_and_off_at_run_time() {
    let server = Server::new("int8", &[]);
    let label = json!([digit().1]);
    assert_eq!(server.infer("a", "eu").await.1["outputs"][1]["data"], label);

    server.faults(json!({"nan_rate": 1})).await;
    let (code, answer) = server.infer("b", "eu").await;
    assert_eq!(
        (code, &answer["outputs"][0]["data"]),
        (StatusCode::OK, &json!([null, null, null, null, null, null, null, null, null, null]))
    );
    assert_eq!(server.metric("model_nonfinite_outputs_total").await, "1");

    server.faults(json!({"reset": true, "wrong_rate": 1, "only_region": "us"})).await;
    assert_eq!(server.infer("c", "eu").await.1["outputs"][1]["data"], label);
    assert_ne!(server.infer("d", "us").await.1["outputs"][1]["data"], label);

    server.faults(json!({"reset": true, "constant_rate": 1})).await;
    let answer = server.infer("z", "eu").await.1;
    assert_eq!((&answer["outputs"][1]["data"], &answer["outputs"][0]["data"][0]), (&json!([0]), &json!(1.0)));

    server.faults(json!({"reset": true, "error_rate": 1, "latency_ms": 30})).await;
    let began = std::time::Instant::now();
    assert_eq!(server.infer("e", "eu").await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(began.elapsed() >= Duration::from_millis(30));
    assert_eq!(server.metric(r#"model_inference_requests_total{code="500"}"#).await, "1");
    assert_eq!(server.metric(r#"model_inference_duration_seconds_bucket{le="0.025"}"#).await, "5");

    let (code, words) = server.faults(json!({"error_rate": 2})).await;
    assert_eq!((code, words.as_str()), (StatusCode::BAD_REQUEST, r#"{"error":"error_rate is 2, expected a share from 0 to 1"}"#));
    server.faults(json!({"reset": true})).await;
    assert_eq!(server.infer("f", "eu").await.1["outputs"][1]["data"], label);
}

#[tokio::test]
async fn answers_and_true_labels_reach_the_comparer() {
    let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let comparer = Router::new().route(
        "/reports",
        axum::routing::post(async move |body: String| {
            sender.send(serde_json::from_str::<Value>(&body).unwrap()).unwrap();
            StatusCode::NO_CONTENT
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/reports", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, comparer).await });

    let server = Server::new("fp32", &["--comparer", &url]);
    server.infer("a", "eu").await;
    let answer = json!({"answers": [{"id": "a", "revision": "r1", "labels": [digit().1]}], "truths": []});
    assert_eq!(reports.recv().await, Some(answer));
    server.feedback("a", digit().1).await;
    server.feedback("a", digit().1).await;
    assert_eq!(reports.recv().await, Some(json!({"answers": [], "truths": [{"id": "a", "labels": [digit().1]}]})), "told once");
    assert_eq!(server.metric("model_reports_dropped_total").await, "0");
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_client_that_leaves_is_counted() {
    let server = Server::new("fp32", &["--max-concurrency", "1", "--max-queue", "0", "--fault-hang"]);
    let gone = tokio::time::timeout(Duration::from_millis(100), async {
        tokio::join!(server.infer("a", "eu"), async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert_eq!(server.metric("model_requests_in_flight").await, "1");
            assert_eq!(server.infer("b", "eu").await.0, StatusCode::SERVICE_UNAVAILABLE);
        })
    });
    assert!(gone.await.is_err(), "a hanging server must not answer");
    assert_eq!(server.metric(r#"model_inference_requests_total{code="503"}"#).await, "1");
    assert_eq!(server.metric(r#"model_inference_requests_total{code="499"}"#).await, "1");
    assert_eq!(server.metric("model_requests_in_flight").await, "0");
    assert_eq!(server.metric("model_request_queue_length").await, "0");
}

#[tokio::test]
async fn bad_requests_are_told_apart() {
    let server = Server::new("fp32", &[]);
    let (code, answer) = {
        let (code, _, body) = Server::send(&server.public, "POST", "/v2/models/cats/infer", "", infer_body("a")).await;
        (code, body)
    };
    assert_eq!((code, answer.as_str()), (StatusCode::NOT_FOUND, r#"{"error":"no model 'cats' here, this server has 'digits'"}"#));
    let (code, _, _) = Server::send(&server.public, "POST", "/v2/models/digits/infer", "", "{}".into()).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert_eq!(server.metric(r#"model_inference_requests_total{code="400"}"#).await, "1");
    assert_eq!(server.metric(r#"model_inference_requests_total{code="404"}"#).await, "1");
}

#[tokio::test]
async fn readiness_follows_the_life_of_the_server_and_liveness_does_not() {
    let server = Server::new("fp32", &[]);
    let code = async |path: &str| Server::send(&server.public, "GET", path, "", String::new()).await.0;
    assert_eq!(code("/v2/health/ready").await, StatusCode::SERVICE_UNAVAILABLE);
    server.app.serving.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(code("/v2/health/ready").await, StatusCode::OK);
    assert_eq!(code("/v2/models/digits/ready").await, StatusCode::OK);
    assert_eq!(code("/v2/models/cats/ready").await, StatusCode::NOT_FOUND);
    server.faults(json!({"not_ready": true})).await;
    assert_eq!(code("/v2/models/digits/ready").await, StatusCode::SERVICE_UNAVAILABLE);
    for path in ["/v2/health/live", "/v2", "/v2/models/digits"] {
        assert_eq!(code(path).await, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_memory_fault_is_felt_in_the_resident_size() {
    let server = Server::new("fp32", &[]);
    let before: f64 = server.metric("process_resident_memory_bytes").await.parse().unwrap();
    server.faults(json!({"oom_mib": 120})).await;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now: f64 = server.metric("process_resident_memory_bytes").await.parse().unwrap();
        // Tests beside this one take and give back a few MiB meanwhile.
        if now - before > 80.0 * 1024.0 * 1024.0 {
            return;
        }
    }
    panic!("120 MiB were asked for and never became resident");
}
