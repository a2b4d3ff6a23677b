//! The parts of an explanation in their order: what serves, what is on trial, where it is, the guardrails, what it waits for, what was decided.
//! Words a status; computes no statistics and asks nobody.

use chrono::{DateTime, Utc};
use rollout_core::status::{DecisionRecord, Serving, Status};
use rollout_core::verdict::Verdict;
use rollout_core::words::{self, instant};
use serde::Serialize;

use super::actions::{Action, actions};
use super::guardrails;
use super::place::place;
use super::risk;
use crate::api::ModelRollout;
use crate::cli::status::{condition, is, is_current};

/// Everything there is to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Story {
    /// Which object this is about.
    pub title: String,
    pub sections: Vec<Section>,
    pub actions: Vec<Action>,
}

/// Sentences about one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Section {
    pub title: String,
    pub sentences: Vec<Sentence>,
}

/// One sentence, and numbers below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Sentence {
    pub text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl From<String> for Sentence {
    fn from(text: String) -> Self {
        Self { text, details: Vec::new() }
    }
}

/// The whole explanation as of `now`.
pub(super) fn story(rollout: &ModelRollout, now: DateTime<Utc>) -> Story {
    let status = rollout.status.clone().unwrap_or_default();
    let mut sections = Vec::new();
    let mut add = |title: &str, sentences: Vec<Sentence>| {
        if !sentences.is_empty() {
            sections.push(Section { title: title.to_owned(), sentences });
        }
    };
    add("What serves", serves(&status, now));
    add("What is on trial", trial(rollout, &status, now));
    add("Where it is", place(rollout, &status, now));
    let legend = guardrails::legend(&status).map(Sentence::from);
    add("Guardrails", status.evidence.iter().map(|one| guardrails::sentence(one, &status)).chain(legend).collect());
    add("What may go wrong", status.risk.iter().map(|risk| Sentence::from(risk::sentence(risk))).collect());
    add("What it waits for", waits(rollout, &status));
    add("What was decided, newest first", status.decisions.iter().map(|one| decision(one, now)).collect());
    add("The last request", last_request(&status, now));
    Story { title: title(rollout), sections, actions: actions(rollout, &status) }
}

pub(super) fn title(rollout: &ModelRollout) -> String {
    let namespace = rollout.metadata.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let name = rollout.metadata.name.as_deref().unwrap_or("without a name");
    format!("ModelRollout {namespace}{name}, policy {}", rollout.spec.policy_ref.name)
}

/// How long ago, as people say it.
pub(super) fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    format!("{} ago", words::duration(now - at))
}

/// A revision with its model and Service.
fn named(serving: &Serving) -> String {
    let model = match (serving.uri.is_empty(), serving.digest.is_empty() || serving.uri.contains(&serving.digest)) {
        (true, _) if serving.revision.is_baseline() => "your baseline".to_owned(),
        (true, _) => "a model without a URI".to_owned(),
        (false, true) => format!("model {}", serving.uri),
        (false, false) => format!("model {} ({})", serving.uri, serving.digest),
    };
    format!("revision {}, {model}, behind Service {}:{}", serving.revision, serving.service, serving.port)
}

fn serves(status: &Status, now: DateTime<Utc>) -> Vec<Sentence> {
    let Some(stable) = &status.stable else { return vec!["Nothing serves yet.".to_owned().into()] };
    let share = status.attempt.as_ref().map_or(100, |attempt| 100 - attempt.intent.percent());
    let mut said = vec![
        format!("{} serves {share}% of the users, since {} ({}).", capital(&named(stable)), instant(stable.since), ago(stable.since, now))
            .into(),
    ];
    if let Some(available) = condition(status, "Available").filter(|c| c.status != "True") {
        said.push(format!("It is not available: {}.", available.message).into());
    }
    if let Some(probation) = &status.probation {
        let left = probation.until - now;
        let left = if left > chrono::TimeDelta::zero() {
            format!("another {}", words::duration(left))
        } else {
            "no longer than it takes to notice".to_owned()
        };
        said.push(
            format!(
                "It is on probation until {} ({left}): {} stays warm, and harm on any guardrail sends everybody back to it.",
                instant(probation.until),
                named(&probation.previous)
            )
            .into(),
        );
    }
    said
}

fn trial(rollout: &ModelRollout, status: &Status, now: DateTime<Utc>) -> Vec<Sentence> {
    let (Some(candidate), Some(attempt)) = (&status.candidate, &status.attempt) else {
        return resting(rollout, status, now);
    };
    let mut text =
        format!("{} is on trial, since {} ({}).", capital(&named(candidate)), instant(attempt.started), ago(attempt.started, now));
    if attempt.returning {
        text += " It served before and comes back without analysis.";
    }
    let mut said = vec![text.into()];
    if attempt.number > 0 {
        let factor = 2_i64.saturating_pow(u32::try_from(attempt.number.min(60)).unwrap_or(0));
        said.push(
            format!(
                "This is try number {}: because of the retries, the chance of promoting it by mistake must be {factor} times smaller.",
                attempt.number + 1
            )
            .into(),
        );
    }
    said
}

/// Without a trial: what became of the model that the spec asks for.
fn resting(rollout: &ModelRollout, status: &Status, now: DateTime<Utc>) -> Vec<Sentence> {
    let desired = rollout_core::revision::id(&rollout.spec.model, &rollout.spec.workload);
    if let Some(latched) = status.rejected.iter().find(|rejected| rejected.revision == desired) {
        let tries = if latched.attempts == 1 { "once".to_owned() } else { format!("{} times", latched.attempts) };
        let end = if latched.message.ends_with('.') { "" } else { "." };
        return vec![
            format!(
                "Nothing is on trial: revision {desired} ({}) was tried {tries} and rejected at {} ({}), reason {}: {}{end}",
                rollout.spec.model.uri,
                instant(latched.at),
                ago(latched.at, now),
                latched.reason,
                latched.message
            )
            .into(),
            "It is not tried again by itself, whatever is applied or restarted.".to_owned().into(),
        ];
    }
    if status.stable.as_ref().is_some_and(|stable| stable.revision == desired) {
        return vec!["Nothing is on trial: what serves is what the spec asks for.".to_owned().into()];
    }
    vec![format!("Nothing is on trial yet: the spec asks for revision {desired} ({}).", rollout.spec.model.uri).into()]
}

/// Reasons of Ready that other sentences tell already.
const TOLD: [&str; 5] = ["Suspended", "Paused", "AwaitingApproval", "PolicyNotFound", "RolledBack"];

fn waits(rollout: &ModelRollout, status: &Status) -> Vec<Sentence> {
    let mut said: Vec<String> = Vec::new();
    let ready = condition(status, "Ready").filter(|c| c.status != "True");
    let reason = ready.map_or("", |ready| ready.reason.as_str());
    if status.observed_generation < 0 {
        said.push(
            "The operator has not seen this object yet. If that lasts, it is not running or does not watch this namespace.".to_owned(),
        );
    } else if !is_current(rollout) {
        said.push("The operator has not looked at the newest spec yet; everything here is about the one before. If that lasts, it is not running.".to_owned());
    }
    if let Some(deleted) = &rollout.metadata.deletion_timestamp {
        said.push(format!("It is being deleted since {}: traffic is made safe first.", deleted.0));
    }
    if rollout.spec.suspend == Some(true) {
        said.push("spec.suspend is true: exposure does not rise until it is false; harm still rolls back.".to_owned());
    }
    if let Some(why) = status.attempt.as_ref().and_then(|attempt| attempt.paused.as_ref()) {
        said.push(format!("It is paused: {}", ended(why)));
    }
    if let Some(why) = status.attempt.as_ref().and_then(|attempt| attempt.lowered.as_ref()) {
        said.push(format!("Exposure was lowered while the trial goes on: {}", ended(why)));
    }
    if let Some(open) = condition(status, "PolicyResolved").filter(|c| c.status != "True" && reason != "InvalidSpec") {
        said.push(format!("The policy cannot be used: {}", ended(&open.message)));
    }
    if let Some(open) = condition(status, "TrafficApplied").filter(|c| c.status != "True") {
        said.push(format!("The gateway has not taken the route: {}", ended(&open.message)));
    }
    if is(status, "Approved", "False") {
        said.push("A person must approve: the stage has passed, and its numbers are above.".to_owned());
    }
    if reason == "RolledBack" {
        said.push("For nothing of its own: another model in the spec or a person moves it on.".to_owned());
    }
    let told = |text: &str| said.iter().any(|sentence| sentence.contains(text.trim_end_matches('.')));
    if let Some(ready) = ready.filter(|ready| !ready.message.is_empty() && !TOLD.contains(&reason) && !told(&ready.message)) {
        said.push(format!("{reason}: {}", ended(&ready.message)));
    }
    said.extend(proofs(status));
    if !status.display.next_check.is_empty() && status.attempt.is_some() {
        said.push(format!("The operator looks again within {} by itself, and at once when something changes.", status.display.next_check));
    }
    said.into_iter().map(Sentence::from).collect()
}

/// The guardrails that keep the stage from ending.
fn proofs(status: &Status) -> Vec<String> {
    let names = |verdict| {
        status.evidence.iter().filter(|one| one.verdict == verdict).map(|one| one.guardrail.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (open, dark) = (names(Verdict::Undecided), names(Verdict::Unmeasurable));
    let mut said = Vec::new();
    if !open.is_empty() && status.attempt.is_some() {
        said.push(format!("Before the stage may end, these must still be proven: {open}."));
    }
    if !dark.is_empty() {
        said.push(format!("Nothing passes without measurements, and these have none: {dark}."));
    }
    said
}

fn decision(one: &DecisionRecord, now: DateTime<Utc>) -> Sentence {
    let place = match (one.stage.as_str(), one.step.as_str()) {
        ("", _) => String::new(),
        (stage, "") => format!(" in stage {stage}"),
        (stage, step) => format!(" in stage {stage}, step {step}"),
    };
    let moved = if one.from == one.to { String::new() } else { format!(", from {} to {} of the users", one.from, one.to) };
    let because =
        if one.guardrail.is_empty() || one.guardrail == "request" { String::new() } else { format!(" because of {}", one.guardrail) };
    let text = format!(
        "{} ({}): {}{place}{moved}{because} [{}]: {}",
        instant(one.time),
        ago(one.time, now),
        action(&one.action),
        one.reason,
        ended(&one.message)
    );
    // Numbers matter where something was decided on them.
    let decided = matches!(one.action.as_str(), "RolledBack" | "Promoting" | "StagePassed" | "Paused");
    Sentence { text, details: if decided { one.numbers.clone() } else { Vec::new() } }
}

/// `RolledBack` as `rolled back`.
fn action(word: &str) -> String {
    let mut text = String::new();
    for (index, sign) in word.chars().enumerate() {
        if sign.is_uppercase() && index > 0 {
            text.push(' ');
        }
        text.extend(sign.to_lowercase());
    }
    text
}

fn last_request(status: &Status, now: DateTime<Utc>) -> Vec<Sentence> {
    let Some(last) = &status.last_request else { return Vec::new() };
    let by = if last.actor.is_empty() { "Somebody" } else { &last.actor };
    vec![format!("{by} asked to {} {}: {}, {}", last.action, ago(last.at, now), last.result.to_lowercase(), ended(&last.message)).into()]
}

/// The text with a full stop at its end.
pub(super) fn ended(text: &str) -> String {
    if text.ends_with(['.', '!', '?']) { text.to_owned() } else { format!("{text}.") }
}

fn capital(text: &str) -> String {
    let mut signs = text.chars();
    signs.next().map(|first| first.to_uppercase().collect::<String>() + signs.as_str()).unwrap_or_default()
}
