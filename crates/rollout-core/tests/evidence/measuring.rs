//! What cannot be measured never passes, and says why.

use std::sync::Arc;

use chrono::TimeDelta;
use rollout_core::plan::{CountBound, CountSource, Guardrail, Reference, Test};
use rollout_core::spec::OnUnmeasurable;
use rollout_core::verdict::{Overall, Verdict};

use crate::plans::*;
use crate::run::{Run, named, reason};
use crate::world::*;

/// A candidate that passes within minutes, so that only the trouble of the test can stop it.
fn easy(seed: u64) -> World {
    let mut world = World::new(seed, 5_000, 3);
    (world.stable.rps, world.candidate.rps) = (50.0, 50.0);
    world
}

fn check(guardrails: Vec<Guardrail>, spoil: impl Fn(&mut World), expected: &str) {
    let mut run = Run::new(plan(vec![canary(&[50])], guardrails), easy(21));
    spoil(&mut run.world);
    for _ in 0..120 {
        run.tick();
        let judgement = run.judge();
        assert!(!matches!(judgement.overall, Overall::StagePass(_) | Overall::StepPass(_)), "passed without {expected}");
    }
    let judgement = run.judge();
    assert_eq!(judgement.findings[0].reason, expected, "{}", judgement.findings[0].message);
    assert_eq!(judgement.findings[0].verdict, Verdict::Unmeasurable);
}

#[test]
fn without_trouble_it_passes() {
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05)]), easy(21));
    assert_eq!(reason(&run.until_decided(TimeDelta::minutes(10)).unwrap().0.overall), "StagePass");
}

#[test]
fn a_metric_that_nobody_has_is_no_series() {
    let typo = counts("errors", selector("request_errros_total", &[]), selector("requests_total", &[]), times(2.0), times(2.0));
    check(vec![typo], |_| {}, "NoSeries");
    let total = counts("errors", selector("request_errors_total", &[]), selector("requsts_total", &[]), times(2.0), times(2.0));
    check(vec![total], |_| {}, "NoSeries");
}

#[test]
fn a_guardrail_of_a_profile_says_what_to_do_without_its_metric() {
    let mut typo = counts("errors", selector("nobody_total", &[]), selector("nobody_total", &[]), times(2.0), times(2.0));
    typo.profile = Some("tabular".into());
    let mut run = Run::new(plan(vec![canary(&[50])], vec![typo]), easy(21));
    let message = run.ticks(2).findings[0].message.clone();
    assert!(message.contains("no series") && message.ends_with("leave it out with without: [errors]"), "{message}");
}

#[test]
fn a_candidate_without_series_is_no_series() {
    check(vec![accuracy(0.05, 0.05)], |world| world.of(CANDIDATE).for_each(|pod| pod.scraped = false), "Stale");
    let mut world = easy(22);
    world.pods.retain(|pod| pod.revision == STABLE);
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05)]), world);
    assert_eq!(named(&run.ticks(2), "accuracy").reason, "NoSeries");
}

#[test]
fn nan_and_infinity_are_not_numbers_to_judge() {
    check(vec![accuracy(0.05, 0.05)], |world| world.of(CANDIDATE).for_each(|pod| pod.set("wrong", f64::NAN)), "NotANumber");
    check(vec![power_limit(30.0, 50.0)], |world| world.candidate.watts = f64::INFINITY, "Infinite");
}

#[test]
fn a_doubled_scrape_is_a_duplicate() {
    check(vec![accuracy(0.05, 0.05)], |world| world.of(STABLE).for_each(|pod| pod.doubled = true), "Duplicate");
}

#[test]
fn a_series_that_the_labels_of_both_arms_pick_out_is_no_comparison_with_itself() {
    // Two Services of the user, and one job that scrapes both.
    check(vec![accuracy(0.05, 0.05)], |world| world.matchers = [("job".to_owned(), "digits".to_owned())].into(), "Shared");
}

#[test]
fn more_bad_than_all_is_impossible() {
    let swapped = counts("swapped", selector("requests_total", &[]), selector("request_errors_total", &[]), points(0.05), points(0.05));
    check(vec![swapped], |_| {}, "Impossible");
}

#[test]
fn an_edge_that_the_histogram_lacks_is_named_with_its_neighbours() {
    let mut guardrail = latency(0.05);
    if let Test::Counts { bad: CountSource::Above { edge, .. }, .. } = &mut guardrail.test {
        *edge = 0.2;
    }
    check(vec![guardrail.clone()], |_| {}, "NoSuchEdge");
    let mut run = Run::new(plan(vec![canary(&[50])], vec![guardrail]), easy(23));
    let message = run.ticks(1).findings[0].message.clone();
    assert!(message.contains("no edge at 0.2; the nearest are 0.1 and 0.25"), "{message}");
}

#[test]
fn a_server_that_does_not_answer_measures_nothing() {
    check(vec![accuracy(0.05, 0.05), errors(4.0)], |world| world.answers = false, "Unavailable");
}

#[test]
fn a_bound_against_a_baseline_that_does_not_run_is_not_comparable() {
    let baseline = CountBound::Difference { margin: 0.05, versus: Reference::Baseline };
    let mut guardrail = accuracy(0.05, 0.05);
    if let Test::Counts { target, .. } = &mut guardrail.test {
        *target = baseline;
    }
    check(vec![guardrail], |_| {}, "NotComparable");
}

#[test]
fn one_bad_guardrail_of_many_holds_the_pass() {
    let typo = counts("typo", selector("nobody_total", &[]), selector("requests_total", &[]), times(2.0), times(2.0));
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05), typo.clone()]), easy(24));
    assert!(run.until_decided(TimeDelta::minutes(10)).is_none());
    assert_eq!(named(&run.judge(), "accuracy").verdict, Verdict::Proven);
    let ignored = Guardrail { on_unmeasurable: OnUnmeasurable::Ignore, ..typo.clone() };
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05), ignored]), easy(24));
    assert_eq!(reason(&run.until_decided(TimeDelta::minutes(10)).unwrap().0.overall), "StagePass");
    let strict = Guardrail { on_unmeasurable: OnUnmeasurable::Rollback, ..typo };
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05), strict]), easy(24));
    let (judgement, took) = run.until_decided(TimeDelta::minutes(10)).unwrap();
    assert_eq!(reason(&judgement.overall), "Fail NoSeries");
    assert!(took >= TimeDelta::seconds(30), "one missed scrape is no reason: {took}");
}

#[test]
fn a_candidate_that_reports_a_moment_later_than_stable_after_an_outage_is_not_silent() {
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05)]), easy(25));
    run.ticks(5);
    run.world.pods.iter_mut().for_each(|pod| pod.scraped = false);
    run.ticks(12);
    run.world.of(STABLE).for_each(|pod| pod.scraped = true);
    for _ in 0..2 {
        assert!(!reason(&run.ticks(1).overall).ends_with("CandidateSilent"));
    }
}

#[test]
fn a_silent_candidate_with_weight_is_lowered_while_stable_reports() {
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05)]), easy(25));
    run.ticks(5);
    run.world.of(CANDIDATE).for_each(|pod| pod.scraped = false);
    let (judgement, took) = run.until(TimeDelta::minutes(5), |o| matches!(o, Overall::Lower(_))).unwrap();
    assert_eq!(reason(&judgement.overall), "Lower CandidateSilent");
    assert!(took >= TimeDelta::seconds(25) && took <= TimeDelta::seconds(40), "{took}");
}

#[test]
fn a_quiet_candidate_that_is_scraped_is_not_silent() {
    let mut world = easy(26);
    world.candidate.rps = 0.0;
    for pod in world.of(CANDIDATE) {
        for key in ["right", "wrong", "requests", "errors"] {
            pod.remove(key);
        }
    }
    let mut plan = plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05), nan()]);
    plan.window = TimeDelta::minutes(1);
    let mut run = Run::new(plan, world);
    for _ in 0..48 {
        run.tick();
        assert!(matches!(run.judge().overall, Overall::Hold(_)));
    }
}

#[test]
fn blind_for_five_windows_lowers() {
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05)]), easy(27));
    run.ticks(5);
    run.world.answers = false;
    let (judgement, took) = run.until(TimeDelta::minutes(5), |o| matches!(o, Overall::Lower(_))).unwrap();
    assert_eq!(reason(&judgement.overall), "Lower Blind");
    assert!(took > TimeDelta::seconds(75) && took <= TimeDelta::seconds(85), "5 windows of 15 s: {took}");
}

#[test]
fn old_evidence_gives_no_pass() {
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05)]), easy(28));
    let (judgement, _) = run.until_decided(TimeDelta::minutes(10)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    run.world.now += 25_000;
    assert!(matches!(run.judge().overall, Overall::Hold(_)));
}

/// Failures that happened while a pod could not be scraped are charged when it is back: dropping them promoted broken candidates.
#[test]
fn what_happened_in_a_gap_is_charged_when_the_pod_is_back() {
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.02, 0.05)]), easy(29));
    run.ticks(10);
    let (_, before) = counted(&run);
    for _ in 0..20 {
        run.world.of(CANDIDATE).for_each(|pod| pod.scraped = false);
        run.world.candidate.wrong = 0.5;
        run.ticks(3);
        run.world.of(CANDIDATE).for_each(|pod| pod.scraped = true);
        run.world.candidate.wrong = 0.0;
        run.ticks(1);
    }
    let (_, after) = counted(&run);
    assert!(after - before > 18_000, "{before} {after}");
    assert_eq!(reason(&run.judge().overall), "Fail Harmful");
}

/// Samples of stable and of the candidate.
fn counted(run: &Run) -> (u64, u64) {
    let samples = named(&run.judge(), "accuracy").samples;
    (samples.1, samples.0)
}

#[test]
fn restarts_late_pods_and_first_sights_are_counted_once() {
    let mut world = World::new(30, 5_000, 1);
    (world.stable.rps, world.candidate.rps) = (0.0, 0.0);
    // History from before the attempt does not count.
    world.of(CANDIDATE).for_each(|pod| pod.set("right", 1_000.0));
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.02, 0.05)]), world);
    assert_eq!(counted(&run).1, 0);
    run.world.of(CANDIDATE).for_each(|pod| pod.add("right", 40.0));
    run.tick();
    assert_eq!(counted(&run).1, 40);
    // A reset of the process: both counters count from 0.
    run.world.of(CANDIDATE).for_each(|pod| {
        pod.restart();
        pod.add("right", 7.0);
        pod.add("wrong", 2.0);
    });
    run.tick();
    assert_eq!(counted(&run).1, 49);
    // A pod of this attempt counts from 0 at first sight, an older one is only a baseline.
    let mut late = Pod::new("digits-candidate-late", CANDIDATE, 0);
    late.add("right", 30.0);
    let mut old = Pod::new("digits-candidate-old", CANDIDATE, 0);
    old.add("right", 500.0);
    run.world.young.insert(late.name.clone());
    run.world.pods.extend([late, old]);
    run.tick();
    assert_eq!(counted(&run).1, 79);
    // A bad series that is born on a pod that was already there counts from 0.
    run.world.pods.last_mut().unwrap().add("wrong", 3.0);
    run.tick();
    assert_eq!(counted(&run).1, 82);
}

#[test]
fn a_pod_that_moved_to_another_address_is_not_scraped_twice() {
    // The same name on another instance: the old series ended before the new one began.
    let mut run = Run::new(plan(vec![canary(&[50])], vec![accuracy(0.05, 0.05)]), easy(31));
    run.ticks(3);
    let readings = run.world.readings(&run.plan);
    let moved: rollout_core::evidence::Readings = readings
        .into_iter()
        .map(|(query, reading)| {
            let rollout_core::evidence::Reading::Series(series) = reading else { panic!() };
            let split = series.iter().flat_map(|s| {
                let (mut old, mut new) = ((**s).clone(), (**s).clone());
                Arc::make_mut(&mut new.labels).insert("instance".into(), "10.0.0.9:8080".into());
                new.samples = old.samples.split_off(old.samples.len() - 1);
                [Arc::new(old), Arc::new(new)]
            });
            (query, rollout_core::evidence::Reading::Series(split.collect()))
        })
        .collect();
    run.world.now += 1_000;
    run.evidence.absorb(&run.plan, &run.world.arms(), run.world.at(), &moved);
    assert_ne!(named(&run.judge(), "accuracy").reason, "Duplicate");
}

#[test]
fn seconds_of_reporting_pods_are_an_exposure() {
    let rate = |factor| Test::Counts {
        bad: CountSource::Counter(selector("request_errors_total", &[])),
        severe: None,
        total: CountSource::PodSeconds,
        target: times(factor),
        critical: times(factor),
        or_not_worse_than_stable: false,
    };
    let mut world = easy(32);
    (world.stable.failing, world.candidate.failing) = (0.02, 0.02);
    let mut run = Run::new(plan(vec![canary(&[50])], vec![guardrail("rate", rate(2.0))]), world.clone());
    let judgement = run.ticks(12);
    let (candidate, stable) = judgement.findings[0].samples;
    assert!((175..=185).contains(&candidate) && (175..=185).contains(&stable), "3 pods for a minute: {candidate} {stable}");
    world.candidate.failing = 0.2;
    let mut run = Run::new(plan(vec![canary(&[50])], vec![guardrail("rate", rate(2.0))]), world);
    assert_eq!(reason(&run.until_decided(TimeDelta::minutes(10)).unwrap().0.overall), "Fail Harmful");
}
