//! Exposure and the right to raise it, in types: weights that always sum to 100, and a ticket that only a pass can make.
//! Does not decide when to raise; it only makes an unproven raise impossible to write down.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::revision::RevisionId;

/// Share of user requests that the candidate answers, in whole percent, 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Exposure(i32);

impl Exposure {
    /// Nobody sees the candidate.
    pub const ZERO: Self = Self(0);
    /// Everybody sees the candidate.
    pub const FULL: Self = Self(100);

    /// The exposure of `percent`, `None` outside 0..=100.
    pub const fn new(percent: i32) -> Option<Self> {
        if percent >= 0 && percent <= 100 { Some(Self(percent)) } else { None }
    }

    /// Whole percent, 0 to 100.
    pub const fn percent(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// The two weights of a split; they sum to 100 by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    candidate: Exposure,
}

impl Weights {
    /// The weights that give the candidate `exposure`.
    pub const fn of(exposure: Exposure) -> Self {
        Self { candidate: exposure }
    }

    /// Weight of the candidate's backend, 0 to 100.
    pub const fn candidate(self) -> i32 {
        self.candidate.0
    }

    /// Weight of stable's backend, 0 to 100; with [`Self::candidate`] it sums to 100.
    pub const fn stable(self) -> i32 {
        100 - self.candidate.0
    }
}

/// Where in the plan a raise leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Position {
    /// Index into the plan's stages.
    pub stage: usize,
    /// Index into that stage's steps.
    pub step: usize,
}

/// What gave the right to raise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// The judge passed this candidate at this position under this policy.
    Passed {
        /// The position that was passed.
        position: Position,
        /// Hash of the policy and stages that were judged.
        plan_hash: String,
    },
    /// The first step of an attempt: nothing was judged yet, and the first exposure is what the user wrote.
    FirstStep {
        /// Hash of the pinned plan.
        plan_hash: String,
    },
    /// The revision served everybody before, within the rollback window.
    ServedBefore,
    /// Nothing serves yet, and nothing was ever recorded.
    InitialDeployment,
    /// A person asked for it, naming this candidate.
    Requested {
        /// Id of the request.
        id: String,
    },
}

/// The right to raise one candidate's exposure to one value, once, for a short time.
///
/// Only [`crate::judge`] and [`crate::decide`] can make one. Lowering needs none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaiseTicket {
    candidate: RevisionId,
    to: Exposure,
    grounds: Grounds,
    issued: DateTime<Utc>,
}

/// How long a ticket is good for: a raise that could not be written by then needs a fresh pass.
pub const TICKET_LIFETIME: TimeDelta = TimeDelta::seconds(15);

impl RaiseTicket {
    pub(crate) fn new(candidate: RevisionId, to: Exposure, grounds: Grounds, issued: DateTime<Utc>) -> Self {
        Self { candidate, to, grounds, issued }
    }

    /// The revision that may be raised.
    pub fn candidate(&self) -> &RevisionId {
        &self.candidate
    }

    /// The exposure it may be raised to.
    pub const fn to(&self) -> Exposure {
        self.to
    }

    /// What gave the right.
    pub const fn grounds(&self) -> &Grounds {
        &self.grounds
    }

    /// Whether the ticket still holds at `now`.
    pub fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        now >= self.issued && now - self.issued <= TICKET_LIFETIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_100_for_every_exposure() {
        for percent in 0..=100 {
            let weights = Weights::of(Exposure::new(percent).unwrap());
            assert_eq!(weights.candidate() + weights.stable(), 100);
            assert_eq!(weights.candidate(), percent);
        }
        assert_eq!(Exposure::new(-1), None);
        assert_eq!(Exposure::new(101), None);
    }

    #[test]
    fn a_ticket_expires_and_is_not_good_before_it_was_issued() {
        let now = DateTime::from_timestamp(1_000, 0).unwrap();
        let ticket = RaiseTicket::new(RevisionId::new("r1"), Exposure::FULL, Grounds::ServedBefore, now);
        assert!(ticket.is_fresh(now + TICKET_LIFETIME));
        assert!(!ticket.is_fresh(now + TICKET_LIFETIME + TimeDelta::milliseconds(1)));
        assert!(!ticket.is_fresh(now - TimeDelta::milliseconds(1)));
    }
}
