//! The command line, as the user gave it, with every value checked for its range.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

/// Most requests per second that may be asked for.
const MAX_RPS: f64 = 5_000.0;

/// Sends real digits with true labels through a gateway and reports what users saw.
#[derive(Clone, Debug, clap::Parser)]
#[command(version)]
pub struct Args {
    /// Gateway, such as <http://10.250.0.2:8080>
    #[arg(long)]
    pub url: String,
    /// Host header; the one of the URL when absent
    #[arg(long)]
    pub host: Option<String>,
    /// Name of the model in the URL
    #[arg(long, default_value = "digits")]
    pub model: String,
    /// Requests per second, sent whether or not earlier ones were answered
    #[arg(long, default_value = "50", value_parser = parse_rate)]
    pub rps: f64,
    /// Spacing of the requests
    #[arg(long, value_enum, default_value_t = Arrivals::Uniform)]
    pub arrivals: Arrivals,
    /// Requests in flight at most; one that finds no room is skipped and counted
    #[arg(long, default_value_t = 256)]
    pub concurrency: usize,
    /// Time after which a request counts as a timeout, in ms
    #[arg(long, default_value_t = 2000)]
    pub timeout_ms: u64,
    /// How long to send: 30, 30s, 500ms, 5m or 1h; until stopped when absent
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Stop as soon as this file exists
    #[arg(long)]
    pub until_file: Option<PathBuf>,
    /// Stop after this time in any case
    #[arg(long, value_parser = parse_duration, default_value = "1h")]
    pub max_duration: Duration,
    /// Number of users
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub users: u32,
    /// Characters of user ids
    #[arg(long, value_enum, default_value_t = Alphabet::Hex)]
    pub alphabet: Alphabet,
    /// Share of requests without a user id
    #[arg(long, default_value = "0", value_parser = parse_share)]
    pub no_id_fraction: f64,
    /// Header that carries the user id
    #[arg(long, default_value = "x-user-id")]
    pub user_header: String,
    /// Regions, sent as x-region; a user always has the same
    #[arg(long, value_delimiter = ',', default_value = "eu,us,ap")]
    pub regions: Vec<String>,
    /// Seed of all chance: users, ids, digits, arrivals
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the true labels go: to the server that answered, through the gateway, or nowhere
    #[arg(long, value_enum, default_value_t = FeedbackMode::Direct)]
    pub feedback: FeedbackMode,
    /// Time from an answer to its true label, in ms
    #[arg(long, default_value_t = 200)]
    pub feedback_delay_ms: u64,
    /// Share of answers that get their true label
    #[arg(long, default_value = "1", value_parser = parse_share)]
    pub feedback_fraction: f64,
    /// Digits to send instead of the embedded test set; the form of digits-test.json
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Write the report here every second and at the end
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Write a line per request here as it ends: sent and ended (ms since 1970), code, revision; between tabs
    #[arg(long)]
    pub answers: Option<PathBuf>,
    /// Listen here for GET /stats, POST /mark, POST /rate and POST /stop
    #[arg(long)]
    pub control: Option<SocketAddr>,
    /// No summary at the end
    #[arg(long)]
    pub quiet: bool,
}

/// Spacing of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// Equal gaps.
    Uniform,
    /// Exponential gaps: a Poisson process.
    Poisson,
}

/// Characters of user ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Alphabet {
    /// 16 lower-case hex digits.
    Hex,
    /// 12 decimal digits.
    Decimal,
}

/// Where true labels go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FeedbackMode {
    /// To the address in the answer's x-served-by header.
    Direct,
    /// To the gateway, with the answer's revision as a request header.
    Gateway,
    /// Nowhere.
    Off,
}

/// A rate in requests per second, 0 to 5000.
pub fn checked_rate(rate: f64) -> Result<f64, String> {
    if (0.0..=MAX_RPS).contains(&rate) { Ok(rate) } else { Err(format!("{rate} requests per second, expected 0 to {MAX_RPS}")) }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    checked_rate(text.parse().map_err(|_| format!("'{text}' is no number"))?)
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("'{text}' is no number"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("{share}, expected a share from 0 to 1")) }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("'{text}': unknown unit '{unit}', expected ms, s, m or h")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("'{text}' is no duration such as 30s, 5m or 1h"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|e| format!("'{text}': {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, ms) in [("30", 30_000), ("1.5s", 1_500), ("250ms", 250), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "5d", "-3s", "1 h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_and_shares_have_limits() {
        assert!(parse_rate("5000").is_ok() && parse_rate("5001").is_err() && parse_rate("-1").is_err() && parse_rate("NaN").is_err());
        assert!(parse_share("1").is_ok() && parse_share("1.01").is_err());
    }
}
