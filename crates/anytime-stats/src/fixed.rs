//! Fixed-sample methods for final reports and as baselines to compare with. None may be looked at repeatedly: their error holds for one look.
//! Proportions, pairs, Poisson counts and stratified ratios live here; rank and distribution tests in [`crate::ranks`].

use crate::math::{bisect, chi2_sf, ln_beta_front, ln_beta_reg, ndtr, ndtri};
use crate::risk_difference::project;
use crate::window::{Interval, Tally, Window};

/// McNemar's test in its usual variants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct McNemar {
    /// Exact two-sided p-value.
    pub exact_p: f64,
    /// `(b−c)²/(b+c)`.
    pub chi2: f64,
    /// Its p-value.
    pub p: f64,
    /// With Edwards' continuity correction, `(|b−c|−1)²/(b+c)`, as he wrote it: an even split does not give 0.
    pub chi2_corrected: f64,
    /// Its p-value.
    pub p_corrected: f64,
    /// Mid-p value: exact, less half the probability of a split as uneven as the observed one.
    pub mid_p: f64,
}

/// McNemar's test on the two discordant counts; `None` without discordant pairs. Source: Agresti, *Categorical data analysis*.
pub fn mcnemar(b: f64, c: f64) -> Option<McNemar> {
    let n = b + c;
    if !(n > 0.0 && n.is_finite() && b >= 0.0 && c >= 0.0) {
        return None;
    }
    let chi2 = (b - c).powi(2) / n;
    let chi2_corrected = ((b - c).abs() - 1.0).powi(2) / n;
    let smaller = b.min(c);
    // P(X ≤ k) for a fair coin is I_{1/2}(n−k, k+1).
    let exact_p = (2.0 * ln_beta_reg(n - smaller, smaller + 1.0, 0.5).0.exp()).min(1.0);
    // An uneven split has a mirror image that is as likely; an even one is its own.
    let images = if (b - c).abs() > 0.0 { 2.0 } else { 1.0 };
    let mid_p = exact_p - 0.5 * images * ln_binomial(n, smaller, 0.5).exp();
    Some(McNemar { exact_p, chi2, p: chi2_sf(chi2, 1.0), chi2_corrected, p_corrected: chi2_sf(chi2_corrected, 1.0), mid_p })
}

fn ln_binomial(n: f64, k: f64, p: f64) -> f64 {
    if k <= 0.0 {
        return n * (-p).ln_1p();
    }
    if k >= n {
        return n * p.ln();
    }
    // C(n, k) = n/(k(n−k)·B(k, n−k)), without the difference of large log gammas.
    ln_beta_front(k, n - k, p) + (n / k / (n - k)).ln()
}

/// Exact conditional two-sided p-value for the ratio of two Poisson rates (`first` over `second`): given the total, the first count is binomial, and
/// the outcomes that are not likelier than the observed one are added up. `total` is any exposure above 0, `ratio` is positive; counts are rounded.
/// 1 without events, or for arguments outside these domains.
pub fn poisson_exact_conditional(first: Tally, second: Tally, ratio: f64) -> f64 {
    let share = first.total * ratio / (first.total * ratio + second.total);
    let (observed, n) = (first.bad.round(), first.bad.round() + second.bad.round());
    if !(share > 0.0 && share < 1.0 && n > 0.0 && n.is_finite() && observed >= 0.0 && observed <= n) {
        return 1.0;
    }
    // As likely as the observed one up to rounding counts as not likelier.
    let limit = ln_binomial(n, observed, share) + 1e-7;
    let mode = (share * (n + 1.0)).floor().min(n);
    let unlikely = |k: f64| ln_binomial(n, k, share) <= limit;
    // Probabilities fall on both sides of the mode: each tail starts at one place, found by halving.
    let edge = |mut inside: f64, end: f64| {
        let mut outside = end;
        while (outside - inside).abs() > 1.0 {
            let middle = f64::midpoint(inside, outside).floor();
            // Beyond 2^53 there may be no whole number between the two.
            if middle <= inside.min(outside) || middle >= inside.max(outside) {
                break;
            }
            if unlikely(middle) { outside = middle } else { inside = middle }
        }
        outside
    };
    if unlikely(mode) {
        return 1.0;
    }
    // P(X ≤ k) below the mode and P(X ≥ k) above it.
    let at_most = |k: f64| ln_beta_reg(k + 1.0, n - k, share).1.exp();
    let at_least = |k: f64| ln_beta_reg(k, n - k + 1.0, share).0.exp();
    let lower = if unlikely(0.0) { at_most(edge(mode, 0.0)) } else { 0.0 };
    let upper = if unlikely(n) { at_least(edge(mode, n)) } else { 0.0 };
    (lower + upper).min(1.0)
}

/// Wilson's score interval for a proportion; `None` without trials.
pub fn wilson(tally: Tally, confidence: f64) -> Option<Interval> {
    let p = tally.rate()?;
    let (n, z) = (tally.total, ndtri(f64::midpoint(1.0, confidence)));
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    Some(Interval { estimate: p, lower: (centre - half).max(0.0), upper: (centre + half).min(1.0) })
}

/// Clopper & Pearson's exact interval for a proportion; `None` for impossible counts.
pub fn clopper_pearson(tally: Tally, confidence: f64) -> Option<Interval> {
    let p = tally.rate().filter(|_| tally.is_proportion())?;
    let (x, n, tail) = (tally.bad, tally.total, ((1.0 - confidence) / 2.0).ln());
    let lower = if x > 0.0 { bisect(0.0, 1.0, |q| ln_beta_reg(x, n - x + 1.0, q).0 - tail) } else { 0.0 };
    let upper = if x < n { bisect(0.0, 1.0, |q| tail - ln_beta_reg(x + 1.0, n - x, q).1) } else { 1.0 };
    Some(Interval { estimate: p, lower, upper })
}

/// Newcombe's hybrid score interval for the difference candidate − champion.
pub fn newcombe(window: &Window, confidence: f64) -> Option<Interval> {
    let (a, b) = (wilson(window.champion, confidence)?, wilson(window.candidate, confidence)?);
    let estimate = b.estimate - a.estimate;
    let lower = estimate - ((b.estimate - b.lower).powi(2) + (a.upper - a.estimate).powi(2)).sqrt();
    let upper = estimate + ((b.upper - b.estimate).powi(2) + (a.estimate - a.lower).powi(2)).sqrt();
    Some(Interval { estimate, lower, upper })
}

/// How the rates are estimated under "candidate − champion = difference" in a score test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restricted {
    /// The maximum-likelihood estimate (Farrington & Manning, 1990): the projection of the observed rates on the line.
    Likelihood,
    /// The closed form that statsmodels 0.15 evaluates. Its linear coefficient has a count where the derivation has a sample size, which moves z by
    /// some tenths of a percent; offered so that reports agree with numbers people compute themselves.
    Statsmodels,
}

impl Restricted {
    /// `(champion, candidate)` rates under the null.
    fn rates(self, window: &Window, difference: f64) -> Option<(f64, f64)> {
        let (a, b) = (window.champion, window.candidate);
        match self {
            Self::Likelihood => {
                let inside = |p: f64| p.clamp(1e-12, 1.0 - 1e-12);
                project(inside(a.rate()?), inside(b.rate()?), a.total, b.total, 1.0, difference)
            }
            Self::Statsmodels if difference.abs() <= 0.0 => {
                let pooled = (a.bad + b.bad) / (a.total + b.total);
                Some((pooled, pooled))
            }
            Self::Statsmodels => {
                // The root in (0, 1) of a cubic, by Cardano's trigonometric form.
                let (n, events) = (a.total + b.total, a.bad + b.bad);
                let square = ((b.total + 2.0 * a.total) * difference - n - events) / (3.0 * n);
                let linear = ((a.bad * difference - n - 2.0 * a.bad) * difference + events) / n;
                let constant = a.bad * difference * (1.0 - difference) / n;
                let q = square.powi(3) - linear * square / 2.0 + constant / 2.0;
                let radius = q.signum() * (square * square - linear / 3.0).sqrt();
                let angle = (std::f64::consts::PI + (q / radius.powi(3)).acos()) / 3.0;
                let champion = 2.0 * radius * angle.cos() - square;
                champion.is_finite().then_some((champion, champion + difference))
            }
        }
    }
}

/// Score statistic of "candidate − champion = difference" with the variance restricted to it. `None` without both arms.
pub fn score_z(window: &Window, difference: f64, restricted: Restricted) -> Option<f64> {
    let (a, b) = (window.champion, window.candidate);
    if !(a.is_proportion() && b.is_proportion()) {
        return None;
    }
    let (null_a, null_b) = restricted.rates(window, difference)?;
    let variance = null_a * (1.0 - null_a) / a.total + null_b * (1.0 - null_b) / b.total;
    let z = (b.rate()? - a.rate()? - difference) / variance.sqrt();
    z.is_finite().then_some(z)
}

/// One-sided p-value of "candidate − champion ≥ margin" (small = non-inferior).
pub fn noninferiority_p(window: &Window, margin: f64, restricted: Restricted) -> Option<f64> {
    score_z(window, margin, restricted).map(ndtr)
}

/// Score interval for the difference: all differences that [`score_z`], with Miettinen & Nurminen's factor N/(N−1), does not reject.
pub fn score_interval(window: &Window, confidence: f64, restricted: Restricted) -> Option<Interval> {
    let estimate = window.candidate.rate()? - window.champion.rate()?;
    let n = window.candidate.total + window.champion.total;
    let z = ndtri(f64::midpoint(1.0, confidence)) * (n / (n - 1.0).max(1.0)).sqrt();
    let excess = |d: f64| score_z(window, d, restricted).map_or(1.0, |s| s.abs() - z);
    let edge = 1.0 - 1e-9;
    let centre = estimate.clamp(-edge, edge);
    Some(Interval { estimate, lower: bisect(-edge, centre, excess), upper: bisect(centre, edge, excess) })
}

/// Mantel–Haenszel odds ratio over windows; `None` when its denominator is zero. Risk differences and ratios are in [`crate::intervals`].
pub fn mantel_haenszel_odds_ratio(windows: &[Window]) -> Option<f64> {
    let (mut upper, mut lower) = (0.0, 0.0);
    for Window { champion: a, candidate: b } in windows.iter().filter(|w| w.has_both_arms()) {
        let n = a.total + b.total;
        upper += b.bad * (a.total - a.bad) / n;
        lower += a.bad * (b.total - b.bad) / n;
    }
    (lower > 0.0).then(|| upper / lower)
}

/// Chi-square p-value of a sample ratio: the check that must not be peeked at; [`crate::sample_ratio`] is the one that may.
pub fn sample_ratio_chi2(counts: &[f64], shares: &[f64]) -> Option<(f64, f64)> {
    crate::drift::chi2_goodness_of_fit(counts, shares).map(|test| (test.statistic, test.p_value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window::new(Tally::new(216.0, 2700.0), Tally::new(24.0, 300.0))
    }

    #[test]
    fn a_mid_p_value_takes_half_of_what_is_observed() {
        // Ten pairs split 5:5 have the probability 252/1024, and no mirror image.
        let even = mcnemar(5.0, 5.0).unwrap();
        assert!((even.mid_p - (1.0 - 126.0 / 1024.0)).abs() < 1e-12 && (even.exact_p - 1.0).abs() < 1e-12);
        assert!((even.chi2_corrected - 0.1).abs() < 1e-15);
        // All five on one side: 2/32, of which half counts.
        assert!((mcnemar(0.0, 5.0).unwrap().mid_p - 1.0 / 32.0).abs() < 1e-14);
    }

    #[test]
    fn a_billion_events_are_tested_at_once() {
        let p = |a: f64, b: f64, ratio: f64| poisson_exact_conditional(Tally::new(a, 1e9), Tally::new(b, 1e9), ratio);
        // z = 1e5/√(2e9+1e5) = 2.236; the exact test is that to four digits here.
        assert!((p(1e9, 1e9 + 1e5, 1.0) - 2.0 * ndtr(-1e5 / (2e9 + 1e5_f64).sqrt())).abs() < 1e-5);
        assert!((p(1e9, 1e9, 1.0) - 1.0).abs() < 1e-12);
        // 0 of 5 at even odds: both tails of a fair coin.
        assert!((p(0.0, 5.0, 1.0) - 2.0 / 32.0).abs() < 1e-14);
        assert!((p(0.0, 5.0, 4.0) - (0.2_f64.powi(5) + 0.0)).abs() < 1e-14);
        assert!(p(1e300, 30.0, 1.0).is_finite() && p(1e18, 30.0, 1.0) < 1e-300);
        assert!((p(0.0, 0.0, 1.0) - 1.0).abs() <= 0.0 && (p(1.0, 2.0, 0.0) - 1.0).abs() <= 0.0);
    }

    #[test]
    fn intervals_contain_the_estimate() {
        for interval in [
            newcombe(&window(), 0.95),
            score_interval(&window(), 0.95, Restricted::Likelihood),
            wilson(window().candidate, 0.95),
            clopper_pearson(window().candidate, 0.95),
        ] {
            let interval = interval.unwrap();
            assert!(interval.lower < interval.estimate && interval.estimate < interval.upper, "{interval:?}");
        }
        let none = clopper_pearson(Tally::new(0.0, 10.0), 0.95).unwrap();
        assert!(none.lower <= 0.0 && (none.upper - (1.0 - 0.025_f64.powf(0.1))).abs() < 1e-12);
    }

    #[test]
    fn empty_tables_have_no_test() {
        assert!(mcnemar(0.0, 0.0).is_none());
        assert!(wilson(Tally::default(), 0.95).is_none());
        assert!(score_z(&Window::default(), 0.01, Restricted::Likelihood).is_none());
        assert!(mantel_haenszel_odds_ratio(&[]).is_none());
        let p = |margin| noninferiority_p(&window(), margin, Restricted::Likelihood).unwrap();
        assert!(p(0.05) < p(0.02));
    }

    #[test]
    fn the_closed_form_stays_near_the_likelihood() {
        for difference in [-0.03, 0.0, 0.02, 0.05] {
            let (exact, closed) =
                (score_z(&window(), difference, Restricted::Likelihood), score_z(&window(), difference, Restricted::Statsmodels));
            let (exact, closed) = (exact.unwrap(), closed.unwrap());
            assert!((exact - closed).abs() <= 0.01 * exact.abs() + 1e-12, "{difference}: {exact} {closed}");
        }
    }

    #[test]
    fn extreme_splits_keep_p_values_within_zero_and_one() {
        for (b, c) in [(0.0, 1.0), (5.0, 5.0), (0.0, 5000.0)] {
            let test = mcnemar(b, c).unwrap();
            assert!([test.exact_p, test.p, test.p_corrected, test.mid_p].iter().all(|p| (0.0..=1.0).contains(p)), "{test:?}");
        }
    }
}
