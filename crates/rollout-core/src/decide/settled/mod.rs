//! Everything outside an attempt: the first deployment, steady state, probation and the way back, deletion.
//! Here the serving revision is proven or was there first, so restoring it needs no judgement.

mod initial;
mod probation;
mod release;
mod tidy;

use chrono::TimeDelta;

use crate::observed::PolicyView;
use crate::plan::Plan;
use crate::route::Shape;
use crate::status::{Rejected, Serving};
use crate::validate::Problem;

use super::Situation;
use super::attempt;
use super::draft::{DRAIN, Draft, SOON};
use super::shapes::{single, split};
use super::traffic::{Placed, not_applied};
use crate::weights::Exposure;
use crate::words::clip;

pub use initial::establish_stable;
pub use probation::{leave_probation, return_to_previous};
pub use release::release;
pub use tidy::tidy;

/// A spec or policy that cannot be used: exposure holds, what serves goes on serving, and what must go still goes.
pub fn unusable(draft: &mut Draft<'_>, plan: &Result<Plan, Vec<Problem>>) -> Option<Situation> {
    let missing = draft.seen.policy == PolicyView::Missing;
    if plan.is_ok() && !missing {
        return None;
    }
    let situation = match plan {
        Err(problems) if !missing => {
            Situation::Invalid(clip(&problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), 2048))
        }
        _ => Situation::PolicyMissing(format!(
            "EvaluationPolicy {} does not exist in namespace {}; create it or change spec.policyRef.name",
            draft.seen.spec.policy_ref.name, draft.seen.namespace
        )),
    };
    draft.check_in(TimeDelta::seconds(30));
    if let Some(cancelled) = attempt::cancel_if_moved_on(draft) {
        return Some(cancelled);
    }
    if let Some(running) = draft.status.attempt.clone() {
        // Harm is judged on under the pinned plan; what must go goes, nothing rises.
        return Some(match attempt::progress(draft, &running) {
            Situation::Running(_) | Situation::PolicyMissing(_) | Situation::Paused(_) | Situation::Suspended(_) => situation,
            found => found,
        });
    }
    if missing && draft.status.stable.as_ref().is_some_and(|s| s.revision == draft.desired) {
        return None;
    }
    if draft.status.stable.is_none() {
        return Some(situation);
    }
    if let Some(left) = leave_probation(draft) {
        return Some(left);
    }
    match keep(draft) {
        gone @ (Situation::StableMissing(_) | Situation::TrafficNotApplied(_)) => Some(gone),
        _ => Some(situation),
    }
}

/// Steady state: the route and the workloads as they should be, and nothing written when they are.
pub fn keep(draft: &mut Draft<'_>) -> Situation {
    let Some(stable) = draft.status.stable.clone() else { return Situation::Initializing("nothing serves yet".into()) };
    draft.ensure(&stable);
    let placed = keep_route(draft, &stable);
    if !draft.workload(&stable.revision).service_exists {
        draft.check_in(SOON);
        let (service, revision) = (&stable.service, &stable.revision);
        let what = if draft.is_ours(revision) { "it is created again" } else { "create it again" };
        return Situation::StableMissing(format!("Service {service} of revision {revision}, which serves, is gone; {what}"));
    }
    if let Placed::Failed(why) = placed {
        return not_applied(draft, why);
    }
    forget_old_evidence(draft, &stable);
    if let Some(latched) = draft.status.rejected.iter().find(|r| r.revision == draft.desired && r.revision != stable.revision) {
        return Situation::RolledBack(latched.message.clone());
    }
    if stable.revision == draft.desired {
        return Situation::Promoted(format!("revision {} serves everybody", stable.revision));
    }
    draft.check_in(SOON);
    Situation::Running(format!("revision {} waits to be tried", draft.desired))
}

/// What was known of a revision that is not asked for any more says nothing about the one that serves.
fn forget_old_evidence(draft: &mut Draft<'_>, stable: &Serving) {
    let about = draft.status.decisions.first().map(|d| &d.revision);
    if stable.revision == draft.desired && about.is_some_and(|about| *about != stable.revision) {
        draft.status.evidence.clear();
    }
}

/// Puts the route into the shape at rest.
pub fn keep_route(draft: &mut Draft<'_>, stable: &Serving) -> Placed {
    let shape = resting_shape(draft, stable);
    let placed = draft.place(&shape);
    let was_applied = draft.seen.status.conditions.iter().any(|c| c.kind == "TrafficApplied" && c.status == "True");
    if placed == Placed::Written
        && was_applied
        && let Some(editors) = draft.editors()
    {
        draft.event("ForeignEdit", true, format!("the route was changed by {editors}; put back"));
    }
    placed
}

/// The shape at rest: stable, and beside it at weight 0 what served or was tried last, as long as it is there.
fn resting_shape(draft: &mut Draft<'_>, stable: &Serving) -> Shape {
    let exists =
        |draft: &Draft<'_>, serving: &Serving| serving.service != stable.service && draft.workload(&serving.revision).service_exists;
    if let Some(probation) = draft.status.probation.clone()
        && exists(draft, &probation.previous)
    {
        return split(&probation.previous, stable, Exposure::FULL);
    }
    if let Some(previous) = draft.draining().cloned()
        && exists(draft, &previous)
    {
        draft.check_in((previous.since + DRAIN - draft.now).max(SOON));
        return split(&previous, stable, Exposure::FULL);
    }
    // A rejected candidate stays referenced at weight 0: taking the reference out would cost the requests that it still answers.
    let rejected = draft.status.rejected.iter().map(|latched| rejected_serving(draft, latched, stable));
    let referenced = rejected.filter(|r| draft.is_referenced(&r.service) && exists(draft, r)).find(|_| draft.status.attempt.is_none());
    referenced.map_or_else(|| single(stable), |rejected| split(stable, &rejected, Exposure::ZERO))
}

fn rejected_serving(draft: &Draft<'_>, latched: &Rejected, stable: &Serving) -> Serving {
    if latched.revision == draft.desired {
        return draft.desired_serving();
    }
    Serving { revision: latched.revision.clone(), service: draft.child(&latched.revision), ..stable.clone() }
}
