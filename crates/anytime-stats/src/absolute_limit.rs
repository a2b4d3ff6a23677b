//! An absolute limit that does not blame the candidate for the world: when both arms are over the limit, the candidate is not the cause.
//! It combines [`crate::exceedance`] and [`crate::rate_ratio`]; it decides nothing.
//!
//! ```text
//! harm  = min(E_abs, E_rel)     E_abs: candidate over the limit;  E_rel: candidate worse than champion by more than the blame ratio (1.1)
//! proof = mean(E_abs over all windows, E_abs over windows in which the champion is within the limit [, E not worse than champion])
//! ```
//!
//! The minimum of two e-processes is an e-process for the union of their nulls; the mean of e-processes is one for their intersection. With the third
//! term, "within the limit or not worse than the champion" is what a proof means.

use serde::{Deserialize, Serialize};

use crate::exceedance::Exceedance;
use crate::harm::{DEFAULT_OMEGA0, HarmProcess};
use crate::math::ln_sum;
use crate::proof::ProofProcess;
use crate::rate_ratio::RateRatio;
use crate::window::{InvalidParameter, Side, Window};

/// Ratio to the champion beyond which the candidate itself is to blame.
pub const BLAME_RATIO: f64 = 1.1;

/// What an [`AbsoluteLimit`] needs to know beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AbsoluteLimitPlan {
    /// Largest acceptable share of bad events, in (0, 1).
    pub limit: f64,
    /// See [`BLAME_RATIO`].
    pub blame_ratio: f64,
    /// Grid points of the harm processes.
    pub horizon: u32,
    /// Cap per window of the harm processes.
    pub cap_harm: Option<f64>,
    /// Cap per window of the proof processes.
    pub cap_proof: Option<f64>,
    /// A candidate not worse than the champion (by the blame ratio) also passes.
    pub or_not_worse: bool,
}

/// Evidence about one absolute limit, in both lanes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AbsoluteLimit {
    limit: Exceedance,
    blame: RateRatio,
    harm_absolute: HarmProcess,
    harm_relative: HarmProcess,
    proof_all: ProofProcess,
    proof_good_world: ProofProcess,
    proof_not_worse: Option<ProofProcess>,
}

impl AbsoluteLimit {
    /// Fresh evidence for a plan.
    pub fn new(plan: &AbsoluteLimitPlan) -> Result<Self, InvalidParameter> {
        let harm = |weights: &[f64]| HarmProcess::new(weights, DEFAULT_OMEGA0, plan.horizon, plan.cap_harm);
        let proof = |weights: &[f64]| ProofProcess::new(weights, plan.cap_proof);
        Ok(Self {
            limit: Exceedance::new(plan.limit)?,
            blame: RateRatio::new(plan.blame_ratio)?,
            harm_absolute: harm(Exceedance::weights(Side::Harm))?,
            harm_relative: harm(RateRatio::weights(Side::Harm))?,
            proof_all: proof(Exceedance::weights(Side::Proof))?,
            proof_good_world: proof(Exceedance::weights(Side::Proof))?,
            proof_not_worse: if plan.or_not_worse { Some(proof(RateRatio::weights(Side::Proof))?) } else { None },
        })
    }

    /// Next grid point of the harm processes.
    pub fn grid_point(&mut self) {
        self.harm_absolute.grid_point();
        self.harm_relative.grid_point();
    }

    /// One closed window of the harm lane.
    pub fn absorb_harm(&mut self, window: &Window, phi: f64) {
        self.harm_absolute.absorb(&self.limit.log_increments(Side::Harm, window.candidate), phi);
        self.harm_relative.absorb(&self.blame.log_increments(Side::Harm, window), phi);
    }

    /// One closed window of the proof lane.
    pub fn absorb_proof(&mut self, window: &Window, phi: f64) {
        let increments = self.limit.log_increments(Side::Proof, window.candidate);
        self.proof_all.absorb(&increments, phi);
        // The champion's own counts say whether the world was good; they are independent of the candidate's, so selecting on them keeps validity.
        if window.champion.rate().is_some_and(|rate| rate <= self.limit.limit()) {
            self.proof_good_world.absorb(&increments, phi);
        } else {
            self.proof_good_world.skip();
        }
        if let Some(process) = &mut self.proof_not_worse {
            process.absorb(&self.blame.log_increments(Side::Proof, window), phi);
        }
    }

    /// A window of the proof lane with weight zero.
    pub fn skip_proof(&mut self) {
        self.proofs_mut().for_each(ProofProcess::skip);
    }

    /// Starts the proof anew.
    pub fn restart_proof(&mut self) {
        self.proofs_mut().for_each(ProofProcess::restart);
    }

    /// Evidence that the candidate is over the limit, and that it is the cause: the smaller of the two.
    pub fn log_e_harm(&self) -> f64 {
        self.log_e_harm_absolute().min(self.log_e_harm_relative())
    }

    /// Evidence that the candidate is over the limit.
    pub fn log_e_harm_absolute(&self) -> f64 {
        self.harm_absolute.log_e()
    }

    /// Evidence that the candidate is worse than the champion by more than the blame ratio.
    pub fn log_e_harm_relative(&self) -> f64 {
        self.harm_relative.log_e()
    }

    /// Evidence that the candidate is within the limit (or, when planned so, not worse than the champion).
    pub fn log_e_proof(&self) -> f64 {
        let logs: Vec<f64> = self.proofs().map(ProofProcess::log_e).collect();
        ln_sum(logs.iter().copied()) - (logs.len() as f64).ln()
    }

    /// Windows of the proof lane that counted.
    pub fn proof_windows(&self) -> u64 {
        self.proof_all.used()
    }

    fn proofs(&self) -> impl Iterator<Item = &ProofProcess> {
        [&self.proof_all, &self.proof_good_world].into_iter().chain(&self.proof_not_worse)
    }

    fn proofs_mut(&mut self) -> impl Iterator<Item = &mut ProofProcess> {
        [&mut self.proof_all, &mut self.proof_good_world].into_iter().chain(&mut self.proof_not_worse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Tally;

    fn plan(or_not_worse: bool) -> AbsoluteLimitPlan {
        AbsoluteLimitPlan { limit: 0.05, blame_ratio: BLAME_RATIO, horizon: 100, cap_harm: None, cap_proof: None, or_not_worse }
    }

    fn run(or_not_worse: bool, champion: f64, candidate: f64) -> AbsoluteLimit {
        let mut limit = AbsoluteLimit::new(&plan(or_not_worse)).unwrap();
        let window = Window::new(Tally::new(champion * 1000.0, 1000.0), Tally::new(candidate * 1000.0, 1000.0));
        for _ in 0..20 {
            limit.grid_point();
            limit.absorb_harm(&window, 1.0);
            limit.absorb_proof(&window, 1.0);
        }
        limit
    }

    #[test]
    fn a_world_that_is_slow_for_both_arms_is_not_the_candidates_harm() {
        let limit = run(false, 0.12, 0.12);
        assert!(limit.log_e_harm_absolute() > 50.0 && limit.log_e_harm() < 0.0);
        assert!(run(false, 0.04, 0.12).log_e_harm() > 10.0);
    }

    #[test]
    fn a_window_that_proves_nothing_is_counted_apart() {
        let (mut limit, before) = (run(true, 0.02, 0.02), run(true, 0.02, 0.02));
        limit.skip_proof();
        assert_eq!((limit.proof_windows(), limit.log_e_proof().to_bits()), (20, before.log_e_proof().to_bits()));
        assert!(limit.proofs().all(|proof| proof.skipped() == 1) && before.proofs().all(|proof| proof.skipped() == 0));
    }

    #[test]
    fn not_worse_than_the_champion_passes_only_when_planned_so() {
        assert!(run(false, 0.12, 0.12).log_e_proof() < 0.0);
        assert!(run(true, 0.12, 0.12).log_e_proof() > 3.0);
        assert!(run(false, 0.02, 0.02).log_e_proof() > 3.0);
    }

    #[test]
    fn a_restart_forgets_the_proof_and_keeps_the_harm() {
        let mut limit = run(true, 0.02, 0.02);
        let harm = limit.log_e_harm();
        limit.skip_proof();
        limit.restart_proof();
        assert!(limit.log_e_proof().abs() < 1e-15 && limit.proof_windows() == 0);
        assert!((limit.log_e_harm() - harm).abs() < 1e-15);
    }
}
