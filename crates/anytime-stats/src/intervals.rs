//! Intervals and estimates for people, from a handful of running sums: differences of proportions, single proportions, rate ratios.
//! No decision uses them; decisions are made on e-values. Each says what it assumes.

use serde::{Deserialize, Serialize};

use crate::math::bisect;
use crate::mixtures::{mixture_scale, normal_bound_two_sided, proportion_confidence_sequence};
use crate::window::{Interval, Tally, Window};

/// Difference of two proportions stratified by window (Mantel–Haenszel): never pooled over changes of traffic.
///
/// With `w = n_a n_b/(n_a+n_b)` per window: `Δ̂ = Σw(x_b/n_b − x_a/n_a)/Σw`, `V = Σw²[p_a(1−p_a)/n_a + p_b(1−p_b)/n_b]`, the `p` being the cumulative
/// rates of the arms with half an event added to each outcome. The interval is *asymptotic* (a normal mixture on the sum): trust it from about five bad
/// and five good events per arm. It is about the average difference over the windows seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StratifiedDifference {
    champion: Tally,
    candidate: Tally,
    weight: f64,
    weighted: f64,
    spread: Spread,
    first_spread: Spread,
}

/// `Σ φ w²/n` of each arm: the variance of the weighted sum, in units of each arm's `p(1−p)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Spread {
    champion: f64,
    candidate: f64,
}

impl StratifiedDifference {
    /// Adds one closed window with its over-dispersion `phi` ≥ 1; windows without both arms count for nothing.
    pub fn absorb(&mut self, window: &Window, phi: f64) {
        let (a, b) = (window.champion, window.candidate);
        if !(window.has_both_arms() && a.is_proportion() && b.is_proportion()) {
            return;
        }
        self.champion += a;
        self.candidate += b;
        let w = a.total / (a.total + b.total) * b.total;
        let unit = w * w * phi.max(1.0);
        self.weight += w;
        self.weighted += w * (b.bad / b.total - a.bad / a.total);
        self.spread.champion += unit / a.total;
        self.spread.candidate += unit / b.total;
        if self.first_spread.champion <= 0.0 {
            self.first_spread = self.spread;
        }
    }

    fn variance(&self, spread: Spread) -> f64 {
        let smoothed = |t: Tally| {
            let p = (t.bad + 0.5) / (t.total + 1.0);
            p * (1.0 - p)
        };
        smoothed(self.champion) * spread.champion + smoothed(self.candidate) * spread.candidate
    }

    /// `Δ̂`; `None` without data.
    pub fn estimate(&self) -> Option<f64> {
        (self.weight > 0.0 && self.weighted.is_finite()).then(|| self.weighted / self.weight)
    }

    /// `S = Σw(x_b/n_b − x_a/n_a − margin)` and its variance `V`.
    pub fn score(&self, margin: f64) -> (f64, f64) {
        (self.weighted - margin * self.weight, self.variance(self.spread))
    }

    /// Counts of both arms so far.
    pub fn counts(&self) -> Window {
        Window::new(self.champion, self.candidate)
    }

    /// Two-sided time-uniform interval, sharpest after `planned_windows` windows like the first.
    pub fn interval(&self, alpha: f64, planned_windows: f64) -> Option<Interval> {
        let estimate = self.estimate()?;
        let scale = mixture_scale(self.variance(self.first_spread) * planned_windows.max(1.0), alpha);
        let half_width = normal_bound_two_sided(self.variance(self.spread), alpha, scale) / self.weight;
        half_width.is_finite().then_some(Interval {
            estimate,
            lower: (estimate - half_width).max(-1.0),
            upper: (estimate + half_width).min(1.0),
        })
    }
}

/// Interval for a single proportion: exact at every sample size at once, for independent trials. Sharpest at `planned_trials`.
pub fn proportion_interval(tally: Tally, alpha: f64, planned_trials: f64) -> Option<Interval> {
    proportion_confidence_sequence(tally.bad, tally.total, alpha, planned_trials.max(1.0), alpha)
}

/// Ratio of two rates stratified by window (Mantel–Haenszel).
///
/// `r̂ = Σ(x_b n_a/N)/Σ(x_a n_b/N)`, `N = n_a+n_b`. The interval collects the ratios `r` whose score `Σ(x_b n_a − r x_a n_b)/N`, with variance
/// `r Σ(x_a+x_b) n_a n_b/N²`, a normal mixture does not reject. *Asymptotic*: trust it from about ten events per arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StratifiedRatio {
    candidate_part: f64,
    champion_part: f64,
    information: f64,
    first_information: f64,
}

impl StratifiedRatio {
    /// Widest ratio that an interval names; beyond it reads "unbounded".
    pub const MAX: f64 = 1e6;

    /// Adds one closed window with its over-dispersion `phi` ≥ 1.
    pub fn absorb(&mut self, window: &Window, phi: f64) {
        let (a, b) = (window.champion, window.candidate);
        if !(window.has_both_arms() && a.is_rate() && b.is_rate()) {
            return;
        }
        let share_a = a.total / (a.total + b.total);
        let share_b = b.total / (a.total + b.total);
        self.candidate_part += b.bad * share_a;
        self.champion_part += a.bad * share_b;
        let information = (a.bad + b.bad) * share_a * share_b * phi.max(1.0);
        self.information += information;
        if self.first_information <= 0.0 {
            self.first_information = information;
        }
    }

    /// `r̂`; `None` while the champion has no events.
    pub fn estimate(&self) -> Option<f64> {
        (self.champion_part > 0.0).then(|| self.candidate_part / self.champion_part).filter(|r| r.is_finite())
    }

    /// Two-sided time-uniform interval, sharpest after `planned_windows` windows like the first one with events. An end at 0 or [`Self::MAX`] is open.
    pub fn interval(&self, alpha: f64, planned_windows: f64) -> Option<Interval> {
        let estimate = self.estimate()?.min(Self::MAX);
        if self.information <= 0.0 || !self.information.is_finite() {
            return None;
        }
        let scale = mixture_scale(self.first_information * planned_windows.max(1.0), alpha);
        let bound = normal_bound_two_sided(self.information, alpha, scale);
        // Everything scales with √r, so the mixture's variance is r times the information.
        let excess = |ln_r: f64| {
            let r = ln_r.exp();
            (self.candidate_part - r * self.champion_part).abs() - r.sqrt() * bound
        };
        let limit = Self::MAX.ln();
        let centre = estimate.max(1.0 / Self::MAX).ln();
        let lower = if excess(-limit) > 0.0 && excess(centre) < 0.0 { bisect(-limit, centre, excess).exp() } else { 0.0 };
        let upper = if excess(limit) > 0.0 { bisect(centre, limit, excess).exp() } else { Self::MAX };
        Some(Interval { estimate, lower: lower.min(estimate), upper: upper.max(estimate) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(x_a: f64, n_a: f64, x_b: f64, n_b: f64) -> Window {
        Window::new(Tally::new(x_a, n_a), Tally::new(x_b, n_b))
    }

    #[test]
    fn a_moving_share_of_traffic_does_not_fake_a_difference() {
        let mut stratified = StratifiedDifference::default();
        for w in [window(100.0, 1000.0, 10.0, 100.0), window(20.0, 100.0, 200.0, 1000.0)] {
            stratified.absorb(&w, 1.0);
        }
        assert!(stratified.estimate().unwrap().abs() < 1e-15);
        let pooled = stratified.counts();
        assert!(pooled.candidate.rate().unwrap() - pooled.champion.rate().unwrap() > 0.05);
    }

    #[test]
    fn intervals_contain_their_estimates_and_shrink() {
        let (mut difference, mut ratio) = (StratifiedDifference::default(), StratifiedRatio::default());
        assert!(difference.interval(0.05, 10.0).is_none() && ratio.interval(0.05, 10.0).is_none());
        let mut widths = Vec::new();
        for _ in 0..40 {
            difference.absorb(&window(80.0, 1000.0, 90.0, 1000.0), 1.0);
            ratio.absorb(&window(80.0, 1000.0, 90.0, 1000.0), 1.0);
            let (d, r) = (difference.interval(0.05, 20.0).unwrap(), ratio.interval(0.05, 20.0).unwrap());
            assert!(d.lower < 0.01 && 0.01 < d.upper && r.lower < 1.125 && 1.125 < r.upper);
            widths.push(d.upper - d.lower + r.upper - r.lower);
        }
        assert!(widths.windows(2).all(|w| w[1] < w[0]), "{widths:?}");
        assert!(widths[39] < 0.3);
    }

    #[test]
    fn a_ratio_without_events_is_unknown() {
        let mut ratio = StratifiedRatio::default();
        ratio.absorb(&window(0.0, 1000.0, 3.0, 1000.0), 1.0);
        assert_eq!(ratio.estimate(), None);
        ratio.absorb(&window(1.0, 1000.0, 0.0, 1000.0), 1.0);
        let interval = ratio.interval(0.05, 10.0).unwrap();
        assert!(interval.lower >= 0.0 && interval.upper <= StratifiedRatio::MAX && interval.lower <= interval.estimate, "{interval:?}");
    }
}
