//! Many looks at p-values: the level is spent over the looks, `α_t = α/(t(t+1))`, which sums to `α` over any number of them.
//! It does not choose when to look: that may depend on numbers of trials, never on outcomes.
//!
//! What it keeps is an always-valid p-value, `p̂ = min_t p_t·t(t+1)`: under the null `P(p̂ ever ≤ α) ≤ α` (Bonferroni). Reported as `ln(1/p̂)`, it is held
//! against `ln(1/α)` as the logarithm of an e-value is.

use serde::{Deserialize, Serialize};

/// Evidence against one null hypothesis over many looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Looks {
    /// Looks taken.
    taken: u32,
    /// `ln(1/p)` of the newest look, its share of the level taken off.
    now: f64,
    /// The highest of them.
    best: f64,
}

impl Looks {
    /// Takes a look with this p-value; one that is not a number says nothing and costs as much.
    pub fn absorb(&mut self, p: f64) {
        self.taken = self.taken.saturating_add(1);
        let t = f64::from(self.taken);
        // A p-value that underflowed is the strongest there is, not none.
        let p = if p.abs() <= 0.0 { f64::MIN_POSITIVE } else { p };
        let strength = -(p * t * (t + 1.0)).ln();
        self.now = if strength.is_finite() { strength.max(0.0) } else { 0.0 };
        self.best = self.best.max(self.now);
    }

    /// Looks taken.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// `ln(1/p)` of the newest look, adjusted; 0 or more.
    pub fn now(&self) -> f64 {
        self.now
    }

    /// `ln(1/p̂)` of the always-valid p-value; 0 or more.
    pub fn best(&self) -> f64 {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_look_needs_a_smaller_p_value() {
        let mut looks = Looks::default();
        looks.absorb(0.01);
        assert!((looks.now() + 0.02_f64.ln()).abs() < 1e-12);
        looks.absorb(0.01);
        assert!((looks.now() + 0.06_f64.ln()).abs() < 1e-12 && (looks.best() + 0.02_f64.ln()).abs() < 1e-12);
        looks.absorb(1.0);
        looks.absorb(f64::NAN);
        assert_eq!((looks.now(), looks.taken()), (0.0, 4));
        looks.absorb(0.0);
        assert!(looks.now() > 600.0, "a p-value that underflowed counted as none");
    }

    #[test]
    fn the_levels_of_all_looks_sum_to_the_level() {
        // A p-value of exactly α_t reaches ln(1/α) at every look, and the α_t sum to less than α.
        let (mut looks, mut spent, alpha) = (Looks::default(), 0.0, 0.05_f64);
        for t in 1..10_000_u32 {
            let level = crate::drift::level_at_look(alpha, t);
            looks.absorb(level);
            spent += level;
            assert!((looks.now() + alpha.ln()).abs() < 1e-9);
        }
        assert!(spent < alpha);
    }
}
