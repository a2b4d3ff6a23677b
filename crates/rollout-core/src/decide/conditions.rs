//! Conditions: one row of the table per situation, and what the other conditions say by themselves.
//! Words only; nothing is decided here. `Reconciling` and `Stalled` are absent rather than False, so that tools which wait read them rightly.

use crate::observed::PolicyView;
use crate::route::Acceptance;
use crate::spec::ReadyWhen;
use crate::status::{Condition, EvidenceStatus};
use crate::verdict::Verdict;

use super::Situation;
use super::draft::Draft;
use crate::words::clip;

/// Status and reason of the three conditions that tools wait on.
struct Row {
    ready: (&'static str, &'static str),
    reconciling: Option<&'static str>,
    stalled: Option<&'static str>,
}

const fn row(ready: (&'static str, &'static str), reconciling: Option<&'static str>, stalled: Option<&'static str>) -> Row {
    Row { ready, reconciling, stalled }
}

/// `accepted`: the user wants the object Ready as soon as something good serves, whatever a trial does.
fn table(situation: &Situation, accepted: bool) -> Row {
    let working = |reason| if accepted { row(("True", "Accepted"), None, None) } else { row(("Unknown", reason), Some(reason), None) };
    let waiting = |reason| row(("Unknown", reason), Some(reason), None);
    let stuck = |reason| row(("False", reason), None, Some(reason));
    match situation {
        Situation::Terminating(_) => waiting("Terminating"),
        Situation::Invalid(_) => stuck("InvalidSpec"),
        Situation::PolicyMissing(_) => row(("False", "PolicyNotFound"), Some("PolicyNotFound"), None),
        Situation::Initializing(_) => waiting("Initializing"),
        Situation::HoldingInitial(_) => stuck("HoldingInitial"),
        Situation::Running(_) => working("Progressing"),
        Situation::AwaitingApproval(_) => working("AwaitingApproval"),
        Situation::Paused(_) => working("Paused"),
        Situation::Suspended(_) => working("Suspended"),
        Situation::Blind(_) => working("MetricsUnavailable"),
        Situation::CandidateUnready(_) => working("CandidateUnready"),
        Situation::TrafficNotApplied(_) => waiting("TrafficNotApplied"),
        Situation::Promoted(_) => row(("True", "Promoted"), None, None),
        Situation::RolledBack(_) => stuck("RolledBack"),
        Situation::StableMissing(_) => stuck("StableBackendMissing"),
    }
}

/// The sentence of a situation.
pub fn sentence(situation: &Situation) -> &str {
    match situation {
        Situation::Terminating(s)
        | Situation::Invalid(s)
        | Situation::PolicyMissing(s)
        | Situation::Initializing(s)
        | Situation::HoldingInitial(s)
        | Situation::Running(s)
        | Situation::AwaitingApproval(s)
        | Situation::Paused(s)
        | Situation::Suspended(s)
        | Situation::Blind(s)
        | Situation::CandidateUnready(s)
        | Situation::TrafficNotApplied(s)
        | Situation::Promoted(s)
        | Situation::RolledBack(s)
        | Situation::StableMissing(s) => s,
    }
}

/// Fills in the conditions; a transition time moves only with the condition's status.
pub fn fill(draft: &mut Draft<'_>, situation: &Situation) {
    let message = clip(sentence(situation), 1024);
    let accepted = draft.seen.spec.ready_when == Some(ReadyWhen::Accepted) && available(draft).1 == "True";
    let row = table(situation, accepted);
    let mut next: Vec<(&str, &str, String, String)> = vec![("Ready", row.ready.0, row.ready.1.into(), message.clone())];
    if let Some(reason) = row.reconciling {
        next.push(("Reconciling", "True", reason.into(), message.clone()));
    }
    if let Some(reason) = row.stalled {
        next.push(("Stalled", "True", reason.into(), message.clone()));
    }
    next.push(available(draft));
    next.push(promoted(draft));
    next.extend(guardrails(draft));
    next.push(traffic(draft));
    next.push(policy(draft, situation));
    next.extend(approved(draft, situation, &message));
    let settled = draft.status.attempt.is_none() && !matches!(situation, Situation::Initializing(_) | Situation::Running(_));
    let word = if settled { "True" } else { "False" };
    next.push(("Settled", word, row.ready.1.into(), message));
    let generation = draft.seen.generation;
    let old = draft.seen.status.conditions.clone();
    let now = draft.now;
    draft.status.conditions = next
        .into_iter()
        .map(|(kind, status, reason, message)| {
            let since = old.iter().find(|c| c.kind == kind && c.status == status).map_or(now, |c| c.last_transition_time);
            Condition {
                kind: kind.into(),
                status: status.into(),
                observed_generation: generation,
                last_transition_time: since,
                reason,
                message,
            }
        })
        .collect();
}

fn available(draft: &Draft<'_>) -> (&'static str, &'static str, String, String) {
    let Some(stable) = &draft.status.stable else { return ("Available", "False", "NothingServes".into(), "no revision serves yet".into()) };
    let view = draft.workload(&stable.revision);
    if view.service_exists && (view.ready_endpoints > 0 || stable.revision.is_baseline()) {
        return ("Available", "True", "Serving".into(), format!("revision {} serves", stable.revision));
    }
    ("Available", "False", "NoReadyEndpoints".into(), format!("no endpoint of {} is ready", stable.service))
}

fn promoted(draft: &Draft<'_>) -> (&'static str, &'static str, String, String) {
    let desired = &draft.desired;
    match &draft.status.stable {
        Some(stable) if stable.revision == *desired => {
            ("Promoted", "True", "Promoted".into(), format!("revision {desired} serves everybody"))
        }
        _ if draft.status.attempt.is_none() && draft.status.rejected.iter().any(|r| r.revision == *desired) => {
            ("Promoted", "False", "RolledBack".into(), format!("revision {desired} was rejected"))
        }
        _ => ("Promoted", "False", "OnTrial".into(), format!("revision {desired} is not promoted yet")),
    }
}

fn guardrails(draft: &Draft<'_>) -> Option<(&'static str, &'static str, String, String)> {
    let findings = &draft.status.evidence;
    let find = |verdict| findings.iter().find(|f: &&EvidenceStatus| f.verdict == verdict);
    let worst = find(Verdict::Harmful).or_else(|| find(Verdict::Warning)).or_else(|| find(Verdict::Unmeasurable));
    let all = findings.iter().all(|f| matches!(f.verdict, Verdict::Proven | Verdict::Inactive));
    Some(match worst {
        Some(f) if f.verdict == Verdict::Unmeasurable => ("GuardrailsHealthy", "Unknown", f.reason.clone(), f.message.clone()),
        Some(f) => ("GuardrailsHealthy", "False", f.reason.clone(), f.message.clone()),
        None if findings.is_empty() => return None,
        None if all => ("GuardrailsHealthy", "True", "Proven".into(), "every guardrail is proven".into()),
        None => ("GuardrailsHealthy", "True", "NoHarmSeen".into(), "no guardrail shows harm; proof is being collected".into()),
    })
}

fn traffic(draft: &Draft<'_>) -> (&'static str, &'static str, String, String) {
    match draft.acceptance() {
        Acceptance::Accepted => ("TrafficApplied", "True", "Accepted".into(), "every gateway has taken the route".into()),
        Acceptance::Pending(why) => ("TrafficApplied", "Unknown", "Pending".into(), why),
        Acceptance::Refused(why) => ("TrafficApplied", "False", "Refused".into(), why),
    }
}

fn policy(draft: &Draft<'_>, situation: &Situation) -> (&'static str, &'static str, String, String) {
    let name = &draft.seen.spec.policy_ref.name;
    match (&draft.seen.policy, situation) {
        (PolicyView::Missing, _) => ("PolicyResolved", "False", "PolicyNotFound".into(), format!("EvaluationPolicy {name} does not exist")),
        (_, Situation::Invalid(why)) => ("PolicyResolved", "False", "Invalid".into(), clip(why, 1024)),
        (PolicyView::Found { generation, .. }, _) => {
            ("PolicyResolved", "True", "Resolved".into(), format!("EvaluationPolicy {name}, generation {generation}"))
        }
    }
}

fn approved(draft: &Draft<'_>, situation: &Situation, message: &str) -> Option<(&'static str, &'static str, String, String)> {
    if matches!(situation, Situation::AwaitingApproval(_)) {
        return Some(("Approved", "False", "AwaitingApproval".into(), message.to_owned()));
    }
    let (running, before) = (draft.status.attempt.as_ref()?, draft.seen.status.attempt.as_ref());
    let asked = draft.seen.status.conditions.iter().any(|c| c.kind == "Approved" && c.status == "False");
    let same = before.is_some_and(|before| (before.started, before.stage) == (running.started, running.stage));
    if asked && same && running.approved_stage != Some(running.stage) {
        // A person who was asked may answer, also while a late scrape keeps the stage from passing once more.
        return Some((
            "Approved",
            "False",
            "AwaitingApproval".into(),
            format!("asked for, and the stage is proven anew meanwhile: {message}"),
        ));
    }
    let approved = running.approved_stage?;
    Some(("Approved", "True", "Approved".into(), format!("stage {} was approved", approved + 1)))
}
