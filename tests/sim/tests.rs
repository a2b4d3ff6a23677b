//! What is run: whole stories, every place to die, two leaders, and as many seeds as there is time for.
//! `ESPALIER_SIM=nightly` runs 100,000 rollouts; `ESPALIER_SIM_SEEDS` says how many worlds, `ESPALIER_SIM_SEED` replays one with its trace,
//! `ESPALIER_SIM_FIRST` ends at the first that fails, `ESPALIER_SIM_TWICE` says how many run twice to be compared, `ESPALIER_SIM_LEADERS` how many
//! seeds two replicas get, of the crash points every `ESPALIER_SIM_CRASHES`-th is tried, and the soak lasts `ESPALIER_SIM_WEEKS`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::json;

use crate::chaos::{self, Report};
use crate::cluster::Model;
use crate::crashes::{Played, STORIES, deaths, play};
use crate::faults::{Effect, Fault, Struck};
use crate::leaders;
use crate::oracle::Harm;
use crate::people;
use crate::prometheus::{DEFECTS, Defect};
use crate::soak;
use crate::store::ROLLOUTS as OBJECTS;
use crate::stories::{NAMESPACE, Sim, home, ready, rollout, rollout_of, share};
use crate::world::lock;

/// Rollouts of an ordinary run.
const ROLLOUTS: usize = 5000;
/// Rollouts of a nightly run.
const NIGHTLY: usize = 100_000;

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
    lock(&sim.world).oracle.of(&home()).harm = Some(Harm { letter: "b".into(), from, bound: TimeDelta::seconds(25) });
    sim.apply(&rollout("b"));
    assert!(sim.until(TimeDelta::seconds(99), |sim| sim.share("b") == 5), "{}", sim.story());
    let rejected = sim.until(TimeDelta::hours(2), |sim| sim.settled() && sim.ready().1 == "RolledBack");
    assert!(rejected && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
    assert_eq!((sim.share("b"), sim.share("a")), (0, 100));
    sim.run_for(TimeDelta::minutes(3));
    assert_eq!(sim.status()["rejected"][0]["attempts"], 1, "what was rejected is tried again\n{}", sim.story());
}

#[test]
fn of_many_that_fail_together_every_route_is_written_before_any_of_them_is_put_on_record() {
    // A model of its own for each.
    let names: Vec<String> = (0..80).map(|number| format!("b{number:02}")).collect();
    let mut sim = Sim::new(17);
    let from = sim.now() + TimeDelta::seconds(100);
    for name in &names {
        sim = sim.with_model(name, Model { nonfinite_from: Some(from), ..Model::default() });
    }
    let all = |sim: &Sim, holds: &dyn Fn(&serde_json::Value) -> bool| {
        let world = lock(&sim.world);
        names.iter().all(|name| world.store.get(OBJECTS, NAMESPACE, name).is_some_and(|found| holds(found)))
    };
    for name in &names {
        sim.apply(&rollout_of(name, "a"));
    }
    assert!(sim.until(TimeDelta::minutes(3), |sim| all(sim, &|found| ready(found).1 == "Promoted")), "{}", sim.story());
    for name in &names {
        sim.apply(&rollout_of(name, name));
    }
    let on_trial = |sim: &Sim| names.iter().all(|name| share(&lock(&sim.world), &(NAMESPACE.to_owned(), name.clone()), name) == 5);
    assert!(sim.until(TimeDelta::minutes(1), on_trial), "{}", sim.story());
    sim.run_for(TimeDelta::seconds(10));
    lock(&sim.world).faults.routes_take = TimeDelta::milliseconds(150);
    let exposed = lock(&sim.world).trace.len();
    assert!(sim.until(TimeDelta::minutes(9), |sim| all(sim, &|found| ready(found).1 == "RolledBack")), "{}", sim.story());
    let world = lock(&sim.world);
    let written = |what: &str| -> Vec<usize> {
        let lines = world.trace.iter().enumerate().skip(exposed);
        lines.filter(|(_, line)| line.contains(what) && line.contains("-> 200")).map(|(number, _)| number).collect()
    };
    let (routes, records) = (written(" PUT /apis/gateway.networking.k8s.io"), written("Ready=False"));
    let early: Vec<&String> = records.iter().filter(|number| Some(*number) < routes.last()).map(|number| &world.trace[*number]).collect();
    assert!(routes.len() == names.len() && early.is_empty(), "{} routes, and before the last of them {early:#?}", routes.len());
}

#[test]
fn after_a_restart_who_has_users_on_a_candidate_is_looked_at_before_all_who_are_idle() {
    let idle: Vec<String> = (0..60).map(|number| format!("idle{number:02}")).collect();
    let mut sim = Sim::new(18).serving();
    for name in &idle {
        sim.apply(&rollout_of(name, "a"));
    }
    // Their first model is in its probation for a while.
    sim.run_for(TimeDelta::minutes(10));
    sim.apply(&rollout("b"));
    assert!(sim.until(TimeDelta::minutes(2), |sim| sim.share("b") == 5), "{}", sim.story());
    sim.process.take().unwrap().kill();
    lock(&sim.world).read = Some(Vec::new());
    sim.run_for(TimeDelta::minutes(1));
    let read = lock(&sim.world).read.take().unwrap();
    assert_eq!(read.first().map(String::as_str), Some("digits"));
    assert!(idle.iter().all(|name| read.contains(name)), "{read:?}");
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
    let seeds = number("ESPALIER_SIM_TWICE").unwrap_or(if is_nightly() { 500 } else { 8 });
    on_all_processors(0..seeds, |seed| {
        let (one, other) = (chaos::run(seed), chaos::run(seed));
        let same = one.trace.iter().zip(&other.trace).take_while(|(a, b)| a == b).count();
        let rest = |run: &Report| run.trace.iter().skip(same.saturating_sub(2)).take(5).cloned().collect::<Vec<_>>();
        assert!(same == one.trace.len().max(other.trace.len()), "seed {seed}: {:#?}\nand then {:#?}", rest(&one), rest(&other));
    });
}

#[test]
fn an_object_that_cannot_be_read_holds_up_no_other() {
    let mut sim = Sim::new(3).serving();
    for (name, spec) in [("wrong", json!({"model": 5})), ("empty", json!({})), ("deep", json!({"model": {"uri": [[[[[{}]]]]]}}))] {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        assert!(lock(&sim.world).make(OBJECTS, NAMESPACE, object, "kubectl"));
    }
    sim.apply(&rollout("b"));
    let promoted = sim.until(TimeDelta::hours(2), |sim| sim.serves("b") && sim.settled());
    assert!(promoted && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
}

#[test]
fn status_fields_of_a_newer_version_are_kept_through_a_whole_rollout() {
    let mut sim = Sim::new(4).serving();
    lock(&sim.world).edit(OBJECTS, NAMESPACE, "digits", "newer", true, |live| live["status"]["futureField"] = json!({"kept": [1, 2]}));
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
        world.oracle.of(&home()).foreign = true;
        let now = world.now;
        world.excuse(now + TimeDelta::minutes(3));
        people::foreign(&mut world, &home(), 60);
        world.run_due(now + TimeDelta::minutes(2));
    }
    let promoted = sim.until(TimeDelta::minutes(40), |sim| sim.serves("b") && sim.settled());
    assert!(promoted && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
}

#[test]
fn a_rollout_that_is_deleted_leaves_no_series_behind() {
    let mut sim = Sim::new(11).serving();
    let series = |sim: &Sim| sim.process.as_ref().unwrap().vitals.metrics.encode().matches(r#"name="digits""#).count();
    assert_eq!(series(&sim), 1);
    people::delete(&mut lock(&sim.world), &home());
    assert!(sim.until(TimeDelta::minutes(2), Sim::is_gone), "{}", sim.story());
    sim.run_for(TimeDelta::seconds(2));
    assert_eq!(series(&sim), 0, "series of rollouts that are gone add up");
}

#[test]
fn what_somebody_gave_a_candidate_by_hand_is_taken_back_before_anything_is_measured() {
    let mut sim = Sim::new(8).serving();
    sim.apply(&rollout("b"));
    assert!(sim.until(TimeDelta::minutes(2), |sim| sim.share("b") == 5), "{}", sim.story());
    sim.run_for(TimeDelta::seconds(3));
    lock(&sim.world).oracle.of(&home()).foreign = true;
    people::edit_weights(&mut lock(&sim.world), &home(), 60);
    let promoted = sim.until(TimeDelta::minutes(40), |sim| sim.serves("b") && sim.settled());
    assert!(promoted && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
}

#[test]
fn a_route_that_no_gateway_takes_is_not_raised_until_one_does() {
    let mut sim = Sim::new(9).serving();
    lock(&sim.world).refuse_routes(true);
    sim.apply(&rollout("b"));
    sim.run_for(TimeDelta::minutes(8));
    let highest = lock(&sim.world).oracle.highest();
    let ready = sim.ready();
    assert!(highest == 0 && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
    assert_ne!(ready.0, "True", "nobody may think that this is done");
    lock(&sim.world).refuse_routes(false);
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
fn a_second_candidate_that_the_user_runs_is_compared_with_what_serves_and_not_with_itself() {
    let mut sim = Sim::new(12).with_model("c", Model { bad: 0.3, ..Model::default() });
    for letter in ["a", "b", "c"] {
        people::own_service(&mut lock(&sim.world), &format!("own-{letter}"), letter);
    }
    let run_by_the_user = |letter: &str| {
        let own = |letter: &str| json!({"backendRef": {"name": format!("own-{letter}"), "port": 8080}, "matchers": {"app": format!("own-{letter}")}});
        let mut object = rollout(letter);
        // At half of the users nobody sees by the shares alone that both arms are counted by the same series.
        object["spec"]["stages"] =
            json!([{"name": "canary", "type": "Canary", "steps": ["50%"], "stepMinDuration": "2m", "maxDuration": "2h"}]);
        (object["spec"]["workload"], object["spec"]["baseline"]) = (own(letter), own("a"));
        object
    };
    sim.apply(&run_by_the_user("b"));
    let promoted = sim.until(TimeDelta::hours(1), |sim| sim.serves("b") && sim.settled());
    assert!(promoted && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
    sim.apply(&run_by_the_user("c"));
    let ended = sim.until(TimeDelta::hours(1), |sim| sim.settled() && sim.ready().1 == "RolledBack");
    assert!(ended && sim.serves("b") && sim.violations().is_empty(), "{:?}\n{}", sim.violations(), sim.story());
    assert_eq!((sim.share("b"), sim.share("c")), (100, 0));
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
        for plural in ["services", "httproutes", "modelrollouts"] {
            world.faults.list.push(Fault { from, until, struck: Struck::Of(plural), percent: 100, effect: Effect::Hang });
        }
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
            let Played { writes, problems, trace, .. } = play(story, None);
            assert!(problems.is_empty(), "{}: {problems:?}\n{trace}", story.name);
            deaths(writes).into_iter().map(move |death| (story, death))
        })
        .collect();
    // Eight ways to die at each write: every fifth takes them in turn, and dies at every write once or twice.
    let every = number("ESPALIER_SIM_CRASHES").unwrap_or(if is_nightly() { 1 } else { 5 });
    let (began, failures, hours) = (Instant::now(), Mutex::new(Vec::new()), Mutex::new(0.0));
    on_all_processors((0..places.len() as u64).filter(|index| index % every == 0), |index| {
        let (story, death) = places[usize::try_from(index).unwrap()];
        let played = play(story, Some(death));
        *hours.lock().unwrap() += played.hours;
        if !played.problems.is_empty() {
            failures.lock().unwrap().push(format!("{}, {death:?}: {:?}\n{}", story.name, played.problems, played.trace));
        }
    });
    let failures = failures.into_inner().unwrap();
    say(&format!(
        "{} crash points of {} stories in {:.0} simulated hours, in {:.1} s",
        places.len() as u64 / every,
        STORIES.len(),
        hours.into_inner().unwrap(),
        began.elapsed().as_secs_f64()
    ));
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

/// How long the soak lasts, in weeks.
fn weeks() -> i64 {
    number("ESPALIER_SIM_WEEKS").map_or(if is_nightly() { 8 } else { 2 }, |weeks| i64::try_from(weeks).unwrap())
}

#[test]
fn eight_weeks_keep_memory_series_and_status_bounded() {
    // Memory is that of a process, so it has one of its own, which gives back what it does not use.
    if std::env::var_os("ESPALIER_SIM_ALONE").is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args(["tests::eight_weeks_keep_memory_series_and_status_bounded", "--exact", "--nocapture"]);
        alone.env("ESPALIER_SIM_ALONE", "1").env("MALLOC_ARENA_MAX", "1").env("MALLOC_TRIM_THRESHOLD_", "65536");
        let done = alone.output().unwrap();
        let told = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        told.lines().filter(|line| line.starts_with("sim: ")).for_each(|line| say(line.trim_start_matches("sim: ")));
        assert!(done.status.success(), "{told}");
        return;
    }
    let began = Instant::now();
    let soak = soak::weeks(weeks());
    soak.table().lines().for_each(say);
    say(&format!("{:?} in {} weeks, in {:.1} s", soak.stories, soak.weeks.len(), began.elapsed().as_secs_f64()));
    say(&format!("{} KiB are resident with a new process in the place of the old one", soak.anew));
    assert!(soak.problems.is_empty(), "{:#?}", soak.problems);
    // The first week or two fill lists that have a limit.
    let (early, late) = (&soak.weeks[usize::from(soak.weeks.len() > 3)], &soak.weeks[soak.weeks.len() - 1]);
    for (what, most) in soak::limits(early) {
        assert!(late[what] <= most, "{what}: {} in the last week, at most {most}", late[what]);
    }
}

/// What many runs came to.
#[derive(Default)]
struct Tally {
    worlds: usize,
    rollouts: usize,
    hours: f64,
    crashes: usize,
    writes: usize,
    queries: usize,
    plots: BTreeMap<String, usize>,
    strikes: BTreeMap<String, usize>,
    happened: BTreeMap<String, usize>,
    failed: BTreeMap<u64, Vec<String>>,
}

impl Tally {
    fn add(&mut self, seed: u64, report: Report) {
        self.worlds += 1;
        self.rollouts += report.plots.len();
        self.hours += report.hours;
        self.crashes += report.crashes;
        self.writes += report.writes;
        self.queries += report.queries;
        for plot in report.plots {
            *self.plots.entry(format!("{plot:?}")).or_default() += 1;
        }
        for (into, more) in [(&mut self.strikes, report.strikes), (&mut self.happened, report.happened)] {
            for (what, times) in more {
                *into.entry(what).or_default() += times;
            }
        }
        if !report.problems.is_empty() {
            self.failed.insert(seed, report.problems);
        }
    }

    fn tell(&self, took: Duration) {
        say(&format!(
            "{} rollouts in {} worlds, {:.0} simulated hours, {} crashes, {} writes, {} queries in {:.1} s",
            self.rollouts,
            self.worlds,
            self.hours,
            self.crashes,
            self.writes,
            self.queries,
            took.as_secs_f64()
        ));
        say(&format!("stories: {:?}", self.plots));
        say(&format!("{} calls struck: {:?}", self.strikes.values().sum::<usize>(), self.strikes));
        say(&format!("what else happened: {:?}", self.happened));
    }
}

#[test]
fn whatever_happens_the_promises_hold() {
    if let Some(seed) = number("ESPALIER_SIM_SEED") {
        let report = chaos::run(seed);
        println!("{}\n{:?}: {:#?}", report.trace.join("\n"), report.plots, report.problems);
        assert!(report.problems.is_empty());
        return;
    }
    let from = number("ESPALIER_SIM_FROM").unwrap_or(0);
    let (seeds, wanted) = match number("ESPALIER_SIM_SEEDS") {
        Some(seeds) => (seeds, usize::MAX),
        None => (u64::MAX - from, if is_nightly() { NIGHTLY } else { ROLLOUTS }),
    };
    let (began, tally) = (Instant::now(), Mutex::new(Tally::default()));
    let first_only = number("ESPALIER_SIM_FIRST").is_some();
    let goes_on = |tally: &Tally| tally.rollouts < wanted && tally.failed.len() < 20 && (!first_only || tally.failed.is_empty());
    let seeds = (from..from + seeds).take_while(|_| goes_on(&tally.lock().unwrap()));
    on_all_processors(seeds, |seed| {
        let report = std::panic::catch_unwind(|| chaos::run(seed));
        let mut tally = tally.lock().unwrap();
        match report {
            Ok(report) => tally.add(seed, report),
            Err(_) => _ = tally.failed.insert(seed, vec!["the run panicked".to_owned()]),
        }
    });
    let tally = tally.into_inner().unwrap();
    tally.tell(began.elapsed());
    let kinds: BTreeSet<&str> = tally.failed.values().flatten().map(|problem| problem.split(':').next().unwrap_or_default()).collect();
    for (seed, problems) in tally.failed.iter().take(12) {
        println!("seed {seed}: {problems:#?}\n  replay: ESPALIER_SIM_SEED={seed} cargo test --test sim whatever_happens -- --nocapture");
    }
    assert!(tally.failed.is_empty(), "{} seeds failed: {kinds:?}", tally.failed.len());
}
