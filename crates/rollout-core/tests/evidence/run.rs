//! Runs an attempt step by step in a simulated world and keeps what was judged.

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::evidence::Evidence;
use rollout_core::judge::{Moment, judge};
use rollout_core::plan::Plan;
use rollout_core::revision::RevisionId;
use rollout_core::verdict::{Finding, Judgement, Overall};
use rollout_core::weights::{Exposure, Position};

use crate::world::{CANDIDATE, World};

pub struct Run {
    pub plan: Plan,
    pub world: World,
    pub evidence: Evidence,
    pub position: Position,
    pub exposure: Exposure,
    pub started: DateTime<Utc>,
    pub moved: DateTime<Utc>,
    pub stage_started: DateTime<Utc>,
}

impl Run {
    /// An attempt whose first step began with the world; one instant was read before.
    pub fn new(plan: Plan, mut world: World) -> Self {
        let started = world.at();
        let mut evidence = Evidence::start(&plan, RevisionId::new(CANDIDATE), started, 0);
        world.step();
        evidence.absorb(&plan, &world.arms(), world.at(), &world.readings(&plan));
        let now = world.at();
        let mut run = Self {
            plan,
            world,
            evidence,
            position: Position { stage: 0, step: 0 },
            exposure: Exposure::ZERO,
            started,
            moved: now,
            stage_started: now,
        };
        run.go(0, 0);
        run
    }

    /// Moves to a step of the plan; a shadow stage exposes nobody.
    pub fn go(&mut self, stage: usize, step: usize) {
        let planned = &self.plan.stages[stage];
        let shadow = planned.kind == rollout_core::spec::StageKind::Shadow;
        let exposure = if shadow { Exposure::ZERO } else { planned.steps[step] };
        self.expose(Position { stage, step }, exposure);
    }

    pub fn expose(&mut self, position: Position, exposure: Exposure) {
        let kind = self.plan.stages[position.stage].kind;
        if self.position.stage != position.stage {
            self.stage_started = self.world.at();
        }
        (self.position, self.exposure, self.moved) = (position, exposure, self.world.at());
        self.evidence.moved(position, exposure, kind, self.moved);
    }

    /// One interval: traffic, scrape, absorb.
    pub fn tick(&mut self) {
        self.world.step();
        self.evidence.absorb(&self.plan, &self.world.arms(), self.world.at(), &self.world.readings(&self.plan));
    }

    pub fn judge(&self) -> Judgement {
        judge(&self.plan, &self.evidence, &self.moment())
    }

    pub fn moment(&self) -> Moment {
        let last_step = self.position.step + 1 == self.plan.stages[self.position.stage].steps.len();
        Moment {
            now: self.world.at(),
            position: self.position,
            exposure: self.exposure,
            attempt_started: self.started,
            stage_started: self.stage_started,
            step_started: self.moved,
            last_step,
        }
    }

    /// Ticks until `stop` says so; the judgement and the time it took since the last move.
    pub fn until(&mut self, limit: TimeDelta, stop: impl Fn(&Overall) -> bool) -> Option<(Judgement, TimeDelta)> {
        let begin = self.world.at();
        while self.world.at() - begin < limit {
            self.tick();
            let judgement = self.judge();
            if stop(&judgement.overall) {
                return Some((judgement, self.world.at() - begin));
            }
        }
        None
    }

    /// Ticks until something other than a hold comes out.
    pub fn until_decided(&mut self, limit: TimeDelta) -> Option<(Judgement, TimeDelta)> {
        self.until(limit, |overall| !matches!(overall, Overall::Hold(_)))
    }

    pub fn ticks(&mut self, n: usize) -> Judgement {
        for _ in 0..n {
            self.tick();
        }
        self.judge()
    }
}

pub fn named<'a>(judgement: &'a Judgement, guardrail: &str) -> &'a Finding {
    judgement.findings.iter().find(|f| f.guardrail == guardrail).unwrap()
}

pub fn reason(overall: &Overall) -> String {
    match overall {
        Overall::StagePass(_) => "StagePass".into(),
        Overall::StepPass(_) => "StepPass".into(),
        Overall::Fail(f) => format!("Fail {}", f.reason),
        Overall::Inconclusive(f) => format!("Inconclusive {}", f.reason),
        Overall::Lower(f) => format!("Lower {}", f.reason),
        Overall::Hold(_) => "Hold".into(),
    }
}
