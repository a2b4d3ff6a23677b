//! The last raise and the swap of roles, for a candidate that passed, one that a person promotes, and one that served before.
//! Nothing is scaled down here: the old revision stays until probation is over.

use crate::route::Acceptance;
use crate::status::{Attempt, AttemptPhase, ProbationStatus, Serving};
use crate::weights::{Exposure, Grounds, RaiseTicket};

use chrono::TimeDelta;

use super::super::draft::{AT_ONCE, Draft, SOON};
use super::super::shapes::control_name;
use super::super::traffic::{Placed, not_applied};
use super::super::{Situation, notes};
use super::Trial;
use super::stage::{Climbed, climb, may_carry};

/// Intends 100 % in status and raises the route after it; the roles swap once the gateway has taken it.
pub fn promote(draft: &mut Draft<'_>, ticket: RaiseTicket, why: &str) -> Result<String, String> {
    let (Some(candidate), Some(stable), Some(running)) =
        (draft.status.candidate.clone(), draft.status.stable.clone(), draft.status.attempt.clone())
    else {
        return Err("no attempt is running".into());
    };
    let trial = Trial { running: &running, candidate: &candidate, stable: &stable };
    let before = draft.status.clone();
    let message = format!("revision {} goes from {} to 100%: {why}", candidate.revision, running.intent);
    let id = draft.record("Promoting", "", running.intent, Exposure::FULL, "Promoting", &message);
    let shape = trial.arms(draft).everybody(draft.stage(), draft.is_referenced(&control_name(&draft.seen.name, &stable.revision)));
    draft.status.attempt = Some(Attempt {
        phase: AttemptPhase::Promoting,
        intent: Exposure::FULL,
        step_started: Some(draft.now),
        paused: None,
        ..running.clone()
    });
    if let Placed::Failed(why) = draft.raise(&shape, ticket, &candidate.service, &notes::plain(id, &candidate, "Promote", &message)) {
        draft.status = before;
        return Err(why);
    }
    draft.event("Promoting", false, message.clone());
    draft.check_in(AT_ONCE);
    Ok(message)
}

/// Everybody is on the candidate: once the gateways have taken it, the roles swap.
pub fn promoting(draft: &mut Draft<'_>, trial: Trial<'_>) -> Situation {
    let Trial { running, candidate, stable } = trial;
    // A stable that is gone keeps the route from being accepted, but there is nobody left on it.
    let deserted = !draft.workload(&stable.revision).service_exists;
    match draft.acceptance() {
        Acceptance::Accepted => {}
        _ if deserted => {}
        Acceptance::Pending(why) => {
            draft.check_in(SOON);
            return Situation::Running(format!("promoting revision {}; {why}", candidate.revision));
        }
        Acceptance::Refused(why) => return not_applied(draft, why),
    }
    let message = format!("revision {} serves everybody; {} is kept as the way back", candidate.revision, stable.revision);
    draft.record("Promoted", "", running.intent, Exposure::FULL, "Promoted", &message);
    draft.event("Promoted", false, message.clone());
    let (window, probation) = draft.plan.map_or((2, TimeDelta::zero()), |p| (p.rollback_window, p.probation));
    draft.status.history.retain(|h| h.revision != stable.revision && h.revision != candidate.revision);
    draft.status.history.insert(0, Serving { since: draft.now, ..stable.clone() });
    draft.status.history.truncate(window.max(1));
    draft.status.rejected.retain(|r| r.revision != candidate.revision);
    let until = draft.now + probation;
    draft.status.probation = (probation > TimeDelta::zero()).then(|| ProbationStatus { previous: stable.clone(), until });
    draft.status.stable = Some(Serving { since: draft.now, ..candidate.clone() });
    draft.status.candidate = None;
    draft.status.attempt = None;
    draft.status.checkpoint = None;
    draft.judgement = None;
    draft.check_in(AT_ONCE);
    Situation::Promoted(message)
}

/// A revision that served before comes back without analysis.
pub fn returning(draft: &mut Draft<'_>, trial: Trial<'_>) -> Situation {
    let candidate = trial.candidate;
    let revision = &candidate.revision;
    match climb(draft, &[trial.arms(draft).split(Exposure::ZERO)]) {
        Climbed::There => {}
        Climbed::OnTheWay(what) => return Situation::Running(format!("returning to revision {revision}: {what}")),
        Climbed::Failed(why) => return not_applied(draft, why),
    }
    if let Err(why) = may_carry(draft, candidate, Exposure::FULL) {
        draft.check_in(SOON);
        return Situation::Running(format!("returning to revision {revision} waits: {why}"));
    }
    let ticket = RaiseTicket::new(revision.clone(), Exposure::FULL, Grounds::ServedBefore, draft.now);
    match promote(draft, ticket, "it served everybody before, within the rollback window") {
        Ok(message) => Situation::Running(message),
        Err(why) => not_applied(draft, why),
    }
}
