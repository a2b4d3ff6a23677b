//! Guardrails on energy per inference: their counters, devices and what a kilowatt-hour emits.
//! Does not know which devices there are; that shows when they are read.

use super::guardrail::Site;
use super::{is_label, quoted};
use crate::plan::{Energy, EnergyBound, Reference};
use crate::quantity::{Bound, split_number};
use crate::spec::{self, Carbon, EnergyUnit, rules};

/// Joules in a kilowatt-hour, over the grams in a kilogram, over the inferences that bounds are per.
const JOULES_PER_MILLION: f64 = 3_600_000.0 * 1_000.0 / 1_000_000.0;

/// The energy without its bounds.
pub(super) fn sources(energy: &spec::Energy, site: &mut Site<'_>) -> Option<Energy> {
    let consumption = site.selector("energy.consumption", &energy.consumption);
    let inferences = site.selector("energy.inferences", &energy.inferences);
    let found = format!("{} as energy and as inferences", quoted(energy.consumption.as_str()));
    site.check(consumption.is_none() || consumption != inferences, "energy.consumption", found, "two different counters");
    let labels = energy.device_labels.clone().unwrap_or_else(|| vec!["UUID".to_owned()]);
    for (index, label) in labels.iter().enumerate() {
        site.check(is_label(label), &format!("energy.deviceLabels[{index}]"), quoted(label), rules::LABEL);
    }
    let different: std::collections::BTreeSet<&String> = labels.iter().collect();
    let is_good = labels.len() <= 4 && different.len() == labels.len();
    site.check(is_good, "energy.deviceLabels", format!("[{}]", labels.join(", ")), rules::DEVICE_LABELS);
    let carbon = match &energy.carbon {
        Some(carbon) => Some(carbon_factor(carbon, site)?),
        None => None,
    };
    let joules = match energy.unit.unwrap_or(EnergyUnit::Joules) {
        EnergyUnit::Joules => 1.0,
        EnergyUnit::Millijoules => 1e-3,
        EnergyUnit::WattHours => 3_600.0,
    };
    let none = EnergyBound::Ratio(1.0);
    let (consumption, inferences) = (consumption?, inferences?);
    Some(Energy { consumption, joules, inferences, device_labels: labels, carbon, target: none, critical: none })
}

/// Kilograms per million inferences for one joule per inference.
fn carbon_factor(carbon: &Carbon, site: &mut Site<'_>) -> Option<f64> {
    let grams = match split_number(&carbon.intensity) {
        Some((number, "g/kWh")) if number > 0.0 => Some(number),
        _ => None,
    };
    site.check(grams.is_some(), "energy.carbon.intensity", quoted(&carbon.intensity), rules::INTENSITY);
    let text = carbon.pue.as_deref().unwrap_or("1");
    let pue = match split_number(text) {
        Some((number, "")) if (1.0..=10.0).contains(&number) => Some(number),
        _ => None,
    };
    site.check(pue.is_some(), "energy.carbon.pue", quoted(text), rules::PUE);
    Some(grams? * pue? / JOULES_PER_MILLION)
}

/// Whether a bound is a ratio to stable or an amount in the guardrail's own unit.
pub(super) fn fits(energy: &spec::Energy, bound: &Bound) -> bool {
    let own = if energy.carbon.is_some() { "kg" } else { "J" };
    match bound {
        Bound::Ratio { factor, versus: Reference::Stable } => *factor > 0.0,
        Bound::Absolute { value, unit } => unit == own && *value > 0.0,
        _ => false,
    }
}

pub(super) fn bound(bound: &Bound) -> Option<EnergyBound> {
    match bound {
        Bound::Ratio { factor, .. } => Some(EnergyBound::Ratio(*factor)),
        Bound::Absolute { value, .. } => Some(EnergyBound::Absolute(*value)),
        Bound::Difference { .. } | Bound::AtLeast { .. } | Bound::RatioAtLeast { .. } => None,
    }
}
