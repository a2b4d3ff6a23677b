//! Slices: a bad part in a good average, parts without proof, parts that come late, and what many of them cost.

use chrono::TimeDelta;
use rollout_core::plan::{Guardrail, RequestCounter};
use rollout_core::spec::OnUnproven::{self, Block, Warn};
use rollout_core::verdict::{Judgement, SliceFinding, Verdict};

use crate::plans::*;
use crate::run::{Run, assert_restart_changes_nothing, named, reason};
use crate::world::*;

/// Wrong answers everywhere but in one region of the candidate.
fn world(seed: u64, rps: f64, apac: f64) -> World {
    let mut world = World::new(seed, 5_000, 3);
    (world.stable.rps, world.candidate.rps) = (rps, rps);
    world.regions = Some([[0.05, 0.05], [0.05, 0.05], [0.05, apac]]);
    world
}

fn by_region(min_samples: f64, on_unproven: OnUnproven) -> Guardrail {
    sliced(regional(0.05, 0.08), "region", points(0.1), min_samples, on_unproven)
}

fn run(world: World, guardrail: Guardrail) -> Run {
    Run::new(plan(vec![canary(&[50])], vec![guardrail]), world)
}

fn slice<'a>(judgement: &'a Judgement, name: &str) -> &'a SliceFinding {
    named(judgement, "accuracy").slices.iter().find(|s| s.slice == name).unwrap()
}

#[test]
fn a_bad_region_in_a_good_average_is_found_and_named() {
    let mut blind = run(world(101, 60.0, 0.35), regional(0.05, 0.08));
    let (judgement, _) = blind.until_decided(TimeDelta::hours(1)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass", "three points more in all are within five");
    let mut run = run(world(101, 60.0, 0.35), by_region(100.0, Block));
    let (judgement, took) = run.until_decided(TimeDelta::hours(1)).unwrap();
    assert_eq!(reason(&judgement.overall), "Fail SliceHarmful");
    assert!(took <= TimeDelta::minutes(15), "{took}");
    let message = &named(&judgement, "accuracy").message;
    assert!(
        message.starts_with("accuracy in region apac is ") && message.contains("beyond the +10pp vs stable allowed in a slice"),
        "{message}"
    );
    assert_eq!(slice(&judgement, "region=apac").verdict, Verdict::Harmful);
    assert_ne!(slice(&judgement, "region=eu").verdict, Verdict::Harmful);
}

#[test]
fn an_unproven_region_blocks_the_pass_or_is_only_named() {
    let mut blocked = run(world(102, 10.0, 0.05), by_region(20.0, Block));
    let mut warned = run(world(102, 10.0, 0.05), by_region(20.0, Warn));
    let (judgement, early) = warned.until_decided(TimeDelta::hours(2)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    let finding = named(&judgement, "accuracy");
    assert!(finding.message.contains("not yet proven within +10pp vs stable: in region apac (ln E "), "{}", finding.message);
    let held = blocked.ticks(usize::try_from(early.num_seconds() / 5).unwrap());
    assert_eq!((named(&held, "accuracy").verdict, named(&held, "accuracy").reason.as_str()), (Verdict::Undecided, "SliceUnproven"));
    assert!(reason(&held.overall) == "Hold" && slice(&held, "region=apac").counts, "{:?}", held.overall);
    let (judgement, _) = blocked.until_decided(TimeDelta::hours(2)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    assert!(named(&judgement, "accuracy").slices.iter().all(|s| s.verdict == Verdict::Proven));
}

#[test]
fn a_region_with_too_few_events_is_reported_and_does_not_block() {
    let mut run = run(world(103, 20.0, 0.05), by_region(900.0, Block));
    let (judgement, _) = run.until_decided(TimeDelta::hours(2)).unwrap();
    assert_eq!(reason(&judgement.overall), "StagePass");
    let apac = slice(&judgement, "region=apac");
    assert!(!apac.counts && apac.samples.0 < 900, "{apac:?}");
    assert!(slice(&judgement, "region=eu").counts && slice(&judgement, "region=eu").verdict == Verdict::Proven);
}

#[test]
fn slices_without_any_events_do_not_pass() {
    let mut run = run(world(104, 20.0, 0.05), by_region(1_000_000.0, Block));
    assert!(run.until_decided(TimeDelta::minutes(20)).is_none());
    let judgement = run.judge();
    assert!(named(&judgement, "accuracy").message.contains("no slice of region has 1 000 000 events yet"), "{:?}", judgement.overall);
}

#[test]
fn a_region_that_the_candidate_loses_is_not_one_without_traffic() {
    let mut plan = plan(vec![canary(&[50])], vec![by_region(50.0, Block)]);
    // Otherwise the counter by region says how traffic is split, and finds that a part of it is missing.
    plan.requests = Some(RequestCounter { series: selector("requests_total", &[]), backend_label: None });
    let mut run = Run::new(plan, world(105, 20.0, 0.05));
    run.world.lost = vec![(CANDIDATE, "apac")];
    assert!(run.until_decided(TimeDelta::minutes(20)).is_none(), "its copy on stable has events");
    let judgement = run.judge();
    let apac = slice(&judgement, "region=apac");
    assert!(apac.counts && apac.samples.0 == 0 && apac.samples.1 > 1_000, "{apac:?}");
    assert_eq!(named(&judgement, "accuracy").reason, "SliceUnproven");
}

#[test]
fn a_label_that_no_series_has_is_unmeasurable() {
    let mut run = run(world(106, 20.0, 0.05), sliced(regional(0.05, 0.08), "country", points(0.1), 10.0, Warn));
    let judgement = run.ticks(4);
    let finding = named(&judgement, "accuracy");
    assert_eq!((finding.verdict, finding.reason.as_str()), (Verdict::Unmeasurable, "NoSuchLabel"));
    assert!(finding.message.contains("no series of answers_total has the label country"), "{}", finding.message);
}

#[test]
fn every_event_is_in_exactly_one_slice_whenever_its_region_began() {
    let mut world = world(107, 3.0, 0.05);
    world.lost = vec![(STABLE, "apac"), (CANDIDATE, "apac")];
    let mut run = run(world, by_region(10.0, Block));
    for tick in 0..120 {
        match tick {
            30 => run.world.of(CANDIDATE).next().unwrap().restart(),
            50 => run.world.lost.clear(),
            60 => run.world.of(STABLE).next().unwrap().scraped = false,
            75 => run.world.of(STABLE).next().unwrap().scraped = true,
            _ => {}
        }
        run.tick();
    }
    let judgement = run.judge();
    let finding = named(&judgement, "accuracy");
    let sums = finding.slices.iter().fold((0, 0), |sum, s| (sum.0 + s.samples.0, sum.1 + s.samples.1));
    assert_eq!(sums, finding.samples, "{:?}", finding.slices);
    assert!(sums.0 > 1_000 && sums.1 > 1_000);
}

#[test]
fn values_beyond_the_sixteenth_share_a_slice() {
    let mut world = World::new(108, 5_000, 12);
    (world.stable.rps, world.candidate.rps) = (60.0, 60.0);
    let mut run = run(world, sliced(accuracy(0.05, 0.05), "pod", points(0.2), 10.0, Warn));
    let judgement = run.ticks(20);
    let finding = named(&judgement, "accuracy");
    assert_eq!(finding.slices.len(), 17);
    let others = finding.slices.last().unwrap();
    assert_eq!(others.slice, "other pod");
    let sums = finding.slices.iter().fold((0, 0), |sum, s| (sum.0 + s.samples.0, sum.1 + s.samples.1));
    assert_eq!(sums, finding.samples);
}

#[test]
fn slices_pay_for_their_number_and_leave_the_whole_its_half() {
    let judgement = run(world(109, 20.0, 0.05), by_region(10.0, Block)).ticks(4);
    let finding = named(&judgement, "accuracy");
    let half = 0.05_f64 / 2.0;
    assert!((finding.thresholds.1 - (1.0 / half).ln()).abs() < 1e-12);
    assert!((slice(&judgement, "region=eu").thresholds.1 - (17.0 / half).ln()).abs() < 1e-12);
    assert!(
        (slice(&judgement, "region=eu").thresholds.0 - 20.0_f64.ln()).abs() < 1e-12,
        "every slice is proven at the whole promotion risk"
    );
}

/// Every region of the candidate is exactly as bad as a slice may be.
#[test]
fn regions_at_their_bound_are_seldom_rolled_back_and_never_pass() {
    let (mut rolled_back, runs) = (0, 40);
    for seed in 0..runs {
        let mut world = world(2_000 + seed, 16.0, 0.15);
        world.regions = Some([[0.05, 0.15]; 3]);
        let mut run = run(world, sliced(regional(0.2, 0.3), "region", points(0.1), 50.0, Block));
        for _ in 0..40 {
            run.tick();
            let judgement = run.judge();
            assert_ne!(reason(&judgement.overall), "StagePass", "seed {seed}");
            if reason(&judgement.overall) == "Fail SliceHarmful" {
                rolled_back += 1;
                break;
            }
        }
    }
    assert!(rolled_back <= 2, "{rolled_back} of {runs}");
}

#[test]
fn restored_and_replayed_slices_equal_those_that_never_stopped() {
    let mut run = run(world(110, 20.0, 0.1), by_region(50.0, Block));
    run.world.lost = vec![(CANDIDATE, "us")];
    assert_restart_changes_nothing(&mut run, 60, &[0, 20, 30, 59], |tick, world| {
        if tick == 25 {
            world.lost.clear();
        }
    });
    let size = run.evidence.checkpoint().to_text().len();
    assert!(size < 16_000, "{size} bytes for one guardrail with three slices on six pods");
}
