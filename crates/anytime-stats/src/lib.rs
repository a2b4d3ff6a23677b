//! Always-valid statistics for comparing two arms on counts, rates, latencies and gauges.
//!
//! An *e-value* is a number that is expected to be at most 1 when a null hypothesis holds; an *e-process* is a sequence of them that stays an e-value at
//! any stopping time. By Ville's inequality `P(E ever ≥ 1/α) ≤ α`, so one may look after every window, stop early, go on longer, or change the split of
//! traffic because of what was seen: the error probability stands. All e-values here are natural logarithms.
//!
//! Arm a is the *champion*, arm b the *candidate*; "bad" is the event that is not wanted; a margin is what may be lost. For every margin there are two
//! one-sided questions ([`Side`]): is the candidate proven not to be worse than the margin, and is it proven to be?
//!
//! | data | increments per window | added up by |
//! |---|---|---|
//! | proportions, absolute margin | [`risk_difference`] | [`harm`], [`proof`] |
//! | rates and rare counts, relative margin | [`rate_ratio`] | [`harm`], [`proof`] |
//! | share above a fixed limit | [`exceedance`] | [`absolute_limit`] |
//! | gauges | – | [`gauge`] |
//! | distributions over bins | [`strata`], [`divergence`] | [`looks`] |
//! | pairs | – | [`paired`] |
//! | assignment of traffic | – | [`sample_ratio`] |
//!
//! [`counters`] and [`bin_counters`] turn raw cumulative counters into counts, [`merge`] merges small windows, [`overdispersion`] says by how much to deflate, [`threshold`]
//! when it is enough, [`decision`] what follows. [`intervals`], [`eta`] and [`planning`] inform people. The remaining modules are alternatives, reports
//! and baselines.
//!
//! Everything is a pure function or a small serialisable state; nothing reads a clock or the network, nothing panics on a finite input.
//!
//! ```
//! use anytime_stats::{HarmProcess, RiskDifference, Side, Tally, Window, threshold};
//!
//! let test = RiskDifference::new(0.02)?;
//! let mut harm = HarmProcess::new(RiskDifference::weights(Side::Harm), 0.5, 100, None)?;
//! let window = Window::new(Tally::new(210.0, 2700.0), Tally::new(57.0, 300.0));
//! harm.grid_point();
//! harm.absorb(&test.log_increments(Side::Harm, 0.08, &window), 1.0);
//! assert!(harm.log_e() > threshold::harm_threshold(0.05, 1.0, 1.0));
//! # Ok::<(), anytime_stats::InvalidParameter>(())
//! ```

#![allow(clippy::doc_markdown, reason = "authors' names such as McNemar and DeMets are not code")]

pub mod absolute_limit;
pub mod bin_counters;
pub mod bin_scatter;
pub mod cohort;
pub mod counters;
pub mod decision;
pub mod detector;
pub mod divergence;
pub mod drift;
pub mod eta;
pub mod exceedance;
pub mod fixed;
pub mod gauge;
pub mod group_sequential;
pub mod harm;
pub mod intervals;
pub mod looks;
mod math;
pub mod merge;
pub mod mixtures;
pub mod multiplicity;
pub mod overdispersion;
pub mod paired;
pub mod planning;
pub mod proof;
pub mod quantile;
pub mod ranks;
pub mod rate_ratio;
pub mod risk_difference;
pub mod sample_ratio;
pub mod strata;
pub mod threshold;
pub mod window;
pub mod wobble;

pub use absolute_limit::{AbsoluteLimit, AbsoluteLimitPlan};
pub use detector::EDetector;
pub use divergence::{Against, Divergence, Measure};
pub use exceedance::Exceedance;
pub use gauge::{GaugePlan, GaugeProcess};
pub use harm::HarmProcess;
pub use looks::Looks;
pub use overdispersion::Overdispersion;
pub use paired::{PairedMargin, Pairs};
pub use proof::ProofProcess;
pub use rate_ratio::RateRatio;
pub use risk_difference::{PlugInRate, RiskDifference};
pub use sample_ratio::SampleRatio;
pub use strata::Strata;
pub use window::{Interval, InvalidParameter, Side, Tally, Window};
