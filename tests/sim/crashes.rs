//! The process dies at every write of a story, before or after the write lands, for a moment or for minutes: the story ends the same.
//! What must hold meanwhile is checked at every write by [`crate::oracle`].

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::cluster::Model;
use crate::oracle::Harm;
use crate::people;
use crate::stories::{Sim, home, rollout};
use crate::world::{World, lock};

/// What happens in a story, so many seconds after the candidate was applied.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    /// The candidate's outputs are not finite from here on.
    Fails,
    Deleted,
    /// Another candidate is applied.
    Superseded,
    Asked(&'static str),
}

/// A story that can be cut anywhere: the candidate is applied, and this must serve in the end.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    pub name: &'static str,
    pub ends_with: &'static str,
    turns: &'static [(i64, Turn)],
    stages: Stages,
}

#[derive(Clone, Copy, Debug)]
enum Stages {
    OneStep,
    TwoSteps,
    EveryKind,
}

impl Stages {
    fn spec(self) -> Value {
        let canary =
            |steps: Value| json!({"name": "canary", "type": "Canary", "steps": steps, "stepMinDuration": "2m", "maxDuration": "2h"});
        match self {
            Self::OneStep => json!([canary(json!(["10%"]))]),
            Self::TwoSteps => json!([canary(json!(["5%", "25%"]))]),
            Self::EveryKind => json!([
                {"name": "shadow", "type": "Shadow", "percent": "100%", "minDuration": "2m", "maxDuration": "1h"},
                canary(json!(["10%"])),
                {"name": "ab", "type": "ABTest", "percent": "30%", "minDuration": "2m", "maxDuration": "2h",
                    "assignment": {"header": "x-user-id", "alphabet": "hex"}},
            ]),
        }
    }
}

const fn story(name: &'static str, ends_with: &'static str, stages: Stages, turns: &'static [(i64, Turn)]) -> Story {
    Story { name, ends_with, turns, stages }
}

pub const STORIES: [Story; 9] = [
    story("promoted by a canary", "b", Stages::TwoSteps, &[]),
    story("promoted by shadow, canary and A/B test", "b", Stages::EveryKind, &[]),
    story("rolled back at the first step", "a", Stages::OneStep, &[(40, Turn::Fails)]),
    story("rolled back in probation", "a", Stages::OneStep, &[(420, Turn::Fails)]),
    story("returned by a person in probation", "a", Stages::OneStep, &[(300, Turn::Asked("rollback"))]),
    story("aborted", "a", Stages::OneStep, &[(60, Turn::Asked("abort"))]),
    story("paused and resumed", "b", Stages::OneStep, &[(40, Turn::Asked("pause")), (90, Turn::Asked("resume"))]),
    story("superseded by another candidate", "c", Stages::OneStep, &[(70, Turn::Superseded)]),
    story("deleted on trial", "", Stages::OneStep, &[(60, Turn::Deleted)]),
];

/// A place to die.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    pub at: usize,
    pub lands: bool,
    pub downtime: i64,
}

/// What one run came to.
pub struct Played {
    pub writes: usize,
    pub hours: f64,
    pub problems: Vec<String>,
    pub trace: String,
}

fn turn(world: &mut World, turn: Turn, stages: &Value) {
    match turn {
        Turn::Fails => {
            let from = world.now;
            world.cluster.models.insert("b".into(), Model { nonfinite_from: Some(from), ..Model::default() });
            world.oracle.of(&home()).harm = Some(Harm { letter: "b".into(), from, bound: TimeDelta::seconds(32) });
        }
        Turn::Deleted => people::delete(world, &home()),
        Turn::Superseded => {
            let mut next = rollout("c");
            next["spec"]["stages"] = stages.clone();
            people::reapply(world, &next, "new candidate");
        }
        Turn::Asked(action) => people::ask(world, &home(), action, action),
    }
}

/// Plays a story.
pub fn play(story: Story, death: Option<Death>) -> Played {
    let mut sim = Sim::new(17);
    sim.elect = false;
    let mut sim = sim.serving();
    let start = lock(&sim.world).writes;
    let stages = story.stages.spec();
    let mut candidate = rollout("b");
    candidate["spec"]["stages"] = stages.clone();
    {
        let mut world = lock(&sim.world);
        let now = world.now;
        for (after, what) in story.turns.iter().copied() {
            let stages = stages.clone();
            world.script(now + TimeDelta::seconds(after), move |world| turn(world, what, &stages));
        }
    }
    sim.apply(&candidate);
    if let Some(death) = death {
        sim.crash_at(start + death.at, death.lands, TimeDelta::seconds(death.downtime));
    }
    let gone = story.ends_with.is_empty();
    // A request may come while nobody is there to hear it, and is refused when its time is over.
    let asks = story.turns.iter().any(|(_, turn)| matches!(turn, Turn::Asked(_)));
    let late = |sim: &Sim| asks && sim.status()["lastRequest"]["result"] == "Refused" && sim.settled();
    // In probation the fault may come when the candidate serves already: it must have gone back, not merely rest.
    let arrived = sim
        .until(TimeDelta::hours(2), |sim| if gone { sim.is_gone() } else { sim.settled() && (sim.serves(story.ends_with) || late(sim)) });
    let mut problems = sim.violations();
    if !arrived {
        problems.push(format!("L3 {} must serve in the end; Ready is {:?}", story.ends_with, sim.ready()));
    }
    let serves = ["a", "b", "c"].into_iter().find(|letter| sim.serves(letter)).unwrap_or_default();
    if !gone && sim.share(serves) != 100 {
        problems.push(format!("L3 {serves} has {} %", sim.share(serves)));
    }
    let world = lock(&sim.world);
    let (writes, hours) = (world.writes - start, world.elapsed() / 3600.0);
    drop(world);
    Played { writes, hours, problems, trace: sim.story() }
}

/// Every place to die in a story of so many writes, with every downtime; the longest is longer than any deadline.
pub fn deaths(writes: usize) -> Vec<Death> {
    let ways = [0, 20, 200, 900].into_iter().flat_map(|downtime| [(true, downtime), (false, downtime)]);
    let ways: Vec<(bool, i64)> = ways.collect();
    (1..=writes).flat_map(|at| ways.iter().map(move |(lands, downtime)| Death { at, lands: *lands, downtime: *downtime })).collect()
}
