//! Guardrails on gauges: a level averaged over batches and tested with its autocorrelation. Where less is worse, both the level and its bounds are
//! taken with the other sign, so that there is one test. Says nothing about why a level differs: machines differ too, so a comparison needs several pods per arm.

use anytime_stats::{GaugePlan, GaugeProcess, InvalidParameter, Side};
use serde::{Deserialize, Serialize};

use super::counts::role_of;
use super::query::{Sought, level_reference};
use super::series::Role;
use super::{Lens, TickTimes};
use crate::plan::{Direction, Guardrail, LevelBound, Selector, Win};
use crate::verdict::Unmeasurable;

/// Proof windows in one batch: five minutes at the default window of one.
pub(crate) const WINDOWS_PER_BATCH: f64 = 5.0;
/// Pods per arm below which a difference of levels may be one of machines.
pub(crate) const LEAST_PODS: usize = 3;

/// State of one level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LevelState {
    bases: Vec<Basis>,
    /// Seconds of the open batch, measured ones among them, and when it began in milliseconds.
    elapsed: f64,
    measured: f64,
    opened: Option<i64>,
    /// The candidate's mean at the last instant.
    pub latest: Option<f64>,
    target: usize,
    critical: usize,
    /// Highest log e-values of harm against target and critical.
    peaks: (f64, f64),
    /// Highest log e-value of the promised win.
    #[serde(default, skip_serializing_if = "is_nothing")]
    won: f64,
}

/// Whether no win was ever in sight, as in a plan that promises none.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_nothing(log_e: &f64) -> bool {
    *log_e <= 0.0
}

/// What a bound compares with: nothing, or an arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Basis {
    compares: bool,
    stage_plan: GaugePlan,
    attempt: GaugeProcess,
    stage: GaugeProcess,
    /// Seconds-weighted sum of the open batch.
    sum: f64,
}

/// The two bounds of a level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LevelBounds {
    pub target: LevelBound,
    pub critical: LevelBound,
    pub direction: Direction,
}

impl LevelBounds {
    /// The bound as the process sees it.
    const fn margin(self, bound: LevelBound) -> f64 {
        match bound {
            LevelBound::Difference { margin, .. } => margin,
            LevelBound::Absolute(limit) => self.direction.sign() * limit,
        }
    }

    /// What is compared with, once each.
    fn bases(self) -> Vec<Option<Role>> {
        let mut bases = vec![basis(self.target), basis(self.critical)];
        bases.dedup();
        bases
    }
}

fn basis(bound: LevelBound) -> Option<Role> {
    level_reference(bound).map(role_of)
}

impl LevelState {
    pub(super) fn new(bounds: LevelBounds, planned_batches: f64, alphas: (f64, f64)) -> Result<Self, InvalidParameter> {
        let (alpha_proof, alpha_harm) = alphas;
        let plan = |alpha: f64| GaugePlan { planned_batches: planned_batches.max(1.0), alpha, history_variance: None };
        let bases = bounds.bases();
        let index = |bound| bases.iter().position(|b| *b == basis(bound)).unwrap_or_default();
        let (target, critical) = (index(bounds.target), index(bounds.critical));
        let bases = bases
            .into_iter()
            .map(|versus| {
                let compares = versus.is_some();
                let (attempt, stage) = (process(plan(alpha_harm), compares)?, process(plan(alpha_proof), compares)?);
                Ok(Basis { compares, stage_plan: plan(alpha_proof), attempt, stage, sum: 0.0 })
            })
            .collect::<Result<_, InvalidParameter>>()?;
        Ok(Self { bases, elapsed: 0.0, measured: 0.0, opened: None, latest: None, target, critical, peaks: (0.0, 0.0), won: 0.0 })
    }

    /// Reads one instant. `Err` leaves the tick out of the batch.
    pub(super) fn absorb(
        &mut self,
        lens: &Lens<'_>,
        (guardrail, series, bounds): (&Guardrail, &Selector, LevelBounds),
        times: &TickTimes,
        active: bool,
    ) -> Result<(), Unmeasurable> {
        let values = self.values(lens, &Sought::of(guardrail, series, ""), bounds);
        if !active {
            return values.map(drop);
        }
        self.opened.get_or_insert(times.start);
        self.elapsed += times.seconds();
        if let Ok(values) = &values {
            self.measured += times.seconds();
            for (basis, value) in self.bases.iter_mut().zip(values) {
                basis.sum += value * times.seconds();
            }
        }
        if self.elapsed + 1e-9 >= lens.window * WINDOWS_PER_BATCH {
            self.close(bounds, times.settled);
            if let Some(Win::Level(level)) = guardrail.win {
                self.won = self.log_e_win(bounds.direction.sign() * level).1;
            }
        }
        values.map(drop)
    }

    /// The candidate's level, or its difference to each arm it is compared with.
    fn values(&mut self, lens: &Lens<'_>, sought: &Sought<'_>, bounds: LevelBounds) -> Result<Vec<f64>, Unmeasurable> {
        let read = |role: Role| {
            let found = lens.scope.fresh(sought, role)?;
            let values = found.values(lens.scope.instant)?;
            Ok((values.iter().sum::<f64>() / values.len().max(1) as f64, found.targets.len()))
        };
        let (own, pods) = read(Role::Candidate)?;
        self.latest = Some(own);
        bounds
            .bases()
            .into_iter()
            .map(|versus| {
                let Some(role) = versus else { return Ok(bounds.direction.sign() * own) };
                let (other, others) = read(role)?;
                if pods.min(others) < LEAST_PODS {
                    let message = format!(
                        "{pods} pods of the candidate and {others} of {} report {}; with fewer than {LEAST_PODS} per arm a difference may be one of \
                         machines: add replicas or give an absolute bound",
                        role.word(),
                        sought.name()
                    );
                    return Err(Unmeasurable::NotComparable { message });
                }
                Ok(own - other)
            })
            .collect()
    }

    /// Ends the open batch; it counts when at least half of it was measured and traffic had settled before it began.
    fn close(&mut self, bounds: LevelBounds, settled: i64) {
        let counts = self.measured * 2.0 >= self.elapsed && self.opened.is_some_and(|opened| opened >= settled);
        for basis in &mut self.bases {
            let mean = std::mem::take(&mut basis.sum) / self.measured;
            if counts {
                basis.attempt.absorb(mean);
                basis.stage.absorb(mean);
            }
        }
        (self.elapsed, self.measured, self.opened) = (0.0, 0.0, None);
        let (warning, harm) = self.log_e_harm_now(bounds);
        self.peaks = (self.peaks.0.max(warning), self.peaks.1.max(harm));
    }

    /// Log e-value of a level below `level`, as the process sees it, now and highest: over the whole attempt, so that what was shown once stays shown.
    pub(crate) fn log_e_win(&self, level: f64) -> (f64, f64) {
        let now = self.bases.get(self.target).map_or(0.0, |basis| basis.attempt.log_e(Side::Proof, level));
        (now, self.won.max(now))
    }

    pub(super) fn moved(&mut self, new_stage: bool) {
        (self.elapsed, self.measured, self.opened) = (0.0, 0.0, None);
        for basis in &mut self.bases {
            basis.sum = 0.0;
            if let Some(fresh) = new_stage.then(|| process(basis.stage_plan, basis.compares).ok()).flatten() {
                basis.stage = fresh;
            }
        }
    }

    fn log_e_harm_now(&self, bounds: LevelBounds) -> (f64, f64) {
        let harm = |index: usize, bound| self.bases.get(index).map_or(0.0, |b| b.attempt.log_e(Side::Harm, bounds.margin(bound)));
        (harm(self.target, bounds.target), harm(self.critical, bounds.critical))
    }

    /// Log e-values: proof, harm against critical (now, highest), harm against target (now, highest).
    pub(crate) fn log_es(&self, bounds: LevelBounds) -> (f64, (f64, f64), (f64, f64)) {
        let (warning, harm) = self.log_e_harm_now(bounds);
        let proof = self.proving().map_or(0.0, |stage| stage.log_e(Side::Proof, bounds.margin(bounds.target)));
        (proof, (harm, self.peaks.1), (warning, self.peaks.0))
    }

    /// The process of the proof: what the target compares with, since the stage began.
    pub(crate) fn proving(&self) -> Option<&GaugeProcess> {
        self.bases.get(self.target).map(|basis| &basis.stage)
    }
}

fn process(plan: GaugePlan, compares: bool) -> Result<GaugeProcess, InvalidParameter> {
    if compares { GaugeProcess::difference(plan) } else { GaugeProcess::level(plan) }
}
