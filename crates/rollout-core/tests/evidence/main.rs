//! Evidence and judge against a small simulated Prometheus: raw series of pods with traffic, resets, gaps and doubled scrapes.
//! No server, no clock: every test says which samples there were and what must be concluded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
// Small numbers of ticks, pods and requests.
#![allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod backtest;
mod chance;
mod cohorts;
mod drift;
mod energy;
mod fairness;
mod glance;
mod labels;
mod limits;
mod maturity;
mod measuring;
mod paired;
mod past;
mod places;
mod plans;
mod replay;
mod run;
mod slices;
mod told;
mod traffic;
mod verdicts;
mod wild;
mod wins;
mod world;
