//! What serves when the status does not say: what the route already gives everybody to, the baseline, or a first revision.
//! A route alone never makes an unproven revision stable: less than everybody is a trial that went on when the status was lost.

use chrono::TimeDelta;

use crate::revision::{self, RevisionId};
use crate::route::{self, Acceptance};
use crate::spec::{Baseline, Initial};
use crate::status::Serving;
use crate::weights::{Exposure, Grounds, RaiseTicket};

use super::super::draft::{AT_ONCE, Draft, SOON};
use super::super::shapes::single;
use super::super::traffic::{Placed, not_applied};
use super::super::{Situation, notes};

/// Reason of a first deployment, in the decision log and on the route.
const FIRST: &str = "InitialDeployment";

/// Finds out what serves when the status does not say.
pub fn establish_stable(draft: &mut Draft<'_>) -> Option<Situation> {
    if draft.status.stable.is_some() {
        return None;
    }
    if let Some(found) = serving_already(draft) {
        let message = format!("revision {} serves already and is taken as stable", found.revision);
        draft.event("Adopted", false, message.clone());
        draft.status.stable = Some(found);
        draft.check_in(AT_ONCE);
        return Some(Situation::Initializing(message));
    }
    if let Some(baseline) = draft.seen.spec.baseline.clone() {
        let serving = of_baseline(draft, &baseline);
        if !draft.workload(&serving.revision).service_exists {
            draft.check_in(TimeDelta::seconds(5));
            let name = &serving.service;
            return Some(Situation::StableMissing(format!(
                "Service {name} of spec.baseline does not exist; create it or remove spec.baseline"
            )));
        }
        draft.status.stable = Some(serving);
        draft.check_in(AT_ONCE);
        return Some(Situation::Initializing("the baseline serves until a revision is promoted".into()));
    }
    let others = draft.seen.recorded.iter().filter(|r| **r != draft.desired).count();
    if others > 0 && draft.seen.spec.initial != Some(Initial::Promote) {
        draft.check_in(TimeDelta::seconds(60));
        return Some(Situation::HoldingInitial(format!(
            "{others} other revision(s) are on record, but neither the status nor the route says which one serves: set spec.initial to Promote to \
             serve revision {} without a trial, or name what serves in spec.baseline",
            draft.desired
        )));
    }
    Some(initial_deployment(draft))
}

fn of_baseline(draft: &Draft<'_>, baseline: &Baseline) -> Serving {
    Serving {
        revision: RevisionId::new(RevisionId::BASELINE),
        digest: String::new(),
        uri: String::new(),
        service: baseline.backend_ref.name.clone(),
        port: baseline.backend_ref.port,
        since: draft.now,
    }
}

/// The revision on record that the live route gives everybody to, or that it held against a candidate which its note names.
fn serving_already(draft: &Draft<'_>) -> Option<Serving> {
    let live = draft.seen.route.as_ref()?;
    let share = |revision: &RevisionId| route::exposure(live, &draft.child(revision)).share;
    let note = route::read_note(live);
    if note.as_ref().is_some_and(|n| n.reason == FIRST && n.revision == draft.desired) && draft.controls(live) {
        // The first deployment under way, not something that was found.
        return None;
    }
    let tried = note.filter(|n| !matches!(n.action.as_str(), "Promote" | "Restore")).map(|n| n.revision);
    let known = draft.seen.recorded.iter().filter(|r| share(r) > Exposure::ZERO && tried.as_ref() != Some(*r));
    let mut serving = known.filter(|r| tried.is_some() || share(r) == Exposure::FULL);
    let (found, None) = (serving.next()?.clone(), serving.next()) else { return None };
    let is_desired = found == draft.desired;
    Some(Serving {
        digest: if is_desired { revision::model_digest(&draft.seen.spec.model) } else { String::new() },
        uri: if is_desired { draft.seen.spec.model.uri.clone() } else { String::new() },
        service: draft.child(&found),
        port: draft.seen.spec.workload.port.unwrap_or(80),
        since: draft.now,
        revision: found,
    })
}

fn initial_deployment(draft: &mut Draft<'_>) -> Situation {
    let serving = draft.desired_serving();
    draft.ensure(&serving);
    let view = draft.workload(&serving.revision);
    if !view.service_exists || view.ready_endpoints < view.desired.max(1) {
        draft.check_in(TimeDelta::seconds(2));
        let cause = view.cause.map(|c| format!("; {}: {}", c.reason, c.message)).unwrap_or_default();
        let (revision, ready, wanted) = (&serving.revision, view.ready_endpoints, view.desired.max(1));
        return Situation::Initializing(format!("waiting for the first revision {revision}: {ready} of {wanted} endpoints ready{cause}"));
    }
    if draft.is_suspended() {
        return Situation::Suspended(format!(
            "suspended; the first revision {} is ready and waits until spec.suspend is false",
            serving.revision
        ));
    }
    if let Some(problem) = draft.seen.preflight.first().cloned() {
        return not_applied(draft, problem);
    }
    let shape = single(&serving);
    if draft.is_in(&shape) {
        return match draft.acceptance() {
            Acceptance::Accepted => first_promoted(draft, serving),
            Acceptance::Pending(why) => {
                draft.check_in(SOON);
                Situation::Initializing(format!("the first revision is ready; {why}"))
            }
            Acceptance::Refused(why) => not_applied(draft, why),
        };
    }
    let message = format!("sending users to the first revision {}", serving.revision);
    let ticket = RaiseTicket::new(serving.revision.clone(), Exposure::FULL, Grounds::InitialDeployment, draft.now);
    let note = notes::plain(format!("{}.0.0", serving.revision), &serving, "Promote", FIRST);
    match draft.raise(&shape, ticket, &serving.service, &note) {
        Placed::Failed(why) => not_applied(draft, why),
        _ => Situation::Initializing(message),
    }
}

fn first_promoted(draft: &mut Draft<'_>, serving: Serving) -> Situation {
    let message = format!("revision {} is the first and serves everybody", serving.revision);
    draft.record("Promoted", "", Exposure::ZERO, Exposure::FULL, FIRST, &message);
    draft.event("Promoted", false, message.clone());
    draft.status.stable = Some(serving);
    draft.check_in(AT_ONCE);
    Situation::Promoted(message)
}
