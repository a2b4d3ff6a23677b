//! What takes users off a candidate: harm, a dead or silent candidate, a vanished stable, a route that gives more than was decided.
//! Nothing here asks for a measurement, an approval or a plan before it lowers.

use chrono::{DateTime, TimeDelta, Utc};

use crate::route;
use crate::status::{Attempt, AttemptPhase};
use crate::verdict::{Failure, Judgement, Overall};
use crate::weights::Exposure;
use crate::words;

use super::super::Situation;
use super::super::draft::{AT_ONCE, Draft, SOON, index};
use super::super::notes;
use super::super::traffic::{Placed, not_applied};
use super::Trial;
use super::stage::is_ready;

/// Windows without a judgement after which an exposed candidate is lowered.
const BLIND_WINDOWS: i32 = 5;
/// The length of a window when no plan says it.
const UNKNOWN_WINDOW: TimeDelta = TimeDelta::minutes(1);

const ENDPOINTS_GONE: &str = "CandidateEndpointsGone";

/// Why the candidate must be rejected now, if it must.
pub fn must_go(draft: &Draft<'_>, trial: Trial<'_>) -> Option<Failure> {
    let Trial { running, candidate, .. } = trial;
    if let Some(Judgement { overall: Overall::Fail(failure), .. }) = draft.judgement {
        return Some(failure.clone());
    }
    let view = draft.workload(&candidate.revision);
    if let Some(tripped) = draft.tripped(&candidate.revision) {
        return Some(Failure { guardrail: "workload".into(), reason: tripped.reason, message: tripped.message });
    }
    let gone = running.lowered.as_deref() == Some(ENDPOINTS_GONE);
    let since = match running.phase {
        AttemptPhase::Deploying => running.started,
        _ if gone => running.step_started.unwrap_or(running.stage_started),
        _ => return None,
    };
    // Before this process began to act, nobody may have been there to create anything.
    let since = since.max(draft.seen.acting_since);
    let deadline = draft.plan.map_or(TimeDelta::minutes(10), |p| p.progress_deadline);
    if draft.now - since <= deadline || is_ready(draft, candidate, Exposure::FULL) {
        return None;
    }
    let cause = view.cause.map_or_else(|| "the cluster names no cause".into(), |c| format!("{}: {}", c.reason, c.message));
    let (ready, wanted) = (view.ready_endpoints, view.desired.max(1));
    let message = format!("{ready} of {wanted} endpoints are ready after {}; {cause}", words::duration(deadline));
    Some(Failure { guardrail: "workload".into(), reason: "ProgressDeadlineExceeded".into(), message })
}

/// What takes exposure down while the attempt goes on.
pub fn must_lower(draft: &mut Draft<'_>, trial: Trial<'_>) -> Option<Situation> {
    let Trial { running, candidate, stable } = trial;
    let live = draft.live_share(&candidate.service);
    let promoted = running.phase == AttemptPhase::Promoting && live == Exposure::FULL;
    // Once the candidate has everybody, a stable that vanishes takes nobody along; sending users back to it would.
    if !draft.workload(&stable.revision).service_exists && !promoted {
        let (service, revision) = (&stable.service, &stable.revision);
        let message = format!("Service {service} of stable revision {revision} is gone; nobody is sent to the candidate in its place");
        lower(draft, trial, "StableBackendMissing", &message);
        draft.check_in(SOON);
        return Some(Situation::StableMissing(message));
    }
    let ready = draft.workload(&candidate.revision).ready_endpoints;
    if ready == 0 && (live > Exposure::ZERO || running.phase == AttemptPhase::Judging) {
        let message = format!("no endpoint of {} is ready while it {}", candidate.service, receives(live));
        lower(draft, trial, ENDPOINTS_GONE, &message);
        return Some(Situation::CandidateUnready(message));
    }
    if live > Exposure::ZERO
        && let Some((reason, message)) = blind(draft, running)
    {
        lower(draft, trial, reason, &message);
        return Some(Situation::Blind(message));
    }
    if live > running.intent {
        return Some(undo_raise(draft, trial, live));
    }
    (live < running.intent).then(|| follow_down(draft, trial, live))
}

fn receives(live: Exposure) -> String {
    if live == Exposure::ZERO { "gets mirrored requests".into() } else { format!("has {live} of the users") }
}

/// Why nobody knows how an exposed candidate does, or the split is not what was written.
fn blind(draft: &Draft<'_>, running: &Attempt) -> Option<(&'static str, String)> {
    if let Some(judgement) = draft.judgement {
        if let Overall::Lower(failure) = &judgement.overall {
            let reason = if failure.reason == "CandidateSilent" { "CandidateSilent" } else { "MetricsUnavailable" };
            return Some((reason, failure.message.clone()));
        }
        if judgement.share_above_intent {
            let share = judgement.realised_share.map_or_else(|| "more".into(), |s| format!("{s:.1}%"));
            return Some(("ShareAboveIntent", format!("the candidate really gets {share} of the requests, more than {}", running.intent)));
        }
    }
    let stored = draft.status.checkpoint.as_ref().map(|c| c.at);
    // By a clock that was put back since, what was judged last lies ahead: that is as far away as if it were past.
    let away = |at: DateTime<Utc>| (draft.now - at).abs();
    let known = [draft.judgement.map(|j| j.at), stored, running.step_started];
    let dark = known.into_iter().flatten().map(away).min().unwrap_or_else(|| away(running.started));
    let limit = draft.plan.map_or(UNKNOWN_WINDOW, |p| p.window) * BLIND_WINDOWS;
    (dark > limit).then(|| ("MetricsUnavailable", format!("nobody has judged the candidate for {}", words::duration(dark))))
}

/// Exposure to zero while the attempt goes on; nothing is asked.
fn lower(draft: &mut Draft<'_>, trial: Trial<'_>, reason: &'static str, message: &str) {
    let Trial { running, candidate, stable } = trial;
    let from = draft.live_share(&candidate.service);
    draft.check_in(SOON);
    if from == Exposure::ZERO && running.intent == Exposure::ZERO && running.lowered.as_deref() == Some(reason) {
        return;
    }
    let action = if from == Exposure::ZERO { "Held" } else { "Lowered" };
    let id = draft.record(action, "", from, Exposure::ZERO, reason, message);
    let dark = trial.arms(draft).split(Exposure::ZERO);
    draft.zero(&candidate.service, &stable.service, &dark, &notes::plain(id, candidate, "Lower", message));
    draft.event(reason, true, if from == Exposure::ZERO { message.to_owned() } else { format!("exposure {from} to 0%: {message}") });
    let phase = if running.phase == AttemptPhase::Deploying { AttemptPhase::Deploying } else { AttemptPhase::Preparing };
    let (step, intent, lowered, step_started) = (0, Exposure::ZERO, Some(reason.into()), Some(draft.now));
    draft.status.attempt = Some(Attempt { phase, step, step_started, intent, lowered, ..running.clone() });
}

/// The route gives the candidate more than was decided: back to what was decided, at once.
fn undo_raise(draft: &mut Draft<'_>, trial: Trial<'_>, live: Exposure) -> Situation {
    let Trial { running, candidate, stable } = trial;
    let who = draft.editors().unwrap_or_else(|| "somebody".into());
    let message = format!("{who} raised the candidate from {} to {live}; lowered again", running.intent);
    // Where somebody and we undo each other's writes, the log says it once.
    let repeated = draft.status.decisions.first().is_some_and(|d| d.reason == "ForeignEdit" && d.message == message);
    let id = match draft.status.decisions.first().filter(|_| repeated) {
        Some(last) => last.id.clone(),
        None => draft.record("Lowered", "", live, running.intent, "ForeignEdit", &message),
    };
    let shape = draft.stage().filter(|_| running.intent > Exposure::ZERO);
    let shape = shape.and_then(|stage| trial.arms(draft).at(stage, running, running.intent, control_exists(draft, trial)));
    let placed = shape.map_or(Placed::InPlace, |shape| draft.place_now(&shape));
    let dark = trial.arms(draft).split(Exposure::ZERO);
    if placed != Placed::Written && !draft.zero(&candidate.service, &stable.service, &dark, &notes::plain(id, candidate, "Lower", &message))
    {
        draft.status.decisions.clone_from(&draft.seen.status.decisions);
        let name = draft.seen.route.as_ref().and_then(|r| r.pointer("/metadata/name")?.as_str()).unwrap_or_default();
        return not_applied(
            draft,
            format!(
                "a rule of HTTPRoute {name} that is not the model's sends {live} to Service {}; take it out, or nothing is decided",
                candidate.service
            ),
        );
    }
    draft.event("ForeignEdit", true, message.clone());
    draft.check_in(SOON);
    Situation::TrafficNotApplied(message)
}

/// Whether the control Service of the stable arm can answer.
pub fn control_exists(draft: &Draft<'_>, trial: Trial<'_>) -> bool {
    draft.workload(&trial.stable.revision).control_exists
}

/// The intent follows a route that shows less, down to a step that was reached before; only a fresh pass goes up again.
fn follow_down(draft: &mut Draft<'_>, trial: Trial<'_>, live: Exposure) -> Situation {
    let Trial { running, candidate, .. } = trial;
    let reached = draft.stage().and_then(|stage| {
        let step = stage.steps.iter().rposition(|&step| step <= live)?;
        Some((step, *stage.steps.get(step)?))
    });
    let editor = draft.seen.route.as_ref().map(route::managers).unwrap_or_default().join(", ");
    let (reason, by) =
        if editor.is_empty() { ("RouteBelowIntent", String::new()) } else { ("ForeignEdit", format!(", edited by {editor}")) };
    let (phase, step, intent, lowered) = match reached.filter(|_| live > Exposure::ZERO) {
        Some((step, share)) => (AttemptPhase::Judging, index(step), share, None),
        None => (AttemptPhase::Preparing, 0, Exposure::ZERO, Some("RouteBelowIntent".to_owned())),
    };
    let message = format!(
        "the route gives {} {live}, not the {} that was decided{by}; it goes on from {intent}, and only a fresh pass raises it",
        candidate.service, running.intent
    );
    draft.record("Lowered", "", running.intent, intent, reason, &message);
    draft.event(reason, true, message.clone());
    let next = Attempt { phase, step, intent, lowered, step_started: Some(draft.now), ..running.clone() };
    if let (true, Some(stage)) = (live > intent, draft.stage())
        && let Some(shape) = trial.arms(draft).at(stage, &next, intent, control_exists(draft, trial))
    {
        draft.place_now(&shape);
    }
    draft.status.attempt = Some(next);
    draft.check_in(AT_ONCE);
    Situation::Running(message)
}
