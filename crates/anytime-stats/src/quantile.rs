//! Quantiles of latency: from cumulative histogram buckets, and from raw samples. For display and reports; the decision counts exceedances of one edge
//! ([`crate::exceedance`]), which needs a fraction of the data and no interpolation.
//!
//! Source of the bounds: Howard & Ramdas, *Sequential estimation of quantiles with applications to A/B testing and best-arm identification* (2022).

use crate::exceedance::Exceedance;
use crate::math::{bisect, zeta};
use crate::mixtures::beta_binomial_log_e;
use crate::window::{Side, Tally};

/// A quantile's time-uniform interval between bucket edges; an open end is `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EdgeInterval {
    /// Largest edge that is proven to lie at or below the quantile.
    pub lower: Option<f64>,
    /// Smallest edge that is proven to lie above it.
    pub upper: Option<f64>,
}

/// Confidence sequence for the `p` quantile from cumulative bucket counts `(edge, count at or below)` of `n`, each side at `alpha/2` with one-sided
/// beta–binomial e-values. `test` carries the prior and its limit must be `p`. No union over edges is needed: counts are monotone in the edge.
pub fn quantile_interval(buckets: &[(f64, f64)], n: f64, test: &Exceedance, alpha: f64) -> EdgeInterval {
    let enough = (2.0 / alpha).ln();
    let rejected =
        |side: Side| buckets.iter().filter(move |(_, count)| test.log_e(side, Tally::new(*count, n)) >= enough).map(|(edge, _)| *edge);
    EdgeInterval { lower: rejected(Side::Proof).reduce(f64::max), upper: rejected(Side::Harm).reduce(f64::min) }
}

/// The quantile as Prometheus interpolates it in a classic histogram: `(upper edge, cumulative count)`, the last edge infinite.
/// Linear inside the bucket; a quantile in the infinite bucket is the last finite edge. `None` without counts or finite edges.
pub fn interpolated_quantile(q: f64, buckets: &[(f64, f64)]) -> Option<f64> {
    let (_, total) = *buckets.last()?;
    if total.is_nan() || total <= 0.0 {
        return None;
    }
    let rank = q * total;
    let (mut below_edge, mut below_count) = (0.0, 0.0);
    for (index, (edge, count)) in buckets.iter().enumerate() {
        if *count >= rank {
            if edge.is_infinite() {
                return (index > 0).then_some(below_edge);
            }
            if index == 0 && *edge <= 0.0 {
                return Some(*edge);
            }
            let inside = count - below_count;
            let share = if inside > 0.0 { (rank - below_count) / inside } else { 1.0 };
            return Some(below_edge + (edge - below_edge) * share);
        }
        (below_edge, below_count) = (*edge, *count);
    }
    None
}

/// Log e-value against "the candidate's `p` quantile is at least `ratio` times the champion's", from cumulative counts on common edges, where `ratio` is
/// a whole number of buckets: `min_{j≥1} [h(E_a: F_a(u_j) ≥ p) + h(E_b: F_b(u_{j−1+ratio}) ≤ p)]` with the hedge `h(E) = ln((1+E)/2)`.
///
/// Without the hedge a sum of two one-sided logs is dragged to −∞ far from the quantile, and the test has no power.
pub fn quantile_ratio_log_e(champion: (&[f64], f64), candidate: (&[f64], f64), ratio_in_buckets: usize, test: &Exceedance) -> f64 {
    let hedge = |log_e: f64| if log_e > 0.0 { log_e + (-log_e).exp().ln_1p() } else { log_e.exp().ln_1p() } - std::f64::consts::LN_2;
    let (champion_counts, champion_n) = champion;
    let (candidate_counts, candidate_n) = candidate;
    champion_counts
        .iter()
        .enumerate()
        .skip(1)
        .map(|(j, count)| {
            let other = candidate_counts.get(j - 1 + ratio_in_buckets).copied().unwrap_or(candidate_n);
            hedge(test.log_e(Side::Proof, Tally::new(*count, champion_n))) + hedge(test.log_e(Side::Harm, Tally::new(other, candidate_n)))
        })
        .reduce(f64::min)
        .unwrap_or(0.0)
}

/// Time-uniform band around an empirical distribution function after `t` samples: `A·√((ln(1+ln(t/t_min)) + C)/t)` with `C` solved for `alpha`.
/// Infinite before `t_min`. `a` > 1/√2; 0.85 is usual.
pub fn distribution_band(t: f64, alpha: f64, t_min: f64, a: f64) -> f64 {
    if t.is_nan() || t < t_min {
        return f64::INFINITY;
    }
    let c = bisect(0.5, 200.0, |c| band_error(c, a) - alpha);
    a * (((t / t_min).ln().ln_1p() + c) / t).sqrt()
}

/// Error probability of the band with constant `c`: `inf_η 4e^{−γ²c}(1 + 1/((γ²−1) ln η))`, `γ² = (2/η)(A − √(2(η−1)/c))²`, over `η ∈ (1, 2A²)`.
fn band_error(c: f64, a: f64) -> f64 {
    let at = |eta: f64| {
        let root = a - (2.0 * (eta - 1.0) / c).sqrt();
        let gamma_squared = 2.0 / eta * root * root;
        if root > 0.0 && gamma_squared > 1.0 {
            4.0 * (-gamma_squared * c).exp() * (1.0 + 1.0 / ((gamma_squared - 1.0) * eta.ln()))
        } else {
            f64::INFINITY
        }
    };
    // The objective is infinite at both ends and has one valley: a grid finds it, golden sections refine it.
    let (lo, hi) = (1.0, 2.0 * a * a);
    let steps = 400.0;
    let grid = |k: u32| lo + (hi - lo) * f64::from(k) / steps;
    let best = (1..400).min_by(|i, j| at(grid(*i)).total_cmp(&at(grid(*j)))).unwrap_or(1);
    let (mut left, mut right) = (grid(best - 1), grid(best + 1));
    for _ in 0..100 {
        let third = (right - left) / 3.0;
        if at(left + third) <= at(right - third) {
            right -= third;
        } else {
            left += third;
        }
    }
    at(f64::midpoint(left, right))
}

/// Tuning of the double-stitched bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stitching {
    /// Samples at which the bound starts.
    pub t_opt: f64,
    /// Spacing of quantiles on the logit scale.
    pub delta: f64,
    /// Exponent of the spending, above 1.
    pub s: f64,
    /// Spacing in time, above 1.
    pub eta: f64,
}

/// Bound on the deviation of a count from `t·p` that holds for all times and all quantiles `p` at once (Howard & Ramdas, 2022).
pub fn double_stitching_bound(p: f64, t: f64, alpha: f64, stitching: Stitching) -> f64 {
    let Stitching { t_opt, delta, s, eta } = stitching;
    let time = t.max(t_opt);
    let logit = (p / (1.0 - p)).ln();
    let r = if p >= 0.5 { p } else { (1.0 / (1.0 + (-(logit + 2.0 * delta * (t_opt * eta / time).sqrt())).exp())).min(0.5) };
    let spread = r * (1.0 - r);
    let j = (time / t_opt).sqrt() * logit.abs() / (2.0 * delta) + 1.0;
    let z = zeta(s);
    let ell = s * (eta * time / t_opt).ln().ln() + s * j.ln() + (2.0 * z * (2.0 * z + 1.0) / (alpha * eta.ln().powf(s))).ln();
    let c = (1.0 - 2.0 * p) / 3.0;
    let k1 = (eta.powf(0.25) + eta.powf(-0.25)) / std::f64::consts::SQRT_2;
    let k2 = f64::midpoint(eta.sqrt(), 1.0);
    delta * (eta * time * spread / t_opt).sqrt() + (k1 * k1 * spread * time * ell + (k2 * c * ell).powi(2)).sqrt() + c * k2 * ell
}

/// Always-valid p-value for "both arms have the same `p` quantile", from raw samples: the least evidence over all common quantiles.
/// Each arm's evidence is the beta–binomial mixture tuned to `t_opt` samples.
pub fn quantile_equality_p_value(a: &[f64], b: &[f64], p: f64, t_opt: f64, alpha_opt: f64) -> f64 {
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values
    };
    let (a, b) = (sorted(a), sorted(b));
    let evidence = |values: &[f64], at: f64| {
        let n = values.len() as f64;
        let at_or_below = values.partition_point(|v| *v <= at) as f64;
        let below = values.partition_point(|v| *v < at) as f64;
        // At a tie any count between the two is compatible with `at` being the quantile; take the one nearest to n·p.
        beta_binomial_log_e((n * p).clamp(below, at_or_below), n, p, t_opt * p * (1.0 - p), alpha_opt)
    };
    let log_e = a.iter().chain(&b).map(|at| evidence(&a, *at) + evidence(&b, *at)).reduce(f64::min).unwrap_or(0.0);
    (-log_e).exp().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_between_edges_brackets_the_quantile() {
        let test = Exceedance::with_prior(0.5, 50.0, 50.0).unwrap();
        let buckets = [(1.0, 100.0), (2.0, 480.0), (4.0, 900.0), (f64::INFINITY, 1000.0)];
        let interval = quantile_interval(&buckets, 1000.0, &test, 0.05);
        assert_eq!(interval, EdgeInterval { lower: Some(1.0), upper: Some(4.0) });
        let early = quantile_interval(&[(1.0, 1.0), (2.0, 2.0)], 3.0, &test, 0.05);
        assert_eq!(early, EdgeInterval { lower: None, upper: None });
    }

    #[test]
    fn interpolation_follows_the_servers_corner_cases() {
        let buckets = [(1.0, 0.0), (2.0, 10.0), (f64::INFINITY, 20.0)];
        assert_eq!(interpolated_quantile(0.25, &buckets), Some(1.5));
        assert_eq!(interpolated_quantile(0.9, &buckets), Some(2.0), "beyond the last finite edge");
        assert_eq!(interpolated_quantile(0.5, &[]), None);
        assert_eq!(interpolated_quantile(0.5, &[(f64::INFINITY, 5.0)]), None);
        assert_eq!(interpolated_quantile(0.5, &[(1.0, 0.0), (f64::INFINITY, 0.0)]), None);
    }

    #[test]
    fn equal_samples_are_equal_and_far_ones_are_not() {
        let near: Vec<f64> = (0..60).map(f64::from).collect();
        let far: Vec<f64> = (0..60).map(|v| f64::from(v) + 100.0).collect();
        assert!(quantile_equality_p_value(&near, &near, 0.5, 60.0, 0.05) > 0.9);
        assert!(quantile_equality_p_value(&near, &far, 0.5, 60.0, 0.05) < 1e-6);
        assert!((quantile_equality_p_value(&[], &[], 0.5, 60.0, 0.05) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn bands_shrink_with_time() {
        assert!(distribution_band(10.0, 0.05, 100.0, 0.85).is_infinite());
        assert!(distribution_band(1e6, 0.05, 100.0, 0.85) < distribution_band(1e3, 0.05, 100.0, 0.85));
        assert!((band_error(bisect(0.5, 200.0, |c| band_error(c, 0.85) - 0.05), 0.85) - 0.05).abs() < 1e-9);
    }
}
