//! The two sides and the bounds of a test on counts, and what may be wrong with what its arms counted. Keeps nothing.

use anytime_stats::Tally;

use super::counting::{ArmCount, Sides};
use super::query::count_sought;
use super::series::Role;
use crate::plan::{CountBound, CountSource, Guardrail, Paired, Test};
use crate::verdict::Unmeasurable;

/// The parts of a test on counts.
pub(super) struct Parts<'a> {
    pub bad: &'a CountSource,
    pub total: &'a CountSource,
    pub target: CountBound,
    /// `None` when only worse events count against it, which are counted apart.
    pub critical: Option<CountBound>,
    pub or_not_worse: bool,
    /// For pairs: those in which stable alone was wrong, counted beside those of the candidate.
    pub stable_bad: Option<&'a CountSource>,
}

impl Parts<'_> {
    /// With the bounds as they show in the labels that have come, where both arms hold exactly those that came by the age of their cohort.
    pub(super) fn diluted(self, guardrail: &Guardrail) -> Self {
        let Some(maturity) = guardrail.maturity.as_ref().filter(|maturity| maturity.cohorts.is_some()) else { return self };
        Self { target: maturity.diluted(self.target), critical: self.critical.map(|bound| maturity.diluted(bound)), ..self }
    }
}

pub(super) fn parts(test: &Test) -> Option<Parts<'_>> {
    match test {
        Test::Counts { bad, severe, total, target, critical, or_not_worse_than_stable } => {
            let or_not_worse = *or_not_worse_than_stable;
            let critical = severe.is_none().then_some(*critical);
            Some(Parts { bad, total, target: *target, critical, or_not_worse, stable_bad: None })
        }
        Test::Paired(pairs) => Some(Parts {
            bad: &pairs.candidate_wrong,
            total: &pairs.total,
            target: Paired::bound(pairs.target),
            critical: Some(Paired::bound(pairs.critical)),
            or_not_worse: false,
            stable_bad: Some(&pairs.stable_wrong),
        }),
        Test::Gap(_) | Test::Drift(_) | Test::Energy(_) | Test::Level { .. } | Test::Limit { .. } | Test::Tripwire { .. } => None,
    }
}

/// What the arms counted in one tick.
pub(super) struct ArmCounts {
    pub candidate: Tally,
    pub stable: Tally,
    pub baseline: Tally,
}

impl ArmCounts {
    pub(super) fn of(&self, role: Role) -> Tally {
        match role {
            Role::Candidate => self.candidate,
            Role::Stable => self.stable,
            Role::Baseline => self.baseline,
        }
    }
}

pub(super) type Arms<'a> = [Option<&'a Result<ArmCount, Unmeasurable>>; 3];

pub(super) fn first_problem(arms: Arms<'_>) -> Option<Unmeasurable> {
    arms.into_iter().flatten().find_map(|arm| match arm {
        Ok(count) => count.problem.clone(),
        Err(problem) => Some(problem.clone()),
    })
}

/// More pairs in which one arm alone was wrong than pairs, beyond one that each target may have counted an instant early.
pub(super) fn more_than_all(parts: &Parts<'_>, arms: [&Result<ArmCount, Unmeasurable>; 2]) -> Option<Unmeasurable> {
    let [Ok(candidate), Ok(stable)] = arms else { return None };
    parts.stable_bad?;
    let (bad, total) = (candidate.tally().bad + stable.tally().bad, candidate.tally().total);
    let slack = candidate.targets.max(1) as f64;
    (bad > total + slack).then(|| Unmeasurable::Impossible {
        bad: bad.to_string(),
        total: total.to_string(),
        target: Role::Candidate.word().into(),
    })
}

/// A metric that no arm has is a misspelt one, not a perfect service. Labels of the total's own metric may well match nothing while nothing goes wrong.
pub(super) fn nobody_has_bad(sides: &Sides<'_>, arms: Arms<'_>) -> Option<Unmeasurable> {
    let bad = count_sought(sides.guardrail, sides.bad, sides.total)?;
    if count_sought(sides.guardrail, sides.total, sides.bad).is_some_and(|total| total.name() == bad.name()) {
        return None;
    }
    let none = arms.into_iter().flatten().all(|arm| arm.as_ref().is_ok_and(|count| !count.bad_exists));
    none.then(|| Unmeasurable::NoSeries { query: bad.name(), arm: "any arm".into() })
}
