//! Gauges (power, utilisation): an asymptotic confidence sequence on batch means, with their autocorrelation taken into account.
//! It is asymptotic, not exact, and it cannot separate a model from the machine it runs on: compare groups of at least three targets per arm.
//!
//! `y_t` is the mean of the candidate minus the mean of the champion over the same batch of time (5 minutes), or the candidate's own mean when it is held
//! against an absolute limit. After `t` batches:
//!
//! ```text
//! μ̂ = mean(y);  v = t/(t−1)·(mean(y²)−μ̂²);  ρ̂ = clip((mean_{s=2..t}(y_s y_{s−1}) − μ̂²)/v, 0, 0.95);  σ̂² = v(1+ρ̂)/(1−ρ̂)
//! with history:     σ² = (48σ_h² + tσ̂²)/(48+t),  R = c·σ_h²
//! without history:  ρ̂ + 1/√t (clipped to 0.95) in the place of ρ̂,  σ² = σ̂²,  R = c·σ²
//! V = tσ²;  S = t(d−μ̂) for the proof, t(μ̂−d) for harm;  c = v_opt/(2 ln(1/2α) + ln(1+2 ln(1/2α)))
//! ln E = ½ ln(4R/(V+R)) + S²/(2(V+R)) + ln Φ(S/√(V+R))
//! ```
//!
//! For a level against a limit the lagged products are taken about the mean, because there the printed form would depend on the unit's zero point.
//! Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, *Time-uniform central limit theory and asymptotic confidence sequences* (2024).

use serde::{Deserialize, Serialize};

use crate::math::tidy;
use crate::mixtures::{mixture_scale, normal_log_e_one_sided};
use crate::window::{Interval, InvalidParameter, Side};

/// Weight of the history in the long-run variance, in batches.
const HISTORY_BATCHES: f64 = 48.0;
/// Largest lag-1 correlation that is believed.
const MAX_CORRELATION: f64 = 0.95;
/// Batches before the first evaluation, with and without history.
const FIRST_BATCHES: (u32, u32) = (12, 24);
/// Standard deviations below this share of the scale at hand are a sensor's rounding, not knowledge.
const RESOLUTION: f64 = 1e-3;

/// What is fixed before the first batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaugePlan {
    /// Number of batches at which the test should be sharpest; half the maximum is a good choice. At least 1.
    pub planned_batches: f64,
    /// One-sided level of the test, in (0, ½).
    pub alpha: f64,
    /// Long-run variance of one batch from 24 h of history: of the difference of two champion groups, or twice the champion's own.
    pub history_variance: Option<f64>,
}

/// What the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GaugeKind {
    /// Candidate minus champion over the same batch.
    Difference,
    /// The candidate's own level, to be held against an absolute limit.
    Level,
}

/// Running state of one gauge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaugeProcess {
    plan: GaugePlan,
    kind: GaugeKind,
    batches: u32,
    /// First value; sums are kept relative to it, so that a large level does not eat the digits of a small spread.
    first: f64,
    last: f64,
    sum: f64,
    squares: f64,
    products: f64,
}

/// Everything the formulas derive from the batches so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaugeEvaluation {
    /// Batches `t`.
    pub batches: f64,
    /// Mean `μ̂`.
    pub mean: f64,
    /// Variance `v` of one batch.
    pub variance: f64,
    /// Lag-1 correlation as used: with the allowance `1/√t` when there is no history.
    pub correlation: f64,
    /// Long-run variance `σ̂²` of one batch, from these batches alone.
    pub long_run_variance: f64,
    /// Long-run variance `σ²` used.
    pub variance_used: f64,
    /// `t·v/σ²`: how many independent batches these are worth.
    pub effective_batches: f64,
}

impl GaugeProcess {
    /// A gauge that compares candidate and champion; margins are differences.
    pub fn difference(plan: GaugePlan) -> Result<Self, InvalidParameter> {
        Self::new(plan, GaugeKind::Difference)
    }

    /// A gauge whose candidate is held against absolute limits; margins are those limits.
    pub fn level(plan: GaugePlan) -> Result<Self, InvalidParameter> {
        Self::new(plan, GaugeKind::Level)
    }

    fn new(plan: GaugePlan, kind: GaugeKind) -> Result<Self, InvalidParameter> {
        InvalidParameter::check(plan.planned_batches.is_finite() && plan.planned_batches >= 1.0, "planned_batches", "at least 1")?;
        InvalidParameter::check(plan.alpha > 0.0 && plan.alpha < 0.5, "alpha", "between 0 and 0.5")?;
        let history = plan.history_variance;
        InvalidParameter::check(history.is_none_or(|h| h.is_finite() && h > 0.0), "history_variance", "positive and finite")?;
        Ok(Self { plan, kind, batches: 0, first: 0.0, last: 0.0, sum: 0.0, squares: 0.0, products: 0.0 })
    }

    /// Adds one batch mean; values that are not finite are ignored.
    pub fn absorb(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.batches == 0 {
            self.first = value;
        }
        let shifted = value - self.first;
        if self.batches > 0 {
            self.products += shifted * (self.last - self.first);
        }
        self.sum += shifted;
        self.squares += shifted * shifted;
        self.last = value;
        self.batches = self.batches.saturating_add(1);
    }

    /// Batches absorbed.
    pub fn batches(&self) -> u32 {
        self.batches
    }

    /// Enough batches for a first evaluation: 12 with history, 24 without.
    pub fn is_ready(&self) -> bool {
        let (with, without) = FIRST_BATCHES;
        self.batches >= if self.plan.history_variance.is_some() { with } else { without }
    }

    /// The derived numbers, from the second batch on; `None` before, or when sums overflowed. `scale` is the magnitude at hand (a margin or limit),
    /// below a thousandth of which a spread is taken for rounding.
    pub fn evaluate(&self, scale: f64) -> Option<GaugeEvaluation> {
        if self.batches < 2 {
            return None;
        }
        let t = f64::from(self.batches);
        let shifted_mean = self.sum / t;
        let mean = self.first + shifted_mean;
        let floor = (RESOLUTION * mean.abs().max(scale.abs())).powi(2);
        let variance = (t / (t - 1.0) * (self.squares / t - shifted_mean * shifted_mean)).max(floor);
        let plain = (self.lagged_covariance(t, shifted_mean) / variance).clamp(0.0, MAX_CORRELATION);
        let plain = if plain.is_nan() { 0.0 } else { plain };
        let correlation = match self.plan.history_variance {
            Some(_) => plain,
            None => (plain + 1.0 / t.sqrt()).min(MAX_CORRELATION),
        };
        let long_run_variance = variance * (1.0 + correlation) / (1.0 - correlation);
        let variance_used = match self.plan.history_variance {
            Some(history) => (HISTORY_BATCHES * history + t * long_run_variance) / (HISTORY_BATCHES + t),
            None => long_run_variance,
        };
        let evaluation = GaugeEvaluation {
            batches: t,
            mean,
            variance,
            correlation,
            long_run_variance,
            variance_used,
            effective_batches: t * variance / variance_used,
        };
        (variance_used.is_finite() && variance_used > 0.0 && mean.is_finite()).then_some(evaluation)
    }

    fn lagged_covariance(&self, t: f64, shifted_mean: f64) -> f64 {
        let pairs = t - 1.0;
        let last = self.last - self.first;
        // Σ of y_s and of y_{s−1} over s = 2..t; the first shifted value is zero.
        let (later, earlier) = (self.sum, self.sum - last);
        match self.kind {
            GaugeKind::Level => (self.products - shifted_mean * (later + earlier)) / pairs + shifted_mean * shifted_mean,
            GaugeKind::Difference => {
                let mean = self.first + shifted_mean;
                (self.products + self.first * (later + earlier)) / pairs + self.first * self.first - mean * mean
            }
        }
    }

    /// The evaluation's scale `R`, for a one-sided level (`2α` for a two-sided one).
    fn mixture(&self, evaluation: &GaugeEvaluation, one_sided_alpha: f64) -> f64 {
        mixture_scale(self.plan.planned_batches, 2.0 * one_sided_alpha) * self.plan.history_variance.unwrap_or(evaluation.variance_used)
    }

    /// Log e-value of one side for a margin; 0 until [`Self::is_ready`].
    pub fn log_e(&self, side: Side, margin: f64) -> f64 {
        if self.is_ready() { self.log_e_early(side, margin) } else { 0.0 }
    }

    /// [`Self::log_e`] without the minimum number of batches: its error control is not established before it.
    pub fn log_e_early(&self, side: Side, margin: f64) -> f64 {
        let Some(now) = self.evaluate(margin) else { return 0.0 };
        let toward = match side {
            Side::Proof => margin - now.mean,
            Side::Harm => now.mean - margin,
        };
        tidy(normal_log_e_one_sided(now.batches * toward, now.batches * now.variance_used, self.mixture(&now, self.plan.alpha)))
    }

    /// Mean with a two-sided time-uniform interval of level `alpha`; `None` until [`Self::is_ready`].
    pub fn interval(&self, alpha: f64) -> Option<Interval> {
        let now = self.is_ready().then(|| self.evaluate(0.0)).flatten()?;
        let scale = self.mixture(&now, alpha / 2.0);
        let total = now.batches * now.variance_used + scale;
        let half_width = (total * (total / (scale * alpha * alpha)).ln()).sqrt() / now.batches;
        half_width.is_finite().then_some(Interval { estimate: now.mean, lower: now.mean - half_width, upper: now.mean + half_width })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [f64; 24] = [
        0.669, 0.691, -0.221, 0.324, 0.993, 0.525, 0.279, 0.627, 0.253, 0.457, 0.685, 0.278, -0.219, 0.076, 0.096, 0.69, 0.798, 0.847,
        0.742, 0.637, 0.25, 0.579, 1.374, 0.4,
    ];

    fn plan(history: Option<f64>) -> GaugePlan {
        GaugePlan { planned_batches: 144.0, alpha: 0.05, history_variance: history }
    }

    fn filled(mut process: GaugeProcess, offset: f64) -> GaugeProcess {
        for value in VALUES {
            process.absorb(value + offset);
        }
        process
    }

    #[test]
    fn nothing_is_said_before_the_first_evaluation() {
        let mut process = GaugeProcess::difference(plan(Some(0.25))).unwrap();
        for _ in 0..11 {
            process.absorb(0.0);
        }
        assert!(process.log_e(Side::Proof, 100.0) == 0.0 && process.interval(0.05).is_none());
        process.absorb(0.0);
        assert!(process.log_e(Side::Proof, 100.0) > 3.0 && process.interval(0.05).is_some());
    }

    #[test]
    fn a_levels_evidence_does_not_depend_on_the_zero_point_of_its_unit() {
        let near = filled(GaugeProcess::level(plan(None)).unwrap(), 0.0);
        let far = filled(GaugeProcess::level(plan(None)).unwrap(), 273.15);
        assert!((near.log_e(Side::Proof, 1.0) - far.log_e(Side::Proof, 274.15)).abs() < 1e-6 * near.log_e(Side::Proof, 1.0).abs());
        assert!(far.evaluate(0.0).unwrap().correlation < 0.5);
    }

    #[test]
    fn a_constant_sensor_is_evidence_without_being_certainty() {
        let mut process = GaugeProcess::level(plan(None)).unwrap();
        for _ in 0..30 {
            process.absorb(20.0);
        }
        assert!(process.log_e(Side::Proof, 30.0) > 3.0 && process.log_e(Side::Harm, 30.0) < 0.0);
        assert!(process.log_e(Side::Proof, 30.0).is_finite());
    }

    #[test]
    fn the_interval_agrees_with_the_side_that_is_proven() {
        let process = filled(GaugeProcess::difference(plan(Some(0.25))).unwrap(), 0.0);
        let interval = process.interval(0.05).unwrap();
        assert!(interval.lower < interval.estimate && interval.estimate < interval.upper);
        assert!(process.log_e(Side::Proof, interval.upper + 0.3) > 20.0_f64.ln());
        let evaluation = process.evaluate(0.0).unwrap();
        assert!(evaluation.effective_batches > 0.0 && evaluation.effective_batches <= 24.0);
    }

    #[test]
    fn plans_outside_their_domain_are_refused() {
        assert!(GaugeProcess::level(GaugePlan { planned_batches: 0.0, ..plan(None) }).is_err());
        assert!(GaugeProcess::level(GaugePlan { alpha: 0.5, ..plan(None) }).is_err());
        assert!(GaugeProcess::level(plan(Some(0.0))).is_err());
    }
}
