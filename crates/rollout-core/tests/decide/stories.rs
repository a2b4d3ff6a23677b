//! Whole stories, from the first apply to the end.

use chrono::TimeDelta;
use rollout_core::decide::decide;
use rollout_core::status::AttemptPhase;
use rollout_core::testing::pass;
use rollout_core::verdict::Overall;
use rollout_core::weights::{Exposure, Position};
use serde_json::json;

use crate::fixtures::{
    baseline, failure_free_end, harm_at, id_of, over_baseline, policy, service, serving, spec, spec_with, trial, trial_at, trying,
};
use crate::judge::{Judge, failure};
use crate::world::World;

fn shares(world: &World) -> Vec<i32> {
    let mut shares: Vec<i32> = world.exposures.iter().map(|(_, share)| *share).collect();
    shares.dedup();
    shares
}

#[test]
fn a_first_revision_without_baseline_serves_everybody_once_it_is_ready() {
    let world = serving(spec("a"));
    assert_eq!(world.stable(), id_of(&spec("a")).as_str());
    assert_eq!(world.share(&service(&spec("a"))), 100);
    assert_eq!(world.reasons(), ["Promoted"]);
    assert_eq!(world.status.decisions[0].reason, "InitialDeployment");
    assert_eq!(world.condition("Promoted").0, "True");
}

#[test]
fn a_good_candidate_goes_through_every_step_and_is_promoted() {
    let mut world = trial();
    world.run_until("promoted", |w| w.stable() == id_of(&spec("b")).as_str());
    assert_eq!(shares(&world), [0, 1, 5, 25, 0, 50, 100]);
    world.rest();
    failure_free_end(&world, &spec("b"));
    assert_eq!(
        world.reasons(),
        [
            "CandidateDetected",
            "StageStarted",
            "StagePassed",
            "StageStarted",
            "WeightChanged",
            "WeightChanged",
            "StagePassed",
            "StageStarted",
            "Promoting",
            "Promoted",
            "ProbationEnded"
        ]
    );
    assert_eq!(world.share(&world.control()), 0);
    assert!(!world.route.as_ref().unwrap().to_string().contains("-control"), "the sticky rules are gone");
    let old = &world.workloads[&id_of(&spec("a"))];
    assert_eq!((old.desired, old.exists), (0, true), "the old revision is parked and kept as the way back");
}

#[test]
fn the_default_stages_end_in_promotion_too() {
    let mut world =
        trying(spec_with("a", json!({"stages": null, "probation": null})), spec_with("b", json!({"stages": null, "probation": null})));
    world.run_until("promoted", |w| w.stable() == id_of(&spec("b")).as_str());
    assert_eq!(shares(&world), [0, 1, 5, 25, 100]);
    world.rest();
    failure_free_end(&world, &spec("b"));
    assert!(!world.reasons().contains(&"ProbationEnded"));
}

#[test]
fn a_timer_alone_is_enough_to_get_there() {
    let mut world = trial();
    world.deaf = true;
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn a_baseline_serves_from_the_first_moment_and_is_replaced_with_proof_only() {
    let b = spec_with("b", json!({"baseline": baseline()}));
    let mut world = over_baseline(b.clone());
    world.run_until("routed", |w| w.share("digits-fp32") == 100);
    assert!(world.now < crate::world::at(15), "the baseline does not wait for the candidate's pods");
    assert_eq!(world.stable(), "baseline");
    world.rest();
    failure_free_end(&world, &b);
    assert_eq!(shares(&world), [0, 1, 5, 25, 0, 50, 100]);
}

#[test]
fn harm_at_any_step_takes_everybody_off_within_one_look_and_latches() {
    for (stage, step, before) in [(0, 0, 0), (1, 0, 1), (1, 1, 5), (1, 2, 25), (2, 0, 50)] {
        let mut world = trial();
        world.judge = harm_at(stage, step, 60);
        world.run_until("harmful", |w| w.is_at(stage, step));
        assert_eq!(world.candidate_share(), if before == 0 { 0 } else { before.min(world.candidate_share()) });
        world.run_until("rolled back", |w| !w.status.rejected.is_empty());
        assert_eq!(world.share(&service(&spec("b"))), 0);
        assert_eq!(*shares(&world).iter().max().unwrap_or(&0), before);
        world.rest();
        assert_eq!(world.condition("Ready"), ("False", "RolledBack"));
        assert_eq!(world.condition("Stalled"), ("True", "RolledBack"));
        assert_eq!(world.condition("Available").0, "True");
        assert_eq!(world.condition("Promoted"), ("False", "RolledBack"));
        assert_eq!(world.stable(), id_of(&spec("a")).as_str());
        let latch = &world.status.rejected[0];
        assert_eq!((latch.revision.clone(), latch.attempts), (id_of(&spec("b")), 1));
        assert!(latch.message.contains("31.4pp worse"), "the reason has the numbers");
        assert_eq!(world.reasons().iter().filter(|r| **r == "RolledBack").count(), 1);
        assert_eq!(world.workloads[&id_of(&spec("b"))].desired, 0, "the candidate is parked");
        assert!(!world.route.as_ref().unwrap().to_string().contains("RequestMirror"), "nothing is mirrored to it any more");
        assert_eq!(world.status.evidence.len(), 1, "the evidence that spoke against it stays in view");
    }
}

#[test]
fn harm_in_the_moment_of_promotion_takes_everybody_back() {
    let mut world = trial();
    world.gateway_delay = TimeDelta::seconds(40);
    world.judge = Judge::who(|attempt, _| (attempt.phase == AttemptPhase::Promoting).then(|| Overall::Fail(failure("Harmful"))));
    world.run_until("everybody", |w| w.candidate_share() == 100);
    world.rest();
    assert_eq!(world.stable(), id_of(&spec("a")).as_str());
    assert_eq!(world.share(&service(&spec("a"))), 100);
    assert_eq!(world.condition("Ready"), ("False", "RolledBack"));
}

#[test]
fn a_candidate_that_dies_in_the_moment_of_promotion_loses_everybody() {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(2, 0) && w.condition("TrafficApplied").0 == "True");
    world.gateway_delay = TimeDelta::seconds(30);
    world.run_until("promoting", |w| w.candidate_share() == 100);
    world.workloads.get_mut(&id_of(&spec("b"))).unwrap().ready = 0;
    world.step();
    assert_eq!((world.candidate_share(), world.share(&service(&spec("a")))), (0, 100));
    assert_eq!(world.condition("Ready").1, "CandidateUnready");
}

#[test]
fn a_rejected_revision_is_not_tried_again_by_a_resync_or_another_apply() {
    let mut world = trial();
    world.judge = harm_at(1, 1, 30);
    world.rest();
    assert_eq!(world.condition("Ready").1, "RolledBack");
    world.judge = Judge::default();
    world.now += TimeDelta::days(1);
    world.apply(spec("a"));
    world.rest();
    assert_eq!(world.condition("Ready"), ("True", "Promoted"), "a spec that goes back to stable is done");
    assert!(world.status.evidence.is_empty(), "what was known of the other one says nothing about this one");
    world.apply(spec("b"));
    world.rest();
    assert_eq!(world.condition("Ready"), ("False", "RolledBack"));
    assert!(world.status.attempt.is_none());
}

#[test]
fn another_revision_is_a_way_out_of_a_latch() {
    let mut world = trial();
    world.judge = harm_at(1, 1, 30);
    world.rest();
    world.judge = Judge::default();
    world.apply(spec("c"));
    world.rest();
    failure_free_end(&world, &spec("c"));
    assert_eq!(world.status.rejected.len(), 1, "the latch on the other one stays");
}

#[test]
fn a_revision_that_served_before_comes_back_at_once_without_analysis() {
    let mut world = trial();
    world.rest();
    failure_free_end(&world, &spec("b"));
    let before = world.now;
    world.exposures.clear();
    world.judge = Judge { silent: true, ..Judge::default() };
    world.apply(spec("a"));
    world.run_until("back", |w| w.stable() == id_of(&spec("a")).as_str());
    assert_eq!(shares(&world), [0, 100]);
    assert!(world.now - before < TimeDelta::minutes(2));
    world.judge = Judge::default();
    world.rest();
    failure_free_end(&world, &spec("a"));
}

#[test]
fn a_new_candidate_in_the_middle_starts_over_from_nobody() {
    for place in [(0, 0), (1, 1), (1, 2), (2, 0)] {
        let mut world = trial_at(place.0, place.1);
        world.exposures.clear();
        world.apply(spec("c"));
        world.step();
        assert_eq!(world.share(&service(&spec("b"))), 0, "the old candidate is off before anything else");
        world.run_until("promoted", |w| w.stable() == id_of(&spec("c")).as_str());
        assert_eq!(shares(&world).iter().copied().filter(|s| *s > 0).collect::<Vec<_>>(), [1, 5, 25, 50, 100]);
        world.rest();
        failure_free_end(&world, &spec("c"));
        assert!(!world.reasons().contains(&"ForeignEdit"), "nobody else did that");
        assert!(!world.workloads.contains_key(&id_of(&spec("b"))), "a candidate that was never judged is of no use later");
    }
}

#[test]
fn a_candidate_that_the_spec_left_goes_at_once_also_when_stable_is_gone() {
    for promoting in [false, true] {
        let mut world = trial();
        world.run_until("there", |w| w.is_at(2, 0) && w.candidate_share() == 50);
        if promoting {
            // The process died between the status and the route.
            let attempt = world.status.attempt.as_mut().unwrap();
            (attempt.phase, attempt.intent) = (AttemptPhase::Promoting, Exposure::FULL);
        }
        world.workloads.get_mut(&id_of(&spec("a"))).unwrap().service = false;
        world.apply(spec("c"));
        let decided = world.decide().status;
        assert_eq!((decided.decisions[0].action.as_str(), decided.candidate), ("Cancelled", None), "half of the users are still to answer");
    }
}

#[test]
fn a_promotion_whose_raise_was_never_written_is_called_off_when_stable_is_gone() {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(2, 0) && w.candidate_share() == 50);
    let attempt = world.status.attempt.as_mut().unwrap();
    (attempt.phase, attempt.intent) = (AttemptPhase::Promoting, Exposure::FULL);
    world.workloads.get_mut(&id_of(&spec("a"))).unwrap().service = false;
    assert_eq!(world.decide().status.decisions[0].reason, "StableBackendMissing");
}

#[test]
fn harm_of_the_old_candidate_is_not_held_against_the_new_one() {
    let mut world = trial_at(1, 1);
    world.judge = harm_at(1, 1, 0);
    world.apply(spec("c"));
    world.step();
    world.step();
    assert!(world.status.rejected.is_empty());
    world.judge = Judge::default();
    world.rest();
    failure_free_end(&world, &spec("c"));
}

#[test]
fn there_and_back_ends_where_it_began() {
    let mut world = trial_at(1, 2);
    world.apply(spec("a"));
    world.rest();
    failure_free_end(&world, &spec("a"));
    assert!(world.status.rejected.is_empty() && world.status.history.is_empty());
    assert!(!world.reasons().contains(&"RolledBack"));
}

#[test]
fn a_policy_edit_starts_the_evidence_anew_with_nobody_exposed() {
    let mut world = trial_at(1, 2);
    let (first, hash) = world.status.attempt.as_ref().map(|a| (a.started, a.plan_hash.clone())).unwrap();
    let mut edited = serde_json::to_value(policy()).unwrap();
    edited["guardrails"][0]["target"] = json!("+1pp vs stable");
    world.policy = Some((2, serde_json::from_value(edited).unwrap()));
    world.step();
    let attempt = world.status.attempt.clone().unwrap();
    assert_eq!(world.candidate_share(), 0);
    assert!(attempt.started > first && attempt.plan_hash != hash && attempt.policy_generation == 2 && attempt.stage == 0);
    assert_eq!(attempt.number, 0, "an edit is no retry");
    world.rest();
    failure_free_end(&world, &spec("b"));
    assert_eq!(world.reasons().iter().filter(|r| **r == "PolicyChanged").count(), 1);
}

#[test]
fn a_pause_outlives_a_policy_edit() {
    let mut world = trial_at(1, 1);
    world.ask("1", "pause", id_of(&spec("b")).as_str());
    world.step();
    let mut edited = serde_json::to_value(policy()).unwrap();
    edited["guardrails"][0]["target"] = json!("+1pp vs stable");
    world.policy = Some((2, serde_json::from_value(edited).unwrap()));
    world.rest();
    assert_eq!(world.condition("Ready"), ("Unknown", "Paused"));
    assert_eq!(world.candidate_share(), 0);
}

#[test]
fn suspend_holds_exposure_and_does_not_hold_a_rollback() {
    for harmful in [false, true] {
        let mut world = trial_at(1, 1);
        world.apply(spec_with("b", json!({"suspend": true})));
        if harmful {
            world.judge = harm_at(1, 1, 60);
        }
        world.rest();
        if harmful {
            assert_eq!((world.condition("Ready").1, world.share(&service(&spec("b")))), ("RolledBack", 0));
        } else {
            assert_eq!((world.condition("Ready").1, world.candidate_share()), ("Suspended", 5));
            world.apply(spec("b"));
            world.rest();
            failure_free_end(&world, &spec("b"));
        }
    }
}

#[test]
fn suspend_from_the_start_tries_nothing_and_keeps_what_serves() {
    let mut world = trying(spec("a"), spec_with("b", json!({"suspend": true})));
    world.rest();
    assert_eq!(world.condition("Ready").1, "Suspended");
    assert!(world.status.attempt.is_none());
    assert_eq!(world.share(&service(&spec("a"))), 100);
    let mut first = World::new(spec_with("a", json!({"suspend": true})), policy());
    first.rest();
    assert!(first.route.is_none(), "a suspended first revision is not served either");
}

#[test]
fn a_stage_that_needs_approval_waits_for_it_and_for_nothing_else() {
    let stages = json!([{"name": "canary", "type": "Canary", "steps": ["5%", "50%"], "approval": "Required"}, {"name": "more", "type": "Canary", "steps": ["60%"]}]);
    let b = spec_with("b", json!({"stages": stages}));
    let mut world = trying(spec("a"), b.clone());
    world.run_until("waiting", |w| w.condition("Approved").0 == "False");
    world.rest();
    assert_eq!((world.condition("Reconciling"), world.candidate_share()), (("True", "AwaitingApproval"), 50));
    assert_eq!(world.reasons().iter().filter(|r| **r == "AwaitingApproval").count(), 1);
    assert!(world.status.display.message.contains("kubectl espalier approve"), "{}", world.status.display.message);
    world.ask("1", "approve", id_of(&b).as_str());
    world.rest();
    failure_free_end(&world, &b);
    assert_eq!(world.reasons().iter().filter(|r| **r == "ApprovalReceived").count(), 1);
    assert!(!world.reasons().contains(&"RequestAccepted"), "one event per transition");
}

#[test]
fn who_was_asked_may_approve_while_a_late_scrape_keeps_the_stage_from_passing_once_more() {
    let stages = json!([{"name": "canary", "type": "Canary", "steps": ["5%", "50%"], "approval": "Required"}]);
    let b = spec_with("b", json!({"stages": stages}));
    let mut world = trying(spec("a"), b.clone());
    world.run_until("waiting", |w| w.condition("Approved").0 == "False");
    world.judge = Judge::who(|_, _| Some(Overall::Hold("a scrape is late".into())));
    for _ in 0..3 {
        world.step();
    }
    assert_eq!(world.condition("Approved"), ("False", "AwaitingApproval"));
    world.ask("1", "approve", id_of(&b).as_str());
    world.step();
    assert_eq!(world.status.last_request.as_ref().unwrap().result, "Accepted");
    for _ in 0..3 {
        world.step();
    }
    assert_eq!(world.candidate_share(), 50, "an approval is no proof");
    world.judge = Judge::default();
    world.rest();
    failure_free_end(&world, &b);
}

#[test]
fn a_candidate_that_does_harm_while_it_waits_for_approval_is_taken_off() {
    let stages = json!([{"name": "canary", "type": "Canary", "steps": ["50%"], "approval": "Required"}]);
    let mut world = trying(spec("a"), spec_with("b", json!({"stages": stages})));
    world.run_until("waiting", |w| w.condition("Approved").0 == "False");
    world.judge = harm_at(0, 0, 0);
    world.rest();
    assert_eq!(world.condition("Ready").1, "RolledBack");
}

#[test]
fn an_inconclusive_stage_is_rolled_back_or_paused_as_the_user_wants() {
    for pause in [false, true] {
        let mut world = trying(spec("a"), spec_with("b", if pause { json!({"onInconclusive": "Pause"}) } else { json!({}) }));
        world.judge = Judge::who(|a, time| {
            (a.number == 0 && a.stage == 1 && a.step == 2 && time > TimeDelta::minutes(1))
                .then(|| Overall::Inconclusive(failure("Warning")))
        });
        world.rest();
        if !pause {
            assert_eq!(world.condition("Ready").1, "RolledBack");
            assert_eq!(world.status.rejected[0].reason, "Inconclusive");
            continue;
        }
        assert_eq!((world.condition("Ready").1, world.candidate_share()), ("Paused", 1), "exposure goes back to the first step");
        assert_eq!(world.reasons().iter().filter(|r| **r == "GuardrailInconclusive").count(), 1);
        assert_eq!(world.status.display.step, "1/3");
        world.exposures.clear();
        world.ask("1", "resume", id_of(&spec("b")).as_str());
        world.rest();
        assert_eq!(shares(&world), [5, 25, 0, 50, 100]);
        failure_free_end(&world, &world.spec.clone());
    }
}

#[test]
fn a_stage_whose_time_is_over_before_it_could_begin_ends_too() {
    let mut world = trial();
    world.judge = Judge::who(|a, _| {
        (a.stage == 1 && a.phase == AttemptPhase::Preparing).then(|| Overall::Inconclusive(failure("MaxDurationExceeded")))
    });
    world.preflight = Vec::new();
    world.rest();
    assert_eq!((world.condition("Ready").1, world.status.rejected[0].reason.as_str()), ("RolledBack", "Inconclusive"));
}

#[test]
fn a_pass_for_something_else_raises_nothing() {
    let mut world = trial();
    world.judge.confused = true;
    for _ in 0..300 {
        world.step();
    }
    assert!(shares(&world).iter().all(|s| *s == 0));
}

#[test]
fn a_pass_that_comes_sooner_than_the_step_needs_raises_nothing() {
    let mut world = trial();
    world.judge = Judge::who(|attempt, time| {
        let at = attempt.step_started? + time;
        let position = Position { stage: usize::try_from(attempt.stage).ok()?, step: usize::try_from(attempt.step).ok()? };
        let judged = attempt.stage == 1 && attempt.step < 2 && attempt.phase == AttemptPhase::Judging;
        judged.then(|| Overall::StepPass(pass(id_of(&spec("b")), position, &attempt.plan_hash, at)))
    });
    world.run_until("there", |w| w.is_at(1, 2));
    let raised: Vec<_> = world.status.decisions.iter().filter(|d| d.action == "Raised").map(|d| d.time).collect();
    assert_eq!(raised.len(), 3);
    assert!(raised.windows(2).all(|times| times[0] - times[1] >= TimeDelta::minutes(2)), "{raised:?}");
}

#[test]
fn a_judgement_of_the_attempt_before_is_not_held_against_this_one() {
    let mut world = trial();
    world.judge = harm_at(1, 1, 0);
    world.run_until("judged", |w| w.decide().status.rejected.len() == 1);
    let harm = world.judge.judge(&world.status, world.plan().ok().as_ref(), world.now).unwrap();
    world.judge = Judge::default();
    world.apply(spec("c"));
    world.run_until("the next is on trial", |w| w.status.candidate.as_ref().is_some_and(|c| c.revision == id_of(&spec("c"))));
    let decision = decide(&world.observe(), &world.plan(), Some(&harm), world.now);
    assert!(decision.status.rejected.is_empty() && decision.status.attempt.is_some());
}

#[test]
fn a_second_candidate_while_the_first_is_in_probation_is_tried_against_the_promoted_one() {
    let mut world = trial();
    world.run_until("promoted", |w| w.stable() == id_of(&spec("b")).as_str());
    world.apply(spec("c"));
    world.rest();
    failure_free_end(&world, &spec("c"));
    let history: Vec<_> = world.status.history.iter().map(|h| h.revision.clone()).collect();
    assert_eq!(history, [id_of(&spec("b")), id_of(&spec("a"))]);
}

#[test]
fn revisions_beyond_the_rollback_window_are_deleted_and_tried_anew() {
    let mut world = serving(spec("a"));
    for model in ["b", "c", "d"] {
        world.apply(spec(model));
        world.rest();
        failure_free_end(&world, &spec(model));
    }
    assert!(!world.workloads.contains_key(&id_of(&spec("a"))), "a third one back is of no use");
    world.exposures.clear();
    world.apply(spec("a"));
    world.rest();
    assert_eq!(shares(&world), [0, 1, 5, 25, 0, 50, 100]);
}
