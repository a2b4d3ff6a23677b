//! Writes the recording of docs/examples/backtest: two pods of two revisions of a digits classifier, scraped for an hour and a half while traffic is moved.
//! The same seed gives the same file; no real service was measured.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rollout_core::revision;
use rollout_core::spec::RolloutSpec;

/// 2027-01-15T08:00:00Z.
const BEGIN: i64 = 1_800_000_000;
const INTERVAL: i64 = 30;
const SCRAPES: i64 = 190;
/// Seconds after the beginning at which the candidate's pods are there.
const CANDIDATE_SINCE: i64 = 300;
/// Requests a second in all.
const TRAFFIC: f64 = 60.0;
/// Since when, in seconds, and exposure in percent; before the first the candidate gets a copy of everything.
const MOVES: [(i64, f64); 3] = [(0, 0.0), (1200, 5.0), (1800, 25.0)];

fn main() -> anyhow::Result<()> {
    Ok(std::fs::write(file(), recorded()?)?)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/backtest")
}

/// The file.
pub fn file() -> PathBuf {
    folder().join("recording.json")
}

/// What is in it.
pub fn recorded() -> anyhow::Result<String> {
    let text = std::fs::read_to_string(folder().join("rollout.yaml"))?;
    let rollout: serde_json::Value = serde_saphyr::from_str(&text)?;
    let spec: RolloutSpec = serde_json::from_value(rollout.get("spec").cloned().context("rollout.yaml has no spec")?)?;
    Ok(record(revision::id(&spec.model, &spec.workload).as_str()))
}

/// A pod and its counters.
struct Pod {
    name: String,
    revision: String,
    since: i64,
    offset: i64,
    /// Share of wrong answers, of slow ones and of failed ones.
    rates: [f64; 3],
    counters: [f64; 8],
    samples: [Vec<(i64, f64)>; 8],
}

/// Metric and own labels of each counter.
const SERIES: [(&str, &str); 8] = [
    ("up", ""),
    ("model_predictions_total", r#","correct":"true""#),
    ("model_predictions_total", r#","correct":"false""#),
    ("model_inference_requests_total", r#","code":"200""#),
    ("model_inference_requests_total", r#","code":"500""#),
    ("model_inference_duration_seconds_bucket", r#","le":"0.1""#),
    ("model_inference_duration_seconds_bucket", r#","le":"+Inf""#),
    ("model_nonfinite_outputs_total", ""),
];

fn record(candidate: &str) -> String {
    let pod = |revision: &str, short: &str, since, offset, rates| Pod {
        name: format!("digits-{short}"),
        revision: revision.to_owned(),
        since,
        offset,
        rates,
        counters: [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        samples: Default::default(),
    };
    let (good, pruned) = ([0.060, 0.020, 0.004], [0.064, 0.012, 0.004]);
    let mut pods = [
        pod("9f33c0de", "v1-6c9fd-hx2kp", 0, 4, good),
        pod("9f33c0de", "v1-6c9fd-t7w9b", 0, 17, good),
        pod(candidate, "v2-5b7d8-k4m2q", CANDIDATE_SINCE, 9, pruned),
        pod(candidate, "v2-5b7d8-zr8vn", CANDIDATE_SINCE, 23, pruned),
    ];
    let mut dice = Dice(7);
    for scrape in 0..SCRAPES {
        let now = scrape * INTERVAL;
        let exposure = MOVES.iter().rev().find(|(since, _)| *since <= now).map_or(0.0, |(_, percent)| *percent);
        for pod in pods.iter_mut().filter(|pod| pod.since <= now) {
            let of_candidate = pod.revision == candidate;
            let share = match (of_candidate, exposure > 0.0) {
                (true, true) => exposure / 100.0,
                (true, false) => 1.0,
                (false, _) => 1.0 - exposure / 100.0,
            };
            pod.serve(TRAFFIC / 2.0 * share * INTERVAL as f64, &mut dice);
            pod.scrape(BEGIN + now);
        }
    }
    let mut lines: Vec<String> = pods.iter().flat_map(Pod::lines).collect();
    lines.push(exposure_line());
    format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[\n{}\n]}}}}\n", lines.join(",\n"))
}

impl Pod {
    fn serve(&mut self, mean: f64, dice: &mut Dice) {
        let n = dice.about(mean);
        let [wrong, slow, failed] = self.rates.map(|rate| dice.of(n, rate));
        for (counter, more) in self.counters.iter_mut().zip([0.0, n - wrong, wrong, n - failed, failed, n - slow, n, 0.0]) {
            *counter += more;
        }
    }

    fn scrape(&mut self, at: i64) {
        for (samples, value) in self.samples.iter_mut().zip(self.counters) {
            samples.push((at + self.offset, value));
        }
    }

    fn lines(&self) -> Vec<String> {
        let line = |((metric, own), samples): (&(&str, &str), &Vec<(i64, f64)>)| {
            format!(
                r#"{{"metric":{{"__name__":"{metric}","namespace":"ml","pod":"{}","espalier_dev_rollout":"digits","espalier_dev_revision":"{}"{own}}},"values":[{}]}}"#,
                self.name,
                self.revision,
                values(samples)
            )
        };
        SERIES.iter().zip(&self.samples).map(line).collect()
    }
}

fn exposure_line() -> String {
    let at = |scrape: i64| {
        let now = scrape * INTERVAL;
        (BEGIN + now + 1, MOVES.iter().rev().find(|(since, _)| *since <= now).map_or(0.0, |(_, percent)| *percent))
    };
    let samples: Vec<(i64, f64)> = (0..SCRAPES).map(at).collect();
    format!(
        r#"{{"metric":{{"__name__":"espalier_rollout_exposure_percent","namespace":"espalier-system","exported_namespace":"ml","name":"digits"}},"values":[{}]}}"#,
        values(&samples)
    )
}

fn values(samples: &[(i64, f64)]) -> String {
    samples.iter().enumerate().fold(String::new(), |mut text, (index, (at, value))| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{}[{at},\"{value}\"]", if index == 0 { "" } else { "," });
        text
    })
}

/// `SplitMix64` (Steele, Lea and Flood 2014).
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A count around a mean, as spread as independent requests are.
    fn about(&mut self, mean: f64) -> f64 {
        let sum: f64 = (0..12).map(|_| self.unit()).sum();
        (mean + (sum - 6.0) * mean.sqrt()).round().max(0.0)
    }

    fn of(&mut self, n: f64, chance: f64) -> f64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A few thousand.
        let n = n as u32;
        f64::from((0..n).filter(|_| self.unit() < chance).map(|_| 1_u32).sum::<u32>())
    }
}
