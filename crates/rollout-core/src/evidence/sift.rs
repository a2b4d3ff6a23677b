//! Picks an arm's series out of shared answers and reads them per target at one instant: raw counters, gauges, buckets of a histogram.
//! Every way in which an answer can be unusable ends here with its own reason. Keeps no state and counts nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::query::{By, REVISION_LABEL, ROLLOUT_LABEL, Sought, Via};
use super::series::{Arm, Arms, Reading, Readings, Role, Series};
use crate::plan::Direction;
use crate::verdict::Unmeasurable;

/// Labels that say how a series was scraped, not what it measures: two series of one pod that differ only here are the same measurement twice.
const SCRAPE_LABELS: [&str; 8] = ["__name__", "job", "instance", "endpoint", "service", "prometheus", "prometheus_replica", "replica"];

/// Numbers beyond this are no counts of anything; an `f64` holds whole numbers exactly up to here.
const MOST: f64 = 9_007_199_254_740_992.0;

/// What every reading at one instant needs.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub arms: &'a Arms,
    pub readings: &'a Readings,
    /// Unix milliseconds.
    pub instant: i64,
    /// Oldest accepted age of a sample in milliseconds.
    pub limit: i64,
    /// The part of the traffic that is read; `None` for all of it.
    pub part: Option<Part<'a>>,
}

/// A part of the traffic: the series with some values of a label.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub label: &'a str,
    pub pick: Pick<'a>,
    /// Targets that report the whole, per arm: where a part is missing there, nothing of it happened yet.
    pub present: &'a BTreeMap<Role, BTreeSet<&'a str>>,
    /// Whether all that its counters hold happened within the attempt, as with a cohort that began in it.
    pub from_zero: bool,
}

/// Which values of the label.
#[derive(Clone, Copy)]
pub(super) enum Pick<'a> {
    /// One value.
    Only(&'a str),
    /// Every value that has no part of its own.
    Except(&'a BTreeSet<&'a str>),
}

impl Part<'_> {
    fn holds(&self, series: &Series) -> bool {
        let found = series.label(self.label);
        match self.pick {
            Pick::Only(value) => found == value,
            Pick::Except(named) => !named.contains(found),
        }
    }
}

/// An arm's fresh series of one metric, by target; never empty.
pub(super) struct Found<'a> {
    pub query: &'a str,
    /// What followed the metric name.
    pub suffix: &'static str,
    pub targets: BTreeMap<&'a str, Vec<&'a Series>>,
}

/// What an answer holds for an arm.
pub(super) enum Sifted<'a> {
    Fresh(Found<'a>),
    /// There are series, but their newest sample is this old.
    Stale {
        query: String,
        age: i64,
    },
    /// No series at all.
    Absent {
        query: String,
    },
}

impl<'a> Scope<'a> {
    /// The series of `sought` for the arm of `role`.
    pub(super) fn sift(&self, sought: &Sought<'_>, role: Role) -> Result<Sifted<'a>, Unmeasurable> {
        let arm = self.arms.of(role)?;
        let Some(query) = sought.query(arm) else { return Ok(Sifted::Absent { query: sought.name() }) };
        let (query, series) = match self.readings.get_key_value(&query) {
            Some((query, Reading::Series(series))) => (query.as_str(), series),
            Some((_, Reading::Failed(reason))) => return Err(reason.clone()),
            None => return Err(Unmeasurable::Unavailable { message: format!("{query} was not asked") }),
        };
        let mut targets: BTreeMap<&str, Vec<&Series>> = BTreeMap::new();
        let mut newest: Option<i64> = None;
        // The part first: with many slices most series are in another one.
        let wanted = |s: &Series| self.part.is_none_or(|part| part.holds(s)) && belongs(s, arm, &self.arms.rollout, sought.by);
        for series in series.iter().filter(|s| wanted(s)) {
            let Some(sample) = series.newest(self.instant) else { continue };
            newest = newest.max(Some(sample.at));
            if self.instant - sample.at <= self.limit {
                self.refuse_shared(series, query, sought.by, role)?;
                targets.entry(target(series, sought.by)).or_default().push(series);
            }
        }
        if targets.is_empty() {
            return Ok(match newest {
                Some(at) => Sifted::Stale { query: query.to_owned(), age: (self.instant - at) / 1000 },
                None => Sifted::Absent { query: query.to_owned() },
            });
        }
        for (target, series) in &mut targets {
            self.once_each(query, target, series)?;
        }
        Ok(Sifted::Fresh(Found { query, suffix: sought.suffix, targets }))
    }

    /// Fresh series, or the reason why there are none.
    pub(super) fn fresh(&self, sought: &Sought<'_>, role: Role) -> Result<Found<'a>, Unmeasurable> {
        self.fresh_or_gone(sought, role, None)
    }

    /// The same for who has seen some before, the `newest` of them then.
    pub(super) fn fresh_or_gone(&self, sought: &Sought<'_>, role: Role, newest: Option<i64>) -> Result<Found<'a>, Unmeasurable> {
        match self.sift(sought, role)? {
            Sifted::Fresh(found) => Ok(found),
            Sifted::Stale { query, age } => Err(self.stale(query, role, age)),
            Sifted::Absent { query } => Err(self.absent(query, role, newest)),
        }
    }

    /// Calls `see` with target and value of `label` for every fresh series of `sought` on the arm of `role`.
    pub(super) fn each_value(&self, sought: &Sought<'_>, role: Role, label: &str, mut see: impl FnMut(&'a str, &'a str)) {
        let Ok(arm) = self.arms.of(role) else { return };
        let Some(Reading::Series(series)) = sought.query(arm).and_then(|query| self.readings.get(&query)) else { return };
        for series in series.iter().filter(|s| belongs(s, arm, &self.arms.rollout, sought.by)) {
            if series.newest(self.instant).is_some_and(|sample| self.instant - sample.at <= self.limit) {
                see(target(series, sought.by), series.label(label));
            }
        }
    }

    /// Calls `see` with every fresh series in the answer to `sought`, and whether it is one of the arm of `role`.
    pub(super) fn each_fresh(&self, sought: &Sought<'_>, role: Role, mut see: impl FnMut(&'a Series, bool)) {
        let Ok(arm) = self.arms.of(role) else { return };
        let Some(Reading::Series(series)) = sought.query(arm).and_then(|query| self.readings.get(&query)) else { return };
        for series in series {
            if series.newest(self.instant).is_some_and(|sample| self.instant - sample.at <= self.limit) {
                see(series, belongs(series, arm, &self.arms.rollout, sought.by));
            }
        }
    }

    pub(super) fn stale(&self, query: String, role: Role, age: i64) -> Unmeasurable {
        Unmeasurable::Stale { query, arm: role.word().into(), age, limit: self.limit / 1000 }
    }

    /// No series: those that were there and left the answer are stale since the `newest` of them, however long ago that is.
    pub(super) fn absent(&self, query: String, role: Role, newest: Option<i64>) -> Unmeasurable {
        match newest {
            Some(newest) => self.stale(query, role, (self.instant - newest) / 1000),
            None => Unmeasurable::NoSeries { query, arm: role.word().into() },
        }
    }

    /// Refuses what the user's labels pick out for both arms: with it, a candidate would be compared with itself. A baseline may be on trial
    /// once more.
    fn refuse_shared(&self, series: &Series, query: &str, by: By<'_>, role: Role) -> Result<(), Unmeasurable> {
        let Arms { rollout, candidate, stable, .. } = self.arms;
        let (own, other) = match role {
            Role::Candidate => (candidate, stable),
            Role::Stable => (stable, candidate),
            Role::Baseline => return Ok(()),
        };
        let labelled = |arm: &Arm| matches!(Via::of(arm), Via::Matchers);
        let concerned = matches!(by, By::Target) && (labelled(own) || labelled(other));
        if concerned && belongs(series, other, rollout, by) {
            return Err(Unmeasurable::Shared { query: query.into(), target: target(series, by).into() });
        }
        Ok(())
    }

    /// Refuses two scrapes of one target. A series that ended before its twin began is its predecessor (the pod moved), and only the twin is kept.
    fn once_each(&self, query: &str, target: &str, series: &mut Vec<&Series>) -> Result<(), Unmeasurable> {
        if series.len() < 2 {
            return Ok(());
        }
        let mut kept: BTreeMap<Vec<(&str, &str)>, &Series> = BTreeMap::new();
        for one in series.iter().copied() {
            let identity: Vec<_> =
                one.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).filter(|(k, _)| !SCRAPE_LABELS.contains(k)).collect();
            let Some(other) = kept.get(&identity).copied() else {
                kept.insert(identity, one);
                continue;
            };
            let (older, newer) = if first_at(one) < first_at(other) { (one, other) } else { (other, one) };
            if older.newest(self.instant).map(|s| s.at) >= first_at(newer) {
                return Err(Unmeasurable::Duplicate { query: query.into(), target: target.into() });
            }
            kept.insert(identity, newer);
        }
        *series = kept.into_values().collect();
        Ok(())
    }
}

fn first_at(series: &Series) -> Option<i64> {
    series.samples.first().map(|s| s.at)
}

fn target<'a>(series: &'a Series, by: By<'_>) -> &'a str {
    if let By::PodLabel(label) = by {
        return series.label(label);
    }
    let pod = series.label("pod");
    if pod.is_empty() { series.label("instance") } else { pod }
}

fn belongs(series: &Series, arm: &Arm, rollout: &str, by: By<'_>) -> bool {
    // A label that is not there cannot contradict.
    let agrees = |label: &str, value: &str| series.labels.get(label).is_none_or(|found| found == value);
    match by {
        By::Revision(label) => arm.revision.as_ref().is_some_and(|revision| series.label(label) == revision.as_str()),
        By::Backend(label) => arm.backend.as_deref().is_some_and(|backend| series.label(label) == backend),
        By::PodLabel(label) => {
            let namespace = if label.starts_with("exported_") { "exported_namespace" } else { "namespace" };
            arm.pods.contains(series.label(label)) && agrees(namespace, &arm.namespace)
        }
        By::Target => match Via::of(arm) {
            Via::Matchers => arm.matchers.iter().all(|(label, value)| series.label(label) == value),
            Via::Revision(revision) => {
                series.label(REVISION_LABEL) == revision.as_str() && agrees(ROLLOUT_LABEL, rollout) && agrees("namespace", &arm.namespace)
            }
            Via::Pods => arm.pods.contains(series.label("pod")) && agrees("namespace", &arm.namespace),
        },
    }
}

impl<'a> Found<'a> {
    /// Sums of `target`'s series at `instant` by the values of a label.
    pub(super) fn by_label(&self, target: &str, label: &str, instant: i64) -> Result<BTreeMap<&'a str, f64>, Unmeasurable> {
        let mut sums = BTreeMap::new();
        for series in self.targets.get(target).into_iter().flatten() {
            if let Some(sample) = series.newest(instant) {
                *sums.entry(series.label(label)).or_insert(0.0) += self.finite(target, sample.value)?;
            }
        }
        Ok(sums)
    }
}

impl Found<'_> {
    /// When the newest sample of `target` was taken.
    pub(super) fn taken_at(&self, target: &str, instant: i64) -> Option<i64> {
        self.targets.get(target)?.iter().filter_map(|s| s.newest(instant)).map(|s| s.at).max()
    }

    /// Newest sample of all targets.
    pub(super) fn newest(&self, instant: i64) -> Option<i64> {
        self.targets.keys().filter_map(|target| self.taken_at(target, instant)).max()
    }

    /// Sum of `target`'s series at `instant`; `None` when it has none.
    pub(super) fn sum(&self, target: &str, instant: i64) -> Result<Option<f64>, Unmeasurable> {
        let Some(series) = self.targets.get(target) else { return Ok(None) };
        self.sum_of(target, series.iter().copied(), instant)
    }

    fn sum_of<'s>(&self, target: &str, series: impl Iterator<Item = &'s Series>, instant: i64) -> Result<Option<f64>, Unmeasurable> {
        let mut sum = None;
        for sample in series.filter_map(|s| s.newest(instant)) {
            *sum.get_or_insert(0.0) += self.finite(target, sample.value)?;
        }
        Ok(sum)
    }

    /// All observations of a histogram of `target`.
    pub(super) fn observations(&self, target: &str, instant: i64) -> Result<Option<f64>, Unmeasurable> {
        let series = self.targets.get(target).into_iter().flatten().copied();
        self.sum_of(target, series.filter(|s| edge_of(s) == f64::INFINITY), instant)
    }

    /// Observations of `target` above an edge of its histogram.
    pub(super) fn above(&self, target: &str, edge: f64, instant: i64) -> Result<Option<f64>, Unmeasurable> {
        let series = || self.targets.get(target).into_iter().flatten().copied();
        let at_edge = |s: &&Series| (edge_of(s) - edge).abs() <= 1e-9 * edge.abs();
        let (all, within) = (series().filter(|s| edge_of(s) == f64::INFINITY).count(), series().filter(at_edge).count());
        if within < all || all == 0 {
            return Err(self.no_such_edge(edge, series().map(edge_of)));
        }
        let below = self.sum_of(target, series().filter(at_edge), instant)?;
        Ok(self.observations(target, instant)?.zip(below).map(|(all, below)| all - below))
    }

    fn no_such_edge(&self, wanted: f64, edges: impl Iterator<Item = f64>) -> Unmeasurable {
        let (mut below, mut above) = (f64::NEG_INFINITY, f64::INFINITY);
        for edge in edges.filter(|e| (e - wanted).abs() > 1e-9 * wanted.abs()) {
            if edge < wanted {
                below = below.max(edge);
            } else if edge > wanted {
                above = above.min(edge);
            }
        }
        let text = |edge: f64| if edge == f64::NEG_INFINITY { "none".to_owned() } else { edge.to_string() };
        Unmeasurable::NoSuchEdge { histogram: self.query.to_owned(), wanted: wanted.to_string(), below: text(below), above: text(above) }
    }

    /// The newest value of every series.
    pub(super) fn values(&self, instant: i64) -> Result<Vec<f64>, Unmeasurable> {
        let mut values = Vec::new();
        for (target, series) in &self.targets {
            for sample in series.iter().filter_map(|s| s.newest(instant)) {
                values.push(self.finite(target, sample.value)?);
            }
        }
        Ok(values)
    }

    /// The worst value after `since`, or the newest where there is none, with its target.
    pub(super) fn worst(&self, direction: Direction, since: i64, instant: i64) -> Result<Option<(f64, &str)>, Unmeasurable> {
        let mut worst: Option<(f64, &str)> = None;
        for (target, series) in &self.targets {
            for samples in series.iter().map(|s| s.until(instant)) {
                let recent = samples.partition_point(|s| s.at <= since).min(samples.len().saturating_sub(1));
                for sample in samples.get(recent..).unwrap_or_default() {
                    let value = self.finite(target, sample.value)?;
                    if worst.is_none_or(|(so_far, _)| direction.is_beyond(value, so_far)) {
                        worst = Some((value, target));
                    }
                }
            }
        }
        Ok(worst)
    }

    /// A value that a counter can have.
    pub(super) fn defined(&self, target: &str, value: f64) -> Result<f64, Unmeasurable> {
        let value = self.finite(target, value)?;
        if value < 0.0 { Err(Unmeasurable::NotANumber { query: self.query.to_owned(), target: target.to_owned() }) } else { Ok(value) }
    }

    fn finite(&self, target: &str, value: f64) -> Result<f64, Unmeasurable> {
        let names = || (self.query.to_owned(), target.to_owned());
        if value.is_nan() {
            let (query, target) = names();
            Err(Unmeasurable::NotANumber { query, target })
        } else if value.abs() > MOST {
            let (query, target) = names();
            Err(Unmeasurable::Infinite { query, target })
        } else {
            Ok(value)
        }
    }
}

fn edge_of(series: &Series) -> f64 {
    // Rust reads "+Inf" as infinity; anything unreadable is no edge.
    series.label("le").parse().unwrap_or(f64::NAN)
}

/// Names of both sides' targets.
pub(super) fn targets<'a>(one: Option<&Found<'a>>, other: Option<&Found<'a>>) -> BTreeSet<&'a str> {
    one.into_iter().chain(other).flat_map(|found| found.targets.keys().copied()).collect()
}
