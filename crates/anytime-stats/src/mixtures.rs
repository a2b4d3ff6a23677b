//! Mixture supermartingales and the time-uniform bounds that come from them: normal, beta–binomial, gamma–Poisson.
//! These are the building blocks of the gauge test and of displayed intervals; they hold no state.
//!
//! Source: Howard, Ramdas, McAuliffe & Sekhon, *Time-uniform, nonparametric, nonasymptotic confidence sequences* (Ann. Stat. 2021).

use crate::math::{LN_ZERO, bisect, ln_beta, ln_gamma_q, ln_ndtr_scaled, tidy};
use crate::window::Interval;

/// Mixture variance `R = v_opt/(2 ln(1/α) + ln(1+2 ln(1/α)))` that makes a two-sided normal mixture sharpest at variance `v_opt`.
/// For a one-sided test of level α pass `2α`.
pub fn mixture_scale(v_opt: f64, alpha: f64) -> f64 {
    let l = 2.0 * (1.0 / alpha).ln();
    v_opt / (l + l.ln_1p())
}

/// Log value of the one-sided normal mixture at sum `s` with variance `v` and mixture variance `scale`:
/// `½ ln(4R/(V+R)) + S²/(2(V+R)) + ln Φ(S/√(V+R))`. 0 when the variance is not positive.
pub fn normal_log_e_one_sided(s: f64, v: f64, scale: f64) -> f64 {
    let total = v + scale;
    if total > 0.0 && scale > 0.0 { tidy(0.5 * (4.0 * scale / total).ln() + ln_ndtr_scaled(s / total.sqrt())) } else { 0.0 }
}

/// Log value of the two-sided normal mixture: `½ ln(R/(V+R)) + S²/(2(V+R))`.
pub fn normal_log_e_two_sided(s: f64, v: f64, scale: f64) -> f64 {
    let total = v + scale;
    if total > 0.0 && scale > 0.0 { tidy(0.5 * (scale / total).ln() + s * s / (2.0 * total)) } else { 0.0 }
}

/// The sum at which the two-sided mixture reaches `1/alpha`: `√((V+R) ln((V+R)/(Rα²)))`.
pub fn normal_bound_two_sided(v: f64, alpha: f64, scale: f64) -> f64 {
    let total = v + scale;
    (total * ((total / scale).ln() - 2.0 * alpha.ln())).sqrt()
}

/// The sum at which the one-sided mixture reaches `1/alpha`, by bisection.
pub fn normal_bound_one_sided(v: f64, alpha: f64, scale: f64) -> f64 {
    let target = -alpha.ln();
    bisect(0.0, normal_bound_two_sided(v, alpha / 2.0, scale) * 2.0 + 1.0, |s| normal_log_e_one_sided(s, v, scale) - target)
}

/// Half-width of the asymptotic confidence sequence for a mean of `n` values with the given `variance`, sharpest at `n_opt`.
/// Source: Waudby-Smith et al. (2024). Returns `(ρ, half-width)`, with `ρ² = R/(n_opt-normalised variance)`.
pub fn asymptotic_half_width(variance: f64, n: f64, n_opt: f64, alpha: f64, one_sided: bool) -> (f64, f64) {
    let alpha = if one_sided { 2.0 * alpha } else { alpha };
    let l = -2.0 * alpha.ln();
    let rho = ((l + l.ln_1p()) / n_opt).sqrt();
    let spread = n * rho * rho + 1.0;
    let penalty = if one_sided { (1.0 + spread.sqrt() / alpha).ln() } else { (spread.sqrt() / alpha).ln() };
    (rho, (variance * 2.0 * spread / (n * n * rho * rho) * penalty).sqrt())
}

/// Log value of the beta–binomial mixture tuned to variance `v_opt`, at `successes` of `n` against `p0`; two-sided.
pub fn beta_binomial_log_e(successes: f64, n: f64, p0: f64, v_opt: f64, alpha_opt: f64) -> f64 {
    let spread = p0 * (1.0 - p0);
    if !(spread > 0.0 && successes >= 0.0 && successes <= n && n.is_finite()) {
        return 0.0;
    }
    let strength = (mixture_scale(v_opt, alpha_opt) - spread).max(1e-3 * spread);
    let (a, b) = (strength / (1.0 - p0), strength / p0);
    tidy(ln_beta(a + successes, b + n - successes) - ln_beta(a, b) - successes * p0.ln() - (n - successes) * (-p0).ln_1p())
}

/// Confidence sequence for a proportion: all `p` that the beta–binomial mixture, tuned to `t_opt` trials, does not reject at `alpha`.
/// Valid at every `n` at once. `None` for impossible counts.
pub fn proportion_confidence_sequence(successes: f64, n: f64, alpha: f64, t_opt: f64, alpha_opt: f64) -> Option<Interval> {
    let valid = n > 0.0 && n.is_finite() && (0.0..=n).contains(&successes) && alpha > 0.0 && alpha < 1.0 && t_opt > 0.0;
    if !valid {
        return None;
    }
    let estimate = successes / n;
    let excess = |p: f64| beta_binomial_log_e(successes, n, p, t_opt * p * (1.0 - p), alpha_opt) + alpha.ln();
    let tiny = 1e-12;
    let lower = if successes > 0.0 && excess(tiny) > 0.0 { bisect(tiny, estimate, excess) } else { 0.0 };
    let upper = if successes < n && excess(1.0 - tiny) > 0.0 { bisect(estimate, 1.0 - tiny, excess) } else { 1.0 };
    Some(Interval { estimate, lower: lower.min(estimate), upper: upper.max(estimate) })
}

/// Log value of the one-sided gamma–Poisson mixture for a count `s + v` whose expectation under the null is `v`, both in units of `c`.
pub fn gamma_poisson_log_e(s: f64, v: f64, v_opt: f64, c: f64, alpha_opt: f64) -> f64 {
    let shape = mixture_scale(v_opt, 2.0 * alpha_opt) / (c * c);
    let (expected, count) = (v / (c * c), s / c + v / (c * c));
    if !(shape > 0.0 && count + shape > 0.0 && expected + shape > 0.0) {
        return 0.0;
    }
    let ln_gamma = statrs::function::gamma::ln_gamma;
    let rate = expected + shape;
    tidy(
        shape * shape.ln() - ln_gamma(shape) - ln_gamma_q(shape, shape)
            + ln_gamma(count + shape)
            + ln_gamma_q(count + shape, rate).max(LN_ZERO)
            - (count + shape) * rate.ln()
            + expected,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_where_the_mixtures_reach_their_level() {
        let scale = mixture_scale(100.0, 0.05);
        let two_sided = normal_bound_two_sided(60.0, 0.05, scale);
        assert!((normal_log_e_two_sided(two_sided, 60.0, scale) - 20.0_f64.ln()).abs() < 1e-12);
        let one_sided = normal_bound_one_sided(60.0, 0.05, scale);
        assert!((normal_log_e_one_sided(one_sided, 60.0, scale) - 20.0_f64.ln()).abs() < 1e-9);
        assert!(one_sided < two_sided);
        // A level whose square underflows.
        assert!((normal_log_e_two_sided(normal_bound_two_sided(60.0, 1e-300, scale), 60.0, scale) - 1e300_f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn a_proportions_interval_contains_the_estimate_even_at_the_edges() {
        for (bad, n) in [(0.0, 10.0), (10.0, 10.0), (0.0, 1e12), (3.0, 1e6), (1.0, 1.0)] {
            let interval = proportion_confidence_sequence(bad, n, 0.05, 1000.0, 0.05).unwrap();
            assert!(interval.lower <= interval.estimate && interval.estimate <= interval.upper, "{interval:?}");
            assert!(interval.lower >= 0.0 && interval.upper <= 1.0);
        }
        assert!(proportion_confidence_sequence(2.0, 1.0, 0.05, 100.0, 0.05).is_none());
    }

    #[test]
    fn undefined_variances_give_no_evidence() {
        assert!(normal_log_e_one_sided(1.0, 0.0, 0.0) == 0.0);
        assert!(normal_log_e_two_sided(1.0, -1.0, 0.0) == 0.0);
    }
}
