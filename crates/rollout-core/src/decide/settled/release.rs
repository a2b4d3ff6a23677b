//! Deletion: the candidate off first, an adopted route put back, then the finalizer goes. Children are never deleted here.
//! It always ends: what cannot be put back is said, and does not hold the object.

use crate::route;
use crate::weights::Exposure;

use super::super::draft::{AT_ONCE, Draft, SOON};
use super::super::shapes::split;
use super::super::traffic::RouteWrite;
use super::super::{Situation, Write, notes};

/// Makes traffic safe and lets the object go.
pub fn release(draft: &mut Draft<'_>) -> Situation {
    let situation = Situation::Terminating("traffic is made safe before the object goes".into());
    if !draft.seen.has_finalizer {
        return situation;
    }
    if let (Some(adopt), Some(live)) = (draft.seen.spec.route.adopt.clone(), draft.seen.route.clone()) {
        let released = route::release(&live, adopt.rule.as_deref().unwrap_or("0"));
        if released != live {
            draft.first.push(Write::Route(RouteWrite::release(released)));
            draft.check_in(AT_ONCE);
            return situation;
        }
        // The pods that the gateways still send to go with the object.
        if draft.awaits_gateway() {
            draft.check_in(SOON);
            return situation;
        }
        say_what_is_left(draft, &adopt.name);
    } else if lower_candidate(draft) || (draft.status.candidate.is_some() && draft.seen.route.is_some() && draft.awaits_gateway()) {
        draft.check_in(SOON);
        return situation;
    }
    draft.then.push(Write::Finalizer(false));
    draft.check_in(SOON);
    situation
}

fn lower_candidate(draft: &mut Draft<'_>) -> bool {
    let (Some(candidate), Some(stable)) = (draft.status.candidate.clone(), draft.status.stable.clone()) else { return false };
    let message = "the rollout is being deleted";
    let note = notes::plain(format!("{}.0.deletion", candidate.revision), &candidate, "Release", message);
    draft.zero(&candidate.service, &stable.service, &split(&stable, &candidate, Exposure::ZERO), &note)
}

/// An adopted route whose memory was wiped cannot be put back, and its Services go with the object.
fn say_what_is_left(draft: &mut Draft<'_>, route: &str) {
    let serving = draft.status.stable.iter().chain(&draft.status.candidate).map(|s| (s.service.clone(), draft.is_ours(&s.revision)));
    let left: Vec<String> = serving.filter(|(service, ours)| *ours && draft.is_referenced(service)).map(|(service, _)| service).collect();
    if !left.is_empty() {
        let message = format!(
            "HTTPRoute {route} still names {}, which are deleted with the rollout, and what its rule was before is not remembered: edit the rule",
            left.join(" and ")
        );
        draft.event("RouteNotReleased", true, message);
    }
}
