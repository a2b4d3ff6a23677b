//! Where an attempt is, in the stages that it was started with, and what comes next. Knows no guardrail.

use chrono::{DateTime, Utc};
use rollout_core::plan::{Plan, PlannedStage};
use rollout_core::spec::{OnInconclusive, PolicySpec, Stage, StageKind};
use rollout_core::status::{Attempt, AttemptPhase, Status};
use rollout_core::validate::validate;
use rollout_core::words;
use serde_json::Value;

use super::story::{Sentence, ago};
use crate::api::ModelRollout;

/// Sentences about the attempt's place; none without an attempt.
pub(super) fn place(rollout: &ModelRollout, status: &Status, now: DateTime<Utc>) -> Vec<Sentence> {
    let Some(attempt) = &status.attempt else { return Vec::new() };
    let plan = pinned(rollout, attempt);
    let stage = plan.as_ref().and_then(|plan| Some((plan, plan.stages.get(usize::try_from(attempt.stage).ok()?)?)));
    let mut said = vec![phase(attempt, stage.map(|(_, stage)| stage)).into()];
    let Some((plan, stage)) = stage else {
        said.push(format!("It is at stage {}, step {} of the plan it was started with.", attempt.stage + 1, attempt.step + 1).into());
        return said;
    };
    if attempt.phase == AttemptPhase::Deploying {
        let first = stage.steps.first().copied().unwrap_or_default();
        said.push(format!("It begins with stage {} ({:?}) at {first} once they are ready.", stage.name, stage.kind).into());
        return said;
    }
    said.push(since(attempt, stage, now).into());
    said.push(next(attempt, stage, plan).into());
    said
}

/// The plan that the attempt was started with; `None` when it was started by a version that kept something else.
fn pinned(rollout: &ModelRollout, attempt: &Attempt) -> Option<Plan> {
    let read: Value = serde_json::from_str(&attempt.pinned).ok()?;
    let policy: PolicySpec = serde_json::from_value(read.get("policy")?.clone()).ok()?;
    let stages: Vec<Stage> = serde_json::from_value(read.get("stages")?.clone()).ok()?;
    let mut spec = rollout.spec.clone();
    spec.stages = stages;
    validate(&spec, &policy).ok()
}

fn phase(attempt: &Attempt, stage: Option<&PlannedStage>) -> String {
    let share = attempt.intent;
    let stage = stage.map_or_else(|| "its stage".to_owned(), |stage| format!("stage {} ({:?})", stage.name, stage.kind));
    match attempt.phase {
        AttemptPhase::Deploying => "The candidate's pods are coming up; nobody is on it.".to_owned(),
        AttemptPhase::Preparing => format!("The route is being prepared for {stage}; {share} of the users are on the candidate."),
        AttemptPhase::Judging => format!("It is in {stage}; {share} of the users are on the candidate and it is being judged."),
        AttemptPhase::Promoting => "It is being promoted: everybody moves to the candidate, and the roles are swapped.".to_owned(),
    }
}

fn since(attempt: &Attempt, stage: &PlannedStage, now: DateTime<Utc>) -> String {
    let (step, steps) = (attempt.step + 1, stage.steps.len());
    let weight = usize::try_from(attempt.step).ok().and_then(|step| stage.steps.get(step)).copied().unwrap_or_default();
    let what = match stage.kind {
        StageKind::Shadow => format!("{weight} of the requests are copied to it, users see only stable's answers"),
        StageKind::Canary => format!("{weight} of the requests go to it"),
        StageKind::ABTest => format!("{weight} of the users with an id always get it, the others are the comparison"),
    };
    let step_since =
        attempt.step_started.map_or_else(|| "not in effect yet".to_owned(), |at| format!("in effect for {}", words::duration(now - at)));
    format!(
        "Step {step} of {steps}: {what}; {step_since}. The stage began {} and may take {} of judged time without proof.",
        ago(attempt.stage_started, now),
        words::duration(stage.max)
    )
}

fn next(attempt: &Attempt, stage: &PlannedStage, plan: &Plan) -> String {
    let step = usize::try_from(attempt.step).unwrap_or(0);
    let end = match plan.on_inconclusive {
        OnInconclusive::Rollback => "it is rolled back",
        OnInconclusive::Pause => "it goes back to the first step and waits for a person",
    };
    let otherwise = format!("Without proof in time {end}; with proof of harm it is taken off at once.");
    if let Some(share) = stage.steps.get(step + 1) {
        return format!(
            "Next is {share}, when this step had its time ({}), enough requests, and no sign of harm. {otherwise}",
            words::duration(stage.step_min)
        );
    }
    let approval = if stage.approval_required { " and a person has approved" } else { "" };
    let following = usize::try_from(attempt.stage).ok().and_then(|index| plan.stages.get(index + 1));
    let after = following.map_or_else(|| "Next is promotion".to_owned(), |next| format!("Next is stage {} ({:?})", next.name, next.kind));
    format!("{after}, when every guardrail that counts here is proven{approval}. {otherwise}")
}
