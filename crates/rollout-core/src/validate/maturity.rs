//! Labels that come late: their age, the part of them that comes at all, and the cohorts that they may name.
//! Whether a stage lasts long enough for them is checked by the parent.

use chrono::TimeDelta;

use super::guardrail::Site;
use super::{is_label, quoted};
use crate::plan::{Cohorts, Maturity};
use crate::quantity::{ShareText, duration_text, ranges};
use crate::spec::{self, rules};

/// Share of the labels that have come at the age of maturity, when nothing else is said.
const DEFAULT_CAPTURED: f64 = 0.95;
/// How long the requests of a cohort come, when nothing else is said.
const DEFAULT_WIDTH: TimeDelta = TimeDelta::hours(1);
/// Cohorts that may wait for their age: each has its counters in the checkpoint.
const MOST_COHORTS: i64 = 100;

pub(super) fn planned_maturity(maturity: &spec::Maturity, typed: &spec::Guardrail, site: &mut Site) -> Option<Maturity> {
    let fits = typed.proportion.is_some() || typed.rate.is_some();
    site.check(fits, "maturity", "maturity beside another kind", rules::MATURING);
    let index = site.index;
    let age = site.problems.duration(format_args!("guardrails[{index}].maturity.age"), &maturity.age, ranges::MATURITY_AGE);
    let captured = match &maturity.captured {
        None => Some(DEFAULT_CAPTURED),
        Some(text) => {
            let read = text.captured().ok();
            site.check(read.is_some(), "maturity.captured", quoted(text.as_str()), ShareText::expected_captured());
            read
        }
    };
    let cohorts = planned_cohorts(maturity, age, typed, site);
    Some(Maturity { age: age?, captured: captured?, cohorts: cohorts.ok()? })
}

/// Cohorts, when labels name them; `Err` when what they name cannot be read.
fn planned_cohorts(
    maturity: &spec::Maturity,
    age: Option<TimeDelta>,
    typed: &spec::Guardrail,
    site: &mut Site,
) -> Result<Option<Cohorts>, ()> {
    let index = site.index;
    let width = match &maturity.cohort_width {
        None => Some(DEFAULT_WIDTH),
        Some(text) => site.problems.duration(format_args!("guardrails[{index}].maturity.cohortWidth"), text, ranges::COHORT_WIDTH),
    };
    let Some(label) = &maturity.cohort_label else {
        let width = maturity.cohort_width.as_ref().map_or_else(String::new, |width| quoted(width.as_str()));
        site.check(maturity.cohort_width.is_none(), "maturity.cohortWidth", width, "cohortLabel beside it");
        return Ok(None);
    };
    site.check(is_label(label), "maturity.cohortLabel", quoted(label), rules::LABEL);
    site.check(typed.slices.is_none(), "slices", "slices and cohortLabel", rules::UNSLICED);
    let counted = typed.proportion.is_some() || typed.rate.as_ref().is_none_or(|rate| rate.exposure.is_some());
    site.check(counted, "maturity.cohortLabel", "cohortLabel beside rate without exposure", rules::COUNTED);
    let width = width.ok_or(())?;
    if let Some(age) = age {
        let fits = age.num_seconds() <= width.num_seconds() * MOST_COHORTS;
        site.check(
            fits,
            "maturity.age",
            quoted(maturity.age.as_str()),
            format!("at most {MOST_COHORTS} times cohortWidth, {}", duration_text(width)),
        );
    }
    Ok(Some(Cohorts { label: label.clone(), width }))
}
