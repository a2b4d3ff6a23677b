//! What a judgement is about: the step and the time that are asked for, and nobody else's. How evidence comes about is told elsewhere.

use chrono::TimeDelta;
use rollout_core::judge::{Moment, judge};
use rollout_core::spec::StageKind;
use rollout_core::verdict::Overall;
use rollout_core::weights::{Exposure, Position};

use crate::plans::*;
use crate::run::{Run, reason};
use crate::world::*;

fn even(stage: rollout_core::plan::PlannedStage) -> Run {
    Run::new(plan(vec![stage], vec![accuracy(0.05, 0.1)]), World::new(61, 5_000, 3))
}

fn said(run: &Run, moment: &Moment) -> (String, String) {
    let overall = judge(&run.plan, &run.evidence, moment).overall;
    let message = match &overall {
        Overall::Hold(why) => why.clone(),
        Overall::Fail(f) | Overall::Lower(f) | Overall::Inconclusive(f) => f.message.clone(),
        Overall::StepPass(_) | Overall::StagePass(_) => String::new(),
    };
    (reason(&overall), message)
}

#[test]
fn nothing_passes_before_the_least_time_of_its_step_and_of_its_stage() {
    for (step_min, min, what) in [(5, 0, "the step lasts "), (0, 5, "the stage lasts ")] {
        let mut stage = canary(&[50]);
        (stage.step_min, stage.min) = (TimeDelta::minutes(step_min), TimeDelta::minutes(min));
        let mut run = even(stage);
        run.ticks(36);
        let (overall, message) = said(&run, &run.moment());
        assert!(overall == "Hold" && message.contains(what), "{overall}: {message}");
        let (judgement, took) = run.until_decided(TimeDelta::minutes(20)).unwrap();
        assert_eq!(reason(&judgement.overall), "StagePass");
        assert!(took >= TimeDelta::minutes(2) && took <= TimeDelta::minutes(4), "{took}");
    }
}

#[test]
fn a_proof_of_one_step_is_none_of_another() {
    let mut run = even(canary(&[50, 60]));
    let (judgement, _) = run.until_decided(TimeDelta::minutes(20)).unwrap();
    assert_eq!(reason(&judgement.overall), "StepPass");
    let elsewhere = Moment { position: Position { stage: 0, step: 1 }, ..run.moment() };
    let more = Moment { exposure: Exposure::new(60).unwrap(), ..run.moment() };
    for moment in [elsewhere, more] {
        let (overall, message) = said(&run, &moment);
        assert!(overall == "Hold" && message.contains("not about this step yet"), "{overall}: {message}");
    }
}

#[test]
fn a_stage_that_is_not_judged_ends_by_the_clock_after_twice_its_longest_time() {
    let mut stage = canary(&[50]);
    stage.max = TimeDelta::days(30);
    let mut run = even(stage);
    run.ticks(3);
    for (days, expected) in [(59, "Hold"), (61, "Inconclusive MaxDurationExceeded")] {
        let moment = Moment { stage_started: run.world.at() - TimeDelta::days(days), ..run.moment() };
        let (overall, message) = said(&run, &moment);
        assert_eq!(overall, expected, "{message}");
        assert_eq!(message.contains("by the clock, at most 60d are allowed"), days == 61, "{message}");
    }
}

#[test]
fn a_candidate_without_users_is_not_taken_off_for_its_silence() {
    let mut run = even(stage(StageKind::Shadow, &[100]));
    run.ticks(5);
    run.world.of(CANDIDATE).for_each(|pod| pod.scraped = false);
    assert!(run.until(TimeDelta::minutes(5), |overall| matches!(overall, Overall::Lower(_))).is_none());
}
