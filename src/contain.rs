//! Keeps a panic in the work for one object away from all others: catches it and hands on what it said.
//! Repeats nothing and decides nothing; who calls says what becomes of the object.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::FutureExt;
use rollout_core::verdict::Failure;
use rollout_core::words::clip;
use thiserror::Error;

/// Longest part of a panic's words that is handed on, in bytes.
const MOST_WORDS: usize = 400;

/// Reason of events and failures that come from a defect of the operator.
pub const INTERNAL_ERROR: &str = "InternalError";

/// What a panic said.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("a defect of the operator: panicked: {0}")]
pub struct Panicked(String);

impl Panicked {
    fn saying(payload: &(dyn Any + Send)) -> Self {
        let words = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self(clip(words.unwrap_or("without words"), MOST_WORDS))
    }

    /// Why a candidate has no users that cannot be judged or decided about.
    pub fn failure(&self) -> Failure {
        Failure { guardrail: "operator".into(), reason: INTERNAL_ERROR.into(), message: self.to_string() }
    }
}

/// The result of `work`, or what its panic said. What `work` changed before it panicked stays changed: the caller throws it away or sets it right.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked::saying(payload.as_ref()))
}

/// [`contained`] for a future.
pub async fn contained_future<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|payload| Panicked::saying(payload.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_its_words_and_a_result_stays_one() {
        assert_eq!(contained(|| 7), Ok(7));
        assert_eq!(contained_future(async { 7 }).await, Ok(7));
        let said = contained(|| panic!("index {} of 3", 5)).unwrap_err();
        assert_eq!(said.to_string(), "a defect of the operator: panicked: index 5 of 3");
        let said = contained_future(async { panic!("static words") }).await.unwrap_err();
        assert_eq!(said, Panicked("static words".into()));
        assert_eq!(contained(|| std::panic::panic_any(3)).unwrap_err(), Panicked("without words".into()));
    }

    #[test]
    fn endless_words_are_cut() {
        assert!(contained(|| panic!("{}", "x".repeat(10_000))).unwrap_err().to_string().len() < 500);
    }
}
