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
//! Counts are `f64`: whole numbers are exact up to 2⁵³.
//!
//! # What is assumed
//!
//! *Filtration.* `F_t` is what the closed windows up to `t` show: counts of both arms, and whatever else was known by then. The null, the alternatives and
//! their weights, the cap and the horizon are fixed at the start. The guess of the champion's rate, φ, the split of traffic, and whether a window counts
//! must be known at `F_{t−1}`, before the window is read. When a window closes may depend on time and on numbers of trials, never on outcomes; nobody looks
//! inside an open one.
//!
//! *Independence.* Given `F_{t−1}` and the numbers of trials, the trials of a window are independent, within an arm and between the arms. They need not be
//! alike: the expectation of a window's factor is a product of functions linear in each trial's probability, so that of all trials with the same mean equal
//! ones are the worst case. What they share *by chance* (batches, retries, one user, a slow node) breaks the assumption; see over-dispersion below.
//!
//! *Assignment.* In every window each arm gets a random share of the same requests, and no arm changes what the other does (no shared cache, queue or rate
//! limit). [`sample_ratio`] checks the share; nothing here can check the interference.
//!
//! *Stationarity* is not assumed of the base rate, of traffic or of the split: each window is compared within itself. It is assumed of over-dispersion (the
//! past clusters as the present does), of a gauge's autocorrelation, and of the frozen reference of [`detector`].
//!
//! *Over-dispersion.* `ℓ/φ` is an exact log e-value for normal sums whose variance is φ times that of independent trials, and a conservative one where
//! `ℓ` was valid already. φ itself is an estimate: with it the bound on the errors holds as far as φ is right, and no longer at every sample size. Shocks that
//! last longer than the longest scale looked at are not seen.
//!
//! *Missing data.* A window that lacks an arm has weight zero, which is always valid. That outcomes are missing for reasons that have to do with the outcome
//! is not covered, and no e-value can show it.
//!
//! # What a rejection means
//!
//! The null is about *every* window: "worse by the margin or more in each of them" for the proof, "no worse than the margin in any of them" for harm. A
//! proof therefore shows that there were windows in which the candidate was within its margin, not that it always was or will be; harm shows that there were
//! windows in which it was not. Where the effect follows the hour, look for a whole day before believing a proof, and demand besides that harm shows no
//! sign. The *average* effect is what [`intervals`] estimate.
//!
//! # What always valid excludes
//!
//! Looking, stopping, going on and moving traffic are free. Not free: choosing the margin, the alternatives, the window length or the guardrails after having
//! seen outcomes; trying the same subject again ([`threshold::retry_alpha`] pays for it); picking the best of several candidates; times of day that
//! were not observed; anything that happens after the stop.
//!
//! | kind of bound | where |
//! |---|---|
//! | at every sample size and every stopping time | [`risk_difference`], [`rate_ratio`], [`exceedance`], [`absolute_limit`], [`paired`], [`sample_ratio`] at φ = 1; sums in [`harm`], [`proof`]; [`detector`] (mean time between false alarms, not a probability); [`intervals::proportion_interval`]; [`quantile`] |
//! | at every stopping time, asymptotically | [`gauge`], the other [`intervals`], everything at φ > 1 |
//! | over all scheduled looks, asymptotically | [`divergence`] by [`looks`], [`group_sequential`] |
//! | at one look only | [`drift`], [`fixed`], [`ranks`] |
//! | none: a forecast or a plan | [`eta`], [`planning`] |
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
