//! What the user typed: the specs of the two resources, field by field, with their schema and admission rules.
//! Nothing here is interpreted; [`crate::validate`] turns it into a [`crate::plan::Plan`], and nothing after that reads these types.

// These comments are what `kubectl explain` prints; there, backticks are noise.
#![allow(clippy::doc_markdown)]

mod kinds;
mod policy;
mod rollout;
pub(crate) mod rules;

pub use kinds::*;
pub use policy::*;
pub use rollout::*;
