//! Two proportions with an absolute margin: the likelihood ratio of an alternative against its projection on the null boundary `θ_b = r·θ_a + d`.
//! It computes increments per window; [`crate::harm`] and [`crate::proof`] add them up.
//!
//! For an alternative `(θ_a*, θ_b*)` fixed before the window, outside the null, let `(u, r·u+d)` minimise
//! `n_a·KL(θ_a*‖u) + n_b·KL(θ_b*‖r·u+d)`. Then
//!
//! ```text
//! ℓ = x_a ln(θ_a*/u) + (n_a−x_a) ln((1−θ_a*)/(1−u)) + x_b ln(θ_b*/(r·u+d)) + (n_b−x_b) ln((1−θ_b*)/(1−r·u−d))
//! ```
//!
//! is a log e-value. Proof: for true `(θ_a, θ_b)`, `ln E[e^ℓ]` is a sum of logarithms of linear functions, hence concave; it is zero at the projection,
//! and its gradient there is minus the gradient of the divergence, so by the optimality of the projection it is at most zero on the whole convex null.
//! Nothing is assumed about other windows: the common base rate may drift and the split of traffic may change freely.
//!
//! Source: Turner, Ly & Grünwald, *Generic E-variables for exact sequential k-sample tests* (2024); Turner & Grünwald (2022) for linear nulls.

use serde::{Deserialize, Serialize};

use crate::math::tidy;
use crate::window::{InvalidParameter, Side, Tally, Window};

/// Multiples of the margin, beyond the boundary, that the proof bets on, and their weights.
pub const PROOF_MULTIPLES: [f64; 4] = [0.25, 0.5, 1.0, 2.0];
/// Weights of [`PROOF_MULTIPLES`].
pub const PROOF_WEIGHTS: [f64; 4] = [0.15, 0.25, 0.5, 0.1];
/// Multiples of the margin that the harm process bets on, equally weighted.
pub const HARM_MULTIPLES: [f64; 6] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0];

/// Rates are kept this far from 0 and 1, so that no alternative is impossible.
const RATE_FLOOR: f64 = 1e-6;

/// The null boundary `θ_b = slope·θ_a + margin`, and how far from it the alternatives lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RiskDifference {
    margin: f64,
    slope: f64,
    effect: f64,
}

impl RiskDifference {
    /// Boundary `θ_b = θ_a + margin`, `margin` in (−1, 1) and not 0; alternatives at multiples of `|margin|`.
    pub fn new(margin: f64) -> Result<Self, InvalidParameter> {
        Self::with_line(1.0, margin, margin.abs())
    }

    /// Any boundary `θ_b = slope·θ_a + margin` with `slope` > 0, and a declared `effect` > 0 that takes the place of `|margin|` in the alternatives.
    pub fn with_line(slope: f64, margin: f64, effect: f64) -> Result<Self, InvalidParameter> {
        InvalidParameter::check(margin > -1.0 && margin < 1.0, "margin", "between -1 and 1")?;
        InvalidParameter::check(slope.is_finite() && slope > 0.0, "slope", "positive")?;
        InvalidParameter::check(effect.is_finite() && effect > 0.0, "effect", "positive; a margin of 0 needs a declared effect")?;
        Ok(Self { margin, slope, effect })
    }

    /// The margin `d`.
    pub fn margin(&self) -> f64 {
        self.margin
    }

    /// Weights of the alternatives, in the order of [`Self::log_increments`].
    pub fn weights(side: Side) -> &'static [f64] {
        match side {
            Side::Harm => &[1.0 / 6.0; 6],
            Side::Proof => &PROOF_WEIGHTS,
        }
    }

    /// Candidate rates that the alternatives of `side` bet on, for a champion rate guess. `None` marks one that fell into the null.
    pub fn alternatives(&self, side: Side, champion_rate: f64) -> Vec<Option<f64>> {
        let champion = clipped(champion_rate);
        let boundary = self.slope * champion + self.margin;
        let (multiples, sign): (&[f64], f64) = match side {
            Side::Harm => (&HARM_MULTIPLES, 1.0),
            Side::Proof => (&PROOF_MULTIPLES, -1.0),
        };
        multiples
            .iter()
            .map(|m| {
                let candidate = clipped(boundary + sign * self.effect * m);
                (sign * (candidate - boundary) > 0.0).then_some(candidate)
            })
            .collect()
    }

    /// Log likelihood ratio of each alternative of `side` for one closed window.
    ///
    /// `champion_rate` must be known before the window is read; see [`PlugInRate`]. A window that lacks an arm, or whose counts are impossible, gives
    /// zeros, which is always valid.
    pub fn log_increments(&self, side: Side, champion_rate: f64, window: &Window) -> Vec<f64> {
        let usable = window.has_both_arms() && window.champion.is_proportion() && window.candidate.is_proportion();
        let champion = clipped(champion_rate);
        self.alternatives(side, champion_rate)
            .into_iter()
            .map(|alternative| match alternative {
                Some(candidate) if usable => self.log_increment(champion, candidate, window),
                _ => 0.0,
            })
            .collect()
    }

    fn log_increment(&self, champion: f64, candidate: f64, window: &Window) -> f64 {
        let (a, b) = (window.champion, window.candidate);
        let Some((null_a, null_b)) = project(champion, candidate, a.total, b.total, self.slope, self.margin) else {
            return 0.0;
        };
        tidy(log_ratio(a, champion, null_a) + log_ratio(b, candidate, null_b))
    }
}

/// `x ln(p/q) + (n−x) ln((1−p)/(1−q))`, accurate when `p` and `q` are close.
pub(crate) fn log_ratio(tally: Tally, p: f64, q: f64) -> f64 {
    let good = tally.total - tally.bad;
    let bad_part = if tally.bad > 0.0 { tally.bad * ((p - q) / q).ln_1p() } else { 0.0 };
    let good_part = if good > 0.0 { good * ((q - p) / (1.0 - q)).ln_1p() } else { 0.0 };
    bad_part + good_part
}

/// The point of the line `θ_b = slope·θ_a + offset` nearest to `(theta_a, theta_b)` in divergence weighted by `n_a`, `n_b`.
///
/// Rates in (0, 1), sample sizes positive. `None` when the line does not cross the open unit square or an argument is outside its domain.
pub fn project(theta_a: f64, theta_b: f64, n_a: f64, n_b: f64, slope: f64, offset: f64) -> Option<(f64, f64)> {
    let inside = |p: f64| p > 0.0 && p < 1.0;
    if !(inside(theta_a) && inside(theta_b) && n_a > 0.0 && n_b > 0.0 && slope > 0.0 && n_a.is_finite() && n_b.is_finite()) {
        return None;
    }
    let (line_lo, line_hi) = ((-offset / slope).max(0.0), ((1.0 - offset) / slope).min(1.0));
    // Only the ratio of the sizes matters; scaling keeps huge counts finite.
    let share_a = n_a / (n_a + n_b);
    let share_b = n_b / (n_a + n_b);
    if line_hi.partial_cmp(&line_lo)? != std::cmp::Ordering::Greater || !(share_a + share_b).is_finite() {
        return None;
    }
    if (slope - 1.0).abs() <= 0.0 && offset.abs() <= 0.0 {
        let common = share_a * theta_a + share_b * theta_b;
        return Some((common, common));
    }
    let gap = (line_hi - line_lo) * 1e-12;
    let (ends_lo, ends_hi) = (line_lo + gap, line_hi - gap);
    let to_line = ((theta_b - offset) / slope).clamp(ends_lo, ends_hi);
    let from = theta_a.clamp(ends_lo, ends_hi);
    let (mut lo, mut hi) = (from.min(to_line), from.max(to_line));
    // Newton's steps on the increasing derivative of a convex objective, halving whenever a step leaves the bracket.
    let mut u = f64::midpoint(lo, hi);
    for _ in 0..100 {
        let v = slope * u + offset;
        let (var_a, var_b) = (u * (1.0 - u), v * (1.0 - v));
        let value = share_a * (u - theta_a) / var_a + slope * share_b * (v - theta_b) / var_b;
        if value > 0.0 {
            hi = u;
        } else {
            lo = u;
        }
        let curvature = share_a * (var_a - (u - theta_a) * (1.0 - 2.0 * u)) / (var_a * var_a)
            + slope * slope * share_b * (var_b - (v - theta_b) * (1.0 - 2.0 * v)) / (var_b * var_b);
        let newton = u - value / curvature;
        // At the root `u` is itself an end of the bracket, and the step need not lie inside: that is the end, not a reason to halve.
        if (newton - u).abs() <= 8.0 * f64::EPSILON * u {
            break;
        }
        u = if newton > lo && newton < hi { newton } else { f64::midpoint(lo, hi) };
    }
    let v = slope * u + offset;
    (inside(u) && inside(v)).then_some((u, v))
}

fn clipped(rate: f64) -> f64 {
    if rate.is_nan() { 0.5 } else { rate.clamp(RATE_FLOOR, 1.0 - RATE_FLOOR) }
}

/// Guess of the champion's rate for the next window, from a prior and the windows before it:
/// `(A₀ + Σx_a)/(N₀ + Σn_a)`. Absorb a window only after its increments were taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlugInRate {
    prior: Tally,
    seen: Tally,
}

impl PlugInRate {
    /// Largest prior strength kept.
    pub const MAX_STRENGTH: f64 = 1000.0;

    /// Prior from history: a rate, worth `strength` trials, at most [`Self::MAX_STRENGTH`].
    pub fn new(mean: f64, strength: f64) -> Self {
        let strength = if strength.is_finite() { strength.clamp(0.0, Self::MAX_STRENGTH) } else { 0.0 };
        // The guess is clipped, not the prior: a champion that never failed is worth no failure.
        let mean = if mean.is_nan() { 0.5 } else { mean.clamp(0.0, 1.0) };
        Self { prior: Tally::new(mean * strength, strength), seen: Tally::default() }
    }

    /// Without history: the champion's first closed window, worth 20 trials. That window must not be bet on before.
    pub fn from_first_window(champion: Tally) -> Self {
        Self::new(champion.rate().unwrap_or(0.5), 20.0)
    }

    /// Takes the champion's counts of a window that has been judged.
    pub fn absorb(&mut self, champion: Tally) {
        if champion.is_proportion() {
            self.seen += champion;
        }
    }

    /// The guess, clipped to \[1e-6, 1 − 1e-6\]; ½ when nothing is known.
    pub fn rate(&self) -> f64 {
        let (bad, total) = (self.prior.bad + self.seen.bad, self.prior.total + self.seen.total);
        clipped(if total > 0.0 { bad / total } else { 0.5 })
    }

    /// Champion counts absorbed, without the prior.
    pub fn seen(&self) -> Tally {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projection_lies_on_the_line_and_no_neighbour_is_nearer() {
        let objective = |u: f64| {
            let kl = |p: f64, q: f64| p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
            2700.0 * kl(0.08, u) + 300.0 * kl(0.02, u + 0.02)
        };
        let (u, v) = project(0.08, 0.02, 2700.0, 300.0, 1.0, 0.02).unwrap();
        assert!((v - u - 0.02).abs() < 1e-15);
        assert!(objective(u) <= objective(u + 1e-4) && objective(u) <= objective(u - 1e-4));
    }

    #[test]
    fn lines_outside_the_unit_square_have_no_projection() {
        assert_eq!(project(0.5, 0.5, 1.0, 1.0, 1.0, 1.0), None);
        assert_eq!(project(0.5, 0.5, 1.0, 1.0, 1.0, -1.0), None);
        assert_eq!(project(0.5, 0.5, 0.0, 1.0, 1.0, 0.1), None);
        assert_eq!(project(f64::NAN, 0.5, 1.0, 1.0, 1.0, 0.1), None);
    }

    #[test]
    fn a_window_without_one_arm_or_with_impossible_counts_is_no_evidence() {
        let test = RiskDifference::new(0.02).unwrap();
        for window in [
            Window::default(),
            Window::new(Tally::new(5.0, 100.0), Tally::default()),
            Window::new(Tally::default(), Tally::new(5.0, 100.0)),
            Window::new(Tally::new(5.0, 100.0), Tally::new(7.0, 6.0)),
        ] {
            for side in [Side::Harm, Side::Proof] {
                assert!(test.log_increments(side, 0.08, &window).iter().all(|l| *l == 0.0));
            }
        }
    }

    #[test]
    fn an_alternative_that_clips_into_the_null_contributes_nothing() {
        let test = RiskDifference::new(-0.05).unwrap();
        assert!(test.alternatives(Side::Proof, 0.02).iter().all(Option::is_none), "no rate is 5 points below 2 %");
        assert!(RiskDifference::new(0.0).is_err(), "a zero margin needs a declared effect");
        for (slope, margin) in [(0.0, 0.02), (f64::NAN, 0.02), (1.0, -1.0), (1.0, 1.0)] {
            assert!(RiskDifference::with_line(slope, margin, 0.02).is_err(), "{slope} {margin}");
        }
        assert!(RiskDifference::with_line(1.0, 0.0, 0.01).is_ok());
    }

    #[test]
    fn a_champion_that_never_failed_adds_no_failure_to_its_prior() {
        // (0 + 50)/(1000 + 1e6), exactly: clipping is for the guess.
        let mut rate = PlugInRate::new(0.0, 1000.0);
        assert!((rate.rate() - 1e-6).abs() <= 0.0);
        rate.absorb(Tally::new(50.0, 1e6));
        assert!((rate.rate() - 50.0 / 1_001_000.0).abs() <= 0.0);
        assert!((PlugInRate::new(f64::NAN, 10.0).rate() - 0.5).abs() <= 0.0);
    }

    #[test]
    fn the_plug_in_rate_forgets_nothing_and_stays_inside_zero_and_one() {
        let mut rate = PlugInRate::new(0.08, 1000.0);
        rate.absorb(Tally::new(210.0, 2700.0));
        assert!((rate.rate() - 290.0 / 3700.0).abs() < 1e-15);
        let mut empty = PlugInRate::new(0.0, 0.0);
        assert!((empty.rate() - 0.5).abs() < 1e-15);
        empty.absorb(Tally::new(0.0, 1e9));
        assert!((empty.rate() - 1e-6).abs() < 1e-15);
    }
}
