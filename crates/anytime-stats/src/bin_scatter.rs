//! Over-dispersion of counts per bin, from the champion alone and as a running sum: [`crate::overdispersion`] for more than two outcomes.
//! It cannot see shocks that last longer than its longest windows.
//!
//! The champion's targets are in two halves A and B; per bin `y_j = p_Aj − p_Bj`, `v = 1/n_A + 1/n_B`, or one target's own shares. At each scale s
//!
//! ```text
//! h(s) = 1/(B−1) · Σ_j mean_t[(y_j,t − y_j,t−1)²/(v_t+v_{t−1})] / p̄_j
//! ```
//!
//! which for two bins is the `h(s)` of [`crate::overdispersion`], and 1 for independent requests (Pearson's statistic over its degrees of freedom).

use serde::{Deserialize, Serialize};

use crate::overdispersion::{Overdispersion, largest_phi};

/// Lengths of the windows in seconds, shortest first.
const SCALES: [f64; 3] = [60.0, 300.0, 1800.0];
/// Successive differences below which an estimate is noise.
const ENOUGH_SHORT: f64 = 5.0;
const ENOUGH_LONG: f64 = 4.0;

/// Running estimate. The state is a checkpoint: it continues after a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BinScatter {
    scales: [Scale; 3],
}

/// Running sums at one scale; vectors are by bin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Scale {
    #[serde(rename = "t")]
    seconds: f64,
    #[serde(rename = "a")]
    half_a: Vec<f64>,
    #[serde(rename = "b")]
    half_b: Vec<f64>,
    #[serde(rename = "l")]
    last: Option<Observed>,
    /// Sums of squares, and of all counts.
    #[serde(rename = "q")]
    squares: Vec<f64>,
    #[serde(rename = "p")]
    pooled: Vec<f64>,
    #[serde(rename = "k")]
    pairs: f64,
    #[serde(rename = "n")]
    size: f64,
    #[serde(rename = "w")]
    windows: f64,
}

/// What a window showed: values per bin, their variance in units of the outcomes' own, and whether there were two halves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Observed {
    #[serde(rename = "y")]
    values: Vec<f64>,
    #[serde(rename = "v")]
    variance: f64,
    #[serde(rename = "h")]
    halves: bool,
}

impl BinScatter {
    /// Adds the champion's counts per bin of one tick, by halves of its targets.
    pub fn absorb(&mut self, seconds: f64, half_a: &[f64], half_b: &[f64]) {
        for (scale, length) in self.scales.iter_mut().zip(SCALES) {
            scale.absorb(seconds, half_a, half_b, length);
        }
    }

    /// φ of a window with these numbers of trials; at least 1, and 1 until enough was seen.
    pub fn phi(&self, champion: f64, candidate: f64) -> f64 {
        largest_phi(&self.estimates(), champion, candidate)
    }

    fn estimates(&self) -> Vec<Overdispersion> {
        let [short, long @ ..] = &self.scales;
        let Some(h_short) = short.ratio(ENOUGH_SHORT) else { return Vec::new() };
        let mut estimates = vec![Overdispersion { clump: h_short.max(1.0), icc: 0.0 }];
        for long in long {
            let Some(h_long) = long.ratio(ENOUGH_LONG) else { continue };
            let longer = long.mean_size() - short.mean_size();
            let icc = if longer > 0.0 { ((h_long - h_short) / longer).max(0.0) } else { 0.0 };
            estimates.push(Overdispersion { clump: (h_short - icc * (short.mean_size() - 1.0)).max(1.0), icc });
        }
        estimates.retain(|e| e.clump.is_finite() && e.icc.is_finite());
        estimates
    }
}

impl Scale {
    fn absorb(&mut self, seconds: f64, half_a: &[f64], half_b: &[f64], length: f64) {
        self.seconds += seconds;
        add(&mut self.half_a, half_a);
        add(&mut self.half_b, half_b);
        if self.seconds + 1e-9 < length {
            return;
        }
        self.seconds = 0.0;
        let (a, b) = (std::mem::take(&mut self.half_a), std::mem::take(&mut self.half_b));
        let (n_a, n_b): (f64, f64) = (a.iter().sum(), b.iter().sum());
        let (values, variance, halves) = match (n_a > 0.0, n_b > 0.0) {
            (true, true) => {
                let bins = a.len().max(b.len());
                let share = |counts: &[f64], bin: usize, n: f64| counts.get(bin).copied().unwrap_or(0.0) / n;
                ((0..bins).map(|bin| share(&a, bin, n_a) - share(&b, bin, n_b)).collect(), 1.0 / n_a + 1.0 / n_b, true)
            }
            (true, false) => (a.iter().map(|count| count / n_a).collect::<Vec<f64>>(), 1.0 / n_a, false),
            (false, true) => (b.iter().map(|count| count / n_b).collect(), 1.0 / n_b, false),
            (false, false) => return,
        };
        let now = Observed { values, variance, halves };
        add(&mut self.pooled, &a);
        add(&mut self.pooled, &b);
        self.size += if halves { f64::midpoint(n_a, n_b) } else { n_a + n_b };
        self.windows += 1.0;
        // A target that came or went changes what is compared: such a pair says nothing.
        if let Some(before) = self.last.replace(now).filter(|before| before.halves == halves) {
            let bins = before.values.len().max(self.last.as_ref().map_or(0, |now| now.values.len()));
            let of = |observed: &Observed, bin: usize| observed.values.get(bin).copied().unwrap_or(0.0);
            if let Some(now) = &self.last {
                let unit = now.variance + before.variance;
                let squares: Vec<f64> = (0..bins).map(|bin| (of(now, bin) - of(&before, bin)).powi(2) / unit).collect();
                add(&mut self.squares, &squares);
                self.pairs += 1.0;
            }
        }
    }

    /// `h` at this scale; `None` before `enough` differences, or with one bin.
    fn ratio(&self, enough: f64) -> Option<f64> {
        let total: f64 = self.pooled.iter().sum();
        let occupied = self.pooled.iter().filter(|count| **count > 0.0).count();
        if self.pairs < enough || occupied < 2 {
            return None;
        }
        let sum: f64 = self.squares.iter().zip(&self.pooled).filter(|(_, p)| **p > 0.0).map(|(square, p)| square / (p / total)).sum();
        Some(sum / self.pairs / (occupied as f64 - 1.0)).filter(|h| h.is_finite())
    }

    fn mean_size(&self) -> f64 {
        self.size / self.windows.max(1.0)
    }
}

fn add(sums: &mut Vec<f64>, counts: &[f64]) {
    if sums.len() < counts.len() {
        sums.resize(counts.len(), 0.0);
    }
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overdispersion::{Halves, two_scale};
    use crate::window::Tally;

    /// Wrong and right answers of two halves; the first has a shock that lasts five windows.
    fn rows(count: u32, jitter: f64, shock: f64) -> Vec<[f64; 4]> {
        (0..count)
            .map(|i| {
                let (wobble, slow) = (f64::from(i * 7919 % 23) / 23.0, if (i / 5) % 2 == 0 { shock } else { -shock });
                let (a, b) = ((20.0 + jitter * wobble + slow).round(), (24.0 - 9.0 * wobble).round());
                [a, 300.0 - a, b, 300.0 - b]
            })
            .collect()
    }

    #[test]
    fn two_bins_are_a_proportion() {
        // Without clumps and with them: in the second, what is seen at the short scale is more than the shocks explain.
        for (jitter, shock, is_clumped) in [(12.0, 6.0, false), (60.0, 19.0, true)] {
            let rows = rows(30, jitter, shock);
            let mut scatter = BinScatter::default();
            for [a, not_a, b, not_b] in &rows {
                scatter.absorb(60.0, &[*a, *not_a], &[*b, *not_b]);
            }
            let short: Vec<Halves> =
                rows.iter().map(|[a, _, b, _]| Halves { a: Tally::new(*a, 300.0), b: Tally::new(*b, 300.0) }).collect();
            let long: Vec<Halves> = short
                .chunks(5)
                .map(|c| {
                    c.iter().fold(Halves::default(), |mut sum, h| {
                        sum.a += h.a;
                        sum.b += h.b;
                        sum
                    })
                })
                .collect();
            let reference = two_scale(&short, &long).unwrap().overdispersion;
            assert_eq!((reference.icc > 0.0, reference.clump > 1.0), (true, is_clumped), "{reference:?}");
            assert!((scatter.phi(2700.0, 300.0) - reference.phi(2700.0, 300.0)).abs() < 1e-9);
        }
    }

    #[test]
    fn a_champion_of_one_target_is_compared_with_its_own_past() {
        let rows = rows(30, 60.0, 19.0);
        let (mut first, mut second, mut both) = (BinScatter::default(), BinScatter::default(), BinScatter::default());
        for [a, not_a, b, not_b] in &rows {
            first.absorb(60.0, &[*a, *not_a], &[]);
            second.absorb(60.0, &[], &[*a, *not_a]);
            both.absorb(60.0, &[*a, *not_a], &[*b, *not_b]);
        }
        assert_eq!(first.phi(2700.0, 300.0).to_bits(), second.phi(2700.0, 300.0).to_bits());
        // The second half is the steadier one: without it all of the scatter is the first one's own.
        assert!(first.phi(2700.0, 300.0) > both.phi(2700.0, 300.0) && both.phi(2700.0, 300.0) > 1.0);
    }

    #[test]
    fn answers_that_come_in_threes_count_a_third() {
        let (mut once, mut thrice) = (BinScatter::default(), BinScatter::default());
        let mut state = 1_u64;
        let mut draw = || {
            let mut counts = [0.0; 4];
            for _ in 0..200 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if let Some(count) = counts.get_mut((state >> 62) as usize) {
                    *count += 1.0;
                }
            }
            counts
        };
        for _ in 0..200 {
            let (a, b) = (draw(), draw());
            once.absorb(60.0, &a, &b);
            thrice.absorb(60.0, &a.map(|c| 3.0 * c), &b.map(|c| 3.0 * c));
        }
        let (single, triple) = (once.phi(200.0, 200.0), thrice.phi(600.0, 600.0));
        assert!(single < 1.25 && triple > 2.4 && triple < 4.0, "{single} {triple}");
    }

    #[test]
    fn one_bin_and_few_windows_say_nothing() {
        let mut scatter = BinScatter::default();
        for _ in 0..4 {
            scatter.absorb(60.0, &[5.0, 1.0], &[2.0, 4.0]);
        }
        assert!((scatter.phi(10.0, 10.0) - 1.0).abs() < 1e-12);
        let mut one = BinScatter::default();
        for _ in 0..40 {
            one.absorb(60.0, &[5.0], &[3.0]);
        }
        assert!((one.phi(10.0, 10.0) - 1.0).abs() < 1e-12);
    }
}
