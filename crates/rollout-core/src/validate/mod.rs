//! From what the user typed to what it means: one complete [`Plan`], or every problem at once.
//! Does not read the cluster or Prometheus; whether an edge of a histogram or a Service exists shows later.

mod bounds;
mod drift;
mod energy;
mod guardrail;
mod hash;
mod maturity;
mod policy;
mod rollout;
mod template;
#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use guardrail::stages_of;
pub use template::template;

use crate::plan::{CountBound, Guardrail, LevelBound, Maturity, Plan, Reference, Test, Win};
use crate::quantity::{DurationRange, DurationText, SelectorText, duration_text};
use crate::spec::{PolicySpec, RolloutSpec, StageKind};

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// Path of the field, such as `spec.stages[1].percent`; paths in the policy start with `policy.spec`.
    pub field: String,
    /// The value found, quoted where it is a value, or what stands there instead, such as `none`.
    pub found: String,
    /// The form or range expected.
    pub expected: String,
    /// The three of them in one sentence.
    pub message: String,
}

impl Problem {
    /// A problem of `field`.
    pub fn new(field: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        let (field, found, expected) = (field.into(), found.into(), expected.into());
        let message = format!("{field}: found {found}, expected {expected}");
        Self { field, found, expected, message }
    }
}

/// All problems found so far, below one path.
struct Problems {
    root: &'static str,
    list: Vec<Problem>,
}

impl Problems {
    const fn below(root: &'static str) -> Self {
        Self { root, list: Vec::new() }
    }

    fn add(&mut self, field: impl fmt::Display, found: impl Into<String>, expected: impl Into<String>) {
        self.list.push(Problem::new(format!("{}.{field}", self.root), found, expected));
    }

    /// Adds the problem unless `good`.
    fn check(&mut self, good: bool, field: impl fmt::Display, found: impl Into<String>, expected: impl Into<String>) {
        if !good {
            self.add(field, found, expected);
        }
    }

    fn duration(&mut self, field: impl fmt::Display, text: &DurationText, range: DurationRange) -> Option<chrono::TimeDelta> {
        let read = range.check(text).ok();
        self.check(read.is_some(), field, quoted(text.as_str()), range.expected());
        read
    }

    fn selector(&mut self, field: impl fmt::Display, text: &SelectorText) -> Option<crate::plan::Selector> {
        let read = text.parse().ok();
        self.check(read.is_some(), field, quoted(text.as_str()), SelectorText::EXPECTED);
        read
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// What `spec` and `policy` mean together, with every default filled in.
///
/// # Errors
/// Every problem of both, not only the first.
pub fn validate(spec: &RolloutSpec, policy: &PolicySpec) -> Result<Plan, Vec<Problem>> {
    let mut problems = Problems::below("policy.spec");
    let measured = policy::resolve(policy, &mut problems);
    let mut own = Problems::below("spec");
    let wanted = rollout::resolve(spec, &mut own);
    problems.list.splice(0..0, own.list);
    let (Some(measured), Some(wanted)) = (measured, wanted) else { return Err(problems.list) };

    let mut plan = Plan {
        hash: String::new(),
        stages: wanted.stages.iter().map(|stage| stage.clone().complete(measured.window)).collect(),
        guardrails: measured.guardrails,
        false_promotion: measured.false_promotion,
        false_rollback: measured.false_rollback,
        window: measured.window,
        interval: measured.interval,
        settle: measured.settle,
        requests: measured.requests,
        on_inconclusive: wanted.on_inconclusive,
        probation: wanted.probation,
        parked: wanted.parked,
        ready_when: wanted.ready_when,
        progress_deadline: wanted.progress_deadline,
        rollback_window: wanted.rollback_window,
        baseline_matchers: wanted.baseline_matchers,
        candidate_matchers: wanted.candidate_matchers,
    };
    check_times(&plan, &mut problems);
    check_maturity(&plan, &mut problems);
    check_coverage(&plan, policy, &mut problems);
    if spec.baseline.is_none() {
        check_references(&plan, policy, &mut problems);
    }
    plan.hash = hash::of(&plan);
    if problems.list.is_empty() { Ok(plan) } else { Err(problems.list) }
}

/// Checks a policy alone; paths start with `spec`.
///
/// # Errors
/// Every problem, not only the first.
pub fn validate_policy(policy: &PolicySpec) -> Result<(), Vec<Problem>> {
    let mut problems = Problems::below("spec");
    policy::resolve(policy, &mut problems);
    if problems.list.is_empty() { Ok(()) } else { Err(problems.list) }
}

/// Checks a rollout alone; paths start with `spec`. What depends on its policy is left to [`validate`].
///
/// # Errors
/// Every problem, not only the first.
pub fn validate_rollout(spec: &RolloutSpec) -> Result<(), Vec<Problem>> {
    let mut problems = Problems::below("spec");
    rollout::resolve(spec, &mut problems);
    if problems.list.is_empty() { Ok(()) } else { Err(problems.list) }
}

/// A stage must be able to end with proof before its time is over.
fn check_times(plan: &Plan, problems: &mut Problems) {
    for (index, stage) in plan.stages.iter().enumerate() {
        let steps = i32::try_from(stage.steps.len()).unwrap_or(i32::MAX);
        let needed = (stage.step_min * steps).max(stage.min).max(plan.window * 2);
        if needed > stage.max {
            problems.list.push(Problem::new(
                format!("spec.stages[{index}].maxDuration"),
                quoted(&duration_text(stage.max)),
                format!(
                    "at least {}: the longest of minDuration {}, stepMinDuration {} for each of {steps} steps, and two windows of {}",
                    duration_text(needed),
                    duration_text(stage.min),
                    duration_text(stage.step_min),
                    duration_text(plan.window)
                ),
            ));
        }
    }
}

/// A stage must last until labels are old enough, and long enough after that for two windows.
fn check_maturity(plan: &Plan, problems: &mut Problems) {
    for (index, stage) in plan.stages.iter().enumerate() {
        let counting = plan.guardrails.iter().filter(|guardrail| guardrail.stages.contains(&stage.kind));
        let oldest = counting
            .filter_map(|guardrail| Some((guardrail, guardrail.maturity.as_ref()?)))
            .max_by_key(|(guardrail, maturity)| mature_after(guardrail, maturity, plan));
        let Some((guardrail, maturity)) = oldest else { continue };
        let needed = mature_after(guardrail, maturity, plan);
        if needed > stage.max {
            let then = match &maturity.cohorts {
                None if guardrail.requests.is_some() => {
                    format!("are compared with their requests at twice that, in two windows of {}", duration_text(plan.window))
                }
                None => format!("two windows of {}", duration_text(plan.window)),
                Some(cohorts) => {
                    format!("the first cohorts of {} end within {}", duration_text(cohorts.width), duration_text(cohorts.width * 4))
                }
            };
            problems.list.push(Problem::new(
                format!("spec.stages[{index}].maxDuration"),
                quoted(&duration_text(stage.max)),
                format!(
                    "at least {}: labels of {} count at an age of {}, and {then}",
                    duration_text(needed),
                    guardrail.name,
                    duration_text(maturity.age),
                ),
            ));
        }
    }
}

/// The least time of a stage in which late labels are proven: their age and two windows; or the rest of the cohort that is lost to the change of
/// traffic, one that only shows what stable does, and two more. Labels that are compared with their requests need their age twice.
fn mature_after(guardrail: &Guardrail, maturity: &Maturity, plan: &Plan) -> chrono::TimeDelta {
    let age = if guardrail.requests.is_some() { maturity.age * 2 } else { maturity.age };
    age + maturity.cohorts.as_ref().map_or(plan.window * 2, |cohorts| cohorts.width * 4)
}

/// Every guardrail must count somewhere, and every stage that exposes users must have one.
fn check_coverage(plan: &Plan, policy: &PolicySpec, problems: &mut Problems) {
    let inherited = plan.guardrails.len().saturating_sub(policy.guardrails.len());
    for (index, guardrail) in plan.guardrails.iter().enumerate() {
        if !plan.stages.iter().any(|stage| guardrail.stages.contains(&stage.kind)) {
            let (found, name) = (kinds(&guardrail.stages), quoted(&guardrail.name));
            let expected = format!("one that the rollout has: {}", kinds(&plan.stages.iter().map(|stage| stage.kind).collect::<Vec<_>>()));
            match index.checked_sub(inherited) {
                Some(own) => problems.add(format_args!("guardrails[{own}].stages"), format!("{found} for {name}"), expected),
                None => problems.add(
                    "profile",
                    format!("{found} for {name} of the profile"),
                    format!("{expected}; or the guardrail left out with without: [{}]", guardrail.name),
                ),
            }
        }
    }
    for (index, stage) in plan.stages.iter().enumerate() {
        if stage.kind != StageKind::Shadow && !plan.guardrails.iter().any(|guardrail| guardrail.stages.contains(&stage.kind)) {
            problems.list.push(Problem::new(
                format!("spec.stages[{index}].type"),
                format!("{} without a guardrail that counts in it", kinds(&[stage.kind])),
                "at least one guardrail of the policy to count in every stage that exposes users",
            ));
        }
    }
}

/// Without a baseline nothing can be compared with it.
fn check_references(plan: &Plan, policy: &PolicySpec, problems: &mut Problems) {
    // A profile compares with stable alone, so that it fits every rollout.
    let inherited = plan.guardrails.len().saturating_sub(policy.guardrails.len());
    for (index, (guardrail, typed)) in plan.guardrails.iter().skip(inherited).zip(&policy.guardrails).enumerate() {
        let (target, critical) = references(guardrail);
        let win = matches!(guardrail.win, Some(Win::Ratio { versus: Reference::Baseline, .. }));
        let win_text = typed.expect.as_ref().filter(|_| win);
        let target_text = typed.target.as_ref().filter(|_| target == Some(Reference::Baseline));
        let critical_text = typed.critical.as_ref().filter(|_| critical == Some(Reference::Baseline));
        for (field, text) in [("target", target_text), ("critical", critical_text), ("expect", win_text)] {
            if let Some(text) = text {
                problems.add(
                    format_args!("guardrails[{index}].{field}"),
                    quoted(text.as_str()),
                    "\"vs stable\", or spec.baseline in the rollout to compare with",
                );
            }
        }
    }
}

fn references(guardrail: &Guardrail) -> (Option<Reference>, Option<Reference>) {
    let of_count = |bound: &CountBound| match bound {
        CountBound::Difference { versus, .. } | CountBound::Ratio { versus, .. } => Some(*versus),
        CountBound::Absolute(_) => None,
    };
    let of_level = |bound: &LevelBound| match bound {
        LevelBound::Difference { versus, .. } => Some(*versus),
        LevelBound::Absolute(_) => None,
    };
    match &guardrail.test {
        Test::Counts { target, critical, .. } => (of_count(target), of_count(critical)),
        Test::Level { target, critical, .. } => (of_level(target), of_level(critical)),
        Test::Limit { target, critical, .. } => (target.versus(), critical.versus()),
        Test::Paired(_) | Test::Gap(_) | Test::Drift(_) | Test::Energy(_) | Test::Tripwire { .. } => (None, None),
    }
}

fn kinds(stages: &[StageKind]) -> String {
    stages.iter().map(|kind| format!("{kind:?}")).collect::<Vec<_>>().join(", ")
}

/// Whether `text` is a DNS label of at most `longest` characters that starts with a letter.
fn is_name(text: &str, longest: usize) -> bool {
    text.len() <= longest
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Whether `text` is a label that the user may name.
fn is_label(text: &str) -> bool {
    text != "espalier_dev_revision"
        && text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether `text` can name a header or a cookie.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
