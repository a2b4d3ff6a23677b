//! Error rates of drift by simulation: how often a distance that lies exactly on its bound is said to be above or below it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use anytime_stats::{Against, Divergence, Measure};

const RUNS: u32 = 200;

/// The `SplitMix64` generator: enough randomness for simulations, no dependency.
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn draw(dice: &mut Dice, shares: &[f64], n: u32) -> Vec<f64> {
    let mut counts = vec![0.0; shares.len()];
    for _ in 0..n {
        let mut left = dice.unit();
        let bin = shares.iter().position(|share| {
            left -= share;
            left < 0.0
        });
        counts[bin.unwrap_or(shares.len() - 1)] += 1.0;
    }
    counts
}

/// `p` moved towards `to` until it is `bound` away.
fn moved(measure: Measure, p: &[f64], to: &[f64], bound: f64) -> Vec<f64> {
    let at = |part: f64| p.iter().zip(to).map(|(p, t)| p + part * (t - p)).collect::<Vec<f64>>();
    let huge = |shares: &[f64]| shares.iter().map(|s| s * 1e12).collect::<Vec<f64>>();
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        let found = Divergence::of(measure, Against::Counts(&huge(p)), &huge(&at(middle))).unwrap().value();
        if found < bound { low = middle } else { high = middle }
    }
    at(low)
}

#[test]
fn a_distance_on_its_bound_is_seldom_called_more_or_less() {
    let mut dice = Dice(7);
    let flat = [0.1; 10];
    let skewed = [0.5, 0.25, 0.12, 0.06, 0.03, 0.02, 0.01, 0.005, 0.003, 0.002];
    let (mut first, mut last) = ([0.0; 10], [0.0; 10]);
    (first[0], last[9]) = (1.0, 1.0);
    for (measure, bound) in [
        (Measure::Psi, 0.1),
        (Measure::Psi, 0.25),
        (Measure::JensenShannon, 0.02),
        (Measure::CramersV, 0.2),
        (Measure::KolmogorovSmirnov, 0.1),
    ] {
        for (p, to, name) in [(flat, first, "an even mix"), (skewed, last, "rare bins")] {
            let q = moved(measure, &p, &to, bound);
            let (mut above, mut below) = (0, 0);
            for _ in 0..RUNS {
                let (reference, live) = (draw(&mut dice, &p, 1_000), draw(&mut dice, &q, 400));
                let found = Divergence::of(measure, Against::Counts(&reference), &live).unwrap();
                above += u32::from(found.p_at_most(bound) < 0.05);
                below += u32::from(found.p_at_least(bound) < 0.05);
            }
            // Nominal 10 of 200 and three standard errors; with bins that have a handful of trials the approximation costs a few more.
            let limit = if name == "rare bins" { 26 } else { 20 };
            assert!(above <= limit && below <= limit, "{measure:?} {bound} {name}: above {above}, below {below} of {RUNS}");
        }
    }
}
