//! Rollouts in few words, and a run of one: apply, wait, look at the end.
//! Checks nothing itself; [`crate::oracle`] does at every write, and the tests say how a story ends.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::cluster::Model;
use crate::oracle::{condition, share_in};
use crate::process::{Process, Stopped};
use crate::store::{POLICIES, Place, ROLLOUTS, text};
use crate::world::{Crash, Shared, World, lock};

pub const NAMESPACE: &str = "ml";
pub const NAME: &str = "digits";

/// Where the one rollout of most tests is.
pub fn home() -> Place {
    (NAMESPACE.to_owned(), NAME.to_owned())
}

/// A rollout of the model with this letter: two steps of a canary.
pub fn rollout(letter: &str) -> Value {
    rollout_of(NAME, letter)
}

/// The same under another name.
pub fn rollout_of(name: &str, letter: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "model": {"uri": uri(letter)},
            "workload": {"template": {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 2, "template": {"spec": {
                "containers": [{"name": "server", "image": "server", "args": ["$(model.uri)"]}]}}}}, "port": 8080},
            "route": {"template": {"parentRefs": [{"name": "gw"}], "hostnames": [format!("{name}.example")], "rules": [
                {"matches": [{"path": {"value": "/"}}], "timeouts": {"request": "10s"}, "fieldOfTomorrow": {"a": [1.5]}}]}},
            "policyRef": {"name": NAME},
            "stages": [{"name": "canary", "type": "Canary", "steps": ["5%", "25%"], "stepMinDuration": "2m", "maxDuration": "2h"}],
            "probation": {"duration": "3m"},
        },
    })
}

pub fn uri(letter: &str) -> String {
    format!("oci://registry.example/{letter}@sha256:{letter}")
}

pub fn policy() -> Value {
    json!({
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "prometheus": {"address": "http://prometheus:9090"},
            "interval": "15s",
            "window": "1m",
            "requestTimeout": "10s",
            "guardrails": [
                {"name": "accuracy", "proportion": {"bad": "answers_total{good=\"no\"}", "total": "answers_total"},
                    "target": "+2pp vs stable", "critical": "+5pp vs stable"},
                {"name": "nan", "tripwire": {"query": "nonfinite_total"}},
                {"name": "power", "limit": {"query": "power_watts", "unit": "W"}, "target": "90W"},
            ],
        },
    })
}

/// The least time at a step, as the spec says.
pub fn least_step(rollout: &Value) -> TimeDelta {
    let stages = rollout.pointer("/spec/stages").and_then(Value::as_array).cloned().unwrap_or_default();
    let minutes = |stage: &Value| text(stage, "/stepMinDuration").trim_end_matches('m').parse::<i64>().ok();
    TimeDelta::minutes(stages.iter().filter_map(minutes).min().unwrap_or(0))
}

/// One run.
pub struct Sim {
    pub world: Shared,
    pub process: Option<Process>,
    pub downtime: TimeDelta,
    pub crashes: usize,
    pub elect: bool,
}

impl Sim {
    /// A world with policy and operator, and nothing else.
    pub fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        world.make(POLICIES, NAMESPACE, policy(), "kubectl");
        world.oracle.of(&home()).kept = kept_of_templates();
        Self { world: Arc::new(Mutex::new(world)), process: None, downtime: TimeDelta::seconds(2), crashes: 0, elect: true }
    }

    /// The same with models other than good ones.
    pub fn with_model(self, letter: &str, model: Model) -> Self {
        lock(&self.world).cluster.models.insert(letter.to_owned(), model);
        self
    }

    pub fn now(&self) -> DateTime<Utc> {
        lock(&self.world).now
    }

    /// Applies the rollout, as `kubectl apply` does.
    pub fn apply(&self, object: &Value) {
        apply(&mut lock(&self.world), object);
    }

    pub fn status(&self) -> Value {
        self.live().get("status").cloned().unwrap_or_default()
    }

    pub fn is_gone(&self) -> bool {
        lock(&self.world).store.get(ROLLOUTS, NAMESPACE, NAME).is_none()
    }

    fn live(&self) -> Arc<Value> {
        lock(&self.world).store.get(ROLLOUTS, NAMESPACE, NAME).cloned().unwrap_or_default()
    }

    pub fn ready(&self) -> (String, String) {
        ready(&self.live())
    }

    /// Lets time pass, with processes that die and come back on the way.
    pub fn run_for(&mut self, span: TimeDelta) {
        let until = self.now() + span;
        while self.now() < until && !self.is_hopeless() {
            let mut process = self.process.take().unwrap_or_else(|| Process::start(&self.world, "op", self.elect));
            match process.run_until(until) {
                Stopped::Reached => self.process = Some(process),
                Stopped::Crashed => self.restart(process, "is gone", self.downtime),
                Stopped::Ended => {
                    let why = format!("ended: {}", process.end);
                    self.restart(process, &why, TimeDelta::seconds(1));
                }
            }
        }
    }

    /// So much is broken that the rest would tell nothing new; an operator that writes without end would keep the run from its own.
    fn is_hopeless(&self) -> bool {
        lock(&self.world).oracle.violations.len() > 50
    }

    fn restart(&mut self, process: Process, why: &str, downtime: TimeDelta) {
        self.crashes += 1;
        lock(&self.world).say(&format!("op {why}"));
        process.kill();
        let mut world = lock(&self.world);
        let back = world.now + downtime;
        world.excuse(back + TimeDelta::seconds(25));
        world.run_due(back);
    }

    /// Runs until something holds, looking every second; false when it never does within `limit`.
    pub fn until(&mut self, limit: TimeDelta, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now() + limit;
        while self.now() < end && !self.is_hopeless() {
            if holds(self) {
                return true;
            }
            self.run_for(TimeDelta::seconds(1));
        }
        holds(self)
    }

    /// The process dies at its `at`-th write from now on.
    pub fn crash_at(&mut self, at: usize, lands: bool, downtime: TimeDelta) {
        self.downtime = downtime;
        lock(&self.world).crash = Some(Crash { at, lands });
    }

    /// A world in which `a` serves and nothing is on trial.
    pub fn serving(mut self) -> Self {
        self.apply(&rollout("a"));
        let served = self.until(TimeDelta::minutes(5), |sim| sim.ready() == ("True".to_owned(), "Promoted".to_owned()));
        assert!(served, "a never served\n{}", self.story());
        self
    }

    /// The share of users at the gateway on the revision of the model with this letter.
    pub fn share(&self, letter: &str) -> i32 {
        share(&lock(&self.world), &home(), letter)
    }

    pub fn serves(&self, letter: &str) -> bool {
        serves(&self.live(), letter)
    }

    pub fn settled(&self) -> bool {
        settled(&self.live())
    }

    pub fn violations(&self) -> Vec<String> {
        lock(&self.world).oracle.violations.iter().map(|one| format!("{}: {}", one.check, one.message)).collect()
    }

    /// The whole trace.
    pub fn story(&self) -> String {
        let world = lock(&self.world);
        let stuck = self.process.as_ref().map(|process| process.vitals.beats.stuck()).unwrap_or_default();
        format!("{}\nstuck: {stuck:?}", world.trace.join("\n"))
    }
}

/// What is the user's in the routes of [`rollout_of`].
pub fn kept_of_templates() -> Vec<(&'static str, Value)> {
    vec![("/spec/rules/0/timeouts", json!({"request": "10s"})), ("/spec/rules/0/fieldOfTomorrow", json!({"a": [1.5]}))]
}

pub fn apply(world: &mut World, object: &Value) {
    if !world.make(ROLLOUTS, NAMESPACE, object.clone(), "kubectl") {
        let spec = object["spec"].clone();
        world.edit(ROLLOUTS, NAMESPACE, text(object, "/metadata/name"), "kubectl", false, |live| live["spec"] = spec);
    }
    world.say(&format!("kubectl applies {} to {}", text(object, "/spec/model/uri"), text(object, "/metadata/name")));
}

pub fn ready(live: &Value) -> (String, String) {
    let (status, reason) = condition(live, "Ready");
    (status.to_owned(), reason.to_owned())
}

pub fn serves(live: &Value, letter: &str) -> bool {
    text(live, "/status/stable/uri") == uri(letter)
}

/// Whether nothing is on trial, nor watched after it.
pub fn settled(live: &Value) -> bool {
    let done = [("True", "Promoted"), ("False", "RolledBack")].contains(&condition(live, "Ready"));
    done && live.pointer("/status/attempt").is_none() && live.pointer("/status/probation").is_none()
}

/// The share of users at the gateway, of those of this rollout, on the revision of the model with this letter.
pub fn share(world: &World, place: &Place, letter: &str) -> i32 {
    let Some(service) = crate::prometheus::service_of(world, &place.0, letter) else { return 0 };
    world.truth.taken(&world.route_of(place)).map_or(0, |taken| share_in(&taken.route, &service))
}
