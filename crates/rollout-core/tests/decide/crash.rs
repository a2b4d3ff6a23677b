//! The process dies at every write of every story, before or after the write lands, for a moment or for minutes: it always ends the same.
//! That exposure never rises without a pass, and never above what the status says, is checked by the world after every write.

use chrono::TimeDelta;
use rollout_core::spec::RolloutSpec;
use serde_json::json;

use crate::fixtures::{adopting, baseline, harm_at, id_of, over_baseline, spec_with, trial, trying};
use crate::judge::failure;
use crate::world::{Crash, World};

/// What a story must end in, whatever happened on the way.
fn end(world: &World) -> String {
    let rejected: Vec<_> = world.status.rejected.iter().map(|r| (r.revision.to_string(), r.attempts)).collect();
    let shares: Vec<_> = world.workloads.keys().map(|r| (r.to_string(), world.share(&world.service_of(r)))).collect();
    format!(
        "{} {:?} {rejected:?} {shares:?} {:?} {:?}",
        world.stable(),
        world.condition("Ready"),
        world.status.attempt.is_some(),
        world.workloads.iter().map(|(r, w)| (r.to_string(), w.desired)).collect::<Vec<_>>()
    )
}

/// The story without a crash, then with one at each write.
fn check(name: &str, story: impl Fn() -> World) {
    let mut good = story();
    // The pace of the judge does not matter here, only the order of writes.
    good.judge.interval = TimeDelta::seconds(60);
    let mut looks = Vec::new();
    good.rest_watched(&mut |world| looks.push(world.clone()));
    let expected = end(&good);
    let most = good.exposures.iter().map(|(_, share)| *share).max();
    let mut runs = 0;
    let ends: Vec<usize> = looks.iter().skip(1).map(|world| world.writes).chain([good.writes]).collect();
    for (before, writes) in looks.iter().zip(ends) {
        for at in before.writes + 1..=writes {
            // A moment or minutes, in turn: the one is the watch that comes back, the other everything that ran out meanwhile.
            for (lands, downtime) in [(true, if at % 2 == 0 { 0 } else { 200 }), (false, if at % 2 == 0 { 200 } else { 1 })] {
                let mut world = before.clone();
                world.crash = Some(Crash { at, lands, downtime: TimeDelta::seconds(downtime) });
                world.rest();
                assert_eq!(end(&world), expected, "{name}: dead at write {at} of {}, landed: {lands}, away for {downtime} s", good.writes);
                assert!(world.exposures.iter().map(|(_, share)| *share).max() <= most, "{name}: write {at}: {:?}", world.exposures);
                assert!(!world.reasons().contains(&"ForeignEdit"), "{name}: nobody else wrote");
                runs += 1;
            }
        }
    }
    assert!(runs > 20, "{name} has only {runs} places to die at");
}

/// A rollout with two steps and a slice.
fn short(model: &str) -> RolloutSpec {
    let canary = json!({"name": "canary", "type": "Canary", "steps": ["5%", "25%"]});
    let slice = json!({"name": "ab", "type": "ABTest", "percent": "50%", "assignment": {"header": "x-user-id"}});
    spec_with(model, json!({"stages": [canary, slice], "probation": {"duration": "2m"}}))
}

fn short_trial() -> World {
    trying(short("a"), short("b"))
}

#[test]
fn a_good_story() {
    check("good", trial);
}

#[test]
fn a_first_deployment_and_a_baseline() {
    check("baseline", || over_baseline(spec_with("b", json!({"baseline": baseline()}))));
    check("first", || {
        let mut world = World::new(short("a"), crate::fixtures::policy());
        world.script(|w| w.condition("Ready").1 == "Promoted", |w| w.apply(short("b")));
        world
    });
}

#[test]
fn an_adopted_route() {
    check("adopted", adopting);
}

#[test]
fn harm_in_each_stage() {
    for (stage, step) in [(0, 0), (1, 1), (2, 0)] {
        check("harm", || {
            let mut world = trial();
            world.judge = harm_at(stage, step, 45);
            world
        });
    }
}

#[test]
fn harm_in_probation() {
    check("probation", || {
        let mut world = short_trial();
        world.script(|w| w.stable() == id_of(&short("b")).as_str(), |w| w.judge.regret = Some(failure("Harmful")));
        world
    });
}

#[test]
fn a_new_candidate_in_the_middle() {
    check("replaced", || {
        let mut world = short_trial();
        world.script(|w| w.is_at(0, 1), |w| w.apply(short("c")));
        world
    });
}

#[test]
fn back_to_stable_in_the_middle_of_a_slice() {
    check("back", || {
        let mut world = short_trial();
        world.script(|w| w.is_at(1, 0), |w| w.apply(short("a")));
        world
    });
}

#[test]
fn a_retry_and_an_abort() {
    check("retry", || {
        let mut world = short_trial();
        world.script(|w| w.is_at(0, 1), |w| w.ask("1", "abort", id_of(&short("b")).as_str()));
        world.script(|w| w.condition("Ready").1 == "RolledBack", |w| w.ask("2", "retry", id_of(&short("b")).as_str()));
        world
    });
}

#[test]
fn a_policy_edit_and_a_return_to_the_old_revision() {
    check("edited", || {
        let mut world = short_trial();
        world.script(
            |w| w.is_at(0, 1),
            |w| {
                let mut edited = serde_json::to_value(crate::fixtures::policy()).unwrap();
                edited["guardrails"][0]["target"] = json!("+1pp vs stable");
                w.policy = Some((2, serde_json::from_value(edited).unwrap()));
            },
        );
        world.script(|w| w.stable() == id_of(&short("b")).as_str(), |w| w.apply(short("a")));
        world
    });
}

#[test]
fn pods_that_come_and_go_in_a_stage_without_probation() {
    check("pods", || {
        let short =
            |model| spec_with(model, json!({"stages": [{"name": "canary", "type": "Canary", "steps": ["5%", "50%"]}], "probation": null}));
        let mut world = trying(short("a"), short("b"));
        world.script(|w| w.is_at(0, 1), |w| w.workloads.get_mut(&w.desired()).unwrap().ready = 0);
        world.script(|w| w.condition("Ready").1 == "CandidateUnready", |w| w.workloads.get_mut(&w.desired()).unwrap().ready = 2);
        world
    });
}
