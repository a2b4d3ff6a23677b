//! Pods, Services, policies and measurements that fail, at any time.

use chrono::TimeDelta;
use rollout_core::status::AttemptPhase;
use rollout_core::verdict::Overall;
use serde_json::json;

use crate::fixtures::{
    baseline, exposed_at, failure_free_end, harm_at, id_of, killed, over_baseline, pods, policy, service, serving, spec, spec_with, trial,
    trial_at, trying, user_service,
};
use crate::judge::{Judge, failure};
use crate::world::World;

fn b() -> String {
    service(&spec("b"))
}

#[test]
fn candidate_endpoints_that_vanish_lower_to_nobody_and_come_back_with_a_fresh_start() {
    for (stage, step) in [(0, 0), (1, 1), (2, 0)] {
        let mut world = trial_at(stage, step);
        pods(&mut world, "b").ready = 0;
        world.step();
        assert_eq!(world.share(&b()), 0);
        assert_eq!(world.condition("Ready").1, "CandidateUnready");
        assert_eq!(world.reasons().iter().filter(|r| **r == "CandidateEndpointsGone").count(), 1);
        for _ in 0..5 {
            world.step();
        }
        assert_eq!(world.reasons().iter().filter(|r| **r == "CandidateEndpointsGone").count(), 1, "one event per transition");
        pods(&mut world, "b").ready = 2;
        world.rest();
        failure_free_end(&world, &spec("b"));
    }
}

#[test]
fn endpoints_that_stay_away_are_rejected_at_the_deadline() {
    for (stage, step) in [(0, 0), (1, 1)] {
        let mut world = trial_at(stage, step);
        pods(&mut world, "b").ready = 0;
        let since = world.now;
        world.run_until("rejected", |w| !w.status.rejected.is_empty());
        assert!(world.now - since >= TimeDelta::minutes(10) && world.now - since < TimeDelta::minutes(12));
        world.rest();
        assert_eq!(world.status.rejected[0].reason, "ProgressDeadlineExceeded");
    }
}

#[test]
fn a_candidate_that_never_comes_up_is_rejected_with_the_cause() {
    let mut world = trial();
    world.startup = TimeDelta::days(1);
    world.rest();
    let latch = &world.status.rejected[0];
    assert_eq!(latch.reason, "ProgressDeadlineExceeded");
    assert!(
        latch.message.contains("0 of 2 endpoints") && latch.message.contains("Pulling: the image is being pulled"),
        "{}",
        latch.message
    );
    assert!(world.exposures.is_empty(), "nobody ever saw it");
}

#[test]
fn an_out_of_memory_kill_needs_no_statistics() {
    for (stage, step) in [(0, 0), (1, 2), (2, 0)] {
        let mut world = trial_at(stage, step);
        let cause = killed();
        pods(&mut world, "b").tripped = Some(cause);
        world.step();
        assert_eq!((world.share(&b()), world.status.rejected[0].reason.as_str()), (0, "OOMKilled"));
    }
}

#[test]
fn a_stable_service_that_vanishes_takes_nobody_to_the_candidate() {
    // One that the user runs stays away; one of ours is created again.
    for ours in [false, true] {
        for (stage, step) in [(0, 0), (1, 0), (1, 2), (2, 0)] {
            let mut world = if ours { trial() } else { over_baseline(spec_with("b", json!({"baseline": baseline()}))) };
            world.run_until("there", |w| w.is_at(stage, step));
            let stable = world.status.stable.clone().unwrap();
            world.workloads.get_mut(&stable.revision).unwrap().service = false;
            world.services.remove(&stable.service);
            let decision = world.decide();
            if world.candidate_share() > 0 {
                assert!(matches!(decision.first[0], rollout_core::decide::Write::Route(_)), "lowering comes before creating anything");
            }
            world.step();
            assert_eq!(world.candidate_share(), 0);
            assert_eq!(world.condition("Stalled"), ("True", "StableBackendMissing"));
            if !ours {
                for _ in 0..5 {
                    world.step();
                }
                assert_eq!(world.condition("Stalled"), ("True", "StableBackendMissing"));
                world.workloads.get_mut(&stable.revision).unwrap().service = true;
                world.services.insert(stable.service.clone());
            }
            world.rest();
            failure_free_end(&world, &world.spec.clone());
            assert_eq!(world.reasons().iter().filter(|r| **r == "StableBackendMissing").count(), 1);
        }
    }
}

/// Everybody is on the candidate, the roles are not swapped yet, and the baseline is gone.
fn deserted() -> World {
    let mut world = over_baseline(spec_with("b", json!({"baseline": baseline()})));
    world.gateway_delay = TimeDelta::seconds(30);
    world.run_until("everybody", |w| w.candidate_share() == 100);
    let stable = world.status.stable.clone().unwrap();
    world.workloads.remove(&stable.revision);
    world.services.clear();
    world
}

#[test]
fn a_stable_that_vanishes_once_everybody_left_it_does_not_call_them_back() {
    let mut world = deserted();
    world.rest();
    failure_free_end(&world, &world.spec.clone());
    assert!(!world.route.as_ref().unwrap().to_string().contains("digits-fp32"), "a Service that is gone is not named any more");
}

#[test]
fn at_rest_a_lost_service_is_made_again_and_a_lost_workload_too() {
    let mut world = serving(spec("a"));
    let revision = id_of(&spec("a"));
    world.workloads.get_mut(&revision).unwrap().service = false;
    world.step();
    assert_eq!(world.condition("Stalled"), ("True", "StableBackendMissing"));
    assert!(world.workloads[&revision].service);
    world.rest();
    world.workloads.get_mut(&revision).unwrap().desired = 0;
    world.step();
    assert_eq!(world.workloads[&revision].desired, 2, "what serves is not left scaled down");
    world.rest();
    failure_free_end(&world, &spec("a"));
}

#[test]
fn stable_is_kept_up_while_a_candidate_is_on_trial() {
    let mut world = trial_at(1, 1);
    pods(&mut world, "a").desired = 0;
    world.step();
    assert_eq!(world.workloads[&id_of(&spec("a"))].desired, 2);
}

#[test]
fn a_control_service_that_vanishes_sends_its_users_to_stable_until_it_is_back() {
    let mut world = exposed_at(2, 0, 50);
    let control = world.control();
    assert!(world.share(&control) > 0);
    pods(&mut world, "a").control = false;
    let decision = world.step();
    assert!(matches!(decision.first[0], rollout_core::decide::Write::Route(_)), "users first");
    assert_eq!((world.share(&control), world.candidate_share()), (0, 50));
    world.run_until("back", |w| w.share(&control) > 0);
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn measurements_that_are_lost_lower_to_nobody_and_are_tried_again() {
    for reason in ["CandidateSilent", "Blind"] {
        let mut world = trial();
        let lost = move || Some(Overall::Lower(failure(reason)));
        world.run_until("there", |w| w.is_at(1, 1));
        world.judge = Judge::who(move |a, _| if a.step == 1 { lost() } else { None });
        world.run_until("lowered", |w| w.candidate_share() == 0);
        assert_eq!(world.condition("Ready").1, "MetricsUnavailable");
        assert_eq!(world.events.last().map(|e| e.reason), Some(if reason == "Blind" { "MetricsUnavailable" } else { reason }));
        world.judge = Judge::default();
        world.rest();
        failure_free_end(&world, &spec("b"));
    }
}

#[test]
fn a_candidate_that_was_lowered_while_it_looked_bad_does_not_get_users_again() {
    let mut world = trial_at(1, 1);
    world.judge = Judge::who(|a, _| (a.step == 1).then(|| Overall::Lower(failure("CandidateSilent"))));
    world.run_until("lowered", |w| w.candidate_share() == 0);
    world.judge = Judge { suspicious: true, ..Judge::default() };
    let mut most = 0;
    for _ in 0..200 {
        world.step();
        most = most.max(world.candidate_share());
    }
    assert_eq!((most, world.status.rejected[0].reason.as_str()), (0, "Inconclusive"));
    assert!(world.status.rejected[0].message.starts_with("exposure was lowered, and accuracy"), "{}", world.status.rejected[0].message);
}

#[test]
fn a_candidate_that_is_lowered_again_and_again_ends_as_inconclusive() {
    let mut world = trial();
    world.judge = Judge::who(|a, _| (a.stage == 1 && a.intent.percent() > 0).then(|| Overall::Lower(failure("CandidateSilent"))));
    world.rest();
    assert_eq!((world.condition("Ready").1, world.status.rejected[0].reason.as_str()), ("RolledBack", "Inconclusive"));
    assert!(world.status.rejected[0].message.contains("lowered 5 times"), "{}", world.status.rejected[0].message);
}

#[test]
fn a_realised_share_above_the_intended_one_lowers_at_once() {
    let mut world = trial_at(1, 1);
    world.judge.share_above_intent = true;
    world.run_until("lowered", |w| w.candidate_share() == 0);
    assert_eq!(world.events.last().map(|e| e.reason), Some("ShareAboveIntent"));
    assert!(world.events.last().unwrap().message.contains("7.5%"), "{}", world.events.last().unwrap().message);
}

#[test]
fn a_candidate_that_nobody_judges_any_more_is_not_left_exposed() {
    let mut world = exposed_at(1, 2, 25);
    world.judge.silent = true;
    let since = world.now;
    world.run_until("lowered", |w| w.candidate_share() == 0);
    assert!(world.now - since >= TimeDelta::minutes(4) && world.now - since < TimeDelta::minutes(7), "five windows: {}", world.now - since);
    for _ in 0..30 {
        world.step();
    }
    assert_eq!(world.candidate_share(), 0);
    world.judge.silent = false;
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn a_spec_that_becomes_invalid_in_the_middle_holds_and_does_not_leave_users_unwatched() {
    let mut world = exposed_at(1, 2, 25);
    world.apply(spec_with("b", json!({"stages": [{"name": "x", "type": "Canary", "steps": ["50%", "5%"]}]})));
    world.step();
    assert_eq!((world.condition("Stalled"), world.candidate_share()), (("True", "InvalidSpec"), 25));
    assert!(world.status.display.message.contains("steps"), "{}", world.status.display.message);
    world.run_until("lowered", |w| w.candidate_share() == 0);
    world.rest();
    assert_eq!(world.condition("Stalled"), ("True", "InvalidSpec"));
    world.apply(spec("b"));
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn a_spec_that_goes_back_to_stable_takes_the_candidate_off_whatever_is_wrong_with_the_policy() {
    let mut world = exposed_at(1, 2, 25);
    world.policy = None;
    world.apply(spec("a"));
    world.step();
    assert_eq!(world.share(&b()), 0);
    world.rest();
    assert_eq!(world.condition("Ready"), ("True", "Promoted"), "nothing is on trial, so nothing needs a policy");
    assert_eq!(world.condition("PolicyResolved").0, "False");
}

#[test]
fn a_policy_that_goes_and_comes_back_holds_in_between() {
    let mut world = trial_at(1, 1);
    let policy = world.policy.take();
    for _ in 0..50 {
        world.step();
        assert!(world.candidate_share() <= 5);
    }
    assert_eq!(world.condition("Ready").1, "PolicyNotFound");
    assert!(world.status.display.message.contains("EvaluationPolicy digits"), "{}", world.status.display.message);
    world.policy = policy;
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn harm_rolls_back_under_the_pinned_policy_when_the_live_one_is_gone() {
    let mut world = trial_at(1, 1);
    world.policy = None;
    world.judge = harm_at(1, 1, 0);
    world.run_until("off", |w| !w.status.rejected.is_empty());
    assert_eq!(world.share(&b()), 0);
}

#[test]
fn without_a_policy_nothing_starts_and_what_serves_goes_on() {
    let mut world = serving(spec("a"));
    world.policy = None;
    world.apply(spec("b"));
    world.rest();
    assert_eq!((world.condition("Ready").1, world.share(&service(&spec("a")))), ("PolicyNotFound", 100));
    assert!(world.status.attempt.is_none());
    world.policy = Some((1, policy()));
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn too_few_endpoints_for_the_next_share_are_waited_for() {
    let mut world = exposed_at(2, 0, 50);
    pods(&mut world, "b").ready = 1;
    for _ in 0..40 {
        world.step();
        assert!(world.candidate_share() <= 50, "one of two endpoints cannot carry everybody");
    }
    assert!(world.status.display.message.contains("1 of 2 endpoints"), "{}", world.status.display.message);
    pods(&mut world, "b").ready = 2;
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn a_restored_object_without_status_takes_what_the_route_says_and_never_what_was_on_trial() {
    // Promoted: the route gives everybody to b.
    let mut world = trial();
    world.rest();
    world.status = rollout_core::status::Status::default();
    world.rest();
    failure_free_end(&world, &spec("b"));

    // On trial at 25 %: a serves, b starts over.
    let mut world = exposed_at(1, 2, 25);
    world.foreign = true;
    world.status = rollout_core::status::Status::default();
    world.exposures.clear();
    world.run_until("found", |w| w.status.stable.is_some());
    assert_eq!(world.stable(), id_of(&spec("a")).as_str());
    world.run_until("lowered", |w| w.share(&b()) == 0);
    world.rest();
    failure_free_end(&world, &spec("b"));

    // On trial against a baseline, and the route does not say which is which any more.
    let mut world = over_baseline(spec_with("b", json!({"baseline": baseline()})));
    world.run_until("there", |w| w.is_at(1, 2) && w.candidate_share() == 25);
    world.status = rollout_core::status::Status::default();
    world.edit_route(|r| {
        r["metadata"].as_object_mut().unwrap().remove("annotations");
    });
    world.run_until("found", |w| w.status.stable.is_some());
    assert_eq!(world.stable(), "baseline");
    world.rest();
    failure_free_end(&world, &world.spec.clone());

    // No route to tell: it holds, and says what to do.
    let mut world = trial_at(1, 2);
    world.foreign = true;
    world.status = rollout_core::status::Status::default();
    world.route = None;
    world.rest();
    assert_eq!(world.condition("Stalled"), ("True", "HoldingInitial"));
    assert!(world.status.display.message.contains("spec.initial"), "{}", world.status.display.message);
    world.apply(spec_with("b", json!({"initial": "Promote"})));
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn a_baseline_that_is_not_there_is_named() {
    let mut world = World::new(spec_with("b", json!({"baseline": baseline()})), policy());
    world.rest();
    assert_eq!(world.condition("Stalled"), ("True", "StableBackendMissing"));
    assert!(world.status.display.message.contains("digits-fp32"));
    user_service(&mut world, &rollout_core::revision::RevisionId::new("baseline"), "digits-fp32");
    world.rest();
    failure_free_end(&world, &world.spec.clone());
}

#[test]
fn a_new_model_behind_the_service_that_serves_is_refused() {
    let behind = |model| spec_with(model, json!({"baseline": baseline(), "workload": {"backendRef": {"name": "mine", "port": 80}}}));
    let mut world = over_baseline(behind("b"));
    user_service(&mut world, &id_of(&behind("b")), "mine");
    world.rest();
    failure_free_end_of(&world, "mine");
    world.apply(behind("c"));
    user_service(&mut world, &id_of(&behind("c")), "mine");
    world.rest();
    assert_eq!(world.condition("Stalled"), ("True", "InvalidSpec"));
    assert!(world.status.display.message.contains("Service mine"), "{}", world.status.display.message);
    assert_eq!(world.share("mine"), 100);
}

fn failure_free_end_of(world: &World, service: &str) {
    assert_eq!((world.share(service), world.condition("Ready").1), (100, "Promoted"));
}

#[test]
fn workloads_of_the_user_are_never_scaled() {
    let behind = |model, name| spec_with(model, json!({"baseline": baseline(), "workload": {"backendRef": {"name": name, "port": 80}}}));
    let (b, c) = (behind("b", "blue"), behind("c", "green"));
    let mut world = over_baseline(b.clone());
    user_service(&mut world, &id_of(&b), "blue");
    world.rest();
    world.apply(c.clone());
    user_service(&mut world, &id_of(&c), "green");
    world.rest();
    failure_free_end_of(&world, "green");
    assert!(world.workloads.values().all(|w| w.ready == 1 && w.exists));
}

#[test]
fn suspended_deployments_meet_their_deadline_too() {
    let mut world = trying(spec("a"), spec("b"));
    world.startup = TimeDelta::days(1);
    world.run_until("deploying", |w| w.phase() == Some(AttemptPhase::Deploying));
    world.apply(spec_with("b", json!({"suspend": true})));
    world.rest();
    assert_eq!(world.condition("Ready").1, "RolledBack");
}

#[test]
fn a_first_revision_whose_spec_or_policy_cannot_be_used_is_not_served() {
    let mut world = World::new(spec("a"), policy());
    world.policy = None;
    world.rest();
    assert_eq!((world.condition("Ready").1, world.route.is_some(), world.workloads.len()), ("PolicyNotFound", false, 0));
    world.policy = Some((1, policy()));
    world.rest();
    failure_free_end(&world, &spec("a"));
    let mut world = World::new(spec_with("a", json!({"stages": [{"name": "x", "type": "Canary", "steps": ["50%", "5%"]}]})), policy());
    world.rest();
    assert_eq!((world.condition("Ready").1, world.route.is_some(), world.workloads.len()), ("InvalidSpec", false, 0));
}

#[test]
fn a_spec_that_moves_on_once_everybody_is_on_the_candidate_and_stable_is_gone_swaps_the_roles_first() {
    let mut world = deserted();
    let next = spec_with("c", json!({"baseline": baseline()}));
    world.apply(next.clone());
    world.step();
    assert_eq!(world.share(&service(&spec("b"))), 100, "there is nobody else to answer");
    world.rest();
    failure_free_end(&world, &next);
}

#[test]
fn a_candidate_that_cannot_be_created_is_rejected_without_being_created_once_more() {
    let mut world = trial();
    world.run_until("deploying", |w| w.phase() == Some(AttemptPhase::Deploying));
    world.workloads.remove(&id_of(&spec("b")));
    world.now += TimeDelta::minutes(11);
    let decision = world.decide();
    assert_eq!(decision.status.rejected.len(), 1);
    assert!(!decision.first.contains(&rollout_core::decide::Write::Ensure(id_of(&spec("b")))), "{:?}", decision.first);
}

#[test]
fn a_candidate_that_nobody_was_there_to_create_is_created_and_not_rejected() {
    let mut world = trial();
    world.run_until("deploying", |w| w.phase() == Some(AttemptPhase::Deploying));
    world.workloads.remove(&id_of(&spec("b")));
    world.now += TimeDelta::minutes(11);
    world.acting_since = world.now;
    let decision = world.decide();
    assert_eq!(decision.status.rejected, []);
    assert!(decision.first.contains(&rollout_core::decide::Write::Ensure(id_of(&spec("b")))), "{:?}", decision.first);
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn pods_that_somebody_gave_users_while_nobody_looked_are_parked_only_after_they_have_drained() {
    let mut world = trial();
    world.gateway_delay = TimeDelta::seconds(4);
    world.judge = harm_at(1, 1, 30);
    world.run_until("rejected", |w| !w.status.rejected.is_empty());
    world.now += TimeDelta::minutes(5);
    let (stable, candidate) = (service(&spec("a")), b());
    world.edit_route(|route| {
        for reference in route.pointer_mut("/spec/rules/0/backendRefs").unwrap().as_array_mut().unwrap() {
            let share = if reference["name"] == json!(candidate) { 76 } else { 24 };
            assert!(share == 76 || reference["name"] == json!(stable));
            reference["weight"] = json!(share);
        }
    });
    world.step();
    let lowered = world.now;
    assert_eq!(world.share(&b()), 0, "put back at once");
    let mut parked = world.now;
    while world.workloads[&id_of(&spec("b"))].desired > 0 {
        parked = world.now;
        world.step();
    }
    let waited = parked - lowered;
    assert!(waited >= TimeDelta::seconds(15) && waited < TimeDelta::seconds(40), "{waited}");
}
