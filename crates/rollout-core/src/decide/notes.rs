//! What a write leaves on the route so that a decision survives a crash between the route and the status, and how it is read back.
//! A note only ever takes users off: no note gives a right to raise.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::route::{self, DecisionNote};
use crate::status::Serving;
use crate::verdict::Failure;
use crate::weights::Exposure;

use super::draft::Draft;
use super::traffic::RouteWrite;
use super::{Situation, attempt, settled};
use crate::words::clip;

const ROLLBACK: &str = "Rollback";
const RETURN: &str = "Return";

/// Completes a rollback that reached the route but not the status: the note on the route names revision and attempt.
pub fn complete(draft: &mut Draft<'_>) -> Option<Situation> {
    let note = draft.seen.route.as_ref().and_then(route::read_note)?;
    if let (Some(candidate), Some(running)) = (draft.status.candidate.clone(), draft.status.attempt.clone()) {
        if note.action != ROLLBACK || note.revision != candidate.revision || !note.id.starts_with(&prefix(&candidate, running.number)) {
            return None;
        }
        let failure = failure(&note);
        attempt::roll_back(draft, &failure);
        return Some(Situation::RolledBack(failure.message));
    }
    // A promotion leaves a note of its own, so one that takes users off the promoted revision is younger than that.
    let probation = draft.status.probation.is_some() && draft.status.stable.as_ref().is_some_and(|s| s.revision == note.revision);
    if !probation || (note.action != RETURN && note.action != ROLLBACK) {
        return None;
    }
    settled::return_to_previous(draft, &failure(&note)).map(Situation::RolledBack)
}

fn prefix(candidate: &Serving, attempt: i32) -> String {
    format!("{}.{attempt}.", candidate.revision)
}

fn failure(note: &DecisionNote) -> Failure {
    let (guardrail, rest) = note.reason.split_once('|').unwrap_or(("", note.reason.as_str()));
    let (reason, message) = rest.split_once('|').unwrap_or(("Harmful", rest));
    Failure { guardrail: guardrail.into(), reason: reason.into(), message: message.into() }
}

fn words(failure: &Failure) -> String {
    clip(&format!("{}|{}|{}", failure.guardrail, failure.reason, failure.message), 1024)
}

/// The note that a rollback leaves on the route; it has all that the latch needs.
pub fn rollback(candidate: &Serving, attempt: i32, sequence: &str, failure: &Failure) -> DecisionNote {
    DecisionNote {
        id: format!("{}{sequence}", prefix(candidate, attempt)),
        revision: candidate.revision.clone(),
        action: ROLLBACK.into(),
        reason: words(failure),
    }
}

/// The note that a return to the old revision leaves on the route.
pub fn returned(id: String, left: &Serving, failure: &Failure) -> DecisionNote {
    DecisionNote { id, revision: left.revision.clone(), action: RETURN.into(), reason: words(failure) }
}

/// The note of any other write: for people, and so that an older note does not speak any more.
pub fn plain(id: String, about: &Serving, action: &str, message: &str) -> DecisionNote {
    DecisionNote { id, revision: about.revision.clone(), action: action.into(), reason: clip(message, 1024) }
}

/// Number of the running attempt and of a decision's id, as a note needs them.
pub fn sequence(id: &str) -> &str {
    id.rsplit('.').next().unwrap_or("0")
}

/// The one write of a rollback: all users off the candidate, with the reason on the route; `None` when nobody is sent to it, or when the
/// route has no rule in which stable could take over, which `decide` renders anew.
///
/// It needs nothing but the route as last seen, so it can go out before anything else is read or written.
pub fn escape(live: &Value, candidate: &Serving, stable: &Serving, attempt: i32, sequence: &str, failure: &Failure) -> Option<RouteWrite> {
    if route::exposure(live, &candidate.service).share == Exposure::ZERO {
        return None;
    }
    let mut object = route::lower(live, &candidate.service, &stable.service);
    if object == *live {
        return None;
    }
    route::note(&mut object, &rollback(candidate, attempt, sequence, failure));
    RouteWrite::lowering(Some(live), object, &BTreeSet::from([candidate.service.clone()]))
}

/// How often this revision has been tried, as far as the decision log remembers; at least once.
pub fn attempts_of(draft: &Draft<'_>, serving: &Serving) -> i32 {
    let numbers = draft.status.decisions.iter().filter(|d| d.revision == serving.revision);
    let numbers = numbers.filter_map(|d| d.id.split('.').nth(1)?.parse::<i32>().ok());
    numbers.max().unwrap_or(0) + 1
}
