//! A run from a seed: some rollout, some models, some edits and requests, some faults, and what it must come to.
//! Everything is drawn before the run begins, so that the same seed is the same run.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::cluster::Model;
use crate::dice::Dice;
use crate::faults::{Fault, Struck, some_effect};
use crate::oracle::Harm;
use crate::prometheus::DEFECTS;
use crate::store::{ROLLOUTS, ROUTES, text};
use crate::stories::{NAME, NAMESPACE, Sim, apply, rollout};
use crate::world::{World, lock};

/// What the story is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plot {
    Good,
    WrongFromTheStart,
    WrongLater,
    NotFinite,
    NeverReady,
    Killed,
    Replaced,
    Deleted,
    Aborted,
    Suspended,
    Reverted,
}

const PLOTS: [Plot; 14] = [
    Plot::Good,
    Plot::Good,
    Plot::Good,
    Plot::WrongFromTheStart,
    Plot::WrongLater,
    Plot::NotFinite,
    Plot::NotFinite,
    Plot::NeverReady,
    Plot::Killed,
    Plot::Replaced,
    Plot::Deleted,
    Plot::Aborted,
    Plot::Suspended,
    Plot::Reverted,
];

/// What a run came to.
pub struct Report {
    pub plot: Plot,
    pub problems: Vec<String>,
    pub trace: Vec<String>,
    pub hours: f64,
    pub strikes: usize,
    pub crashes: usize,
    pub writes: usize,
    pub queries: usize,
    pub has_defect: bool,
}

fn stages(dice: &mut Dice) -> Value {
    let canary = |steps: &[&str]| json!({"name": "canary", "type": "Canary", "steps": steps, "stepMinDuration": "2m", "maxDuration": "2h"});
    match dice.roll(6) {
        0 => json!([canary(&["20%"])]),
        1 => json!([canary(&["1%", "10%", "50%"])]),
        2 => json!([{"name": "shadow", "type": "Shadow", "percent": "100%", "minDuration": "2m", "maxDuration": "1h"}, canary(&["10%"])]),
        3 => json!([canary(&["5%"]), {"name": "ab", "type": "ABTest", "percent": "30%", "minDuration": "2m", "maxDuration": "2h",
            "assignment": {"header": "x-user-id", "alphabet": "hex"}}]),
        _ => json!([canary(&["5%", "25%"])]),
    }
}

fn model(plot: Plot, dice: &mut Dice, applied: DateTime<Utc>) -> (Model, Option<Harm>) {
    let later = applied + TimeDelta::seconds(dice.between(30, 270));
    let harm = |from, bound| Some(Harm { letter: "b".into(), from, bound: TimeDelta::seconds(bound) });
    match plot {
        Plot::WrongFromTheStart => (Model { bad: 0.3, ..Model::default() }, None),
        Plot::WrongLater => (Model { worse_from: Some((later, 0.6)), ..Model::default() }, harm(later, 240)),
        // A scrape, a glance, the gateway's time, and what nobody may need.
        Plot::NotFinite => (Model { nonfinite_from: Some(later), ..Model::default() }, harm(later, 32)),
        Plot::NeverReady => (Model { startup: None, ..Model::default() }, None),
        Plot::Killed => (Model { killed_after: Some(TimeDelta::seconds(dice.between(40, 250))), ..Model::default() }, None),
        _ => (Model::default(), None),
    }
}

/// Faults within the first minutes after the candidate was applied.
fn faults(world: &mut World, dice: &mut Dice, applied: DateTime<Utc>) {
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
        Struck::Of("endpointslices"),
        Struck::Of("evaluationpolicies"),
    ];
    for _ in 0..dice.roll(4) {
        let from = applied + TimeDelta::seconds(dice.between(0, 420));
        let until = from + TimeDelta::seconds(dice.between(3, 150));
        let percent = *dice.pick(&[20, 50, 100]);
        let (struck, effect) = (*dice.pick(&struck), some_effect(dice));
        world.faults.list.push(Fault { from, until, struck, percent, effect });
    }
    if dice.chance(25) {
        let until = applied + TimeDelta::seconds(dice.between(60, 400));
        world.faults.bad_watches_until = Some(until);
        let silent = applied + TimeDelta::seconds(dice.between(5, 300));
        world.script(silent, World::silence_watches);
    }
    if dice.chance(35) {
        let from = applied + TimeDelta::seconds(dice.between(20, 300));
        world.truth.defect = Some((*dice.pick(&DEFECTS), from, from + TimeDelta::seconds(dice.between(10, 200))));
    }
    world.faults.lag = TimeDelta::milliseconds(*dice.pick(&[5, 5, 50, 500, 3000]));
    world.cluster.gateway_delay = TimeDelta::milliseconds(*dice.pick(&[20, 120, 1000, 4000]));
    let defect = world.truth.defect.map(|(_, _, until)| until);
    // After a watch that died in silence, a minute and five seconds go by until somebody notices.
    let end = world.faults.end().max(defect).map(|end| end + TimeDelta::seconds(100));
    world.oracle.excused_until = end;
}

fn ask(world: &mut World, action: &str, id: &str) {
    let Some(live) = world.store.get(ROLLOUTS, NAMESPACE, NAME) else { return };
    let candidate = text(live, "/status/candidate/revision").to_owned();
    let request = json!({"id": id, "action": action, "candidate": candidate, "actor": "ann", "reason": "because"}).to_string();
    world
        .edit(ROLLOUTS, NAMESPACE, NAME, "kubectl", false, |live| live["metadata"]["annotations"]["espalier.dev/request"] = json!(request));
    world.say(&format!("ann asks to {action} {candidate}"));
}

/// What people do while the candidate is on trial.
fn people(world: &mut World, dice: &mut Dice, plot: Plot, applied: DateTime<Utc>, candidate: &Value) {
    let when = applied + TimeDelta::seconds(dice.between(20, 300));
    let (again, of) = (when + TimeDelta::seconds(dice.between(5, 400)), candidate.clone());
    match plot {
        Plot::Replaced => world.script(when, move |world| {
            let mut next = of;
            next["spec"]["model"] = rollout("c")["spec"]["model"].clone();
            apply(world, &next);
        }),
        Plot::Deleted => world.script(when, |world| {
            world.say("kubectl deletes the rollout");
            world.remove(ROLLOUTS, NAMESPACE, NAME);
        }),
        Plot::Aborted => world.script(when, |world| ask(world, "abort", "r-1")),
        Plot::Suspended => {
            let mut held = candidate.clone();
            held["spec"]["suspend"] = json!(true);
            world.script(when, move |world| apply(world, &held));
            world.script(again, move |world| apply(world, &of));
        }
        Plot::Reverted => world.script(when, |world| apply(world, &rollout("a"))),
        _ => {}
    }
    if dice.chance(10) {
        let (when, weight) = (applied + TimeDelta::seconds(dice.between(30, 400)), dice.between(0, 100));
        world.script(when, move |world| foreign(world, weight));
    }
}

/// Somebody sets the weights of the first rule by hand.
pub fn foreign(world: &mut World, weight: i64) {
    world.oracle.foreign = true;
    world.excuse(world.now + TimeDelta::seconds(30));
    edit_weights(world, weight);
}

/// The edit alone, which excuses nobody.
pub fn edit_weights(world: &mut World, weight: i64) {
    world.say(&format!("kubectl-edit sets the second weight to {weight}"));
    world.edit(ROUTES, NAMESPACE, NAME, "kubectl-edit", false, |route| {
        if let Some([first, second, ..]) =
            route.pointer_mut("/spec/rules/0/backendRefs").and_then(Value::as_array_mut).map(Vec::as_mut_slice)
        {
            (first["weight"], second["weight"]) = (json!(100 - weight), json!(weight));
        }
    });
}

/// Runs the story of this seed.
pub fn run(seed: u64) -> Report {
    let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(7));
    let plot = *dice.pick(&PLOTS);
    let mut sim = Sim::new(seed);
    sim.elect = dice.chance(25);
    let mut sim = sim.serving();
    let applied = sim.now();
    let mut candidate = rollout("b");
    candidate["spec"]["stages"] = stages(&mut dice);
    // Longer than any downtime: the deadline goes on while nobody deploys.
    candidate["spec"]["progressDeadline"] = json!("6m");
    {
        let mut world = lock(&sim.world);
        let (model, harm) = model(plot, &mut dice, applied);
        world.say(&format!("seed {seed}: {plot:?}"));
        world.cluster.models.insert("b".to_owned(), model);
        faults(&mut world, &mut dice, applied);
        world.oracle.harm = harm;
        people(&mut world, &mut dice, plot, applied, &candidate);
        let faults: Vec<String> = world.faults.list.iter().map(|fault| format!("{fault:?}")).collect();
        for fault in &faults {
            world.say(fault);
        }
        let defect = format!("{:?} lag {} gateway {}", world.truth.defect, world.faults.lag, world.cluster.gateway_delay);
        world.say(&defect);
    }
    sim.apply(&candidate);
    for _ in 0..dice.roll(3) {
        let (wait, more) = (dice.between(0, 240), usize::try_from(dice.roll(6)).unwrap());
        sim.run_for(TimeDelta::seconds(wait));
        let at = lock(&sim.world).writes + 1 + more;
        sim.crash_at(at, dice.chance(50), TimeDelta::seconds(*dice.pick(&[0, 1, 20, 200])));
    }
    sim.run_for(TimeDelta::minutes(8));
    lock(&sim.world).crash = None;
    let mut problems = end(&mut sim, plot);
    problems.extend(sim.violations());
    report(&sim, plot, problems)
}

/// Faults are over: what must be true in the end, and then nothing more is written.
fn end(sim: &mut Sim, plot: Plot) -> Vec<String> {
    let mut problems = Vec::new();
    let gone = |sim: &Sim| sim.object().is_null();
    let arrived = sim.until(TimeDelta::hours(4), |sim| if plot == Plot::Deleted { gone(sim) } else { sim.settled() });
    if !arrived {
        problems.push(format!("L4 it never comes to an end: Ready is {:?}", sim.ready()));
        return problems;
    }
    let expected = match plot {
        Plot::Good | Plot::Suspended => Some("b"),
        Plot::Replaced => Some("c"),
        Plot::Deleted => None,
        _ => Some("a"),
    };
    if let Some(letter) = expected {
        let others = ["a", "b", "c"].into_iter().filter(|other| *other != letter);
        let stray: Vec<(&str, i32)> = others.map(|other| (other, sim.share(other))).filter(|(_, share)| *share > 0).collect();
        // A candidate that turned bad only after its probation serves, since nobody watches any more.
        let survived =
            plot == Plot::WrongLater || plot == Plot::Killed || plot == Plot::NotFinite || plot == Plot::Aborted || plot == Plot::Reverted;
        let late = survived && sim.serves("b") && never_rejected(sim);
        if (!sim.serves(letter) || sim.share(letter) != 100 || !stray.is_empty()) && !late {
            problems.push(format!(
                "L4 {letter} must serve everybody: it has {} %, others {stray:?}, Ready is {:?}",
                sim.share(letter),
                sim.ready()
            ));
        }
    }
    // Rest takes long to look at, and is the same after most stories.
    if lock(&sim.world).dice.chance(60) {
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

/// Whether the candidate had been promoted before what the story is about could happen.
fn never_rejected(sim: &Sim) -> bool {
    sim.status()["rejected"].as_array().is_none_or(Vec::is_empty)
}

fn report(sim: &Sim, plot: Plot, problems: Vec<String>) -> Report {
    let world = lock(&sim.world);
    Report {
        plot,
        problems,
        trace: world.trace.clone(),
        hours: world.elapsed() / 3600.0,
        strikes: world.faults.strikes,
        crashes: sim.crashes,
        writes: world.writes,
        queries: world.truth.queries,
        has_defect: world.truth.defect.is_some(),
    }
}
