//! Holds what Espalier did against what it promises: both risks in every scenario, and the times and shares of the goals.
//! A promise that this many runs cannot show is neither kept nor broken, and is said to be so.

use crate::outcome::{Cell, Decision, Rate};
use crate::scenario::{Goal, Scenario};

/// The largest upper limit at 99 % of a rate of wrong decisions whose stated risk is 5 %.
pub const ALLOWED: f64 = 0.065;
/// The stated risk.
pub const RISK: f64 = 0.05;

/// How a promise stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Kept.
    Met,
    /// The rate is within the risk, but its upper limit is not below the allowed one.
    Open,
    /// Not kept.
    Missed,
}

impl State {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Open => "not shown by this many runs",
            Self::Missed => "**missed**",
        }
    }
}

/// What a promise is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A probability of deciding wrongly.
    Risk,
    /// A time or share to be reached.
    Goal,
}

/// One promise and what was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What it is about.
    pub kind: Kind,
    /// What is promised.
    pub promise: String,
    /// What was measured.
    pub found: String,
    /// How it stands.
    pub state: State,
}

/// All promises of one scenario.
pub fn checks(scenario: &Scenario, ours: &Cell) -> Vec<Check> {
    let risks = [("false rollback", ours.false_rollback(scenario.truth)), ("false promotion", ours.false_promotion(scenario.truth))];
    let mut checks: Vec<Check> = risks.into_iter().filter_map(|(what, rate)| Some(risk(what, rate?))).collect();
    let tick = scenario.setup.tick as f64 / 60.0;
    checks.extend(scenario.goals.iter().map(|goal| reach(*goal, ours, tick)));
    checks
}

fn risk(what: &str, rate: Rate) -> Check {
    let state = if rate.upper <= ALLOWED {
        State::Met
    } else if rate.value <= RISK {
        State::Open
    } else {
        State::Missed
    };
    let found = format!("{} (at most {})", percent(rate.value), percent(rate.upper));
    Check { kind: Kind::Risk, promise: format!("{what} at most {}", percent(ALLOWED)), found, state }
}

/// Times are read at instants, so one interval more is still in time.
fn reach(goal: Goal, ours: &Cell, tick: f64) -> Check {
    let timed = |decision, what: &str, limit: f64| {
        let share = ours.rate(decision).value;
        let median = ours.minutes(0.5, None).filter(|_| share > 0.5);
        let kept = median.is_some_and(|median| median <= limit + tick + 1e-9);
        let found = median.map_or_else(|| format!("only in {} of the runs", percent(share)), minutes);
        Check {
            kind: Kind::Goal,
            promise: format!("{what} within {} in the median", minutes(limit)),
            found,
            state: if kept { State::Met } else { State::Missed },
        }
    };
    match goal {
        Goal::Promoted(limit) => timed(Decision::Promoted, "promotion", limit),
        Goal::RolledBack(limit) => timed(Decision::RolledBack, "rollback", limit),
        Goal::PromotedShare(least) => {
            let share = ours.rate(Decision::Promoted);
            let state = if share.value >= least {
                State::Met
            } else if share.value + 2.33 * share.error >= least {
                State::Open
            } else {
                State::Missed
            };
            Check { kind: Kind::Goal, promise: format!("promotion in {} of the runs", percent(least)), found: percent(share.value), state }
        }
    }
}

/// A share in percent, with as many places as it deserves.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 99.95 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// Minutes, in full where they are many.
pub fn minutes(minutes: f64) -> String {
    if minutes >= 10.0 || minutes.fract() < 0.05 { format!("{minutes:.0} min") } else { format!("{minutes:.1} min") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;
    use crate::outcome::Outcome;

    fn checked(name: &str, promoted: usize, rolled_back: usize, held: usize) -> Vec<(String, State)> {
        let scenarios = catalogue::all();
        let scenario = scenarios.iter().find(|s| s.name == name).unwrap();
        let many = |decision, n| std::iter::repeat_n(Outcome { decision, minutes: 60.0, served: 0.0 }, n);
        let outcomes =
            many(Decision::Promoted, promoted).chain(many(Decision::RolledBack, rolled_back)).chain(many(Decision::Inconclusive, held));
        let cell = Cell { policy: "espalier", outcomes: outcomes.collect() };
        checks(scenario, &cell).into_iter().map(|check| (check.promise, check.state)).collect()
    }

    fn states(name: &str, promoted: usize, rolled_back: usize, held: usize) -> Vec<State> {
        checked(name, promoted, rolled_back, held).into_iter().map(|(_, state)| state).collect()
    }

    #[test]
    fn risks_are_held_against_their_upper_limit() {
        use State::{Met, Missed, Open};
        // 2 000 runs: 100 are 5 %, with an upper limit of 6.3 %; 120 are beyond.
        assert_eq!(states("s3-at-margin", 100, 120, 1780), [Missed, Met]);
        assert_eq!(states("s3-at-margin", 2, 0, 98), [Met, Open]);
        assert_eq!(states("s5-big-regression", 0, 2000, 0), [Met, Missed], "the median of 60 min is too late");
    }

    #[test]
    fn goals_need_the_right_ending_and_not_only_the_time() {
        assert_eq!(states("s1-aa", 2000, 0, 0), [State::Met, State::Met]);
        assert_eq!(states("s1-aa", 900, 0, 1100), [State::Met, State::Missed]);
        assert_eq!(states("s8-low-traffic-aa", 1800, 0, 200), [State::Met, State::Met]);
    }
}
