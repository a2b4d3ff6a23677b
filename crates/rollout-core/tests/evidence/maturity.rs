//! Labels that come late: errors are found up to two minutes after the request, so that a young arm looks better than it is.

use chrono::TimeDelta;
use rollout_core::plan::{Guardrail, Maturity};
use rollout_core::verdict::Verdict;

use crate::plans::*;
use crate::run::{Run, assert_same, named, reason};
use crate::world::*;

/// Longest time until an error is found, in ticks of 5 s.
const LAG: usize = 24;

/// Wrong answers that somebody finds later, per arm.
struct Late {
    dice: Dice,
    /// Arm, share of wrong answers, and those that will be found, by ticks from now.
    arms: [(&'static str, f64, Vec<u32>); 2],
}

impl Late {
    /// Stable serves since long; the candidate since now.
    fn new(stable: f64, candidate: f64) -> Self {
        let mut late = Self { dice: Dice::new(9), arms: [(STABLE, stable, vec![0; LAG]), (CANDIDATE, 0.0, vec![0; LAG])] };
        (0..LAG).for_each(|_| {
            late.found();
        });
        late.arms[1].1 = candidate;
        late
    }

    /// What is found in this tick, by arm; what was answered in it goes into the queue.
    fn found(&mut self) -> [u32; 2] {
        let mut found = [0, 0];
        for (found, (_, share, queue)) in found.iter_mut().zip(&mut self.arms) {
            *found = queue.remove(0);
            queue.push(0);
            for _ in 0..self.dice.poisson(150.0 * *share) {
                let due = (self.dice.unit() * LAG as f64) as usize;
                queue[due.min(LAG - 1)] += 1;
            }
        }
        found
    }
}

fn guardrail(maturity: Option<Maturity>) -> Guardrail {
    let bad = selector("model_predictions_total", &[("correct", "false")]);
    Guardrail { maturity, ..counts("errors", bad, selector("requests_total", &[]), points(0.03), points(0.03)) }
}

/// Labels are mature after two minutes.
const MATURITY: Maturity = Maturity { age: TimeDelta::seconds(120), captured: 0.95, cohorts: None };

fn attempt(maturity: Option<Maturity>) -> Run {
    let mut world = World::new(50, 5_000, 2);
    (world.stable.rps, world.candidate.rps) = (30.0, 30.0);
    (world.stable.wrong, world.candidate.wrong) = (0.0, 0.0);
    Run::new(plan(vec![canary(&[50])], vec![guardrail(maturity)]), world)
}

fn tick(run: &mut Run, late: &mut Late) -> String {
    for (arm, found) in [STABLE, CANDIDATE].into_iter().zip(late.found()) {
        run.world.of(arm).take(1).for_each(|pod| pod.add("wrong", f64::from(found)));
    }
    run.tick();
    reason(&run.judge().overall)
}

/// Ticks until something other than a hold comes out, at most so many.
fn until_decided(run: &mut Run, late: &mut Late, most: usize) -> (String, usize) {
    for n in 1..=most {
        let found = tick(run, late);
        if found != "Hold" {
            return (found, n);
        }
    }
    ("Hold".into(), most)
}

#[test]
fn young_labels_promote_a_bad_candidate_and_mature_ones_do_not() {
    let (without, _) = until_decided(&mut attempt(None), &mut Late::new(0.08, 0.16), 400);
    assert_eq!(without, "StagePass", "the danger is there");
    let (with, ticks) = until_decided(&mut attempt(Some(MATURITY)), &mut Late::new(0.08, 0.16), 400);
    assert!(with.starts_with("Fail Harmful") && ticks > LAG, "{with} after {ticks}");
    let (good, ticks) = until_decided(&mut attempt(Some(MATURITY)), &mut Late::new(0.08, 0.08), 800);
    assert!(good == "StagePass" && ticks > LAG + 3, "{good} after {ticks}");
}

#[test]
fn a_guardrail_says_when_its_first_labels_are_mature() {
    let (mut run, mut late) = (attempt(Some(MATURITY)), Late::new(0.08, 0.08));
    for _ in 0..10 {
        tick(&mut run, &mut late);
    }
    let finding = named(&run.judge(), "errors").clone();
    assert_eq!((finding.verdict, finding.reason.as_str(), finding.samples), (Verdict::Undecided, "Immature", (0, 0)));
    assert_eq!(finding.message, "errors has no mature labels yet, the first at 2027-01-15 08:02 UTC: labels count at an age of 2m");
    for _ in 0..LAG {
        tick(&mut run, &mut late);
    }
    assert_ne!(named(&run.judge(), "errors").reason, "Immature");
}

#[test]
fn only_the_first_step_of_a_stage_waits_for_mature_labels() {
    let mut run = attempt(Some(MATURITY));
    run.plan.stages = vec![canary(&[20, 50])];
    run.plan.guardrails.push(Guardrail { stages: vec![rollout_core::spec::StageKind::Canary], ..errors(4.0) });
    let mut world = World::new(51, 5_000, 2);
    (world.stable.rps, world.candidate.rps) = (48.0, 12.0);
    (world.stable.wrong, world.candidate.wrong) = (0.0, 0.0);
    let mut run = Run::new(run.plan, world);
    let mut late = Late::new(0.0, 0.0);
    let (found, ticks) = until_decided(&mut run, &mut late, 200);
    assert!(found == "StepPass" && ticks >= LAG + 6, "{found} after {ticks}");
    let second = run.evidence.clone();
    run.plan.stages = vec![canary(&[20, 50, 60])];
    run.evidence = second;
    (run.world.stable.rps, run.world.candidate.rps) = (30.0, 30.0);
    run.go(0, 1);
    let (found, ticks) = until_decided(&mut run, &mut late, 200);
    assert!(found == "StepPass" && ticks < LAG, "{found} after {ticks}");
}

#[test]
fn a_restart_changes_nothing_for_late_labels() {
    let (mut run, mut late) = (attempt(Some(MATURITY)), Late::new(0.08, 0.10));
    for _ in 0..10 {
        tick(&mut run, &mut late);
    }
    let saved = rollout_core::evidence::Checkpoint::from_text(&run.evidence.checkpoint().to_text()).unwrap();
    let mut again = rollout_core::evidence::Evidence::restore(&run.plan, &saved).unwrap();
    for _ in 0..40 {
        tick(&mut run, &mut late);
        again.absorb(&run.plan, &run.world.arms(), run.world.at(), &run.world.readings(&run.plan));
    }
    assert_same(&rollout_core::judge::judge(&run.plan, &again, &run.moment()), &run.judge(), "restarted");
}

/// All of stable's errors are found, because it served before, and seven in ten of the candidate's: 8 % shown by both are 11.4 % of the candidate's answers.
#[test]
fn a_proof_allows_for_the_candidates_labels_that_are_still_to_come() {
    let decided = |captured: f64| {
        let mut world = World::new(53, 5_000, 2);
        (world.stable.rps, world.candidate.rps) = (30.0, 30.0);
        (world.stable.wrong, world.candidate.wrong) = (0.08, 0.08);
        let guardrail = Guardrail { maturity: Some(Maturity { captured, ..MATURITY }), ..accuracy(0.03, 0.03) };
        let mut run = Run::new(plan(vec![canary(&[50])], vec![guardrail]), world);
        run.until_decided(TimeDelta::minutes(40)).map(|(judgement, _)| reason(&judgement.overall))
    };
    assert_eq!(decided(1.0).as_deref(), Some("StagePass"), "where no label is missing they are equal");
    assert_eq!(decided(0.7), None, "11.4 % is worse than 8 % by more than 3 points");
}
