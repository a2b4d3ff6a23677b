//! The command over the recording of the docs: what it decides, that it is what the operator would have judged, and what it refuses.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use clap::Parser;
use rollout_core::evidence::{Query, Series};
use rollout_core::plan::{IdCarrier, PlannedAssignment};
use rollout_core::replay::{Replay, instants};
use rollout_core::revision::RevisionId;
use rollout_core::spec::{Alphabet, StageKind};
use rollout_core::status::{AttemptPhase, Serving};
use rollout_core::weights::Position;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::recording::Recording;
use super::*;
use crate::prometheus::Server;
use crate::tracker::{Identity, Key, Tracker, Watched};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples/backtest");

fn file(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// Flags behind the policy, the rollout and the recording of the docs.
fn args(more: &str) -> Args {
    let from = if more.contains("--from") { String::new() } else { format!("--from {}", file("recording.json")) };
    let line = format!("backtest -f {} -f {} {from} {more}", file("policy.yaml"), file("rollout.yaml"));
    Args::try_parse_from(line.split_whitespace()).unwrap()
}

async fn json_of(more: &str) -> (Value, u8) {
    let outcome = run(&args(&format!("{more} -o json"))).await;
    (serde_json::from_str(&outcome.text).unwrap(), outcome.code)
}

async fn error(more: &str) -> String {
    let (report, code) = json_of(more).await;
    assert_eq!(code, UNUSABLE, "{report}");
    report["errors"][0].as_str().unwrap().to_owned()
}

fn actions(report: &Value) -> Vec<String> {
    let decisions = report["attempts"][0]["decisions"].as_array().unwrap();
    decisions.iter().map(|decision| format!("{} {}", decision["action"].as_str().unwrap(), decision["to"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_good_candidate_is_promoted_stage_by_stage() {
    let (report, code) = json_of("").await;
    assert_eq!((code, report["outcome"].as_str().unwrap()), (0, "Promoted"));
    assert_eq!(
        actions(&report),
        ["Started 0%", "Mirrored 0%", "StagePassed 0%", "Raised 5%", "Raised 25%", "Promoting 100%", "Promoted 100%"]
    );
    let proven = report["attempts"][0]["verdicts"].as_array().unwrap();
    let of = |stage: &str| -> Vec<&str> {
        let there = proven.iter().filter(|told| told["stage"] == stage && told["verdict"] == "Proven");
        there.map(|told| told["guardrail"].as_str().unwrap()).collect()
    };
    assert_eq!((of("shadow").len(), of("canary").len()), (3, 4), "outcomes do not count in a shadow stage: {proven:?}");
}

/// The same samples through the operator's own tracker, told of every step as the reconciler tells it, end in the same judgements at every instant.
#[test]
fn what_is_replayed_is_what_the_operator_judges() {
    let mut case = case("");
    // In stages of these kinds nothing is checked against a written share, which a recording of other shares would break.
    for (stage, kind) in case.subject.plan.stages.iter_mut().zip([StageKind::Shadow, StageKind::ABTest]) {
        stage.kind = kind;
        stage.assignment = Some(PlannedAssignment { carrier: IdCarrier::Header("x-user-id".into()), alphabet: Alphabet::Hex });
    }
    case.subject.plan.guardrails.iter_mut().for_each(|guardrail| guardrail.stages = vec![StageKind::Shadow, StageKind::ABTest]);
    let plan = &case.subject.plan;
    let scene = Scene::set(Recording::read(&file("recording.json")).unwrap(), &case.wanted, plan).unwrap();
    let readings = Arc::new(scene.readings(plan).unwrap());
    let (from, to) = window(&args(""), &scene, plan).unwrap();
    let (arms, mut replay) = (scene.arms_since(from), Replay::start(&case.subject, from));
    let (tracker, server, key) =
        (Tracker::default(), Server::plain("http://p:9090").unwrap(), Key { namespace: "ml".into(), name: "digits".into() });
    let mut compared = 0;
    for at in instants(from, to, plan.interval) {
        let Some(attempt) = replay.attempt().filter(|attempt| attempt.phase != AttemptPhase::Deploying).cloned() else { break };
        let position = Position { stage: usize::try_from(attempt.stage).unwrap(), step: usize::try_from(attempt.step).unwrap() };
        let stage = &plan.stages[position.stage];
        let serving = |name: &str| Serving {
            revision: RevisionId::new(name),
            digest: String::new(),
            uri: String::new(),
            service: name.into(),
            port: 80,
            since: from,
        };
        let identity = Identity {
            uid: "u".into(),
            revision: rollout_core::replay::candidate(&case.subject.rollout),
            started: attempt.started,
            plan_hash: plan.hash.clone(),
        };
        let watched = Watched {
            identity: identity.clone(),
            attempt: 0,
            plan: Arc::new(plan.clone()),
            arms: arms.clone(),
            server: server.clone(),
            position,
            kind: stage.kind,
            exposure: attempt.intent,
            stage_started: attempt.stage_started,
            step_started: attempt.step_started.unwrap_or(attempt.stage_started),
            last_step: position.step + 1 == stage.steps.len(),
            candidate: serving("candidate"),
            stable: serving("stable"),
            sequence: "1".into(),
            checkpoint: None,
        };
        tracker.watch(&key, watched);
        tracker.absorb(&server, at, at, |_| Arc::clone(&readings));
        let (judged, _) = tracker.judgement(&key, &identity).unwrap();
        assert_eq!(replay.step(&arms, at, &readings), Some(&judged), "at {at}");
        compared += 1;
    }
    assert!(compared > 30 && replay.end() == Some(End::Promoted), "{compared} instants, {:?}", replay.end());
}

fn case(more: &str) -> Case {
    let args = args(more);
    Case::read(&args, &input::read(&args.files)).unwrap()
}

#[tokio::test]
async fn stable_against_itself_gives_no_alarm() {
    let (report, code) = json_of("--split-stable --stable 9f33c0de").await;
    assert_eq!((code, report["outcome"].as_str().unwrap()), (0, "NoFalseAlarm"));
    assert!(report["alarms"]["attempts"].as_u64().unwrap() > 1 && report["alarms"]["rolledBack"] == 0, "{}", report["alarms"]);
    assert!(error("--split-stable --stable espalier_dev_rollout=other").await.contains("has 0 pods"));
}

#[tokio::test]
async fn an_injected_regression_is_found_and_the_same_seed_gives_the_same_answer() {
    let (report, code) = json_of("--inject accuracy=+8pp@30m").await;
    let injected = &report["injections"][0];
    assert_eq!((code, report["outcome"].as_str().unwrap(), injected["by"].as_str().unwrap()), (0, "Found", "accuracy"));
    let after = injected["foundAfterSeconds"].as_i64().unwrap();
    assert!((30..3600).contains(&after), "{after}");
    assert_eq!(report, json_of("--inject accuracy=+8pp@30m").await.0);
    assert_ne!(report["attempts"], json_of("--inject accuracy=+8pp@30m --seed 2").await.0["attempts"]);
    let (report, code) = json_of("--inject accuracy=-1pp@30m").await;
    assert_eq!((code, report["outcome"].as_str().unwrap()), (1, "NotFound"), "better is not worse");
}

#[tokio::test]
async fn latency_errors_and_tripwires_can_be_made_worse_too() {
    for (injection, by) in [("latency=+9pp@10m", "latency"), ("errors=6x@10m", "errors"), ("nan=+1@10m", "nan")] {
        let (report, _) = json_of(&format!("--inject {injection}")).await;
        assert_eq!(report["injections"][0]["by"], by, "{injection}: {}", report["summary"]);
    }
}

/// Bad events go up by what was asked for, the total does not move, stable and the time before are as recorded.
#[test]
fn an_injection_turns_events_of_the_candidate_and_makes_none() {
    let case = case("");
    let plan = &case.subject.plan;
    let scene = Scene::set(Recording::read(&file("recording.json")).unwrap(), &case.wanted, plan).unwrap();
    let (from, _) = window(&args(""), &scene, plan).unwrap();
    let (changed, at) = Injection::read("accuracy=+5pp@30m").unwrap().apply(scene.clone(), plan, from, 1).unwrap();
    let grown = |scene: &Scene, label: Option<&str>, revision: &str| -> f64 {
        let own = |series: &&Series| {
            let is = |label: &str, value: &str| series.labels.get(label).is_some_and(|found| found == value);
            is("__name__", "model_predictions_total") && is("espalier_dev_revision", revision) && label.is_none_or(|l| is("correct", l))
        };
        let since = |series: &Series| {
            let before = series.samples.iter().rfind(|sample| sample.at < at.timestamp_millis()).unwrap().value;
            series.samples.last().unwrap().value - before
        };
        scene.series().filter(own).map(since).sum()
    };
    let (wrong, all) = (grown(&scene, Some("false"), "candidate"), grown(&scene, None, "candidate"));
    let more = grown(&changed, Some("false"), "candidate") - wrong;
    assert!((more / all - 0.05).abs() < 0.004, "{more} of {all}");
    assert!((grown(&changed, None, "candidate") - all).abs() < 0.5);
    assert!((grown(&changed, None, "stable") - grown(&scene, None, "stable")).abs() < 0.5);
    let early = |scene: &Scene| -> Vec<f64> {
        scene.series().flat_map(|s| s.samples.iter().filter(|sample| sample.at < at.timestamp_millis()).map(|s| s.value)).collect()
    };
    assert_eq!(early(&changed), early(&scene));
    let monotone = |series: &Series| series.samples.is_sorted_by(|a, b| a.value <= b.value);
    assert!(changed.series().filter(|s| s.labels.contains_key("correct")).all(monotone), "a counter that falls would look like a restart");
}

#[tokio::test]
async fn what_cannot_be_used_is_named_with_what_was_found_and_expected() {
    let cases = [
        ("--from /does/not/exist", "--from /does/not/exist: cannot be read"),
        (
            "--candidate nobody",
            "--candidate nobody: no series of the recording belongs to it; the recording holds\n  6eab8800 of rollout digits",
        ),
        ("--stable 6eab8800", "--candidate and --stable are both 6eab8800"),
        ("--namespace other", "--candidate 6eab8800: no series"),
        ("--candidate namespace=ml --stable pod=digits-v1-6c9fd-hx2kp", "belongs to candidate and to stable"),
        ("--start 2030-01-01T00:00:00Z", "nothing to replay from 2030-01-01T00:00:00Z"),
        ("--inject typo=+1pp@1m", "found no guardrail typo, expected one of accuracy, latency, errors, nan"),
        ("--inject accuracy=+5@1m", "it counts events, expected a change such as +5pp or 2x"),
        ("--inject nan=+5pp@1m", "it is no share of events"),
        ("--inject accuracy=+99pp@1m", "would not be between 0% and 100%"),
        ("--inject accuracy=+5pp@9h", "after the recording's end"),
        ("--from http://127.0.0.1:9", "no connection to http://127.0.0.1:9"),
    ];
    for (flags, expected) in cases {
        let found = error(flags).await;
        assert!(found.contains(expected), "{flags}: {found}");
    }
    for flags in
        ["--inject accuracy", "--inject accuracy=5@1h@2", "--inject accuracy=+pp@1m", "--start monday", "--candidate =", "--last 0s"]
    {
        let line = format!("backtest -f x --from y {flags}");
        assert!(Args::try_parse_from(line.split_whitespace()).is_err(), "{flags}");
    }
}

/// A server answers with what the file holds; asked piece by piece and saved, it gives the same decision.
#[tokio::test]
async fn a_server_and_what_was_saved_of_it_give_the_decision_of_the_file() {
    let recording = Arc::new(Recording::read(&file("recording.json")).unwrap());
    let handler = move |body: Bytes| {
        let recording = Arc::clone(&recording);
        async move { ([(CONTENT_TYPE, "application/json")], answer(&recording, &body)) }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(handler)).await });
    let saved = std::env::temp_dir().join(format!("espalier-backtest-{}.json", std::process::id()));
    let range = "--start 2027-01-15T08:04:30Z --end 2027-01-15T09:35:00Z";
    let (mut of_server, _) = json_of(&format!("--from {address} {range} --save {}", saved.display())).await;
    let (mut of_saved, _) = json_of(&format!("--from {}", saved.display())).await;
    std::fs::remove_file(&saved).unwrap();
    let (mut of_file, _) = json_of(range).await;
    for report in [&mut of_server, &mut of_saved, &mut of_file] {
        report.as_object_mut().unwrap().remove("source");
    }
    assert_eq!(of_server["outcome"], "Promoted");
    assert_eq!(of_server, of_file);
    assert_eq!(of_saved["attempts"], of_file["attempts"]);
}

/// The samples of `selector[N ms]` before a time, as a server gives them.
fn answer(recording: &Recording, body: &Bytes) -> String {
    let text = format!("http://form/?{}", std::str::from_utf8(body).unwrap());
    let form: std::collections::BTreeMap<String, String> = reqwest::Url::parse(&text).unwrap().query_pairs().into_owned().collect();
    let (selector, range) = form["query"].rsplit_once('[').unwrap();
    let range: i64 = range.trim_end_matches("ms]").parse().unwrap();
    let seconds: f64 = form["time"].parse().unwrap();
    #[allow(clippy::cast_possible_truncation)]
    let to = (seconds * 1000.0).round() as i64;
    let found = recording.select(&Query::new(selector).selector().unwrap()).unwrap();
    let series = found.iter().filter_map(|series| {
        let inside = series.samples.iter().filter(|sample| sample.at > to - range && sample.at <= to);
        #[allow(clippy::cast_precision_loss)]
        let values: Vec<Value> = inside.map(|sample| json!([sample.at as f64 / 1000.0, sample.value.to_string()])).collect();
        (!values.is_empty()).then(|| json!({"metric": series.labels.as_ref(), "values": values}))
    });
    json!({"status": "success", "data": {"resultType": "matrix", "result": series.collect::<Vec<_>>()}}).to_string()
}

#[tokio::test]
async fn pictures_are_drawn_of_everything_that_has_evidence() {
    let folder = std::env::temp_dir().join(format!("espalier-pictures-{}", std::process::id()));
    let (report, _) = json_of(&format!("--plot {}", folder.display())).await;
    let names: Vec<String> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let text = std::fs::read_to_string(folder.join("accuracy.svg")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!((names.len(), report["pictures"].as_array().unwrap().len()), (4, 4), "{names:?}: a tripwire has no evidence");
    for expected in
        ["evidence, ln E", "proven at 3.0", "harm at", "critical +5pp vs stable", "exposure", "moved to 5%", "prefers-color-scheme: dark"]
    {
        assert!(text.contains(expected), "{expected}");
    }
    assert!(!text.contains("NaN") && !text.contains("inf"), "every place is a number");
}

/// Counters that fall in the recording are a restart, also where events were injected.
#[test]
fn an_injection_survives_a_restart_of_the_pod() {
    let mut recording: Vec<Series> = Recording::read(&file("recording.json")).unwrap().into_series().collect();
    for series in recording.iter_mut().filter(|series| series.labels.get("pod").is_some_and(|pod| pod.contains("v2"))) {
        if series.labels["__name__"] != "up" {
            let at = series.samples[90].value;
            series.samples.iter_mut().skip(91).for_each(|sample| sample.value -= at);
        }
    }
    let case = case("");
    let plan = &case.subject.plan;
    let scene = Scene::set(Recording::of(recording), &case.wanted, plan).unwrap();
    let (from, to) = window(&args(""), &scene, plan).unwrap();
    let (scene, at) = Injection::read("accuracy=+8pp@60m").unwrap().apply(scene, plan, from, 1).unwrap();
    let play = Play { subject: &case.subject, scene: &scene, from, to, repeats: true, found_after: Some(at) };
    let attempts = play.attempts(&scene.readings(plan).unwrap(), &mut |_| ());
    assert!(attempts.iter().all(|attempt| attempt.end != Some(End::RolledBack) || attempt.ended > at), "a restart is not harm");
}
