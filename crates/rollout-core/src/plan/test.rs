//! What a guardrail measures and against which bounds: one kind of test each, with where its numbers come from. Says nothing of stages and risk.

use anytime_stats::Measure;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

/// What is measured and against which bounds. Each variant maps to exactly one test of `anytime-stats`.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// Counted bad events among all: RIPr (difference), conditional binomial (ratio) or one-sample (absolute).
    Counts {
        /// Bad events.
        bad: CountSource,
        /// Worse events, which alone count against the critical bound; `None` when the bad ones do.
        severe: Option<Severe>,
        /// All events.
        total: CountSource,
        /// Bound to be proven better than.
        target: CountBound,
        /// Bound beyond which it is rolled back.
        critical: CountBound,
        /// For absolute bounds: passes as well while not worse than stable.
        or_not_worse_than_stable: bool,
    },
    /// A gauge averaged over five-minute batches: asymptotic confidence sequence with AR(1) variance.
    Level {
        /// The gauge.
        series: Selector,
        /// Unit as written in the bounds.
        unit: String,
        /// Which side of the bounds is good.
        direction: Direction,
        /// Bound to be proven within.
        target: LevelBound,
        /// Bound beyond which it is rolled back.
        critical: LevelBound,
    },
    /// A hard limit on the worst value over the candidate's pods: the largest, or the smallest where less is worse.
    Limit {
        /// The gauge.
        series: Selector,
        /// Unit as written in an absolute bound.
        unit: String,
        /// Which side of the bounds is good.
        direction: Direction,
        /// Beyond this nothing rises.
        target: LimitBound,
        /// Beyond this it is rolled back; of the same form as the target.
        critical: LimitBound,
    },
    /// Counted pairs of answers to the same request: betting on those in which one arm alone was wrong, a sequential `McNemar` test.
    Paired(Paired),
    /// Counted bad events by group: the largest difference between two groups of the candidate's requests, RIPr with the groups as arms, both ways round.
    Gap(Gap),
    /// How far a distribution over bins is from another: bounds of the measure by the non-central chi-square, many looks by spending the level.
    Drift(Drift),
    /// Energy per inference at like load, in batches as for a level: asymptotic confidence sequence with AR(1) variance.
    Energy(Energy),
    /// A counter that must not move on the candidate.
    Tripwire {
        /// The counter.
        series: Selector,
    },
}

/// Events worse than the bad ones, on the same histogram: slower than a second edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Severe {
    /// The worse events; all of them are bad ones.
    pub bad: CountSource,
    /// The second edge as a duration, for people.
    pub slower_than: TimeDelta,
}

/// Which side of a bound is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// More is worse: power, memory, a queue.
    AtMost,
    /// Less is worse: capacity.
    AtLeast,
}

impl Direction {
    /// 1 where more is worse, -1 where less is.
    pub const fn sign(self) -> f64 {
        match self {
            Self::AtMost => 1.0,
            Self::AtLeast => -1.0,
        }
    }

    /// Whether `value` is on the bad side of `bound`.
    pub fn is_beyond(self, value: f64, bound: f64) -> bool {
        self.sign() * value > self.sign() * bound
    }
}

/// A bound of a hard limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LimitBound {
    /// In the gauge's unit, at least 0.
    Absolute(f64),
    /// So many times the reference's worst value, above 0.
    Ratio {
        /// The factor.
        factor: f64,
        /// Compared with what.
        versus: Reference,
    },
}

impl LimitBound {
    /// The level or the factor.
    pub const fn value(self) -> f64 {
        match self {
            Self::Absolute(value) => value,
            Self::Ratio { factor, .. } => factor,
        }
    }

    /// The arm it compares with.
    pub const fn versus(self) -> Option<Reference> {
        match self {
            Self::Absolute(_) => None,
            Self::Ratio { versus, .. } => Some(versus),
        }
    }
}

/// Pairs of answers to the same request.
#[derive(Clone, Debug, PartialEq)]
pub struct Paired {
    /// Pairs in which only the candidate was wrong.
    pub candidate_wrong: CountSource,
    /// Pairs in which only stable was wrong.
    pub stable_wrong: CountSource,
    /// All pairs.
    pub total: CountSource,
    /// Label that names the candidate's revision, on a collector; `None` where the counters are on the candidate's pods.
    pub revision_label: Option<String>,
    /// Largest loss against stable to be proven within, as a fraction in [0, 1).
    pub target: f64,
    /// Loss beyond which it is rolled back.
    pub critical: f64,
}

impl Paired {
    /// A loss as a bound against stable.
    pub const fn bound(margin: f64) -> CountBound {
        CountBound::Difference { margin, versus: Reference::Stable }
    }
}

/// The gap between groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// The events whose share is compared.
    pub bad: CountSource,
    /// All events.
    pub total: CountSource,
    /// Label that names the groups, on the series of both.
    pub label: String,
    /// Its values; at least two.
    pub groups: Vec<String>,
    /// Largest gap to be proven within, in (0, 1).
    pub target: f64,
    /// Gap beyond which it is rolled back.
    pub critical: f64,
}

/// Drift of a distribution over bins.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// Counter with one series per bin.
    pub bins: Selector,
    /// Label whose values are the bins.
    pub label: String,
    /// What the distance is measured by.
    pub measure: Measure,
    /// Gauge with the reference share of every bin; `None` compares with stable.
    pub recorded: Option<Selector>,
    /// Distance to be proven below, in the unit of the measure.
    pub target: f64,
    /// Distance beyond which it is rolled back.
    pub critical: f64,
}

impl Drift {
    /// Whether the bins are cumulative buckets.
    pub fn is_histogram(&self) -> bool {
        self.label == "le"
    }

    /// The measure as it is written in a policy.
    pub const fn measure_name(&self) -> &'static str {
        match self.measure {
            Measure::Psi => "PSI",
            Measure::JensenShannon => "JensenShannon",
            Measure::CramersV => "CramersV",
            Measure::KolmogorovSmirnov => "KolmogorovSmirnov",
        }
    }
}

/// Energy per inference.
#[derive(Clone, Debug, PartialEq)]
pub struct Energy {
    /// Counter of consumed energy, by device.
    pub consumption: Selector,
    /// Joules in one unit of that counter.
    pub joules: f64,
    /// Counter of answered requests on the arms' own pods.
    pub inferences: Selector,
    /// Labels that together name the device; empty where every series is a meter of its pod alone.
    pub device_labels: Vec<String>,
    /// Kilograms of carbon dioxide per million inferences for one joule per inference; `None` bounds energy itself.
    pub carbon: Option<f64>,
    /// Bound to be proven below.
    pub target: EnergyBound,
    /// Bound beyond which it is rolled back.
    pub critical: EnergyBound,
}

impl Energy {
    /// Unit of absolute bounds.
    pub const fn unit(&self) -> &'static str {
        if self.carbon.is_some() { "kg" } else { "J" }
    }

    /// What one joule per inference is in that unit.
    pub fn factor(&self) -> f64 {
        self.carbon.unwrap_or(1.0)
    }
}

/// A bound on energy or carbon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum EnergyBound {
    /// At most this many times what stable takes, above 0; below 1 it is a promised saving.
    Ratio(f64),
    /// At most this much, in the unit of the bounds.
    Absolute(f64),
}

impl Test {
    /// Whether the test is statistical and so has a share of the rollback risk; limits and tripwires are outside the budget.
    pub const fn has_risk(&self) -> bool {
        match self {
            Self::Counts { .. } | Self::Level { .. } | Self::Paired(_) | Self::Gap(_) | Self::Drift(_) | Self::Energy(_) => true,
            Self::Limit { .. } | Self::Tripwire { .. } => false,
        }
    }

    /// Whether a single sample of the candidate can fail it, so that it is worth a look between instants.
    pub const fn is_crossed_by_one_sample(&self) -> bool {
        // A ratio of two arms counts only when it lasts.
        matches!(self, Self::Limit { critical: LimitBound::Absolute(_), .. } | Self::Tripwire { .. })
    }
}

/// Where a count comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum CountSource {
    /// A counter.
    Counter(Selector),
    /// All observations of a histogram minus those at or below an edge.
    Above {
        /// Base name and matchers of the histogram, without `_bucket`.
        histogram: Selector,
        /// The edge in the histogram's unit.
        edge: f64,
    },
    /// All observations of a histogram.
    Observations(Selector),
    /// Seconds of every pod that reports.
    PodSeconds,
}

/// A bound on a proportion or rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CountBound {
    /// At most this much more than the reference, as a fraction: 0.02 is two percentage points.
    Difference {
        /// The margin, in [0, 1).
        margin: f64,
        /// Compared with what.
        versus: Reference,
    },
    /// At most this many times the reference's rate, at least 1.
    Ratio {
        /// The factor.
        factor: f64,
        /// Compared with what.
        versus: Reference,
    },
    /// At most this fraction, in (0, 1).
    Absolute(f64),
}

/// A bound on a level, in the gauge's unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LevelBound {
    /// At most this much more than the reference.
    Difference {
        /// The margin in the gauge's unit.
        margin: f64,
        /// Compared with what.
        versus: Reference,
    },
    /// This level, which [`Direction`] says not to exceed or not to fall below.
    Absolute(f64),
}

/// The arm a bound compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// What serves now.
    Stable,
    /// The original model.
    Baseline,
}

/// A metric name with label matchers, as in `name{label="value"}`: the only query form there is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// Metric name.
    pub metric: String,
    /// Matchers in the user's order, each as `label`, operator (`=`, `!=`, `=~`, `!~`), unquoted value.
    pub matchers: Vec<(String, MatchOp, String)>,
}

/// Operators of a label matcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Matches,
    /// `!~`
    NotMatches,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_its_bound_is_not_beyond_it() {
        for (direction, beyond) in [(Direction::AtMost, [false, false, true]), (Direction::AtLeast, [true, false, false])] {
            assert_eq!([4.0, 5.0, 6.0].map(|value| direction.is_beyond(value, 5.0)), beyond, "{direction:?}");
        }
    }
}
