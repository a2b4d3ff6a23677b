//! Pairs: the same request answered by both arms needs far fewer requests than two independent arms.

use chrono::TimeDelta;
use rollout_core::evidence::{Evidence, Query};
use rollout_core::plan::{CountSource, Guardrail, Paired, PlannedStage, RequestCounter, Test};
use rollout_core::spec::StageKind;
use rollout_core::verdict::Verdict;

use crate::plans::*;
use crate::run::{Run, assert_restart_changes_nothing, named, reason};
use crate::world::*;

fn agreement(target: f64, critical: f64, revision_label: Option<&str>) -> Guardrail {
    let pairs = |wrong: &[(&str, &str)]| CountSource::Counter(selector("pairs_total", wrong));
    let pairs = Paired {
        candidate_wrong: pairs(&[("wrong", "candidate")]),
        stable_wrong: pairs(&[("wrong", "stable")]),
        total: pairs(&[]),
        revision_label: revision_label.map(str::to_owned),
        target,
        critical,
    };
    guardrail("agreement", Test::Paired(pairs))
}

fn shadow() -> PlannedStage {
    stage(StageKind::Shadow, &[100])
}

fn run(seed: u64, shares: [f64; 2], guardrail: Guardrail) -> Run {
    let mut world = World::new(seed, 5_000, 3);
    (world.stable.rps, world.candidate.rps) = (20.0, 20.0);
    world.pairs = Some(shares);
    let mut plan = plan(vec![shadow()], vec![guardrail]);
    plan.requests = Some(RequestCounter { series: selector("requests_total", &[]), backend_label: None });
    Run::new(plan, world)
}

#[test]
fn models_that_err_alike_are_proven_within_a_point() {
    let mut run = run(501, [0.02, 0.02], agreement(0.01, 0.02, None));
    let (judgement, took) = run.until_decided(TimeDelta::hours(1)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    let message = &named(&judgement, "agreement").message;
    assert!(took <= TimeDelta::minutes(15), "{took}");
    assert!(message.contains("(wrong alone in ") && message.contains("within the target +1pp vs stable: ln E"), "{message}");
}

#[test]
fn a_candidate_that_loses_pairs_is_harmful() {
    let mut run = run(502, [0.3, 0.02], agreement(0.01, 0.02, None));
    let (judgement, took) = run.until_decided(TimeDelta::hours(1)).unwrap();
    assert_eq!(reason(&judgement.overall), "Fail Harmful");
    assert!(took <= TimeDelta::minutes(5), "{took}");
    assert!(named(&judgement, "agreement").message.contains("worse than stable"), "{}", named(&judgement, "agreement").message);
}

#[test]
fn a_candidate_that_wins_pairs_is_proven_sooner_than_an_equal_one() {
    let mut better = run(503, [0.01, 0.05], agreement(0.01, 0.02, None));
    let (judgement, took) = better.until_decided(TimeDelta::hours(1)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    let mut equal = run(503, [0.03, 0.03], agreement(0.01, 0.02, None));
    assert!(equal.until_decided(TimeDelta::hours(1)).unwrap().1 > took);
}

#[test]
fn a_loss_at_the_bound_is_seldom_rolled_back_or_proven() {
    let (mut failed, mut passed) = (0, 0);
    for seed in 0..30 {
        match run(5_000 + seed, [0.05, 0.02], agreement(0.03, 0.03, None)).until_decided(TimeDelta::minutes(5)) {
            Some((judgement, _)) if reason(&judgement.overall) == "StagePass" => passed += 1,
            Some(_) => failed += 1,
            None => {}
        }
    }
    assert!(failed <= 3 && passed <= 3, "{failed} failed, {passed} passed of 30");
}

#[test]
fn a_collector_of_its_own_is_told_by_the_revision_that_it_names() {
    let mut run = run(504, [0.02, 0.02], agreement(0.01, 0.02, Some("candidate_revision")));
    let asked = Evidence::queries(&run.plan, &run.world.arms());
    assert!(asked.contains(&Query::new("pairs_total{candidate_revision!=\"\"}")), "{asked:?}");
    let judgement = run.ticks(20);
    assert!(named(&judgement, "agreement").samples.0 > 1_000, "{:?}", named(&judgement, "agreement"));
    for pod in run.world.of(CANDIDATE) {
        pod.revision = "cccccccc";
    }
    assert_eq!(named(&run.ticks(8), "agreement").verdict, Verdict::Unmeasurable, "another candidate's pairs say nothing of this one");
}

#[test]
fn without_a_collector_there_is_no_pass() {
    let mut run = run(505, [0.02, 0.02], agreement(0.01, 0.02, None));
    run.world.pairs = None;
    for pod in run.world.of(CANDIDATE) {
        for key in ["pairs-tied", "pairs-candidate", "pairs-stable"] {
            pod.remove(key);
        }
    }
    assert!(run.until_decided(TimeDelta::minutes(5)).is_none());
    assert_eq!(named(&run.judge(), "agreement").verdict, Verdict::Unmeasurable);
}

#[test]
fn pairs_survive_a_restart() {
    let mut run = run(506, [0.04, 0.02], agreement(0.05, 0.08, None));
    assert_restart_changes_nothing(&mut run, 40, &[0, 17, 39], |tick, world| {
        if tick == 20 {
            world.of(CANDIDATE).next().unwrap().restart();
        }
    });
}
