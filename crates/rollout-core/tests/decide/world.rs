//! A cluster in memory, as small as decisions can tell: one rollout, its policy, workloads, a route and a gateway that takes a moment.
//! It checks on every write what must hold at every moment; it knows nothing of why a decision was taken.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::decide::{Decision, Event, control_name, decide};
use rollout_core::observed::{Cause, Observed, PolicyView, RequestText, WorkloadView};
use rollout_core::plan::Plan;
use rollout_core::revision::{self, RevisionId};
use rollout_core::route;
use rollout_core::spec::{PolicySpec, RolloutSpec};
use rollout_core::status::{AttemptPhase, Status};
use rollout_core::validate::{Problem, validate};
use rollout_core::verdict::Judgement;
use serde_json::{Value, json};

use crate::gateway::accept;
use crate::judge::Judge;

mod writes;

pub const NAME: &str = "digits";

/// Pods and Services of one revision.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    pub exists: bool,
    pub service: bool,
    pub control: bool,
    pub desired: i32,
    pub ready: i32,
    pub ready_at: Option<DateTime<Utc>>,
    pub tripped: Option<Cause>,
    pub tripped_at: Option<DateTime<Utc>>,
}

/// Where the process dies: at the `at`-th write, counted over the whole story.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    pub at: usize,
    /// Whether the write itself still lands.
    pub lands: bool,
    pub downtime: TimeDelta,
}

/// A condition on the world, and what somebody else does once it holds.
type Script = (Rc<dyn Fn(&World) -> bool>, Rc<dyn Fn(&mut World)>);

/// What was made of a generation of the spec and one of the policy.
type Plans = BTreeMap<(i64, i64), Result<Plan, Vec<Problem>>>;

#[derive(Clone)]
#[allow(clippy::struct_excessive_bools)] // Each is a fact about the cluster or the operator, and any of them may hold beside the others.
pub struct World {
    pub now: DateTime<Utc>,
    pub spec: RolloutSpec,
    pub generation: i64,
    pub status: Status,
    pub finalizer: bool,
    pub deleting: bool,
    pub request: Option<String>,
    pub policy: Option<(i64, PolicySpec)>,
    pub workloads: BTreeMap<RevisionId, Workload>,
    pub recorded: BTreeSet<RevisionId>,
    pub route: Option<Value>,
    pub preflight: Vec<String>,
    pub judge: Judge,
    /// How long pods take, and how long the gateway does.
    pub startup: TimeDelta,
    pub gateway_delay: TimeDelta,
    /// Whether nothing but the decision's own timer wakes the operator.
    pub deaf: bool,
    pub crash: Option<Crash>,
    pub foreign: bool,
    /// When the present process began.
    pub acting_since: DateTime<Utc>,
    /// Names of Services of the user.
    pub services: BTreeSet<String>,
    pub writes: usize,
    pub steps: usize,
    pub events: Vec<Event>,
    /// Every exposure of a candidate that the route ever had, in order.
    pub exposures: Vec<(String, i32)>,
    pub situations: BTreeSet<String>,
    script: Vec<Script>,
    route_since: DateTime<Utc>,
    version: i64,
    quiet_until: DateTime<Utc>,
    /// The judgement that the last decision was taken on.
    pub decided_on: Option<Judgement>,
    plans: RefCell<Plans>,
}

pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

impl World {
    pub fn new(spec: RolloutSpec, policy: PolicySpec) -> Self {
        Self {
            now: at(0),
            spec,
            generation: 1,
            status: Status { observed_generation: -1, ..Status::default() },
            finalizer: false,
            deleting: false,
            request: None,
            policy: Some((1, policy)),
            workloads: BTreeMap::new(),
            recorded: BTreeSet::new(),
            route: None,
            preflight: Vec::new(),
            judge: Judge::default(),
            startup: TimeDelta::seconds(20),
            gateway_delay: TimeDelta::milliseconds(50),
            deaf: false,
            crash: None,
            foreign: false,
            acting_since: at(0),
            services: BTreeSet::new(),
            writes: 0,
            steps: 0,
            events: Vec::new(),
            exposures: Vec::new(),
            situations: BTreeSet::new(),
            script: Vec::new(),
            route_since: at(0),
            version: 1,
            quiet_until: at(0),
            decided_on: None,
            plans: RefCell::default(),
        }
    }

    /// Once `when` holds, `then` happens, before the operator looks again; scripts run in order.
    pub fn script(&mut self, when: impl Fn(&Self) -> bool + 'static, then: impl Fn(&mut Self) + 'static) -> &mut Self {
        self.script.push((Rc::new(when), Rc::new(then)));
        self
    }

    pub fn desired(&self) -> RevisionId {
        revision::id(&self.spec.model, &self.spec.workload)
    }

    pub fn apply(&mut self, spec: RolloutSpec) {
        if self.spec != spec {
            self.spec = spec;
            self.generation += 1;
        }
    }

    pub fn ask(&mut self, id: &str, action: &str, candidate: &str) {
        self.request = Some(json!({"id": id, "action": action, "candidate": candidate, "actor": "ann", "reason": "because"}).to_string());
    }

    pub fn share(&self, service: &str) -> i32 {
        self.route.as_ref().map_or(0, |live| route::exposure(live, service).share.percent())
    }

    pub fn candidate_share(&self) -> i32 {
        self.status.candidate.as_ref().map_or(0, |c| self.share(&c.service))
    }

    pub fn stable(&self) -> String {
        self.status.stable.as_ref().map(|s| s.revision.to_string()).unwrap_or_default()
    }

    pub fn is_at(&self, stage: i32, step: i32) -> bool {
        self.status.attempt.as_ref().is_some_and(|a| a.phase == AttemptPhase::Judging && a.stage == stage && a.step == step)
    }

    pub fn phase(&self) -> Option<AttemptPhase> {
        self.status.attempt.as_ref().map(|a| a.phase)
    }

    pub fn condition(&self, kind: &str) -> (&str, &str) {
        let found = self.status.conditions.iter().find(|c| c.kind == kind);
        found.map_or(("", ""), |c| (c.status.as_str(), c.reason.as_str()))
    }

    pub fn reasons(&self) -> Vec<&'static str> {
        self.events.iter().map(|e| e.reason).collect()
    }

    pub fn plan(&self) -> Result<Plan, Vec<Problem>> {
        let pinned = || {
            let pinned: Value = serde_json::from_str(&self.status.attempt.as_ref()?.pinned).ok()?;
            serde_json::from_value(pinned.get("policy")?.clone()).ok()
        };
        if let Some((generation, policy)) = &self.policy {
            let mut known = self.plans.borrow_mut();
            return known.entry((self.generation, *generation)).or_insert_with(|| validate(&self.spec, policy)).clone();
        }
        match pinned() {
            Some(policy) => validate(&self.spec, &policy),
            None => Err(vec![Problem::new("spec.policyRef.name", "digits", "the name of an EvaluationPolicy")]),
        }
    }

    pub fn observe(&self) -> Observed {
        let view = |w: &Workload| WorkloadView {
            exists: w.exists,
            service_exists: w.service,
            control_exists: w.control,
            desired: w.desired,
            ready_endpoints: if w.service { w.ready } else { 0 },
            pods: BTreeMap::new(),
            cause: (w.ready < w.desired).then(|| Cause { reason: "Pulling".into(), message: "the image is being pulled".into() }),
            tripped: w.tripped.clone(),
            tripped_at: w.tripped_at,
        };
        Observed {
            namespace: "ns".into(),
            name: NAME.into(),
            uid: "u-1".into(),
            generation: self.generation,
            deleting: self.deleting,
            has_finalizer: self.finalizer,
            spec: self.spec.clone(),
            status: self.status.clone(),
            request: self.request.clone().map(RequestText),
            policy: match &self.policy {
                Some((generation, spec)) => PolicyView::Found { generation: *generation, spec: Box::new(spec.clone()) },
                None => PolicyView::Missing,
            },
            recorded: self.recorded.clone(),
            workloads: self.workloads.iter().map(|(revision, w)| (revision.clone(), view(w))).collect(),
            route: self.route.clone(),
            preflight: self.preflight.clone(),
            checkpoint: self.judgement().map(|j| rollout_core::status::CheckpointStatus { at: j.at, state: "{}".into() }),
            acting_since: self.acting_since,
        }
    }

    fn judgement(&self) -> Option<Judgement> {
        (self.now >= self.quiet_until).then(|| self.judge.judge(&self.status, self.plan().ok().as_ref(), self.now)).flatten()
    }

    /// What the operator would do now; the same twice.
    pub fn decide(&self) -> Decision {
        let (seen, plan, judgement) = (self.observe(), self.plan(), self.judgement());
        let decision = decide(&seen, &plan, judgement.as_ref(), self.now);
        if self.steps % 8 == 1 {
            let again = decide(&seen, &plan, judgement.as_ref(), self.now);
            assert_eq!(format!("{decision:?}"), format!("{again:?}"), "the same values give the same decision");
        }
        decision
    }

    /// One look of the operator, and what happens until the next.
    pub fn step(&mut self) -> Decision {
        self.steps += 1;
        self.settle_cluster();
        self.run_script();
        self.decided_on = self.judgement();
        let decision = self.decide();
        self.check_decision(&decision);
        self.situations.insert(format!("{:?}", decision.situation).split('(').next().unwrap().to_owned());
        if self.carry_out(&decision) {
            self.events.extend(decision.events.iter().cloned());
        }
        self.check_world();
        self.now += self.until_next(decision.next_check);
        decision
    }

    pub fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..4000 {
            self.settle_cluster();
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("never {what}; {:?}\n{:?}", self.decide().situation, self.status.attempt);
    }

    /// Runs until nothing is written any more, and checks that nothing is written later either. New measurements are not news.
    pub fn rest(&mut self) {
        self.rest_watched(&mut |_| ());
    }

    /// The same, showing the world before every look.
    pub fn rest_watched(&mut self, before_each: &mut dyn FnMut(&Self)) {
        let still = |status: &Status| {
            let mut status = status.clone();
            status.checkpoint = None;
            status.display.next_check.clear();
            status
        };
        let (mut quiet, mut since) = (0, self.now);
        for _ in 0..4000 {
            let (before, writes) = (still(&self.status), self.writes);
            before_each(self);
            let decision = self.step();
            let nothing = decision.first.is_empty() && decision.then.is_empty() && before == still(&self.status);
            assert!(nothing || self.writes > writes);
            if !nothing || !self.script.is_empty() {
                (quiet, since) = (0, self.now);
            }
            quiet += 1;
            // Longer than every timer that could still write something.
            if quiet > 8 && self.now - since > TimeDelta::minutes(12) {
                return;
            }
        }
        panic!("it never rests: {:?}\n{:?}", self.decide().situation, self.status.attempt);
    }

    fn run_script(&mut self) {
        while let Some((when, then)) = self.script.first().cloned() {
            if !when(self) {
                return;
            }
            self.script.remove(0);
            then(self);
        }
    }

    fn settle_cluster(&mut self) {
        let now = self.now;
        for workload in self.workloads.values_mut() {
            if workload.ready_at.is_some_and(|at| at <= now) {
                workload.ready = workload.desired;
                workload.ready_at = None;
            }
        }
        let services = self.all_services();
        if let Some(live) = &mut self.route
            && self.route_since + self.gateway_delay <= now
        {
            accept(live, &services);
        }
    }

    pub fn all_services(&self) -> BTreeSet<String> {
        let mut names = self.services.clone();
        for (revision, workload) in &self.workloads {
            let name = self.service_of(revision);
            if workload.control {
                names.insert(control_name(NAME, revision));
            }
            if workload.service {
                names.insert(name);
            }
        }
        names
    }

    pub fn service_of(&self, revision: &RevisionId) -> String {
        let known = [&self.status.stable, &self.status.candidate].into_iter().flatten().chain(self.status.history.iter());
        let known = known.chain(self.status.probation.iter().map(|p| &p.previous)).find(|s| s.revision == *revision);
        known.map_or_else(|| self.default_service(revision), |s| s.service.clone())
    }

    fn default_service(&self, revision: &RevisionId) -> String {
        match &self.spec.baseline {
            Some(baseline) if revision.is_baseline() => baseline.backend_ref.name.clone(),
            _ => format!("{NAME}-{revision}"),
        }
    }

    fn until_next(&self, check: TimeDelta) -> TimeDelta {
        if self.deaf {
            return check;
        }
        let ready = self.workloads.values().filter_map(|w| w.ready_at);
        let gateway =
            (self.route.is_some() && self.route_since + self.gateway_delay > self.now).then_some(self.route_since + self.gateway_delay);
        let tick = (self.status.attempt.is_some() || self.status.probation.is_some()).then(|| self.judge.next_tick(self.now));
        let next = ready.chain(gateway).chain(tick).filter(|at| *at > self.now).min();
        next.map_or(check, |at| check.min(at - self.now))
    }

    /// The route as the API server stores it.
    pub fn set_route(&mut self, mut object: Value) {
        let changed = self.route.as_ref().is_none_or(|live| live["spec"] != object["spec"]);
        let generation = self.route.as_ref().and_then(|r| r["metadata"]["generation"].as_i64()).unwrap_or(0) + i64::from(changed);
        self.version += 1;
        object["metadata"]["generation"] = json!(generation);
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if let Some(status) = self.route.as_ref().and_then(|r| r.get("status")) {
            object["status"] = status.clone();
        }
        if changed {
            self.route_since = self.now;
        }
        self.route = Some(object);
    }

    /// Somebody else edits the route.
    pub fn edit_route(&mut self, edit: impl FnOnce(&mut Value)) {
        self.foreign = true;
        let mut object = self.route.clone().unwrap();
        edit(&mut object);
        self.set_route(object);
        self.changed_by("kubectl-edit");
    }

    fn changed_by(&mut self, manager: &str) {
        let time = self.now.to_rfc3339();
        if let Some(route) = &mut self.route {
            route["metadata"]["managedFields"] = json!([{"manager": manager, "time": time, "fieldsV1": {"f:spec": {"f:rules": {}}}}]);
        }
    }

    /// Name of the control Service of what serves.
    pub fn control(&self) -> String {
        self.status.stable.as_ref().map(|s| control_name(NAME, &s.revision)).unwrap_or_default()
    }
}
