//! Sends real digits through the gateway and reports what users saw, for the end-to-end scenarios.
//! This file wires the run to the outside: signals, stop file, report file, control port.

mod answers;
mod chance;
mod cli;
mod client;
mod control;
mod digits;
mod generator;
mod quantiles;
mod tally;
#[cfg(test)]
mod tests;
mod users;

use std::future::IntoFuture as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::generator::Run;
use crate::tally::Report;

/// Nothing was ever answered: the gateway is not there.
const EXIT_SILENCE: u8 = 2;
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const STOP_FILE_POLL: Duration = Duration::from_millis(100);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let args = cli::Args::parse();
    let run = Run::new(args.clone())?;
    if let Some(address) = args.control {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        tokio::spawn(axum::serve(listener, control::router(Arc::clone(&run))).into_future());
    }
    stop_on_signal(Arc::clone(&run), SignalKind::terminate())?;
    stop_on_signal(Arc::clone(&run), SignalKind::interrupt())?;
    if let Some(path) = args.until_file {
        tokio::spawn(stop_on_file(Arc::clone(&run), path));
    }
    if let Some(path) = &args.report {
        // At once, so that a path that cannot be written is known before the run.
        write_report(path, &run.report(false))?;
        tokio::spawn(keep_reporting(Arc::clone(&run), path.clone()));
    }
    run.send().await;

    run.flush_answers()?;
    let report = run.report(true);
    if let Some(path) = &args.report {
        write_report(path, &report)?;
    }
    if !args.quiet {
        println!("{}", report.story());
    }
    Ok(if run.was_answered() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_SILENCE) })
}

fn stop_on_signal(run: Arc<Run>, kind: SignalKind) -> anyhow::Result<()> {
    let mut signals = signal(kind)?;
    tokio::spawn(async move {
        signals.recv().await;
        run.stop();
    });
    Ok(())
}

async fn stop_on_file(run: Arc<Run>, path: PathBuf) {
    while !path.exists() {
        tokio::time::sleep(STOP_FILE_POLL).await;
    }
    run.stop();
}

async fn keep_reporting(run: Arc<Run>, path: PathBuf) {
    let mut ticks = tokio::time::interval(REPORT_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = run.stopped() => return,
        }
        if let Err(error) = write_report(&path, &run.report(false)) {
            eprintln!("{error:#}");
        }
    }
}

/// Replaces the file as a whole: a reader sees the old report or the new one, never half of one.
fn write_report(path: &Path, report: &Report) -> anyhow::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    std::fs::write(&beside, serde_json::to_vec_pretty(report)?).with_context(|| format!("cannot write {}", beside.display()))?;
    std::fs::rename(&beside, path).with_context(|| format!("cannot write {}", path.display()))
}
