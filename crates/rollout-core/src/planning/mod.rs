//! Requests and time that a plan needs at a given traffic, before anything runs: per stage, step and guardrail, and which guardrail decides.
//! A forecast for people; no decision depends on it. Fixed-sample sizes from `anytime_stats::planning`, allowed twice that for a proof that looks
//! at every window; sums over the steps of a stage, whose proof starts anew.

mod need;
#[cfg(test)]
mod tests;
mod ways;

use std::collections::BTreeMap;

use anytime_stats::planning::{Precision, SEQUENTIAL_FACTOR};
use chrono::TimeDelta;

use crate::evidence::WINDOWS_PER_BATCH;
use crate::judge::{STEP_REQUESTS, STEP_WINDOWS};
use crate::plan::{Guardrail, Maturity, Plan, PlannedStage};
use crate::spec::StageKind;
use crate::weights::Exposure;

pub use need::{Basis, Need};
pub use ways::{Way, smallest_margin, ways};

/// Windows that a proof on counts takes at least: no window may bring more than a third of it.
const PROOF_WINDOWS: f64 = 3.0;

/// What is assumed of traffic and models.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumptions {
    /// Requests per second to the route in all, above 0.
    pub requests_per_second: f64,
    /// Exposure in the last step of every stage that exposes users, instead of the plan's.
    pub share: Option<Exposure>,
    /// What stable does today, by guardrail; what is missing is assumed and said to be.
    pub bases: BTreeMap<String, Base>,
    /// How much of its margin the candidate really uses up, 0 (as good as stable) to below 1.
    pub loss: f64,
    /// Variance of counts over that of independent requests, at least 1.
    pub overdispersion: f64,
    /// Pods of each arm, when that is known; 1 where it matters and is not.
    pub pods: Option<u32>,
    /// Probability in (0.5, 1) that such a candidate passes all guardrails of a stage.
    pub power: f64,
}

impl Assumptions {
    /// A candidate as good as stable, independent requests, a power of 90 %.
    pub fn at(requests_per_second: f64) -> Self {
        Self { requests_per_second, share: None, bases: BTreeMap::new(), loss: 0.0, overdispersion: 1.0, pods: None, power: 0.9 }
    }
}

/// What stable does today on one guardrail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Base {
    /// Fraction of bad events among all, 0 to 1.
    Share(f64),
    /// Events per second and pod.
    PerSecond(f64),
    /// Bins of a distribution, 2 to 64.
    Bins(u32),
    /// A gauge in its unit: its level, and the standard deviation of its mean over five windows.
    Level {
        /// Its level.
        level: f64,
        /// Its standard deviation, if it is known.
        spread: Option<f64>,
    },
}

impl Base {
    /// The share, the rate, the number of bins or the level.
    fn value(self) -> f64 {
        match self {
            Self::Bins(bins) => f64::from(bins),
            Self::Share(value) | Self::PerSecond(value) | Self::Level { level: value, .. } => value,
        }
    }
}

/// What a plan needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// In the plan's order.
    pub stages: Vec<StageForecast>,
}

impl Forecast {
    /// Usual and longest time of all stages together; `None` when one of them cannot end with a proof.
    pub fn total(&self) -> Option<Span> {
        self.stages.iter().map(|stage| stage.time).try_fold(Span::default(), |sum, time| Some(sum + time?))
    }

    /// Stages that may run out of time before their proof is complete.
    pub fn underpowered(&self) -> impl Iterator<Item = &StageForecast> {
        self.stages.iter().filter(|stage| !stage.fits())
    }
}

/// A usual time and one that nineteen of twenty proofs keep.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Span {
    /// Time of the fixed sample: more than half of all proofs are done before.
    pub usual: TimeDelta,
    /// Time of twice the fixed sample: what `maxDuration` should allow.
    pub longest: TimeDelta,
}

impl std::ops::Add for Span {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { usual: self.usual + other.usual, longest: self.longest + other.longest }
    }
}

/// What one stage needs.
#[derive(Clone, Debug, PartialEq)]
pub struct StageForecast {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: StageKind,
    /// Its steps.
    pub steps: Vec<StepForecast>,
    /// The guardrails that count in it, in the plan's order.
    pub guardrails: Vec<GuardrailForecast>,
    /// Time of the steps and of `minDuration`, whatever is proven.
    pub least: TimeDelta,
    /// Time of the whole stage; `None` when a guardrail cannot be proven at all.
    pub time: Option<Span>,
    /// `maxDuration`.
    pub allowed: TimeDelta,
    /// The guardrail that takes longest, when it takes longer than the steps do.
    pub decides: Option<String>,
}

impl StageForecast {
    /// Whether the proof fits into `maxDuration`.
    pub fn fits(&self) -> bool {
        self.time.is_some_and(|time| time.longest <= self.allowed)
    }
}

/// What one step needs before the next may follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepForecast {
    /// Exposure, or the mirrored share in a shadow stage.
    pub share: Exposure,
    /// Requests per second that the candidate gets.
    pub candidate_rps: f64,
    /// The least time it takes.
    pub least: TimeDelta,
}

/// What one guardrail needs in one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardrailForecast {
    /// Its name.
    pub name: String,
    /// What is needed, at the share of the last step.
    pub need: Need,
    /// What was taken for stable, and whether it was only assumed.
    pub basis: Option<Basis>,
    /// Time from the start of the stage; `None` when it cannot be proven.
    pub time: Option<Span>,
}

/// What `plan` needs under `assumptions`.
pub fn forecast(plan: &Plan, assumptions: &Assumptions) -> Forecast {
    Forecast { stages: plan.stages.iter().map(|stage| stage_forecast(plan, stage, assumptions)).collect() }
}

fn stage_forecast(plan: &Plan, stage: &PlannedStage, assumptions: &Assumptions) -> StageForecast {
    let traffic: Vec<Traffic> = shares(stage, assumptions).map(|share| Traffic::of(stage.kind, share, assumptions)).collect();
    let lanes: Vec<Lane> = traffic.iter().map(|traffic| Lane::of(plan, stage, *traffic)).collect();
    let active: Vec<&Guardrail> = plan.guardrails.iter().filter(|guardrail| guardrail.stages.contains(&stage.kind)).collect();
    let precision = precision(plan, &active, assumptions.power);
    let guardrails: Vec<GuardrailForecast> = active
        .iter()
        .map(|guardrail| {
            let inputs = need::Inputs { guardrail, assumptions, precision };
            let (need, basis) = inputs.at(lanes.last().map(|lane| lane.traffic).unwrap_or_default());
            let time = need.is_possible().then(|| Span {
                usual: time(proof_time(&inputs, &lanes, 1.0)),
                longest: time(proof_time(&inputs, &lanes, SEQUENTIAL_FACTOR)),
            });
            GuardrailForecast { name: guardrail.name.clone(), need, basis, time }
        })
        .collect();
    let least = time(lanes.iter().map(|lane| lane.least).sum()).max(stage.min);
    let slowest = guardrails.iter().filter_map(|g| Some((g, g.time?))).max_by_key(|(_, time)| (time.longest, time.usual));
    let impossible = guardrails.iter().find(|g| g.time.is_none());
    StageForecast {
        name: stage.name.clone(),
        kind: stage.kind,
        steps: lanes
            .iter()
            .map(|l| StepForecast { share: l.traffic.share, candidate_rps: l.traffic.candidate, least: time(l.least) })
            .collect(),
        least,
        time: match (impossible, slowest) {
            (Some(_), _) => None,
            (None, None) => Some(Span { usual: least, longest: least }),
            (None, Some((_, time))) => Some(Span { usual: time.usual.max(least), longest: time.longest.max(least) }),
        },
        allowed: stage.max,
        decides: impossible.or_else(|| slowest.filter(|(_, time)| time.longest > least).map(|(g, _)| g)).map(|g| g.name.clone()),
        guardrails,
    }
}

/// The shares of a stage's steps, the last one replaced when another is assumed.
fn shares<'a>(stage: &'a PlannedStage, assumptions: &Assumptions) -> impl Iterator<Item = Exposure> + use<'a> {
    let last = stage.steps.len().saturating_sub(1);
    let other = assumptions.share.filter(|_| stage.kind != StageKind::Shadow);
    stage.steps.iter().enumerate().filter_map(move |(index, share)| match other {
        Some(other) if index == last => Some(other),
        // A step above the last one would not be a step.
        Some(other) if *share >= other => None,
        _ => Some(*share),
    })
}

/// All guardrails must pass, so each gets its part of what the stage may miss.
fn precision(plan: &Plan, active: &[&Guardrail], power: f64) -> Precision {
    let statistical = active.iter().filter(|guardrail| guardrail.test.has_risk()).count();
    Precision { alpha: plan.false_promotion, power: 1.0 - (1.0 - power) / statistical.max(1) as f64 }
}

/// Requests per second of both arms in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Traffic {
    share: Exposure,
    candidate: f64,
    reference: f64,
}

impl Traffic {
    fn of(kind: StageKind, share: Exposure, assumptions: &Assumptions) -> Self {
        let (all, fraction) = (assumptions.requests_per_second, f64::from(share.percent()) / 100.0);
        // A mirrored request is answered by both.
        let reference = if kind == StageKind::Shadow { all } else { all * (1.0 - fraction) };
        Self { share, candidate: all * fraction, reference }
    }
}

/// A step with the times that its traffic allows, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Lane {
    traffic: Traffic,
    /// After the change of traffic nothing is proven for this long.
    settle: f64,
    /// Length of a window with enough requests in both arms.
    window: f64,
    /// Window of the policy, which batches of gauges are made of.
    plain: f64,
    /// The least time of the step.
    least: f64,
}

impl Lane {
    fn of(plan: &Plan, stage: &PlannedStage, traffic: Traffic) -> Self {
        let (settle, plain) = (seconds(plan.settle), seconds(plan.window));
        let scarcer = traffic.candidate.min(traffic.reference);
        let window = plain.max(STEP_REQUESTS / scarcer);
        let least = seconds(stage.step_min).max(settle + f64::from(STEP_WINDOWS) * window);
        Self { traffic, settle, window, plain, least }
    }

    /// The same for labels that come late: the first step of a stage waits for them. Of cohorts the first only shows what stable does, and one that
    /// lies across a change of traffic is lost.
    fn aged(self, maturity: Option<&Maturity>, first: bool) -> Self {
        let Some(maturity) = maturity else { return self };
        let width = maturity.cohorts.as_ref().map_or(0.0, |cohorts| seconds(cohorts.width));
        let settle = self.settle.max(seconds(maturity.age) + 2.0 * width);
        let window = self.window.max(width);
        let least = if first { self.least.max(settle + f64::from(STEP_WINDOWS) * window) } else { self.least };
        Self { settle, window, least, ..self }
    }
}

/// Seconds from the start of the stage until `factor` times the fixed sample is in, and every step has had its time.
fn proof_time(inputs: &need::Inputs<'_>, lanes: &[Lane], factor: f64) -> f64 {
    let (mut elapsed, mut done, mut windows) = (0.0, 0.0, 0.0);
    let age = inputs.guardrail.maturity.as_ref();
    for (index, lane) in lanes.iter().enumerate() {
        let (need, _) = inputs.at(lane.traffic);
        let lane = &lane.aged(age, index == 0);
        let last = index + 1 == lanes.len();
        let step = match need {
            Need::Requests { per_second, candidate, .. } => {
                let pace = per_second / candidate.max(f64::MIN_POSITIVE);
                let wanted = ((factor - done).max(0.0) / pace).max((PROOF_WINDOWS - windows).max(0.0) * lane.window);
                let step = if last { lane.least.max(lane.settle + wanted) } else { lane.least };
                let counting = (step - lane.settle).max(0.0);
                done += counting * pace;
                windows += (counting / lane.window).floor();
                step
            }
            Need::Batches { batches, fewest, .. } => {
                // A batch that began before traffic settled does not count.
                let length = lane.plain * WINDOWS_PER_BATCH;
                let wanted = ((factor * batches).max(fewest) - done).max(0.0).ceil() * length;
                let step = if last { lane.least.max(lane.settle + wanted) } else { lane.least };
                done += ((step - lane.settle) / length).floor().max(0.0);
                step
            }
            Need::Look | Need::Never { .. } => lane.least,
        };
        elapsed += step;
    }
    elapsed
}

fn seconds(delta: TimeDelta) -> f64 {
    delta.num_milliseconds() as f64 / 1000.0
}

/// Whole seconds, at most a hundred years: the rest is never.
fn time(seconds: f64) -> TimeDelta {
    // The clamp keeps it inside the integer.
    #[allow(clippy::cast_possible_truncation)]
    TimeDelta::seconds(seconds.clamp(0.0, 3.2e9).ceil() as i64)
}
