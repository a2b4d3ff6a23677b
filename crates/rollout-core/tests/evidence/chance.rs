//! Error rates by simulation with fixed seeds, and that worse never judges better.

use chrono::TimeDelta;
use rollout_core::verdict::{Overall, Verdict};

use crate::plans::*;
use crate::run::{Run, reason};
use crate::world::*;

fn world(seed: u64) -> World {
    let mut world = World::new(seed, 5_000, 2);
    (world.stable.rps, world.candidate.rps) = (8.0, 8.0);
    world
}

#[test]
fn identical_models_are_rarely_rolled_back_and_mostly_proven() {
    let (mut failed, mut passed) = (0, 0);
    let runs = 150;
    for seed in 0..runs {
        let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05), errors(3.0)]), world(1_000 + seed));
        match run.until_decided(TimeDelta::minutes(20)).map(|(judgement, _)| judgement.overall) {
            Some(Overall::StagePass(_)) => passed += 1,
            None => {}
            Some(other) => {
                failed += 1;
                println!("seed {seed}: {}", reason(&other));
            }
        }
    }
    // Risk 5 %: three standard errors above it are 15 of 150.
    assert!(failed <= 7, "{failed} of {runs} identical candidates failed");
    assert!(passed >= runs / 3, "{passed} of {runs} passed");
}

#[test]
fn a_candidate_at_its_margin_is_rarely_promoted_nor_rolled_back() {
    let (mut promoted, mut rolled_back) = (0, 0);
    for seed in 0..100 {
        let mut world = world(5_000 + seed);
        world.candidate.wrong = world.stable.wrong + 0.05;
        let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05)]), world);
        match run.until_decided(TimeDelta::minutes(20)).map(|(judgement, _)| judgement.overall) {
            Some(Overall::StagePass(_)) => promoted += 1,
            Some(Overall::Fail(_)) => rolled_back += 1,
            _ => {}
        }
    }
    assert!(promoted <= 8 && rolled_back <= 8, "{promoted} promoted, {rolled_back} rolled back of 100 at the margin");
}

/// The same requests with more of the candidate's answers turned wrong.
#[test]
fn more_wrong_answers_never_turn_a_hold_or_a_failure_into_a_pass() {
    let rank = |overall: &Overall| match overall {
        Overall::StagePass(_) | Overall::StepPass(_) => 2,
        Overall::Hold(_) => 1,
        Overall::Fail(_) | Overall::Inconclusive(_) | Overall::Lower(_) => 0,
    };
    for seed in 0..12 {
        let mut runs: Vec<Run> = Vec::new();
        for extra in [0.0, 0.02, 0.06, 0.2] {
            let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.03, 0.05)]), world(7_000 + seed));
            run.world.candidate.wrong += extra;
            runs.push(run);
        }
        let mut ended = [false; 4];
        for _ in 0..120 {
            let mut ranks = Vec::new();
            let mut proofs = Vec::new();
            for (run, ended) in runs.iter_mut().zip(&mut ended) {
                run.tick();
                let judgement = run.judge();
                *ended |= judgement.findings[0].verdict == Verdict::Harmful;
                ranks.push(if *ended { 0 } else { rank(&judgement.overall) });
                proofs.push(judgement.findings[0].log_e_proof.unwrap());
            }
            assert!(ranks.windows(2).all(|r| r[1] <= r[0]), "seed {seed}: {ranks:?}");
            assert!(proofs.windows(2).all(|p| p[1] <= p[0] + 1e-9), "seed {seed}: {proofs:?}");
        }
    }
}

/// One incident that hits both arms at different scrape times must not decide.
#[test]
fn one_incident_in_both_arms_does_not_roll_back() {
    let mut failed = 0;
    for seed in 0..40 {
        let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05)]), world(9_000 + seed));
        run.ticks(24);
        run.world.of(CANDIDATE).for_each(|pod| pod.scraped = false);
        (run.world.stable.wrong, run.world.candidate.wrong) = (0.6, 0.6);
        run.tick();
        run.world.of(CANDIDATE).for_each(|pod| pod.scraped = true);
        run.tick();
        (run.world.stable.wrong, run.world.candidate.wrong) = (0.03, 0.03);
        for _ in 0..24 {
            run.tick();
            if matches!(run.judge().overall, Overall::Fail(_)) {
                failed += 1;
                break;
            }
        }
    }
    assert!(failed <= 2, "{failed} of 40");
}
