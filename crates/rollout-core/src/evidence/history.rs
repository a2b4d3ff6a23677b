//! What the champion did before the attempt: how its own counts scatter, and its rate. Taken from the champion alone, so that the candidate cannot
//! change it. Decides nothing and proves nothing; without it the attempt learns both as it goes, and is slower and less sure in its first hour.

use std::collections::BTreeSet;

use anytime_stats::Tally;
use chrono::{DateTime, TimeDelta, Utc};

use super::counting::{ArmCounter, Sides};
use super::query::{self, count_sought};
use super::scatter::Scatter;
use super::series::{Arms, Query, Reading, Readings, Role};
use super::sift::Scope;
use super::{Evidence, State, freshness};
use crate::plan::{Guardrail, Plan, Test};

/// How far back to look: two days. Of half hours there are few in one, and the largest of several estimates is too large while they are noisy.
pub const SPAN: TimeDelta = TimeDelta::hours(48);
/// Least distance of instants: the shortest scale at which scatter is looked at.
const LEAST_INTERVAL: TimeDelta = TimeDelta::seconds(60);

/// The champion's counts before an attempt, instant by instant.
#[derive(Clone, Debug)]
pub struct History {
    last: i64,
    guardrails: Vec<Option<Remembered>>,
}

/// One guardrail on counts.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    counter: ArmCounter,
    pub scatter: Scatter,
    pub champion: Tally,
}

impl History {
    /// Nothing known yet; instants after `from` may come.
    pub fn start(plan: &Plan, from: DateTime<Utc>) -> Self {
        let last = from.timestamp_millis();
        let fresh = || Remembered { counter: ArmCounter::new(last), scatter: Scatter::of_arms(), champion: Tally::default() };
        Self { last, guardrails: plan.guardrails.iter().map(|guardrail| is_remembered(guardrail).then(fresh)).collect() }
    }

    /// What must be asked of the champion at each instant; nothing for a plan without counts of it.
    pub fn queries(plan: &Plan, arms: &Arms) -> BTreeSet<Query> {
        let guardrails = plan.guardrails.iter().filter(|guardrail| is_remembered(guardrail));
        let mut guardrails = guardrails.peekable();
        if guardrails.peek().is_some() { query::of_champion(guardrails, arms) } else { BTreeSet::new() }
    }

    /// Distance of the instants.
    pub fn interval(plan: &Plan) -> TimeDelta {
        plan.interval.max(LEAST_INTERVAL)
    }

    /// The newest instant that was absorbed; the start before the first.
    pub fn last_instant(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.last).unwrap_or_default()
    }

    /// Folds one instant; one that is not after the last is ignored. What cannot be read is left out, and charged when it can be again.
    pub fn absorb(&mut self, plan: &Plan, arms: &Arms, at: DateTime<Utc>, readings: &Readings) {
        let instant = at.timestamp_millis();
        if instant <= self.last {
            return;
        }
        // A moment without a single series teaches nothing, and two days of a young champion are made of them.
        if readings.values().all(|reading| matches!(reading, Reading::Series(series) if series.is_empty())) {
            self.last = instant;
            return;
        }
        let seconds = (instant - self.last) as f64 / 1000.0;
        // Scrapes may be as rare as the instants.
        let limit = freshness(plan).max(2 * Self::interval(plan).num_milliseconds());
        let scope = Scope { arms, readings, instant, limit, part: None };
        for (remembered, guardrail) in self.guardrails.iter_mut().zip(&plan.guardrails) {
            let (Some(remembered), Test::Counts { bad, total, .. }) = (remembered, &guardrail.test) else { continue };
            let sides = Sides { guardrail, bad, total };
            let Ok(count) = remembered.counter.count(&scope, &sides, Role::Stable) else { continue };
            if count.problem.is_none() {
                remembered.scatter.absorb(seconds, count.halves, (count.targets, 0));
                remembered.champion += count.tally();
            }
        }
        self.last = instant;
    }
}

/// Pairs and gaps are counted beside the candidate: the champion alone has no past of them. Gauges are not remembered.
fn is_remembered(guardrail: &Guardrail) -> bool {
    matches!(&guardrail.test, Test::Counts { bad, total, .. } if count_sought(guardrail, bad, total).is_some())
}

impl Evidence {
    /// Takes over what the champion did before the attempt, once: at the start, or as soon as it is known. Windows that were judged before stay as they
    /// are; the champion's own past cannot depend on what they showed.
    pub fn remember(&mut self, history: &History) {
        for (tracked, remembered) in self.guardrails.iter_mut().zip(&history.guardrails) {
            if let (State::Counts(counts), Some(remembered)) = (&mut tracked.state, remembered) {
                counts.remember(remembered);
            }
        }
    }
}
