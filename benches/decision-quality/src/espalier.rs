//! Espalier itself: the operator's own evidence and judge over raw series, driven through the steps of one canary stage.
//! Contains no statistics. What `decide` does with a judgement is followed in its outline: pass, raise, lower and try again, end.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::evidence::{Evidence, HISTORY_SPAN, History};
use rollout_core::judge::{Moment, judge};
use rollout_core::plan::{
    CountBound, CountSource, Direction, Guardrail, LevelBound, Maturity, Plan, PlannedStage, Reference, Selector, Test,
};
use rollout_core::revision::RevisionId;
use rollout_core::spec::{OnInconclusive, OnUnmeasurable, Parked, ReadyWhen, StageKind};
use rollout_core::verdict::{Judgement, Overall, Verdict};
use rollout_core::weights::{Exposure, Position};

use crate::dice::Dice;
use crate::feed::CANDIDATE;
use crate::outcome::{Decision, Outcome};
use crate::scenario::{Bound, Rail, Scenario};
use crate::source::{Source, Through};
use crate::world::World;

/// Allowed probability of each kind of wrong decision.
pub const RISK: f64 = 0.05;
/// Windows without trouble after which a lowered candidate is tried again, and how often that may happen.
const CALM_WINDOWS: i32 = 2;
const MOST_LOWERED: u32 = 5;
/// Days after which the judge itself must have ended every attempt, with room.
const LONGEST: i64 = 9 * 86_400;

/// Chance of one run: of the days before the attempt, and of the attempt itself.
pub struct Chance {
    /// Before.
    pub before: Dice,
    /// From the first instant on; the same for every policy.
    pub during: Dice,
}

/// One attempt under way.
struct Attempt<'a> {
    plan: &'a Plan,
    world: World<'a>,
    source: Source,
    evidence: Evidence,
    position: Position,
    exposure: Exposure,
    started: DateTime<Utc>,
    moved: DateTime<Utc>,
    lowered: bool,
    times_lowered: u32,
}

/// Plays one run to its end; fails only where samples go by way of HTTP and an answer does not come.
pub fn run(scenario: &Scenario, plan: &Plan, chance: Chance, through: Through) -> anyhow::Result<Outcome> {
    let mut attempt = Attempt::begin(scenario, plan, chance, through)?;
    while attempt.world.seconds() < LONGEST as f64 {
        attempt.tick()?;
        if let Some(decision) = attempt.look() {
            return Ok(attempt.end(decision));
        }
    }
    Ok(attempt.end(Decision::Inconclusive))
}

impl<'a> Attempt<'a> {
    /// One instant is read before the first exposure, as the operator does.
    fn begin(scenario: &'a Scenario, plan: &'a Plan, chance: Chance, through: Through) -> anyhow::Result<Self> {
        let mut world = World::new(scenario, chance.during);
        let start = time(world.now);
        let mut evidence = Evidence::start(plan, RevisionId::new(CANDIDATE), start, 0);
        if scenario.setup.history {
            evidence.remember(&history(scenario, plan, chance.before, through)?);
        }
        let source = Source::open(through, scenario, plan, &world.pods)?;
        world.step(0.0);
        let now = time(world.now);
        let mut attempt = Self {
            plan,
            world,
            source,
            evidence,
            position: Position { stage: 0, step: 0 },
            exposure: Exposure::ZERO,
            started: now,
            moved: now,
            lowered: false,
            times_lowered: 0,
        };
        attempt.read()?;
        attempt.enter(0);
        Ok(attempt)
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        self.world.step(f64::from(self.exposure.percent()) / 100.0);
        self.read()
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let now = time(self.world.now);
        self.source.take(&self.world.pods, now)?;
        self.evidence.absorb(self.plan, self.source.arms(), now, self.source.readings());
        Ok(())
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

/// What the champion did in the days before the attempt, as the operator learns it at the start.
fn history(scenario: &Scenario, plan: &Plan, dice: Dice, through: Through) -> anyhow::Result<History> {
    let mut world = World::before(scenario, dice, HISTORY_SPAN.num_seconds());
    let end = world.now + HISTORY_SPAN.num_milliseconds();
    let mut history = History::start(plan, time(world.now));
    let mut source = Source::open(through, scenario, plan, &world.pods)?;
    while world.now < end {
        world.step(0.0);
        source.store(&world.pods);
        if through == Through::Library {
            history.absorb(plan, source.arms(), time(world.now), source.readings());
        }
    }
    if through == Through::Http {
        let from = history.last_instant();
        let answers = source.range(&History::queries(plan, source.arms()), from, time(end))?;
        let mut at = from + History::interval(plan);
        while at <= time(end) {
            history.absorb(plan, source.arms(), at, &answers);
            at += History::interval(plan);
        }
    }
    Ok(history)
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
        maturity: rail.maturity.map(|(age, captured)| Maturity { age: TimeDelta::seconds(age), captured, cohorts: None }),
        requests: rail.labels.then(|| CountSource::Counter(selector("requests_total".into()))),
    }
}

fn test(rail: &Rail) -> Test {
    let versus = Reference::Stable;
    let counts = |target, critical| {
        let total = if rail.has_own_total() { format!("{}_requests_total", rail.name) } else { "requests_total".to_owned() };
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
