//! z-statistics of one guardrail against a bound, on pooled counts or stratified by window. Positive means worse than the bound.
//! Normal approximations for policies that use them; Espalier does not.

use anytime_stats::Window;
use anytime_stats::intervals::StratifiedDifference;

use crate::history::Seen;
use crate::scenario::Bound;

/// Running sums of one guardrail.
#[derive(Clone, Debug)]
pub struct Score {
    bound: Bound,
    pooled: Window,
    difference: StratifiedDifference,
    /// `Σ(x − expected)` and its variance, over windows.
    sum: (f64, f64),
    /// Number, sum and sum of squares of level differences.
    levels: (f64, f64, f64),
}

/// The same guardrail when nothing at all may get worse.
pub const fn zero(bound: Bound) -> Bound {
    match bound {
        Bound::Points { .. } => Bound::Points { target: 0.0, critical: 0.0 },
        Bound::Times(_) => Bound::Times(1.0),
        Bound::Limit(limit) => Bound::Limit(limit),
        Bound::Level(_) => Bound::Level(0.0),
    }
}

impl Score {
    /// No data yet.
    pub fn new(bound: Bound) -> Self {
        Self { bound, pooled: Window::default(), difference: StratifiedDifference::default(), sum: (0.0, 0.0), levels: (0.0, 0.0, 0.0) }
    }

    /// Adds a window.
    pub fn absorb(&mut self, seen: &Seen) {
        self.pooled += seen.counts;
        self.difference.absorb(&seen.counts, 1.0);
        let (excess, variance) = excess(self.bound, &seen.counts);
        self.sum = (self.sum.0 + excess, self.sum.1 + variance);
        if let Some((champion, candidate)) = seen.levels {
            let y = candidate - champion;
            self.levels = (self.levels.0 + 1.0, self.levels.1 + y, self.levels.2 + y * y);
        }
    }

    /// z of the pooled counts; `None` while there is no variance.
    pub fn pooled(&self) -> Option<f64> {
        match self.bound {
            Bound::Points { target, .. } => {
                let (a, b) = (self.pooled.champion, self.pooled.candidate);
                let spread = |bad: f64, total: f64| {
                    let p = (bad + 0.5) / (total + 1.0);
                    p * (1.0 - p) / total
                };
                let difference = b.rate()? - a.rate()? - target;
                ratio(difference, spread(a.bad, a.total) + spread(b.bad, b.total))
            }
            Bound::Times(_) | Bound::Limit(_) => {
                let (excess, variance) = excess(self.bound, &self.pooled);
                ratio(excess, variance)
            }
            Bound::Level(margin) => self.level(margin),
        }
    }

    /// z of the counts stratified by window.
    pub fn stratified(&self) -> Option<f64> {
        match self.bound {
            Bound::Points { target, .. } => {
                let (excess, variance) = self.difference.score(target);
                ratio(excess, variance)
            }
            Bound::Times(_) | Bound::Limit(_) => ratio(self.sum.0, self.sum.1),
            Bound::Level(margin) => self.level(margin),
        }
    }

    /// z of the mean difference of levels, as if windows were independent.
    fn level(&self, margin: f64) -> Option<f64> {
        let (n, sum, squares) = self.levels;
        if n < 3.0 {
            return None;
        }
        let (mean, variance) = (sum / n, (squares - sum * sum / n) / (n - 1.0));
        ratio(mean - margin, variance / n)
    }
}

/// `x − expected` on the bound and its variance.
fn excess(bound: Bound, counts: &Window) -> (f64, f64) {
    let (a, b) = (counts.champion, counts.candidate);
    match bound {
        Bound::Times(factor) if a.total > 0.0 && b.total > 0.0 => {
            let share = b.total * factor / (a.total + b.total * factor);
            let events = a.bad + b.bad;
            (b.bad - events * share, events * share * (1.0 - share))
        }
        Bound::Limit(limit) => (b.bad - b.total * limit, b.total * limit * (1.0 - limit)),
        Bound::Times(_) | Bound::Points { .. } | Bound::Level(_) => (0.0, 0.0),
    }
}

fn ratio(excess: f64, variance: f64) -> Option<f64> {
    let z = excess / variance.sqrt();
    (variance > 0.0 && z.is_finite()).then_some(z)
}
