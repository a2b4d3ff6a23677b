//! Two rates, or two rare proportions, with a relative margin: given how many events happened in a window, in which arm did they happen?
//! It computes increments per window; [`crate::harm`] and [`crate::proof`] add them up.
//!
//! With exposures `n_a, n_b`, events `x_a, x_b`, rate ratio `r = λ_b/λ_a` and margin `r₀`, the share of arm b is `p(r) = n_b r/(n_a + n_b r)` and
//!
//! ```text
//! ℓ_k = x_b ln(p(r_k)/p(r₀)) + x_a ln((1−p(r_k))/(1−p(r₀)))
//! harm  (null r ≤ r₀):  r_k = r₀·exp(linspace(ln 1.1, ln 8, 12)), equal weights
//! proof (null r ≥ r₀):  r_k = r₀·exp(−m·s), s = max(|ln r₀|, ln 1.05), m ∈ {0.25, 0.5, 1, 2}
//! ```
//!
//! Valid for independent Poisson counts under any time-varying common baseline, because the total carries no information about `r`. Also valid for
//! Bernoulli counts: on the boundary `ln E[e^ℓ] ≤ θ_a(p_1−p_0)[n_b r₀/p_0 − n_a/(1−p_0)] = 0`, as both terms in the bracket equal `n_a + n_b r₀`.
//! It costs power only where events are common. There is no nuisance parameter.
//!
//! Source: Lindon & Malek, *Anytime-valid inference for multinomial count data* (NeurIPS 2022), with each window's own exposures.

use serde::{Deserialize, Serialize};

use crate::math::tidy;
use crate::risk_difference::{PROOF_MULTIPLES, PROOF_WEIGHTS};
use crate::window::{InvalidParameter, Side, Window};

/// Number of harm alternatives.
const HARM_COMPONENTS: usize = 12;

/// The null boundary `λ_b = margin·λ_a`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateRatio {
    margin: f64,
}

impl RateRatio {
    /// A ratio margin `r₀` > 0: 1.25 means 25 % more events are still acceptable.
    pub fn new(margin: f64) -> Result<Self, InvalidParameter> {
        InvalidParameter::check(margin.is_finite() && margin > 0.0, "margin", "a positive ratio")?;
        Ok(Self { margin })
    }

    /// The margin `r₀`.
    pub fn margin(&self) -> f64 {
        self.margin
    }

    /// Weights of the alternatives, in the order of [`Self::log_increments`].
    pub fn weights(side: Side) -> &'static [f64] {
        match side {
            Side::Harm => &[1.0 / HARM_COMPONENTS as f64; HARM_COMPONENTS],
            Side::Proof => &PROOF_WEIGHTS,
        }
    }

    /// Logarithms of `r_k/r₀`.
    fn log_steps(self, side: Side) -> Vec<f64> {
        match side {
            Side::Harm => {
                let (first, last) = (1.1_f64.ln(), 8.0_f64.ln());
                let step = (last - first) / (HARM_COMPONENTS - 1) as f64;
                (0..HARM_COMPONENTS).map(|k| first + step * k as f64).collect()
            }
            Side::Proof => {
                let s = self.margin.ln().abs().max(1.05_f64.ln());
                PROOF_MULTIPLES.iter().map(|m| -m * s).collect()
            }
        }
    }

    /// Rate ratios that the alternatives of `side` bet on.
    pub fn alternatives(&self, side: Side) -> Vec<f64> {
        self.log_steps(side).into_iter().map(|step| self.margin * step.exp()).collect()
    }

    /// Log likelihood ratio of each alternative of `side` for one closed window. Impossible counts give zeros; so does a window without an arm.
    pub fn log_increments(&self, side: Side, window: &Window) -> Vec<f64> {
        let (a, b) = (window.champion, window.candidate);
        let usable = window.has_both_arms() && a.is_rate() && b.is_rate();
        self.log_steps(side)
            .into_iter()
            .map(|step| {
                if !usable {
                    return 0.0;
                }
                // p(r_k)/p(r₀) = (r_k/r₀)·(n_a+n_b r₀)/(n_a+n_b r_k), and the complement has the second factor only.
                let share = 1.0 / (1.0 + a.total / b.total / self.margin);
                tidy(b.bad * step - (a.bad + b.bad) * (share * step.exp_m1()).ln_1p())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Tally;

    #[test]
    fn the_increment_is_the_binomial_likelihood_ratio() {
        let test = RateRatio::new(1.25).unwrap();
        let window = Window::new(Tally::new(14.0, 2700.0), Tally::new(4.0, 300.0));
        let p = |r: f64| 300.0 * r / (2700.0 + 300.0 * r);
        for side in [Side::Harm, Side::Proof] {
            for (r, got) in test.alternatives(side).into_iter().zip(test.log_increments(side, &window)) {
                let want = 4.0 * (p(r) / p(1.25)).ln() + 14.0 * ((1.0 - p(r)) / (1.0 - p(1.25))).ln();
                assert!((got - want).abs() < 1e-12, "{side:?} {r}");
            }
        }
    }

    #[test]
    fn a_margin_below_one_still_has_alternatives_outside_the_null() {
        for margin in [0.8, 1.0, 1.25] {
            let test = RateRatio::new(margin).unwrap();
            assert!(test.alternatives(Side::Proof).iter().all(|r| *r < margin), "{margin}");
            assert!(test.alternatives(Side::Harm).iter().all(|r| *r > margin), "{margin}");
        }
    }

    #[test]
    fn empty_and_impossible_windows_are_no_evidence() {
        let test = RateRatio::new(1.0).unwrap();
        for window in [
            Window::default(),
            Window::new(Tally::new(3.0, 10.0), Tally::default()),
            Window::new(Tally::new(3.0, 0.0), Tally::new(1.0, 5.0)),
            Window::new(Tally::new(3.0, 10.0), Tally::new(-1.0, 10.0)),
            Window::new(Tally::new(f64::INFINITY, 10.0), Tally::new(1.0, 10.0)),
            Window::new(Tally::new(0.0, 10.0), Tally::new(0.0, 10.0)),
        ] {
            assert!(test.log_increments(Side::Harm, &window).iter().all(|l| *l == 0.0), "{window:?}");
        }
        assert!(RateRatio::new(0.0).is_err());
    }
}
