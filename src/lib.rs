//! Espalier's shell: everything that talks to Kubernetes, Prometheus and people. It reads, asks [`rollout_core`] what to do, and does it.
//!
//! Deliberately absent: decisions. No module here compares a measurement with a bound or picks a weight.

pub mod act;
pub mod api;
pub mod card;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod contain;
pub mod context;
pub mod controller;
pub mod events;
pub mod first;
pub mod gateway;
pub mod generator;
mod index;
pub mod kinds;
pub mod lane;
pub mod leader;
pub mod metrics;
pub mod observe;
pub mod prometheus;
pub mod reconcile;
pub mod roster;
pub mod sampler;
pub mod server;
pub mod stores;
pub mod tracker;
pub mod workload;
