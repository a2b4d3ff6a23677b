//! Traffic that is not split as written, and what happens around a change of it.

use chrono::TimeDelta;
use rollout_core::plan::{PlannedAssignment, RequestCounter};
use rollout_core::spec::{Alphabet, StageKind};
use rollout_core::verdict::{Overall, Verdict};

use crate::plans::*;
use crate::run::{Run, named, reason};
use crate::world::*;

fn world(seed: u64, stable: f64, candidate: f64) -> World {
    let mut world = World::new(seed, 5_000, 3);
    (world.stable.rps, world.candidate.rps) = (stable, candidate);
    world
}

#[test]
fn a_wrong_split_makes_everything_unmeasurable_and_is_reported_above_intent() {
    let mut run = Run::new(plan(vec![canary(&[5])], vec![accuracy(0.05, 0.05), nan()]), world(41, 60.0, 40.0));
    for _ in 0..120 {
        run.tick();
        assert!(!matches!(run.judge().overall, Overall::StagePass(_) | Overall::Fail(_)), "{:?}", run.judge().overall);
    }
    let judgement = run.judge();
    assert!(judgement.share_above_intent && judgement.realised_share.unwrap() > 35.0);
    for finding in &judgement.findings {
        assert_eq!((finding.verdict, finding.reason.as_str()), (Verdict::Unmeasurable, "SampleRatioMismatch"));
    }
}

#[test]
fn too_few_requests_for_the_candidate_are_a_mismatch_but_not_above_intent() {
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05)]), world(42, 60.0, 15.0));
    let judgement = run.ticks(60);
    assert_eq!(judgement.findings[0].reason, "SampleRatioMismatch");
    assert!(!judgement.share_above_intent);
}

#[test]
fn harm_is_harm_however_traffic_is_split() {
    let mut world = world(43, 60.0, 40.0);
    world.candidate.wrong = 0.4;
    let mut run = Run::new(plan(vec![canary(&[5])], vec![accuracy(0.05, 0.05)]), world);
    assert_eq!(reason(&run.until(TimeDelta::minutes(10), |o| matches!(o, Overall::Fail(_))).unwrap().0.overall), "Fail Harmful");
}

#[test]
fn the_right_split_is_not_reported_through_steps() {
    let mut run = Run::new(plan(vec![canary(&[1, 25, 50])], vec![accuracy(0.001, 0.05)]), world(44, 99.0, 1.0));
    for (step, candidate) in [(0, 1.0), (1, 25.0), (2, 50.0)] {
        (run.world.stable.rps, run.world.candidate.rps) = (100.0 - candidate, candidate);
        if step > 0 {
            run.go(0, step);
        }
        for _ in 0..60 {
            run.tick();
            let judgement = run.judge();
            assert_ne!(judgement.findings[0].reason, "SampleRatioMismatch", "step {step}");
            assert!(!judgement.share_above_intent, "step {step}");
        }
    }
}

#[test]
fn requests_that_still_come_after_lowering_to_nothing_are_above_intent() {
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05)]), world(45, 50.0, 50.0));
    run.ticks(6);
    run.expose(run.position, rollout_core::weights::Exposure::ZERO);
    assert!(!run.ticks(3).share_above_intent, "traffic settles first");
    assert!(run.ticks(12).share_above_intent);
}

#[test]
fn a_mirror_that_copies_everything_instead_of_a_tenth_is_a_mismatch() {
    let mut plan = plan(vec![stage(StageKind::Shadow, &[10])], vec![accuracy(0.05, 0.05)]);
    plan.requests = Some(RequestCounter { series: selector("requests_total", &[]), backend_label: None });
    let mut run = Run::new(plan.clone(), world(46, 50.0, 50.0));
    let judgement = run.ticks(60);
    assert_eq!(judgement.findings[0].reason, "SampleRatioMismatch");
    assert!(judgement.findings[0].message.contains("were copied to the candidate, 10% were expected"), "{}", judgement.findings[0].message);
    assert!((judgement.realised_share.unwrap() - 100.0).abs() < 10.0);
    let mut run = Run::new(plan, world(47, 50.0, 5.0));
    assert_ne!(run.ticks(60).findings[0].reason, "SampleRatioMismatch");
}

#[test]
fn in_an_ab_test_only_a_gateway_knows_the_share() {
    let mut ab = stage(StageKind::ABTest, &[10]);
    ab.assignment = Some(PlannedAssignment { carrier: rollout_core::plan::IdCarrier::Header("x-user-id".into()), alphabet: Alphabet::Hex });
    let mut plan = plan(vec![ab], vec![accuracy(0.05, 0.05)]);
    let mut run = Run::new(plan.clone(), world(48, 50.0, 50.0));
    assert_ne!(run.ticks(60).findings[0].reason, "SampleRatioMismatch", "requests without an id are in neither arm");
    plan.requests =
        Some(RequestCounter { series: selector("envoy_cluster_upstream_rq", &[]), backend_label: Some("envoy_cluster_name".into()) });
    let mut run = Run::new(plan.clone(), world(49, 50.0, 50.0));
    assert_eq!(run.ticks(60).findings[0].reason, "SampleRatioMismatch");
    // 10 % of 256 endings are 25, which is 9.77 %: at this size a true 10 % would be a mismatch.
    for (share, expected) in [(0.097_656_25_f64, false), (0.1, true)] {
        let mut run = Run::new(plan.clone(), world(50, 0.0, 0.0));
        for _ in 0..240 {
            *run.world.gateway.entry(format!("ns_{CANDIDATE}_80")).or_default() += (1e6 * share).round();
            *run.world.gateway.entry(format!("ns_{STABLE}_80")).or_default() += (1e6 * (1.0 - share)).round();
            run.tick();
        }
        let judgement = run.judge();
        assert_eq!(judgement.findings[0].reason == "SampleRatioMismatch", expected, "{share}");
        assert!((judgement.realised_share.unwrap() - 100.0 * share).abs() < 0.01);
    }
}

/// A raise first shows only what was quick: failures that take long come late.
#[test]
fn windows_around_a_change_of_traffic_do_not_prove() {
    let mut run = Run::new(plan(vec![canary(&[25, 50])], vec![accuracy(0.05, 0.05)]), world(51, 75.0, 25.0));
    run.ticks(20);
    let before = named(&run.judge(), "accuracy").log_e_proof.unwrap();
    run.go(0, 1);
    let judgement = run.ticks(3);
    assert!(
        named(&judgement, "accuracy").log_e_proof.unwrap() <= before + 1.0 + 1e-9,
        "only what was open at the change may have been added"
    );
    let Overall::Hold(missing) = &run.ticks(1).overall else { panic!() };
    assert!(missing.contains("0 of 2 proof windows"), "{missing}");
}

#[test]
fn a_step_waits_for_twenty_requests_of_the_candidate() {
    let mut run = Run::new(plan(vec![canary(&[1, 50])], vec![accuracy(0.05, 0.05)]), world(52, 30.0, 0.3));
    let (judgement, took) = run.until_decided(TimeDelta::minutes(20)).unwrap();
    assert_eq!(reason(&judgement.overall), "StepPass");
    assert!(took >= TimeDelta::seconds(40), "20 requests at 0.3 per second: {took}");
}

#[test]
fn a_pod_that_was_replaced_does_not_hide_a_wrong_split_for_ever() {
    let mut run = Run::new(plan(vec![canary(&[5])], vec![accuracy(0.05, 0.05)]), world(53, 95.0, 5.0));
    run.ticks(3);
    let replaced = run.world.of(CANDIDATE).next().unwrap().name.clone();
    run.world.pods.retain(|pod| pod.name != replaced);
    run.ticks(3);
    (run.world.stable.rps, run.world.candidate.rps) = (60.0, 40.0);
    // One of stable's pods is not to be seen for most of this.
    for tick in 0..24 {
        run.world.of(STABLE).next().unwrap().scraped = tick == 23;
        run.tick();
    }
    assert!(run.judge().realised_share.unwrap() > 35.0, "the requests of the gap count: {:?}", run.judge().realised_share);
    assert_eq!(run.judge().findings[0].reason, "SampleRatioMismatch");
}
