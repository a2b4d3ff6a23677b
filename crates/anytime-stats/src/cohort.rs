//! Labels that arrive late: windows become usable only when they are mature, for both arms at the same age.
//! Immature counts always favour the newer arm; a label that arrives after maturity is ignored in both arms, so censoring is identical.

use serde::{Deserialize, Serialize};

use crate::counters::Arm;
use crate::window::{Tally, Window};

/// A window of requests whose outcomes arrive later.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cohort {
    /// Number of the window.
    pub id: u64,
    /// End instant.
    pub end: f64,
    /// Requests of the champion.
    pub champion_total: f64,
    /// Requests of the candidate.
    pub candidate_total: f64,
}

/// A bad outcome that became known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LateLabel {
    /// Window of the request.
    pub cohort: u64,
    /// Arm that answered it.
    pub arm: Arm,
    /// When the outcome became known.
    pub arrived: f64,
}

/// The mature windows at `now`, in input order, with labels counted up to the age `maturity`. Margins apply to the captured fraction of labels.
pub fn mature_windows(now: f64, maturity: f64, cohorts: &[Cohort], labels: &[LateLabel]) -> Vec<(u64, Window)> {
    cohorts
        .iter()
        .filter(|cohort| cohort.end + maturity <= now)
        .map(|cohort| {
            let bad = |arm: Arm| {
                labels.iter().filter(|l| l.cohort == cohort.id && l.arm == arm && l.arrived <= cohort.end + maturity).count() as f64
            };
            let window =
                Window::new(Tally::new(bad(Arm::Champion), cohort.champion_total), Tally::new(bad(Arm::Candidate), cohort.candidate_total));
            (cohort.id, window)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_after_maturity_is_ignored_in_both_arms() {
        let cohort = Cohort { id: 7, end: 100.0, champion_total: 10.0, candidate_total: 10.0 };
        let late = |arm, arrived| LateLabel { cohort: 7, arm, arrived };
        let labels = [late(Arm::Champion, 150.0), late(Arm::Champion, 151.0), late(Arm::Candidate, 120.0), late(Arm::Candidate, 151.0)];
        assert!(mature_windows(149.0, 50.0, &[cohort], &labels).is_empty());
        for now in [150.0, 1e6] {
            let (id, window) = mature_windows(now, 50.0, &[cohort], &labels)[0];
            assert_eq!((id, window.champion.bad, window.candidate.bad), (7, 1.0, 1.0), "the count does not change any more");
        }
    }
}
