//! One guardrail on counts: counts its arms at each instant, hands the ticks to its comparisons, keeps what people read of it.
//! Judges nothing; the verdict is [`crate::judge`]'s.

use anytime_stats::intervals::{StratifiedDifference, StratifiedRatio};
use anytime_stats::merge::ClosedWindow;
use anytime_stats::{InvalidParameter, Tally, Window};
use serde::{Deserialize, Serialize};

use super::cohorts::CohortCounts;
use super::comparison::{Bounds, Comparison, Saved as SavedComparison, Terms, Tick};
use super::counting::{ArmCount, ArmCounter, Sides};
use super::family::expected;
use super::history::Remembered;
use super::labels::{LabelCounts, Saved as SavedLabels, UnlikeLabels};
use super::parts::{ArmCounts, first_problem, more_than_all, nobody_has_bad, parts};
use super::query::count_reference;
use super::scatter::Scatter;
use super::series::Role;
use super::share::{Served, ShareCounts};
use super::shocks::Shocks;
use super::slices::{Census, Saved as SavedSlices, Slices};
use super::{Lens, TickTimes, Weighty};
use crate::plan::{Cohorts, CountBound, CountSource, Guardrail, Maturity, Reference, Test, Win};
use crate::verdict::Unmeasurable;

/// State of one guardrail on counts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CountState {
    /// Whether its totals are requests of the arms' own pods, and so say how traffic is split.
    counts_requests: bool,
    /// Whether its totals are events at all, and not the time that passes.
    counts_events: bool,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) moving: Moving,
    slices: Option<Box<Slices>>,
    severe: Option<Box<SevereCounts>>,
    labels: Option<Box<LabelCounts>>,
}

/// The worse events of a guardrail whose critical bound counts only these.
#[derive(Clone, Debug, PartialEq)]
struct SevereCounts {
    /// The guardrail as they are judged: worse events are its bad ones, and the critical bound is both of its bounds.
    one: Guardrail,
    state: CountState,
}

impl SevereCounts {
    fn new(guardrail: &Guardrail, terms: &Terms, started: i64) -> Option<Result<Self, InvalidParameter>> {
        let mut one = Guardrail { slices: None, win: None, requests: None, ..guardrail.clone() };
        let Test::Counts { bad, severe, target, critical, or_not_worse_than_stable, .. } = &mut one.test else { return None };
        *bad = severe.take()?.bad;
        (*target, *or_not_worse_than_stable) = (*critical, false);
        let state = CountState::new(&one, terms, started).transpose()?;
        // How traffic is split is read off the whole.
        Some(state.map(|state| Self { one, state: CountState { counts_requests: false, ..state } }))
    }
}

/// The counters of the arms.
#[derive(Clone, Copy)]
pub(super) struct ArmCounters<'a> {
    candidate: &'a ArmCounter,
    stable: &'a ArmCounter,
    baseline: Option<&'a ArmCounter>,
    shocks: &'a Shocks,
}

/// Moving numbers beside the comparisons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Moving {
    candidate: ArmCounter,
    stable: ArmCounter,
    baseline: Option<ArmCounter>,
    scatter: Scatter,
    /// Counts of all ticks in which the guardrail was active: candidate, reference of the target.
    pub seen: Window,
    /// Closed harm windows against the target's reference.
    pub difference: StratifiedDifference,
    pub ratio: StratifiedRatio,
    pub share: ShareCounts,
    /// Whether the guardrail counted in the stage of the last instant.
    active: bool,
    /// Cohorts of requests whose labels are not yet old enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cohorts: Option<Box<CohortCounts>>,
}

/// Saved state of one guardrail on counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    #[serde(rename = "c")]
    comparisons: Vec<SavedComparison>,
    #[serde(rename = "m")]
    moving: Moving,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    slices: Option<Box<SavedSlices>>,
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    severe: Option<Box<Saved>>,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    labels: Option<Box<SavedLabels>>,
}

impl CountState {
    /// Fresh state; `None` when the guardrail is not on counts, an error when a bound is outside its domain.
    pub(super) fn new(guardrail: &Guardrail, terms: &Terms, started: i64) -> Result<Option<Self>, InvalidParameter> {
        let Some(parts) = parts(&guardrail.test) else { return Ok(None) };
        // Without cohorts some of the labels come that are older than their age: a proof must stand with few of the candidate's, harm with all.
        let captured = guardrail.maturity.as_ref().filter(|maturity| maturity.cohorts.is_none()).map_or(1.0, |maturity| maturity.captured);
        let terms = Terms { or_not_worse: parts.or_not_worse, captured, ..*terms };
        let parts = parts.diluted(guardrail);
        let mut comparisons = Vec::new();
        let (target, critical) = (count_reference(parts.target), parts.critical.map(count_reference));
        let promised = match guardrail.win {
            Some(Win::Ratio { factor, versus }) => Some((CountBound::Ratio { factor, versus }, versus)),
            Some(Win::Level(_)) | None => None,
        };
        for reference in [Reference::Stable, Reference::Baseline] {
            let bounds = Bounds {
                target: (target == reference).then_some(parts.target),
                critical: parts.critical.filter(|_| critical == Some(reference)),
                win: promised.filter(|(_, versus)| *versus == reference).map(|(bound, _)| bound),
            };
            if bounds.target.is_some() || bounds.critical.is_some() || bounds.win.is_some() {
                comparisons.push(Comparison::new(role_of(reference), bounds, &terms)?);
            }
        }
        // Nearly always one, where a vector that grows has room for four.
        comparisons.shrink_to_fit();
        let compared = [Some(target), critical, promised.map(|(_, versus)| versus)];
        let baseline = compared.contains(&Some(Reference::Baseline)).then(|| ArmCounter::new(started));
        let moving = Moving {
            candidate: ArmCounter::new(started),
            stable: ArmCounter::new(started),
            baseline,
            scatter: Scatter::of_arms(),
            seen: Window::default(),
            difference: StratifiedDifference::default(),
            ratio: StratifiedRatio::default(),
            share: ShareCounts::default(),
            active: false,
            cohorts: guardrail.maturity.as_ref().and_then(|m| m.cohorts.as_ref()).map(|_| Box::new(CohortCounts::new(started))),
        };
        let counts_events = !matches!(parts.total, CountSource::PodSeconds);
        let are_requests = guardrail.maturity.is_none() || guardrail.requests.is_some();
        let counts_requests = counts_events && are_requests && guardrail.pod_label.is_none() && parts.stable_bad.is_none();
        Ok(Some(Self { counts_requests, counts_events, comparisons, moving, slices: None, severe: None, labels: None }))
    }

    /// The same with the worse events that the guardrail tells from its bad ones; an error when their bound is outside its domain.
    pub(super) fn with_severe(mut self, guardrail: &Guardrail, terms: &Terms, started: i64) -> Result<Self, InvalidParameter> {
        self.severe = SevereCounts::new(guardrail, terms, started).transpose()?.map(Box::new);
        Ok(self)
    }

    /// The same with the check of labels that the guardrail asks for; an error never comes of a policy.
    pub(super) fn with_labels(mut self, guardrail: &Guardrail, terms: &Terms, started: i64) -> Result<Self, InvalidParameter> {
        self.labels = LabelCounts::new(guardrail, terms, started)?.map(Box::new);
        Ok(self)
    }

    /// The same with the slices that the guardrail asks for; an error when their bound is outside its domain.
    pub(super) fn with_slices(mut self, guardrail: &Guardrail, terms: &Terms, started: i64) -> Result<Self, InvalidParameter> {
        self.slices = Slices::new(guardrail, terms, started).transpose()?.map(Box::new);
        Ok(self)
    }

    /// Adds what the champion did before the attempt.
    pub(super) fn remember(&mut self, remembered: &Remembered) {
        self.moving.scatter.remember(&remembered.scatter);
        self.tell_slices();
        for comparison in self.comparisons.iter_mut().filter(|comparison| comparison.reference == Role::Stable) {
            comparison.expect_rate(remembered.champion);
        }
    }

    /// Shocks of whole arms hit every slice.
    fn tell_slices(&mut self) {
        if let Some(slices) = &mut self.slices {
            slices.each_mut().for_each(|slice| slice.moving.scatter.expect(self.moving.scatter.shocks()));
        }
    }

    /// A state for one slice that is first seen now, beside a whole with these counters.
    pub(super) fn slice(mut self, whole: Option<&ArmCounters<'_>>, started: i64) -> Self {
        // The split of traffic is read off the whole.
        self.counts_requests = false;
        self.moving.scatter = Scatter::default();
        if let Some(whole) = whole {
            self.moving.candidate = whole.candidate.part(started);
            self.moving.stable = whole.stable.part(started);
            self.moving.baseline = whole.baseline.map(|counter| counter.part(started));
            self.moving.scatter.expect(whole.shocks);
        }
        self
    }

    /// Counts one instant. What was counted is kept even when something else cannot be measured.
    pub(super) fn absorb(&mut self, lens: &Lens<'_>, guardrail: &Guardrail, times: &TickTimes, active: bool) -> Result<(), Unmeasurable> {
        let Some(parts) = parts(&guardrail.test) else { return Ok(()) };
        let sides = Sides { guardrail, bad: parts.bad, total: parts.total };
        if let Some((maturity, cohorts)) = guardrail.maturity.as_ref().and_then(|maturity| Some((maturity, maturity.cohorts.as_ref()?))) {
            return self.absorb_cohorts(lens, &sides, (maturity, cohorts), times, active);
        }
        // Before the whole is counted: a slice that appears now is new to pods that were known until now.
        let census = self.prepare_slices(lens);
        let moving = &mut self.moving;
        let candidate = moving.candidate.count(&lens.scope, &sides, Role::Candidate);
        let (of_stable, role) = parts.stable_bad.map_or((sides, Role::Stable), |bad| (Sides { bad, ..sides }, Role::Candidate));
        let stable = moving.stable.count(&lens.scope, &of_stable, role);
        let baseline = moving.baseline.as_mut().map(|counter| counter.count(&lens.scope, &sides, Role::Baseline));
        let problem = first_problem([Some(&candidate), Some(&stable), baseline.as_ref()])
            // Nothing bad may have happened in a part; whether the metric exists is asked of the whole.
            .or_else(|| {
                if lens.scope.part.is_some() { None } else { nobody_has_bad(&sides, [Some(&candidate), Some(&stable), baseline.as_ref()]) }
            })
            .or_else(|| more_than_all(&parts, [&candidate, &stable]))
            .or_else(|| census.as_ref().and_then(|census| census.as_ref().err().cloned()));
        let times_of_parts = TickTimes { judged: if problem.is_none() { times.judged } else { 0.0 }, ..*times };
        let severe = self.severe.as_mut().map_or(Ok(()), |severe| severe.state.absorb(lens, &severe.one, &times_of_parts, active));
        let sliced = match (&mut self.slices, &census) {
            (Some(slices), Some(Ok(census))) => slices.absorb(lens, census, &times_of_parts, active),
            _ => Ok(()),
        };
        let asked = self.labels.as_mut().map(|labels| labels.absorb(lens, times, active)).transpose();
        let problem = problem.or(severe.err()).or(sliced.err()).or_else(|| asked.as_ref().err().cloned());
        let moving = &mut self.moving;
        moving.active = active;
        if active {
            let count = |arm: &Result<ArmCount, Unmeasurable>| arm.as_ref().map(ArmCount::tally).unwrap_or_default();
            let counts = ArmCounts {
                candidate: count(&candidate),
                stable: count(&stable),
                baseline: baseline.as_ref().map(count).unwrap_or_default(),
            };
            if let Ok(stable) = &stable {
                let beside = candidate.as_ref().map_or(0, |candidate| candidate.targets);
                if self.moving.scatter.absorb(times.seconds(), stable.halves, (stable.targets, beside)) {
                    self.tell_slices();
                }
            }
            let age = guardrail.maturity.as_ref().map(|maturity| maturity.age.num_milliseconds());
            self.fold(times, Weighty::of(times.since, times.settled, age), &counts, problem.is_none());
            let both = Window::new(counts.stable, counts.candidate);
            self.moving.scatter.compare(times.seconds(), (times.start >= times.settled).then_some(&both));
            if self.counts_requests {
                // How requests are split is read off the requests, where the totals are labels.
                let asked = match asked {
                    Ok(Some(asked)) => asked,
                    Ok(None) => Served::of([&candidate, &stable], |_| false),
                    Err(_) => Served::UNKNOWN,
                };
                self.moving.share.absorb(times, asked);
            }
        }
        problem.map_or(Ok(()), Err)
    }

    /// Counts one instant of labels that say of which cohort they are; only cohorts that came of age are judged.
    fn absorb_cohorts(
        &mut self,
        lens: &Lens<'_>,
        sides: &Sides<'_>,
        planned: (&Maturity, &Cohorts),
        times: &TickTimes,
        active: bool,
    ) -> Result<(), Unmeasurable> {
        let shown = self.shown();
        let Self { moving, comparisons, .. } = self;
        let Some(cohorts) = &mut moving.cohorts else { return Ok(()) };
        let (mature, outcome) = cohorts.absorb(lens, sides, planned, times, active);
        moving.active = active;
        if !active {
            return outcome;
        }
        let judged = if outcome.is_ok() { times.judged } else { 0.0 };
        for comparison in comparisons.iter_mut() {
            comparison.grid(judged);
        }
        for cohort in mature {
            moving.scatter.absorb(cohort.end - cohort.start, cohort.halves, cohort.targets);
            for comparison in comparisons.iter_mut() {
                let window = cohort.window(comparison.reference);
                comparison.judge(&window, &moving.scatter);
                if comparison.reference == shown {
                    moving.seen += window.counts;
                    show(&mut moving.difference, &mut moving.ratio, &moving.scatter, Some(window));
                }
            }
            moving.scatter.compare(cohort.end - cohort.start, Some(&cohort.window(Role::Stable).counts));
        }
        outcome
    }

    /// Which slices there are at this instant; `None` for a guardrail without slices.
    fn prepare_slices<'a>(&mut self, lens: &Lens<'a>) -> Option<Result<Census<'a>, Unmeasurable>> {
        let Moving { candidate, stable, baseline, scatter, .. } = &self.moving;
        let whole = ArmCounters { candidate, stable, baseline: baseline.as_ref(), shocks: scatter.shocks() };
        self.slices.as_mut().map(|slices| slices.prepare(&lens.scope, &whole))
    }

    fn fold(&mut self, times: &TickTimes, weighty: Weighty, counts: &ArmCounts, measured: bool) {
        let shown = self.shown();
        for comparison in &mut self.comparisons {
            let tick = Tick {
                start: times.start as f64 / 1000.0,
                end: times.end as f64 / 1000.0,
                counts: Window::new(counts.of(comparison.reference), counts.candidate),
                judged: if measured { times.judged } else { 0.0 },
                settled: weighty.proof as f64 / 1000.0,
                mature: weighty.harm as f64 / 1000.0,
            };
            let closed = comparison.absorb(&tick, &self.moving.scatter);
            // What has no weight is not shown either: it would look like a difference.
            if comparison.reference == shown && tick.start >= tick.mature {
                self.moving.seen += tick.counts;
                show(&mut self.moving.difference, &mut self.moving.ratio, &self.moving.scatter, closed);
            }
        }
    }

    /// Closes open windows at a change of traffic.
    pub(super) fn moved(&mut self, weighty: Weighty, new_stage: bool) {
        let shown = self.shown();
        for comparison in &mut self.comparisons {
            let closed = comparison.close(&self.moving.scatter, weighty);
            if comparison.reference == shown {
                show(&mut self.moving.difference, &mut self.moving.ratio, &self.moving.scatter, closed);
            }
            comparison.state.step_windows = 0;
            if new_stage {
                comparison.restart_proof();
            }
        }
        self.moving.scatter.compare(0.0, None);
        self.moving.share = ShareCounts::default();
        if let Some(cohorts) = &mut self.moving.cohorts {
            cohorts.moved(new_stage);
        }
        if let Some(slices) = &mut self.slices {
            slices.moved(weighty, new_stage);
        }
        if let Some(severe) = &mut self.severe {
            severe.state.moved(weighty, new_stage);
        }
        if let Some(labels) = &mut self.labels {
            labels.moved(weighty, new_stage);
        }
    }

    /// What is wrong with the labels, when they are proven to be missing unlike in the two arms.
    pub(crate) fn unlike_labels(&self) -> Option<UnlikeLabels> {
        self.labels.as_ref()?.unlike()
    }

    /// From when on labels are compared, in milliseconds, while no window of this stage was; `None` where they were, or where they are not to be.
    pub(crate) fn labels_wait_for(&self, since: i64, settled: i64) -> Option<i64> {
        self.labels.as_ref().filter(|labels| labels.windows() == 0).map(|labels| labels.since(since, settled))
    }

    /// Its slices, when the guardrail has some.
    pub(crate) fn slices(&self) -> Option<&Slices> {
        self.slices.as_deref()
    }

    fn shown(&self) -> Role {
        let proving = self.comparisons.iter().find(|c| c.proof.is_some()).or(self.comparisons.first());
        proving.map_or(Role::Stable, |c| c.reference)
    }

    /// The log e-value of the proof.
    pub(crate) fn log_e_proof(&self) -> f64 {
        self.proving().and_then(|c| c.proof.as_ref()).map_or(0.0, super::family::Proof::log_e)
    }

    /// The counts of worse events, when only these count against the critical bound.
    pub(crate) fn severe(&self) -> Option<&Self> {
        self.severe.as_ref().map(|severe| &severe.state)
    }

    /// Now and highest log e-value of harm against critical.
    pub(crate) fn log_e_harm(&self) -> (f64, f64) {
        if let Some(severe) = self.severe() {
            return severe.log_e_harm();
        }
        self.comparisons.iter().find_map(|c| c.critical.as_ref()).map_or((0.0, 0.0), |h| (h.log_e(), h.peak()))
    }

    /// Now and highest log e-value of harm against target.
    pub(crate) fn log_e_warning(&self) -> (f64, f64) {
        self.comparisons.iter().find_map(|c| c.target.as_ref()).map_or_else(|| self.log_e_harm(), |h| (h.log_e(), h.peak()))
    }

    /// Now and highest log e-value of the promised win.
    pub(crate) fn log_e_win(&self) -> (f64, f64) {
        self.comparisons.iter().find_map(|c| c.win.as_ref()).map_or((0.0, 0.0), super::family::Win::log_es)
    }

    /// Proof windows of this step that counted.
    pub(crate) fn step_windows(&self) -> u32 {
        self.proving().map_or(0, |c| c.state.step_windows)
    }

    /// Whether proof windows of the stage are in, of this step or of one before.
    pub(crate) fn stage_windows(&self) -> f64 {
        self.proving().map_or(0.0, |c| c.state.stage_windows)
    }

    /// Whether the arms have requests to be judged by; `None` where it counts pod-seconds, which pass by themselves.
    pub(super) fn has_requests(&self) -> Option<bool> {
        self.counts_events.then(|| self.comparisons.iter().any(|comparison| !comparison.state.idle))
    }

    /// Counts seen so far: reference of the target beside the candidate.
    pub(crate) fn seen(&self) -> Window {
        self.moving.seen
    }

    /// Stratified difference and ratio of closed windows.
    pub(crate) fn estimates(&self) -> (&StratifiedDifference, &StratifiedRatio) {
        (&self.moving.difference, &self.moving.ratio)
    }

    /// φ of all counts of the stage's mean proof window, or of `window` while there is none.
    pub(crate) fn phi(&self) -> f64 {
        let (mean, seconds) = self.mean_window().unwrap_or((self.moving.seen, 0.0));
        self.moving.scatter.phi(&mean, seconds)
    }

    /// Mean proof window of this stage and its length in seconds.
    pub(crate) fn mean_window(&self) -> Option<(Window, f64)> {
        let state = &self.proving()?.state;
        let n = state.stage_windows;
        let mean = |t: Tally| Tally::new(t.bad / n, t.total / n);
        (n > 0.0).then(|| (Window::new(mean(state.stage_counts.champion), mean(state.stage_counts.candidate)), state.stage_seconds / n))
    }

    /// Proof windows left at these rates and the stage's mean sizes; `None` when it never ends.
    pub(crate) fn windows_left(&self, champion_rate: f64, candidate_rate: f64, threshold: f64) -> Option<f64> {
        let proof = self.proving()?.proof.as_ref()?;
        let (mean, _) = self.mean_window()?;
        let window = expected(champion_rate, mean.champion.total, candidate_rate, mean.candidate.total);
        proof.windows_left(&window, self.phi(), threshold)
    }

    /// How its events are split between the arms, when these are the arms' requests.
    pub(crate) fn share(&self) -> Option<&ShareCounts> {
        (self.counts_requests && self.moving.active).then_some(&self.moving.share)
    }

    fn proving(&self) -> Option<&Comparison> {
        self.comparisons.iter().find(|c| c.proof.is_some())
    }

    pub(super) fn save(&self) -> Saved {
        Saved {
            comparisons: self.comparisons.iter().map(Comparison::save).collect(),
            moving: self.moving.clone(),
            slices: self.slices.as_ref().map(|slices| Box::new(slices.save())),
            severe: self.severe.as_ref().map(|severe| Box::new(severe.state.save())),
            labels: self.labels.as_ref().map(|labels| Box::new(labels.save())),
        }
    }

    pub(super) fn load(&mut self, saved: Saved) -> Result<(), InvalidParameter> {
        if saved.comparisons.len() != self.comparisons.len() {
            return Err(InvalidParameter { name: "comparisons", expected: "as many as the plan has" });
        }
        self.moving = saved.moving;
        if let Some((slices, saved)) = self.slices.as_mut().zip(saved.slices) {
            slices.load(*saved)?;
        }
        match (self.labels.as_mut(), saved.labels) {
            (Some(labels), Some(saved)) => labels.load(*saved)?,
            (None, None) => {}
            _ => return Err(InvalidParameter { name: "labels", expected: "as the plan has them" }),
        }
        match (self.severe.as_mut(), saved.severe) {
            (Some(severe), Some(saved)) => severe.state.load(*saved)?,
            (None, None) => {}
            _ => return Err(InvalidParameter { name: "severe", expected: "as the plan has it" }),
        }
        self.comparisons.iter_mut().zip(saved.comparisons).try_for_each(|(comparison, saved)| comparison.load(saved))
    }
}

pub(super) const fn role_of(reference: Reference) -> Role {
    match reference {
        Reference::Stable => Role::Stable,
        Reference::Baseline => Role::Baseline,
    }
}

fn show(difference: &mut StratifiedDifference, ratio: &mut StratifiedRatio, scatter: &Scatter, closed: Option<ClosedWindow>) {
    let Some(window) = closed else { return };
    let phi = scatter.phi(&window.counts, window.end - window.start);
    difference.absorb(&window.counts, phi);
    ratio.absorb(&window.counts, phi);
}
