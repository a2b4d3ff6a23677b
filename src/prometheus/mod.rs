//! Reads raw samples from Prometheus-compatible servers: one request per query and instant, shared by every rollout of a server.
//! Deliberately absent: `PromQL` of our own, rates, sums and any opinion about a value. An answer that is not complete is a failure here.
//!
//! ```text
//! server   which server, with which credentials: a value that rollouts share by being equal
//! client   one POST with timeouts and a size cap; what an answer means is told by `answer`
//! labels   what series of one pod have in common, held once
//! batch    all queries of an instant, history after a restart, and calm while a server is down
//! gathered the answers, and who sees which of their series
//! ```

mod answer;
mod batch;
mod client;
mod gathered;
mod labels;
mod server;

pub use answer::read_answer;
pub use batch::{Servers, Snapshot};
pub use client::{Answer, BODY_LIMIT, Client, Exchange};
pub use gathered::Gathered;
pub use server::{Auth, SecretSource, Server, ServerError};
