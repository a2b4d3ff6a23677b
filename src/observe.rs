//! Everything a decision needs, read: the object and route live, policy and workloads from watches, and live what carries a raise.
//! Reads only. What it cannot read is an error, and an error never looks like an answer.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::TryFutureExt;
use kube::{Api, ResourceExt};
use rollout_core::decide::{Decision, Write};
use rollout_core::observed::{Observed, PolicyView, RequestText};
use rollout_core::plan::Plan;
use rollout_core::revision::{self, RevisionId};
use rollout_core::route::{self, Target};
use rollout_core::spec::{PolicySpec, RolloutSpec};
use rollout_core::status::{AttemptPhase, Serving, Status};
use rollout_core::validate::{self, Problem};
use serde_json::{Value, json};
use thiserror::Error;

use crate::api::{EvaluationPolicy, ModelRollout};
use crate::client::{CALL_TIMEOUT, CallError, timed};
use crate::context::{Context, owner};
use crate::gateway::{self, GatewayError};
use crate::stores::WatchEnded;
use crate::tracker::Key;
use crate::workload::{self, Foreign, Owner, Tripped, WorkloadError};

/// Annotation with a person's request.
pub const REQUEST: &str = "espalier.dev/request";
/// Our finalizer.
pub const FINALIZER: &str = "espalier.dev/traffic";
/// Longest request that is read, in bytes.
const MAX_REQUEST: usize = 4096;

/// What was read of one rollout.
pub struct Seen {
    /// The object itself, live.
    pub object: ModelRollout,
    /// What the decision sees.
    pub observed: Observed,
    /// What the user means.
    pub plan: Result<Plan, Vec<Problem>>,
    /// The policy in force: the live one, or the pinned one when it is gone.
    pub policy: Option<PolicySpec>,
    /// Services that the user runs, by the revision that they stand for.
    pub foreign: BTreeMap<RevisionId, Foreign>,
    /// Labels by which the series of a recorded revision are found; empty for pods that we label.
    pub matchers: BTreeMap<RevisionId, BTreeMap<String, String>>,
}

/// Why nothing can be decided now.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// The API server did not give an object.
    #[error("reading {object}: {source}")]
    Call {
        /// What was read.
        object: String,
        /// Why it failed.
        source: CallError,
    },
    /// The route could not be read.
    #[error("reading the HTTPRoute: {0}")]
    Route(#[from] GatewayError),
    /// A workload could not be read.
    #[error("reading workloads: {0}")]
    Workload(#[from] WorkloadError),
    /// What watches keep does not follow the cluster.
    #[error(transparent)]
    Watch(#[from] WatchEnded),
}

/// Reads a rollout and everything around it; `None` when it is gone.
pub async fn observe(ctx: &Context, key: &Key) -> Result<Option<Seen>, ObserveError> {
    // A store that is not filled yet would say that everything is gone.
    ctx.stores.filled().await?;
    let rollouts: Api<ModelRollout> = Api::namespaced(ctx.client.clone(), &key.namespace);
    let call = |source| ObserveError::Call { object: format!("ModelRollout {}", key.name), source };
    let Some(object) = timed(CALL_TIMEOUT, rollouts.get_opt(&key.name)).await.map_err(call)? else { return Ok(None) };
    let status = object.status.clone().unwrap_or_default();
    let route_name = object.spec.route.adopt.as_ref().map_or_else(|| key.name.clone(), |a| a.name.clone());
    let route = gateway::get(&ctx.client, &key.namespace, &route_name).await?;
    let owner = Owner { namespace: key.namespace.clone(), name: key.name.clone(), uid: object.uid().unwrap_or_default() };
    let owned = ctx.stores.owned(&owner);
    let mut workloads = workload::owned_views(&key.name, &owned);
    let foreign = foreign(ctx, &owner, &object.spec, &status).await?;
    for (revision, found) in &foreign {
        workloads.insert(revision.clone(), workload::foreign_view(found));
    }
    let stored = ctx.stores.policy(&key.namespace, &object.spec.policy_ref.name).and_then(Result::ok);
    let (policy, found) = policy(stored, &status);
    let plan = plan(&object.spec, found.as_ref());
    let preflight = preflight(ctx, key, &owner, &object, &status, &plan, route.as_ref());
    let matchers = ctx.stores.recorded(key);
    let observed = Observed {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        uid: owner.uid.clone(),
        generation: object.metadata.generation.unwrap_or(0),
        deleting: object.metadata.deletion_timestamp.is_some(),
        has_finalizer: object.finalizers().iter().any(|f| f == FINALIZER),
        spec: object.spec.clone(),
        request: object.annotations().get(REQUEST).map(|text| RequestText(text.chars().take(MAX_REQUEST).collect())),
        policy,
        recorded: matchers.keys().cloned().collect(),
        workloads,
        route,
        preflight,
        checkpoint: None,
        acting_since: ctx.tenure.since(),
        status,
    };
    Ok(Some(Seen { object, observed, plan, policy: found, foreign, matchers }))
}

/// Services that the user runs and that this rollout uses: the baseline, and a candidate or stable behind a `backendRef`.
async fn foreign(ctx: &Context, owner: &Owner, spec: &RolloutSpec, status: &Status) -> Result<BTreeMap<RevisionId, Foreign>, ObserveError> {
    let mut wanted: BTreeMap<RevisionId, String> = BTreeMap::new();
    let own_prefix = |service: &str, revision: &RevisionId| service == workload::child_name(&owner.name, revision);
    for serving in [&status.stable, &status.candidate].into_iter().flatten().chain(status.probation.iter().map(|p| &p.previous)) {
        if !own_prefix(&serving.service, &serving.revision) {
            wanted.insert(serving.revision.clone(), serving.service.clone());
        }
    }
    if let (Some(baseline), None) = (&spec.baseline, &status.stable) {
        wanted.insert(RevisionId::new(RevisionId::BASELINE), baseline.backend_ref.name.clone());
    }
    if let Some(backend) = &spec.workload.backend_ref {
        wanted.insert(revision::id(&spec.model, &spec.workload), backend.name.clone());
    }
    let desired = revision::id(&spec.model, &spec.workload);
    let is = |serving: &Option<Serving>, revision: &RevisionId| serving.as_ref().is_some_and(|s| s.revision == *revision);
    let mut found = BTreeMap::new();
    for (revision, service) in wanted {
        let mut one = ctx.stores.foreign(owner, &revision, &service);
        let stable = is(&status.stable, &revision);
        let on_trial = is(&status.candidate, &revision) || (stable && status.probation.is_some()) || (!stable && revision == desired);
        // What is on trial is tripped by its pods; of the others endpoints are all that is asked.
        if let (true, Some(service)) = (on_trial, &one.service) {
            one.pods = workload::selected_pods(&ctx.client, &owner.namespace, service).await?;
        }
        found.insert(revision, one);
    }
    Ok(found)
}

/// Reads again, live, what a raise in `decision` took from watches: the policy, and of what is raised the ready endpoints and what its pods have
/// tripped. What is old never raises.
///
/// True when the policy is another one, there are fewer endpoints or a pod has failed; then `seen` says so, and the decision must be made again.
pub async fn recount(ctx: &Context, seen: &mut Seen, decision: &Decision) -> Result<bool, ObserveError> {
    let raised = decision.then.iter().find_map(|write| match write {
        Write::Route(write) => write.ticket().map(|ticket| ticket.candidate().clone()),
        _ => None,
    });
    let Some(revision) = raised else { return Ok(false) };
    let owner = owner(&seen.observed);
    let observed = &mut seen.observed;
    let foreign = seen.foreign.get(&revision).and_then(|one| one.service.as_ref());
    let service = foreign.map_or_else(|| workload::child_name(&observed.name, &revision), |service| service.name_any());
    let Some(view) = observed.workloads.get_mut(&revision) else { return Ok(false) };
    let policies: Api<EvaluationPolicy> = Api::namespaced(ctx.client.clone(), &observed.namespace);
    let name = observed.spec.policy_ref.name.clone();
    let tripped_now = async {
        match foreign {
            None => workload::tripped_now(&ctx.client, &owner, &revision).await.map_err(ObserveError::from),
            // They were listed for this very look.
            Some(_) => Ok(Tripped::default()),
        }
    };
    let (live, (tripped, tripped_at), named) = tokio::try_join!(
        workload::ready_now(&ctx.client, &observed.namespace, &service).map_err(ObserveError::from),
        tripped_now,
        timed(CALL_TIMEOUT, policies.get_opt(&name))
            .map_err(|source| ObserveError::Call { object: format!("EvaluationPolicy {name}"), source }),
    )?;
    let fewer = live < view.ready_endpoints;
    view.ready_endpoints = view.ready_endpoints.min(live);
    let failed = tripped.is_some() && (&tripped, tripped_at) != (&view.tripped, view.tripped_at);
    if failed {
        (view.tripped, view.tripped_at) = (tripped, tripped_at);
    }
    let (policy, found) = policy(named.map(|policy| (policy.metadata.generation.unwrap_or(0), policy.spec)), &observed.status);
    let other = policy != observed.policy;
    if other {
        seen.plan = plan(&observed.spec, found.as_ref());
        (observed.policy, seen.policy) = (policy, found);
    }
    Ok(fewer || failed || other)
}

/// The policy as the decision sees it, and the spec in force: the pinned one when the object is gone mid-attempt.
fn policy(found: Option<(i64, PolicySpec)>, status: &Status) -> (PolicyView, Option<PolicySpec>) {
    if let Some((generation, found)) = found {
        return (PolicyView::Found { generation, spec: Box::new(found.clone()) }, Some(found));
    }
    let pinned = status.attempt.as_ref().and_then(|a| serde_json::from_str::<Value>(&a.pinned).ok());
    (PolicyView::Missing, pinned.and_then(|p| serde_json::from_value(p.get("policy")?.clone()).ok()))
}

fn plan(spec: &RolloutSpec, policy: Option<&PolicySpec>) -> Result<Plan, Vec<Problem>> {
    policy.map_or_else(
        || {
            Err(vec![Problem::new(
                "spec.policyRef.name",
                spec.policy_ref.name.clone(),
                "the name of an EvaluationPolicy in this namespace",
            )])
        },
        |policy| validate::validate(spec, policy),
    )
}

/// What forbids traffic to the candidate, looked for while the route is being prepared.
fn preflight(
    ctx: &Context,
    key: &Key,
    owner: &Owner,
    object: &ModelRollout,
    status: &Status,
    plan: &Result<Plan, Vec<Problem>>,
    live: Option<&Value>,
) -> Vec<String> {
    let (Some(attempt), Ok(plan)) = (&status.attempt, plan) else { return Vec::new() };
    if attempt.phase != AttemptPhase::Preparing && attempt.phase != AttemptPhase::Deploying {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let name = object.spec.route.adopt.as_ref().map_or(key.name.as_str(), |a| a.name.as_str());
    let (whole, target) = match (&object.spec.route.template, &object.spec.route.adopt, live) {
        (Some(template), _, _) => {
            (Some(json!({"metadata": {"name": name, "namespace": key.namespace}, "spec": template})), Target::Template)
        }
        (None, Some(adopt), Some(live)) => (Some(live.clone()), Target::Adopted(adopt.rule.as_deref().unwrap_or("0"))),
        _ => (None, Target::Template),
    };
    if let Some(whole) = &whole {
        let subject = if target == Target::Template { whole.get("spec").unwrap_or(whole) } else { whole };
        problems.extend(route::preflight(subject, target, &plan.stages).iter().map(ToString::to_string));
        let hosts = whole.pointer("/spec/hostnames").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let hosts: Vec<&str> = hosts.iter().filter_map(Value::as_str).collect();
        for other in ctx.stores.other_routes(key, name, &hosts) {
            problems.extend(route::conflicts(whole, target, &plan.stages, &other).iter().map(ToString::to_string));
        }
    }
    if object.spec.workload.template.is_some() {
        let revision = revision::id(&object.spec.model, &object.spec.workload);
        if let Ok(children) = children(owner, &object.spec, &revision) {
            let services: Vec<_> = ctx.stores.services(&key.namespace, &key.name).collect();
            problems.extend(workload::foreign_selectors(owner, &revision, &children.pod_labels(), services.iter().map(AsRef::as_ref)));
        }
    }
    problems
}

/// The children of a revision as the spec describes it.
pub fn children(owner: &Owner, spec: &RolloutSpec, revision: &RevisionId) -> Result<workload::Children, String> {
    let template = validate::template(&spec.workload, &spec.model, revision).map_err(|p| p.to_string())?;
    workload::build(owner, revision, &template, spec.workload.port.unwrap_or(80), None).map_err(|e| e.to_string())
}

/// How long a read may take in all.
pub const OBSERVE_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
