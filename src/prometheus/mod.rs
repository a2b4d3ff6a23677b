//! Reads raw samples from Prometheus-compatible servers: one request per query and instant, shared by every rollout of a server.
//! Deliberately absent: `PromQL` of our own, rates, sums and any opinion about a value. An answer that is not complete is a failure here.
//!
//! ```text
//! server   which server, with which credentials: a value that rollouts share by being equal
//! client   one POST with timeouts and a size cap; what an answer means is told by `answer`
//! batch    all queries of an instant, the namespaces' views of them, history after a restart, and calm while a server is down
//! ```

mod answer;
mod batch;
mod client;
mod server;

pub use answer::read_answer;
pub use batch::{Gathered, Servers, Snapshot};
pub use client::{BODY_LIMIT, Client};
pub use server::{Auth, SecretSource, Server, ServerError};
