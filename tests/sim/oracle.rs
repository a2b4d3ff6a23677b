//! What must hold at every write and every instant, by the world's truth alone: exposure, grounds, order, preconditions, bounds, time to zero.
//! Collects what was broken under the name of the check; never changes anything, and never asks the operator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use http::Method;
use rollout_core::route;
use serde_json::Value;

use crate::limits;
use crate::serve::{Call, Caller};
use crate::store::{DEPLOYMENTS, LEASES, Place, ROLLOUTS, ROUTES, Resource, SERVICES, finalizers, place, text};
use crate::world::World;

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    pub check: &'static str,
    pub message: String,
}

/// A candidate that must have no users soon.
#[derive(Clone, Debug)]
pub struct Harm {
    pub letter: String,
    pub from: DateTime<Utc>,
    pub bound: TimeDelta,
}

/// What is known of one rollout.
#[derive(Default)]
pub struct Subject {
    pub harm: Option<Harm>,
    /// For how long users were on what does harm, with measurements that tell.
    shown: TimeDelta,
    /// The start of the attempt in which that was: another one has evidence of its own.
    trial: String,
    /// For how long users were on what has failed, from when it must be seen.
    kept_on: TimeDelta,
    /// Whether somebody else edits the route.
    pub foreign: bool,
    /// Since when a person holds it.
    pub suspended: Option<DateTime<Utc>>,
    /// Fields of the route that are the user's and must stay.
    pub kept: Vec<(&'static str, Value)>,
    /// Since when the route gives a candidate more than was decided.
    above: Option<DateTime<Utc>>,
    /// Highest exposure that each attempt has had, by Service and start.
    peaks: BTreeMap<(String, String), i32>,
    pub latched: BTreeSet<String>,
    pub(crate) observed: Option<i64>,
}

#[derive(Default)]
pub struct Oracle {
    pub violations: Vec<Violation>,
    /// Until when nobody can expect a reaction: faults, restarts, blindness.
    pub excused_until: Option<DateTime<Utc>>,
    /// From when on nothing may be written.
    pub quiet_from: Option<DateTime<Utc>>,
    subjects: BTreeMap<Place, Subject>,
    /// The last instant that was looked at.
    looked: Option<DateTime<Utc>>,
    /// The version of the objects that it saw.
    seen: u64,
    /// When endpoints were looked at last.
    called: Option<DateTime<Utc>>,
    pub(crate) minutes: BTreeMap<(i64, &'static str, String), usize>,
    /// Writes in minutes that were forgotten.
    counted: BTreeMap<&'static str, usize>,
}

impl Oracle {
    /// What is known of the rollout at this place.
    pub fn of(&mut self, place: &Place) -> &mut Subject {
        self.subjects.entry(place.clone()).or_default()
    }

    /// Writes since [`Self::count_anew`], by resource.
    pub fn writes_so_far(&self) -> BTreeMap<&'static str, usize> {
        let mut all = self.counted.clone();
        for ((_, plural, _), writes) in &self.minutes {
            *all.entry(plural).or_default() += writes;
        }
        all
    }

    pub fn count_anew(&mut self) {
        self.counted.clear();
        self.minutes.clear();
    }

    /// Minutes that are over cannot have more writes.
    pub fn forget_minutes(&mut self, now: DateTime<Utc>) {
        let over = self.minutes.range(..(now.timestamp() / 60, "", String::new()));
        let over: Vec<_> = over.map(|(minute, writes)| (minute.clone(), *writes)).collect();
        for (minute, writes) in over {
            *self.counted.entry(minute.1).or_default() += writes;
            self.minutes.remove(&minute);
        }
    }

    /// The highest exposure that any candidate has had, in percent.
    pub fn highest(&self) -> i32 {
        self.subjects.values().flat_map(|subject| subject.peaks.values()).copied().max().unwrap_or(0)
    }
}

impl World {
    pub fn broken(&mut self, check: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.say(&format!("BROKEN {check}: {message}"));
        self.oracle.violations.push(Violation { check, message });
    }

    /// Nobody can expect a reaction before `until`.
    pub fn excuse(&mut self, until: DateTime<Utc>) {
        self.oracle.excused_until = self.oracle.excused_until.max(Some(until));
    }

    fn rollout(&self, (namespace, name): &Place) -> Option<Arc<Value>> {
        self.store.get(ROLLOUTS, namespace, name).cloned()
    }

    /// The share that the API server's route of a rollout gives a Service.
    pub fn written_share(&self, rollout: &Place, service: &str) -> i32 {
        let (namespace, name) = self.route_of(rollout);
        self.store.get(ROUTES, &namespace, &name).map_or(0, |route| share_in(route, service))
    }

    /// The share that the gateway gives a Service on the route of a rollout.
    pub fn carried_share(&self, rollout: &Place, service: &str) -> i32 {
        self.truth.taken(&self.route_of(rollout)).map_or(0, |taken| share_in(&taken.route, service))
    }
}

/// Services and their shares, for people.
pub fn shares(route: &Value) -> String {
    let rules = route.pointer("/spec/rules").and_then(Value::as_array).cloned().unwrap_or_default();
    let rule = |rule: &Value| {
        let refs = rule["backendRefs"].as_array().cloned().unwrap_or_default();
        refs.iter().map(|one| format!("{}={}", text(one, "/name"), one.get("weight").unwrap_or(&Value::Null))).collect::<Vec<_>>().join(" ")
    };
    rules.iter().map(rule).collect::<Vec<_>>().join(" | ")
}

pub fn condition<'a>(object: &'a Value, kind: &str) -> (&'a str, &'a str) {
    let all = object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let found = all.into_iter().find(|one| one["type"] == kind);
    found.map_or(("", ""), |one| (text(one, "/status"), text(one, "/reason")))
}

/// The share that the API server's route gives a Service.
pub fn share_in(route: &Value, service: &str) -> i32 {
    route::exposure(route, service).share.percent()
}

/// A write of an operator has arrived and is about to be carried out.
pub fn about_to_write(world: &mut World, call: &Call, of: Resource, namespace: &str) {
    limits::precondition(world, call, of);
    if of == LEASES || of.plural == "events" {
        return;
    }
    let name = if call.name.is_empty() { text(&call.body, "/metadata/name").to_owned() } else { call.name.clone() };
    let Some(live) = world.store.get(of, namespace, &name).cloned() else { return };
    let stale = |given: &str| !given.is_empty() && given != text(&live, "/metadata/resourceVersion");
    if call.is_dry() || stale(text(&call.body, "/metadata/resourceVersion")) {
        return;
    }
    match (of, &call.method) {
        (ROUTES, &Method::PUT) => route_write(world, &live, &call.body),
        (ROLLOUTS, &Method::PUT) if call.subresource == "status" => {
            latch_order(world, &live, &call.body);
            limits::status(world, &live, &call.body);
        }
        (ROLLOUTS, &Method::PATCH) => finalizer(world, &live, &call.body),
        (DEPLOYMENTS, &Method::PATCH) if call.body.pointer("/spec/replicas") == Some(&Value::from(0)) => {
            taken_away(world, &live, "scaled to 0");
        }
        (DEPLOYMENTS | SERVICES, &Method::DELETE) => taken_away(world, &live, "deleted"),
        _ => {}
    }
}

/// S12: who does not hold the lease sends no write. What was sent before may still arrive; preconditions are for that.
pub fn sent(world: &mut World, caller: &Caller, call: &Call) {
    if !call.is_step() {
        return;
    }
    let holder = world.store.list(LEASES, None).next().map(|lease| text(lease, "/spec/holderIdentity").to_owned());
    if let Some(holder) = holder.filter(|holder| !holder.is_empty() && !holder.starts_with(&format!("{}_", caller.name))) {
        world.broken(
            "S12 only the leader writes",
            format!("{} wrote {} {} while {holder} holds the lease", caller.name, call.method, call.path),
        );
    }
}

/// Everything that is said about a write of the route.
fn route_write(world: &mut World, live: &Value, next: &Value) {
    limits::weights(world, next);
    let Some((owner, rollout)) = world.user_of(&place(live)) else { return };
    limits::keeps(world, &owner, live, next);
    let refs = next.pointer("/spec/rules").and_then(Value::as_array).into_iter().flatten();
    let services: BTreeSet<&str> = refs
        .flat_map(|rule| rule["backendRefs"].as_array().into_iter().flatten())
        .map(|one| text(one, "/name"))
        .filter(|service| !service.ends_with("-control"))
        .collect();
    for service in services {
        let (before, after) = (share_in(live, service), share_in(next, service));
        if after > before {
            raise(world, &owner, &rollout, service, before, after);
        }
    }
}

fn raise(world: &mut World, owner: &Place, rollout: &Value, service: &str, before: i32, after: i32) {
    let status = &rollout["status"];
    let trusted = ["/stable/service", "/probation/previous/service"];
    if status.get("stable").is_none() || trusted.iter().any(|path| text(status, path) == service) {
        return;
    }
    let served_before = status["history"].as_array().is_some_and(|all| all.iter().any(|one| one["service"] == service));
    if text(status, "/candidate/service") != service {
        // What is neither stable nor on trial may only come back because it served before, or because the user has the route back.
        let released = rollout.pointer("/metadata/deletionTimestamp").is_some();
        if !served_before && !released {
            world.broken("S1 only stable and candidate", format!("{service} is raised from {before} to {after}, but is neither"));
        }
        return;
    }
    let revision = text(status, "/candidate/revision").to_owned();
    let attempt = &status["attempt"];
    let intent = attempt["intent"].as_i64().unwrap_or(0);
    if i64::from(after) > intent {
        world.broken("S2 intent first", format!("{service} is raised to {after} %, on record is {intent} %"));
    }
    if world.oracle.of(owner).latched.contains(&revision) {
        world.broken("S7 a latch holds", format!("{revision} was rejected and is raised to {after} %"));
    }
    let route = world.route_of(owner);
    let known = world.truth.taken(&route).is_some_and(|taken| route::exposure(&taken.route, service).referenced);
    if !known {
        world.broken("S2 the weight before took effect", format!("{service} is raised to {after} % before the gateway knows it"));
    }
    limits::carries(world, owner, rollout, service, after);
    let key = (service.to_owned(), text(attempt, "/started").to_owned());
    let subject = world.oracle.of(owner);
    let peak = subject.peaks.get(&key).copied().unwrap_or(0);
    subject.peaks.insert(key, peak.max(after));
    let asked = served_before || attempt["returning"] == true || subject.foreign || limits::was_asked(status, "promote");
    if asked {
        return;
    }
    if limits::is_held(world, owner, rollout) {
        world.broken("S14 paused does not rise", format!("{service} is raised to {after} % while held"));
    }
    let ladder = limits::ladder(rollout);
    let next = ladder.iter().copied().find(|step| *step > peak).unwrap_or(100);
    if after > next {
        world.broken("S4 one step at a time", format!("{service} is raised to {after} %, it had {peak} % and the next step is {next} %"));
    }
    if before > 0 {
        limits::grounds(world, owner, rollout, service, after);
    }
    harmless(world, owner, service, after);
}

/// S2: what has failed for long enough to be seen is not raised.
fn harmless(world: &mut World, owner: &Place, service: &str, after: i32) {
    let Some(harm) = world.oracle.of(owner).harm.clone() else { return };
    let failing = crate::prometheus::service_of(world, &owner.0, &harm.letter).as_deref() == Some(service);
    let shown = world.oracle.of(owner).shown;
    if failing && shown > harm.bound && world.truth.defect(world.now).is_none() {
        let message = format!("{service} is raised to {after} % although it has failed its users for {} s", shown.num_seconds());
        world.broken("S2 no raise on harm", message);
    }
}

/// Lowering goes to the route first: a latch on record while users are still there is the wrong order.
fn latch_order(world: &mut World, live: &Value, next: &Value) {
    let names = |object: &Value| -> BTreeSet<String> {
        let all = object.pointer("/status/rejected").and_then(Value::as_array).into_iter().flatten();
        all.map(|one| text(one, "/revision").to_owned()).collect()
    };
    let (before, after) = (names(live), names(next));
    let owner = place(live);
    for revision in after.difference(&before) {
        // A Service that the user runs is named by the candidate on record.
        let service = if text(live, "/status/candidate/revision") == revision {
            text(live, "/status/candidate/service").to_owned()
        } else {
            format!("{}-{revision}", owner.1)
        };
        let share = world.written_share(&owner, &service);
        if share > 0 && !world.oracle.of(&owner).foreign {
            world.broken("L3 route before status", format!("{revision} is rejected on record while the route gives it {share} %"));
        }
        world.oracle.of(&owner).latched.insert(revision.clone());
    }
    let asked = limits::was_asked(&next["status"], "retry") || limits::was_asked(&next["status"], "promote");
    let lost: Vec<String> = world.oracle.of(&owner).latched.difference(&after).cloned().collect();
    let serves = text(&next["status"], "/stable/revision");
    let candidate = text(&next["status"], "/candidate/revision");
    for lost in lost {
        if !asked && serves != lost && candidate == lost {
            world.broken("S7 a latch holds", format!("{lost} was rejected and is tried again without being asked for"));
        }
        if asked {
            world.oracle.of(&owner).latched.remove(&lost);
        }
    }
    // A person's retry is a new trial of what was rejected.
    if asked && candidate != text(live, "/status/candidate/revision") {
        world.oracle.of(&owner).latched.remove(candidate);
    }
}

/// S15: the finalizer goes when traffic is safe.
fn finalizer(world: &mut World, live: &Value, change: &Value) {
    let ours = "espalier.dev/traffic";
    let stays = finalizers(change).iter().any(|one| one == ours);
    if change.pointer("/metadata/finalizers").is_none() || stays || !finalizers(live).iter().any(|one| one == ours) {
        return;
    }
    let candidate = text(live, "/status/candidate/service");
    let share = world.written_share(&place(live), candidate);
    if !candidate.is_empty() && share > 0 && text(live, "/status/stable/service") != candidate {
        world.broken("S15 safe before the finalizer goes", format!("{candidate} still has {share} %"));
    }
}

/// S8: what has users, or serves, is not taken away.
fn taken_away(world: &mut World, live: &Value, how: &str) {
    let (namespace, name) = place(live);
    let owner = (namespace, text(live, "/metadata/labels/espalier.dev~1rollout").to_owned());
    let Some(rollout) = world.rollout(&owner) else { return };
    let written = world.written_share(&owner, &name);
    // A gateway that refuses every route keeps to an old one for as long as it likes; nobody waits for that with pods that failed.
    let carried = if world.cluster.gateway_refuses { 0 } else { world.carried_share(&owner, &name) };
    if written > 0 || carried > 0 {
        world.broken("S8 nothing with users goes", format!("{name} is {how} with {written} % written and {carried} % at the gateway"));
    }
    if text(&rollout, "/status/stable/service") == name {
        world.broken("S8 nothing with users goes", format!("{name} is {how} while it is stable"));
    }
}

/// A write of an operator has been carried out.
pub fn written(world: &mut World, caller: &Caller, call: &Call, of: Resource) {
    limits::count(world, call, of);
    if let Some(quiet) = world.oracle.quiet_from.filter(|quiet| world.now >= *quiet && of != LEASES) {
        let since = (world.now - quiet).num_seconds();
        world.broken("L1 nothing to do, nothing written", format!("{} {} {} after {since} s of rest", caller.name, call.method, call.path));
    }
}

/// How long a route may give more than was decided before it must have been lowered.
const ABOVE: TimeDelta = TimeDelta::seconds(10);

/// The longest time between two looks when nothing changes.
const GLANCE: TimeDelta = TimeDelta::milliseconds(500);

/// Every instant at which something changed, and now and then.
pub fn watch(world: &mut World, stirred: bool) {
    let (now, version) = (world.now, world.store.version());
    let is_due = world.oracle.looked.is_none_or(|looked| now - looked >= GLANCE);
    if !stirred && !is_due && world.oracle.seen == version {
        return;
    }
    world.oracle.seen = version;
    above_intent(world);
    deserted(world);
    failed(world);
    shown(world);
}

/// Adds up for how long harm was to be seen.
fn shown(world: &mut World) {
    let now = world.now;
    let passed = world.oracle.looked.replace(now).map_or(TimeDelta::zero(), |before| now - before);
    if world.truth.defect(now).is_some() {
        return;
    }
    let harmful = |(owner, subject): (&Place, &Subject)| Some((owner.clone(), subject.harm.clone().filter(|harm| harm.from <= now)?));
    let harmful: Vec<(Place, Harm)> = world.oracle.subjects.iter().filter_map(harmful).collect();
    for (owner, harm) in harmful {
        let trial = world.rollout(&owner).map(|live| text(&live, "/status/attempt/started").to_owned()).unwrap_or_default();
        if world.oracle.of(&owner).trial != trial {
            world.oracle.of(&owner).shown = TimeDelta::zero();
            world.oracle.of(&owner).trial = trial;
        }
        let service = crate::prometheus::service_of(world, &owner.0, &harm.letter);
        if service.is_some_and(|service| world.carried_share(&owner, &service) > 0) {
            world.oracle.of(&owner).shown += passed;
        }
    }
}

/// L2: what somebody else gave a candidate is taken back.
fn above_intent(world: &mut World) {
    let excused = world.oracle.excused_until.is_some_and(|until| world.now < until);
    let edited = world.oracle.subjects.iter().filter(|(_, subject)| subject.foreign);
    for owner in edited.map(|(owner, _)| owner.clone()).collect::<Vec<_>>() {
        let rollout = world.rollout(&owner).unwrap_or_default();
        let service = text(&rollout, "/status/candidate/service");
        let share = world.written_share(&owner, service);
        let intent = rollout.pointer("/status/attempt/intent").and_then(Value::as_i64).unwrap_or(0);
        let now = world.now;
        let subject = world.oracle.of(&owner);
        if excused || service.is_empty() || i64::from(share) <= intent {
            subject.above = None;
            continue;
        }
        let late = now - *subject.above.get_or_insert(now);
        if late > ABOVE {
            subject.above = None;
            let message = format!("{service} has {share} % for {} s, decided were {intent} %", late.num_seconds());
            world.broken("L2 more than was decided is taken back", message);
        }
    }
}

/// L2: nobody stays where the slices say that nobody answers. Looked at once in a second: that is seldom enough to cost nothing.
fn deserted(world: &mut World) {
    let now = world.now;
    if world.oracle.called.is_some_and(|called| now - called < TimeDelta::seconds(1)) {
        return;
    }
    world.oracle.called = Some(now);
    for owner in world.oracle.subjects.keys().cloned().collect::<Vec<_>>() {
        let Some(rollout) = world.rollout(&owner) else { continue };
        let service = text(&rollout, "/status/candidate/service");
        let told = world.cluster.told.get(&(owner.0.clone(), service.to_owned()));
        let Some(none) = told.and_then(|told| told.none_since) else { continue };
        let seen_from = world.oracle.excused_until.map_or(none, |until| until.max(none));
        let share = if now - seen_from > ABOVE { world.written_share(&owner, service) } else { 0 };
        if share > 0 {
            let message = format!("{service} has {share} % and no endpoint for {} s", (now - none).num_seconds());
            world.broken("L2 nobody stays where nobody answers", message);
        }
    }
}

/// L2: nobody stays on what has failed. What had no users could not be seen to fail, so their time on it counts.
fn failed(world: &mut World) {
    let (now, excused) = (world.now, world.oracle.excused_until);
    let passed = world.oracle.looked.map_or(TimeDelta::zero(), |before| now - before);
    let seen_from = |harm: &Harm| excused.map_or(harm.from, |until| until.max(harm.from));
    let due = |subject: &Subject| subject.harm.clone().filter(|harm| now >= seen_from(harm));
    let due: Vec<(Place, Harm)> =
        world.oracle.subjects.iter().filter_map(|(owner, subject)| Some((owner.clone(), due(subject)?))).collect();
    for (owner, harm) in due {
        let Some(service) = crate::prometheus::service_of(world, &owner.0, &harm.letter) else { continue };
        let serves = world.rollout(&owner).is_some_and(|one| text(&one, "/status/stable/service") == service);
        let share = world.carried_share(&owner, &service);
        if share == 0 || serves {
            continue;
        }
        let subject = world.oracle.of(&owner);
        subject.kept_on += passed;
        let late = subject.kept_on;
        if late >= harm.bound {
            subject.harm = None;
            let message = format!("{service} still has {share} % when it had users for {} s after it must be seen", late.num_seconds());
            world.broken("L2 a failing candidate is gone in time", message);
        }
    }
}
