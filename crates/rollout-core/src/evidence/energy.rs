//! Energy per inference of both arms: joules over answers in batches of time, tested as a gauge is, and only at like load, because energy per inference
//! includes what a device draws while it waits. Says nothing about devices that two pods share.

mod meters;

use anytime_stats::{GaugePlan, GaugeProcess, Interval, InvalidParameter, Side};
use serde::{Deserialize, Serialize};

use super::counting::ArmCounter;
use super::level::{LEAST_PODS, WINDOWS_PER_BATCH};
use super::query::{Sought, inferences_sought};
use super::series::Role;
use super::{Lens, TickTimes};
use crate::plan::{Energy, EnergyBound, Guardrail};
use crate::verdict::Unmeasurable;
use meters::{Meters, check_devices};

/// Requests per second and pod of the candidate over stable's, within which energy is compared.
pub(crate) const LOAD: std::ops::RangeInclusive<f64> = 0.8..=1.25;
/// Answers of either arm below which a batch says nothing.
const LEAST_ANSWERS: f64 = 20.0;
/// Unlike batches in a row after which nothing can be said, where there were like ones before.
const UNLIKE_BATCHES: u32 = 2;
/// How much more than stable a candidate must take before an absolute limit is held against it.
const BLAME_RATIO: f64 = 1.1;

/// State of one guardrail on energy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EnergyState {
    candidate: ArmMeter,
    stable: ArmMeter,
    open: Batch,
    /// The proof's plan, for a stage that starts anew.
    stage_plan: GaugePlan,
    /// Since the stage began: against target.
    proof: GaugeProcess,
    /// Over the attempt: against target and critical.
    warning: GaugeProcess,
    harm: GaugeProcess,
    /// Over the attempt: candidate less stable with an allowance, where bounds are absolute.
    blame: Option<GaugeProcess>,
    /// Highest log e-values of harm against target and critical.
    peaks: (f64, f64),
    /// Energy per inference of the batches of the stage: sums over candidate and stable, and their number.
    stage: (f64, f64, f64),
    /// Requests per second and pod in the newest batch that was unlike, candidate and stable, and how many were so in a row.
    unlike: Option<(f64, f64)>,
    unlike_batches: u32,
}

/// What an arm consumes and answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ArmMeter {
    meters: Meters,
    answers: ArmCounter,
    /// What was counted while the other side could not be read: charged together with it.
    pending: Used,
}

/// An open batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Batch {
    /// Seconds, measured ones among them, and when it began in milliseconds.
    elapsed: f64,
    measured: f64,
    opened: Option<i64>,
    candidate: Used,
    stable: Used,
}

/// What an arm used in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Used {
    joules: f64,
    answers: f64,
    pod_seconds: f64,
}

impl Used {
    fn each(&self) -> Option<f64> {
        (self.answers >= LEAST_ANSWERS).then(|| self.joules / self.answers)
    }

    fn load(&self) -> f64 {
        if self.pod_seconds > 0.0 { self.answers / self.pod_seconds } else { 0.0 }
    }
}

/// What one bound sees of a batch: a margin and a value that must stay below it.
fn value(bound: EnergyBound, factor: f64, candidate: f64, stable: f64) -> f64 {
    match bound {
        EnergyBound::Ratio(ratio) => candidate - ratio * stable,
        EnergyBound::Absolute(_) => candidate * factor,
    }
}

/// The margin of that value.
const fn margin(bound: EnergyBound) -> f64 {
    match bound {
        EnergyBound::Ratio(_) => 0.0,
        EnergyBound::Absolute(limit) => limit,
    }
}

fn process(plan: GaugePlan, bound: EnergyBound) -> Result<GaugeProcess, InvalidParameter> {
    match bound {
        EnergyBound::Ratio(_) => GaugeProcess::difference(plan),
        EnergyBound::Absolute(_) => GaugeProcess::level(plan),
    }
}

impl EnergyState {
    pub(super) fn new(energy: &Energy, planned_batches: f64, alphas: (f64, f64), started: i64) -> Result<Self, InvalidParameter> {
        let plan = |alpha: f64| GaugePlan { planned_batches: planned_batches.max(1.0), alpha, history_variance: None };
        let (stage_plan, attempt_plan) = (plan(alphas.0), plan(alphas.1));
        let arm = || ArmMeter { meters: Meters::default(), answers: ArmCounter::new(started), pending: Used::default() };
        let is_absolute = matches!(energy.critical, EnergyBound::Absolute(_));
        Ok(Self {
            candidate: arm(),
            stable: arm(),
            open: Batch::default(),
            stage_plan,
            proof: process(stage_plan, energy.target)?,
            warning: process(attempt_plan, energy.target)?,
            harm: process(attempt_plan, energy.critical)?,
            blame: is_absolute.then(|| GaugeProcess::difference(attempt_plan)).transpose()?,
            peaks: (0.0, 0.0),
            stage: (0.0, 0.0, 0.0),
            unlike: None,
            unlike_batches: 0,
        })
    }

    /// Reads one instant. `Err` leaves the tick out of the measured time; what was counted is kept.
    pub(super) fn absorb(
        &mut self,
        lens: &Lens<'_>,
        (guardrail, energy): (&Guardrail, &Energy),
        times: &TickTimes,
        active: bool,
    ) -> Result<(), Unmeasurable> {
        let shared = check_devices(lens, guardrail, energy);
        let candidate = self.candidate.read(lens, (guardrail, energy), times, Role::Candidate);
        let stable = self.stable.read(lens, (guardrail, energy), times, Role::Stable);
        let problem = shared.err().or(candidate.as_ref().err().cloned()).or(stable.as_ref().err().cloned());
        let read = problem.map_or(Ok(()), Err);
        if !active {
            return read;
        }
        self.open.opened.get_or_insert(times.start);
        self.open.elapsed += times.seconds();
        if read.is_ok() {
            self.open.measured += times.seconds();
        }
        for (sum, used) in [(&mut self.open.candidate, candidate), (&mut self.open.stable, stable)] {
            add(sum, &used.unwrap_or_default());
        }
        if self.open.elapsed + 1e-9 >= lens.window * WINDOWS_PER_BATCH {
            self.close(energy, times.settled);
        }
        read?;
        self.unlike_load()
    }

    /// Ends the open batch; it counts when at least half of it was measured, traffic had settled before it began, and the arms worked equally hard.
    fn close(&mut self, energy: &Energy, settled: i64) {
        let batch = std::mem::take(&mut self.open);
        if batch.measured * 2.0 < batch.elapsed || batch.opened.is_none_or(|opened| opened < settled) {
            return;
        }
        let (own, other) = (batch.candidate.load(), batch.stable.load());
        if !LOAD.contains(&(own / other)) {
            (self.unlike, self.unlike_batches) = (Some((own, other)), self.unlike_batches.saturating_add(1));
            return;
        }
        (self.unlike, self.unlike_batches) = (None, 0);
        let (Some(candidate), Some(stable)) = (batch.candidate.each(), batch.stable.each()) else { return };
        self.stage.0 += candidate;
        self.stage.1 += stable;
        self.stage.2 += 1.0;
        let of = |bound| value(bound, energy.factor(), candidate, stable);
        self.proof.absorb(of(energy.target));
        self.warning.absorb(of(energy.target));
        self.harm.absorb(of(energy.critical));
        if let Some(blame) = &mut self.blame {
            blame.absorb(candidate - BLAME_RATIO * stable);
        }
        let (warning, harm) = self.log_e_harm_now(energy);
        self.peaks = (self.peaks.0.max(warning), self.peaks.1.max(harm));
    }

    fn unlike_load(&self) -> Result<(), Unmeasurable> {
        let never = self.stage.2 <= 0.0;
        match self.unlike {
            Some((own, other)) if never || self.unlike_batches >= UNLIKE_BATCHES => Err(Unmeasurable::UnlikeLoad {
                message: format!(
                    "the candidate answers {own:.1} requests/s per pod, stable {other:.1}: energy per inference includes idle power and needs like \
                     load, {} to {} times as much",
                    LOAD.start(),
                    LOAD.end()
                ),
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn moved(&mut self, new_stage: bool) {
        (self.open, self.unlike, self.unlike_batches) = (Batch::default(), None, 0);
        if new_stage {
            self.stage = (0.0, 0.0, 0.0);
            // The plan was tried when the attempt started.
            let fresh = if self.blame.is_some() { GaugeProcess::level(self.stage_plan) } else { GaugeProcess::difference(self.stage_plan) };
            if let Ok(fresh) = fresh {
                self.proof = fresh;
            }
        }
    }

    /// Against target, against critical. A level that stable has as well is the world's.
    fn log_e_harm_now(&self, energy: &Energy) -> (f64, f64) {
        let blame = self.blame.as_ref().map_or(f64::INFINITY, |blame| blame.log_e(Side::Harm, 0.0));
        let of = |process: &GaugeProcess, bound| process.log_e(Side::Harm, margin(bound)).min(blame);
        (of(&self.warning, energy.target), of(&self.harm, energy.critical))
    }

    /// Log e-values: proof, harm against critical (now, highest), harm against target (now, highest).
    pub(crate) fn log_es(&self, energy: &Energy) -> (f64, (f64, f64), (f64, f64)) {
        let (warning, harm) = self.log_e_harm_now(energy);
        (self.proof.log_e(Side::Proof, margin(energy.target)), (harm, self.peaks.1), (warning, self.peaks.0))
    }

    /// Mean energy per inference in J over the batches of the stage: candidate, stable; `None` before the first.
    pub(crate) fn means(&self) -> Option<(f64, f64)> {
        let (candidate, stable, batches) = self.stage;
        (batches > 0.0).then(|| (candidate / batches, stable / batches))
    }

    /// Interval of what the target bounds: a ratio, or an amount in the unit of the bounds.
    pub(crate) fn interval(&self, energy: &Energy, alpha: f64) -> Option<Interval> {
        let found = self.proof.interval(alpha)?;
        let EnergyBound::Ratio(ratio) = energy.target else { return Some(found) };
        let (_, stable) = self.means().filter(|(_, stable)| *stable > 0.0)?;
        let of = |value: f64| ratio + value / stable;
        Some(Interval { estimate: of(found.estimate), lower: of(found.lower), upper: of(found.upper) })
    }

    /// Batches of the stage, and how many independent ones they are worth.
    pub(crate) fn batches(&self) -> (u32, Option<f64>) {
        (self.proof.batches(), self.proof.evaluate(0.0).map(|evaluation| evaluation.effective_batches))
    }
}

impl ArmMeter {
    /// What the arm used since the last instant.
    fn read(
        &mut self,
        lens: &Lens<'_>,
        (guardrail, energy): (&Guardrail, &Energy),
        times: &TickTimes,
        role: Role,
    ) -> Result<Used, Unmeasurable> {
        let sought = Sought::of(guardrail, &energy.consumption, "");
        // Both are read before either may fail, so that no increase is lost.
        let consumed = self.meters.count(&lens.scope, &sought, role, &energy.device_labels);
        let answered = self.answers.count_one(&lens.scope, &inferences_sought(energy), role);
        if let Ok(consumed) = &consumed {
            self.pending.joules += consumed.amount * energy.joules;
        }
        if let Ok(answered) = &answered {
            self.pending.answers += answered.tally().total;
            self.pending.pod_seconds += answered.targets as f64 * times.seconds();
        }
        let (consumed, answered) = (consumed?, answered?);
        if let Some(problem) = &answered.problem {
            return Err(problem.clone());
        }
        let message = if consumed.pods < answered.targets {
            format!(
                "{} pods of {} answer requests, but only {} have a meter in {}",
                answered.targets,
                role.word(),
                consumed.pods,
                sought.name()
            )
        } else if matches!(energy.target, EnergyBound::Ratio(_)) && consumed.meters < LEAST_PODS {
            format!(
                "{} of {} reports {} meters; with fewer than {LEAST_PODS} per arm a difference may be one of machines: add replicas or give an \
                 absolute bound",
                sought.name(),
                role.word(),
                consumed.meters
            )
        } else {
            return Ok(std::mem::take(&mut self.pending));
        };
        Err(Unmeasurable::NotComparable { message })
    }
}

fn add(sum: &mut Used, used: &Used) {
    sum.joules += used.joules;
    sum.answers += used.answers;
    sum.pod_seconds += used.pod_seconds;
}
