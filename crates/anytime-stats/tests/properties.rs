//! Properties over arbitrary inputs: invariances, monotonicity, incremental equals recomputed, nothing panics, states survive JSON.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "a test may panic")]

use anytime_stats::absolute_limit::{AbsoluteLimitPlan, BLAME_RATIO};
use anytime_stats::counters::{Arm, TargetSample, TargetWindows};
use anytime_stats::intervals::{StratifiedDifference, StratifiedRatio, proportion_interval};
use anytime_stats::merge::{MergePlan, OpenWindow};
use anytime_stats::overdispersion::{Halves, one_scale, two_scale};
use anytime_stats::risk_difference::project;
use anytime_stats::{
    AbsoluteLimit, Against, Divergence, EDetector, Exceedance, GaugePlan, GaugeProcess, HarmProcess, Measure, PairedMargin, Pairs,
    PlugInRate, ProofProcess, RateRatio, RiskDifference, SampleRatio, Side, Strata, Tally, Window, drift, fixed, quantile,
};
use proptest::prelude::*;

const SIDES: [Side; 2] = [Side::Harm, Side::Proof];

/// Possible counts, from none to astronomically many.
fn tally() -> impl Strategy<Value = Tally> {
    (prop_oneof![0.0..50.0_f64, 0.0..1e6_f64, 0.0..1e15_f64], 0.0..=1.0_f64).prop_map(|(n, share)| {
        let total = n.floor();
        Tally::new((share * total).floor(), total)
    })
}

fn window() -> impl Strategy<Value = Window> {
    (tally(), tally()).prop_map(|(a, b)| Window::new(a, b))
}

fn small_window() -> impl Strategy<Value = Window> {
    (1..3000_u32, 0.0..0.5_f64, 1..600_u32, 0.0..0.5_f64).prop_map(|(n_a, a, n_b, b)| {
        let arm = |n: u32, share: f64| Tally::new((f64::from(n) * share).floor(), f64::from(n));
        Window::new(arm(n_a, a), arm(n_b, b))
    })
}

/// Any number at all, as broken inputs have it.
fn wild() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), Just(0.0), Just(f64::MAX), Just(f64::MIN_POSITIVE), -10.0..10.0_f64, 0.0..1e9_f64]
}

fn wild_window() -> impl Strategy<Value = Window> {
    (wild(), wild(), wild(), wild()).prop_map(|(a, b, c, d)| Window::new(Tally::new(a, b), Tally::new(c, d)))
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

fn harm_of(windows: &[Window], margin: f64) -> HarmProcess {
    let test = RiskDifference::new(margin).unwrap();
    let mut rate = PlugInRate::new(0.08, 1000.0);
    let mut process = HarmProcess::new(RiskDifference::weights(Side::Harm), 0.5, 20, Some(2.0)).unwrap();
    for window in windows {
        process.grid_point();
        process.absorb(&test.log_increments(Side::Harm, rate.rate(), window), 1.3);
        rate.absorb(window.champion);
    }
    process
}

proptest! {
    #[test]
    fn the_projection_does_not_care_which_arm_is_called_what(
        a in 0.001..0.999_f64, b in 0.001..0.999_f64, n_a in 1.0..1e6_f64, n_b in 1.0..1e6_f64, d in -0.9..0.9_f64,
    ) {
        let here = project(a, b, n_a, n_b, 1.0, d).unwrap();
        let swapped = project(b, a, n_b, n_a, 1.0, -d).unwrap();
        prop_assert!(close(here.0, swapped.1) && close(here.1, swapped.0), "{:?} {:?}", here, swapped);
        let mirrored = project(1.0 - a, 1.0 - b, n_a, n_b, 1.0, -d).unwrap();
        prop_assert!(close(here.0, 1.0 - mirrored.0) && close(here.1, 1.0 - mirrored.1), "{:?} {:?}", here, mirrored);
    }

    #[test]
    fn more_candidate_failures_never_lower_the_evidence_of_harm(
        windows in prop::collection::vec(small_window(), 1..6), which in any::<prop::sample::Index>(), margin in 0.005..0.1_f64,
    ) {
        let mut worse = windows.clone();
        let candidate = &mut worse[which.index(windows.len())].candidate;
        prop_assume!(candidate.bad < candidate.total);
        candidate.bad += 1.0;
        prop_assert!(harm_of(&worse, margin).log_e() >= harm_of(&windows, margin).log_e() - 1e-12);
    }

    #[test]
    fn a_split_window_says_the_same_as_the_whole_one(
        x_a in 0..40_u32, x_b in 0..40_u32, n_a in 50.0..500.0_f64, n_b in 50.0..500.0_f64, first_a in 0..40_u32, first_b in 0..40_u32, part in 0.1..0.9_f64,
    ) {
        let (first_a, first_b) = (f64::from(first_a.min(x_a)), f64::from(first_b.min(x_b)));
        let whole = Window::new(Tally::new(f64::from(x_a), n_a), Tally::new(f64::from(x_b), n_b));
        let one = Window::new(Tally::new(first_a, n_a * part), Tally::new(first_b, n_b * part));
        let two = Window::new(Tally::new(f64::from(x_a) - first_a, n_a * (1.0 - part)), Tally::new(f64::from(x_b) - first_b, n_b * (1.0 - part)));
        let test = RateRatio::new(1.25).unwrap();
        for side in SIDES {
            let parts = test.log_increments(side, &one).into_iter().zip(test.log_increments(side, &two)).map(|(a, b)| a + b);
            for (sum, all) in parts.zip(test.log_increments(side, &whole)) {
                prop_assert!(close(sum, all), "{side:?} {sum} {all}");
            }
        }
    }

    #[test]
    fn pairs_add_up_over_windows(b in 0..50_u32, c in 0..50_u32, m in 0..500_u32, margin in -0.2..0.2_f64) {
        let test = PairedMargin::new(margin).unwrap();
        let pairs = |scale: f64| Pairs { champion_only: f64::from(b) * scale, candidate_only: f64::from(c) * scale, tied: f64::from(m) * scale };
        for side in SIDES {
            for (one, three) in test.log_increments(side, &pairs(1.0)).into_iter().zip(test.log_increments(side, &pairs(3.0))) {
                prop_assert!(close(3.0 * one, three));
            }
        }
    }

    #[test]
    fn a_checkpoint_in_the_middle_changes_nothing(windows in prop::collection::vec(small_window(), 2..10), cut in any::<prop::sample::Index>()) {
        let whole = harm_of(&windows, 0.02);
        let cut = cut.index(windows.len());
        let test = RiskDifference::new(0.02).unwrap();
        let mut rate = PlugInRate::new(0.08, 1000.0);
        windows[..cut].iter().for_each(|w| rate.absorb(w.champion));
        let text = serde_json::to_string(&(harm_of(&windows[..cut], 0.02), rate)).unwrap();
        let (mut process, mut rate): (HarmProcess, PlugInRate) = serde_json::from_str(&text).unwrap();
        for window in &windows[cut..] {
            process.grid_point();
            process.absorb(&test.log_increments(Side::Harm, rate.rate(), window), 1.3);
            rate.absorb(window.champion);
        }
        prop_assert!(close(process.log_e(), whole.log_e()), "{} {}", process.log_e(), whole.log_e());
        prop_assert_eq!(process.checkpoint().points, whole.checkpoint().points);
    }

    #[test]
    fn an_empty_window_adds_nothing(margin in 0.005..0.2_f64, windows in prop::collection::vec(small_window(), 1..4)) {
        let mut process = harm_of(&windows, margin);
        let before = process.log_e();
        let test = RiskDifference::new(margin).unwrap();
        process.absorb(&test.log_increments(Side::Harm, 0.08, &Window::default()), 1.0);
        process.absorb(&[], 1.0);
        prop_assert!(close(process.log_e(), before));
    }

    #[test]
    fn large_counts_give_finite_evidence(window in window(), margin in -0.5..0.5_f64, ratio in 0.01..100.0_f64, guess in 0.0..=1.0_f64) {
        prop_assume!(margin.abs() > 1e-6);
        let (difference, ratio, limit) =
            (RiskDifference::new(margin).unwrap(), RateRatio::new(ratio).unwrap(), Exceedance::new(margin.abs()).unwrap());
        for side in SIDES {
            for ell in difference.log_increments(side, guess, &window).into_iter()
                .chain(ratio.log_increments(side, &window))
                .chain(limit.log_increments(side, window.candidate))
                .chain([limit.log_e(side, window.candidate)])
            {
                prop_assert!(ell.is_finite());
            }
        }
    }

    #[test]
    fn no_input_panics_or_makes_a_process_undefined(
        windows in prop::collection::vec(wild_window(), 1..8), rates in prop::collection::vec(wild(), 8), phi in wild(),
    ) {
        let test = RiskDifference::new(0.02).unwrap();
        let ratio = RateRatio::new(1.25).unwrap();
        let plan = AbsoluteLimitPlan { limit: 0.05, blame_ratio: BLAME_RATIO, horizon: 3, cap_harm: None, cap_proof: None, or_not_worse: true };
        let mut limit = AbsoluteLimit::new(&plan).unwrap();
        let mut harm = HarmProcess::new(RateRatio::weights(Side::Harm), 0.5, 3, None).unwrap();
        let mut proof = ProofProcess::new(RiskDifference::weights(Side::Proof), None).unwrap();
        let mut detector = EDetector::new(&[1.0; 6], Some(3.0)).unwrap();
        let mut share = SampleRatio::new(&[0.9, 0.1]).unwrap();
        let (mut difference, mut mantel) = (StratifiedDifference::default(), StratifiedRatio::default());
        let mut rate = PlugInRate::new(rates[0], rates[1]);
        for (window, guess) in windows.iter().zip(&rates) {
            harm.grid_point();
            harm.absorb(&ratio.log_increments(Side::Harm, window), phi);
            proof.absorb(&test.log_increments(Side::Proof, *guess, window), phi);
            proof.absorb(&test.log_increments(Side::Proof, rate.rate(), window), phi);
            detector.grid_point();
            detector.absorb(&test.log_increments(Side::Harm, *guess, window), phi);
            limit.grid_point();
            limit.absorb_harm(window, phi);
            limit.absorb_proof(window, phi);
            share.absorb(&[window.champion.total, window.candidate.total]);
            rate.absorb(window.champion);
            difference.absorb(window, phi);
            mantel.absorb(window, phi);
            prop_assert!(rate.rate() > 0.0 && rate.rate() < 1.0);
            for log_e in [harm.log_e(), proof.log_e(), detector.log_sr(), share.log_e(), limit.log_e_harm(), limit.log_e_proof()] {
                prop_assert!(log_e.is_finite());
            }
            for interval in [difference.interval(0.05, 10.0), mantel.interval(0.05, 10.0), proportion_interval(window.candidate, 0.05, 1000.0)]
                .into_iter()
                .flatten()
            {
                prop_assert!(interval.lower <= interval.estimate && interval.estimate <= interval.upper, "{interval:?}");
            }
            let _ = (fixed::newcombe(window, 0.95), fixed::score_interval(window, 0.95, fixed::Restricted::Likelihood));
        }
    }

    #[test]
    fn gauges_and_estimates_survive_any_values(values in prop::collection::vec(wild(), 0..60), margin in wild(), history in prop::option::of(1e-6..1e6_f64)) {
        let plan = GaugePlan { planned_batches: 100.0, alpha: 0.05, history_variance: history };
        for mut gauge in [GaugeProcess::difference(plan).unwrap(), GaugeProcess::level(plan).unwrap()] {
            for v in &values {
                gauge.absorb(*v);
            }
            for side in SIDES {
                prop_assert!(gauge.log_e(side, margin).is_finite());
            }
            let _ = (gauge.interval(0.05), gauge.evaluate(margin));
        }
        let tallies: Vec<Tally> = values.windows(2).map(|p| Tally::new(p[0], p[1])).collect();
        let halves: Vec<Halves> = tallies.windows(2).map(|p| Halves { a: p[0], b: p[1] }).collect();
        let phi = one_scale(&tallies).map_or(1.0, |o| o.overdispersion().phi(margin, 10.0));
        prop_assert!(phi >= 1.0);
        if let Some(two) = two_scale(&halves, &halves) {
            prop_assert!(two.overdispersion.phi(100.0, margin) >= 1.0);
        }
        let _ = (drift::psi(&values, &values, 0.5, 0.05), drift::ks_binned(&values, &values), quantile::interpolated_quantile(0.9, &[(1.0, margin)]));
    }

    #[test]
    fn a_gauges_incremental_sums_equal_the_definition(values in prop::collection::vec(-50.0..50.0_f64, 12..60), offset in -1e4..1e4_f64) {
        let plan = GaugePlan { planned_batches: 100.0, alpha: 0.05, history_variance: None };
        let mut gauge = GaugeProcess::level(plan).unwrap();
        let shifted: Vec<f64> = values.iter().map(|v| v + offset).collect();
        for v in &shifted {
            gauge.absorb(*v);
        }
        let n = shifted.len() as f64;
        let mean = shifted.iter().sum::<f64>() / n;
        let variance = shifted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        prop_assume!(variance.sqrt() > 1e-2 * mean.abs());
        let lagged = shifted.windows(2).map(|p| (p[0] - mean) * (p[1] - mean)).sum::<f64>() / (n - 1.0);
        let correlation = ((lagged / variance).clamp(0.0, 0.95) + 1.0 / n.sqrt()).min(0.95);
        let got = gauge.evaluate(0.0).unwrap();
        prop_assert!((got.mean - mean).abs() < 1e-8 && (got.variance / variance - 1.0).abs() < 1e-8);
        prop_assert!((got.correlation - correlation).abs() < 1e-6, "{} {}", got.correlation, correlation);
    }

    #[test]
    fn counters_conserve_every_request(
        steps in prop::collection::vec((0..100_u32, 0..100_u32, any::<bool>(), any::<bool>()), 1..30),
    ) {
        // One target; `seen` says whether its scrape succeeded, `restart` that the process restarted just before. What was counted after the last
        // restart and before the last scrape must all be charged, except what a restart destroyed unseen.
        let mut machine = TargetWindows::new();
        let (mut total, mut bad, mut start) = (0.0, 0.0, -1.0);
        let (mut unseen, mut expected) = ((0.0, 0.0), (0.0, 0.0));
        let mut charged = Window::default();
        machine.observe(0.0, &[sample(start, Some((0.0, 0.0)))]);
        for (instant, (more, bad_percent, seen, restart)) in steps.into_iter().enumerate() {
            if restart {
                (total, bad, start) = (0.0, 0.0, instant as f64 + 0.5);
                unseen = (0.0, 0.0);
            }
            let fresh = (f64::from(more * bad_percent / 100), f64::from(more));
            bad += fresh.0;
            total += fresh.1;
            unseen.0 += fresh.0;
            unseen.1 += fresh.1;
            if seen {
                expected.0 += unseen.0;
                expected.1 += unseen.1;
                unseen = (0.0, 0.0);
            }
            let window = machine.observe(instant as f64 + 1.0, &[sample(start, seen.then_some((bad, total)))]).unwrap();
            prop_assert!(window.unmeasurable.is_empty());
            charged += window.counts;
        }
        prop_assert_eq!((charged.candidate.bad, charged.candidate.total), expected);
    }

    #[test]
    fn merged_windows_lose_nothing_and_ignore_outcomes(ticks in prop::collection::vec((0..15_u32, 0..3_u32, any::<bool>()), 1..200)) {
        let plan = MergePlan { min_trials: 20.0, max_age: 60.0 };
        let (mut open, mut blind) = (OpenWindow::new(plan).unwrap(), OpenWindow::new(plan).unwrap());
        let (mut fed, mut closed) = (Window::default(), Window::default());
        for (i, (a, b, fails)) in ticks.into_iter().enumerate() {
            let (a, b, at) = (f64::from(a), f64::from(b), i as f64 * 5.0);
            let outcome = if fails { 1.0 } else { 0.0 };
            let tick = Window::new(Tally::new(a * outcome, a), Tally::new(b * outcome, b));
            fed += tick;
            let window = open.absorb(at, at + 5.0, tick);
            let other = blind.absorb(at, at + 5.0, Window::new(Tally::new(0.0, a), Tally::new(0.0, b)));
            prop_assert_eq!(window.map(|w| (w.start, w.end)), other.map(|w| (w.start, w.end)));
            if let Some(w) = window {
                prop_assert!(w.end - w.start <= 60.0);
                closed += w.counts;
            }
        }
        closed += open.pending();
        prop_assert_eq!(closed, fed);
    }
}

fn sample(start: f64, counts: Option<(f64, f64)>) -> TargetSample {
    TargetSample {
        arm: Arm::Candidate,
        target: "pod".into(),
        start_time: Some(start),
        total: counts.map(|(_, total)| total),
        bad: counts.map(|(bad, _)| bad),
    }
}

#[test]
fn every_state_survives_json() {
    fn round_trip<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(state: &T) {
        assert_eq!(&serde_json::from_str::<T>(&serde_json::to_string(state).unwrap()).unwrap(), state);
    }
    let window = Window::new(Tally::new(210.0, 2700.0), Tally::new(27.0, 300.0));
    round_trip(&HarmProcess::new(&[1.0, 3.0], 0.5, 8, Some(2.0)).unwrap());
    round_trip(&harm_of(&[window], 0.02).checkpoint().points);
    round_trip(&ProofProcess::new(&[1.0, 3.0], None).unwrap());
    round_trip(&EDetector::new(&[1.0, 3.0], None).unwrap());
    round_trip(&PlugInRate::from_first_window(window.champion));
    round_trip(&SampleRatio::new(&[0.75, 0.25]).unwrap());
    round_trip(&GaugeProcess::level(GaugePlan { planned_batches: 12.0, alpha: 0.05, history_variance: Some(0.25) }).unwrap());
    let plan =
        AbsoluteLimitPlan { limit: 0.5, blame_ratio: BLAME_RATIO, horizon: 3, cap_harm: None, cap_proof: Some(1.0), or_not_worse: true };
    round_trip(&AbsoluteLimit::new(&plan).unwrap());
    let mut open = OpenWindow::new(MergePlan::default()).unwrap();
    open.absorb(0.0, 5.0, Window::new(Tally::new(1.0, 2.0), Tally::default()));
    round_trip(&open);
}

const MEASURES: [Measure; 4] = [Measure::Psi, Measure::JensenShannon, Measure::CramersV, Measure::KolmogorovSmirnov];

proptest! {
    #[test]
    fn distances_of_any_counts_are_defined_or_refused(reference in proptest::collection::vec(wild(), 1..6), live in proptest::collection::vec(wild(), 1..6), bound in wild()) {
        let mut strata = Strata::default();
        strata.absorb(&reference, &live);
        for measure in MEASURES {
            for against in [Against::Counts(&reference), Against::Shares(&reference)] {
                let Some(found) = Divergence::of(measure, against, &live) else { continue };
                prop_assert!(found.value() >= 0.0, "{:?}", found);
                for p in [found.p_at_most(bound), found.p_at_least(bound)] {
                    prop_assert!((0.0..=1.0).contains(&p), "{:?} {}", found, p);
                }
                let bounds = found.bounds(0.025);
                prop_assert!(bounds.lower <= bounds.upper, "{:?} {:?}", found, bounds);
            }
        }
    }

    #[test]
    fn a_higher_bound_is_harder_to_exceed_and_easier_to_prove(
        counts in proptest::collection::vec((0..500_u32, 0..500_u32), 2..8),
        bounds in (0.001..0.9_f64, 0.001..0.9_f64),
    ) {
        let (reference, live): (Vec<f64>, Vec<f64>) = counts.iter().map(|(r, l)| (f64::from(*r), f64::from(*l))).unzip();
        let (low, high) = (bounds.0.min(bounds.1), bounds.0.max(bounds.1));
        for measure in MEASURES {
            let Some(found) = Divergence::of(measure, Against::Counts(&reference), &live) else { continue };
            prop_assert!(found.p_at_most(high) >= found.p_at_most(low) * (1.0 - 1e-9));
            prop_assert!(found.p_at_least(high) <= found.p_at_least(low) * (1.0 + 1e-9));
        }
    }

    #[test]
    fn the_order_of_bins_and_of_windows_changes_no_index(windows in proptest::collection::vec((1..200_u32, 1..200_u32, 1..200_u32, 1..50_u32, 1..50_u32, 1..50_u32), 1..6)) {
        let rows: Vec<([f64; 3], [f64; 3])> = windows
            .iter()
            .map(|(a, b, c, d, e, f)| ([*a, *b, *c].map(f64::from), [*d, *e, *f].map(f64::from)))
            .collect();
        let (mut forth, mut back) = (Strata::default(), Strata::default());
        for (reference, live) in &rows {
            forth.absorb(reference, live);
        }
        for (r, l) in rows.iter().rev() {
            back.absorb(&[r[2], r[0], r[1]], &[l[2], l[0], l[1]]);
        }
        for measure in [Measure::Psi, Measure::JensenShannon, Measure::CramersV] {
            let of = |s: &Strata| Divergence::of(measure, Against::Counts(&s.reference(1.0)), &s.live(1.0)).unwrap().value();
            prop_assert!(close(of(&forth), of(&back)));
        }
        prop_assert!(forth.size(false) <= forth.totals().0 && forth.size(false) <= forth.totals().1 * (1.0 + 1e-9));
    }
}
