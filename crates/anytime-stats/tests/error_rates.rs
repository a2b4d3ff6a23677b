//! Error rates by simulation with fixed seeds: looking after every window at a candidate exactly on its margin, or a healthy one, and counting wrong
//! decisions. Small enough for every test run; limits leave room for the simulation's own error.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "a test may panic")]

use anytime_stats::{GaugePlan, GaugeProcess, HarmProcess, PlugInRate, ProofProcess, RateRatio, RiskDifference, Side, Tally, Window};

/// The `SplitMix64` generator: enough randomness for simulations, no dependency.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn tally(&mut self, n: u32, p: f64) -> Tally {
        Tally::new((0..n).filter(|_| self.uniform() < p).count() as f64, f64::from(n))
    }
}

/// Share of runs in which harm or proof ever reaches 1/α = 20, over 60 windows with a base rate that cycles and a share of traffic that is raised.
fn crossings(runs: u32, effect: f64) -> (f64, f64) {
    let test = RiskDifference::new(0.02).unwrap();
    let (mut harmed, mut proven) = (0.0, 0.0);
    for run in 0..runs {
        let mut random = Random(u64::from(run) * 7919 + 1);
        let mut rate = PlugInRate::new(0.08, 200.0);
        let mut harm = HarmProcess::new(RiskDifference::weights(Side::Harm), 0.5, 60, None).unwrap();
        let mut proof = ProofProcess::new(RiskDifference::weights(Side::Proof), None).unwrap();
        let (mut harm_crossed, mut proof_crossed) = (false, false);
        for t in 0..60_u32 {
            let base = 0.08 + 0.04 * (f64::from(t) / 10.0).sin();
            let candidate_n = if t < 30 { 30 } else { 150 };
            let window = Window::new(random.tally(300 - candidate_n, base), random.tally(candidate_n, base + effect));
            harm.grid_point();
            harm.absorb(&test.log_increments(Side::Harm, rate.rate(), &window), 1.0);
            proof.absorb(&test.log_increments(Side::Proof, rate.rate(), &window), 1.0);
            rate.absorb(window.champion);
            harm_crossed |= harm.log_e() >= 20.0_f64.ln();
            proof_crossed |= proof.log_e() >= 20.0_f64.ln();
        }
        harmed += f64::from(u8::from(harm_crossed));
        proven += f64::from(u8::from(proof_crossed));
    }
    (harmed / f64::from(runs), proven / f64::from(runs))
}

#[test]
fn on_the_margin_both_errors_stay_below_alpha_although_traffic_and_base_rate_move() {
    let (harmed, proven) = crossings(400, 0.02);
    assert!(harmed <= 0.05 && proven <= 0.05, "{harmed} {proven}");
}

#[test]
fn a_large_regression_is_found_and_an_equal_candidate_is_never_condemned() {
    let (harmed, proven) = crossings(60, 0.12);
    assert!(harmed >= 0.95 && proven <= 0.02, "{harmed} {proven}");
    let (harmed, proven) = crossings(60, 0.0);
    assert!(harmed <= 0.02 && proven >= 0.6, "{harmed} {proven}");
}

#[test]
fn rare_events_keep_their_level_at_no_increase() {
    let test = RateRatio::new(1.0).unwrap();
    let runs = 300_u32;
    let mut crossed = 0.0;
    for run in 0..runs {
        let mut random = Random(u64::from(run) + 99);
        let mut harm = HarmProcess::new(RateRatio::weights(Side::Harm), 0.5, 100, None).unwrap();
        let hit = (0..100).any(|_| {
            let window = Window::new(random.tally(270, 0.005), random.tally(30, 0.005));
            harm.grid_point();
            harm.absorb(&test.log_increments(Side::Harm, &window), 1.0);
            harm.log_e() >= 20.0_f64.ln()
        });
        crossed += f64::from(u8::from(hit));
    }
    assert!(crossed / f64::from(runs) <= 0.05, "{crossed}");
}

/// Batch means of an AR(1) process sampled twenty times per batch.
fn autocorrelated_errors(runs: u32, correlation: f64, history: bool, level: bool) -> (f64, f64) {
    let (mut proven, mut harmed) = (0.0, 0.0);
    // Long-run variance of one batch of twenty samples of a unit-variance AR(1) difference.
    let long_run = (1.0 + correlation) / (1.0 - correlation) / 20.0;
    for run in 0..runs {
        let mut random = Random(u64::from(run) * 31 + 5);
        let plan = GaugePlan { planned_batches: 144.0, alpha: 0.05, history_variance: history.then_some(long_run) };
        let mut gauge = if level { GaugeProcess::level(plan) } else { GaugeProcess::difference(plan) }.unwrap();
        let truth = if level { 30.0 } else { 2.0 };
        let mut x = random.normal();
        let (mut wrong_proof, mut wrong_harm) = (false, false);
        for _ in 0..288 {
            let mut sum = 0.0;
            for _ in 0..20 {
                x = correlation * x + (1.0 - correlation * correlation).sqrt() * random.normal();
                sum += x;
            }
            gauge.absorb(truth + sum / 20.0);
            wrong_proof |= gauge.log_e(Side::Proof, truth) >= 20.0_f64.ln();
            wrong_harm |= gauge.log_e(Side::Harm, truth) >= 20.0_f64.ln();
        }
        proven += f64::from(u8::from(wrong_proof));
        harmed += f64::from(u8::from(wrong_harm));
    }
    (proven / f64::from(runs), harmed / f64::from(runs))
}

#[test]
fn gauges_keep_their_level_under_strong_autocorrelation() {
    for (correlation, history, level) in
        [(0.5, true, false), (0.95, true, false), (0.95, false, false), (0.95, false, true), (0.99, false, true)]
    {
        let (proven, harmed) = autocorrelated_errors(300, correlation, history, level);
        assert!(proven <= 0.07 && harmed <= 0.07, "{correlation} history={history} level={level}: {proven} {harmed}");
    }
}
