//! One proportion against a fixed limit, as "share of requests slower than the limit": beta–binomial mixtures and point alternatives.
//! It does not compare arms; [`crate::absolute_limit`] keeps a candidate from being blamed for the world.
//!
//! With `x` bad of `n`, limit `p₀`, prior Beta(a, b) truncated to the alternative:
//!
//! ```text
//! ln E(null p ≥ p₀) = ln[B(a+x, b+n−x)·I_{p₀}(a+x, b+n−x)] − ln[B(a,b)·I_{p₀}(a,b)] − x ln p₀ − (n−x) ln(1−p₀)      (proof)
//! ln E(null p ≤ p₀) = the same with 1−I in the place of I                                                                (harm)
//! ```
//!
//! `B` is the beta function and `I` the regularised incomplete beta function. Exact at every `n`; a function of cumulative counts, so it needs no state.
//! It takes neither a cap nor a restart: for those, use the point alternatives with [`crate::harm`] and [`crate::proof`].

use serde::{Deserialize, Serialize};

use crate::math::{ln_beta, ln_beta_reg, tidy};
use crate::risk_difference::{HARM_MULTIPLES, log_ratio};
use crate::window::{InvalidParameter, Side, Tally};

/// How far below the limit the proof's point alternatives lie, as a share of the limit; equal weights.
pub const PROOF_REDUCTIONS: [f64; 4] = [0.15, 0.3, 0.5, 0.75];

/// A limit on the share of bad events, with the prior of its mixture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exceedance {
    limit: f64,
    prior_a: f64,
    prior_b: f64,
}

impl Exceedance {
    /// Limit `p₀` in (0, 1), prior `a = 100·p₀`, `b = 100·(1−p₀)`: centred on the limit, worth 100 trials.
    pub fn new(limit: f64) -> Result<Self, InvalidParameter> {
        Self::with_prior(limit, 100.0 * limit, 100.0 * (1.0 - limit))
    }

    /// Limit with any Beta prior.
    pub fn with_prior(limit: f64, prior_a: f64, prior_b: f64) -> Result<Self, InvalidParameter> {
        InvalidParameter::check(limit > 0.0 && limit < 1.0, "limit", "between 0 and 1")?;
        InvalidParameter::check(prior_a.is_finite() && prior_a > 0.0, "prior_a", "positive")?;
        InvalidParameter::check(prior_b.is_finite() && prior_b > 0.0, "prior_b", "positive")?;
        Ok(Self { limit, prior_a, prior_b })
    }

    /// The limit `p₀`.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// Log e-value of the truncated mixture on cumulative counts. Impossible counts give 0.
    pub fn log_e(&self, side: Side, cumulative: Tally) -> f64 {
        if !cumulative.is_proportion() {
            return 0.0;
        }
        let (a, b) = self.posterior(cumulative);
        let truncation = |(below, above): (f64, f64)| match side {
            Side::Proof => below,
            Side::Harm => above,
        };
        let seen = truncation(ln_beta_reg(a, b, self.limit));
        let before = truncation(ln_beta_reg(self.prior_a, self.prior_b, self.limit));
        tidy(self.log_e_two_sided(cumulative) + seen - before)
    }

    /// Log e-value of the whole mixture, against the null `p = p₀`.
    pub fn log_e_two_sided(&self, cumulative: Tally) -> f64 {
        if !cumulative.is_proportion() {
            return 0.0;
        }
        let (a, b) = self.posterior(cumulative);
        let good = cumulative.total - cumulative.bad;
        tidy(ln_beta(a, b) - ln_beta(self.prior_a, self.prior_b) - cumulative.bad * self.limit.ln() - good * (-self.limit).ln_1p())
    }

    fn posterior(&self, cumulative: Tally) -> (f64, f64) {
        (self.prior_a + cumulative.bad, self.prior_b + cumulative.total - cumulative.bad)
    }

    /// Point alternatives: `p₀(1+m)` with the harm multiples, or `p₀(1−m)` for the proof. `None` marks one at or beyond 1.
    pub fn alternatives(&self, side: Side) -> Vec<Option<f64>> {
        let (multiples, sign): (&[f64], f64) = match side {
            Side::Harm => (&HARM_MULTIPLES, 1.0),
            Side::Proof => (&PROOF_REDUCTIONS, -1.0),
        };
        multiples.iter().map(|m| Some(self.limit * (1.0 + sign * m)).filter(|p| *p < 1.0)).collect()
    }

    /// Weights of the point alternatives, in the order of [`Self::log_increments`].
    pub fn weights(side: Side) -> &'static [f64] {
        match side {
            Side::Harm => &[1.0 / 6.0; 6],
            Side::Proof => &[0.25; 4],
        }
    }

    /// Log likelihood ratio `x ln(p_k/p₀) + (n−x) ln((1−p_k)/(1−p₀))` of each point alternative for one closed window.
    pub fn log_increments(&self, side: Side, window: Tally) -> Vec<f64> {
        let usable = window.is_proportion();
        self.alternatives(side)
            .into_iter()
            .map(|alternative| match alternative {
                Some(p) if usable => tidy(log_ratio(window, p, self.limit)),
                _ => 0.0,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_truncations_average_to_the_whole_mixture() {
        let test = Exceedance::new(0.05).unwrap();
        let counts = Tally::new(31.0, 400.0);
        let (below, above) = ln_beta_reg(5.0, 95.0, 0.05);
        let mixed = below.exp() * test.log_e(Side::Proof, counts).exp() + above.exp() * test.log_e(Side::Harm, counts).exp();
        assert!((mixed.ln() - test.log_e_two_sided(counts)).abs() < 1e-12);
    }

    #[test]
    fn huge_counts_stay_finite() {
        let test = Exceedance::new(1e-4).unwrap();
        for counts in [Tally::new(0.0, 1e15), Tally::new(1e15, 1e15), Tally::new(5e14, 1e15), Tally::new(1e300, 1e301)] {
            for side in [Side::Harm, Side::Proof] {
                assert!(test.log_e(side, counts).is_finite(), "{counts:?} {side:?}");
            }
        }
        assert!(Exceedance::with_prior(0.1, 0.0, 1.0).is_err() && Exceedance::with_prior(0.1, 1.0, 0.0).is_err());
        assert!(Exceedance::new(1.0).is_err() && Exceedance::new(0.0).is_err());
    }

    #[test]
    fn a_high_limit_drops_impossible_alternatives() {
        let test = Exceedance::new(0.5).unwrap();
        assert_eq!(test.alternatives(Side::Harm).iter().flatten().count(), 2, "0.625 and 0.75; the rest is not below 1");
    }
}
