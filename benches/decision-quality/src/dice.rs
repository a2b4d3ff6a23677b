//! Chance, by seed: one stream per scenario and run, so that a run is the same whatever runs beside it and on however many threads.
//! The samplers are exact (`rand_distr`); nothing is approximated by a normal distribution.

use rand_distr::{Beta, Binomial, Distribution as _, Poisson, StandardNormal, StandardUniform};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::SeedableRng as _;

/// A stream of random numbers.
pub struct Dice(Pcg64Mcg);

impl Dice {
    /// The stream of one run of one scenario.
    pub fn new(seed: u64, scenario: &str, run: u64) -> Self {
        let name = scenario.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(Pcg64Mcg::seed_from_u64(mix(mix(seed ^ name).wrapping_add(run))))
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        StandardUniform.sample(&mut self.0)
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    /// Poisson; 0 for a mean that is not positive.
    pub fn poisson(&mut self, mean: f64) -> f64 {
        Poisson::new(mean).map_or(0.0, |poisson| poisson.sample(&mut self.0))
    }

    /// Binomial with `n` a whole number; `p` is clamped to [0, 1].
    pub fn binomial(&mut self, n: f64, p: f64) -> f64 {
        // Counts of one scrape fit easily; a negative count is none.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, small and not negative")]
        let n = n.max(0.0) as u64;
        Binomial::new(n, p.clamp(0.0, 1.0)).map_or(0.0, |binomial| binomial.sample(&mut self.0) as f64)
    }

    /// Beta with mean `mean` and intra-class correlation `icc`; the mean itself where that has no density.
    pub fn beta(&mut self, mean: f64, icc: f64) -> f64 {
        let strength = 1.0 / icc - 1.0;
        Beta::new(mean * strength, (1.0 - mean) * strength).map_or(mean, |beta| beta.sample(&mut self.0))
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea & Flood 2014).
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_moments_they_claim() {
        let mut dice = Dice::new(7, "moments", 0);
        let n = 20_000;
        let mean = |draws: &[f64]| draws.iter().sum::<f64>() / draws.len() as f64;
        let poisson: Vec<f64> = (0..n).map(|_| dice.poisson(30.0)).collect();
        assert!((mean(&poisson) - 30.0).abs() < 0.2, "{}", mean(&poisson));
        let binomial: Vec<f64> = (0..n).map(|_| dice.binomial(300.0, 0.08)).collect();
        assert!((mean(&binomial) - 24.0).abs() < 0.2, "{}", mean(&binomial));
        let beta: Vec<f64> = (0..n).map(|_| dice.beta(0.08, 0.002)).collect();
        let spread = mean(&beta.iter().map(|b| (b - 0.08).powi(2)).collect::<Vec<_>>());
        assert!((spread / (0.08 * 0.92 * 0.002) - 1.0).abs() < 0.05, "{spread}");
    }

    #[test]
    fn streams_depend_on_seed_scenario_and_run_alone() {
        let first = |seed, name, run| Dice::new(seed, name, run).unit();
        assert!((first(1, "a", 0) - first(1, "a", 0)).abs() < f64::EPSILON);
        for other in [first(2, "a", 0), first(1, "b", 0), first(1, "a", 1)] {
            assert!((first(1, "a", 0) - other).abs() > 1e-12);
        }
    }
}
