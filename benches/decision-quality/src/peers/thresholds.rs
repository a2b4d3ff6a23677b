//! Argo Rollouts and Flagger: a condition on every measurement, and a number of failures that is allowed.
//! Neither knows how many requests stand behind a value; that is how they are published.

use super::{Briefing, Peer};
use crate::history::{Closed, Seen};
use crate::outcome::Decision;
use crate::scenario::Bound;

/// Failures allowed by the `AnalysisRun`, and measurements it takes.
const ARGO_FAILURES: u32 = 3;
const ARGO_COUNT: u32 = 24;
/// Failed checks that end a Flagger analysis, and good ones that complete it.
const FLAGGER_THRESHOLD: u32 = 5;
const FLAGGER_ITERATIONS: u32 = 10;

/// Argo Rollouts' `AnalysisRun`.
#[derive(Default)]
pub struct Argo {
    failures: u32,
    taken: u32,
}

/// Flagger's canary analysis.
#[derive(Default)]
pub struct Flagger {
    failed: u32,
    good: u32,
    condemned: bool,
}

impl Peer for Argo {
    fn look(&mut self, briefing: &Briefing<'_>, history: &[Closed]) -> Option<Decision> {
        let closed = history.last()?;
        if self.taken < ARGO_COUNT {
            self.taken += 1;
            self.failures += u32::from(!passes(briefing, closed));
            if self.failures > ARGO_FAILURES {
                return Some(Decision::RolledBack);
            }
        }
        (self.taken >= ARGO_COUNT && closed.end >= briefing.earliest).then_some(Decision::Promoted)
    }
}

impl Peer for Flagger {
    fn look(&mut self, briefing: &Briefing<'_>, history: &[Closed]) -> Option<Decision> {
        // The threshold is tested before the analysis of the following tick.
        if self.condemned {
            return Some(Decision::RolledBack);
        }
        let closed = history.last()?;
        if passes(briefing, closed) {
            self.good += 1;
        } else {
            self.failed += 1;
        }
        self.condemned = self.failed >= FLAGGER_THRESHOLD;
        // The tick after the last step promotes.
        (!self.condemned && self.good > FLAGGER_ITERATIONS && closed.end >= briefing.earliest).then_some(Decision::Promoted)
    }
}

fn passes(briefing: &Briefing<'_>, closed: &Closed) -> bool {
    briefing.scenario.rails.iter().zip(&closed.rails).all(|(rail, seen)| within(rail.bound, seen))
}

/// The condition as it would be written in `PromQL`; a value that is not a number fulfils none.
fn within(bound: Bound, seen: &Seen) -> bool {
    let champion = seen.counts.champion.rate().unwrap_or(f64::NAN);
    let candidate = seen.counts.candidate.rate().unwrap_or(f64::NAN);
    match bound {
        Bound::Points { target, .. } => candidate - champion <= target,
        Bound::Times(factor) => candidate / champion <= factor,
        Bound::Limit(limit) => candidate <= limit,
        Bound::Level(margin) => seen.levels.is_some_and(|(champion, candidate)| candidate - champion <= margin),
    }
}

#[cfg(test)]
mod tests {
    use anytime_stats::{Tally, Window};

    use super::*;
    use crate::catalogue;

    fn looks(peer: &mut dyn Peer, bad: &[f64]) -> Vec<Option<Decision>> {
        let scenarios = catalogue::all();
        let scenario = scenarios.iter().find(|s| s.name == "s1-aa").unwrap();
        let briefing = Briefing::new(scenario);
        let mut history = Vec::new();
        bad.iter()
            .enumerate()
            .map(|(i, bad)| {
                let counts = Window::new(Tally::new(80.0, 1000.0), Tally::new(*bad, 100.0));
                history.push(Closed { end: 300.0 * (i as f64 + 1.0), served: 0.0, rails: vec![Seen { counts, levels: None }] });
                peer.look(&briefing, &history)
            })
            .collect()
    }

    #[test]
    fn argo_aborts_at_the_fourth_failure_and_succeeds_after_the_count() {
        let found = looks(&mut Argo::default(), &[20.0, 8.0, 20.0, 20.0, 8.0, 20.0]);
        assert_eq!(found.iter().position(Option::is_some), Some(5));
        assert_eq!(found[5], Some(Decision::RolledBack));
        let found = looks(&mut Argo::default(), &[8.0; 24]);
        assert_eq!((found[22], found[23]), (None, Some(Decision::Promoted)));
    }

    #[test]
    fn flagger_counts_failures_for_ever_and_rolls_back_at_the_next_tick() {
        let found = looks(&mut Flagger::default(), &[20.0, 8.0, 20.0, 20.0, 20.0, 20.0, 8.0]);
        assert_eq!((found[5], found[6]), (None, Some(Decision::RolledBack)));
        let found = looks(&mut Flagger::default(), &[8.0; 12]);
        assert_eq!(found.iter().flatten().next(), Some(&Decision::Promoted));
    }

    #[test]
    fn no_requests_are_a_failure() {
        assert!(!within(Bound::Points { target: 0.02, critical: 0.02 }, &Seen::default()));
        assert!(!within(Bound::Times(2.0), &Seen::default()));
    }
}
