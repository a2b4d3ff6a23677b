//! A cluster that obeys at once: pods are ready, the gateway takes every route, nobody else writes. It lets the operator's own decision run on a recording.
//! Decides nothing, moves no traffic.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{End, Subject};
use crate::decide::{Decision, Write, decide};
use crate::observed::{Observed, PolicyView, WorkloadView};
use crate::plan::Plan;
use crate::revision::{self, RevisionId};
use crate::spec::{BackendRef, Baseline, RolloutSpec, RouteSpec, Workload};
use crate::status::{Attempt, DecisionRecord, Serving, Status};
use crate::validate::Problem;
use crate::verdict::Judgement;

/// Names of the Services; no user ever sees them.
const CANDIDATE: &str = "candidate";
const STABLE: &str = "stable";

/// The cluster and the log of what was decided.
#[derive(Clone, Debug)]
pub(super) struct Stand {
    observed: Observed,
    plan: Result<Plan, Vec<Problem>>,
    decisions: Vec<DecisionRecord>,
}

impl Stand {
    /// A cluster in which stable serves everybody and the candidate is ready.
    pub(super) fn new(subject: &Subject, plan: &Plan, at: DateTime<Utc>) -> Self {
        let spec = obedient(&subject.rollout);
        let candidate = revision::id(&spec.model, &spec.workload);
        let stable = Serving {
            revision: RevisionId::new(RevisionId::BASELINE),
            digest: String::new(),
            uri: String::new(),
            service: STABLE.into(),
            port: 80,
            since: at,
        };
        let view = WorkloadView {
            exists: true,
            service_exists: true,
            control_exists: true,
            desired: 1,
            ready_endpoints: 1,
            ..WorkloadView::default()
        };
        let workloads = [&candidate, &stable.revision].map(|revision| (revision.clone(), view.clone()));
        let observed = Observed {
            namespace: "replay".into(),
            name: "replay".into(),
            uid: "replay".into(),
            generation: 1,
            deleting: false,
            has_finalizer: true,
            spec,
            status: Status { stable: Some(stable), ..Status::default() },
            request: None,
            policy: PolicyView::Found { generation: 1, spec: Box::new(subject.policy.clone()) },
            recorded: BTreeSet::from([candidate]),
            workloads: BTreeMap::from(workloads),
            route: None,
            preflight: Vec::new(),
            checkpoint: None,
            acting_since: DateTime::UNIX_EPOCH,
        };
        Self { observed, plan: Ok(plan.clone()), decisions: Vec::new() }
    }

    /// The revision on trial.
    pub(super) fn candidate(&self) -> RevisionId {
        revision::id(&self.observed.spec.model, &self.observed.spec.workload)
    }

    pub(super) fn attempt(&self) -> Option<&Attempt> {
        self.observed.status.attempt.as_ref()
    }

    pub(super) fn decisions(&self) -> &[DecisionRecord] {
        &self.decisions
    }

    pub(super) fn end(&self) -> Option<End> {
        if self.attempt().is_some_and(|attempt| attempt.paused.is_some()) {
            return Some(End::Inconclusive);
        }
        self.decisions.iter().rev().find_map(|decision| match (decision.action.as_str(), decision.reason.as_str()) {
            ("Promoted", _) => Some(End::Promoted),
            ("RolledBack", "Inconclusive") => Some(End::Inconclusive),
            ("RolledBack", _) => Some(End::RolledBack),
            _ => None,
        })
    }

    /// One look of the operator. Says whether anything changed, and when it looks again at the latest.
    pub(super) fn look(&mut self, judgement: Option<&Judgement>, now: DateTime<Utc>) -> (bool, TimeDelta) {
        let Decision { first, status, then, next_check, .. } = decide(&self.observed, &self.plan, judgement, now);
        let mut changed = false;
        for write in first.iter().chain(&then) {
            changed |= self.carry_out(write);
        }
        let moved = |status: &Status| (status.attempt.clone(), status.candidate.clone(), status.stable.clone());
        changed |= moved(&status) != moved(&self.observed.status);
        // The log in status is short; what is new in it is at the front.
        let known = self.decisions.last().map(|last| last.id.clone());
        let new: Vec<_> = status.decisions.iter().take_while(|decision| Some(&decision.id) != known.as_ref()).cloned().collect();
        self.decisions.extend(new.into_iter().rev());
        self.observed.status = status;
        (changed, next_check)
    }

    fn carry_out(&mut self, write: &Write) -> bool {
        let Write::Route(write) = write else { return false };
        let generation = self.observed.route.as_ref().and_then(|live| live.pointer("/metadata/generation")?.as_i64()).unwrap_or(0) + 1;
        let mut object = write.object().clone();
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": kind, "observedGeneration": generation});
        let parents = object.pointer("/spec/parentRefs").and_then(Value::as_array).cloned().unwrap_or_default();
        let answer = |parent: &Value| json!({"parentRef": parent, "conditions": [condition("Accepted"), condition("ResolvedRefs")]});
        let answers: Vec<Value> = parents.iter().map(answer).collect();
        if let Some(fields) = object.as_object_mut() {
            fields.insert("status".into(), json!({"parents": answers}));
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("generation".into(), json!(generation));
        }
        let changed = self.observed.route.as_ref().and_then(|live| live.get("spec")) != object.get("spec");
        self.observed.route = Some(object);
        changed
    }
}

/// The revision on trial when this rollout is replayed.
pub(super) fn candidate(rollout: &RolloutSpec) -> RevisionId {
    let spec = obedient(rollout);
    revision::id(&spec.model, &spec.workload)
}

/// The rollout with a workload, a baseline and a route that exist only here.
fn obedient(spec: &RolloutSpec) -> RolloutSpec {
    let backend = |name: &str| BackendRef { group: None, kind: None, name: name.into(), port: 80 };
    let template = json!({"parentRefs": [{"name": "gateway"}], "rules": [{}]});
    RolloutSpec {
        workload: Workload { template: None, port: None, backend_ref: Some(backend(CANDIDATE)), matchers: BTreeMap::new() },
        baseline: Some(Baseline { backend_ref: backend(STABLE), matchers: BTreeMap::new() }),
        route: RouteSpec { template: Some(template), adopt: None },
        suspend: None,
        ..spec.clone()
    }
}
