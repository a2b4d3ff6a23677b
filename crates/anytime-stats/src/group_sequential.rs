//! Group-sequential boundaries, for the case that the final sample size is really known: more powerful then than an e-process, and invalid otherwise.
//! The statistic must be the stratified score of [`crate::intervals::StratifiedDifference`], never pooled counts.
//!
//! Recursion of Armitage, McPherson & Rowe (1969) with Gauss–Legendre nodes: the sub-density of the Brownian path at information `t_k` that has not left
//! the continuation region before. Tables: Jennison & Turnbull, *Group sequential methods* (2000); spending: Lan & DeMets (1983).

use crate::math::{bisect, gauss_legendre, legendre_on, ndtr, ndtri};

/// Nodes per look; gives more than six digits.
const NODES: u32 = 200;
/// How far into a tail the density is followed, in standard deviations.
const REACH: f64 = 9.0;

/// How a one-sided level is spent over the information fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spending {
    /// `2 − 2Φ(z_{1−α/2}/√t)`: almost nothing early.
    ObrienFleming,
    /// `α ln(1+(e−1)t)`: about evenly.
    Pocock,
    /// `α t^ρ`.
    Power(f64),
}

impl Spending {
    /// Level spent up to the information fraction `t` in \[0, 1\].
    pub fn spent(self, alpha: f64, t: f64) -> f64 {
        if t <= 0.0 {
            return 0.0;
        }
        match self {
            Self::ObrienFleming => 2.0 * ndtr(-ndtri(1.0 - alpha / 2.0) / t.min(1.0).sqrt()),
            Self::Pocock => alpha * ((std::f64::consts::E - 1.0) * t.min(1.0)).ln_1p(),
            Self::Power(rho) => alpha * t.min(1.0).powf(rho),
        }
    }
}

/// The sub-density of paths that are still inside, as weighted points.
struct Path {
    information: f64,
    points: Vec<(f64, f64)>,
    rule: Vec<(f64, f64)>,
}

impl Path {
    fn new() -> Self {
        Self { information: 0.0, points: vec![(0.0, 1.0)], rule: gauss_legendre(NODES) }
    }

    /// Probability of being above `bound` (in units of the path, not of z) at information `t`, having stayed inside before.
    fn above(&self, bound: f64, t: f64) -> f64 {
        let sd = (t - self.information).max(f64::MIN_POSITIVE).sqrt();
        self.points.iter().map(|(x, mass)| mass * ndtr((x - bound) / sd)).sum()
    }

    fn below(&self, bound: f64, t: f64) -> f64 {
        let sd = (t - self.information).max(f64::MIN_POSITIVE).sqrt();
        self.points.iter().map(|(x, mass)| mass * ndtr((bound - x) / sd)).sum()
    }

    /// Moves to information `t`, keeping the paths between `lower` and `upper`.
    fn advance(&mut self, lower: f64, upper: f64, t: f64) {
        let sd = (t - self.information).max(f64::MIN_POSITIVE).sqrt();
        let reach = REACH * t.sqrt();
        let constant = 1.0 / (sd * std::f64::consts::TAU.sqrt());
        let density = |y: f64| -> f64 { self.points.iter().map(|(x, mass)| mass * constant * (-0.5 * ((y - x) / sd).powi(2)).exp()).sum() };
        let nodes = legendre_on(&self.rule, lower.max(-reach), upper.min(reach));
        self.points = nodes.into_iter().map(|(y, weight)| (y, weight * density(y))).collect();
        self.information = t;
    }
}

/// One-sided z-boundaries at increasing information fractions for a spending function, with the level spent up to each look.
///
/// Fractions must increase from above 0 to at most 1; otherwise `None`. A look at which nothing can be spent has boundary 40.
pub fn spending_bounds(fractions: &[f64], alpha: f64, spending: Spending) -> Option<Vec<(f64, f64)>> {
    let increasing = fractions.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
    let inside = fractions.iter().all(|t| *t > 0.0 && *t <= 1.0 + 1e-12);
    if !(increasing && inside && alpha > 0.0 && alpha < 1.0) {
        return None;
    }
    let mut path = Path::new();
    let mut spent = 0.0;
    let mut bounds = Vec::with_capacity(fractions.len());
    for &t in fractions {
        let total = spending.spent(alpha, t);
        let share = total - spent;
        let z = bisect(-10.0, 40.0, |z| share - path.above(z * t.sqrt(), t));
        path.advance(f64::NEG_INFINITY, z * t.sqrt(), t);
        spent = total;
        bounds.push((z, total));
    }
    Some(bounds)
}

/// Two-sided constants for `looks` equally spaced looks: Pocock's boundary is `C` at every look, O'Brien & Fleming's `C·√(K/k)` at look `k`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constants {
    /// Pocock's constant.
    pub pocock: f64,
    /// O'Brien & Fleming's constant.
    pub obrien_fleming: f64,
}

/// Both constants for a two-sided level.
pub fn constants(looks: u32, alpha: f64) -> Constants {
    let solve = |bound: &dyn Fn(f64, f64) -> f64| bisect_coarse(1.0, 6.0, |c| alpha - crossing(looks, |k| bound(c, k)));
    let total = f64::from(looks);
    Constants { pocock: solve(&|c, _| c), obrien_fleming: solve(&|c, k| c * (total / k).sqrt()) }
}

/// Probability of ever being declared significant when a true null is tested at every one of `looks` equally spaced looks, unadjusted.
pub fn peeking_error(looks: u32, alpha: f64) -> f64 {
    let z = ndtri(1.0 - alpha / 2.0);
    crossing(looks, |_| z)
}

/// Two-sided crossing probability of `|z_k| ≥ bound(k)` over equally spaced looks.
fn crossing(looks: u32, bound: impl Fn(f64) -> f64) -> f64 {
    let mut path = Path::new();
    let mut crossed = 0.0;
    for look in 1..=looks {
        let t = f64::from(look) / f64::from(looks);
        let edge = bound(f64::from(look)) * t.sqrt();
        crossed += path.above(edge, t) + path.below(-edge, t);
        path.advance(-edge, edge, t);
    }
    crossed
}

/// Thirty halvings: nine digits, which is what the quadrature supports.
fn bisect_coarse(mut lo: f64, mut hi: f64, rising: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..30 {
        let mid = f64::midpoint(lo, hi);
        if rising(mid) > 0.0 {
            hi = mid;
        } else {
            lo = mid;
        }
    }
    f64::midpoint(lo, hi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_is_the_fixed_test() {
        let bounds = spending_bounds(&[1.0], 0.05, Spending::Pocock).unwrap();
        assert!((bounds[0].0 - 1.644_853_626_951_472).abs() < 1e-9);
        assert!((peeking_error(1, 0.05) - 0.05).abs() < 1e-12);
    }

    #[test]
    fn the_whole_level_is_spent_and_no_more() {
        for spending in [Spending::ObrienFleming, Spending::Pocock, Spending::Power(3.0)] {
            let bounds = spending_bounds(&[0.3, 0.6, 1.0], 0.025, spending).unwrap();
            assert!((bounds.last().unwrap().1 - 0.025).abs() < 1e-12);
            assert!(bounds.last().unwrap().0 > 1.95);
        }
    }

    #[test]
    fn fractions_out_of_order_are_refused() {
        assert!(spending_bounds(&[0.5, 0.4], 0.05, Spending::Pocock).is_none());
        assert!(spending_bounds(&[0.0, 1.0], 0.05, Spending::Pocock).is_none());
        assert!(spending_bounds(&[1.5], 0.05, Spending::Pocock).is_none());
    }
}
