//! Prometheus in memory: counts what users really got, scrapes it, and answers the operator's queries, with every defect that a server can have.
//! The traffic follows the route as the gateway took it, never what the operator believes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, MutexGuard};

use chrono::{DateTime, TimeDelta, Utc};
use espalier::clock::Clock;
use espalier::prometheus::{Answer, Exchange, Server};
use futures::future::BoxFuture;
use rollout_core::route;
use serde_json::{Value, json};

use crate::cluster::{model_of, ready_pods};
use crate::dice::Dice;
use crate::store::{DEPLOYMENTS, PODS, Place, text};
use crate::world::{Shared, Task, World, lock};

/// Time between scrapes.
pub const SCRAPE: TimeDelta = TimeDelta::seconds(15);

/// What is wrong with the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    Down,
    Hangs,
    LoginPage,
    ServerError,
    NotANumber,
    Infinite,
    Empty,
    Warning,
    NativeHistogram,
    WrongType,
    Stale,
    Duplicate,
    Slow,
    /// Every counter starts from 0 at every other scrape.
    Resets,
    /// There and gone, each second.
    Flips,
}

/// Every defect.
pub const DEFECTS: [Defect; 15] = [
    Defect::Down,
    Defect::Hangs,
    Defect::LoginPage,
    Defect::ServerError,
    Defect::NotANumber,
    Defect::Infinite,
    Defect::Empty,
    Defect::Warning,
    Defect::NativeHistogram,
    Defect::WrongType,
    Defect::Stale,
    Defect::Duplicate,
    Defect::Slow,
    Defect::Resets,
    Defect::Flips,
];

impl Defect {
    /// Whether nothing can be measured while it lasts.
    pub fn blinds(self) -> bool {
        ![Self::Slow, Self::Resets, Self::Flips].contains(&self)
    }
}

type Labels = BTreeMap<String, String>;

/// What is true of users and models, and what was scraped of it.
pub struct Truth {
    pub requests_per_second: f64,
    /// A defect and its time.
    pub defect: Option<(Defect, DateTime<Utc>, DateTime<Utc>)>,
    /// Queries answered or refused.
    pub queries: usize,
    dice: Dice,
    taken: BTreeMap<Place, Taken>,
    counters: BTreeMap<String, Counters>,
    /// Series by metric; those of one pod have the same place in each list.
    series: BTreeMap<&'static str, Vec<Series>>,
    slots: BTreeMap<String, usize>,
    last: DateTime<Utc>,
}

/// A route as the gateway carries it.
pub struct Taken {
    /// Its spec alone.
    pub route: Value,
    pub since: DateTime<Utc>,
    /// The share of requests that each Service gets, mirrored ones included.
    shares: Vec<(String, f64)>,
}

#[derive(Clone, Copy, Default)]
struct Counters {
    bad: f64,
    good: f64,
    nonfinite: f64,
}

struct Series {
    labels: Labels,
    /// The labels as they are sent.
    text: String,
    samples: Vec<(i64, f64)>,
}

impl Series {
    fn new(labels: Labels) -> Self {
        let text = json!(labels).to_string();
        Self { labels, text, samples: Vec::new() }
    }
}

/// Every Service that a route names, for answers or for copies.
fn named(route: &Value, found: &mut BTreeSet<String>) {
    match route {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("backendRefs", Value::Array(refs)) => found.extend(refs.iter().map(|one| text(one, "/name").to_owned())),
                    ("backendRef", one) => _ = found.insert(text(one, "/name").to_owned()),
                    _ => {}
                }
                named(value, found);
            }
        }
        Value::Array(all) => all.iter().for_each(|one| named(one, found)),
        _ => {}
    }
}

fn shares(route: &Value) -> Vec<(String, f64)> {
    let mut services = BTreeSet::new();
    named(route, &mut services);
    let share = |service: String| {
        let seen = route::exposure(route, &service);
        let share = if seen.mirrored { 1.0 } else { f64::from(seen.share.percent()) / 100.0 };
        (service, share)
    };
    services.into_iter().map(share).filter(|(_, share)| *share > 0.0).collect()
}

impl Truth {
    pub fn new(seed: u64) -> Self {
        Self {
            requests_per_second: 400.0,
            defect: None,
            queries: 0,
            dice: Dice::new(seed ^ 0x7072_6f6d),
            taken: BTreeMap::new(),
            counters: BTreeMap::new(),
            series: BTreeMap::new(),
            slots: BTreeMap::new(),
            last: crate::world::at(0),
        }
    }

    pub fn defect(&self, now: DateTime<Utc>) -> Option<Defect> {
        self.defect.filter(|(_, from, until)| *from <= now && now < *until).map(|(defect, ..)| defect)
    }

    /// The gateway takes a route.
    pub fn take_route(&mut self, place: Place, live: &Value, now: DateTime<Utc>) {
        if self.taken.get(&place).is_none_or(|old| old.route["spec"] != live["spec"]) {
            let route = json!({"spec": live["spec"]});
            let shares = shares(&route);
            self.taken.insert(place, Taken { route, since: now, shares });
        }
    }

    /// The route is gone, and so is its traffic.
    pub fn drop_route(&mut self, place: &Place) {
        self.taken.remove(place);
    }

    /// The route that the gateway carries, and since when.
    pub fn taken(&self, place: &Place) -> Option<&Taken> {
        self.taken.get(place)
    }

    /// Samples from before `old` are gone, and so are pods of which nothing is left.
    pub fn forget(&mut self, old: DateTime<Utc>) {
        let old = old.timestamp_millis();
        for one in self.series.values_mut().flatten() {
            one.samples.drain(..one.samples.partition_point(|(at, _)| *at < old));
        }
        let left: BTreeSet<usize> = self
            .series
            .get("up")
            .into_iter()
            .flatten()
            .enumerate()
            .filter(|(_, one)| !one.samples.is_empty())
            .map(|(slot, _)| slot)
            .collect();
        for (metric, all) in &mut self.series {
            let each = if *metric == "answers_total" { 2 } else { 1 };
            let mut place = 0..;
            all.retain(|_| left.contains(&(place.next().unwrap_or(0) / each)));
        }
        self.slots.retain(|_, slot| left.contains(slot));
        let places: BTreeMap<usize, usize> = left.iter().copied().zip(0..).collect();
        self.slots.values_mut().for_each(|slot| *slot = places[slot]);
        let slots = &self.slots;
        self.counters.retain(|pod, _| slots.contains_key(pod));
    }

    /// A pod's process began anew: its counters start from 0.
    pub fn restarted(&mut self, pod: &str) {
        self.counters.remove(pod);
    }
}

/// What the pods did since the last scrape, and what Prometheus keeps of it.
pub fn scrape(world: &mut World) {
    let now = world.now;
    world.after(SCRAPE, Task::Scrape);
    let seconds = (now - world.truth.last).num_milliseconds() as f64 / 1000.0;
    world.truth.last = now;
    if world.truth.defect(now) == Some(Defect::Resets) && now.timestamp() / SCRAPE.num_seconds() % 2 == 0 {
        world.truth.counters.clear();
    }
    let mut served: BTreeMap<String, f64> = BTreeMap::new();
    for ((namespace, _), taken) in &world.truth.taken {
        for (service, share) in &taken.shares {
            let pods = ready_pods(world, namespace, service);
            let each = share * world.truth.requests_per_second * seconds / pods.len().max(1) as f64;
            for (_, pod) in pods {
                *served.entry(pod).or_default() += each;
            }
        }
    }
    let pods: Vec<Arc<Value>> = world.store.list(PODS, None).filter(|pod| crate::cluster::is_ready(pod)).cloned().collect();
    for pod in pods {
        count(world, &pod, served.get(text(&pod, "/metadata/name")).copied().unwrap_or(0.0), seconds);
    }
}

fn count(world: &mut World, pod: &Value, requests: f64, seconds: f64) {
    let now = world.now;
    let model = world.cluster.models.get(&model_of(pod)).cloned().unwrap_or_default();
    let bad_share = model.bad_share(now);
    let name = text(pod, "/metadata/name");
    let truth = &mut world.truth;
    let total = requests.round();
    let bad = truth.dice.binomial(total, bad_share);
    let nonfinite = if model.nonfinite_from.is_some_and(|from| from <= now) { seconds.ceil() } else { 0.0 };
    let power = model.power + truth.dice.unit() - 0.5;
    let counters = truth.counters.entry(name.to_owned()).or_default();
    counters.bad += bad;
    counters.good += total - bad;
    counters.nonfinite += nonfinite;
    let Counters { bad, good, nonfinite } = *counters;
    // A server that does not scrape any more shows what it has.
    if truth.defect(now) == Some(Defect::Stale) {
        return;
    }
    let slot = truth.slot(pod, name);
    let at = now.timestamp_millis();
    for (metric, place, value) in [
        ("answers_total", 2 * slot, bad),
        ("answers_total", 2 * slot + 1, good),
        ("nonfinite_total", slot, nonfinite),
        ("power_watts", slot, power),
        ("up", slot, 1.0),
    ] {
        truth.series.get_mut(metric).unwrap()[place].samples.push((at, value));
    }
}

impl Truth {
    /// The place of a pod's series, which are made when it is seen for the first time.
    fn slot(&mut self, pod: &Value, name: &str) -> usize {
        if let Some(slot) = self.slots.get(name) {
            return *slot;
        }
        let label =
            |key: &str| pod.pointer("/metadata/labels").and_then(|l| l.get(key)).and_then(Value::as_str).unwrap_or_default().to_owned();
        let own = [
            ("pod".to_owned(), name.to_owned()),
            ("namespace".to_owned(), text(pod, "/metadata/namespace").to_owned()),
            ("instance".to_owned(), format!("{name}:8080")),
            ("app".to_owned(), label("app")),
            ("espalier_dev_revision".to_owned(), label("espalier.dev/revision")),
            ("espalier_dev_rollout".to_owned(), label("espalier.dev/rollout")),
        ];
        let own: Labels = own.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        for good in ["no", "yes"] {
            let mut labels = own.clone();
            labels.insert("good".to_owned(), good.to_owned());
            self.series.entry("answers_total").or_default().push(Series::new(labels));
        }
        for metric in ["nonfinite_total", "power_watts", "up"] {
            self.series.entry(metric).or_default().push(Series::new(own.clone()));
        }
        let slot = self.slots.len();
        self.slots.insert(name.to_owned(), slot);
        slot
    }
}

/// The operator's way to this Prometheus.
pub struct Line {
    pub world: Shared,
    /// The time of who asks.
    pub clock: Clock,
}

impl Line {
    fn look(&self) -> MutexGuard<'_, World> {
        let mut world = lock(&self.world);
        world.now = world.now.max(self.clock.now());
        world
    }
}

impl Exchange for Line {
    fn post<'a>(&'a self, _: &'a Server, _: &'a str, form: String) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async move {
            let (defect, wait) = {
                let mut world = self.look();
                world.truth.queries += 1;
                let (now, defect) = (world.now, world.truth.defect(world.now));
                let slow = if defect == Some(Defect::Slow) { 1500 } else { 0 };
                let wait = world.dice_for(crate::serve::mark(&[form.as_bytes()])).between(2, 9);
                (defect, (world.free_instant(now + TimeDelta::milliseconds(slow + wait)) - now).to_std().unwrap())
            };
            match defect {
                Some(Defect::Down) => return Err("connection refused".to_owned()),
                Some(Defect::Hangs) => std::future::pending::<()>().await,
                _ => {}
            }
            tokio::time::sleep(wait).await;
            Ok(answer(&self.look(), &form, defect))
        })
    }
}

fn answer(world: &World, form: &str, defect: Option<Defect>) -> Answer {
    let json = |body: Value| Answer { status: 200, content_type: "application/json".to_owned(), body: body.to_string().into_bytes() };
    match defect {
        Some(Defect::LoginPage) => {
            return Answer { status: 200, content_type: "text/html".to_owned(), body: b"<html>Log in</html>".to_vec() };
        }
        Some(Defect::ServerError) => {
            let body = json!({"status": "error", "errorType": "internal", "error": "simulated"}).to_string().into_bytes();
            return Answer { status: 500, content_type: "application/json".to_owned(), body };
        }
        Some(Defect::WrongType) => return json(json!({"status": "success", "data": {"resultType": "vector", "result": []}})),
        Some(Defect::Flips) if world.now.timestamp() % 2 == 0 => {
            return json(json!({"status": "success", "data": {"resultType": "matrix", "result": []}}));
        }
        Some(Defect::Empty) => return json(json!({"status": "success", "data": {"resultType": "matrix", "result": []}})),
        _ => {}
    }
    let result = matching(world, form, defect);
    let warnings = if defect == Some(Defect::Warning) { r#","warnings":["a store did not answer"]"# } else { "" };
    let body = format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{result}]}}{warnings}}}"#);
    Answer { status: 200, content_type: "application/json".to_owned(), body: body.into_bytes() }
}

fn matching(world: &World, form: &str, defect: Option<Defect>) -> String {
    let form = reqwest::Url::parse(&format!("http://form?{form}")).unwrap();
    let get = |wanted: &str| form.query_pairs().find(|(key, _)| key == wanted).map(|(_, value)| value.into_owned()).unwrap_or_default();
    let (query, time) = (get("query"), get("time"));
    let end = (time.parse::<f64>().unwrap() * 1000.0).round() as i64;
    let (selector, range) = query.rsplit_once('[').unwrap();
    let start = end - range.trim_end_matches("ms]").parse::<i64>().unwrap();
    let (name, matchers) = selector.split_once('{').unwrap_or((selector, "}"));
    let matchers = matchers.trim_end_matches('}');
    let value = |value: f64| match defect {
        Some(Defect::NotANumber) => "NaN".to_owned(),
        Some(Defect::Infinite) => "+Inf".to_owned(),
        _ => value.to_string(),
    };
    let mut result = String::new();
    for one in world.truth.series.get(name).into_iter().flatten() {
        let from = one.samples.partition_point(|(at, _)| *at <= start);
        let to = one.samples.partition_point(|(at, _)| *at <= end);
        if from >= to || !matches(&one.labels, matchers) {
            continue;
        }
        let mut twin = one.labels.clone();
        twin.insert("job".to_owned(), "twin".to_owned());
        let twin = (defect == Some(Defect::Duplicate)).then(|| json!(twin).to_string());
        for labels in [Some(&one.text), twin.as_ref()].into_iter().flatten() {
            let comma = if result.is_empty() { "" } else { "," };
            if defect == Some(Defect::NativeHistogram) {
                let _ = write!(result, "{comma}{{\"metric\":{labels},\"histograms\":[[0,{{}}]]}}");
                continue;
            }
            let _ = write!(result, "{comma}{{\"metric\":{labels},\"values\":[");
            for (number, (at, v)) in one.samples[from..to].iter().enumerate() {
                let comma = if number == 0 { "" } else { "," };
                let _ = write!(result, "{comma}[{}.{:03},\"{}\"]", at / 1000, at % 1000, value(*v));
            }
            result.push_str("]}");
        }
    }
    result
}

/// The matchers that the operator writes: equality, its opposite, and alternatives of names.
fn matches(labels: &Labels, matchers: &str) -> bool {
    let mut rest = matchers;
    while !rest.is_empty() {
        let cut = rest.find(['=', '!']).unwrap();
        let (label, tail) = rest.split_at(cut);
        let quote = tail.find('"').unwrap();
        let (op, tail) = tail.split_at(quote);
        let end = tail[1..].find('"').unwrap() + 1;
        let value = &tail[1..end];
        let found = labels.get(label).map_or("", String::as_str);
        let holds = match op {
            "=" => found == value,
            "!=" => found != value,
            "=~" => value.split('|').any(|one| one == found),
            _ => !value.split('|').any(|one| one == found),
        };
        if !holds {
            return false;
        }
        rest = tail[end + 1..].trim_start_matches(',');
    }
    true
}

/// The Service of the model with this letter: that of the workload that runs it, or the user's own of the same name.
pub fn service_of(world: &World, namespace: &str, letter: &str) -> Option<String> {
    let runs = |one: &&Arc<Value>| one.pointer("/spec/template").map(model_of).as_deref() == Some(letter);
    let found = world.store.list(DEPLOYMENTS, Some(namespace)).find(runs)?;
    let (rollout, revision) =
        (text(found, "/metadata/labels/espalier.dev~1rollout"), text(found, "/metadata/labels/espalier.dev~1revision"));
    Some(if revision.is_empty() { text(found, "/metadata/name").to_owned() } else { format!("{rollout}-{revision}") })
}
