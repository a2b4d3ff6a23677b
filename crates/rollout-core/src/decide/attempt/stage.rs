//! One stage after the other: bring the pods up, prepare the route, raise to the first step, judge, go on.
//! Nothing here rises without a ticket, and every wait ends by itself or is shown as waiting for a person.

use chrono::TimeDelta;

use crate::plan::{Plan, PlannedStage};
use crate::route::{Acceptance, Shape};
use crate::spec::{OnInconclusive, OnUnmeasurable, StageKind};
use crate::status::{Attempt, AttemptPhase, Serving};
use crate::verdict::{Failure, Judgement, LOOKS_WORSE, Overall, Pass, Verdict};
use crate::weights::{Exposure, Grounds, RaiseTicket};

use super::super::draft::{AT_ONCE, Draft, SOON, index, position};
use super::super::traffic::{Placed, not_applied};
use super::super::{Situation, Write, notes, settled};
use super::safety::control_exists;
use super::{Trial, pause, promotion, roll_back};

/// While something outside has to change first; what changes wakes the operator earlier.
const WAIT: TimeDelta = TimeDelta::seconds(5);
/// How often one attempt may be lowered and tried again before it counts as inconclusive.
const MOST_LOWERED: usize = 5;

/// Whether enough endpoints are ready to carry `share` of the users.
pub fn is_ready(draft: &Draft<'_>, serving: &Serving, share: Exposure) -> bool {
    let view = draft.workload(&serving.revision);
    let needed = (i64::from(view.desired.max(1)) * i64::from(share.percent()) + 99) / 100;
    view.exists && view.service_exists && i64::from(view.ready_endpoints) >= needed.max(1)
}

fn past_the_plan(draft: &mut Draft<'_>) -> Situation {
    draft.check_in(SOON);
    Situation::TrafficNotApplied("the attempt is past the last stage of its plan; ask for a retry, or change the spec".into())
}

pub fn deploying(draft: &mut Draft<'_>, trial: Trial<'_>) -> Situation {
    let Trial { running, candidate, .. } = trial;
    keep_shape(draft, trial);
    if !is_ready(draft, candidate, Exposure::FULL) {
        draft.check_in(WAIT);
        let view = draft.workload(&candidate.revision);
        let cause = view.cause.map(|c| format!("; {}: {}", c.reason, c.message)).unwrap_or_default();
        let (revision, ready, wanted) = (&candidate.revision, view.ready_endpoints, view.desired.max(1));
        return Situation::Running(format!("waiting for revision {revision}: {ready} of {wanted} endpoints ready{cause}"));
    }
    draft.status.attempt = Some(Attempt { phase: AttemptPhase::Preparing, stage_started: draft.now, ..running.clone() });
    draft.check_in(AT_ONCE);
    Situation::Running(format!("revision {} is ready; the route is prepared next", candidate.revision))
}

/// Keeps the route as it should be while nothing else is done; it raises nothing.
pub fn keep_shape(draft: &mut Draft<'_>, trial: Trial<'_>) {
    let shape = match (trial.running.phase, draft.stage()) {
        (AttemptPhase::Deploying, _) => {
            settled::keep_route(draft, trial.stable);
            return;
        }
        (AttemptPhase::Judging, Some(stage)) => {
            trial.arms(draft).at(stage, trial.running, trial.running.intent, control_exists(draft, trial))
        }
        // On the way into a stage the route is in one of several shapes; any of them has both arms.
        _ if draft.is_referenced(&trial.candidate.service) => None,
        _ => Some(trial.arms(draft).split(Exposure::ZERO)),
    };
    if let Some(shape) = shape {
        draft.place(&shape);
    }
}

pub fn preparing(draft: &mut Draft<'_>, trial: Trial<'_>) -> Situation {
    let Trial { running, stable, .. } = trial;
    if let Some(failure) = inconclusive_now(draft, running) {
        return inconclusive(draft, trial, &failure);
    }
    let Some(stage) = draft.stage() else { return past_the_plan(draft) };
    if stage.kind == StageKind::ABTest && !control_exists(draft, trial) {
        draft.first.push(Write::EnsureControl(stable.clone()));
        draft.check_in(SOON);
        return Situation::Running(format!("creating the control Service over stable's pods for stage {}", stage.name));
    }
    match climb(draft, &trial.arms(draft).ladder(stage, running)) {
        Climbed::There => {}
        Climbed::OnTheWay(what) => return Situation::Running(format!("preparing the route for stage {}: {what}", stage.name)),
        Climbed::Failed(why) => return not_applied(draft, why),
    }
    if stage.kind == StageKind::Shadow {
        return mirror(draft, trial, stage);
    }
    let Some(&first) = stage.steps.first() else { return past_the_plan(draft) };
    if lowered_times(draft, running) >= MOST_LOWERED {
        let message = format!("exposure was lowered {MOST_LOWERED} times in this attempt; the decision log says why each time");
        return inconclusive(draft, trial, &Failure { guardrail: "workload".into(), reason: "LoweredTooOften".into(), message });
    }
    if let Some(failure) = doubted(draft, running) {
        return inconclusive(draft, trial, &failure);
    }
    match first_ticket(draft, trial, first) {
        Ok(ticket) => raise(draft, trial, stage, 0, ticket, "StageStarted"),
        Err(why) => {
            draft.check_in(WAIT);
            Situation::Running(format!("stage {} waits: {why}", stage.name))
        }
    }
}

/// How often the log has this attempt lowered for what the candidate or its measurements did.
fn lowered_times(draft: &Draft<'_>, running: &Attempt) -> usize {
    let others = ["ForeignEdit", "RouteBelowIntent", "StableBackendMissing"];
    let counts = draft.status.decisions.iter().filter(|d| d.action == "Lowered" && d.time >= running.started);
    counts.filter(|d| !others.contains(&d.reason.as_str())).count()
}

/// Why a candidate that was lowered does not get users again: it looked worse than it may be, and without users nothing more is learned of it.
fn doubted(draft: &Draft<'_>, running: &Attempt) -> Option<Failure> {
    let judgement = draft.judgement.filter(|_| running.lowered.is_some())?;
    is_fresh(draft, draft.plan?, judgement).ok()?;
    let finding = judgement.findings.iter().find(|finding| finding.reason == LOOKS_WORSE)?;
    let message = format!("exposure was lowered, and {}", finding.message);
    Some(Failure { guardrail: finding.guardrail.clone(), reason: finding.reason.clone(), message })
}

fn mirror(draft: &mut Draft<'_>, trial: Trial<'_>, stage: &PlannedStage) -> Situation {
    let Trial { running, candidate, .. } = trial;
    if let Err(why) = may_carry(draft, candidate, Exposure::ZERO) {
        draft.check_in(WAIT);
        return Situation::Running(format!("stage {} waits: {why}", stage.name));
    }
    let next = Attempt { phase: AttemptPhase::Judging, step_started: Some(draft.now), lowered: None, ..running.clone() };
    draft.status.attempt = Some(next);
    let message =
        format!("stage {}: requests are mirrored to revision {}; users see only stable's answers", stage.name, candidate.revision);
    draft.record("Mirrored", "", Exposure::ZERO, Exposure::ZERO, "StageStarted", &message);
    draft.event("StageStarted", false, message.clone());
    draft.check_in(SOON);
    Situation::Running(message)
}

pub enum Climbed {
    There,
    OnTheWay(String),
    Failed(String),
}

/// One rung at a time: each shape must be accepted by the gateway before the next is written.
pub fn climb(draft: &mut Draft<'_>, rungs: &[Shape]) -> Climbed {
    let standing = rungs.iter().rposition(|shape| draft.is_in(shape));
    if standing.is_some() {
        match draft.acceptance() {
            Acceptance::Accepted => {}
            Acceptance::Pending(why) => {
                draft.check_in(SOON);
                return Climbed::OnTheWay(why);
            }
            Acceptance::Refused(why) => return Climbed::Failed(why),
        }
    }
    let Some(next) = rungs.get(standing.map_or(0, |rung| rung + 1)) else {
        return if rungs.is_empty() {
            Climbed::Failed("the stage has no shape; an ABTest stage needs an assignment".into())
        } else {
            Climbed::There
        };
    };
    match draft.place(next) {
        Placed::Failed(why) => Climbed::Failed(why),
        Placed::Waiting(why) => Climbed::OnTheWay(why),
        Placed::InPlace | Placed::Written => {
            draft.check_in(AT_ONCE);
            Climbed::OnTheWay("the next shape is written".into())
        }
    }
}

/// The right to the first step of a stage: earlier stages have passed, and nothing speaks against it now.
fn first_ticket(draft: &Draft<'_>, trial: Trial<'_>, to: Exposure) -> Result<RaiseTicket, String> {
    let Trial { running, candidate, .. } = trial;
    may_carry(draft, candidate, to)?;
    let plan = draft.plan.ok_or("there is no plan")?;
    let judgement = draft.judgement.ok_or("no measurements yet")?;
    is_fresh(draft, plan, judgement)?;
    let ignored = |name: &str| plan.guardrails.iter().any(|g| g.name == name && g.on_unmeasurable == OnUnmeasurable::Ignore);
    // A candidate that has had no request has no series; everything else that cannot be measured now could not be seen to do harm.
    let unseen = |f: &&crate::verdict::Finding| f.verdict == Verdict::Unmeasurable && f.reason != "NoSeries" && !ignored(&f.guardrail);
    if let Some(finding) = judgement.findings.iter().find(unseen) {
        return Err(format!("{} cannot be measured: {}", finding.guardrail, finding.message));
    }
    match &judgement.overall {
        Overall::Hold(_) | Overall::StepPass(_) | Overall::StagePass(_) => {}
        Overall::Fail(f) | Overall::Inconclusive(f) | Overall::Lower(f) => return Err(f.message.clone()),
    }
    let since = running.step_started.unwrap_or(running.stage_started);
    if running.lowered.is_some() && draft.now - since < plan.window * 2 {
        return Err("exposure was lowered; it is tried again after two windows without trouble".into());
    }
    Ok(RaiseTicket::new(candidate.revision.clone(), to, Grounds::FirstStep { plan_hash: plan.hash.clone() }, draft.now))
}

/// What every raise needs of the cluster, whatever its grounds.
pub fn may_carry(draft: &Draft<'_>, candidate: &Serving, to: Exposure) -> Result<(), String> {
    if let Some(problem) = draft.seen.preflight.first() {
        return Err(problem.clone());
    }
    if !is_ready(draft, candidate, to) {
        let view = draft.workload(&candidate.revision);
        let (ready, wanted) = (view.ready_endpoints, view.desired.max(1));
        return Err(format!("{ready} of {wanted} endpoints of {} are ready, too few for {to}", candidate.service));
    }
    match draft.acceptance() {
        Acceptance::Accepted => Ok(()),
        Acceptance::Pending(why) | Acceptance::Refused(why) => Err(why),
    }
}

fn is_fresh(draft: &Draft<'_>, plan: &Plan, judgement: &Judgement) -> Result<(), String> {
    let age = (draft.now - judgement.at).abs();
    let limit = (plan.interval * 3).max(TimeDelta::seconds(10));
    if age <= limit { Ok(()) } else { Err(format!("the newest judgement is {} s old", age.num_seconds())) }
}

fn raise(
    draft: &mut Draft<'_>,
    trial: Trial<'_>,
    stage: &PlannedStage,
    step: usize,
    ticket: RaiseTicket,
    reason: &'static str,
) -> Situation {
    let Trial { running, candidate, .. } = trial;
    let (from, to) = (running.intent, ticket.to());
    let next = Attempt {
        step: index(step),
        intent: to,
        phase: AttemptPhase::Judging,
        step_started: Some(draft.now),
        lowered: None,
        ..running.clone()
    };
    let Some(shape) = trial.arms(draft).at(stage, &next, to, control_exists(draft, trial)) else { return past_the_plan(draft) };
    let before = draft.status.clone();
    draft.status.attempt = Some(next);
    let message =
        format!("stage {} step {}/{}: revision {} goes from {from} to {to}", stage.name, step + 1, stage.steps.len(), candidate.revision);
    let id = draft.record("Raised", "", from, to, reason, &message);
    if let Placed::Failed(why) = draft.raise(&shape, ticket, &candidate.service, &notes::plain(id, candidate, "Raise", &message)) {
        draft.status = before;
        return not_applied(draft, why);
    }
    draft.event(if reason == "StageStarted" { "StageStarted" } else { "WeightChanged" }, false, message.clone());
    draft.check_in(SOON);
    Situation::Running(message)
}

pub fn judging(draft: &mut Draft<'_>, trial: Trial<'_>) -> Situation {
    let Trial { running, stable, .. } = trial;
    let (Some(stage), Some(plan)) = (draft.stage(), draft.plan) else { return past_the_plan(draft) };
    let control = control_exists(draft, trial);
    if stage.kind == StageKind::ABTest && !control {
        draft.first.push(Write::EnsureControl(stable.clone()));
    }
    let Some(shape) = trial.arms(draft).at(stage, running, running.intent, control) else { return past_the_plan(draft) };
    match draft.place(&shape) {
        Placed::InPlace => {}
        Placed::Waiting(why) | Placed::Failed(why) => return not_applied(draft, why),
        Placed::Written => return put_back(draft),
    }
    draft.check_in(plan.window);
    if took_effect(draft, running) {
        draft.status.attempt = Some(Attempt { step_started: Some(draft.now), ..running.clone() });
        draft.check_in(SOON);
        return Situation::Running(format!("stage {}: {} is in effect and is judged from now on", stage.name, running.intent));
    }
    let Some(judgement) = draft.judgement else {
        draft.check_in(WAIT);
        return Situation::Running("waiting for the first measurements of this step".into());
    };
    if let Some(failure) = inconclusive_now(draft, running) {
        return inconclusive(draft, trial, &failure);
    }
    if let Acceptance::Refused(why) = draft.acceptance() {
        return not_applied(draft, why);
    }
    match &judgement.overall {
        Overall::StepPass(pass) | Overall::StagePass(pass) => {
            if let Err(why) = stands(draft, plan, stage, trial, judgement, pass) {
                draft.check_in(WAIT);
                return Situation::Running(why);
            }
            let last = position(running).step + 1 >= stage.steps.len();
            match (last, &judgement.overall) {
                (true, Overall::StagePass(_)) => stage_passed(draft, trial, stage, plan),
                (true, _) => Situation::Running("this is the last step; waiting for proof".into()),
                (false, _) => next_step(draft, trial, stage, plan),
            }
        }
        Overall::Hold(why) => Situation::Running(why.clone()),
        Overall::Fail(failure) | Overall::Lower(failure) | Overall::Inconclusive(failure) => Situation::Blind(failure.message.clone()),
    }
}

fn put_back(draft: &mut Draft<'_>) -> Situation {
    let Some(editors) = draft.editors() else { return Situation::Running("the route is put into the shape of the stage".into()) };
    let message = format!("the route was changed by {editors}; put back");
    draft.event("ForeignEdit", true, message.clone());
    Situation::TrafficNotApplied(message)
}

/// Whether the gateway has taken the step's weight only now: the step counts from here.
fn took_effect(draft: &Draft<'_>, running: &Attempt) -> bool {
    let pending = draft.seen.status.conditions.iter().find(|c| c.kind == "TrafficApplied" && c.status != "True");
    let during_step = pending.is_some_and(|c| running.step_started.is_none_or(|started| c.last_transition_time >= started));
    during_step && draft.acceptance() == Acceptance::Accepted
}

/// Whether a pass is about exactly what runs, and is based on as much time as the step needs.
fn stands(
    draft: &Draft<'_>,
    plan: &Plan,
    stage: &PlannedStage,
    trial: Trial<'_>,
    judgement: &Judgement,
    pass: &Pass,
) -> Result<(), String> {
    let Trial { running, candidate, .. } = trial;
    if !pass.is_for(&candidate.revision, position(running), &plan.hash) {
        return Err("the pass is for another step; waiting for a fresh one".into());
    }
    let since = running.step_started.unwrap_or(draft.now);
    if pass.at() - since < stage.step_min {
        return Err("the pass is older than this step needs; waiting for a fresh one".into());
    }
    is_fresh(draft, plan, judgement)
}

/// A Shadow stage has one step, so it has no next one.
fn next_step(draft: &mut Draft<'_>, trial: Trial<'_>, stage: &PlannedStage, plan: &Plan) -> Situation {
    let Trial { running, candidate, .. } = trial;
    let step = position(running).step + 1;
    let Some(&to) = stage.steps.get(step) else { return past_the_plan(draft) };
    if let Err(why) = may_carry(draft, candidate, to) {
        draft.check_in(WAIT);
        return Situation::Running(format!("the step has passed; the next one waits: {why}"));
    }
    let grounds = Grounds::Passed { position: position(running), plan_hash: plan.hash.clone() };
    let ticket = RaiseTicket::new(candidate.revision.clone(), to, grounds, draft.now);
    raise(draft, trial, stage, step, ticket, "StepPassed")
}

fn stage_passed(draft: &mut Draft<'_>, trial: Trial<'_>, stage: &PlannedStage, plan: &Plan) -> Situation {
    let Trial { running, candidate, .. } = trial;
    if stage.approval_required && running.approved_stage != Some(running.stage) {
        let told = draft.status.conditions.iter().any(|c| c.kind == "Approved" && c.status == "False");
        let message = format!(
            "stage {} has passed; waiting for a person to approve {}: kubectl espalier approve {}",
            stage.name, candidate.revision, draft.seen.name
        );
        if !told {
            draft.event("AwaitingApproval", false, message.clone());
        }
        return Situation::AwaitingApproval(message);
    }
    if position(running).stage + 1 < plan.stages.len() {
        return next_stage(draft, trial, stage);
    }
    if let Err(why) = may_carry(draft, candidate, Exposure::FULL) {
        draft.check_in(WAIT);
        return Situation::Running(format!("everything is proven; promotion waits: {why}"));
    }
    let grounds = Grounds::Passed { position: position(running), plan_hash: plan.hash.clone() };
    let ticket = RaiseTicket::new(candidate.revision.clone(), Exposure::FULL, grounds, draft.now);
    match promotion::promote(draft, ticket, "every guardrail is proven") {
        Ok(message) => Situation::Running(message),
        Err(why) => not_applied(draft, why),
    }
}

fn next_stage(draft: &mut Draft<'_>, trial: Trial<'_>, stage: &PlannedStage) -> Situation {
    let Trial { running, candidate, stable } = trial;
    let message = format!("stage {}: every guardrail that counts here is proven", stage.name);
    let id = draft.record("StagePassed", "", running.intent, Exposure::ZERO, "StagePassed", &message);
    draft.event("StagePassed", false, message.clone());
    // The next stage starts from nobody: numbers only, so that nothing has to be waited for.
    let dark = trial.arms(draft).split(Exposure::ZERO);
    draft.zero(&candidate.service, &stable.service, &dark, &notes::plain(id, candidate, "StagePassed", &message));
    draft.status.attempt = Some(Attempt {
        stage: running.stage.saturating_add(1),
        step: 0,
        phase: AttemptPhase::Preparing,
        stage_started: draft.now,
        step_started: None,
        intent: Exposure::ZERO,
        ..running.clone()
    });
    draft.check_in(AT_ONCE);
    Situation::Running(message)
}

/// The failure of an attempt that ends without proof, when the judgement is about the stage that runs.
fn inconclusive_now(draft: &Draft<'_>, running: &Attempt) -> Option<Failure> {
    match draft.judgement {
        Some(Judgement { overall: Overall::Inconclusive(failure), at, .. }) if *at >= running.stage_started => Some(failure.clone()),
        _ => None,
    }
}

fn inconclusive(draft: &mut Draft<'_>, trial: Trial<'_>, failure: &Failure) -> Situation {
    let running = trial.running;
    if draft.plan.is_none_or(|p| p.on_inconclusive == OnInconclusive::Rollback) {
        let failure = Failure { reason: "Inconclusive".into(), ..failure.clone() };
        roll_back(draft, &failure);
        return Situation::RolledBack(failure.message);
    }
    let first = draft.stage().and_then(|s| s.steps.first().copied()).unwrap_or(Exposure::ZERO);
    let (from, to) = (running.intent, first.min(running.intent));
    draft.record("Paused", &failure.guardrail, from, to, "Inconclusive", &failure.message);
    draft.event("GuardrailInconclusive", true, format!("paused at {to}: {}", failure.message));
    let mut next = Attempt { step: 0, intent: to, step_started: Some(draft.now), ..running.clone() };
    pause(&mut next, &format!("{INCONCLUSIVE}{}", failure.message));
    if let (AttemptPhase::Judging, Some(stage)) = (running.phase, draft.stage())
        && let Some(shape) = trial.arms(draft).at(stage, &next, to, control_exists(draft, trial))
    {
        draft.place_now(&shape);
    }
    draft.status.attempt = Some(next);
    Situation::Paused(format!("inconclusive: {}; resume, abort or promote it", failure.message))
}

/// How the reason of a pause starts that the judge, not a person, made.
pub const INCONCLUSIVE: &str = "inconclusive: ";
