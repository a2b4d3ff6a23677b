//! The counts every two-arm test reads: one closed window of time, champion beside candidate.
//! It knows nothing about where counts come from; see [`crate::counters`] for that.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Bad events among trials (or over an exposure) of one arm.
///
/// Both are numbers of events kept as `f64`, exact up to 2^53. For rates `total` may be any exposure, such as pod-seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Events that are not wanted.
    pub bad: f64,
    /// Trials, or exposure for rates.
    pub total: f64,
}

impl Tally {
    /// A tally of `bad` events in `total` trials.
    pub const fn new(bad: f64, total: f64) -> Self {
        Self { bad, total }
    }

    /// Share of bad events; `None` without trials.
    pub fn rate(&self) -> Option<f64> {
        (self.total > 0.0).then(|| self.bad / self.total)
    }

    /// True when the counts can be a number of bad trials among all trials.
    pub fn is_proportion(&self) -> bool {
        self.is_rate() && self.bad <= self.total
    }

    /// True when the counts can be events over an exposure: finite, not negative, no event without exposure.
    pub fn is_rate(&self) -> bool {
        self.bad.is_finite() && self.total.is_finite() && self.bad >= 0.0 && self.total >= 0.0 && (self.total > 0.0 || self.bad == 0.0)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.bad += other.bad;
        self.total += other.total;
    }
}

/// Counts of both arms in the same window of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Arm a: what is compared against.
    pub champion: Tally,
    /// Arm b: what is on trial.
    pub candidate: Tally,
}

impl Window {
    /// `champion` bad/total beside `candidate` bad/total.
    pub const fn new(champion: Tally, candidate: Tally) -> Self {
        Self { champion, candidate }
    }

    /// Both arms have trials; only then does a window carry evidence.
    pub fn has_both_arms(&self) -> bool {
        self.champion.total > 0.0 && self.candidate.total > 0.0
    }
}

impl AddAssign for Window {
    fn add_assign(&mut self, other: Self) {
        self.champion += other.champion;
        self.candidate += other.candidate;
    }
}

/// Which of the two one-sided questions is asked about a margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// Null: no worse than the margin. Evidence against it is evidence of harm.
    Harm,
    /// Null: worse than the margin, or exactly on it. Evidence against it proves non-inferiority.
    Proof,
}

/// An estimate with a time-uniform interval: it may be looked at after every window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Point estimate.
    pub estimate: f64,
    /// Lower limit.
    pub lower: f64,
    /// Upper limit.
    pub upper: f64,
}

/// A parameter of a test lies outside its domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidParameter {
    /// The parameter's name.
    pub name: &'static str,
    /// What was expected, as the end of the sentence "… must be …".
    pub expected: &'static str,
}

impl InvalidParameter {
    pub(crate) fn check(valid: bool, name: &'static str, expected: &'static str) -> Result<(), Self> {
        if valid { Ok(()) } else { Err(Self { name, expected }) }
    }
}

impl std::fmt::Display for InvalidParameter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} must be {}", self.name, self.expected)
    }
}

impl std::error::Error for InvalidParameter {}
