//! What each kind of candidate must come to.

use chrono::TimeDelta;
use rollout_core::plan::{LevelBound, Reference};
use rollout_core::spec::StageKind;
use rollout_core::verdict::{Overall, Verdict};

use crate::plans::*;
use crate::run::{Run, named, reason};
use crate::world::*;

fn half(seed: u64) -> World {
    World::new(seed, 5_000, 3)
}

fn everything() -> Vec<rollout_core::plan::Guardrail> {
    vec![accuracy(0.03, 0.05), errors(4.0), latency(0.05), nan(), power_limit(30.0, 50.0)]
}

#[test]
fn a_good_candidate_passes_its_step_and_then_its_stage() {
    let mut world = half(1);
    (world.stable.rps, world.candidate.rps) = (95.0, 5.0);
    let mut run = Run::new(plan(vec![canary(&[5, 50])], everything()), world);
    let (judgement, took) = run.until_decided(TimeDelta::minutes(20)).expect("a step pass");
    assert_eq!(reason(&judgement.overall), "StepPass", "{:?}", judgement.overall);
    assert!(took <= TimeDelta::minutes(2), "{took}");
    assert!((judgement.realised_share.unwrap() - 5.0).abs() < 2.0);
    (run.world.stable.rps, run.world.candidate.rps) = (50.0, 50.0);
    run.go(0, 1);
    let (judgement, took) = run.until_decided(TimeDelta::hours(1)).expect("a stage pass");
    assert_eq!(reason(&judgement.overall), "StagePass", "{:?}", judgement.overall);
    assert!(took <= TimeDelta::minutes(20), "{took}");
    let Overall::StagePass(pass) = &judgement.overall else { unreachable!() };
    assert!(pass.is_for(&rollout_core::revision::RevisionId::new(CANDIDATE), run.position, "0123abcd"));
    for finding in &judgement.findings {
        assert_eq!(finding.verdict, Verdict::Proven, "{}", finding.message);
    }
    assert!(
        named(&judgement, "accuracy").message.contains("within the target +3pp vs stable"),
        "{}",
        named(&judgement, "accuracy").message
    );
}

#[test]
fn an_over_pruned_candidate_is_harmful_within_seconds_of_traffic() {
    let mut world = half(2);
    (world.stable.rps, world.candidate.rps) = (95.0, 5.0);
    world.candidate.wrong = 0.33;
    let mut run = Run::new(plan(vec![canary(&[5])], everything()), world);
    let (judgement, took) = run.until_decided(TimeDelta::minutes(10)).unwrap();
    assert_eq!(reason(&judgement.overall), "Fail Harmful");
    assert!(took <= TimeDelta::seconds(60), "{took}");
    let finding = named(&judgement, "accuracy");
    assert!(
        finding.message.contains("worse than stable (bad ") && finding.message.contains("beyond the critical +5pp vs stable: ln E"),
        "{}",
        finding.message
    );
    assert_eq!(finding.verdict, Verdict::Harmful);
}

#[test]
fn a_failing_candidate_is_harmful() {
    let mut world = half(3);
    world.candidate.failing = 0.1;
    let mut run = Run::new(plan(vec![canary(&[50])], everything()), world);
    let (judgement, took) = run.until_decided(TimeDelta::minutes(30)).unwrap();
    assert_eq!(reason(&judgement.overall), "Fail Harmful");
    assert!(named(&judgement, "errors").verdict == Verdict::Harmful && took < TimeDelta::minutes(10), "{took}");
}

#[test]
fn a_slow_candidate_is_harmful_but_a_slow_world_is_not() {
    let mut world = half(4);
    world.candidate.slow = 0.4;
    let mut run = Run::new(plan(vec![canary(&[50])], vec![latency(0.05)]), world.clone());
    let (judgement, _) = run.until_decided(TimeDelta::minutes(30)).unwrap();
    assert_eq!(reason(&judgement.overall), "Fail Harmful");
    world.stable.slow = 0.4;
    let mut run = Run::new(plan(vec![canary(&[50])], vec![latency(0.05)]), world);
    assert!(run.until_decided(TimeDelta::minutes(30)).is_none(), "both arms are slow: nobody is to blame, and nothing passes");
}

#[test]
fn a_candidate_between_target_and_critical_ends_as_inconclusive() {
    let mut world = half(5);
    (world.stable.rps, world.candidate.rps) = (40.0, 40.0);
    world.candidate.wrong = 0.10;
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.02, 0.15)]), world);
    let (judgement, _) = run.until_decided(TimeDelta::hours(2)).unwrap();
    assert_eq!(reason(&judgement.overall), "Inconclusive WorseThanTarget");
    let finding = named(&judgement, "accuracy");
    assert_eq!(finding.verdict, Verdict::Warning);
    assert!(!finding.message.contains("so far"), "{}", finding.message);
}

#[test]
fn a_large_regression_that_is_first_too_bad_to_pass_says_how_far_it_is_beyond_critical() {
    let mut world = half(5);
    (world.stable.rps, world.candidate.rps) = (4.0, 4.0);
    world.candidate.wrong = 0.40;
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.02, 0.2)]), world);
    let (judgement, _) = run.until_decided(TimeDelta::hours(2)).unwrap();
    assert_eq!(reason(&judgement.overall), "Inconclusive WorseThanTarget");
    let message = &named(&judgement, "accuracy").message;
    assert!(
        message.contains("it cannot be proven any more; beyond the critical +20pp vs stable: ") && message.contains("so far"),
        "{message}"
    );
}

#[test]
fn one_nan_trips_at_the_first_instant_that_shows_it() {
    let mut run = Run::new(plan(vec![canary(&[50])], everything()), half(6));
    assert!(matches!(run.ticks(3).overall, Overall::Hold(_)));
    run.world.of(CANDIDATE).next().unwrap().add("nan", 1.0);
    let judgement = run.ticks(1);
    assert_eq!(reason(&judgement.overall), "Fail TripwireCrossed");
    assert!(named(&judgement, "nan").message.contains("moved by 1"), "{}", named(&judgement, "nan").message);
}

#[test]
fn a_counter_born_at_one_on_a_pod_of_this_attempt_trips() {
    let mut world = half(7);
    for pod in world.of(CANDIDATE) {
        pod.remove("nan");
    }
    world.young = world.pods.iter().filter(|p| p.revision == CANDIDATE).map(|p| p.name.clone()).collect();
    let mut run = Run::new(plan(vec![canary(&[50])], everything()), world);
    assert_eq!(named(&run.ticks(2), "nan").reason, "NoSeries");
    run.world.of(CANDIDATE).next().unwrap().add("nan", 1.0);
    assert_eq!(reason(&run.ticks(1).overall), "Fail TripwireCrossed");
}

#[test]
fn an_old_pods_history_does_not_trip() {
    let mut world = half(8);
    world.of(CANDIDATE).next().unwrap().set("nan", 7.0);
    let mut run = Run::new(plan(vec![canary(&[50])], everything()), world);
    assert_eq!(named(&run.ticks(4), "nan").verdict, Verdict::Proven);
}

#[test]
fn what_the_champion_trips_too_is_no_tripwire() {
    let mut world = half(9);
    world.of(STABLE).next().unwrap().set("nan", 2.0);
    let mut run = Run::new(plan(vec![canary(&[50])], everything()), world);
    run.world.of(CANDIDATE).next().unwrap().add("nan", 3.0);
    let judgement = run.ticks(2);
    assert!(matches!(judgement.overall, Overall::Hold(_)), "{:?}", judgement.overall);
    assert_eq!(named(&judgement, "nan").reason, "ChampionTripsToo");
    assert!(named(&judgement, "nan").message.starts_with("warning"));
}

#[test]
fn a_limit_crossed_between_two_instants_fails() {
    let mut world = half(10);
    world.interval = 1_000;
    let mut plan = plan(vec![canary(&[50])], everything());
    plan.interval = TimeDelta::seconds(5);
    let mut run = Run::new(plan, world);
    assert_eq!(named(&run.ticks(5), "power-limit").verdict, Verdict::Proven);
    // The peak lies on a scrape between two instants that are read.
    run.world.candidate.watts = 80.0;
    run.world.step();
    run.world.candidate.watts = 25.0;
    run.world.step();
    let judgement = run.ticks(1);
    assert_eq!(reason(&judgement.overall), "Fail LimitExceeded");
    assert!(named(&judgement, "power-limit").message.contains("above the limit of 50W"));
}

#[test]
fn above_the_target_of_a_limit_a_promotion_waits() {
    let mut world = half(11);
    (world.stable.rps, world.candidate.rps) = (50.0, 50.0);
    world.candidate.watts = 40.0;
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.1), power_limit(30.0, 50.0)]), world);
    assert!(run.until_decided(TimeDelta::minutes(10)).is_none());
    let judgement = run.judge();
    assert_eq!((named(&judgement, "accuracy").verdict, named(&judgement, "power-limit").verdict), (Verdict::Proven, Verdict::Warning));
}

#[test]
fn a_power_hungry_candidate_is_harmful_and_a_frugal_one_proven_after_its_batches() {
    let bounds = (LevelBound::Absolute(30.0), LevelBound::Absolute(50.0));
    let mut hungry = half(12);
    hungry.candidate.watts = 60.0;
    let mut run = Run::new(plan(vec![canary(&[50])], vec![power(bounds.0, bounds.1)]), hungry);
    let (judgement, took) = run.until_decided(TimeDelta::hours(2)).unwrap();
    assert_eq!(reason(&judgement.overall), "Fail Harmful");
    assert!(took <= TimeDelta::minutes(35), "24 batches of 75 s: {took}");
    let mut run = Run::new(plan(vec![canary(&[50])], vec![power(bounds.0, bounds.1)]), half(13));
    let (judgement, _) = run.until_decided(TimeDelta::hours(2)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    assert!(named(&judgement, "power").message.contains("within the target 30W"), "{}", named(&judgement, "power").message);
}

#[test]
fn a_level_is_not_compared_between_fewer_than_three_pods_per_arm() {
    let bound = LevelBound::Difference { margin: 5.0, versus: Reference::Stable };
    let mut run = Run::new(plan(vec![canary(&[50])], vec![power(bound, bound)]), World::new(14, 5_000, 2));
    let judgement = run.ticks(3);
    assert_eq!(named(&judgement, "power").reason, "NotComparable");
    let mut run = Run::new(plan(vec![canary(&[50])], vec![power(bound, bound)]), half(14));
    assert_eq!(reason(&run.until_decided(TimeDelta::hours(2)).unwrap().0.overall), "StagePass");
}

#[test]
fn a_new_stage_asks_for_its_own_proof_and_harm_goes_on() {
    let mut world = half(15);
    (world.stable.rps, world.candidate.rps) = (50.0, 50.0);
    let stages = vec![canary(&[50]), stage(StageKind::ABTest, &[50])];
    let mut run = Run::new(plan(stages, vec![accuracy(0.05, 0.05)]), world);
    let (judgement, _) = run.until_decided(TimeDelta::hours(1)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    run.go(1, 0);
    let judgement = run.ticks(1);
    let finding = named(&judgement, "accuracy");
    assert!(finding.log_e_proof.unwrap().abs() < 1e-12 && finding.log_e_harm.unwrap() < 0.0, "{finding:?}");
    assert!(matches!(judgement.overall, Overall::Hold(_)));
}

#[test]
fn a_stage_without_proof_ends_when_its_judged_time_is_over() {
    let mut stage = canary(&[50]);
    stage.max = TimeDelta::minutes(3);
    let mut world = half(16);
    (world.stable.rps, world.candidate.rps) = (1.0, 1.0);
    let mut run = Run::new(plan(vec![stage], vec![accuracy(0.02, 0.05)]), world);
    // Five minutes without any answer are no judged time.
    run.ticks(12);
    run.world.answers = false;
    run.ticks(60);
    run.world.answers = true;
    let judgement = run.ticks(12);
    assert!(judgement.stage_judged <= TimeDelta::seconds(140), "{}", judgement.stage_judged);
    assert!(!matches!(judgement.overall, Overall::Inconclusive(_)), "{:?}", judgement.overall);
    let (judgement, _) = run.until_decided(TimeDelta::minutes(10)).unwrap();
    assert_eq!(reason(&judgement.overall), "Inconclusive MaxDurationExceeded");
}

/// Scrapes go on through a weekend without requests, and so do gauges: none of it is a judged window.
#[test]
fn a_weekend_without_requests_does_not_use_up_the_longest_time() {
    let mut stage = canary(&[50]);
    stage.max = TimeDelta::minutes(30);
    let mut world = half(41);
    (world.stable.rps, world.candidate.rps) = (2.0, 2.0);
    let mut run = Run::new(plan(vec![stage], vec![accuracy(0.01, 0.05), power_limit(30.0, 50.0)]), world);
    let before = run.ticks(36);
    (run.world.stable.rps, run.world.candidate.rps) = (0.0, 0.0);
    let quiet = run.ticks(1_440);
    assert_eq!(reason(&quiet.overall), "Hold");
    // What a silence is worth shows when its first window closes, after a quarter of an hour.
    let counted = quiet.stage_judged - before.stage_judged;
    assert!(counted <= TimeDelta::minutes(15), "{counted} of two hours were judged");
    (run.world.stable.rps, run.world.candidate.rps) = (50.0, 50.0);
    let (judgement, _) = run.until_decided(TimeDelta::minutes(14)).expect("a decision on Monday");
    assert_eq!(reason(&judgement.overall), "StagePass", "{:?}", judgement.overall);
}

/// The grid of start times is spent in judged time alone, so that what begins after the weekend is still looked for.
#[test]
fn harm_that_begins_after_a_quiet_weekend_is_found_as_fast_as_before_it() {
    let took = |quiet: usize| {
        let mut stage = canary(&[50]);
        stage.max = TimeDelta::minutes(40);
        let mut world = half(42);
        (world.stable.rps, world.candidate.rps) = (20.0, 20.0);
        // A target that takes long to prove, so that the attempt is still on.
        let mut run = Run::new(plan(vec![stage], vec![accuracy(0.004, 0.004)]), world);
        run.ticks(12);
        (run.world.stable.rps, run.world.candidate.rps) = (0.0, 0.0);
        run.ticks(quiet);
        (run.world.stable.rps, run.world.candidate.rps) = (20.0, 20.0);
        run.ticks(60);
        run.world.candidate.wrong = 0.2;
        let (judgement, took) = run.until_decided(TimeDelta::minutes(10)).expect("a decision");
        assert_eq!(reason(&judgement.overall), "Fail Harmful", "{:?}", judgement.overall);
        took
    };
    let (busy, weekend) = (took(0), took(1_440));
    assert!(weekend <= busy + TimeDelta::seconds(15), "{weekend} after a weekend, {busy} without one");
}

/// Arms are scraped at different times, so one incident falls into different windows of theirs: it must not decide.
#[test]
fn one_window_alone_never_decides() {
    let mut world = half(33);
    (world.stable.rps, world.candidate.rps) = (90.0, 90.0);
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.02, 0.02), errors(2.0)]), world);
    run.ticks(3);
    (run.world.candidate.wrong, run.world.candidate.failing) = (1.0, 1.0);
    let judgement = run.ticks(1);
    for finding in &judgement.findings {
        assert!(finding.log_e_harm.unwrap() <= finding.thresholds.1 / 2.0 && finding.verdict != Verdict::Harmful, "{}", finding.message);
    }
    assert_eq!(reason(&run.ticks(3).overall), "Fail Harmful", "four windows do");
}

#[test]
fn hours_without_instants_are_no_judged_time() {
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.02, 0.05)]), half(34));
    let before = run.ticks(4).stage_judged;
    run.world.now += 3_600_000;
    let after = run.ticks(1).stage_judged;
    assert!(after - before <= TimeDelta::seconds(20), "{before} {after}");
}

#[test]
fn a_proof_at_the_last_moment_is_a_proof() {
    let mut world = half(20);
    (world.stable.rps, world.candidate.rps) = (50.0, 50.0);
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05)]), world);
    let (judgement, _) = run.until_decided(TimeDelta::minutes(10)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    run.plan.stages[0].max = judgement.stage_judged - TimeDelta::seconds(1);
    assert_eq!(reason(&run.judge().overall), "StagePass");
    let before_last = rollout_core::judge::Moment { last_step: false, ..run.moment() };
    let judgement = rollout_core::judge::judge(&run.plan, &run.evidence, &before_last);
    assert_eq!(reason(&judgement.overall), "Inconclusive MaxDurationExceeded", "no time is left for another step");
}

#[test]
fn a_shadow_stage_without_active_guardrails_passes_on_traffic_alone() {
    let mut only_canary = accuracy(0.02, 0.05);
    only_canary.stages = vec![StageKind::Canary];
    let mut plan = plan(vec![stage(StageKind::Shadow, &[100])], vec![only_canary]);
    plan.requests = Some(rollout_core::plan::RequestCounter { series: selector("requests_total", &[]), backend_label: None });
    let mut world = half(17);
    world.candidate.rps = 0.0;
    let mut run = Run::new(plan, world);
    assert!(run.until_decided(TimeDelta::minutes(2)).is_none(), "no copies arrive");
    run.world.candidate.rps = run.world.stable.rps;
    run.go(0, 0);
    run.expose(run.position, rollout_core::weights::Exposure::ZERO);
    let mut fresh = Run::new(run.plan.clone(), half(18));
    let (judgement, took) = fresh.until_decided(TimeDelta::minutes(5)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    assert!(took >= TimeDelta::seconds(30) && named(&judgement, "accuracy").verdict == Verdict::Inactive);
}

#[test]
fn a_forecast_is_given_while_a_proof_is_on_its_way() {
    let mut world = half(19);
    (world.stable.rps, world.candidate.rps) = (20.0, 5.0);
    let mut run = Run::new(plan(vec![canary(&[20])], vec![accuracy(0.02, 0.05)]), world);
    let judgement = run.ticks(16);
    let finding = named(&judgement, "accuracy");
    let (low, high) = finding.eta.unwrap_or_else(|| panic!("{finding:?}"));
    assert!(low > TimeDelta::zero() && high > low, "{low} {high}");
    assert!(finding.message.contains("left"), "{}", finding.message);
    assert!(finding.effective_samples.unwrap() <= finding.samples.0);
}
