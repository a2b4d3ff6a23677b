//! What is written down of the evidence so that a restart continues exactly: the moving numbers, not the arguments that the plan gives again.
//! Knows no status and no file; the caller stores the text.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::counts::Saved as SavedCounts;
use super::gap::Saved as SavedGap;
use super::{Clocks, DriftState, EnergyState, Evidence, LevelState, LimitState, Place, State, Traffic, TripwireState};
use crate::plan::Plan;
use crate::revision::RevisionId;

/// A checkpoint cannot be continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It was taken under another policy or other stages.
    #[error("the checkpoint was taken under plan {found}, the plan now is {expected}: the evidence starts anew")]
    OtherPlan {
        /// Hash of the plan now.
        expected: String,
        /// Hash in the checkpoint.
        found: String,
    },
    /// It cannot be read.
    #[error("the checkpoint cannot be read: {0}")]
    Damaged(String),
}

impl RestoreError {
    /// A fixed word for metrics and events.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::OtherPlan { .. } => "OtherPlan",
            Self::Damaged(_) => "Damaged",
        }
    }
}

/// The state of the evidence at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    plan: String,
    candidate: RevisionId,
    attempt: u32,
    clocks: Clocks,
    place: Place,
    traffic: Traffic,
    guardrails: Vec<SavedGuardrail>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedGuardrail {
    #[serde(rename = "s")]
    state: SavedState,
    #[serde(rename = "p", skip_serializing_if = "Option::is_none")]
    problem_since: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum SavedState {
    Counts(Box<SavedCounts>),
    Gap(Box<SavedGap>),
    Drift(Box<DriftState>),
    Energy(Box<EnergyState>),
    Level(Box<LevelState>),
    Limit(LimitState),
    Tripwire(TripwireState),
    Broken(String),
}

impl Checkpoint {
    /// The instant it describes.
    pub fn at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.clocks.last).unwrap_or_default()
    }

    /// Compact JSON.
    pub fn to_text(&self) -> String {
        // Nothing in it can fail to serialise: keys are strings and numbers are finite.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`Self::to_text`] wrote.
    pub fn from_text(text: &str) -> Result<Self, RestoreError> {
        serde_json::from_str(text).map_err(|problem| RestoreError::Damaged(problem.to_string()))
    }
}

pub(super) fn save(evidence: &Evidence) -> Checkpoint {
    let state = |state: &State| match state {
        State::Counts(counts) => SavedState::Counts(Box::new(counts.save())),
        State::Gap(gap) => SavedState::Gap(Box::new(gap.save())),
        State::Drift(drift) => SavedState::Drift(drift.clone()),
        State::Energy(energy) => SavedState::Energy(energy.clone()),
        State::Level(level) => SavedState::Level(level.clone()),
        State::Limit(limit) => SavedState::Limit(limit.clone()),
        State::Tripwire(tripwire) => SavedState::Tripwire(tripwire.clone()),
        State::Broken(message) => SavedState::Broken(message.clone()),
    };
    Checkpoint {
        plan: evidence.fixed.plan_hash.clone(),
        candidate: evidence.candidate.clone(),
        attempt: evidence.attempt,
        clocks: evidence.clocks.clone(),
        place: evidence.place.clone(),
        traffic: evidence.traffic.clone(),
        guardrails: evidence.guardrails.iter().map(|g| SavedGuardrail { state: state(&g.state), problem_since: g.problem_since }).collect(),
    }
}

pub(super) fn load(plan: &Plan, checkpoint: &Checkpoint) -> Result<Evidence, RestoreError> {
    if plan.hash != checkpoint.plan {
        return Err(RestoreError::OtherPlan { expected: plan.hash.clone(), found: checkpoint.plan.clone() });
    }
    let started = DateTime::from_timestamp_millis(checkpoint.clocks.started).unwrap_or_default();
    let mut evidence = Evidence::start(plan, checkpoint.candidate.clone(), started, checkpoint.attempt);
    if evidence.guardrails.len() != checkpoint.guardrails.len() {
        return Err(RestoreError::Damaged("it has another number of guardrails than the plan".into()));
    }
    for (tracked, saved) in evidence.guardrails.iter_mut().zip(checkpoint.guardrails.iter().cloned()) {
        tracked.problem_since = saved.problem_since;
        match (&mut tracked.state, saved.state) {
            (State::Counts(counts), SavedState::Counts(saved)) => {
                counts.load(*saved).map_err(|problem| RestoreError::Damaged(problem.to_string()))?;
            }
            (State::Gap(gap), SavedState::Gap(saved)) => {
                gap.load(*saved).map_err(|problem| RestoreError::Damaged(problem.to_string()))?;
            }
            (State::Drift(drift), SavedState::Drift(saved)) => *drift = saved,
            (State::Energy(energy), SavedState::Energy(saved)) => *energy = saved,
            (State::Level(level), SavedState::Level(saved)) => *level = saved,
            (State::Limit(limit), SavedState::Limit(saved)) => *limit = saved,
            (State::Tripwire(tripwire), SavedState::Tripwire(saved)) => *tripwire = saved,
            (State::Broken(_), SavedState::Broken(_)) => {}
            _ => return Err(RestoreError::Damaged("a guardrail is of another kind than the plan's".into())),
        }
    }
    evidence.clocks = checkpoint.clocks.clone();
    evidence.place = checkpoint.place.clone();
    evidence.traffic = checkpoint.traffic.clone();
    Ok(evidence)
}
