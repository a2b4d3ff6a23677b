//! The decision of Espalier: what a rollout may do next, computed from what was seen.
//!
//! Pure, total and deterministic: time, samples and cluster state enter as values, a [`decide::Decision`] leaves as a value. This crate
//! deliberately has no Kubernetes client, no async runtime, no HTTP and no clock; Cargo keeps it so.
//!
//! ```text
//! validate(spec, policy) -> Plan        what the user means, complete and checked
//! evidence.absorb(readings)             counts of aligned instants, folded into always-valid processes
//! judge(plan, evidence, now)            verdict per guardrail, then Pass | Fail | Hold for all
//! decide(observed, judgement, now)      the next status and the writes that lead there, in a safe order
//! route::render / route::lower          the HTTPRoute that carries it, unknown fields untouched
//! ```

pub mod decide;
pub mod evidence;
pub mod judge;
pub mod lease;
pub mod observed;
pub mod plan;
pub mod planning;
pub mod profile;
pub mod quantity;
pub mod replay;
pub mod revision;
pub mod route;
pub mod spec;
pub mod status;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
pub mod validate;
pub mod verdict;
pub mod weights;
pub mod words;
