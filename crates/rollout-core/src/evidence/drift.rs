//! Drift of one guardrail: counts per bin of both arms in windows, standardised, and the looks at them: over the whole attempt, over recent blocks that do
//! not overlap (so that a late drift is not masked by a good past), and over the stage for the proof. When to look depends on counts alone.

mod counting;

use anytime_stats::bin_scatter::BinScatter;
use anytime_stats::merge::{MergePlan, OpenWindow};
use anytime_stats::planning::{Precision, no_drift};
use anytime_stats::{Against, Divergence, Interval, InvalidParameter, Looks, Measure, Strata, Tally, Window};
use serde::{Deserialize, Serialize};

use super::series::Role;
use super::{Lens, Risk, TickTimes};
use crate::plan::{Drift, Guardrail};
use crate::verdict::Unmeasurable;
use counting::{Bins, Counter};

/// Trials per bin of either arm below which there is no look, and in all.
const LEAST_PER_BIN: f64 = 5.0;
const LEAST: f64 = 50.0;
/// Growth of the candidate's trials from one look to the next.
const GROWTH: f64 = 1.25;
/// Power of the sample that a forecast is made from.
const PLANNED_POWER: f64 = 0.9;
/// Level of each end of the interval that people see.
const DISPLAY_ALPHA: f64 = 0.025;

/// State of one guardrail on drift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DriftState {
    terms: Terms,
    bins: Bins,
    candidate: Counter,
    stable: Counter,
    scatter: BinScatter,
    open: Open,
    attempt: Strata,
    stage: Strata,
    block: Strata,
    /// The candidate's trials at the last look at the attempt and at the stage.
    looked: (f64, f64),
    critical: Lane,
    target: Lane,
    /// Candidate against stable where the reference is recorded: "no more than a tenth of critical" is what is rejected before the candidate is blamed.
    change: Lane,
    proof: Looks,
    /// Proof windows of this step, and of the stage with their seconds.
    step_windows: u32,
    stage_seconds: f64,
    /// Interval of the newest look at the attempt, and the candidate's trials that would prove that nothing drifts.
    interval: Option<Interval>,
    needed: Option<f64>,
}

/// What the plan fixes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Terms {
    measure: Measure,
    target: f64,
    critical: f64,
    /// Whether the reference is recorded.
    recorded: bool,
    /// Level of the proof.
    proof_alpha: f64,
}

/// Two ways to find the same harm, which share its level: all counts of the attempt, and blocks of recent ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Lane {
    #[serde(rename = "a")]
    all: Looks,
    #[serde(rename = "b")]
    blocks: Looks,
}

impl Lane {
    fn best(&self) -> f64 {
        (self.all.best().max(self.blocks.best()) - std::f64::consts::LN_2).max(0.0)
    }

    fn now(&self) -> f64 {
        (self.all.now().max(self.blocks.now()) - std::f64::consts::LN_2).max(0.0)
    }
}

/// The window that is being filled, by bins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    length: f64,
    /// Ticks until the window is long enough to be judged.
    tick_start: Option<f64>,
    ticks: Window,
    last_end: f64,
    merged: OpenWindow,
    candidate: Vec<f64>,
    stable: Vec<f64>,
}

/// Start and length of a closed window in seconds, and its counts.
struct Closed {
    start: f64,
    seconds: f64,
    candidate: Vec<f64>,
    stable: Vec<f64>,
}

/// What a look compares with.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Stable,
    Recorded,
}

impl DriftState {
    /// Fresh state for windows of `window` seconds.
    pub(super) fn new(drift: &Drift, window: f64, risk: &Risk) -> Result<Self, InvalidParameter> {
        let max_age = MergePlan::default().max_age.max(window);
        let merged = OpenWindow::new(MergePlan { max_age, ..MergePlan::default() })?;
        let (ticks, none) = (Window::default(), Vec::new);
        let Drift { measure, target, critical, .. } = *drift;
        Ok(Self {
            terms: Terms { measure, target, critical, recorded: drift.recorded.is_some(), proof_alpha: risk.proof_alpha },
            bins: Bins::new(drift),
            candidate: Counter::default(),
            stable: Counter::default(),
            scatter: BinScatter::default(),
            open: Open { length: window, tick_start: None, ticks, last_end: 0.0, merged, candidate: none(), stable: none() },
            attempt: Strata::default(),
            stage: Strata::default(),
            block: Strata::default(),
            looked: (0.0, 0.0),
            critical: Lane::default(),
            target: Lane::default(),
            change: Lane::default(),
            proof: Looks::default(),
            step_windows: 0,
            stage_seconds: 0.0,
            interval: None,
            needed: None,
        })
    }

    /// Counts one instant. What was counted is kept even when something else cannot be measured.
    pub(super) fn absorb(
        &mut self,
        lens: &Lens<'_>,
        (guardrail, drift): (&Guardrail, &Drift),
        times: &TickTimes,
        active: bool,
    ) -> Result<(), Unmeasurable> {
        let recorded = self.bins.read_shares(&lens.scope, guardrail, drift);
        let candidate = self.candidate.count(&lens.scope, (guardrail, drift), Role::Candidate, &mut self.bins);
        let stable = self.stable.count(&lens.scope, (guardrail, drift), Role::Stable, &mut self.bins);
        let problem = [&candidate, &stable].into_iter().find_map(|arm| match arm {
            Ok(counted) => counted.problem.clone(),
            Err(problem) => Some(problem.clone()),
        });
        let of_bins = self.bins.problem(drift);
        // Counts of bins that mean something else on each side must not be judged, however far apart they are.
        let is_comparable = of_bins.is_none() && [&candidate, &stable].into_iter().flatten().all(|counted| counted.is_even);
        let problem = recorded.err().or(problem).or(of_bins);
        if active && is_comparable {
            if let Ok(stable) = &stable {
                self.scatter.absorb(times.seconds(), &stable.halves.0, &stable.halves.1);
            }
            let sum = |arm: Result<counting::Counted, Unmeasurable>| arm.map(|counted| counted.sum()).unwrap_or_default();
            if let Some(closed) = self.open.absorb(times, &sum(candidate), &sum(stable)) {
                self.judge(&closed, times.settled as f64 / 1000.0);
            }
        }
        problem.map_or(Ok(()), Err)
    }

    /// Closes the open window at a change of traffic.
    pub(super) fn moved(&mut self, settled: i64, new_stage: bool) {
        if let Some(closed) = self.open.close() {
            self.judge(&closed, settled as f64 / 1000.0);
        }
        self.step_windows = 0;
        if new_stage {
            (self.stage, self.proof, self.looked.1, self.stage_seconds) = (Strata::default(), Looks::default(), 0.0, 0.0);
        }
    }

    /// Adds a closed window to every lane, and looks where it is time.
    fn judge(&mut self, closed: &Closed, settled: f64) {
        let has_both = |counts: &[f64]| counts.iter().sum::<f64>() > 0.0;
        if !has_both(&closed.candidate) || !has_both(&closed.stable) {
            return;
        }
        self.attempt.absorb(&closed.stable, &closed.candidate);
        self.block.absorb(&closed.stable, &closed.candidate);
        self.look_for_harm();
        if closed.start >= settled {
            self.stage.absorb(&closed.stable, &closed.candidate);
            self.stage_seconds += closed.seconds;
            self.step_windows = self.step_windows.saturating_add(1);
            self.look_for_proof();
        }
    }

    fn look_for_harm(&mut self) {
        let Terms { measure, target, critical, recorded, .. } = self.terms;
        let blame = measure.tenth(critical);
        if self.is_due(&self.attempt, self.looked.0) {
            self.looked.0 = self.attempt.totals().0;
            self.needed = self.trials_needed();
            if let Some(found) = self.divergence(&self.attempt, self.beside()) {
                self.critical.all.absorb(found.p_at_most(critical));
                self.target.all.absorb(found.p_at_most(target));
                let t = f64::from(self.critical.all.taken());
                self.interval = Some(found.bounds(DISPLAY_ALPHA / (t * (t + 1.0))));
            }
            if let Some(found) = self.divergence(&self.attempt, Beside::Stable).filter(|_| recorded) {
                self.change.all.absorb(found.p_at_most(blame));
            }
        }
        let enough = self.block.size(recorded) >= measure.telling_size(critical);
        if enough && self.is_due(&self.block, 0.0) {
            let block = std::mem::take(&mut self.block);
            if let Some(found) = self.divergence(&block, self.beside()) {
                self.critical.blocks.absorb(found.p_at_most(critical));
                self.target.blocks.absorb(found.p_at_most(target));
            }
            if let Some(found) = self.divergence(&block, Beside::Stable).filter(|_| recorded) {
                self.change.blocks.absorb(found.p_at_most(blame));
            }
        }
    }

    fn look_for_proof(&mut self) {
        let Terms { measure, target, recorded, proof_alpha, .. } = self.terms;
        // Half of the level goes to the first look, so it is not taken before it can succeed.
        let least = measure.least_size(target, self.bins.len(), proof_alpha / 2.0);
        if self.stage.size(recorded) < least || !self.is_due(&self.stage, self.looked.1) {
            return;
        }
        self.looked.1 = self.stage.totals().0;
        if let Some(found) = self.divergence(&self.stage, self.beside()) {
            self.proof.absorb(found.p_at_least(target));
        }
    }

    /// Depends on numbers of trials and bins alone.
    fn is_due(&self, strata: &Strata, looked: f64) -> bool {
        let (live, reference) = strata.totals();
        let least = (LEAST_PER_BIN * self.bins.len() as f64).max(LEAST);
        strata.is_balanced() && live.min(reference) >= least && live >= GROWTH * looked
    }

    /// φ of the counts of a mean window.
    fn phi_of(&self, strata: &Strata) -> f64 {
        let (live, reference) = strata.mean_window();
        self.scatter.phi(reference, live)
    }

    fn divergence(&self, strata: &Strata, beside: Beside) -> Option<Divergence> {
        let phi = self.phi_of(strata);
        let live = self.bins.in_order(&strata.live(phi));
        match beside {
            Beside::Stable => Divergence::of(self.terms.measure, Against::Counts(&self.bins.in_order(&strata.reference(phi))), &live),
            Beside::Recorded => Divergence::of(self.terms.measure, Against::Shares(&self.bins.in_order(self.bins.shares())), &live),
        }
    }

    /// The estimate of the attempt so far.
    pub(crate) fn estimate(&self) -> Option<f64> {
        self.divergence(&self.attempt, self.beside()).map(|found| found.value())
    }

    /// Stable's own distance from a recorded reference, and the candidate's from stable.
    pub(crate) fn world(&self) -> Option<(f64, f64)> {
        let stable = self.bins.in_order(&self.attempt.reference(1.0));
        let of_stable = Divergence::of(self.terms.measure, Against::Shares(&self.bins.in_order(self.bins.shares())), &stable)?;
        Some((of_stable.value(), self.divergence(&self.attempt, Beside::Stable)?.value()))
    }

    /// Interval of the newest look.
    pub(crate) fn interval(&self) -> Option<Interval> {
        self.interval
    }

    /// Trials of the attempt: candidate, stable.
    pub(crate) fn seen(&self) -> (f64, f64) {
        self.attempt.totals()
    }

    /// The candidate's trials over φ.
    pub(crate) fn effective(&self) -> f64 {
        self.attempt.totals().0 / self.phi_of(&self.attempt)
    }

    /// `ln(1/p)` of the proof at the newest look: what was near once and is not any more does not pass.
    pub(crate) fn log_proof(&self) -> f64 {
        self.proof.now()
    }

    /// `ln(1/p)` of harm, now and highest: against critical, against target. With a recorded reference the candidate must differ from stable too.
    pub(crate) fn log_harm(&self) -> ((f64, f64), (f64, f64)) {
        let blamed = |lane: &Lane| {
            let own = (lane.now(), lane.best());
            if self.terms.recorded { (own.0.min(self.change.now()), own.1.min(self.change.best())) } else { own }
        };
        (blamed(&self.critical), blamed(&self.target))
    }

    /// `ln(1/p)` of "no further than target from what was recorded", whoever is to blame.
    pub(crate) fn log_beyond_target(&self) -> f64 {
        self.target.best()
    }

    /// Proof windows of this step.
    pub(crate) fn step_windows(&self) -> u32 {
        self.step_windows
    }

    /// Seconds until a proof, if the estimate is what remains: the fixed sample, enlarged by what is used up of the room; `None` without hope.
    pub(crate) fn seconds_left(&self) -> Option<f64> {
        let Terms { measure, target, .. } = self.terms;
        let (live, needed) = (self.stage.totals().0, self.needed?);
        let found = self.divergence(&self.stage, self.beside())?;
        let room = 1.0 - measure.part_of_distance(found.likely(), target);
        let left = (needed * self.phi_of(&self.stage) / (room * room) - live).max(live * (GROWTH - 1.0));
        (room > 0.0 && live > 0.0).then(|| left / live * self.stage_seconds)
    }

    /// The candidate's trials that prove that nothing drifts, as planned; too slow to be asked at every instant.
    fn trials_needed(&self) -> Option<f64> {
        let Terms { measure, target, recorded, proof_alpha, .. } = self.terms;
        let (live, reference) = self.attempt.totals();
        let ratio = if recorded { f64::INFINITY } else { reference / live };
        no_drift(measure, target, self.bins.len(), ratio, Precision { alpha: proof_alpha, power: PLANNED_POWER })
    }

    fn beside(&self) -> Beside {
        if self.terms.recorded { Beside::Recorded } else { Beside::Stable }
    }
}

impl Open {
    /// Adds one tick; returns the window it closed.
    fn absorb(&mut self, times: &TickTimes, candidate: &[f64], stable: &[f64]) -> Option<Closed> {
        let (start, end) = (times.start as f64 / 1000.0, times.end as f64 / 1000.0);
        let total = |counts: &[f64]| Tally::new(0.0, counts.iter().sum());
        self.ticks += Window::new(total(stable), total(candidate));
        add(&mut self.candidate, candidate);
        add(&mut self.stable, stable);
        let tick_start = *self.tick_start.get_or_insert(start);
        self.last_end = end;
        if end - tick_start + 1e-9 < self.length {
            return None;
        }
        self.tick_start = None;
        let closed = self.merged.absorb(tick_start, end, std::mem::take(&mut self.ticks))?;
        Some(self.take(closed.start))
    }

    /// Closes what is open, as a change of traffic demands.
    fn close(&mut self) -> Option<Closed> {
        let ticks = self.tick_start.take();
        self.ticks = Window::default();
        let start = self.merged.force_close().map(|closed| closed.start).or(ticks)?;
        Some(self.take(start))
    }

    fn take(&mut self, start: f64) -> Closed {
        let (candidate, stable) = (std::mem::take(&mut self.candidate), std::mem::take(&mut self.stable));
        Closed { start, seconds: self.last_end - start, candidate, stable }
    }
}

fn add(sums: &mut Vec<f64>, counts: &[f64]) {
    if sums.len() < counts.len() {
        sums.resize(counts.len(), 0.0);
    }
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count;
    }
}
