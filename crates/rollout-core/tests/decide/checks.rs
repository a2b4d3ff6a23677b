//! What must hold for every decision and after every write, whatever the story. Read by the world; tells no story itself.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use rollout_core::decide::{Decision, Situation, Write, control_name};
use rollout_core::route;
use rollout_core::status::AttemptPhase;
use rollout_core::verdict::Overall;
use rollout_core::weights::{Exposure, Grounds, RaiseTicket};
use serde_json::Value;

use crate::kstatus;
use crate::schema;
use crate::world::{NAME, World};

impl World {
    /// A raise has grounds that hold at this moment, and leads one step up.
    pub fn check_grounds(&self, ticket: &RaiseTicket) {
        let attempt = self.status.attempt.as_ref();
        let plan = self.plan();
        let stage = attempt.and_then(|a| Some((a, plan.as_ref().ok()?.stages.get(usize::try_from(a.stage).unwrap())?)));
        let verdict = self.decided_on.as_ref().map(|j| &j.overall);
        match ticket.grounds() {
            Grounds::InitialDeployment => assert!(self.status.stable.is_none()),
            Grounds::ServedBefore => assert!(self.status.history.iter().any(|h| h.revision == *ticket.candidate())),
            Grounds::Requested { id } => assert_eq!(self.status.last_request.as_ref().map(|r| &r.id), Some(id)),
            Grounds::FirstStep { plan_hash } => {
                let (attempt, stage) = stage.unwrap();
                assert!((attempt.step, &attempt.plan_hash) == (0, plan_hash) && ticket.to() == stage.steps[0]);
                assert!(matches!(verdict, Some(Overall::Hold(_) | Overall::StepPass(_) | Overall::StagePass(_))), "{verdict:?}");
            }
            Grounds::Passed { position, plan_hash } => {
                let (Some(Overall::StepPass(pass) | Overall::StagePass(pass)), (attempt, stage)) = (verdict, stage.unwrap()) else {
                    panic!("raised on {verdict:?}");
                };
                assert!(pass.is_for(ticket.candidate(), *position, plan_hash) && attempt.plan_hash == *plan_hash);
                let next = if attempt.phase == AttemptPhase::Promoting { Exposure::FULL } else { stage.steps[position.step + 1] };
                assert_eq!(ticket.to(), next, "one step at a time");
            }
        }
    }

    /// A route never sends users to where nobody was prepared for them, unless that is what lowers.
    pub fn check_prepared(&self, live: &Value, object: &Value) {
        if self.foreign {
            return;
        }
        let mut unprepared = route::unprepared(live, object.get("spec").unwrap());
        // A slice of everybody takes every request before control does. Where the old arm is gone, or comes back as a candidate, there
        // is nothing to empty control into.
        let candidate = self.status.candidate.as_ref().map(|c| c.service.clone());
        unprepared.retain(|name| {
            let controlled = self.workloads.keys().find(|revision| control_name(NAME, revision) == **name);
            let arm = controlled.map_or_else(|| (*name).clone(), |revision| self.service_of(revision));
            self.all_services().contains(&arm) && candidate.as_deref() != Some(arm.as_str())
        });
        assert!(unprepared.is_empty() || self.lowers(live, object), "{unprepared:?} would answer 503:\n{live:#}\n{object:#}");
    }

    fn lowers(&self, live: &Value, object: &Value) -> bool {
        let of = |route: &Value, service: &str| route::exposure(route, service).share;
        self.all_services().iter().any(|s| of(object, s) < of(live, s) && of(object, s) == Exposure::ZERO && !s.ends_with("-control"))
    }

    pub fn check_decision(&self, decision: &Decision) {
        assert!(decision.next_check >= TimeDelta::milliseconds(200) && decision.next_check <= TimeDelta::seconds(300));
        let routes = |writes: &[Write]| writes.iter().filter(|w| matches!(w, Write::Route(_))).count();
        assert!(routes(&decision.first) + routes(&decision.then) <= 1, "one write of the route per decision");
        if routes(&decision.first) == 1 {
            assert!(matches!(decision.first[0], Write::Route(_)), "what lowers goes first");
        }
        let mut reasons: Vec<_> = decision.events.iter().map(|e| e.reason).collect();
        reasons.dedup();
        assert!(decision.events.len() <= 2 && reasons.len() == decision.events.len(), "one event per transition: {:?}", decision.events);
        if matches!(decision.situation, Situation::Terminating(_)) {
            return;
        }
        schema::check(&decision.status);
        kstatus::check(&decision.status, self.generation, &decision.situation, self.spec.ready_when);
        assert!(decision.status.decisions.len() <= 20 && decision.status.rejected.len() <= 20);
        for condition in &decision.status.conditions {
            assert!(!condition.message.is_empty() && !condition.reason.is_empty(), "{condition:?}");
            assert!(condition.observed_generation <= self.generation);
        }
    }

    /// Of two rules that match alike a gateway may keep one and take the Services of the other away before it stops to send there.
    fn check_rules(live: &Value) {
        let mut matches: Vec<&Value> = live["spec"]["rules"].as_array().unwrap().iter().map(|rule| &rule["matches"]).collect();
        let all = matches.len();
        matches.sort_by_key(ToString::to_string);
        matches.dedup();
        assert_eq!(matches.len(), all, "two rules match alike: {live:#}");
    }

    /// What must hold after every write.
    pub fn check_world(&self) {
        let Some(live) = &self.route else { return };
        if self.foreign {
            return;
        }
        Self::check_rules(live);
        let share = |service: &str| route::exposure(live, service).share;
        let trusted: BTreeSet<String> = [&self.status.stable].into_iter().flatten().map(|s| s.service.clone()).collect();
        let previous =
            self.status.probation.iter().map(|p| p.previous.service.clone()).chain(self.status.history.first().map(|h| h.service.clone()));
        let previous: BTreeSet<String> = previous.collect();
        for revision in self.workloads.keys() {
            let service = self.service_of(revision);
            if trusted.contains(&service) || previous.contains(&service) || self.status.stable.is_none() {
                continue;
            }
            let candidate = self.status.candidate.as_ref().filter(|c| c.revision == *revision);
            let allowed = match (candidate, &self.status.attempt) {
                (Some(_), Some(attempt)) => attempt.intent,
                _ => Exposure::ZERO,
            };
            assert!(share(&service) <= allowed, "{service} has {}, decided were {allowed}: {live:#}", share(&service));
        }
        if let (Some(attempt), Ok(plan)) = (&self.status.attempt, self.plan())
            && attempt.phase == AttemptPhase::Judging
            && plan.hash == attempt.plan_hash
        {
            let stage = &plan.stages[usize::try_from(attempt.stage).unwrap()];
            let step = stage.steps[usize::try_from(attempt.step).unwrap()];
            assert!(attempt.intent <= step, "exposure {} is above the step's {step}", attempt.intent);
        }
        assert!(!route::exposure(live, &trusted.iter().next().cloned().unwrap_or_default()).all_zero);
    }
}
