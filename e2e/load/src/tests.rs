//! The generator against a small server in the same process: every figure of the report against what that server really did.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use clap::Parser as _;
use serde_json::{Value, json};

use crate::cli::Args;
use crate::generator::Run;
use crate::{control, digits};

/// Revision and behaviour for a request number and a user id.
type Script = fn(u64, &str) -> (&'static str, Behaviour);

/// What the small server does and what it was sent.
#[derive(Default)]
struct Fake {
    address: String,
    requests: AtomicU64,
    delay: Duration,
    behave: Option<Script>,
    feedback: Mutex<Vec<(Value, Option<String>)>>,
    hosts: Mutex<Vec<String>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    Right,
    Wrong,
    Nan,
    Code(u16),
    Garbage,
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|v| v.to_str().unwrap().to_owned())
}

fn truth(data: &str) -> i64 {
    static LABELS: OnceLock<BTreeMap<String, i64>> = OnceLock::new();
    let labels = LABELS.get_or_init(|| digits::load(None).unwrap().into_iter().map(|d| (d.data, d.label)).collect());
    labels[data]
}

async fn answer(State(fake): State<Arc<Fake>>, headers: HeaderMap, body: String) -> Response {
    let number = fake.requests.fetch_add(1, Ordering::Relaxed);
    fake.hosts.lock().unwrap().push(header(&headers, "host").unwrap());
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["id"].as_str().unwrap(), header(&headers, "x-request-id").unwrap());
    tokio::time::sleep(fake.delay).await;
    let user = header(&headers, "x-user-id").unwrap_or_default();
    let (revision, behaviour) = fake.behave.map_or(("r1", Behaviour::Right), |behave| behave(number, &user));
    let truth = truth(&body["inputs"][0]["data"].to_string());
    let (label, p) = match behaviour {
        Behaviour::Right => (truth, json!(1.0)),
        Behaviour::Wrong => ((truth + 1) % 10, json!(1.0)),
        Behaviour::Nan => (truth, Value::Null),
        Behaviour::Code(code) => return (StatusCode::from_u16(code).unwrap(), [("x-espalier-revision", revision)]).into_response(),
        Behaviour::Garbage => return "no json".into_response(),
    };
    let outputs = json!([{"name": "probabilities", "data": [p]}, {"name": "label", "data": [label]}]);
    let body = json!({"parameters": {"revision": "from-body"}, "outputs": outputs}).to_string();
    ([("x-espalier-revision", revision), ("x-served-by", fake.address.as_str())], body).into_response()
}

async fn learn(State(fake): State<Arc<Fake>>, headers: HeaderMap, body: String) -> StatusCode {
    fake.feedback.lock().unwrap().push((serde_json::from_str(&body).unwrap(), header(&headers, "x-espalier-revision")));
    StatusCode::OK
}

async fn serve(mut fake: Fake) -> Arc<Fake> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    fake.address = listener.local_addr().unwrap().to_string();
    let fake = Arc::new(fake);
    let app = Router::new().route("/v2/models/digits/infer", post(answer)).route("/feedback", post(learn)).with_state(Arc::clone(&fake));
    tokio::spawn(async move { axum::serve(listener, app).await });
    fake
}

fn run(fake: &Fake, flags: &str) -> Arc<Run> {
    let url = format!("http://{}", fake.address);
    let args = Args::parse_from(["espalier-load", "--url", &url, "--host", "digits.example"].into_iter().chain(flags.split_whitespace()));
    Run::new(args).unwrap()
}

async fn report(fake: &Fake, flags: &str) -> Value {
    let run = run(fake, flags);
    run.send().await;
    serde_json::to_value(run.report(true)).unwrap()
}

#[tokio::test]
async fn every_kind_of_answer_is_counted_for_its_revision() {
    let behave = |number, _: &str| match number % 10 {
        0 => ("r2", Behaviour::Wrong),
        1 => ("r2", Behaviour::Nan),
        2 => ("r2", Behaviour::Code(503)),
        3 => ("r1", Behaviour::Code(500)),
        4 => ("r1", Behaviour::Garbage),
        _ => ("r1", Behaviour::Right),
    };
    let fake = serve(Fake { behave: Some(behave), ..Fake::default() }).await;
    let report = report(&fake, "--rps 200 --duration 1s --feedback-delay-ms 10").await;
    let total = &report["total"];
    let sent = total["sent"].as_u64().unwrap();
    assert!((150..=205).contains(&sent), "{report:#}");
    let each = fake.requests.load(Ordering::Relaxed) / 10;
    let about = |value: &Value, expected: u64| {
        let found = value.as_u64().unwrap_or(0);
        assert!(found == expected || found == expected + 1, "{found}, expected about {expected} in {report:#}");
    };
    for (revision, field, expected) in [("r2", "wrong", each), ("r2", "nonfinite", each), ("r1", "wrong", 0), ("r1", "nonfinite", 0)] {
        assert!(total["revisions"][revision][field].as_u64().unwrap().abs_diff(expected) <= 1, "{revision} {field} in {report:#}");
    }
    about(&total["by_code"]["503"], each);
    about(&total["unavailable"], each);
    about(&total["by_code"]["500"], each);
    about(&total["by_code"]["unreadable"], each);
    about(&total["revisions"]["r2"]["by_code"]["503"], each);
    let not_ok = total["not_ok"].as_u64().unwrap();
    assert!(not_ok.abs_diff(3 * each) <= 3, "{report:#}");
    assert_eq!((&total["answered"], &total["skipped"]), (&total["sent"], &json!(0)));
    assert_eq!(total["latency_ms"]["n"], total["sent"]);
    let caused = total["revisions"]["r2"]["wrong_but_teacher_right"].as_u64().unwrap();
    assert!(caused >= each * 8 / 10 && caused <= each + 1, "{report:#}");
    assert_eq!(total["feedback"]["joined"].as_u64().unwrap(), sent - not_ok, "{report:#}");
    assert!(fake.hosts.lock().unwrap().iter().all(|host| host == "digits.example"));
    let feedback = fake.feedback.lock().unwrap();
    assert!(feedback.iter().all(|(message, revision)| message["label"].is_i64() && revision.is_none()));
}

#[tokio::test]
async fn feedback_through_the_gateway_names_the_revision_that_answered() {
    let fake = serve(Fake::default()).await;
    report(&fake, "--rps 100 --duration 300ms --feedback gateway --feedback-delay-ms 1").await;
    let feedback = fake.feedback.lock().unwrap();
    assert!(feedback.len() >= 20 && feedback.iter().all(|(_, revision)| revision.as_deref() == Some("r1")));
}

#[tokio::test]
async fn users_who_meet_several_revisions_are_found_per_phase() {
    // Users whose id ends in an even digit see r1 and r2 in turn, the others always r1.
    let behave = |number, user: &str| {
        let even = user.ends_with(['0', '2', '4', '6', '8', 'a', 'c', 'e']);
        (if even && number % 2 == 0 { "r2" } else { "r1" }, Behaviour::Right)
    };
    let fake = serve(Fake { behave: Some(behave), ..Fake::default() }).await;
    let run = run(&fake, "--rps 400 --users 8 --feedback off");
    let sending = tokio::spawn({
        let run = Arc::clone(&run);
        async move { run.send().await }
    });
    tokio::time::sleep(Duration::from_millis(600)).await;
    run.mark("quiet".to_owned());
    run.set_rate(0.0);
    tokio::time::sleep(Duration::from_millis(200)).await;
    run.stop();
    sending.await.unwrap();
    let report = serde_json::to_value(run.report(true)).unwrap();
    let users = &report["phases"][0]["stats"]["users"];
    let even = users["multi_revision"].as_u64().unwrap();
    assert!(users["seen"] == 8 && even > 0 && even < 8, "{report:#}");
    assert_eq!(users["flipped_back"].as_u64().unwrap(), even, "{report:#}");
    assert_eq!(users["flips"].as_array().unwrap().len(), 20);
    let quiet = &report["phases"][1];
    assert!(quiet["name"] == "quiet" && quiet["stats"]["sent"].as_u64().unwrap() <= 2, "{report:#}");
}

#[tokio::test]
async fn a_slow_server_costs_timeouts_and_skips_but_never_more_than_the_limit_in_flight() {
    let fake = serve(Fake { delay: Duration::from_secs(30), ..Fake::default() }).await;
    let report = report(&fake, "--rps 100 --duration 500ms --concurrency 4 --timeout-ms 200").await;
    let total = &report["total"];
    let sent = total["sent"].as_u64().unwrap();
    assert!((4..=16).contains(&sent), "{report:#}");
    assert_eq!(total["by_code"]["timeout"].as_u64().unwrap(), sent, "{report:#}");
    assert!(total["skipped"].as_u64().unwrap() >= 30, "{report:#}");
    assert_eq!((&total["answered"], &total["users"]["seen"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error_and_silence() {
    let fake = Fake { address: "127.0.0.1:1".to_owned(), ..Fake::default() };
    let run = run(&fake, "--rps 50 --duration 200ms");
    run.send().await;
    let report = serde_json::to_value(run.report(true)).unwrap();
    assert_eq!(report["total"]["by_code"]["connect"], report["total"]["sent"], "{report:#}");
    assert!(!run.was_answered());
}

#[tokio::test]
async fn the_control_port_reads_marks_and_stops() {
    use tower::ServiceExt as _;
    let fake = serve(Fake::default()).await;
    let run = run(&fake, "--rps 0");
    let app = control::router(Arc::clone(&run));
    let call = async |method: &str, path: &str, body: &str| {
        let request = http::Request::builder().method(method).uri(path).body(axum::body::Body::from(body.to_owned())).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let code = response.status().as_u16();
        (code, String::from_utf8(axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap())
    };
    let sending = tokio::spawn({
        let run = Arc::clone(&run);
        async move { run.send().await }
    });
    assert_eq!(call("POST", "/rate", r#"{"rps": 100}"#).await.0, 200);
    assert_eq!(call("POST", "/rate", r#"{"rps": -1}"#).await.0, 400);
    assert_eq!(call("POST", "/mark", r#"{"name": "canary"}"#).await.0, 200);
    assert_eq!(call("POST", "/mark", r#"{"phase": "canary"}"#).await.0, 400);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stats: Value = serde_json::from_str(&call("GET", "/stats", "").await.1).unwrap();
    assert_eq!((&stats["phase"], &stats["target_rps"], &stats["finished"]), (&json!("canary"), &json!(100.0), &json!(false)));
    assert!(stats["recent"]["revisions"]["r1"]["requests"].as_u64().unwrap() > 5, "{stats:#}");
    assert_eq!(call("POST", "/stop", "").await.0, 200);
    tokio::time::timeout(Duration::from_secs(2), sending).await.unwrap().unwrap();
}

#[tokio::test]
async fn every_request_has_a_line_with_its_times_code_and_revision() {
    let fake = serve(Fake::default()).await;
    let file = std::env::temp_dir().join(format!("espalier-load-answers-{}", std::process::id()));
    let run = run(&fake, &format!("--rps 100 --duration 200ms --answers {}", file.display()));
    run.send().await;
    run.flush_answers().unwrap();
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let report = serde_json::to_value(run.report(true)).unwrap();
    assert_eq!(lines.lines().count() as u64, report["total"]["sent"].as_u64().unwrap(), "{lines}");
    let started = u128::from(report["started_unix_ms"].as_u64().unwrap());
    for line in lines.lines() {
        let [sent, ended, code, revision] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let (sent, ended): (u128, u128) = (sent.parse().unwrap(), ended.parse().unwrap());
        assert!(started <= sent && sent <= ended && ended < started + 10_000, "{line}");
        assert!(code == "200" && revision.starts_with('r'), "{line}");
    }
}
