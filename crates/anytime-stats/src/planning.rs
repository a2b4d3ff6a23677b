//! Sample sizes before anything runs. Fixed-sample formulas; the sequential factor turns them into a maximum duration.
//! All return fractional numbers of trials (round up), or `None` when the question has no answer, as for a margin that is already used up.
//!
//! Measured for the default e-processes: the stopping sample over the fixed sample of 90 % power has a median of 0.70–0.86, and 95 % of runs stop by
//! 2.0–2.4. Plan the fixed sample, allow [`SEQUENTIAL_FACTOR`] times it, and multiply by the over-dispersion φ.
//!
//! Sources: Chow, Shao & Wang, *Sample size calculations in clinical research*; Connor (1987); Cohen (1988).

use crate::divergence::Measure;
use crate::math::{bisect, chi2_inverse_sf, gauss_legendre, legendre_on, ln_beta_reg, ndtr, ndtri, noncentral_chi2_cdf};

/// Maximum duration over fixed sample size.
pub const SEQUENTIAL_FACTOR: f64 = 2.0;

/// Level and power of a fixed-sample test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Precision {
    /// Level, one- or two-sided as the function says.
    pub alpha: f64,
    /// Power at the stated effect.
    pub power: f64,
}

impl Precision {
    fn one_sided(self) -> f64 {
        ndtri(1.0 - self.alpha) + ndtri(self.power)
    }

    fn two_sided(self) -> f64 {
        ndtri(1.0 - self.alpha / 2.0) + ndtri(self.power)
    }
}

fn positive(n: f64) -> Option<f64> {
    (n.is_finite() && n >= 0.0).then_some(n)
}

/// What remains of a margin; differences below rounding count as nothing.
fn room_left(margin: f64, difference: f64) -> Option<f64> {
    let room = margin - difference;
    (room > 1e-12).then_some(room)
}

fn variance(p: f64) -> f64 {
    p * (1.0 - p)
}

/// Live trials that prove a [`Measure`] of drift below `bound` when there is none, over `bins` bins, with `ratio` times as many trials of the reference
/// (infinite for shares that are known). The level is halved, because the first look spends half of it.
pub fn no_drift(measure: Measure, bound: f64, bins: usize, ratio: f64, precision: Precision) -> Option<f64> {
    if bins < 2 || !(bound > 0.0 && ratio > 0.0) {
        return None;
    }
    let alpha = precision.alpha / 2.0;
    let size = if measure == Measure::KolmogorovSmirnov {
        // What chance alone reaches is taken off the bound.
        let reached = |p: f64| (-p.ln() / 2.0).sqrt();
        ((reached(alpha) + reached(1.0 - precision.power)) / bound).powi(2)
    } else {
        // Without drift the index times the size is chi-square; what it reaches with the power must still be rejected as one of `bound`.
        let dof = bins as f64 - 1.0;
        let reached = chi2_inverse_sf(1.0 - precision.power, dof);
        let needed = bisect(0.0, 100.0 + 10.0 * reached, |delta| alpha - noncentral_chi2_cdf(reached, dof, delta));
        needed / measure.on_the_scale_of_psi(bound)
    };
    positive(size * (1.0 + 1.0 / ratio))
}

/// Arm-1 sizes for a difference of two proportions, two-sided level, `ratio` = n₂/n₁.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TwoProportions {
    /// With unpooled variance.
    pub unpooled: f64,
    /// With pooled variance under the null.
    pub pooled: f64,
    /// By the arcsine transformation.
    pub arcsine: f64,
}

/// Superiority of one of two proportions `p1`, `p2`.
pub fn two_proportions(p1: f64, p2: f64, ratio: f64, precision: Precision) -> Option<TwoProportions> {
    let z_alpha = ndtri(1.0 - precision.alpha / 2.0);
    let z_beta = ndtri(precision.power);
    let separate = variance(p1) + variance(p2) / ratio;
    let pooled = (p1 + ratio * p2) / (1.0 + ratio);
    let common = variance(pooled) * (1.0 + 1.0 / ratio);
    let squared = (p1 - p2).powi(2);
    let h = 2.0 * p1.sqrt().asin() - 2.0 * p2.sqrt().asin();
    Some(TwoProportions {
        unpooled: positive((z_alpha + z_beta).powi(2) * separate / squared)?,
        pooled: positive((z_alpha * common.sqrt() + z_beta * separate.sqrt()).powi(2) / squared)?,
        arcsine: positive(shift_for_power(z_alpha, precision.power).powi(2) * (1.0 + 1.0 / ratio) / (h * h))?,
    })
}

/// Shift of a normal statistic that a two-sided test with critical value `z` finds with the given power, both tails counted.
fn shift_for_power(z: f64, power: f64) -> f64 {
    bisect(0.0, 80.0, |shift| ndtr(shift - z) + ndtr(-shift - z) - power)
}

/// Rule of 16 for a relative change of a proportion: `16·p(1−p)/(p·change)²` per arm; 80 % power at a two-sided 5 %.
pub fn rule_of_sixteen(p: f64, relative_change: f64) -> Option<f64> {
    positive(16.0 * variance(p) / (p * relative_change).powi(2))
}

/// Candidate trials to prove `p_b − p_a < margin`, one-sided level, `ratio` = champion trials per candidate trial.
/// `None` when the expected difference already uses the margin up.
pub fn noninferiority_proportions(p_a: f64, p_b: f64, margin: f64, ratio: f64, precision: Precision) -> Option<f64> {
    let room = room_left(margin, p_b - p_a)?;
    positive(precision.one_sided().powi(2) * (variance(p_a) / ratio + variance(p_b)) / (room * room))
}

/// Candidate trials to prove a rate ratio below `margin` when the true ratio is `ratio_true`, on the log scale:
/// `(z_{1−α}+z_{1−β})²·(1/(k λ_a) + 1/λ_b)/ln²(margin/ratio_true)` with `k` champion trials per candidate trial.
pub fn noninferiority_rates(rate_a: f64, ratio_true: f64, margin: f64, ratio: f64, precision: Precision) -> Option<f64> {
    let room = (margin / ratio_true).ln();
    if room.is_nan() || room <= 0.0 || rate_a <= 0.0 {
        return None;
    }
    positive(precision.one_sided().powi(2) * (1.0 / (ratio * rate_a) + 1.0 / (rate_a * ratio_true)) / (room * room))
}

/// Trials to prove that a share `p` is below `limit`, one-sided level.
pub fn below_limit(p: f64, limit: f64, precision: Precision) -> Option<f64> {
    if p >= limit {
        return None;
    }
    let root = ndtri(1.0 - precision.alpha) * variance(limit).sqrt() + ndtri(precision.power) * variance(p).sqrt();
    positive((root / (limit - p)).powi(2))
}

/// Pairs for McNemar's test of superiority (Connor 1987), two-sided level; arguments are the shares of discordant pairs.
pub fn mcnemar_pairs(champion_only: f64, candidate_only: f64, precision: Precision) -> Option<f64> {
    let (discordant, difference) = (champion_only + candidate_only, champion_only - candidate_only);
    let root = ndtri(1.0 - precision.alpha / 2.0) * discordant.sqrt()
        + ndtri(precision.power) * (discordant - difference * difference).max(0.0).sqrt();
    positive((root / difference).powi(2))
}

/// Pairs to prove that the candidate loses less than `margin` against the champion, one-sided level.
pub fn paired_noninferiority(champion_only: f64, candidate_only: f64, margin: f64, precision: Precision) -> Option<f64> {
    let difference = champion_only - candidate_only;
    let room = room_left(margin, difference)?;
    positive((precision.one_sided() / room).powi(2) * (champion_only + candidate_only - difference * difference))
}

/// Two means by the normal approximation, two-sided level: arm-1 size for an effect of `cohen_d` standard deviations, `ratio` = n₂/n₁.
pub fn two_means_normal(cohen_d: f64, ratio: f64, precision: Precision) -> Option<f64> {
    positive((precision.two_sided() / cohen_d).powi(2) * (1.0 + 1.0 / ratio))
}

/// Two means by the t test with equal groups, two-sided level: group size for an effect of `cohen_d` standard deviations, from the non-central t.
pub fn two_means_t(cohen_d: f64, precision: Precision) -> Option<f64> {
    let rough = two_means_normal(cohen_d, 1.0, precision)?;
    let missing = |n: f64| t_power(cohen_d.abs(), n, precision.alpha) - precision.power;
    positive(bisect(1.5_f64.max(rough * 0.5), rough * 2.0 + 10.0, missing))
}

/// Power of the two-sided two-sample t test with `n` per group.
fn t_power(cohen_d: f64, n: f64, alpha: f64) -> f64 {
    let (dof, shift) = (2.0 * n - 2.0, cohen_d * (n / 2.0).sqrt());
    // Two-sided tail P(|T| > c) = I_{ν/(ν+c²)}(ν/2, ½).
    let critical = bisect(0.0, 1e3, |c| alpha - ln_beta_reg(dof / 2.0, 0.5, dof / (dof + c * c)).0.exp());
    // T' = (Z+shift)/s with s² = χ²_ν/ν: integrate the normal tail over the density of s.
    let ln_constant = std::f64::consts::LN_2 + dof / 2.0 * (dof / 2.0).ln() - statrs::function::gamma::ln_gamma(dof / 2.0);
    let width = 10.0 / (2.0 * dof).sqrt();
    legendre_on(&gauss_legendre(128), (1.0 - width).max(0.0), 1.0 + width)
        .into_iter()
        .map(|(s, weight)| {
            let density = (ln_constant + (dof - 1.0) * s.ln() - dof / 2.0 * s * s).exp();
            weight * density * (ndtr(shift - critical * s) + ndtr(-shift - critical * s))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: Precision = Precision { alpha: 0.05, power: 0.9 };

    #[test]
    fn a_used_up_margin_has_no_sample_size() {
        assert_eq!(noninferiority_proportions(0.08, 0.10, 0.02, 1.0, COMMON), None);
        assert_eq!(noninferiority_rates(0.01, 1.3, 1.25, 1.0, COMMON), None);
        assert_eq!(paired_noninferiority(0.03, 0.01, 0.02, COMMON), None);
        assert_eq!(below_limit(0.06, 0.05, COMMON), None);
        assert_eq!(two_proportions(0.1, 0.1, 1.0, COMMON), None);
        assert_eq!(mcnemar_pairs(0.02, 0.02, COMMON), None);
        assert_eq!(two_means_normal(0.0, 1.0, COMMON), None);
    }

    #[test]
    fn half_the_margin_costs_four_times_as_much() {
        let equal = noninferiority_proportions(0.08, 0.08, 0.02, 9.0, COMMON).unwrap();
        let half = noninferiority_proportions(0.08, 0.08, 0.01, 9.0, COMMON).unwrap();
        assert!((half / equal - 4.0).abs() < 1e-9);
        assert!(below_limit(0.02, 0.05, COMMON).unwrap() < below_limit(0.04, 0.05, COMMON).unwrap());
        assert!(noninferiority_rates(0.01, 1.0, 1.25, 9.0, COMMON).unwrap() > 1e3);
    }
}
