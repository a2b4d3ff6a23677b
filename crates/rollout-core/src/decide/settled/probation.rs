//! Probation: the old revision stays ready, and the promoted one is left for it when it does harm.
//! Nothing waits here: the way back is one write of numbers.

use chrono::TimeDelta;

use crate::status::Serving;
use crate::verdict::{Failure, Overall};
use crate::weights::Exposure;

use super::super::draft::{AT_ONCE, Draft, SOON};
use super::super::shapes::split;
use super::super::{Situation, Write, notes};

/// Windows that a probation is given to be judged once more, when it ran out while nobody watched.
const GRACE_WINDOWS: i32 = 5;

/// Probation: over in time, or cut short by harm.
pub fn leave_probation(draft: &mut Draft<'_>) -> Option<Situation> {
    let probation = draft.status.probation.clone()?;
    let stable = draft.status.stable.clone()?;
    if let Some(failure) = harm(draft, &stable, &probation.previous) {
        return return_to_previous(draft, &failure).map(Situation::RolledBack);
    }
    let rest = probation.until - draft.now;
    let unjudged = draft.judgement.is_none() && draft.plan.is_some_and(|p| -rest < p.window * GRACE_WINDOWS);
    if rest > TimeDelta::zero() || unjudged {
        draft.ensure(&probation.previous);
        draft.check_in(if rest > TimeDelta::zero() { rest } else { SOON * 5 });
        return None;
    }
    let message = format!("probation of revision {} is over; {} may go", stable.revision, probation.previous.revision);
    draft.record("ProbationEnded", "", Exposure::FULL, Exposure::FULL, "ProbationEnded", &message);
    draft.event("ProbationEnded", false, message);
    draft.status.probation = None;
    draft.status.checkpoint = None;
    draft.check_in(AT_ONCE);
    None
}

fn harm(draft: &Draft<'_>, stable: &Serving, previous: &Serving) -> Option<Failure> {
    if let Some(Overall::Fail(failure)) = draft.judgement.map(|j| &j.overall) {
        return Some(failure.clone());
    }
    let (view, old) = (draft.workload(&stable.revision), draft.workload(&previous.revision));
    let failure = |reason: String, message: String| Failure { guardrail: "workload".into(), reason, message };
    if let Some(tripped) = draft.tripped(&stable.revision) {
        return Some(failure(tripped.reason, tripped.message));
    }
    // A node that is lost takes both: then going back helps nobody and would reject a revision that did no harm.
    let can_go_back = old.service_exists && old.ready_endpoints > 0;
    (can_go_back && (view.ready_endpoints == 0 || !view.service_exists))
        .then(|| failure("EndpointsGone".into(), format!("no endpoint of {} is ready", stable.service)))
}

/// Gives everybody back to the revision that served before, and latches the one that failed.
pub fn return_to_previous(draft: &mut Draft<'_>, failure: &Failure) -> Option<String> {
    let previous = draft.status.probation.clone()?.previous;
    let stable = draft.status.stable.clone()?;
    let message = format!("revision {} is left for {}: {}", stable.revision, previous.revision, failure.message);
    let attempts = notes::attempts_of(draft, &stable);
    let from = draft.live_share(&stable.service);
    let id = draft.record("RolledBack", &failure.guardrail, from, Exposure::ZERO, &failure.reason, &message);
    let back = split(&previous, &stable, Exposure::ZERO);
    draft.zero(&stable.service, &previous.service, &back, &notes::returned(id, &stable, failure));
    draft.reject(&stable, attempts, &Failure { message: message.clone(), ..failure.clone() });
    draft.event("RolledBack", true, message.clone());
    draft.status.history.retain(|h| h.revision != previous.revision && h.revision != stable.revision);
    if draft.workload(&previous.revision).desired <= 1 && draft.is_ours(&previous.revision) {
        // It may have been reduced to one replica: users go back at once, and its scale follows.
        draft.first.push(Write::Ensure(previous.revision.clone()));
    }
    draft.status.stable = Some(Serving { since: draft.now, ..previous });
    draft.status.probation = None;
    draft.status.checkpoint = None;
    draft.check_in(AT_ONCE);
    Some(message)
}
