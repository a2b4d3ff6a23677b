//! What a person can ask for, and how each request is answered once and in view.

use chrono::TimeDelta;
use rollout_core::status::AttemptPhase;
use rollout_core::verdict::Overall;
use serde_json::json;

use crate::fixtures::{failure_free_end, harm_at, id_of, service, serving, spec, spec_with, trial, trial_at, trying};
use crate::judge::{Judge, failure};
use crate::world::World;

fn answer(world: &World) -> (&str, &str) {
    world.status.last_request.as_ref().map_or(("", ""), |r| (r.result.as_str(), r.message.as_str()))
}

fn refused(world: &mut World, id: &str, action: &str, candidate: &str, because: &str) {
    let before = (world.status.attempt.clone(), world.candidate_share());
    world.ask(id, action, candidate);
    world.step();
    let (result, message) = answer(world);
    assert_eq!(result, "Refused", "{message}");
    assert!(message.contains(because), "{action}: {message}");
    assert_eq!(world.events.last().map(|e| e.reason), Some("RequestRejected"));
    let after = world.status.attempt.clone();
    assert_eq!((after.map(|a| a.paused), world.candidate_share()), (before.0.map(|a| a.paused), before.1), "a refusal changes nothing");
}

fn b() -> String {
    id_of(&spec("b")).to_string()
}

#[test]
fn a_person_may_promote_what_they_saw_and_nothing_else() {
    let mut world = trial_at(1, 1);
    refused(&mut world, "1", "promote", "sha256:other", "it names candidate sha256:other, but the live one is");
    world.ask("2", "promote", "sha256:b");
    world.run_until("promoted", |w| w.stable() == b());
    assert_eq!(answer(&world).0, "Accepted");
    assert_eq!(world.exposures.iter().map(|(_, s)| *s).collect::<Vec<_>>(), [0, 1, 5, 100]);
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn promote_works_from_a_shadow_stage_and_out_of_a_pause_and_from_a_slice() {
    for (stage, pause) in [(0, false), (1, true), (2, false)] {
        let mut world = trial_at(stage, 0);
        if pause {
            world.ask("1", "pause", &b());
            world.step();
        }
        world.ask("2", "promote", &b());
        world.step();
        assert_eq!(answer(&world).0, "Accepted", "{}", answer(&world).1);
        assert_eq!(world.status.attempt.as_ref().unwrap().paused, None, "who promotes ends the pause");
        world.rest();
        failure_free_end(&world, &spec("b"));
    }
}

#[test]
fn promote_works_while_the_rules_of_a_slice_are_not_there_yet() {
    let mut world = trial();
    world.run_until("there", |w| w.status.attempt.as_ref().is_some_and(|a| a.stage == 2));
    world.ask("1", "promote", &b());
    world.rest();
    assert_eq!(answer(&world).0, "Accepted", "{}", answer(&world).1);
    assert_eq!(world.exposures.last(), Some(&(b(), 100)));
    assert!(!world.exposures.contains(&(b(), 50)));
    failure_free_end(&world, &spec("b"));
}

#[test]
fn what_a_person_promotes_is_not_taken_back_for_what_nobody_measured_before() {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(0, 0));
    world.judge.silent = true;
    world.now += TimeDelta::minutes(10);
    world.gateway_delay = TimeDelta::seconds(20);
    world.ask("1", "promote", &b());
    world.run_until("promoted", |w| w.stable() == b());
    assert_eq!(world.exposures, [(b(), 0), (b(), 100)]);
}

#[test]
fn promote_is_refused_while_the_gateway_does_not_know_the_candidate() {
    let mut world = trial();
    world.run_until("ready", |w| {
        w.phase() == Some(AttemptPhase::Deploying) && w.workloads.get(&id_of(&spec("b"))).is_some_and(|p| p.ready == 2)
    });
    refused(&mut world, "1", "promote", &b(), "the gateway does not know");
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn a_promote_a_moment_after_a_step_began_waits_for_the_gateway_and_is_not_refused() {
    for (delay, accepted) in [(5, true), (10_000, false)] {
        let mut world = trial();
        world.run_until("there", |w| w.is_at(1, 0) && w.condition("TrafficApplied").0 == "True");
        world.gateway_delay = TimeDelta::seconds(delay);
        world.run_until("raised", |w| w.is_at(1, 1) && w.candidate_share() > 1);
        world.ask("1", "promote", &b());
        world.step();
        assert!(world.status.last_request.is_none(), "not answered yet");
        world.run_until("answered", |w| w.status.last_request.is_some());
        assert_eq!(answer(&world).0 == "Accepted", accepted, "{:?}", answer(&world));
    }
}

#[test]
fn promote_is_refused_while_it_could_not_be_carried_out() {
    let mut world = trial();
    world.step();
    refused(&mut world, "1", "promote", &b(), "endpoints");
    world.run_until("there", |w| w.is_at(1, 1));
    world.judge = harm_at(1, 1, 0);
    world.ask("2", "promote", &b());
    world.rest();
    assert_eq!(answer(&world).0, "Refused");
    assert_eq!(world.condition("Ready").1, "RolledBack");

    let mut world = trial_at(1, 1);
    world.apply(spec_with("b", json!({"suspend": true})));
    refused(&mut world, "1", "promote", &b(), "suspended");
    world.apply(spec("b"));
    world.preflight = vec!["Service legacy selects pods of the candidate".into()];
    refused(&mut world, "2", "promote", &b(), "Service legacy selects pods");
}

#[test]
fn abort_takes_the_candidate_off_whatever_it_is_doing_and_latches() {
    for (stage, step) in [(0, 0), (1, 2), (2, 0)] {
        let mut world = trial_at(stage, step);
        world.ask("1", "abort", &b());
        world.step();
        assert_eq!(world.share(&service(&spec("b"))), 0);
        world.rest();
        assert_eq!((world.condition("Ready").1, world.status.rejected[0].reason.as_str()), ("RolledBack", "Aborted"));
        assert!(world.status.rejected[0].message.contains("ann") && world.status.rejected[0].message.contains("because"));
        assert_eq!(world.reasons().iter().filter(|r| **r == "RolledBack").count(), 1);
        assert!(!world.reasons().contains(&"RequestAccepted"), "the rollback has told of itself");
    }
}

#[test]
fn abort_waits_for_neither_a_valid_spec_nor_a_policy() {
    for broken in [false, true] {
        let mut world = trial_at(1, 2);
        if broken {
            world.apply(spec_with("b", json!({"stages": [{"name": "x", "type": "Canary", "steps": ["50%", "5%"]}]})));
        } else {
            world.policy = None;
        }
        world.ask("1", "abort", &b());
        world.step();
        assert_eq!((world.share(&service(&spec("b"))), world.status.rejected.len()), (0, 1));
    }
}

#[test]
fn pause_holds_and_resume_goes_on() {
    let mut world = trial_at(1, 1);
    refused(&mut world, "0", "resume", &b(), "not paused");
    world.ask("1", "pause", &b());
    world.rest();
    assert_eq!((world.condition("Ready").1, world.candidate_share()), ("Paused", 5));
    assert!(world.status.display.message.contains("ann"), "{}", world.status.display.message);
    world.ask("2", "resume", &b());
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn harm_rolls_back_a_paused_candidate() {
    let mut world = trial_at(1, 1);
    world.ask("1", "pause", &b());
    world.step();
    world.judge = harm_at(1, 1, 0);
    world.rest();
    assert_eq!((world.condition("Ready").1, world.share(&service(&spec("b")))), ("RolledBack", 0));
}

#[test]
fn retry_tries_once_more_with_less_risk_and_a_second_rejection_counts() {
    let mut world = trial();
    world.step();
    refused(&mut world, "0", "retry", &b(), "not rejected");
    world.judge = harm_at(1, 0, 30);
    world.rest();
    world.ask("1", "retry", &b());
    world.step();
    assert_eq!(world.status.attempt.as_ref().map(|a| a.number), Some(1));
    assert!(answer(&world).1.contains("halved 1 time"), "{}", answer(&world).1);
    assert_eq!(world.status.rejected.len(), 1, "the latch holds while the retry has not proven otherwise");
    world.rest();
    assert_eq!((world.condition("Ready").1, world.status.rejected[0].attempts), ("RolledBack", 2));
    world.judge = Judge::default();
    world.ask("2", "retry", "sha256:b");
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn a_retry_that_is_cancelled_stays_rejected() {
    let mut world = trial();
    world.judge = harm_at(1, 0, 30);
    world.rest();
    world.judge = Judge::default();
    world.ask("1", "retry", &b());
    world.run_until("there", |w| w.is_at(1, 0));
    world.apply(spec("a"));
    world.rest();
    failure_free_end(&world, &spec("a"));
    world.apply(spec("b"));
    world.rest();
    assert_eq!(world.condition("Ready").1, "RolledBack");
}

#[test]
fn an_old_note_on_the_route_does_not_roll_back_a_retry() {
    let mut world = trial();
    world.judge = harm_at(1, 1, 30);
    world.rest();
    let note = world.route.as_ref().unwrap()["metadata"]["annotations"]["espalier.dev/decision"].as_str().unwrap().to_owned();
    assert!(note.contains("Rollback"));
    world.judge = Judge::default();
    world.ask("1", "retry", &b());
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn approve_is_for_a_stage_that_waits() {
    let stages = json!([{"name": "one", "type": "Canary", "steps": ["5%"], "approval": "Required"}, {"name": "two", "type": "Canary", "steps": ["50%"]}]);
    let b = spec_with("b", json!({"stages": stages}));
    let id = id_of(&b).to_string();
    let mut world = trying(spec("a"), b.clone());
    world.run_until("there", |w| w.is_at(0, 0));
    refused(&mut world, "1", "approve", &id, "has not passed yet");
    world.run_until("waiting", |w| w.condition("Approved").0 == "False");
    refused(&mut world, "2", "approve", "sha256:a", "it names candidate");
    world.ask("3", "approve", &id);
    world.run_until("next", |w| w.is_at(1, 0));
    refused(&mut world, "4", "approve", &id, "needs no approval");
    world.rest();
    failure_free_end(&world, &b);
}

#[test]
fn rollback_is_for_probation_and_says_so_otherwise() {
    let mut world = trial();
    world.run_until("promoted", |w| w.stable() == b());
    world.ask("1", "rollback", &b());
    world.step();
    assert_eq!(world.share(&service(&spec("a"))), 100);
    world.rest();
    assert_eq!((world.stable(), world.condition("Ready").1), (id_of(&spec("a")).to_string(), "RolledBack"));
    refused(&mut world, "2", "rollback", id_of(&spec("a")).as_str(), "no probation is running");
}

#[test]
fn a_request_is_acted_on_once_and_one_that_cannot_be_read_is_answered_once() {
    let mut world = trial_at(1, 0);
    world.ask("1", "pause", &b());
    world.step();
    world.status.attempt.as_mut().unwrap().paused = None;
    let answered = world.status.last_request.clone();
    world.step();
    assert_eq!((world.status.attempt.as_ref().unwrap().paused.clone(), world.status.last_request.clone()), (None, answered), "not twice");

    for text in ["{", "[]", r#"{"id": "7", "action": "explode", "candidate": "x"}"#, r#"{"id": "", "action": "abort", "candidate": "x"}"#] {
        world.request = Some(text.into());
        let before = world.events.iter().filter(|e| e.reason == "RequestRejected").count();
        for _ in 0..4 {
            world.step();
        }
        assert_eq!(answer(&world).0, "Refused", "{text}");
        assert_eq!(world.events.iter().filter(|e| e.reason == "RequestRejected").count(), before + 1, "{text}");
    }
    assert!(world.status.rejected.is_empty());
    world.request = Some(r#"{"id": "7", "action": "explode", "candidate": "x"}"#.into());
    world.step();
    assert!(answer(&world).1.contains("promote, abort, retry, pause, resume, approve, rollback"), "{}", answer(&world).1);
    world.ask("7", "abort", &b());
    world.step();
    assert_eq!((answer(&world).0, world.status.rejected.len()), ("Accepted", 1), "the same id, put right, is acted on");
}

#[test]
fn each_request_that_cannot_be_read_is_answered_also_when_it_resembles_the_one_before() {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(1, 0));
    world.ask("7", "pause", &b());
    world.step();
    assert_eq!(answer(&world).0, "Accepted");
    for (id, action) in [("7", "explode"), ("7", "implode"), ("8", "implode")] {
        world.request = Some(json!({"id": id, "action": action, "candidate": "x"}).to_string());
        world.step();
        let told = world.status.last_request.as_ref().unwrap();
        assert!(told.result == "Refused" && told.id == id && told.message.contains(action), "{told:?}");
    }
}

#[test]
fn requests_without_an_attempt_are_refused() {
    let mut world = serving(spec("a"));
    for (n, action) in ["promote", "abort", "pause", "resume", "approve"].into_iter().enumerate() {
        refused(&mut world, &n.to_string(), action, id_of(&spec("a")).as_str(), "no attempt is running");
    }
}

#[test]
fn a_resume_after_an_inconclusive_pause_is_another_try_at_half_the_risk() {
    let mut world = trying(spec("a"), spec_with("b", json!({"onInconclusive": "Pause"})));
    world.judge = Judge::who(|a, _| (a.stage == 1 && a.step == 1).then(|| Overall::Inconclusive(failure("Warning"))));
    world.rest();
    let before = world.status.attempt.clone().unwrap();
    world.ask("1", "resume", &b());
    world.step();
    let after = world.status.attempt.clone().unwrap();
    assert!(after.number == 1 && after.started > before.started && after.stage == before.stage && after.paused.is_none());
    assert!(world.status.checkpoint.is_none(), "the evidence starts anew");
    world.rest();
    assert_eq!(world.condition("Ready").1, "Paused", "without proof it pauses again, rather than going round");
}
