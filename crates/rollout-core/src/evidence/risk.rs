//! A guardrail's share of the two risks, split among slices and parts. Knows no data: what is spent does not depend on what is seen.

use anytime_stats::threshold;

use super::slices;
use crate::plan::{Guardrail, Plan};

/// A guardrail's share of the risk, and the log e-values at which it is spent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Risk {
    pub proof_alpha: f64,
    pub harm_alpha: f64,
    pub proof_threshold: f64,
    pub harm_threshold: f64,
    /// Log e-value at which a promised win is shown: the promotion risk is shared by all promises, because one of them is enough.
    pub win_threshold: f64,
}

/// Share of a guardrail's rollback risk that its slices have together; the whole keeps the rest.
const SLICES_SHARE: f64 = 0.5;

impl Risk {
    pub(crate) fn of(plan: &Plan, guardrail: &Guardrail, attempt: u32) -> Self {
        let weights: f64 = plan.guardrails.iter().filter(|g| g.test.has_risk()).map(|g| g.weight).sum();
        let promises = plan.guardrails.iter().filter(|g| g.win.is_some()).count() as f64;
        let proof_alpha = threshold::retry_alpha(plan.false_promotion, attempt);
        let whole = if guardrail.slices.is_some() { 1.0 - SLICES_SHARE } else { 1.0 };
        let false_rollback = plan.false_rollback * whole;
        Self {
            proof_alpha,
            harm_alpha: false_rollback * guardrail.weight / weights.max(guardrail.weight),
            proof_threshold: threshold::proof_threshold(proof_alpha),
            win_threshold: threshold::proof_threshold(proof_alpha / promises.max(1.0)),
            harm_threshold: threshold::harm_threshold(false_rollback, weights.max(guardrail.weight), guardrail.weight),
        }
    }

    /// The share of each slice beside a whole that has this one: equal parts for as many slices as there may be, so that it does not depend on how
    /// many are seen. Every slice is proven at the full promotion risk, because all of them must be.
    pub(crate) fn of_slice(self) -> Self {
        let together = self.harm_alpha / (1.0 - SLICES_SHARE) * SLICES_SHARE;
        Self { harm_alpha: together, ..self }.shared_among(slices::SLOTS)
    }

    /// The same with the rollback risk in `parts` equal parts.
    pub(crate) fn shared_among(self, parts: f64) -> Self {
        let harm_alpha = self.harm_alpha / parts;
        Self { harm_alpha, harm_threshold: threshold::harm_threshold(harm_alpha, 1.0, 1.0), ..self }
    }
}
