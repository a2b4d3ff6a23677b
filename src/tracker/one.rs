//! The evidence of one watched rollout: how it begins, goes on from instant to instant, and begins anew when that went wrong.
//! Does no IO and knows no other rollout.

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::evidence::{Checkpoint, Evidence, History, Readings};
use rollout_core::judge::{Moment, glance, judge};
use rollout_core::verdict::{Failure, Judgement, Overall, Verdict};
use rollout_core::weights::Exposure;
use tracing::warn;

use super::{Key, Outcome, Watched, between, is_due, is_multiple};
use crate::contain::Panicked;

#[derive(Debug)]
pub(super) struct Tracked {
    pub watched: Arc<Watched>,
    pub evidence: Evidence,
    /// A weight change that the evidence has not been told of, since it lies after the instants folded so far.
    pub pending_move: Option<DateTime<Utc>>,
    pub judgement: Option<Judgement>,
    pub catching_up: bool,
    /// Whether what the champion did before the attempt is still to be read.
    pub forgetful: bool,
    /// Set while a rollback is on its way, so that it is not sent twice.
    pub escaping: bool,
    /// Looks that panicked, in a row.
    pub panics: u32,
    /// What glances have seen since history began to be folded in: the evidence may have no baseline for counters before that is done.
    scout: Option<Box<Evidence>>,
}

impl Tracked {
    /// Instants are not glanced at: everything is read there anyway. Unless history is being folded in, which may take minutes: what one sample can
    /// cross needs none.
    pub fn is_glanced_at(&self, at: DateTime<Utc>) -> bool {
        let plan = &self.watched.plan;
        let exposed = self.watched.exposure > Exposure::ZERO;
        exposed && !self.escaping && is_multiple(at, between(plan)) && (self.catching_up || !is_due(plan, at))
    }

    pub fn is_behind(&self, now: DateTime<Utc>) -> bool {
        now - self.evidence.last_instant() > self.watched.plan.interval * 3
    }

    pub fn begin(watched: Watched) -> Self {
        let restored = watched.checkpoint.as_ref().and_then(|stored| {
            let parsed = serde_json::from_str::<Checkpoint>(&stored.state).map_err(|e| e.to_string());
            match parsed.and_then(|checkpoint| Evidence::restore(&watched.plan, &checkpoint).map_err(|e| e.to_string())) {
                Ok(evidence) => Some((evidence, stored.at)),
                Err(error) => {
                    warn!(error, revision = %watched.identity.revision, "the checkpoint cannot be read; the evidence is rebuilt from the start of the attempt");
                    None
                }
            }
        });
        // A checkpoint has it already.
        let forgetful = restored.is_none() && !History::queries(&watched.plan, &watched.arms).is_empty();
        let is_restored = restored.is_some();
        let (mut evidence, from) = restored.unwrap_or_else(|| {
            let start = watched.identity.started;
            (Evidence::start(&watched.plan, watched.identity.revision.clone(), start, watched.attempt), start)
        });
        let pending_move = (watched.step_started >= from).then_some(watched.step_started);
        if is_restored && pending_move.is_some() {
            // The weight changed at some moment after the checkpoint, maybe long before the step counts: until then no split is the right one.
            evidence.moved(watched.position, watched.exposure, watched.kind, from);
        }
        Self {
            watched: Arc::new(Watched { checkpoint: None, ..watched }),
            evidence,
            pending_move,
            judgement: None,
            catching_up: false,
            forgetful,
            escaping: false,
            panics: 0,
            scout: None,
        }
    }

    /// After a panic: what it left half done is thrown away, the evidence begins anew at `at`, and a candidate that cannot be judged is lowered.
    pub fn begin_anew(&mut self, at: DateTime<Utc>, panicked: &Panicked) {
        self.begin_evidence(at);
        self.judgement = Some(Judgement {
            at,
            findings: self.judgement.take().map(|judgement| judgement.findings).unwrap_or_default(),
            overall: Overall::Lower(panicked.failure()),
            realised_share: None,
            share_above_intent: false,
            stage_judged: TimeDelta::zero(),
            step_judged: TimeDelta::zero(),
        });
    }

    /// The evidence begins anew at `at`, and the step with it.
    fn begin_evidence(&mut self, at: DateTime<Utc>) {
        let Watched { plan, identity, attempt, .. } = self.watched.as_ref();
        self.evidence = Evidence::start(plan, identity.revision.clone(), at, *attempt);
        self.pending_move = Some(at);
        self.scout = None;
    }

    /// The clock was set, and shows `now`.
    pub fn clock_was_set(&mut self, now: DateTime<Utc>) {
        self.judgement = None;
        self.scout = None;
        if !self.begin_before_time(now) {
            self.evidence.clock_was_set(now);
        }
    }

    /// Evidence of a time that has not come, from before the clock was put back, would keep everything out until that time: it begins anew at
    /// `at`, and says whether it did. A step that starts in such a time starts now.
    fn begin_before_time(&mut self, at: DateTime<Utc>) -> bool {
        let Watched { plan, identity, arms, .. } = self.watched.as_ref();
        let far = at + plan.interval * 3;
        let ahead = self.evidence.last_instant();
        if self.pending_move.is_some_and(|moved| moved > far) {
            self.pending_move = Some(at);
        }
        if ahead <= far {
            return false;
        }
        warn!(revision = %identity.revision, %ahead, %at, "the evidence is of a time that has not come; it begins anew");
        self.forgetful = !History::queries(plan, arms).is_empty();
        self.judgement = None;
        self.begin_evidence(at);
        true
    }

    pub fn unmeasurable(&self) -> Vec<String> {
        let findings = self.judgement.iter().flat_map(|judgement| &judgement.findings);
        findings.filter(|finding| finding.verdict == Verdict::Unmeasurable).map(|finding| finding.reason.clone()).collect()
    }

    /// What one sample has crossed by `at`. The evidence stays as it is.
    pub fn glance(&mut self, at: DateTime<Utc>, readings: &Readings) -> Option<Failure> {
        let watched = Arc::clone(&self.watched);
        let look = |evidence: &Evidence| glance(&watched.plan, evidence, &watched.arms, at, readings);
        let seen = look(&self.evidence_as_placed(at));
        if !self.catching_up {
            self.scout = None;
            return seen;
        }
        let scout = self.scout.get_or_insert_with(|| {
            let mut begun =
                Evidence::start(&watched.plan, watched.identity.revision.clone(), at - TimeDelta::milliseconds(1), watched.attempt);
            begun.moved(watched.position, watched.exposure, watched.kind, at);
            Box::new(begun)
        });
        let seen = seen.or_else(|| look(scout));
        scout.absorb(&watched.plan, &watched.arms, at, readings);
        seen
    }

    /// The evidence as it stands with the users where they are at `at`: what is being rebuilt may not have come to the last weight change yet, and
    /// would think that nobody is on the candidate.
    fn evidence_as_placed(&self, at: DateTime<Utc>) -> Cow<'_, Evidence> {
        let Some(moved) = self.pending_move.filter(|moved| *moved <= at) else { return Cow::Borrowed(&self.evidence) };
        let mut placed = self.evidence.clone();
        placed.moved(self.watched.position, self.watched.exposure, self.watched.kind, moved);
        Cow::Owned(placed)
    }

    /// One instant: a weight change that lies before it first, then the samples.
    pub fn advance(&mut self, at: DateTime<Utc>, readings: &Readings) {
        if let Some(moved) = self.pending_move.filter(|moved| *moved <= at) {
            self.evidence.moved(self.watched.position, self.watched.exposure, self.watched.kind, moved);
            self.pending_move = None;
        }
        self.evidence.absorb(&self.watched.plan, &self.watched.arms, at, readings);
    }

    pub fn fold(&mut self, at: DateTime<Utc>, now: DateTime<Utc>, readings: &Readings) -> Option<(Option<Failure>, bool)> {
        if self.begin_before_time(at) || at <= self.evidence.last_instant() {
            return None;
        }
        self.advance(at, readings);
        Some(self.judge(now))
    }

    /// What being judged at `at` changed, or that it panicked: then the evidence begins anew.
    pub fn outcome(&mut self, key: &Key, judged: Result<(Option<Failure>, bool), Panicked>, at: DateTime<Utc>) -> Outcome {
        let panicked = judged.as_ref().err().map(|panicked| self.begin_anew(at, panicked)).is_some();
        let (failure, wake) = judged.unwrap_or((None, true));
        let (key, watched) = (key.clone(), Arc::clone(&self.watched));
        Outcome { key, watched, failure, wake, panicked, unmeasurable: self.unmeasurable() }
    }

    /// Judges what is known: what must go now, and whether the reconciler should look.
    pub fn judge(&mut self, now: DateTime<Utc>) -> (Option<Failure>, bool) {
        let watched = &self.watched;
        let moment = Moment {
            now,
            position: watched.position,
            exposure: watched.exposure,
            attempt_started: watched.identity.started,
            stage_started: watched.stage_started,
            step_started: watched.step_started,
            last_step: watched.last_step,
        };
        let judgement = judge(&watched.plan, &self.evidence, &moment);
        let failure = match &judgement.overall {
            Overall::Fail(failure) if !self.escaping => Some(failure.clone()),
            _ => None,
        };
        self.escaping |= failure.is_some();
        let wake = failure.is_some()
            || !matches!(judgement.overall, Overall::Hold(_))
            || self.judgement.as_ref().is_none_or(|old| verdicts(old) != verdicts(&judgement));
        self.judgement = Some(judgement);
        (failure, wake)
    }
}

fn verdicts(judgement: &Judgement) -> Vec<Verdict> {
    judgement.findings.iter().map(|f| f.verdict).collect()
}
