//! Labels that are missing: alike in both arms they are no trouble, otherwise nothing that was counted among them tells the models apart.

use chrono::TimeDelta;
use rollout_core::evidence::{Checkpoint, Evidence};
use rollout_core::judge::judge;
use rollout_core::plan::{CountSource, Guardrail, Maturity};
use rollout_core::spec::OnUnmeasurable;
use rollout_core::verdict::{Overall, Verdict};

use crate::plans::*;
use crate::run::{Run, assert_same, named, reason};
use crate::world::*;

/// Labelled answers, beside the requests that were answered.
fn labelled(on_unmeasurable: OnUnmeasurable) -> Guardrail {
    let requests = Some(CountSource::Counter(selector("requests_total", &[])));
    Guardrail { requests, on_unmeasurable, ..accuracy(0.03, 0.03) }
}

/// Both arms are asked 30 times per second; of the wrong answers some never get a label.
fn attempt(guardrail: Guardrail, seed: u64, stable: (f64, f64), candidate: (f64, f64)) -> Run {
    let mut world = World::new(seed, 5_000, 2);
    world.stable = Behaviour { rps: 30.0, wrong: stable.0, unlabelled: stable.1, ..Behaviour::GOOD };
    world.candidate = Behaviour { rps: 30.0, wrong: candidate.0, unlabelled: candidate.1, ..Behaviour::GOOD };
    Run::new(plan(vec![canary(&[50])], vec![guardrail]), world)
}

#[test]
fn wrong_answers_that_get_no_label_do_not_promote() {
    // Among labelled answers the candidate is as good as stable; among all it is 5 points worse.
    let (bad, good) = ((0.13, 0.4), (0.08, 0.0));
    let (judgement, _) = attempt(accuracy(0.03, 0.03), 70, good, bad).until_decided(TimeDelta::hours(2)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass", "the danger is there");
    for on_unmeasurable in [OnUnmeasurable::Hold, OnUnmeasurable::Ignore, OnUnmeasurable::Rollback] {
        let mut run = attempt(labelled(on_unmeasurable), 70, good, bad);
        let decided = run.until_decided(TimeDelta::hours(2));
        assert!(decided.is_none(), "{on_unmeasurable:?}: {decided:?}");
        let finding = named(&run.judge(), "accuracy").clone();
        assert_eq!((finding.verdict, finding.reason.as_str()), (Verdict::Unmeasurable, "UnlikeLabels"), "{}", finding.message);
        assert!(finding.message.contains("of the candidate's requests have no label, and 0% of stable's"), "{}", finding.message);
    }
}

#[test]
fn missing_labels_are_not_held_against_the_candidate() {
    // It loses the labels of good answers as well: here of stable's wrong ones, so that the candidate looks worse than it is.
    let mut run = attempt(labelled(OnUnmeasurable::Hold), 71, (0.08, 0.6), (0.08, 0.0));
    let decided = run.until_decided(TimeDelta::hours(2));
    assert!(decided.is_none(), "{decided:?}");
    assert_eq!(named(&run.judge(), "accuracy").reason, "UnlikeLabels");
}

#[test]
fn labels_that_are_missing_alike_are_no_trouble() {
    for seed in 0..12 {
        let mut run = attempt(labelled(OnUnmeasurable::Hold), 100 + seed, (0.08, 0.5), (0.08, 0.5));
        let (judgement, _) = run.until_decided(TimeDelta::hours(2)).unwrap();
        assert_eq!(reason(&judgement.overall), "StagePass", "seed {seed}");
    }
}

#[test]
fn a_counter_of_requests_that_does_not_exist_is_named() {
    let requests = Some(CountSource::Counter(selector("no_such_total", &[])));
    let mut run = attempt(Guardrail { requests, ..accuracy(0.03, 0.03) }, 72, (0.08, 0.0), (0.08, 0.0));
    let finding = named(&run.ticks(5), "accuracy").clone();
    assert_eq!((finding.verdict, finding.reason.as_str()), (Verdict::Unmeasurable, "NoSeries"), "{}", finding.message);
    assert!(finding.message.contains("no_such_total"), "{}", finding.message);
}

/// Every request gets its label, up to two minutes later; the candidate's share grows from 10 % to 50 %.
#[test]
fn labels_that_come_late_are_missing_alike() {
    const LAG: usize = 24;
    let maturity = Some(Maturity { age: TimeDelta::seconds(120), captured: 0.95, cohorts: None });
    let mut plan = plan(vec![canary(&[10, 50])], vec![Guardrail { maturity, ..labelled(OnUnmeasurable::Hold) }]);
    plan.stages[0].step_min = TimeDelta::minutes(10);
    let mut world = World::new(73, 5_000, 2);
    (world.stable.rps, world.candidate.rps) = (0.0, 0.0);
    let mut run = Run::new(plan, world);
    let (mut dice, mut due, mut waited) = (Dice::new(5), vec![[0_u32; 2]; LAG], 0);
    for tick in 0..1_000 {
        let share = if run.position.step == 0 { 0.1 } else { 0.5 };
        let asked = [1.0 - share, share].map(|share| dice.poisson(300.0 * share));
        for (arm, n) in asked.into_iter().enumerate() {
            (0..n).for_each(|_| due[(dice.unit() * LAG as f64) as usize][arm] += 1);
        }
        let labels = due.remove(0);
        due.push([0; 2]);
        for (arm, revision) in [STABLE, CANDIDATE].into_iter().enumerate() {
            let wrong = dice.times(labels[arm], 0.08);
            run.world.of(revision).take(1).for_each(|pod| {
                pod.add("requests", f64::from(asked[arm]));
                pod.add("wrong", f64::from(wrong));
                pod.add("right", f64::from(labels[arm] - wrong));
            });
        }
        run.tick();
        let judgement = run.judge();
        let finding = named(&judgement, "accuracy");
        assert!(!["UnlikeLabels", "Impossible"].contains(&finding.reason.as_str()), "tick {tick}: {}", finding.message);
        waited += usize::from(finding.reason == "LabelsUnchecked");
        match judgement.overall {
            Overall::StepPass(_) => run.go(0, 1),
            Overall::StagePass(_) => return,
            Overall::Hold(_) => {}
            other => panic!("tick {tick}: {other:?}"),
        }
    }
    panic!("not promoted; waited {waited} ticks for the labels: {:?}", named(&run.judge(), "accuracy"));
}

#[test]
fn a_restart_changes_nothing_for_missing_labels() {
    let mut run = attempt(labelled(OnUnmeasurable::Hold), 74, (0.08, 0.0), (0.13, 0.3));
    for warm in [3, 20, 61] {
        run.ticks(warm);
        let saved = Checkpoint::from_text(&run.evidence.checkpoint().to_text()).unwrap();
        let mut again = Evidence::restore(&run.plan, &saved).unwrap();
        for _ in 0..30 {
            run.tick();
            again.absorb(&run.plan, &run.world.arms(), run.world.at(), &run.world.readings(&run.plan));
        }
        assert_same(&judge(&run.plan, &again, &run.moment()), &run.judge(), "restarted");
    }
}
