//! Evidence: a fold over raw samples at aligned instants, into always-valid processes per guardrail.
//!
//! The same fold serves the controller, a replay after a restart and a backtest: it has no clock and asks nothing, so the same samples give the same
//! state. It reaches no verdict; [`crate::judge`] does.

mod checkpoint;
mod clocks;
mod cohorts;
mod comparison;
mod counting;
mod counts;
mod drift;
mod energy;
mod family;
mod gap;
mod glance;
mod history;
mod labels;
mod level;
mod limit;
mod parts;
mod query;
mod risk;
mod scatter;
mod series;
mod share;
mod shocks;
mod sift;
mod slices;
mod traffic;
mod tripwire;

use std::collections::BTreeSet;

use anytime_stats::InvalidParameter;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

pub use checkpoint::{Checkpoint, RestoreError};
pub(crate) use clocks::{Clocks, TickTimes, Weighty};
pub(crate) use counts::CountState;
pub(crate) use drift::DriftState;
pub(crate) use energy::{EnergyState, LOAD};
pub(crate) use gap::{GapState, pairs as gap_pairs};
pub use history::{History, SPAN as HISTORY_SPAN};
pub(crate) use labels::UnlikeLabels;
pub(crate) use level::{LEAST_PODS, LevelBounds, LevelState, WINDOWS_PER_BATCH};
pub(crate) use limit::{LIMIT_TICKS, LimitState, Standing};
pub use query::{REVISION_LABEL, ROLLOUT_LABEL};
pub(crate) use risk::Risk;
pub use series::{Arm, Arms, Query, Reading, Readings, Sample, Series};
pub(crate) use share::ShareCounts;
pub(crate) use slices::{SLOTS as SLICE_SLOTS, SliceName, Slices};
pub(crate) use traffic::{SAMPLE_RATIO_ALPHA, Traffic};
pub(crate) use tripwire::TripwireState;

use crate::plan::{Guardrail, Plan, Test};
use crate::revision::RevisionId;
use crate::spec::StageKind;
use crate::verdict::Unmeasurable;
use crate::weights::{Exposure, Position};
use comparison::Terms;
use sift::Scope;

/// The shortest age, in milliseconds, at which a sample may count as stale.
const LEAST_FRESHNESS: i64 = 5_000;
/// Instants after which a sample is stale.
const STALE_AFTER: i32 = 4;
/// Silence, in milliseconds, below which nobody is called silent.
const LEAST_SILENCE: i64 = 30_000;

/// What the windows so far say about every guardrail of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    pub(crate) candidate: RevisionId,
    pub(crate) attempt: u32,
    fixed: Fixed,
    pub(crate) clocks: Clocks,
    pub(crate) place: Place,
    pub(crate) traffic: Traffic,
    pub(crate) guardrails: Vec<Tracked>,
}

/// What the plan fixes for the attempt.
#[derive(Clone, Debug, PartialEq)]
struct Fixed {
    plan_hash: String,
    /// Milliseconds after a change of traffic in which windows do not prove.
    settle: i64,
    /// Whether there is a counter of requests.
    has_requests: bool,
    /// Age at which the labels of each guardrail count, in milliseconds.
    ages: Vec<Option<i64>>,
    /// Whether the share that the candidate should have is known; that of recorded traffic is not.
    has_split: bool,
}

/// Where the attempt is, and since when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub position: Position,
    pub exposure: Exposure,
    /// `None` until the first stage began: nothing is active, baselines are taken.
    pub kind: Option<StageKind>,
    /// Since when the exposure is what it is, in milliseconds.
    pub since: i64,
    /// Until when windows do not prove.
    pub settled: i64,
    /// Whether the last change was upward.
    pub raised: bool,
}

/// One guardrail with its current trouble.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tracked {
    pub state: State,
    /// Why it could not be measured at the last instant.
    pub problem: Option<Unmeasurable>,
    /// Since when, in milliseconds.
    pub problem_since: Option<i64>,
    /// Whether an instant was read since the start or the restart: before, nothing is known about now.
    pub read: bool,
}

/// State by kind of test.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    Counts(Box<CountState>),
    Gap(Box<GapState>),
    Drift(Box<DriftState>),
    Energy(Box<EnergyState>),
    Level(Box<LevelState>),
    Limit(LimitState),
    Tripwire(TripwireState),
    /// A bound outside its test's domain.
    Broken(String),
}

/// The moment something crossed a limit that has no statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Crossing {
    /// Unix milliseconds.
    pub at: i64,
    pub value: f64,
    pub target: String,
}

/// What absorbing one instant needs.
pub(crate) struct Lens<'a> {
    plan: &'a Plan,
    scope: Scope<'a>,
    /// Seconds of a proof window.
    window: f64,
}

impl Evidence {
    /// No evidence yet about `candidate`, in its `attempt`-th retry (from 0), from `at` on.
    pub fn start(plan: &Plan, candidate: RevisionId, at: DateTime<Utc>, attempt: u32) -> Self {
        let started = at.timestamp_millis();
        let guardrails = plan.guardrails.iter().map(|guardrail| Tracked::new(plan, guardrail, started, attempt)).collect();
        Self {
            candidate,
            attempt,
            fixed: Fixed {
                plan_hash: plan.hash.clone(),
                settle: plan.settle.num_milliseconds(),
                has_requests: plan.requests.is_some(),
                ages: plan
                    .guardrails
                    .iter()
                    .map(|guardrail| guardrail.maturity.as_ref().map(|maturity| maturity.age.num_milliseconds()))
                    .collect(),
                has_split: true,
            },
            clocks: Clocks { started, last: started, measured: None, stage: 0.0, step: 0.0, judged: 0.0, step_settled: 0.0 },
            place: Place {
                position: Position { stage: 0, step: 0 },
                exposure: Exposure::ZERO,
                kind: None,
                since: started,
                settled: started,
                raised: false,
            },
            traffic: Traffic::new(started),
            guardrails,
        }
    }

    /// The same about traffic that was split by somebody else: how it is split is not checked.
    #[must_use]
    pub fn without_split_check(mut self) -> Self {
        self.fixed.has_split = false;
        self
    }

    /// Every query that must be asked at each instant.
    pub fn queries(plan: &Plan, arms: &Arms) -> BTreeSet<Query> {
        query::all(plan, arms)
    }

    /// The queries that [`crate::judge::glance`] needs: those of tripwires and limits, a part of [`Self::queries`].
    pub fn glance_queries(plan: &Plan, arms: &Arms) -> BTreeSet<Query> {
        query::of_guardrails(plan.guardrails.iter().filter(|guardrail| guardrail.test.is_crossed_by_one_sample()), arms)
    }

    /// Whether what is absorbed must hold the series of other rollouts too; else an arm's own are enough.
    pub fn reads_others(plan: &Plan) -> bool {
        query::reads_others(plan)
    }

    /// The range to ask for, back from an instant: twice the age at which a sample is stale, so that a stale one is still seen.
    pub fn lookback(plan: &Plan) -> TimeDelta {
        TimeDelta::milliseconds(2 * freshness(plan))
    }

    /// The newest instant that was absorbed; the start before the first.
    pub fn last_instant(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.clocks.last).unwrap_or_default()
    }

    /// Folds one aligned instant. An instant that is not after the last one is ignored; what was missed in between is charged now.
    pub fn absorb(&mut self, plan: &Plan, arms: &Arms, at: DateTime<Utc>, readings: &Readings) {
        let instant = at.timestamp_millis();
        if instant <= self.clocks.last {
            return;
        }
        let lens =
            Lens { plan, scope: Scope { arms, readings, instant, limit: freshness(plan), part: None }, window: seconds(plan.window) };
        let gap = (instant - self.clocks.last).min(freshness(plan));
        let times = TickTimes {
            start: self.clocks.last,
            end: instant,
            judged: gap as f64 / 1000.0,
            settled: self.place.settled,
            since: self.place.since,
        };
        self.traffic.absorb(&lens, &times);
        self.traffic.expected = traffic::expected_share(plan, &self.place).filter(|_| self.fixed.has_split);
        let (mut any_active, mut any_measured) = (false, false);
        // Where something counts requests, a time without any is not judged, however many gauges are read meanwhile.
        let mut requests = None;
        for (tracked, guardrail) in self.guardrails.iter_mut().zip(&plan.guardrails) {
            let active = self.place.kind.is_some_and(|kind| guardrail.stages.contains(&kind));
            let measured = tracked.absorb(&lens, guardrail, &times, active);
            any_active |= active;
            any_measured |= active && measured;
            if let Some(has_some) = tracked.has_requests().filter(|_| active) {
                requests = Some(requests.unwrap_or(false) || (measured && has_some));
            }
        }
        // A stage in which nothing is active is judged on traffic alone.
        if any_measured
            || (!any_active && self.place.kind.is_some() && self.traffic.stable_seen.is_some_and(|seen| instant - seen <= freshness(plan)))
        {
            self.clocks.measured(&times, requests.unwrap_or(true));
        }
        self.clocks.last = instant;
    }

    /// The exposure or the position is another one since `at`. Open windows close and traffic settles; a new stage starts its proofs anew.
    pub fn moved(&mut self, position: Position, exposure: Exposure, kind: StageKind, at: DateTime<Utc>) {
        let before = &self.place;
        let same = before.kind == Some(kind) && before.position == position && before.exposure == exposure;
        let since = at.timestamp_millis();
        if same && since <= before.since {
            return;
        }
        let (raised, new_stage) =
            (exposure > before.exposure || (same && before.raised), before.kind.is_none() || before.position.stage != position.stage);
        // A weight that took effect only now: what was counted under it so far was split otherwise, and says nothing of it.
        if let (Some(expected), false) = (self.traffic.expected, same) {
            self.traffic.closed += self.share().map_or(0.0, |share| share.log_e(expected.share, expected.unit));
        }
        // Who is lowered begins anew, and so does the check of the split: whatever was wrong with it, such as weights that somebody edited, may
        // be over, and how often an attempt may be lowered is limited.
        if exposure < self.place.exposure && !new_stage {
            self.traffic.closed = 0.0;
        }
        for (tracked, age) in self.guardrails.iter_mut().zip(&self.fixed.ages) {
            tracked.moved(Weighty::of(self.place.since, self.place.settled, *age), new_stage);
        }
        (self.traffic.requests, self.traffic.expected) = (ShareCounts::default(), None);
        self.place = Place { position, exposure, kind: Some(kind), since, settled: since + self.fixed.settle, raised };
        if new_stage {
            (self.clocks.stage, self.clocks.judged) = (0.0, 0.0);
        }
        (self.clocks.step, self.clocks.step_settled) = (0.0, 0.0);
    }

    /// Traffic was moved at `at` by something else than a step of the plan: open windows close and traffic settles, nothing starts anew.
    pub fn disturbed(&mut self, at: DateTime<Utc>) {
        for (tracked, age) in self.guardrails.iter_mut().zip(&self.fixed.ages) {
            tracked.moved(Weighty::of(self.place.since, self.place.settled, *age), false);
        }
        (self.traffic.requests, self.traffic.expected) = (ShareCounts::default(), None);
        self.place.settled = self.place.settled.max(at.timestamp_millis() + self.fixed.settle);
    }

    /// The clock by which instants are taken was set, and shows `at` now: the time in between is nobody's, and what was counted by the old
    /// clock may lie before the last change of traffic. The step begins anew; what was proven or found stays.
    pub fn clock_was_set(&mut self, at: DateTime<Utc>) {
        let Place { position, exposure, kind, .. } = self.place.clone();
        if let Some(kind) = kind {
            self.moved(position, exposure, kind, at);
        }
        self.clocks.last = self.clocks.last.max(at.timestamp_millis());
    }

    /// State that continues after a restart.
    pub fn checkpoint(&self) -> Checkpoint {
        checkpoint::save(self)
    }

    /// Continues from a checkpoint that was taken under the same plan.
    pub fn restore(plan: &Plan, checkpoint: &Checkpoint) -> Result<Self, RestoreError> {
        checkpoint::load(plan, checkpoint)
    }

    /// Hash of the plan under which the evidence is taken.
    pub fn plan_hash(&self) -> &str {
        &self.fixed.plan_hash
    }

    /// How requests are split since the last change: by the requests counter, else by the busiest total.
    pub(crate) fn share(&self) -> Option<&ShareCounts> {
        if self.fixed.has_requests {
            return Some(&self.traffic.requests);
        }
        let totals = self.guardrails.iter().filter_map(|tracked| match &tracked.state {
            State::Counts(counts) => counts.share(),
            _ => None,
        });
        // The first among equals, so that the choice does not depend on anything but the plan.
        totals
            .fold(None, |best: Option<&ShareCounts>, share| if best.is_none_or(|b| share.total() > b.total()) { Some(share) } else { best })
    }

    /// Share of requests that the candidate really gets; in a shadow stage the share of stable's requests that are copied to it.
    pub(crate) fn realised_share(&self) -> Option<f64> {
        let share = self.share()?.realised()?;
        Some(if self.place.kind == Some(StageKind::Shadow) { share / (1.0 - share).max(f64::EPSILON) } else { share })
    }
}

impl Tracked {
    fn new(plan: &Plan, guardrail: &Guardrail, started: i64, attempt: u32) -> Self {
        let state = State::new(plan, guardrail, started, attempt)
            .unwrap_or_else(|problem| State::Broken(format!("a bound of {} cannot be tested: {problem}", guardrail.name)));
        Self { state, problem: None, problem_since: None, read: false }
    }

    /// True when it could be measured.
    fn absorb(&mut self, lens: &Lens<'_>, guardrail: &Guardrail, times: &TickTimes, active: bool) -> bool {
        let outcome = match (&mut self.state, &guardrail.test) {
            (State::Counts(counts), _) => counts.absorb(lens, guardrail, times, active),
            (State::Gap(gap), Test::Gap(test)) => gap.absorb(lens, (guardrail, test), times, active),
            (State::Energy(energy), Test::Energy(test)) => energy.absorb(lens, (guardrail, test), times, active),
            (State::Drift(drift), Test::Drift(test)) => drift.absorb(lens, (guardrail, test), times, active),
            (State::Level(level), Test::Level { series, target, critical, direction, .. }) => {
                let bounds = LevelBounds { target: *target, critical: *critical, direction: *direction };
                level.absorb(lens, (guardrail, series, bounds), times, active)
            }
            (State::Limit(limit), Test::Limit { .. }) => limit.absorb(lens, guardrail, times, active),
            (State::Tripwire(tripwire), Test::Tripwire { series }) => tripwire.absorb(lens, (guardrail, series), active),
            (State::Broken(message), _) => Err(Unmeasurable::NotComparable { message: message.clone() }),
            _ => Err(Unmeasurable::NotComparable {
                message: format!("{} is another kind of guardrail than when the attempt started", guardrail.name),
            }),
        };
        self.read = true;
        self.problem = outcome.err();
        self.problem_since = self.problem.as_ref().map(|_| self.problem_since.unwrap_or(times.end));
        self.problem.is_none()
    }

    /// Whether there are requests to judge by; `None` for what is not judged by requests.
    fn has_requests(&self) -> Option<bool> {
        match &self.state {
            State::Counts(counts) => counts.has_requests(),
            State::Gap(gap) => Some(gap.has_requests()),
            _ => None,
        }
    }

    fn moved(&mut self, weighty: Weighty, new_stage: bool) {
        match &mut self.state {
            State::Counts(counts) => counts.moved(weighty, new_stage),
            State::Gap(gap) => gap.moved(weighty, new_stage),
            State::Drift(drift) => drift.moved(weighty.proof, new_stage),
            State::Energy(energy) => energy.moved(new_stage),
            State::Level(level) => level.moved(new_stage),
            State::Limit(limit) => limit.moved(),
            State::Tripwire(_) | State::Broken(_) => {}
        }
        self.problem_since = None;
    }
}

impl State {
    fn new(plan: &Plan, guardrail: &Guardrail, started: i64, attempt: u32) -> Result<Self, InvalidParameter> {
        let risk = Risk::of(plan, guardrail, attempt);
        let window = seconds(plan.window);
        let longest = plan.stages.iter().filter(|stage| guardrail.stages.contains(&stage.kind)).map(|stage| seconds(stage.max));
        let attempt_windows = (longest.sum::<f64>() / window).ceil().clamp(1.0, 1e6);
        // The clamp keeps it inside the integer.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let horizon = attempt_windows as u32;
        let terms = |risk: &Risk| Terms {
            window,
            horizon,
            harm_cap: risk.harm_threshold / 2.0,
            proof_cap: risk.proof_threshold / 3.0,
            win_cap: risk.win_threshold / 3.0,
            or_not_worse: false,
            paired: matches!(guardrail.test, Test::Paired(_)),
            captured: 1.0,
        };
        Ok(match &guardrail.test {
            Test::Counts { .. } | Test::Paired(_) => match CountState::new(guardrail, &terms(&risk), started)? {
                Some(counts) => {
                    let counts = counts.with_severe(guardrail, &terms(&risk), started)?.with_labels(guardrail, &terms(&risk), started)?;
                    Self::Counts(Box::new(counts.with_slices(guardrail, &terms(&risk.of_slice()), started)?))
                }
                None => Self::Broken(guardrail.name.clone()),
            },
            Test::Gap(gap) => {
                let risk = risk.shared_among(gap_pairs(gap.groups.len()));
                Self::Gap(Box::new(GapState::new(gap, &terms(&risk), started)?))
            }
            Test::Energy(energy) => {
                let alphas = (risk.proof_alpha, risk.harm_alpha);
                Self::Energy(Box::new(EnergyState::new(energy, attempt_windows / WINDOWS_PER_BATCH / 2.0, alphas, started)?))
            }
            Test::Drift(drift) => Self::Drift(Box::new(DriftState::new(drift, window, &risk)?)),
            Test::Level { target, critical, direction, .. } => {
                let bounds = LevelBounds { target: *target, critical: *critical, direction: *direction };
                let alphas = (risk.proof_alpha, risk.harm_alpha);
                Self::Level(Box::new(LevelState::new(bounds, attempt_windows / WINDOWS_PER_BATCH / 2.0, alphas)?))
            }
            Test::Limit { .. } => Self::Limit(LimitState::default()),
            Test::Tripwire { .. } => Self::Tripwire(TripwireState::new(started)),
        })
    }
}

/// Oldest age of a fresh sample, in milliseconds.
pub(crate) fn freshness(plan: &Plan) -> i64 {
    (plan.interval * STALE_AFTER).num_milliseconds().max(LEAST_FRESHNESS)
}

/// How long an arm must say nothing before it is called silent, in milliseconds.
pub(crate) fn silence(plan: &Plan) -> i64 {
    (plan.interval * STALE_AFTER).num_milliseconds().max(LEAST_SILENCE)
}

fn seconds(delta: TimeDelta) -> f64 {
    delta.num_milliseconds() as f64 / 1000.0
}
