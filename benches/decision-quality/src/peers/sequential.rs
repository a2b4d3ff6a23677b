//! Policies with a z-test: peeking at every window, one fixed look, and group-sequential looks.
//! What is computed once per scenario (looks, boundaries, sample sizes) is in the [`Briefing`].

use anytime_stats::group_sequential::{Spending, spending_bounds};
use anytime_stats::planning::{Precision, below_limit, noninferiority_proportions, noninferiority_rates};

use super::Peer;
use super::score::{Score, zero};
use crate::history::{Closed, WINDOW};
use crate::outcome::Decision;
use crate::scenario::{Bound, Rail, Scenario};

/// Level of every test.
const ALPHA: f64 = 0.05;
/// Its one-sided normal quantile.
const Z: f64 = 1.644_853_626_951_472_2;
/// Power for which the fixed look is planned.
const POWER: f64 = 0.9;
/// Looks of the group-sequential policies.
const LOOKS: u32 = 24;

/// What all policies know of a scenario before it begins.
pub struct Briefing<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// Seconds before which nobody may promote.
    pub earliest: f64,
    /// Seconds of the fixed look.
    fixed: f64,
    looks: Vec<Look>,
    /// z of the Bonferroni share of the level.
    z_harm: f64,
}

/// A group-sequential look.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: f64,
    promote: f64,
    harm: f64,
}

impl<'a> Briefing<'a> {
    /// Plans the looks from the scenario's nominal traffic, shares and rates.
    pub fn new(scenario: &'a Scenario) -> Self {
        let rails = scenario.rails.len().max(1) as f64;
        let single = |alpha: f64| spending_bounds(&[1.0], alpha, Spending::ObrienFleming).and_then(|b| b.first().map(|b| b.0));
        Self {
            scenario,
            earliest: scenario.earliest(),
            fixed: fixed_look(scenario),
            looks: looks(scenario, ALPHA / rails),
            z_harm: single(ALPHA / rails).unwrap_or(Z),
        }
    }

    fn scores(&self, zero_null: bool) -> Vec<Score> {
        self.scenario.rails.iter().map(|rail| Score::new(if zero_null { zero(rail.bound) } else { rail.bound })).collect()
    }
}

/// Windows of the scenario: end in seconds, nominal requests of champion and candidate.
fn nominal(scenario: &Scenario) -> impl Iterator<Item = (f64, f64, f64)> {
    let mut end = 0.0;
    std::iter::from_fn(move || {
        let middle = end + WINDOW / 2.0;
        end += WINDOW;
        let (requests, share) = (scenario.nature.traffic(middle) * WINDOW, scenario.scheduled_share(middle));
        (end <= scenario.end() + 1e-9).then_some((end, requests * (1.0 - share), requests * share))
    })
}

fn fixed_look(scenario: &Scenario) -> f64 {
    let mut counted = (0.0, 0.0);
    for (end, champion, candidate) in nominal(scenario) {
        counted = (counted.0 + champion, counted.1 + candidate);
        let ratio = counted.0 / counted.1;
        let enough = |rail: &Rail| needed(rail, ratio).is_some_and(|n| counted.1 * rail.fraction >= n);
        if end + 1e-9 >= scenario.earliest() && scenario.rails.iter().all(enough) {
            return end;
        }
    }
    scenario.end()
}

/// Candidate requests for the planned power when the candidate is equal; one hour of windows for levels, whose variance nobody knows.
fn needed(rail: &Rail, ratio: f64) -> Option<f64> {
    let precision = Precision { alpha: ALPHA, power: POWER };
    match rail.bound {
        Bound::Points { target, .. } => noninferiority_proportions(rail.base, rail.base, target, ratio, precision),
        Bound::Times(factor) => noninferiority_rates(rail.base, 1.0, factor, ratio, precision),
        Bound::Limit(limit) => below_limit(rail.base, limit, precision),
        Bound::Level(_) => Some(0.0),
    }
}

/// Looks at which the nominal information has grown, with boundaries for both sides.
fn looks(scenario: &Scenario, alpha_harm: f64) -> Vec<Look> {
    let every = (scenario.end() / f64::from(LOOKS) / WINDOW).round().max(1.0) * WINDOW;
    let (mut information, mut at): (f64, Vec<(f64, f64)>) = (0.0, Vec::new());
    for (end, champion, candidate) in nominal(scenario) {
        information += champion * candidate / (champion + candidate).max(f64::MIN_POSITIVE);
        let grown = at.last().is_none_or(|(_, before)| information > before * (1.0 + 1e-6));
        if (end / every).fract() < 1e-9 && grown && information > 0.0 {
            at.push((end, information));
        }
    }
    let fractions: Vec<f64> = at.iter().map(|(_, seen)| seen / at.last().map_or(1.0, |last| last.1)).collect();
    let bounds = |alpha| spending_bounds(&fractions, alpha, Spending::ObrienFleming).unwrap_or_default();
    let (promote, harm) = (bounds(ALPHA), bounds(alpha_harm));
    at.iter().zip(promote).zip(harm).map(|(((at, _), promote), harm)| Look { at: *at, promote: promote.0, harm: harm.0 }).collect()
}

fn absorb(scores: &mut [Score], closed: &Closed) {
    for (score, seen) in scores.iter_mut().zip(&closed.rails) {
        score.absorb(seen);
    }
}

fn any_above(zs: impl IntoIterator<Item = Option<f64>>, bound: f64) -> bool {
    zs.into_iter().flatten().any(|z| z >= bound)
}

fn all_below(zs: impl IntoIterator<Item = Option<f64>>, bound: f64) -> bool {
    zs.into_iter().all(|z| z.is_some_and(|z| z <= bound))
}

/// A z-test at every window.
pub struct Peeking {
    margin: Vec<Score>,
    harm: Vec<Score>,
}

impl Peeking {
    /// `zero_null`: any significant loss is harm.
    pub fn new(briefing: &Briefing<'_>, zero_null: bool) -> Self {
        Self { margin: briefing.scores(false), harm: briefing.scores(zero_null) }
    }
}

impl Peer for Peeking {
    fn look(&mut self, briefing: &Briefing<'_>, history: &[Closed]) -> Option<Decision> {
        let closed = history.last()?;
        absorb(&mut self.margin, closed);
        absorb(&mut self.harm, closed);
        if any_above(self.harm.iter().map(Score::pooled), Z) {
            return Some(Decision::RolledBack);
        }
        (closed.end + 1e-9 >= briefing.earliest && all_below(self.margin.iter().map(Score::pooled), -Z)).then_some(Decision::Promoted)
    }
}

/// One look.
pub struct Fixed(Vec<Score>);

impl Fixed {
    /// Before any data.
    pub fn new(briefing: &Briefing<'_>) -> Self {
        Self(briefing.scores(false))
    }
}

impl Peer for Fixed {
    fn look(&mut self, briefing: &Briefing<'_>, history: &[Closed]) -> Option<Decision> {
        let closed = history.last()?;
        absorb(&mut self.0, closed);
        if closed.end + 1e-9 < briefing.fixed {
            return None;
        }
        Some(if any_above(self.0.iter().map(Score::pooled), briefing.z_harm) {
            Decision::RolledBack
        } else if all_below(self.0.iter().map(Score::pooled), -Z) {
            Decision::Promoted
        } else {
            Decision::Inconclusive
        })
    }
}

/// Looks with boundaries.
pub struct GroupSequential {
    scores: Vec<Score>,
    stratified: bool,
    next: usize,
}

impl GroupSequential {
    /// Before any data.
    pub fn new(briefing: &Briefing<'_>, stratified: bool) -> Self {
        Self { scores: briefing.scores(false), stratified, next: 0 }
    }
}

impl Peer for GroupSequential {
    fn look(&mut self, briefing: &Briefing<'_>, history: &[Closed]) -> Option<Decision> {
        let closed = history.last()?;
        absorb(&mut self.scores, closed);
        let look = briefing.looks.get(self.next).filter(|look| closed.end + 1e-9 >= look.at)?;
        self.next += 1;
        let z = |score: &Score| if self.stratified { score.stratified() } else { score.pooled() };
        if any_above(self.scores.iter().map(z), look.harm) {
            return Some(Decision::RolledBack);
        }
        (closed.end + 1e-9 >= briefing.earliest && all_below(self.scores.iter().map(z), -look.promote)).then_some(Decision::Promoted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    #[test]
    fn looks_and_sample_size_of_the_plain_scenario_are_the_published_ones() {
        let scenarios = catalogue::all();
        let scenario = scenarios.iter().find(|s| s.name == "s1-aa").unwrap();
        let briefing = Briefing::new(scenario);
        assert_eq!(briefing.looks.len(), 24);
        // 1 751 candidate requests at 1 per second are in before the least time of one hour.
        assert!((briefing.fixed - 3_600.0).abs() < 1e-9);
        let [first, .., last] = briefing.looks.as_slice() else { panic!("looks") };
        assert!((first.at - 3_600.0).abs() < 1e-9 && first.promote > 5.0);
        assert!((last.at - 86_400.0).abs() < 1e-9 && (1.645..1.9).contains(&last.promote), "{last:?}");
    }
}
