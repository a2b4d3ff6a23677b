//! When evidence is enough: thresholds for log e-values, caps per window, and the price of retries.
//! It spends no budget by itself; the caller says how the risk is shared.

/// Log e-value at which harm is established: `ln(Σw/(α w))`, the Bonferroni share of a test with weight `w` among tests with weights summing to `Σw`.
///
/// Shares outside their domain (no weight, no risk) give `f64::MAX`: never reached.
pub fn harm_threshold(alpha: f64, weight_sum: f64, weight: f64) -> f64 {
    never_if_undefined((weight_sum / (alpha * weight)).ln())
}

/// Log e-value at which non-inferiority is proven: `ln(1/α)`. All tests must pass, so none pays for the others (intersection–union test).
pub fn proof_threshold(alpha: f64) -> f64 {
    never_if_undefined(-alpha.ln())
}

/// What one window may add to a harm component: half its threshold, so that one incident that falls into different windows of the two arms cannot decide.
pub fn harm_cap(alpha: f64, weight_sum: f64, weight: f64) -> f64 {
    harm_threshold(alpha, weight_sum, weight) / 2.0
}

/// What one window may add to a proof component: a third of its threshold.
pub fn proof_cap(alpha: f64) -> f64 {
    proof_threshold(alpha) / 3.0
}

/// Promotion risk of the `retry`-th retry of the same subject: `α/2^retry`, which sums to less than `2α` over any number of tries.
pub fn retry_alpha(alpha: f64, retry: u32) -> f64 {
    alpha * 0.5_f64.powi(i32::try_from(retry).unwrap_or(i32::MAX))
}

fn never_if_undefined(threshold: f64) -> f64 {
    if threshold.is_finite() { threshold } else { f64::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_weights() {
        assert!((harm_threshold(0.05, 4.0, 2.0) - 40.0_f64.ln()).abs() < 1e-15);
        assert!((harm_cap(0.05, 4.0, 1.0) - 2.191_013_317_336_940_6).abs() < 1e-15);
        assert!((proof_cap(0.05) - 0.998_577_424_517_996_9).abs() < 1e-15);
        assert!((retry_alpha(0.05, 2) - 0.0125).abs() < 1e-18);
    }

    #[test]
    fn an_undefined_share_is_never_reached() {
        assert!(harm_threshold(0.05, 4.0, 0.0) >= f64::MAX);
        assert!(proof_threshold(0.0) >= f64::MAX);
    }
}
