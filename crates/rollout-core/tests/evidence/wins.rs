//! Promised wins: a candidate that is merely harmless is not what was asked for.

use chrono::TimeDelta;
use rollout_core::plan::{Guardrail, LevelBound, Reference, Win};
use rollout_core::spec::StageKind;
use rollout_core::verdict::{Overall, Verdict};

use crate::plans::*;
use crate::run::{Run, assert_restart_changes_nothing, named, reason};
use crate::world::*;

fn faster(factor: f64) -> Guardrail {
    Guardrail { win: Some(Win::Ratio { factor, versus: Reference::Stable }), ..latency(0.1) }
}

fn frugal(level: f64) -> Guardrail {
    let bound = LevelBound::Absolute(30.0);
    Guardrail { win: Some(Win::Level(level)), ..power(bound, bound) }
}

/// Shares of slow requests.
fn world(seed: u64, stable: f64, candidate: f64) -> World {
    let mut world = World::new(seed, 5_000, 3);
    (world.stable.rps, world.candidate.rps) = (30.0, 30.0);
    (world.stable.slow, world.candidate.slow) = (stable, candidate);
    world
}

#[test]
fn a_harmless_candidate_without_its_win_does_not_pass_and_is_told_so() {
    let mut stage = canary(&[50]);
    stage.max = TimeDelta::minutes(20);
    let mut run = Run::new(plan(vec![stage], vec![faster(0.5)]), world(401, 0.04, 0.04));
    let judgement = run.ticks(120);
    assert_eq!(named(&judgement, "latency").verdict, Verdict::Proven);
    let Overall::Hold(missing) = &judgement.overall else { panic!("{:?}", judgement.overall) };
    assert!(missing.starts_with("latency: the promised 0.5x vs stable is not shown yet: ln E "), "{missing}");
    let (judgement, _) = run.until_decided(TimeDelta::minutes(20)).unwrap();
    assert_eq!(reason(&judgement.overall), "Inconclusive MaxDurationExceeded");
}

#[test]
fn a_candidate_with_its_win_passes() {
    let mut run = Run::new(plan(vec![canary(&[50])], vec![faster(0.5)]), world(402, 0.04, 0.005));
    let (judgement, _) = run.until_decided(TimeDelta::hours(1)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    let finding = named(&judgement, "latency");
    assert!(
        finding.win.as_ref().unwrap().is_shown() && finding.message.contains("; the promised 0.5x vs stable is shown: ln E"),
        "{}",
        finding.message
    );
}

#[test]
fn one_win_of_two_is_enough_and_they_share_the_risk() {
    let mut run = Run::new(plan(vec![canary(&[50])], vec![faster(0.5), frugal(26.0)]), world(403, 0.04, 0.04));
    let (judgement, _) = run.until_decided(TimeDelta::hours(2)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    let shown = |name: &str| named(&judgement, name).win.as_ref().unwrap().is_shown();
    assert!(shown("power") && !shown("latency"));
    assert!((named(&judgement, "power").win.as_ref().unwrap().threshold - 40.0_f64.ln()).abs() < 1e-12);
}

#[test]
fn a_win_is_asked_for_before_promotion_only_and_stays_shown() {
    let stages = vec![canary(&[50]), stage(StageKind::ABTest, &[50])];
    let mut run = Run::new(plan(stages, vec![faster(0.5)]), world(404, 0.04, 0.04));
    let (judgement, _) = run.until_decided(TimeDelta::minutes(30)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass", "the first stage does not promote");
    run.world.candidate.slow = 0.0;
    run.ticks(240);
    run.go(1, 0);
    run.world.candidate.slow = 0.04;
    let (judgement, _) = run.until_decided(TimeDelta::minutes(30)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    assert!(named(&judgement, "latency").win.as_ref().unwrap().is_shown());
}

#[test]
fn a_win_at_its_bound_is_seldom_shown() {
    let shown = (0..30).filter(|seed| {
        let mut run = Run::new(plan(vec![canary(&[50])], vec![faster(0.5)]), world(4_000 + seed, 0.08, 0.04));
        (0..40).any(|_| {
            run.tick();
            named(&run.judge(), "latency").win.as_ref().unwrap().is_shown()
        })
    });
    let shown = shown.count();
    assert!(shown <= 3, "{shown} of 30");
}

#[test]
fn a_win_survives_a_restart() {
    let mut run = Run::new(plan(vec![canary(&[50])], vec![faster(0.5), frugal(26.0)]), world(405, 0.04, 0.01));
    assert_restart_changes_nothing(&mut run, 60, &[0, 30, 59], |_, _| {});
    let win = |run: &Run| run.judge().findings.iter().map(|f| f.win.as_ref().unwrap().log_e).collect::<Vec<_>>();
    let before = win(&run);
    let text = run.evidence.checkpoint().to_text();
    let saved = rollout_core::evidence::Checkpoint::from_text(&text).unwrap();
    run.evidence = rollout_core::evidence::Evidence::restore(&run.plan, &saved).unwrap();
    for (a, b) in before.iter().zip(win(&run)) {
        assert!((a - b).abs() <= 1e-9 && before[0] > 0.0, "{before:?}");
    }
}
