//! Drift: alike, apart, apart late, apart with the world, over a ramp, in buckets; and what cannot be compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use rollout_core::evidence::{Evidence, Reading, Readings, Sample, Series};
use rollout_core::judge::{Moment, judge};
use rollout_core::plan::{Drift, Guardrail, Measure, Test};
use rollout_core::revision::RevisionId;
use rollout_core::spec::StageKind;
use rollout_core::verdict::{Overall, Verdict};
use rollout_core::weights::{Exposure, Position};

use crate::plans::*;
use crate::run::{Run, assert_restart_changes_nothing, named, reason, told};
use crate::world::*;

const EVEN: [f64; 4] = [0.4, 0.3, 0.2, 0.1];
const ODD: [f64; 4] = [0.1, 0.2, 0.3, 0.4];

fn mix(target: f64, critical: f64) -> Drift {
    let (bins, label) = (selector("classes_total", &[]), "predicted".to_owned());
    Drift { bins, label, measure: Measure::Psi, recorded: None, target, critical }
}

fn recorded(target: f64, critical: f64) -> Drift {
    Drift { recorded: Some(selector("class_ratio", &[])), ..mix(target, critical) }
}

fn guarded(drift: Drift) -> Guardrail {
    guardrail("mix", Test::Drift(drift))
}

fn run(seed: u64, classes: [[f64; 4]; 2], drift: Drift) -> Run {
    let mut world = World::new(seed, 5_000, 3);
    (world.stable.rps, world.candidate.rps) = (40.0, 40.0);
    world.classes = Some(classes);
    for pod in &mut world.pods {
        SHARES.into_iter().zip(EVEN).for_each(|(key, share)| pod.set(key, share));
    }
    Run::new(plan(vec![canary(&[50])], vec![guarded(drift)]), world)
}

#[test]
fn the_same_mix_is_proven_to_be_within_the_target() {
    let mut run = run(701, [EVEN, EVEN], mix(0.1, 0.25));
    let (judgement, took) = run.until_decided(TimeDelta::hours(1)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    assert!(took <= TimeDelta::minutes(5), "{took}");
    let message = &named(&judgement, "mix").message;
    assert!(message.starts_with("mix is PSI 0.0") && message.contains("within the target 0.1: ln(1/p)"), "{message}");
}

#[test]
fn another_mix_is_harmful_soon() {
    for measure in [Measure::Psi, Measure::JensenShannon, Measure::CramersV, Measure::KolmogorovSmirnov] {
        let mut run = run(702, [EVEN, ODD], Drift { measure, ..mix(0.05, 0.06) });
        let (judgement, took) = run.until_decided(TimeDelta::hours(1)).unwrap();
        assert_eq!(reason(&judgement.overall), "Fail Harmful", "{measure:?}");
        assert!(took <= TimeDelta::minutes(10), "{measure:?} {took}");
        assert!(named(&judgement, "mix").message.contains("beyond the critical 0.06: ln(1/p)"));
    }
}

#[test]
fn a_drift_after_hours_of_none_is_not_masked() {
    let mut run = run(703, [EVEN, EVEN], mix(0.1, 0.25));
    // Two hours in which nobody acts on the pass.
    assert_eq!(named(&run.ticks(1_440), "mix").verdict, Verdict::Proven);
    run.world.classes = Some([EVEN, ODD]);
    let not_passed = |overall: &Overall| !matches!(overall, Overall::Hold(_) | Overall::StagePass(_));
    let (judgement, took) = run.until(TimeDelta::hours(3), not_passed).unwrap();
    assert!(matches!(named(&judgement, "mix").verdict, Verdict::Harmful | Verdict::Warning), "{judgement:?}");
    assert!(took <= TimeDelta::minutes(10), "{took}");
}

#[test]
fn between_target_and_critical_it_ends_as_inconclusive() {
    let mut run = run(704, [EVEN, [0.3, 0.3, 0.2, 0.2]], mix(0.01, 0.5));
    let (judgement, _) = run.until_decided(TimeDelta::hours(1)).unwrap();
    assert_eq!(reason(&judgement.overall), "Inconclusive WorseThanTarget");
}

#[test]
fn a_mix_that_changes_while_traffic_is_raised_is_no_drift() {
    let mut run = run(705, [EVEN, EVEN], mix(0.02, 0.05));
    (run.world.stable.rps, run.world.candidate.rps) = (78.0, 2.0);
    run.ticks(60);
    (run.world.stable.rps, run.world.candidate.rps) = (40.0, 40.0);
    run.world.classes = Some([ODD, ODD]);
    let judgement = run.ticks(60);
    let finding = named(&judgement, "mix");
    assert!(!matches!(finding.verdict, Verdict::Harmful | Verdict::Warning), "{}", finding.message);
    assert!(finding.value.as_ref().unwrap().parse::<f64>().unwrap() < 0.02, "{}", finding.message);
}

#[test]
fn a_world_that_moved_away_from_what_was_recorded_is_not_the_candidates_doing() {
    let mut run = run(706, [ODD, ODD], recorded(0.1, 0.25));
    assert!(run.until_decided(TimeDelta::minutes(30)).is_none());
    let judgement = run.judge();
    let finding = named(&judgement, "mix");
    assert_eq!((finding.verdict, finding.reason.as_str()), (Verdict::Unmeasurable, "WorldDrifted"), "{}", finding.message);
    assert!(finding.message.contains("the world has drifted"), "{}", finding.message);
}

#[test]
fn a_candidate_that_leaves_what_was_recorded_alone_is_harmful_and_one_that_keeps_it_is_proven() {
    let mut away = run(707, [EVEN, ODD], recorded(0.1, 0.25));
    assert_eq!(reason(&away.until_decided(TimeDelta::minutes(30)).unwrap().0.overall), "Fail Harmful");
    let mut keeps = run(708, [EVEN, EVEN], recorded(0.1, 0.25));
    let (judgement, _) = keeps.until_decided(TimeDelta::minutes(30)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    assert!(named(&judgement, "mix").message.contains("from what was recorded"), "{}", named(&judgement, "mix").message);
}

#[test]
fn buckets_of_a_histogram_are_bins() {
    let buckets = |measure| Drift { bins: selector("inference_seconds_bucket", &[]), label: "le".into(), measure, ..mix(0.05, 0.1) };
    let mut alike = run(709, [EVEN, EVEN], buckets(Measure::KolmogorovSmirnov));
    let (judgement, _) = alike.until_decided(TimeDelta::hours(1)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass", "{}", named(&judgement, "mix").message);
    let mut slower = run(710, [EVEN, EVEN], buckets(Measure::Psi));
    slower.world.candidate.slow = 0.3;
    assert_eq!(reason(&slower.until_decided(TimeDelta::minutes(20)).unwrap().0.overall), "Fail Harmful");
}

#[test]
fn arms_with_other_buckets_are_not_compared() {
    let buckets = Drift { bins: selector("inference_seconds_bucket", &[]), label: "le".into(), ..mix(0.05, 0.1) };
    let mut run = run(717, [EVEN, EVEN], buckets);
    run.ticks(20);
    run.world.candidate.slow = 0.5;
    // The candidate's servers come back with one bucket less.
    run.world.of(CANDIDATE).for_each(Pod::restart);
    for _ in 0..120 {
        run.world.step();
        run.world.of(CANDIDATE).for_each(|pod| pod.remove("quarter"));
        run.evidence.absorb(&run.plan, &run.world.arms(), run.world.at(), &run.world.readings(&run.plan));
    }
    let judgement = run.judge();
    let finding = named(&judgement, "mix");
    assert_eq!((finding.verdict, finding.reason.as_str()), (Verdict::Unmeasurable, "NotComparable"), "{}", finding.message);
    assert!(finding.message.contains("both arms need the same buckets"), "{}", finding.message);
}

#[test]
fn restarts_of_pods_and_gaps_are_no_drift() {
    let mut run = run(711, [EVEN, EVEN], mix(0.002, 0.05));
    for round in 0..12 {
        run.ticks(10);
        let pod = run.world.of(CANDIDATE).nth(round % 3).unwrap();
        if round % 2 == 0 {
            pod.restart();
        } else {
            pod.scraped = false;
            run.ticks(8);
            run.world.of(CANDIDATE).for_each(|pod| pod.scraped = true);
        }
    }
    let judgement = run.ticks(10);
    let finding = named(&judgement, "mix");
    assert!(finding.value.as_ref().unwrap().parse::<f64>().unwrap() < 0.005, "{}", finding.message);
}

#[test]
fn what_cannot_be_compared_says_why() {
    let nobody = Drift { label: "species".into(), ..mix(0.1, 0.25) };
    assert_eq!(named(&run(712, [EVEN, EVEN], nobody).ticks(6), "mix").reason, "NoSuchLabel");
    let absent = Drift { bins: selector("nothing_total", &[]), ..mix(0.1, 0.25) };
    assert_eq!(named(&run(713, [EVEN, EVEN], absent).ticks(6), "mix").reason, "NoSeries");
    let mut half = run(714, [EVEN, EVEN], recorded(0.1, 0.25));
    half.world.pods.iter_mut().for_each(|pod| pod.set("share-0", 0.1));
    let judgement = half.ticks(6);
    assert!(named(&judgement, "mix").message.contains("shares that sum to 1"), "{}", named(&judgement, "mix").message);
    let words =
        Drift { bins: selector("answers_total", &[]), label: "region".into(), measure: Measure::KolmogorovSmirnov, ..mix(0.1, 0.25) };
    let mut unordered = run(715, [EVEN, EVEN], words);
    unordered.world.regions = Some([[0.1, 0.1]; 3]);
    let judgement = unordered.ticks(6);
    assert!(named(&judgement, "mix").message.contains("bins in order must be numbers"), "{}", named(&judgement, "mix").message);
}

/// The distance is exactly its bound, or none at all under the tightest one: decisions are errors.
#[test]
fn a_drift_at_its_bound_is_seldom_rolled_back_and_seldom_proven() {
    // PSI 0.1 between the two, to the third digit.
    let shifted = [0.4 + 0.0726 * 1.72, 0.3 - 0.0726 * 0.5, 0.2 - 0.0726 * 0.86, 0.1 - 0.0726 * 0.36];
    let psi: f64 = EVEN.iter().zip(shifted).map(|(p, q)| (q - p) * (q / p).ln()).sum();
    let (mut failed, mut passed) = (0, 0);
    for seed in 0..20 {
        match run(7_000 + seed, [EVEN, shifted], mix(psi, psi)).until_decided(TimeDelta::minutes(8)) {
            Some((judgement, _)) if reason(&judgement.overall) == "StagePass" => passed += 1,
            Some(_) => failed += 1,
            None => {}
        }
    }
    assert!(failed <= 2 && passed <= 3, "{failed} failed, {passed} passed of 20 at {psi}");
}

#[test]
fn restored_and_replayed_drift_equals_one_that_never_stopped() {
    for drift in [mix(0.01, 0.05), recorded(0.05, 0.1)] {
        let mut run = run(716, [EVEN, EVEN], drift);
        assert_restart_changes_nothing(&mut run, 60, &[0, 13, 59], |_, _| {});
        let size = run.evidence.checkpoint().to_text().len();
        assert!(size < 20_000, "{size} bytes for four bins on six pods");
    }
}

/// One counter with eighty values of its label on three pods per arm, as an answer to every query.
fn eighty(at: i64, total: f64) -> Vec<Arc<Series>> {
    let series = |revision: &str, pod: usize, value: usize| {
        let labels =
            [("espalier_dev_revision", revision.to_owned()), ("pod", format!("{revision}-{pod}")), ("bin", format!("v{value:02}"))];
        let labels = BTreeMap::from(labels.map(|(name, value)| (name.to_owned(), value)));
        Arc::new(Series { labels: labels.into(), samples: vec![Sample { at, value: (total * (1.0 + value as f64)).floor() }] })
    };
    let pods = [STABLE, CANDIDATE].into_iter().flat_map(|revision| (0..3).map(move |pod| (revision, pod)));
    pods.flat_map(|(revision, pod)| (0..80).map(move |value| series(revision, pod, value))).collect()
}

#[test]
fn more_values_than_bins_share_one_and_the_checkpoint_stays_small() {
    let drift = Drift { label: "bin".into(), ..mix(0.1, 0.25) };
    let plan = plan(vec![canary(&[50])], vec![guarded(drift)]);
    let (arms, at) = (World::new(1, 5_000, 3).arms(), |tick: i64| DateTime::from_timestamp_millis(T0 + tick * 5_000).unwrap());
    let mut evidence = Evidence::start(&plan, RevisionId::new(CANDIDATE), at(0), 0);
    evidence.moved(Position { stage: 0, step: 0 }, Exposure::new(50).unwrap(), StageKind::Canary, at(0));
    for tick in 1..=400 {
        let answer = Reading::Series(eighty(T0 + tick * 5_000, 0.1 * tick as f64));
        let readings: Readings = Evidence::queries(&plan, &arms).into_iter().map(|query| (query, answer.clone())).collect();
        evidence.absorb(&plan, &arms, at(tick), &readings);
    }
    let moment = Moment {
        now: at(400),
        position: Position { stage: 0, step: 0 },
        exposure: Exposure::new(50).unwrap(),
        attempt_started: at(0),
        stage_started: at(0),
        step_started: at(0),
        last_step: true,
    };
    let judgement = judge(&plan, &evidence, &moment);
    assert_eq!(named(&judgement, "mix").verdict, Verdict::Proven, "{}", named(&judgement, "mix").message);
    let size = evidence.checkpoint().to_text().len();
    assert!(size < 40_000, "{size} bytes for 64 bins on six pods");
}

#[test]
fn what_is_said_of_a_drift() {
    let mut run = run(712, [EVEN, [0.38, 0.3, 0.2, 0.12]], mix(0.02, 0.25));
    assert_eq!(
        told(named(&run.ticks(20), "mix")),
        [
            "0.002, 95%: 0 to 0.011",
            "3585 vs 3656 samples, 3585 effective",
            "thresholds 3.00 and 3.00, left none",
            "mix is PSI 0.002 from stable (3 585 events beside 3 656 of stable; 95%: 0 to 0.011), within the target 0.02: ln(1/p) 8.5 ≥ 3.0"
        ]
    );
}
