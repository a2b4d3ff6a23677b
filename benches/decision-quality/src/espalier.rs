//! Espalier itself: the operator's own evidence and judge over raw series, driven through the steps of one canary stage.
//! Contains no statistics. What `decide` does with a judgement is followed in its outline: pass, raise, lower and try again, end.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::evidence::Evidence;
use rollout_core::judge::{Moment, judge};
use rollout_core::plan::{CountBound, CountSource, Direction, Guardrail, LevelBound, Plan, PlannedStage, Reference, Selector, Test};
use rollout_core::revision::RevisionId;
use rollout_core::spec::{OnInconclusive, OnUnmeasurable, Parked, ReadyWhen, StageKind};
use rollout_core::verdict::{Judgement, Overall, Verdict};
use rollout_core::weights::{Exposure, Position};

use crate::dice::Dice;
use crate::feed::{CANDIDATE, Feed};
use crate::outcome::{Decision, Outcome};
use crate::scenario::{Bound, Rail, Scenario};
use crate::world::World;

/// Allowed probability of each kind of wrong decision.
pub const RISK: f64 = 0.05;
/// Windows without trouble after which a lowered candidate is tried again, and how often that may happen.
const CALM_WINDOWS: i32 = 2;
const MOST_LOWERED: u32 = 5;
/// Days after which the judge itself must have ended every attempt, with room.
const LONGEST: i64 = 9 * 86_400;

/// One attempt under way.
struct Attempt<'a> {
    plan: &'a Plan,
    world: World<'a>,
    feed: Feed,
    evidence: Evidence,
    position: Position,
    exposure: Exposure,
    started: DateTime<Utc>,
    moved: DateTime<Utc>,
    lowered: bool,
    times_lowered: u32,
}

/// Plays one run to its end.
pub fn run(scenario: &Scenario, plan: &Plan, dice: Dice) -> Outcome {
    let mut attempt = Attempt::begin(scenario, plan, dice);
    while attempt.world.seconds() < LONGEST as f64 {
        attempt.tick();
        if let Some(decision) = attempt.look() {
            return attempt.end(decision);
        }
    }
    attempt.end(Decision::Inconclusive)
}

impl<'a> Attempt<'a> {
    /// One instant is read before the first exposure, as the operator does.
    fn begin(scenario: &'a Scenario, plan: &'a Plan, dice: Dice) -> Self {
        let mut world = World::new(scenario, dice);
        let start = time(world.now);
        let evidence = Evidence::start(plan, RevisionId::new(CANDIDATE), start, 0);
        world.step(0.0);
        let mut feed = Feed::new(scenario, plan, &world.pods);
        feed.take(&world.pods);
        let now = time(world.now);
        let mut attempt = Self {
            plan,
            world,
            feed,
            evidence,
            position: Position { stage: 0, step: 0 },
            exposure: Exposure::ZERO,
            started: now,
            moved: now,
            lowered: false,
            times_lowered: 0,
        };
        attempt.evidence.absorb(plan, &attempt.feed.arms, now, &attempt.feed.readings);
        attempt.enter(0);
        attempt
    }

    fn tick(&mut self) {
        self.world.step(f64::from(self.exposure.percent()) / 100.0);
        self.feed.take(&self.world.pods);
        self.evidence.absorb(self.plan, &self.feed.arms, time(self.world.now), &self.feed.readings);
    }

    fn look(&mut self) -> Option<Decision> {
        let now = time(self.world.now);
        let moment = Moment {
            now,
            position: self.position,
            exposure: self.exposure,
            attempt_started: self.started,
            stage_started: self.started,
            step_started: self.moved,
            last_step: self.position.step + 1 == self.steps().len(),
        };
        let judgement = judge(self.plan, &self.evidence, &moment);
        match &judgement.overall {
            Overall::Fail(_) => Some(Decision::RolledBack),
            Overall::Inconclusive(_) => Some(Decision::Inconclusive),
            Overall::Lower(_) => {
                self.times_lowered += u32::from(!self.lowered);
                self.lowered = true;
                self.expose(Exposure::ZERO, 0);
                (self.times_lowered >= MOST_LOWERED).then_some(Decision::Inconclusive)
            }
            _ if self.lowered => {
                if now - self.moved >= self.plan.window * CALM_WINDOWS && can_be_seen(&judgement) {
                    self.lowered = false;
                    self.enter(0);
                }
                None
            }
            Overall::StagePass(_) => Some(Decision::Promoted),
            Overall::StepPass(_) => {
                self.enter(self.position.step + 1);
                None
            }
            Overall::Hold(_) => None,
        }
    }

    fn steps(&self) -> &[Exposure] {
        self.plan.stages.first().map_or(&[], |stage| stage.steps.as_slice())
    }

    fn enter(&mut self, step: usize) {
        if let Some(exposure) = self.steps().get(step).copied() {
            self.expose(exposure, step);
        }
    }

    fn expose(&mut self, exposure: Exposure, step: usize) {
        self.position = Position { stage: 0, step };
        self.exposure = exposure;
        self.moved = time(self.world.now);
        self.evidence.moved(self.position, exposure, StageKind::Canary, self.moved);
    }

    fn end(&self, decision: Decision) -> Outcome {
        Outcome { decision, minutes: self.world.seconds() / 60.0, served: self.world.served }
    }
}

/// A candidate that has had no request has no series; anything else that cannot be measured keeps it at zero.
fn can_be_seen(judgement: &Judgement) -> bool {
    judgement.findings.iter().all(|finding| finding.verdict != Verdict::Unmeasurable || finding.reason == "NoSeries")
}

fn time(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

/// The plan that a policy with the scenario's guardrails has.
pub fn plan(scenario: &Scenario) -> Plan {
    let setup = &scenario.setup;
    let stage = PlannedStage {
        name: "canary".into(),
        kind: StageKind::Canary,
        steps: setup.steps.iter().filter_map(|percent| Exposure::new(*percent)).collect(),
        min: TimeDelta::seconds(setup.min),
        step_min: TimeDelta::seconds(setup.step_min),
        max: TimeDelta::seconds(setup.max),
        assignment: None,
        approval_required: false,
    };
    Plan {
        hash: "benchmrk".into(),
        stages: vec![stage],
        guardrails: scenario.rails.iter().map(guardrail).collect(),
        false_promotion: RISK,
        false_rollback: RISK,
        window: TimeDelta::seconds(setup.window),
        interval: TimeDelta::seconds(setup.tick),
        settle: TimeDelta::seconds(setup.window.max(setup.timeout)),
        requests: None,
        on_inconclusive: OnInconclusive::Rollback,
        probation: TimeDelta::zero(),
        parked: Parked::Full,
        ready_when: ReadyWhen::Promoted,
        progress_deadline: TimeDelta::minutes(10),
        rollback_window: 2,
        baseline_matchers: BTreeMap::new(),
        candidate_matchers: BTreeMap::new(),
    }
}

fn guardrail(rail: &Rail) -> Guardrail {
    Guardrail {
        name: rail.name.to_owned(),
        test: test(rail),
        weight: 1.0,
        on_unmeasurable: OnUnmeasurable::Hold,
        stages: vec![StageKind::Canary],
        pod_label: None,
        win: None,
        slices: None,
        profile: None,
        maturity: None,
    }
}

fn test(rail: &Rail) -> Test {
    let versus = Reference::Stable;
    let counts = |target, critical| {
        let total = if rail.fraction < 1.0 { format!("{}_requests_total", rail.name) } else { "requests_total".to_owned() };
        Test::Counts {
            bad: CountSource::Counter(selector(format!("{}_bad_total", rail.name))),
            severe: None,
            total: CountSource::Counter(selector(total)),
            target,
            critical,
            or_not_worse_than_stable: false,
        }
    };
    match rail.bound {
        Bound::Points { target, critical } => {
            let points = |margin| CountBound::Difference { margin, versus };
            counts(points(target), points(critical))
        }
        Bound::Times(factor) => counts(CountBound::Ratio { factor, versus }, CountBound::Ratio { factor, versus }),
        Bound::Limit(limit) => counts(CountBound::Absolute(limit), CountBound::Absolute(limit)),
        Bound::Level(margin) => {
            let bound = LevelBound::Difference { margin, versus };
            Test::Level {
                series: selector(rail.name.to_owned()),
                unit: "W".into(),
                direction: Direction::AtMost,
                target: bound,
                critical: bound,
            }
        }
    }
}

const fn selector(metric: String) -> Selector {
    Selector { metric, matchers: Vec::new() }
}
