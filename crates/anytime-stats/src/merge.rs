//! Windows that merge until they hold enough trials. Closing depends on counts of trials and on time, never on outcomes: only then may a closed window
//! be judged as if its size had been fixed beforehand. It judges nothing itself.

use serde::{Deserialize, Serialize};

use crate::window::{InvalidParameter, Window};

/// When an open window closes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergePlan {
    /// Trials of both arms together that close a window in which both arms have some.
    pub min_trials: f64,
    /// Age at which it closes whatever it holds, in the unit of the instants.
    pub max_age: f64,
}

impl Default for MergePlan {
    /// 20 trials, 900 seconds.
    fn default() -> Self {
        Self { min_trials: 20.0, max_age: 900.0 }
    }
}

/// A window that is closed and may be judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClosedWindow {
    /// Start instant.
    pub start: f64,
    /// End instant.
    pub end: f64,
    /// Counts; one arm may be empty, then the window has weight zero.
    pub counts: Window,
}

/// An open window that collects ticks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenWindow {
    plan: MergePlan,
    opened_at: Option<f64>,
    last: f64,
    counts: Window,
}

impl OpenWindow {
    /// Nothing collected yet.
    pub fn new(plan: MergePlan) -> Result<Self, InvalidParameter> {
        InvalidParameter::check(plan.min_trials >= 1.0, "min_trials", "at least 1")?;
        InvalidParameter::check(plan.max_age > 0.0, "max_age", "positive")?;
        Ok(Self { plan, opened_at: None, last: 0.0, counts: Window::default() })
    }

    /// Adds the counts of the tick `[start, end)` and returns the window if this closes it.
    pub fn absorb(&mut self, start: f64, end: f64, tick: Window) -> Option<ClosedWindow> {
        let opened = *self.opened_at.get_or_insert(start);
        self.last = end;
        self.counts += tick;
        let enough = self.counts.has_both_arms() && self.counts.champion.total + self.counts.candidate.total >= self.plan.min_trials;
        if enough || end - opened >= self.plan.max_age { self.force_close() } else { None }
    }

    /// Closes the window now, as a change of traffic demands; `None` when nothing is open.
    pub fn force_close(&mut self) -> Option<ClosedWindow> {
        let start = self.opened_at.take()?;
        let closed = ClosedWindow { start, end: self.last, counts: self.counts };
        self.counts = Window::default();
        Some(closed)
    }

    /// Counts collected so far; they must not be judged before the window closes.
    pub fn pending(&self) -> Window {
        self.counts
    }

    /// When the open window started.
    pub fn opened_at(&self) -> Option<f64> {
        self.opened_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Tally;

    fn tick(champion: f64, candidate: f64) -> Window {
        Window::new(Tally::new(0.0, champion), Tally::new(0.0, candidate))
    }

    #[test]
    fn a_window_waits_for_enough_trials_and_for_both_arms() {
        let mut open = OpenWindow::new(MergePlan::default()).unwrap();
        assert_eq!(open.absorb(0.0, 5.0, tick(30.0, 0.0)), None, "enough trials, but one arm is empty");
        let closed = open.absorb(5.0, 10.0, tick(0.0, 1.0)).unwrap();
        assert_eq!((closed.start, closed.end, closed.counts), (0.0, 10.0, tick(30.0, 1.0)));
        assert_eq!(open.absorb(10.0, 15.0, tick(10.0, 5.0)), None);
        assert_eq!(open.pending(), tick(10.0, 5.0));
    }

    #[test]
    fn a_window_closes_at_its_age_or_when_forced() {
        let mut open = OpenWindow::new(MergePlan { min_trials: 20.0, max_age: 10.0 }).unwrap();
        assert_eq!(open.absorb(0.0, 5.0, tick(1.0, 0.0)), None);
        assert_eq!(open.absorb(5.0, 10.0, tick(1.0, 0.0)).unwrap().counts, tick(2.0, 0.0));
        assert_eq!(open.force_close(), None);
        open.absorb(10.0, 15.0, tick(1.0, 1.0));
        assert_eq!(open.opened_at(), Some(10.0));
        assert_eq!(open.force_close().unwrap().counts, tick(1.0, 1.0));
        assert_eq!(open.opened_at(), None);
    }
}
