//! How much the rate of a whole arm wobbles over time beyond chance, from second differences of its own windows: a shock that all of its targets share,
//! which differences between them ([`crate::overdispersion`]) cannot show. It cannot tell what moves one arm from what moves both alike; once two arms
//! are watched, [`Agreement`] can.
//!
//! With windows of equal length, `d_t = p_{t−1} − 2p_t + p_{t+1}` and `v_t = p̄_t(1−p̄_t)(1/n_{t−1} + 4/n_t + 1/n_{t+1})`, `p̄_t` pooled over the three,
//!
//! ```text
//! q_t = d_t²/v_t,   h₀ = median(q)/0.4549,   h = mean(min(q, 6.63·h₀))/0.9816
//! ```
//!
//! 0.4549 is the median of a χ² with one degree of freedom, 6.63 its 99 % quantile, 0.9816 the mean of one that is capped there. A straight line has no
//! second differences, so the course of the day does not count; the cap keeps a few incidents, which come and go, from passing for a wobble. Successive
//! `q` of independent windows are correlated (the correlations of `d` are −2/3 and 1/6, those of `q` 4/9 and 1/36), so the relative standard error of
//! `h` is `√(3.89/k)` with `k` differences.
//!
//! Assumes proportions, at least [`LEAST_EVENTS`] bad and good events per window (else a square is not nearly that of a normal variable), and that the
//! past wobbles as the future does. Source: von Neumann's successive differences, at second order; median and cap as in robust scale estimates.

use serde::{Deserialize, Serialize};

use crate::overdispersion::Overdispersion;
use crate::window::{Tally, Window};

const MEDIAN_OF_CHI2: f64 = 0.4549;
const CAP: f64 = 6.63;
const MEAN_BELOW_CAP: f64 = 0.9816;
const ERROR: f64 = 3.89;
/// Differences below which nothing is said.
const ENOUGH: f64 = 4.0;
/// Differences after which more of them change little.
const SETTLED: f64 = 48.0;
/// Inverse share of shocks that second differences of windows three times as long show: `(6·(2+2/3) − 8/6)/(6·3) = 0.81`.
const STRADDLING: f64 = 1.25;
/// Share of shocks that first differences of windows of the same length show: mean of `w² + (1−w)² − w(1−w)` over where they begin.
const SHOWN: f64 = 0.5;
/// Mean bad and good events per window below which nothing is said.
pub const LEAST_EVENTS: f64 = 5.0;

/// Variance of an arm's rate between windows, in units of what chance alone would give.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wobble {
    /// The ratio `h`; 1 for independent requests.
    pub ratio: f64,
    /// Its relative standard error.
    pub error: f64,
    /// Mean requests of a window.
    pub size: f64,
}

/// Running estimate of an arm's [`Wobble`] at one scale, in bounded memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SecondDifferences {
    #[serde(rename = "b")]
    before: [Option<Tally>; 2],
    #[serde(rename = "q")]
    squares: Squares,
    #[serde(rename = "n")]
    size: f64,
    #[serde(rename = "p")]
    pooled: Tally,
}

impl SecondDifferences {
    /// Adds the arm's next window; `None` for one that could not be counted.
    pub fn absorb(&mut self, window: Option<Tally>) {
        let [first, second] = self.before;
        self.before = [second, window];
        let (Some(first), Some(second), Some(third)) = (first, second, window) else { return };
        if let Some(square) = square(first, second, third) {
            self.squares.add(square);
            self.size += second.total;
            self.pooled += second;
        }
    }

    /// Whether enough was seen for more of it to change little.
    pub fn is_settled(&self) -> bool {
        self.squares.count() >= SETTLED
    }

    /// What is known so far; `None` below 4 differences, or where events are too rare.
    pub fn wobble(&self) -> Option<Wobble> {
        let k = self.squares.count();
        let rarer = self.pooled.bad.min(self.pooled.total - self.pooled.bad);
        if k < ENOUGH || rarer < LEAST_EVENTS * k {
            return None;
        }
        let ratio = self.squares.capped_mean(CAP * self.squares.median()? / MEDIAN_OF_CHI2) / MEAN_BELOW_CAP;
        ratio.is_finite().then_some(Wobble { ratio, error: (ERROR / k).sqrt(), size: self.size / k })
    }
}

fn square(before: Tally, now: Tally, after: Tally) -> Option<f64> {
    let mut all = before;
    all += now;
    all += after;
    let rate = all.rate().filter(|_| [before, now, after].iter().all(|t| t.is_proportion() && t.total > 0.0))?;
    let difference = before.rate()? - 2.0 * now.rate()? + after.rate()?;
    let variance = rate * (1.0 - rate) * (1.0 / before.total + 4.0 / now.total + 1.0 / after.total);
    (variance > 0.0).then(|| difference * difference / variance)
}

/// Numbers by size, in bins a quarter of an octave wide: enough for a median and a capped mean, without keeping them all. Holds the bins that are not
/// empty, smallest numbers first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Squares(Vec<(u8, u32)>);

const PER_OCTAVE: f64 = 4.0;
/// The lowest bin ends here, in octaves; what is below counts as nothing.
const LOWEST: f64 = -10.0;
const HIGHEST_BIN: f64 = 120.0;

impl Squares {
    fn add(&mut self, value: f64) {
        let place = ((value.max(f64::MIN_POSITIVE).log2() - LOWEST) * PER_OCTAVE + 1.0).clamp(0.0, HIGHEST_BIN);
        // The clamp keeps it inside the bins.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let place = place as u8;
        match self.0.binary_search_by_key(&place, |(bin, _)| *bin) {
            Ok(index) => self.0.iter_mut().skip(index).take(1).for_each(|(_, content)| *content = content.saturating_add(1)),
            Err(index) => self.0.insert(index, (place, 1)),
        }
    }

    fn count(&self) -> f64 {
        self.0.iter().map(|(_, content)| f64::from(*content)).sum()
    }

    /// Lower and upper edge and content of each bin.
    fn each(&self) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        let edge = |bin: u8| ((f64::from(bin) - 1.0) / PER_OCTAVE + LOWEST).exp2();
        self.0.iter().map(move |(bin, content)| (if *bin == 0 { 0.0 } else { edge(*bin) }, edge(bin + 1), f64::from(*content)))
    }

    fn median(&self) -> Option<f64> {
        let (half, mut below) = (self.count() / 2.0, 0.0);
        for (from, to, content) in self.each() {
            if below + content >= half {
                return Some(from + (to - from) * (half - below) / content);
            }
            below += content;
        }
        None
    }

    fn capped_mean(&self, cap: f64) -> f64 {
        self.each().map(|(from, to, content)| f64::midpoint(from, to).min(cap) * content).sum::<f64>() / self.count()
    }
}

/// Clump and correlation that explain a wobble at a short scale and one at a longer scale, as [`crate::overdispersion::two_scale`] does. A correlation is
/// believed where the longer one is larger by more than two of the standard errors that it has without any, so that chance alone seldom slows anything
/// down; it is then taken 1.25 times as large as it shows, because shocks straddle windows: of those a third as long as the windows second differences
/// show 0.81 on average.
pub fn explained(short: &Wobble, long: &Wobble) -> Overdispersion {
    let (longer, excess) = (long.size - short.size, long.ratio - short.ratio);
    let is_shown = longer > 0.0 && excess > 2.0 * long.error * short.ratio.max(1.0);
    let icc = if is_shown { STRADDLING * excess / longer } else { 0.0 };
    Overdispersion::beside(icc, (short.ratio, short.size))
}

/// Whether two arms that are watched together wobble apart by as much as one of them did alone: successive differences of candidate minus champion, in
/// which a constant effect and whatever moves both arms cancel.
///
/// The share of the expected excess that is found is clipped to \[0, 1\], so that a candidate that wobbles more cannot buy patience by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    #[serde(rename = "l")]
    last: Option<(f64, f64)>,
    #[serde(rename = "q")]
    squares: f64,
    #[serde(rename = "e")]
    expected: f64,
    #[serde(rename = "k")]
    differences: f64,
}

impl Agreement {
    /// Adds one closed window of both arms, for which the champion's own wobble lets expect an over-dispersion of `phi`. A window without both arms, or
    /// without any event, breaks the series.
    pub fn absorb(&mut self, window: &Window, phi: f64) {
        let usable = window.champion.is_proportion() && window.candidate.is_proportion() && window.has_both_arms();
        let variance = variance(window);
        let now = window.candidate.rate().zip(window.champion.rate()).map(|(one, other)| (one - other, variance));
        let now = now.filter(|_| usable && variance > 0.0);
        if let (Some((value, variance)), Some((before, before_variance))) = (now, self.last) {
            // A lasting change is one step, not a wobble.
            self.squares += ((value - before).powi(2) / (variance + before_variance)).min(CAP * phi);
            self.expected += phi;
            self.differences += 1.0;
        }
        self.last = now;
    }

    /// Nothing is compared across a break.
    pub fn interrupt(&mut self) {
        self.last = None;
    }

    /// Share of the expected excess that counts, in \[0, 1\]: 1 while nothing is known. It is too large rather than too small: half of the excess counts
    /// as all of it, because shocks straddle windows, and what is found gets the benefit of the doubt. The mean of `k` squares whose neighbours are
    /// correlated by 1/4 is as sure as that of `ν = 2k/3` independent ones, and with one standard error of its cube root (Wilson and Hilferty) at most
    /// `mean / (1 − 2/(9ν) − √(2/(9ν)))³`.
    pub fn share(&self) -> f64 {
        let k = self.differences;
        let spread = 2.0 / (9.0 * k * 2.0 / 3.0);
        let least = 1.0 - spread - spread.sqrt();
        let expected = SHOWN * (self.expected - k);
        if k < 1.0 || least <= 0.0 || expected <= 0.0 {
            return 1.0;
        }
        ((self.squares / least.powi(3) - k) / expected).clamp(0.0, 1.0)
    }
}

/// Sampling variance of candidate minus champion.
fn variance(window: &Window) -> f64 {
    let of = |arm: Tally| arm.rate().map_or(0.0, |rate| rate * (1.0 - rate) / arm.total);
    of(window.candidate) + of(window.champion)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nearly normal numbers with mean 0 and variance 1: sums of four uniform ones.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f64 {
            let sum: f64 = (0..4)
                .map(|_| {
                    self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (self.0 >> 11) as f64 / (1_u64 << 53) as f64
                })
                .sum();
            (sum - 2.0) * 3.0_f64.sqrt()
        }
    }

    /// Counts of `n` requests at a rate, with chance.
    fn tally(noise: &mut Noise, rate: f64, n: f64) -> Tally {
        Tally::new((n * rate + noise.next() * (n * rate * (1.0 - rate)).sqrt()).round(), n)
    }

    fn of(count: usize, seed: u64, rate: impl Fn(usize, &mut Noise) -> f64) -> SecondDifferences {
        let (mut noise, mut sums) = (Noise(seed), SecondDifferences::default());
        for i in 0..count {
            let rate = rate(i, &mut noise);
            sums.absorb(Some(tally(&mut noise, rate, 5_000.0)));
        }
        sums
    }

    #[test]
    fn a_days_course_is_no_wobble_and_shocks_are() {
        let day = |i: usize, _: &mut Noise| 0.09 + 0.05 * (i as f64 / 144.0 * std::f64::consts::TAU).cos();
        for seed in 0..20 {
            let calm = of(288, seed, day).wobble().unwrap();
            assert!((calm.ratio - 1.0).abs() < 3.5 * calm.error * calm.ratio, "{calm:?}");
            // Shocks of 0.77 points beside chance of 0.384: 1 + (0.77/0.384)² = 5.
            let shaken = of(288, seed, |_, noise| 0.08 + 0.0077 * noise.next()).wobble().unwrap();
            assert!((shaken.ratio - 5.0).abs() < 3.5 * shaken.error * shaken.ratio, "{shaken:?}");
        }
    }

    #[test]
    fn a_few_incidents_are_no_wobble() {
        let found = of(288, 3, |i, _| if i % 60 == 7 { 0.4 } else { 0.08 }).wobble().unwrap();
        assert!(found.ratio < 1.8, "{found:?}");
    }

    #[test]
    fn too_little_too_rare_or_broken_says_nothing() {
        assert_eq!(of(5, 1, |_, _| 0.08).wobble(), None, "3 differences");
        assert!(of(6, 1, |_, _| 0.08).wobble().is_some());
        let mut rare = SecondDifferences::default();
        (0..288).for_each(|_| rare.absorb(Some(Tally::new(1.0, 5_000.0))));
        assert_eq!(rare.wobble(), None);
        let (mut noise, mut broken) = (Noise(5), SecondDifferences::default());
        (0..288).for_each(|i| broken.absorb((i % 3 > 0).then(|| tally(&mut noise, 0.08, 5_000.0))));
        assert_eq!(broken.wobble(), None, "no three in a row");
        assert_eq!(SecondDifferences::default().wobble(), None);
    }

    #[test]
    fn bins_give_nearly_what_all_numbers_give() {
        let (mut noise, mut squares) = (Noise(9), Squares::default());
        let mut all: Vec<f64> = (0..2_000).map(|_| 3.0 * noise.next().powi(2)).collect();
        for q in &all {
            squares.add(*q);
        }
        all.sort_by(f64::total_cmp);
        let mean = all.iter().map(|q| q.min(12.0)).sum::<f64>() / 2_000.0;
        assert!((squares.median().unwrap() / all[1_000] - 1.0).abs() < 0.03);
        assert!((squares.capped_mean(12.0) / mean - 1.0).abs() < 0.03);
        for extreme in [0.0, f64::MIN_POSITIVE, f64::MAX, f64::INFINITY] {
            squares.add(extreme);
        }
        assert!(squares.capped_mean(12.0).is_finite());
    }

    #[test]
    fn clumps_at_both_scales_are_no_shock() {
        let wobble = |ratio, size| Wobble { ratio, error: 0.1, size };
        let clumps = explained(&wobble(3.0, 100.0), &wobble(3.05, 1_000.0));
        assert!((clumps.clump - 3.0).abs() < 1e-12 && clumps.icc.abs() < 1e-12);
        let shock = explained(&wobble(1.18, 100.0), &wobble(2.8, 1_000.0));
        assert!((shock.icc - 0.002_25).abs() < 1e-12 && (shock.clump - 1.0).abs() < 1e-9, "{shock:?}");
        assert!(explained(&wobble(2.0, 10.0), &wobble(9.0, 10.0)).icc.abs() < 1e-12, "scales of one size tell nothing");
    }

    #[test]
    fn what_moves_both_arms_loses_its_weight_and_what_moves_one_keeps_it() {
        let (mut noise, mut together, mut apart) = (Noise(11), Agreement::default(), Agreement::default());
        for _ in 0..60 {
            let (one, other) = (0.08 + 0.02 * noise.next(), 0.08 + 0.02 * noise.next());
            // Chance of the difference is 1.17 points; independent shocks of 2 points in both arms make φ = 1 + 2·(2/1.17)².
            let candidate = tally(&mut noise, one, 600.0);
            together.absorb(&Window::new(tally(&mut noise, one, 5_400.0), candidate), 6.8);
            apart.absorb(&Window::new(tally(&mut noise, other, 5_400.0), candidate), 6.8);
        }
        assert!(together.share() < 0.25, "{}", together.share());
        assert!(apart.share() > 0.6, "{}", apart.share());
        assert!((Agreement::default().share() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_larger_the_shock_that_does_not_show_the_sooner_it_is_forgotten() {
        let calm = |phi: f64, windows: u64| {
            let (mut noise, mut agreement) = (Noise(17), Agreement::default());
            for _ in 0..=windows {
                let window = Window::new(tally(&mut noise, 0.08, 5_400.0), tally(&mut noise, 0.08, 600.0));
                agreement.absorb(&window, phi);
            }
            agreement.share() * (phi - 1.0)
        };
        assert!(calm(200.0, 1) > 198.0, "one difference says nothing");
        assert!(calm(200.0, 4) < 20.0 && calm(200.0, 16) < 3.0, "{} {}", calm(200.0, 4), calm(200.0, 16));
        assert!(calm(3.0, 4) > 1.0, "{}", calm(3.0, 4));
    }

    #[test]
    fn a_candidate_that_wobbles_more_buys_no_patience_and_a_break_is_no_difference() {
        let mut agreement = Agreement::default();
        for i in 0..30 {
            let rate = if i % 2 == 0 { 0.02 } else { 0.4 };
            agreement.absorb(&Window::new(Tally::new(80.0, 1_000.0), Tally::new(1_000.0 * rate, 1_000.0)), 2.0);
        }
        assert!(agreement.share() <= 1.0);
        let before = agreement;
        agreement.interrupt();
        agreement.absorb(&Window::new(Tally::new(80.0, 1_000.0), Tally::new(80.0, 1_000.0)), 2.0);
        assert!((agreement.differences - before.differences).abs() < 1e-12);
    }
}
