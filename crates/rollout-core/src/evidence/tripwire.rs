//! Tripwires: counters that must not move on the candidate at all, looked at in every tick without statistics.
//! One that the champion trips as well says nothing about the candidate, and is left out.

use serde::{Deserialize, Serialize};

use super::counting::ArmCounter;
use super::query::Sought;
use super::series::Role;
use super::sift::Sifted;
use super::{Crossing, Lens};
use crate::plan::{Guardrail, Selector};
use crate::verdict::Unmeasurable;

/// State of one tripwire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TripwireState {
    candidate: ArmCounter,
    /// How far the candidate's counters moved in this attempt; those of pods created within it count from 0.
    pub moved: f64,
    /// The champion's counters are above 0: whatever trips them is not the candidate's alone.
    pub champion_too: bool,
    /// The first crossing.
    pub crossed: Option<Crossing>,
}

impl TripwireState {
    pub(super) fn new(started: i64) -> Self {
        Self { candidate: ArmCounter::new(started), moved: 0.0, champion_too: false, crossed: None }
    }

    pub(super) fn absorb(
        &mut self,
        lens: &Lens<'_>,
        (guardrail, series): (&Guardrail, &Selector),
        active: bool,
    ) -> Result<(), Unmeasurable> {
        let sought = Sought::of(guardrail, series, "");
        // The champion first: what it trips at this very instant counts for it too. Its counters are taken whole, as its history.
        if let Ok(Sifted::Fresh(found)) = lens.scope.sift(&sought, Role::Stable) {
            self.champion_too |= found.values(lens.scope.instant).is_ok_and(|values| values.iter().any(|value| *value > 0.0));
        }
        let count = self.candidate.count_one(&lens.scope, &sought, Role::Candidate)?;
        self.moved += count.tally().total;
        if active && self.moved > 0.0 && !self.champion_too && self.crossed.is_none() {
            self.crossed = Some(Crossing { at: lens.scope.instant, value: self.moved, target: Role::Candidate.word().into() });
        }
        count.problem.map_or(Ok(()), Err)
    }
}
