//! From raw cumulative counters per bin to counts per bin and window, per target, with births, resets and gaps: [`crate::counters`] for more than two
//! outcomes, under the same rules. It reads no server and never extrapolates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One target's raw counters at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct BinSample {
    /// Identity that survives nothing but the target itself.
    pub target: String,
    /// Whether it is in the first half of the arm's targets.
    pub first_half: bool,
    /// Whether its process began after the previous instant, so that its counters count from 0 at first sight.
    pub is_new: bool,
    /// Cumulative counts by the index of the bin.
    pub bins: BTreeMap<usize, f64>,
}

/// Counts per bin since the previous instant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CountedBins {
    /// By halves of the targets; together they are the arm.
    pub halves: (Vec<f64>, Vec<f64>),
    /// Target of which a bin that was there before is missing; its increase is charged when it is back.
    pub incomplete: Option<String>,
    /// Target with a counter that is negative or not a number.
    pub undefined: Option<String>,
}

impl CountedBins {
    /// Both halves together.
    pub fn sum(&self) -> Vec<f64> {
        let (a, b) = &self.halves;
        let at = |half: &[f64], bin: usize| half.get(bin).copied().unwrap_or(0.0);
        (0..a.len().max(b.len())).map(|bin| at(a, bin) + at(b, bin)).collect()
    }
}

/// Differences raw counters between successive instants. The state is a checkpoint: it continues after a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BinWindows {
    #[serde(rename = "t")]
    targets: BTreeMap<String, BTreeMap<usize, f64>>,
}

impl BinWindows {
    /// Takes all samples of one instant, each target once, and returns what was counted over `bins` bins since the previous one.
    pub fn observe(&mut self, bins: usize, samples: &[BinSample]) -> CountedBins {
        let mut counted = CountedBins { halves: (vec![0.0; bins], vec![0.0; bins]), ..CountedBins::default() };
        for sample in samples {
            if !sample.bins.values().all(|raw| raw.is_finite() && *raw >= 0.0) {
                counted.undefined.get_or_insert_with(|| sample.target.clone());
                continue;
            }
            let half = if sample.first_half { &mut counted.halves.0 } else { &mut counted.halves.1 };
            let nothing = BTreeMap::new();
            let before = match self.targets.get(&sample.target) {
                Some(before) => before,
                None if sample.is_new => &nothing,
                // Only a baseline.
                None => &sample.bins,
            };
            let has_fallen = before.iter().any(|(bin, then)| sample.bins.get(bin).is_some_and(|now| now < then));
            if !has_fallen && before.keys().any(|bin| !sample.bins.contains_key(bin)) {
                counted.incomplete.get_or_insert_with(|| sample.target.clone());
                continue;
            }
            for (bin, raw) in &sample.bins {
                // One counter that fell makes all of the target count from 0; a bin that appears on a known target does so anyway.
                let from = if has_fallen { 0.0 } else { before.get(bin).copied().unwrap_or(0.0) };
                if let Some(slot) = half.get_mut(*bin) {
                    *slot += raw - from;
                }
            }
            self.targets.insert(sample.target.clone(), sample.bins.clone());
        }
        counted
    }

    /// Forgets targets that are known to be gone for good, so that the state stays small.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.targets.retain(|target, _| keep(target));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(target: &str, bins: &[(usize, f64)]) -> BinSample {
        BinSample { target: target.into(), first_half: target < "b", is_new: false, bins: bins.iter().copied().collect() }
    }

    fn run(instants: &[&[BinSample]]) -> Vec<Vec<f64>> {
        let mut windows = BinWindows::default();
        instants.iter().map(|samples| windows.observe(3, samples).sum()).collect()
    }

    #[test]
    fn old_targets_are_baselines_and_new_ones_count_from_zero() {
        let new = BinSample { is_new: true, ..sample("b", &[(1, 4.0)]) };
        let got = run(&[&[sample("a", &[(0, 10.0), (1, 5.0)]), new], &[sample("a", &[(0, 12.0), (1, 5.0), (2, 3.0)])]]);
        assert_eq!(got, [[0.0, 4.0, 0.0], [2.0, 0.0, 3.0]]);
    }

    #[test]
    fn a_reset_of_one_bin_resets_all_of_the_target() {
        assert_eq!(run(&[&[sample("a", &[(0, 10.0), (1, 5.0)])], &[sample("a", &[(0, 2.0), (1, 7.0)])]])[1], [2.0, 7.0, 0.0]);
        assert_eq!(run(&[&[sample("a", &[(0, 10.0), (1, 5.0)])], &[sample("a", &[(0, 2.0)])]])[1], [2.0, 0.0, 0.0]);
    }

    #[test]
    fn gaps_are_charged_when_the_target_is_back() {
        let got = run(&[&[sample("a", &[(0, 10.0)])], &[], &[sample("a", &[(0, 30.0)])]]);
        assert_eq!(got[2], [20.0, 0.0, 0.0]);
        let mut windows = BinWindows::default();
        windows.observe(2, &[sample("a", &[(0, 10.0), (1, 5.0)])]);
        let missing = windows.observe(2, &[sample("a", &[(0, 20.0)])]);
        assert_eq!((missing.incomplete.as_deref(), missing.sum()), (Some("a"), vec![0.0, 0.0]));
        assert_eq!(windows.observe(2, &[sample("a", &[(0, 25.0), (1, 9.0)])]).sum(), [15.0, 4.0]);
    }

    #[test]
    fn undefined_counters_are_named_and_left_out() {
        let mut windows = BinWindows::default();
        windows.observe(1, &[sample("a", &[(0, 10.0)])]);
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(windows.observe(1, &[sample("a", &[(0, bad)])]).undefined.as_deref(), Some("a"));
        }
        assert_eq!(windows.observe(1, &[sample("a", &[(0, 15.0)])]).sum(), [5.0]);
        let mut restored: BinWindows = serde_json::from_str(&serde_json::to_string(&windows).unwrap()).unwrap();
        assert_eq!(restored, windows);
        assert!(!restored.is_empty());
        restored.retain(|_| false);
        assert!(restored.is_empty());
    }
}
