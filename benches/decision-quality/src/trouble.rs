//! Worlds in which counting is hard: correlated failures, restarts, lost scrapes, incidents, late and missing labels, a wrong split.
//! The models behave as simply as in the plain worlds; only what can be seen of them does not.

use crate::catalogue::{new, quick, rail, usual, with};
use crate::scenario::{Beat, Course, Effect, HOUR, Incidents, Nature, Rail, Scenario, Setup, Sharing, Shock, Truth};

/// Why correlated failures may lead to wrong decisions.
const LEARNT: &str = "How failures cluster is learnt from the champion's few pods, from two days before the attempt and from the attempt itself: what clusters over half hours was seen less than a hundred times.";

/// Why a champion without a past may lead to wrong decisions.
const NEW: &str = "Over-dispersion is learnt within the attempt: in its first five minutes nothing is known of it, shocks of whole arms show after half an hour at the earliest, and what clusters over minutes is underestimated until several stretches of it were seen. Evidence of that time stays as it was judged.";

/// Why a champion with many pods may lead to wrong decisions about a candidate with few.
const FEW: &str = "How much pods differ is learnt from two halves of the champion's pods. A half of four averages what a single pod of the candidate shows in full: the over-dispersion of the candidate is underestimated.";

/// Every scenario with trouble.
pub fn all() -> Vec<Scenario> {
    let mut all: Vec<Scenario> = together()
        .into_iter()
        .chain(unlike_the_champion())
        .map(|scenario| Scenario { limit: scenario.limit.or(Some(LEARNT)), ..scenario })
        .collect();
    all.extend(scraped());
    all.extend(seen());
    all
}

fn in_nature(nature: Nature, scenario: Scenario) -> Scenario {
    Scenario { nature, ..scenario }
}

/// Failures that do not come one by one.
fn together() -> Vec<Scenario> {
    use Effect::Plus;
    use Truth::{Bad, Good, Neither};
    let shocks = |shared, hold| Nature { shock: Some(Shock { icc: 0.002, hold, shared }), ..Nature::default() };
    let clumps = || Nature { clump: 3.0, ..Nature::default() };
    let hot = |scenario: Scenario| Scenario {
        setup: Setup { pods: 4, ..scenario.setup },
        nature: Nature { hot: true, ..Nature::default() },
        ..scenario
    };
    let bursts = |effect, scenario: Scenario| Scenario {
        rails: vec![rail("errors", 0.02, effect)],
        nature: Nature { bursts: Some(Beat { every: 1800.0, length: 120.0 }), ..Nature::default() },
        ..scenario
    };
    let incidents = || Nature { incidents: Some(Incidents { count: 5, within: 7200.0, length: 60.0, rate: 0.5 }), ..Nature::default() };
    vec![
        in_nature(
            shocks(Sharing::Pod, 300.0),
            usual("bursty-pods-aa", Good, "Each pod's rate wobbles for 5 min at a time (correlation 0.002); equal models."),
        ),
        in_nature(
            shocks(Sharing::Pod, 300.0),
            with(Plus(0.02), usual("bursty-pods-at-margin", Neither, "The same wobble, exactly at the margin.")),
        ),
        Scenario {
            limit: Some(NEW),
            ..new(in_nature(
                shocks(Sharing::Pod, 300.0),
                with(Plus(0.02), usual("bursty-new-pods-at-margin", Neither, "The same, and the champion is new: it has no past.")),
            ))
        },
        in_nature(
            shocks(Sharing::Pod, 600.0),
            with(
                Plus(0.02),
                usual("bursty-pods-10min-at-margin", Neither, "Each pod's rate wobbles for 10 min at a time, exactly at the margin."),
            ),
        ),
        in_nature(shocks(Sharing::Pod, 300.0), with(Plus(0.10), usual("bursty-pods-big", Bad, "The same wobble, 10 pp worse."))),
        in_nature(
            shocks(Sharing::Arm, 600.0),
            usual("arm-shocks-aa", Good, "Whole arms wobble, each by itself, for 10 min at a time (correlation 0.002); equal models."),
        ),
        in_nature(
            shocks(Sharing::Arm, 600.0),
            with(Plus(0.02), usual("arm-shocks-at-margin", Neither, "The same arms, exactly at the margin.")),
        ),
        in_nature(
            shocks(Sharing::Arm, 1800.0),
            with(Plus(0.02), usual("arm-shocks-30min-at-margin", Neither, "The same for 30 min at a time, exactly at the margin.")),
        ),
        in_nature(shocks(Sharing::Arm, 600.0), with(Plus(0.10), usual("arm-shocks-big", Bad, "The arms of 10 min, 10 pp worse."))),
        in_nature(
            shocks(Sharing::World, 600.0),
            usual("world-shocks-aa", Good, "Both arms wobble together for 10 min at a time (correlation 0.002); equal models."),
        ),
        in_nature(
            shocks(Sharing::World, 600.0),
            with(Plus(0.02), usual("world-shocks-at-margin", Neither, "The same world, exactly at the margin.")),
        ),
        in_nature(shocks(Sharing::World, 600.0), with(Plus(0.10), usual("world-shocks-big", Bad, "The same world, 10 pp worse."))),
        in_nature(clumps(), usual("clumps-aa", Good, "Failures come three at a time; equal models.")),
        in_nature(clumps(), with(Plus(0.02), usual("clumps-at-margin", Neither, "Failures come three at a time, exactly at the margin."))),
        hot(usual("hot-pod-aa", Good, "One pod of each arm takes half of its traffic at four times the others' rate; equal models.")),
        hot(with(Plus(0.02), usual("hot-pod-at-margin", Neither, "The same hot pods, exactly at the margin."))),
        bursts(
            Plus(0.0),
            usual("all-failures-in-bursts-aa", Good, "All failures of half an hour of a pod (2 %) come within 2 min; equal models."),
        ),
        bursts(Plus(0.02), usual("all-failures-in-bursts-at-margin", Neither, "The same bursts, exactly at the margin.")),
        in_nature(
            incidents(),
            usual(
                "incidents-aa",
                Good,
                "Five incidents of 1 min in 2 h fail half of both arms, which are scraped at different moments; equal models.",
            ),
        ),
        in_nature(incidents(), with(Plus(0.02), usual("incidents-at-margin", Neither, "The same incidents, exactly at the margin."))),
    ]
}

/// What the champion's own pods and past do not show.
fn unlike_the_champion() -> Vec<Scenario> {
    use Effect::Plus;
    use Truth::Neither;
    let shocks = |shared, hold| Nature { shock: Some(Shock { icc: 0.002, hold, shared }), ..Nature::default() };
    let few = |scenario: Scenario| Scenario {
        setup: Setup { pods: 8, candidate_pods: Some(1), ..scenario.setup },
        nature: shocks(Sharing::Pod, 300.0),
        limit: Some(FEW),
        ..scenario
    };
    vec![
        few(with(
            Plus(0.02),
            usual(
                "bursty-one-pod-of-nine-at-margin",
                Neither,
                "The pods of 5 min, but eight of the champion against one, exactly at the margin.",
            ),
        )),
        Scenario {
            limit: Some(NEW),
            ..new(in_nature(
                shocks(Sharing::Arm, 600.0),
                with(
                    Plus(0.02),
                    usual(
                        "arm-shocks-new-champion-at-margin",
                        Neither,
                        "The arms of 10 min, and the champion is new, exactly at the margin.",
                    ),
                ),
            ))
        },
        in_nature(
            Nature { clump: 10.0, ..Nature::default() },
            with(Plus(0.02), usual("clumps-of-ten-at-margin", Neither, "Failures come ten at a time, exactly at the margin.")),
        ),
    ]
}

/// Counters that restart, vanish or arrive late.
fn scraped() -> Vec<Scenario> {
    use Effect::Plus;
    use Truth::{Bad, Good, Neither};
    let resets = || Nature { restarts: Some(1200.0), ..Nature::default() };
    let rough = || Nature { lost: 0.2, late: 0.1, ..Nature::default() };
    vec![
        in_nature(resets(), usual("resets", Good, "Every pod restarts every 20 min on average and its counters with it; equal models.")),
        in_nature(resets(), with(Plus(0.02), usual("resets-at-margin", Neither, "The same restarts, exactly at the margin."))),
        Scenario {
            setup: Setup { steps: &[1, 5, 25, 50], ..usual("", Neither, "").setup },
            nature: Nature { restart_at_raise: true, ..Nature::default() },
            ..with(
                Plus(0.02),
                usual(
                    "restart-at-every-raise-at-margin",
                    Neither,
                    "1, 5, 25, 50 %; all pods restart at each raise and their counters with them; exactly at the margin.",
                ),
            )
        },
        Scenario {
            setup: Setup { pods: 3, ..usual("", Neither, "").setup },
            nature: Nature { renewal: Some(900.0), ..Nature::default() },
            ..with(
                Plus(0.02),
                usual("new-pods-at-margin", Neither, "Each pod of the candidate is replaced every 15 min; exactly at the margin."),
            )
        },
        in_nature(
            rough(),
            usual("rough-scrapes", Good, "A fifth of all scrapes is lost, a tenth of the rest comes a minute late; equal models."),
        ),
        in_nature(rough(), with(Plus(0.02), usual("rough-scrapes-at-margin", Neither, "The same scrapes, exactly at the margin."))),
        in_nature(
            Nature { hidden: Some(Beat { every: 720.0, length: 120.0 }), ..Nature::default() },
            with(
                Effect::Unseen(0.5),
                usual(
                    "fails-while-unseen",
                    Bad,
                    "For 2 of every 12 min the candidate cannot be scraped, and fails half of its requests; equal otherwise.",
                ),
            ),
        ),
        late_timeouts(),
    ]
}

fn late_timeouts() -> Scenario {
    let story =
        "1, 5, 25 % of 100 per second; failures complete 30 s late, so that each raise first shows successes; exactly at the margin.";
    let scenario = quick(with(Effect::Plus(0.02), usual("late-timeouts-at-margin", Truth::Neither, story)));
    Scenario {
        setup: Setup { steps: &[1, 5, 25], timeout: 30, max: 2 * HOUR, ..scenario.setup },
        nature: Nature { rps: Course::Flat(100.0), late_failures: 30, ..Nature::default() },
        ..scenario
    }
}

/// Errors that are discovered half a day later on average, of a champion that has served for days.
fn late(effect: Effect, scenario: Scenario) -> Scenario {
    in_nature(Nature { discovery: Some(12.0 * 3600.0), ..Nature::default() }, with(effect, scenario))
}

/// Judged by labels of three times the mean age, when 1 - exp(-3) of them have come.
fn mature(scenario: Scenario) -> Scenario {
    let rails = scenario.rails.iter().map(|rail| Rail { maturity: Some((36 * HOUR, 0.95)), ..rail.clone() }).collect();
    Scenario { setup: Setup { max: 72 * HOUR, ..scenario.setup }, rails, ..scenario }
}

/// Outcomes and shares that are not what they seem.
fn seen() -> Vec<Scenario> {
    use Effect::Plus;
    use Truth::{Bad, Good, Neither};
    vec![
        Scenario {
            limit: Some(
                "The counters of labels show two equal models; that labels are missing must be found from the requests beside them.",
            ),
            rails: vec![Rail { labels: true, ..rail("errors", 0.08, Plus(0.05)) }],
            ..in_nature(
                Nature { labelled: 0.6, ..Nature::default() },
                usual(
                    "labels-missing-not-at-random",
                    Bad,
                    "The candidate loses 5 pp, but 40 % of its wrong answers are never labelled. No proof is the best that can be said.",
                ),
            )
        },
        Scenario {
            limit: Some(
                "The counters are read as they stand: errors that are discovered later count as successes until then, and the champion's errors of the days before are still being found. Only labels that are waited for can be judged, as `late-labels-mature` does with `maturity: {age: 36h}`.",
            ),
            ..late(Plus(0.04), usual("late-labels", Bad, "The candidate loses 4 pp; errors are discovered 12 h later on average."))
        },
        mature(late(
            Plus(0.04),
            usual(
                "late-labels-mature",
                Bad,
                "The same, and labels count at an age of 36 h, by which 95 % of them have come; at most 72 h.",
            ),
        )),
        mature(late(Plus(0.02), usual("late-labels-mature-at-margin", Neither, "The same labels, exactly at the margin."))),
        mature(late(Plus(0.0), usual("late-labels-mature-aa", Good, "The same labels; equal models."))),
        in_nature(
            Nature { share: 1.3, ..Nature::default() },
            usual(
                "wrong-split",
                Neither,
                "The candidate gets 13 % where 10 % are written: whatever is compared, it is not what was planned.",
            ),
        ),
    ]
}
