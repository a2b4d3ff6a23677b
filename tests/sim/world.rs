//! The world of one simulated run: the API server's objects, the watches on them, what is due when, faults, and a readable trace of every call.
//! Moves nothing by itself: [`crate::process`] lets time pass, [`crate::serve`] brings the calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::cluster::{self, Cluster};
use crate::dice::Dice;
use crate::faults::Faults;
use crate::oracle::Oracle;
use crate::prometheus::Truth;
use crate::serve::{Coming, Outcome};
use crate::store::{Change, Place, ROLLOUTS, ROUTES, Refusal, Resource, Store, Writer, place, selected, text};

/// When every run begins.
pub const START: i64 = 1_800_000_000;

/// A world that processes and scripts share.
pub type Shared = Arc<Mutex<World>>;

/// Something that happens at its time.
pub enum Task {
    /// The cluster's own controllers look.
    Cluster(cluster::Look),
    /// Prometheus scrapes every pod.
    Scrape,
    /// A watch gets its lines.
    Deliver { watch: u64, line: Arc<Vec<u8>> },
    /// A watch ends, as its client asked for.
    Close { watch: u64 },
    /// A call reaches the server.
    Arrive(Box<Coming>),
    /// Its answer reaches who called.
    Reply { reply: oneshot::Sender<Outcome>, outcome: Outcome },
    /// Somebody does something.
    Script(Box<dyn FnOnce(&mut World) + Send>),
}

/// An open watch.
pub struct Watch {
    pub id: u64,
    pub of: Resource,
    pub namespace: Option<String>,
    pub selector: String,
    pub lines: UnboundedSender<Vec<u8>>,
    /// Whether nothing comes any more although nobody closed it.
    pub dead: bool,
    last: DateTime<Utc>,
}

/// Where a process dies: at its `at`-th write.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    pub at: usize,
    /// Whether the write itself still lands.
    pub lands: bool,
}

/// Something that somebody does once a moment has come.
struct Cue {
    holds: Box<dyn Fn(&World) -> bool + Send>,
    act: Box<dyn FnOnce(&mut World) + Send>,
}

pub struct World {
    pub now: DateTime<Utc>,
    pub dice: Dice,
    pub store: Store,
    pub cluster: Cluster,
    pub truth: Truth,
    pub faults: Faults,
    pub oracle: Oracle,
    pub crash: Option<Crash>,
    /// Whether the process has died at its write and must be taken away.
    pub crashed: bool,
    /// Writes of operators so far, leases and events left out.
    pub writes: usize,
    pub calls: usize,
    /// Rollouts that were read one by one, in order, while somebody wants to know.
    pub read: Option<Vec<String>>,
    pub trace: Vec<String>,
    /// Wakes who lets time pass, because something became due earlier or the process died.
    pub bell: Arc<Notify>,
    /// Whether the definitions know fields of status that this operator does not.
    pub tomorrow: bool,
    /// How far the operator's wall clock is ahead, in milliseconds.
    pub skew: Arc<AtomicI64>,
    /// What happened to the operator, by kind.
    pub happened: BTreeMap<String, usize>,
    cues: Vec<Cue>,
    cued: u64,
    /// What is due, by time, then by turn within the instant, then as it came.
    agenda: BTreeMap<(DateTime<Utc>, u64, u64), Task>,
    /// Instants at which an answer arrives.
    taken: BTreeSet<DateTime<Utc>>,
    seed: u64,
    watches: Vec<Watch>,
    sequence: u64,
}

pub fn at(milliseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(START * 1000 + milliseconds).unwrap()
}

pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut world = Self {
            now: at(0),
            dice: Dice::new(seed),
            store: Store::default(),
            cluster: Cluster::default(),
            truth: Truth::new(seed),
            faults: Faults::default(),
            oracle: Oracle::default(),
            crash: None,
            crashed: false,
            writes: 0,
            calls: 0,
            read: None,
            trace: Vec::new(),
            bell: Arc::new(Notify::new()),
            tomorrow: true,
            skew: Arc::default(),
            happened: BTreeMap::new(),
            cues: Vec::new(),
            cued: 0,
            agenda: BTreeMap::new(),
            taken: BTreeSet::new(),
            seed,
            watches: Vec::new(),
            sequence: 0,
        };
        world.after(TimeDelta::milliseconds(137), Task::Scrape);
        world
    }

    /// Seconds since the start, for people.
    pub fn elapsed(&self) -> f64 {
        (self.now - at(0)).num_milliseconds() as f64 / 1000.0
    }

    pub fn say(&mut self, text: &str) {
        let mut line = String::with_capacity(text.len() + 16);
        let _ = write!(line, "{:>10.3} {text}", self.elapsed());
        self.trace.push(line);
    }

    pub fn stamp(&self) -> String {
        self.now.to_rfc3339_opts(SecondsFormat::Secs, true)
    }

    /// Has this happen at `when`, or now if that is past.
    pub fn schedule(&mut self, when: DateTime<Utc>, task: Task) {
        self.schedule_in_turn(when, 0, task);
    }

    /// The same after everything of that instant with a smaller `turn`, whichever was scheduled first.
    pub fn schedule_in_turn(&mut self, when: DateTime<Utc>, turn: u64, task: Task) {
        self.sequence += 1;
        let first = self.due();
        self.agenda.insert((when.max(self.now), turn, self.sequence), task);
        if first.is_none_or(|first| when < first) {
            self.bell.notify_one();
        }
    }

    /// The first instant from `when` on at which nobody gets an answer yet; it is taken now.
    pub fn free_instant(&mut self, mut when: DateTime<Utc>) -> DateTime<Utc> {
        self.taken = self.taken.split_off(&self.now);
        while !self.taken.insert(when) {
            when += TimeDelta::milliseconds(1);
        }
        when
    }

    /// Dice for something that happens now and is known by `mark`: they do not depend on what else happened in this instant.
    pub fn dice_for(&self, mark: u64) -> Dice {
        let mut dice = Dice::new(self.seed ^ mark);
        dice.mix(u64::try_from(self.now.timestamp_millis()).unwrap());
        dice
    }

    pub fn after(&mut self, wait: TimeDelta, task: Task) {
        self.schedule(self.now + wait, task);
    }

    pub fn script(&mut self, when: DateTime<Utc>, act: impl FnOnce(&mut Self) + Send + 'static) {
        self.schedule(when, Task::Script(Box::new(act)));
    }

    /// Has this happen once `holds`, which may look at nothing but objects.
    pub fn once(&mut self, holds: impl Fn(&Self) -> bool + Send + 'static, act: impl FnOnce(&mut Self) + Send + 'static) {
        self.cues.push(Cue { holds: Box::new(holds), act: Box::new(act) });
    }

    fn follow_cues(&mut self) {
        if self.cues.is_empty() || self.cued == self.store.version() {
            return;
        }
        self.cued = self.store.version();
        let cues = std::mem::take(&mut self.cues);
        let (due, later): (Vec<Cue>, Vec<Cue>) = cues.into_iter().partition(|cue| (cue.holds)(self));
        self.cues = later;
        for cue in due {
            (cue.act)(self);
        }
    }

    /// Counts something that happened to the operator.
    pub fn count(&mut self, what: impl Into<String>) {
        *self.happened.entry(what.into()).or_default() += 1;
    }

    /// Moves the operator's wall clock.
    pub fn jump(&mut self, by: TimeDelta) {
        self.skew.fetch_add(by.num_milliseconds(), Ordering::Relaxed);
        self.count("clock jumps");
        self.say(&format!("the wall clock jumps by {} s", by.num_seconds()));
    }

    /// The route of a rollout, which has its name unless it adopts one.
    pub fn route_of(&self, place: &Place) -> Place {
        let adopted = self.store.get(ROLLOUTS, &place.0, &place.1).map(|live| text(live, "/spec/route/adopt/name").to_owned());
        (place.0.clone(), adopted.filter(|name| !name.is_empty()).unwrap_or_else(|| place.1.clone()))
    }

    /// The rollout that a route belongs to.
    pub fn user_of(&self, route: &Place) -> Option<(Place, Arc<Value>)> {
        let mut all = self.store.list(ROLLOUTS, Some(&route.0));
        all.find(|live| self.route_of(&place(live)) == *route).map(|live| (place(live), Arc::clone(live)))
    }

    /// When the next thing happens.
    pub fn due(&self) -> Option<DateTime<Utc>> {
        self.agenda.first_key_value().map(|((when, ..), _)| *when)
    }

    /// Everything that is due by `now` happens, in order.
    pub fn run_due(&mut self, now: DateTime<Utc>) {
        let mut stirred = false;
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((when, ..), task) = entry.remove_entry();
            self.now = self.now.max(when);
            stirred |= matches!(task, Task::Cluster(_) | Task::Scrape | Task::Script(_));
            match task {
                Task::Cluster(look) => cluster::look(self, look),
                Task::Scrape => crate::prometheus::scrape(self),
                Task::Deliver { watch, line } => self.deliver(watch, &line),
                Task::Close { watch } => self.close(watch),
                Task::Arrive(coming) => crate::serve::come(self, *coming),
                Task::Reply { reply, outcome } => {
                    // Who has waited for long enough, or is gone, hears nothing.
                    let _ = reply.send(outcome);
                }
                Task::Script(act) => act(self),
            }
        }
        self.now = self.now.max(now);
        self.follow_cues();
        crate::oracle::watch(self, stirred);
    }

    /// Somebody other than the operator changes something.
    pub fn edit(&mut self, of: Resource, namespace: &str, name: &str, manager: &str, status: bool, edit: impl FnOnce(&mut Value)) -> bool {
        let Some(live) = self.store.get(of, namespace, name) else { return false };
        let mut object = (**live).clone();
        edit(&mut object);
        let result = self.write(of, |store, writer| store.replace(of, namespace, name, object, writer), manager, status);
        result.is_ok()
    }

    pub fn make(&mut self, of: Resource, namespace: &str, object: Value, manager: &str) -> bool {
        self.write(of, |store, writer| store.create(of, namespace, object, writer), manager, false).is_ok()
    }

    pub fn remove(&mut self, of: Resource, namespace: &str, name: &str) -> bool {
        self.write(of, |store, writer| store.delete(of, namespace, name, None, writer), "somebody", false).is_ok()
    }

    fn write(
        &mut self,
        of: Resource,
        change: impl FnOnce(&mut Store, &Writer<'_>) -> Result<Arc<Value>, Refusal>,
        manager: &str,
        status: bool,
    ) -> Result<Arc<Value>, Refusal> {
        let now = self.stamp();
        let writer = Writer { manager, now: &now, status, dry_run: false };
        self.carry_out(of, |store| change(store, &writer))
    }

    /// Makes a change, and tells watches and the cluster's controllers of it.
    pub fn carry_out(
        &mut self,
        of: Resource,
        change: impl FnOnce(&mut Store) -> Result<Arc<Value>, Refusal>,
    ) -> Result<Arc<Value>, Refusal> {
        let before = self.store.version();
        let result = change(&mut self.store);
        if self.store.version() > before
            && let Some(change) = self.store.last_change(of).cloned()
        {
            self.tell(of, &change);
            cluster::notice(self, of, &change);
        }
        result
    }

    fn tell(&mut self, of: Resource, change: &Change) {
        let namespace = change.object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let mut text: Option<Arc<Vec<u8>>> = None;
        let lag = self.faults.lag.max(TimeDelta::milliseconds(1));
        let mut told = Vec::new();
        for watch in self.watches.iter_mut().filter(|watch| watch.of == of && !watch.dead) {
            if watch.namespace.as_ref().is_some_and(|wanted| *wanted != namespace) || !selected(&change.object, &watch.selector) {
                continue;
            }
            // Each watch has a pace of its own, and keeps its order.
            let pace = TimeDelta::milliseconds(i64::try_from(self.dice.roll(u64::try_from(lag.num_milliseconds()).unwrap() + 1)).unwrap());
            watch.last = watch.last.max(self.now + pace);
            told.push((watch.last, watch.id));
        }
        for (when, watch) in told {
            let line = Arc::clone(text.get_or_insert_with(|| Arc::new(line(change))));
            self.schedule(when, Task::Deliver { watch, line });
        }
    }

    /// Opens a watch that tells of what came after `from`; `None` when that is too long ago.
    pub fn open(
        &mut self,
        of: Resource,
        namespace: Option<String>,
        selector: &str,
        from: u64,
        timeout: i64,
        lines: UnboundedSender<Vec<u8>>,
    ) -> Option<()> {
        let missed = self.store.since(of, from)?;
        self.sequence += 1;
        let id = self.sequence;
        let concerns = |change: &&Change| {
            let place = change.object["metadata"]["namespace"].as_str();
            namespace.as_deref().is_none_or(|wanted| Some(wanted) == place) && selected(&change.object, selector)
        };
        for change in missed.iter().filter(concerns) {
            let _ = lines.send(line(change));
        }
        let dead = self.faults.watches_die(self.now, &mut self.dice);
        self.watches.push(Watch { id, of, namespace, selector: selector.to_owned(), lines, dead, last: self.now });
        if !dead {
            self.after(TimeDelta::seconds(timeout), Task::Close { watch: id });
        }
        Some(())
    }

    fn deliver(&mut self, id: u64, line: &[u8]) {
        if let Some(watch) = self.watches.iter().find(|watch| watch.id == id) {
            // Who is gone hears nothing.
            let _ = watch.lines.send(line.to_vec());
        }
    }

    fn close(&mut self, id: u64) {
        let Some(position) = self.watches.iter().position(|watch| watch.id == id) else { return };
        let watch = self.watches.remove(position);
        let of = watch.of;
        let bookmark = json!({"type": "BOOKMARK", "object": {"apiVersion": of.group_version, "kind": of.kind,
            "metadata": {"resourceVersion": self.store.version().to_string()}}});
        // A bookmark may only follow what has been told.
        if !watch.dead && watch.last <= self.now {
            let _ = watch.lines.send(format!("{bookmark}\n").into_bytes());
        }
    }

    /// The gateway refuses every route from now on, or takes them all again.
    pub fn refuse_routes(&mut self, refuses: bool) {
        self.cluster.gateway_refuses = refuses;
        let routes: Vec<Place> = self.store.list(ROUTES, None).map(|route| place(route)).collect();
        for route in routes {
            self.after(TimeDelta::zero(), Task::Cluster(cluster::Look::Gateway(route)));
        }
    }

    /// Watches that fall silent without an end, and those whose processes are gone.
    pub fn silence_watches(&mut self) {
        self.watches.iter_mut().for_each(|watch| watch.dead = true);
    }

    /// How many watches somebody listens to.
    pub fn open_watches(&self) -> usize {
        self.watches.iter().filter(|watch| !watch.lines.is_closed()).count()
    }

    /// Watches of processes that are gone.
    pub fn forget_watches(&mut self) {
        self.watches.retain(|watch| !watch.lines.is_closed());
    }
}

fn line(change: &Change) -> Vec<u8> {
    let mut line = format!("{{\"type\":\"{}\",\"object\":", change.what).into_bytes();
    serde_json::to_writer(&mut line, &*change.object).unwrap();
    line.extend_from_slice(b"}\n");
    line
}
