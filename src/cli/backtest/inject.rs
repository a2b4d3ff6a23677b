//! Makes a recorded candidate worse (or better) from an instant on: events of its counters are turned bad, added or taken away, by chance with a seed.
//! The same seed gives the same events; nothing of stable is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::evidence::{Sample, Series};
use rollout_core::plan::{CountSource, Guardrail, MatchOp, Plan, Selector, Test};
use rollout_core::quantity::DurationText;

use super::recording::Recording;
use super::scene::{Scene, target};

/// What is made worse, by how much, and when.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Injection {
    /// As it was typed.
    pub text: String,
    pub guardrail: String,
    change: Change,
    after: TimeDelta,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// To the share of bad events, as a fraction.
    Points(f64),
    /// Times as many bad events.
    Times(f64),
    /// To a gauge, in its unit, or to a counter.
    Amount(f64),
}

const FORM: &str = "NAME=CHANGE@TIME, where CHANGE is +5pp (share of bad events), 2x (times as many), +5 (to a gauge or tripwire), and TIME is after the start, such as 2h";

impl Injection {
    /// Reads `accuracy=+5pp@2h`.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let parts = || {
            let (guardrail, rest) = text.split_once('=')?;
            let (change, after) = rest.split_once('@')?;
            let change = change_of(change)?;
            Some((guardrail.to_owned(), change, DurationText::new(after).parse().ok()?))
        };
        let (guardrail, change, after) = parts().ok_or_else(|| format!("found \"{text}\", expected {FORM}"))?;
        Ok(Self { text: text.to_owned(), guardrail, change, after })
    }

    /// The scene with this change, and when it begins.
    pub(super) fn apply(&self, scene: Scene, plan: &Plan, start: DateTime<Utc>, seed: u64) -> Result<(Scene, DateTime<Utc>), String> {
        let refuse = |why: String| format!("--inject {}: {why}", self.text);
        let guardrail = plan.guardrails.iter().find(|guardrail| guardrail.name == self.guardrail).ok_or_else(|| {
            let names: Vec<&str> = plan.guardrails.iter().map(|guardrail| guardrail.name.as_str()).collect();
            refuse(format!("found no guardrail {}, expected one of {}", self.guardrail, names.join(", ")))
        })?;
        let at = start + self.after;
        if at.timestamp_millis() >= scene.span.1 {
            return Err(refuse(format!(
                "begins at {}, after the recording's end at {}",
                at.format("%F %T"),
                scene.times().1.format("%F %T")
            )));
        }
        let changed = match (&guardrail.test, self.change) {
            (Test::Counts { bad, total, .. }, Change::Points(_) | Change::Times(_)) => self.counts(scene, bad, total, at, seed),
            (Test::Level { series, .. } | Test::Limit { series, .. }, Change::Amount(amount)) => {
                gauge(scene, guardrail, series, amount, at)
            }
            (Test::Tripwire { series }, Change::Amount(amount)) => gauge(scene, guardrail, series, amount, at),
            (Test::Counts { .. }, Change::Amount(_)) => Err("it counts events, expected a change such as +5pp or 2x".to_owned()),
            (Test::Level { .. } | Test::Limit { .. } | Test::Tripwire { .. }, _) => {
                Err("it is no share of events, expected an amount such as +5".to_owned())
            }
            (Test::Paired(_) | Test::Gap(_) | Test::Drift(_) | Test::Energy(_), _) => {
                Err("pairs, gaps between groups, drift and energy cannot be injected; inject a proportion".to_owned())
            }
        };
        changed.map(|scene| (scene, at)).map_err(refuse)
    }

    fn counts(&self, scene: Scene, bad: &CountSource, total: &CountSource, at: DateTime<Utc>, seed: u64) -> Result<Scene, String> {
        let (bad, edge) = match (bad, total) {
            (CountSource::Counter(bad), CountSource::Counter(_)) => (bad.clone(), None),
            (CountSource::Above { histogram, edge }, _) => {
                let metric = format!("{}_bucket", histogram.metric);
                (Selector { metric, matchers: histogram.matchers.clone() }, Some(*edge))
            }
            _ => return Err("events per second of a pod cannot be injected; inject a proportion".to_owned()),
        };
        let total = match (total, edge) {
            (CountSource::Counter(total), _) => total.clone(),
            _ => bad.clone(),
        };
        let recording = Recording::of(scene.series().filter(|series| Scene::is_of_candidate(series)).cloned());
        let events = Events::of(&recording, &bad, &total, edge)?;
        let share = events.share();
        let turn = match self.change {
            Change::Points(points) => points,
            Change::Times(times) => share * (times - 1.0),
            Change::Amount(_) => 0.0,
        };
        if !(0.0..=1.0).contains(&(share + turn)) {
            return Err(format!(
                "the recorded share of bad events is {:.2}%, so the changed one would not be between 0% and 100%",
                share * 100.0
            ));
        }
        let replaced = events.turned(turn, share, at.timestamp_millis(), seed);
        let mut left = replaced;
        let mut scene = scene.with_series(|series| left.remove(&series.labels).unwrap_or(series));
        // Series that only the injection made.
        if !left.is_empty() {
            scene = scene.with_more(left.into_values());
        }
        Ok(scene)
    }
}

fn change_of(text: &str) -> Option<Change> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    if let Some(points) = text.strip_suffix("pp") {
        return number(points).filter(|points| *points != 0.0).map(|points| Change::Points(points / 100.0));
    }
    if let Some(times) = text.strip_suffix('x') {
        return number(times).filter(|times| *times >= 0.0).map(Change::Times);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    number(digits).filter(|amount| *amount != 0.0).map(Change::Amount)
}

/// Adds to a gauge or a counter of the candidate from `at` on.
fn gauge(scene: Scene, guardrail: &Guardrail, series: &Selector, amount: f64, at: DateTime<Utc>) -> Result<Scene, String> {
    let all = Recording::of(scene.series().cloned());
    let owned = |series: &Series| match &guardrail.pod_label {
        Some(label) => series.labels.get(label).is_some_and(|pod| scene.is_pod_of_candidate(pod)),
        None => Scene::is_of_candidate(series),
    };
    let chosen: Vec<Arc<BTreeMap<String, String>>> =
        all.select(series)?.iter().filter(|one| owned(one)).map(|one| one.labels.clone()).collect();
    if chosen.is_empty() {
        return Err(format!("the candidate has no series of {series}"));
    }
    let from = at.timestamp_millis();
    Ok(scene.with_series(|mut one| {
        if chosen.contains(&one.labels) {
            one.samples.iter_mut().filter(|sample| sample.at >= from).for_each(|sample| sample.value += amount);
        }
        one
    }))
}

/// The candidate's counters of one guardrail, by pod.
struct Events {
    pods: BTreeMap<String, Counters>,
}

#[derive(Default)]
struct Counters {
    /// Series that count bad events; for a histogram, those at and below the edge, which count good ones.
    bad: Vec<Series>,
    /// Series that are in the total and not bad.
    good: Vec<Series>,
    /// Series of the total.
    total: Vec<Series>,
    is_histogram: bool,
}

impl Events {
    fn of(recording: &Recording, bad: &Selector, total: &Selector, edge: Option<f64>) -> Result<Self, String> {
        let mut pods: BTreeMap<String, Counters> = BTreeMap::new();
        let bad_series = recording.select(bad)?;
        let same_metric = bad.metric == total.metric;
        let upper = |series: &Series| series.labels.get("le").and_then(|le| le.parse::<f64>().ok()).unwrap_or(f64::INFINITY);
        for one in recording.select(total)? {
            let pod = pods.entry(target(&one).to_owned()).or_default();
            pod.is_histogram = edge.is_some();
            match edge {
                Some(_) if upper(&one).is_finite() => {}
                None if same_metric && !bad_series.iter().any(|bad| bad.labels == one.labels) => {
                    pod.good.push((*one).clone());
                    pod.total.push((*one).clone());
                }
                _ => pod.total.push((*one).clone()),
            }
        }
        for one in &bad_series {
            let pod = pods.entry(target(one).to_owned()).or_default();
            let counts = edge.is_none_or(|edge| upper(one) <= edge * (1.0 + 1e-9));
            if counts {
                pod.bad.push((**one).clone());
            }
        }
        pods.retain(|_, pod| !pod.total.is_empty());
        if pods.is_empty() {
            return Err(format!("the candidate has no series of {total}"));
        }
        // A pod without bad events has no series of them yet: it gets one like the total's, with the labels that make an event bad.
        for pod in pods.values_mut().filter(|pod| pod.bad.is_empty()) {
            let Some(first) = pod.total.first() else { continue };
            let mut labels = first.labels.as_ref().clone();
            labels.insert("__name__".into(), bad.metric.clone());
            for (label, op, value) in &bad.matchers {
                if *op != MatchOp::Equal {
                    return Err(format!(
                        "the candidate has no series of {bad} yet, and {label}{}\"{value}\" does not say how one would be labelled",
                        op.sign()
                    ));
                }
                labels.insert(label.clone(), value.clone());
            }
            let zeros = first.samples.iter().map(|sample| Sample { at: sample.at, value: 0.0 });
            pod.bad.push(Series { labels: labels.into(), samples: zeros.collect() });
        }
        Ok(Self { pods })
    }

    /// Recorded share of bad events, over all pods and the whole time.
    fn share(&self) -> f64 {
        let grown = |series: &[Series]| series.iter().map(|one| increments(one).map(|(_, n)| n).sum::<f64>()).sum::<f64>();
        let (mut bad, mut total) = (0.0, 0.0);
        for pod in self.pods.values() {
            let all = grown(&pod.total);
            let counted = if pod.is_histogram { all - grown(pod.edge()) } else { grown(&pod.bad) };
            (bad, total) = (bad + counted, total + all);
        }
        if total > 0.0 { (bad / total).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Every series that changes, by its labels.
    fn turned(self, turn: f64, share: f64, from: i64, seed: u64) -> BTreeMap<Arc<BTreeMap<String, String>>, Series> {
        let mut dice = Dice(seed);
        let mut changed = BTreeMap::new();
        for (_, pod) in self.pods {
            for series in pod.turned(turn, share, from, &mut dice) {
                changed.insert(series.labels.clone(), series);
            }
        }
        changed
    }
}

impl Counters {
    /// The bucket at the edge: the highest of those at or below it.
    fn edge(&self) -> &[Series] {
        let upper = |series: &Series| series.labels.get("le").and_then(|le| le.parse::<f64>().ok()).unwrap_or(f64::INFINITY);
        let highest = (0..self.bad.len()).max_by(|a, b| {
            let at = |i: &usize| self.bad.get(*i).map_or(0.0, upper);
            at(a).total_cmp(&at(b))
        });
        highest.and_then(|i| self.bad.get(i..=i)).unwrap_or_default()
    }

    /// Turns good events bad, or bad ones good where `turn` is negative, each with the chance that gives the wanted share.
    fn turned(mut self, turn: f64, share: f64, from: i64, dice: &mut Dice) -> Vec<Series> {
        let worse = turn > 0.0;
        if self.is_histogram {
            let Some(edge) = self.edge().first().cloned() else { return Vec::new() };
            let slow = self.total.first().map(|all| difference(all, &edge));
            let (source, chance) = if worse { (Some(&edge), turn / (1.0 - share)) } else { (slow.as_ref(), -turn / share) };
            let drawn = source.map(|source| Drawn::of(source, chance, from, dice)).unwrap_or_default();
            let moved = drawn.added_to(&edge, if worse { -1.0 } else { 1.0 });
            for bucket in &mut self.bad {
                // Whatever is in a lower bucket is in this one too.
                for (sample, most) in bucket.samples.iter_mut().zip(&moved.samples) {
                    sample.value = if bucket.labels == edge.labels { most.value } else { sample.value.min(most.value) };
                }
            }
            return self.bad;
        }
        let (from_series, to_series) = if worse { (&mut self.good, &mut self.bad) } else { (&mut self.bad, &mut self.good) };
        let chance = if worse { turn / (1.0 - share) } else { -turn / share };
        let mut gained: Vec<Drawn> = Vec::new();
        for series in from_series.iter_mut() {
            let drawn = Drawn::of(series, chance, from, dice);
            *series = drawn.added_to(series, -1.0);
            gained.push(drawn);
        }
        if worse && gained.is_empty() {
            gained.extend(self.total.iter().map(|total| Drawn::of(total, turn, from, dice)));
        }
        if let Some(first) = to_series.first_mut() {
            for drawn in &gained {
                *first = drawn.added_to(first, 1.0);
            }
        }
        self.bad.into_iter().chain(self.good).collect()
    }
}

/// Events that were drawn from a counter: their number since its last reset, at each of its samples.
#[derive(Default)]
struct Drawn(Vec<(i64, f64)>);

impl Drawn {
    fn of(series: &Series, chance: f64, from: i64, dice: &mut Dice) -> Self {
        let mut sum = 0.0;
        let steps = series.samples.windows(2).filter_map(|pair| if let [before, now] = pair { Some((before, now)) } else { None });
        Self(
            steps
                .map(|(before, now)| {
                    let reset = now.value < before.value;
                    let grown = if reset { now.value } else { now.value - before.value };
                    // After a restart the process knows nothing of what it had counted.
                    sum = if reset { 0.0 } else { sum };
                    sum += if now.at >= from { dice.of(grown, chance) } else { 0.0 };
                    (now.at, sum)
                })
                .collect(),
        )
    }

    fn added_to(&self, series: &Series, sign: f64) -> Series {
        let sum = |at: i64| {
            let known = self.0.partition_point(|(time, _)| *time <= at);
            known.checked_sub(1).and_then(|index| self.0.get(index)).map_or(0.0, |(_, sum)| *sum)
        };
        let samples = series.samples.iter().map(|s| Sample { at: s.at, value: (s.value + sign * sum(s.at)).max(0.0) });
        Series { labels: series.labels.clone(), samples: samples.collect() }
    }
}

/// What one counter has more than another, at the first one's samples.
fn difference(all: &Series, part: &Series) -> Series {
    let newest = |at: i64| {
        let known = part.samples.partition_point(|sample| sample.at <= at);
        known.checked_sub(1).and_then(|index| part.samples.get(index)).map_or(0.0, |sample| sample.value)
    };
    let samples = all.samples.iter().map(|s| Sample { at: s.at, value: (s.value - newest(s.at)).max(0.0) });
    Series { labels: all.labels.clone(), samples: samples.collect() }
}

/// Times and sizes of a counter's steps up; after a reset it counts from 0.
fn increments(series: &Series) -> impl Iterator<Item = (i64, f64)> {
    series.samples.windows(2).filter_map(|pair| match pair {
        [before, now] if now.value.is_finite() && before.value.is_finite() => {
            Some((now.at, if now.value >= before.value { now.value - before.value } else { now.value }))
        }
        _ => None,
    })
}

/// `SplitMix64` (Steele, Lea and Flood 2014): the same seed gives the same events on every machine.
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How many of `n` events with this chance each.
    fn of(&mut self, n: f64, chance: f64) -> f64 {
        // Counters grow by whole numbers far below the limit; the clamp bounds the work for one that does not.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = n.clamp(0.0, 1e7).round() as u64;
        (0..whole).filter(|_| self.unit() < chance).count() as f64
    }
}
