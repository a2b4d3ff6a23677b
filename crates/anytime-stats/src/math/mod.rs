//! Numerical helpers in log space. Nothing here knows a statistical test; nothing here panics on a finite input.
//! Special functions come from `statrs` where it is accurate, and from the sibling files where it is not.

mod beta;
mod chi2;
mod normal;
mod quadrature;

pub(crate) use beta::{ln_beta, ln_beta_front, ln_beta_reg, ln_gamma_q};
pub(crate) use chi2::{chi2_inverse_sf, chi2_sf, noncentral_chi2_cdf, noncentral_chi2_sf, noncentral_chi2_sf_rough};
pub(crate) use normal::{ln_ndtr_scaled, ndtr, ndtri};
pub(crate) use quadrature::{gauss_legendre, legendre_on};

/// Stands for the logarithm of zero: finite, so that it survives JSON, and so low that `exp` gives exactly 0.
pub(crate) const LN_ZERO: f64 = -1e300;

/// Largest absolute log increment kept; beyond it an e-value is 0 or unbeatable for every purpose.
const LN_LIMIT: f64 = 1e15;

/// A log increment that may have overflowed: not-a-number becomes 0, which is always a valid log e-value.
pub(crate) fn tidy(increment: f64) -> f64 {
    if increment.is_nan() { 0.0 } else { increment.clamp(-LN_LIMIT, LN_LIMIT) }
}

/// `ln(e^a + e^b)` without overflow.
pub(crate) fn ln_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a >= b { (a, b) } else { (b, a) };
    if high <= LN_ZERO { LN_ZERO } else { high + (low - high).exp().ln_1p() }
}

/// `ln Σ e^{x_i}`; the empty sum is [`LN_ZERO`].
pub(crate) fn ln_sum(terms: impl IntoIterator<Item = f64>) -> f64 {
    terms.into_iter().fold(LN_ZERO, ln_add)
}

/// `ln x` for `x ≥ 0`, with [`LN_ZERO`] for zero.
pub(crate) fn ln_or_zero(x: f64) -> f64 {
    if x > 0.0 { x.ln() } else { LN_ZERO }
}

/// `ln(1 − e^x)` for `x ≤ 0`.
pub(crate) fn ln_one_minus_exp(x: f64) -> f64 {
    if x >= 0.0 {
        LN_ZERO
    } else if x > -std::f64::consts::LN_2 {
        ln_or_zero(-x.exp_m1())
    } else {
        (-x.exp()).ln_1p()
    }
}

/// `ln(1+x) − x`, accurate near zero, where the two terms cancel.
pub(crate) fn ln_1p_minus(x: f64) -> f64 {
    if x.abs() > 0.125 {
        return x.ln_1p() - x;
    }
    // ln(1+x) = 2·atanh(x/(2+x)); subtracting x leaves −x·s + 2(s³/3 + s⁵/5 + …) with s = x/(2+x).
    let s = x / (2.0 + x);
    let square = s * s;
    let mut power = s * square;
    let mut sum = 0.0;
    let mut odd = 3.0;
    while odd < 40.0 {
        sum += power / odd;
        power *= square;
        odd += 2.0;
    }
    2.0 * sum - x * s
}

/// Root of a function with a sign change between `lo` and `hi`, by halving; stops when the interval no longer shrinks.
pub(crate) fn bisect(mut lo: f64, mut hi: f64, f: impl Fn(f64) -> f64) -> f64 {
    let rising = f(hi) > f(lo);
    for _ in 0..200 {
        let mid = lo + (hi - lo) / 2.0;
        if mid <= lo.min(hi) || mid >= lo.max(hi) {
            break;
        }
        if (f(mid) > 0.0) == rising {
            hi = mid;
        } else {
            lo = mid;
        }
    }
    lo + (hi - lo) / 2.0
}

/// Riemann's zeta for a real argument above 1, by Euler–Maclaurin summation.
pub(crate) fn zeta(s: f64) -> f64 {
    let n = 30.0_f64;
    let mut sum = 0.0;
    let mut k = 1.0;
    while k < n {
        sum += k.powf(-s);
        k += 1.0;
    }
    sum + n.powf(1.0 - s) / (s - 1.0) + 0.5 * n.powf(-s) + s * n.powf(-s - 1.0) / 12.0
        - s * (s + 1.0) * (s + 2.0) * n.powf(-s - 3.0) / 720.0
        + s * (s + 1.0) * (s + 2.0) * (s + 3.0) * (s + 4.0) * n.powf(-s - 5.0) / 30240.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_1p_minus_agrees_with_its_series() {
        for x in [-0.124_f64, -1e-3, 1e-9, 1e-3, 0.12] {
            let mut series = 0.0;
            for k in (2..60).rev() {
                series += if k % 2 == 0 { -1.0 } else { 1.0 } * x.powi(k) / f64::from(k);
            }
            assert!((ln_1p_minus(x) - series).abs() <= 1e-15 * series.abs() + 1e-30, "{x}");
        }
    }

    #[test]
    fn log_sums_survive_extremes() {
        assert!((ln_add(0.0, 0.0) - std::f64::consts::LN_2).abs() < 1e-15);
        assert!((ln_add(LN_ZERO, 3.0) - 3.0).abs() < 1e-15);
        assert!((ln_sum([1000.0, 1000.0]) - 1000.0 - std::f64::consts::LN_2).abs() < 1e-12);
        assert!(ln_sum([]) <= LN_ZERO);
        assert!((zeta(2.0) - std::f64::consts::PI.powi(2) / 6.0).abs() < 1e-12);
        assert!((bisect(0.0, 2.0, |x| x * x - 2.0) - std::f64::consts::SQRT_2).abs() < 1e-15);
    }
}
