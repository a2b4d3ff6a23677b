//! The e-processes of one bound on counts: which likelihood ratios it bets with, harm and proof, with their caps.
//! Adds closed windows; deciding when a window is closed, and what follows, is done elsewhere.

use anytime_stats::absolute_limit::BLAME_RATIO;
use anytime_stats::harm::{DEFAULT_OMEGA0, HarmCheckpoint};
use anytime_stats::paired::{PairedMargin, Pairs};
use anytime_stats::proof::ProofCheckpoint;
use anytime_stats::{Exceedance, HarmProcess, InvalidParameter, ProofProcess, RateRatio, RiskDifference, Side, Tally, Window};
use serde::{Deserialize, Serialize};

use crate::plan::CountBound;

/// Smallest effect that a bound of "no difference at all" bets on.
const LEAST_EFFECT: f64 = 0.01;

/// The likelihood ratios of one bound.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Family {
    /// Difference of proportions: projected likelihood ratios.
    Difference(RiskDifference),
    /// Pairs: which arm alone was wrong? The arms' counts are of the same pairs.
    Paired(PairedMargin),
    /// Ratio of rates: in which arm did an event happen?
    Ratio(RateRatio),
    /// A fixed limit. Harm must also show against the champion; a proof may come from windows in which the champion was fine.
    Absolute { limit: Exceedance, blame: RateRatio, or_not_worse: bool },
}

impl Family {
    pub(super) fn of(bound: CountBound, or_not_worse: bool) -> Result<Self, InvalidParameter> {
        Self::of_captured(bound, or_not_worse, 1.0)
    }

    /// The same where at least this share of the candidate's events has come, and possibly all of the reference's, which served before: who is worse than
    /// the bound then shows at least this share of `reference + margin`, of `factor · reference` or of the limit.
    pub(super) fn of_captured(bound: CountBound, or_not_worse: bool, captured: f64) -> Result<Self, InvalidParameter> {
        Ok(match bound {
            CountBound::Difference { margin, .. } => {
                let effect = if margin.abs() > 0.0 { captured * margin.abs() } else { LEAST_EFFECT };
                Self::Difference(RiskDifference::with_line(captured, captured * margin, effect)?)
            }
            CountBound::Ratio { factor, .. } => Self::Ratio(RateRatio::new(captured * factor)?),
            CountBound::Absolute(limit) => {
                Self::Absolute { limit: Exceedance::new(captured * limit)?, blame: RateRatio::new(captured * BLAME_RATIO)?, or_not_worse }
            }
        })
    }

    /// "The share of one arm is at most `factor` times that of the other", for shares of any size.
    pub(super) fn of_shares(factor: f64) -> Result<Self, InvalidParameter> {
        Ok(Self::Difference(RiskDifference::with_line(factor, 0.0, LEAST_EFFECT)?))
    }

    /// The same question asked of pairs.
    pub(super) fn of_pairs(bound: CountBound) -> Result<Self, InvalidParameter> {
        match bound {
            CountBound::Difference { margin, .. } => Ok(Self::Paired(PairedMargin::new(margin)?)),
            CountBound::Ratio { .. } | CountBound::Absolute(_) => {
                Err(InvalidParameter { name: "bound", expected: "a difference, for pairs" })
            }
        }
    }

    /// Whether the champion's rate must be guessed before a window is read.
    pub(super) fn needs_rate(&self) -> bool {
        matches!(self, Self::Difference(_))
    }

    /// Weights of the alternatives, per part.
    pub(super) fn weights(&self, side: Side) -> Vec<&'static [f64]> {
        match (self, side) {
            (Self::Difference(_), _) => vec![RiskDifference::weights(side)],
            (Self::Paired(_), _) => vec![PairedMargin::weights()],
            (Self::Ratio(_), _) => vec![RateRatio::weights(side)],
            (Self::Absolute { .. }, Side::Harm) => vec![Exceedance::weights(side), RateRatio::weights(side)],
            (Self::Absolute { or_not_worse, .. }, Side::Proof) => {
                let mut parts = vec![Exceedance::weights(side); 2];
                if *or_not_worse {
                    parts.push(RateRatio::weights(side));
                }
                parts
            }
        }
    }

    /// Log increments of one closed window per part; `None` where a part leaves the window out.
    pub(super) fn increments(&self, side: Side, champion_rate: f64, window: &Window) -> Vec<Option<Vec<f64>>> {
        match self {
            Self::Difference(test) => vec![Some(test.log_increments(side, champion_rate, window))],
            Self::Paired(test) => vec![Some(test.log_increments(side, &pairs(window)))],
            Self::Ratio(test) => vec![Some(test.log_increments(side, window))],
            Self::Absolute { limit, blame, .. } if side == Side::Harm => {
                vec![Some(limit.log_increments(side, window.candidate)), Some(blame.log_increments(side, window))]
            }
            Self::Absolute { limit, blame, or_not_worse } => {
                let own = limit.log_increments(side, window.candidate);
                // The champion says whether the world was good; its counts are independent of the candidate's, so selecting on them is fair.
                let good_world = window.champion.rate().is_some_and(|rate| rate <= limit.limit());
                let mut parts = vec![Some(own.clone()), good_world.then_some(own)];
                if *or_not_worse {
                    parts.push(Some(blame.log_increments(side, window)));
                }
                parts
            }
        }
    }
}

/// The pairs behind a window whose arms count the same pairs: each arm's bad events are those in which it alone was wrong.
fn pairs(window: &Window) -> Pairs {
    let (candidate, champion) = (window.candidate.bad, window.champion.bad);
    let tied = window.candidate.total - candidate - champion;
    Pairs { champion_only: candidate, candidate_only: champion, tied: tied.max(0.0) }
}

/// Evidence that a bound is broken, over the whole attempt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Harm {
    pub(super) family: Family,
    parts: Vec<HarmProcess>,
    /// Highest log e-value so far: by Ville's inequality the bound on the error holds for it.
    peak: f64,
}

/// Moving part of [`Harm`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedHarm {
    parts: Vec<HarmCheckpoint>,
    peak: f64,
}

impl Harm {
    pub(super) fn new(family: Family, horizon: u32, cap: f64) -> Result<Self, InvalidParameter> {
        let weights = family.weights(Side::Harm);
        let parts = weights.into_iter().map(|w| HarmProcess::new(w, DEFAULT_OMEGA0, horizon, Some(cap))).collect::<Result<_, _>>()?;
        Ok(Self { family, parts, peak: 0.0 })
    }

    pub(super) fn grid_point(&mut self) {
        self.parts.iter_mut().for_each(HarmProcess::grid_point);
    }

    pub(super) fn absorb(&mut self, champion_rate: f64, window: &Window, phi: f64) {
        for (part, ells) in self.parts.iter_mut().zip(self.family.increments(Side::Harm, champion_rate, window)) {
            part.absorb(&ells.unwrap_or_default(), phi);
        }
        self.peak = self.peak.max(self.log_e());
    }

    /// The smallest over the parts: all of them must be convinced.
    pub(super) fn log_e(&self) -> f64 {
        self.parts.iter().map(HarmProcess::log_e).fold(f64::INFINITY, f64::min)
    }

    pub(super) fn peak(&self) -> f64 {
        self.peak
    }

    pub(super) fn save(&self) -> SavedHarm {
        SavedHarm { parts: self.parts.iter().map(HarmProcess::checkpoint).collect(), peak: self.peak }
    }

    pub(super) fn load(&mut self, saved: SavedHarm) -> Result<(), InvalidParameter> {
        same_number(self.parts.len(), saved.parts.len())?;
        self.peak = saved.peak;
        self.parts.iter_mut().zip(saved.parts).try_for_each(|(part, saved)| part.restore(saved))
    }
}

/// Evidence that a bound is kept, since the stage began.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proof {
    pub(super) family: Family,
    parts: Vec<ProofProcess>,
}

/// Moving part of [`Proof`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedProof(Vec<ProofCheckpoint>);

impl Proof {
    pub(super) fn new(family: Family, cap: f64) -> Result<Self, InvalidParameter> {
        let weights = family.weights(Side::Proof);
        let parts = weights.into_iter().map(|w| ProofProcess::new(w, Some(cap))).collect::<Result<_, _>>()?;
        Ok(Self { family, parts })
    }

    pub(super) fn absorb(&mut self, champion_rate: f64, window: &Window, phi: f64) {
        for (part, ells) in self.parts.iter_mut().zip(self.family.increments(Side::Proof, champion_rate, window)) {
            match ells {
                Some(ells) => part.absorb(&ells, phi),
                None => part.skip(),
            }
        }
    }

    pub(super) fn skip(&mut self) {
        self.parts.iter_mut().for_each(ProofProcess::skip);
    }

    pub(super) fn restart(&mut self) {
        self.parts.iter_mut().for_each(ProofProcess::restart);
    }

    /// The mean of the parts' e-values: an e-value for the intersection of their nulls.
    pub(super) fn log_e(&self) -> f64 {
        let logs: Vec<f64> = self.parts.iter().map(ProofProcess::log_e).collect();
        let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !highest.is_finite() {
            return 0.0;
        }
        let sum: f64 = logs.iter().map(|l| (l - highest).exp()).sum();
        highest + (sum / logs.len() as f64).ln()
    }

    /// Windows still needed if each has these expected counts; `None` when it would never end.
    pub(super) fn windows_left(&self, expected: &Window, phi: f64, threshold: f64) -> Option<f64> {
        let champion_rate = expected.champion.rate()?;
        let increments = self.family.increments(Side::Proof, champion_rate, expected);
        let share = 1.0 / self.parts.len() as f64;
        let (mut weights, mut masses, mut growth) = (Vec::new(), Vec::new(), Vec::new());
        for (part, ells) in self.parts.iter().zip(increments) {
            let ells = ells.unwrap_or_else(|| vec![0.0; part.weights().len()]);
            weights.extend(part.weights().iter().map(|w| w * share));
            masses.extend_from_slice(part.log_masses());
            growth.extend(ells.iter().map(|ell| ell / phi.max(1.0)));
        }
        anytime_stats::eta::windows_left(&weights, &masses, &growth, threshold)
    }

    pub(super) fn save(&self) -> SavedProof {
        SavedProof(self.parts.iter().map(ProofProcess::checkpoint).collect())
    }

    pub(super) fn load(&mut self, saved: SavedProof) -> Result<(), InvalidParameter> {
        same_number(self.parts.len(), saved.0.len())?;
        self.parts.iter_mut().zip(saved.0).try_for_each(|(part, saved)| part.restore(saved))
    }
}

fn same_number(ours: usize, saved: usize) -> Result<(), InvalidParameter> {
    if ours == saved { Ok(()) } else { Err(InvalidParameter { name: "parts", expected: "as many as the plan has" }) }
}

/// Evidence that a promised win is there, over the whole attempt: what was shown once stays shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Win {
    proof: Proof,
    peak: f64,
}

/// Moving part of [`Win`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedWin {
    proof: SavedProof,
    peak: f64,
}

impl Win {
    pub(super) fn new(family: Family, cap: f64) -> Result<Self, InvalidParameter> {
        Ok(Self { proof: Proof::new(family, cap)?, peak: 0.0 })
    }

    pub(super) fn absorb(&mut self, champion_rate: f64, window: &Window, phi: f64) {
        self.proof.absorb(champion_rate, window, phi);
        self.peak = self.peak.max(self.proof.log_e());
    }

    /// Log e-value now, and the highest so far.
    pub(super) fn log_es(&self) -> (f64, f64) {
        (self.proof.log_e(), self.peak)
    }

    pub(super) fn save(&self) -> SavedWin {
        SavedWin { proof: self.proof.save(), peak: self.peak }
    }

    pub(super) fn load(&mut self, saved: SavedWin) -> Result<(), InvalidParameter> {
        self.peak = saved.peak;
        self.proof.load(saved.proof)
    }
}

/// Counts of one window if rates stay as stated.
pub(super) fn expected(champion_rate: f64, champion_n: f64, candidate_rate: f64, candidate_n: f64) -> Window {
    Window::new(Tally::new(champion_rate * champion_n, champion_n), Tally::new(candidate_rate * candidate_n, candidate_n))
}
