//! The request annotation: a person asks for one thing, about one candidate, once.
//! Unknown, stale and impossible requests are refused in status, never silently dropped.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::{Attempt, AttemptPhase, RequestStatus};
use crate::verdict::{Failure, Overall};
use crate::weights::{Exposure, Grounds, RaiseTicket};

use super::draft::{AT_ONCE, Draft, SOON};
use super::{Situation, attempt, settled};
use crate::words::clip;

/// What the annotation `espalier.dev/request` holds, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// Any text that differs from the last request's; the same id is not acted on twice.
    pub id: String,
    /// What is asked for.
    pub action: Verb,
    /// Digest or revision of the candidate that the person saw.
    pub candidate: String,
    /// Who asks.
    #[serde(default)]
    pub actor: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// When, for people.
    #[serde(default)]
    pub at: String,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Promote now, without waiting for proof.
    Promote,
    /// Roll the candidate back.
    Abort,
    /// Try a rejected revision once more.
    Retry,
    /// Hold exposure where it is.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Approve the stage that waits.
    Approve,
    /// Return to the old revision during probation.
    Rollback,
}

const VERBS: &str = "promote, abort, retry, pause, resume, approve, rollback";

/// Answers the request, if there is a new one; the situation when it changed what the rollout does.
pub fn answer(draft: &mut Draft<'_>) -> Option<Situation> {
    let text = draft.seen.request.as_ref().map(|r| r.0.clone())?;
    let last = draft.status.last_request.clone();
    let request = match serde_json::from_str::<Request>(&text) {
        Ok(request) => request,
        Err(error) => {
            let id = id_of_unreadable(&text);
            let message = format!(
                "the annotation espalier.dev/request cannot be read: {error}; expected {{\"id\", \"action\" (one of {VERBS}), \"candidate\"}}"
            );
            let answered = last.is_some_and(|r| r.id == clip(&id, 128) && r.action == UNKNOWN && r.message == clip(&message, 1024));
            if !answered {
                reply(draft, &id, UNKNOWN, "", Err(message));
            }
            return None;
        }
    };
    // What could not be read was not acted on: the same id may come again, put right.
    if last.is_some_and(|r| r.id == clip(&request.id, 128) && r.action != UNKNOWN) {
        return None;
    }
    // A person who asks a moment after a step began should not have to ask again.
    if request.action == Verb::Promote && trial(draft, &request).is_ok() && draft.awaits_gateway() {
        draft.check_in(SOON);
        return None;
    }
    let (result, situation) = match act(draft, &request) {
        Ok((message, situation)) => (Ok(message), situation),
        Err(message) => (Err(message), None),
    };
    let action = serde_json::to_value(request.action).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    reply(draft, &request.id, &action, &request.actor, result);
    situation
}

const UNKNOWN: &str = "unknown";

fn id_of_unreadable(text: &str) -> String {
    let stated = serde_json::from_str::<serde_json::Value>(text).ok().and_then(|v| v.get("id")?.as_str().map(str::to_owned));
    stated.unwrap_or_else(|| format!("unreadable-{:08x}", checksum(text)))
}

fn checksum(text: &str) -> u32 {
    text.bytes().fold(2_166_136_261_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(16_777_619))
}

fn reply(draft: &mut Draft<'_>, id: &str, action: &str, actor: &str, result: Result<String, String>) {
    let (accepted, message) = match result {
        Ok(message) => (true, message),
        Err(message) => (false, message),
    };
    let by = if actor.is_empty() { String::new() } else { format!(" by {actor}") };
    // What was done has told of itself already.
    if !accepted {
        draft.event("RequestRejected", true, format!("{action}{by}: {message}"));
    } else if draft.events.is_empty() {
        draft.event("RequestAccepted", false, format!("{action}{by}: {message}"));
    }
    draft.status.last_request = Some(RequestStatus {
        id: clip(id, 128),
        action: clip(action, 32),
        actor: clip(actor, 128),
        result: if accepted { "Accepted" } else { "Refused" }.into(),
        message: clip(&message, 1024),
        at: draft.now,
    });
}

type Answer = Result<(String, Option<Situation>), String>;

fn act(draft: &mut Draft<'_>, request: &Request) -> Answer {
    if request.id.is_empty() {
        return Err("id is empty; expected a text that no earlier request had".into());
    }
    match request.action {
        Verb::Retry => retry(draft, request),
        Verb::Rollback => rollback(draft, request),
        Verb::Promote => promote(draft, request),
        Verb::Abort => {
            trial(draft, request)?;
            let failure =
                Failure { guardrail: "request".into(), reason: "Aborted".into(), message: why(request, "a person asked to roll back") };
            attempt::roll_back(draft, &failure);
            Ok(("rolled back".into(), Some(Situation::RolledBack(failure.message))))
        }
        Verb::Pause => {
            let mut running = trial(draft, request)?;
            if running.phase == AttemptPhase::Promoting {
                return Err("the candidate is being promoted, everybody is on it; use abort to take it off".into());
            }
            attempt::pause(&mut running, &why(request, "paused by a person"));
            let at = running.intent;
            draft.status.attempt = Some(running);
            Ok((format!("paused at {at}; harm still rolls back"), None))
        }
        Verb::Resume => resume(draft, request),
        Verb::Approve => approve(draft, request),
    }
}

/// The running attempt, when the request names its candidate.
fn trial(draft: &Draft<'_>, request: &Request) -> Result<Attempt, String> {
    let (Some(candidate), Some(running)) = (&draft.status.candidate, &draft.status.attempt) else {
        return Err("no attempt is running".into());
    };
    bound(request, candidate.revision.as_str(), &candidate.digest)?;
    Ok(running.clone())
}

fn promote(draft: &mut Draft<'_>, request: &Request) -> Answer {
    let running = trial(draft, request)?;
    let candidate = draft.status.candidate.clone().ok_or("no attempt is running")?;
    if draft.plan.is_none() {
        return Err("the spec or the policy cannot be used; put that right first".into());
    }
    if draft.is_suspended() {
        return Err("the rollout is suspended; set spec.suspend to false first".into());
    }
    if matches!(running.phase, AttemptPhase::Promoting) {
        return Err("the candidate is being promoted already".into());
    }
    if draft.judgement.is_some_and(|j| matches!(j.overall, Overall::Fail(_))) || draft.tripped(&candidate.revision).is_some() {
        return Err("the candidate was found harmful; it is being rolled back".into());
    }
    if draft.live_share(&candidate.service) > running.intent {
        return Err("the route gives the candidate more than was decided; ask again once that is put right".into());
    }
    attempt::may_carry(draft, &candidate, Exposure::FULL).map_err(|why| format!("not now: {why}; ask again once that is put right"))?;
    let ticket = RaiseTicket::new(candidate.revision, Exposure::FULL, Grounds::Requested { id: request.id.clone() }, draft.now);
    let message = attempt::promote(draft, ticket, &why(request, "a person asked to promote without waiting for proof"))
        .map_err(|why| format!("not now: {why}; ask again once the stage is prepared"))?;
    Ok(("promoting now, without proof".into(), Some(Situation::Running(message))))
}

fn resume(draft: &mut Draft<'_>, request: &Request) -> Answer {
    let mut running = trial(draft, request)?;
    let Some(paused) = running.paused.take() else { return Err("the attempt is not paused".into()) };
    running.stage_started = draft.now;
    let message = if paused.starts_with(attempt::INCONCLUSIVE) {
        // What was known did not suffice and would not suffice again: it is another try, at half the risk.
        running.number = running.number.saturating_add(1);
        running.started = draft.now;
        running.step_started = Some(draft.now);
        draft.judgement = None;
        draft.status.evidence.clear();
        draft.status.checkpoint = None;
        format!("resumed as attempt {}: the evidence of this stage starts anew, at half the promotion risk", running.number + 1)
    } else {
        "resumed".into()
    };
    draft.status.attempt = Some(running);
    draft.check_in(AT_ONCE);
    let situation = Situation::Running(message.clone());
    Ok((message, Some(situation)))
}

fn approve(draft: &mut Draft<'_>, request: &Request) -> Answer {
    let mut running = trial(draft, request)?;
    let Some(stage) = draft.stage() else { return Err("the spec or the policy cannot be used; put that right first".into()) };
    if !stage.approval_required {
        return Err(format!("stage {} needs no approval", stage.name));
    }
    if running.approved_stage == Some(running.stage) {
        return Err(format!("stage {} was approved already", stage.name));
    }
    if !draft.status.conditions.iter().any(|c| c.kind == "Approved" && c.status == "False") {
        return Err(format!("stage {} has not passed yet; approve it once it waits, with its numbers in view", stage.name));
    }
    running.approved_stage = Some(running.stage);
    draft.status.attempt = Some(running);
    draft.event("ApprovalReceived", false, format!("stage {}: {}", stage.name, why(request, "approved")));
    draft.check_in(AT_ONCE);
    let message = format!("stage {} is approved", stage.name);
    let situation = Situation::Running(message.clone());
    Ok((message, Some(situation)))
}

fn rollback(draft: &mut Draft<'_>, request: &Request) -> Answer {
    let stable = draft.status.stable.clone().ok_or("nothing serves yet")?;
    bound(request, stable.revision.as_str(), &stable.digest)?;
    let message = why(request, "a person asked to return to the old revision");
    let failure = Failure { guardrail: "request".into(), reason: "Requested".into(), message };
    let message = settled::return_to_previous(draft, &failure)
        .ok_or("no probation is running, so there is no revision to return to: apply the spec of the revision that should serve")?;
    Ok((message.clone(), Some(Situation::RolledBack(message))))
}

fn retry(draft: &mut Draft<'_>, request: &Request) -> Answer {
    let desired = draft.desired.clone();
    let Some(latched) = draft.status.rejected.iter().find(|r| r.revision == desired).cloned() else {
        return Err("the revision of the spec was not rejected, so there is nothing to retry".into());
    };
    bound(request, latched.revision.as_str(), &latched.digest)?;
    if draft.status.attempt.is_some() {
        return Err("an attempt is running".into());
    }
    if draft.plan.is_none() || draft.status.stable.is_none() {
        return Err("the spec or the policy cannot be used; put that right first".into());
    }
    attempt::start(draft, latched.attempts);
    let message = format!("attempt {} starts; its promotion risk is halved {} time(s)", latched.attempts + 1, latched.attempts);
    Ok((message.clone(), Some(Situation::Running(message))))
}

/// The request must name the candidate that is live, or a person could promote what they never saw.
fn bound(request: &Request, revision: &str, digest: &str) -> Result<(), String> {
    if request.candidate == revision || request.candidate == digest {
        return Ok(());
    }
    Err(format!("it names candidate {}, but the live one is {revision} ({digest})", request.candidate))
}

fn why(request: &Request, otherwise: &str) -> String {
    match (request.actor.is_empty(), request.reason.is_empty()) {
        (true, true) => otherwise.to_owned(),
        (true, false) => format!("{otherwise}: {}", request.reason),
        (false, true) => format!("{otherwise} ({})", request.actor),
        (false, false) => format!("{otherwise} ({}): {}", request.actor, request.reason),
    }
}
