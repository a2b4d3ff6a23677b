//! Over-dispersion φ: how much more the champion's own counts vary than independent requests would. Every log increment is divided by it.
//! It estimates from the champion alone, so the candidate cannot buy patience; it cannot see shocks that last longer than its long windows.
//!
//! One scale, from successive windows so that slow trends do not count:
//!
//! ```text
//! φ = mean_t[(p_t−p_{t−1})² / (p̄(1−p̄)(1/n_t+1/n_{t−1}))],   icc = max(0, (φ−1)/(n̄−1))
//! ```
//!
//! Two scales, from two halves A and B of the champion's targets, `y = p_A − p_B`, `v = 1/n_A + 1/n_B`, at a short scale and a long one:
//!
//! ```text
//! h(s)  = mean_t[(y_t−y_{t−1})²/(v_t+v_{t−1})] / (p̄(1−p̄))
//! icc   = max(0, (h_long−h_short)/(n_long−n_short)),   clump = max(1, h_short − icc·(n_short−1)),   φ_arm(n) = clump + icc·(n−1)
//! ```
//!
//! Both arms: `φ = (φ_a/n_a + φ_b/n_b)/(1/n_a + 1/n_b)`. Clumps are batches, retries and sticky users; the icc is a shock that a whole window shares.

use serde::{Deserialize, Serialize};

use crate::window::Tally;

/// Variance inflation at one scale, as a clump size and a correlation between requests of one window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overdispersion {
    /// Mean size of bursts of equal outcome; at least 1.
    pub clump: f64,
    /// Intra-window correlation; at least 0.
    pub icc: f64,
}

impl Default for Overdispersion {
    /// Independent requests.
    fn default() -> Self {
        Self { clump: 1.0, icc: 0.0 }
    }
}

impl Overdispersion {
    /// What explains variance ratios `h` of windows with `n` trials on average, each pair being `(h, n)`.
    pub fn of_two_scales((h_short, n_short): (f64, f64), (h_long, n_long): (f64, f64)) -> Self {
        let longer = n_long - n_short;
        let icc = if longer > 0.0 { ((h_long - h_short) / longer).max(0.0) } else { 0.0 };
        Self::beside(icc, (h_short, n_short))
    }

    /// A correlation, and the clumps that explain what it leaves of a variance ratio `h` of windows with `n` trials on average.
    pub(crate) fn beside(icc: f64, (h, n): (f64, f64)) -> Self {
        Self { clump: (h - icc * (n - 1.0)).max(1.0), icc }
    }

    /// φ of one arm with `n` trials in the window; at least 1.
    pub fn phi_arm(&self, n: f64) -> f64 {
        let phi = self.clump + (n - 1.0) * self.icc;
        if phi.is_finite() { phi.max(1.0) } else { 1.0 }
    }

    /// φ of the difference of two arms with `n_a` and `n_b` trials that are alike; at least 1.
    pub fn phi(&self, n_a: f64, n_b: f64) -> f64 {
        self.phi_beside(self, n_a, n_b)
    }

    /// φ of the difference of two arms with `n_a` and `n_b` trials, of which the second one varies as `other` says; at least 1.
    pub fn phi_beside(&self, other: &Self, n_a: f64, n_b: f64) -> f64 {
        let (weight_a, weight_b) = (1.0 / n_a.max(1.0), 1.0 / n_b.max(1.0));
        let phi = (self.phi_arm(n_a) * weight_a + other.phi_arm(n_b) * weight_b) / (weight_a + weight_b);
        if phi.is_finite() { phi.max(1.0) } else { 1.0 }
    }

    /// The same of an arm that has `fewer` times fewer targets (at least 1) than the group it was estimated from. Targets that wobble each for
    /// themselves average out: the correlation of a mean over `k` of them is a `k`-th of that of one. Clumps are of single targets already.
    #[must_use]
    pub fn of_fewer_targets(&self, fewer: f64) -> Self {
        let icc = self.icc * if fewer.is_finite() { fewer.max(1.0) } else { 1.0 };
        Self { icc: icc.min(1.0).max(self.icc), ..*self }
    }
}

/// The largest φ among estimates at several scales; 1 without any.
pub fn largest_phi(estimates: &[Overdispersion], n_a: f64, n_b: f64) -> f64 {
    estimates.iter().map(|e| e.phi(n_a, n_b)).fold(1.0, f64::max)
}

/// One-scale estimate with the plain variance ratio `φ` of the champion's windows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OneScale {
    /// Variance ratio of the windows that were seen; below 1 for counts that vary less than chance.
    pub phi: f64,
    /// Intra-window correlation.
    pub icc: f64,
}

impl OneScale {
    /// As an estimate that can be applied to windows of another size.
    pub fn overdispersion(&self) -> Overdispersion {
        Overdispersion { clump: 1.0, icc: self.icc }
    }
}

/// φ from the champion's successive windows. Windows without trials are left out. `None` below two windows, or without any variation of outcome.
pub fn one_scale(windows: &[Tally]) -> Option<OneScale> {
    let sums = Series::from_tallies(windows)?;
    let phi = sums.variance_ratio()?;
    let icc = if sums.mean_n > 1.0 { ((phi - 1.0) / (sums.mean_n - 1.0)).max(0.0) } else { 0.0 };
    Some(OneScale { phi, icc })
}

/// Counts of two halves of the champion's targets in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Halves {
    /// First half.
    pub a: Tally,
    /// Second half.
    pub b: Tally,
}

/// Two-scale estimate with its ingredients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TwoScale {
    /// Variance ratio at the short scale.
    pub h_short: f64,
    /// Variance ratio at the long scale.
    pub h_long: f64,
    /// Clump and correlation that explain both.
    pub overdispersion: Overdispersion,
}

/// φ at two scales from two halves of the champion. `None` when either scale has fewer than two windows with trials in both halves.
pub fn two_scale(short: &[Halves], long: &[Halves]) -> Option<TwoScale> {
    TwoScale::combine(&Series::from_halves(short)?, &Series::from_halves(long)?)
}

/// φ at two scales from one champion group only (a single target): successive differences of its own rate.
pub fn two_scale_single(short: &[Tally], long: &[Tally]) -> Option<TwoScale> {
    TwoScale::combine(&Series::from_tallies(short)?, &Series::from_tallies(long)?)
}

impl TwoScale {
    fn combine(short: &Series, long: &Series) -> Option<Self> {
        // The base rate is taken from the short windows at both scales.
        let spread = short.spread()?;
        let (h_short, h_long) = (short.mean_square / spread, long.mean_square / spread);
        let overdispersion = Overdispersion::of_two_scales((h_short, short.mean_n), (h_long, long.mean_n));
        let is_finite = h_short.is_finite() && h_long.is_finite() && overdispersion.icc.is_finite();
        is_finite.then_some(Self { h_short, h_long, overdispersion })
    }
}

/// Mean squared successive difference of a series of rates, in units of its sampling variance.
struct Series {
    mean_square: f64,
    mean_n: f64,
    pooled: Tally,
}

impl Series {
    fn from_tallies(windows: &[Tally]) -> Option<Self> {
        let usable = windows.iter().filter(|t| t.is_proportion() && t.total > 0.0);
        Self::new(usable.map(|t| (t.bad / t.total, 1.0 / t.total, *t, t.total)))
    }

    fn from_halves(windows: &[Halves]) -> Option<Self> {
        let usable = windows.iter().filter(|h| [h.a, h.b].iter().all(|t| t.is_proportion() && t.total > 0.0));
        Self::new(usable.map(|h| {
            let mut pooled = h.a;
            pooled += h.b;
            (h.a.bad / h.a.total - h.b.bad / h.b.total, 1.0 / h.a.total + 1.0 / h.b.total, pooled, pooled.total / 2.0)
        }))
    }

    /// Rows of (value, variance in units of p(1−p), counts, size).
    fn new(rows: impl Iterator<Item = (f64, f64, Tally, f64)>) -> Option<Self> {
        let (mut pooled, mut squares, mut size, mut count, mut pairs) = (Tally::default(), 0.0, 0.0, 0.0, 0.0);
        let mut previous: Option<(f64, f64)> = None;
        for (value, variance, counts, n) in rows {
            pooled += counts;
            size += n;
            count += 1.0;
            if let Some((before, before_variance)) = previous {
                squares += (value - before).powi(2) / (variance + before_variance);
                pairs += 1.0;
            }
            previous = Some((value, variance));
        }
        (pairs > 0.0).then(|| Self { mean_square: squares / pairs, mean_n: size / count, pooled })
    }

    fn spread(&self) -> Option<f64> {
        let p = self.pooled.rate()?;
        let spread = p * (1.0 - p);
        (spread > 0.0).then_some(spread)
    }

    fn variance_ratio(&self) -> Option<f64> {
        let ratio = self.mean_square / self.spread()?;
        ratio.is_finite().then_some(ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn independent_looking_counts_need_no_deflation() {
        let windows = vec![Tally::new(8.0, 100.0); 10];
        let estimate = one_scale(&windows).unwrap();
        assert!(estimate.phi < 1.0 && estimate.icc <= 0.0);
        assert!((estimate.overdispersion().phi(2700.0, 300.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn too_little_history_gives_no_estimate() {
        assert_eq!(one_scale(&[Tally::new(1.0, 10.0)]), None);
        assert_eq!(one_scale(&[Tally::new(0.0, 10.0), Tally::new(0.0, 10.0)]), None, "a rate of 0 has no spread");
        assert_eq!(two_scale(&[], &[]), None);
        assert!((largest_phi(&[], 10.0, 10.0) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn phi_is_never_below_one_nor_undefined() {
        let wild = Overdispersion { clump: 3.0, icc: 0.2 };
        for n in [0.0, 1.0, 300.0, f64::MAX] {
            assert!(wild.phi(n, 1.0) >= 1.0 && wild.phi(n, 1.0).is_finite());
        }
        assert!((wild.phi(1.0, 1.0) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn clumps_show_at_both_scales_and_shocks_only_at_the_long_one() {
        let jump = |sizes: f64, step: f64| -> Vec<Tally> {
            (0..20).map(|i| Tally::new(sizes * if i % 2 == 0 { 0.08 + step } else { 0.08 - step }, sizes)).collect()
        };
        let shock = two_scale_single(&jump(100.0, 0.005), &jump(1000.0, 0.02)).unwrap();
        assert!(shock.overdispersion.icc > 0.0 && (shock.overdispersion.clump - 1.0).abs() < 1e-12);
        let clump = two_scale_single(&jump(100.0, 0.06), &jump(1000.0, 0.06 / 10.0_f64.sqrt())).unwrap();
        assert!(clump.overdispersion.clump > 1.5 && clump.overdispersion.icc < 1e-9, "{clump:?}");
    }
}
