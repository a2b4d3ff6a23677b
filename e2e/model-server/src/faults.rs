//! Faults that can be switched on: what is in force, how a request or an administrator changes it, and what one request suffers.
//! It decides and rolls the dice; sleeping, failing, crashing and allocating happen elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

const MAX_LATENCY_MS: u64 = 600_000;
const MAX_OOM_MIB: u64 = 8_192;
const MAX_POWER_FACTOR: f64 = 100.0;

/// A value outside its range.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{field} is {found}, expected {expected}")]
pub struct FaultError {
    field: &'static str,
    found: String,
    expected: &'static str,
}

/// Changes to the faults: flags at start, JSON at run time. A field that is absent changes nothing.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultPatch {
    /// Added to every answer, in ms
    #[arg(long = "fault-latency-ms", env = "ESPALIER_FAULT_LATENCY_MS")]
    pub latency_ms: Option<u64>,
    /// Upper end of a uniform extra delay, in ms
    #[arg(long = "fault-jitter-ms", env = "ESPALIER_FAULT_JITTER_MS")]
    pub jitter_ms: Option<u64>,
    /// Share of requests answered with 500, 0 to 1
    #[arg(long = "fault-error-rate", env = "ESPALIER_FAULT_ERROR_RATE")]
    pub error_rate: Option<f64>,
    /// Share of requests whose probabilities are NaN, 0 to 1
    #[arg(long = "fault-nan-rate", env = "ESPALIER_FAULT_NAN_RATE")]
    pub nan_rate: Option<f64>,
    /// Share of requests answered with the next digit, 0 to 1
    #[arg(long = "fault-wrong-rate", env = "ESPALIER_FAULT_WRONG_RATE")]
    pub wrong_rate: Option<f64>,
    /// Share of requests answered with 0 whatever is shown, 0 to 1
    #[arg(long = "fault-constant-rate", env = "ESPALIER_FAULT_CONSTANT_RATE")]
    pub constant_rate: Option<f64>,
    /// Multiplies the simulated draw, idle share included
    #[arg(long = "fault-power-factor", env = "ESPALIER_FAULT_POWER_FACTOR")]
    pub power_factor: Option<f64>,
    /// Exit with code 1 after so many seconds
    #[arg(long = "fault-crash-after-s", env = "ESPALIER_FAULT_CRASH_AFTER_S")]
    pub crash_after_s: Option<u64>,
    /// Allocate and touch this much host memory, in MiB
    #[arg(long = "fault-oom-mib", env = "ESPALIER_FAULT_OOM_MIB")]
    pub oom_mib: Option<u64>,
    /// Never answer
    #[arg(long = "fault-hang", env = "ESPALIER_FAULT_HANG", num_args = 0..=1, default_missing_value = "true")]
    pub hang: Option<bool>,
    /// Report not ready
    #[arg(long = "fault-not-ready", env = "ESPALIER_FAULT_NOT_READY", num_args = 0..=1, default_missing_value = "true")]
    pub not_ready: Option<bool>,
    /// Last XID error code of the simulated GPU
    #[arg(long = "fault-xid", env = "ESPALIER_FAULT_XID")]
    pub xid: Option<u64>,
    /// Latency, errors, NaN, wrong and constant answers and hanging hit only this region
    #[arg(long = "fault-only-region", env = "ESPALIER_FAULT_ONLY_REGION")]
    pub only_region: Option<String>,
    /// Exit with code 1 at once (run time only)
    #[arg(skip)]
    pub crash_now: Option<bool>,
    /// Forget all faults before applying the rest (run time only)
    #[arg(skip)]
    pub reset: Option<bool>,
}

/// The faults in force.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Faults {
    latency_ms: u64,
    jitter_ms: u64,
    error_rate: f64,
    nan_rate: f64,
    wrong_rate: f64,
    constant_rate: f64,
    power_factor: f64,
    hang: bool,
    not_ready: bool,
    xid: u64,
    only_region: Option<String>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            jitter_ms: 0,
            error_rate: 0.0,
            nan_rate: 0.0,
            wrong_rate: 0.0,
            constant_rate: 0.0,
            power_factor: 1.0,
            hang: false,
            not_ready: false,
            xid: 0,
            only_region: None,
        }
    }
}

/// What a change asks for beyond the lasting faults.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// End the process with code 1 after this long.
    Crash(Duration),
    /// Allocate and touch so many MiB.
    Allocate(u64),
}

/// What one request suffers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Suffering {
    /// Added before the answer.
    pub delay: Duration,
    /// Never answer while this stays in force.
    pub hang: bool,
    /// What the answer becomes.
    pub answer: Answer,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// The model's own.
    #[default]
    Intact,
    /// Status 500.
    Error,
    /// NaN throughout.
    Nan,
    /// The next digit.
    Wrong,
    /// 0, for certain.
    Constant,
}

impl Faults {
    /// Applies a patch as a whole or not at all; returns what has to be done once.
    pub fn apply(&mut self, patch: &FaultPatch) -> Result<Vec<Action>, FaultError> {
        let mut next = if patch.reset == Some(true) { Self::default() } else { self.clone() };
        set(&mut next.latency_ms, "latency_ms", patch.latency_ms, MAX_LATENCY_MS, "at most 600000")?;
        set(&mut next.jitter_ms, "jitter_ms", patch.jitter_ms, MAX_LATENCY_MS, "at most 600000")?;
        set(&mut next.error_rate, "error_rate", patch.error_rate, 1.0, "a share from 0 to 1")?;
        set(&mut next.nan_rate, "nan_rate", patch.nan_rate, 1.0, "a share from 0 to 1")?;
        set(&mut next.wrong_rate, "wrong_rate", patch.wrong_rate, 1.0, "a share from 0 to 1")?;
        set(&mut next.constant_rate, "constant_rate", patch.constant_rate, 1.0, "a share from 0 to 1")?;
        set(&mut next.power_factor, "power_factor", patch.power_factor, MAX_POWER_FACTOR, "a factor from 0 to 100")?;
        next.hang = patch.hang.unwrap_or(next.hang);
        next.not_ready = patch.not_ready.unwrap_or(next.not_ready);
        next.xid = patch.xid.unwrap_or(next.xid);
        if let Some(region) = &patch.only_region {
            next.only_region = Some(region.clone()).filter(|r| !r.is_empty());
        }
        let mut oom_mib = 0;
        set(&mut oom_mib, "oom_mib", patch.oom_mib, MAX_OOM_MIB, "at most 8192")?;
        *self = next;

        let mut actions = Vec::new();
        actions.extend(patch.crash_after_s.map(|s| Action::Crash(Duration::from_secs(s))));
        if patch.crash_now == Some(true) {
            actions.push(Action::Crash(Duration::ZERO));
        }
        if oom_mib > 0 {
            actions.push(Action::Allocate(oom_mib));
        }
        Ok(actions)
    }

    /// What a request of this region suffers, by the faults in force and the dice.
    pub fn strike(&self, region: &str, dice: &Dice) -> Suffering {
        if self.only_region.as_deref().is_some_and(|only| only != region) {
            return Suffering::default();
        }
        let jitter = Duration::from_millis(self.jitter_ms).mul_f64(dice.roll());
        Suffering { delay: Duration::from_millis(self.latency_ms) + jitter, hang: self.hang, answer: self.strike_answer(dice) }
    }

    fn strike_answer(&self, dice: &Dice) -> Answer {
        let rates = [
            (self.error_rate, Answer::Error),
            (self.nan_rate, Answer::Nan),
            (self.wrong_rate, Answer::Wrong),
            (self.constant_rate, Answer::Constant),
        ];
        rates.into_iter().find(|(rate, _)| dice.roll() < *rate).map_or(Answer::Intact, |(_, answer)| answer)
    }

    /// Multiplies the simulated draw.
    pub fn power_factor(&self) -> f64 {
        self.power_factor
    }

    /// Whether readiness is to be denied.
    pub fn not_ready(&self) -> bool {
        self.not_ready
    }

    /// Whether requests are to hang.
    pub fn hang(&self) -> bool {
        self.hang
    }

    /// Last XID code of the simulated GPU, 0 for none.
    pub fn xid(&self) -> u64 {
        self.xid
    }
}

fn set<T>(slot: &mut T, field: &'static str, value: Option<T>, max: T, expected: &'static str) -> Result<(), FaultError>
where
    T: PartialOrd + Default + Copy + std::fmt::Display,
{
    match value {
        None => Ok(()),
        Some(value) if value >= T::default() && value <= max => {
            *slot = value;
            Ok(())
        }
        Some(value) => Err(FaultError { field, found: value.to_string(), expected }),
    }
}

/// Uniform numbers from a seed (`SplitMix64`, Steele et al. 2014); shared by tasks without a lock.
pub struct Dice(AtomicU64);

impl Dice {
    /// Dice that roll the same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next number in [0, 1).
    pub fn roll(&self) -> f64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(json: &str) -> FaultPatch {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_patch_changes_only_what_it_names_and_reset_forgets_the_rest() {
        let mut faults = Faults::default();
        faults.apply(&patch(r#"{"latency_ms": 300, "error_rate": 0.5}"#)).unwrap();
        faults.apply(&patch(r#"{"error_rate": 0.25}"#)).unwrap();
        assert_eq!((faults.latency_ms, faults.error_rate), (300, 0.25));
        faults.apply(&patch(r#"{"reset": true, "power_factor": 5}"#)).unwrap();
        assert_eq!(faults, Faults { power_factor: 5.0, ..Faults::default() });
    }

    #[test]
    fn a_bad_value_changes_nothing_at_all() {
        let mut faults = Faults::default();
        let error = faults.apply(&patch(r#"{"latency_ms": 300, "error_rate": 1.5}"#)).unwrap_err();
        assert_eq!(error.to_string(), "error_rate is 1.5, expected a share from 0 to 1");
        assert!(faults.apply(&patch(r#"{"latency_ms": 300, "oom_mib": 9000}"#)).is_err());
        assert_eq!(faults, Faults::default());
        assert!(serde_json::from_str::<FaultPatch>(r#"{"latency": 300}"#).is_err());
    }

    #[test]
    fn crashes_and_allocations_happen_once() {
        let mut faults = Faults::default();
        let actions = faults.apply(&patch(r#"{"crash_after_s": 3, "crash_now": true, "oom_mib": 64}"#)).unwrap();
        assert_eq!(actions, [Action::Crash(Duration::from_secs(3)), Action::Crash(Duration::ZERO), Action::Allocate(64)]);
        assert_eq!(faults.apply(&FaultPatch::default()).unwrap(), []);
    }

    #[test]
    fn rates_strike_that_share_of_requests_and_only_the_region_asked_for() {
        let mut faults = Faults::default();
        faults.apply(&patch(r#"{"latency_ms": 100, "jitter_ms": 50, "error_rate": 0.2, "only_region": "eu"}"#)).unwrap();
        let dice = Dice::new(1);
        let struck: Vec<Suffering> = (0..10_000).map(|_| faults.strike("eu", &dice)).collect();
        let failed = struck.iter().filter(|s| s.answer == Answer::Error).count();
        assert!((1_880..2_120).contains(&failed), "{failed}");
        assert!(struck.iter().all(|s| (100..150).contains(&s.delay.as_millis())));
        assert_eq!(faults.strike("us", &dice), Suffering::default());
    }
}
