//! Prometheus in memory: counts what users really got, scrapes it, and answers the operator's queries, with every defect that a server can have.
//! The traffic follows the route as the gateway took it, never what the operator believes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
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
}

/// Every defect.
pub const DEFECTS: [Defect; 13] = [
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
];

impl Defect {
    /// Whether nothing can be measured while it lasts.
    pub fn blinds(self) -> bool {
        self != Self::Slow
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
    taken: BTreeMap<Place, (Value, DateTime<Utc>)>,
    counters: BTreeMap<String, BTreeMap<&'static str, f64>>,
    series: BTreeMap<(String, Labels), Vec<(i64, f64)>>,
    last: DateTime<Utc>,
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
            last: crate::world::at(0),
        }
    }

    pub fn defect(&self, now: DateTime<Utc>) -> Option<Defect> {
        self.defect.filter(|(_, from, until)| *from <= now && now < *until).map(|(defect, ..)| defect)
    }

    /// The gateway takes a route.
    pub fn take_route(&mut self, place: Place, live: &Value, now: DateTime<Utc>) {
        let spec = json!({"spec": live["spec"]});
        if self.taken.get(&place).is_none_or(|(old, _)| *old != spec) {
            self.taken.insert(place, (spec, now));
        }
    }

    /// The route that the gateway carries, and since when.
    pub fn taken(&self, place: &Place) -> Option<&(Value, DateTime<Utc>)> {
        self.taken.get(place)
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
    let routes: Vec<(Place, Value)> = world.truth.taken.iter().map(|(place, (spec, _))| (place.clone(), spec.clone())).collect();
    let mut served: BTreeMap<String, f64> = BTreeMap::new();
    for ((namespace, _), live) in &routes {
        let backends: Vec<String> =
            world.store.list(crate::store::SERVICES, Some(namespace)).map(|s| text(s, "/metadata/name").to_owned()).collect();
        for service in backends {
            let seen = route::exposure(live, &service);
            let share = if seen.mirrored { 1.0 } else { f64::from(seen.share.percent()) / 100.0 };
            let pods = ready_pods(world, namespace, &service);
            for (_, pod) in &pods {
                *served.entry(pod.clone()).or_default() += share * world.truth.requests_per_second * seconds / pods.len() as f64;
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
    let bad_share = model.worse_from.filter(|(from, _)| *from <= now).map_or(model.bad, |(_, bad)| bad);
    let name = text(pod, "/metadata/name").to_owned();
    let truth = &mut world.truth;
    let total = requests.round();
    let bad = truth.dice.binomial(total, bad_share);
    let nonfinite = if model.nonfinite_from.is_some_and(|from| from <= now) { seconds.ceil() } else { 0.0 };
    let power = model.power + truth.dice.unit() - 0.5;
    let counters = truth.counters.entry(name.clone()).or_default();
    for (what, more) in [("bad", bad), ("good", total - bad), ("nonfinite", nonfinite)] {
        *counters.entry(what).or_default() += more;
    }
    let (bad, good, nonfinite) = (counters["bad"], counters["good"], counters["nonfinite"]);
    // A server that does not scrape any more shows what it has.
    if truth.defect(now) == Some(Defect::Stale) {
        return;
    }
    let labels = |more: &[(&str, &str)]| -> Labels {
        let label =
            |key: &str| pod.pointer("/metadata/labels").and_then(|l| l.get(key)).and_then(Value::as_str).unwrap_or_default().to_owned();
        let own = [
            ("pod".to_owned(), name.clone()),
            ("namespace".to_owned(), text(pod, "/metadata/namespace").to_owned()),
            ("instance".to_owned(), format!("{name}:8080")),
            ("espalier_dev_revision".to_owned(), label("espalier.dev/revision")),
            ("espalier_dev_rollout".to_owned(), label("espalier.dev/rollout")),
        ];
        own.into_iter()
            .chain(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
            .filter(|(_, v)| !v.is_empty())
            .collect()
    };
    let at = now.timestamp_millis();
    for (metric, labels, value) in [
        ("answers_total", labels(&[("good", "no")]), bad),
        ("answers_total", labels(&[("good", "yes")]), good),
        ("nonfinite_total", labels(&[]), nonfinite),
        ("power_watts", labels(&[]), power),
        ("up", labels(&[]), 1.0),
    ] {
        truth.series.entry((metric.to_owned(), labels)).or_default().push((at, value));
    }
}

/// The operator's way to this Prometheus.
pub struct Line(pub Shared);

impl Exchange for Line {
    fn post<'a>(&'a self, _: &'a Server, _: &'a str, form: String) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async move {
            let (defect, wait) = {
                let mut world = lock(&self.0);
                world.truth.queries += 1;
                let wait = world.truth.dice.between(2, 9);
                (world.truth.defect(world.now), Duration::from_millis(u64::try_from(wait).unwrap()))
            };
            match defect {
                Some(Defect::Down) => return Err("connection refused".to_owned()),
                Some(Defect::Hangs) => std::future::pending::<()>().await,
                Some(Defect::Slow) => tokio::time::sleep(Duration::from_millis(1500)).await,
                _ => {}
            }
            tokio::time::sleep(wait).await;
            Ok(answer(&lock(&self.0), &form, defect))
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
    let wanted = |(metric, labels): &(String, Labels)| metric == name && matches(labels, matchers);
    let found = world.truth.series.iter().filter(|(key, _)| wanted(key));
    found
        .filter_map(|((_, labels), samples)| {
            let from = samples.partition_point(|(at, _)| *at <= start);
            let to = samples.partition_point(|(at, _)| *at <= end);
            let values: Vec<String> =
                samples[from..to].iter().map(|(at, v)| format!("[{}.{:03},\"{}\"]", at / 1000, at % 1000, value(*v))).collect();
            let series = |labels: &Labels| match defect {
                Some(Defect::NativeHistogram) => json!({"metric": labels, "histograms": [[0, {}]]}).to_string(),
                _ => format!("{{\"metric\":{},\"values\":[{}]}}", json!(labels), values.join(",")),
            };
            let mut found = vec![series(labels)];
            if defect == Some(Defect::Duplicate) {
                let mut twin = labels.clone();
                twin.insert("job".to_owned(), "twin".to_owned());
                found.push(series(&twin));
            }
            (from < to).then_some(found)
        })
        .flatten()
        .collect::<Vec<_>>()
        .join(",")
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

/// The revision of a model's letter, as the workload that runs it is labelled.
pub fn revision_of(world: &World, namespace: &str, letter: &str) -> Option<String> {
    let all = world.store.list(DEPLOYMENTS, Some(namespace));
    let runs = |one: &&Arc<Value>| one.pointer("/spec/template").map(model_of).as_deref() == Some(letter);
    all.filter(runs).map(|one| text(one, "/metadata/labels/espalier.dev~1revision").to_owned()).next()
}
