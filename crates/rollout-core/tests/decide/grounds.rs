//! What a raise rests on, one thing at a time: a fresh judgement, measurements, endpoints, time since the last trouble. And what a request may
//! not pass by.

use chrono::TimeDelta;
use rollout_core::decide::{Decision, Write, decide};
use rollout_core::spec::PolicySpec;
use rollout_core::status::AttemptPhase;
use rollout_core::verdict::{Finding, Judgement, Overall, Verdict};
use serde_json::json;

use crate::fixtures::{failure_free_end, harm_at, id_of, policy, service, spec, spec_with, trial};
use crate::judge::{Judge, failure, finding, judgement};
use crate::world::World;

fn b() -> String {
    id_of(&spec("b")).to_string()
}

/// The policy with the guardrail as these fields say.
fn policy_with(field: &str, value: &str) -> PolicySpec {
    let mut policy = serde_json::to_value(policy()).unwrap();
    policy["guardrails"][0][field] = json!(value);
    serde_json::from_value(policy).unwrap()
}

fn trial_under(policy: PolicySpec) -> World {
    let mut world = World::new(spec("a"), policy);
    world.run_until("served", |w| w.condition("Ready") == ("True", "Promoted"));
    world.rest();
    world.apply(spec("b"));
    world
}

/// A world whose next decision would open the canary stage.
fn about_to_raise(mut world: World) -> World {
    let raises = |w: &World| {
        let stage = w.status.attempt.as_ref().map(|a| a.stage);
        stage == Some(1) && w.decide().then.iter().any(|write| matches!(write, Write::Route(_)))
    };
    world.run_until("about to raise", raises);
    world
}

/// A judgement of now that goes on watching.
fn judged(world: &World, finding: Finding) -> Judgement {
    judgement(world.now, vec![finding], Overall::Hold("watching".into()))
}

/// What it does on a judgement of this age with this finding.
fn looked(world: &World, age: TimeDelta, finding: Finding) -> Decision {
    let judgement = Judgement { at: world.now - age, ..judged(world, finding) };
    decide(&world.observe(), &world.plan(), Some(&judgement), world.now)
}

/// Whether it raises, and what it says.
fn raised(world: &World, age: TimeDelta, finding: Finding) -> (bool, String) {
    let decision = looked(world, age, finding);
    (decision.then.iter().any(|write| matches!(write, Write::Route(_))), decision.status.display.message)
}

fn unmeasurable(reason: &str) -> Finding {
    Finding { reason: reason.into(), ..finding(Verdict::Unmeasurable) }
}

#[test]
fn nobody_is_exposed_while_harm_could_not_be_seen() {
    let world = about_to_raise(trial());
    let now = TimeDelta::zero();
    assert!(raised(&world, now, finding(Verdict::Undecided)).0);
    let (raises, message) = raised(&world, now, unmeasurable("Stale"));
    assert!(!raises && message.contains("accuracy cannot be measured"), "{message}");
    assert!(raised(&world, now, unmeasurable("NoSeries")).0, "a candidate without a request has no series yet");
    let world = about_to_raise(trial_under(policy_with("onUnmeasurable", "Ignore")));
    assert!(raised(&world, now, unmeasurable("Stale")).0, "the user ignores it");
    let other = Finding { guardrail: "latency".into(), ..unmeasurable("Stale") };
    assert!(!raised(&world, now, other).0, "of another guardrail nobody said so");
}

#[test]
fn nobody_is_exposed_on_a_judgement_older_than_three_intervals() {
    let world = about_to_raise(trial());
    let limit = world.plan().unwrap().interval * 3;
    assert!(limit > TimeDelta::seconds(10));
    assert!(raised(&world, limit, finding(Verdict::Undecided)).0);
    let (raises, message) = raised(&world, limit + TimeDelta::seconds(1), finding(Verdict::Undecided));
    assert!(!raises && message.contains("s old"), "{message}");
}

#[test]
fn a_wait_is_told_when_its_words_change_and_not_for_every_second_of_it() {
    let mut world = about_to_raise(trial());
    let late = |seconds: i64| TimeDelta::seconds(60 + seconds);
    world.status = looked(&world, late(0), finding(Verdict::Undecided)).status;
    assert!(world.status.display.message.contains("60 s old"), "{}", world.status.display.message);
    assert_eq!(looked(&world, late(1), finding(Verdict::Undecided)).status, world.status);
    world.preflight = vec!["Service legacy selects pods of the candidate".into()];
    let told = looked(&world, late(1), finding(Verdict::Undecided)).status.display.message;
    assert!(told.contains("Service legacy"), "{told}");
}

#[test]
fn as_many_endpoints_as_the_share_needs_of_all_replicas_are_waited_for() {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(1, 1) && w.candidate_share() == 5);
    let pods = world.workloads.get_mut(&id_of(&spec("b"))).unwrap();
    (pods.desired, pods.ready) = (10, 2);
    for _ in 0..60 {
        world.step();
        assert!(world.candidate_share() <= 5, "two of ten cannot carry a quarter of the users");
    }
    world.workloads.get_mut(&id_of(&spec("b"))).unwrap().ready = 4;
    world.run_until("a quarter", |w| w.is_at(1, 2) && w.candidate_share() == 25);
    for _ in 0..60 {
        world.step();
        assert!(world.candidate_share() <= 25, "four of ten cannot carry half of the users");
    }
    assert!(world.status.display.message.contains("4 of 10 endpoints"), "{}", world.status.display.message);
    world.workloads.get_mut(&id_of(&spec("b"))).unwrap().ready = 5;
    world.run_until("half", |w| w.candidate_share() == 50);
}

#[test]
fn the_time_of_a_stage_begins_when_the_pods_are_ready() {
    let mut world = trial();
    world.startup = TimeDelta::minutes(5);
    world.run_until("ready", |w| w.phase() == Some(AttemptPhase::Preparing));
    let attempt = world.status.attempt.as_ref().unwrap();
    assert!(attempt.stage_started - attempt.started >= TimeDelta::minutes(5));
}

#[test]
fn a_step_that_takes_longer_than_a_deployment_may_rejects_nobody() {
    let mut world = trial();
    world.judge = Judge::who(|a, _| (a.stage == 1 && a.step == 1).then(|| Overall::Hold("watching".into())));
    world.run_until("there", |w| w.is_at(1, 1) && w.candidate_share() == 5);
    world.workloads.get_mut(&id_of(&spec("b"))).unwrap().ready = 1;
    let since = world.now;
    world.run_until("long", |w| w.now - since > TimeDelta::minutes(20));
    assert_eq!((world.candidate_share(), world.status.rejected.len()), (5, 0), "one of two is enough for 5%");
}

#[test]
fn a_candidate_that_was_away_once_may_be_short_of_a_pod_later() {
    for stage in [0, 1] {
        let mut world = trial();
        world.judge = Judge::who(move |a, _| (a.stage == stage).then(|| Overall::Hold("watching".into())));
        let set = |w: &mut World, ready| w.workloads.get_mut(&id_of(&spec("b"))).unwrap().ready = ready;
        world.run_until("there", |w| w.is_at(stage, 0));
        set(&mut world, 0);
        world.run_until("away", |w| !w.is_at(stage, 0));
        set(&mut world, 2);
        world.run_until("back", |w| w.is_at(stage, 0));
        set(&mut world, 1);
        let since = world.now;
        world.run_until("long", |w| w.now - since > TimeDelta::minutes(20));
        assert!(world.is_at(stage, 0) && world.status.rejected.is_empty(), "{:?}", world.status.rejected);
    }
}

#[test]
fn a_shadow_stage_may_follow_another() {
    let stages = json!([
        {"name": "canary", "type": "Canary", "steps": ["1%", "5%"], "stepMinDuration": "1m"},
        {"name": "shadow", "type": "Shadow", "percent": "100%"},
    ]);
    let mut world = crate::fixtures::trying(spec("a"), spec_with("b", json!({"stages": stages})));
    world.rest();
    failure_free_end(&world, &world.spec.clone());
}

#[test]
fn an_inconclusive_judgement_of_the_stage_before_ends_nothing() {
    let mut world = trial();
    world.run_until("there", |w| w.status.attempt.as_ref().is_some_and(|a| a.stage == 2));
    let began = world.status.attempt.as_ref().unwrap().stage_started;
    for (at, rejections) in [(began - TimeDelta::seconds(1), 0), (began, 1)] {
        let overall = Overall::Inconclusive(failure("Warning"));
        let judgement = Judgement { at, overall, ..judged(&world, finding(Verdict::Warning)) };
        let decision = decide(&world.observe(), &world.plan(), Some(&judgement), world.now);
        assert_eq!(decision.status.rejected.len(), rejections);
    }
}

#[test]
fn a_control_service_is_made_once_and_for_a_slice_only() {
    let mut world = trial();
    let mut made = Vec::new();
    while world.stable() != b() {
        let stage = world.status.attempt.as_ref().map(|a| a.stage);
        made.extend(world.step().first.into_iter().filter(|write| matches!(write, Write::EnsureControl(_))).map(|_| stage));
    }
    assert_eq!(made, [Some(2)]);
}

#[test]
fn a_candidate_that_was_lowered_is_tried_again_after_two_windows() {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(1, 1) && w.candidate_share() == 5);
    world.judge = Judge::who(|a, _| (a.step == 1).then(|| Overall::Lower(failure("CandidateSilent"))));
    world.run_until("lowered", |w| w.candidate_share() == 0);
    assert_eq!(world.status.display.step, "1/3", "and begins again from the first step");
    let lowered = world.now;
    world.judge = Judge::default();
    world.run_until("again", |w| w.candidate_share() > 0);
    let waited = world.now - lowered;
    assert!(waited >= TimeDelta::minutes(2) && waited < TimeDelta::minutes(3), "{waited}");
}

#[test]
fn a_retry_does_not_inherit_how_often_the_attempt_before_was_lowered() {
    let mut world = trial();
    world.judge = Judge::who(|a, _| (a.stage == 1 && a.intent.percent() > 0).then(|| Overall::Lower(failure("CandidateSilent"))));
    world.rest();
    assert!(world.status.rejected[0].message.contains("lowered 5 times"), "{}", world.status.rejected[0].message);
    world.judge = Judge::default();
    world.ask("1", "retry", &b());
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn a_request_other_than_promote_is_answered_before_the_gateway_has_taken_the_route() {
    for (action, paused, rejected) in [("pause", true, 0), ("abort", false, 1)] {
        let mut world = trial();
        world.run_until("there", |w| w.is_at(1, 0) && w.condition("TrafficApplied").0 == "True");
        world.gateway_delay = TimeDelta::days(1);
        world.run_until("raised", |w| w.is_at(1, 1) && w.candidate_share() == 5);
        world.ask("1", action, &b());
        world.step();
        assert_eq!(world.status.last_request.as_ref().map(|r| r.result.as_str()), Some("Accepted"), "{action}");
        assert_eq!(world.status.attempt.as_ref().is_some_and(|a| a.paused.is_some()), paused);
        assert_eq!(world.status.rejected.len(), rejected);
    }
}

#[test]
fn promote_is_refused_while_the_route_gives_more_than_was_decided() {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(1, 1) && w.candidate_share() == 5 && w.condition("TrafficApplied").0 == "True");
    let candidate = service(&spec("b"));
    world.edit_route(|route| {
        for reference in route.pointer_mut("/spec/rules/0/backendRefs").unwrap().as_array_mut().unwrap() {
            reference["weight"] = json!(if reference["name"] == json!(candidate) { 90 } else { 10 });
        }
    });
    world.gateway_delay = TimeDelta::zero();
    world.ask("1", "promote", &b());
    world.step();
    let answer = world.status.last_request.clone().unwrap();
    assert!(answer.result == "Refused" && answer.message.contains("more than was decided"), "{answer:?}");
    assert_eq!(world.candidate_share(), 5);
}

#[test]
fn a_retry_needs_a_policy_to_be_judged_by() {
    let mut world = trial();
    world.judge = harm_at(1, 0, 30);
    world.rest();
    world.policy = None;
    world.ask("1", "retry", &b());
    world.step();
    let answer = world.status.last_request.clone().unwrap();
    assert!(answer.result == "Refused" && answer.message.contains("cannot be used"), "{answer:?}");
    assert!(world.status.attempt.is_none());
}

#[test]
fn a_request_that_cannot_be_read_is_known_by_its_id_or_by_its_text() {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(1, 0));
    // The sums are the published ones of FNV-1a with 32 bits.
    let texts = [("a", "unreadable-e40c292c"), ("foobar", "unreadable-bf9cf968"), (r#"{"id": "7", "action": "explode"}"#, "7")];
    for (text, id) in texts {
        world.request = Some(text.into());
        world.step();
        assert_eq!(world.status.last_request.as_ref().map(|r| r.id.as_str()), Some(id));
    }
}

#[test]
fn an_old_revision_that_was_reduced_is_reduced_once() {
    let reduced = json!({"probation": {"duration": "10m", "parked": "Reduced"}});
    let mut world = crate::fixtures::trying(spec_with("a", reduced.clone()), spec_with("b", reduced));
    world.run_until("reduced", |w| w.workloads[&id_of(&spec("a"))].desired == 1);
    for _ in 0..10 {
        let first = world.step().first;
        assert!(!first.iter().any(|write| matches!(write, Write::Reduce(_))), "{first:?}");
    }
}
