//! Beta and gamma functions in log space. Needed because library versions lose digits by cancellation for large counts
//! and underflow in the tails, while e-values live on the logarithms of exactly those tails.

use std::f64::consts::TAU;

use statrs::function::gamma;

use super::{LN_ZERO, ln_1p_minus, ln_ndtr_scaled, ln_one_minus_exp, ln_or_zero};

/// Stirling's remainder `lnΓ(x) − (x−½)ln x + x − ½ln 2π`.
fn stirling_remainder(x: f64) -> f64 {
    if x < 16.0 {
        return gamma::ln_gamma(x) - (x - 0.5) * x.ln() + x - 0.5 * TAU.ln();
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square * (1.0 / 1680.0 - square / 1188.0))))
}

/// `ln B(a, b)` for positive arguments, without the cancellation of three large log gammas.
pub(crate) fn ln_beta(a: f64, b: f64) -> f64 {
    let (a, b) = if a <= b { (a, b) } else { (b, a) };
    let n = a + b;
    let ln_share_a = (a / n).ln();
    let ln_share_b = (-a / n).ln_1p();
    0.5 * TAU.ln() - 0.5 * n.ln() + (a - 0.5) * ln_share_a + (b - 0.5) * ln_share_b + stirling_remainder(a) + stirling_remainder(b)
        - stirling_remainder(n)
}

/// `a ln(x/μ) + b ln((1−x)/(1−μ))` with `μ = a/(a+b)`: minus the deviance, exactly 0 at `x = μ`.
fn minus_deviance(a: f64, b: f64, x: f64) -> f64 {
    let n = a + b;
    let mean = a / n;
    // Far from the mean the ratio is exact and its distance from 1 is rounded; near it the other way round.
    let part = |ratio: f64, distance: f64| if distance.abs() > 0.125 { ratio.ln() - distance } else { ln_1p_minus(distance) };
    a * part(x / mean, (x - mean) / mean) + b * part((1.0 - x) / (b / n), (mean - x) / (b / n))
}

/// `(ln I_x(a,b), ln(1 − I_x(a,b)))`, the regularised incomplete beta function and its complement.
pub(crate) fn ln_beta_reg(a: f64, b: f64, x: f64) -> (f64, f64) {
    if x <= 0.0 {
        return (LN_ZERO, 0.0);
    }
    if x >= 1.0 {
        return (0.0, LN_ZERO);
    }
    if a + b > 1e8 && a.min(b) > 100.0 {
        return saddlepoint(a, b, x);
    }
    // One front serves both tails: it is never computed from a rounded 1 − x, which would cost a small x its digits.
    let front = ln_beta_front(a, b, x);
    if x < (a + 1.0) / (a + b + 2.0) {
        let lower = (front + ln_or_zero(continued_fraction(a, b, x)) - a.ln()).clamp(LN_ZERO, 0.0);
        (lower, ln_one_minus_exp(lower))
    } else {
        let upper = (front + ln_or_zero(continued_fraction(b, a, 1.0 - x)) - b.ln()).clamp(LN_ZERO, 0.0);
        (ln_one_minus_exp(upper), upper)
    }
}

/// `ln(x^a (1−x)^b / B(a,b))` for positive `a`, `b` and `x` in (0, 1), with the large parts of the logarithms cancelled analytically.
pub(crate) fn ln_beta_front(a: f64, b: f64, x: f64) -> f64 {
    let n = a + b;
    minus_deviance(a, b, x) + 0.5 * (a / n * b / TAU).ln() - stirling_remainder(a) - stirling_remainder(b) + stirling_remainder(n)
}

/// Lentz's evaluation of the continued fraction of the incomplete beta function.
fn continued_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let guard = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut h = d;
    for step in 1..20_000_u32 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / guard(1.0 + even * d);
        c = guard(1.0 + even / c);
        h *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / guard(1.0 + odd * d);
        c = guard(1.0 + odd / c);
        let change = d * c;
        h *= change;
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    h
}

/// Barndorff-Nielsen's r* for a beta tail, used above `a + b = 1e8`, where its relative error, of order `n^{-3/2}`, is below 1e-11.
fn saddlepoint(a: f64, b: f64, x: f64) -> (f64, f64) {
    let n = a + b;
    let mean = a / n;
    let signed_root = (-2.0 * minus_deviance(a, b, x)).max(0.0).sqrt() * (x - mean).signum();
    let wald = n.sqrt() * (x - mean) / (mean * (b / n)).sqrt();
    // Near the mean `ln(w/r)/r` is a small number over a small number; its expansion is not. The limit is a sixth of the skewness.
    let r = if signed_root.abs() > 0.01 {
        signed_root + (wald / signed_root).ln() / signed_root
    } else {
        signed_root + near_mean_shift(a, b, signed_root)
    };
    (ln_ndtr_scaled(r) - 0.5 * r * r, ln_ndtr_scaled(-r) - 0.5 * r * r)
}

/// `ln(w/r)/r` of a beta variate where `r` is near 0, to first order in `r`.
fn near_mean_shift(a: f64, b: f64, r: f64) -> f64 {
    let n = a + b;
    let (p, q) = (a / n, b / n);
    // Derivatives of n·(−p ln(x/p) − q ln((1−x)/q)) at x = p, in units of the standard deviation √(pq/n).
    let third = 2.0 * (p - q) / (p * q).sqrt() / n.sqrt();
    let fourth = 6.0 * (p.powi(3) + q.powi(3)) / (p * q) / n;
    -third / 6.0 + r * (third * third / 18.0 - fourth / 24.0)
}

/// `ln Q(a, x)`, the regularised upper incomplete gamma function.
pub(crate) fn ln_gamma_q(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if a > 1e7 {
        // The signed root of the deviance is normal up to order 1/√a.
        let r = (-2.0 * a * ln_1p_minus((x - a) / a)).max(0.0).sqrt() * (a - x).signum();
        return ln_ndtr_scaled(r) - 0.5 * r * r;
    }
    let plain = gamma::checked_gamma_ur(a, x).unwrap_or(0.0);
    if plain > 1e-250 {
        return plain.ln();
    }
    // Q(a,x) ~ x^{a−1} e^{−x}/Γ(a) · 1/(1 − (a−1)/x …) far above the mean.
    ((a - 1.0) * x.ln() - x - gamma::ln_gamma(a) - ln_or_zero(1.0 - (a - 1.0) / (x + 1.0))).clamp(LN_ZERO, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_of_beta_keeps_its_digits_for_large_arguments() {
        // B(1, b) = 1/b and B(2, b) = 1/(b(b+1)) exactly.
        for b in [0.5_f64, 3.0, 50.0, 1e7, 1e12] {
            assert!((ln_beta(1.0, b) + b.ln()).abs() < 1e-13 * b.ln().abs().max(1.0), "{b}");
            assert!((ln_beta(b, 2.0) + b.ln() + b.ln_1p()).abs() < 1e-13 * (2.0 * b.ln()).abs().max(1.0), "{b}");
        }
    }

    #[test]
    fn the_incomplete_beta_function_matches_binomial_sums() {
        // I_x(k, n−k+1) = P(Binomial(n, x) ≥ k); here P(Bin(4, 0.3) ≥ 2) = 0.3483.
        assert!((ln_beta_reg(2.0, 3.0, 0.3).0.exp() - 0.3483).abs() < 1e-12);
        // I_x(1, n) = 1 − (1−x)^n deep in the tail.
        let (_, upper) = ln_beta_reg(1.0, 1000.0, 0.9);
        assert!((upper - 1000.0 * 0.1_f64.ln()).abs() < 1e-8);
        let (half, _) = ln_beta_reg(5e6, 5e6, 0.5);
        assert!((half.exp() - 0.5).abs() < 1e-9, "{}", half.exp());
    }

    #[test]
    fn a_tail_beside_a_tiny_share_keeps_its_digits() {
        // I_x(1, 1) = x and I_x(1, b) = 1 − (1−x)^b.
        assert!((ln_beta_reg(1.0, 1.0, 1e-9).0 - 1e-9_f64.ln()).abs() < 1e-12);
        let (x, b) = (1e-9, 1e9 + 1.0);
        let (lower, upper) = ln_beta_reg(1.0, b, x);
        let exact = b * (-x).ln_1p();
        assert!((upper - exact).abs() < 1e-12 * exact.abs(), "{upper} {exact}");
        assert!((lower - ln_one_minus_exp(exact)).abs() < 1e-12, "{lower}");
    }

    #[test]
    fn the_asymptotic_tail_keeps_its_skewness_at_the_mean() {
        // ln I_{1/20}(5e7+5, 95e7+95) by summation with 40 digits.
        let (lower, upper) = ln_beta_reg(5e7 + 5.0, 9.5e8 + 95.0, 0.05);
        assert!((lower + 0.693_112_450_386_500).abs() < 1e-11 && (upper + 0.693_181_911_939_617).abs() < 1e-11, "{lower} {upper}");
        // Where the expansion takes over, the two forms agree.
        let (a, b) = (5e7, 9.5e8);
        let at = |z: f64| saddlepoint(a, b, 0.05 + z * (0.05 * 0.95 / 1e9_f64).sqrt()).0;
        assert!((at(0.010_001) - 2.0 * at(0.010_000) + at(0.009_999)).abs() < 1e-11);
    }

    #[test]
    fn the_asymptotic_tail_joins_the_exact_one() {
        for shift in [-4.0_f64, -1.0, 0.5, 3.0] {
            let (a, b) = (2.0e7, 7.9e7);
            let x = a / (a + b) * (1.0 + shift * 1e-4);
            let (exact, approximate) = (ln_beta_reg(a, b, x), saddlepoint(a, b, x));
            assert!((exact.0 - approximate.0).abs() < 1e-5 * exact.0.abs().max(1.0), "{shift} {exact:?} {approximate:?}");
            assert!((exact.1 - approximate.1).abs() < 1e-5 * exact.1.abs().max(1.0), "{shift} {exact:?} {approximate:?}");
        }
    }
}
