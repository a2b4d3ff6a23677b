//! One attempt, from the first pod to promotion or rollback: how it starts, ends and starts anew, and what comes first in every look at it.
//! Everything that lowers comes first and asks nothing; everything that raises asks for a ticket.

mod promotion;
mod safety;
mod stage;

use chrono::TimeDelta;

use crate::observed::PolicyView;
use crate::status::{Attempt, AttemptPhase, Serving};
use crate::verdict::Failure;
use crate::weights::Exposure;

use super::draft::{AT_ONCE, Draft};
use super::notes;
use super::settled;
use super::shapes::Arms;
use super::{Situation, Write};
use crate::words::clip;

pub use promotion::promote;
pub use stage::{INCONCLUSIVE, may_carry};

/// Both sides of a running attempt.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'t> {
    pub running: &'t Attempt,
    pub candidate: &'t Serving,
    pub stable: &'t Serving,
}

impl<'t> Trial<'t> {
    /// Both arms as the shapes of the route need them.
    pub fn arms<'a>(&self, draft: &Draft<'a>) -> Arms<'t>
    where
        'a: 't,
    {
        Arms { rollout: &draft.seen.name, uid: &draft.seen.uid, stable: self.stable, candidate: self.candidate }
    }
}

/// Starts an attempt for a new candidate, or takes the old candidate off when the spec has moved on.
pub fn start_or_cancel(draft: &mut Draft<'_>) -> Option<Situation> {
    let stable = draft.status.stable.clone()?;
    if let Some(situation) = cancel_if_moved_on(draft) {
        return Some(situation);
    }
    let desired = draft.desired.clone();
    let latched = draft.status.rejected.iter().any(|r| r.revision == desired);
    if draft.status.attempt.is_some() || desired == stable.revision || latched {
        return None;
    }
    let serving = draft.desired_serving();
    if serving.service == stable.service {
        settled::keep(draft);
        return Some(Situation::Invalid(format!(
            "spec.workload.backendRef names Service {}, which serves already as revision {}: name another Service for the new model, so that the \
             two can be told apart",
            stable.service, stable.revision
        )));
    }
    if draft.is_suspended() {
        settled::keep(draft);
        return Some(Situation::Suspended(format!("suspended; revision {desired} waits until spec.suspend is false")));
    }
    start(draft, 0);
    Some(Situation::Running(format!("revision {desired} is on trial against {}", stable.revision)))
}

/// Takes the candidate off when the spec does not ask for it any more.
pub fn cancel_if_moved_on(draft: &mut Draft<'_>) -> Option<Situation> {
    let (candidate, stable, running) = (draft.status.candidate.clone()?, draft.status.stable.clone()?, draft.status.attempt.clone()?);
    // Everybody is on the candidate and its predecessor is gone: the roles swap first, or there would be nobody to answer.
    let deserted = running.phase == AttemptPhase::Promoting
        && draft.live_share(&candidate.service) == Exposure::FULL
        && !draft.workload(&stable.revision).service_exists;
    if candidate.revision == draft.desired || deserted {
        return None;
    }
    let trial = Trial { running: &running, candidate: &candidate, stable: &stable };
    let from = draft.live_share(&candidate.service);
    let message = format!("the spec now asks for revision {}, so {} is taken off first", draft.desired, candidate.revision);
    let id = draft.record("Cancelled", "", from, Exposure::ZERO, "SpecChanged", &message);
    let dark = trial.arms(draft).split(Exposure::ZERO);
    draft.zero(&candidate.service, &stable.service, &dark, &notes::plain(id, &candidate, "Cancel", &message));
    draft.event("Cancelled", false, message.clone());
    end(draft);
    draft.judgement = None;
    draft.status.evidence.clear();
    Some(Situation::Running(message))
}

/// Records a new attempt for the revision of the spec; `number` counts earlier tries of it.
pub fn start(draft: &mut Draft<'_>, number: i32) {
    let Some(plan) = draft.plan else { return };
    // What was judged so far was another attempt.
    draft.judgement = None;
    let serving = draft.desired_serving();
    let known = draft.status.history.iter().take(plan.rollback_window).any(|h| h.revision == serving.revision);
    let paused = draft.status.attempt.as_ref().and_then(|a| a.paused.clone());
    draft.status.candidate = Some(serving.clone());
    draft.status.evidence.clear();
    draft.status.checkpoint = None;
    draft.status.probation = None;
    draft.status.attempt = Some(Attempt {
        number,
        started: draft.now,
        plan_hash: plan.hash.clone(),
        policy_generation: match &draft.seen.policy {
            PolicyView::Found { generation, .. } => *generation,
            PolicyView::Missing => 0,
        },
        pinned: pinned(draft),
        phase: AttemptPhase::Deploying,
        stage: 0,
        step: 0,
        stage_started: draft.now,
        step_started: None,
        intent: Exposure::ZERO,
        returning: known && number == 0,
        lowered: None,
        paused,
        approved_stage: None,
    });
    let against = draft.status.stable.as_ref().map_or_else(|| "nothing".into(), |s| s.revision.to_string());
    let message = format!("revision {} ({}) is on trial against {against}", serving.revision, serving.uri);
    draft.event("CandidateDetected", false, message.clone());
    draft.record("Started", "", Exposure::ZERO, Exposure::ZERO, "CandidateDetected", &message);
    draft.check_in(AT_ONCE);
}

/// What the attempt was planned with, so that it can be read and judged on when the policy is gone.
fn pinned(draft: &Draft<'_>) -> String {
    let policy = match &draft.seen.policy {
        // Written out: another version of the operator may have other profiles.
        PolicyView::Found { spec, .. } => serde_json::to_value(crate::profile::expanded(spec)).unwrap_or_default(),
        PolicyView::Missing => serde_json::Value::Null,
    };
    serde_json::json!({"policy": policy, "stages": draft.seen.spec.stages}).to_string()
}

/// Takes the candidate off and latches why.
pub fn roll_back(draft: &mut Draft<'_>, failure: &Failure) {
    let (Some(candidate), Some(stable), Some(running)) =
        (draft.status.candidate.clone(), draft.status.stable.clone(), draft.status.attempt.clone())
    else {
        return;
    };
    let trial = Trial { running: &running, candidate: &candidate, stable: &stable };
    let from = draft.live_share(&candidate.service);
    let id = draft.record("RolledBack", &failure.guardrail, from, Exposure::ZERO, &failure.reason, &failure.message);
    let note = notes::rollback(&candidate, running.number, notes::sequence(&id), failure);
    let dark = trial.arms(draft).split(Exposure::ZERO);
    draft.zero(&candidate.service, &stable.service, &dark, &note);
    draft.reject(&candidate, running.number + 1, failure);
    draft.event("RolledBack", true, format!("revision {} is rolled back from {from}: {}", candidate.revision, failure.message));
    end(draft);
}

fn end(draft: &mut Draft<'_>) {
    if let Some(candidate) = draft.status.candidate.take() {
        // What cannot be created must not keep its own end from being recorded.
        draft.first.retain(|write| *write != Write::Ensure(candidate.revision.clone()));
    }
    draft.status.attempt = None;
    draft.status.checkpoint = None;
    draft.check_in(AT_ONCE);
}

/// The next thing in a running attempt.
pub fn progress(draft: &mut Draft<'_>, running: &Attempt) -> Situation {
    let (Some(candidate), Some(stable)) = (draft.status.candidate.clone(), draft.status.stable.clone()) else {
        end(draft);
        return Situation::Initializing("the attempt had no candidate and was dropped".into());
    };
    let trial = Trial { running, candidate: &candidate, stable: &stable };
    draft.ensure(&candidate);
    draft.ensure(&stable);
    if let Some(failure) = safety::must_go(draft, trial) {
        roll_back(draft, &failure);
        return Situation::RolledBack(failure.message);
    }
    if let Some(situation) = safety::must_lower(draft, trial) {
        return situation;
    }
    if running.phase == AttemptPhase::Promoting {
        // The raise was decided and everybody is there: to end it lowers nothing and raises nothing.
        return promotion::promoting(draft, trial);
    }
    let Some(plan) = draft.plan else {
        return Situation::PolicyMissing("exposure holds until the policy can be used again".into());
    };
    if plan.hash != running.plan_hash && draft.seen.policy != PolicyView::Missing {
        return restart(draft, trial);
    }
    if let Some(situation) = hold_still(draft, trial) {
        return situation;
    }
    match running.phase {
        AttemptPhase::Deploying => stage::deploying(draft, trial),
        AttemptPhase::Preparing if running.returning => promotion::returning(draft, trial),
        AttemptPhase::Preparing => stage::preparing(draft, trial),
        AttemptPhase::Judging | AttemptPhase::Promoting => stage::judging(draft, trial),
    }
}

/// A changed policy or other stages: evidence anew, from the first stage, nobody exposed.
fn restart(draft: &mut Draft<'_>, trial: Trial<'_>) -> Situation {
    let Trial { running, candidate, stable } = trial;
    let from = draft.live_share(&candidate.service);
    let message = "the policy or the stages changed, so the evidence starts anew from the first stage".to_owned();
    let id = draft.record("Restarted", "", from, Exposure::ZERO, "PolicyChanged", &message);
    let dark = trial.arms(draft).split(Exposure::ZERO);
    draft.zero(&candidate.service, &stable.service, &dark, &notes::plain(id, candidate, "Restart", &message));
    let (decisions, events) = (draft.status.decisions.clone(), draft.events.len());
    start(draft, running.number);
    // The restart is one transition: the log and the events say it once.
    draft.status.decisions = decisions;
    draft.events.truncate(events);
    draft.event("PolicyChanged", false, message.clone());
    Situation::Running(message)
}

/// What keeps an attempt where it is: nothing rises, and the route is kept as it should be.
fn hold_still(draft: &mut Draft<'_>, trial: Trial<'_>) -> Option<Situation> {
    let running = trial.running;
    let situation = if draft.seen.policy == PolicyView::Missing {
        draft.check_in(TimeDelta::seconds(30));
        Situation::PolicyMissing(format!(
            "EvaluationPolicy {} is gone; exposure holds at {}",
            draft.seen.spec.policy_ref.name, running.intent
        ))
    } else if draft.is_suspended() {
        Situation::Suspended(format!("suspended at {}; harm still rolls back", running.intent))
    } else {
        let why = running.paused.as_ref()?;
        Situation::Paused(format!("{why}; exposure {}", running.intent))
    };
    stage::keep_shape(draft, trial);
    Some(situation)
}

/// A pause, with the reason that the status keeps.
pub fn pause(running: &mut Attempt, why: &str) {
    running.paused = Some(clip(why, 512));
}
