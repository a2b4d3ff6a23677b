//! The harm process: a mixture over alternatives and over the unknown window in which the harm starts.
//! It adds evidence up; which likelihood ratio feeds it is decided by the family that computes the increments.
//!
//! With start weights `π_1 = ω₀ + (1−ω₀)/T` and `π_j = (1−ω₀)/T` for `j = 2..T`, mass is added at grid points and multiplied at windows:
//!
//! ```text
//! grid point j:   M_k ← M_k + π_j
//! closed window:  M_k ← M_k · exp(min(ℓ_k/φ, cap))
//! E = Σ_k w_k M_k + 1 − Σ_{i≤j} π_i
//! ```
//!
//! `E` is a weighted average of e-processes with weights summing to one, so `P(E ever ≥ 1/α) ≤ α` under the null for as long as one looks.
//! A plain product that has seen many good hours needs as many bad ones to recover; the mixture does not. What it costs, in natural logarithms against a
//! product that knew the start and the best alternative: `ln(1/w_k)` for the alternative, and `ln(1/(ω₀+(1−ω₀)/T))` (0.7 with ω₀ = ½) for harm from the
//! first window or `ln(T/(1−ω₀))` for harm from a later one (6.6 with T = 360). The horizon `T` is fixed beforehand: harm that starts after the last
//! grid point is found by the mass that is there already, and no faster than by a product. Grid points and windows are separate
//! calls because windows may stay open across a grid point: the mass is added all the same.
//!
//! The mixture over change points follows Shin, Ramdas & Rinaldo, *E-detectors* (2023). Capping only lowers increments, so it keeps validity.

use serde::{Deserialize, Serialize};

use crate::math::{LN_ZERO, ln_add, ln_or_zero, ln_sum, tidy};
use crate::window::InvalidParameter;

/// Default share of the weight on a harm that is there from the start.
pub const DEFAULT_OMEGA0: f64 = 0.5;

/// State of one harm process; also its checkpoint: every field is finite, and a clone continues where the original stood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HarmProcess {
    weights: Vec<f64>,
    omega0: f64,
    horizon: u32,
    cap: Option<f64>,
    points: u32,
    windows: u64,
    log_masses: Vec<f64>,
}

impl HarmProcess {
    /// A process over alternatives with `weights` (normalised to sum 1), first-point weight `omega0` in \[0, 1\], and a grid of `horizon` ≥ 1 points.
    ///
    /// `cap` limits what one window may add to one component, in natural logs; see [`crate::threshold::harm_cap`]. `None` is uncapped.
    pub fn new(weights: &[f64], omega0: f64, horizon: u32, cap: Option<f64>) -> Result<Self, InvalidParameter> {
        InvalidParameter::check((0.0..=1.0).contains(&omega0), "omega0", "between 0 and 1")?;
        InvalidParameter::check(horizon >= 1, "horizon", "at least one grid point")?;
        InvalidParameter::check(cap.is_none_or(|c| c.is_finite() && c > 0.0), "cap", "positive and finite")?;
        let weights = normalised(weights)?;
        let log_masses = vec![LN_ZERO; weights.len()];
        Ok(Self { weights, omega0, horizon, cap, points: 0, windows: 0, log_masses })
    }

    /// Adds the start weight of the next grid point to every component. After `horizon` points it adds nothing.
    pub fn grid_point(&mut self) {
        if self.points >= self.horizon {
            return;
        }
        let even = (1.0 - self.omega0) / f64::from(self.horizon);
        let start = ln_or_zero(if self.points == 0 { self.omega0 + even } else { even });
        self.points += 1;
        for mass in &mut self.log_masses {
            *mass = ln_add(*mass, start);
        }
    }

    /// Multiplies the masses by one closed window: `ells` are the log likelihood ratios per component, `phi` ≥ 1 the over-dispersion.
    ///
    /// Missing increments count as 0; a window with weight zero is an empty slice.
    pub fn absorb(&mut self, ells: &[f64], phi: f64) {
        self.windows += 1;
        for (mass, ell) in self.log_masses.iter_mut().zip(ells) {
            if *mass > LN_ZERO {
                *mass = (*mass + capped(*ell, phi, self.cap)).clamp(LN_ZERO, -LN_ZERO);
            }
        }
    }

    /// Natural logarithm of the e-value now.
    pub fn log_e(&self) -> f64 {
        let mixed = ln_sum(self.weights.iter().zip(&self.log_masses).map(|(w, mass)| ln_or_zero(*w) + mass));
        ln_add(mixed, ln_or_zero(1.0 - self.spent()))
    }

    /// Start weight added so far, from 0 to 1.
    pub fn spent(&self) -> f64 {
        if self.points == 0 {
            return 0.0;
        }
        self.omega0 + (1.0 - self.omega0) * f64::from(self.points) / f64::from(self.horizon)
    }

    /// The moving part of the state: what a compact checkpoint has to keep beside the constructor's arguments.
    pub fn checkpoint(&self) -> HarmCheckpoint {
        HarmCheckpoint { points: self.points, windows: self.windows, log_masses: self.log_masses.clone() }
    }

    /// Puts a checkpoint back into a process built with the same arguments; refused when the number of components differs.
    pub fn restore(&mut self, checkpoint: HarmCheckpoint) -> Result<(), InvalidParameter> {
        let fits = checkpoint.log_masses.len() == self.log_masses.len() && checkpoint.log_masses.iter().all(|m| m.is_finite());
        InvalidParameter::check(fits, "log_masses", "one finite number per component")?;
        InvalidParameter::check(checkpoint.points <= self.horizon, "points", "within the grid")?;
        self.points = checkpoint.points;
        self.windows = checkpoint.windows;
        self.log_masses = checkpoint.log_masses;
        Ok(())
    }
}

/// Moving part of a [`HarmProcess`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HarmCheckpoint {
    /// Grid points spent.
    pub points: u32,
    /// Windows absorbed.
    pub windows: u64,
    /// Log mass per component.
    pub log_masses: Vec<f64>,
}

/// One component's contribution of one window: deflated first, capped after.
pub(crate) fn capped(ell: f64, phi: f64, cap: Option<f64>) -> f64 {
    let deflated = tidy(ell / if phi >= 1.0 { phi } else { 1.0 });
    cap.map_or(deflated, |c| deflated.min(c))
}

pub(crate) fn normalised(weights: &[f64]) -> Result<Vec<f64>, InvalidParameter> {
    let sum: f64 = weights.iter().sum();
    let valid = sum.is_finite() && sum > 0.0 && weights.iter().all(|w| *w >= 0.0);
    InvalidParameter::check(valid, "weights", "not negative, with a positive finite sum")?;
    Ok(weights.iter().map(|w| w / sum).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> HarmProcess {
        HarmProcess::new(&[1.0, 1.0], 0.5, 10, None).unwrap()
    }

    #[test]
    fn nothing_seen_is_no_evidence() {
        assert!(process().log_e().abs() < 1e-15);
        let mut p = process();
        p.absorb(&[5.0, 5.0], 1.0);
        assert!(p.log_e().abs() < 1e-15, "before the first grid point there is no mass to multiply");
        p.grid_point();
        assert!(p.log_e().abs() < 1e-15, "adding mass moves nothing");
    }

    #[test]
    fn late_harm_is_found_after_many_good_windows() {
        let mut p = HarmProcess::new(&[1.0], 0.5, 300, None).unwrap();
        for _ in 0..200 {
            p.grid_point();
            p.absorb(&[-1.0], 1.0);
        }
        for _ in 0..12 {
            p.grid_point();
            p.absorb(&[1.0], 1.0);
        }
        assert!(p.log_e() > 3.0, "{}", p.log_e());
        assert_eq!(p.checkpoint().windows, 212);
    }

    #[test]
    fn the_cap_applies_after_the_division_by_phi() {
        let mut p = HarmProcess::new(&[1.0], 1.0, 1, Some(2.0)).unwrap();
        p.grid_point();
        p.absorb(&[30.0], 20.0);
        assert!((p.log_e() - 1.5).abs() < 1e-12);
        p.absorb(&[30.0], 1.0);
        assert!((p.log_e() - 3.5).abs() < 1e-12);
        p.absorb(&[f64::NAN], 1.0);
        assert!((p.log_e() - 3.5).abs() < 1e-12);
    }

    #[test]
    fn a_checkpoint_continues_exactly() {
        let mut p = process();
        p.grid_point();
        p.absorb(&[0.3, -0.2], 1.0);
        let mut restored = process();
        restored.restore(p.checkpoint()).unwrap();
        for q in [&mut p, &mut restored] {
            q.grid_point();
            q.absorb(&[0.1, 0.4], 1.3);
        }
        assert_eq!(p, restored);
        assert!(restored.restore(HarmCheckpoint { points: 1, windows: 1, log_masses: vec![0.0] }).is_err());
    }

    #[test]
    fn parameters_outside_their_domain_are_refused() {
        for bad in [
            HarmProcess::new(&[], 0.5, 10, None),
            HarmProcess::new(&[-1.0, 2.0], 0.5, 10, None),
            HarmProcess::new(&[1.0], 1.5, 10, None),
            HarmProcess::new(&[1.0], 0.5, 0, None),
            HarmProcess::new(&[1.0], 0.5, 10, Some(0.0)),
        ] {
            assert!(bad.is_err());
        }
    }
}
