//! Scales down what nobody is sent to any more, and deletes what is of no use as a way back.
//! Never touches what serves, what is on trial, what may still answer, or what the user runs.

use chrono::TimeDelta;

use crate::observed::WorkloadView;
use crate::revision::RevisionId;
use crate::route;
use crate::spec::Parked;
use crate::weights::Exposure;

use super::super::Write;
use super::super::draft::{DRAIN, Draft, SOON};

/// Parks, reduces and deletes.
pub fn tidy(draft: &mut Draft<'_>) {
    if draft.status.stable.is_none() {
        return;
    }
    let rest = undrained(draft);
    let drained = rest <= TimeDelta::zero();
    for (revision, view) in draft.seen.workloads.clone() {
        match idle(draft, &revision, &view) {
            Some(_) if !drained => draft.check_in(rest),
            Some(write) => draft.first.push(write),
            None => {}
        }
    }
}

/// For how long whoever lost its traffic may still have requests to answer. Since the last decision somebody else may have given it users:
/// what counts is when the route was last changed, and when the gateways took that.
fn undrained(draft: &Draft<'_>) -> TimeDelta {
    if draft.awaits_gateway() {
        return SOON;
    }
    let decided = draft.status.decisions.first().map(|d| d.time);
    let changed = draft.seen.route.as_ref().and_then(route::changed_at);
    let applied = draft.seen.status.conditions.iter().find(|c| c.kind == "TrafficApplied" && c.status == "True");
    let last = decided.max(changed).max(applied.map(|c| c.last_transition_time));
    last.map_or_else(TimeDelta::zero, |at| at + DRAIN - draft.now)
}

/// What is to be done with a revision that is not in use; `None` when it is in use or as it should be.
fn idle(draft: &Draft<'_>, revision: &RevisionId, view: &WorkloadView) -> Option<Write> {
    let status = &draft.status;
    let in_use = [&status.stable, &status.candidate].into_iter().flatten().any(|s| s.revision == *revision);
    if in_use || !view.exists || !draft.is_ours(revision) {
        return None;
    }
    let service = draft.child(revision);
    if draft.live_share(&service) > Exposure::ZERO {
        return None;
    }
    if status.probation.as_ref().is_some_and(|p| p.previous.revision == *revision) {
        let reduced = draft.plan.is_some_and(|p| p.parked == Parked::Reduced) && view.desired > 1;
        return reduced.then(|| Write::Reduce(revision.clone()));
    }
    if view.desired > 0 {
        return Some(Write::Park(revision.clone()));
    }
    let history = status.history.iter().any(|h| h.revision == *revision);
    let useful = history || status.rejected.iter().any(|r| r.revision == *revision) || *revision == draft.desired;
    (!useful && !draft.is_referenced(&service)).then(|| Write::Delete(revision.clone()))
}
