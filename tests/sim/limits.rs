//! The smaller checks of the oracle: preconditions, weights, untouched fields, bounds on writes and status, grounds for a raise.
//! Split from [`crate::oracle`] by size alone; the same rules hold.

use chrono::TimeDelta;
use http::Method;
use serde_json::Value;

use crate::oracle::share_in;
use crate::serve::Call;
use crate::store::{LEASES, POLICIES, Place, Resource, place, text};
use crate::world::World;

/// Writes of one kind in a minute that one rollout may need, retries after faults included.
const MOST_WRITES: usize = 90;
/// Largest status, in bytes.
const MOST_STATUS: usize = 400_000;

/// S9: every write says from what it was made.
pub fn precondition(world: &mut World, call: &Call, of: Resource) {
    let (version, uid) = (text(&call.body, "/metadata/resourceVersion"), text(&call.body, "/metadata/uid"));
    let given = match call.method {
        Method::PUT => !version.is_empty(),
        Method::PATCH => of.plural == "events" || !version.is_empty() || !uid.is_empty(),
        Method::DELETE => call.body.pointer("/preconditions/uid").is_some(),
        _ => true,
    };
    if !given {
        world.broken("S9 every write has a precondition", format!("{} {} has none", call.method, call.path));
    }
}

/// S1: weights of every rule sum to 100, each between 0 and 100.
pub fn weights(world: &mut World, next: &Value) {
    for rule in next.pointer("/spec/rules").and_then(Value::as_array).into_iter().flatten() {
        let refs = rule["backendRefs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let weights: Vec<i64> = refs.iter().map(|one| one["weight"].as_i64().unwrap_or(1)).collect();
        if !refs.is_empty() && (weights.iter().sum::<i64>() != 100 || weights.iter().any(|weight| !(0..=100).contains(weight))) {
            world.broken("S1 weights sum to 100", format!("{weights:?}"));
        }
    }
}

/// S10: what is the user's in the route stays.
pub fn keeps(world: &mut World, owner: &Place, live: &Value, next: &Value) {
    let lost: Vec<String> = world
        .oracle
        .of(owner)
        .kept
        .iter()
        .filter(|(path, value)| live.pointer(path) == Some(value) && next.pointer(path) != Some(value))
        .map(|(path, _)| (*path).to_owned())
        .collect();
    for path in lost {
        world.broken("S10 only weights change", format!("{path} is lost"));
    }
}

/// S11 and S16: the status tells of no later generation, never goes back, and stays small.
pub fn status(world: &mut World, live: &Value, next: &Value) {
    let generation = live["metadata"]["generation"].as_i64().unwrap_or(0);
    let observed = next.pointer("/status/observedGeneration").and_then(Value::as_i64).unwrap_or(-1);
    let before = world.oracle.of(&place(live)).observed.unwrap_or(-1);
    if observed > generation || observed < before {
        world.broken("S11 observedGeneration", format!("{observed}, but the object is at {generation} and {before} was observed before"));
    }
    world.oracle.of(&place(live)).observed = Some(observed);
    let intent = |object: &Value| object.pointer("/status/attempt/intent").and_then(Value::as_i64).unwrap_or(0);
    let (decided, before) = (intent(next), intent(live));
    if decided > before && is_suspended(live) {
        world.broken("S14 paused does not rise", format!("{decided} % is on record after {before} % while held"));
    }
    if decided > before && !ladder(live).iter().any(|step| i64::from(*step) == decided) {
        world.broken("S4 what is decided is a step", format!("{decided} % is on record after {before} %, which is no step of any stage"));
    }
    let size = next["status"].to_string().len();
    let decisions = next.pointer("/status/decisions").and_then(Value::as_array).map_or(0, Vec::len);
    if size > MOST_STATUS || decisions > 20 {
        world.broken("S16 bounded status", format!("{size} bytes, {decisions} decisions"));
    }
    for field in live["status"].as_object().into_iter().flatten().map(|(field, _)| field).filter(|field| field.starts_with("future")) {
        if next["status"].get(field) != live["status"].get(field) {
            world.broken("A6 unknown fields stay", format!("status.{field} is lost"));
        }
    }
}

/// S16: a bounded number of writes in a minute, of each kind for each rollout.
pub fn count(world: &mut World, call: &Call, of: Resource) {
    if of == LEASES {
        return;
    }
    let owner = ["/metadata/labels/espalier.dev~1rollout", "/regarding/name"].into_iter().map(|path| text(&call.body, path));
    let owner = owner.chain([call.name.as_str()]).find(|name| !name.is_empty()).unwrap_or_default().to_owned();
    let minute = world.now.timestamp() / 60;
    let count = world.oracle.minutes.entry((minute, of.plural, owner)).or_default();
    *count += 1;
    if *count >= MOST_WRITES {
        world.broken("S16 bounded writes", format!("{MOST_WRITES} writes of {} in a minute", of.plural));
    }
}

/// Whether the last request on record asked for this and was accepted.
pub fn was_asked(status: &Value, verb: &str) -> bool {
    text(status, "/lastRequest/action") == verb && text(status, "/lastRequest/result") == "Accepted"
}

/// Whether the spec says that the rollout shall stay where it is.
pub fn is_suspended(live: &Value) -> bool {
    live.pointer("/spec/suspend") == Some(&Value::from(true))
}

/// The longest from when the operator reads what a raise rests on until its route arrives: some calls of a few milliseconds each.
const FLIGHT: TimeDelta = TimeDelta::milliseconds(100);

/// S14: whether somebody holds the rollout. A raise that was on record before is on its way and may arrive.
pub fn is_held(world: &mut World, owner: &Place, rollout: &Value) -> bool {
    let on_the_way = world.oracle.of(owner).suspended.is_some_and(|since| world.now - since <= FLIGHT);
    is_suspended(rollout) && !on_the_way || rollout.pointer("/status/attempt/paused").is_some()
}

/// S5: a raise rests on ready endpoints, as the API server told of them when they were counted. Pods that fail in the moment between are taken
/// back, which [`crate::oracle`] sees to.
pub fn carries(world: &mut World, owner: &Place, rollout: &Value, service: &str, after: i32) {
    let told = world.cluster.told.get(&(owner.0.clone(), service.to_owned()));
    let ready = told.map_or(0, |told| told.most(world.now - FLIGHT));
    let replicas = rollout.pointer("/spec/workload/template/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    if i64::try_from(ready).unwrap() < ((replicas * i64::from(after) + 99) / 100).max(1) {
        world.broken("S5 exposure within capacity", format!("{service} gets {after} % with {ready} of {replicas} endpoints ready"));
    }
}

/// Every exposure that the stages lead through, in order, and everybody at the end.
pub fn ladder(rollout: &Value) -> Vec<i32> {
    let percent = |value: &Value| value.as_str().and_then(|text| text.trim_end_matches('%').parse::<i32>().ok());
    let mut ladder = Vec::new();
    for stage in rollout.pointer("/spec/stages").and_then(Value::as_array).into_iter().flatten() {
        if stage["type"] == "Shadow" {
            continue;
        }
        ladder.extend(stage["steps"].as_array().into_iter().flatten().filter_map(percent));
        ladder.extend(stage.get("percent").and_then(percent));
    }
    ladder.push(100);
    ladder
}

/// The distance of the instants at which a rollout is judged.
fn interval(world: &World, owner: &Place, rollout: &Value) -> TimeDelta {
    let policy = world.store.get(POLICIES, &owner.0, text(rollout, "/spec/policyRef/name"));
    let seconds = policy.and_then(|policy| text(policy, "/spec/interval").trim_end_matches('s').parse().ok());
    TimeDelta::seconds(seconds.unwrap_or(15))
}

/// S2 and S3: a raise beyond the first step rests on time at the weight before, as the gateway carried it, and on measurements.
pub fn grounds(world: &mut World, owner: &Place, rollout: &Value, service: &str, after: i32) {
    let written = world.written_share(owner, service);
    let route = world.route_of(owner);
    let Some((carried, since)) = world.truth.taken(&route).map(|taken| (share_in(&taken.route, service), taken.since)) else { return };
    if carried != written {
        world.broken(
            "S2 the weight before took effect",
            format!("{service} is raised to {after} %, but the gateway carries {carried} % of {written} %"),
        );
    }
    let least = crate::stories::least_step(rollout);
    let held = world.now - since;
    if held + TimeDelta::seconds(1) < least {
        let message =
            format!("{service} is raised to {after} % after {} s at {carried} %, at least {} s", held.num_seconds(), least.num_seconds());
        world.broken("S2 time at the weight before", message);
    }
    // A sample is stale after four intervals, and the judgement of it is the newest for another one.
    let least = interval(world, owner, rollout) * 5;
    let blind = world.truth.defect.filter(|(defect, from, until)| defect.blinds() && *from + least < world.now && world.now < *until);
    if let Some((defect, from, _)) = blind {
        let message =
            format!("{service} is raised to {after} % although measurements are {defect:?} for {} s", (world.now - from).num_seconds());
        world.broken("S3 no raise without measurements", message);
    }
}
