//! The unmodified operator in a simulated world: an API server, a gateway, pods and a Prometheus in memory, on a paused clock. One seed is one run.
//! What must hold is checked at every write and every instant; the tests say how a story ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]
#![allow(clippy::cast_possible_truncation, reason = "the simulated numbers are small")]

mod cast;
mod chaos;
mod cluster;
mod crashes;
mod dice;
mod faults;
mod honest;
mod leaders;
mod limits;
mod oracle;
mod people;
mod process;
mod prometheus;
mod schema;
mod serve;
mod soak;
mod store;
mod stories;
mod tests;
mod world;
