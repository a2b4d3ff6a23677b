//! Bounds of one guardrail: in the form of its kind, the critical one no stricter than the target, and what they mean in the plan.
//! Knows no metric and no stage.

use super::guardrail::Site;
use super::{drift, energy, quoted};
use crate::plan::{CountBound, Direction, LevelBound, LimitBound, Reference};
use crate::quantity::Bound;
use crate::spec::{self, rules};

/// Target and critical bound, both in the form that the kind takes.
pub(super) fn bounds(typed: &spec::Guardrail, site: &mut Site) -> Option<(Bound, Bound)> {
    let Some(target_text) = &typed.target else {
        site.add("target", "none", "a bound, such as +2pp vs stable, 1.25x vs stable, 5% or 30W");
        if let Some(critical) = &typed.critical {
            site.add("critical", format!("{} without target", quoted(critical.as_str())), "a target beside it");
        }
        return None;
    };
    let target = target_text.parse().ok().filter(|bound| fits(typed, bound));
    site.check(target.is_some(), "target", quoted(target_text.as_str()), forms(typed));
    let critical = match &typed.critical {
        None => target.clone(),
        Some(text) => {
            let target = target.as_ref()?;
            let critical = text.parse().ok().filter(|bound| fits(typed, bound) && is_no_stricter(bound, target));
            let side = if direction(target) == Direction::AtMost { "least" } else { "most" };
            let expected = format!("the form of target and at {side} its value, {}", quoted(target_text.as_str()));
            site.check(critical.is_some(), "critical", quoted(text.as_str()), expected);
            critical
        }
    };
    Some((target?, critical?))
}

/// Whether the kind of `typed` takes a bound like this.
pub(super) fn fits(typed: &spec::Guardrail, bound: &Bound) -> bool {
    if typed.rate.is_some() {
        return matches!(bound, Bound::Ratio { factor, .. } if *factor >= 1.0);
    }
    if typed.paired.is_some() {
        return matches!(bound, Bound::Difference { margin, unit, versus: Reference::Stable } if unit == "pp" && *margin < 100.0);
    }
    if typed.fairness.is_some() {
        return matches!(bound, Bound::Absolute { value, unit } if unit == "pp" && *value > 0.0 && *value < 100.0);
    }
    if let Some(drift) = &typed.drift {
        return drift::fits(drift, bound);
    }
    if let Some(energy) = &typed.energy {
        return energy::fits(energy, bound);
    }
    if let Some(gauge) = typed.gauge.as_ref().or(typed.limit.as_ref()) {
        let own = gauge.unit.as_deref().unwrap_or_default();
        return match bound {
            Bound::Absolute { unit, .. } | Bound::AtLeast { unit, .. } => unit == own,
            Bound::Difference { unit, .. } => typed.limit.is_none() && unit == difference_unit(own),
            Bound::Ratio { .. } | Bound::RatioAtLeast { .. } => typed.limit.is_some(),
        };
    }
    match bound {
        Bound::Absolute { value, unit } => unit == "%" && *value > 0.0 && *value < 100.0,
        Bound::Difference { margin, unit, .. } => unit == "pp" && *margin < 100.0,
        Bound::Ratio { factor, .. } => *factor >= 1.0,
        Bound::AtLeast { .. } | Bound::RatioAtLeast { .. } => false,
    }
}

/// Percent differ by percentage points.
pub(super) fn difference_unit(unit: &str) -> &str {
    if unit == "%" { "pp" } else { unit }
}

pub(super) fn forms(typed: &spec::Guardrail) -> String {
    if typed.rate.is_some() {
        return rules::RATE_BOUND.to_owned();
    }
    if typed.paired.is_some() {
        return rules::PAIRED_BOUND.to_owned();
    }
    if typed.fairness.is_some() {
        return rules::GAP_BOUND.to_owned();
    }
    if typed.drift.is_some() {
        return rules::DRIFT_BOUND.to_owned();
    }
    if typed.energy.is_some() {
        return rules::ENERGY_BOUND.to_owned();
    }
    match (&typed.gauge, &typed.limit) {
        (Some(gauge), _) => {
            let unit = gauge.unit.as_deref().unwrap_or_default();
            let difference = difference_unit(unit);
            format!("\"30{unit}\", \"at least 30{unit}\" or \"+2{difference} vs stable\", in the unit of the gauge; stable or baseline")
        }
        (None, Some(limit)) => {
            let unit = limit.unit.as_deref().unwrap_or_default();
            format!("\"512{unit}\", \"at least 512{unit}\" or \"0.5x vs stable\", in the unit of the limit; stable or baseline")
        }
        (None, None) => rules::COUNT_BOUND.to_owned(),
    }
}

pub(super) fn is_no_stricter(critical: &Bound, target: &Bound) -> bool {
    match (critical, target) {
        (Bound::Difference { margin, versus, .. }, Bound::Difference { margin: least, versus: same, .. }) => {
            margin >= least && versus == same
        }
        (Bound::Ratio { factor, versus }, Bound::Ratio { factor: least, versus: same }) => factor >= least && versus == same,
        (Bound::Absolute { value, .. }, Bound::Absolute { value: least, .. }) => value >= least,
        (Bound::RatioAtLeast { factor, versus }, Bound::RatioAtLeast { factor: most, versus: same }) => factor <= most && versus == same,
        (Bound::AtLeast { value, .. }, Bound::AtLeast { value: most, .. }) => value <= most,
        _ => false,
    }
}

pub(super) fn count_bound(bound: &Bound) -> Option<CountBound> {
    match bound {
        Bound::Difference { margin, versus, .. } => Some(CountBound::Difference { margin: margin / 100.0, versus: *versus }),
        Bound::Ratio { factor, versus } => Some(CountBound::Ratio { factor: *factor, versus: *versus }),
        Bound::Absolute { value, .. } => Some(CountBound::Absolute(value / 100.0)),
        Bound::AtLeast { .. } | Bound::RatioAtLeast { .. } => None,
    }
}

/// Which side of a bound is good.
pub(super) const fn direction(bound: &Bound) -> Direction {
    match bound {
        Bound::AtLeast { .. } | Bound::RatioAtLeast { .. } => Direction::AtLeast,
        Bound::Difference { .. } | Bound::Ratio { .. } | Bound::Absolute { .. } => Direction::AtMost,
    }
}

pub(super) fn limit_bound(bound: &Bound) -> Option<LimitBound> {
    match bound {
        Bound::Absolute { value, .. } | Bound::AtLeast { value, .. } => Some(LimitBound::Absolute(*value)),
        Bound::Ratio { factor, versus } | Bound::RatioAtLeast { factor, versus } => {
            Some(LimitBound::Ratio { factor: *factor, versus: *versus })
        }
        Bound::Difference { .. } => None,
    }
}

pub(super) fn level_bound(bound: &Bound) -> Option<LevelBound> {
    match bound {
        Bound::Difference { margin, versus, .. } => Some(LevelBound::Difference { margin: *margin, versus: *versus }),
        Bound::Absolute { value, .. } | Bound::AtLeast { value, .. } => Some(LevelBound::Absolute(*value)),
        Bound::Ratio { .. } | Bound::RatioAtLeast { .. } => None,
    }
}

/// The margin of a difference in percentage points, as a fraction.
pub(super) fn margin(bound: &Bound) -> Option<f64> {
    match bound {
        Bound::Difference { margin, .. } => Some(margin / 100.0),
        _ => None,
    }
}

pub(super) fn absolute(bound: &Bound) -> Option<f64> {
    match bound {
        Bound::Absolute { value, .. } => Some(*value),
        _ => None,
    }
}
