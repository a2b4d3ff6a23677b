//! Kayenta's judge: a Mann–Whitney test on window values, per metric, with a tolerance and an effect size.
//! The unit is a window, not a request; that is how it is published.

use anytime_stats::ranks::mann_whitney;

use super::{Briefing, Peer};
use crate::history::{Closed, Seen};
use crate::outcome::Decision;
use crate::scenario::{Bound, Rail};

/// Normal quantile of a two-sided interval at 98 %.
const Z: f64 = 2.326_347_874_040_841;
/// Part of the estimated shift that the lower limit must exceed.
const TOLERANCE: f64 = 0.25;
/// Seconds between judgements, and after which a canary that always passed is done.
const INTERVAL: f64 = 3_600.0;
const LIFETIME: f64 = 4.0 * 3_600.0;
/// Points per arm below which there is nothing to test.
const LEAST_POINTS: usize = 3;

/// A canary under way.
pub struct Kayenta {
    /// Per guardrail: ratio of means from which on an increase counts; values of champion and candidate.
    metrics: Vec<Metric>,
    judged: f64,
}

struct Metric {
    allowed: f64,
    control: Vec<f64>,
    experiment: Vec<f64>,
}

impl Kayenta {
    /// A canary; `tuned` allows the increase that the target allows.
    pub fn new(briefing: &Briefing<'_>, tuned: bool) -> Self {
        let metric = |rail: &Rail| Metric { allowed: if tuned { allowed(rail) } else { 1.0 }, control: Vec::new(), experiment: Vec::new() };
        Self { metrics: briefing.scenario.rails.iter().map(metric).collect(), judged: 0.0 }
    }
}

fn allowed(rail: &Rail) -> f64 {
    match rail.bound {
        Bound::Points { target, .. } => 1.0 + target / rail.base,
        Bound::Times(factor) => factor,
        Bound::Limit(limit) => (limit / rail.base).max(1.0),
        Bound::Level(margin) => 1.0 + margin / rail.base,
    }
}

impl Peer for Kayenta {
    fn look(&mut self, briefing: &Briefing<'_>, history: &[Closed]) -> Option<Decision> {
        let closed = history.last()?;
        if self.judged + 1e-9 < LIFETIME {
            for (metric, seen) in self.metrics.iter_mut().zip(&closed.rails) {
                metric.take(seen);
            }
            if closed.end + 1e-9 < self.judged + INTERVAL {
                return None;
            }
            self.judged = closed.end;
            if self.metrics.iter().any(Metric::fails) {
                return Some(Decision::RolledBack);
            }
        }
        // What has passed waits for the steps to end.
        (self.judged + 1e-9 >= LIFETIME && closed.end + 1e-9 >= briefing.earliest).then_some(Decision::Promoted)
    }
}

impl Metric {
    fn take(&mut self, seen: &Seen) {
        let (control, experiment) = match seen.levels {
            Some((control, experiment)) => (Some(control), Some(experiment)),
            None => (seen.counts.champion.rate(), seen.counts.candidate.rate()),
        };
        self.control.extend(control);
        self.experiment.extend(experiment);
    }

    /// "High", or no data at all on a critical metric.
    fn fails(&self) -> bool {
        if self.experiment.len() < LEAST_POINTS || self.control.len() < LEAST_POINTS {
            return true;
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let Some(test) = mann_whitney(&self.experiment, &self.control) else { return false };
        let significant = self.lower_limit().is_some_and(|lower| lower > TOLERANCE * test.shift.abs());
        significant && mean(&self.experiment) > self.allowed * mean(&self.control)
    }

    /// Lower limit of the shift: the order statistic of all pairwise differences that the normal approximation of U names (Hollander & Wolfe).
    fn lower_limit(&self) -> Option<f64> {
        let (n, m) = (self.experiment.len() as f64, self.control.len() as f64);
        let rank = (n * m / 2.0 - Z * (n * m * (n + m + 1.0) / 12.0).sqrt()).floor();
        if rank < 1.0 {
            return None;
        }
        let mut differences: Vec<f64> = self.experiment.iter().flat_map(|x| self.control.iter().map(move |y| x - y)).collect();
        differences.sort_unstable_by(f64::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1 and below the number of pairs")]
        differences.get(rank as usize - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(experiment: impl Fn(f64) -> f64, allowed: f64) -> Metric {
        let wobble = |i: i32| f64::from(i * 7 % 12) / 12.0;
        let control: Vec<f64> = (0..12).map(|i| 0.08 + 0.004 * wobble(i)).collect();
        let experiment = (0..12).map(|i| experiment(0.08 + 0.004 * wobble(i + 5))).collect();
        Metric { allowed, control, experiment }
    }

    #[test]
    fn a_clear_increase_fails_unless_it_is_allowed() {
        assert!(!metric(|x| x, 1.0).fails());
        assert!(metric(|x| x + 0.01, 1.0).fails());
        assert!(!metric(|x| x + 0.01, 1.25).fails());
        assert!(!metric(|x| x - 0.01, 1.0).fails());
    }

    #[test]
    fn no_data_fails() {
        assert!(Metric { allowed: 1.0, control: vec![0.1; 12], experiment: Vec::new() }.fails());
    }
}
