//! What would make a plan faster: one change at a time, each with the time it would take then. And the smallest margin that a time allows.
//! Recommends nothing: whether a wider margin is acceptable is for people to say.

use chrono::TimeDelta;

use super::{Assumptions, Forecast, Span, forecast};
use crate::plan::{CountBound, Direction, EnergyBound, LevelBound, Paired, Plan, Test};
use crate::spec::StageKind;
use crate::weights::Exposure;

/// Shares that are tried for the last step.
const SHARES: [i32; 2] = [25, 50];
/// Risk that is tried when the plan's is smaller.
const RISK: f64 = 0.1;

/// One change and what it brings.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// What is changed, as an imperative without a full stop.
    pub change: String,
    /// Time of all stages together then.
    pub time: Option<Span>,
}

/// Changes that shorten the plan, best first; empty when its steps alone take the time.
pub fn ways(plan: &Plan, assumptions: &Assumptions) -> Vec<Way> {
    let now = forecast(plan, assumptions);
    let Some(slow) = slowest(&now) else { return Vec::new() };
    let (stage, guardrail) = (slow.0.to_owned(), slow.1.to_owned());
    let mut tried = Vec::new();
    if let Some((wider, text)) = widened(plan, &guardrail) {
        tried.push((format!("widen the target of {guardrail} to {text}"), forecast(&wider, assumptions)));
    }
    for share in more_share(plan, assumptions, &stage) {
        let more = Assumptions { share: Some(share), ..assumptions.clone() };
        tried.push((format!("end stage {stage} at {share} of users"), forecast(plan, &more)));
    }
    if plan.false_promotion < RISK {
        let risky = Plan { false_promotion: RISK, ..plan.clone() };
        tried.push((format!("accept a false promotion in {:.0}% of such rollouts", RISK * 100.0), forecast(&risky, assumptions)));
    }
    if let Some((elsewhere, kinds)) = left_out(plan, &stage, &guardrail) {
        tried.push((format!("let {guardrail} count only in {kinds} (stages: [{kinds}])"), forecast(&elsewhere, assumptions)));
    }
    if plan.guardrails.len() > 1 {
        let mut fewer = plan.clone();
        fewer.guardrails.retain(|g| g.name != guardrail);
        tried.push((format!("do without guardrail {guardrail}"), forecast(&fewer, assumptions)));
    }
    let before = now.total();
    let mut ways: Vec<Way> = tried.into_iter().map(|(change, then)| Way { change, time: then.total() }).collect();
    ways.retain(|way| match (way.time, before) {
        (Some(then), Some(now)) => then.usual < now.usual || then.longest < now.longest,
        (Some(_), None) => true,
        (None, _) => false,
    });
    ways.sort_by_key(|way| way.time.map_or(TimeDelta::MAX, |time| time.longest));
    ways
}

/// Name of the stage that takes longest, and of the guardrail that decides it.
fn slowest(forecast: &Forecast) -> Option<(&str, &str)> {
    let decided = forecast.stages.iter().filter_map(|stage| Some((stage, stage.decides.as_deref()?)));
    let slow = decided.max_by_key(|(stage, _)| stage.time.map_or(TimeDelta::MAX, |time| time.longest));
    slow.map(|(stage, guardrail)| (stage.name.as_str(), guardrail))
}

fn more_share(plan: &Plan, assumptions: &Assumptions, stage: &str) -> Vec<Exposure> {
    let found = plan.stages.iter().find(|s| s.name == stage && s.kind != StageKind::Shadow);
    let last = found.and_then(|stage| super::shares(stage, assumptions).last());
    SHARES.into_iter().filter_map(Exposure::new).filter(|share| last.is_some_and(|last| *share > last)).collect()
}

/// The plan in which a guardrail does not count in the kind of one stage, and the kinds that are left, when others are.
fn left_out(plan: &Plan, stage: &str, guardrail: &str) -> Option<(Plan, String)> {
    let mut plan = plan.clone();
    let kind = plan.stages.iter().find(|s| s.name == stage)?.kind;
    let guardrail = plan.guardrails.iter_mut().find(|g| g.name == guardrail)?;
    guardrail.stages.retain(|counts| *counts != kind && plan.stages.iter().any(|s| s.kind == *counts));
    let kinds = guardrail.stages.iter().map(|kind| format!("{kind:?}")).collect::<Vec<_>>().join(", ");
    (!kinds.is_empty()).then_some((plan, kinds))
}

/// The plan with twice the margin of one guardrail, and the target as it would be written.
fn widened(plan: &Plan, name: &str) -> Option<(Plan, String)> {
    let mut plan = plan.clone();
    let guardrail = plan.guardrails.iter_mut().find(|guardrail| guardrail.name == name)?;
    let text = match &mut guardrail.test {
        Test::Counts { target, .. } => {
            *target = scaled(*target, 2.0)?;
            crate::judge::count_bound(*target)
        }
        Test::Level { target, unit, direction, .. } => {
            match (&mut *target, *direction) {
                (LevelBound::Difference { margin, .. }, _) => *margin *= 2.0,
                (LevelBound::Absolute(limit), Direction::AtMost) => *limit *= 1.25,
                (LevelBound::Absolute(limit), Direction::AtLeast) => *limit *= 0.8,
            }
            crate::judge::level_bound(*target, unit, *direction)
        }
        Test::Paired(paired) => {
            paired.target = Some(paired.target * 2.0).filter(|target| *target < 1.0)?;
            crate::judge::count_bound(Paired::bound(paired.target))
        }
        Test::Gap(gap) => {
            gap.target = Some(gap.target * 2.0).filter(|target| *target < 1.0)?;
            crate::judge::gap_bound(gap.target)
        }
        Test::Energy(energy) => {
            match &mut energy.target {
                EnergyBound::Ratio(factor) => *factor *= 1.1,
                EnergyBound::Absolute(limit) => *limit *= 1.25,
            }
            crate::judge::energy_bound(energy.target, energy.unit())
        }
        Test::Drift(drift) => {
            let wider = drift.target * 2.0;
            drift.target = Some(wider).filter(|target| !drift.measure.is_bounded() || *target < 1.0)?;
            crate::judge::plain(drift.target)
        }
        Test::Limit { .. } | Test::Tripwire { .. } => return None,
    };
    Some((plan, text))
}

/// A bound with `factor` times the room; `None` beyond its domain.
fn scaled(bound: CountBound, factor: f64) -> Option<CountBound> {
    match bound {
        CountBound::Difference { margin, versus } => {
            (margin * factor < 1.0).then_some(CountBound::Difference { margin: margin * factor, versus })
        }
        CountBound::Ratio { factor: ratio, versus } => Some(CountBound::Ratio { factor: 1.0 + (ratio - 1.0) * factor, versus }),
        CountBound::Absolute(limit) => (limit * factor < 1.0).then_some(CountBound::Absolute(limit * factor)),
    }
}

/// The smallest margin, as a bound is written, with which `guardrail` is proven within `limit` in the last stage in which it counts, in nineteen of
/// twenty runs; `None` for guardrails without a margin on counts, and when no margin is wide enough.
pub fn smallest_margin(plan: &Plan, assumptions: &Assumptions, guardrail: &str, limit: TimeDelta) -> Option<String> {
    let index = plan.guardrails.iter().position(|g| g.name == guardrail)?;
    let Test::Counts { target, .. } = plan.guardrails.get(index)?.test else { return None };
    let longest = |bound: CountBound| {
        let mut plan = plan.clone();
        if let Some(Test::Counts { target, .. }) = plan.guardrails.get_mut(index).map(|g| &mut g.test) {
            *target = bound;
        }
        let stages = forecast(&plan, assumptions).stages;
        let last = stages.iter().rev().find_map(|stage| stage.guardrails.iter().find(|g| g.name == guardrail))?;
        last.time.map(|time| time.longest)
    };
    // Absolute bounds are about stable's rate, which a factor of the bound does not know.
    if matches!(target, CountBound::Absolute(_)) {
        return None;
    }
    let fits = |factor: f64| scaled(target, factor).and_then(longest).is_some_and(|time| time <= limit);
    let (mut low, mut high) = (0.0, 1.0);
    while !fits(high) {
        (low, high) = (high, high * 2.0);
        if high > 1e3 {
            return None;
        }
    }
    // Three figures are more than a margin needs.
    for _ in 0..12 {
        let middle = f64::midpoint(low, high);
        if fits(middle) { high = middle } else { low = middle }
    }
    scaled(target, high).map(crate::judge::count_bound_short)
}
