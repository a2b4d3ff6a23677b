//! Gets the recording: reads a file, or asks a server for the raw samples of everything that the plan needs, hour by hour.
//! Asks with the operator's own client; makes nothing of the samples.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::evidence::{Arm, Arms, Evidence, Query, Reading, Series};
use rollout_core::plan::Plan;
use rollout_core::revision::RevisionId;
use rollout_core::words::instant;

use super::recording::Recording;
use super::scene::{EXPOSURE, Pick, Wanted};
use super::{Args, DAY, Progress};
use crate::prometheus::{Auth, Server, Servers};

/// Longest wait for one answer: hours of raw samples take longer than the last seconds of them.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Requests in flight: a person's question must not slow down the server's own work.
const CONCURRENCY: usize = 4;
/// Range that is asked for at a time.
const PIECE: TimeDelta = TimeDelta::hours(2);

/// The recording that the flags name.
pub(super) async fn recording(args: &Args, plan: &Plan, wanted: &Wanted) -> Result<Recording, String> {
    let remote = args.from.starts_with("http://") || args.from.starts_with("https://");
    if !remote {
        return Recording::read(&args.from);
    }
    let end = args.end.unwrap_or_else(Utc::now);
    let start = args.start.unwrap_or_else(|| end - args.last.unwrap_or(DAY));
    if start >= end {
        return Err(format!("--start {start} is not before --end {end}"));
    }
    let asked = queries(plan, wanted);
    let server = server(args)?;
    let servers = Servers::new(CONCURRENCY);
    let mut series: Vec<Series> = Vec::new();
    let mut progress = Progress::new("reading");
    // What was before the start is needed to count from, and to tell old pods from new ones.
    let begin = start - Evidence::lookback(plan) * 2;
    let mut from = begin;
    while from < end {
        let to = end.min(from + PIECE);
        let found = piece(&servers, &server, &asked, from, to).await;
        series.extend(found.map_err(|problem| format!("--from {}: {problem}", args.from))?);
        progress.tell((to - begin).num_seconds() as f64 / (end - begin).num_seconds().max(1) as f64);
        from = to;
    }
    progress.end();
    let recording = Recording::of(series);
    if recording.span().is_none() {
        let asked: Vec<&str> = asked.iter().map(Query::as_str).collect();
        return Err(format!("--from {}: no samples from {start} to {end}; asked for {}", args.from, asked.join(", ")));
    }
    Ok(recording)
}

async fn piece(
    servers: &Servers,
    server: &Server,
    asked: &BTreeSet<Query>,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Series>, String> {
    let mut series = Vec::new();
    for (query, reading) in servers.history(server, asked, from, to).await {
        match reading {
            Reading::Series(found) => series.extend(found.into_iter().map(std::sync::Arc::unwrap_or_clone)),
            // A gap would look like silence.
            Reading::Failed(problem) => return Err(format!("{problem}; asked for {query} from {} to {}", instant(from), instant(to))),
        }
    }
    Ok(series)
}

/// Everything that the plan asks about the arms, as far as they are named; revisions that are not known yet come in the same answers.
fn queries(plan: &Plan, wanted: &Wanted) -> BTreeSet<Query> {
    let arm = |pick: Option<&Pick>| match pick {
        Some(Pick::Labels(labels)) => Arm { matchers: labels.clone(), ..Arm::default() },
        Some(Pick::Revision(_)) | None => Arm { revision: Some(RevisionId::new("any")), ..Arm::default() },
    };
    let arms = Arms {
        rollout: String::new(),
        candidate: arm(wanted.candidate.as_ref()),
        stable: arm(wanted.stable.as_ref()),
        baseline: Some(arm(wanted.baseline.as_ref())),
    };
    let mut queries = Evidence::queries(plan, &arms);
    queries.insert(Query::new(EXPOSURE));
    queries
}

fn server(args: &Args) -> Result<Server, String> {
    let read = |flag: &str, file: &std::path::PathBuf| {
        std::fs::read(file).map_err(|error| format!("{flag} {}: cannot be read: {error}", file.display()))
    };
    let mut server = Server::plain(&args.from).map_err(|error| format!("--from {}: {error}", args.from))?;
    server.timeout = TIMEOUT;
    if let Some(file) = &args.token_file {
        let token = String::from_utf8(read("--token-file", file)?).map_err(|_| "--token-file: the token is not UTF-8 text".to_owned())?;
        server.auth = Auth::Bearer(token.trim_end().to_owned());
    }
    if let Some(file) = &args.ca_file {
        server.ca = Some(read("--ca-file", file)?);
    }
    Ok(server)
}
