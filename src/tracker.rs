//! The evidence of every watched rollout, in memory: what the sampler folds samples into and what the reconciler reads.
//! Holds no clock and does no IO; everything in it can be rebuilt from status and Prometheus.

mod one;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::evidence::{Arms, Evidence, History, Query, Readings};
use rollout_core::plan::Plan;
use rollout_core::revision::RevisionId;
use rollout_core::spec::StageKind;
use rollout_core::status::{CheckpointStatus, MAX_CHECKPOINT, Serving};
use rollout_core::verdict::{Failure, Judgement, Overall};
use rollout_core::weights::{Exposure, Position};

use self::one::Tracked;
use crate::contain::contained;
use crate::prometheus::Server;

/// Looks that may panic in a row before users leave the candidate: none of them decides anything.
const MOST_PANICS: u32 = 3;
/// The shortest distance of looks between two instants.
const LEAST_BETWEEN: TimeDelta = TimeDelta::milliseconds(250);

/// By server: queries by namespace, and how far to look back.
pub type Questions = BTreeMap<Server, (BTreeMap<String, BTreeSet<Query>>, TimeDelta)>;

/// Names a rollout.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What makes evidence belong to one attempt: anything else starts anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Uid of the rollout.
    pub uid: String,
    /// The revision on trial.
    pub revision: RevisionId,
    /// When the attempt, or the probation, started.
    pub started: DateTime<Utc>,
    /// Hash of the plan.
    pub plan_hash: String,
}

/// What the reconciler knows of a rollout whose candidate is to be judged.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Whose evidence it is.
    pub identity: Identity,
    /// Which try of the revision it is, from 0.
    pub attempt: u32,
    /// The plan.
    pub plan: Arc<Plan>,
    /// How each arm's series are recognised.
    pub arms: Arms,
    /// Where samples come from.
    pub server: Server,
    /// Stage and step.
    pub position: Position,
    /// Kind of the stage.
    pub kind: StageKind,
    /// Share of users on the candidate.
    pub exposure: Exposure,
    /// When the stage started.
    pub stage_started: DateTime<Utc>,
    /// When the step started.
    pub step_started: DateTime<Utc>,
    /// Whether it is the last step of its stage.
    pub last_step: bool,
    /// The revision on trial, as it is served.
    pub candidate: Serving,
    /// What users go back to.
    pub stable: Serving,
    /// Number of the next decision, for the note on the route.
    pub sequence: String,
    /// The evidence in status, to go on from after a restart.
    pub checkpoint: Option<CheckpointStatus>,
}

/// What one instant changed for a rollout.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The rollout.
    pub key: Key,
    /// What it was watched as.
    pub watched: Arc<Watched>,
    /// The failure, when it must go and no rollback is on its way yet.
    pub failure: Option<Failure>,
    /// Whether judging it panicked.
    pub panicked: bool,
    /// Whether the reconciler should look.
    pub wake: bool,
    /// Why guardrails could not be measured at this instant, a word for each.
    pub unmeasurable: Vec<String>,
}

/// Evidence of every watched rollout.
#[derive(Debug, Default)]
pub struct Tracker {
    rollouts: Mutex<BTreeMap<Key, Tracked>>,
    /// Plans in use by hash: rollouts of one policy with the same stages have one in common.
    plans: Mutex<BTreeMap<String, Weak<Plan>>>,
    /// Whether the past of some rollouts is being read: a lot at a time, so that it never crowds out the instants.
    recalling: AtomicBool,
    /// Whether history is being folded in, for rollouts that are a little behind and for those that are far behind. What falls behind
    /// meanwhile is read together next, rather than each on its own.
    replaying: [AtomicBool; 2],
}

/// A rollout whose champion's past is to be read.
#[derive(Clone, Debug)]
pub struct Recall {
    /// The rollout.
    pub key: Key,
    /// What it was watched as.
    pub watched: Arc<Watched>,
}

/// Rollouts whose champions' past is read at once: so many revisions fit a selector.
const MOST_RECALLED: usize = 128;
/// Rollouts that are as far behind as this are read apart, so that days of one never hold up seconds of the others.
const FAR: TimeDelta = TimeDelta::minutes(15);

/// Rollouts whose history is folded in together.
#[derive(Clone, Debug)]
pub struct Lot {
    /// Whether they are far behind.
    far: bool,
    /// The rollouts; never none.
    pub members: Vec<Behind>,
}

/// A rollout that has history to fold in before it can be judged.
#[derive(Clone, Debug)]
pub struct Behind {
    /// The rollout.
    pub key: Key,
    /// What it was watched as.
    pub watched: Arc<Watched>,
    /// The last instant that was folded in.
    pub last: DateTime<Utc>,
}

impl Tracker {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Tracked>> {
        self.rollouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops watching a rollout.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    /// The clock was set, and shows `now`: what was measured by the old one is not time at a step.
    pub fn clock_was_set(&self, now: DateTime<Utc>) {
        for tracked in self.lock().values_mut() {
            if let Err(panicked) = contained(|| tracked.clock_was_set(now)) {
                tracked.begin_anew(now, &panicked);
            }
        }
    }

    /// Watches a rollout as the reconciler sees it now; evidence of the same attempt goes on.
    pub fn watch(&self, key: &Key, mut watched: Watched) {
        watched.plan = self.shared(watched.plan);
        let mut rollouts = self.lock();
        match rollouts.get_mut(key) {
            Some(tracked) if tracked.watched.identity == watched.identity => {
                let moved = (tracked.watched.position, tracked.watched.exposure, tracked.watched.step_started)
                    != (watched.position, watched.exposure, watched.step_started);
                if moved {
                    tracked.pending_move = Some(watched.step_started);
                    tracked.judgement = None;
                }
                tracked.escaping = false;
                tracked.panics = 0;
                tracked.watched = Arc::new(Watched { checkpoint: None, ..watched });
            }
            _ => {
                let tracked = Tracked::begin(watched);
                rollouts.insert(key.clone(), tracked);
            }
        }
    }

    /// The same plan as other rollouts have it, so that a thousand of one shape hold it once.
    fn shared(&self, plan: Arc<Plan>) -> Arc<Plan> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = plans.get(&plan.hash).and_then(Weak::upgrade).filter(|known| *known == plan) {
            return known;
        }
        plans.retain(|_, plan| plan.strong_count() > 0);
        plans.insert(plan.hash.clone(), Arc::downgrade(&plan));
        plan
    }

    /// The judgement of this attempt and the checkpoint that goes with it; none when it is longer than status may hold.
    pub fn judgement(&self, key: &Key, identity: &Identity) -> Option<(Judgement, Option<CheckpointStatus>)> {
        let rollouts = self.lock();
        let tracked = rollouts.get(key).filter(|t| t.watched.identity == *identity)?;
        let judgement = tracked.judgement.clone()?;
        let state = serde_json::to_string(&tracked.evidence.checkpoint()).ok()?;
        let fits = state.len() <= MAX_CHECKPOINT;
        Some((judgement, fits.then(|| CheckpointStatus { at: tracked.evidence.last_instant(), state })))
    }

    /// Servers that some watched rollout reads from.
    pub fn servers(&self) -> BTreeSet<Server> {
        self.lock().values().map(|tracked| tracked.watched.server.clone()).collect()
    }

    /// How many rollouts are watched.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is watched.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The first instant of any watched rollout after `after`.
    pub fn next_instant(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.lock().values().map(|t| aligned_after(after, t.watched.plan.interval)).min()
    }

    /// The first moment after `after` at which any watched rollout is glanced at.
    pub fn next_glance(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.lock().values().map(|t| aligned_after(after, between(&t.watched.plan))).min()
    }

    /// What to ask each server at the instant `at`.
    pub fn questions(&self, at: DateTime<Utc>) -> Questions {
        ask(&self.lock(), |t| !t.catching_up && is_due(&t.watched.plan, at), Evidence::queries)
    }

    /// What to ask each server at `at`, between two instants.
    pub fn glances(&self, at: DateTime<Utc>) -> Questions {
        ask(&self.lock(), |t| t.is_glanced_at(at), Evidence::glance_queries)
    }

    /// Folds the answers of one instant into every rollout of this server, and judges.
    pub fn absorb(
        &self,
        server: &Server,
        at: DateTime<Utc>,
        now: DateTime<Utc>,
        readings: impl Fn(&Watched) -> Arc<Readings>,
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (key, tracked) in self.lock().iter_mut() {
            if tracked.watched.server != *server || tracked.catching_up || !is_due(&tracked.watched.plan, at) || self.waits(tracked, at) {
                continue;
            }
            let folded = contained(|| {
                let readings = readings(&tracked.watched);
                // A rollout that came in while the server was asked has no answers yet, which is not the same as silence.
                let asked = Evidence::queries(&tracked.watched.plan, &tracked.watched.arms);
                asked.iter().all(|query| readings.contains_key(query)).then(|| tracked.fold(at, now, &readings)).flatten()
            });
            let Some(judged) = folded.transpose() else { continue };
            outcomes.push(tracked.outcome(key, judged, at));
        }
        outcomes
    }

    /// Looks between two instants whether a candidate has crossed what one sample can cross, and says which must go. The evidence stays as it is.
    pub fn glance(&self, server: &Server, at: DateTime<Utc>, readings: impl Fn(&Watched) -> Arc<Readings>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (key, tracked) in self.lock().iter_mut().filter(|(_, t)| t.watched.server == *server && t.is_glanced_at(at)) {
            let watched = Arc::clone(&tracked.watched);
            let seen = contained(|| tracked.glance(at, &readings(&watched)));
            let panicked = seen.is_err();
            // The next instant judges it anyway, and begins anew if it has to.
            let failure = seen.unwrap_or(None);
            if failure.is_none() && !panicked {
                continue;
            }
            let (key, wake) = (key.clone(), failure.is_some());
            outcomes.push(Outcome { key, watched, failure: failure.clone(), wake, panicked, unmeasurable: Vec::new() });
            let Some(failure) = failure else { continue };
            tracked.escaping = true;
            // Who decides before the next instant decides on this.
            if let Some(judgement) = &mut tracked.judgement {
                judgement.overall = Overall::Fail(failure);
            }
        }
        outcomes
    }

    /// Counts a look that panicked. Once there were too many in a row: what is watched, so that users leave a candidate about which nothing
    /// can be decided any more.
    pub fn look_panicked(&self, key: &Key) -> Option<Arc<Watched>> {
        let mut rollouts = self.lock();
        let tracked = rollouts.get_mut(key)?;
        tracked.panics += 1;
        let gives_up = tracked.panics == MOST_PANICS && tracked.watched.exposure > Exposure::ZERO;
        gives_up.then(|| Arc::clone(&tracked.watched))
    }

    /// Whether a rollback of this rollout is on its way to the route.
    pub fn is_escaping(&self, key: &Key) -> bool {
        self.lock().get(key).is_some_and(|tracked| tracked.escaping)
    }

    /// Rollouts with history to fold in, together as far as they are about as far behind; each lot is ended by [`Self::caught_up`].
    pub fn behind(&self, now: DateTime<Utc>) -> Vec<Lot> {
        let mut rollouts = self.lock();
        let mut lots = Vec::new();
        for (far, replaying) in [false, true].into_iter().zip(&self.replaying) {
            if replaying.load(Ordering::Acquire) {
                continue;
            }
            let mut members = Vec::new();
            for (key, tracked) in rollouts.iter_mut().filter(|(_, tracked)| !tracked.catching_up) {
                let last = tracked.evidence.last_instant();
                if tracked.is_behind(now) && (now - last > FAR) == far {
                    tracked.catching_up = true;
                    members.push(Behind { key: key.clone(), watched: Arc::clone(&tracked.watched), last });
                }
            }
            if !members.is_empty() {
                replaying.store(true, Ordering::Release);
                lots.push(Lot { far, members });
            }
        }
        lots
    }

    /// New attempts of one plan whose champions' past is not known, while no other is being read; ended by [`Self::recalled`].
    pub fn to_recall(&self) -> Vec<Recall> {
        if self.recalling.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut rollouts = self.lock();
        let mut lot: Vec<Recall> = Vec::new();
        for (key, tracked) in rollouts.iter_mut().filter(|(_, tracked)| tracked.forgetful) {
            let alike =
                |one: &Recall| Arc::ptr_eq(&one.watched.plan, &tracked.watched.plan) && one.watched.server == tracked.watched.server;
            if lot.first().is_none_or(alike) && lot.len() < MOST_RECALLED {
                tracked.forgetful = false;
                lot.push(Recall { key: key.clone(), watched: Arc::clone(&tracked.watched) });
            }
        }
        self.recalling.store(!lot.is_empty(), Ordering::Release);
        lot
    }

    /// Gives the past to the attempts that it was read for, as far as those are still on.
    pub fn recalled<'a>(&self, histories: impl IntoIterator<Item = (&'a Recall, &'a History)>) {
        let mut rollouts = self.lock();
        for (recall, history) in histories {
            if let Some(tracked) = rollouts.get_mut(&recall.key).filter(|t| t.watched.identity == recall.watched.identity)
                && let Err(panicked) = contained(|| tracked.evidence.remember(history))
            {
                let at = tracked.evidence.last_instant();
                tracked.begin_anew(at, &panicked);
            }
        }
        self.recalling.store(false, Ordering::Release);
    }

    /// Folds recorded samples in up to `to`, instant by instant, exactly as they would have been live.
    pub fn replayed(&self, behind: &mut Behind, to: DateTime<Utc>, readings: &Readings) {
        let interval = behind.watched.plan.interval;
        let mut rollouts = self.lock();
        let Some(tracked) = rollouts.get_mut(&behind.key).filter(|tracked| tracked.watched.identity == behind.watched.identity) else {
            return;
        };
        let mut at = aligned_after(behind.last, interval);
        while at <= to {
            if let Err(panicked) = contained(|| tracked.advance(at, readings)) {
                tracked.begin_anew(at, &panicked);
            }
            behind.last = at;
            at += interval;
        }
    }

    /// The history of a lot is folded in: its rollouts are judged now, since the next instant may be a minute away, and then at instants again.
    pub fn caught_up(&self, lot: &Lot, now: DateTime<Utc>) -> Vec<Outcome> {
        let mut rollouts = self.lock();
        let mut outcomes = Vec::new();
        for one in &lot.members {
            let Some(tracked) = rollouts.get_mut(&one.key) else { continue };
            tracked.catching_up = false;
            if tracked.watched.identity != one.watched.identity {
                continue;
            }
            // What was read so late can send users back. Whether more may come is decided when nothing is missing.
            let known = tracked.is_behind(now).then(|| tracked.judgement.clone());
            let judged = contained(|| tracked.judge(now));
            if let (Some(known), Ok((None, _))) = (known, &judged) {
                tracked.judgement = known;
                continue;
            }
            outcomes.push(tracked.outcome(&one.key, judged, now));
        }
        let [near, far] = &self.replaying;
        (if lot.far { far } else { near }).store(false, Ordering::Release);
        outcomes
    }

    /// Whether this rollout waits for the history that is being read for others, to be the next.
    fn waits(&self, tracked: &Tracked, at: DateTime<Utc>) -> bool {
        let [near, _] = &self.replaying;
        tracked.is_behind(at) && at - tracked.evidence.last_instant() <= FAR && near.load(Ordering::Acquire)
    }
}

fn ask(
    rollouts: &BTreeMap<Key, Tracked>,
    concerns: impl Fn(&Tracked) -> bool,
    queries: impl Fn(&Plan, &Arms) -> BTreeSet<Query>,
) -> Questions {
    let mut asked = Questions::new();
    for (key, tracked) in rollouts.iter().filter(|(_, t)| concerns(t)) {
        let watched = &tracked.watched;
        let wanted = queries(&watched.plan, &watched.arms);
        if wanted.is_empty() {
            continue;
        }
        let entry = asked.entry(watched.server.clone()).or_insert_with(|| (BTreeMap::new(), TimeDelta::zero()));
        entry.0.entry(key.namespace.clone()).or_default().extend(wanted);
        entry.1 = entry.1.max(Evidence::lookback(&watched.plan));
    }
    asked
}

fn is_due(plan: &Plan, at: DateTime<Utc>) -> bool {
    is_multiple(at, plan.interval)
}

/// The distance of glances: a sample waits a quarter of an interval at most, and no server is asked more than four times a second for them.
fn between(plan: &Plan) -> TimeDelta {
    (plan.interval / 4).max(LEAST_BETWEEN)
}

fn is_multiple(at: DateTime<Utc>, of: TimeDelta) -> bool {
    at.timestamp_millis().rem_euclid(of.num_milliseconds().max(1)) == 0
}

/// The first multiple of `interval` since the epoch after `at`.
pub fn aligned_after(at: DateTime<Utc>, interval: TimeDelta) -> DateTime<Utc> {
    let step = interval.num_milliseconds().max(1);
    let next = at.timestamp_millis().div_euclid(step).saturating_add(1).saturating_mul(step);
    DateTime::from_timestamp_millis(next).unwrap_or(at + interval)
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
pub(crate) mod tests;
