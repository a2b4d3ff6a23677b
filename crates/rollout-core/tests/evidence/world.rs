//! The simulated Prometheus: pods that serve traffic, are scraped at their own offsets, restart, vanish, arrive late or are scraped twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rollout_core::evidence::{Arm, Arms, Evidence, Query, Reading, Readings, Sample, Series};
use rollout_core::plan::Plan;
use rollout_core::revision::RevisionId;
use rollout_core::verdict::Unmeasurable;

pub const STABLE: &str = "aaaaaaaa";
pub const CANDIDATE: &str = "bbbbbbbb";
/// Start of every simulated attempt, in milliseconds; a multiple of every interval used.
pub const T0: i64 = 1_800_000_000_000;

/// A small generator: the same seed gives the same world.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1)
    }

    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn poisson(&mut self, mean: f64) -> u32 {
        let (mut count, mut product) = (0, self.unit());
        let limit = (-mean.min(500.0)).exp();
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }

    pub fn times(&mut self, n: u32, p: f64) -> u32 {
        (0..n).filter(|_| self.unit() < p).count() as u32
    }

    /// The same of what only some worlds have: without any no dice are thrown, so that the worlds of other tests stay as they are.
    pub fn some(&mut self, n: u32, p: f64) -> u32 {
        if p > 0.0 { self.times(n, p) } else { 0 }
    }
}

/// What an arm does with its requests.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// Requests per second of the whole arm.
    pub rps: f64,
    pub wrong: f64,
    /// Of the wrong answers, those that never get a label.
    pub unlabelled: f64,
    pub failing: f64,
    pub slow: f64,
    /// Of the slow ones, those beyond the next edge as well.
    pub crawling: f64,
    pub nan: f64,
    pub watts: f64,
    /// Energy of one answer, beside what the device draws while it waits.
    pub joules: f64,
}

/// What the device of a pod draws while it waits, in W.
const IDLE_WATTS: f64 = 10.0;

impl Behaviour {
    pub const GOOD: Self =
        Self { rps: 5.0, wrong: 0.03, unlabelled: 0.0, failing: 0.002, slow: 0.01, crawling: 0.0, nan: 0.0, watts: 25.0, joules: 4.0 };
}

/// A pod's device in the exporter's series.
#[derive(Clone, Debug, PartialEq)]
pub enum Device {
    Named(String),
    Nameless,
    /// The exporter has no series of it.
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub revision: &'static str,
    pub offset: i64,
    pub alive: bool,
    pub scraped: bool,
    pub doubled: bool,
    /// Its device, as the exporter sees it.
    pub device: Device,
    values: BTreeMap<&'static str, f64>,
    history: BTreeMap<&'static str, Vec<Sample>>,
    /// Series that say of which cohort they are: by metric and cohort.
    dated: BTreeMap<(&'static str, String), (f64, Vec<Sample>)>,
}

/// Key, metric, and the labels that make it a series of its own.
type Kind = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Regions of the requests and their share of the traffic.
pub const REGIONS: [(&str, f64); 3] = [("eu", 0.6), ("us", 0.3), ("apac", 0.1)];

/// Keys of the predicted classes, and of their recorded shares.
const CLASSES: [&str; 4] = ["class-0", "class-1", "class-2", "class-3"];
pub const SHARES: [&str; 4] = ["share-0", "share-1", "share-2", "share-3"];

/// Metrics that a pod has only in a world that has them.
const OPTIONAL: [&str; 4] = ["answers_total", "pairs_total", "classes_total", "class_ratio"];

/// Series of every pod; those by region begin with their first event, in a world that has regions.
const SERIES: [Kind; 28] = [
    ("up", "up", &[]),
    ("right", "model_predictions_total", &[("correct", "true")]),
    ("wrong", "model_predictions_total", &[("correct", "false")]),
    ("requests", "requests_total", &[]),
    ("errors", "request_errors_total", &[]),
    ("fast", "inference_seconds_bucket", &[("le", "0.1")]),
    ("quarter", "inference_seconds_bucket", &[("le", "0.25")]),
    ("all", "inference_seconds_bucket", &[("le", "+Inf")]),
    ("nan", "nonfinite_total", &[]),
    ("watts", "power_watts", &[]),
    ("eu-right", "answers_total", &[("region", "eu"), ("correct", "true")]),
    ("eu-wrong", "answers_total", &[("region", "eu"), ("correct", "false")]),
    ("us-right", "answers_total", &[("region", "us"), ("correct", "true")]),
    ("us-wrong", "answers_total", &[("region", "us"), ("correct", "false")]),
    ("apac-right", "answers_total", &[("region", "apac"), ("correct", "true")]),
    ("apac-wrong", "answers_total", &[("region", "apac"), ("correct", "false")]),
    ("pairs-tied", "pairs_total", &[("wrong", "none")]),
    ("pairs-candidate", "pairs_total", &[("wrong", "candidate")]),
    ("pairs-stable", "pairs_total", &[("wrong", "stable")]),
    ("energy", "gpu_energy_total", &[]),
    ("class-0", "classes_total", &[("predicted", "0")]),
    ("class-1", "classes_total", &[("predicted", "1")]),
    ("class-2", "classes_total", &[("predicted", "2")]),
    ("class-3", "classes_total", &[("predicted", "3")]),
    ("share-0", "class_ratio", &[("predicted", "0")]),
    ("share-1", "class_ratio", &[("predicted", "1")]),
    ("share-2", "class_ratio", &[("predicted", "2")]),
    ("share-3", "class_ratio", &[("predicted", "3")]),
];

impl Pod {
    pub fn new(name: &str, revision: &'static str, offset: i64) -> Self {
        let values = SERIES.iter().filter(|(_, name, _)| !OPTIONAL.contains(name)).map(|(key, _, _)| (*key, 0.0)).collect();
        let device = Device::Named(format!("GPU-{name}"));
        Self {
            name: name.into(),
            revision,
            offset,
            alive: true,
            scraped: true,
            doubled: false,
            device,
            values,
            history: BTreeMap::new(),
            dated: BTreeMap::new(),
        }
    }

    pub fn set(&mut self, key: &'static str, value: f64) {
        self.values.insert(key, value);
    }

    pub fn add(&mut self, key: &'static str, amount: f64) {
        *self.values.entry(key).or_default() += amount;
    }

    /// Adds to the series of a metric for a cohort.
    pub fn add_to_cohort(&mut self, metric: &'static str, cohort: &str, amount: f64) {
        self.dated.entry((metric, cohort.to_owned())).or_default().0 += amount;
    }

    /// A series that does not exist until its first event.
    pub fn remove(&mut self, key: &'static str) {
        self.values.remove(key);
        self.history.remove(key);
    }

    pub fn restart(&mut self) {
        for (key, value) in &mut self.values {
            if !["watts", "energy"].contains(key) && !key.starts_with("share") {
                *value = 0.0;
            }
        }
    }

    fn scrape(&mut self, at: i64) {
        if !self.scraped || !self.alive {
            return;
        }
        self.values.insert("up", 1.0);
        for (key, value) in &self.values {
            let samples = self.history.entry(key).or_default();
            samples.push(Sample { at, value: *value });
            if samples.len() > 64 {
                samples.drain(..32);
            }
        }
        for (value, samples) in self.dated.values_mut() {
            samples.push(Sample { at, value: *value });
            if samples.len() > 64 {
                samples.drain(..32);
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct World {
    pub dice: Dice,
    /// Apart from the others, so that what a device draws changes no request.
    power: Dice,
    pub now: i64,
    pub interval: i64,
    pub pods: Vec<Pod>,
    pub stable: Behaviour,
    pub candidate: Behaviour,
    /// The server answers.
    pub answers: bool,
    pub young: BTreeSet<String>,
    /// Share of wrong answers per region and arm (stable, candidate), in a world that has regions.
    pub regions: Option<[[f64; 2]; 3]>,
    /// Shares of pairs in which the candidate and in which stable alone is wrong, in a world whose candidate compares answers.
    pub pairs: Option<[f64; 2]>,
    /// Shares of the predicted classes per arm (stable, candidate), in a world that counts them.
    pub classes: Option<[[f64; 4]; 2]>,
    /// Arms and regions without requests.
    pub lost: Vec<(&'static str, &'static str)>,
    /// A gateway's view: requests per backend, sampled as it is asked.
    pub gateway: BTreeMap<String, f64>,
    /// Labels that the user gave both arms to be known by.
    pub matchers: BTreeMap<String, String>,
}

impl World {
    pub fn new(seed: u64, interval: i64, pods_per_arm: usize) -> Self {
        let mut pods = Vec::new();
        for (arm, revision) in [("digits-stable", STABLE), ("digits-candidate", CANDIDATE)] {
            for i in 0..pods_per_arm {
                let offset = (i as i64 * 377 + if revision == STABLE { 0 } else { 191 }) % interval;
                pods.push(Pod::new(&format!("{arm}-{i}"), revision, offset));
            }
        }
        let (stable, candidate) = (Behaviour::GOOD, Behaviour::GOOD);
        Self {
            dice: Dice::new(seed),
            power: Dice::new(seed + 1),
            now: T0,
            interval,
            pods,
            stable,
            candidate,
            answers: true,
            young: BTreeSet::new(),
            regions: None,
            pairs: None,
            classes: None,
            lost: Vec::new(),
            gateway: BTreeMap::new(),
            matchers: BTreeMap::new(),
        }
    }

    pub fn of(&mut self, revision: &'static str) -> impl Iterator<Item = &mut Pod> {
        self.pods.iter_mut().filter(move |pod| pod.revision == revision)
    }

    pub fn at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.now).unwrap()
    }

    /// Serves one interval of traffic and scrapes every pod once, each at its own offset before the instant.
    pub fn step(&mut self) {
        self.now += self.interval;
        for revision in [STABLE, CANDIDATE] {
            let behaviour = if revision == STABLE { self.stable } else { self.candidate };
            let alive = self.pods.iter().filter(|p| p.revision == revision && p.alive).count().max(1);
            let mean = behaviour.rps * self.interval as f64 / 1000.0 / alive as f64;
            let (dice, now, gateway, regions) = (&mut self.dice, self.now, &mut self.gateway, self.regions);
            let classes = self.classes.map(|shares| shares[usize::from(revision == CANDIDATE)]);
            let (lost, pairs) = (&self.lost, self.pairs.filter(|_| revision == CANDIDATE));
            for pod in self.pods.iter_mut().filter(|p| p.revision == revision && p.alive) {
                let n = dice.poisson(mean);
                let wrong = dice.times(n, behaviour.wrong);
                let (failing, slow, nan) = (dice.times(n, behaviour.failing), dice.times(n, behaviour.slow), dice.times(n, behaviour.nan));
                let count = |pod: &mut Pod, key, n: u32| {
                    if n > 0 || pod.values.contains_key(key) {
                        pod.add(key, f64::from(n));
                    }
                };
                count(pod, "right", n - wrong);
                let unseen = dice.some(wrong, behaviour.unlabelled);
                count(pod, "wrong", wrong - unseen);
                count(pod, "requests", n);
                count(pod, "errors", failing);
                count(pod, "fast", n - slow);
                let crawling = dice.some(slow, behaviour.crawling);
                count(pod, "quarter", n - crawling);
                count(pod, "all", n);
                count(pod, "nan", nan);
                for (i, wrong) in regions.into_iter().flatten().enumerate() {
                    let n = if lost.contains(&(revision, REGIONS[i].0)) { 0 } else { dice.times(n, REGIONS[i].1) };
                    let wrong = dice.times(n, wrong[usize::from(revision == CANDIDATE)]);
                    let [right_key, wrong_key] = [["eu-right", "eu-wrong"], ["us-right", "us-wrong"], ["apac-right", "apac-wrong"]][i];
                    count(pod, right_key, n - wrong);
                    count(pod, wrong_key, wrong);
                }
                let mut left = (n, 1.0);
                for (key, share) in CLASSES.into_iter().zip(classes.into_iter().flatten()) {
                    let of_class = dice.times(left.0, (share / left.1).min(1.0));
                    left = (left.0 - of_class, (left.1 - share).max(1e-12));
                    count(pod, key, of_class);
                }
                if let Some([candidate, stable]) = pairs {
                    let candidate = dice.times(n, candidate);
                    let stable = dice.times(n - candidate, stable);
                    count(pod, "pairs-candidate", candidate);
                    count(pod, "pairs-stable", stable);
                    count(pod, "pairs-tied", n - candidate - stable);
                }
                let seconds = self.interval as f64 / 1000.0;
                let noise = 1.0 + 0.1 * (self.power.unit() - 0.5);
                pod.add("energy", (IDLE_WATTS * seconds + behaviour.joules * f64::from(n)) * noise * 1000.0);
                let watts = behaviour.watts + 2.0 * (dice.unit() - 0.5);
                if pod.values.contains_key("watts") {
                    pod.set("watts", watts);
                }
                pod.scrape(now - pod.offset);
                *gateway.entry(format!("ns_{revision}_80")).or_default() += f64::from(n);
            }
        }
    }

    pub fn arms(&self) -> Arms {
        let arm = |revision: &'static str| Arm {
            namespace: "ns".into(),
            revision: Some(RevisionId::new(revision)),
            pods: self.pods.iter().filter(|p| p.revision == revision).map(|p| p.name.clone()).collect(),
            backend: Some(format!("ns_{revision}_80")),
            young: self.young.clone(),
            matchers: self.matchers.clone(),
        };
        Arms { rollout: "digits".into(), candidate: arm(CANDIDATE), stable: arm(STABLE), baseline: None }
    }

    pub fn readings(&self, plan: &Plan) -> Readings {
        Evidence::queries(plan, &self.arms()).into_iter().map(|query| (query.clone(), self.answer(&query))).collect()
    }

    fn answer(&self, query: &Query) -> Reading {
        if !self.answers {
            return Reading::Failed(Unmeasurable::Unavailable { message: "connection refused".into() });
        }
        let (metric, matchers) = parse(query.as_str());
        let matching = |series: &Series| matchers.iter().all(|m| m.allows(series.labels.get(&m.label).map_or("", String::as_str)));
        let all = self.series(&metric);
        Reading::Series(all.into_iter().filter(|s| matching(s)).map(Arc::new).collect())
    }

    fn series(&self, metric: &str) -> Vec<Series> {
        if metric == "envoy_cluster_upstream_rq" {
            let labels = |backend: &str| [("envoy_cluster_name".to_owned(), backend.to_owned()), ("pod".into(), "envoy-0".into())];
            let sample = |value: f64| vec![Sample { at: self.now, value }];
            return self.gateway.iter().map(|(k, v)| Series { labels: Arc::new(labels(k).into()), samples: sample(*v) }).collect();
        }
        let mut found = Vec::new();
        for pod in self.pods.iter().filter(|p| p.alive) {
            for ((name, cohort), (_, samples)) in pod.dated.iter().filter(|((name, _), _)| *name == metric) {
                let labels = [
                    ("__name__", *name),
                    ("namespace", "ns"),
                    ("pod", pod.name.as_str()),
                    ("espalier_dev_revision", pod.revision),
                    ("espalier_dev_rollout", "digits"),
                    ("cohort", cohort.as_str()),
                ];
                let labels: BTreeMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
                found.push(Series { labels: labels.into(), samples: samples.clone() });
            }
            for (key, name, extra) in SERIES.iter().filter(|(_, name, _)| *name == metric) {
                let Some(samples) = pod.history.get(key) else { continue };
                if *key == "energy" && pod.device == Device::Unknown {
                    continue;
                }
                let mut labels: BTreeMap<String, String> = extra.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
                for (label, value) in [
                    ("__name__", *name),
                    ("namespace", "ns"),
                    ("pod", pod.name.as_str()),
                    ("job", "digits"),
                    ("instance", "10.0.0.1:8080"),
                    ("espalier_dev_revision", pod.revision),
                    ("espalier_dev_rollout", "digits"),
                ] {
                    labels.insert(label.into(), value.into());
                }
                if *name == "gpu_energy_total" {
                    // An exporter that serves many pods.
                    labels.retain(|label, _| !label.starts_with("espalier"));
                    let pods = [("exported_pod", pod.name.as_str()), ("exported_namespace", "ns"), ("pod", "exporter-0")];
                    labels.extend(pods.map(|(label, value)| (label.to_owned(), value.to_owned())));
                    if let Device::Named(device) = &pod.device {
                        labels.insert("UUID".into(), device.clone());
                    }
                }
                if *name == "pairs_total" {
                    labels.insert("candidate_revision".into(), pod.revision.into());
                }
                found.push(Series { labels: labels.clone().into(), samples: samples.clone() });
                if pod.doubled {
                    labels.insert("job".into(), "digits-again".into());
                    found.push(Series { labels: labels.into(), samples: samples.clone() });
                }
            }
        }
        found
    }
}

struct Matcher {
    label: String,
    op: String,
    value: String,
}

impl Matcher {
    fn allows(&self, found: &str) -> bool {
        match self.op.as_str() {
            "=" => found == self.value,
            "!=" => found != self.value,
            "=~" => self.value.split('|').any(|v| v == found),
            other => panic!("operator {other}"),
        }
    }
}

fn parse(query: &str) -> (String, Vec<Matcher>) {
    let (metric, rest) = query.split_once('{').unwrap();
    let matchers = rest.trim_end_matches('}').split("\",").filter(|m| !m.is_empty()).map(|m| {
        let (head, value) = m.split_once('"').unwrap();
        let op = ["=~", "!=", "="].into_iter().find(|op| head.ends_with(op)).unwrap();
        Matcher { label: head.trim_end_matches(op).into(), op: op.into(), value: value.trim_end_matches('"').into() }
    });
    (metric.into(), matchers.collect())
}
