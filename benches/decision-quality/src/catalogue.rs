//! The worlds by name: plain ones, and those in which traffic or time changes. [`crate::trouble`] has those in which counting itself is hard.
//! Numbers are chosen once, from the questions they ask, and never from what a policy answers.

use crate::scenario::{Bound, Course, Effect, Goal, HOUR, MINUTE, Nature, Rail, Scenario, Setup, Truth};
use crate::trouble;

/// Every scenario, in the order of the tables.
pub fn all() -> Vec<Scenario> {
    let mut all = plain();
    all.extend(moving());
    all.extend(several());
    all.extend(trouble::all());
    all
}

/// Ten requests per second, 10 % on the candidate, base rate 8 %, target 2 pp, judged every minute in windows of five minutes, an hour to a day.
pub fn usual(name: &'static str, truth: Truth, story: &'static str) -> Scenario {
    Scenario {
        name,
        story,
        truth,
        setup: Setup {
            tick: MINUTE,
            window: 5 * MINUTE,
            steps: &[10],
            step_min: 10 * MINUTE,
            min: HOUR,
            max: 24 * HOUR,
            timeout: 0,
            pods: 2,
            candidate_pods: None,
            history: true,
        },
        rails: vec![rail("errors", 0.08, Effect::Plus(0.0))],
        nature: Nature::default(),
        goals: &[],
        limit: None,
    }
}

/// A proportion with target +2 pp.
pub const fn rail(name: &'static str, base: f64, effect: Effect) -> Rail {
    Rail { name, bound: Bound::Points { target: 0.02, critical: 0.02 }, base, effect, fraction: 1.0, labels: false, maturity: None }
}

/// The usual world with another candidate.
pub fn with(effect: Effect, scenario: Scenario) -> Scenario {
    let rails = scenario.rails.iter().map(|rail| Rail { effect, ..rail.clone() }).collect();
    Scenario { rails, ..scenario }
}

/// A champion that was deployed just before the attempt: nothing of it can be learnt from the days before.
pub fn new(scenario: Scenario) -> Scenario {
    Scenario { setup: Setup { history: false, ..scenario.setup }, ..scenario }
}

/// Scraped every 15 s, windows of one minute: the operator's defaults.
pub fn quick(scenario: Scenario) -> Scenario {
    let setup = Setup { tick: 15, window: MINUTE, step_min: 2 * MINUTE, min: 0, max: 6 * HOUR, ..scenario.setup };
    Scenario { setup, ..scenario }
}

fn plain() -> Vec<Scenario> {
    use Effect::Plus;
    use Truth::{Bad, Good, Neither};
    let goal = |goals, scenario| Scenario { goals, ..scenario };
    vec![
        goal(&[Goal::Promoted(60.0)], usual("s1-aa", Good, "Both models are equal (8 % wrong).")),
        goal(&[Goal::Promoted(130.0)], with(Plus(0.01), usual("s2-acceptable-loss", Good, "The candidate loses 1 pp; 2 pp are allowed."))),
        with(Plus(0.02), usual("s3-at-margin", Neither, "The candidate loses exactly the 2 pp at which both promises have their limit.")),
        goal(&[Goal::RolledBack(170.0)], with(Plus(0.03), usual("s4-small-regression", Bad, "The candidate loses 3 pp."))),
        goal(&[Goal::RolledBack(5.0)], with(Plus(0.10), usual("s5-big-regression", Bad, "The candidate loses 10 pp."))),
        goal(
            &[Goal::RolledBack(4.0)],
            with(
                Plus(0.10),
                quick(usual("s5-big-regression-15s", Bad, "The candidate loses 10 pp; scraped every 15 s, windows of 1 min.")),
            ),
        ),
        new(usual("s1-aa-new-champion", Good, "Both models are equal, and the champion is new: it has no past.")),
        new(with(Plus(0.02), usual("s3-at-margin-new-champion", Neither, "The same, exactly at the margin."))),
        with(Plus(-0.01), usual("s6-improvement", Good, "The candidate is 1 pp better.")),
        Scenario {
            rails: vec![Rail { bound: Bound::Points { target: 0.02, critical: 0.05 }, ..rail("errors", 0.08, Plus(0.035)) }],
            ..usual(
                "between-target-and-critical",
                Neither,
                "The candidate loses 3.5 pp; the target is 2 pp, critical is 5 pp. The other policies know only the target: for them a rollback is right.",
            )
        },
        Scenario {
            limit: Some(
                "At 1.9 pp the candidate is within the target for six hours; a promotion in that time is right by what could be seen.",
            ),
            ..with(
                Effect::From { at: 6.0 * 3600.0, before: 0.019, after: 0.06 },
                usual("s7-late-regression", Bad, "The candidate loses 1.9 pp for 6 h, then 6 pp."),
            )
        },
        goal(
            &[Goal::RolledBack(55.0)],
            with(
                Effect::From { at: 2400.0, before: 0.0, after: 0.10 },
                usual("s7b-regression-after-40min", Bad, "Equal for 40 min, then the candidate loses 10 pp."),
            ),
        ),
    ]
}

fn moving() -> Vec<Scenario> {
    use Effect::Plus;
    use Truth::{Bad, Good, Neither};
    let slow = |scenario: Scenario| Scenario {
        setup: Setup { steps: &[50], ..scenario.setup },
        nature: Nature { rps: Course::Flat(0.1), ..scenario.nature },
        ..scenario
    };
    let ramp = |scenario: Scenario| Scenario {
        setup: Setup { steps: &[1, 5, 25, 50], step_min: 6 * HOUR, min: 0, max: 30 * HOUR, ..scenario.setup },
        rails: scenario.rails.into_iter().map(|rail| Rail { base: 0.09, ..rail }).collect(),
        nature: Nature {
            rps: Course::Day { low: 2.0, high: 18.0 },
            base: Course::Day { low: 14.0 / 9.0, high: 4.0 / 9.0 },
            ..scenario.nature
        },
        ..scenario
    };
    let doubled = |scenario: Scenario| Scenario {
        nature: Nature { base: Course::Between { usual: 1.0, other: 2.0, from: 1800.0, to: 9000.0 }, ..scenario.nature },
        ..scenario
    };
    let night = |scenario| with(Effect::Night(0.06), scenario);
    vec![
        Scenario {
            goals: &[Goal::PromotedShare(0.83)],
            ..slow(usual("s8-low-traffic-aa", Good, "One request in 10 s, half of them to an equal candidate."))
        },
        slow(with(Plus(0.02), usual("s8-low-traffic-at-margin", Neither, "The same traffic, exactly at the margin."))),
        slow(with(Plus(0.10), usual("s8-low-traffic-big", Bad, "The same traffic, 10 pp worse."))),
        ramp(usual(
            "s9-ramp-aa",
            Good,
            "1, 5, 25, 50 % for 6 h each; traffic 2 to 18 per second and base rate 14 to 4 % over the day; equal models.",
        )),
        ramp(with(Plus(0.02), usual("s9-ramp-at-margin", Neither, "The same day and steps, exactly at the margin."))),
        Scenario {
            goals: &[Goal::RolledBack(420.0)],
            ..ramp(with(Plus(0.04), usual("s9-ramp-plus-4pp", Bad, "The same day and steps, 4 pp worse.")))
        },
        Scenario {
            goals: &[Goal::Promoted(34.0)],
            ..steps(quick(usual("steps-aa", Good, "1, 5, 25 % at 10 requests per second, equal models, scraped every 15 s.")))
        },
        doubled(usual("base-doubles-aa", Good, "The base rate doubles for two hours; equal models.")),
        doubled(with(Plus(0.03), usual("base-doubles-plus-3pp", Bad, "The base rate doubles for two hours; the candidate loses 3 pp."))),
        Scenario {
            limit: Some(
                "The risks cover only what was seen: a stage that ends before the first night cannot know it. `minDuration: 24h` can, as `night-only-whole-day` shows.",
            ),
            ..night(usual(
                "night-only",
                Bad,
                "The candidate loses 6 pp, but only at night; it starts in the morning and may end after an hour.",
            ))
        },
        night(Scenario {
            setup: Setup { min: 24 * HOUR, max: 36 * HOUR, ..usual("", Bad, "").setup },
            ..usual("night-only-whole-day", Bad, "The same candidate with a least time of 24 h.")
        }),
        Scenario {
            setup: Setup { steps: &[50], ..usual("", Good, "").setup },
            nature: Nature { rps: Course::Flat(0.5), silence: Some((3600.0, 61.0 * 3600.0)), ..Nature::default() },
            goals: &[Goal::PromotedShare(0.95)],
            ..usual("weekend-without-traffic", Good, "Half a request per second, then none for 60 h, then again; equal models.")
        },
        Scenario {
            setup: Setup { steps: &[50], ..usual("", Good, "").setup },
            nature: Nature { rps: Course::Flat(0.5), silence: Some((3600.0, 61.0 * 3600.0)), dark: true, ..Nature::default() },
            goals: &[Goal::PromotedShare(0.95)],
            ..usual("weekend-in-the-dark", Good, "The same, and nothing is scraped in the 60 h.")
        },
    ]
}

fn steps(scenario: Scenario) -> Scenario {
    Scenario { setup: Setup { steps: &[1, 5, 25], ..scenario.setup }, ..scenario }
}

fn several() -> Vec<Scenario> {
    use Effect::{Plus, Times};
    use Truth::{Bad, Good, Neither};
    let eight = |worse: f64| -> Vec<Rail> {
        let names = ["g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8"];
        let rails = names.into_iter().zip(2..).map(|(name, percent)| rail(name, f64::from(percent) / 100.0, Plus(0.0)));
        rails.enumerate().map(|(i, rail)| if i == 3 { Rail { effect: Plus(worse), ..rail } } else { rail }).collect()
    };
    let rare = |effect, scenario: Scenario| Scenario {
        setup: Setup { steps: &[25], min: 0, ..scenario.setup },
        rails: vec![Rail { bound: Bound::Times(2.0), ..rail("errors", 0.0002, effect) }],
        nature: Nature { rps: Course::Flat(100.0), ..Nature::default() },
        ..scenario
    };
    let thin = |scenario: Scenario| {
        let scenario = quick(scenario);
        Scenario {
            setup: Setup { steps: &[1], ..scenario.setup },
            nature: Nature { rps: Course::Flat(100.0), ..Nature::default() },
            ..scenario
        }
    };
    let power = |effect, scenario: Scenario| Scenario {
        setup: Setup { window: MINUTE, pods: 3, ..scenario.setup },
        rails: vec![Rail { bound: Bound::Level(2.0), ..rail("power_watts", 30.0, effect) }],
        nature: Nature { level: (0.95, 3.0), ..Nature::default() },
        ..scenario
    };
    vec![
        Scenario {
            goals: &[Goal::Promoted(104.0)],
            ..rare(Times(1.0), usual("rare-aa", Good, "Base rate 0.02 % at 100 per second, at most 2x, 25 %; equal models."))
        },
        rare(Times(2.0), usual("rare-at-margin", Neither, "The same, exactly 2x.")),
        Scenario { goals: &[Goal::RolledBack(49.0)], ..rare(Times(4.0), usual("rare-x4", Bad, "The same, 4x.")) },
        Scenario {
            goals: &[Goal::Promoted(25.0)],
            ..thin(usual("one-percent-aa", Good, "1 % of 100 per second, equal models, scraped every 15 s."))
        },
        Scenario { goals: &[Goal::RolledBack(3.0)], ..thin(with(Plus(0.10), usual("one-percent-big", Bad, "The same, 10 pp worse."))) },
        Scenario { rails: eight(0.0), ..usual("eight-guardrails-aa", Good, "Eight guardrails (2 to 9 %), all equal.") },
        Scenario { rails: eight(0.06), ..usual("eight-guardrails-one-bad", Bad, "Eight guardrails, one of them 6 pp worse.") },
        Scenario {
            rails: vec![rail("g1", 0.08, Plus(0.0)), rail("g2", 0.04, Plus(0.02)), rail("g3", 0.02, Plus(0.0))],
            setup: Setup { max: 12 * HOUR, ..usual("", Neither, "").setup },
            ..usual("three-guardrails-one-at-margin", Neither, "Three guardrails, one exactly at its target.")
        },
        Scenario {
            rails: vec![
                rail("errors", 0.08, Plus(0.015)),
                Rail { bound: Bound::Points { target: 0.05, critical: 0.05 }, fraction: 0.1, ..rail("slice", 0.08, Plus(0.15)) },
            ],
            ..usual("slice-only", Bad, "One tenth of the users loses 15 pp, the whole 1.5 pp; the slice is declared with 5 pp.")
        },
        Scenario {
            rails: vec![Rail { bound: Bound::Limit(0.05), ..rail("slow", 0.12, Plus(0.0)) }],
            setup: Setup { max: 12 * HOUR, ..usual("", Neither, "").setup },
            ..usual(
                "slow-world",
                Neither,
                "Both arms have 12 % slow requests where 5 % are allowed: not the candidate's fault, and no proof.",
            )
        },
        power(
            Plus(0.0),
            usual(
                "power-aa",
                Good,
                "Power with lag-15 s autocorrelation 0.95 and 3 W deviation per pod, 3 pods an arm, at most +2 W; equal.",
            ),
        ),
        power(Plus(2.0), usual("power-at-margin", Neither, "The same, exactly 2 W more.")),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_windows_are_whole_numbers_of_ticks() {
        let all = all();
        assert!(all.len() >= 20);
        let names: BTreeSet<_> = all.iter().map(|s| s.name).collect();
        assert_eq!(names.len(), all.len());
        for scenario in &all {
            assert_eq!(scenario.setup.window % scenario.setup.tick, 0, "{}", scenario.name);
            assert!(scenario.earliest() <= scenario.end() && !scenario.rails.is_empty(), "{}", scenario.name);
            assert!(!scenario.name.is_empty() && scenario.story.ends_with('.'), "{}", scenario.name);
        }
    }

    #[test]
    fn the_stated_truth_follows_from_bounds_and_effects() {
        for scenario in all() {
            let beyond = |rail: &Rail| {
                let worst = (0..24).map(|hour| rail.effect.on(rail.base, f64::from(hour) * 3600.0, true)).fold(0.0, f64::max);
                match rail.bound {
                    Bound::Points { critical, .. } => worst - rail.base > critical + 1e-9,
                    Bound::Times(factor) => worst / rail.base > factor + 1e-9,
                    Bound::Limit(_) | Bound::Level(_) => false,
                }
            };
            assert_eq!(scenario.rails.iter().any(beyond), scenario.truth == Truth::Bad, "{}", scenario.name);
        }
    }
}
