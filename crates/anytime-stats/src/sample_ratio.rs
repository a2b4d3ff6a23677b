//! Sample-ratio check: do the arms receive the shares of traffic they should? A mismatch makes every other number worthless.
//! It does not say which arm is wrong, and it is not a reason to roll back.
//!
//! Counts `c_i`, expected shares `π_i`, concentration `κ`: `ln E_κ = lnB(κπ + c) − lnB(κπ) − Σ c_i ln π_i` with the multivariate beta function `B`
//! (Lindon & Malek, 2022). `E` is the average over κ = 100 (large deviations) and κ = 10 000 (small ones). Steps with different shares multiply.
//! Count units that are assigned independently: users or sessions under sticky routing, requests otherwise. A level of 0.001 is usual.

use serde::{Deserialize, Serialize};

use crate::math::{LN_ZERO, ln_beta, ln_sum, tidy};
use crate::window::InvalidParameter;

/// Concentrations that are averaged.
pub const CONCENTRATIONS: [f64; 2] = [100.0, 10_000.0];

/// Running check over traffic steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRatio {
    shares: Vec<f64>,
    counts: Vec<f64>,
    log_e_closed: f64,
}

impl SampleRatio {
    /// A check against `shares` (positive, normalised to sum 1, at least two).
    pub fn new(shares: &[f64]) -> Result<Self, InvalidParameter> {
        let shares = valid_shares(shares)?;
        let counts = vec![0.0; shares.len()];
        Ok(Self { shares, counts, log_e_closed: 0.0 })
    }

    /// Closes the current step and goes on with other shares of the same number of arms.
    pub fn next_step(&mut self, shares: &[f64]) -> Result<(), InvalidParameter> {
        let shares = valid_shares(shares)?;
        InvalidParameter::check(shares.len() == self.shares.len(), "shares", "one per arm, as before")?;
        self.log_e_closed = self.log_e();
        self.counts.fill(0.0);
        self.shares = shares;
        Ok(())
    }

    /// Adds assigned units per arm; negative or undefined counts are ignored.
    pub fn absorb(&mut self, counts: &[f64]) {
        if counts.iter().all(|c| c.is_finite() && *c >= 0.0) {
            for (sum, count) in self.counts.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }

    /// Log e-value against "all shares as expected", over all steps.
    pub fn log_e(&self) -> f64 {
        let step = CONCENTRATIONS.iter().map(|k| log_e_at(&self.counts, &self.shares, *k));
        tidy(self.log_e_closed + ln_sum(step) - (CONCENTRATIONS.len() as f64).ln())
    }

    /// Units per arm in the current step.
    pub fn counts(&self) -> &[f64] {
        &self.counts
    }
}

fn valid_shares(shares: &[f64]) -> Result<Vec<f64>, InvalidParameter> {
    let sum: f64 = shares.iter().sum();
    let valid = shares.len() >= 2 && sum.is_finite() && shares.iter().all(|s| *s > 0.0);
    InvalidParameter::check(valid, "shares", "at least two positive numbers")?;
    Ok(shares.iter().map(|s| s / sum).collect())
}

/// Log e-value at one concentration; `shares` sum to 1.
///
/// The multivariate beta function is built arm by arm from two-argument ones, which keep their digits for large counts.
pub fn log_e_at(counts: &[f64], shares: &[f64], concentration: f64) -> f64 {
    let (mut prior, mut seen, mut log_e) = (0.0, 0.0, 0.0);
    for (count, share) in counts.iter().zip(shares) {
        let own = concentration * share;
        if prior > 0.0 {
            log_e += ln_beta(prior + seen, own + count) - ln_beta(prior, own);
        }
        log_e -= count * share.ln();
        prior += own;
        seen += count;
    }
    if log_e.is_nan() { LN_ZERO } else { tidy(log_e) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_share_is_no_evidence_and_a_wrong_one_is() {
        let mut right = SampleRatio::new(&[0.9, 0.1]).unwrap();
        right.absorb(&[900_000.0, 100_000.0]);
        assert!(right.log_e() < 0.0);
        let mut wrong = SampleRatio::new(&[9.0, 1.0]).unwrap();
        wrong.absorb(&[890_000.0, 110_000.0]);
        assert!(wrong.log_e() > 100.0);
    }

    #[test]
    fn steps_with_other_shares_multiply() {
        let mut check = SampleRatio::new(&[0.9, 0.1]).unwrap();
        check.absorb(&[700.0, 300.0]);
        let first = check.log_e();
        check.next_step(&[0.5, 0.5]).unwrap();
        assert!((check.log_e() - first).abs() < 1e-12);
        check.absorb(&[600.0, 400.0]);
        let mut second = SampleRatio::new(&[0.5, 0.5]).unwrap();
        second.absorb(&[600.0, 400.0]);
        assert!((check.log_e() - first - second.log_e()).abs() < 1e-9);
    }

    #[test]
    fn impossible_input_is_refused_or_ignored() {
        assert!(SampleRatio::new(&[1.0]).is_err());
        assert!(SampleRatio::new(&[1.0, 0.0]).is_err());
        let mut check = SampleRatio::new(&[1.0, 1.0]).unwrap();
        assert!(check.next_step(&[1.0, 1.0, 1.0]).is_err());
        check.absorb(&[f64::NAN, 1.0]);
        check.absorb(&[1e300, 1e300]);
        assert!(check.log_e().is_finite());
    }
}
