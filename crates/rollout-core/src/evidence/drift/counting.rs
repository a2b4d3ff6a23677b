//! The bins of a drift and their counts on one arm since the last instant, per target. Which bins there are depends on the series alone, never on counts.
//! Compares nothing.

use std::collections::BTreeMap;

use anytime_stats::Measure;
use anytime_stats::bin_counters::{BinSample, BinWindows};
use serde::{Deserialize, Serialize};

use super::super::query::Sought;
use super::super::scatter::first_half;
use super::super::series::Role;
use super::super::sift::{Found, Scope};
use crate::plan::{Drift, Guardrail};
use crate::verdict::Unmeasurable;

/// Bins in all; the values of a label beyond one less share the last one.
const MOST_BINS: usize = 64;
/// Longest value that is a bin of its own.
const LONGEST_VALUE: usize = 64;
/// Targets remembered; above it, those that are gone are forgotten.
const MOST_TARGETS: usize = 512;
/// How far the sum of recorded shares may be from 1.
const SHARES_SLACK: f64 = 0.02;

/// The bins by index, in the order in which they were first seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Bins {
    names: Vec<String>,
    /// Whether the last one is that of all other values.
    #[serde(default)]
    others: bool,
    /// Whether they are cumulative buckets.
    cumulative: bool,
    /// Whether their order matters.
    ordered: bool,
    /// Recorded shares by index, as last read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shares: Vec<f64>,
}

impl Bins {
    pub(super) fn new(drift: &Drift) -> Self {
        let ordered = drift.measure == Measure::KolmogorovSmirnov;
        Self { names: Vec::new(), others: false, cumulative: drift.is_histogram(), ordered, shares: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// The bin of a value; new ones are made while there is room.
    fn index(&mut self, value: &str) -> usize {
        // One edge may be written in two ways.
        let edge = if self.cumulative { value.parse::<f64>().ok().map(|edge| edge.to_string()) } else { None };
        let value = edge.as_deref().unwrap_or(value);
        let named = self.names.len() - usize::from(self.others);
        if let Some(index) = self.names.iter().take(named).position(|name| name == value) {
            return index;
        }
        if named < MOST_BINS - 1 && value.len() <= LONGEST_VALUE && !self.others {
            self.names.push(value.to_owned());
            return named;
        }
        if !self.others {
            self.others = true;
            self.names.push("all others".to_owned());
        }
        self.names.len() - 1
    }

    /// Why these bins cannot be what the measure needs.
    pub(super) fn problem(&self, drift: &Drift) -> Option<Unmeasurable> {
        let is_number = |name: &String| name.parse::<f64>().is_ok_and(|number| !number.is_nan());
        let message = if !self.ordered && !self.cumulative {
            return None;
        } else if self.others {
            format!("{} has more than {} values of {}, too many for bins in order", drift.bins, MOST_BINS - 1, drift.label)
        } else {
            let name = self.names.iter().find(|name| !is_number(name))?;
            format!("{} has {}=\"{name}\", but bins in order must be numbers", drift.bins, drift.label)
        };
        Some(Unmeasurable::NotComparable { message })
    }

    /// Values per bin in the order of the bins' numbers where that matters.
    pub(super) fn in_order(&self, values: &[f64]) -> Vec<f64> {
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        if self.ordered { self.order().into_iter().map(at).collect() } else { (0..self.len()).map(at).collect() }
    }

    fn order(&self) -> Vec<usize> {
        let number = |index: &usize| self.names.get(*index).and_then(|name| name.parse::<f64>().ok()).unwrap_or(f64::INFINITY);
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by(|a, b| number(a).total_cmp(&number(b)));
        order
    }

    /// What lies between cumulative buckets; other bins as they are.
    fn between(&self, counts: Vec<f64>) -> Vec<f64> {
        if !self.cumulative {
            return counts;
        }
        let (mut between, mut below) = (vec![0.0; counts.len()], 0.0);
        for index in self.order() {
            let upto = counts.get(index).copied().unwrap_or(below);
            if let Some(slot) = between.get_mut(index) {
                *slot = (upto - below).max(0.0);
            }
            below = upto.max(below);
        }
        between
    }

    /// Reads the recorded shares, where there are some.
    pub(super) fn read_shares(&mut self, scope: &Scope<'_>, guardrail: &Guardrail, drift: &Drift) -> Result<(), Unmeasurable> {
        let Some(recorded) = &drift.recorded else { return Ok(()) };
        let found = scope.fresh(&Sought::of(guardrail, recorded, ""), Role::Candidate)?;
        let mut sums: BTreeMap<usize, f64> = BTreeMap::new();
        for target in found.targets.keys().copied() {
            for (value, share) in found.by_label(target, &drift.label, scope.instant)? {
                if share < 0.0 {
                    let (found, expected) = (format!("{share} for {}=\"{value}\"", drift.label), "a share of 0 or more".to_owned());
                    return Err(Unmeasurable::WrongType { found, expected });
                }
                *sums.entry(self.index(value)).or_default() += share;
            }
        }
        let targets = found.targets.len().max(1) as f64;
        let shares = (0..self.len()).map(|bin| sums.get(&bin).copied().unwrap_or(0.0) / targets).collect();
        let shares = self.between(shares);
        let sum: f64 = shares.iter().sum();
        if (sum - 1.0).abs() > SHARES_SLACK {
            let end = if self.cumulative { "cumulative shares that end at 1" } else { "shares that sum to 1" };
            let (found, expected) = (format!("shares of {recorded} that come to {sum:.3}"), end.to_owned());
            return Err(Unmeasurable::WrongType { found, expected });
        }
        self.shares = shares;
        Ok(())
    }
}

/// Counters of one arm as last seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counter {
    #[serde(rename = "w")]
    windows: BinWindows,
    /// Newest sample ever read, in milliseconds.
    #[serde(rename = "n")]
    newest: Option<i64>,
}

/// Counts per bin since the last instant.
pub(super) struct Counted {
    /// By halves of the arm's targets.
    pub halves: (Vec<f64>, Vec<f64>),
    pub problem: Option<Unmeasurable>,
    /// Whether all targets have the same bins, where bins are cumulative.
    pub is_even: bool,
}

impl Counted {
    pub(super) fn sum(&self) -> Vec<f64> {
        let (a, b) = &self.halves;
        a.iter().zip(b).map(|(a, b)| a + b).collect()
    }
}

impl Counter {
    pub(super) fn count(
        &mut self,
        scope: &Scope<'_>,
        (guardrail, drift): (&Guardrail, &Drift),
        role: Role,
        bins: &mut Bins,
    ) -> Result<Counted, Unmeasurable> {
        let found = scope.fresh_or_gone(&Sought::of(guardrail, &drift.bins, ""), role, self.newest)?;
        let samples = self.samples(scope, &found, drift, role, bins)?;
        let counted = self.windows.observe(bins.len(), &samples);
        let crowded = self.windows.len() > MOST_TARGETS;
        self.windows.retain(|target| !crowded || found.targets.contains_key(target));
        let incomplete = counted.incomplete.as_ref().map(|target| Unmeasurable::NoSeries {
            query: format!("a bin of {} that was there before", found.query),
            arm: format!("{} ({target})", role.word()),
        });
        let undefined = counted.undefined.map(|target| Unmeasurable::NotANumber { query: found.query.to_owned(), target });
        let halves = (bins.between(counted.halves.0), bins.between(counted.halves.1));
        let uneven = uneven(&samples, bins, drift);
        let is_even = uneven.is_none();
        Ok(Counted { halves, problem: undefined.or(uneven).or(incomplete), is_even })
    }

    fn samples(
        &mut self,
        scope: &Scope<'_>,
        found: &Found<'_>,
        drift: &Drift,
        role: Role,
        bins: &mut Bins,
    ) -> Result<Vec<BinSample>, Unmeasurable> {
        let young = &scope.arms.of(role)?.young;
        let half = first_half(found.targets.keys().copied());
        let (mut samples, mut labelled) = (Vec::new(), false);
        for target in found.targets.keys().copied() {
            let mut raw: BTreeMap<usize, f64> = BTreeMap::new();
            for (value, count) in found.by_label(target, &drift.label, scope.instant)? {
                labelled |= !value.is_empty();
                *raw.entry(bins.index(value)).or_default() += count;
            }
            samples.push(BinSample {
                target: target.to_owned(),
                first_half: half.contains(target),
                is_new: young.contains(target),
                bins: raw,
            });
        }
        if !labelled {
            return Err(Unmeasurable::NoSuchLabel { query: drift.bins.metric.clone(), label: drift.label.clone() });
        }
        self.newest = self.newest.max(found.newest(scope.instant));
        Ok(samples)
    }
}

/// Cumulative buckets can only be compared where everybody has the same edges.
fn uneven(samples: &[BinSample], bins: &Bins, drift: &Drift) -> Option<Unmeasurable> {
    let odd = samples.iter().find(|sample| bins.cumulative && sample.bins.len() != bins.len())?;
    let message =
        format!("{} has {} edges on {} and {} in all; both arms need the same buckets", drift.bins, odd.bins.len(), odd.target, bins.len());
    Some(Unmeasurable::NotComparable { message })
}
