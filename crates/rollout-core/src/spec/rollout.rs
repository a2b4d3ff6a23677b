//! The spec of a `ModelRollout`: which model should serve, how it runs, how traffic reaches it, and through which stages it must go.
//! Does not say how the live objects look; see [`crate::status`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rules;
use crate::quantity::{DurationText, PercentText, ShareText};

/// Which model should serve, and how it gets there.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::rollout()))]
pub struct RolloutSpec {
    /// The model that should serve; its identity is part of the revision, so any change starts a rollout.
    pub model: Model,
    /// How the model runs: exactly one of template (the operator creates it) or backendRef (you run it).
    pub workload: Workload,
    /// What serves before the first promotion: a Service that already exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// How user traffic reaches the model: exactly one of template (an owned HTTPRoute) or adopt (one rule of yours).
    pub route: RouteSpec,
    /// The EvaluationPolicy in this namespace that says what "good enough" means.
    pub policy_ref: PolicyRef,
    /// Stages in the order they run; empty means Shadow 100%, Canary 1%, 5%, 25%, then promotion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub stages: Vec<Stage>,
    /// The time after promotion in which the old revision stays warm and the new one is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probation: Option<Probation>,
    /// What happens when a stage ends without proof: Rollback (default), or Pause at the first step for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_inconclusive: Option<OnInconclusive>,
    /// When the object counts as Ready: Promoted (default), or Accepted as soon as the spec is valid and something good serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_when: Option<ReadyWhen>,
    /// Holds the exposure where it is; harm still rolls back. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Promote lets a first revision without baseline serve at once even when older revisions were recorded; Hold (default) waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Initial>,
    /// How many promoted revisions may be returned to without a new analysis, 0 to 10. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub rollback_window: Option<i32>,
    /// How long a candidate may take until its pods are ready, such as 10m (default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::progress_deadline")]
    pub progress_deadline: Option<DurationText>,
}

/// Identity of the candidate model.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Model {
    /// Where the model lives, such as oci://registry.example/digits@sha256:41ab…; $(model.uri) in the template becomes this.
    #[schemars(schema_with = "rules::uri")]
    pub uri: String,
    /// How the model was made smaller; shown to people, part of the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
}

/// How a model was compressed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Compression {
    /// The family of compression.
    pub method: CompressionMethod,
    /// Share of weights removed, such as 80%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<ShareText>,
    /// Numeric precision of the weights, such as fp32, fp16, int8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub precision: Option<String>,
}

/// Families of model compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum CompressionMethod {
    /// No compression: the original model.
    None,
    /// Single weights set to zero.
    UnstructuredPruning,
    /// Whole channels, heads or layers removed.
    StructuredPruning,
    /// Fewer bits per weight or activation.
    Quantization,
    /// A smaller model trained on the teacher's answers.
    Distillation,
    /// More than one of the above.
    Mixed,
}

/// How the model runs.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::workload()))]
pub struct Workload {
    /// Any object that owns pods; the operator creates one per revision. Supported kinds: apps/v1 Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::embedded_object")]
    pub template: Option<Value>,
    /// Port of the pods that answers requests, 1 to 65535; required with template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// A Service that you run; the backend is the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<BackendRef>,
    /// Labels that pick out this arm's series in Prometheus when its pods do not carry the revision label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::matchers")]
    pub matchers: BTreeMap<String, String>,
}

/// A backend in this namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendRef {
    /// API group of the backend; empty (default) is the core group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [""]))]
    pub group: Option<String>,
    /// Kind of the backend; Service (default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Service"]))]
    pub kind: Option<String>,
    /// Name of the backend: DNS label of at most 40 characters.
    #[schemars(schema_with = "rules::name_40")]
    pub name: String,
    /// Port of the backend, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// What serves before the first promotion.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Baseline {
    /// The Service that serves today.
    pub backend_ref: BackendRef,
    /// Labels that pick out its series in Prometheus, such as {job: digits-fp32}; default: the series of its pods by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rules::matchers")]
    pub matchers: BTreeMap<String, String>,
}

/// How user traffic reaches the model.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::route()))]
pub struct RouteSpec {
    /// Spec of the HTTPRoute that the operator owns; rules without backendRefs are the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::open_object")]
    pub template: Option<Value>,
    /// One rule of an HTTPRoute that you own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adopt>,
}

/// One rule of an existing HTTPRoute.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Adopt {
    /// Name of the HTTPRoute in this namespace.
    #[schemars(schema_with = "rules::object_name")]
    pub name: String,
    /// The rule, by its name or its index from 0; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::adopted_rule")]
    pub rule: Option<String>,
}

/// Names an EvaluationPolicy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyRef {
    /// Name of the EvaluationPolicy in this namespace.
    #[schemars(schema_with = "rules::name_63")]
    pub name: String,
}

/// One stage of a rollout.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::stage()))]
pub struct Stage {
    /// Name of the stage, unique in the list.
    #[schemars(schema_with = "rules::name_40")]
    pub name: String,
    /// Shadow mirrors traffic, Canary sends a share of requests, ABTest sends a fixed slice of users.
    #[serde(rename = "type")]
    pub kind: StageKind,
    /// The one step of this stage, such as 25%; not together with steps. Shadow: share of requests mirrored, default 100%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<PercentText>,
    /// Growing shares of this stage, such as [1%, 5%, 25%].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub steps: Vec<PercentText>,
    /// The least time this stage takes, counted in judged windows. Default 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::stage_min")]
    pub min_duration: Option<DurationText>,
    /// The least time each step takes. Default: two windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::stage_min")]
    pub step_min_duration: Option<DurationText>,
    /// The longest this stage may take without proof, counted in judged windows; then onInconclusive applies. Default 6h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::stage_max")]
    pub max_duration: Option<DurationText>,
    /// ABTest only: which header or cookie carries the user's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Assignment>,
    /// Required holds the stage, once it has passed, until a person approves. Default NotRequired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
}

/// Kinds of stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum StageKind {
    /// Requests are mirrored; users see only stable's answers.
    Shadow,
    /// A share of requests goes to the candidate.
    Canary,
    /// A fixed slice of users goes to the candidate.
    ABTest,
}

/// Which header or cookie carries the user's id, and of what it is made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::assignment()))]
pub struct Assignment {
    /// Name of the request header with the id; exactly one of header, cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::token")]
    pub header: Option<String>,
    /// Name of the cookie with the id; exactly one of header, cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::token")]
    pub cookie: Option<String>,
    /// Characters that the last two places of the id are made of, evenly used. Default hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alphabet: Option<Alphabet>,
}

/// Characters of an id's last places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Alphabet {
    /// 0-9 and a-f in either case.
    Hex,
    /// 0-9.
    Decimal,
}

/// Whether a person must approve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Approval {
    /// The operator goes on by itself.
    NotRequired,
    /// The operator waits for an approve request.
    Required,
}

/// The time after promotion.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probation {
    /// How long the old revision stays ready to take over, such as 24h. 0s switches probation off.
    #[schemars(schema_with = "rules::probation")]
    pub duration: DurationText,
    /// Full keeps the old revision at its scale (default); Reduced keeps one replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Parked>,
}

/// How much of the old revision stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Parked {
    /// Full scale: a return needs no new pods.
    Full,
    /// One replica: a return scales up first.
    Reduced,
}

/// What to do without proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OnInconclusive {
    /// Back to stable, and the candidate is rejected.
    Rollback,
    /// Exposure back to the first step, and a person decides.
    Pause,
}

/// When the object is Ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ReadyWhen {
    /// When the model in spec serves everybody.
    Promoted,
    /// When the spec is valid and a good revision serves.
    Accepted,
}

/// What to do with a first revision when nothing serves yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Initial {
    /// Serve it at once.
    Promote,
    /// Wait for a person when older revisions are on record.
    Hold,
}
