//! Over-dispersion within the attempt, from the champion alone: two halves of its pods at 60, 300 and 1800 s, or successive windows of a single pod.
//! Keeps running sums of the estimator in `anytime_stats::overdispersion`, whose functions want all windows at once; shocks of an hour stay invisible.

use anytime_stats::Tally;
use anytime_stats::overdispersion::{Overdispersion, largest_phi};
use serde::{Deserialize, Serialize};

/// Lengths of the windows in seconds, shortest first.
const SCALES: [f64; 3] = [60.0, 300.0, 1800.0];
/// Successive differences below which an estimate is noise.
const ENOUGH_SHORT: f64 = 5.0;
const ENOUGH_LONG: f64 = 4.0;

/// Running estimate for one guardrail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Scatter {
    scales: [Scale; 3],
}

/// Running sums at one scale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Scale {
    /// Seconds of the open window.
    #[serde(rename = "t")]
    seconds: f64,
    #[serde(rename = "a")]
    half_a: Tally,
    #[serde(rename = "b")]
    half_b: Tally,
    /// Value and variance (in units of the outcome's own) of the last window; the flag says whether it had two halves.
    #[serde(rename = "l")]
    last: Option<(f64, f64, bool)>,
    #[serde(rename = "q")]
    squares: f64,
    #[serde(rename = "k")]
    pairs: f64,
    #[serde(rename = "n")]
    size: f64,
    #[serde(rename = "w")]
    windows: f64,
    #[serde(rename = "p")]
    pooled: Tally,
}

impl Scale {
    fn absorb(&mut self, seconds: f64, halves: (Tally, Tally), length: f64) {
        self.seconds += seconds;
        self.half_a += halves.0;
        self.half_b += halves.1;
        if self.seconds + 1e-9 < length {
            return;
        }
        let (a, b) = (self.half_a, self.half_b);
        (self.seconds, self.half_a, self.half_b) = (0.0, Tally::default(), Tally::default());
        let now = match (a.rate(), b.rate()) {
            (Some(rate_a), Some(rate_b)) => (rate_a - rate_b, 1.0 / a.total + 1.0 / b.total, true),
            (Some(rate), None) => (rate, 1.0 / a.total, false),
            (None, Some(rate)) => (rate, 1.0 / b.total, false),
            (None, None) => return,
        };
        let sizes = if now.2 { f64::midpoint(a.total, b.total) } else { a.total + b.total };
        self.pooled += a;
        self.pooled += b;
        self.size += sizes;
        self.windows += 1.0;
        // A pod that came or went changes what is compared: such a pair says nothing.
        if let Some(before) = self.last.filter(|l| l.2 == now.2) {
            self.squares += (now.0 - before.0).powi(2) / (now.1 + before.1);
            self.pairs += 1.0;
        }
        self.last = Some(now);
    }

    fn mean_size(&self) -> f64 {
        self.size / self.windows.max(1.0)
    }
}

impl Scatter {
    /// Adds the champion's counts of one tick, by halves of its pods.
    pub(super) fn absorb(&mut self, seconds: f64, half_a: Tally, half_b: Tally) {
        for (scale, length) in self.scales.iter_mut().zip(SCALES) {
            scale.absorb(seconds, (half_a, half_b), length);
        }
    }

    /// φ of a window with these sizes; at least 1, and 1 until enough was seen.
    pub(super) fn phi(&self, champion: f64, candidate: f64) -> f64 {
        largest_phi(&self.estimates(), champion, candidate)
    }

    fn estimates(&self) -> Vec<Overdispersion> {
        let [short, long @ ..] = &self.scales;
        let Some(rate) = short.pooled.rate().filter(|_| short.pairs >= ENOUGH_SHORT) else { return Vec::new() };
        // Beyond one event per trial (events per second) the scatter of a Poisson count is the yardstick.
        let spread = if rate < 1.0 { rate * (1.0 - rate) } else { rate };
        if spread <= 0.0 {
            return Vec::new();
        }
        let h_short = short.squares / short.pairs / spread;
        let mut estimates = vec![Overdispersion { clump: h_short.max(1.0), icc: 0.0 }];
        for long in long.iter().filter(|scale| scale.pairs >= ENOUGH_LONG) {
            let (longer, h_long) = (long.mean_size() - short.mean_size(), long.squares / long.pairs / spread);
            let icc = if longer > 0.0 { ((h_long - h_short) / longer).max(0.0) } else { 0.0 };
            let clump = (h_short - icc * (short.mean_size() - 1.0)).max(1.0);
            estimates.push(Overdispersion { clump, icc });
        }
        estimates.retain(|e| e.clump.is_finite() && e.icc.is_finite());
        estimates
    }
}

/// Splits targets into two halves by a hash of their names: every second in the hash's order, so that two pods never share a half.
pub(super) fn first_half<'a>(targets: impl Iterator<Item = &'a str>) -> std::collections::BTreeSet<&'a str> {
    let mut ordered: Vec<(u64, &str)> = targets.map(|t| (fnv1a(t), t)).collect();
    ordered.sort_unstable();
    ordered.into_iter().map(|(_, target)| target).step_by(2).collect()
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use anytime_stats::overdispersion::{Halves, two_scale, two_scale_single};

    use super::*;

    fn rows(count: u32) -> Vec<(Tally, Tally)> {
        (0..count)
            .map(|i| {
                let wobble = f64::from(i * 7919 % 23) / 23.0;
                let slow = if (i / 5) % 2 == 0 { 6.0 } else { -6.0 };
                (Tally::new((20.0 + 12.0 * wobble + slow).round(), 300.0), Tally::new((24.0 - 9.0 * wobble).round(), 300.0))
            })
            .collect()
    }

    #[test]
    fn running_sums_give_what_all_windows_at_once_give() {
        let rows = rows(30);
        let mut scatter = Scatter::default();
        for (a, b) in &rows {
            scatter.absorb(60.0, *a, *b);
        }
        let short: Vec<Halves> = rows.iter().map(|(a, b)| Halves { a: *a, b: *b }).collect();
        let long: Vec<Halves> = short
            .chunks(5)
            .map(|c| {
                c.iter().fold(Halves::default(), |mut sum, h| {
                    sum.a += h.a;
                    sum.b += h.b;
                    sum
                })
            })
            .collect();
        let reference = two_scale(&short, &long).unwrap().overdispersion;
        assert!(reference.icc > 0.0);
        let estimates = scatter.estimates();
        assert!((estimates[1].icc - reference.icc).abs() < 1e-12 && (estimates[1].clump - reference.clump).abs() < 1e-12);
        assert!((scatter.phi(2700.0, 300.0) - reference.phi(2700.0, 300.0)).abs() < 1e-9);
    }

    #[test]
    fn a_single_pod_is_compared_with_itself_a_window_later() {
        let rows: Vec<Tally> = rows(40).into_iter().map(|(a, _)| a).collect();
        let mut scatter = Scatter::default();
        for a in &rows {
            scatter.absorb(60.0, *a, Tally::default());
        }
        let long: Vec<Tally> = rows
            .chunks(5)
            .map(|c| {
                c.iter().fold(Tally::default(), |mut sum, t| {
                    sum += *t;
                    sum
                })
            })
            .collect();
        let reference = two_scale_single(&rows, &long).unwrap().overdispersion;
        assert!((scatter.estimates()[1].icc - reference.icc).abs() < 1e-12);
    }

    #[test]
    fn two_pods_never_share_a_half() {
        for (one, other) in [("digits-fp32-a", "digits-fp32-b"), ("x", "y"), ("pod-0", "pod-1")] {
            assert_eq!(first_half([one, other].into_iter()).len(), 1);
        }
    }
}
