//! Who reports and who is asked: last sign of life per arm, requests per arm, and whether traffic is split as written.
//! Decides nothing; silence and a wrong split are named by [`crate::judge`].

use serde::{Deserialize, Serialize};

use super::counting::ArmCounter;
use super::query::{self, By, Sought};
use super::series::Role;
use super::share::{Served, ShareCounts};
use super::sift::Sifted;
use super::{Lens, Place, TickTimes, freshness};
use crate::plan::Plan;
use crate::spec::{Alphabet, StageKind};
use crate::verdict::Unmeasurable;
use crate::weights::Exposure;

/// Level of the sample-ratio check, outside the risk budget.
pub(crate) const SAMPLE_RATIO_ALPHA: f64 = 0.001;
/// Requests of sticky users that count as one independent draw: their requests come in bunches.
const REQUESTS_PER_STICKY_DRAW: f64 = 10.0;

/// State of the traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Traffic {
    candidate: ArmCounter,
    stable: ArmCounter,
    /// Counts of the requests counter.
    pub requests: ShareCounts,
    /// Log e-value of the sample-ratio check over earlier steps.
    pub closed: f64,
    /// The share that the candidate should have had at the last instant, where it can be known.
    pub expected: Option<ExpectedShare>,
    /// Last sign of life in unix milliseconds.
    pub candidate_seen: Option<i64>,
    pub stable_seen: Option<i64>,
    /// Since when stable has reported without a break, in unix milliseconds.
    #[serde(default)]
    pub stable_since: Option<i64>,
}

/// The share that the candidate should have of the counted requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExpectedShare {
    /// In (0, 1); 0 when nobody should be there.
    pub share: f64,
    /// Requests that count as one draw.
    pub unit: f64,
}

impl Traffic {
    pub(super) fn new(started: i64) -> Self {
        Self {
            candidate: ArmCounter::new(started),
            stable: ArmCounter::new(started),
            requests: ShareCounts::default(),
            closed: 0.0,
            expected: None,
            candidate_seen: None,
            stable_seen: None,
            stable_since: None,
        }
    }

    pub(super) fn absorb(&mut self, lens: &Lens<'_>, times: &TickTimes) {
        self.candidate_seen = self.candidate_seen.max(last_sign(lens, Role::Candidate));
        if let Some(sign) = last_sign(lens, Role::Stable) {
            if self.stable_seen.is_none_or(|before| sign - before > freshness(lens.plan)) {
                self.stable_since = Some(sign);
            }
            self.stable_seen = self.stable_seen.max(Some(sign));
        }
        let Some(requests) = &lens.plan.requests else { return };
        let sought = query::requests_sought(requests);
        let candidate = self.candidate.count_one(&lens.scope, &sought, Role::Candidate);
        let stable = self.stable.count_one(&lens.scope, &sought, Role::Stable);
        if candidate.is_ok() || stable.is_ok() {
            // A gateway has no series for a backend that nobody reached yet: that is a count of zero as soon as the other one is there.
            let unreached = |reason: &Unmeasurable| matches!(reason, Unmeasurable::NoSeries { .. });
            self.requests.absorb(times, Served::of([&candidate, &stable], unreached));
        }
    }
}

/// When the arm last reported: its scrapes that worked, or its guardrails' samples where the scrape itself is not to be seen.
fn last_sign(lens: &Lens<'_>, role: Role) -> Option<i64> {
    let instant = lens.scope.instant;
    match lens.scope.sift(&Sought::UP, role) {
        Ok(Sifted::Fresh(found)) => found
            .targets
            .values()
            .flatten()
            .filter_map(|series| series.newest(instant))
            .filter(|sample| sample.value > 0.0)
            .map(|sample| sample.at)
            .max(),
        Ok(Sifted::Stale { .. }) => None,
        Ok(Sifted::Absent { .. }) | Err(_) => {
            let guardrails = lens.plan.guardrails.iter().flat_map(query::sought).filter(|sought| matches!(sought.by, By::Target));
            guardrails
                .filter_map(|sought| match lens.scope.sift(&sought, role) {
                    Ok(Sifted::Fresh(found)) => found.newest(instant),
                    _ => None,
                })
                .max()
        }
    }
}

/// The share the candidate should have at `place`; `None` where it cannot be known.
pub(super) fn expected_share(plan: &Plan, place: &Place) -> Option<ExpectedShare> {
    let percent = |exposure: Exposure| f64::from(exposure.percent()) / 100.0;
    let stage = plan.stages.get(place.position.stage)?;
    let gateway = plan.requests.as_ref().is_some_and(|requests| requests.backend_label.is_some());
    match place.kind? {
        StageKind::Shadow => {
            // The candidate gets a copy of this share of what stable answers.
            let copies = percent(stage.steps.get(place.position.step).copied()?);
            (plan.requests.is_some() && copies > 0.0).then(|| ExpectedShare { share: copies / (1.0 + copies), unit: 1.0 })
        }
        StageKind::Canary => Some(ExpectedShare { share: percent(place.exposure), unit: 1.0 }),
        StageKind::ABTest => {
            let alphabet = stage.assignment.as_ref().map_or(Alphabet::Hex, |a| a.alphabet);
            // The slice is a whole number of endings of two places, rounded down.
            let endings = match alphabet {
                Alphabet::Hex => 256.0,
                Alphabet::Decimal => 100.0,
            };
            let share = (percent(place.exposure) * endings + 1e-9).floor() / endings;
            gateway.then_some(ExpectedShare { share, unit: REQUESTS_PER_STICKY_DRAW })
        }
    }
}
