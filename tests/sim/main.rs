//! The unmodified operator in a simulated world: an API server, a gateway, pods and a Prometheus in memory, on a paused clock. One seed is one run.
//! What must hold is checked at every write and every instant; the tests say how a story ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "the simulated numbers are small")]

mod cluster;
mod dice;
mod faults;
mod limits;
mod oracle;
mod process;
mod prometheus;
mod serve;
mod store;
mod stories;
mod world;

use chrono::TimeDelta;

use stories::{Sim, rollout};

#[test]
fn a_good_candidate_is_deployed_stepped_and_promoted() {
    let mut sim = Sim::new(1).serving();
    sim.apply(&rollout("b"));
    let promoted = sim.until(TimeDelta::hours(2), |sim| sim.serves("b") && sim.settled());
    assert!(promoted && sim.violations().is_empty(), "{}", sim.story());
    assert_eq!((sim.share("b"), sim.share("a")), (100, 0));
    println!("{}", sim.story());
}
