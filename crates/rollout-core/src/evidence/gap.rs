//! The gap between groups of the candidate's requests: every group against every other, both ways round, on one-arm counts by a label's values.
//! A gap that the candidate did not make is not held against it: harm must also show that a group fares otherwise than on stable.

use anytime_stats::multiplicity::log_average;
use anytime_stats::{InvalidParameter, Tally, Window};
use serde::{Deserialize, Serialize};

use super::comparison::{Bounds, Comparison, Saved as SavedComparison, Terms, Tick};
use super::counting::{ArmCount, ArmCounter, Sides};
use super::query::count_sought;
use super::scatter::Scatter;
use super::series::Role;
use super::sift::{Part, Pick, Scope};
use super::slices::{Census, census};
use super::{Lens, TickTimes, Weighty};
use crate::plan::{CountBound, Gap, Guardrail, Reference};
use crate::verdict::Unmeasurable;

/// State of one guardrail on the gap between groups.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GapState {
    moving: Moving,
    /// Every ordered pair of groups: the first is the one that may fare worse.
    pairs: Vec<(usize, usize, Comparison)>,
    /// Per group: worse than on stable, and better than on stable.
    changes: Vec<[Comparison; 2]>,
}

/// Moving numbers beside the comparisons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Moving {
    groups: Vec<Group>,
    scatter: Scatter,
    /// Highest log e-values of harm against critical and against target.
    peaks: (f64, f64),
}

/// One group's counters, and what they counted while the guardrail was active: stable, candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Group {
    candidate: ArmCounter,
    stable: ArmCounter,
    seen: Window,
}

/// Saved state of one guardrail on the gap between groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    #[serde(rename = "m")]
    moving: Moving,
    #[serde(rename = "p")]
    pairs: Vec<SavedComparison>,
    #[serde(rename = "c")]
    changes: Vec<SavedComparison>,
}

/// Ordered pairs of `groups` groups, among which the rollback risk is shared.
pub(crate) const fn pairs(groups: usize) -> f64 {
    (groups * groups.saturating_sub(1)) as f64
}

impl GapState {
    /// Fresh state; an error when a bound is outside its domain.
    pub(super) fn new(gap: &Gap, terms: &Terms, started: i64) -> Result<Self, InvalidParameter> {
        let difference = |margin| CountBound::Difference { margin, versus: Reference::Stable };
        let bounds = Bounds { target: Some(difference(gap.target)), critical: Some(difference(gap.critical)), win: None };
        // "Not changed at all" is what is rejected before the candidate is blamed.
        let unchanged = Bounds { critical: Some(difference(0.0)), ..Bounds::default() };
        let count = gap.groups.len();
        let ordered = (0..count).flat_map(|worse| (0..count).filter(move |better| *better != worse).map(move |better| (worse, better)));
        let pairs = ordered
            .map(|(worse, better)| Ok((worse, better, Comparison::new(Role::Candidate, bounds, terms)?)))
            .collect::<Result<_, InvalidParameter>>()?;
        let change = || Comparison::new(Role::Stable, unchanged, terms);
        let changes = (0..count).map(|_| Ok([change()?, change()?])).collect::<Result<_, InvalidParameter>>()?;
        let group = || Group { candidate: ArmCounter::new(started), stable: ArmCounter::new(started), seen: Window::default() };
        let groups = (0..count).map(|_| group()).collect();
        Ok(Self { moving: Moving { groups, scatter: Scatter::default(), peaks: (0.0, 0.0) }, pairs, changes })
    }

    /// Counts one instant. What was counted is kept even when something else cannot be measured.
    pub(super) fn absorb(
        &mut self,
        lens: &Lens<'_>,
        (guardrail, gap): (&Guardrail, &Gap),
        times: &TickTimes,
        active: bool,
    ) -> Result<(), Unmeasurable> {
        let sides = Sides { guardrail, bad: &gap.bad, total: &gap.total };
        let census = read(&lens.scope, &sides, gap)?;
        let (mut counted, mut problem, mut bad_exists) = (Vec::new(), None, false);
        // Of stable and of the candidate, in the group that most of them have users of.
        let mut targets = (0, 0);
        for (group, value) in self.moving.groups.iter_mut().zip(&gap.groups) {
            let part = Part { label: &gap.label, pick: Pick::Only(value), present: &census.present, from_zero: false };
            let scope = Scope { part: Some(part), ..lens.scope };
            let mut count = |counter: &mut ArmCounter, role| match counter.count(&scope, &sides, role) {
                Ok(count) => {
                    bad_exists |= count.bad_exists;
                    problem = problem.take().or_else(|| count.problem.clone());
                    count
                }
                Err(reason) => {
                    problem.get_or_insert(reason);
                    ArmCount::default()
                }
            };
            let (stable, candidate) = (count(&mut group.stable, Role::Stable), count(&mut group.candidate, Role::Candidate));
            targets = (targets.0.max(stable.targets), targets.1.max(candidate.targets));
            counted.push((Window::new(stable.tally(), candidate.tally()), stable.halves));
        }
        let problem =
            problem.or_else(|| missing_group(&census, &sides, gap)).or_else(|| (!bad_exists).then(|| nobody_has_bad(&sides)).flatten());
        if active {
            let halves = counted.iter().fold((Tally::default(), Tally::default()), |mut sum, (_, halves)| {
                sum.0 += halves.0;
                sum.1 += halves.1;
                sum
            });
            self.moving.scatter.absorb(times.seconds(), halves, targets);
            let counts: Vec<Window> = counted.into_iter().map(|(counts, _)| counts).collect();
            self.fold(times, &counts, problem.is_none());
        }
        problem.map_or(Ok(()), Err)
    }

    fn fold(&mut self, times: &TickTimes, counts: &[Window], measured: bool) {
        let tick = |counts| Tick {
            start: times.start as f64 / 1000.0,
            end: times.end as f64 / 1000.0,
            counts,
            judged: if measured { times.judged } else { 0.0 },
            settled: times.settled as f64 / 1000.0,
            mature: f64::NEG_INFINITY,
        };
        let of = |group: usize| counts.get(group).copied().unwrap_or_default();
        for (worse, better, pair) in &mut self.pairs {
            pair.absorb(&tick(Window::new(of(*better).candidate, of(*worse).candidate)), &self.moving.scatter);
        }
        for (group, [up, down]) in self.changes.iter_mut().enumerate() {
            let counts = of(group);
            up.absorb(&tick(counts), &self.moving.scatter);
            down.absorb(&tick(Window::new(counts.candidate, counts.champion)), &self.moving.scatter);
        }
        for (group, counts) in self.moving.groups.iter_mut().zip(counts) {
            group.seen += *counts;
        }
        self.keep_peaks();
    }

    fn keep_peaks(&mut self) {
        let (harm, warning) = self.log_e_harm_now();
        self.moving.peaks = (self.moving.peaks.0.max(harm), self.moving.peaks.1.max(warning));
    }

    pub(super) fn moved(&mut self, weighty: Weighty, new_stage: bool) {
        let scatter = &self.moving.scatter;
        for (_, _, pair) in &mut self.pairs {
            pair.close(scatter, weighty);
            pair.state.step_windows = 0;
            if new_stage {
                pair.restart_proof();
            }
        }
        for change in self.changes.iter_mut().flatten() {
            change.close(scatter, weighty);
        }
        self.keep_peaks();
    }

    /// The least of the proofs: every pair must be within the target.
    pub(crate) fn log_e_proof(&self) -> f64 {
        self.pairs.iter().filter_map(|(_, _, pair)| pair.proof.as_ref()).map(super::family::Proof::log_e).fold(f64::INFINITY, f64::min)
    }

    /// The highest over the pairs of: the gap is too wide, and one of the two groups fares otherwise than on stable. Against critical, against target.
    fn log_e_harm_now(&self) -> (f64, f64) {
        let change = |group: usize, side: usize| {
            let found = self.changes.get(group).and_then(|both| both.get(side)).and_then(|change| change.critical.as_ref());
            found.map_or(0.0, super::family::Harm::log_e)
        };
        let mut highest = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        for (worse, better, pair) in &self.pairs {
            let blame = log_average(&[change(*worse, 0), change(*better, 1)]);
            let of = |harm: Option<&super::family::Harm>| harm.map_or(0.0, super::family::Harm::log_e).min(blame);
            let critical = of(pair.critical.as_ref());
            let target = if pair.target.is_some() { of(pair.target.as_ref()) } else { critical };
            highest = (highest.0.max(critical), highest.1.max(target));
        }
        highest
    }

    /// Log e-values of harm, now and highest: against critical, against target.
    pub(crate) fn log_e_harm(&self) -> ((f64, f64), (f64, f64)) {
        let (harm, warning) = self.log_e_harm_now();
        ((harm, self.moving.peaks.0), (warning, self.moving.peaks.1))
    }

    /// Whether any two groups have requests to be judged by.
    pub(super) fn has_requests(&self) -> bool {
        self.pairs.iter().any(|(_, _, pair)| !pair.state.idle)
    }

    /// Proof windows of this step that counted in every pair.
    pub(crate) fn step_windows(&self) -> u32 {
        self.pairs.iter().map(|(_, _, pair)| pair.state.step_windows).min().unwrap_or(0)
    }

    /// What was counted per group, in the plan's order: stable, candidate.
    pub(crate) fn seen(&self) -> impl Iterator<Item = Window> + '_ {
        self.moving.groups.iter().map(|group| group.seen)
    }

    pub(super) fn save(&self) -> Saved {
        Saved {
            moving: self.moving.clone(),
            pairs: self.pairs.iter().map(|(_, _, pair)| pair.save()).collect(),
            changes: self.changes.iter().flatten().map(Comparison::save).collect(),
        }
    }

    pub(super) fn load(&mut self, saved: Saved) -> Result<(), InvalidParameter> {
        let sizes = (saved.moving.groups.len(), saved.pairs.len(), saved.changes.len());
        if sizes != (self.moving.groups.len(), self.pairs.len(), 2 * self.changes.len()) {
            return Err(InvalidParameter { name: "groups", expected: "as many as the plan has" });
        }
        self.moving = saved.moving;
        self.pairs.iter_mut().zip(saved.pairs).try_for_each(|((_, _, pair), saved)| pair.load(saved))?;
        self.changes.iter_mut().flatten().zip(saved.changes).try_for_each(|(change, saved)| change.load(saved))
    }
}

/// Both arms report, and the label is there.
fn read<'a>(scope: &Scope<'a>, sides: &Sides<'_>, gap: &Gap) -> Result<Census<'a>, Unmeasurable> {
    let Some(sought) = count_sought(sides.guardrail, sides.total, sides.bad) else {
        return Err(Unmeasurable::NotComparable { message: "groups are counted among events, not in seconds".into() });
    };
    for role in [Role::Candidate, Role::Stable] {
        scope.fresh(&sought, role)?;
    }
    census(scope, &sought, &[Role::Candidate, Role::Stable], &gap.label)
}

fn missing_group(census: &Census<'_>, sides: &Sides<'_>, gap: &Gap) -> Option<Unmeasurable> {
    let group = gap.groups.iter().find(|group| !census.values.contains(group.as_str()))?;
    let query = count_sought(sides.guardrail, sides.total, sides.bad)?.name();
    Some(Unmeasurable::NoSuchGroup { query, label: gap.label.clone(), group: group.clone() })
}

/// A metric that no arm has is a misspelt one, not a perfect service.
fn nobody_has_bad(sides: &Sides<'_>) -> Option<Unmeasurable> {
    let bad = count_sought(sides.guardrail, sides.bad, sides.total)?;
    let total = count_sought(sides.guardrail, sides.total, sides.bad)?;
    (bad.name() != total.name()).then(|| Unmeasurable::NoSeries { query: bad.name(), arm: "any arm".into() })
}
