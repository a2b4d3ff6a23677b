//! Objects, statuses and requests as anybody with write access may have left them: validated, and decided about.
//! The world around them is quiet: every workload is ready and nothing was measured.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::decide::{Write, decide};
use rollout_core::evidence::{Checkpoint, Evidence};
use rollout_core::observed::{Observed, PolicyView, RequestText, WorkloadView};
use rollout_core::planning;
use rollout_core::revision::{self, RevisionId};
use rollout_core::route;
use rollout_core::spec::{PolicySpec, RolloutSpec};
use rollout_core::status::Status;
use rollout_core::validate::validate;
use serde::Deserialize;
use serde_json::Value;

use crate::schema;

/// A rollout and what belongs to it.
#[derive(Clone, Debug, Deserialize)]
struct Case {
    spec: RolloutSpec,
    policy: PolicySpec,
    #[serde(default)]
    status: Option<Status>,
    #[serde(default)]
    route: Option<Value>,
    #[serde(default)]
    request: Option<String>,
}

/// A rollout and a policy, as JSON `{spec, policy, status?, route?, request?}`.
pub fn rollout(data: &[u8]) {
    if let Ok(case) = serde_json::from_slice::<Case>(data) {
        decided(&case);
    }
}

/// The status of a rollout in the middle of its way, perhaps written by a newer operator.
pub fn status(data: &[u8]) {
    let Ok(status) = serde_json::from_slice::<Status>(data) else { return };
    let mut case = known();
    case.status = Some(status);
    decided(&case);
}

/// The request annotation.
pub fn request(data: &[u8]) {
    let mut case = known();
    case.request = Some(String::from_utf8_lossy(data).into_owned());
    decided(&case);
}

/// A rollout in the middle of its way.
fn known() -> Case {
    serde_json::from_str(include_str!("../corpus/rollout/canary.json")).unwrap()
}

/// What the API server can have stored: it never takes more than its schema allows.
fn storable(case: &Case) -> bool {
    case.status.as_ref().is_none_or(|status| schema::problems(status).is_empty())
}

/// Decides three times in a row, each on the status that the last decision left.
fn decided(case: &Case) {
    let plan = validate(&case.spec, &case.policy);
    if let Err(problems) = &plan {
        assert!(!problems.is_empty(), "a refusal without a reason");
        for problem in problems {
            assert!(!problem.field.is_empty() && !problem.expected.is_empty(), "{problem:?} names no field or nothing that is expected");
        }
    }
    if let Ok(plan) = &plan {
        assert!(plan.false_promotion > 0.0 && plan.false_rollback > 0.0 && !plan.stages.is_empty() && !plan.guardrails.is_empty());
        let _ = planning::forecast(plan, &planning::Assumptions::at(10.0));
        if let Some(stored) = case.status.as_ref().and_then(|status| status.checkpoint.as_ref()) {
            let _ = Checkpoint::from_text(&stored.state).map(|checkpoint| Evidence::restore(plan, &checkpoint));
        }
    }
    let mut seen = observed(case);
    let mut now = DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap();
    for _ in 0..3 {
        let decision = decide(&seen, &plan, None, now);
        let again = decide(&seen, &plan, None, now);
        assert_eq!(format!("{decision:?}"), format!("{again:?}"), "the same values gave two decisions");
        if storable(case) {
            schema::check(&decision.status);
        }
        assert!(decision.next_check > TimeDelta::zero(), "a look that never ends");
        // Without a judgement nothing rises, except what a person asked for, and the first revision, beside which there is none.
        if case.request.is_none() && case.status.is_some() {
            rises(&seen, &decision.first);
            rises(&seen, &decision.then);
        }
        seen.status = decision.status;
        now += TimeDelta::seconds(30);
    }
}

/// Nobody is sent to the candidate who was not before.
fn rises(seen: &Observed, writes: &[Write]) {
    let Some(candidate) = seen.status.candidate.as_ref().map(|candidate| candidate.service.as_str()) else { return };
    let Some(live) = &seen.route else { return };
    for write in writes {
        if let Write::Route(write) = write {
            let (was, is) = (route::exposure(live, candidate).share, route::exposure(write.object(), candidate).share);
            assert!(is <= was, "from {was:?} to {is:?} without a judgement");
        }
    }
}

fn observed(case: &Case) -> Observed {
    let spec = &case.spec;
    let status = case.status.clone().unwrap_or_default();
    let mut revisions: BTreeSet<RevisionId> = BTreeSet::from([revision::id(&spec.model, &spec.workload)]);
    revisions.extend([&status.stable, &status.candidate].into_iter().flatten().map(|serving| serving.revision.clone()));
    let ready = WorkloadView {
        exists: true,
        service_exists: true,
        control_exists: true,
        desired: 2,
        ready_endpoints: 2,
        pods: BTreeMap::new(),
        cause: None,
        tripped: None,
        tripped_at: None,
    };
    Observed {
        namespace: "ns".into(),
        name: "digits".into(),
        uid: "0a".into(),
        generation: 2,
        deleting: false,
        has_finalizer: true,
        spec: spec.clone(),
        status,
        request: case.request.clone().map(RequestText),
        policy: PolicyView::Found { generation: 1, spec: Box::new(case.policy.clone()) },
        recorded: revisions.clone(),
        workloads: revisions.into_iter().map(|revision| (revision, ready.clone())).collect(),
        route: case.route.clone(),
        preflight: Vec::new(),
        checkpoint: None,
        acting_since: DateTime::UNIX_EPOCH,
    }
}
