//! Drift between two binned distributions: effect size *and* significance. A small effect with a tiny p-value is not drift worth a word, and neither
//! is a large index from a small sample. It works on counts per bin and knows nothing about features; both arms see the same world, so drift is a
//! reason to wait, not to blame the candidate.

use serde::{Deserialize, Serialize};

use crate::math::{bisect, chi2_inverse_sf, chi2_sf, noncentral_chi2_sf};

/// Population stability index with its sampling behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Psi {
    /// `Σ(q−p) ln(q/p)` over bins, counts smoothed.
    pub psi: f64,
    /// What the index is on average without any drift: `(B−1)(1/N+1/M)`.
    pub null_mean: f64,
    /// Value exceeded with probability `alpha` without drift.
    pub critical: f64,
    /// Probability of this value or more without drift.
    pub p_value: f64,
    /// Lower confidence bound of the true index at level `alpha`. Alert on this: it needs both size and significance.
    pub lower_bound: f64,
}

/// PSI of `live` against `reference` counts per bin, `smoothing` (usually ½) added to each bin; `alpha` is one-sided.
///
/// Without drift `PSI/(1/N+1/M)` is about chi-square with `B−1` degrees of freedom (Yurdakul & Naranjo). `None` with fewer than two bins, unequal
/// numbers of bins, or an empty side. Divide counts by the over-dispersion φ when requests are correlated.
pub fn psi(reference: &[f64], live: &[f64], smoothing: f64, alpha: f64) -> Option<Psi> {
    let (n, m) = totals(reference, live)?;
    let bins = reference.len() as f64;
    let share = |count: f64, total: f64| (count + smoothing) / (total + smoothing * bins);
    let psi: f64 = reference
        .iter()
        .zip(live)
        .map(|(r, l)| {
            let (p, q) = (share(*r, n), share(*l, m));
            if p > 0.0 && q > 0.0 { (q - p) * (q / p).ln() } else { 0.0 }
        })
        .sum();
    let unit = 1.0 / n + 1.0 / m;
    let dof = bins - 1.0;
    let observed = psi / unit;
    let p_value = chi2_sf(observed, dof);
    let lower = if p_value < alpha { bisect(0.0, observed, |delta| noncentral_chi2_sf(observed, dof, delta) - alpha) } else { 0.0 };
    Some(Psi { psi, null_mean: dof * unit, critical: unit * chi2_inverse_sf(alpha, dof), p_value, lower_bound: unit * lower })
}

fn totals(reference: &[f64], live: &[f64]) -> Option<(f64, f64)> {
    let valid = |counts: &[f64]| counts.iter().all(|c| c.is_finite() && *c >= 0.0);
    let (n, m): (f64, f64) = (reference.iter().sum(), live.iter().sum());
    (reference.len() >= 2 && reference.len() == live.len() && valid(reference) && valid(live) && n > 0.0 && m > 0.0).then_some((n, m))
}

/// Kolmogorov–Smirnov distance on bins with its limiting p-value; conservative, because bins hide differences inside them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KsBinned {
    /// Largest distance of the cumulative shares.
    pub distance: f64,
    /// `Q_KS(√(NM/(N+M))·D)`.
    pub p_value: f64,
}

/// Kolmogorov–Smirnov on ordered bins; `None` as for [`psi`].
pub fn ks_binned(reference: &[f64], live: &[f64]) -> Option<KsBinned> {
    let (n, m) = totals(reference, live)?;
    let (mut below_n, mut below_m, mut distance) = (0.0, 0.0, 0.0_f64);
    for (r, l) in reference.iter().zip(live) {
        below_n += r / n;
        below_m += l / m;
        distance = distance.max((below_n - below_m).abs());
    }
    Some(KsBinned { distance, p_value: kolmogorov_sf((n / (n + m) * m).sqrt() * distance) })
}

/// Tail of Kolmogorov's limiting distribution, `2Σ(−1)^{k−1} e^{−2k²x²}`.
pub fn kolmogorov_sf(x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    if x < 1.0 {
        // The theta-function dual converges fast for small x.
        let sum: f64 = (0..20).map(|k| (-(f64::from(2 * k + 1) * std::f64::consts::PI / x).powi(2) / 8.0).exp()).sum();
        return 1.0 - std::f64::consts::TAU.sqrt() / x * sum;
    }
    let sum: f64 = (1..=30).map(|k| if k % 2 == 1 { 1.0 } else { -1.0 } * (-2.0 * (f64::from(k) * x).powi(2)).exp()).sum();
    (2.0 * sum).clamp(0.0, 1.0)
}

/// Chi-square test with the effect size Cramér's V.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChiSquare {
    /// Statistic.
    pub statistic: f64,
    /// Degrees of freedom.
    pub dof: f64,
    /// Tail probability.
    pub p_value: f64,
    /// Cramér's V (0 to 1); 0 for goodness of fit.
    pub cramers_v: f64,
}

/// Independence in a table of counts (rows of equal length). Rows and columns without counts are left out; `None` when less than 2×2 remains.
pub fn chi2_contingency(table: &[Vec<f64>]) -> Option<ChiSquare> {
    let width = table.first()?.len();
    if table.iter().any(|row| row.len() != width || row.iter().any(|c| !c.is_finite() || *c < 0.0)) {
        return None;
    }
    let rows: Vec<f64> = table.iter().map(|row| row.iter().sum()).collect();
    let columns: Vec<f64> = (0..width).map(|j| table.iter().filter_map(|row| row.get(j)).sum()).collect();
    let total: f64 = rows.iter().sum();
    let used = |sums: &[f64]| sums.iter().filter(|s| **s > 0.0).count() as f64;
    let (r, c) = (used(&rows), used(&columns));
    if r < 2.0 || c < 2.0 {
        return None;
    }
    let mut statistic = 0.0;
    for (row, row_sum) in table.iter().zip(&rows) {
        for (count, column_sum) in row.iter().zip(&columns) {
            let expected = row_sum * column_sum / total;
            if expected > 0.0 {
                statistic += (count - expected).powi(2) / expected;
            }
        }
    }
    let dof = (r - 1.0) * (c - 1.0);
    let cramers_v = (statistic / (total * (r.min(c) - 1.0))).sqrt();
    Some(ChiSquare { statistic, dof, p_value: chi2_sf(statistic, dof), cramers_v })
}

/// Goodness of fit of counts to expected shares; `None` as for [`psi`], or with a share that is not positive.
pub fn chi2_goodness_of_fit(observed: &[f64], shares: &[f64]) -> Option<ChiSquare> {
    let (total, share_sum) = totals(observed, shares)?;
    if shares.iter().any(|s| *s <= 0.0) {
        return None;
    }
    let statistic = observed
        .iter()
        .zip(shares)
        .map(|(count, share)| {
            let expected = total * share / share_sum;
            (count - expected).powi(2) / expected
        })
        .sum();
    let dof = observed.len() as f64 - 1.0;
    Some(ChiSquare { statistic, dof, p_value: chi2_sf(statistic, dof), cramers_v: 0.0 })
}

/// Jensen–Shannon divergence between two distributions (counts or shares), in nats: symmetric, bounded by ln 2, finite with empty bins.
/// `½Σ[p ln(p/m) + q ln(q/m)]` with `m = (p+q)/2`. `None` with fewer than two bins, unequal numbers of bins, or an empty side.
/// Source: Lin, *Divergence measures based on the Shannon entropy* (1991).
pub fn jensen_shannon(p: &[f64], q: &[f64]) -> Option<f64> {
    let (n, m) = totals(p, q)?;
    let part = |own: f64, mid: f64| if own > 0.0 { own * (own / mid).ln() } else { 0.0 };
    let bin = |a: f64, b: f64| {
        let mid = f64::midpoint(a, b);
        let delta = (a - b) / (a + b);
        if delta.abs() < 0.5 {
            // With p = m(1+δ) and q = m(1−δ) it is m·(δ·atanh δ + ½ ln(1−δ²)): nothing cancels when the two are nearly equal.
            mid * (delta * delta.atanh() + 0.5 * (-delta * delta).ln_1p())
        } else {
            0.5 * (part(a, mid) + part(b, mid))
        }
    };
    Some(p.iter().zip(q).map(|(a, b)| bin(a / n, b / m)).sum())
}

/// Level for the `look`-th look (from 1): `α/(t(t+1))`, which sums to `α` over all looks. Looks must use windows that do not overlap.
pub fn level_at_look(alpha: f64, look: u32) -> f64 {
    alpha / (f64::from(look.max(1)) * (f64::from(look.max(1)) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_equal_distributions_have_a_divergence_and_not_rounding() {
        // ½·(1e-7)²·(1/0.3 + 1/0.7)/4, to first order.
        let found = jensen_shannon(&[0.3, 0.7], &[0.300_000_1, 0.699_999_9]).unwrap();
        assert!((found / 5.952_380_38e-15 - 1.0).abs() < 1e-6, "{found}");
        assert!((jensen_shannon(&[1.0, 0.0], &[0.0, 7.0]).unwrap() - std::f64::consts::LN_2).abs() < 1e-15);
        assert!(jensen_shannon(&[0.5, 0.0, 0.5], &[1.0, 0.0, 1.0]).unwrap().abs() < 1e-300);
    }

    #[test]
    fn a_small_sample_without_drift_does_not_alert() {
        let reference = [500.0; 10];
        let live = [25.0, 15.0, 20.0, 28.0, 12.0, 20.0, 18.0, 22.0, 24.0, 16.0];
        let psi = psi(&reference, &live, 0.5, 0.05).unwrap();
        assert!(psi.psi > 0.04 && psi.lower_bound <= 0.0 && psi.p_value > 0.05);
    }

    #[test]
    fn a_trivial_shift_of_millions_is_significant_and_still_small() {
        let (reference, live) = ([1e6; 10], [1.02e6, 0.98e6, 1e6, 1e6, 1e6, 1e6, 1e6, 1e6, 1e6, 1e6]);
        let psi = psi(&reference, &live, 0.5, 0.05).unwrap();
        assert!(psi.p_value < 1e-6 && psi.lower_bound < 0.1);
    }

    #[test]
    fn tails_join_and_stay_within_zero_and_one() {
        assert!((kolmogorov_sf(1.0 - 1e-12) - kolmogorov_sf(1.0)).abs() < 1e-10);
        for x in [-1.0, 0.0, 1e-3, 0.5, 5.0, 1e6] {
            assert!((0.0..=1.0).contains(&kolmogorov_sf(x)), "{x}");
        }
    }

    #[test]
    fn impossible_tables_are_refused() {
        assert!(psi(&[1.0], &[1.0], 0.5, 0.05).is_none());
        assert!(ks_binned(&[1.0, 2.0], &[0.0, 0.0]).is_none());
        assert!(chi2_contingency(&[vec![1.0, 2.0], vec![1.0]]).is_none());
        assert!(chi2_contingency(&[vec![0.0, 2.0], vec![0.0, 3.0]]).is_none());
        assert!(jensen_shannon(&[1.0, f64::NAN], &[1.0, 1.0]).is_none());
        assert!((jensen_shannon(&[1.0, 0.0], &[0.0, 1.0]).unwrap() - std::f64::consts::LN_2).abs() < 1e-15);
        let spent: f64 = (1..100_000).map(|t| level_at_look(0.05, t)).sum();
        assert!(spent < 0.05 && spent > 0.0499);
    }
}
