//! Constructors that only the judge has otherwise, for tests of what follows a judgement.
//! Absent from every build without the feature `testing`: there, only evidence makes a pass.

use chrono::{DateTime, Utc};

use crate::revision::RevisionId;
use crate::verdict::Pass;
use crate::weights::Position;

/// A pass of `candidate` at `position` under `plan_hash`, judged at `at`.
pub fn pass(candidate: RevisionId, position: Position, plan_hash: &str, at: DateTime<Utc>) -> Pass {
    Pass::new(candidate, position, plan_hash.to_owned(), at)
}
