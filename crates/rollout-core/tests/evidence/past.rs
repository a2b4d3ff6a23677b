//! What the champion did before an attempt: its rate, and how its counts scatter.

use chrono::TimeDelta;
use rollout_core::evidence::{Evidence, HISTORY_SPAN, History};
use rollout_core::plan::Plan;
use rollout_core::revision::RevisionId;

use crate::plans::*;
use crate::run::{Run, named};
use crate::world::*;

fn rolling(guardrails: Vec<rollout_core::plan::Guardrail>) -> Plan {
    plan(vec![canary(&[50])], guardrails)
}

/// A champion of two pods, scraped once a minute; `wobble` is added to one pod's wrong answers for five minutes in ten.
fn champion(plan: &Plan, seed: u64, minutes: usize, wobble: f64) -> History {
    let mut world = World::new(seed, 60_000, 2);
    let mut history = History::start(plan, world.at());
    for minute in 0..minutes {
        if minute % 10 < 5 && wobble > 0.0 {
            let pod = world.of(STABLE).next().unwrap();
            pod.add("wrong", wobble);
            pod.add("right", -wobble);
        }
        world.step();
        history.absorb(plan, &world.arms(), world.at(), &world.readings(plan));
    }
    assert_eq!(history.last_instant(), world.at());
    history
}

fn judged(plan: Plan, history: Option<&History>, ticks: usize) -> rollout_core::verdict::Judgement {
    let world = World::new(71, 5_000, 2);
    let mut run = Run::new(plan, world);
    if let Some(history) = history {
        run.evidence.remember(history);
    }
    run.ticks(ticks)
}

#[test]
fn with_the_champions_rate_known_the_first_window_is_judged() {
    let plan = rolling(vec![accuracy(0.02, 0.05)]);
    let history = champion(&plan, 72, 120, 0.0);
    let log_e = |history| named(&judged(plan.clone(), history, 1), "accuracy").log_e_harm.unwrap();
    assert!(log_e(None).abs() < 1e-12, "without it the first window only sets the guess");
    assert!(log_e(Some(&history)).abs() > 1e-6);
}

#[test]
fn a_wobble_of_the_past_deflates_the_first_evidence() {
    let plan = rolling(vec![accuracy(0.02, 0.05)]);
    let effective = |wobble: f64| {
        let judgement = judged(plan.clone(), Some(&champion(&plan, 73, 360, wobble)), 12);
        let finding = named(&judgement, "accuracy");
        finding.effective_samples.unwrap() as f64 / finding.samples.0 as f64
    };
    let (calm, wobbling) = (effective(0.0), effective(20.0));
    assert!(calm > 0.2 && wobbling < calm / 4.0, "{calm} {wobbling}");
}

/// Ten hours of a champion in a world that changes from minute to minute.
fn ten_hours(plan: &Plan, mut world: World, each: impl Fn(&mut World, usize)) -> History {
    let mut history = History::start(plan, world.at());
    for minute in 0..600 {
        each(&mut world, minute);
        world.step();
        history.absorb(plan, &world.arms(), world.at(), &world.readings(plan));
    }
    history
}

/// All pods are wrong more and less often in turn, ten minutes each.
fn shaken(plan: &Plan, wobble: f64) -> History {
    ten_hours(plan, World::new(77, 60_000, 2), |world, minute| world.stable.wrong = turn(minute, wobble))
}

fn turn(minute: usize, wobble: f64) -> f64 {
    0.08 + if (minute / 10).is_multiple_of(2) { -wobble } else { wobble }
}

/// Effective requests of the candidate as a share of its requests.
fn weight(judgement: &rollout_core::verdict::Judgement) -> f64 {
    let finding = named(judgement, "accuracy");
    finding.effective_samples.unwrap() as f64 / finding.samples.0 as f64
}

#[test]
fn a_wobble_that_all_pods_share_deflates_too() {
    let plan = rolling(vec![accuracy(0.02, 0.05)]);
    let of = |wobble| weight(&judged(plan.clone(), Some(&shaken(&plan, wobble)), 12));
    let (calm, wobbling) = (of(0.0), of(0.04));
    assert!(calm > 0.2 && wobbling < calm / 2.0, "{calm} {wobbling}");
}

#[test]
fn what_both_arms_do_alike_stops_deflating_also_after_a_restart() {
    let plan = rolling(vec![accuracy(0.02, 0.05)]);
    let history = shaken(&plan, 0.04);
    let after = |apart: usize| {
        let mut run = Run::new(plan.clone(), World::new(78, 5_000, 2));
        run.evidence.remember(&history);
        for minute in 0..180 {
            (run.world.stable.wrong, run.world.candidate.wrong) = (turn(minute, 0.04), turn(minute + apart, 0.04));
            run.ticks(12);
        }
        let before = run.judge();
        run.evidence = Evidence::restore(&plan, &run.evidence.checkpoint()).unwrap();
        assert!((weight(&run.judge()) - weight(&before)).abs() < 1e-12);
        weight(&before)
    };
    let (together, apart) = (after(0), after(10));
    assert!(together > 2.0 * apart, "{together} {apart}");
}

#[test]
fn a_slice_knows_of_the_shocks_of_its_arm() {
    let by_region = sliced(regional(0.05, 0.08), "region", points(0.1), 20.0, rollout_core::spec::OnUnproven::Warn);
    let plan = rolling(vec![by_region]);
    let of = |wobble: f64| {
        let history = ten_hours(&plan, World::new(79, 60_000, 2), |past, minute| past.regions = Some([[turn(minute, wobble); 2]; 3]));
        let mut world = World::new(80, 5_000, 2);
        world.regions = Some([[0.08; 2]; 3]);
        let mut run = Run::new(plan.clone(), world);
        run.evidence.remember(&history);
        named(&run.ticks(120), "accuracy").slices.iter().find(|slice| slice.slice == "region=eu").unwrap().log_e_proof
    };
    let (calm, shaken) = (of(0.0), of(0.04));
    assert!(calm > 1.5 * shaken && shaken > 0.0, "{calm} {shaken}");
}

#[test]
fn a_champion_without_a_past_shows_its_shocks_within_the_attempt_and_its_slices_hear_of_them() {
    let by_region = sliced(regional(0.05, 0.08), "region", points(0.1), 20.0, rollout_core::spec::OnUnproven::Warn);
    let plan = rolling(vec![by_region]);
    let of = |wobble: f64| {
        let mut run = Run::new(plan.clone(), World::new(81, 5_000, 2));
        for minute in 0..60 {
            run.world.regions = Some([[turn(minute, wobble), 0.08]; 3]);
            run.ticks(12);
        }
        let checkpoint = run.evidence.checkpoint();
        assert_eq!(Evidence::restore(&plan, &checkpoint).unwrap().checkpoint(), checkpoint);
        let judged = run.judge();
        let slice = named(&judged, "accuracy").slices.iter().find(|slice| slice.slice == "region=eu").unwrap().log_e_proof;
        (weight(&judged), slice)
    };
    let (calm, shaken) = (of(0.0), of(0.04));
    assert!(calm.0 > 2.0 * shaken.0 && calm.1 > 1.2 * shaken.1, "{calm:?} {shaken:?}");
}

#[test]
fn a_past_that_comes_late_changes_no_window_that_was_judged() {
    let plan = rolling(vec![accuracy(0.02, 0.05)]);
    let history = champion(&plan, 74, 360, 20.0);
    let mut world = World::new(75, 5_000, 2);
    (world.stable.rps, world.candidate.rps) = (20.0, 20.0);
    let mut run = Run::new(plan, world);
    let before = named(&run.ticks(24), "accuracy").log_e_harm;
    run.evidence.remember(&history);
    assert_eq!(named(&run.judge(), "accuracy").log_e_harm, before);
}

#[test]
fn only_counts_of_the_champion_are_asked_for() {
    let watts = rollout_core::plan::LevelBound::Absolute(30.0);
    let plan = rolling(vec![accuracy(0.02, 0.05), nan(), power(watts, watts)]);
    let arms = World::new(1, 5_000, 2).arms();
    let texts: Vec<String> = History::queries(&plan, &arms).iter().map(ToString::to_string).collect();
    assert!(texts.iter().any(|text| text.starts_with("model_predictions_total{")), "{texts:?}");
    assert!(!texts.iter().any(|text| text.starts_with("power") || text.starts_with("nonfinite")), "{texts:?}");
    assert!(History::queries(&rolling(vec![nan()]), &arms).is_empty());
    assert!(History::interval(&plan) >= TimeDelta::minutes(1) && HISTORY_SPAN >= TimeDelta::hours(24));
}

#[test]
fn a_past_without_answers_is_no_past() {
    let plan = rolling(vec![accuracy(0.02, 0.05), errors(3.0)]);
    let mut world = World::new(76, 60_000, 2);
    world.answers = false;
    let mut history = History::start(&plan, world.at());
    for _ in 0..30 {
        world.step();
        history.absorb(&plan, &world.arms(), world.at(), &world.readings(&plan));
    }
    let mut evidence = Evidence::start(&plan, RevisionId::new(CANDIDATE), world.at(), 0);
    let fresh = evidence.clone();
    evidence.remember(&history);
    assert_eq!(evidence, fresh);
}
