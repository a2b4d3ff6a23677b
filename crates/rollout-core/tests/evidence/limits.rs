//! Limits without statistics, and a latency whose critical bound lies on another edge: what counts, for how long, and what a restart may not change.

use chrono::TimeDelta;
use rollout_core::plan::{CountSource, Direction, Guardrail, LevelBound, LimitBound, Reference, Test, Win};
use rollout_core::verdict::Verdict;

use crate::plans::*;
use crate::run::{Run, assert_restart_changes_nothing, named, reason};
use crate::world::*;

fn share(factor: f64) -> LimitBound {
    LimitBound::Ratio { factor, versus: Reference::Stable }
}

/// At most half of what stable takes; beyond 0.7 of it is over.
fn memory() -> Guardrail {
    limit("memory", Direction::AtMost, share(0.5), share(0.7))
}

/// A candidate of this level beside a stable of 25, each give or take one.
fn beside(level: f64, guardrail: Guardrail) -> Run {
    let mut world = World::new(40, 5_000, 2);
    (world.stable.rps, world.candidate.rps, world.candidate.watts) = (30.0, 10.0, level);
    Run::new(plan(vec![canary(&[25, 50])], vec![accuracy(0.05, 0.1), guardrail]), world)
}

#[test]
fn a_share_of_stables_level_counts_when_it_lasts() {
    let mut run = beside(10.0, memory());
    let finding = named(&run.ticks(2), "memory").clone();
    assert_eq!((finding.verdict, finding.reason.as_str()), (Verdict::Undecided, "Collecting"), "{}", finding.message);
    let finding = named(&run.ticks(1), "memory").clone();
    assert_eq!(finding.verdict, Verdict::Proven, "{}", finding.message);
    assert!(finding.message.contains("within the target of 0.5x vs stable"), "{}", finding.message);
    assert_eq!((finding.target.as_str(), finding.critical.as_str()), ("0.5x vs stable", "0.7x vs stable"));
    let factor: f64 = finding.value.unwrap().trim_end_matches('x').parse().unwrap();
    assert!((0.35..0.47).contains(&factor), "{factor}");
}

#[test]
fn one_peak_of_a_share_is_not_critical_and_three_instants_in_a_row_are() {
    let mut run = beside(10.0, memory());
    run.ticks(5);
    for _ in 0..4 {
        run.world.candidate.watts = 30.0;
        assert_ne!(reason(&run.ticks(2).overall), "Fail LimitExceeded");
        run.world.candidate.watts = 10.0;
        run.ticks(1);
    }
    run.world.candidate.watts = 30.0;
    let judgement = run.ticks(3);
    assert_eq!(reason(&judgement.overall), "Fail LimitExceeded");
    let message = &named(&judgement, "memory").message;
    assert!(message.contains("beyond the limit of 0.7x vs stable at 3 instants in a row"), "{message}");
}

#[test]
fn between_target_and_critical_nothing_rises_and_nothing_ends() {
    let mut run = beside(15.0, memory());
    assert!(run.until_decided(TimeDelta::minutes(5)).is_none(), "neither a step nor the end");
    assert_eq!(named(&run.judge(), "memory").verdict, Verdict::Warning);
    run.world.candidate.watts = 10.0;
    assert_eq!(reason(&run.until_decided(TimeDelta::minutes(5)).unwrap().0.overall), "StepPass");
}

#[test]
fn without_a_level_of_stable_there_is_no_share() {
    let mut run = beside(10.0, memory());
    run.ticks(4);
    run.world.of(STABLE).for_each(|pod| pod.set("watts", 0.0));
    run.world.stable.watts = 0.0;
    run.world.of(STABLE).for_each(|pod| pod.remove("watts"));
    assert_eq!(named(&run.ticks(8), "memory").verdict, Verdict::Unmeasurable);
    let mut run = beside(10.0, memory());
    run.world.stable.watts = -5.0;
    assert_eq!(named(&run.ticks(4), "memory").reason, "NotComparable");
}

#[test]
fn where_less_is_worse_the_smallest_pod_decides() {
    let capacity = || limit("capacity", Direction::AtLeast, LimitBound::Absolute(20.0), LimitBound::Absolute(10.0));
    let finding = named(&beside(25.0, capacity()).ticks(2), "capacity").clone();
    assert_eq!((finding.verdict, finding.target.as_str()), (Verdict::Proven, "at least 20W"), "{}", finding.message);
    let finding = named(&beside(15.0, capacity()).ticks(2), "capacity").clone();
    assert_eq!((finding.verdict, finding.reason.as_str()), (Verdict::Warning, "BelowTarget"), "{}", finding.message);
    let mut run = beside(25.0, capacity());
    run.ticks(2);
    run.world.candidate.watts = 5.0;
    let judgement = run.ticks(1);
    assert_eq!(reason(&judgement.overall), "Fail LimitExceeded");
    assert!(named(&judgement, "capacity").message.contains("below the limit of 10W"), "{}", named(&judgement, "capacity").message);
}

#[test]
fn a_mean_level_may_be_one_that_must_not_fall() {
    let capacity = |win| Guardrail {
        win,
        ..guardrail(
            "capacity",
            Test::Level {
                series: selector("power_watts", &[]),
                unit: "qps".into(),
                direction: Direction::AtLeast,
                target: LevelBound::Absolute(20.0),
                critical: LevelBound::Absolute(10.0),
            },
        )
    };
    let only = |level: f64, win| {
        let mut world = World::new(41, 5_000, 2);
        world.candidate.watts = level;
        Run::new(plan(vec![canary(&[50])], vec![capacity(win)]), world)
    };
    let (judgement, _) = only(25.0, Some(Win::Level(24.0))).until_decided(TimeDelta::hours(2)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass", "{:?}", judgement.overall);
    let finding = named(&judgement, "capacity");
    assert!(finding.message.contains("capacity is 25qps on average"), "{}", finding.message);
    assert!(finding.message.contains("within the target at least 20qps"), "{}", finding.message);
    assert_eq!(finding.win.as_ref().unwrap().promised, "at least 24qps");
    let (judgement, _) = only(5.0, None).until_decided(TimeDelta::hours(2)).unwrap();
    assert_eq!(reason(&judgement.overall), "Fail Harmful", "{:?}", judgement.overall);
}

/// A latency world: this share is slower than the first edge, and of these that share than the second.
fn slow(slow: f64, crawling: f64) -> Run {
    let mut world = World::new(42, 5_000, 2);
    (world.stable.rps, world.candidate.rps) = (50.0, 50.0);
    (world.candidate.slow, world.candidate.crawling) = (slow, crawling);
    Run::new(plan(vec![canary(&[50])], vec![latency_of_two_edges(0.05)]), world)
}

#[test]
fn slower_than_the_first_edge_is_a_warning_and_slower_than_the_second_is_critical() {
    let (judgement, _) = slow(0.01, 0.0).until_decided(TimeDelta::hours(1)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass", "{:?}", judgement.overall);
    // With one edge this candidate would be rolled back.
    let (judgement, _) = slow(0.2, 0.0).until_decided(TimeDelta::hours(1)).unwrap();
    assert_eq!(reason(&judgement.overall), "Inconclusive WorseThanTarget", "{:?}", judgement.overall);
    let (judgement, _) = slow(0.9, 0.8).until_decided(TimeDelta::hours(1)).unwrap();
    let finding = named(&judgement, "latency");
    assert_eq!(finding.critical, "5% slower than 250ms");
    let mut run = slow(0.02, 0.0);
    run.ticks(20);
    (run.world.candidate.slow, run.world.candidate.crawling) = (0.6, 1.0);
    let (judgement, _) = run.until_decided(TimeDelta::hours(1)).unwrap();
    assert!(["Fail Harmful", "Inconclusive WorseThanTarget"].contains(&reason(&judgement.overall).as_str()));
    let judgement = run.ticks(12);
    assert_eq!(reason(&judgement.overall), "Fail Harmful");
    let message = &named(&judgement, "latency").message;
    assert!(message.contains("slower than 250ms") && message.contains("beyond the critical 5%"), "{message}");
}

#[test]
fn a_second_edge_that_the_histogram_lacks_is_named_with_its_neighbours() {
    let mut run = slow(0.01, 0.0);
    if let Test::Counts { severe: Some(severe), .. } = &mut run.plan.guardrails[0].test {
        severe.bad = CountSource::Above { histogram: selector("inference_seconds", &[]), edge: 0.2 };
    }
    let mut run = Run::new(run.plan, World::new(43, 5_000, 2));
    let message = run.ticks(1).findings[0].message.clone();
    assert!(message.contains("no edge at 0.2; the nearest are 0.1 and 0.25"), "{message}");
}

#[test]
fn a_restart_changes_nothing_for_limits_and_second_edges() {
    let mut world = World::new(44, 5_000, 2);
    (world.candidate.watts, world.candidate.slow, world.candidate.crawling) = (17.4, 0.1, 0.3);
    let capacity = limit("capacity", Direction::AtLeast, share(0.9), share(0.6));
    let mut run = Run::new(plan(vec![canary(&[50])], vec![latency_of_two_edges(0.05), memory(), capacity]), world);
    assert_restart_changes_nothing(&mut run, 30, &[1, 7, 28], |_, _| {});
}
