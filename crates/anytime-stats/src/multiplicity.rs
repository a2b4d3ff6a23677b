//! Many hypotheses at once: e-BH, averages of e-values, and the classical corrections for p-values in final reports.
//! It does not decide promotions: those need no correction, see [`crate::decision`].

/// Indices rejected by the e-BH procedure at false discovery rate `alpha`, ascending: the largest `k` e-values with `e_(k) ≥ m/(αk)`.
///
/// Valid under any dependence. Source: Wang & Ramdas, *False discovery rate control with e-values* (JRSSB 2022). Takes log e-values.
pub fn e_bh(log_e_values: &[f64], alpha: f64) -> Vec<usize> {
    let m = log_e_values.len() as f64;
    let mut order: Vec<(usize, f64)> = log_e_values.iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let rejected =
        (1..=order.len()).rev().find(|k| order.get(k - 1).is_some_and(|(_, log_e)| *log_e >= (m / (alpha * *k as f64)).ln())).unwrap_or(0);
    let mut indices: Vec<usize> = order.into_iter().take(rejected).map(|(index, _)| index).collect();
    indices.sort_unstable();
    indices
}

/// Log of the average e-value: an e-value for "all nulls hold" under any dependence. 0 without any.
pub fn log_average(log_e_values: &[f64]) -> f64 {
    if log_e_values.is_empty() { 0.0 } else { crate::math::ln_sum(log_e_values.iter().copied()) - (log_e_values.len() as f64).ln() }
}

/// Log of the e-value `κ p^{κ−1}` that a p-value is worth, for `κ` in (0, 1); ½ is usual.
/// Source: Vovk & Wang, *E-values: calibration, combination and applications* (2021).
pub fn p_to_log_e(p: f64, kappa: f64) -> f64 {
    crate::math::tidy(kappa.ln() + (kappa - 1.0) * p.clamp(f64::MIN_POSITIVE, 1.0).ln())
}

/// Bonferroni-adjusted p-values.
pub fn bonferroni(p_values: &[f64]) -> Vec<f64> {
    let m = p_values.len() as f64;
    p_values.iter().map(|p| (p * m).min(1.0)).collect()
}

/// Holm's step-down p-values (family-wise error).
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let m = p_values.len();
    let mut largest: f64 = 0.0;
    adjusted(p_values, false, |rank, p| {
        largest = largest.max(p * (m - rank) as f64);
        largest
    })
}

/// Benjamini & Hochberg's step-up p-values (false discovery rate under independence).
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    step_up(p_values, 1.0)
}

/// Benjamini & Yekutieli's step-up p-values (false discovery rate under any dependence).
pub fn benjamini_yekutieli(p_values: &[f64]) -> Vec<f64> {
    step_up(p_values, (1..=p_values.len()).map(|k| 1.0 / k as f64).sum())
}

fn step_up(p_values: &[f64], penalty: f64) -> Vec<f64> {
    let m = p_values.len() as f64;
    let mut smallest: f64 = 1.0;
    adjusted(p_values, true, |rank, p| {
        smallest = smallest.min(p * m * penalty / (rank + 1) as f64);
        smallest
    })
}

/// Visits the p-values in order of size (descending if asked) with their ascending rank, and puts the results back in input order.
fn adjusted(p_values: &[f64], descending: bool, mut adjust: impl FnMut(usize, f64) -> f64) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = p_values.iter().copied().enumerate().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    let mut ranked: Vec<(usize, (usize, f64))> = order.into_iter().enumerate().collect();
    if descending {
        ranked.reverse();
    }
    let mut result: Vec<(usize, f64)> = ranked.into_iter().map(|(rank, (index, p))| (index, adjust(rank, p).min(1.0))).collect();
    result.sort_by_key(|(index, _)| *index);
    result.into_iter().map(|(_, p)| p).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_nothing_out() {
        assert!(e_bh(&[], 0.1).is_empty() && holm(&[]).is_empty() && benjamini_yekutieli(&[]).is_empty());
        assert!(log_average(&[]).abs() < 1e-15);
    }

    #[test]
    fn one_large_e_value_among_many_has_to_pay_for_all() {
        assert_eq!(e_bh(&[50.0_f64.ln(), 0.0, 0.0, 0.0], 0.1), [0]);
        assert!(e_bh(&[30.0_f64.ln(), 0.0, 0.0, 0.0], 0.1).is_empty());
    }

    #[test]
    fn adjusted_p_values_keep_the_input_order() {
        let p = [0.04, 0.01, 0.03];
        assert!(holm(&p).iter().zip([0.06, 0.03, 0.06]).all(|(got, want)| (got - want).abs() < 1e-12));
        assert!(benjamini_hochberg(&p).iter().zip([0.04, 0.03, 0.04]).all(|(got, want)| (got - want).abs() < 1e-12));
    }
}
