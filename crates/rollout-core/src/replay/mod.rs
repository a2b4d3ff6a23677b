//! Replays a policy over recorded samples: the evidence, the judge and the decision of the operator, instant by instant, against a cluster that obeys.
//! Holds no statistics and no rule of its own. The traffic is what was recorded: it does not follow what is decided, and how it was split is not checked.

mod stand;

use chrono::{DateTime, TimeDelta, Utc};

use crate::evidence::{Arms, Evidence, Readings};
use crate::judge::{Moment, judge};
use crate::plan::Plan;
use crate::revision::RevisionId;
use crate::spec::{PolicySpec, RolloutSpec};
use crate::status::{Attempt, AttemptPhase, DecisionRecord};
use crate::verdict::{Finding, Judgement, Overall, Verdict};
use crate::weights::{Exposure, Position};
use stand::Stand;

/// What is replayed.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The rollout; its workload, route and baseline are replaced by ones that always obey.
    pub rollout: RolloutSpec,
    /// The policy.
    pub policy: PolicySpec,
    /// What the two mean together. Approvals are taken as given.
    pub plan: Plan,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Every stage was passed.
    Promoted,
    /// Something was harmful.
    RolledBack,
    /// It ended without proof: rolled back, or paused for a person.
    Inconclusive,
}

/// Where the attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Stage and step.
    pub position: Position,
    /// The exposure that was decided.
    pub exposure: Exposure,
}

/// The first time a guardrail had a verdict in a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct First {
    /// When.
    pub at: DateTime<Utc>,
    /// Index of the stage.
    pub stage: usize,
    /// What was found then; its verdict is Proven, Warning or Harmful.
    pub finding: Finding,
}

/// One attempt being replayed.
#[derive(Clone, Debug)]
pub struct Replay {
    plan: Plan,
    stand: Stand,
    evidence: Evidence,
    /// What the evidence is told of, as the operator would tell it.
    watched: Option<Watched>,
    pending_move: Option<DateTime<Utc>>,
    /// The last judgement, and whether it is still about where the attempt is.
    judgement: Option<Judgement>,
    stands: bool,
    verdicts: Vec<Verdict>,
    due: DateTime<Utc>,
    started: DateTime<Utc>,
    firsts: Vec<First>,
}

/// The part of the status that moves the evidence.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Watched {
    spot: Spot,
    stage_started: DateTime<Utc>,
    step_started: DateTime<Utc>,
}

impl Replay {
    /// An attempt that starts at `at`: the candidate is ready and nobody is on it.
    pub fn start(subject: &Subject, at: DateTime<Utc>) -> Self {
        let mut plan = subject.plan.clone();
        plan.stages.iter_mut().for_each(|stage| stage.approval_required = false);
        let stand = Stand::new(subject, &plan, at);
        let evidence = Evidence::start(&plan, stand.candidate(), at, 0).without_split_check();
        let mut replay = Self {
            plan,
            stand,
            evidence,
            watched: None,
            pending_move: None,
            judgement: None,
            stands: false,
            verdicts: Vec::new(),
            due: at,
            started: at,
            firsts: Vec::new(),
        };
        replay.decide(at);
        replay
    }

    /// Folds one instant, judges, and decides when the operator would look. Returns the judgement unless the attempt is over.
    pub fn step(&mut self, arms: &Arms, at: DateTime<Utc>, readings: &Readings) -> Option<&Judgement> {
        let watched = self.watched.filter(|_| self.end().is_none())?;
        let stage = self.plan.stages.get(watched.spot.position.stage)?;
        if let Some(moved) = self.pending_move.filter(|moved| *moved <= at) {
            self.evidence.moved(watched.spot.position, watched.spot.exposure, stage.kind, moved);
            self.pending_move = None;
        }
        self.evidence.absorb(&self.plan, arms, at, readings);
        let moment = Moment {
            now: at,
            position: watched.spot.position,
            exposure: watched.spot.exposure,
            attempt_started: self.started,
            stage_started: watched.stage_started,
            step_started: watched.step_started,
            last_step: watched.spot.position.step + 1 >= stage.steps.len(),
        };
        let judgement = judge(&self.plan, &self.evidence, &moment);
        let verdicts: Vec<Verdict> = judgement.findings.iter().map(|finding| finding.verdict).collect();
        let news = verdicts != self.verdicts;
        if news {
            self.note_firsts(&judgement, watched.spot.position.stage);
            self.verdicts = verdicts;
        }
        let wakes = news || !matches!(judgement.overall, Overall::Hold(_));
        (self.judgement, self.stands) = (Some(judgement), true);
        // While a step is judged, a look at a judgement that holds changes nothing; elsewhere time alone may.
        let is_judged = self.attempt().is_some_and(|attempt| attempt.phase == AttemptPhase::Judging);
        if wakes || (at >= self.due && !is_judged) {
            self.decide(at);
        }
        self.judgement.as_ref()
    }

    /// Somebody moved the recorded traffic at `at`: what is open is closed, and it settles before it proves again.
    pub fn disturbed(&mut self, at: DateTime<Utc>) {
        self.evidence.disturbed(at);
    }

    /// What was judged last.
    pub const fn judgement(&self) -> Option<&Judgement> {
        self.judgement.as_ref()
    }

    /// How the attempt ended; `None` while it goes on.
    pub fn end(&self) -> Option<End> {
        self.stand.end()
    }

    /// Where it is, or was when it ended.
    pub fn spot(&self) -> Option<Spot> {
        self.watched.map(|watched| watched.spot)
    }

    /// The attempt as the status holds it; `None` when it is over.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.stand.attempt()
    }

    /// Every decision so far, oldest first.
    pub fn decisions(&self) -> &[DecisionRecord] {
        self.stand.decisions()
    }

    /// The first times of verdicts, in the order in which they came.
    pub fn firsts(&self) -> &[First] {
        &self.firsts
    }

    /// The evidence as it stands.
    pub const fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The plan that is replayed.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// When the attempt started.
    pub const fn started(&self) -> DateTime<Utc> {
        self.started
    }

    fn note_firsts(&mut self, judgement: &Judgement, stage: usize) {
        for finding in &judgement.findings {
            let tells = matches!(finding.verdict, Verdict::Proven | Verdict::Warning | Verdict::Harmful);
            let known = |first: &First| {
                first.stage == stage && first.finding.guardrail == finding.guardrail && first.finding.verdict == finding.verdict
            };
            if tells && !self.firsts.iter().any(known) {
                self.firsts.push(First { at: judgement.at, stage, finding: finding.clone() });
            }
        }
    }

    fn decide(&mut self, at: DateTime<Utc>) {
        loop {
            let (changed, next_check) = self.stand.look(self.judgement.as_ref().filter(|_| self.stands), at);
            self.due = at + next_check;
            self.follow();
            if !changed || self.end().is_some() {
                return;
            }
        }
    }

    /// Watches what the status says, as the operator's tracker does: another step drops the judgement of the one before.
    fn follow(&mut self) {
        let Some(attempt) = self.stand.attempt().filter(|attempt| attempt.phase != AttemptPhase::Deploying) else { return };
        let index = |n: i32| usize::try_from(n).unwrap_or(0);
        let watched = Watched {
            spot: Spot { position: Position { stage: index(attempt.stage), step: index(attempt.step) }, exposure: attempt.intent },
            stage_started: attempt.stage_started,
            step_started: attempt.step_started.unwrap_or(attempt.stage_started),
        };
        let moved = self.watched.is_none_or(|before| (before.spot, before.step_started) != (watched.spot, watched.step_started));
        if moved {
            self.pending_move = Some(watched.step_started);
            self.stands = false;
            self.verdicts.clear();
        }
        self.watched = Some(watched);
    }
}

/// The revision under which a replay's decisions name the candidate of this rollout.
pub fn candidate(rollout: &RolloutSpec) -> RevisionId {
    stand::candidate(rollout)
}

/// The aligned instants after `from` and up to `to`, `interval` apart.
pub fn instants(from: DateTime<Utc>, to: DateTime<Utc>, interval: TimeDelta) -> impl Iterator<Item = DateTime<Utc>> {
    let step = interval.num_milliseconds().max(1);
    let first = from.timestamp_millis().div_euclid(step) + 1;
    let last = to.timestamp_millis().div_euclid(step);
    (first..=last).filter_map(move |n| DateTime::from_timestamp_millis(n.saturating_mul(step)))
}
