//! One guardrail against one reference arm: merges ticks into windows on two lanes and feeds up to three processes, harm against critical, harm against
//! target, proof against target. Windows close by counts and time, never by outcomes. Reads no samples.

use anytime_stats::merge::{ClosedWindow, MergePlan, OpenWindow};
use anytime_stats::{InvalidParameter, PlugInRate, Tally, Window};
use serde::{Deserialize, Serialize};

use super::Weighty;
use super::family::{Family, Harm, Proof, SavedHarm, SavedProof, SavedWin, Win};
use super::scatter::Scatter;
use super::series::Role;
use crate::plan::CountBound;

/// What a comparison needs of the plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Terms {
    /// Length of a proof window in seconds; also the grid of the start-time mixture.
    pub window: f64,
    /// Grid points of the whole attempt.
    pub horizon: u32,
    /// Cap of a window in the harm lane.
    pub harm_cap: f64,
    /// Cap of a window in the proof lane.
    pub proof_cap: f64,
    /// Cap of a window where a win is shown.
    pub win_cap: f64,
    /// For absolute bounds: passes as well while not worse than stable.
    pub or_not_worse: bool,
    /// Whether both arms count the same pairs.
    pub paired: bool,
    /// Least share of the candidate's events that is there to be proven by; 1 where none come late.
    pub captured: f64,
}

/// Bounds that compare with the same arm.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    pub target: Option<CountBound>,
    pub critical: Option<CountBound>,
    /// A promised win, as a bound to be proven better than.
    pub win: Option<CountBound>,
}

/// Evidence of one guardrail against one reference.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comparison {
    pub(super) reference: Role,
    pub(super) critical: Option<Harm>,
    /// `None` as well when target and critical are the same bound: then `critical` stands for both.
    pub(super) target: Option<Harm>,
    pub(super) proof: Option<Proof>,
    pub(super) win: Option<Win>,
    window: f64,
    pub(super) state: State,
}

/// The moving numbers beside the processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    harm_open: OpenWindow,
    harm_rate: Option<PlugInRate>,
    /// Ticks until the proof window is long enough to be judged.
    tick_start: Option<f64>,
    ticks: Window,
    last_end: f64,
    proof_open: OpenWindow,
    proof_rate: Option<PlugInRate>,
    /// Proof windows of this stage: counts, number, seconds. For forecasts.
    pub stage_counts: Window,
    pub stage_windows: f64,
    pub stage_seconds: f64,
    /// Proof windows of this step that counted.
    pub step_windows: u32,
    /// Whether the last window closed without requests in one of the arms: until one closes with both, no time is judged.
    #[serde(rename = "z", default)]
    pub idle: bool,
    /// Seconds of judged time, the clock of the grid.
    judged: f64,
    points: u32,
}

/// Moving part of a [`Comparison`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    critical: Option<SavedHarm>,
    target: Option<SavedHarm>,
    proof: Option<SavedProof>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    win: Option<SavedWin>,
    state: State,
}

/// What a tick brought to a comparison.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tick {
    /// Unix seconds.
    pub start: f64,
    pub end: f64,
    pub counts: Window,
    /// Seconds that count as judged; 0 while something is unmeasurable.
    pub judged: f64,
    /// Proof windows that start before this instant, in unix seconds, have weight zero.
    pub settled: f64,
    /// The same for harm.
    pub mature: f64,
}

impl Comparison {
    pub(super) fn new(reference: Role, bounds: Bounds, terms: &Terms) -> Result<Self, InvalidParameter> {
        let family = |bound| if terms.paired { Family::of_pairs(bound) } else { Family::of(bound, terms.or_not_worse) };
        let proven = |bound| {
            if terms.paired { Family::of_pairs(bound) } else { Family::of_captured(bound, terms.or_not_worse, terms.captured) }
        };
        let harm = |bound: Option<CountBound>| bound.map(|b| Harm::new(family(b)?, terms.horizon, terms.harm_cap)).transpose();
        let same = bounds.target == bounds.critical;
        Ok(Self {
            critical: harm(bounds.critical)?,
            target: if same { None } else { harm(bounds.target)? },
            proof: bounds.target.map(|b| Proof::new(proven(b)?, terms.proof_cap)).transpose()?,
            win: bounds.win.map(|b| Win::new(proven(b)?, terms.win_cap)).transpose()?,
            ..Self::empty(reference, terms)?
        })
    }

    /// Harm alone, of any family.
    pub(super) fn of_harm(reference: Role, family: Family, terms: &Terms) -> Result<Self, InvalidParameter> {
        Ok(Self { critical: Some(Harm::new(family, terms.horizon, terms.harm_cap)?), ..Self::empty(reference, terms)? })
    }

    /// Without any process.
    fn empty(reference: Role, terms: &Terms) -> Result<Self, InvalidParameter> {
        let proof_age = MergePlan { max_age: MergePlan::default().max_age.max(terms.window), ..MergePlan::default() };
        Ok(Self {
            reference,
            critical: None,
            target: None,
            proof: None,
            win: None,
            window: terms.window,
            state: State {
                harm_open: OpenWindow::new(MergePlan::default())?,
                harm_rate: None,
                tick_start: None,
                ticks: Window::default(),
                last_end: 0.0,
                proof_open: OpenWindow::new(proof_age)?,
                proof_rate: None,
                stage_counts: Window::default(),
                stage_windows: 0.0,
                stage_seconds: 0.0,
                step_windows: 0,
                idle: false,
                judged: 0.0,
                points: 0,
            },
        })
    }

    /// Adds one tick; returns the harm window it closed, for displays.
    pub(super) fn absorb(&mut self, tick: &Tick, scatter: &Scatter) -> Option<ClosedWindow> {
        let closed = self.state.harm_open.absorb(tick.start, tick.end, tick.counts);
        if let Some(closed) = &closed {
            self.state.idle = !closed.counts.has_both_arms();
        }
        // Before the window is judged: mass that starts with it is moved by it.
        if !self.state.idle {
            self.grid(tick.judged);
        }
        if let Some(closed) = &closed {
            self.judge_harm(closed, scatter, tick.mature);
        }
        let start = *self.state.tick_start.get_or_insert(tick.start);
        self.state.ticks += tick.counts;
        self.state.last_end = tick.end;
        if tick.end - start + 1e-9 >= self.window {
            self.state.tick_start = None;
            let counts = std::mem::take(&mut self.state.ticks);
            if let Some(closed) = self.state.proof_open.absorb(start, tick.end, counts) {
                self.judge_proof(&closed, scatter, tick.settled);
            }
        }
        closed
    }

    /// Mass is added at every window of judged time, whether or not a window is open. A quiet time is none: it would use up the grid.
    pub(super) fn grid(&mut self, judged: f64) {
        if judged <= 0.0 {
            return;
        }
        while f64::from(self.state.points) * self.window <= self.state.judged + 1e-9 {
            self.critical.iter_mut().chain(&mut self.target).for_each(Harm::grid_point);
            self.state.points = self.state.points.saturating_add(1);
        }
        self.state.judged += judged;
    }

    /// Judges a window that was made elsewhere, such as a cohort that has come of age.
    pub(super) fn judge(&mut self, closed: &ClosedWindow, scatter: &Scatter) {
        self.judge_harm(closed, scatter, f64::NEG_INFINITY);
        self.judge_proof(closed, scatter, f64::NEG_INFINITY);
    }

    /// Closes what is open, as a change of traffic demands.
    pub(super) fn close(&mut self, scatter: &Scatter, weighty: Weighty) -> Option<ClosedWindow> {
        let (settled, mature) = (weighty.proof as f64 / 1000.0, weighty.harm as f64 / 1000.0);
        let harm = self.state.harm_open.force_close();
        if let Some(closed) = &harm {
            self.judge_harm(closed, scatter, mature);
        }
        // New traffic is waited for as if there had always been some.
        self.state.idle = false;
        let early = std::mem::take(&mut self.state.ticks);
        let ticks_start = self.state.tick_start.take();
        let open = self.state.proof_open.force_close();
        if let Some(start) = open.map(|o| o.start).or(ticks_start) {
            let mut counts = early;
            counts += open.map(|o| o.counts).unwrap_or_default();
            self.judge_proof(&ClosedWindow { start, end: self.state.last_end, counts }, scatter, settled);
        }
        harm
    }

    /// Guesses the champion's rate from what it did before, so that the first window can be judged too; a guess that is there stays.
    pub(super) fn expect_rate(&mut self, champion: Tally) {
        if champion.is_proportion()
            && let Some(rate) = champion.rate().filter(|_| self.needs_rate())
        {
            let guess = PlugInRate::new(rate, champion.total);
            self.state.harm_rate.get_or_insert(guess);
            self.state.proof_rate.get_or_insert(guess);
        }
    }

    /// A new stage asks its own question.
    pub(super) fn restart_proof(&mut self) {
        if let Some(proof) = &mut self.proof {
            proof.restart();
        }
        (self.state.stage_counts, self.state.stage_windows, self.state.stage_seconds) = (Window::default(), 0.0, 0.0);
    }

    fn judge_harm(&mut self, closed: &ClosedWindow, scatter: &Scatter, mature: f64) {
        let needs_rate = self.needs_rate();
        let Some(rate) = predicted(&mut self.state.harm_rate, needs_rate, closed.counts.champion) else { return };
        if closed.start >= mature && judgeable(&closed.counts, needs_rate) {
            let phi = scatter.phi(&closed.counts, closed.end - closed.start);
            self.critical.iter_mut().chain(&mut self.target).for_each(|harm| harm.absorb(rate, &closed.counts, phi));
        }
    }

    fn judge_proof(&mut self, closed: &ClosedWindow, scatter: &Scatter, settled: f64) {
        let needs_rate = self.needs_rate();
        if self.proof.is_none() && self.win.is_none() {
            return;
        }
        let rate = predicted(&mut self.state.proof_rate, needs_rate, closed.counts.champion);
        let Some(rate) = rate.filter(|_| closed.start >= settled && judgeable(&closed.counts, needs_rate)) else {
            self.proof.iter_mut().for_each(Proof::skip);
            return;
        };
        let phi = scatter.phi(&closed.counts, closed.end - closed.start);
        self.win.iter_mut().for_each(|win| win.absorb(rate, &closed.counts, phi));
        let Some(proof) = &mut self.proof else { return };
        proof.absorb(rate, &closed.counts, phi);
        self.state.step_windows = self.state.step_windows.saturating_add(1);
        self.state.stage_windows += 1.0;
        self.state.stage_seconds += closed.end - closed.start;
        self.state.stage_counts += closed.counts;
    }

    fn needs_rate(&self) -> bool {
        let families = self.critical.iter().chain(&self.target).map(|h| &h.family).chain(self.proof.iter().map(|p| &p.family));
        families.into_iter().any(Family::needs_rate)
    }

    pub(super) fn save(&self) -> Saved {
        Saved {
            critical: self.critical.as_ref().map(Harm::save),
            target: self.target.as_ref().map(Harm::save),
            proof: self.proof.as_ref().map(Proof::save),
            win: self.win.as_ref().map(Win::save),
            state: self.state.clone(),
        }
    }

    pub(super) fn load(&mut self, saved: Saved) -> Result<(), InvalidParameter> {
        for (harm, saved) in [(&mut self.critical, saved.critical), (&mut self.target, saved.target)] {
            if let Some((harm, saved)) = harm.as_mut().zip(saved) {
                harm.load(saved)?;
            }
        }
        if let Some((proof, saved)) = self.proof.as_mut().zip(saved.proof) {
            proof.load(saved)?;
        }
        if let Some((win, saved)) = self.win.as_mut().zip(saved.win) {
            win.load(saved)?;
        }
        self.state = saved.state;
        Ok(())
    }
}

/// The guess of the champion's rate from before this window. The first window only sets the guess: it must not be bet on.
fn predicted(rate: &mut Option<PlugInRate>, needed: bool, champion: Tally) -> Option<f64> {
    if !needed {
        return Some(0.5);
    }
    let Some(known) = rate else {
        *rate = (champion.total > 0.0).then(|| PlugInRate::from_first_window(champion));
        return None;
    };
    let before = known.rate();
    known.absorb(champion);
    Some(before)
}

/// Both arms have trials, and proportions are proportions: one that is not may be a counter read between its two increments.
fn judgeable(window: &Window, proportions: bool) -> bool {
    window.has_both_arms() && (!proportions || (window.champion.is_proportion() && window.candidate.is_proportion()))
}
