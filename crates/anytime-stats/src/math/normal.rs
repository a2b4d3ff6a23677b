//! The normal distribution, its inverse, and its logarithm far in the tail, where the plain value underflows.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2, TAU};

use statrs::function::{erf, gamma};

/// Complementary error function as `Q(½, x²)`: the library's own `erfc` has only ten correct digits.
fn erfc(x: f64) -> f64 {
    let upper = gamma::checked_gamma_ur(0.5, x * x).unwrap_or(if x.abs() > 1.0 { 0.0 } else { 1.0 });
    if x >= 0.0 { upper } else { 2.0 - upper }
}

/// Standard normal distribution function.
pub(crate) fn ndtr(x: f64) -> f64 {
    0.5 * erfc(-x * FRAC_1_SQRT_2)
}

/// Inverse of [`ndtr`]; `p` outside (0, 1) gives the largest finite quantile of that sign.
pub(crate) fn ndtri(p: f64) -> f64 {
    if p <= 0.0 || p.is_nan() {
        return -40.0;
    }
    if p >= 1.0 {
        return 40.0;
    }
    // The lower tail is where the inverse keeps its relative accuracy.
    let x = -SQRT_2 * erf::erfc_inv(2.0 * p.min(1.0 - p));
    if p <= 0.5 { x } else { -x }
}

/// `ln Φ(x) + x²/2`: the part of a one-sided normal mixture that would cancel catastrophically for very negative `x`.
pub(crate) fn ln_ndtr_scaled(x: f64) -> f64 {
    if x >= 0.0 {
        return (-0.5 * erfc(x * FRAC_1_SQRT_2)).ln_1p() + 0.5 * x * x;
    }
    if x > -5.0 {
        return ndtr(x).ln() + 0.5 * x * x;
    }
    // Φ(x)·e^{x²/2}·√(2π) is Mills' ratio at t = −x: the continued fraction 1/(t+1/(t+2/(t+3/…))).
    let t = -x;
    let mut tail = t;
    for k in (1..=60).rev() {
        tail = t + f64::from(k) / tail;
    }
    -tail.ln() - 0.5 * TAU.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scaled_logarithm_is_continuous_where_its_formula_changes() {
        assert!((ln_ndtr_scaled(-5.0 + 1e-9) - ln_ndtr_scaled(-5.0 - 1e-9)).abs() < 1e-9);
        // ln Φ(−40) = −804.608442013754 (Abramowitz and Stegun 26.2.12 at high order).
        assert!((ln_ndtr_scaled(-40.0) - 800.0 + 804.608_442_013_754).abs() < 1e-9);
    }

    #[test]
    fn the_inverse_undoes_the_distribution_function() {
        for p in [1e-12, 1e-6, 0.025, 0.3, 0.5, 0.8, 0.999] {
            assert!((ndtr(ndtri(p)) - p).abs() < 1e-12 * p.max(1e-3), "{p}");
        }
        assert!((ndtri(0.975) - 1.959_963_984_540_054).abs() < 1e-12);
        assert!(ndtri(0.0).is_finite() && ndtri(1.0).is_finite());
    }
}
