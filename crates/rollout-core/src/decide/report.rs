//! The status that people read: conditions, columns, evidence; and when a status is worth a write.
//! Decides nothing: it only words what the situation is.

use chrono::TimeDelta;

use crate::status::{AttemptPhase, Display, EvidenceStatus, Serving, SliceStatus, Status};
use crate::verdict::{Finding, SliceFinding, Verdict};
use crate::weights::Exposure;
use crate::words::{self, clip};

use super::conditions::{self, sentence};
use super::draft::{Draft, position};
use super::risk;
use super::{Situation, settled};

/// Words the situation into the status, and keeps the stored status when nothing worth a write has changed.
pub fn fill(draft: &mut Draft<'_>, situation: &Situation) {
    if !matches!(situation, Situation::Terminating(_) | Situation::Invalid(_)) {
        settled::tidy(draft);
    }
    draft.status.observed_generation = draft.seen.generation;
    evidence(draft);
    conditions::fill(draft, situation);
    tell(draft, situation);
    draft.status.display = display(draft, situation);
    if !worth_writing(draft) {
        draft.status = draft.seen.status.clone();
    }
}

/// One event when the object gets into trouble of a kind that no decision has told of.
fn tell(draft: &mut Draft<'_>, situation: &Situation) {
    let reason = match situation {
        Situation::Invalid(_) => "InvalidSpec",
        Situation::PolicyMissing(_) => "PolicyNotFound",
        Situation::HoldingInitial(_) => "HoldingInitial",
        Situation::TrafficNotApplied(_) => "TrafficNotApplied",
        Situation::StableMissing(_) => "StableBackendMissing",
        _ => return,
    };
    let ready = |status: &Status| status.conditions.iter().find(|c| c.kind == "Ready").map(|c| c.reason.clone());
    if draft.events.is_empty() && ready(&draft.status) != ready(&draft.seen.status) {
        draft.event(reason, true, sentence(situation));
    }
}

fn evidence(draft: &mut Draft<'_>) {
    let Some(judgement) = draft.judgement else { return };
    draft.status.evidence = judgement.findings.iter().map(words).collect();
    if let (Some(plan), Some(attempt)) = (draft.plan, &draft.status.attempt) {
        // The evidence is of the plan that the attempt was started with.
        if plan.hash == attempt.plan_hash {
            draft.status.risk = Some(risk::statement(plan, attempt.number));
        }
    }
    // Evidence of an attempt is of no use to the next one, nor to the probation after it.
    let trial = |s: &Status| (s.attempt.as_ref().map(|a| a.started), s.probation.clone());
    let goes_on = trial(&draft.status) == trial(&draft.seen.status);
    if goes_on && draft.seen.checkpoint.is_some() {
        draft.status.checkpoint.clone_from(&draft.seen.checkpoint);
    }
}

fn words(finding: &Finding) -> EvidenceStatus {
    let number = |x: Option<f64>, limit: f64| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.2}/{limit:.2}"));
    let (proof, harm) = finding.thresholds;
    let log_e = if finding.log_e_proof.is_some() || finding.log_e_harm.is_some() {
        format!(
            "proof {} harm {} warning {}",
            number(finding.log_e_proof, proof),
            number(finding.log_e_harm, harm),
            number(finding.log_e_warning, harm)
        )
    } else {
        String::new()
    };
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    EvidenceStatus {
        guardrail: finding.guardrail.clone(),
        verdict: finding.verdict,
        reason: finding.reason.clone(),
        value: clip(finding.value.as_deref().unwrap_or_default(), 64),
        target: clip(&finding.target, 64),
        critical: clip(&finding.critical, 64),
        interval: clip(finding.interval.as_deref().unwrap_or_default(), 64),
        samples: count(finding.samples.0),
        reference_samples: count(finding.samples.1),
        effective_samples: finding.effective_samples.map(count),
        log_e: clip(&log_e, 128),
        win: finding
            .win
            .as_ref()
            .map(|win| clip(&format!("{} {:.2}/{:.2}", win.promised, win.log_e, win.threshold), 64))
            .unwrap_or_default(),
        risk: risks(finding),
        slices: finding.slices.iter().map(slice).collect(),
        eta: finding.eta.map(|(from, to)| format!("{} to {}", words::duration(from), words::duration(to))).unwrap_or_default(),
        message: clip(&finding.message, 512),
    }
}

/// The risks behind the thresholds, so that a decision can be recomputed from status alone. Limits and tripwires have none.
fn risks(finding: &Finding) -> String {
    let (proof, harm) = finding.thresholds;
    if proof <= 0.0 || harm <= 0.0 {
        return String::new();
    }
    let slices = finding.slices.first().map_or_else(String::new, |slice| format!(" each slice {}", share(-slice.thresholds.1)));
    format!("promotion {} rollback {}{slices}", share(-proof), share(-harm))
}

/// A probability in percent from its logarithm, such as `1.25%`.
fn share(log: f64) -> String {
    let text = format!("{:.4}", 100.0 * log.exp());
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn slice(found: &SliceFinding) -> SliceStatus {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (proof, harm) = found.thresholds;
    SliceStatus {
        slice: clip(&found.slice, 200),
        verdict: found.verdict,
        counts: found.counts,
        value: clip(found.value.as_deref().unwrap_or_default(), 64),
        samples: count(found.samples.0),
        reference_samples: count(found.samples.1),
        log_e: format!("proof {:.2}/{proof:.2} harm {:.2}/{harm:.2}", found.log_e_proof, found.log_e_harm),
    }
}

fn display(draft: &Draft<'_>, situation: &Situation) -> Display {
    let mut shown = Display {
        stage: "Idle".into(),
        step: "-".into(),
        weight: Exposure::ZERO.to_string(),
        verdict: verdict(draft, situation),
        stable: draft.status.stable.as_ref().map(name).unwrap_or_default(),
        candidate: draft.status.candidate.as_ref().map_or_else(|| name(&draft.desired_serving()), name),
        next_check: words::duration(draft.next_check().max(TimeDelta::seconds(1))),
        message: clip(sentence(situation), 256),
    };
    if let Some(attempt) = &draft.status.attempt {
        let stage = draft.stage();
        shown.stage = match attempt.phase {
            AttemptPhase::Deploying => "Deploying".into(),
            AttemptPhase::Promoting => "Promoting".into(),
            AttemptPhase::Preparing | AttemptPhase::Judging => stage.map_or_else(|| "-".into(), |s| format!("{:?}", s.kind)),
        };
        if let (Some(stage), AttemptPhase::Preparing | AttemptPhase::Judging) = (stage, attempt.phase) {
            shown.step = format!("{}/{}", position(attempt).step + 1, stage.steps.len());
        }
        shown.weight = attempt.intent.to_string();
    } else if draft.status.probation.is_some() {
        shown.stage = "Probation".into();
    }
    shown
}

/// A revision in a column: the last part of the model's URI, and the start of the revision.
fn name(serving: &Serving) -> String {
    let last = serving.uri.rsplit('/').next().unwrap_or_default();
    let model = last.split(['@', ':']).next().unwrap_or_default().trim_end_matches(".onnx");
    if model.is_empty() {
        return serving.revision.to_string();
    }
    clip(&format!("{model}-{}", serving.revision.as_str().get(..4).unwrap_or_default()), 40)
}

fn verdict(draft: &Draft<'_>, situation: &Situation) -> String {
    match situation {
        Situation::Promoted(_) => "Promoted".into(),
        Situation::RolledBack(_) => "RolledBack".into(),
        Situation::Invalid(_) => "Invalid".into(),
        Situation::AwaitingApproval(_) => "Approve?".into(),
        Situation::Paused(_) => "Paused".into(),
        Situation::Suspended(_) => "Suspended".into(),
        Situation::Blind(_) => "Blind".into(),
        Situation::CandidateUnready(_) => "NotReady".into(),
        Situation::StableMissing(_) => "StableGone".into(),
        Situation::HoldingInitial(_) => "Holding".into(),
        Situation::Terminating(_) => "Deleting".into(),
        Situation::Running(_) => {
            let active: Vec<_> = draft.status.evidence.iter().filter(|e| e.verdict != Verdict::Inactive).collect();
            let proven = active.iter().filter(|e| e.verdict == Verdict::Proven).count();
            if active.is_empty() { "Waiting".into() } else { format!("Proven {proven}/{}", active.len()) }
        }
        _ => "Waiting".into(),
    }
}

/// A status is written when something happened, or when the evidence that it shows has grown old.
fn worth_writing(draft: &Draft<'_>) -> bool {
    let (next, stored) = (&draft.status, &draft.seen.status);
    if significant(next) != significant(stored) {
        return true;
    }
    let changed = next.display.message != stored.display.message;
    match next.attempt.as_ref().map(|a| a.phase) {
        // Here messages change only when something does.
        None | Some(AttemptPhase::Deploying | AttemptPhase::Promoting) if changed => return true,
        // Here they count seconds and endpoints: the words matter, the numbers wait for the next write.
        Some(AttemptPhase::Preparing) if changed && spoken(&next.display.message) != spoken(&stored.display.message) => return true,
        _ => {}
    }
    let watched = next.attempt.as_ref().map(|a| a.started).or_else(|| next.probation.as_ref().and(next.stable.as_ref()).map(|s| s.since));
    let (Some(started), Some(fresh)) = (watched, &next.checkpoint) else { return false };
    let last = stored.checkpoint.as_ref().map_or(started, |c| c.at);
    let every = draft.plan.map_or(TimeDelta::seconds(60), |p| p.window).clamp(TimeDelta::seconds(5), TimeDelta::seconds(60));
    (fresh.at - last).abs() >= every
}

fn spoken(message: &str) -> String {
    message.chars().filter(|c| !c.is_ascii_digit()).collect()
}

type Significant<'a> = (Vec<(&'a str, &'a str, &'a str, i64)>, Vec<(&'a str, Verdict)>, Status);

/// A status without the numbers that move all the time.
fn significant(status: &Status) -> Significant<'_> {
    let conditions =
        status.conditions.iter().map(|c| (c.kind.as_str(), c.status.as_str(), c.reason.as_str(), c.observed_generation)).collect();
    let verdicts = status.evidence.iter().map(|e| (e.guardrail.as_str(), e.verdict)).collect();
    let mut rest = status.clone();
    rest.conditions.clear();
    rest.evidence.clear();
    rest.checkpoint = None;
    rest.display.next_check.clear();
    rest.display.message.clear();
    rest.display.verdict.clear();
    (conditions, verdicts, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_risk_is_read_back_from_its_threshold() {
        assert_eq!([share(-(20.0_f64).ln()), share(-(80.0_f64).ln()), share(-(1360.0_f64).ln())], ["5%", "1.25%", "0.0735%"]);
    }
}
