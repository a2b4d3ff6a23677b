//! What becomes of the writes of a decision: in their order, each checked, and the process may die at any of them.
//! It knows nothing of why they are made.

use chrono::TimeDelta;
use rollout_core::decide::{Decision, Write};
use rollout_core::revision::RevisionId;
use rollout_core::status::Status;
use serde_json::Value;

use super::{NAME, World};

impl World {
    /// Carries a decision out in its order; false when it broke off.
    pub(super) fn carry_out(&mut self, decision: &Decision) -> bool {
        for write in &decision.first {
            if !self.write(&mut |world| world.perform(write, false)) {
                return false;
            }
        }
        if decision.status != self.status {
            let status = decision.status.clone();
            if !self.write(&mut |world| world.store(&status)) {
                return false;
            }
        }
        for write in &decision.then {
            if !self.write(&mut |world| world.perform(write, true)) {
                return false;
            }
        }
        true
    }

    fn write(&mut self, apply: &mut dyn FnMut(&mut Self)) -> bool {
        self.writes += 1;
        match self.crash {
            Some(crash) if crash.at == self.writes => {
                if crash.lands {
                    apply(self);
                }
                self.check_world();
                self.now += crash.downtime;
                self.acting_since = self.now;
                self.quiet_until = self.now + TimeDelta::seconds(20);
                false
            }
            _ => {
                apply(self);
                self.check_world();
                true
            }
        }
    }

    fn store(&mut self, status: &Status) {
        // What is stored went through JSON.
        let text = serde_json::to_string(status).unwrap();
        self.status = serde_json::from_str(&text).unwrap();
        assert_eq!(self.status, *status, "a status survives storage");
    }

    fn perform(&mut self, write: &Write, raises: bool) {
        match write {
            Write::Finalizer(set) => self.finalizer = *set,
            Write::Ensure(revision) => {
                self.recorded.insert(revision.clone());
                let ready_at = self.now + self.startup;
                let workload = self.workloads.entry(revision.clone()).or_default();
                if self.spec.workload.backend_ref.is_none() {
                    workload.exists = true;
                    workload.service = true;
                    if workload.desired != 2 {
                        workload.desired = 2;
                        workload.ready_at = Some(ready_at);
                    }
                }
            }
            Write::EnsureControl(serving) => self.workloads.get_mut(&serving.revision).unwrap().control = true,
            Write::Park(revision) => self.scale(revision, 0),
            Write::Reduce(revision) => self.scale(revision, 1),
            Write::Delete(revision) => {
                assert_eq!(self.share(&format!("{NAME}-{revision}")), 0);
                self.workloads.remove(revision);
            }
            Write::Route(write) => {
                assert_eq!(write.ticket().is_some(), raises, "what has a ticket goes after the status, all else before");
                if let Some(ticket) = write.ticket() {
                    assert!(ticket.is_fresh(self.now));
                    self.check_grounds(ticket);
                }
                self.put_route(write.object());
            }
        }
    }

    fn scale(&mut self, revision: &RevisionId, to: i32) {
        let service = format!("{NAME}-{revision}");
        assert_eq!(self.share(&service), 0, "{revision} is scaled down while it has users");
        assert_ne!(self.stable(), revision.as_str(), "what serves is scaled down");
        let workload = self.workloads.get_mut(revision).unwrap();
        (workload.desired, workload.ready, workload.ready_at) = (to, workload.ready.min(to), None);
    }

    fn put_route(&mut self, object: &Value) {
        if let Some(live) = &self.route {
            assert_eq!(object.pointer("/metadata/resourceVersion"), live.pointer("/metadata/resourceVersion"), "written from what is live");
            self.check_prepared(live, object);
        }
        for rule in object["spec"]["rules"].as_array().unwrap() {
            let sum: i64 = rule["backendRefs"].as_array().unwrap().iter().map(|r| r["weight"].as_i64().unwrap_or(1)).sum();
            assert_eq!(sum, 100, "weights sum to 100");
        }
        self.set_route(object.clone());
        self.changed_by("espalier");
        let candidate = self.status.candidate.as_ref().map(|c| (c.revision.to_string(), self.share(&c.service)));
        if let Some((revision, share)) = candidate
            && self.exposures.last() != Some(&(revision.clone(), share))
        {
            self.exposures.push((revision, share));
        }
    }
}
