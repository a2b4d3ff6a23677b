//! Carries a decision out: what lowers or must exist first, then the status, then what raises. The only module that writes.
//! Decides nothing, and stops at the first write that fails: everything here is level-triggered and is tried again.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use rollout_core::decide::{Decision, RouteWrite, Write};
use rollout_core::revision::{self, RevisionId};
use rollout_core::spec::RolloutSpec;
use rollout_core::status::{Serving, Status};
use serde_json::{Value, json};
use thiserror::Error;
use tracing::info;

use crate::api::ModelRollout;
use crate::client::{CALL_TIMEOUT, CallError, FIELD_MANAGER, timed};
use crate::context::{Context, owner};
use crate::gateway::{self, GatewayError};
use crate::observe::{FINALIZER, Seen};
use crate::tracker::Key;
use crate::workload::{self, Kind, Records, WorkloadError, Workloads};

/// Why a decision was not carried out to its end.
#[derive(Debug, Error)]
pub enum ActError {
    /// We are not, or no longer, the leader.
    #[error("this process may not write: it does not hold the lease")]
    NotLeader,
    /// A ticket ran out before its write went out.
    #[error("the pass for this raise is older than its lifetime; a fresh one is needed")]
    StaleTicket,
    /// The candidate was found harmful after the raise was decided.
    #[error("the candidate failed while its raise was on the way; it is not raised")]
    Overtaken,
    /// Writing the object failed.
    #[error("writing {object}: {source}")]
    Call {
        /// What was written.
        object: &'static str,
        /// Why it failed.
        source: CallError,
    },
    /// Writing the route failed.
    #[error("writing the HTTPRoute: {0}")]
    Route(#[from] GatewayError),
    /// Writing a workload failed.
    #[error("writing the workload: {0}")]
    Workload(#[from] WorkloadError),
    /// The template cannot be used.
    #[error("{0}")]
    Template(String),
    /// A revision has no record to rebuild it from.
    #[error("revision {0} is not on record, so it cannot be rebuilt")]
    NoRecord(RevisionId),
}

impl ActError {
    /// A fixed word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotLeader => "NotLeader",
            Self::StaleTicket => "StaleTicket",
            Self::Overtaken => "Overtaken",
            Self::Call { source, .. } => source.category(),
            Self::Route(source) => source.category(),
            Self::Workload(source) => source.category(),
            Self::Template(_) => "Template",
            Self::NoRecord(_) => "NoRecord",
        }
    }

    /// Whether somebody else wrote in between, so that reading again is all it takes.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Overtaken | Self::Route(GatewayError::Conflict { .. }) => true,
            Self::Call { source, .. } => source.is_conflict(),
            _ => false,
        }
    }
}

/// How far a decision was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// To its end.
    Done,
    /// What comes first is done; the rest waits for routes by which others' users leave a candidate, and is decided anew then.
    PutOff,
}

/// Carries the decision out.
pub async fn act(ctx: &Context, seen: &Seen, decision: &Decision) -> Result<Progress, ActError> {
    let mut version = seen.object.resource_version().unwrap_or_default();
    for write in &decision.first {
        perform(ctx, seen, write, &mut version).await?;
    }
    if decision.status != seen.observed.status {
        if ctx.lane.is_busy() {
            return Ok(Progress::PutOff);
        }
        write_status(ctx, seen, &decision.status, &mut version).await?;
    }
    // Events tell of transitions that are on record now.
    for event in &decision.events {
        ctx.events.publish(&seen.object, event);
    }
    for write in &decision.then {
        perform(ctx, seen, write, &mut version).await?;
    }
    Ok(Progress::Done)
}

async fn perform(ctx: &Context, seen: &Seen, write: &Write, version: &mut String) -> Result<(), ActError> {
    if !ctx.leadership.may_write() {
        return Err(ActError::NotLeader);
    }
    let owner = owner(&seen.observed);
    let workloads = Workloads::new(ctx.client.clone());
    match write {
        Write::Finalizer(set) => finalizer(ctx, seen, *set, version).await?,
        Write::Ensure(revision) => ensure(ctx, seen, revision).await?,
        Write::EnsureControl(serving) => ensure_control(ctx, seen, serving).await?,
        Write::Park(revision) => _ = workloads.scale(&owner, Kind::Deployment, revision, 0).await?,
        Write::Reduce(revision) => _ = workloads.scale(&owner, Kind::Deployment, revision, 1).await?,
        Write::Delete(revision) => workloads.delete(&owner, Kind::Deployment, revision).await?,
        Write::Route(write) => route(ctx, seen, write).await?,
    }
    Ok(())
}

async fn route(ctx: &Context, seen: &Seen, write: &RouteWrite) -> Result<(), ActError> {
    if let Some(ticket) = write.ticket() {
        if !ticket.is_fresh(ctx.clock.now()) {
            return Err(ActError::StaleTicket);
        }
        if ctx.tracker.is_escaping(&Key { namespace: seen.observed.namespace.clone(), name: seen.observed.name.clone() }) {
            return Err(ActError::Overtaken);
        }
    }
    let exists = write.object().pointer("/metadata/resourceVersion").is_some();
    let written =
        if exists { gateway::replace(&ctx.client, write.object()).await } else { gateway::create(&ctx.client, write.object()).await };
    written?;
    Ok(())
}

async fn write_status(ctx: &Context, seen: &Seen, status: &Status, version: &mut String) -> Result<(), ActError> {
    if !ctx.leadership.may_write() {
        return Err(ActError::NotLeader);
    }
    let api: Api<ModelRollout> = Api::namespaced(ctx.client.clone(), &seen.observed.namespace);
    let mut object = seen.object.clone();
    object.metadata.resource_version = Some(version.clone());
    object.metadata.managed_fields = None;
    object.status = Some(status.clone());
    let params = PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.into()) };
    let written = timed(CALL_TIMEOUT, api.replace_status(&seen.observed.name, &params, &object)).await;
    let written = written.map_err(|source| ActError::Call { object: "the status", source })?;
    *version = written.resource_version().unwrap_or_default();
    Ok(())
}

async fn finalizer(ctx: &Context, seen: &Seen, set: bool, version: &mut String) -> Result<(), ActError> {
    let api: Api<ModelRollout> = Api::namespaced(ctx.client.clone(), &seen.observed.namespace);
    let mut finalizers: Vec<&str> = seen.object.finalizers().iter().map(String::as_str).filter(|f| *f != FINALIZER).collect();
    if set {
        finalizers.push(FINALIZER);
    }
    let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let written = timed(CALL_TIMEOUT, api.patch(&seen.observed.name, &params, &Patch::Merge(&patch))).await;
    match written {
        Ok(object) => *version = object.resource_version().unwrap_or_default(),
        // Removing it from an object that is gone has succeeded.
        Err(error) if !set && error.is_not_found() => {}
        Err(source) => return Err(ActError::Call { object: "the finalizer", source }),
    }
    Ok(())
}

/// What a revision is made of: the spec, or its record when the spec has moved on; and at which scale it should run.
async fn parts(ctx: &Context, seen: &Seen, revision: &RevisionId) -> Result<(RolloutSpec, Value), ActError> {
    let spec = &seen.observed.spec;
    if revision::id(&spec.model, &spec.workload) == *revision {
        return Ok((spec.clone(), revision::content(&spec.model, &spec.workload)));
    }
    let records = Records::new(ctx.client.clone()).list(&owner(&seen.observed)).await?;
    let record = records.iter().find(|r| r.revision == *revision).ok_or_else(|| ActError::NoRecord(revision.clone()))?;
    let (model, workload) = record.parts()?;
    Ok((RolloutSpec { model, workload, ..spec.clone() }, record.content.clone()))
}

async fn ensure(ctx: &Context, seen: &Seen, revision: &RevisionId) -> Result<(), ActError> {
    let owner = owner(&seen.observed);
    let (spec, content) = parts(ctx, seen, revision).await?;
    if spec.workload.template.is_some() {
        let children = crate::observe::children(&owner, &spec, revision).map_err(ActError::Template)?;
        let scale = seen.observed.spec.workload.template.as_ref().and_then(|t| t.pointer("/spec/replicas")).and_then(Value::as_i64);
        let replicas = i32::try_from(scale.unwrap_or(1)).unwrap_or(1).max(1);
        let done = Workloads::new(ctx.client.clone()).ensure(&owner, &children, Some(replicas)).await?;
        if !done.created.is_empty() || !done.repaired.is_empty() {
            info!(namespace = owner.namespace, name = owner.name, %revision, created = ?done.created, repaired = ?done.repaired, "workload of the revision is in place");
        }
    }
    let records = Records::new(ctx.client.clone());
    let known = records.list(&owner).await?;
    records.ensure(&owner, revision, &content, &known).await?;
    let status = &seen.observed.status;
    let serving = [&status.stable, &status.candidate].into_iter().flatten().map(|s| s.revision.clone());
    let in_use = serving.chain(status.history.iter().map(|h| h.revision.clone())).chain([revision.clone()]).collect();
    records.prune(&owner, &known, &in_use).await?;
    Ok(())
}

async fn ensure_control(ctx: &Context, seen: &Seen, serving: &Serving) -> Result<(), ActError> {
    let owner = owner(&seen.observed);
    let own = serving.service == workload::child_name(&owner.name, &serving.revision);
    let service = if own {
        let (spec, _) = parts(ctx, seen, &serving.revision).await?;
        crate::observe::children(&owner, &spec, &serving.revision).map_err(ActError::Template)?.control
    } else {
        let api: Api<Service> = Api::namespaced(ctx.client.clone(), &owner.namespace);
        let live = timed(CALL_TIMEOUT, api.get(&serving.service))
            .await
            .map_err(|source| ActError::Call { object: "the Service of stable", source })?;
        workload::control_for_service(&owner, &serving.revision, &live, serving.port)?
    };
    Workloads::new(ctx.client.clone()).ensure_service(&owner, &serving.revision, &service).await?;
    Ok(())
}

/// Longest a decision may take to carry out; each call in it has its own limit.
pub const ACT_TIMEOUT: Duration = Duration::from_mins(1);
