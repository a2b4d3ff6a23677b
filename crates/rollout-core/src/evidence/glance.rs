//! A look between two instants at what a single sample can cross: tripwires and limits. It costs a few queries and saves most of an interval.
//! Changes nothing: the same samples are folded at the next instant, so a replay that knows no glances gives the same evidence.

use chrono::{DateTime, Utc};

use super::sift::Scope;
use super::{Arms, Evidence, Lens, Readings, TickTimes, Tracked, freshness, seconds};
use crate::plan::{Guardrail, Plan};
use crate::weights::Exposure;

impl Evidence {
    /// Tripwires and limits that count now, as they would be if `at` were an instant.
    ///
    /// Nothing while no user is on the candidate: then there is no hurry, and inputs that trip both arms are told apart better by whole intervals,
    /// within which every pod is scraped once.
    pub(crate) fn glimpse<'p>(&self, plan: &'p Plan, arms: &Arms, at: DateTime<Utc>, readings: &Readings) -> Vec<(&'p Guardrail, Tracked)> {
        let instant = at.timestamp_millis();
        if instant <= self.clocks.last || self.place.exposure == Exposure::ZERO {
            return Vec::new();
        }
        let lens =
            Lens { plan, scope: Scope { arms, readings, instant, limit: freshness(plan), part: None }, window: seconds(plan.window) };
        let times = TickTimes { start: self.clocks.last, end: instant, judged: 0.0, settled: self.place.settled, since: self.place.since };
        let counts = |guardrail: &Guardrail| self.place.kind.is_some_and(|kind| guardrail.stages.contains(&kind));
        self.guardrails
            .iter()
            .zip(&plan.guardrails)
            .filter(|(_, guardrail)| guardrail.test.is_crossed_by_one_sample() && counts(guardrail))
            .map(|(tracked, guardrail)| {
                let mut seen = tracked.clone();
                seen.absorb(&lens, guardrail, &times, true);
                (guardrail, seen)
            })
            .collect()
    }
}
