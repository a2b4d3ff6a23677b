//! What people and tools read of a rollout: the status of a `ModelRollout`, its conditions and its decision log.
//! Holds types and pure helpers; [`crate::decide`] fills them in. No floats: numbers with units are strings.

// These comments are what `kubectl explain` prints; there, backticks are noise.
#![allow(clippy::doc_markdown)]

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::revision::RevisionId;
use crate::verdict::Verdict;
use crate::weights::Exposure;

/// Most decisions kept.
pub const MAX_DECISIONS: usize = 20;
/// Longest [`CheckpointStatus::state`], in bytes. A longer one is not stored; the evidence is rebuilt from the one before it.
pub const MAX_CHECKPOINT: usize = 262_144;
/// Most rejected revisions kept.
pub const MAX_REJECTED: usize = 20;

/// Status of a `ModelRollout`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Display strings for columns.
    #[serde(skip_serializing_if = "Display::is_empty")]
    pub display: Display,
    /// Generation of the spec that this status describes; -1 until the operator has seen the object.
    pub observed_generation: i64,
    /// The revision that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<Serving>,
    /// The revision on trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Serving>,
    /// The running attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// The old revision that is kept warm after a promotion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probation: Option<ProbationStatus>,
    /// Revisions that served before, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<Serving>,
    /// Revisions that are not tried again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["revision"]))]
    pub rejected: Vec<Rejected>,
    /// Conditions by type: Ready, Reconciling, Stalled, Available, Promoted, GuardrailsHealthy, TrafficApplied, PolicyResolved, Approved, Settled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What is known per guardrail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 40), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["guardrail"]))]
    pub evidence: Vec<EvidenceStatus>,
    /// How likely a wrong decision is allowed to be, and how that is split over the guardrails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<RiskStatus>,
    /// What was decided, newest first, at most 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub decisions: Vec<DecisionRecord>,
    /// The last request and what became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_request: Option<RequestStatus>,
    /// State from which the evidence is rebuilt after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// Strings for the columns of `kubectl get`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Display {
    /// Stage that is live, such as Canary, or Idle.
    #[schemars(length(max = 64))]
    pub stage: String,
    /// Step of the stage, such as 2/3, or "-".
    #[schemars(length(max = 16))]
    pub step: String,
    /// Exposure of the candidate, such as 25%.
    #[schemars(length(max = 16))]
    pub weight: String,
    /// Verdict in a word, such as Passing, Promoted, RolledBack.
    #[schemars(length(max = 64))]
    pub verdict: String,
    /// Stable model in short.
    #[schemars(length(max = 128))]
    pub stable: String,
    /// Candidate model in short.
    #[schemars(length(max = 128))]
    pub candidate: String,
    /// When the operator looks again on its own, such as 15s.
    #[schemars(length(max = 32))]
    pub next_check: String,
    /// What is going on, in a sentence.
    #[schemars(length(max = 4096))]
    pub message: String,
}

impl Display {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A revision and the model it serves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Serving {
    /// The revision, by its short name.
    pub revision: RevisionId,
    /// Digest of the model.
    #[schemars(length(max = 256))]
    pub digest: String,
    /// URI of the model; empty for a baseline.
    #[schemars(length(max = 1024))]
    pub uri: String,
    /// Backend Service that answers for it.
    #[schemars(length(max = 63))]
    pub service: String,
    /// Port of that Service.
    pub port: i32,
    /// Since when it is in this role.
    pub since: DateTime<Utc>,
}

/// One attempt to promote one candidate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Which try of this revision, from 0; each retry halves the promotion risk.
    pub number: i32,
    /// When the attempt started.
    pub started: DateTime<Utc>,
    /// Hash of the pinned plan; evidence under another hash is void.
    #[schemars(length(max = 16))]
    pub plan_hash: String,
    /// Generation of the policy that was pinned.
    pub policy_generation: i64,
    /// The pinned stages and policy as they were resolved, as JSON.
    #[schemars(length(max = 262_144))]
    pub pinned: String,
    /// What the attempt is doing.
    pub phase: AttemptPhase,
    /// Index of the stage, from 0.
    pub stage: i32,
    /// Index of the step in the stage, from 0.
    pub step: i32,
    /// When the stage started.
    pub stage_started: DateTime<Utc>,
    /// When the step's weight took effect; absent until the gateway has accepted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_started: Option<DateTime<Utc>>,
    /// The exposure that was decided; the route follows it upward only with a fresh pass.
    pub intent: Exposure,
    /// Whether the revision served before and comes back without analysis.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returning: bool,
    /// Why exposure was lowered while the attempt goes on, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub lowered: Option<String>,
    /// Whether a person or an inconclusive stage paused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub paused: Option<String>,
    /// Stage index that a person approved, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_stage: Option<i32>,
}

/// What an attempt is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AttemptPhase {
    /// The candidate's pods are coming up.
    Deploying,
    /// The route is being prepared for the stage, at the exposure it has.
    Preparing,
    /// Traffic of the step flows and is judged.
    Judging,
    /// The roles are being swapped.
    Promoting,
}

/// The time after a promotion.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbationStatus {
    /// The revision to return to.
    pub previous: Serving,
    /// When the time is over.
    pub until: DateTime<Utc>,
}

/// A latched rejection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// The revision that is not tried again.
    pub revision: RevisionId,
    /// Digest of its model.
    #[schemars(length(max = 256))]
    pub digest: String,
    /// When that happened, in UTC.
    pub at: DateTime<Utc>,
    /// Reason in a word, for machines.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Reason in a sentence.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// How often it was tried.
    pub attempts: i32,
}

/// A condition as in the Kubernetes API conventions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type of the condition.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub kind: String,
    /// True, False or Unknown.
    #[schemars(length(max = 16))]
    pub status: String,
    /// Generation it describes.
    pub observed_generation: i64,
    /// When the status last changed.
    pub last_transition_time: DateTime<Utc>,
    /// Reason in a word, for machines.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Reason in a sentence.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// How likely a wrong decision is allowed to be in the running attempt. A strength of evidence in logE decides at ln(1/risk).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RiskStatus {
    /// Hash of the plan it belongs to.
    #[schemars(length(max = 16))]
    pub plan_hash: String,
    /// Allowed probability of promoting a candidate that is worse than a target, by the policy.
    #[schemars(length(max = 16))]
    pub false_promotion: String,
    /// Allowed probability of rolling back a candidate that is within every critical bound, by the policy.
    #[schemars(length(max = 16))]
    pub false_rollback: String,
    /// Which try of this revision, from 0.
    pub attempt: i32,
    /// Promotion risk of this try: falsePromotion, halved by every retry. Every guardrail is proven at all of it, because all of them must be.
    #[schemars(length(max = 16))]
    pub promotion: String,
    /// Part of it at which each promised win is shown, because one of them is enough.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub win: String,
    /// Parts of falseRollback by guardrail; together they are all of it, because one of them is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 40), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["guardrail"]))]
    pub guardrails: Vec<RiskShare>,
    /// Guardrails without statistics, limits and tripwires, which are outside of both risks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 40), inner(length(max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub outside: Vec<String>,
    /// Probability that the test of the traffic split fails by chance, which holds and never decides.
    #[schemars(length(max = 16))]
    pub sample_ratio: String,
}

/// A guardrail's part of the rollback risk.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RiskShare {
    /// Name of the guardrail.
    #[schemars(length(max = 63))]
    pub guardrail: String,
    /// Its weight among the guardrails.
    pub weight: i32,
    /// Its part of falseRollback, such as 1.25%.
    #[schemars(length(max = 16))]
    pub rollback: String,
    /// How its part is split further, as "whole 0.625%, each of 17 slices 0.0368%".
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub split: String,
}

/// What is known about one guardrail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceStatus {
    /// Name of the guardrail.
    #[schemars(length(max = 63))]
    pub guardrail: String,
    /// The verdict on this guardrail.
    pub verdict: Verdict,
    /// Reason in a word, for machines.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Estimate with its unit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub value: String,
    /// Target with its unit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub target: String,
    /// Critical bound as written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub critical: String,
    /// Interval at 95%, always valid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub interval: String,
    /// Samples on the candidate.
    pub samples: i64,
    /// Samples on the reference.
    pub reference_samples: i64,
    /// Samples after over-dispersion is taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_samples: Option<i64>,
    /// Natural log e-values and their thresholds, as "proof 1.20/3.00 harm -0.10/4.38 warning 0.02/4.38".
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub log_e: String,
    /// The promised win and whether it is shown, as "0.8x vs stable 1.20/3.69": natural log e-value and its threshold.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub win: String,
    /// Its share of the allowed risks, as "promotion 5% rollback 1.25%": the thresholds of logE are ln(1/risk).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub risk: String,
    /// Its slices, by the values of their label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["slice"]))]
    pub slices: Vec<SliceStatus>,
    /// Time until proof, such as "12m to 48m".
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub eta: String,
    /// A sentence with the numbers.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// What is known about one slice of a guardrail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SliceStatus {
    /// The slice, such as region=eu, or the one of all other values.
    #[schemars(length(max = 256))]
    pub slice: String,
    /// The verdict on this slice.
    pub verdict: Verdict,
    /// Whether it has the events from which on it must be proven.
    pub counts: bool,
    /// Estimate with its unit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub value: String,
    /// Samples on the candidate.
    pub samples: i64,
    /// Samples on the reference.
    pub reference_samples: i64,
    /// Natural log e-values and their thresholds, as "proof 1.20/3.00 harm -0.10/7.91".
    #[schemars(length(max = 128))]
    pub log_e: String,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionRecord {
    /// Id of the decision; the route carries the id of the last one.
    #[schemars(length(max = 128))]
    pub id: String,
    /// When that happened, in UTC.
    pub time: DateTime<Utc>,
    /// What was done: Started, Raised, Held, Lowered, Promoted, RolledBack, …
    #[schemars(length(max = 64))]
    pub action: String,
    /// The revision it is about.
    pub revision: RevisionId,
    /// Stage at that time, by its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub stage: String,
    /// Step at that time, such as 2/3.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 16))]
    pub step: String,
    /// The guardrail that decided, if one did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub guardrail: String,
    /// Exposure before, in percent.
    pub from: Exposure,
    /// Exposure after, in percent.
    pub to: Exposure,
    /// Reason in a word, for machines.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Reason in a sentence, with the numbers.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// What was known of every guardrail then, in short.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 40), inner(length(max = 1024)), extend("x-kubernetes-list-type" = "atomic"))]
    pub numbers: Vec<String>,
}

/// A request and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestStatus {
    /// Id of the request, as it was asked.
    #[schemars(length(max = 128))]
    pub id: String,
    /// What was asked, such as promote.
    #[schemars(length(max = 64))]
    pub action: String,
    /// Who asked, as far as it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub actor: String,
    /// Accepted or Refused.
    #[schemars(length(max = 32))]
    pub result: String,
    /// Why it was accepted or refused.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// When that happened, in UTC.
    pub at: DateTime<Utc>,
}

/// State from which the evidence is rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// The instant it describes.
    pub at: DateTime<Utc>,
    /// The evidence as compact JSON.
    #[schemars(length(max = 262_144))]
    pub state: String,
}
