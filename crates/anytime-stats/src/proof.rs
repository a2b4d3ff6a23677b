//! The proof process: a mixture of likelihood-ratio products over a few alternatives, the evidence that something is *not* worse than its margin.
//! It has no start-time mixture: a proof is about all windows since it started.
//!
//! ```text
//! closed window:  L_k ← L_k + min(ℓ_k/φ, cap)
//! ln E = ln Σ_k w_k exp(L_k)
//! ```
//!
//! A mixture loses at most `ln(1/w_k)` against its best component, so a bad first guess on a huge first window cannot ruin it, which it can for a
//! single plug-in alternative. `P(E ever ≥ 1/α) ≤ α` under the null (Ville's inequality).

use serde::{Deserialize, Serialize};

use crate::harm::{capped, normalised};
use crate::math::{LN_ZERO, ln_or_zero, ln_sum};
use crate::window::InvalidParameter;

/// State of one proof process; also its checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProofProcess {
    weights: Vec<f64>,
    cap: Option<f64>,
    used: u64,
    skipped: u64,
    log_masses: Vec<f64>,
}

impl ProofProcess {
    /// A process over alternatives with `weights` (normalised to sum 1); `cap` as in [`crate::threshold::proof_cap`].
    pub fn new(weights: &[f64], cap: Option<f64>) -> Result<Self, InvalidParameter> {
        InvalidParameter::check(cap.is_none_or(|c| c.is_finite() && c > 0.0), "cap", "positive and finite")?;
        let weights = normalised(weights)?;
        let log_masses = vec![0.0; weights.len()];
        Ok(Self { weights, cap, used: 0, skipped: 0, log_masses })
    }

    /// Adds one closed window: log likelihood ratios per component, and its over-dispersion `phi` ≥ 1.
    pub fn absorb(&mut self, ells: &[f64], phi: f64) {
        self.used += 1;
        for (mass, ell) in self.log_masses.iter_mut().zip(ells) {
            *mass = (*mass + capped(*ell, phi, self.cap)).clamp(LN_ZERO, -LN_ZERO);
        }
    }

    /// Counts a window that must not prove anything, such as one that overlaps a change of traffic: it has weight zero.
    pub fn skip(&mut self) {
        self.skipped += 1;
    }

    /// Forgets everything, for a new stage with its own question.
    pub fn restart(&mut self) {
        self.used = 0;
        self.skipped = 0;
        self.log_masses.fill(0.0);
    }

    /// Natural logarithm of the e-value now.
    pub fn log_e(&self) -> f64 {
        ln_sum(self.weights.iter().zip(&self.log_masses).map(|(w, mass)| ln_or_zero(*w) + mass))
    }

    /// Windows that counted since the start.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Windows that had weight zero since the start.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Log mass per component.
    pub fn log_masses(&self) -> &[f64] {
        &self.log_masses
    }

    /// Component weights, summing to 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The moving part of the state.
    pub fn checkpoint(&self) -> ProofCheckpoint {
        ProofCheckpoint { used: self.used, skipped: self.skipped, log_masses: self.log_masses.clone() }
    }

    /// Puts a checkpoint back into a process built with the same arguments.
    pub fn restore(&mut self, checkpoint: ProofCheckpoint) -> Result<(), InvalidParameter> {
        let fits = checkpoint.log_masses.len() == self.log_masses.len() && checkpoint.log_masses.iter().all(|m| m.is_finite());
        InvalidParameter::check(fits, "log_masses", "one finite number per component")?;
        self.used = checkpoint.used;
        self.skipped = checkpoint.skipped;
        self.log_masses = checkpoint.log_masses;
        Ok(())
    }
}

/// Moving part of a [`ProofProcess`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProofCheckpoint {
    /// Windows that counted.
    pub used: u64,
    /// Windows with weight zero.
    pub skipped: u64,
    /// Log mass per component.
    pub log_masses: Vec<f64>,
}

/// True when a window `[start, end)` overlaps `[change, change + settle)` of any change of traffic; such windows do not prove.
///
/// Slow failures complete late: right after a raise only successes are visible. Times are in any one unit.
pub fn unsettled(start: f64, end: f64, changes: &[f64], settle: f64) -> bool {
    changes.iter().any(|change| start < change + settle && end > *change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixture_loses_at_most_the_logarithm_of_its_weight() {
        let mut p = ProofProcess::new(&[0.25, 0.75], None).unwrap();
        p.absorb(&[10.0, -1000.0], 1.0);
        assert!((p.log_e() - (10.0 + 0.25_f64.ln())).abs() < 1e-12);
        assert_eq!((p.weights(), p.log_masses()), ([0.25, 0.75].as_slice(), [10.0, -1000.0].as_slice()));
        p.restart();
        assert_eq!(p, ProofProcess::new(&[0.25, 0.75], None).unwrap());
    }

    #[test]
    fn windows_around_a_change_of_traffic_do_not_prove() {
        assert!(!unsettled(120.0, 180.0, &[180.0], 60.0));
        assert!(unsettled(180.0, 240.0, &[180.0], 60.0));
        assert!(unsettled(150.0, 200.0, &[180.0], 60.0));
        assert!(!unsettled(240.0, 300.0, &[180.0], 60.0));
    }

    #[test]
    fn a_checkpoint_continues_exactly() {
        let mut p = ProofProcess::new(&[1.0, 2.0], Some(1.0)).unwrap();
        p.absorb(&[0.5, 9.0], 1.5);
        p.skip();
        assert_eq!((p.used(), p.skipped()), (1, 1));
        let mut q = ProofProcess::new(&[1.0, 2.0], Some(1.0)).unwrap();
        q.restore(p.checkpoint()).unwrap();
        assert_eq!(p, q);
    }
}
