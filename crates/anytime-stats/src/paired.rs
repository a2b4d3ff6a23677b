//! Pairs: the same request answered by both arms. Betting on discordant pairs with a margin, a sequential McNemar test.
//! It needs three counters and no nuisance parameter; it does not say which class or slice differs.
//!
//! `D = +1` when only the champion was right (`B` pairs), `−1` when only the candidate was (`C`), 0 for a tie (`M`). `Δ = E[D]`, margin `d`:
//!
//! ```text
//! proof (null Δ ≥ d):  ℓ_k = B ln(1+λ_k(d−1)) + C ln(1+λ_k(d+1)) + M ln(1+λ_k d),   λ_k = e^{linspace(ln 0.002, ln 0.5, 20)}/(1−d)
//! harm  (null Δ ≤ d):  λ_k → −λ_k with e^{…}/(1+d)
//! ln E = ln Σ_k e^{ℓ_k}/20
//! ```
//!
//! Each factor has expectation `1 + λ(d − Δ) ≤ 1` under its null. It is also the projection of the trinomial on `E[D] = d`.
//! Source: Waudby-Smith & Ramdas, *Estimating means of bounded random variables by betting* (2024).

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::math::{ln_sum, tidy};
use crate::window::{InvalidParameter, Side};

const COMPONENTS: usize = 20;

/// Outcomes of pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pairs {
    /// Champion right, candidate wrong (`B`).
    pub champion_only: f64,
    /// Candidate right, champion wrong (`C`).
    pub candidate_only: f64,
    /// Both right or both wrong (`M`).
    pub tied: f64,
}

impl Pairs {
    /// All pairs.
    pub fn total(&self) -> f64 {
        self.champion_only + self.candidate_only + self.tied
    }

    /// Estimate of `Δ`, the candidate's loss against the champion; `None` without pairs.
    pub fn difference(&self) -> Option<f64> {
        (self.total() > 0.0).then(|| (self.champion_only - self.candidate_only) / self.total())
    }

    fn is_valid(&self) -> bool {
        [self.champion_only, self.candidate_only, self.tied].iter().all(|n| n.is_finite() && *n >= 0.0)
    }
}

impl AddAssign for Pairs {
    fn add_assign(&mut self, other: Self) {
        self.champion_only += other.champion_only;
        self.candidate_only += other.candidate_only;
        self.tied += other.tied;
    }
}

/// A margin for paired differences.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedMargin {
    margin: f64,
}

impl PairedMargin {
    /// Margin `d` in (−1, 1); 0 gives a sequential sign test on discordant pairs.
    pub fn new(margin: f64) -> Result<Self, InvalidParameter> {
        InvalidParameter::check(margin > -1.0 && margin < 1.0, "margin", "between -1 and 1")?;
        Ok(Self { margin })
    }

    /// Equal weights of the bets, in the order of [`Self::log_increments`].
    pub fn weights() -> &'static [f64] {
        &[1.0 / COMPONENTS as f64; COMPONENTS]
    }

    /// Log wealth of each bet over the given pairs: of one window, for the start-time mixture, or of all so far.
    pub fn log_increments(&self, side: Side, pairs: &Pairs) -> Vec<f64> {
        let d = self.margin;
        let (sign, largest) = match side {
            Side::Proof => (1.0, 1.0 / (1.0 - d)),
            Side::Harm => (-1.0, 1.0 / (1.0 + d)),
        };
        let (first, last) = (0.002_f64.ln(), 0.5_f64.ln());
        (0..COMPONENTS)
            .map(|k| {
                let lambda = sign * largest * (first + (last - first) * k as f64 / (COMPONENTS - 1) as f64).exp();
                if !pairs.is_valid() {
                    return 0.0;
                }
                tidy(
                    pairs.champion_only * (lambda * (d - 1.0)).ln_1p()
                        + pairs.candidate_only * (lambda * (d + 1.0)).ln_1p()
                        + pairs.tied * (lambda * d).ln_1p(),
                )
            })
            .collect()
    }

    /// Log e-value on cumulative counts; it needs no other state.
    pub fn log_e(&self, side: Side, cumulative: &Pairs) -> f64 {
        ln_sum(self.log_increments(side, cumulative)) - (COMPONENTS as f64).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_add_up_and_their_difference_is_the_candidates_loss() {
        let mut pairs = Pairs { champion_only: 3.0, candidate_only: 1.0, tied: 6.0 };
        pairs += Pairs { champion_only: 1.0, candidate_only: 2.0, tied: 7.0 };
        assert_eq!(pairs, Pairs { champion_only: 4.0, candidate_only: 3.0, tied: 13.0 });
        assert_eq!((pairs.difference(), Pairs::default().difference()), (Some(0.05), None));
        let increments = PairedMargin::new(0.01).unwrap().log_increments(Side::Harm, &pairs);
        assert_eq!(PairedMargin::weights().len(), increments.len());
        assert!((PairedMargin::weights().iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn swapping_the_arms_swaps_the_question() {
        let pairs = Pairs { champion_only: 40.0, candidate_only: 10.0, tied: 900.0 };
        let swapped = Pairs { champion_only: 10.0, candidate_only: 40.0, tied: 900.0 };
        let harm = PairedMargin::new(0.01).unwrap().log_e(Side::Harm, &pairs);
        let proof = PairedMargin::new(-0.01).unwrap().log_e(Side::Proof, &swapped);
        assert!((harm - proof).abs() < 1e-12);
        assert!(harm > 1.0, "{harm}");
    }

    #[test]
    fn ties_alone_prove_that_little_is_lost() {
        let margin = PairedMargin::new(0.01).unwrap();
        let ties = Pairs { tied: 2000.0, ..Pairs::default() };
        assert!(margin.log_e(Side::Proof, &ties) > 3.0);
        assert!(margin.log_e(Side::Harm, &ties) < 0.0);
        assert!(margin.log_e(Side::Proof, &Pairs::default()).abs() < 1e-12);
        assert_eq!(Pairs::default().difference(), None);
        assert!(PairedMargin::new(1.0).is_err());
    }
}
