//! A replay takes the operator's decisions on whatever traffic there is, and ends as an attempt ends.

use rollout_core::plan::{Plan, PlannedStage};
use rollout_core::replay::{End, Replay, Subject};
use rollout_core::spec::{OnInconclusive, StageKind};
use rollout_core::verdict::Verdict;
use serde_json::json;

use crate::plans::*;
use crate::world::*;

fn subject(plan: Plan) -> Subject {
    let backend = |name: &str| json!({"backendRef": {"name": name, "port": 80}});
    let rollout = json!({
        "model": {"uri": "oci://r/m:1"}, "workload": backend("new"), "baseline": backend("old"), "policyRef": {"name": "p"},
        "route": {"template": {"parentRefs": [{"name": "gw"}]}},
    });
    let policy =
        json!({"prometheus": {"address": "http://p:9090"}, "guardrails": [{"name": "nan", "tripwire": {"query": "nonfinite_total"}}]});
    Subject { rollout: serde_json::from_value(rollout).unwrap(), policy: serde_json::from_value(policy).unwrap(), plan }
}

/// A world with 40 requests a second on either arm, whatever is decided.
fn world(seed: u64) -> World {
    let mut world = World::new(seed, 5_000, 2);
    (world.stable.rps, world.candidate.rps) = (40.0, 40.0);
    world
}

/// Replays while the world goes on, for so many instants at most; `each` may change the world before each.
fn replayed(plan: Plan, world: &mut World, ticks: usize, mut each: impl FnMut(usize, &mut World, &mut Replay)) -> Replay {
    let mut replay = Replay::start(&subject(plan), world.at());
    for tick in 0..ticks {
        each(tick, world, &mut replay);
        world.step();
        let readings = world.readings(replay.plan());
        if replay.step(&world.arms(), world.at(), &readings).is_none() {
            break;
        }
    }
    replay
}

fn actions(replay: &Replay) -> Vec<&str> {
    replay.decisions().iter().map(|decision| decision.action.as_str()).collect()
}

fn stages() -> Vec<PlannedStage> {
    vec![PlannedStage { name: "shadow".into(), ..stage(StageKind::Shadow, &[100]) }, canary(&[5, 25])]
}

#[test]
fn a_good_candidate_is_promoted_through_every_stage() {
    let replay = replayed(plan(stages(), vec![accuracy(0.02, 0.05), nan()]), &mut world(1), 2_000, |_, _, _| ());
    assert_eq!(replay.end(), Some(End::Promoted), "{:?}", replay.decisions().last());
    assert_eq!(actions(&replay), ["Started", "Mirrored", "StagePassed", "Raised", "Raised", "Promoting", "Promoted"]);
    let proven = |stage| replay.firsts().iter().filter(|first| first.stage == stage && first.finding.verdict == Verdict::Proven).count();
    assert_eq!((proven(0), proven(1)), (2, 2), "every stage asks its own question");
}

#[test]
fn harm_rolls_back_and_says_which_guardrail_and_when() {
    let replay = replayed(plan(stages(), vec![accuracy(0.05, 0.05)]), &mut world(2), 2_000, |tick, world, _| {
        world.candidate.wrong = if tick < 10 { 0.03 } else { 0.3 };
    });
    let last = replay.decisions().last().unwrap();
    assert_eq!((replay.end(), last.action.as_str(), last.guardrail.as_str()), (Some(End::RolledBack), "RolledBack", "accuracy"));
    let first = replay.firsts().iter().find(|first| first.finding.verdict == Verdict::Harmful).unwrap();
    assert_eq!(first.at, last.time);
    assert!(replay.attempt().is_none(), "an attempt that is over is not judged on");
}

#[test]
fn without_proof_it_ends_as_the_plan_says() {
    for (choice, action) in [(OnInconclusive::Rollback, "RolledBack"), (OnInconclusive::Pause, "Paused")] {
        let short = PlannedStage { max: chrono::TimeDelta::minutes(3), ..canary(&[10]) };
        let plan = Plan { on_inconclusive: choice, ..plan(vec![short], vec![accuracy(0.001, 0.05)]) };
        let replay = replayed(plan, &mut world(3), 2_000, |_, _, _| ());
        assert_eq!((replay.end(), replay.decisions().last().unwrap().action.as_str()), (Some(End::Inconclusive), action));
    }
}

#[test]
fn a_silent_candidate_is_lowered_and_tried_again() {
    let replay = replayed(plan(vec![canary(&[25])], vec![accuracy(0.001, 0.05)]), &mut world(4), 120, |tick, world, _| {
        world.of(CANDIDATE).for_each(|pod| pod.scraped = !(20..40).contains(&tick));
    });
    assert_eq!(actions(&replay), ["Started", "Raised", "Lowered", "Raised"]);
    assert_eq!(replay.end(), None);
}

#[test]
fn the_split_of_recorded_traffic_is_not_held_against_the_candidate() {
    // Half of the traffic, where the plan says 5 and 25 %.
    let replay = replayed(plan(vec![canary(&[5, 25])], vec![accuracy(0.02, 0.05)]), &mut world(5), 400, |_, _, _| ());
    assert_eq!(replay.end(), Some(End::Promoted));
}

#[test]
fn traffic_that_is_moved_all_the_time_proves_nothing() {
    let run = |every: usize| {
        replayed(plan(vec![canary(&[25])], vec![accuracy(0.02, 0.05)]), &mut world(6), 400, |tick, world, replay| {
            if tick % every == 0 {
                replay.disturbed(world.at());
            }
        })
    };
    assert_eq!((run(2).end(), run(1_000).end()), (None, Some(End::Promoted)));
}

#[test]
fn approvals_are_taken_as_given() {
    let waiting = PlannedStage { approval_required: true, ..canary(&[25]) };
    let replay = replayed(plan(vec![waiting], vec![accuracy(0.02, 0.05)]), &mut world(7), 400, |_, _, _| ());
    assert_eq!(replay.end(), Some(End::Promoted));
}
