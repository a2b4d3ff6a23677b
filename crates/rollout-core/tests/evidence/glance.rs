//! Looks between instants: what they see, what they leave alone, and that the next instant sees the same.

use chrono::TimeDelta;
use rollout_core::evidence::Evidence;
use rollout_core::judge::glance;
use rollout_core::spec::StageKind;
use rollout_core::verdict::{Failure, Overall};
use rollout_core::weights::Exposure;

use crate::plans::*;
use crate::run::{Run, named};
use crate::world::{CANDIDATE, STABLE, World};

/// A canary at 50 % after a minute of good traffic; pods are scraped every second at offsets of their own.
fn run() -> Run {
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.1), nan(), power_limit(30.0, 50.0)]), World::new(71, 1_000, 2));
    run.ticks(60);
    run
}

/// A scrape of everything 250 ms after the last instant, and a glance then.
fn glanced(run: &Run) -> Option<Failure> {
    let mut world = run.world.clone();
    world.interval = 250;
    for pod in &mut world.pods {
        pod.offset = 0;
    }
    world.step();
    glance(&run.plan, &run.evidence, &world.arms(), world.at(), &world.readings(&run.plan))
}

#[test]
fn a_tripwire_that_moves_between_two_instants_is_seen_there_and_again_at_the_next_one() {
    let mut run = run();
    assert_eq!(glanced(&run), None);
    run.world.of(CANDIDATE).next().unwrap().add("nan", 2.0);
    let before = run.evidence.clone();
    let failure = glanced(&run).unwrap();
    assert_eq!((failure.guardrail.as_str(), failure.reason.as_str()), ("nan", "TripwireCrossed"));
    assert_eq!(run.evidence, before, "a glance must leave the evidence as it is, or a replay would differ");
    run.tick();
    assert_eq!(run.judge().overall, Overall::Fail(failure));
}

#[test]
fn a_limit_that_is_crossed_between_two_instants_is_seen_there() {
    let mut run = run();
    run.world.candidate.watts = 80.0;
    let failure = glanced(&run).unwrap();
    assert_eq!((failure.guardrail.as_str(), failure.reason.as_str()), ("power-limit", "LimitExceeded"));
}

#[test]
fn what_stable_trips_too_is_no_reason_between_instants_either() {
    let mut run = run();
    for revision in [STABLE, CANDIDATE] {
        run.world.of(revision).next().unwrap().add("nan", 1.0);
    }
    assert_eq!(glanced(&run), None);
}

#[test]
fn nobody_is_glanced_at_without_users_or_in_a_stage_where_the_guardrail_does_not_count() {
    let mut run = run();
    run.world.of(CANDIDATE).next().unwrap().add("nan", 1.0);
    run.plan.guardrails[1].stages = vec![StageKind::Shadow];
    assert_eq!(glanced(&run), None);
    run.plan.guardrails[1].stages = vec![StageKind::Canary];
    assert!(glanced(&run).is_some());
    run.expose(run.position, Exposure::ZERO);
    assert_eq!(glanced(&run), None);
}

#[test]
fn an_answer_that_did_not_come_fails_nobody() {
    let mut run = run();
    run.world.of(CANDIDATE).next().unwrap().add("nan", 1.0);
    run.world.answers = false;
    assert_eq!(glanced(&run), None);
}

#[test]
fn a_glance_needs_no_other_answers_than_those_it_asks_for() {
    let mut run = run();
    run.world.of(CANDIDATE).next().unwrap().add("nan", 1.0);
    run.world.step();
    let (arms, all) = (run.world.arms(), run.world.readings(&run.plan));
    let asked = Evidence::glance_queries(&run.plan, &arms);
    assert!(asked.len() < all.len());
    let some = all.into_iter().filter(|(query, _)| asked.contains(query)).collect();
    let at = run.world.at() - TimeDelta::milliseconds(1);
    assert!(glance(&run.plan, &run.evidence, &arms, at, &some).is_some());
    assert_eq!(named(&run.judge(), "nan").reason, "NotCrossed", "the instant itself has not been folded");
}
