//! Labels that come late and say of which cohort of requests they are: every cohort is used once, at the same age in both arms, in order.
//! What comes later is ignored in both arms alike. Judges nothing; hands mature windows to the comparisons.

use std::collections::{BTreeMap, BTreeSet};

use anytime_stats::merge::ClosedWindow;
use anytime_stats::{Tally, Window};
use serde::{Deserialize, Serialize};

use super::counting::{ArmCounter, Sides};
use super::query::{count_sought, roles};
use super::series::Role;
use super::sift::{Part, Pick, Scope};
use super::slices::census;
use super::{Lens, TickTimes};
use crate::plan::{Cohorts, Maturity};
use crate::verdict::Unmeasurable;

/// Cohorts that wait for their age; the validation keeps an age to fewer.
const MOST_PENDING: usize = 200;
/// Changes of traffic that are remembered.
const MOST_CHANGES: usize = 64;

/// Cohorts of one guardrail. Times are unix milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CohortCounts {
    started: i64,
    /// By their beginning.
    #[serde(rename = "p")]
    pending: BTreeMap<i64, Pending>,
    /// Beginning of the newest cohort that is done with.
    #[serde(rename = "d")]
    done: Option<i64>,
    /// When traffic changed: beginning and end of settling.
    #[serde(rename = "c")]
    changes: Vec<(i64, i64)>,
    /// Whether the next change that is seen began a stage, and since when this stage's cohorts count.
    #[serde(rename = "n")]
    new_stage: bool,
    #[serde(rename = "s")]
    stage: i64,
}

/// One cohort that is not yet old enough: its counters, and what they counted so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pending {
    #[serde(rename = "a")]
    arms: BTreeMap<Role, (ArmCounter, Tally)>,
    /// The champion by halves of its targets, for the over-dispersion.
    #[serde(rename = "h")]
    halves: (Tally, Tally),
    /// Targets of the champion and of the candidate.
    #[serde(rename = "t", default)]
    targets: (usize, usize),
}

/// A cohort that has come of age.
pub(super) struct Mature {
    pub arms: BTreeMap<Role, Tally>,
    pub halves: (Tally, Tally),
    /// Targets of the champion and of the candidate.
    pub targets: (usize, usize),
    /// Unix seconds.
    pub start: f64,
    pub end: f64,
}

impl Mature {
    /// As a window against `reference`.
    pub(super) fn window(&self, reference: Role) -> ClosedWindow {
        let of = |role: Role| self.arms.get(&role).copied().unwrap_or_default();
        ClosedWindow { start: self.start, end: self.end, counts: Window::new(of(reference), of(Role::Candidate)) }
    }
}

impl CohortCounts {
    pub(super) fn new(started: i64) -> Self {
        Self { started, new_stage: true, ..Self::default() }
    }

    /// A new stage asks its own question: what began before it has no weight.
    pub(super) fn moved(&mut self, new_stage: bool) {
        self.new_stage |= new_stage;
    }

    /// Reads one instant: the cohorts that came of age by it, oldest first, and what could not be measured.
    pub(super) fn absorb(
        &mut self,
        lens: &Lens<'_>,
        sides: &Sides<'_>,
        (maturity, cohorts): (&Maturity, &Cohorts),
        times: &TickTimes,
        active: bool,
    ) -> (Vec<Mature>, Result<(), Unmeasurable>) {
        self.notice(times);
        let (width, age) = (cohorts.width.num_milliseconds(), maturity.age.num_milliseconds());
        let outcome = self.count(lens, sides, (cohorts, age), times, active);
        // What is of age is used at its time, measured or not: later it would be older in one arm than in the other.
        (self.of_age(width, age, lens.scope.instant), outcome)
    }

    /// Counts what has come for every cohort that is not yet of age.
    fn count(
        &mut self,
        lens: &Lens<'_>,
        sides: &Sides<'_>,
        (cohorts, age): (&Cohorts, i64),
        times: &TickTimes,
        active: bool,
    ) -> Result<(), Unmeasurable> {
        let Some(sought) = count_sought(sides.guardrail, sides.total, sides.bad) else { return Ok(()) };
        let (roles, width) = (roles(&sides.guardrail.test), cohorts.width.num_milliseconds());
        let first = self.started + width + age;
        for role in roles.iter().copied() {
            match lens.scope.fresh(&sought, role) {
                // No label has come yet, as is to be expected.
                Err(Unmeasurable::NoSeries { .. }) if role == Role::Candidate && lens.scope.instant < first => {}
                found => drop(found?),
            }
        }
        let census = census(&lens.scope, &sought, &roles, &cohorts.label)?;
        self.welcome(&census.values, cohorts, active)?;
        let mut first_problem = None;
        for (start, pending) in &mut self.pending {
            let of_age = start + width + age;
            // Nothing that came after the age, not even between two instants.
            let scope = Scope { instant: lens.scope.instant.min(of_age), ..lens.scope };
            if scope.instant <= times.start {
                continue;
            }
            let value = (start / 1000).to_string();
            let part = Part { label: &cohorts.label, pick: Pick::Only(&value), present: &census.present, from_zero: true };
            let scope = Scope { part: Some(part), ..scope };
            for role in roles.iter().copied() {
                let arm = pending.arms.entry(role).or_insert_with(|| (ArmCounter::new(*start), Tally::default()));
                match arm.0.count(&scope, sides, role) {
                    Ok(count) => {
                        arm.1 += count.tally();
                        match role {
                            Role::Stable => {
                                pending.halves.0 += count.halves.0;
                                pending.halves.1 += count.halves.1;
                                pending.targets.0 = pending.targets.0.max(count.targets);
                            }
                            Role::Candidate => pending.targets.1 = pending.targets.1.max(count.targets),
                            Role::Baseline => {}
                        }
                        first_problem = first_problem.or(count.problem);
                    }
                    Err(reason) => first_problem = first_problem.or(Some(reason)),
                }
            }
        }
        first_problem.map_or(Ok(()), Err)
    }

    /// Remembers changes of traffic, as long as a cohort may lie across them.
    fn notice(&mut self, times: &TickTimes) {
        if self.changes.last().is_none_or(|(since, _)| *since != times.since) {
            self.changes.push((times.since, times.settled));
            if self.changes.len() > MOST_CHANGES {
                self.changes.remove(0);
            }
        }
        if std::mem::take(&mut self.new_stage) {
            self.stage = times.settled;
        }
    }

    /// Makes room for cohorts that began within the attempt.
    fn welcome(&mut self, values: &BTreeSet<&str>, cohorts: &Cohorts, active: bool) -> Result<(), Unmeasurable> {
        for value in values.iter().filter(|value| !value.is_empty()) {
            let Some(start) = value.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1000)) else {
                let label = &cohorts.label;
                let message =
                    format!("label {label} has the value \"{value}\", expected the Unix second at which a cohort of requests began");
                return Err(Unmeasurable::NotComparable { message });
            };
            let known = self.pending.contains_key(&start) || self.done.is_some_and(|done| start <= done);
            if active && !known && start >= self.started && self.pending.len() < MOST_PENDING {
                self.pending.insert(start, Pending { arms: BTreeMap::new(), halves: Default::default(), targets: (0, 0) });
            }
        }
        Ok(())
    }

    /// Takes out what is old enough at `instant`; what lies across a change of traffic, or before the stage, has no weight.
    fn of_age(&mut self, width: i64, age: i64, instant: i64) -> Vec<Mature> {
        let mut mature = Vec::new();
        while let Some(entry) = self.pending.first_entry() {
            let (start, end) = (*entry.key(), *entry.key() + width);
            if end + age > instant {
                break;
            }
            let Pending { arms, halves, targets } = entry.remove();
            self.done = Some(start);
            let across = self.changes.iter().any(|(since, settled)| start < *settled && end > *since);
            if start >= self.stage && !across {
                let arms = arms.into_iter().map(|(role, (_, tally))| (role, tally)).collect();
                mature.push(Mature { arms, halves, targets, start: start as f64 / 1000.0, end: end as f64 / 1000.0 });
            }
        }
        if let Some(done) = self.done {
            // The newest change stays: it says what traffic is now.
            let newest = self.changes.last().copied();
            self.changes.retain(|change| change.1 > done || Some(*change) == newest);
        }
        mature
    }
}
