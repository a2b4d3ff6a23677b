//! What is run: whole stories, every place to die, two leaders, and as many seeds as there is time for.
//! `ESPALIER_SIM=nightly` runs 100,000 seeds and dies everywhere in every way; `ESPALIER_SIM_SEEDS` says how many seeds, `ESPALIER_SIM_SEED` replays one with its trace, `ESPALIER_SIM_FIRST` ends at the first that fails,
//! `ESPALIER_SIM_LEADERS` says how many seeds two replicas get.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::json;

use crate::chaos::{self, Report};
use crate::cluster::Model;
use crate::crashes::{STORIES, deaths, play};
use crate::faults::{Effect, Fault, Struck};
use crate::leaders;
use crate::oracle::Harm;
use crate::prometheus::{DEFECTS, Defect};
use crate::store::ROLLOUTS;
use crate::stories::{NAMESPACE, Sim, rollout};
use crate::world::lock;

/// Seeds of an ordinary run, unless the time is over before.
const SEEDS: u64 = 400;
/// Seeds of a nightly run.
const NIGHTLY: u64 = 100_000;
/// How long an ordinary run goes on with new seeds.
const TIME: Duration = Duration::from_secs(25);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn is_nightly() -> bool {
    std::env::var("ESPALIER_SIM").is_ok_and(|kind| kind == "nightly")
}

/// What was covered is told whether the tests pass or not.
fn say(line: &str) {
    // Nobody may be reading.
    let _ = writeln!(std::io::stderr(), "sim: {line}");
}

/// Does `work` for each number on all processors.
fn on_all_processors(numbers: impl Iterator<Item = u64> + Send, work: impl Fn(u64) + Sync) {
    let numbers = Mutex::new(numbers);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(number) = numbers.lock().unwrap().next() else { return };
                    work(number);
                }
            });
        }
    });
}

#[test]
fn a_good_candidate_is_deployed_stepped_and_promoted_and_then_nothing_is_written() {
    let mut sim = Sim::new(1).serving();
    sim.apply(&rollout("b"));
    let promoted = sim.until(TimeDelta::hours(2), |sim| sim.serves("b") && sim.settled());
    sim.run_for(TimeDelta::minutes(1));
    {
        let mut world = lock(&sim.world);
        world.oracle.quiet_from = Some(world.now);
    }
    sim.run_for(TimeDelta::minutes(20));
    assert!(promoted && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
    assert_eq!((sim.share("b"), sim.share("a")), (100, 0));
    assert_eq!(sim.process.as_ref().unwrap().vitals.beats.stuck(), Vec::<String>::new());
}

#[test]
fn a_candidate_whose_outputs_are_not_finite_is_gone_within_a_scrape_and_a_glance() {
    let sim = Sim::new(2).serving();
    let from = sim.now() + TimeDelta::seconds(100);
    let mut sim = sim.with_model("b", Model { nonfinite_from: Some(from), ..Model::default() });
    lock(&sim.world).oracle.harm = Some(Harm { letter: "b".into(), from, bound: TimeDelta::seconds(25) });
    sim.apply(&rollout("b"));
    assert!(sim.until(TimeDelta::seconds(99), |sim| sim.share("b") == 5), "{}", sim.story());
    let rejected = sim.until(TimeDelta::hours(2), |sim| sim.settled() && sim.ready().1 == "RolledBack");
    assert!(rejected && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
    assert_eq!((sim.share("b"), sim.share("a")), (0, 100));
    sim.run_for(TimeDelta::minutes(3));
    assert_eq!(sim.status()["rejected"][0]["attempts"], 1, "what was rejected is tried again\n{}", sim.story());
}

#[test]
fn a_candidate_does_not_rise_while_measurements_are_broken_in_any_way() {
    let blinding: Vec<Defect> = DEFECTS.into_iter().filter(|defect| defect.blinds()).collect();
    on_all_processors(0..blinding.len() as u64, |index| {
        let defect = blinding[usize::try_from(index).unwrap()];
        let mut sim = Sim::new(20 + index).serving();
        sim.apply(&rollout("b"));
        assert!(sim.until(TimeDelta::minutes(2), |sim| sim.share("b") == 5), "{}", sim.story());
        let now = sim.now();
        lock(&sim.world).truth.defect = Some((defect, now, now + TimeDelta::minutes(5)));
        sim.run_for(TimeDelta::minutes(5));
        let highest = lock(&sim.world).oracle.highest();
        assert!(highest == 5 && sim.violations().is_empty(), "it rose although measurements are {defect:?}: {highest} %\n{}", sim.story());
        let promoted = sim.until(TimeDelta::minutes(40), |sim| sim.serves("b") && sim.settled());
        assert!(promoted, "it never goes on although nothing is {defect:?} any more\n{}", sim.story());
    });
}

#[test]
fn the_same_seed_is_the_same_run_byte_for_byte() {
    on_all_processors(0..8, |seed| {
        let (one, other) = (chaos::run(seed), chaos::run(seed));
        let differs = one.trace.iter().zip(&other.trace).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.trace.len(), other.trace.len(), "seed {seed}");
    });
}

#[test]
fn an_object_that_cannot_be_read_holds_up_no_other() {
    let mut sim = Sim::new(3).serving();
    for (name, spec) in [("wrong", json!({"model": 5})), ("empty", json!({})), ("deep", json!({"model": {"uri": [[[[[{}]]]]]}}))] {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        assert!(lock(&sim.world).make(ROLLOUTS, NAMESPACE, object, "kubectl"));
    }
    sim.apply(&rollout("b"));
    let promoted = sim.until(TimeDelta::hours(2), |sim| sim.serves("b") && sim.settled());
    assert!(promoted && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
}

#[test]
fn status_fields_of_a_newer_version_are_kept_through_a_whole_rollout() {
    let mut sim = Sim::new(4).serving();
    lock(&sim.world).edit(ROLLOUTS, NAMESPACE, "digits", "newer", true, |live| live["status"]["futureField"] = json!({"kept": [1, 2]}));
    sim.apply(&rollout("b"));
    let promoted = sim.until(TimeDelta::hours(2), |sim| sim.serves("b") && sim.settled());
    assert!(promoted && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
    assert_eq!(sim.status()["futureField"], json!({"kept": [1, 2]}));
}

#[test]
fn weights_that_were_edited_while_nobody_looked_are_not_held_against_the_candidate_for_ever() {
    let mut sim = Sim::new(5).serving();
    sim.apply(&rollout("b"));
    assert!(sim.until(TimeDelta::minutes(2), |sim| sim.share("b") == 5), "{}", sim.story());
    sim.run_for(TimeDelta::seconds(100));
    sim.process.take().unwrap().kill();
    {
        let mut world = lock(&sim.world);
        world.oracle.foreign = true;
        let now = world.now;
        world.excuse(now + TimeDelta::minutes(3));
        chaos::foreign(&mut world, 60);
        world.run_due(now + TimeDelta::minutes(2));
    }
    let promoted = sim.until(TimeDelta::minutes(40), |sim| sim.serves("b") && sim.settled());
    assert!(promoted && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
}

#[test]
fn what_somebody_gave_a_candidate_by_hand_is_taken_back_before_anything_is_measured() {
    let mut sim = Sim::new(8).serving();
    sim.apply(&rollout("b"));
    assert!(sim.until(TimeDelta::minutes(2), |sim| sim.share("b") == 5), "{}", sim.story());
    sim.run_for(TimeDelta::seconds(3));
    lock(&sim.world).oracle.foreign = true;
    chaos::edit_weights(&mut lock(&sim.world), 60);
    let promoted = sim.until(TimeDelta::minutes(40), |sim| sim.serves("b") && sim.settled());
    assert!(promoted && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
}

#[test]
fn a_route_that_no_gateway_takes_is_not_raised_until_one_does() {
    let mut sim = Sim::new(9).serving();
    lock(&sim.world).cluster.gateway_refuses = true;
    sim.apply(&rollout("b"));
    sim.run_for(TimeDelta::minutes(8));
    let highest = lock(&sim.world).oracle.highest();
    let ready = sim.ready();
    assert!(highest == 0 && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
    assert_ne!(ready.0, "True", "nobody may think that this is done");
    lock(&sim.world).accept_again(NAMESPACE, "digits");
    let promoted = sim.until(TimeDelta::minutes(40), |sim| sim.serves("b") && sim.settled());
    assert!(promoted && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
}

#[test]
fn a_candidate_that_is_killed_for_memory_is_rolled_back_while_prometheus_is_down() {
    let mut sim = Sim::new(10).serving().with_model("b", Model { killed_after: Some(TimeDelta::seconds(60)), ..Model::default() });
    sim.apply(&rollout("b"));
    assert!(sim.until(TimeDelta::minutes(2), |sim| sim.share("b") == 5), "{}", sim.story());
    let now = sim.now();
    lock(&sim.world).truth.defect = Some((Defect::Down, now, now + TimeDelta::hours(1)));
    let rejected = sim.until(TimeDelta::seconds(70), |sim| sim.ready().1 == "RolledBack");
    assert!(rejected && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
    assert_eq!(sim.status()["rejected"][0]["reason"], "OOMKilled");
}

#[test]
fn what_a_pod_did_in_the_second_in_which_its_attempt_started_is_the_candidates() {
    let sim = Sim::new(6).serving();
    let from = sim.now();
    let mut sim =
        sim.with_model("b", Model { nonfinite_from: Some(from), startup: Some(TimeDelta::milliseconds(100)), ..Model::default() });
    // Nothing can be measured before its counters have moved.
    lock(&sim.world).truth.defect = Some((Defect::Warning, from, from + TimeDelta::seconds(45)));
    sim.apply(&rollout("b"));
    let rejected = sim.until(TimeDelta::minutes(20), |sim| sim.settled() && sim.ready().1 == "RolledBack");
    assert!(rejected && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
    let highest = lock(&sim.world).oracle.highest();
    assert_eq!(highest, 0, "nobody is sent to a candidate that has failed already\n{}", sim.story());
}

#[test]
fn lists_that_are_never_answered_are_asked_again() {
    let mut sim = Sim::new(7);
    {
        let mut world = lock(&sim.world);
        let (from, until) = (world.now, world.now + TimeDelta::seconds(20));
        world.faults.list.push(Fault { from, until, struck: Struck::Reads, percent: 60, effect: Effect::Hang });
    }
    sim.elect = false;
    let sim = sim.serving();
    assert!(sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
}

#[test]
fn a_crash_at_every_write_ends_as_without_one() {
    let places: Vec<_> = STORIES
        .into_iter()
        .flat_map(|story| {
            let (writes, problems, trace) = play(story, None);
            assert!(problems.is_empty(), "{}: {problems:?}\n{trace}", story.name);
            deaths(writes, !is_nightly()).into_iter().map(move |death| (story, death))
        })
        .collect();
    let failures = Mutex::new(Vec::new());
    on_all_processors(0..places.len() as u64, |index| {
        let (story, death) = places[usize::try_from(index).unwrap()];
        let (_, problems, trace) = play(story, Some(death));
        if !problems.is_empty() {
            failures.lock().unwrap().push(format!("{}, {death:?}: {problems:?}\n{trace}", story.name));
        }
    });
    let failures = failures.into_inner().unwrap();
    say(&format!("{} crash points of {} stories", places.len(), STORIES.len()));
    assert!(failures.is_empty(), "{} of {} crash points; the first:\n{}", failures.len(), places.len(), failures[0]);
}

#[test]
fn of_two_replicas_one_writes_and_nothing_is_lost_when_it_freezes_or_dies() {
    let changes = AtomicUsize::new(0);
    let seeds = number("ESPALIER_SIM_LEADERS").unwrap_or(if is_nightly() { 2000 } else { 8 });
    on_all_processors(0..seeds, |seed| {
        let (problems, trace, changed) = leaders::story(seed);
        changes.fetch_add(changed, Ordering::Relaxed);
        assert!(problems.is_empty(), "seed {seed}: {problems:?}\n{trace}");
    });
    say(&format!("{seeds} stories of two replicas with {} changes of the leader", changes.into_inner()));
}

/// What many runs came to.
#[derive(Default)]
struct Tally {
    runs: usize,
    hours: f64,
    strikes: usize,
    crashes: usize,
    writes: usize,
    queries: usize,
    defects: usize,
    plots: BTreeMap<String, usize>,
    failed: BTreeMap<u64, Vec<String>>,
}

impl Tally {
    fn add(&mut self, seed: u64, report: Report) {
        self.runs += 1;
        self.hours += report.hours;
        self.strikes += report.strikes;
        self.crashes += report.crashes;
        self.writes += report.writes;
        self.queries += report.queries;
        self.defects += usize::from(report.has_defect);
        *self.plots.entry(format!("{:?}", report.plot)).or_default() += 1;
        if !report.problems.is_empty() {
            self.failed.insert(seed, report.problems);
        }
    }
}

#[test]
fn whatever_happens_the_promises_hold() {
    let replay = number("ESPALIER_SIM_SEED");
    if let Some(seed) = replay {
        let report = chaos::run(seed);
        println!("{}\n{:?}: {:#?}", report.trace.join("\n"), report.plot, report.problems);
        assert!(report.problems.is_empty());
        return;
    }
    let (from, wanted) = (number("ESPALIER_SIM_FROM").unwrap_or(0), number("ESPALIER_SIM_SEEDS").or(is_nightly().then_some(NIGHTLY)));
    let (began, tally) = (Instant::now(), Mutex::new(Tally::default()));
    let first_only = number("ESPALIER_SIM_FIRST").is_some();
    let enough = |tally: &Mutex<Tally>| first_only && !tally.lock().unwrap().failed.is_empty();
    let in_time = || wanted.is_some() || began.elapsed() < TIME;
    let seeds = (from..from + wanted.unwrap_or(SEEDS)).take_while(|_| in_time() && !enough(&tally));
    on_all_processors(seeds, |seed| {
        let report = std::panic::catch_unwind(|| chaos::run(seed));
        let mut tally = tally.lock().unwrap();
        match report {
            Ok(report) => tally.add(seed, report),
            Err(_) => _ = tally.failed.insert(seed, vec!["the run panicked".to_owned()]),
        }
    });
    let tally = tally.into_inner().unwrap();
    say(&format!(
        "{} rollouts, {:.1} simulated hours, {} faults of calls, {} with broken measurements, {} crashes, {} writes, {} queries in {:.1} s: {:?}",
        tally.runs,
        tally.hours,
        tally.strikes,
        tally.defects,
        tally.crashes,
        tally.writes,
        tally.queries,
        began.elapsed().as_secs_f64(),
        tally.plots
    ));
    let kinds: BTreeSet<&str> = tally.failed.values().flatten().map(|problem| problem.split(':').next().unwrap_or_default()).collect();
    for (seed, problems) in tally.failed.iter().take(12) {
        println!("seed {seed}: {problems:#?}\n  replay: ESPALIER_SIM_SEED={seed} cargo test --test sim whatever_happens -- --nocapture");
    }
    assert!(tally.failed.is_empty(), "{} seeds failed: {kinds:?}", tally.failed.len());
}
