//! Fixed-sample tests on raw values: ranks, distribution functions, and a long-run variance. Baselines for comparison; not to be looked at repeatedly.

use crate::math::ndtr;

/// Mann & Whitney's test with the shift between two samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    /// Pairs in which the first sample is larger, ties counting half.
    pub u: f64,
    /// Two-sided p-value by the normal approximation with continuity and tie corrections.
    pub p_value: f64,
    /// Median of all pairwise differences (Hodges & Lehmann).
    pub shift: f64,
}

/// Mann–Whitney test of `first` against `second`; `None` when a sample is empty or all values are equal.
pub fn mann_whitney(first: &[f64], second: &[f64]) -> Option<MannWhitney> {
    let (n, m) = (first.len() as f64, second.len() as f64);
    let mut differences: Vec<f64> = first.iter().flat_map(|x| second.iter().map(move |y| x - y)).collect();
    let u = differences
        .iter()
        .map(|d| {
            if *d > 0.0 {
                1.0
            } else if *d < 0.0 {
                0.0
            } else {
                0.5
            }
        })
        .sum::<f64>();
    let mut pooled: Vec<f64> = first.iter().chain(second).copied().collect();
    pooled.sort_by(f64::total_cmp);
    let ties: f64 = pooled.chunk_by(|a, b| a.total_cmp(b).is_eq()).map(|run| run.len() as f64).map(|t| t * t * t - t).sum();
    let total = n + m;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance.is_nan() || variance <= 0.0 {
        return None;
    }
    let distance = ((u - n * m / 2.0).abs() - 0.5).max(0.0);
    Some(MannWhitney { u, p_value: (2.0 * ndtr(-distance / variance.sqrt())).min(1.0), shift: median(&mut differences)? })
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// Kolmogorov & Smirnov's two-sample test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KolmogorovSmirnov {
    /// Largest distance between the empirical distribution functions.
    pub distance: f64,
    /// Exact two-sided p-value, by counting lattice paths.
    pub exact_p: f64,
    /// The one-sample distribution at the rounded effective size `nm/(n+m)`.
    pub effective_p: f64,
}

/// Two-sample Kolmogorov–Smirnov test; `None` when a sample is empty. Takes time proportional to `n·m`.
pub fn kolmogorov_smirnov(first: &[f64], second: &[f64]) -> Option<KolmogorovSmirnov> {
    if first.is_empty() || second.is_empty() {
        return None;
    }
    let (n, m) = (first.len() as f64, second.len() as f64);
    let below = |values: &[f64], at: f64| values.iter().filter(|v| **v <= at).count() as f64;
    // In units of 1/(nm) the distance is a whole number, so comparisons are exact.
    let scaled = first.iter().chain(second).map(|at| (below(first, *at) * m - below(second, *at) * n).abs()).fold(0.0, f64::max);
    let distance = scaled / (n * m);
    Some(KolmogorovSmirnov {
        distance,
        exact_p: 1.0 - inside_probability(first.len(), second.len(), scaled),
        effective_p: 1.0 - one_sample_cdf((n * m / (n + m)).round(), distance),
    })
}

/// Probability that a random lattice path from (0,0) to (n,m) keeps `|i·m − j·n|` below `limit`.
fn inside_probability(n: usize, m: usize, limit: f64) -> f64 {
    let (total_i, total_j) = (n as f64, m as f64);
    let inside = |i: f64, j: f64| (i * total_j - j * total_i).abs() < limit - 0.5;
    let mut column = vec![0.0; m + 1];
    for step_i in 0..=n {
        let i = step_i as f64;
        let mut from_below = 0.0;
        for (step_j, cell) in column.iter_mut().enumerate() {
            let j = step_j as f64;
            // Paths are uniform: from (i, j) the next step is one of the remaining ones, each equally likely.
            let along_i = if step_i > 0 { *cell * (total_i - i + 1.0) / (total_i + total_j - i - j + 1.0) } else { 0.0 };
            let along_j = if step_j > 0 { from_below * (total_j - j + 1.0) / (total_i + total_j - i - j + 1.0) } else { 0.0 };
            let reached = if step_i == 0 && step_j == 0 { 1.0 } else { along_i + along_j };
            *cell = if inside(i, j) { reached } else { 0.0 };
            from_below = *cell;
        }
    }
    column.last().copied().unwrap_or(0.0)
}

/// Exact distribution function of the one-sample statistic, by the matrix power of Marsaglia, Tsang & Wang (2003); the limit above 1000 samples.
fn one_sample_cdf(n: f64, d: f64) -> f64 {
    if n > 1000.0 {
        return 1.0 - crate::drift::kolmogorov_sf(d * (n.sqrt() + 0.12 + 0.11 / n.sqrt()));
    }
    if n < 1.0 || d <= 0.0 {
        return 0.0;
    }
    if d >= 1.0 {
        return 1.0;
    }
    let k = (n * d).floor() + 1.0;
    let h = k - n * d;
    let size = 2.0 * k - 1.0;
    let mut rows: Vec<Vec<f64>> = Vec::new();
    let mut i = 0.0;
    while i < size {
        let mut row = Vec::new();
        let mut j = 0.0;
        while j < size {
            let mut entry = if i - j + 1.0 >= 0.0 { 1.0 } else { 0.0 };
            if j < 0.5 {
                entry -= h.powf(i + 1.0);
            }
            if i > size - 1.5 {
                entry -= h.powf(size - j);
            }
            if j < 0.5 && i > size - 1.5 && 2.0 * h - 1.0 > 0.0 {
                entry += (2.0 * h - 1.0).powf(size);
            }
            let mut factor = 1.0;
            while factor <= i - j + 1.0 {
                entry /= factor;
                factor += 1.0;
            }
            row.push(entry);
            j += 1.0;
        }
        rows.push(row);
        i += 1.0;
    }
    middle_of_power(&rows, n)
}

/// Middle entry of the n-th power times n!/n^n, one row vector at a time.
fn middle_of_power(matrix: &[Vec<f64>], n: f64) -> f64 {
    let middle = matrix.len() / 2;
    let mut vector: Vec<f64> = (0..matrix.len()).map(|i| if i == middle { 1.0 } else { 0.0 }).collect();
    let mut step = 1.0;
    while step <= n {
        let mut next = vec![0.0; matrix.len()];
        for (value, row) in vector.iter().zip(matrix) {
            for (cell, entry) in next.iter_mut().zip(row) {
                *cell += value * entry * step / n;
            }
        }
        vector = next;
        step += 1.0;
    }
    vector.get(middle).copied().unwrap_or(0.0).clamp(0.0, 1.0)
}

/// Newey & West's long-run variance with Bartlett weights on `lags` autocovariances; `None` below two values.
/// With few lags it underestimates strong autocorrelation; [`crate::gauge`] does not use it for that reason.
pub fn newey_west(values: &[f64], lags: u32) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let covariance = |lag: usize| values.iter().zip(values.iter().skip(lag)).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / n;
    let tail: f64 = (1..=lags).map(|lag| (1.0 - f64::from(lag) / (f64::from(lags) + 1.0)) * covariance(lag as usize)).sum();
    Some(covariance(0) + 2.0 * tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiny_samples_have_countable_p_values() {
        // Of the C(6,3) = 20 arrangements of three against three, two separate completely.
        let test = kolmogorov_smirnov(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]).unwrap();
        assert!((test.distance - 1.0).abs() < 1e-15 && (test.exact_p - 0.1).abs() < 1e-12);
        // One-sample, n = 1: P(D ≤ d) = 2d − 1 for d ≥ ½.
        assert!((one_sample_cdf(1.0, 0.7) - 0.4).abs() < 1e-12);
    }

    #[test]
    fn empty_and_constant_samples_have_no_test() {
        assert!(mann_whitney(&[], &[1.0]).is_none());
        assert!(mann_whitney(&[1.0, 1.0], &[1.0]).is_none());
        assert!(kolmogorov_smirnov(&[], &[1.0]).is_none());
        assert!(newey_west(&[1.0], 3).is_none());
    }

    #[test]
    fn identical_samples_do_not_differ() {
        let values = [1.0, 2.0, 3.0, 4.0];
        assert!((kolmogorov_smirnov(&values, &values).unwrap().exact_p - 1.0).abs() < 1e-12);
        let test = mann_whitney(&values, &values).unwrap();
        assert!((test.u - 8.0).abs() < 1e-12 && test.p_value > 0.99 && test.shift.abs() < 1e-12);
    }
}
