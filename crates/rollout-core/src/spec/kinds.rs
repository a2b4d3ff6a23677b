//! Kinds of guardrail that look at more than single events: drift of distributions, energy per inference.
//! Does not interpret selectors or bounds; [`crate::validate`] does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;
use crate::quantity::SelectorText;

/// Drift of a distribution over bins.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::drift()))]
pub struct Drift {
    /// Counter with one series per bin, such as model_predictions_total.
    pub bins: SelectorText,
    /// Label whose values are the bins, such as predicted. The first 63 values have a bin each, all others share one. With le the bins are those between the cumulative buckets of a classic histogram, at most 64.
    #[schemars(schema_with = "rules::label")]
    pub label: String,
    /// What the distance is measured by. Default PSI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<DriftMeasure>,
    /// What the candidate's distribution is compared with. Default Stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<DriftReference>,
    /// With reference Recorded: a gauge of the candidate's pods with the same label, the reference share of every bin, such as feature_reference_ratio; cumulative with le, as the buckets are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<SelectorText>,
}

/// What the distance of two distributions is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DriftMeasure {
    /// Population stability index.
    #[serde(rename = "PSI")]
    Psi,
    /// Jensen-Shannon divergence in bits, 0 to 1.
    JensenShannon,
    /// Largest distance of the cumulative shares, 0 to 1; the bins must be numbers.
    KolmogorovSmirnov,
    /// Cramer's V with both sides counted as equally large, 0 to 1.
    CramersV,
}

/// What a distribution is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DriftReference {
    /// What stable does at the same time: drift of predictions, the candidate's own doing.
    Stable,
    /// Recorded shares: drift of data. It is held against the candidate only where the candidate differs from stable too.
    Recorded,
}

/// Energy per inference.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::energy()))]
pub struct Energy {
    /// Counter of consumed energy, such as DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION; podLabel says which of its labels names the pod.
    pub consumption: SelectorText,
    /// Unit of that counter. Default Joules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<EnergyUnit>,
    /// Counter of answered requests on the pods of the arms, such as model_requests_total.
    pub inferences: SelectorText,
    /// Labels of the energy counter that name the device, at most 4. Default [UUID]. A device under two pods cannot be measured; with [] every series is a meter of its pod alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::device_labels")]
    pub device_labels: Option<Vec<String>>,
    /// What a kilowatt-hour emits: the bounds are then in kg of CO2e per million inferences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carbon: Option<Carbon>,
}

/// Unit of an energy counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum EnergyUnit {
    /// Joules.
    Joules,
    /// Millijoules, as the DCGM exporter counts.
    Millijoules,
    /// Watt-hours.
    WattHours,
}

/// What energy emits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Carbon {
    /// Carbon intensity of the electricity, such as 400g/kWh.
    #[schemars(schema_with = "rules::intensity")]
    pub intensity: String,
    /// Power usage effectiveness of the place, 1 to 10, such as "1.2". Default "1".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::pue")]
    pub pue: Option<String>,
}
