//! A histogram of latencies with about 1.5 % relative resolution, for quantiles of any number of requests in little memory.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// Bits kept of each value: 64 buckets per doubling.
const BITS: u32 = 6;

/// Latencies counted so far.
#[derive(Clone, Debug, Default)]
pub struct Quantiles {
    /// Lower bound of a bucket in µs -> values in it.
    buckets: BTreeMap<u64, u64>,
    count: u64,
    sum: Duration,
    max: Duration,
}

/// Quantiles in ms; all zero when nothing was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    n: u64,
    mean: f64,
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

impl Quantiles {
    /// Counts one latency.
    pub fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        *self.buckets.entry(lower_bound(micros)).or_default() += 1;
        self.count += 1;
        self.sum += latency;
        self.max = self.max.max(latency);
    }

    /// The usual quantiles.
    pub fn summary(&self) -> Summary {
        let count = self.count.max(1) as f64;
        let round = |ms: f64| (ms * 1000.0).round() / 1000.0;
        let at = |share: f64| round(self.quantile(share).as_secs_f64() * 1000.0);
        let mean = round(self.sum.as_secs_f64() * 1000.0 / count);
        let max = round(self.max.as_secs_f64() * 1000.0);
        Summary { n: self.count, mean, p50: at(0.5), p90: at(0.9), p95: at(0.95), p99: at(0.99), max }
    }

    /// Lower bound of the bucket that holds the value of this rank.
    fn quantile(&self, share: f64) -> Duration {
        let rank = share * self.count as f64;
        let mut below = 0;
        for (micros, count) in &self.buckets {
            below += count;
            if below as f64 >= rank {
                return Duration::from_micros(*micros);
            }
        }
        Duration::ZERO
    }
}

impl Summary {
    /// The two quantiles that a summary line shows, in ms.
    pub fn p95_p99(self) -> (f64, f64) {
        (self.p95, self.p99)
    }
}

fn lower_bound(value: u64) -> u64 {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(BITS + 1);
    value >> shift << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut q = Quantiles::default();
        for micros in 1..=100_000 {
            q.add(Duration::from_micros(micros));
        }
        let s = q.summary();
        for (found, expected) in [(s.p50, 50.0), (s.p90, 90.0), (s.p95, 95.0), (s.p99, 99.0), (s.max, 100.0), (s.mean, 50.0)] {
            assert!((found / expected - 1.0).abs() < 0.02, "{found}, expected {expected}");
        }
        assert!(q.buckets.len() < 1000);
        assert_eq!(Quantiles::default().summary(), Summary::default());
    }
}
