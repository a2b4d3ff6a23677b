//! A judge that says what the test wants, at the pace of the real one: nothing before the first instant after a change.

use std::rc::Rc;

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::plan::Plan;
use rollout_core::status::{Attempt, AttemptPhase, Status};
use rollout_core::testing::pass;
use rollout_core::verdict::{Failure, Finding, Judgement, Overall, Verdict};
use rollout_core::weights::Position;

/// What the test makes of an attempt, besides passing it in time: stage, step, time in the step.
pub type Opinion = Rc<dyn Fn(&Attempt, TimeDelta) -> Option<Overall>>;

#[derive(Clone)]
pub struct Judge {
    pub interval: TimeDelta,
    pub opinion: Opinion,
    /// Harm in probation.
    pub regret: Option<Failure>,
    pub share_above_intent: bool,
    /// Says nothing at all.
    pub silent: bool,
    /// A pass for something else than asked.
    pub confused: bool,
    /// What is not decided looks worse than it may be.
    pub suspicious: bool,
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            interval: TimeDelta::seconds(15),
            opinion: Rc::new(|_, _| None),
            regret: None,
            share_above_intent: false,
            silent: false,
            confused: false,
            suspicious: false,
        }
    }
}

pub fn failure(reason: &str) -> Failure {
    Failure { guardrail: "accuracy".into(), reason: reason.into(), message: format!("accuracy is 31.4pp worse than stable ({reason})") }
}

impl Judge {
    /// A judge of this opinion, which passes in time what it has no opinion on.
    pub fn who(opinion: impl Fn(&Attempt, TimeDelta) -> Option<Overall> + 'static) -> Self {
        Self { opinion: Rc::new(opinion), ..Self::default() }
    }

    pub fn next_tick(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let step = self.interval.num_milliseconds();
        DateTime::from_timestamp_millis((now.timestamp_millis().div_euclid(step) + 1) * step).unwrap()
    }

    pub fn judge(&self, status: &Status, plan: Option<&Plan>, now: DateTime<Utc>) -> Option<Judgement> {
        if self.silent {
            return None;
        }
        let at = self.next_tick(now) - self.interval;
        let Some(attempt) = &status.attempt else {
            let stable = status.probation.as_ref().and(status.stable.as_ref())?;
            let overall = self.regret.clone().map_or_else(|| Overall::Hold("watching".into()), Overall::Fail);
            return (at >= stable.since).then(|| self.judgement(at, overall));
        };
        let plan = plan.filter(|p| p.hash == attempt.plan_hash)?;
        let since = attempt.step_started.unwrap_or(attempt.stage_started).max(attempt.started);
        if attempt.phase == AttemptPhase::Deploying || at < since {
            return None;
        }
        let overall = (self.opinion)(attempt, at - since).unwrap_or_else(|| self.good(status, plan, attempt, at, at - since));
        Some(self.judgement(at, overall))
    }

    fn good(&self, status: &Status, plan: &Plan, attempt: &Attempt, at: DateTime<Utc>, in_step: TimeDelta) -> Overall {
        let position = Position { stage: usize::try_from(attempt.stage).unwrap(), step: usize::try_from(attempt.step).unwrap() };
        let stage = &plan.stages[position.stage];
        let last = position.step + 1 == stage.steps.len();
        if attempt.phase != AttemptPhase::Judging || in_step < stage.step_min || (last && at - attempt.stage_started < stage.min) {
            return Overall::Hold("accuracy: 40 of 200 samples".into());
        }
        let asked = if self.confused { Position { step: position.step + 1, ..position } } else { position };
        let pass = pass(status.candidate.as_ref().unwrap().revision.clone(), asked, &plan.hash, at);
        if last { Overall::StagePass(pass) } else { Overall::StepPass(pass) }
    }

    fn found(&self, verdict: Verdict) -> Finding {
        let looks_bad = self.suspicious && verdict == Verdict::Undecided;
        let reason = if looks_bad { "Suspicious".to_owned() } else { finding(verdict).reason };
        Finding { reason, ..finding(verdict) }
    }

    fn judgement(&self, at: DateTime<Utc>, overall: Overall) -> Judgement {
        let verdict = match &overall {
            Overall::Fail(_) => Verdict::Harmful,
            Overall::Inconclusive(_) => Verdict::Warning,
            Overall::StagePass(_) => Verdict::Proven,
            Overall::Lower(_) => Verdict::Unmeasurable,
            Overall::StepPass(_) | Overall::Hold(_) => Verdict::Undecided,
        };
        let found = vec![self.found(verdict)];
        Judgement { realised_share: Some(7.5), share_above_intent: self.share_above_intent, ..judgement(at, found, overall) }
    }
}

/// A judgement of which nothing is known but what was found.
pub fn judgement(at: DateTime<Utc>, findings: Vec<Finding>, overall: Overall) -> Judgement {
    Judgement {
        at,
        findings,
        overall,
        realised_share: None,
        share_above_intent: false,
        stage_judged: TimeDelta::zero(),
        step_judged: TimeDelta::zero(),
    }
}

pub fn finding(verdict: Verdict) -> Finding {
    Finding {
        guardrail: "accuracy".into(),
        verdict,
        reason: if verdict == Verdict::Unmeasurable { "Stale".into() } else { format!("{verdict:?}") },
        value: Some("+0.3pp".into()),
        target: "+2pp vs stable".into(),
        critical: "+5pp vs stable".into(),
        interval: Some("-0.4pp to +1.0pp".into()),
        samples: (200, 4000),
        effective_samples: None,
        slices: Vec::new(),
        log_e_proof: Some(1.0),
        log_e_harm: Some(-0.5),
        log_e_warning: Some(-0.2),
        win: None,
        thresholds: (3.0, 4.4),
        eta: None,
        message: "accuracy is +0.3pp vs stable, at most +2pp are allowed".into(),
    }
}
