//! How far two binned distributions are apart, with confidence bounds: an effect must be large *and* significant before anyone is alarmed, and small
//! *and* significant before anyone is reassured. It judges one look; [`crate::looks`] pays for many.
//!
//! For small shifts four measures are the same thing in other units, and so have the same sampling behaviour ([`Measure`] has the units):
//!
//! ```text
//! D = PSI = Σ(q−p) ln(q/p)   ≈   8·JS (nats)   ≈   4·V²,      D/(1/N+1/M) ~ χ'²_{B−1}(D_true/(1/N+1/M))
//! ```
//!
//! so that "D_true ≤ d" is rejected at `P(χ'²(d/u) ≥ D/u)` and "D_true ≥ d" at `P(χ'²(d/u) ≤ D/u)`, `u = 1/N+1/M`. Far from equality a rare bin makes the
//! index wider than that: where its variance by the delta method exceeds `4uD`, `u` is enlarged by as much. The Kolmogorov–Smirnov distance has bounds of
//! its own, from Hoeffding's inequality (upper) and from the tail of Kolmogorov's law (lower).
//!
//! Sources: Yurdakul & Naranjo, *Statistical properties of the population stability index* (2020); Lin, *Divergence measures based on the Shannon
//! entropy* (1991); Hoeffding (1963). Divide counts by the over-dispersion before they come here.

use serde::{Deserialize, Serialize};

use crate::math::{ndtri, noncentral_chi2_cdf, noncentral_chi2_sf, noncentral_chi2_sf_rough};
use crate::window::Interval;

/// What is added to every counted bin, so that an empty one has a logarithm.
const SMOOTHING: f64 = 0.5;
/// Least share of a bin whose shares are given: it sets what an empty bin costs.
const LEAST_SHARE: f64 = 1e-4;
/// Least p-value: below it the series has no digits left.
const LEAST_P: f64 = 1e-16;

/// What the distance is measured by. Its bounds are numbers in the same unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    /// Population stability index, `Σ(q−p) ln(q/p)`: 0 and more, without a unit.
    Psi,
    /// Jensen–Shannon divergence in bits: 0 to 1.
    JensenShannon,
    /// Cramér's V of the two distributions, each counted as one half of the table so that it does not depend on how traffic is split: 0 to 1.
    CramersV,
    /// Largest distance of the cumulative shares, on bins in order: 0 to 1.
    KolmogorovSmirnov,
}

impl Measure {
    /// Whether the value cannot exceed 1.
    pub const fn is_bounded(self) -> bool {
        !matches!(self, Self::Psi)
    }

    /// A value of the measure on the scale of the PSI; not for Kolmogorov–Smirnov.
    pub(crate) fn on_the_scale_of_psi(self, value: f64) -> f64 {
        match self {
            Self::Psi | Self::KolmogorovSmirnov => value,
            Self::JensenShannon => 8.0 * std::f64::consts::LN_2 * value,
            Self::CramersV => 4.0 * value * value,
        }
    }

    /// The inverse of [`Self::on_the_scale_of_psi`].
    fn value(self, scaled: f64) -> f64 {
        match self {
            Self::Psi | Self::KolmogorovSmirnov => scaled,
            Self::JensenShannon => scaled / 8.0 / std::f64::consts::LN_2,
            Self::CramersV => (scaled / 4.0).sqrt(),
        }
    }

    /// A tenth of the distance at `bound`, in the unit of the measure: indices grow with the square of a distance.
    pub fn tenth(self, bound: f64) -> f64 {
        match self {
            Self::Psi | Self::JensenShannon => bound / 100.0,
            Self::CramersV | Self::KolmogorovSmirnov => bound / 10.0,
        }
    }

    /// What part of the distance at `bound` the distance at `value` is.
    pub fn part_of_distance(self, value: f64, bound: f64) -> f64 {
        match self {
            Self::Psi | Self::JensenShannon => (value / bound).sqrt(),
            Self::CramersV | Self::KolmogorovSmirnov => value / bound,
        }
    }

    /// The `1/(1/N+1/M)` at which twice `bound` is usually told from `bound` at one in a million; a size for blocks that are looked at one by one.
    pub fn telling_size(self, bound: f64) -> f64 {
        match self {
            Self::Psi | Self::JensenShannon => 200.0 / self.on_the_scale_of_psi(bound),
            // Twice the distance is four times the index.
            Self::CramersV => 50.0 / self.on_the_scale_of_psi(bound),
            Self::KolmogorovSmirnov => 10.0 / (bound * bound),
        }
    }

    /// The `1/(1/N+1/M)` from which on two equal distributions of `bins` bins are usually proven to differ by less than `bound` at the one-sided level
    /// `alpha`: before, a look would be wasted.
    pub fn least_size(self, bound: f64, bins: usize, alpha: f64) -> f64 {
        if self == Self::KolmogorovSmirnov {
            return -alpha.ln() / (2.0 * bound * bound);
        }
        let (z, dof) = (ndtri(1.0 - alpha), bins.saturating_sub(1).max(1) as f64);
        let square = z * z;
        (2.0 * square + (4.0 * square * square + 2.0 * dof * square).sqrt()) / self.on_the_scale_of_psi(bound)
    }
}

/// What the live distribution is compared with.
#[derive(Clone, Copy, Debug)]
pub enum Against<'a> {
    /// Counts per bin.
    Counts(&'a [f64]),
    /// Shares per bin that are known for certain.
    Shares(&'a [f64]),
}

/// The distance of two distributions at one look.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    measure: Measure,
    /// In the unit of the measure.
    value: f64,
    /// On the scale of the PSI.
    scaled: f64,
    /// The same without what smoothing takes off where a bin is rare.
    unsmoothed: f64,
    /// `1/N+1/M`.
    unit: f64,
    /// Occupied bins minus one.
    dof: f64,
    /// At least 1: how much wider it is than near equality.
    inflation: f64,
}

/// Shares of both sides in the occupied bins, and their sizes.
struct Shares {
    p: Vec<f64>,
    q: Vec<f64>,
    n: f64,
    m: f64,
}

impl Divergence {
    /// The distance of the counts `live` to `reference`, bin by bin; bins in order for Kolmogorov–Smirnov.
    ///
    /// `None` with fewer than two occupied bins, unequal numbers of bins, counts that are negative or not finite, or an empty side.
    pub fn of(measure: Measure, reference: Against<'_>, live: &[f64]) -> Option<Self> {
        let Shares { p, q, n, m } = shares(measure, reference, live)?;
        let unit = 1.0 / m + if n.is_finite() { 1.0 / n } else { 0.0 };
        let dof = p.len() as f64 - 1.0;
        if measure == Measure::KolmogorovSmirnov {
            let value = largest_step(&p, &q);
            return Some(Self { measure, value, scaled: value, unsmoothed: value, unit, dof, inflation: 1.0 });
        }
        let (mut scaled, mut live_part, mut reference_part) = (0.0, Spread::default(), Spread::default());
        for (p, q) in p.iter().copied().zip(q.iter().copied()) {
            let (term, by_q, by_p) = term(measure, p, q);
            scaled += term;
            live_part.absorb(q, by_q);
            reference_part.absorb(p, by_p);
        }
        let unsmoothed = match (measure, reference) {
            (Measure::Psi, Against::Counts(counts)) => scaled.max(psi_without_smoothing(counts, live)),
            _ => scaled,
        };
        let variance = live_part.variance() / m + if n.is_finite() { reference_part.variance() / n } else { 0.0 };
        let inflation = variance / (4.0 * unit * scaled);
        let inflation = if inflation.is_finite() { inflation.max(1.0) } else { 1.0 };
        let found = Self { measure, value: measure.value(scaled), scaled, unsmoothed, unit, dof, inflation };
        (scaled.is_finite() && unit.is_finite()).then_some(found)
    }

    /// The estimate, in the unit of the measure; it is biased upward by chance, which the bounds allow for.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The estimate without what chance alone brings on average.
    pub fn likely(&self) -> f64 {
        match self.measure {
            Measure::KolmogorovSmirnov => self.value,
            measure => measure.value((self.scaled - self.dof * self.unit).max(0.0)),
        }
    }

    /// p-value of "the true distance is at most `bound`".
    pub fn p_at_most(&self, bound: f64) -> f64 {
        if self.measure == Measure::KolmogorovSmirnov {
            let beyond = (self.value - bound).max(0.0);
            return defined(2.0 * (-2.0 * beyond * beyond / self.unit).exp());
        }
        let unit = self.unit * self.inflation;
        defined(noncentral_chi2_sf(self.scaled / unit, self.dof, self.measure.on_the_scale_of_psi(bound) / unit))
    }

    /// p-value of "the true distance is at least `bound`".
    pub fn p_at_least(&self, bound: f64) -> f64 {
        if self.measure == Measure::KolmogorovSmirnov {
            let room = (bound - self.value).max(0.0);
            return defined((-2.0 * room * room / self.unit).exp());
        }
        // Nor must the smoothing, which makes a rare bin less rare.
        let at = |unit: f64| noncentral_chi2_cdf(self.unsmoothed / unit, self.dof, self.measure.on_the_scale_of_psi(bound) / unit);
        // A larger unit takes more off for chance, which must not help a proof.
        defined(at(self.unit)).max(defined(at(self.unit * self.inflation)))
    }

    /// Estimate and the one-sided bounds of level `alpha` each, for this look alone. For people: to about a ten-thousandth and a thousandth of the level.
    pub fn bounds(&self, alpha: f64) -> Interval {
        // What is bounded by 1 may be that and a rounding.
        let most = if self.measure.is_bounded() { self.value.max(1.0) } else { 100.0 * (1.0 + self.value) };
        let lower = if self.rough_at_most(0.0) < alpha { halve(0.0, self.value, |x| self.rough_at_most(x) < alpha) } else { 0.0 };
        // From a little above the estimate outward, until a distance is rejected.
        let mut step = self.measure.value(self.unit.min(1.0)).max(1e-6);
        while self.value + step < most && self.rough_at_least(self.value + step) >= alpha {
            step *= 2.0;
        }
        let upper = if self.value + step < most { halve(self.value, self.value + step, |x| self.rough_at_least(x) >= alpha) } else { most };
        Interval { estimate: self.value, lower, upper }
    }

    fn rough_at_most(&self, bound: f64) -> f64 {
        if self.measure == Measure::KolmogorovSmirnov {
            return self.p_at_most(bound);
        }
        let unit = self.unit * self.inflation;
        defined(noncentral_chi2_sf_rough(self.scaled / unit, self.dof, self.measure.on_the_scale_of_psi(bound) / unit))
    }

    fn rough_at_least(&self, bound: f64) -> f64 {
        if self.measure == Measure::KolmogorovSmirnov {
            return self.p_at_least(bound);
        }
        let scaled = self.measure.on_the_scale_of_psi(bound);
        let at = |unit: f64| 1.0 - noncentral_chi2_sf_rough(self.unsmoothed / unit, self.dof, scaled / unit);
        defined(at(self.unit)).max(defined(at(self.unit * self.inflation)))
    }
}

/// A p-value; where numbers overflowed it says nothing.
fn defined(p: f64) -> f64 {
    if p.is_nan() { 1.0 } else { p.clamp(LEAST_P, 1.0) }
}

/// Where `holds` stops to hold between `low` and `high`.
fn halve(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..14 {
        let middle = f64::midpoint(low, high);
        if holds(middle) { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// One bin's part on the scale of the PSI, and its derivatives by the live and by the reference share.
fn term(measure: Measure, p: f64, q: f64) -> (f64, f64, f64) {
    let ln_over = |own: f64, middle: f64| if own > 0.0 { (own / middle).ln() } else { 0.0 };
    match measure {
        Measure::Psi | Measure::KolmogorovSmirnov => {
            let log = (q / p).ln();
            ((q - p) * log, log + 1.0 - p / q, 1.0 - log - q / p)
        }
        Measure::JensenShannon => {
            let middle = f64::midpoint(p, q);
            let (of_q, of_p) = (ln_over(q, middle), ln_over(p, middle));
            (4.0 * (q * of_q + p * of_p), 4.0 * of_q, 4.0 * of_p)
        }
        Measure::CramersV => {
            let (sum, gap) = (p + q, q - p);
            let by = |other: f64, own: f64| 2.0 * gap * (own + 3.0 * other) / (sum * sum);
            (2.0 * gap * gap / sum, by(p, q), -by(q, p))
        }
    }
}

/// Variance of a derivative over one distribution.
#[derive(Default)]
struct Spread {
    mean: f64,
    square: f64,
}

impl Spread {
    fn absorb(&mut self, share: f64, derivative: f64) {
        self.mean += share * derivative;
        self.square += share * derivative * derivative;
    }

    fn variance(&self) -> f64 {
        (self.square - self.mean * self.mean).max(0.0)
    }
}

/// The index with empty bins raised to half a count and all others as they are.
fn psi_without_smoothing(reference: &[f64], live: &[f64]) -> f64 {
    let occupied = || reference.iter().zip(live).filter(|(r, l)| **r > 0.0 || **l > 0.0).map(|(r, l)| (r.max(SMOOTHING), l.max(SMOOTHING)));
    let (n, m) = occupied().fold((0.0, 0.0), |(n, m), (r, l)| (n + r, m + l));
    occupied().map(|(r, l)| term(Measure::Psi, r / n, l / m).0).sum()
}

fn largest_step(p: &[f64], q: &[f64]) -> f64 {
    let (mut below, mut largest) = (0.0, 0.0_f64);
    for (p, q) in p.iter().zip(q) {
        below += q - p;
        largest = largest.max(below.abs());
    }
    largest
}

/// Shares in the bins that have anything; smoothed where logarithms are taken.
fn shares(measure: Measure, reference: Against<'_>, live: &[f64]) -> Option<Shares> {
    let (Against::Counts(given) | Against::Shares(given)) = reference;
    let is_valid = |values: &[f64]| values.iter().all(|value| value.is_finite() && *value >= 0.0);
    if given.len() != live.len() || !is_valid(given) || !is_valid(live) {
        return None;
    }
    let occupied: Vec<(f64, f64)> = given.iter().copied().zip(live.iter().copied()).filter(|(r, l)| *r > 0.0 || *l > 0.0).collect();
    let (n, m): (f64, f64) = (occupied.iter().map(|(r, _)| r).sum(), occupied.iter().map(|(_, l)| l).sum());
    if occupied.len() < 2 || n <= 0.0 || m <= 0.0 || !(n + m).is_finite() {
        return None;
    }
    let smoothing = if measure == Measure::Psi { SMOOTHING } else { 0.0 };
    let bins = occupied.len() as f64;
    let q = occupied.iter().map(|(_, l)| (l + smoothing) / (m + smoothing * bins)).collect();
    let (p, n) = match reference {
        Against::Counts(_) => (occupied.iter().map(|(r, _)| (r + smoothing) / (n + smoothing * bins)).collect(), n),
        Against::Shares(_) => {
            let raised: Vec<f64> = occupied.iter().map(|(r, _)| (r / n).max(LEAST_SHARE)).collect();
            let sum: f64 = raised.iter().sum();
            (raised.into_iter().map(|share| share / sum).collect(), f64::INFINITY)
        }
    };
    Some(Shares { p, q, n, m })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift;

    const MEASURES: [Measure; 4] = [Measure::Psi, Measure::JensenShannon, Measure::CramersV, Measure::KolmogorovSmirnov];

    #[test]
    fn values_are_those_of_the_single_measures() {
        let (reference, live) = ([400.0, 300.0, 200.0, 100.0], [90.0, 80.0, 20.0, 10.0]);
        let of = |measure| Divergence::of(measure, Against::Counts(&reference), &live).unwrap();
        let psi = drift::psi(&reference, &live, 0.5, 0.05).unwrap();
        assert!((of(Measure::Psi).value() - psi.psi).abs() < 1e-12);
        assert!((of(Measure::Psi).p_at_most(0.0) / psi.p_value - 1.0).abs() < 0.5, "the same but for the allowance for rare bins");
        let nats = drift::jensen_shannon(&reference, &live).unwrap();
        assert!((of(Measure::JensenShannon).value() * std::f64::consts::LN_2 - nats).abs() < 1e-12);
        assert!((of(Measure::KolmogorovSmirnov).value() - drift::ks_binned(&reference, &live).unwrap().distance).abs() < 1e-12);
        // With arms of one size the table's own V.
        let fifth: Vec<f64> = reference.iter().map(|r| r / 5.0).collect();
        let table = drift::chi2_contingency(&[fifth.clone(), live.to_vec()]).unwrap();
        assert!((Divergence::of(Measure::CramersV, Against::Counts(&fifth), &live).unwrap().value() - table.cramers_v).abs() < 1e-12);
    }

    #[test]
    fn derivatives_are_those_of_the_terms() {
        for measure in [Measure::Psi, Measure::JensenShannon, Measure::CramersV] {
            let (p, q, h) = (0.2, 0.31, 1e-6);
            let slope = |dp: f64, dq: f64| (term(measure, p + dp, q + dq).0 - term(measure, p - dp, q - dq).0) / (2.0 * h);
            let (_, by_q, by_p) = term(measure, p, q);
            assert!((slope(0.0, h) - by_q).abs() < 1e-6 && (slope(h, 0.0) - by_p).abs() < 1e-6, "{measure:?}");
        }
    }

    #[test]
    fn more_of_the_same_counts_is_more_certain_either_way() {
        for measure in MEASURES {
            let at = |scale: f64| {
                let (reference, live) = ([40.0, 30.0, 30.0].map(|c| c * scale), [55.0, 25.0, 20.0].map(|c| c * scale));
                Divergence::of(measure, Against::Counts(&reference), &live).unwrap()
            };
            let (few, many) = (at(10.0), at(100.0));
            let (below, above) = (few.value() * 0.5, few.value() * 1.8);
            assert!(many.p_at_most(below) < few.p_at_most(below) && many.p_at_least(above) < few.p_at_least(above), "{measure:?}");
            let bounds = many.bounds(0.025);
            assert!(bounds.lower < bounds.estimate && bounds.estimate < bounds.upper, "{measure:?} {bounds:?}");
            assert!((many.p_at_least(bounds.upper) / 0.025 - 1.0).abs() < 0.1, "{measure:?} {bounds:?}");
        }
    }

    #[test]
    fn at_the_least_size_what_chance_usually_brings_is_just_proven() {
        for measure in [Measure::Psi, Measure::JensenShannon, Measure::CramersV] {
            for bins in [2, 10, 64] {
                let (size, dof) = (measure.least_size(0.1, bins, 0.025), bins as f64 - 1.0);
                let p = noncentral_chi2_cdf(dof, dof, size * measure.on_the_scale_of_psi(0.1));
                assert!((0.001..0.04).contains(&p), "{measure:?} {bins} {p}");
            }
        }
        let size = Measure::KolmogorovSmirnov.least_size(0.1, 9, 0.025);
        assert!(((-2.0 * size * 0.01).exp() - 0.025).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let of = |reference: &[f64], live: &[f64]| Divergence::of(Measure::Psi, Against::Counts(reference), live);
        assert!(of(&[1.0], &[1.0]).is_none() && of(&[1.0, 2.0], &[1.0]).is_none() && of(&[0.0, 0.0], &[1.0, 2.0]).is_none());
        assert!(of(&[1.0, f64::NAN], &[1.0, 2.0]).is_none() && of(&[5.0, 0.0], &[3.0, 0.0]).is_none());
        let known = Divergence::of(Measure::Psi, Against::Shares(&[0.5, 0.5, 0.0]), &[40.0, 40.0, 20.0]).unwrap();
        assert!(known.value() > 1.0, "a bin that was never seen in the reference costs, and not without end: {known:?}");
    }
}
