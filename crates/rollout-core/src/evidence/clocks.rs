//! The times that evidence goes by: what was measured and judged of a stage, the tick of an instant, and from when on counts have weight.
//! Reads no clock; instants are handed in.

use serde::{Deserialize, Serialize};

/// Instants and times; milliseconds since the epoch, and seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Clocks {
    pub started: i64,
    pub last: i64,
    /// Last instant at which anything active could be measured.
    pub measured: Option<i64>,
    /// Measured seconds of the stage and of the step.
    pub stage: f64,
    pub step: f64,
    /// Those of the stage in which there was something to judge: what the longest time of a stage counts.
    #[serde(default)]
    pub judged: f64,
    /// Measured seconds of the step since traffic settled.
    pub step_settled: f64,
}

impl Clocks {
    pub(super) fn measured(&mut self, times: &TickTimes, judged: bool) {
        self.measured = Some(times.end);
        if judged {
            self.judged += times.judged;
        }
        self.stage += times.judged;
        self.step += times.judged;
        if times.start >= times.settled {
            self.step_settled += times.judged;
        }
    }
}

/// The tick that ends at an instant, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TickTimes {
    pub start: i64,
    pub end: i64,
    /// Seconds that count as judged: those of a gap do not.
    pub judged: f64,
    /// Until when traffic settles.
    pub settled: i64,
    /// Since when traffic is what it is.
    pub since: i64,
}

/// From when on what is counted has weight, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weighty {
    /// In the proof.
    pub proof: i64,
    /// Against the candidate.
    pub harm: i64,
}

impl Weighty {
    /// Where traffic changed at `since` and settles until `settled`, for labels that come late by `age`: nothing younger tells the models apart.
    pub(crate) fn of(since: i64, settled: i64, age: Option<i64>) -> Self {
        age.map_or(Self { proof: settled, harm: i64::MIN }, |age| Self { proof: settled.max(since + age), harm: since + age })
    }
}

impl TickTimes {
    pub(super) fn seconds(&self) -> f64 {
        (self.end - self.start) as f64 / 1000.0
    }
}
