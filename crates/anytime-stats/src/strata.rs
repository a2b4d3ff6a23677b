//! Counts per bin of two arms over windows, standardised: the reference is weighted as the live arm's traffic was, so that a mix that changes over the day
//! while the split of traffic changes is no difference of the arms (Simpson's paradox). It compares nothing itself.
//!
//! ```text
//! p_j = Σ_w (M_w/M)·n_jw/N_w,   q_j = Σ_w l_jw/M,   1/N_eff = Σ_w (M_w/M)²/N_w
//! ```

use serde::{Deserialize, Serialize};

/// Windows below which nothing may be decided: none may bring more than its part.
const FEWEST_WINDOWS: u32 = 3;

/// Sums over windows in which both arms had trials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Strata {
    /// `Σ_w l_jw`.
    #[serde(rename = "l")]
    live: Vec<f64>,
    /// `Σ_w M_w·n_jw/N_w`.
    #[serde(rename = "r")]
    reference: Vec<f64>,
    /// `Σ_w M_w²/N_w`.
    #[serde(rename = "i")]
    inverse: f64,
    /// Trials of both arms, as they were.
    #[serde(rename = "m")]
    live_total: f64,
    #[serde(rename = "n")]
    reference_total: f64,
    #[serde(rename = "w")]
    windows: u32,
    /// Live trials of the largest window.
    #[serde(rename = "x")]
    largest: f64,
}

impl Strata {
    /// Adds a window, bin by bin; bins beyond those known so far are new ones. A window with an empty arm or with counts that are none is left out.
    pub fn absorb(&mut self, reference: &[f64], live: &[f64]) {
        let (n, m): (f64, f64) = (reference.iter().sum(), live.iter().sum());
        let is_valid = |counts: &[f64]| counts.iter().all(|count| count.is_finite() && *count >= 0.0);
        if !(n > 0.0 && m > 0.0 && is_valid(reference) && is_valid(live)) {
            return;
        }
        let bins = reference.len().max(live.len()).max(self.live.len());
        self.live.resize(bins, 0.0);
        self.reference.resize(bins, 0.0);
        for (sum, count) in self.live.iter_mut().zip(live) {
            *sum += count;
        }
        for (sum, count) in self.reference.iter_mut().zip(reference) {
            *sum += m * count / n;
        }
        self.inverse += m * m / n;
        self.live_total += m;
        self.reference_total += n;
        self.windows = self.windows.saturating_add(1);
        self.largest = self.largest.max(m);
    }

    /// Live counts per bin, divided by `phi`.
    pub fn live(&self, phi: f64) -> Vec<f64> {
        self.live.iter().map(|count| count / phi).collect()
    }

    /// Standardised reference counts per bin: shares `p_j` times `N_eff/phi`.
    pub fn reference(&self, phi: f64) -> Vec<f64> {
        let scale = if self.inverse > 0.0 { self.live_total / self.inverse / phi } else { 0.0 };
        self.reference.iter().map(|sum| sum * scale).collect()
    }

    /// Trials of both arms as they were: live, reference.
    pub fn totals(&self) -> (f64, f64) {
        (self.live_total, self.reference_total)
    }

    /// `1/(1/N_eff+1/M)`, or `M` beside shares that are known; depends on numbers of trials alone.
    pub fn size(&self, reference_is_known: bool) -> f64 {
        if self.live_total <= 0.0 {
            return 0.0;
        }
        let of_reference = if reference_is_known { 0.0 } else { self.inverse / (self.live_total * self.live_total) };
        1.0 / (1.0 / self.live_total + of_reference)
    }

    /// Windows added.
    pub fn windows(&self) -> u32 {
        self.windows
    }

    /// Mean trials of a window: live, reference.
    pub fn mean_window(&self) -> (f64, f64) {
        let windows = f64::from(self.windows.max(1));
        (self.live_total / windows, self.reference_total / windows)
    }

    /// At least three windows, none of them with more than half of the live trials.
    pub fn is_balanced(&self) -> bool {
        self.windows >= FEWEST_WINDOWS && 2.0 * self.largest <= self.live_total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::divergence::{Against, Divergence, Measure};

    #[test]
    fn a_ramp_over_a_changing_day_is_no_drift() {
        // Morning: the live arm has 1 % of traffic of one mix; evening: half of another mix. Within each window the arms are the same.
        let mut strata = Strata::default();
        for _ in 0..10 {
            strata.absorb(&[9_000.0, 1_000.0], &[90.0, 10.0]);
            strata.absorb(&[1_000.0, 4_000.0], &[1_000.0, 4_000.0]);
        }
        let of = |reference: &[f64]| Divergence::of(Measure::Psi, Against::Counts(reference), &strata.live(1.0)).unwrap();
        assert!(of(&strata.reference(1.0)).value() < 1e-6);
        assert!(of(&[100_000.0, 50_000.0]).value() > 0.5, "pooled, it looks like drift");
    }

    #[test]
    fn one_window_is_itself_and_equal_ones_add_up() {
        let mut strata = Strata::default();
        strata.absorb(&[30.0, 70.0], &[5.0, 5.0]);
        assert!((strata.reference(1.0)[0] - 30.0).abs() < 1e-9 && (strata.reference(2.0)[1] - 35.0).abs() < 1e-9);
        assert!((strata.size(false) - 1.0 / (1.0 / 10.0 + 1.0 / 100.0)).abs() < 1e-9 && (strata.size(true) - 10.0).abs() < 1e-9);
        strata.absorb(&[30.0, 70.0], &[5.0, 5.0]);
        assert!((strata.reference(1.0)[0] - 60.0).abs() < 1e-9 && !strata.is_balanced());
        // A bin that appears later, and windows that say nothing.
        strata.absorb(&[30.0, 60.0, 10.0], &[5.0, 4.0, 1.0]);
        strata.absorb(&[0.0], &[3.0]);
        strata.absorb(&[f64::NAN], &[3.0]);
        assert_eq!((strata.live(1.0), strata.windows(), strata.is_balanced()), (vec![15.0, 14.0, 1.0], 3, true));
        assert_eq!((strata.totals(), strata.mean_window()), ((30.0, 300.0), (10.0, 100.0)));
    }

    #[test]
    fn a_window_with_most_of_the_trials_decides_nothing() {
        let mut strata = Strata::default();
        for live in [10.0, 10.0, 100.0] {
            strata.absorb(&[100.0, 100.0], &[live, live]);
        }
        assert!(!strata.is_balanced());
        strata.absorb(&[100.0, 100.0], &[100.0, 100.0]);
        assert!(strata.is_balanced());
    }
}
