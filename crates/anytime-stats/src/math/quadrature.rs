//! Gauss–Legendre quadrature: nodes by Newton's iteration on the Legendre polynomial.

use std::f64::consts::PI;

/// Nodes and weights of the `count`-point rule on [−1, 1].
pub(crate) fn gauss_legendre(count: u32) -> Vec<(f64, f64)> {
    let n = f64::from(count);
    (0..count)
        .map(|i| {
            let mut x = (PI * (f64::from(i) + 0.75) / (n + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..100 {
                let (mut previous, mut current) = (1.0, x);
                let mut k = 2.0;
                while k <= n {
                    let next = ((2.0 * k - 1.0) * x * current - (k - 1.0) * previous) / k;
                    previous = current;
                    current = next;
                    k += 1.0;
                }
                slope = n * (x * current - previous) / (x * x - 1.0);
                let step = current / slope;
                x -= step;
                if step.abs() < 1e-15 {
                    break;
                }
            }
            (x, 2.0 / ((1.0 - x * x) * slope * slope))
        })
        .collect()
}

/// The rule moved to `[lo, hi]`.
pub(crate) fn legendre_on(rule: &[(f64, f64)], lo: f64, hi: f64) -> Vec<(f64, f64)> {
    let (centre, half) = (f64::midpoint(lo, hi), (hi - lo) / 2.0);
    rule.iter().map(|&(x, w)| (centre + half * x, half * w)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_n_points_is_exact_for_degree_two_n_minus_one() {
        let rule = legendre_on(&gauss_legendre(8), 0.0, 2.0);
        let got: f64 = rule.iter().map(|&(x, w)| w * x.powi(15)).sum();
        assert!((got - 2.0_f64.powi(16) / 16.0).abs() < 1e-9);
    }
}
