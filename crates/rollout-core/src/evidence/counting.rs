//! Counts of one arm since the last instant, per target: resets, births, gaps and seconds of reporting pods.
//! The differencing itself is `anytime_stats::counters`; this file feeds it and names what cannot be measured.

use std::collections::BTreeSet;

use anytime_stats::Tally;
use anytime_stats::counters::{Arm as Half, TargetSample, TargetWindows, Unmeasurable as Uncountable};
use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use super::query::{By, Sought, count_sought};
use super::scatter::first_half;
use super::series::Role;
use super::sift::{Found, Scope, Sifted, targets};
use crate::plan::{CountSource, Guardrail};
use crate::verdict::Unmeasurable;

/// Start time given to pods that were created within the attempt: later than any instant, so that their counters count from 0 at first sight.
const WITHIN_THE_ATTEMPT: f64 = 1e15;
/// Targets remembered; above it, those that are gone are forgotten.
const MOST_TARGETS: usize = 512;

/// Counters of one arm as last seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ArmCounter {
    #[serde(rename = "w")]
    windows: TargetWindows,
    /// Instant of the last sample per target in milliseconds, when seconds are what is counted.
    #[serde(rename = "s", default, skip_serializing_if = "LiteMap::is_empty")]
    reported: LiteMap<String, i64>,
    /// Newest sample ever read, in milliseconds.
    #[serde(rename = "n")]
    newest: Option<i64>,
    /// Targets that were read once and do not exist any more.
    #[serde(rename = "g", default)]
    gone: usize,
}

/// What an arm counted since the last instant.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ArmCount {
    /// By halves of its targets; together they are the arm.
    pub halves: (Tally, Tally),
    /// Targets with a fresh sample.
    pub targets: usize,
    /// Whether any series of bad events exists.
    pub bad_exists: bool,
    /// Whether a pod that still exists and was read before could not be read now.
    pub incomplete: bool,
    /// Whether something that a target counted since the last instant is not known: it began anew, is gone, or was not seen before.
    pub cut: bool,
    /// What is wrong with one of its targets; its increase is charged when it is well again.
    pub problem: Option<Unmeasurable>,
}

impl ArmCount {
    /// Whether everything that is known of the arm was read.
    pub(super) fn is_whole(&self) -> bool {
        !self.incomplete && self.problem.is_none()
    }

    pub(super) fn tally(&self) -> Tally {
        let mut sum = self.halves.0;
        sum += self.halves.1;
        sum
    }
}

/// What is counted: a guardrail's two sides.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    pub guardrail: &'a Guardrail,
    pub bad: &'a CountSource,
    pub total: &'a CountSource,
}

/// One target's raw counters.
struct Raw<'a> {
    target: &'a str,
    bad: Option<f64>,
    total: f64,
    /// Milliseconds.
    at: i64,
}

impl ArmCounter {
    /// Nothing seen since `started` (unix milliseconds).
    pub(super) fn new(started: i64) -> Self {
        let mut windows = TargetWindows::new();
        windows.observe(started as f64, &[]);
        Self { windows, reported: LiteMap::new(), newest: None, gone: 0 }
    }

    /// Counts both sides of a guardrail on the arm of `role`.
    pub(super) fn count(&mut self, scope: &Scope<'_>, sides: &Sides<'_>, role: Role) -> Result<ArmCount, Unmeasurable> {
        let bad_sought = count_sought(sides.guardrail, sides.bad, sides.total);
        let total_sought = count_sought(sides.guardrail, sides.total, sides.bad);
        let bad = bad_sought.as_ref().map(|sought| scope.sift(sought, role)).transpose()?.and_then(fresh);
        let pods;
        let total = if let Some(sought) = &total_sought {
            match scope.sift(sought, role)? {
                Sifted::Fresh(found) => Some(found),
                // A part of the traffic may not have reached this arm yet; whether the arm reports is asked of the whole.
                Sifted::Stale { .. } | Sifted::Absent { .. } if scope.part.is_some() => None,
                Sifted::Stale { query, age } => return Err(scope.stale(query, role, age)),
                Sifted::Absent { query } => return Err(scope.absent(query, role, self.newest)),
            }
        } else {
            pods = reporting(scope, sides.guardrail, role);
            pods
        };
        let seconds = total_sought.is_none();
        if seconds && bad.is_none() && total.is_none() {
            let query = bad_sought.map_or_else(|| "up".to_owned(), |s| s.name());
            return Err(scope.absent(query, role, self.newest));
        }
        let mut raws = Vec::new();
        let names = if seconds { targets(total.as_ref(), bad.as_ref()) } else { targets(total.as_ref(), None) };
        for target in names {
            if let Some(raw) = read(scope, sides, target, bad.as_ref(), total.as_ref(), seconds)? {
                raws.push(raw);
            }
        }
        self.fill(scope, role, &mut raws);
        let young = &scope.arms.of(role)?.young;
        let mut count = self.difference(scope, &raws, young, role);
        if seconds {
            self.charge_seconds(&raws, &mut count);
        } else if sides.guardrail.maturity.is_none() {
            // What comes late is about requests of another time.
            check(&count, role)?;
        }
        count.bad_exists = bad.is_some();
        Ok(count)
    }

    /// A counter of the same arm for a part of the traffic that is first seen now: what this one knows of the arm's targets had nothing of it so far.
    pub(super) fn part(&self, started: i64) -> Self {
        let mut part = Self::new(started);
        let nothing =
            |target: &str| TargetSample { arm: Half::Champion, target: target.to_owned(), start_time: None, total: Some(0.0), bad: None };
        let nothing: Vec<TargetSample> = self.windows.targets().map(nothing).collect();
        part.windows.observe(self.windows.previous_instant().unwrap_or(started as f64), &nothing);
        part
    }

    /// A target that reports the whole but never reported this part has counted nothing of it: what appears there later counts from 0. One that did
    /// report it is left out while it does not, like any gap.
    fn fill<'a>(&self, scope: &Scope<'a>, role: Role, raws: &mut Vec<Raw<'a>>) {
        let Some(present) = scope.part.and_then(|part| part.present.get(&role)) else { return };
        for target in present.iter().copied() {
            if !self.windows.contains(target) && !raws.iter().any(|raw| raw.target == target) {
                raws.push(Raw { target, bad: None, total: 0.0, at: scope.instant });
            }
        }
    }

    /// Counts one counter alone: the total is what it moved by.
    pub(super) fn count_one(&mut self, scope: &Scope<'_>, sought: &Sought<'_>, role: Role) -> Result<ArmCount, Unmeasurable> {
        let found = match scope.sift(sought, role)? {
            Sifted::Fresh(found) => found,
            Sifted::Stale { query, age } => return Err(scope.stale(query, role, age)),
            Sifted::Absent { query } => return Err(scope.absent(query, role, self.newest)),
        };
        let mut raws = Vec::new();
        for target in found.targets.keys().copied() {
            let Some(at) = found.taken_at(target, scope.instant) else { continue };
            if let Some(total) = found.sum(target, at)? {
                raws.push(Raw { target, bad: None, total, at });
            }
        }
        // A gateway's pods are older than any attempt.
        let none = BTreeSet::new();
        let young = if matches!(sought.by, By::Backend(_)) { &none } else { &scope.arms.of(role)?.young };
        Ok(self.difference(scope, &raws, young, role))
    }

    fn difference(&mut self, scope: &Scope<'_>, raws: &[Raw<'_>], young: &BTreeSet<String>, role: Role) -> ArmCount {
        let half = first_half(raws.iter().map(|raw| raw.target));
        let from_zero = scope.part.is_some_and(|part| part.from_zero);
        let samples: Vec<TargetSample> = raws
            .iter()
            .map(|raw| TargetSample {
                arm: if half.contains(raw.target) { Half::Champion } else { Half::Candidate },
                target: raw.target.to_owned(),
                start_time: (from_zero || young.contains(raw.target)).then_some(WITHIN_THE_ATTEMPT),
                total: Some(raw.total),
                bad: raw.bad,
            })
            .collect();
        let counted = self.windows.observe(scope.instant as f64, &samples).unwrap_or_default();
        self.newest = self.newest.max(raws.iter().map(|raw| raw.at).max());
        let problem = counted.unmeasurable.into_iter().find_map(|problem| match problem {
            // A bad event may be counted an instant before its request is; `check` allows for that.
            Uncountable::BadAboveTotal(_) => None,
            Uncountable::Duplicate(target) => Some(Unmeasurable::Duplicate { query: "a counter".into(), target }),
            Uncountable::BadSeriesMissing(target) => {
                let query = "the series of bad events that was there before".into();
                Some(Unmeasurable::NoSeries { query, arm: format!("{} ({target})", role.word()) })
            }
            Uncountable::Undefined(target) => Some(Unmeasurable::NotANumber { query: "a counter".into(), target }),
        });
        let read: BTreeSet<&str> = raws.iter().map(|raw| raw.target).collect();
        let existing = scope.arms.of(role).map(|arm| &arm.pods).ok();
        let (mut incomplete, mut gone, crowded) = (false, 0, self.windows.len() > MOST_TARGETS);
        self.windows.retain(|target| {
            let missing = !read.contains(target);
            let exists = existing.is_some_and(|pods| pods.contains(target));
            incomplete |= missing && exists;
            gone += usize::from(missing && !exists);
            !(missing && crowded)
        });
        let cut = counted.cut > 0 || gone > self.gone;
        self.gone = if crowded { 0 } else { gone };
        ArmCount {
            halves: (counted.counts.champion, counted.counts.candidate),
            targets: raws.len(),
            bad_exists: false,
            incomplete,
            cut,
            problem,
        }
    }

    /// Puts seconds of reporting pods in the place of the totals.
    fn charge_seconds(&mut self, raws: &[Raw<'_>], count: &mut ArmCount) {
        let half = first_half(raws.iter().map(|raw| raw.target));
        (count.halves.0.total, count.halves.1.total) = (0.0, 0.0);
        for raw in raws {
            let before = self.reported.insert(raw.target.to_owned(), raw.at).unwrap_or(raw.at);
            let seconds = (raw.at - before).max(0) as f64 / 1000.0;
            let side = if half.contains(raw.target) { &mut count.halves.0 } else { &mut count.halves.1 };
            side.total += seconds;
        }
        if self.reported.len() > MOST_TARGETS {
            self.reported.retain(|target, _| raws.iter().any(|raw| raw.target == *target));
        }
    }
}

fn fresh(sifted: Sifted<'_>) -> Option<Found<'_>> {
    match sifted {
        Sifted::Fresh(found) => Some(found),
        Sifted::Stale { .. } | Sifted::Absent { .. } => None,
    }
}

/// Pods whose scrape works; only where a guardrail counts on the pods' own metrics.
fn reporting<'a>(scope: &Scope<'a>, guardrail: &Guardrail, role: Role) -> Option<Found<'a>> {
    if guardrail.pod_label.is_some() {
        return None;
    }
    let mut found = scope.sift(&Sought::UP, role).ok().and_then(fresh)?;
    found.targets.retain(|_, series| series.iter().any(|s| s.newest(scope.instant).is_some_and(|sample| sample.value > 0.0)));
    Some(found)
}

/// Both sides of one target as of the same scrape: the older of the two newest samples, so that no side runs ahead.
fn read<'a>(
    scope: &Scope<'_>,
    sides: &Sides<'_>,
    target: &'a str,
    bad: Option<&Found<'_>>,
    total: Option<&Found<'_>>,
    seconds: bool,
) -> Result<Option<Raw<'a>>, Unmeasurable> {
    let taken = [bad, total].into_iter().flatten().filter_map(|found| found.taken_at(target, scope.instant));
    let Some(at) = taken.min() else { return Ok(None) };
    let bad = bad.map(|found| side(found, sides.bad, target, at)).transpose()?.flatten();
    if seconds {
        // Only the events are differenced; their seconds are charged apart, because a restart of the process does not restart the clock.
        return Ok(Some(Raw { target, bad, total: at as f64 / 1000.0, at }));
    }
    let total = total.map(|found| side(found, sides.total, target, at)).transpose()?.flatten();
    Ok(total.map(|total| Raw { target, bad, total, at }))
}

fn side(found: &Found<'_>, source: &CountSource, target: &str, at: i64) -> Result<Option<f64>, Unmeasurable> {
    match source {
        CountSource::Above { edge, .. } => found.above(target, *edge, at),
        CountSource::Observations(_) if found.suffix == "_bucket" => found.observations(target, at),
        CountSource::Counter(_) | CountSource::Observations(_) | CountSource::PodSeconds => found.sum(target, at),
    }
}

/// More bad events than events, beyond one that each target may have counted an instant early.
fn check(count: &ArmCount, role: Role) -> Result<(), Unmeasurable> {
    let tally = count.tally();
    if tally.bad > tally.total + count.targets.max(1) as f64 {
        return Err(Unmeasurable::Impossible { bad: tally.bad.to_string(), total: tally.total.to_string(), target: role.word().into() });
    }
    Ok(())
}
