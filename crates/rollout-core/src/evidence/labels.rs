//! Whether labels are missing alike in both arms: of a guardrail that counts labels and knows the requests they belong to, the labelled shares compared.
//! A proven difference makes everything that was counted among the labels worthless. It says nothing against the candidate, and for nobody.

use anytime_stats::multiplicity::log_average;
use anytime_stats::{InvalidParameter, Window};
use serde::{Deserialize, Serialize};

use super::comparison::{Comparison, Saved as SavedComparison, Terms, Tick};
use super::counting::{ArmCount, ArmCounter, Sides};
use super::family::Family;
use super::scatter::Scatter;
use super::series::Role;
use super::share::Served;
use super::traffic::SAMPLE_RATIO_ALPHA;
use super::{Lens, TickTimes, Weighty};
use crate::plan::{CountSource, Guardrail, Maturity, Test};
use crate::verdict::Unmeasurable;

/// Labelled shares of which one is at most so many times the other count as alike: no two arms are alike to the last label, because what a restart
/// loses or a pod still works on is not the same in both.
pub(crate) const ALIKE: f64 = 1.01;

/// The check of one guardrail.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LabelCounts {
    /// The guardrail as labels are counted: those among requests take the place of bad events among all.
    one: Guardrail,
    labels: CountSource,
    requests: CountSource,
    moving: Moving,
    /// The candidate has more labels than stable, and fewer.
    sides: [Comparison; 2],
}

/// Moving numbers beside the comparisons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Moving {
    #[serde(rename = "c")]
    candidate: ArmCounter,
    #[serde(rename = "s")]
    stable: ArmCounter,
    #[serde(rename = "p")]
    scatter: Scatter,
    /// Labels among requests, of windows that had weight.
    #[serde(rename = "n")]
    seen: Window,
    /// Windows of this stage that had weight.
    #[serde(rename = "w")]
    windows: u32,
    /// Ticks that are not yet a window: its begin in unix seconds, counts, and judged seconds.
    #[serde(rename = "o")]
    open: Option<(f64, Window, f64)>,
    /// Highest log e-value: what was once shown to be counted among unlike labels stays in the evidence.
    #[serde(rename = "h")]
    peak: f64,
}

/// Saved state of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    #[serde(rename = "m")]
    moving: Moving,
    #[serde(rename = "s")]
    sides: Vec<SavedComparison>,
}

impl LabelCounts {
    /// Fresh state; `None` where the guardrail does not say of which requests its labels are.
    pub(super) fn new(guardrail: &Guardrail, terms: &Terms, started: i64) -> Result<Option<Self>, InvalidParameter> {
        let (Some(requests), Test::Counts { total, .. }) = (&guardrail.requests, &guardrail.test) else { return Ok(None) };
        // A label may come in another instant than its request: more labels than requests in one instant are nothing impossible.
        let maturity = Maturity { age: late_by(guardrail), captured: 1.0, cohorts: None };
        let terms = Terms { harm_cap: threshold() / 2.0, ..*terms };
        let side = || Comparison::of_harm(Role::Stable, Family::of_shares(ALIKE)?, &terms);
        Ok(Some(Self {
            one: Guardrail { maturity: Some(maturity), ..guardrail.clone() },
            labels: total.clone(),
            requests: requests.clone(),
            moving: Moving {
                candidate: ArmCounter::new(started),
                stable: ArmCounter::new(started),
                scatter: Scatter::default(),
                seen: Window::default(),
                windows: 0,
                open: None,
                peak: 0.0,
            },
            sides: [side()?, side()?],
        }))
    }

    /// Counts one instant; the requests of both arms in it, as they were asked.
    pub(super) fn absorb(&mut self, lens: &Lens<'_>, times: &TickTimes, active: bool) -> Result<Served, Unmeasurable> {
        let sides = Sides { guardrail: &self.one, bad: &self.labels, total: &self.requests };
        let candidate = self.moving.candidate.count(&lens.scope, &sides, Role::Candidate);
        let stable = self.moving.stable.count(&lens.scope, &sides, Role::Stable);
        let whole = [&candidate, &stable].into_iter().all(|arm| arm.as_ref().is_ok_and(ArmCount::is_whole));
        let asked = Served::of([&candidate, &stable], |_| false);
        let (candidate, stable) = (candidate?, stable?);
        if active {
            self.moving.scatter.absorb(times.seconds(), stable.halves, (stable.targets, candidate.targets));
            let judged = if whole { times.judged } else { 0.0 };
            self.fold(lens.window, times, Window::new(stable.tally(), candidate.tally()), judged);
        }
        candidate.problem.or(stable.problem).map_or(Ok(asked), Err)
    }

    /// Ticks are put together to whole windows first: labels come in batches, which one arm's scrape sees an instant before the other's.
    fn fold(&mut self, window: f64, times: &TickTimes, counts: Window, judged: f64) {
        let (start, end) = (times.start as f64 / 1000.0, times.end as f64 / 1000.0);
        let open = self.moving.open.get_or_insert((start, Window::default(), 0.0));
        open.1 += counts;
        open.2 += judged;
        if end - open.0 + 1e-9 < window {
            return;
        }
        let Some((start, counts, judged)) = self.moving.open.take() else { return };
        let mature = self.since(times.since, times.settled) as f64 / 1000.0;
        let tick = |counts| Tick { start, end, counts, judged, settled: mature, mature };
        let [more, fewer] = &mut self.sides;
        let closed = more.absorb(&tick(counts), &self.moving.scatter);
        fewer.absorb(&tick(Window::new(counts.candidate, counts.champion)), &self.moving.scatter);
        if let Some(closed) = closed.filter(|closed| closed.start >= mature && closed.counts.has_both_arms()) {
            self.moving.seen += closed.counts;
            self.moving.windows = self.moving.windows.saturating_add(1);
        }
        self.moving.peak = self.moving.peak.max(self.log_e());
    }

    /// From when on labels are compared, in milliseconds, where traffic changed at `since` and settles until `settled`. Twice the age: the few labels
    /// that come later than it are of the traffic as it was before, which one arm had more of.
    pub(super) fn since(&self, since: i64, settled: i64) -> i64 {
        settled.max(since + 2 * late_by(&self.one).num_milliseconds())
    }

    pub(super) fn moved(&mut self, weighty: Weighty, new_stage: bool) {
        // What is open lies across the change, and as time closed it, leaving it out favours nobody.
        self.moving.open = None;
        for side in &mut self.sides {
            side.close(&self.moving.scatter, weighty);
        }
        self.moving.peak = self.moving.peak.max(self.log_e());
        if new_stage {
            self.moving.windows = 0;
        }
    }

    fn log_e(&self) -> f64 {
        let of = |side: &Comparison| side.critical.as_ref().map_or(0.0, super::family::Harm::log_e);
        log_average(&self.sides.each_ref().map(of))
    }

    /// Windows of this stage in which labels were compared.
    pub(super) fn windows(&self) -> u32 {
        self.moving.windows
    }

    /// Labels among requests so far, with the highest log e-value, where the shares are proven unlike.
    pub(super) fn unlike(&self) -> Option<UnlikeLabels> {
        let (seen, log_e) = (self.moving.seen, self.moving.peak);
        (log_e >= threshold()).then_some(UnlikeLabels { seen, log_e, threshold: threshold() })
    }

    pub(super) fn save(&self) -> Saved {
        Saved { moving: self.moving.clone(), sides: self.sides.iter().map(Comparison::save).collect() }
    }

    pub(super) fn load(&mut self, saved: Saved) -> Result<(), InvalidParameter> {
        if saved.sides.len() != self.sides.len() {
            return Err(InvalidParameter { name: "labels", expected: "two sides" });
        }
        self.moving = saved.moving;
        self.sides.iter_mut().zip(saved.sides).try_for_each(|(side, saved)| side.load(saved))
    }
}

/// Labels that are missing otherwise in one arm than in the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct UnlikeLabels {
    /// Labels among requests, per arm.
    pub seen: Window,
    pub log_e: f64,
    pub threshold: f64,
}

/// The log e-value at which labels are missing unlike; outside the risk budget, as for the split of traffic.
fn threshold() -> f64 {
    -SAMPLE_RATIO_ALPHA.ln()
}

fn late_by(guardrail: &Guardrail) -> chrono::TimeDelta {
    guardrail.maturity.as_ref().map_or_else(chrono::TimeDelta::zero, |maturity| maturity.age)
}
