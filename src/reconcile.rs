//! One look at one rollout: observe (reads), judge and decide (pure), act (writes), watch on.
//! Level-triggered: whatever woke it, it reads everything anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DurationRound, TimeDelta, Utc};
use kube::runtime::controller::Action;
use rollout_core::decide::{Decision, Event, Write, decide};
use rollout_core::evidence::{Arm, Arms};
use rollout_core::plan::Plan;
use rollout_core::revision::{self, RevisionId};
use rollout_core::spec::StageKind;
use rollout_core::status::{AttemptPhase, Serving, Status};
use rollout_core::weights::{Exposure, Position};
use thiserror::Error;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::act::{self, ActError, Progress, act};
use crate::card::Card;
use crate::contain::{INTERNAL_ERROR, Panicked, contained_future};
use crate::context::Context;
use crate::lane;
use crate::observe::{self, ObserveError, Seen, observe};
use crate::prometheus::Server;
use crate::tracker::{Identity, Key, Watched};
use crate::workload;

/// A look that takes longer is stuck: its reads and its writes have limits of their own that end sooner.
const LONGEST_LOOK: Duration = Duration::from_mins(3);

/// When a look is tried again that let rollbacks of others go first.
const AFTER_ROLLBACKS: Duration = Duration::from_millis(250);

/// When an idle rollout is tried again after a start, where those with users at stake come first.
const AFTER_FIRST_LOOKS: Duration = Duration::from_secs(2);

/// Why a look did not end well; it is repeated with backoff.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// Reading failed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// Writing failed.
    #[error(transparent)]
    Act(#[from] ActError),
    /// It panicked.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// It took too long.
    #[error("{0} took longer than {1} s")]
    Timeout(&'static str, u64),
}

impl ReconcileError {
    /// A fixed word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Observe(_) => "Observe",
            Self::Act(error) => error.category(),
            Self::Panicked(_) => "Panicked",
            Self::Timeout(..) => "Timeout",
        }
    }

    /// Whether reading again is all it takes.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Act(error) if error.is_conflict())
    }
}

/// Looks at one rollout and does the next thing.
pub async fn reconcile(object: Arc<Card>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    let key = object.key();
    if let Err(error) = &object.uses {
        warn!(
            namespace = key.namespace,
            name = key.name,
            error = %error,
            "the object cannot be read and is left alone until it changes"
        );
        ctx.tracker.forget(&key);
        return Ok(Action::await_change());
    }
    if !ctx.first.is_turn_of(&object) {
        return Ok(Action::requeue(AFTER_FIRST_LOOKS));
    }
    let started = Instant::now();
    let working = ctx.beats.working(format!("looking at {}/{}", key.namespace, key.name), LONGEST_LOOK);
    let result = contained_future(Box::pin(look(&ctx, &key))).await.unwrap_or_else(|panicked| {
        report(&ctx, &key, &object, &panicked);
        Err(panicked.into())
    });
    drop(working);
    ctx.first.had(&key);
    if !ctx.stores.may_have(&key) {
        // It went while we looked, and what was kept of it at the end of the look came after its end.
        ctx.forget(&key);
    }
    ctx.metrics.reconciled(result.as_ref().err().map_or("ok", ReconcileError::category), started.elapsed());
    result
}

/// Tells of a look that panicked. It is repeated with backoff like any other error; who is not decided about time and again loses its users.
fn report(ctx: &Arc<Context>, key: &Key, object: &Card, panicked: &Panicked) {
    ctx.metrics.panicked("look");
    ctx.events.publish(object, &Event { reason: INTERNAL_ERROR, warning: true, message: panicked.to_string() });
    if let Some(watched) = ctx.tracker.look_panicked(key) {
        lane::escape(ctx, [(panicked.failure(), key.clone(), watched)], ctx.clock.now());
    }
}

async fn look(ctx: &Arc<Context>, key: &Key) -> Result<Action, ReconcileError> {
    // What the lane has in hand is only put on record here, and every route goes before any record.
    if ctx.lane.is_busy() && ctx.tracker.is_escaping(key) {
        return Ok(Action::requeue(AFTER_ROLLBACKS));
    }
    let late = |what, limit: Duration| ReconcileError::Timeout(what, limit.as_secs());
    let seen = tokio::time::timeout(observe::OBSERVE_TIMEOUT, observe(ctx, key))
        .await
        .map_err(|_| late("reading", observe::OBSERVE_TIMEOUT))??;
    let Some(mut seen) = seen else {
        ctx.forget(key);
        return Ok(Action::await_change());
    };
    let judged = identity(&seen.observed.status, &seen.observed.uid).and_then(|identity| ctx.tracker.judgement(key, &identity));
    let (judgement, checkpoint) = judged.unzip();
    seen.observed.checkpoint = checkpoint.flatten();
    let mut decision = decide(&seen.observed, &seen.plan, judgement.as_ref(), ctx.clock.now());
    if observe::recount(ctx, &mut seen, &decision).await? {
        decision = decide(&seen.observed, &seen.plan, judgement.as_ref(), ctx.clock.now());
    }
    say(key, &seen, &decision);
    if ctx.lane.is_busy() && !lowers(&decision) && writes(&seen, &decision) {
        return Ok(Action::requeue(AFTER_ROLLBACKS));
    }
    let done = tokio::time::timeout(act::ACT_TIMEOUT, act(ctx, &seen, &decision)).await.map_err(|_| late("writing", act::ACT_TIMEOUT));
    let outcome = done.and_then(|r| r.map_err(ReconcileError::from));
    if matches!(outcome, Ok(Progress::PutOff)) {
        return Ok(Action::requeue(AFTER_ROLLBACKS));
    }
    // Watching goes on under what is on record: after a failed write that is what was read.
    let status = if outcome.is_ok() { &decision.status } else { &seen.observed.status };
    watch(ctx, key, &seen, status).await;
    outcome?;
    count_decisions(ctx, &seen.observed.status, &decision.status);
    ctx.metrics.exposure(&key.namespace, &key.name, decision.status.attempt.as_ref().map_or(Exposure::ZERO, |a| a.intent));
    Ok(Action::requeue(decision.next_check.to_std().unwrap_or(Duration::from_secs(1))))
}

/// Whether the decision begins with a route: that never waits.
fn lowers(decision: &Decision) -> bool {
    decision.first.iter().any(|write| matches!(write, Write::Route(_)))
}

fn writes(seen: &Seen, decision: &Decision) -> bool {
    !decision.first.is_empty() || !decision.then.is_empty() || decision.status != seen.observed.status
}

fn say(key: &Key, seen: &Seen, decision: &Decision) {
    if !writes(seen, decision) {
        return;
    }
    debug!(
        namespace = key.namespace,
        name = key.name,
        first = decision.first.len(),
        then = decision.then.len(),
        message = decision.status.display.message,
        "decided"
    );
}

/// Counts what was decided in this look: the entries of the decision log that were not there before.
fn count_decisions(ctx: &Context, before: &Status, after: &Status) {
    for decision in after.decisions.iter().filter(|new| before.decisions.iter().all(|old| old.id != new.id)) {
        ctx.metrics.decided(&decision.action);
    }
}

/// Whose evidence belongs to this status: the running attempt's, or the probation's.
fn identity(status: &Status, uid: &str) -> Option<Identity> {
    if let (Some(attempt), Some(candidate)) = (&status.attempt, &status.candidate) {
        return Some(Identity {
            uid: uid.to_owned(),
            revision: candidate.revision.clone(),
            started: attempt.started,
            plan_hash: attempt.plan_hash.clone(),
        });
    }
    let (_, stable) = (status.probation.as_ref()?, status.stable.as_ref()?);
    Some(Identity { uid: uid.to_owned(), revision: stable.revision.clone(), started: stable.since, plan_hash: "probation".into() })
}

/// Has the sampler watch what this status says is on trial, or stop watching.
async fn watch(ctx: &Arc<Context>, key: &Key, seen: &Seen, status: &Status) {
    let Some(watched) = watched(ctx, key, seen, status).await else {
        ctx.tracker.forget(key);
        return;
    };
    ctx.tracker.watch(key, watched);
}

async fn watched(ctx: &Arc<Context>, key: &Key, seen: &Seen, status: &Status) -> Option<Watched> {
    let plan = Arc::new(seen.plan.as_ref().ok()?.clone());
    let identity = identity(status, &seen.observed.uid)?;
    let stable = status.stable.clone()?;
    let server = match Server::resolve(&seen.policy.as_ref()?.prometheus, &key.namespace, &ctx.secrets).await {
        Ok(server) => server,
        Err(error) => {
            warn!(namespace = key.namespace, name = key.name, %error, "the Prometheus server of the policy cannot be used");
            return None;
        }
    };
    let sequence = status.decisions.first().and_then(|d| d.id.rsplit('.').next()?.parse::<u64>().ok()).map_or(0, |n| n + 1).to_string();
    if let (Some(attempt), Some(candidate)) = (&status.attempt, status.candidate.clone()) {
        if attempt.phase == AttemptPhase::Deploying || attempt.plan_hash != plan.hash {
            return None;
        }
        let position = Position { stage: usize::try_from(attempt.stage).ok()?, step: usize::try_from(attempt.step).ok()? };
        let stage = plan.stages.get(position.stage)?;
        let (kind, last_step) = (stage.kind, position.step + 1 >= stage.steps.len());
        let arms = arms(key, seen, &plan, &candidate, &stable, kind, identity.started);
        return Some(Watched {
            identity,
            attempt: u32::try_from(attempt.number).unwrap_or(0),
            plan,
            arms,
            server,
            position,
            kind,
            exposure: attempt.intent,
            stage_started: attempt.stage_started,
            step_started: attempt.step_started.unwrap_or(attempt.stage_started),
            last_step,
            candidate,
            stable,
            sequence,
            checkpoint: status.checkpoint.clone(),
        });
    }
    let previous = status.probation.as_ref()?.previous.clone();
    let position = Position { stage: plan.stages.len().checked_sub(1)?, step: plan.stages.last()?.steps.len().checked_sub(1)? };
    let arms = arms(key, seen, &plan, &stable, &previous, StageKind::Canary, identity.started);
    let since = stable.since;
    Some(Watched {
        identity,
        attempt: 0,
        plan,
        arms,
        server,
        position,
        kind: StageKind::Canary,
        exposure: Exposure::FULL,
        stage_started: since,
        step_started: since,
        last_step: true,
        candidate: stable,
        stable: previous,
        sequence,
        checkpoint: status.checkpoint.clone(),
    })
}

/// The labels that were written with a revision that the user runs. The spec has those of the revision that it asks for alone: with them, one that
/// was promoted before would be counted by its successor's series, and whatever comes after it compared with itself.
fn matchers(seen: &Seen, plan: &Plan, revision: &RevisionId) -> BTreeMap<String, String> {
    let spec = &seen.observed.spec;
    if revision.is_baseline() {
        plan.baseline_matchers.clone()
    } else if revision::id(&spec.model, &spec.workload) == *revision {
        plan.candidate_matchers.clone()
    } else {
        seen.matchers.get(revision).cloned().unwrap_or_default()
    }
}

fn arms(key: &Key, seen: &Seen, plan: &Plan, candidate: &Serving, stable: &Serving, kind: StageKind, since: chrono::DateTime<Utc>) -> Arms {
    let arm = |serving: &Serving, control: bool| {
        let own = serving.service == workload::child_name(&key.name, &serving.revision);
        // Creation is told in whole seconds: a pod made just after the start would else seem to be older, and what it counted until its first
        // sample would not be the candidate's.
        let since = since.duration_trunc(TimeDelta::seconds(1)).unwrap_or(since);
        let pods = seen.observed.workloads.get(&serving.revision).map(|w| w.pods.clone()).unwrap_or_default();
        let matchers = if own { BTreeMap::new() } else { matchers(seen, plan, &serving.revision) };
        let service = if control { workload::control_name(&key.name, &serving.revision) } else { serving.service.clone() };
        Arm {
            namespace: key.namespace.clone(),
            revision: own.then(|| serving.revision.clone()),
            young: pods.iter().filter(|(_, created)| **created >= since).map(|(name, _)| name.clone()).collect(),
            pods: pods.into_keys().collect(),
            matchers,
            backend: Some(format!("{}_{service}_{}", key.namespace, serving.port)),
        }
    };
    let baseline = seen.observed.spec.baseline.as_ref().map(|b| Serving {
        revision: RevisionId::new(RevisionId::BASELINE),
        digest: String::new(),
        uri: String::new(),
        service: b.backend_ref.name.clone(),
        port: b.backend_ref.port,
        since,
    });
    Arms {
        rollout: key.name.clone(),
        candidate: arm(candidate, false),
        stable: arm(stable, kind == StageKind::ABTest),
        baseline: baseline.map(|b| arm(&b, false)),
    }
}
