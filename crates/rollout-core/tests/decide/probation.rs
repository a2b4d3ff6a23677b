//! The time after a promotion, and the way back.

use chrono::TimeDelta;
use rollout_core::decide::Write;
use serde_json::json;

use crate::fixtures::{baseline, failure_free_end, id_of, killed, over_baseline, pods, service, spec, spec_with, trial, trying};
use crate::judge::failure;
use crate::world::World;

fn promoted() -> World {
    let mut world = trial();
    world.run_until("promoted", |w| w.stable() == id_of(&spec("b")).as_str());
    world
}

fn check_returned(world: &World) {
    assert_eq!(world.stable(), id_of(&spec("a")).as_str());
    assert_eq!((world.share(&service(&spec("a"))), world.share(&service(&spec("b")))), (100, 0));
    assert_eq!((world.condition("Ready"), world.condition("Stalled").0), (("False", "RolledBack"), "True"));
    assert_eq!(world.status.rejected[0].revision, id_of(&spec("b")));
    assert_eq!(world.status.stable.as_ref().map(|s| s.since), Some(world.status.rejected[0].at), "it serves since then");
    let left = format!("revision {} is left for {}: ", id_of(&spec("b")), id_of(&spec("a")));
    assert!(world.status.rejected[0].message.starts_with(&left), "{}", world.status.rejected[0].message);
    assert!(world.status.probation.is_none() && world.status.history.is_empty());
    assert_eq!(world.reasons().iter().filter(|r| **r == "RolledBack").count(), 1);
}

#[test]
fn the_old_revision_stays_ready_through_probation_and_is_parked_after() {
    let mut world = promoted();
    let until = world.status.probation.as_ref().unwrap().until;
    world.run_until("half over", |w| w.now + TimeDelta::minutes(4) > until);
    assert!(world.decide().next_check > TimeDelta::minutes(3), "nothing is waited for but its end");
    world.run_until("nearly over", |w| w.now + TimeDelta::seconds(30) > until);
    assert_eq!(world.workloads[&id_of(&spec("a"))].ready, 2);
    assert_eq!(world.status.display.stage, "Probation");
    world.rest();
    failure_free_end(&world, &spec("b"));
    assert_eq!(world.workloads[&id_of(&spec("a"))].ready, 0);
}

#[test]
fn harm_in_probation_gives_everybody_back_at_any_moment() {
    // At once, when the sticky rules are not yet unwound, and later.
    for seconds in [0, 1, 2, 20, 300] {
        let mut world = promoted();
        let since = world.now;
        world.run_until("then", |w| w.now >= since + TimeDelta::seconds(seconds));
        world.judge.regret = Some(failure("Harmful"));
        world.rest();
        check_returned(&world);
    }
}

#[test]
fn a_crash_loop_or_lost_endpoints_in_probation_give_everybody_back() {
    for crash_loop in [true, false] {
        let mut world = promoted();
        for _ in 0..10 {
            world.step();
        }
        let pods = pods(&mut world, "b");
        if crash_loop {
            pods.tripped = Some(killed());
        } else {
            pods.ready = 0;
        }
        world.rest();
        check_returned(&world);
    }
}

#[test]
fn a_node_that_takes_both_revisions_rejects_neither() {
    let mut world = promoted();
    for _ in 0..10 {
        world.step();
    }
    for pods in world.workloads.values_mut() {
        pods.ready = 0;
    }
    world.step();
    assert!(world.status.rejected.is_empty());
    assert_eq!(world.condition("Available").0, "False");
}

#[test]
fn a_return_survives_a_crash_between_route_and_status() {
    for by_lane in [false, true] {
        let mut world = promoted();
        for _ in 0..40 {
            world.step();
        }
        let (stable, previous) = (world.status.stable.clone().unwrap(), world.status.probation.clone().unwrap().previous);
        let mut object = rollout_core::route::lower(world.route.as_ref().unwrap(), &stable.service, &previous.service);
        let write = rollout_core::decide::escape(world.route.as_ref().unwrap(), &stable, &previous, 0, "9", &failure("Harmful")).unwrap();
        if by_lane {
            object = write.object().clone();
        } else {
            let note = rollout_core::route::DecisionNote {
                id: format!("{}.0.9", stable.revision),
                revision: stable.revision.clone(),
                action: "Return".into(),
                reason: "accuracy|Harmful|accuracy is worse".into(),
            };
            rollout_core::route::note(&mut object, &note);
        }
        world.set_route(object);
        // The judge has forgotten; only the note knows.
        world.judge.silent = true;
        world.step();
        assert_eq!(world.share(&service(&spec("b"))), 0, "nobody is sent back to it");
        world.rest();
        check_returned(&world);
    }
}

#[test]
fn a_note_about_another_revision_ends_no_probation() {
    let mut world = promoted();
    let mut object = world.route.clone().unwrap();
    let revision = id_of(&spec("c"));
    let note = rollout_core::route::DecisionNote {
        id: format!("{revision}.0.9"),
        revision,
        action: "Rollback".into(),
        reason: "accuracy|Harmful|accuracy is worse".into(),
    };
    rollout_core::route::note(&mut object, &note);
    world.set_route(object);
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn a_retry_after_a_return_counts_the_tries_before() {
    let mut world = trial();
    world.judge = crate::fixtures::harm_at(1, 0, 30);
    world.rest();
    world.judge = crate::judge::Judge::default();
    world.ask("1", "retry", id_of(&spec("b")).as_str());
    world.run_until("promoted", |w| w.stable() == id_of(&spec("b")).as_str());
    world.judge.regret = Some(failure("Harmful"));
    world.rest();
    assert_eq!(world.status.rejected[0].attempts, 2);
    world.judge.regret = None;
    world.ask("2", "retry", id_of(&spec("b")).as_str());
    world.step();
    assert_eq!(world.status.attempt.as_ref().map(|a| a.number), Some(2));
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn a_reduced_old_revision_takes_everybody_at_once_and_is_scaled_up() {
    let reduced = json!({"probation": {"duration": "10m", "parked": "Reduced"}});
    let mut world = trying(spec_with("a", reduced.clone()), spec_with("b", reduced));
    world.run_until("reduced", |w| w.workloads[&id_of(&spec("a"))].desired == 1);
    assert_eq!(world.stable(), id_of(&spec("b")).as_str());
    world.judge.regret = Some(failure("Harmful"));
    world.run_until("back", |w| w.share(&service(&spec("a"))) == 100);
    world.rest();
    check_returned(&world);
    assert_eq!(world.workloads[&id_of(&spec("a"))].ready, 2);
}

#[test]
fn a_return_forgets_no_revision_that_served_before_both() {
    let mut world = promoted();
    world.rest();
    world.apply(spec("c"));
    world.run_until("promoted", |w| w.stable() == id_of(&spec("c")).as_str());
    world.judge.regret = Some(failure("Harmful"));
    world.run_until("returned", |w| w.stable() == id_of(&spec("b")).as_str());
    let history: Vec<_> = world.status.history.iter().map(|h| &h.revision).collect();
    assert_eq!(history, [&id_of(&spec("a"))]);
}

#[test]
fn a_return_to_a_service_of_the_user_creates_nothing() {
    let mut world = over_baseline(spec_with("b", json!({"baseline": baseline()})));
    world.run_until("promoted", |w| w.status.probation.is_some());
    world.judge.regret = Some(failure("Harmful"));
    world.run_until("about to return", |w| !w.decide().status.rejected.is_empty());
    let first = world.decide().first;
    assert!(matches!(first[..], [Write::Route(_)]), "{first:?}");
}

#[test]
fn probation_goes_on_watching_the_pods_when_the_policy_is_gone() {
    let mut world = promoted();
    for _ in 0..40 {
        world.step();
    }
    world.policy = None;
    pods(&mut world, "b").ready = 0;
    world.step();
    assert_eq!(world.share(&service(&spec("a"))), 100);
}

#[test]
fn a_probation_that_ran_out_while_nobody_watched_is_judged_once_more() {
    for judged in [true, false] {
        let mut world = promoted();
        for _ in 0..40 {
            world.step();
        }
        world.judge.silent = true;
        world.now = world.status.probation.as_ref().unwrap().until + TimeDelta::minutes(2);
        world.step();
        assert!(world.status.probation.is_some());
        assert_eq!(world.decide().next_check, TimeDelta::seconds(5));
        if judged {
            world.judge.silent = false;
            world.judge.regret = Some(failure("Harmful"));
            world.rest();
            check_returned(&world);
        } else {
            world.rest();
            failure_free_end(&world, &spec("b"));
        }
    }
}

#[test]
fn the_end_of_a_probation_is_logged_of_the_revision_that_was_in_it_whatever_is_asked_for_by_then() {
    let mut world = promoted();
    world.apply(spec_with("c", json!({"suspend": true})));
    world.rest();
    let ended = world.status.decisions.iter().find(|d| d.action == "ProbationEnded").unwrap();
    assert_eq!(ended.revision, id_of(&spec("b")));
}

#[test]
fn an_old_service_of_the_user_that_is_gone_is_not_named_while_probation_runs() {
    let mut world = over_baseline(spec_with("b", json!({"baseline": baseline()})));
    world.run_until("promoted", |w| w.status.probation.is_some());
    world.workloads.remove(&world.status.probation.as_ref().unwrap().previous.revision.clone());
    world.services.clear();
    world.run_until("taken out", |w| !w.route.as_ref().unwrap().to_string().contains("digits-fp32"));
    assert!(world.status.probation.is_some());
}
