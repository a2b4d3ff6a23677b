//! `promote`, `abort`, `retry`, `approve`, `pause`, `resume`, `rollback`: one annotation that names the candidate, then the operator's answer.
//! Never writes status or spec, and decides nothing: what may be done is the operator's to say.

use std::io::Write as _;
use std::time::Duration;

use chrono::Utc;
use clap::Parser;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use rollout_core::decide::{Request, Verb};
use rollout_core::revision;
use rollout_core::status::{RequestStatus, Status};
use rollout_core::words::instant;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::cluster::{Rollouts, Target, UNREADABLE};
use super::status::{unreadable, wait};
use super::{Outcome, Output};
use crate::api::ModelRollout;
use crate::client::{CALL_TIMEOUT, timed};
use crate::observe::REQUEST;

/// Who owns the annotation. A name that starts with kubectl would be taken for a person's edit, which GitOps tools undo.
const FIELD_MANAGER: &str = "espalier-cli";
/// Exit code when the operator refused.
const REFUSED: u8 = 1;
/// Exit code when it did not answer in time.
const UNANSWERED: u8 = 2;
/// Time between two looks for the answer.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest reason, in characters: the annotation as a whole is read up to 4096 bytes.
const LONGEST_REASON: usize = 512;

/// Flags of the commands that ask for something.
#[derive(Clone, Debug, Parser)]
#[command(after_help = "\
The request is bound to one candidate: the operator refuses it when another one is live by then. Without --candidate it is the one that is live now,
which is printed before anything is asked.

Exit codes: 0 accepted, 1 refused, 2 not answered within --wait (the request stays and may still be answered), 3 not found or not readable.")]
pub struct Args {
    /// The rollout.
    pub name: String,
    /// Where it is.
    #[command(flatten)]
    pub target: Target,
    /// The candidate you saw: its revision, its digest, or its name in `kubectl get mro`.
    #[arg(long, value_name = "REVISION")]
    pub candidate: Option<String>,
    /// Why; it is kept in the decision log.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// How long to wait for the answer; 0s only asks.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = wait)]
    pub wait: Duration,
    /// Form of what is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// What is printed at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Report {
    id: String,
    action: Verb,
    candidate: String,
    result: &'static str,
    message: String,
}

/// Runs the command of `verb`.
pub async fn run(verb: Verb, args: &Args) -> Outcome {
    match Rollouts::connect(&args.target).await {
        Ok(rollouts) => {
            // A closed terminal is no reason not to ask.
            let mut tell = |line| drop(writeln!(std::io::stderr(), "{line}"));
            ask(&rollouts, verb, args, &mut tell).await
        }
        Err(error) => unreadable(&error, args.output),
    }
}

/// Asks, and waits for the answer; `tell` gets what a person should know before it comes.
async fn ask(rollouts: &Rollouts, verb: Verb, args: &Args, tell: &mut (dyn FnMut(String) + Send)) -> Outcome {
    let rollout = match rollouts.get(&args.name).await {
        Ok(rollout) => rollout,
        Err(error) => return unreadable(&error, args.output),
    };
    let mut report = Report { id: String::new(), action: verb, candidate: String::new(), result: "Refused", message: String::new() };
    let bound = subject(verb, &rollout).and_then(|subject| subject.bound(args.candidate.as_deref()).map(|()| subject));
    let subject = match bound.and_then(|subject| not_over_another(verb, &rollout).map(|()| subject)) {
        Ok(subject) => subject,
        Err(message) => return said(&Report { message, ..report }, args.output, REFUSED),
    };
    tell(format!("{} {} of {}/{}", word(verb), subject.words(), rollouts.namespace, args.name));
    let actor = who_am_i(rollouts).await;
    let request = Request {
        id: id(),
        action: verb,
        candidate: subject.name().to_owned(),
        actor,
        reason: plain(&args.reason),
        at: instant(Utc::now()),
    };
    (report.id, report.candidate) = (request.id.clone(), request.candidate.clone());
    let text = serde_json::to_string(&request).unwrap_or_default();
    let patch = json!({"metadata": {"annotations": {REQUEST: text}}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    if let Err(error) = timed(CALL_TIMEOUT, rollouts.api().patch(&args.name, &params, &Patch::Merge(&patch))).await {
        return said(
            &Report { result: "NotAsked", message: format!("the request could not be written: {error}"), ..report },
            args.output,
            UNREADABLE,
        );
    }
    if args.wait.is_zero() {
        return said(&Report { result: "Asked", message: "asked; nobody waited for the answer".into(), ..report }, args.output, 0);
    }
    let (result, message, code) = answer(rollouts, args, &request.id).await;
    said(&Report { result, message, ..report }, args.output, code)
}

/// The operator's answer to this request.
async fn answer(rollouts: &Rollouts, args: &Args, id: &str) -> (&'static str, String, u8) {
    let until = Instant::now() + args.wait;
    loop {
        sleep(PAUSE).await;
        if let Ok(rollout) = rollouts.get(&args.name).await {
            match rollout.status.as_ref().and_then(|status| status.last_request.as_ref()) {
                Some(last) if last.id == id && last.result == "Accepted" => return ("Accepted", last.message.clone(), 0),
                Some(last) if last.id == id => return ("Refused", last.message.clone(), REFUSED),
                _ => {}
            }
            if pending(&rollout).is_none_or(|pending| pending.id != id) {
                return ("Replaced", "another request took its place before it was answered".to_owned(), UNANSWERED);
            }
        }
        if Instant::now() >= until {
            let message = format!(
                "not answered within {:?}; the request stays in the annotation {REQUEST}. Is the operator running? \
                 `kubectl get mro {} -n {} -o yaml` shows status.lastRequest",
                args.wait, args.name, rollouts.namespace
            );
            return ("Unanswered", message, UNANSWERED);
        }
    }
}

fn said(report: &Report, output: Output, code: u8) -> Outcome {
    let Report { action, result, message, .. } = report;
    Outcome::of(report, || format!("{} {}: {message}\n", word(*action), result.to_lowercase()), output, code)
}

const fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Promote => "promote",
        Verb::Abort => "abort",
        Verb::Retry => "retry",
        Verb::Pause => "pause",
        Verb::Resume => "resume",
        Verb::Approve => "approve",
        Verb::Rollback => "rollback",
    }
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// The revision.
    pub revision: String,
    /// Digest of its model; empty for a baseline.
    pub digest: String,
    /// URI of its model, as far as it is known.
    pub uri: String,
    /// Its name in the columns of kubectl.
    column: String,
}

impl Subject {
    /// What the request names: the digest, which only this model has.
    fn name(&self) -> &str {
        if self.digest.is_empty() { &self.revision } else { &self.digest }
    }

    fn words(&self) -> String {
        let parts = [&self.uri, &self.digest].into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(", ");
        if parts.is_empty() { format!("revision {}", self.revision) } else { format!("revision {} ({parts})", self.revision) }
    }

    /// Whether it is what the person named.
    fn bound(&self, candidate: Option<&str>) -> Result<(), String> {
        let Some(named) = candidate else { return Ok(()) };
        let is_start = named.len() >= 4 && self.revision.starts_with(named);
        if is_start || named == self.revision || named == self.digest || named == self.column {
            return Ok(());
        }
        Err(format!("it names candidate {named}, but the live one is {}", self.words()))
    }
}

/// The revision that `verb` is about; a sentence when there is none.
pub(super) fn subject(verb: Verb, rollout: &ModelRollout) -> Result<Subject, String> {
    let status = rollout.status.clone().unwrap_or_default();
    let serving = |serving: &rollout_core::status::Serving, column: &str| Subject {
        revision: serving.revision.to_string(),
        digest: serving.digest.clone(),
        uri: serving.uri.clone(),
        column: column.to_owned(),
    };
    match verb {
        Verb::Retry => retried(&status, rollout),
        Verb::Rollback => {
            let stable = status.stable.as_ref().ok_or("nothing serves yet")?;
            Ok(serving(stable, &status.display.stable))
        }
        Verb::Promote | Verb::Abort | Verb::Pause | Verb::Resume | Verb::Approve => {
            let candidate = status.candidate.as_ref().filter(|_| status.attempt.is_some()).ok_or("no attempt is running")?;
            Ok(serving(candidate, &status.display.candidate))
        }
    }
}

fn retried(status: &Status, rollout: &ModelRollout) -> Result<Subject, String> {
    let desired = revision::id(&rollout.spec.model, &rollout.spec.workload);
    let latched = status.rejected.iter().find(|rejected| rejected.revision == desired);
    let latched = latched.ok_or_else(|| format!("revision {desired} of the spec was not rejected, so there is nothing to retry"))?;
    Ok(Subject {
        revision: latched.revision.to_string(),
        digest: latched.digest.clone(),
        uri: rollout.spec.model.uri.clone(),
        column: status.display.candidate.clone(),
    })
}

/// The request in the annotation that nobody has answered yet.
fn pending(rollout: &ModelRollout) -> Option<Request> {
    let text = rollout.metadata.annotations.as_ref()?.get(REQUEST)?;
    serde_json::from_str(text).ok()
}

/// Two people must not undo each other unseen; but what takes users off a candidate waits for nothing.
fn not_over_another(verb: Verb, rollout: &ModelRollout) -> Result<(), String> {
    let Some(waiting) = pending(rollout).filter(|_| !matches!(verb, Verb::Abort | Verb::Rollback | Verb::Pause)) else { return Ok(()) };
    let last: Option<&RequestStatus> = rollout.status.as_ref().and_then(|status| status.last_request.as_ref());
    if last.is_some_and(|last| last.id == waiting.id) {
        return Ok(());
    }
    let by = if waiting.actor.is_empty() { "somebody".to_owned() } else { waiting.actor };
    Err(format!(
        "{by} asked to {} at {} and the operator has not answered yet; try again once it has (abort, rollback and pause do not wait)",
        word(waiting.action),
        if waiting.at.is_empty() { "an unknown time" } else { &waiting.at }
    ))
}

/// The user as the API server knows them, which an admission policy may hold the request against; empty when it does not say.
async fn who_am_i(rollouts: &Rollouts) -> String {
    let reviews: Api<SelfSubjectReview> = Api::all(rollouts.client.clone());
    let review = timed(CALL_TIMEOUT, reviews.create(&PostParams::default(), &SelfSubjectReview::default())).await;
    review.ok().and_then(|review| review.status?.user_info?.username).unwrap_or_default()
}

/// A text that no earlier request had.
fn id() -> String {
    format!("cli-{}-{}", Utc::now().format("%Y%m%dT%H%M%S%.6fZ"), std::process::id())
}

/// A reason without control characters, which JSON would spell with escapes that the admission policy does not read.
fn plain(reason: &str) -> String {
    reason.chars().map(|sign| if sign.is_control() { ' ' } else { sign }).take(LONGEST_REASON).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::cli::testing::{request_of, rollout, server};

    fn args(line: &str) -> Args {
        Args::try_parse_from(format!("ask {line}").split(' ')).unwrap()
    }

    fn serving(revision: &str, digest: &str) -> Value {
        json!({"revision": revision, "digest": digest, "uri": "oci://r/m", "service": "s", "port": 80, "since": "2026-01-02T03:04:05Z"})
    }

    fn attempt() -> Value {
        json!({
            "number": 0, "started": "2026-01-02T03:04:05Z", "planHash": "0a1b2c3d", "policyGeneration": 1, "pinned": "{}", "phase": "Judging",
            "stage": 0, "step": 0, "stageStarted": "2026-01-02T03:04:05Z", "intent": 1,
        })
    }

    fn on_trial(last: Option<(&str, &str)>) -> ModelRollout {
        let last = last.map(
            |(id, result)| json!({"id": id, "action": "promote", "result": result, "message": "because", "at": "2026-01-02T03:04:05Z"}),
        );
        let mut status = json!({
            "observedGeneration": 1, "stable": serving("9f2c0000", ""), "candidate": serving("41ab0000", "sha256:41ab"), "attempt": attempt(),
            "display": {"candidate": "int8-41ab"},
        });
        if let Some(last) = last {
            status["lastRequest"] = last;
        }
        rollout(&status)
    }

    async fn asked(states: Vec<ModelRollout>, verb: Verb, line: &str) -> (Outcome, Vec<String>, Vec<(String, Value)>) {
        let (rollouts, written) = server(states);
        let mut told = Vec::new();
        let outcome = ask(&rollouts, verb, &args(line), &mut |line| told.push(line)).await;
        let written = written.lock().unwrap().clone();
        (outcome, told, written)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_names_the_live_candidate_and_the_person_and_prints_the_answer() {
        let (outcome, told, written) = asked(vec![on_trial(Some(("answer", "Accepted")))], Verb::Promote, "digits --reason urgent").await;
        assert_eq!((outcome.code, outcome.text.as_str()), (0, "promote accepted: because\n"));
        assert_eq!(told, ["promote revision 41ab0000 (oci://r/m, sha256:41ab) of ml/digits"]);
        let [(query, patch)] = written.as_slice() else { panic!("{written:?}") };
        assert!(query.contains("fieldManager=espalier-cli"), "{query}");
        let request = request_of(patch).unwrap();
        let read: Request = serde_json::from_value(request).unwrap();
        assert_eq!(
            (read.action, read.candidate.as_str(), read.actor.as_str(), read.reason.as_str()),
            (Verb::Promote, "sha256:41ab", "ann", "urgent")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_1_and_silence_is_2() {
        let (outcome, _, _) = asked(vec![on_trial(Some(("answer", "Refused")))], Verb::Approve, "digits").await;
        assert_eq!((outcome.code, outcome.text.as_str()), (1, "approve refused: because\n"));
        let (outcome, _, _) = asked(vec![on_trial(None)], Verb::Approve, "digits --wait 5s").await;
        assert!(outcome.code == 2 && outcome.text.contains("not answered within 5s"), "{outcome:?}");
        let (outcome, _, _) = asked(Vec::new(), Verb::Approve, "digits").await;
        assert_eq!(outcome.code, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn another_candidate_than_the_live_one_is_not_even_asked_for() {
        let (outcome, _, written) = asked(vec![on_trial(None)], Verb::Promote, "digits --candidate be900000").await;
        assert_eq!((outcome.code, written.len()), (1, 0));
        assert!(outcome.text.contains("it names candidate be900000, but the live one is revision 41ab0000"), "{}", outcome.text);
        for named in ["41ab0000", "41ab", "sha256:41ab", "int8-41ab"] {
            let (outcome, _, _) = asked(vec![on_trial(None)], Verb::Promote, &format!("digits --wait 0s --candidate {named}")).await;
            assert_eq!(outcome.code, 0, "{named}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_is_not_overwritten_except_to_take_users_off() {
        let mut waiting = on_trial(None);
        let other = json!({"id": "r-1", "action": "promote", "candidate": "41ab0000", "actor": "bob"}).to_string();
        waiting.metadata.annotations = Some([(REQUEST.to_owned(), other)].into());
        let (outcome, _, written) = asked(vec![waiting.clone()], Verb::Pause, "digits --wait 0s").await;
        assert_eq!((outcome.code, written.len()), (0, 1));
        let (outcome, _, written) = asked(vec![waiting], Verb::Promote, "digits --wait 0s").await;
        assert_eq!((outcome.code, written.len()), (1, 0));
        assert!(outcome.text.contains("bob asked to promote"), "{}", outcome.text);
    }

    #[test]
    fn retry_is_about_the_rejected_revision_and_rollback_about_what_serves() {
        let plain = on_trial(None);
        assert!(subject(Verb::Retry, &plain).unwrap_err().contains("was not rejected"));
        assert_eq!(subject(Verb::Rollback, &plain).unwrap().name(), "9f2c0000");
        let desired = revision::id(&plain.spec.model, &plain.spec.workload);
        let latch = json!({"revision": desired, "digest": "sha256:41ab", "at": "2026-01-02T03:04:05Z", "reason": "Harmful", "message": "m", "attempts": 1});
        let rejected = rollout(&json!({"observedGeneration": 1, "rejected": [latch]}));
        assert_eq!(subject(Verb::Retry, &rejected).unwrap().digest, "sha256:41ab");
        assert_eq!(subject(Verb::Abort, &rejected).unwrap_err(), "no attempt is running");
    }

    #[test]
    fn a_reason_needs_no_escapes_that_the_admission_policy_does_not_read() {
        let request = Request {
            id: id(),
            action: Verb::Abort,
            candidate: "c".into(),
            actor: "ann".into(),
            reason: plain("a\u{7}b \"actor\": \"bob\"\nc"),
            at: String::new(),
        };
        let text = serde_json::to_string(&request).unwrap();
        assert!(!text.contains("\\u"), "{text}");
        assert_eq!(text.matches("\"actor\":\"").count(), 1, "{text}");
    }
}
