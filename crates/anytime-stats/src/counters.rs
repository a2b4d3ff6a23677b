//! From raw cumulative counters to counts per window: per target (pod), with births, resets, gaps and duplicates.
//! It reads no server and knows no query language; it never extrapolates, so counts stay whole numbers.
//!
//! Rules, each of which closed a way to a wrong decision:
//! * a target without a fresh sample contributes nothing; its whole increase, numerator and denominator together, counts in the window in which it reappears;
//! * a target seen for the first time counts from 0 if its process started after the previous instant, else it is only a baseline;
//! * a bad-event series that appears later on a target already seen counts from 0;
//! * a reset (start time changed, or any counter fell) makes *all* counters of the target count from 0;
//! * two targets of one identity, more bad than total, or a bad series that vanished make the window unmeasurable.

use std::collections::{BTreeMap, BTreeSet};

use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use crate::window::{Tally, Window};

/// Which arm a target serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Arm {
    /// Arm a.
    Champion,
    /// Arm b.
    Candidate,
}

impl std::fmt::Display for Arm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Champion => "champion",
            Self::Candidate => "candidate",
        })
    }
}

/// One target's raw counters at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetSample {
    /// Arm the target serves.
    pub arm: Arm,
    /// Identity that survives nothing but the target itself, such as a pod's uid.
    pub target: String,
    /// When the process started, in the unit of the instants; `None` when it does not say.
    pub start_time: Option<f64>,
    /// Cumulative trials; `None` when there is no fresh sample.
    pub total: Option<f64>,
    /// Cumulative bad events; `None` when the series does not exist (yet).
    pub bad: Option<f64>,
}

/// Why a window cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Unmeasurable {
    /// Two samples with one identity at the same instant.
    Duplicate(String),
    /// An arm counted more bad events than trials.
    BadAboveTotal(Arm),
    /// A target's bad series was there before and is missing now, although the target is fresh.
    BadSeriesMissing(String),
    /// A counter is negative or not a number.
    Undefined(String),
}

impl std::fmt::Display for Unmeasurable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Duplicate(target) => write!(f, "duplicate {target}"),
            Self::BadAboveTotal(arm) => write!(f, "{arm} bad>total"),
            Self::BadSeriesMissing(target) => write!(f, "bad series of {target} is missing"),
            Self::Undefined(target) => write!(f, "undefined counter of {target}"),
        }
    }
}

/// Counts between two instants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CountedWindow {
    /// Counts of both arms.
    pub counts: Window,
    /// Reasons for which the window must not be judged, in order and once each; empty when it may.
    pub unmeasurable: Vec<Unmeasurable>,
    /// Targets of which only a part of the increase is known: they began to count anew since they were seen last, or had counted before they were
    /// seen first.
    #[serde(default)]
    pub cut: usize,
}

/// What is remembered of a target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    start_time: Option<f64>,
    total: f64,
    bad: Option<f64>,
}

/// Differences raw counters between successive instants. The state is a checkpoint: it continues after a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetWindows {
    previous_instant: Option<f64>,
    /// Sorted by name. There are few of them in very many windows, and the nodes of a tree would be mostly empty.
    targets: LiteMap<String, Seen>,
}

impl TargetWindows {
    /// Nothing seen yet: the first instant only sets baselines.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes all samples of one instant and returns what was counted since the previous one; `None` at the first instant.
    pub fn observe(&mut self, instant: f64, samples: &[TargetSample]) -> Option<CountedWindow> {
        let previous = self.previous_instant;
        let mut window = CountedWindow::default();
        let duplicates = duplicates(samples);
        let mut problems: Vec<Unmeasurable> = duplicates.iter().map(|target| Unmeasurable::Duplicate((*target).to_owned())).collect();
        for sample in samples {
            let Some(total) = sample.total.filter(|_| !duplicates.contains(sample.target.as_str())) else { continue };
            match self.difference(previous, sample, total, &mut window.cut) {
                Ok(tally) => match sample.arm {
                    Arm::Champion => window.counts.champion += tally,
                    Arm::Candidate => window.counts.candidate += tally,
                },
                Err(problem) => problems.push(problem),
            }
        }
        for (arm, tally) in [(Arm::Champion, window.counts.champion), (Arm::Candidate, window.counts.candidate)] {
            if tally.bad > tally.total {
                problems.push(Unmeasurable::BadAboveTotal(arm));
            }
        }
        for problem in problems {
            if !window.unmeasurable.contains(&problem) {
                window.unmeasurable.push(problem);
            }
        }
        self.previous_instant = Some(instant);
        previous.map(|_| window)
    }

    fn difference(&mut self, previous: Option<f64>, sample: &TargetSample, total: f64, cut: &mut usize) -> Result<Tally, Unmeasurable> {
        let defined = |v: f64| v.is_finite() && v >= 0.0;
        if !defined(total) || !sample.bad.is_none_or(defined) {
            return Err(Unmeasurable::Undefined(sample.target.clone()));
        }
        let now = Seen { start_time: sample.start_time, total, bad: sample.bad };
        let Some(known) = self.targets.get_mut(sample.target.as_str()) else {
            self.targets.insert(sample.target.clone(), now);
            let born = matches!((previous, sample.start_time), (Some(instant), Some(start)) if start > instant);
            if born {
                return Ok(Tally::new(sample.bad.unwrap_or(0.0), total));
            }
            *cut += 1;
            return Ok(Tally::default());
        };
        let before = *known;
        let restarted = matches!((before.start_time, sample.start_time), (Some(then), Some(start)) if (start - then).abs() > 0.0)
            || total < before.total
            || matches!((before.bad, sample.bad), (Some(then), Some(bad)) if bad < then);
        if restarted {
            *cut += 1;
            *known = now;
            return Ok(Tally::new(sample.bad.unwrap_or(0.0), total));
        }
        if before.bad.is_some() && sample.bad.is_none() {
            // Counting trials without their outcomes would be good news made of a gap; both are charged when the series is back.
            return Err(Unmeasurable::BadSeriesMissing(sample.target.clone()));
        }
        *known = now;
        Ok(Tally::new(sample.bad.unwrap_or(0.0) - before.bad.unwrap_or(0.0), total - before.total))
    }

    /// The latest instant observed.
    pub fn previous_instant(&self) -> Option<f64> {
        self.previous_instant
    }

    /// Forgets targets that are known to be gone for good, so that the state stays small.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.targets.retain(|target, _| keep(target));
    }

    /// Names of the targets remembered, in order.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.targets.keys().map(String::as_str)
    }

    /// Whether a target is remembered.
    pub fn contains(&self, target: &str) -> bool {
        self.targets.contains_key(target)
    }

    /// Targets remembered.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// True when no target was seen.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
}

/// Targets with more than one fresh sample: none of them can be believed, so none is counted until one is left.
fn duplicates(samples: &[TargetSample]) -> BTreeSet<&str> {
    let mut seen = BTreeSet::new();
    samples.iter().filter(|s| s.total.is_some()).map(|s| s.target.as_str()).filter(|target| !seen.insert(*target)).collect()
}

/// Increments of single counters, summed per window, for one kind of count without arms.
///
/// `series` maps a name to its samples per instant (`None` = missing). `born` gives, for a series whose process started inside a window, the index of
/// the instant that ends this window: it then counts from 0. Otherwise a new series is only a baseline. The result has one entry per window.
pub fn series_increments(series: &BTreeMap<String, Vec<Option<f64>>>, born: &BTreeMap<String, usize>) -> Vec<f64> {
    let instants = series.values().map(Vec::len).max().unwrap_or(0);
    let mut increments = vec![0.0; instants.saturating_sub(1)];
    for (name, samples) in series {
        let mut before: Option<f64> = None;
        for (index, sample) in samples.iter().enumerate() {
            let Some(value) = *sample else { continue };
            let increment = match before {
                Some(then) if value >= then => value - then,
                Some(_) => value,
                None if born.get(name) == Some(&index) => value,
                None => 0.0,
            };
            before = Some(value);
            if let Some(slot) = index.checked_sub(1).and_then(|window| increments.get_mut(window)) {
                *slot += increment;
            }
        }
    }
    increments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(target: &str, start: f64, total: impl Into<Option<f64>>, bad: impl Into<Option<f64>>) -> TargetSample {
        TargetSample { arm: Arm::Candidate, target: target.into(), start_time: Some(start), total: total.into(), bad: bad.into() }
    }

    fn run(instants: &[&[TargetSample]]) -> Vec<CountedWindow> {
        let mut windows = TargetWindows::new();
        instants.iter().enumerate().filter_map(|(i, samples)| windows.observe(60.0 * i as f64, samples)).collect()
    }

    fn candidate(window: &CountedWindow) -> (f64, f64) {
        (window.counts.candidate.bad, window.counts.candidate.total)
    }

    #[test]
    fn an_increase_during_a_gap_is_charged_where_the_target_reappears() {
        let got = run(&[&[sample("p", -9.0, 10.0, 1.0)], &[sample("p", -9.0, None, None)], &[], &[sample("p", -9.0, 50.0, 21.0)]]);
        assert_eq!(got.iter().map(candidate).collect::<Vec<_>>(), [(0.0, 0.0), (0.0, 0.0), (20.0, 40.0)]);
        assert_eq!(got.iter().map(|window| window.cut).sum::<usize>(), 0);
    }

    #[test]
    fn what_a_target_counted_before_it_was_seen_first_is_known_to_be_missing() {
        let got = run(&[&[], &[sample("old", -9.0, 10.0, 1.0)], &[sample("old", -9.0, 20.0, 1.0), sample("born", 90.0, 5.0, 0.0)]]);
        assert_eq!(got.iter().map(|window| (candidate(window).1, window.cut)).collect::<Vec<_>>(), [(0.0, 1), (15.0, 0)]);
    }

    #[test]
    fn a_reset_of_one_counter_resets_all_of_the_target() {
        // Traffic doubled after the restart: only the bad counter fell.
        let got = run(&[&[sample("p", -9.0, 100.0, 10.0)], &[sample("p", -9.0, 150.0, 4.0)]]);
        assert_eq!((candidate(&got[0]), got[0].cut), ((4.0, 150.0), 1));
        let moved = run(&[&[sample("p", -9.0, 100.0, 10.0)], &[sample("p", 30.0, 150.0, 12.0)]]);
        assert_eq!(candidate(&moved[0]), (12.0, 150.0), "start time changed although no counter fell");
        let unborn = run(&[&[sample("p", -9.0, 100.0, 10.0)], &[sample("p", 30.0, 20.0, None)]]);
        assert_eq!(candidate(&unborn[0]), (0.0, 20.0), "after a restart the bad series need not exist");
        assert!(unborn[0].unmeasurable.is_empty());
    }

    #[test]
    fn a_fallen_total_is_a_reset_where_the_process_does_not_say_when_it_started() {
        let unknown = |total, bad| TargetSample { start_time: None, ..sample("p", 0.0, total, bad) };
        let got = run(&[&[unknown(100.0, 0.0)], &[unknown(30.0, 2.0)], &[unknown(40.0, 2.0)]]);
        assert_eq!(got.iter().map(candidate).collect::<Vec<_>>(), [(2.0, 30.0), (0.0, 10.0)]);
    }

    #[test]
    fn an_old_target_seen_first_is_only_a_baseline() {
        let got = run(&[&[], &[sample("old", -100.0, 500.0, 50.0), sample("new", 30.0, 5.0, 1.0)], &[sample("old", -100.0, 510.0, 50.0)]]);
        assert_eq!(got.iter().map(candidate).collect::<Vec<_>>(), [(1.0, 5.0), (0.0, 10.0)]);
    }

    #[test]
    fn a_vanished_bad_series_is_unmeasurable_and_charged_later() {
        let got = run(&[&[sample("p", -9.0, 100.0, 10.0)], &[sample("p", -9.0, 200.0, None)], &[sample("p", -9.0, 300.0, 40.0)]]);
        assert_eq!(got[0].unmeasurable, [Unmeasurable::BadSeriesMissing("p".into())]);
        assert_eq!(candidate(&got[0]), (0.0, 0.0));
        assert_eq!(candidate(&got[1]), (30.0, 200.0));
    }

    #[test]
    fn duplicates_and_impossible_counts_are_unmeasurable() {
        let twice = [sample("p", -9.0, 10.0, 1.0), sample("p", -9.0, 10.0, 1.0)];
        assert_eq!(run(&[&twice, &twice])[0].unmeasurable[0].to_string(), "duplicate p");
        let got = run(&[&[sample("p", -9.0, 10.0, 1.0)], &[sample("p", -9.0, 12.0, 9.0)]]);
        assert_eq!(got[0].unmeasurable, [Unmeasurable::BadAboveTotal(Arm::Candidate)]);
        let undefined = run(&[&[sample("p", -9.0, 10.0, 1.0)], &[sample("p", -9.0, f64::NAN, 9.0)]]);
        assert_eq!(undefined[0].unmeasurable, [Unmeasurable::Undefined("p".into())]);
    }

    #[test]
    fn the_state_continues_after_a_restart() {
        let mut windows = TargetWindows::new();
        windows.observe(0.0, &[sample("p", -9.0, 10.0, 1.0), sample("q", -9.0, 10.0, 1.0)]);
        let mut restored: TargetWindows = serde_json::from_str(&serde_json::to_string(&windows).unwrap()).unwrap();
        assert_eq!(windows, restored);
        assert_eq!(candidate(&restored.observe(60.0, &[sample("p", -9.0, 15.0, 2.0)]).unwrap()), (1.0, 5.0));
        assert_eq!((restored.len(), restored.is_empty()), (2, false));
        restored.retain(|_| false);
        assert!(restored.is_empty() && restored.previous_instant() == Some(60.0));
    }
}
