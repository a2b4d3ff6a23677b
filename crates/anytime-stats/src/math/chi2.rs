//! Chi-square tails, central and non-central.

use statrs::function::gamma;

use super::{bisect, ndtr};

/// `P(χ²_k ≥ x)`.
pub(crate) fn chi2_sf(x: f64, dof: f64) -> f64 {
    if x <= 0.0 || dof <= 0.0 {
        return 1.0;
    }
    gamma::checked_gamma_ur(dof / 2.0, x / 2.0).unwrap_or(0.0)
}

/// The `x` with `P(χ²_k ≥ x) = p`.
pub(crate) fn chi2_inverse_sf(p: f64, dof: f64) -> f64 {
    if p >= 1.0 {
        return 0.0;
    }
    let mut high = dof + 10.0;
    while chi2_sf(high, dof) > p && high < 1e6 * (dof + 10.0) {
        high *= 2.0;
    }
    bisect(0.0, high, |x| p - chi2_sf(x, dof))
}

/// `P(χ²_k ≤ x)`, accurate in the lower tail.
pub(crate) fn chi2_cdf(x: f64, dof: f64) -> f64 {
    if x <= 0.0 || dof <= 0.0 {
        return 0.0;
    }
    gamma::checked_gamma_lr(dof / 2.0, x / 2.0).unwrap_or(1.0)
}

/// Non-centrality from which on the series would be long.
const LONG_SERIES: f64 = 1e5;

/// `P(χ'²_k(δ) ≥ x)`: a Poisson(δ/2) mixture of central tails, summed outward from its largest weight.
pub(crate) fn noncentral_chi2_sf(x: f64, dof: f64, noncentrality: f64) -> f64 {
    if noncentrality <= 0.0 {
        return chi2_sf(x, dof);
    }
    if noncentrality > LONG_SERIES {
        return ndtr(-sankaran(x, dof, noncentrality));
    }
    poisson_mixture(noncentrality / 2.0, |j| chi2_sf(x, dof + 2.0 * j))
}

/// `P(χ'²_k(δ) ≤ x)`, accurate in the lower tail, where one minus the upper tail would cancel.
pub(crate) fn noncentral_chi2_cdf(x: f64, dof: f64, noncentrality: f64) -> f64 {
    if noncentrality <= 0.0 {
        return chi2_cdf(x, dof);
    }
    if x <= 0.0 {
        return 0.0;
    }
    if noncentrality > LONG_SERIES {
        return ndtr(sankaran(x, dof, noncentrality));
    }
    poisson_mixture(noncentrality / 2.0, |j| chi2_cdf(x, dof + 2.0 * j))
}

/// `Σ_j Poisson(j; half)·tail(j)`, outward from the largest weight; what has a weight below 1e-18 is left out.
fn poisson_mixture(half: f64, tail: impl Fn(f64) -> f64) -> f64 {
    let mode = half.floor();
    let ln_peak = mode * half.ln() - half - gamma::ln_gamma(mode + 1.0);
    let mut sum = 0.0;
    let mut weight = ln_peak.exp();
    let mut j = mode;
    while weight > 1e-18 {
        sum += weight * tail(j);
        j += 1.0;
        weight *= half / j;
    }
    let mut weight = ln_peak.exp();
    let mut j = mode;
    while j >= 1.0 && weight > 1e-18 {
        weight *= j / half;
        j -= 1.0;
        sum += weight * tail(j);
    }
    sum.min(1.0)
}

/// `P(χ'²_k(δ) ≥ x)` for people: approximate where the series has more than a few dozen terms.
pub(crate) fn noncentral_chi2_sf_rough(x: f64, dof: f64, noncentrality: f64) -> f64 {
    if noncentrality > 50.0 { ndtr(-sankaran(x, dof, noncentrality)) } else { noncentral_chi2_sf(x, dof, noncentrality) }
}

/// The normal quantile of `P(χ'²_k(l) ≤ x)` in Sankaran's (1963) approximation.
fn sankaran(x: f64, k: f64, l: f64) -> f64 {
    let h = 1.0 - 2.0 * (k + l) * (k + 3.0 * l) / (3.0 * (k + 2.0 * l).powi(2));
    let p = (k + 2.0 * l) / (k + l).powi(2);
    let m = (h - 1.0) * (1.0 - 3.0 * h);
    ((x / (k + l)).powf(h) - (1.0 + h * p * (h - 1.0 - 0.5 * (2.0 - h) * m * p))) / (h * (2.0 * p).sqrt() * (1.0 + 0.5 * m * p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_agree_with_known_points() {
        assert!((chi2_sf(3.841_458_820_694_124, 1.0) - 0.05).abs() < 1e-12);
        assert!((chi2_inverse_sf(0.05, 9.0) - 16.918_977_604_620_448).abs() < 1e-9);
        // With one degree of freedom the non-central tail is two normal tails.
        let (x, l) = (7.0_f64, 3.0_f64);
        let exact = ndtr(l.sqrt() - x.sqrt()) + ndtr(-l.sqrt() - x.sqrt());
        assert!((noncentral_chi2_sf(x, 1.0, l) - exact).abs() < 1e-12);
        let (x, l) = (100_500.0_f64, 1e5_f64);
        let (series, approximation) = (noncentral_chi2_sf(x, 9.0, l), ndtr(-sankaran(x, 9.0, l)));
        assert!((series - approximation).abs() < 1e-5, "{series} {approximation}");
    }

    #[test]
    fn the_rough_tail_is_good_enough_for_people() {
        for (x, dof, l) in [(90.0, 9.0, 60.0), (60.0, 3.0, 80.0), (600.0, 40.0, 500.0)] {
            let (rough, exact) = (noncentral_chi2_sf_rough(x, dof, l), noncentral_chi2_sf(x, dof, l));
            assert!((rough - exact).abs() < 1e-3, "{rough} {exact}");
        }
    }

    #[test]
    fn both_tails_together_are_one() {
        for (x, dof, l) in [(0.5, 1.0, 4.0), (12.0, 9.0, 20.0), (90.0, 9.0, 100.0), (2e5, 3.0, 2e5)] {
            let (lower, upper) = (noncentral_chi2_cdf(x, dof, l), noncentral_chi2_sf(x, dof, l));
            assert!((lower + upper - 1.0).abs() < 1e-9, "{x} {lower} {upper}");
        }
        // Far below the mean the tail is small and not zero.
        let far = noncentral_chi2_cdf(20.0, 9.0, 150.0);
        assert!(far > 0.0 && far < 1e-9, "{far}");
    }
}
