//! After promotion: e-detectors, which watch for a change at an unknown time with a bound on the mean time between false alarms.
//! They never end and never prove; an alarm threshold `A` gives at least `A` grid points between false alarms on average.
//!
//! ```text
//! grid point:     SR_k ← SR_k + 1            CUSUM_k ← max(CUSUM_k, 1)
//! closed window:  SR_k ← SR_k·exp(ℓ_k/φ)     CUSUM_k ← CUSUM_k·exp(ℓ_k/φ)          alarm when Σ_k w_k SR_k ≥ A
//! ```
//!
//! CUSUM is never larger than SR, so the same `A` keeps the bound with fewer alarms and slightly later detection.
//! Source: Shin, Ramdas & Rinaldo, *E-detectors: a nonparametric framework for sequential change detection* (NEJSDS 2023).

use serde::{Deserialize, Serialize};

use crate::harm::{capped, normalised};
use crate::math::{LN_ZERO, ln_add, ln_or_zero, ln_sum, tidy};
use crate::risk_difference::log_ratio;
use crate::window::{InvalidParameter, Tally};

/// State of a detector over several alternatives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EDetector {
    weights: Vec<f64>,
    cap: Option<f64>,
    log_sr: Vec<f64>,
    log_cusum: Vec<f64>,
}

impl EDetector {
    /// A detector over alternatives with `weights` (normalised to sum 1) and an optional cap per window and component.
    pub fn new(weights: &[f64], cap: Option<f64>) -> Result<Self, InvalidParameter> {
        InvalidParameter::check(cap.is_none_or(|c| c.is_finite() && c > 0.0), "cap", "positive and finite")?;
        let weights = normalised(weights)?;
        let empty = vec![LN_ZERO; weights.len()];
        Ok(Self { weights, cap, log_sr: empty.clone(), log_cusum: empty })
    }

    /// A change may start here: once per long window, also when harm is judged in shorter ones.
    pub fn grid_point(&mut self) {
        for (sr, cusum) in self.log_sr.iter_mut().zip(&mut self.log_cusum) {
            *sr = ln_add(*sr, 0.0);
            *cusum = cusum.max(0.0);
        }
    }

    /// One closed window: log likelihood ratio per alternative, and over-dispersion `phi` ≥ 1.
    pub fn absorb(&mut self, ells: &[f64], phi: f64) {
        for ((sr, cusum), ell) in self.log_sr.iter_mut().zip(&mut self.log_cusum).zip(ells) {
            let step = capped(*ell, phi, self.cap);
            for mass in [sr, cusum] {
                if *mass > LN_ZERO {
                    *mass = (*mass + step).clamp(LN_ZERO, -LN_ZERO);
                }
            }
        }
    }

    /// Log of the Shiryaev–Roberts e-detector.
    pub fn log_sr(&self) -> f64 {
        self.mixed(&self.log_sr)
    }

    /// Log of the CUSUM e-detector.
    pub fn log_cusum(&self) -> f64 {
        self.mixed(&self.log_cusum)
    }

    /// True when the mean time between alarms of this size is at least `windows` grid points under no change.
    pub fn alarms(&self, windows: f64) -> bool {
        self.log_sr() >= windows.ln()
    }

    fn mixed(&self, masses: &[f64]) -> f64 {
        ln_sum(self.weights.iter().zip(masses).map(|(w, mass)| ln_or_zero(*w) + mass))
    }
}

/// Log likelihood ratios of several rates against a frozen reference rate (plus margin), for one window. Rates outside (0, 1) give 0.
pub fn bernoulli_increments(reference: f64, alternatives: &[f64], window: Tally) -> Vec<f64> {
    let inside = |p: f64| p > 0.0 && p < 1.0;
    alternatives
        .iter()
        .map(|p| if inside(*p) && inside(reference) && window.is_proportion() { tidy(log_ratio(window, *p, reference)) } else { 0.0 })
        .collect()
}

/// The classical one-sided CUSUM of one log likelihood ratio, as a baseline: `C ← max(0, C + ℓ)`. It has no finite-sample bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cusum(f64);

impl Cusum {
    /// Adds one increment and returns the new value.
    pub fn absorb(&mut self, ell: f64) -> f64 {
        self.0 = (self.0 + tidy(ell)).max(0.0);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_after_a_long_calm_is_found_and_cusum_is_never_above_sr() {
        let mut detector = EDetector::new(&[1.0, 1.0], None).unwrap();
        let mut window = |bad: f64| {
            detector.grid_point();
            detector.absorb(&bernoulli_increments(0.1, &[0.15, 0.25], Tally::new(bad, 100.0)), 1.0);
            assert!(detector.log_cusum() <= detector.log_sr() + 1e-12);
            detector.alarms(8640.0)
        };
        assert!((0..500).all(|_| !window(8.0)));
        assert!((0..6).any(|_| window(20.0)));
    }

    #[test]
    fn increments_outside_their_domain_are_zero() {
        assert_eq!(bernoulli_increments(0.1, &[1.2], Tally::new(1.0, 2.0)), [0.0]);
        assert_eq!(bernoulli_increments(0.1, &[0.2], Tally::new(3.0, 2.0)), [0.0]);
        let mut detector = EDetector::new(&[1.0], None).unwrap();
        detector.absorb(&[5.0], 1.0);
        assert!(detector.log_sr() < -1e200, "nothing grows before the first grid point");
    }
}
