//! Late labels that say of which cohort of requests they are: used once, at the same age in both arms, whatever comes later.

use chrono::TimeDelta;
use rollout_core::evidence::{Checkpoint, Evidence};
use rollout_core::judge::judge;
use rollout_core::plan::{Cohorts, Guardrail, Maturity};
use rollout_core::verdict::Verdict;

use crate::plans::*;
use crate::run::{Run, assert_same, named, reason};
use crate::world::*;

/// Cohorts of one minute, mature after two more; ticks of 5 s.
const WIDTH: i64 = 60;
const LAG: usize = 24;

struct Late {
    dice: Dice,
    /// Errors that will be found: tick, arm, cohort.
    queue: Vec<(usize, &'static str, i64)>,
    tick: usize,
    wrong: [f64; 2],
}

impl Late {
    fn new(stable: f64, candidate: f64) -> Self {
        Self { dice: Dice::new(3), queue: Vec::new(), tick: 0, wrong: [stable, candidate] }
    }

    /// The requests of one tick, and the errors that are found in it.
    fn serve(&mut self, run: &mut Run) {
        self.tick += 1;
        let cohort = run.world.now / 1000 / WIDTH * WIDTH;
        for (arm, wrong) in [STABLE, CANDIDATE].into_iter().zip(self.wrong) {
            let n = self.dice.poisson(150.0);
            run.world.of(arm).take(1).for_each(|pod| pod.add_to_cohort("dated_requests_total", &cohort.to_string(), f64::from(n)));
            for _ in 0..self.dice.times(n, wrong) {
                self.queue.push((self.tick + (self.dice.unit() * LAG as f64) as usize, arm, cohort));
            }
        }
        let tick = self.tick;
        for (_, arm, cohort) in self.queue.extract_if(.., |(due, ..)| *due <= tick) {
            run.world.of(arm).take(1).for_each(|pod| pod.add_to_cohort("dated_errors_total", &cohort.to_string(), 1.0));
        }
        run.tick();
    }
}

fn guardrail() -> Guardrail {
    let cohorts = Some(Cohorts { label: "cohort".into(), width: TimeDelta::seconds(WIDTH) });
    let maturity = Some(Maturity { age: TimeDelta::seconds(120), captured: 0.95, cohorts });
    let errors = counts("errors", selector("dated_errors_total", &[]), selector("dated_requests_total", &[]), points(0.03), points(0.03));
    Guardrail { maturity, ..errors }
}

fn attempt() -> Run {
    Run::new(plan(vec![canary(&[50])], vec![guardrail()]), World::new(60, 5_000, 2))
}

fn until_decided(run: &mut Run, late: &mut Late, most: usize) -> (String, usize) {
    for n in 1..=most {
        late.serve(run);
        let found = reason(&run.judge().overall);
        if found != "Hold" {
            return (found, n);
        }
    }
    ("Hold".into(), most)
}

#[test]
fn mature_cohorts_tell_a_bad_candidate_from_a_good_one() {
    let (bad, ticks) = until_decided(&mut attempt(), &mut Late::new(0.08, 0.16), 600);
    assert!(bad == "Fail Harmful" && ticks > 36, "{bad} after {ticks}");
    let (good, ticks) = until_decided(&mut attempt(), &mut Late::new(0.08, 0.08), 600);
    assert!(good == "StagePass" && ticks > 36, "{good} after {ticks}");
}

#[test]
fn the_first_mature_cohort_is_announced_and_lies_in_settled_traffic() {
    let (mut run, mut late) = (attempt(), Late::new(0.08, 0.08));
    (0..5).for_each(|_| late.serve(&mut run));
    let finding = named(&run.judge(), "errors").clone();
    assert_eq!((finding.verdict, finding.reason.as_str()), (Verdict::Undecided, "Immature"), "{}", finding.message);
    // Traffic settles within the first minute, so the cohort of the second is the first: it ends after two and is two old after four.
    assert_eq!(finding.message, "errors has no mature cohort yet, the first at 2027-01-15 08:04 UTC: labels count at an age of 2m");
    // The world began one tick before; at 08:03:55 nothing is mature.
    (0..41).for_each(|_| late.serve(&mut run));
    assert_eq!(named(&run.judge(), "errors").samples, (0, 0));
    (0..2).for_each(|_| late.serve(&mut run));
    let (candidate, stable) = named(&run.judge(), "errors").samples;
    assert!((1_500..2_100).contains(&candidate) && (1_500..2_100).contains(&stable), "a minute of requests: {candidate} {stable}");
}

#[test]
fn what_is_found_after_the_age_is_ignored_in_both_arms() {
    let (mut run, mut late) = (attempt(), Late::new(0.08, 0.08));
    (0..60).for_each(|_| late.serve(&mut run));
    let cohort = run.world.now / 1000 / WIDTH * WIDTH - 5 * WIDTH;
    let before = named(&run.judge(), "errors").clone();
    assert!(before.samples.0 > 0);
    run.world.of(CANDIDATE).take(1).for_each(|pod| pod.add_to_cohort("dated_errors_total", &cohort.to_string(), 5_000.0));
    (0..60).for_each(|_| late.serve(&mut run));
    let after = named(&run.judge(), "errors").clone();
    assert!(after.samples.0 > before.samples.0 && after.verdict != Verdict::Harmful, "{}", after.message);
}

#[test]
fn a_cohort_across_a_change_of_traffic_has_no_weight() {
    let mut run = attempt();
    run.plan.stages = vec![canary(&[50, 60])];
    let mut run = Run::new(run.plan, World::new(61, 5_000, 2));
    let mut late = Late::new(0.08, 0.08);
    (0..66).for_each(|_| late.serve(&mut run));
    let before = named(&run.judge(), "errors").samples.0;
    run.go(0, 1);
    (0..60).for_each(|_| late.serve(&mut run));
    let after = named(&run.judge(), "errors").samples.0;
    // Five cohorts came of age since; the one in which traffic changed is not among those that count.
    let cohorts = (after - before) as f64 / 1_800.0;
    assert!((3.5..4.5).contains(&cohorts), "{cohorts} cohorts counted");
}

#[test]
fn a_label_that_is_no_time_is_named() {
    let mut run = attempt();
    for arm in [STABLE, CANDIDATE] {
        run.world.of(arm).for_each(|pod| pod.add_to_cohort("dated_requests_total", "2027-01-15", 10.0));
    }
    let finding = named(&run.ticks(3), "errors").clone();
    assert_eq!(finding.reason, "NotComparable");
    assert!(finding.message.contains("\"2027-01-15\", expected the Unix second"), "{}", finding.message);
}

#[test]
fn a_restart_changes_nothing_for_cohorts() {
    let (mut run, mut late) = (attempt(), Late::new(0.08, 0.10));
    for warm in [10, 30, 47] {
        (0..warm).for_each(|_| late.serve(&mut run));
        let saved = Checkpoint::from_text(&run.evidence.checkpoint().to_text()).unwrap();
        let mut again = Evidence::restore(&run.plan, &saved).unwrap();
        for _ in 0..30 {
            late.serve(&mut run);
            again.absorb(&run.plan, &run.world.arms(), run.world.at(), &run.world.readings(&run.plan));
        }
        assert_same(&judge(&run.plan, &again, &run.moment()), &run.judge(), "restarted");
    }
}
