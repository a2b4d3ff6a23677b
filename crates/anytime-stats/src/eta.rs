//! How long until a proof is complete, if things stay as they are. A forecast for people; no decision may depend on it.
//!
//! ```text
//! θ̃_b = (x_b + n_fix·θ̂_a)/(n_b + n_fix)      g_k = ℓ_k at the counts expected in one window
//! R solves  ln Σ_k w_k exp(L_k + R·g_k) = ln(1/α)
//! ```
//!
//! Shrinking towards "no difference" by the planned sample size keeps early forecasts sane. The average slope of `ln E` so far is no forecast: it is
//! infinite in a fifth of all runs.

use serde::{Deserialize, Serialize};

use crate::math::{bisect, ln_or_zero, ln_sum};
use crate::risk_difference::RiskDifference;
use crate::window::{Side, Tally, Window};

/// Windows still needed: a point forecast, and the range to show.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Eta {
    /// Point forecast, in windows like the expected one; 0 when already proven.
    pub windows: f64,
    /// Half of the forecast at one standard error better.
    pub low: f64,
    /// Twice the forecast at one standard error worse; `None` when that never ends.
    pub high: Option<f64>,
}

/// Candidate rate shrunk towards the champion's by `n_fixed` trials (the fixed-sample plan).
pub fn shrunk_rate(candidate: Tally, champion_rate: f64, n_fixed: f64) -> f64 {
    let total = candidate.total + n_fixed;
    if total > 0.0 { (candidate.bad + n_fixed * champion_rate) / total } else { champion_rate }
}

/// Expected log increments of one window with the given numbers of trials, if the rates are as stated. No cap.
pub fn growth_per_window(test: &RiskDifference, champion_rate: f64, candidate_rate: f64, champion_n: f64, candidate_n: f64) -> Vec<f64> {
    let expected = |rate: f64, n: f64| Tally::new((rate * n).min(n).max(0.0), n);
    test.log_increments(
        Side::Proof,
        champion_rate,
        &Window::new(expected(champion_rate, champion_n), expected(candidate_rate, candidate_n)),
    )
}

/// Windows until the mixture reaches `log_threshold`, growing by `growth` per window; 0 when it is there, `None` when no component grows.
pub fn windows_left(weights: &[f64], log_masses: &[f64], growth: &[f64], log_threshold: f64) -> Option<f64> {
    let after = |windows: f64| {
        ln_sum(weights.iter().zip(log_masses).zip(growth).map(|((w, mass), g)| ln_or_zero(*w) + mass + windows * g)) - log_threshold
    };
    if after(0.0) >= 0.0 {
        return Some(0.0);
    }
    let mut high = 1.0;
    while after(high) < 0.0 {
        high *= 2.0;
        if high > 1e9 {
            return None;
        }
    }
    Some(bisect(0.0, high, after))
}

/// What a forecast for a risk difference needs besides the test and the proof's state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// Champion's rate.
    pub champion_rate: f64,
    /// Candidate's counts so far.
    pub candidate: Tally,
    /// Candidate trials of the fixed-sample plan.
    pub n_fixed: f64,
    /// Champion trials expected per window.
    pub champion_n: f64,
    /// Candidate trials expected per window.
    pub candidate_n: f64,
    /// Over-dispersion of such a window, at least 1.
    pub phi: f64,
}

/// Forecast for a proof of a risk difference in the making; `None` when it does not get there even with one standard error of luck.
pub fn proof_eta(test: &RiskDifference, weights: &[f64], log_masses: &[f64], outlook: &Outlook, log_threshold: f64) -> Option<Eta> {
    let growth = |rate: f64| growth_per_window(test, outlook.champion_rate, rate, outlook.champion_n, outlook.candidate_n);
    eta_from_growth(growth, weights, log_masses, outlook, log_threshold)
}

/// The same for any family: `growth` gives the expected log increments of one window for a candidate rate, before division by φ.
pub fn eta_from_growth(
    growth: impl Fn(f64) -> Vec<f64>,
    weights: &[f64],
    log_masses: &[f64],
    outlook: &Outlook,
    log_threshold: f64,
) -> Option<Eta> {
    let rate = shrunk_rate(outlook.candidate, outlook.champion_rate, outlook.n_fixed);
    let phi = outlook.phi.max(1.0);
    let error = (phi * rate * (1.0 - rate) / (outlook.candidate.total + outlook.n_fixed).max(1.0)).max(0.0).sqrt();
    let forecast = |candidate_rate: f64| {
        let growth: Vec<f64> = growth(candidate_rate).into_iter().map(|g| g / phi).collect();
        windows_left(weights, log_masses, &growth, log_threshold)
    };
    let lucky = forecast((rate - error).max(0.0))?;
    let unlucky = forecast((rate + error).min(1.0));
    let windows = forecast(rate).unwrap_or(f64::MAX);
    Some(Eta { windows, low: lucky / 2.0, high: unlucky.map(|r| 2.0 * r) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proven_needs_no_more_windows_and_what_shrinks_never_ends() {
        assert_eq!(windows_left(&[1.0], &[4.0], &[-1.0], 3.0), Some(0.0));
        assert_eq!(windows_left(&[0.5, 0.5], &[0.0, 0.0], &[-1.0, 0.0], 3.0), None);
        let left = windows_left(&[1.0], &[0.0], &[0.1], 3.0).unwrap();
        assert!((left - 30.0).abs() < 1e-9);
    }

    #[test]
    fn a_negative_number_of_requests_is_no_window_and_no_panic() {
        let test = RiskDifference::new(0.02).unwrap();
        assert!(growth_per_window(&test, 0.08, 0.08, 540.0, -1.0).iter().all(|g| g.abs() <= 0.0));
    }

    #[test]
    fn the_range_contains_the_forecast() {
        let test = RiskDifference::new(0.02).unwrap();
        let outlook = Outlook {
            champion_rate: 0.08,
            candidate: Tally::new(52.0, 600.0),
            n_fixed: 1751.3,
            champion_n: 540.0,
            candidate_n: 60.0,
            phi: 1.0,
        };
        let eta = proof_eta(&test, RiskDifference::weights(Side::Proof), &[0.0; 4], &outlook, 20.0_f64.ln()).unwrap();
        assert!(eta.low < eta.windows && eta.high.is_none_or(|h| h > eta.windows), "{eta:?}");
    }

    #[test]
    fn no_data_at_all_gives_no_panic() {
        assert!((shrunk_rate(Tally::default(), 0.1, 0.0) - 0.1).abs() < 1e-15);
        let test = RiskDifference::new(0.02).unwrap();
        let outlook =
            Outlook { champion_rate: 0.0, candidate: Tally::default(), n_fixed: 0.0, champion_n: 0.0, candidate_n: 0.0, phi: 1.0 };
        assert_eq!(proof_eta(&test, RiskDifference::weights(Side::Proof), &[0.0; 4], &outlook, 3.0), None);
    }
}
