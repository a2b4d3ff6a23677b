//! How a run ended, and what many runs say together.
//! Knows nothing of policies; whether an ending was right depends on the scenario's truth alone.

use anytime_stats::Tally;
use anytime_stats::fixed::clopper_pearson;

use crate::scenario::Truth;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The candidate serves everybody.
    Promoted,
    /// The candidate was sent back as worse.
    RolledBack,
    /// It ended without a proof of either.
    Inconclusive,
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub decision: Decision,
    /// When, in minutes since the first exposure.
    pub minutes: f64,
    /// Requests that the candidate had answered by then.
    pub served: f64,
}

/// A rate with its Monte-Carlo uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Share of runs.
    pub value: f64,
    /// Standard error.
    pub error: f64,
    /// Exact one-sided upper limit at 99 % (Clopper & Pearson).
    pub upper: f64,
}

/// All runs of one policy in one scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Name of the policy.
    pub policy: &'static str,
    /// Its runs, in order.
    pub outcomes: Vec<Outcome>,
}

impl Cell {
    /// Share of runs that ended like this.
    pub fn rate(&self, decision: Decision) -> Rate {
        let hits = self.outcomes.iter().filter(|outcome| outcome.decision == decision).count() as f64;
        let n = self.outcomes.len() as f64;
        let value = if n > 0.0 { hits / n } else { 0.0 };
        // A two-sided interval at 98 % has 1 % beyond its upper end.
        let upper = clopper_pearson(Tally::new(hits, n), 0.98).map_or(1.0, |interval| interval.upper);
        Rate { value, error: (value * (1.0 - value) / n.max(1.0)).sqrt(), upper }
    }

    /// False promotions, where a promotion would be false.
    pub fn false_promotion(&self, truth: Truth) -> Option<Rate> {
        (truth != Truth::Good).then(|| self.rate(Decision::Promoted))
    }

    /// False rollbacks, where a rollback would be false.
    pub fn false_rollback(&self, truth: Truth) -> Option<Rate> {
        (truth != Truth::Bad).then(|| self.rate(Decision::RolledBack))
    }

    /// The larger rate of wrong decisions.
    pub fn worst(&self, truth: Truth) -> f64 {
        let rates = [self.false_promotion(truth), self.false_rollback(truth)];
        rates.into_iter().flatten().map(|rate| rate.value).fold(0.0, f64::max)
    }

    /// Share of runs that ended as the truth demands; without a demand, of those that took no wrong decision.
    pub fn correct(&self, truth: Truth) -> Rate {
        self.rate(match truth {
            Truth::Good => Decision::Promoted,
            Truth::Bad => Decision::RolledBack,
            Truth::Neither => Decision::Inconclusive,
        })
    }

    /// Quantile of the minutes to the end over all runs, or over those that ended like this; `None` without any.
    pub fn minutes(&self, quantile: f64, only: Option<Decision>) -> Option<f64> {
        quantile_of(self.chosen(only).map(|outcome| outcome.minutes).collect(), quantile)
    }

    /// Median of the candidate's requests before the end, over runs that ended like this.
    pub fn served(&self, only: Option<Decision>) -> Option<f64> {
        quantile_of(self.chosen(only).map(|outcome| outcome.served).collect(), 0.5)
    }

    fn chosen(&self, only: Option<Decision>) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(move |outcome| only.is_none_or(|decision| outcome.decision == decision))
    }
}

/// The smallest value that at least this share of the values does not exceed.
fn quantile_of(mut values: Vec<f64>, quantile: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    // The index is inside by construction of the product.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the number of values")]
    let rank = (quantile * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(decisions: &[(Decision, f64)]) -> Cell {
        let outcomes =
            decisions.iter().map(|(decision, minutes)| Outcome { decision: *decision, minutes: *minutes, served: 1.0 }).collect();
        Cell { policy: "p", outcomes }
    }

    #[test]
    fn what_is_wrong_depends_on_the_truth() {
        let cell =
            cell(&[(Decision::Promoted, 1.0), (Decision::RolledBack, 2.0), (Decision::RolledBack, 3.0), (Decision::Inconclusive, 4.0)]);
        assert!(cell.false_promotion(Truth::Good).is_none() && cell.false_rollback(Truth::Bad).is_none());
        assert!((cell.worst(Truth::Good) - 0.5).abs() < 1e-12 && (cell.worst(Truth::Bad) - 0.25).abs() < 1e-12);
        assert!((cell.correct(Truth::Neither).value - 0.25).abs() < 1e-12);
        assert_eq!(cell.minutes(0.5, None), Some(2.0));
        assert_eq!(cell.minutes(0.9, Some(Decision::RolledBack)), Some(3.0));
        assert_eq!(cell.minutes(0.5, Some(Decision::Promoted)), Some(1.0));
    }

    #[test]
    fn no_event_in_2000_runs_still_has_an_upper_limit() {
        let cell = cell(&vec![(Decision::Inconclusive, 1.0); 2_000]);
        // 1 − 0.01^(1/2000).
        assert!((cell.rate(Decision::Promoted).upper - 0.002_299_9).abs() < 1e-6);
    }
}
