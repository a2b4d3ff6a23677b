//! The spec of an `EvaluationPolicy`: where measurements come from and what "good enough" means.
//! Does not interpret bounds or selectors; [`crate::validate`] does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;
use crate::quantity::{BoundText, DurationText, SelectorText, ShareText};

/// What "good enough" means.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::policy()))]
pub struct PolicySpec {
    /// The Prometheus server that has the measurements.
    pub prometheus: Prometheus,
    /// The allowed probabilities of deciding wrongly. Default 5% each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// Length of a proof window. Default 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::window")]
    pub window: Option<DurationText>,
    /// How often harm is looked for: the scrape interval of the metrics below, 1s to 5m. Default 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::interval")]
    pub interval: Option<DurationText>,
    /// The longest a request may take; proof waits that long after a weight change. Default: one window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::request_timeout")]
    pub request_timeout: Option<DurationText>,
    /// The counter of requests per arm, for the realised share and the sample-ratio check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Requests>,
    /// Built-in guardrails, which stand before those below. One below of the same name replaces the profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileName>,
    /// Guardrails of the profile that are left out, such as fairness.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12), inner(length(max = 40)), extend("x-kubernetes-list-type" = "set"))]
    pub without: Vec<String>,
    /// What must not get worse; a candidate is promoted when every one is proven. May be empty beside a profile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub guardrails: Vec<Guardrail>,
}

/// A set of built-in guardrails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProfileName {
    /// A compressed classifier on a small accelerator.
    EdgeClassifier,
    /// A model on tables behind a user-facing API.
    Tabular,
    /// A language model on vLLM.
    Llm,
}

impl std::fmt::Display for ProfileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EdgeClassifier => "edge-classifier",
            Self::Tabular => "tabular",
            Self::Llm => "llm",
        })
    }
}

/// A Prometheus-compatible server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::prometheus()))]
pub struct Prometheus {
    /// Base address such as http://prometheus.monitoring:9090.
    #[schemars(schema_with = "rules::address")]
    pub address: String,
    /// Longest wait for an answer, 100ms to 60s. Default 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::prometheus_timeout")]
    pub timeout: Option<DurationText>,
    /// How the server's certificate is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// A Secret in this namespace with a bearer token; not together with basic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretKey>,
    /// User name and password; not together with bearer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// More request headers, such as the tenant of a shared server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<Header>,
}

/// How a server's certificate is checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// A Secret in this namespace with the certificate authority in PEM form; default: the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretKey>,
}

/// One key of a Secret in this namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKey {
    /// Name of the Secret, in the namespace of the policy.
    #[schemars(schema_with = "rules::object_name")]
    pub name: String,
    /// Key inside the Secret, such as token or ca.crt.
    #[schemars(schema_with = "rules::secret_key")]
    pub key: String,
}

/// User name and password.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Basic {
    /// The user name, in plain text.
    #[schemars(length(min = 1, max = 256))]
    pub username: String,
    /// The Secret with the password.
    pub password: SecretKey,
}

/// One request header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// Name of the header, such as X-Scope-OrgID.
    #[schemars(schema_with = "rules::token")]
    pub name: String,
    /// Value of the header, in plain text.
    #[schemars(length(max = 1024))]
    pub value: String,
}

/// The allowed probabilities of deciding wrongly.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Risk {
    /// Probability of promoting a candidate that is worse than a target, above 0% and at most 20%. Default 5%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::quantity::risk_schema")]
    pub false_promotion: Option<ShareText>,
    /// Probability of rolling back a candidate that is within every critical bound, above 0% and at most 20%. Default 5%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::quantity::risk_schema")]
    pub false_rollback: Option<ShareText>,
}

/// The counter of requests per arm.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requests {
    /// A counter of answered requests, such as envoy_cluster_upstream_rq_completed.
    pub query: SelectorText,
    /// Label of a gateway's counter that names the backend as namespace_service_port, such as envoy_cluster_name; default: the arm's revision label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::label")]
    pub backend_label: Option<String>,
}

/// One thing that must not get worse: exactly one kind, and its bounds.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::guardrail()))]
pub struct Guardrail {
    /// Name of the guardrail, unique in the list.
    #[schemars(schema_with = "rules::name_40")]
    pub name: String,
    /// Share of bad events among all events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proportion: Option<Proportion>,
    /// Rare events per request or per second, compared as a ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Share of requests slower than an edge of a histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Pairs: the same request answered by both models, compared by a collector that counts who was wrong alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paired: Option<Paired>,
    /// Gap between groups: the largest difference of their shares of an event, on the candidate's requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairness: Option<Fairness>,
    /// Drift: how far the distribution of the candidate's requests or answers over bins is from that of stable, or from a recorded one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<super::Drift>,
    /// Energy per inference, or carbon per million inferences, of the candidate beside stable at like load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<super::Energy>,
    /// A measured level such as power, averaged over time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gauge: Option<Gauge>,
    /// A hard limit on the worst value of the candidate's pods, without statistics; or, as in "0.5x vs stable", on its share of the worst value of stable's pods, which counts when it lasts for three instants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Gauge>,
    /// A counter that must not move on the candidate at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tripwire: Option<Tripwire>,
    /// Promote only when proven better than this, such as "+2pp vs stable", "1.25x vs stable", "5%", "30W"; "5pp" for fairness, "0.1" for drift, "0.8x vs stable" or "120J" for energy; "at least 1000qps" where less is worse. Not for tripwire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<BoundText>,
    /// Roll back when proven worse than this; same form as target. Default: the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<BoundText>,
    /// The promised win, such as "0.8x vs stable" for proportion, rate and latency, or a level better than target such as "25W" for gauge. Where guardrails have one, at least one win must be shown before promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<BoundText>,
    /// Share of the rollback risk relative to the other guardrails, 1 to 100. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub weight: Option<i32>,
    /// What to do when it cannot be measured: Hold (default), Rollback, or Ignore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_unmeasurable: Option<OnUnmeasurable>,
    /// Stage types in which it counts. Default: all; but Canary and ABTest for a proportion or rate over outcomes, that is, with one of the words correct, incorrect, wrong, accuracy, outcome, feedback, truth, label, conversion, click in its metric or label names; Shadow for paired; Shadow and ABTest for energy, which needs like load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub stages: Vec<super::StageKind>,
    /// Absolute bounds only: also passes while the candidate is not worse than stable. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub or_not_worse_than_stable: Option<bool>,
    /// The same for every value of a label, so that a good average does not hide a bad part. For proportion, latency, and rate with exposure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<Slices>,
    /// Labels that come late, for proportion and rate: nothing counts before it is old enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maturity: Option<Maturity>,
    /// Label that names the workload's pod on exporters that serve many pods, such as exported_pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::label")]
    pub pod_label: Option<String>,
}

/// Parts of the traffic that are judged one by one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slices {
    /// Label of the guardrail's own series whose values are the slices, such as region. The first 16 values have a slice each, all others share one.
    #[schemars(schema_with = "rules::label")]
    pub label: String,
    /// Bound of every slice, in the form of target and no stricter: proven worse in one slice rolls back. Default: critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<BoundText>,
    /// Events of the candidate from which on a slice must be proven, 1 to 1000000. Default 100; a slice with fewer is only reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_samples: Option<i32>,
    /// What a slice with that many events does to the pass while it is not proven: Block (default) or Warn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_unproven: Option<OnUnproven>,
}

/// Labels that come late.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::maturity()))]
pub struct Maturity {
    /// Age by which nearly all labels have come, such as 36h; 1s to 168h. What comes within this time after a change of traffic has no weight, so that the labels of both models are equally old.
    #[schemars(schema_with = "rules::maturity_age")]
    pub age: DurationText,
    /// Share of the labels that have come by then, 50% to 100%. Default 95%; a difference must stay within this part of its bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::quantity::captured_schema")]
    pub captured: Option<ShareText>,
    /// Label of both counters whose value is the Unix second at which a cohort of requests began. Then every cohort is used once, at its end and age, in both arms alike. Not beside slices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::label")]
    pub cohort_label: Option<String>,
    /// How long the requests of a cohort come, 1m to 24h; all cohorts are as long. Default 1h. Only with cohortLabel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::cohort_width")]
    pub cohort_width: Option<DurationText>,
}

/// What a slice does that is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OnUnproven {
    /// The guardrail passes only when it is proven too.
    Block,
    /// It is named in the finding, and the guardrail passes.
    Warn,
}

/// Share of bad events among all events.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::proportion()))]
pub struct Proportion {
    /// Counter of bad events, such as model_predictions_total{correct="false"}.
    pub bad: SelectorText,
    /// Counter of all events, such as model_predictions_total.
    pub total: SelectorText,
    /// Counter of the requests behind the events, such as requests_total, where total counts only those that got a label. The share without a label must be the same in both arms: proven to differ, the guardrail cannot be measured. On the same pods; not beside cohortLabel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<SelectorText>,
}

/// Rare events.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Counter of the events.
    pub events: SelectorText,
    /// Counter of opportunities, such as requests; default: seconds of every pod that reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<SelectorText>,
}

/// Share of slow requests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::latency()))]
pub struct Latency {
    /// Base name of a classic histogram, without _bucket, such as inference_seconds.
    pub histogram: SelectorText,
    /// An edge of the histogram, such as 100ms; a request above it is slow.
    #[schemars(schema_with = "rules::slower_than")]
    pub slower_than: DurationText,
    /// A higher edge, such as 200ms: critical, and slices, then count the requests above this one. Default: those above slowerThan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::slower_than")]
    pub critically_slower_than: Option<DurationText>,
    /// Unit of the edges. Default Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<LatencyUnit>,
}

/// Pairs of answers to the same request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::paired()))]
pub struct Paired {
    /// Counter of pairs in which only the candidate was wrong, such as pairs_total{wrong="candidate"}.
    pub candidate_wrong: SelectorText,
    /// Counter of pairs in which only stable was wrong, such as pairs_total{wrong="stable"}.
    pub stable_wrong: SelectorText,
    /// Counter of all pairs, such as pairs_total.
    pub total: SelectorText,
    /// Label of the counters that names the candidate's revision, on a collector of its own. Default: the counters are on the candidate's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::label")]
    pub revision_label: Option<String>,
}

/// Gap between groups.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::fairness()))]
pub struct Fairness {
    /// Counter of the events whose share is compared, such as model_decisions_total{decision="positive"}.
    pub events: SelectorText,
    /// Counter of all events, such as model_decisions_total.
    pub total: SelectorText,
    /// Label of both counters that names the group.
    #[schemars(schema_with = "rules::label")]
    pub label: String,
    /// The values of the label that are compared with each other, 2 to 6.
    #[schemars(length(min = 2, max = 6), inner(length(min = 1, max = 64)), extend("x-kubernetes-list-type" = "set"))]
    pub groups: Vec<String>,
}

/// Unit of a histogram's edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LatencyUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// A measured level.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gauge {
    /// The gauge, such as DCGM_FI_DEV_POWER_USAGE.
    pub query: SelectorText,
    /// Unit of the gauge as it is written in the bounds, such as W, MiB or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::unit")]
    pub unit: Option<String>,
}

/// A counter that must not move.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tripwire {
    /// The counter, such as model_nonfinite_outputs_total.
    pub query: SelectorText,
}

/// What to do without a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OnUnmeasurable {
    /// Wait; exposure does not rise.
    Hold,
    /// Roll back.
    Rollback,
    /// Leave this guardrail out.
    Ignore,
}
