//! What the shell saw, as plain values: the object, its policy, its workloads and its route at one moment.
//! Holds no judgement of it; [`crate::decide`] reads it, the shell's `observe` fills it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::revision::RevisionId;
use crate::spec::{PolicySpec, RolloutSpec};
use crate::status::{CheckpointStatus, Status};

/// Everything a decision depends on, besides the judgement and the time.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Namespace of the rollout.
    pub namespace: String,
    /// Name of the rollout.
    pub name: String,
    /// Uid of the rollout.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether our finalizer is set.
    pub has_finalizer: bool,
    /// The spec as the user wrote it.
    pub spec: RolloutSpec,
    /// The status as it is stored.
    pub status: Status,
    /// The request annotation, if there is one.
    pub request: Option<RequestText>,
    /// The referenced policy.
    pub policy: PolicyView,
    /// Revisions on record for this rollout.
    pub recorded: BTreeSet<RevisionId>,
    /// Workloads by revision; a revision that is absent has none.
    pub workloads: BTreeMap<RevisionId, WorkloadView>,
    /// The route, whole; `None` when there is none.
    pub route: Option<Value>,
    /// Reasons found by the shell that forbid traffic to the candidate, such as a foreign Service that selects its pods.
    pub preflight: Vec<String>,
    /// The evidence as it stands, to be stored with the next status.
    pub checkpoint: Option<CheckpointStatus>,
    /// Since when this process acts: before that nobody may have created or scaled anything.
    pub acting_since: DateTime<Utc>,
}

/// The request annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestText(pub String);

/// The referenced policy.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyView {
    /// There is none of that name.
    Missing,
    /// It was found.
    Found {
        /// Its generation.
        generation: i64,
        /// Its spec.
        spec: Box<PolicySpec>,
    },
}

/// The workload of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadView {
    /// Whether the object that owns the pods exists; true for a Service that the user runs, when it exists.
    pub exists: bool,
    /// Whether the revision's Service exists.
    pub service_exists: bool,
    /// Whether the control Service over the same pods exists.
    pub control_exists: bool,
    /// Pods wanted; 1 for a Service that the user runs.
    pub desired: i32,
    /// Ready endpoints in the `EndpointSlices` of the revision's Service.
    pub ready_endpoints: i32,
    /// Pods by name, with their creation time.
    pub pods: BTreeMap<String, DateTime<Utc>>,
    /// Why it is not ready, as far as the cluster says.
    pub cause: Option<Cause>,
    /// What tripped without statistics: `OOMKilled` or a crash loop.
    pub tripped: Option<Cause>,
    /// When it tripped, for the latest of all; `None` for what goes on now, and where the cluster does not say.
    pub tripped_at: Option<DateTime<Utc>>,
}

/// A reason in a word and in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// A fixed word, such as `ImagePullBackOff`.
    pub reason: String,
    /// A sentence with pod, container and what the cluster said.
    pub message: String,
}
