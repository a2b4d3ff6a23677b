//! Weeks with a few rollouts: candidates good and bad, superseded and retried, rollouts that come and go, faults, idle hours, restarts now and then.
//! Shows that nothing that is kept grows; how a story ends is asked for each, and the oracle looks at every write as ever.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::TimeDelta;
use rollout_core::status::{MAX_DECISIONS, MAX_REJECTED};
use serde_json::{Value, json};

use crate::cluster::Model;
use crate::dice::Dice;
use crate::faults::{Fault, Struck, some_effect};
use crate::people;
use crate::prometheus::Defect;
use crate::store::{EVENTS, PODS, Place, ROLLOUTS, SERVED, place, text};
use crate::stories::{NAME, NAMESPACE, Sim, apply, kept_of_templates, ready, rollout_of, serves, settled};
use crate::world::{World, lock};

/// Rollouts that are there all the time.
const LASTING: [&str; 2] = [NAME, "letters"];
/// How long an API server keeps an event, and this Prometheus its samples.
const EVENT_LIFE: TimeDelta = TimeDelta::hours(1);
const SAMPLE_LIFE: TimeDelta = TimeDelta::hours(6);
/// Lines of the trace that are kept.
const LINES: usize = 2000;
/// Changes of each resource that a watch may go on from.
const CHANGES: usize = 40;
/// Days on which the operator is killed, and the last one on which it dies in the middle of a story: what it keeps is weeks old in the end.
const RESTARTS: [i64; 3] = [1, 2, 3];
const LAST_DEATH: i64 = 3;

/// What there is at the end of a week, by name.
pub type Week = BTreeMap<&'static str, usize>;

/// Everything that weeks came to.
pub struct Soak {
    pub weeks: Vec<Week>,
    pub problems: Vec<String>,
    /// Resident memory in KiB with a new process in the place of the old one.
    pub anew: usize,
    /// How many stories there were, by what they were about.
    pub stories: BTreeMap<&'static str, usize>,
}

impl Soak {
    /// A row for each thing that is kept, a column for each week.
    pub fn table(&self) -> String {
        let mut table = format!("{:34}", "at the end of week");
        (1..=self.weeks.len()).for_each(|week| _ = write!(table, "{week:>9}"));
        for name in self.weeks.iter().flat_map(BTreeMap::keys).collect::<std::collections::BTreeSet<_>>() {
            let _ = write!(table, "\n{name:34}");
            self.weeks.iter().for_each(|week| _ = write!(table, "{:>9}", week.get(name).copied().unwrap_or(0)));
        }
        table
    }
}

/// Lets so many weeks pass.
pub fn weeks(number: i64) -> Soak {
    let mut run = Run::begin();
    let mut soak = Soak { weeks: Vec::new(), problems: Vec::new(), anew: 0, stories: BTreeMap::new() };
    let start = run.sim.now();
    for day in 1..=number * 7 {
        let until = start + TimeDelta::days(day);
        run.day(&mut soak, day, until);
        if RESTARTS.contains(&day) {
            run.restart();
        }
        if day % 7 == 0 {
            soak.weeks.push(run.week());
        }
        soak.problems.extend(run.sim.violations());
        if !soak.problems.is_empty() {
            return soak;
        }
    }
    // After all that time a new process finds its way, and a candidate its.
    run.restart();
    run.story(&mut soak, LASTING[0], "good");
    soak.anew = resident();
    soak.problems.extend(run.sim.violations());
    soak
}

/// The most that may be kept weeks after an early week: of what has a limit that limit, of the rest about as much.
pub fn limits(early: &Week) -> BTreeMap<&'static str, usize> {
    let rollouts = LASTING.len();
    let as_before = |what: &'static str, percent: usize| (what, early[what] * percent / 100);
    BTreeMap::from([
        as_before("operator: tasks", 100),
        as_before("operator: open watches", 100),
        as_before("operator: metric lines", 135),
        as_before("memory: resident KiB", 115),
        as_before("pods", 100),
        as_before("in the week: API calls", 110),
        as_before("in the week: queries", 200),
        as_before("in the week: writes of events", 200),
        as_before("in the week: writes of rollouts", 200),
        as_before("in the week: writes of routes", 200),
        as_before("in the week: other writes", 200),
        ("httproutes", rollouts),
        ("modelrollouts", rollouts),
        ("events", 0),
        ("leases", 0),
        // A revision has a workload while it serves, is a way back, or is kept from being tried again; records go a little later.
        ("deployments", rollouts * (MAX_REJECTED + 4)),
        ("services", rollouts * (MAX_REJECTED + 4)),
        ("endpointslices", rollouts * (MAX_REJECTED + 4)),
        ("controllerrevisions", rollouts * (MAX_REJECTED + 4)),
        ("status: bytes", 24_000),
        ("status: decisions", MAX_DECISIONS),
        ("status: rejected", MAX_REJECTED),
        ("status: history", 2),
        ("metadata: bytes", 600),
        ("route: annotation bytes", 600),
    ])
}

struct Run {
    sim: Sim,
    dice: Dice,
    letters: u64,
    /// Calls and queries up to the end of the last week.
    before: (usize, usize),
}

fn at(name: &str) -> Place {
    (NAMESPACE.to_owned(), name.to_owned())
}

/// What a server does that keeps things for a time only. The checks need the last minutes alone.
fn housekeeping(world: &mut World) {
    let (old, now) = (world.now - EVENT_LIFE, world.now);
    let is_old = |event: &&std::sync::Arc<Value>| {
        let created = text(event, "/metadata/creationTimestamp").parse::<chrono::DateTime<chrono::Utc>>();
        created.is_ok_and(|created| created < old)
    };
    let gone: Vec<Place> = world.store.list(EVENTS, None).filter(is_old).map(|event| place(event)).collect();
    for (namespace, name) in gone {
        world.remove(EVENTS, &namespace, &name);
    }
    world.store.compact(CHANGES);
    world.truth.forget(now - SAMPLE_LIFE);
    world.oracle.forget_minutes(now);
    world.faults.list.retain(|fault| fault.until > now);
    let surplus = world.trace.len().saturating_sub(LINES);
    world.trace.drain(..surplus);
    world.script(now + TimeDelta::hours(1), housekeeping);
}

impl Run {
    fn begin() -> Self {
        let mut sim = Sim::new(56);
        sim.elect = false;
        let mut run = Self { sim: sim.serving(), dice: Dice::new(8), letters: 0, before: (0, 0) };
        {
            let mut world = lock(&run.sim.world);
            for name in LASTING {
                world.oracle.of(&at(name)).kept = kept_of_templates();
            }
            apply(&mut world, &rollout_of(LASTING[1], "a"));
            housekeeping(&mut world);
        }
        let place = at(LASTING[1]);
        run.until(TimeDelta::minutes(5), &place, |live| settled(live) && serves(live, "a"));
        run
    }

    fn live(&self, place: &Place) -> Value {
        lock(&self.sim.world).store.get(ROLLOUTS, &place.0, &place.1).map(|live| (**live).clone()).unwrap_or_default()
    }

    fn until(&mut self, limit: TimeDelta, place: &Place, holds: impl Fn(&Value) -> bool) -> bool {
        let world = std::sync::Arc::clone(&self.sim.world);
        self.sim.until(limit, |_| lock(&world).store.get(ROLLOUTS, &place.0, &place.1).is_some_and(|live| holds(live)))
    }

    fn restart(&mut self) {
        if let Some(process) = self.sim.process.take() {
            process.kill();
        }
        let mut world = lock(&self.sim.world);
        world.say("op is restarted");
        let excused = world.now + TimeDelta::seconds(25);
        world.excuse(excused);
    }

    /// A day: for each rollout a candidate or two, a rollout that comes and goes, a fault, and hours in which nothing happens.
    fn day(&mut self, soak: &mut Soak, day: i64, until: chrono::DateTime<chrono::Utc>) {
        for name in LASTING {
            let wait = self.dice.between(20, 400);
            self.sim.run_for(TimeDelta::minutes(wait));
            if self.dice.chance(30) {
                self.fault();
            }
            let about = *self.dice.pick(&[
                "good",
                "good",
                "good",
                "not finite",
                "killed",
                "wrong",
                "superseded",
                "superseded",
                "retried",
                "never ready",
                "aborted",
                "restarted",
            ]);
            let about = if about == "restarted" && day > LAST_DEATH { "good" } else { about };
            self.story(soak, name, about);
        }
        self.visitor(soak);
        let left = until - self.sim.now();
        self.sim.run_for(left);
    }

    /// Something is wrong for a minute, before and while a candidate comes.
    fn fault(&mut self) {
        let mut world = lock(&self.sim.world);
        let (from, until) = (world.now, world.now + TimeDelta::seconds(self.dice.between(10, 90)));
        match self.dice.roll(3) {
            0 => world.truth.defect = Some((*self.dice.pick(&[Defect::Down, Defect::ServerError, Defect::Hangs]), from, until)),
            1 => world.silence_watches(),
            _ => {
                let effect = some_effect(&mut self.dice);
                world.faults.list.push(Fault { from, until, struck: Struck::Everything, percent: 50, effect });
            }
        }
        world.excuse(until + TimeDelta::seconds(100));
    }

    /// A new candidate, and what becomes of it.
    fn story(&mut self, soak: &mut Soak, name: &str, about: &'static str) {
        *soak.stories.entry(about).or_default() += 1;
        let place = at(name);
        let stable = text(&self.live(&place), "/status/stable/uri").to_owned();
        self.letters += 1;
        let (letter, next) = (format!("m{}", self.letters), format!("n{}", self.letters));
        let model = {
            let now = self.sim.now();
            match about {
                "not finite" => Model { nonfinite_from: Some(now + TimeDelta::seconds(self.dice.between(10, 200))), ..Model::default() },
                "killed" | "retried" => Model { killed_after: Some(TimeDelta::seconds(self.dice.between(20, 90))), ..Model::default() },
                "wrong" => Model { bad: 0.3, ..Model::default() },
                "never ready" => Model { startup: None, ..Model::default() },
                _ => Model::default(),
            }
        };
        {
            let mut world = lock(&self.sim.world);
            world.cluster.models.clear();
            world.cluster.models.insert(letter.clone(), model);
            let mut object = rollout_of(name, &letter);
            object["spec"]["progressDeadline"] = json!("6m");
            apply(&mut world, &object);
        }
        let moment = TimeDelta::seconds(self.dice.between(20, 200));
        let mut expected = letter.as_str();
        match about {
            "superseded" => {
                self.sim.run_for(moment);
                apply(&mut lock(&self.sim.world), &rollout_of(name, &next));
                expected = &next;
            }
            "aborted" => {
                self.sim.run_for(moment);
                people::ask(&mut lock(&self.sim.world), &place, "abort", &letter);
                expected = "";
            }
            "restarted" => {
                self.sim.run_for(moment);
                self.restart();
            }
            "retried" => self.retry(&place, &letter),
            "good" => {}
            _ => expected = "",
        }
        let ended = self.until(TimeDelta::hours(3), &place, |live| {
            let right = if expected.is_empty() { text(live, "/status/stable/uri") == stable } else { serves(live, expected) };
            settled(live) && right && live.pointer("/status/observedGeneration") == live.pointer("/metadata/generation")
        });
        if !ended {
            soak.problems.push(format!("L4 {name}, {letter} ({about}): Ready is {:?}\n{}", ready(&self.live(&place)), self.sim.story()));
        }
    }

    /// Waits until the candidate is rejected and its pods are gone, mends it, and asks for another try.
    fn retry(&mut self, place: &Place, letter: &str) {
        self.until(TimeDelta::hours(1), place, |live| settled(live) && ready(live).1 == "RolledBack");
        let world = std::sync::Arc::clone(&self.sim.world);
        let runs = |letter: &str| lock(&world).store.list(PODS, None).any(|pod| crate::cluster::model_of(pod) == letter);
        self.sim.until(TimeDelta::hours(1), |_| !runs(letter));
        let mut world = lock(&world);
        world.cluster.models.insert(letter.to_owned(), Model::default());
        people::ask(&mut world, place, "retry", letter);
    }

    /// A rollout that is made, serves, and is deleted.
    fn visitor(&mut self, soak: &mut Soak) {
        *soak.stories.entry("visitors").or_default() += 1;
        self.letters += 1;
        let place = at(&format!("visitor-{}", self.letters));
        {
            let mut world = lock(&self.sim.world);
            world.oracle.of(&place).kept = kept_of_templates();
            apply(&mut world, &rollout_of(&place.1, "v"));
        }
        if !self.until(TimeDelta::minutes(10), &place, |live| settled(live) && serves(live, "v")) {
            soak.problems.push(format!("L4 {} never served", place.1));
        }
        people::delete(&mut lock(&self.sim.world), &place);
        let world = std::sync::Arc::clone(&self.sim.world);
        if !self.sim.until(TimeDelta::minutes(10), |_| lock(&world).store.get(ROLLOUTS, &place.0, &place.1).is_none()) {
            soak.problems.push(format!("L6 {} is still there", place.1));
        }
    }

    /// Counts everything that is kept.
    fn week(&mut self) -> Week {
        let mut week = Week::new();
        let process = self.sim.process.as_ref().expect("it runs");
        week.insert("operator: tasks", process.tasks());
        week.insert("operator: metric lines", process.vitals.metrics.encode().lines().count());
        week.insert("memory: resident KiB", resident());
        let world = lock(&self.sim.world);
        week.insert("operator: open watches", world.open_watches());
        for of in SERVED {
            week.insert(of.plural, world.store.list(of, None).count());
        }
        let rollouts: Vec<&std::sync::Arc<Value>> = world.store.list(ROLLOUTS, None).collect();
        let most = |measure: &dyn Fn(&Value) -> usize| rollouts.iter().map(|live| measure(live)).max().unwrap_or(0);
        let items = |path: &'static str| most(&|live| live.pointer(path).and_then(Value::as_array).map_or(0, Vec::len));
        week.insert("status: bytes", most(&|live| live["status"].to_string().len()));
        week.insert("status: decisions", items("/status/decisions"));
        week.insert("status: rejected", items("/status/rejected"));
        week.insert("status: history", items("/status/history"));
        week.insert("metadata: bytes", most(&|live| live["metadata"].to_string().len()));
        let routes = world.store.list(crate::store::ROUTES, None);
        week.insert("route: annotation bytes", routes.map(|route| route["metadata"]["annotations"].to_string().len()).max().unwrap_or(0));
        for (plural, writes) in world.oracle.writes_so_far() {
            let name = match plural {
                "events" => "in the week: writes of events",
                "modelrollouts" => "in the week: writes of rollouts",
                "httproutes" => "in the week: writes of routes",
                _ => "in the week: other writes",
            };
            *week.entry(name).or_default() += writes;
        }
        let now = (world.calls, world.truth.queries);
        week.insert("in the week: API calls", now.0 - self.before.0);
        week.insert("in the week: queries", now.1 - self.before.1);
        drop(world);
        lock(&self.sim.world).oracle.count_anew();
        self.before = now;
        week
    }
}

/// Resident memory of this process in KiB: the operator, the world around it and the test.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}
