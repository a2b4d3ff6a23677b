//! The process dies at every write of a story, before or after the write lands, for a moment or for minutes: the story ends the same.
//! What must hold meanwhile is checked at every write by [`crate::oracle`].

use chrono::TimeDelta;

use crate::cluster::Model;
use crate::oracle::Harm;
use crate::stories::{Sim, rollout};
use crate::world::lock;

/// A story that can be cut anywhere: the candidate is applied, and this must serve in the end.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    pub name: &'static str,
    pub ends_with: &'static str,
    /// Seconds after the start of the trial from which the candidate's outputs are not finite.
    pub fails_after: Option<i64>,
    pub deleted_after: Option<i64>,
}

pub const STORIES: [Story; 4] = [
    Story { name: "good", ends_with: "b", fails_after: None, deleted_after: None },
    Story { name: "harm at the first step", ends_with: "a", fails_after: Some(40), deleted_after: None },
    Story { name: "harm in probation", ends_with: "a", fails_after: Some(420), deleted_after: None },
    Story { name: "deleted on trial", ends_with: "", fails_after: None, deleted_after: Some(60) },
];

/// A place to die.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    pub at: usize,
    pub lands: bool,
    pub downtime: i64,
}

/// Plays a story; gives the number of writes and what went wrong.
pub fn play(story: Story, death: Option<Death>) -> (usize, Vec<String>, String) {
    let mut sim = Sim::new(17);
    sim.elect = false;
    let mut sim = sim.serving();
    let start = lock(&sim.world).writes;
    {
        let mut world = lock(&sim.world);
        let now = world.now;
        if let Some(after) = story.fails_after {
            let from = now + TimeDelta::seconds(after);
            world.cluster.models.insert("b".into(), Model { nonfinite_from: Some(from), ..Model::default() });
            world.oracle.harm = Some(Harm { letter: "b".into(), from, bound: TimeDelta::seconds(32) });
        }
        if let Some(after) = story.deleted_after {
            world.script(now + TimeDelta::seconds(after), |world| {
                world.remove(crate::store::ROLLOUTS, crate::stories::NAMESPACE, crate::stories::NAME);
            });
        }
    }
    let mut candidate = rollout("b");
    candidate["spec"]["stages"][0]["steps"] = serde_json::json!(["10%"]);
    sim.apply(&candidate);
    if let Some(death) = death {
        sim.crash_at(start + death.at, death.lands, TimeDelta::seconds(death.downtime));
    }
    let gone = story.ends_with.is_empty();
    // In probation the fault may come when the candidate serves already: it must have gone back, not merely rest.
    let arrived =
        sim.until(TimeDelta::hours(2), |sim| if gone { sim.object().is_null() } else { sim.settled() && sim.serves(story.ends_with) });
    let mut problems = sim.violations();
    if !arrived {
        problems.push(format!("L3 {} must serve in the end; Ready is {:?}", story.ends_with, sim.ready()));
    }
    if !gone && sim.share(story.ends_with) != 100 {
        problems.push(format!("L3 {} has {} %", story.ends_with, sim.share(story.ends_with)));
    }
    let writes = lock(&sim.world).writes - start;
    (writes, problems, sim.story())
}

/// Every place to die in a story of so many writes; `thin` leaves most combinations out.
pub fn deaths(writes: usize, thin: bool) -> Vec<Death> {
    let mut all = Vec::new();
    for at in 1..=writes {
        for (number, (lands, downtime)) in [(true, 0), (false, 200), (true, 200), (false, 1)].into_iter().enumerate() {
            // In turn: the one is the watch that comes back, the other everything that ran out meanwhile.
            if !thin || number % 4 == at % 4 {
                all.push(Death { at, lands, downtime });
            }
        }
    }
    all
}
