//! A run from a seed: some rollouts, some models, some edits and requests, some faults, and what it must come to.
//! Everything is drawn before the run begins, so that the same seed is the same story.

use std::cell::Cell;
use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::cast::{Plot, Role};
use crate::dice::Dice;
use crate::faults::{Fault, Struck, some_effect};
use crate::people;
use crate::prometheus::DEFECTS;
use crate::store::POLICIES;
use crate::stories::{NAME, NAMESPACE, Sim};
use crate::world::{World, lock};

/// What a run came to.
pub struct Report {
    pub plots: Vec<Plot>,
    pub problems: Vec<String>,
    pub trace: Vec<String>,
    pub hours: f64,
    pub crashes: usize,
    pub writes: usize,
    pub queries: usize,
    /// Calls that were struck, by what happened to them.
    pub strikes: BTreeMap<String, usize>,
    /// Everything else that happened, by kind.
    pub happened: BTreeMap<String, usize>,
}

/// Faults within the first minutes of the trial.
fn faults(world: &mut World, dice: &mut Dice, from: DateTime<Utc>, elects: bool) {
    let struck = [
        Struck::Everything,
        Struck::Writes,
        Struck::Reads,
        Struck::Of("httproutes"),
        Struck::Of("modelrollouts"),
        Struck::WritesOf("httproutes"),
        Struck::WritesOf("modelrollouts"),
        Struck::WritesOf("deployments"),
        Struck::WritesOf("services"),
        Struck::WritesOf("events"),
        Struck::WritesOf("controllerrevisions"),
        Struck::Of("endpointslices"),
        Struck::Of("evaluationpolicies"),
        Struck::Of("pods"),
        Struck::Of("leases"),
    ];
    let sides = if elects { struck.len() } else { struck.len() - 1 };
    for _ in 0..dice.roll(4) {
        let begin = from + TimeDelta::seconds(dice.between(0, 300));
        let until = begin + TimeDelta::seconds(dice.between(3, 150));
        let percent = *dice.pick(&[20, 50, 100]);
        let (struck, effect) = (*dice.pick(&struck[..sides]), some_effect(dice));
        world.faults.list.push(Fault { from: begin, until, struck, percent, effect });
    }
    if dice.chance(25) {
        let until = from + TimeDelta::seconds(dice.between(60, 300));
        world.faults.bad_watches_until = Some(until);
        let silent = from + TimeDelta::seconds(dice.between(5, 240));
        world.script(silent, World::silence_watches);
    }
    if dice.chance(35) {
        let begin = from + TimeDelta::seconds(dice.between(20, 240));
        let defect = *dice.pick(&DEFECTS);
        world.count(format!("measurements {defect:?}"));
        world.truth.defect = Some((defect, begin, begin + TimeDelta::seconds(dice.between(10, 200))));
    }
    world.faults.lag = TimeDelta::milliseconds(*dice.pick(&[5, 5, 50, 500, 3000]));
    world.cluster.gateway_delay = TimeDelta::milliseconds(*dice.pick(&[20, 120, 1000, 4000]));
    let mut end = world.faults.end().max(world.truth.defect.map(|(_, _, until)| until));
    if dice.chance(8) {
        let begin = from + TimeDelta::seconds(dice.between(5, 240));
        let until = begin + TimeDelta::seconds(dice.between(10, 120));
        world.count("gateway that refuses");
        world.script(begin, |world| world.refuse_routes(true));
        world.script(until, |world| world.refuse_routes(false));
        end = end.max(Some(until));
    }
    if dice.chance(12) {
        // Ahead or behind by less than a scrape for good, or by much for a while.
        let begin = from + TimeDelta::seconds(dice.between(5, 240));
        let by = TimeDelta::seconds(*dice.pick(&[-10, 10, -90, 90, 900]));
        world.script(begin, move |world| world.jump(by));
        let until = begin + TimeDelta::seconds(dice.between(20, 120));
        world.script(until, move |world| world.jump(-by));
        end = end.max(Some(until));
    }
    // After a watch that died in silence, a minute and five seconds go by until somebody notices.
    world.oracle.excused_until = end.map(|end| end + TimeDelta::seconds(100));
}

/// A world with its cast, in which everything that was there before serves.
fn stage(seed: u64, dice: &mut Dice) -> (Sim, Vec<Role>, i64) {
    let mut sim = Sim::new(seed);
    sim.elect = dice.chance(25);
    let interval = *dice.pick(&[15, 15, 30]);
    let number = usize::try_from(dice.between(4, 9)).unwrap();
    let cast: Vec<Role> = (0..number).map(|number| Role::draw(number, dice)).collect();
    {
        let mut world = lock(&sim.world);
        world.edit(POLICIES, NAMESPACE, NAME, "kubectl", false, |live| {
            live["spec"]["interval"] = json!(format!("{interval}s"));
            live["spec"]["window"] = json!("30s");
        });
        for role in &cast {
            let line = role.tell();
            world.say(&line);
            role.prepare(&mut world);
        }
        for _ in 0..dice.roll(3) {
            people::hostile(&mut world, dice);
        }
    }
    (sim, cast, interval)
}

/// Runs the story of this seed; it is the same to the last byte each time.
pub fn run(seed: u64) -> Report {
    let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(7));
    let (mut sim, cast, interval) = stage(seed, &mut dice);
    let all = |sim: &Sim| {
        let world = lock(&sim.world);
        cast.iter().all(|role| role.is_prepared(&world))
    };
    if !sim.until(TimeDelta::minutes(5), all) {
        return report(&sim, &cast, vec!["L4 what was there before never served".to_owned()]);
    }
    let from = sim.now();
    {
        let mut world = lock(&sim.world);
        world.say(&format!("seed {seed}"));
        faults(&mut world, &mut dice, from, sim.elect);
        for role in &cast {
            role.begin(&mut world, &mut dice, from, interval);
        }
        let faults: Vec<String> = world.faults.list.iter().map(|fault| format!("{fault:?}")).collect();
        for fault in &faults {
            world.say(fault);
        }
        let defect = format!("{:?} lag {} gateway {}", world.truth.defect, world.faults.lag, world.cluster.gateway_delay);
        world.say(&defect);
    }
    sim.run_for(TimeDelta::seconds(1));
    for _ in 0..dice.roll(3) {
        let (wait, more) = (dice.between(0, 180), usize::try_from(dice.roll(6)).unwrap());
        sim.run_for(TimeDelta::seconds(wait));
        let at = lock(&sim.world).writes + 1 + more;
        sim.crash_at(at, dice.chance(50), TimeDelta::seconds(*dice.pick(&[0, 1, 20, 200])));
    }
    sim.run_for(TimeDelta::minutes(4));
    lock(&sim.world).crash = None;
    let mut problems = end(&mut sim, &cast, dice.chance(15));
    problems.extend(sim.violations());
    report(&sim, &cast, problems)
}

/// Faults are over: what must be true in the end, and then nothing more is written.
fn end(sim: &mut Sim, cast: &[Role], rests: bool) -> Vec<String> {
    // Nobody is asked twice in a second, and everybody is asked.
    let looked = Cell::new(0);
    let over = |sim: &Sim| {
        let mut world = lock(&sim.world);
        if looked.replace(world.store.version()) == world.store.version() {
            return false;
        }
        let unfinished = cast.iter().filter(|role| !role.is_over(&mut world)).count();
        unfinished == 0
    };
    let arrived = sim.until(TimeDelta::hours(4), over);
    // The gateway takes its time, and nobody is at the door any more.
    sim.run_for(TimeDelta::seconds(6));
    let world = lock(&sim.world);
    let mut problems: Vec<String> = cast.iter().filter_map(|role| role.end(&world)).collect();
    drop(world);
    if !arrived && problems.is_empty() {
        problems.push("L4 it never comes to an end".to_owned());
    }
    // Rest takes long to look at, and is the same after most stories.
    if !rests || !problems.is_empty() {
        return problems;
    }
    // Workloads are parked a little later.
    sim.run_for(TimeDelta::minutes(4));
    {
        let mut world = lock(&sim.world);
        world.oracle.quiet_from = Some(world.now);
    }
    sim.run_for(TimeDelta::minutes(7));
    problems
}

fn report(sim: &Sim, cast: &[Role], problems: Vec<String>) -> Report {
    let world = lock(&sim.world);
    Report {
        plots: cast.iter().map(|role| role.plot).collect(),
        problems,
        trace: world.trace.clone(),
        hours: world.elapsed() / 3600.0,
        crashes: sim.crashes,
        writes: world.writes,
        queries: world.truth.queries,
        strikes: world.faults.strikes.clone(),
        happened: world.happened.clone(),
    }
}
