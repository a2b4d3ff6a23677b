//! Runs an attempt step by step in a simulated world and keeps what was judged.

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::evidence::{Checkpoint, Evidence};
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

/// What a restart may not change: verdicts and counts exactly, log e-values to 1e-9.
pub fn assert_same(got: &Judgement, expected: &Judgement, what: &str) {
    assert_eq!(got.findings.len(), expected.findings.len(), "{what}");
    for (a, b) in got.findings.iter().zip(&expected.findings) {
        assert_eq!((a.verdict, &a.reason, a.samples), (b.verdict, &b.reason, b.samples), "{what}");
        let close = |x: Option<f64>, y: Option<f64>| assert!((x.unwrap_or(0.0) - y.unwrap_or(0.0)).abs() <= 1e-9, "{what}: {x:?} {y:?}");
        close(a.log_e_proof, b.log_e_proof);
        close(a.log_e_harm, b.log_e_harm);
        close(a.log_e_warning, b.log_e_warning);
        assert_eq!(a.slices.len(), b.slices.len(), "{what}");
        for (x, y) in a.slices.iter().zip(&b.slices) {
            assert_eq!((&x.slice, x.verdict, x.counts, x.samples), (&y.slice, y.verdict, y.counts, y.samples), "{what}");
            close(Some(x.log_e_proof), Some(y.log_e_proof));
            close(Some(x.log_e_harm), Some(y.log_e_harm));
        }
    }
}

/// Runs `ticks` instants and checks that evidence restored before the `starts`-th and replayed from there judges the same.
pub fn assert_restart_changes_nothing(run: &mut Run, ticks: usize, starts: &[usize], mut meanwhile: impl FnMut(usize, &mut World)) {
    let (mut readings, mut checkpoints) = (Vec::new(), Vec::new());
    for tick in 0..ticks {
        meanwhile(tick, &mut run.world);
        checkpoints.push(run.evidence.checkpoint());
        run.tick();
        readings.push((run.world.now, run.world.readings(&run.plan)));
    }
    let expected = run.judge();
    for start in starts.iter().copied() {
        let saved = Checkpoint::from_text(&checkpoints[start].to_text()).unwrap();
        let mut evidence = Evidence::restore(&run.plan, &saved).unwrap();
        for (at, readings) in &readings[start..] {
            evidence.absorb(&run.plan, &run.world.arms(), DateTime::from_timestamp_millis(*at).unwrap(), readings);
        }
        assert_same(&judge(&run.plan, &evidence, &run.moment()), &expected, &format!("from {start}"));
    }
}

pub fn named<'a>(judgement: &'a Judgement, guardrail: &str) -> &'a Finding {
    judgement.findings.iter().find(|f| f.guardrail == guardrail).unwrap()
}

/// Everything that people read of a finding, in lines.
pub fn told(finding: &Finding) -> Vec<String> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".into());
    let (own, other) = finding.samples;
    let effective = finding.effective_samples.map_or_else(|| "none".into(), |n| n.to_string());
    let (proof, harm) = finding.thresholds;
    let left = finding.eta.map_or_else(|| "none".into(), |(low, high)| format!("{} s to {} s", low.num_seconds(), high.num_seconds()));
    vec![
        format!("{}, 95%: {}", or_none(&finding.value), or_none(&finding.interval)),
        format!("{own} vs {other} samples, {effective} effective"),
        format!("thresholds {proof:.2} and {harm:.2}, left {left}"),
        finding.message.clone(),
    ]
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
