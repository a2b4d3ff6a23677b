//! Guardrails on drift: their bins, their measure and what they are compared with.
//! Does not know which bins there are; that shows when they are read.

use anytime_stats::Measure;

use super::guardrail::Site;
use super::{is_label, quoted};
use crate::plan::Drift;
use crate::quantity::Bound;
use crate::spec::{self, DriftMeasure, DriftReference, rules};

/// The drift without its bounds.
pub(super) fn sources(drift: &spec::Drift, site: &mut Site<'_>) -> Option<Drift> {
    let bins = site.selector("drift.bins", &drift.bins);
    site.check(is_label(&drift.label), "drift.label", quoted(&drift.label), rules::LABEL);
    let is_recorded = drift.reference == Some(DriftReference::Recorded);
    let found = if is_recorded { "reference Recorded without recorded" } else { "recorded with reference Stable" };
    site.check(is_recorded == drift.recorded.is_some(), "drift", found, rules::RECORDED);
    let recorded = match &drift.recorded {
        Some(text) => Some(site.selector("drift.recorded", text)?),
        None => None,
    };
    Some(Drift { bins: bins?, label: drift.label.clone(), measure: measure(drift), recorded, target: 0.0, critical: 0.0 })
}

/// Whether a bound is a plain number that the measure can have.
pub(super) fn fits(drift: &spec::Drift, bound: &Bound) -> bool {
    let highest = if measure(drift).is_bounded() { 1.0 } else { f64::INFINITY };
    matches!(bound, Bound::Absolute { value, unit } if unit.is_empty() && *value > 0.0 && *value < highest)
}

fn measure(drift: &spec::Drift) -> Measure {
    match drift.measure.unwrap_or(DriftMeasure::Psi) {
        DriftMeasure::Psi => Measure::Psi,
        DriftMeasure::JensenShannon => Measure::JensenShannon,
        DriftMeasure::KolmogorovSmirnov => Measure::KolmogorovSmirnov,
        DriftMeasure::CramersV => Measure::CramersV,
    }
}
