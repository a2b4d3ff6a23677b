//! The decision while it is being made: what was seen, the next status, the writes so far.
//! Small steps that every path shares; does not know any path.

use chrono::{DateTime, TimeDelta, Utc};

use crate::observed::{Cause, Observed, WorkloadView};
use crate::plan::{Plan, PlannedStage};
use crate::revision::{self, RevisionId};
use crate::status::{Attempt, DecisionRecord, MAX_DECISIONS, MAX_REJECTED, Rejected, Serving, Status};
use crate::verdict::{Failure, Finding, Judgement, Verdict};
use crate::weights::{Exposure, Position};
use crate::words::clip;

use super::{Decision, Event, Situation, Write};

/// How long the longest request is given to end before an arm that lost its traffic is scaled down.
pub const DRAIN: TimeDelta = TimeDelta::seconds(15);
/// After a transition: the next one is due, and waits for nothing but a fresh look.
pub const AT_ONCE: TimeDelta = TimeDelta::milliseconds(200);
/// While a gateway or a workload is about to answer.
pub const SOON: TimeDelta = TimeDelta::seconds(1);
/// The longest time between two looks.
const LONGEST_CHECK: TimeDelta = TimeDelta::seconds(300);
/// Longest message, in bytes.
const LONGEST_MESSAGE: usize = 1024;

pub struct Draft<'a> {
    pub seen: &'a Observed,
    pub plan: Option<&'a Plan>,
    /// What may be acted on: a judgement of the attempt or probation that is running, none older.
    pub judgement: Option<&'a Judgement>,
    pub now: DateTime<Utc>,
    /// The revision that the spec asks for.
    pub desired: RevisionId,
    pub status: Status,
    pub first: Vec<Write>,
    pub then: Vec<Write>,
    pub events: Vec<Event>,
    check: TimeDelta,
}

impl<'a> Draft<'a> {
    pub fn new(seen: &'a Observed, plan: Option<&'a Plan>, judgement: Option<&'a Judgement>, now: DateTime<Utc>) -> Self {
        let status = &seen.status;
        let since = status.attempt.as_ref().map(|a| a.started).or_else(|| {
            let stable = status.stable.as_ref()?;
            status.probation.as_ref().map(|_| stable.since)
        });
        Self {
            seen,
            plan,
            judgement: judgement.filter(|j| since.is_some_and(|since| j.at >= since)),
            now,
            desired: revision::id(&seen.spec.model, &seen.spec.workload),
            status: status.clone(),
            first: Vec::new(),
            then: Vec::new(),
            events: Vec::new(),
            check: LONGEST_CHECK,
        }
    }

    pub fn finish(mut self, situation: Situation) -> Decision {
        // A workload that cannot be created must not stand in the way of a write that takes users off a candidate.
        self.first.sort_by_key(|write| !matches!(write, Write::Route(_)));
        let next_check = self.next_check();
        Decision { first: self.first, status: self.status, then: self.then, events: self.events, situation, next_check }
    }

    /// Looks again no later than this.
    pub fn check_in(&mut self, delay: TimeDelta) {
        self.check = self.check.min(delay);
    }

    /// When to look again.
    pub fn next_check(&self) -> TimeDelta {
        self.check.clamp(AT_ONCE, LONGEST_CHECK)
    }

    pub fn event(&mut self, reason: &'static str, warning: bool, message: impl Into<String>) {
        self.events.push(Event { reason, warning, message: clip(&message.into(), LONGEST_MESSAGE) });
    }

    /// The workload of a revision, empty when there is none.
    pub fn workload(&self, revision: &RevisionId) -> WorkloadView {
        self.seen.workloads.get(revision).cloned().unwrap_or_default()
    }

    /// What tripped this revision. What happened before a retry began, or before the promotion, was decided on already: pods that were killed
    /// then may still be there.
    pub fn tripped(&self, revision: &RevisionId) -> Option<Cause> {
        let view = self.workload(revision);
        let since = match &self.status.attempt {
            Some(attempt) => (attempt.number > 0).then_some(attempt.started),
            None => self.status.stable.as_ref().map(|stable| stable.since),
        };
        // Pods' times are whole seconds.
        let old = view.tripped_at.zip(since).is_some_and(|(at, since)| at + TimeDelta::seconds(1) <= since);
        view.tripped.filter(|_| !old)
    }

    /// Name of the workload and Service that the operator makes for a revision.
    pub fn child(&self, revision: &RevisionId) -> String {
        format!("{}-{revision}", self.seen.name)
    }

    /// Whether the operator made what runs this revision; it never scales or creates what the user runs.
    pub fn is_ours(&self, revision: &RevisionId) -> bool {
        let status = &self.status;
        let known = [&status.stable, &status.candidate].into_iter().flatten().chain(status.probation.iter().map(|p| &p.previous));
        let known = known.chain(&status.history).find(|s| s.revision == *revision);
        match known {
            Some(serving) => serving.service == self.child(revision),
            None if *revision == self.desired => self.seen.spec.workload.backend_ref.is_none(),
            None => !revision.is_baseline(),
        }
    }

    /// How the desired revision will be served once it runs.
    pub fn desired_serving(&self) -> Serving {
        let (service, port) = match &self.seen.spec.workload.backend_ref {
            Some(backend) => (backend.name.clone(), backend.port),
            None => (self.child(&self.desired), self.seen.spec.workload.port.unwrap_or(80)),
        };
        Serving {
            revision: self.desired.clone(),
            digest: revision::model_digest(&self.seen.spec.model),
            uri: self.seen.spec.model.uri.clone(),
            service,
            port,
            since: self.now,
        }
    }

    /// Whether the user holds every exposure where it is.
    pub fn is_suspended(&self) -> bool {
        self.seen.spec.suspend.unwrap_or(false)
    }

    /// The stage that an attempt is in, under the current plan.
    pub fn stage(&self) -> Option<&'a PlannedStage> {
        self.plan?.stages.get(position(self.status.attempt.as_ref()?).stage)
    }

    /// Creates or repairs what a revision needs; nothing is written when all is there.
    pub fn ensure(&mut self, serving: &Serving) {
        if serving.revision.is_baseline() {
            return;
        }
        let view = self.workload(&serving.revision);
        let broken = !view.exists || !view.service_exists || view.desired == 0;
        if !self.seen.recorded.contains(&serving.revision) || (broken && self.is_ours(&serving.revision)) {
            self.first.push(Write::Ensure(serving.revision.clone()));
        }
    }

    /// Adds a decision to the log; its id names revision, attempt and a running number.
    pub fn record(&mut self, action: &str, guardrail: &str, from: Exposure, to: Exposure, reason: &str, message: &str) -> String {
        let number = self.status.attempt.as_ref().map_or(0, |a| a.number);
        let revision = match (&self.status.candidate, &self.status.attempt, &self.status.stable) {
            (Some(candidate), Some(_), _) => candidate.revision.clone(),
            (_, None, Some(stable)) => stable.revision.clone(),
            _ => self.desired.clone(),
        };
        let stage = self.stage();
        let step = match (&self.status.attempt, stage) {
            (Some(attempt), Some(stage)) => format!("{}/{}", attempt.step + 1, stage.steps.len()),
            _ => String::new(),
        };
        let sequence = self.status.decisions.first().and_then(|d| d.id.rsplit('.').next()?.parse::<u64>().ok()).map_or(0, |n| n + 1);
        let id = format!("{revision}.{number}.{sequence}");
        let findings = self.judgement.map_or(&[][..], |j| &j.findings);
        let record = DecisionRecord {
            id: id.clone(),
            time: self.now,
            action: action.into(),
            revision,
            stage: stage.map(|s| s.name.clone()).unwrap_or_default(),
            step,
            guardrail: guardrail.into(),
            from,
            to,
            reason: reason.into(),
            message: clip(message, LONGEST_MESSAGE),
            numbers: findings.iter().filter(|f| f.verdict != Verdict::Inactive).map(short).collect(),
        };
        self.status.decisions.insert(0, record);
        self.status.decisions.truncate(MAX_DECISIONS);
        id
    }

    /// Latches a rejection of `serving`; `attempts` counts how often it was tried, this time included.
    pub fn reject(&mut self, serving: &Serving, attempts: i32, failure: &Failure) {
        self.status.rejected.retain(|r| r.revision != serving.revision);
        let latch = Rejected {
            revision: serving.revision.clone(),
            digest: serving.digest.clone(),
            at: self.now,
            reason: failure.reason.clone(),
            message: clip(&failure.message, LONGEST_MESSAGE),
            attempts,
        };
        self.status.rejected.insert(0, latch);
        self.status.rejected.truncate(MAX_REJECTED);
    }
}

/// Where an attempt is.
pub fn position(attempt: &Attempt) -> Position {
    Position { stage: usize::try_from(attempt.stage).unwrap_or(0), step: usize::try_from(attempt.step).unwrap_or(0) }
}

/// A position's part as the status stores it.
pub fn index(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// One finding in a line, as the decision log keeps it.
fn short(finding: &Finding) -> String {
    let value = finding.value.as_deref().unwrap_or("not measured");
    let interval = finding.interval.as_deref().map(|i| format!(" ({i})")).unwrap_or_default();
    clip(
        &format!(
            "{}: {:?} {value}{interval}, target {}, critical {}, n {} vs {}",
            finding.guardrail, finding.verdict, finding.target, finding.critical, finding.samples.0, finding.samples.1
        ),
        256,
    )
}
