//! A restart changes nothing: restored evidence and replayed evidence equal what was there without it.

use chrono::{DateTime, TimeDelta};
use rollout_core::evidence::{Checkpoint, Evidence, Readings, RestoreError};
use rollout_core::judge::judge;

use crate::plans::*;
use crate::run::Run;
use crate::world::*;

fn recorded(seed: u64, ticks: usize) -> (Run, Vec<(i64, Readings)>, Vec<Checkpoint>) {
    let mut world = World::new(seed, 5_000, 3);
    (world.stable.rps, world.candidate.rps) = (60.0, 20.0);
    let guardrails = vec![accuracy(0.02, 0.05), errors(4.0), latency(0.05), nan(), power_limit(30.0, 50.0)];
    let mut run = Run::new(plan(vec![canary(&[25, 50])], guardrails), world);
    let (mut readings, mut checkpoints) = (Vec::new(), vec![run.evidence.checkpoint()]);
    for tick in 0..ticks {
        match tick {
            20 => run.world.of(CANDIDATE).next().unwrap().restart(),
            30 => run.world.of(STABLE).next().unwrap().scraped = false,
            40 => run.world.of(STABLE).next().unwrap().scraped = true,
            _ => {}
        }
        run.tick();
        readings.push((run.world.now, run.world.readings(&run.plan)));
        checkpoints.push(run.evidence.checkpoint());
    }
    (run, readings, checkpoints)
}

#[test]
fn a_restored_and_replayed_evidence_equals_the_one_that_never_stopped() {
    let (run, readings, checkpoints) = recorded(61, 80);
    let expected = run.judge();
    for start in [0, 1, 19, 35, 60, 79] {
        let text = checkpoints[start].to_text();
        let mut evidence = Evidence::restore(&run.plan, &Checkpoint::from_text(&text).unwrap()).unwrap();
        assert_eq!(evidence.last_instant(), checkpoints[start].at());
        for (at, readings) in &readings[start..] {
            evidence.absorb(&run.plan, &run.world.arms(), DateTime::from_timestamp_millis(*at).unwrap(), readings);
        }
        let got = judge(&run.plan, &evidence, &run.moment());
        for (a, b) in got.findings.iter().zip(&expected.findings) {
            assert_eq!((a.verdict, &a.reason, a.samples), (b.verdict, &b.reason, b.samples), "from {start}");
            for (x, y) in [(a.log_e_proof, b.log_e_proof), (a.log_e_harm, b.log_e_harm), (a.log_e_warning, b.log_e_warning)] {
                assert!((x.unwrap_or(0.0) - y.unwrap_or(0.0)).abs() <= 1e-9, "from {start}: {x:?} {y:?}");
            }
        }
        assert_eq!((got.stage_judged, got.step_judged), (expected.stage_judged, expected.step_judged));
    }
}

/// A range answer holds samples from after the instant that is replayed; they must not be seen yet.
#[test]
fn one_long_answer_serves_every_instant_of_a_replay() {
    let (run, readings, checkpoints) = recorded(62, 40);
    let long = &readings.last().unwrap().1;
    let mut evidence = Evidence::restore(&run.plan, &checkpoints[20]).unwrap();
    for (at, _) in &readings[20..] {
        evidence.absorb(&run.plan, &run.world.arms(), DateTime::from_timestamp_millis(*at).unwrap(), long);
    }
    assert_eq!(evidence.checkpoint(), run.evidence.checkpoint());
}

#[test]
fn an_instant_that_was_absorbed_is_not_absorbed_again() {
    let (mut run, readings, _) = recorded(63, 10);
    let before = run.evidence.clone();
    for (at, readings) in &readings {
        run.evidence.absorb(&run.plan, &run.world.arms(), DateTime::from_timestamp_millis(*at).unwrap(), readings);
    }
    assert_eq!(before, run.evidence);
}

#[test]
fn a_checkpoint_of_another_plan_or_a_torn_one_is_refused() {
    let (run, _, checkpoints) = recorded(64, 2);
    let mut other = run.plan.clone();
    other.hash = "ffffffff".into();
    assert!(matches!(Evidence::restore(&other, &checkpoints[1]), Err(RestoreError::OtherPlan { .. })));
    let text = checkpoints[1].to_text();
    assert!(matches!(Checkpoint::from_text(&text[..text.len() / 2]), Err(RestoreError::Damaged(_))));
    let mut fewer = run.plan.clone();
    fewer.guardrails.pop();
    assert!(matches!(Evidence::restore(&fewer, &checkpoints[1]), Err(RestoreError::Damaged(_))));
}

#[test]
fn a_checkpoint_stays_small() {
    let (_, _, checkpoints) = recorded(65, 60);
    let size = checkpoints.last().unwrap().to_text().len();
    assert!(size < 24_000, "{size} bytes for 5 guardrails and 6 pods");
}

#[test]
fn restored_evidence_passes_only_after_a_fresh_instant() {
    let mut world = World::new(66, 5_000, 3);
    (world.stable.rps, world.candidate.rps) = (50.0, 50.0);
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05)]), world);
    run.until_decided(TimeDelta::minutes(10)).unwrap();
    run.evidence = Evidence::restore(&run.plan, &run.evidence.checkpoint()).unwrap();
    assert_eq!(crate::run::reason(&run.judge().overall), "Hold");
    run.tick();
    assert_eq!(crate::run::reason(&run.judge().overall), "StagePass");
}
