//! The route under other hands: edits up, down and away, adopted routes, deletion, and how references enter and leave.

use chrono::TimeDelta;
use rollout_core::decide::{Situation, escape};
use rollout_core::route::{self, DecisionNote};
use rollout_core::status::AttemptPhase;
use rollout_core::verdict::Overall;
use serde_json::{Value, json};

use crate::fixtures::{
    adopting, baseline, exposed_at, failure_free_end, harm_at, id_of, over_baseline, policy, service, serving, spec, spec_with, trial,
    trial_at, user_route,
};
use crate::judge::{Judge, failure};
use crate::world::World;

fn set_weights(route: &mut Value, weights: &[(&str, i64)]) {
    for rule in route["spec"]["rules"].as_array_mut().unwrap() {
        for reference in rule["backendRefs"].as_array_mut().unwrap() {
            for (name, weight) in weights {
                if reference["name"] == *name {
                    reference["weight"] = json!(weight);
                }
            }
        }
    }
}

fn b() -> String {
    service(&spec("b"))
}

fn a() -> String {
    service(&spec("a"))
}

#[test]
fn a_share_that_somebody_raised_is_lowered_at_once_and_named() {
    for (stage, step, back) in [(1, 0, 1), (1, 1, 5), (0, 0, 0)] {
        let mut world = exposed_at(stage, step, back);
        world.edit_route(|r| set_weights(r, &[(&a(), 10), (&b(), 90)]));
        world.step();
        assert_eq!(world.share(&b()), back);
        let event = world.events.last().unwrap();
        assert_eq!(event.reason, "ForeignEdit");
        assert!(event.message.contains("kubectl-edit") && event.message.contains("90%"), "{}", event.message);
        world.rest();
        failure_free_end(&world, &spec("b"));
    }
}

#[test]
fn a_fight_over_the_route_is_in_the_log_once() {
    let mut world = exposed_at(1, 1, 5);
    for _ in 0..30 {
        world.edit_route(|r| set_weights(r, &[(&a(), 10), (&b(), 90)]));
        world.step();
        assert_eq!(world.share(&b()), 5);
    }
    let told = |w: &World| w.status.decisions.iter().filter(|d| d.reason == "ForeignEdit").count();
    assert_eq!(told(&world), 1);
    world.edit_route(|r| set_weights(r, &[(&a(), 20), (&b(), 80)]));
    world.step();
    assert_eq!(told(&world), 2, "another share is another edit");
}

#[test]
fn a_step_that_somebody_went_back_to_takes_its_whole_time_again() {
    for to in [5, 0] {
        let mut world = trial();
        world.judge = Judge::who(|a, _| (a.stage == 1 && a.step == 2).then(|| Overall::Hold("watching".into())));
        world.run_until("there", |w| w.is_at(1, 2) && w.candidate_share() == 25);
        let since = world.now;
        world.run_until("long there", |w| w.now - since > TimeDelta::minutes(20));
        world.edit_route(|r| set_weights(r, &[(&a(), 100 - to), (&b(), to)]));
        let edited = world.now;
        world.step();
        let share = i32::try_from(to).unwrap();
        assert_eq!(world.candidate_share(), share);
        world.run_until("raised", |w| w.candidate_share() > share);
        assert!(world.now - edited >= TimeDelta::minutes(2), "{}", world.now - edited);
    }
}

#[test]
fn what_is_held_on_the_way_into_a_stage_is_kept_as_it_is_and_put_back() {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(2, 0) && w.candidate_share() == 50);
    world.workloads.get_mut(&id_of(&spec("b"))).unwrap().ready = 0;
    world.run_until("lowered", |w| w.candidate_share() == 0);
    world.apply(spec_with("b", json!({"suspend": true})));
    for _ in 0..10 {
        world.step();
    }
    assert!(world.route.as_ref().unwrap().to_string().contains(&world.control()), "the rules of the slice stay");
    world.edit_route(|r| r["spec"]["rules"] = json!([{"backendRefs": [{"name": "somewhere-else", "port": 80, "weight": 100}]}]));
    world.step();
    assert_eq!((world.share(&a()), world.share(&b())), (100, 0));
}

#[test]
fn a_share_that_somebody_lowered_is_no_progress_and_no_reason_to_raise_without_a_pass() {
    for (to, step) in [(5, 1), (10, 1), (24, 1), (1, 0)] {
        let mut world = exposed_at(1, 2, 25);
        world.judge.silent = true;
        world.edit_route(|r| set_weights(r, &[(&a(), 100 - to), (&b(), to)]));
        world.step();
        let attempt = world.status.attempt.clone().unwrap();
        assert_eq!((attempt.step, attempt.phase), (step, AttemptPhase::Judging));
        assert!(world.candidate_share() <= i32::try_from(to).unwrap());
        assert_eq!(world.candidate_share(), attempt.intent.percent(), "it goes on from a step, not from between two");
        for _ in 0..10 {
            world.step();
        }
        assert_eq!(world.candidate_share(), attempt.intent.percent(), "nothing rises without a judgement");
        world.judge.silent = false;
        world.rest();
        failure_free_end(&world, &spec("b"));
    }
}

#[test]
fn a_route_that_somebody_emptied_or_deleted_is_prepared_again_and_climbs_from_the_first_step() {
    for delete in [false, true] {
        let mut world = exposed_at(1, 2, 25);
        world.exposures.clear();
        if delete {
            world.foreign = true;
            world.route = None;
        } else {
            world.edit_route(|r| set_weights(r, &[(&a(), 100), (&b(), 0)]));
        }
        world.rest();
        failure_free_end(&world, &spec("b"));
        let raised: Vec<i32> = world.exposures.iter().map(|(_, s)| *s).filter(|s| *s > 0).collect();
        assert_eq!(raised, [1, 5, 25, 50, 100]);
    }
}

#[test]
fn headers_that_somebody_took_out_are_put_back_while_the_step_is_judged() {
    let mut world = exposed_at(1, 1, 5);
    world.edit_route(|r| r["spec"]["rules"][0]["backendRefs"][1]["filters"] = json!([]));
    world.step();
    assert!(world.route.as_ref().unwrap()["spec"]["rules"][0]["backendRefs"][1]["filters"][0].is_object());
    assert_eq!(world.events.last().map(|e| e.reason), Some("ForeignEdit"));
    assert_eq!(world.candidate_share(), 5);
    world.ask("1", "pause", id_of(&spec("b")).as_str());
    world.step();
    world.edit_route(|r| r["spec"]["rules"][0]["backendRefs"][1]["filters"] = json!([]));
    world.step();
    assert!(world.route.as_ref().unwrap()["spec"]["rules"][0]["backendRefs"][1]["filters"][0].is_object(), "also while it is paused");
}

#[test]
fn an_edit_at_rest_is_put_back_also_under_suspend_and_pause() {
    let mut world = serving(spec("a"));
    world.edit_route(|r| r["spec"]["rules"][0]["backendRefs"][0]["name"] = json!("somewhere-else"));
    world.step();
    assert_eq!(world.share(&a()), 100);
    assert_eq!(world.reasons().iter().filter(|r| **r == "ForeignEdit").count(), 1);
    world.rest();
    failure_free_end(&world, &spec("a"));

    for paused in [false, true] {
        let mut world = trial_at(0, 0);
        if paused {
            world.ask("1", "pause", id_of(&spec("b")).as_str());
        } else {
            world.apply(spec_with("b", json!({"suspend": true})));
        }
        world.step();
        world.edit_route(|r| r["spec"]["rules"][0]["backendRefs"] = json!([{"name": "somewhere-else", "port": 80, "weight": 100}]));
        world.step();
        assert_eq!(world.share(&a()), 100, "what serves is put back while nothing else moves");
    }
}

#[test]
fn a_rejected_revision_that_somebody_gives_users_loses_them_at_once() {
    let mut world = trial();
    world.judge = harm_at(1, 1, 30);
    world.rest();
    world.edit_route(|r| set_weights(r, &[(&a(), 0), (&b(), 100)]));
    world.step();
    assert_eq!((world.share(&a()), world.share(&b())), (100, 0));
    world.edit_route(|r| r["spec"]["rules"][0]["backendRefs"] = json!([{"name": b(), "port": 8080, "weight": 100}]));
    world.step();
    assert_eq!((world.share(&a()), world.share(&b())), (100, 0), "also where stable is not there to take over");
}

#[test]
fn a_raise_that_leaves_no_room_for_stable_is_rendered_anew() {
    let mut world = exposed_at(1, 1, 5);
    world.edit_route(|r| r["spec"]["rules"][0]["backendRefs"] = json!([{"name": b(), "port": 8080, "weight": 100}]));
    world.judge = harm_at(1, 1, 0);
    world.run_until("off", |w| !w.status.rejected.is_empty());
    assert_eq!((world.share(&a()), world.share(&b())), (100, 0));
}

#[test]
fn an_own_rule_of_the_user_that_names_the_candidate_is_reported_and_does_not_loop() {
    let testers = json!({"name": "testers", "matches": [{"headers": [{"name": "x-qa", "value": "1"}]}], "backendRefs": [{"name": "mine", "port": 80}]});
    let b = spec_with(
        "b",
        json!({
            "baseline": baseline(),
            "workload": {"backendRef": {"name": "mine", "port": 80}},
            "route": {"template": {"parentRefs": [{"name": "gw"}], "rules": [{"name": "model"}, testers]}},
        }),
    );
    let mut world = over_baseline(b.clone());
    crate::fixtures::user_service(&mut world, &id_of(&b), "mine");
    for _ in 0..40 {
        world.step();
    }
    assert!(world.route.is_none(), "a route that would expose users is not written");
    let message = &world.status.display.message;
    assert!(message.contains("names its Service"), "{message}");
    assert!(world.status.decisions.len() < 4);
}

#[test]
fn a_route_of_somebody_else_with_our_name_is_left_alone() {
    let mut world = World::new(spec("a"), policy());
    let mut foreign = user_route();
    foreign["metadata"]["name"] = json!("digits");
    world.set_route(foreign.clone());
    for _ in 0..40 {
        world.step();
    }
    assert_eq!(world.route.as_ref().unwrap()["spec"], foreign["spec"]);
    assert!(world.status.display.message.contains("belongs to somebody else"), "{}", world.status.display.message);
}

#[test]
fn an_adopted_rule_goes_through_the_whole_story_and_comes_back_on_deletion() {
    let mut world = adopting();
    world.rest();
    failure_free_end(&world, &world.spec.clone());
    let docs = world.route.as_ref().unwrap()["spec"]["rules"].as_array().unwrap().iter().find(|r| r["name"] == "docs").cloned();
    assert_eq!(docs, Some(user_route()["spec"]["rules"][1].clone()), "other rules are not touched");
    world.deleting = true;
    world.run_until("released", |w| !w.finalizer);
    assert_eq!(world.route.as_ref().unwrap()["spec"], user_route()["spec"]);
    assert!(world.route.as_ref().unwrap()["metadata"].get("annotations").is_none());
    assert!(!world.reasons().contains(&"RouteNotReleased"));
}

#[test]
fn an_adopted_rule_that_its_owner_applies_again_is_taken_over_again() {
    // Before the promotion the owner's rule sends users to the baseline; after it, to what nobody tried against the new one.
    for (stage, step) in [(0, 0), (1, 2), (2, 0)] {
        let mut world = adopting();
        world.run_until("there", |w| w.is_at(stage, step));
        let wiped = user_route()["spec"]["rules"].clone();
        world.edit_route(|r| r["spec"]["rules"] = wiped);
        world.rest();
        failure_free_end(&world, &world.spec.clone());
    }
    let mut world = adopting();
    world.rest();
    let wiped = user_route()["spec"]["rules"].clone();
    world.edit_route(|r| r["spec"]["rules"] = wiped);
    world.step();
    let served = service(&world.spec.clone());
    assert_eq!(world.share(&served), 100, "what was promoted is put back in one write");
}

#[test]
fn an_adopted_route_that_is_not_there_is_waited_for() {
    let mut world = adopting();
    world.route = None;
    for _ in 0..20 {
        world.step();
    }
    assert!(world.status.display.message.contains("HTTPRoute shop does not exist"), "{}", world.status.display.message);
    world.set_route(user_route());
    world.rest();
    failure_free_end(&world, &world.spec.clone());
}

/// A name for people, and how it is recognised.
type Place = (&'static str, fn(&World) -> bool);

#[test]
fn deletion_makes_traffic_safe_in_every_phase_and_always_ends() {
    let places: [Place; 7] = [
        ("nothing", |_| true),
        ("deploying", |w| w.phase() == Some(AttemptPhase::Deploying)),
        ("shadow", |w| w.is_at(0, 0)),
        ("canary", |w| w.is_at(1, 2)),
        ("slice", |w| w.is_at(2, 0)),
        ("promoting", |w| w.phase() == Some(AttemptPhase::Promoting)),
        ("probation", |w| w.status.probation.is_some()),
    ];
    for (name, there) in places {
        for adopted in [false, true] {
            let mut world = if adopted { adopting() } else { over_baseline(spec_with("b", json!({"baseline": baseline()}))) };
            world.run_until(name, there);
            let serves = world.status.stable.clone();
            world.deleting = true;
            world.run_until("gone", |w| !w.finalizer);
            match (adopted, serves, world.route.is_some()) {
                (true, ..) => assert_eq!(world.share("digits-fp32"), 100, "{name}"),
                (false, Some(serves), true) => assert_eq!(world.share(&serves.service), 100, "{name}"),
                _ => {}
            }
        }
    }
}

#[test]
fn deletion_lets_the_pods_go_only_when_the_gateway_has_left_them_and_does_not_wait_for_ever() {
    for (delay, least, most) in [(5, 5, 12), (10_000, 30, 45)] {
        for adopted in [false, true] {
            let mut world = if adopted { adopting() } else { over_baseline(spec_with("b", json!({"baseline": baseline()}))) };
            world.run_until("there", |w| w.is_at(1, 2) && w.candidate_share() == 25);
            world.run_until("taken", |w| w.condition("TrafficApplied").0 == "True");
            world.gateway_delay = TimeDelta::seconds(delay);
            world.deleting = true;
            let since = world.now;
            world.run_until("gone", |w| !w.finalizer);
            let took = (world.now - since).num_seconds();
            assert!((least..most).contains(&took), "{took} s, adopted: {adopted}");
        }
    }
}

#[test]
fn deletion_ends_when_an_adopted_route_forgot_what_it_was() {
    let mut world = adopting();
    world.run_until("there", |w| w.is_at(1, 1));
    world.edit_route(|r| {
        r["metadata"].as_object_mut().unwrap().remove("annotations");
    });
    world.deleting = true;
    world.run_until("gone", |w| !w.finalizer);
    let event = world.events.last().unwrap();
    assert_eq!(event.reason, "RouteNotReleased");
    assert!(event.message.contains("shop"), "{}", event.message);
}

#[test]
fn the_rollback_lane_writes_first_and_the_decision_completes_it() {
    for (stage, step) in [(1, 0), (1, 2), (2, 0)] {
        let mut world = trial();
        world.run_until("there", |w| w.is_at(stage, step) && w.candidate_share() > 0);
        let (candidate, stable) = (world.status.candidate.clone().unwrap(), world.status.stable.clone().unwrap());
        let write = escape(world.route.as_ref().unwrap(), &candidate, &stable, 0, "9", &failure("Harmful")).unwrap();
        assert!(write.ticket().is_none());
        world.set_route(write.object().clone());
        assert_eq!(world.share(&b()), 0);
        assert!(
            escape(world.route.as_ref().unwrap(), &candidate, &stable, 0, "9", &failure("Harmful")).is_none(),
            "there is nothing left to do"
        );
        // The evidence is lost with the process that wrote it.
        world.judge.silent = true;
        world.rest();
        let latch = &world.status.rejected[0];
        assert_eq!((latch.reason.as_str(), world.condition("Ready").1), ("Harmful", "RolledBack"));
        assert!(latch.message.contains("31.4pp worse"));
        assert_eq!(world.status.decisions[0].guardrail, "accuracy");
    }
}

#[test]
fn a_note_of_another_attempt_revision_or_kind_rolls_nothing_back() {
    let revision = id_of(&spec("b"));
    let notes = [
        (format!("{revision}.1.9"), revision.clone(), "Rollback"),
        (format!("{revision}.10.9"), revision.clone(), "Rollback"),
        (format!("{}.0.9", id_of(&spec("c"))), id_of(&spec("c")), "Rollback"),
        (format!("{revision}.0.9"), revision.clone(), "Lower"),
        (format!("{revision}.0.9"), revision.clone(), "Return"),
    ];
    for (id, revision, action) in notes {
        let mut world = trial_at(1, 0);
        let mut object = world.route.clone().unwrap();
        route::note(&mut object, &DecisionNote { id, revision, action: action.into(), reason: "accuracy|Harmful|worse".into() });
        world.set_route(object);
        world.rest();
        failure_free_end(&world, &spec("b"));
    }
}

#[test]
fn a_gateway_that_takes_its_time_is_waited_for_before_every_raise_and_never_before_a_rollback() {
    let mut world = trial();
    world.gateway_delay = TimeDelta::seconds(35);
    world.rest();
    failure_free_end(&world, &spec("b"));

    let mut world = exposed_at(1, 2, 25);
    world.gateway_delay = TimeDelta::days(30);
    world.judge = harm_at(1, 2, 0);
    world.rest();
    assert_eq!((world.share(&b()), world.condition("Ready").1), (0, "RolledBack"));
    assert_eq!(world.condition("TrafficApplied").0, "Unknown");
}

#[test]
fn a_step_counts_from_the_moment_the_gateway_took_it() {
    let mut world = trial_at(1, 0);
    world.run_until("accepted", |w| w.condition("TrafficApplied").0 == "True");
    world.gateway_delay = TimeDelta::seconds(35);
    world.run_until("raised", |w| w.is_at(1, 1) && w.candidate_share() == 5);
    let raised = world.status.decisions[0].time;
    world.run_until("taken", |w| w.status.attempt.as_ref().unwrap().step_started.unwrap() >= raised + TimeDelta::seconds(35));
    let taken = world.status.attempt.as_ref().unwrap().step_started.unwrap();
    let applied = world.status.conditions.iter().find(|c| c.kind == "TrafficApplied").unwrap();
    assert_eq!((applied.status.as_str(), applied.last_transition_time), ("True", taken));
    world.run_until("next", |w| w.is_at(1, 2));
    assert!(world.status.decisions[0].time >= taken + TimeDelta::minutes(2));
}

#[test]
fn the_weight_moves_only_after_the_reference_was_taken() {
    let mut world = trial();
    let mut entered = None;
    for _ in 0..400 {
        let before = world.route.clone().unwrap();
        world.step();
        let (was, is) = (route::exposure(&before, &b()), route::exposure(world.route.as_ref().unwrap(), &b()));
        if !was.referenced && is.referenced {
            assert_eq!(is.share.percent(), 0);
            entered = Some(world.now);
        }
        assert!(was.share.percent() == 0 || is.referenced, "a loaded reference is never dropped");
        if is.share.percent() > 0 {
            assert!(entered.is_some());
        }
    }
}

#[test]
fn the_roles_swap_only_after_the_gateway_has_given_everybody_to_the_candidate() {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(2, 0) && w.condition("TrafficApplied").0 == "True");
    world.gateway_delay = TimeDelta::seconds(35);
    world.run_until("everybody", |w| w.candidate_share() == 100);
    let raised = world.now;
    world.run_until("swapped", |w| w.stable() == id_of(&spec("b")).as_str());
    assert!(world.now - raised >= TimeDelta::seconds(30), "{}", world.now - raised);
}

#[test]
fn a_reference_leaves_only_after_the_gateway_has_taken_its_weight() {
    let mut world = trial();
    world.judge = harm_at(1, 1, 0);
    world.run_until("there", |w| w.is_at(1, 1) && w.condition("TrafficApplied").0 == "True");
    world.gateway_delay = TimeDelta::minutes(1);
    world.run_until("rejected", |w| !w.status.rejected.is_empty());
    let rejected = world.now;
    world.apply(spec("c"));
    world.run_until("taken out", |w| !route::exposure(w.route.as_ref().unwrap(), &b()).referenced);
    assert!(world.now - rejected >= TimeDelta::seconds(55), "{}", world.now - rejected);
}

#[test]
fn what_would_go_wrong_with_the_route_keeps_the_candidate_in_the_dark() {
    let mut world = trial();
    world.preflight = vec!["Service legacy selects pods of the candidate: take label app=digits out of its selector".into()];
    for _ in 0..200 {
        world.step();
    }
    assert!(world.exposures.iter().all(|(_, share)| *share == 0));
    assert!(world.status.display.message.contains("Service legacy"), "{}", world.status.display.message);
    let decision = world.decide();
    assert!(matches!(decision.situation, Situation::Running(_)));
    world.preflight.clear();
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn an_opened_slice_of_users_is_never_closed_but_by_a_rollback() {
    let stages =
        json!([{"name": "ab", "type": "ABTest", "steps": ["1%", "10%", "50%"], "assignment": {"cookie": "uid"}, "stepMinDuration": "1m"}]);
    let mut world = crate::fixtures::trying(spec("a"), spec_with("b", json!({"stages": stages})));
    world.run_until("promoted", |w| w.stable() == id_of(&spec("b")).as_str());
    assert_eq!(world.exposures.iter().map(|(_, s)| *s).collect::<Vec<_>>(), [0, 1, 10, 50, 100]);
    world.judge = Judge::default();
    world.rest();
    failure_free_end(&world, &world.spec.clone());
}
