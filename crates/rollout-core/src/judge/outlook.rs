//! How long a proof will still take if things stay as they are: shrunk rate, expected growth, half to twice. A forecast for people; nothing depends on it.

use anytime_stats::eta::shrunk_rate;
use anytime_stats::planning::{Precision, below_limit, noninferiority_proportions, noninferiority_rates};
use chrono::TimeDelta;

use crate::evidence::CountState;
use crate::plan::CountBound;

/// Power of the fixed-sample plan that forecasts are shrunk by.
const PLANNED_POWER: f64 = 0.9;
/// Longest time that is named.
const LONGEST: TimeDelta = TimeDelta::days(7);

/// Time until `target` is proven, from half the lucky forecast to twice the unlucky one; `None` before the first proof window, or when there is no hope.
pub(super) fn eta(counts: &CountState, target: CountBound, alpha: f64, threshold: f64) -> Option<(TimeDelta, TimeDelta)> {
    let (window, length) = counts.mean_window()?;
    let seen = counts.seen();
    let champion_rate = seen.champion.rate()?;
    let per_candidate = window.champion.total / window.candidate.total;
    let precision = Precision { alpha, power: PLANNED_POWER };
    let planned = match target {
        CountBound::Difference { margin, .. } => noninferiority_proportions(champion_rate, champion_rate, margin, per_candidate, precision),
        CountBound::Ratio { factor, .. } => noninferiority_rates(champion_rate, 1.0, factor, per_candidate, precision),
        CountBound::Absolute(limit) => below_limit(champion_rate, limit, precision),
    };
    let n_fixed = planned.unwrap_or(0.0);
    let rate = shrunk_rate(seen.candidate, champion_rate, n_fixed);
    let spread = if rate < 1.0 { rate * (1.0 - rate) } else { rate };
    let error = (counts.phi() * spread / (seen.candidate.total + n_fixed).max(1.0)).sqrt();
    let lucky = counts.windows_left(champion_rate, (rate - error).max(0.0), threshold)?;
    let unlucky = counts.windows_left(champion_rate, rate + error, threshold);
    Some((time(lucky / 2.0 * length), unlucky.map_or(LONGEST, |windows| time(2.0 * windows * length))))
}

fn time(seconds: f64) -> TimeDelta {
    let longest = LONGEST.num_seconds() as f64;
    // The clamp keeps it inside the integer.
    #[allow(clippy::cast_possible_truncation)]
    TimeDelta::seconds(seconds.clamp(0.0, longest).round() as i64)
}
