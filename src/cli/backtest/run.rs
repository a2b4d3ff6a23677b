//! Plays attempts over a scene from one instant to the next, one or many after each other, and keeps what pictures and reports need of them.
//! The deciding is `rollout_core::replay`; nothing is judged here.

use chrono::{DateTime, Utc};
use rollout_core::evidence::Readings;
use rollout_core::replay::{End, First, Replay, Spot, Subject, instants};
use rollout_core::spec::StageKind;
use rollout_core::status::DecisionRecord;
use rollout_core::verdict::{Finding, Judgement, Verdict};
use rollout_core::weights::Exposure;

use super::scene::Scene;

/// Most points that a picture has per line.
const MOST_POINTS: usize = 600;

/// What is played.
pub(super) struct Play<'a> {
    pub subject: &'a Subject,
    pub scene: &'a Scene,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    /// Whether attempts follow each other until the recording ends.
    pub repeats: bool,
    /// After this instant the first attempt that fails is the last one.
    pub found_after: Option<DateTime<Utc>>,
}

/// One attempt and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub started: DateTime<Utc>,
    /// The last instant of it.
    pub ended: DateTime<Utc>,
    /// `None` when the recording ended first.
    pub end: Option<End>,
    pub decisions: Vec<DecisionRecord>,
    pub firsts: Vec<First>,
    /// The last judgement.
    pub last: Option<Judgement>,
    /// Instants at which each guardrail could not be measured, in the plan's order, and the last reason.
    pub unmeasurable: Vec<(u64, String)>,
    pub instants: u64,
    pub points: Vec<Point>,
}

/// What a picture shows of one instant.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub at: DateTime<Utc>,
    pub exposure: Exposure,
    /// Percent of the requests that the candidate really had.
    pub realised: Option<f64>,
    pub guardrails: Vec<Mark>,
}

/// One guardrail at one instant.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub verdict: Verdict,
    pub proof: Option<f64>,
    pub warning: Option<f64>,
    pub harm: Option<f64>,
    pub value: Option<String>,
    pub interval: Option<String>,
}

impl Play<'_> {
    /// Every attempt, in order. `tell` hears how far it is, from 0 to 1.
    pub(super) fn attempts(&self, readings: &Readings, tell: &mut dyn FnMut(f64)) -> Vec<Attempt> {
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut start = self.from;
        while start < self.to {
            let attempt = self.attempt(start, readings, tell);
            start = attempt.ended;
            let found = failed(attempt.end) && self.found_after.is_some_and(|at| attempt.ended > at);
            let goes_on = self.repeats && !found && attempt.end.is_some() && attempt.ended > attempt.started;
            attempts.push(attempt);
            if !goes_on {
                break;
            }
        }
        attempts
    }

    fn attempt(&self, start: DateTime<Utc>, readings: &Readings, tell: &mut dyn FnMut(f64)) -> Attempt {
        let arms = self.scene.arms_since(start);
        let mut replay = Replay::start(self.subject, start);
        let interval = self.subject.plan.interval;
        let total = ((self.to - self.from).num_milliseconds() / interval.num_milliseconds().max(1)).max(1);
        let every = u64::try_from(total).unwrap_or(1).div_ceil(MOST_POINTS as u64).max(1);
        let mut moves = self.scene.moves.iter().map(|(at, _)| *at).filter(|at| *at > start.timestamp_millis()).peekable();
        let mut attempt = Attempt::begun(start, self.subject.plan.guardrails.len());
        for at in instants(start, self.to, interval) {
            while moves.next_if(|moved| *moved <= at.timestamp_millis()).is_some() {
                replay.disturbed(at);
            }
            let spot = replay.spot();
            if replay.step(&arms, at, readings).is_none() {
                break;
            }
            let Some(judgement) = replay.judgement() else { break };
            attempt.ended = at;
            attempt.instants += 1;
            attempt.count(judgement);
            let over = replay.end().is_some();
            let moved = spot != replay.spot();
            if attempt.instants % every == 1 || every == 1 || over || moved {
                attempt.points.extend(spot.map(|spot| self.point(judgement, spot)));
            }
            if attempt.instants.is_multiple_of(512) {
                tell((at - self.from).num_milliseconds() as f64 / (self.to - self.from).num_milliseconds().max(1) as f64);
            }
            if over {
                break;
            }
        }
        attempt.last = replay.judgement().cloned();
        attempt.end = replay.end();
        attempt.decisions = replay.decisions().to_vec();
        attempt.firsts = replay.firsts().to_vec();
        attempt
    }

    fn point(&self, judgement: &Judgement, spot: Spot) -> Point {
        let stage = self.subject.plan.stages.get(spot.position.stage);
        // Of a mirrored stage the judge tells the share of stable's requests that is copied; the picture shows the share of all.
        let of_all = |share: f64| if stage.is_some_and(|s| s.kind == StageKind::Shadow) { 100.0 * share / (100.0 + share) } else { share };
        let mark = |finding: &Finding| Mark {
            verdict: finding.verdict,
            proof: finding.log_e_proof,
            warning: finding.log_e_warning,
            harm: finding.log_e_harm,
            value: finding.value.clone(),
            interval: finding.interval.clone(),
        };
        Point {
            at: judgement.at,
            exposure: spot.exposure,
            realised: judgement.realised_share.map(of_all),
            guardrails: judgement.findings.iter().map(mark).collect(),
        }
    }
}

/// Whether the candidate was refused.
pub(super) const fn failed(end: Option<End>) -> bool {
    matches!(end, Some(End::RolledBack | End::Inconclusive))
}

impl Attempt {
    fn begun(start: DateTime<Utc>, guardrails: usize) -> Self {
        Self {
            started: start,
            ended: start,
            end: None,
            decisions: Vec::new(),
            firsts: Vec::new(),
            last: None,
            unmeasurable: vec![(0, String::new()); guardrails],
            instants: 0,
            points: Vec::new(),
        }
    }

    fn count(&mut self, judgement: &Judgement) {
        for (count, finding) in self.unmeasurable.iter_mut().zip(&judgement.findings) {
            if finding.verdict == Verdict::Unmeasurable {
                count.0 += 1;
                count.1.clone_from(&finding.message);
            }
        }
    }
}
