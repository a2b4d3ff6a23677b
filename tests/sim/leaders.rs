//! Two replicas in one world: one leads, is frozen and goes on later, or dies; there is one writer at any moment, and nothing is lost.
//! Each has a clock of its own; time passes for both in small slices.

use chrono::TimeDelta;

use crate::cluster::Model;
use crate::dice::Dice;
use crate::oracle::Harm;
use crate::process::{Process, Stopped};
use crate::stories::{Sim, home, rollout};
use crate::world::lock;

/// How far the clocks of two replicas are apart.
const SLICE: TimeDelta = TimeDelta::milliseconds(40);

struct Pair {
    sim: Sim,
    replicas: [Option<Process>; 2],
    frozen: [Option<chrono::DateTime<chrono::Utc>>; 2],
    changes: usize,
}

const NAMES: [&str; 2] = ["one", "two"];

impl Pair {
    fn new(seed: u64) -> Self {
        let sim = Sim::new(seed);
        Self { sim, replicas: [None, None], frozen: [None, None], changes: 0 }
    }

    /// Lets a slice of time pass for both.
    fn slice(&mut self) {
        let until = self.sim.now() + SLICE;
        for (index, name) in NAMES.into_iter().enumerate() {
            if self.frozen[index].is_some_and(|thaws| thaws > until) {
                continue;
            }
            let thaws = self.frozen[index].take().is_some();
            let mut process = self.replicas[index].take().unwrap_or_else(|| Process::start_replica(&self.sim.world, name));
            if thaws {
                lock(&self.sim.world).say(&format!("{name} goes on"));
                process.thaw();
            }
            match process.step_until(until) {
                Stopped::Reached | Stopped::Crashed => self.replicas[index] = Some(process),
                Stopped::Ended => {
                    lock(&self.sim.world).say(&format!("{name} ended: {}", process.end));
                    process.kill();
                    self.changes += 1;
                    self.excuse();
                }
            }
        }
        lock(&self.sim.world).run_due(until);
    }

    /// A hand-over takes the lease's duration and a start.
    fn excuse(&self) {
        let mut world = lock(&self.sim.world);
        let until = world.now + TimeDelta::seconds(40);
        world.excuse(until);
    }

    fn leader(&self) -> Option<usize> {
        let world = lock(&self.sim.world);
        let lease = world.store.list(crate::store::LEASES, None).next()?;
        let holder = crate::store::text(lease, "/spec/holderIdentity").to_owned();
        NAMES.iter().position(|name| holder.starts_with(&format!("{name}_")))
    }

    fn freeze(&mut self, index: usize, span: TimeDelta) {
        let mut world = lock(&self.sim.world);
        let until = world.now + span;
        world.say(&format!("{} is frozen for {} s", NAMES[index], span.num_seconds()));
        world.excuse(until + TimeDelta::seconds(40));
        drop(world);
        self.frozen[index] = Some(until);
    }

    fn until(&mut self, limit: TimeDelta, holds: impl Fn(&Sim) -> bool) -> bool {
        let end = self.sim.now() + limit;
        while self.sim.now() < end {
            for _ in 0..25 {
                self.slice();
            }
            if holds(&self.sim) {
                return true;
            }
        }
        false
    }
}

/// A leader that is frozen, or dies, again and again; what was found bad meanwhile is gone in the end, and there was one writer at any time.
pub fn story(seed: u64) -> (Vec<String>, String, usize) {
    let mut dice = Dice::new(seed ^ 0x6c65_6164);
    let mut pair = Pair::new(seed);
    pair.sim.apply(&rollout("a"));
    let mut problems = Vec::new();
    if !pair.until(TimeDelta::minutes(5), |sim| sim.settled() && sim.serves("a")) {
        problems.push("L4 a never served".to_owned());
    }
    let bad = dice.chance(60);
    {
        let mut world = lock(&pair.sim.world);
        let from = world.now + TimeDelta::seconds(dice.between(40, 200));
        if bad {
            world.cluster.models.insert("b".into(), Model { nonfinite_from: Some(from), ..Model::default() });
            world.oracle.of(&home()).harm = Some(Harm { letter: "b".into(), from, bound: TimeDelta::seconds(45) });
        }
    }
    pair.sim.apply(&rollout("b"));
    for _ in 0..4 {
        let wait = dice.between(5, 90);
        pair.until(TimeDelta::seconds(wait), |_| false);
        let Some(leader) = pair.leader() else { continue };
        if dice.chance(25) {
            lock(&pair.sim.world).say(&format!("{} is killed", NAMES[leader]));
            if let Some(process) = pair.replicas[leader].take() {
                process.kill();
            }
            pair.excuse();
        } else {
            // Shorter than the renewal, around the lease's duration, and long.
            let span = *dice.pick(&[3, 9, 12, 14, 16, 20, 60]);
            pair.freeze(leader, TimeDelta::seconds(span));
        }
    }
    let expected = if bad { "a" } else { "b" };
    if !pair.until(TimeDelta::minutes(40), |sim| sim.settled() && sim.serves(expected)) {
        problems.push(format!("L4 {expected} must serve, Ready is {:?}", pair.sim.ready()));
    }
    problems.extend(pair.sim.violations());
    (problems, pair.sim.story(), pair.changes)
}
