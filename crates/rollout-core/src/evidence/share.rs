//! How traffic is really split: counts since the last change of traffic, and the always-valid check of their ratio.
//! It cannot say which arm is wrong, and it never rolls back by itself.

use anytime_stats::SampleRatio;
use serde::{Deserialize, Serialize};

use super::TickTimes;
use super::counting::ArmCount;
use crate::verdict::Unmeasurable;

/// Requests per arm since the last change of traffic: candidate, stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShareCounts {
    /// Since the change itself: early ticks still hold requests from before.
    #[serde(rename = "s")]
    since: [f64; 2],
    /// Since traffic settled.
    #[serde(rename = "t")]
    settled: [f64; 2],
    /// Largest count of one tick. Pods are scraped at different times, so the arms' counts may be out of step by this much.
    #[serde(rename = "m")]
    step: [f64; 2],
    /// Counted while a part of an arm was not to be seen: compared once that part is back and its gap is charged.
    #[serde(rename = "p")]
    pending: Pending,
}

/// What both arms served in one tick.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    /// Candidate, stable.
    requests: [f64; 2],
    /// Whether every target that exists was read.
    whole: bool,
    /// Whether of something that began anew, came or went since the last tick only a part is known.
    cut: bool,
}

impl Served {
    /// What cannot be known.
    pub(super) const UNKNOWN: Self = Self { requests: [0.0; 2], whole: false, cut: false };

    /// As counted for candidate and stable; an arm served nothing where the reason why it has no count `means_none`.
    pub(super) fn of(arms: [&Result<ArmCount, Unmeasurable>; 2], means_none: impl Fn(&Unmeasurable) -> bool) -> Self {
        let whole = arms.iter().all(|arm| arm.as_ref().map_or_else(&means_none, ArmCount::is_whole));
        let cut = arms.iter().any(|arm| arm.as_ref().is_ok_and(|count| count.cut));
        Self { requests: arms.map(|arm| arm.as_ref().map_or(0.0, |count| count.tally().total)), whole, cut }
    }
}

/// Counts that wait for the rest of their arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Pending {
    #[serde(rename = "s")]
    since: [f64; 2],
    #[serde(rename = "t")]
    settled: [f64; 2],
    #[serde(rename = "d")]
    seconds: f64,
    #[serde(rename = "n")]
    ticks: f64,
    /// Whether any of these ticks was cut.
    #[serde(rename = "c", default, skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

/// Seconds after which a part of an arm that is still not to be seen is taken to be gone.
const GONE_AFTER: f64 = 300.0;

impl ShareCounts {
    /// Adds one tick.
    pub(super) fn absorb(&mut self, times: &TickTimes, served: Served) {
        let Served { requests, whole, cut } = served;
        add(&mut self.pending.since, requests);
        if times.start >= times.settled {
            add(&mut self.pending.settled, requests);
        }
        self.pending.seconds += times.seconds();
        self.pending.ticks += 1.0;
        self.pending.cut |= cut;
        if whole || self.pending.seconds >= GONE_AFTER {
            let Pending { since, settled, ticks, cut, .. } = std::mem::take(&mut self.pending);
            if whole && cut && ticks > 1.0 {
                // What one arm served in the gap is lost, and with it what it is compared with.
                return;
            }
            add(&mut self.since, since);
            add(&mut self.settled, settled);
            for (step, counted) in self.step.iter_mut().zip(since) {
                *step = step.max(counted / ticks);
            }
        }
    }

    /// Requests of both arms since the change.
    pub(crate) fn total(&self) -> f64 {
        self.since.iter().sum()
    }

    /// The candidate's requests since the change.
    pub(crate) const fn candidate(&self) -> f64 {
        let [candidate, _] = self.since;
        candidate
    }

    /// Share of the candidate, from settled requests as soon as there are some.
    pub(crate) fn realised(&self) -> Option<f64> {
        let share = |[candidate, stable]: [f64; 2]| (candidate + stable > 0.0).then(|| candidate / (candidate + stable));
        share(self.settled).or_else(|| share(self.since))
    }

    /// Log e-value against "the candidate's share is `expected`", on settled requests; `unit` requests count as one independent draw.
    pub(crate) fn log_e(&self, expected: f64, unit: f64) -> f64 {
        mismatch(self.settled, self.step, expected, unit)
    }

    /// Log e-value against "no more than `expected`". Right after a raise old requests only lower the share, so all may be counted.
    pub(crate) fn log_e_above(&self, expected: f64, raised: bool) -> f64 {
        let [candidate, stable] = if raised { self.since } else { self.settled };
        let [step, _] = self.step;
        if expected <= 0.0 {
            // Nobody should be there: more than the stragglers of one tick, and more than chance, is proof enough.
            return if candidate > step + 20.0 { f64::MAX } else { 0.0 };
        }
        if candidate <= expected * (candidate + stable) { 0.0 } else { mismatch([candidate, stable], self.step, expected, 1.0) }
    }
}

fn add(sum: &mut [f64; 2], counts: [f64; 2]) {
    for (sum, count) in sum.iter_mut().zip(counts) {
        *sum += count;
    }
}

/// Log e-value of the counts that are nearest to the expected share among those that scrapes out of step could have hidden.
fn mismatch(counts: [f64; 2], step: [f64; 2], expected: f64, unit: f64) -> f64 {
    let [candidate, stable] = counts;
    let [step_candidate, step_stable] = step;
    if expected <= 0.0 || expected >= 1.0 || candidate + stable <= 0.0 {
        return 0.0;
    }
    let too_many = candidate > expected * (candidate + stable);
    let (nearer, further) = if too_many {
        ((candidate - step_candidate).max(0.0), stable + step_stable)
    } else {
        (candidate + step_candidate, (stable - step_stable).max(0.0))
    };
    let still = nearer > expected * (nearer + further);
    if still != too_many || nearer + further <= 0.0 {
        return 0.0;
    }
    SampleRatio::new(&[1.0 - expected, expected]).map_or(0.0, |mut check| {
        check.absorb(&[further / unit, nearer / unit]);
        check.log_e()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(ticks: &[(f64, f64)]) -> ShareCounts {
        let mut counts = ShareCounts::default();
        for (i, (candidate, stable)) in ticks.iter().enumerate() {
            let at = i64::try_from(i).unwrap() * 1000;
            counts.absorb(
                &TickTimes { start: at, end: at + 1000, judged: 1.0, settled: 2000, since: 0 },
                Served { requests: [*candidate, *stable], whole: true, cut: false },
            );
        }
        counts
    }

    /// A second of traffic that has settled.
    const fn times(at: i64) -> TickTimes {
        TickTimes { start: at * 1000, end: (at + 1) * 1000, judged: 1.0, settled: 0, since: 0 }
    }

    #[test]
    fn a_wrong_split_is_found_and_a_right_one_is_not() {
        let wrong = counted(&[(30.0, 70.0); 60]);
        assert!(wrong.log_e(0.05, 1.0) > 7.0 && wrong.log_e_above(0.05, true) > 7.0);
        let right = counted(&[(5.0, 95.0); 60]);
        assert!(right.log_e(0.05, 1.0) <= 0.0 && right.log_e_above(0.05, true) <= 0.0);
        let below = counted(&[(1.0, 99.0); 200]);
        assert!(below.log_e(0.05, 1.0) > 7.0 && below.log_e_above(0.05, true) <= 0.0);
        assert_eq!(right.realised(), Some(0.05));
    }

    #[test]
    fn a_burst_that_one_arm_reports_a_scrape_later_is_no_mismatch() {
        let mut ticks = vec![(0.0, 0.0); 3];
        ticks.push((0.0, 750.0));
        assert!(counted(&ticks).log_e(0.25, 1.0) <= 0.0);
        ticks.extend([(250.0, 750.0); 10]);
        assert!(counted(&ticks).log_e(0.25, 1.0) <= 0.0);
    }

    #[test]
    fn an_arm_that_is_not_to_be_seen_is_no_mismatch() {
        let mut counts = ShareCounts::default();
        for at in 0..200 {
            counts.absorb(&times(at), Served { requests: [0.0, 500.0], whole: false, cut: false });
        }
        assert!(counts.log_e(0.5, 1.0) <= 0.0);
        // Its requests of the gap are charged when it is back.
        counts.absorb(&times(200), Served { requests: [100_000.0, 500.0], whole: true, cut: false });
        assert!(counts.log_e(0.5, 1.0) <= 0.0);
        for at in 201..600 {
            counts.absorb(&times(at), Served { requests: [0.0, 500.0], whole: false, cut: false });
        }
        assert!(counts.log_e(0.5, 1.0) > 7.0, "what stays away for minutes is gone, and the split is wrong");
    }

    #[test]
    fn a_pod_that_restarted_where_nobody_could_see_it_is_no_mismatch() {
        let mut counts = ShareCounts::default();
        for at in 0..180 {
            counts.absorb(&times(at), Served { requests: [0.0, 500.0], whole: false, cut: false });
        }
        // It served 500 a second all the time, and began to count again 80 s ago.
        counts.absorb(&times(180), Served { requests: [40_000.0, 500.0], whole: true, cut: true });
        assert!(counts.log_e(0.5, 1.0) <= 0.0);
        for at in 181..240 {
            counts.absorb(&times(at), Served { requests: [100.0, 900.0], whole: true, cut: true });
        }
        assert!(counts.log_e(0.5, 1.0) > 7.0, "what is read without a gap counts, however often a pod restarts");
    }

    #[test]
    fn a_restart_that_is_seen_while_the_other_arm_is_not_counts_for_the_whole_gap() {
        let mut counts = ShareCounts::default();
        for at in 0..100 {
            // The candidate begins anew in the middle of it: what it served until then is lost, and only stable's requests come back.
            counts.absorb(&times(at), Served { requests: [if at < 60 { 0.0 } else { 500.0 }, 0.0], whole: false, cut: at == 60 });
        }
        counts.absorb(&times(100), Served { requests: [500.0, 50_000.0], whole: true, cut: false });
        assert!(counts.log_e(0.5, 1.0) <= 0.0);
        // The next gap is another one.
        counts.absorb(&times(101), Served { requests: [0.0, 500.0], whole: false, cut: false });
        counts.absorb(&times(102), Served { requests: [0.0, 50_000.0], whole: true, cut: false });
        assert!(counts.log_e(0.5, 1.0) > 7.0);
    }

    #[test]
    fn requests_at_no_exposure_are_above_intent_once_traffic_has_settled() {
        assert!(counted(&[(10.0, 90.0), (10.0, 90.0), (0.0, 100.0)]).log_e_above(0.0, false) <= 0.0);
        assert!(counted(&[(10.0, 90.0); 20]).log_e_above(0.0, false) > 7.0);
    }
}
