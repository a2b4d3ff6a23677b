//! What the other policies see: counts per arm in five-minute windows, from the same scrapes, as an ideal `increase()` would give them.
//! Kinder than Prometheus: nothing is extrapolated, numerator and denominator always belong to the same scrapes, a gap is charged when it ends.

use anytime_stats::{Tally, Window};

use crate::pod::Pod;
use crate::scenario::{Bound, Scenario, Side};

/// Seconds of a window.
pub const WINDOW: f64 = 300.0;

/// One guardrail in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Events of both arms.
    pub counts: Window,
    /// Mean level of champion and candidate, for gauges.
    pub levels: Option<(f64, f64)>,
}

/// A closed window.
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    /// Its end in seconds since the first exposure.
    pub end: f64,
    /// Requests that the candidate has answered by then.
    pub served: f64,
    /// One entry per guardrail.
    pub rails: Vec<Seen>,
}

/// Turns scrapes into windows.
pub struct Watcher<'a> {
    scenario: &'a Scenario,
    last: Vec<Option<(u32, Vec<f64>)>>,
    open: Vec<Open>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Open {
    counts: Window,
    champion_level: (f64, f64),
    candidate_level: (f64, f64),
}

impl<'a> Watcher<'a> {
    /// Nothing seen yet.
    pub fn new(scenario: &'a Scenario, pods: &[Pod]) -> Self {
        Self { scenario, last: vec![None; pods.len()], open: vec![Open::default(); scenario.rails.len()] }
    }

    /// Takes what the last step's scrapes brought. `counts` is false before the first exposure: only the counters' levels are noted.
    pub fn take(&mut self, pods: &[Pod], counts: bool) {
        for (pod, last) in pods.iter().zip(&mut self.last) {
            for scrape in &pod.delivered {
                let before = last.as_ref().filter(|(generation, _)| *generation == pod.generation).map(|(_, values)| values.as_slice());
                if counts {
                    charge(self.scenario, &mut self.open, pod.side, before, &scrape.values);
                }
                *last = Some((pod.generation, scrape.values.clone()));
            }
        }
    }

    /// Closes the window.
    pub fn close(&mut self, end: f64, served: f64) -> Closed {
        let mean = |(sum, n): (f64, f64)| (n > 0.0).then(|| sum / n);
        let rails =
            self.open.iter().map(|open| Seen { counts: open.counts, levels: mean(open.champion_level).zip(mean(open.candidate_level)) });
        let closed = Closed { end, served, rails: rails.collect() };
        self.open.fill(Open::default());
        closed
    }
}

fn charge(scenario: &Scenario, open: &mut [Open], side: Side, before: Option<&[f64]>, now: &[f64]) {
    let increase = |column: usize| {
        let (after, before) = (now.get(column).copied().unwrap_or_default(), before.and_then(|b| b.get(column).copied())?);
        Some(if after >= before { after - before } else { after })
    };
    for (index, (rail, open)) in scenario.rails.iter().zip(open).enumerate() {
        let bad_column = Scenario::bad_column(index);
        if matches!(rail.bound, Bound::Level(_)) {
            let level = if side == Side::Champion { &mut open.champion_level } else { &mut open.candidate_level };
            *level = (level.0 + now.get(bad_column).copied().unwrap_or_default(), level.1 + 1.0);
            continue;
        }
        let Some((bad, total)) = increase(bad_column).zip(increase(Scenario::total_column(index, rail))) else { continue };
        let tally = if side == Side::Champion { &mut open.counts.champion } else { &mut open.counts.candidate };
        *tally += Tally::new(bad.min(total), total);
    }
}
