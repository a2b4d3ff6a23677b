//! Entry point: reads the command line, sets up logs for the operator, hands over, and turns the outcome into an exit code. Nothing else.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use espalier::cli::{self, Command};
use espalier::config::{Config, LogFormat};
use espalier::controller;
use tracing_subscriber::EnvFilter;

/// A thousand rollouts come in over a burst of short-lived objects: this one gives what they leave behind back to the system, where the C library's
/// keeps half as much again. The chart sets it up.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(line) => line.command,
        Err(code) => return code,
    };
    if let Command::Run(config) = command {
        return match operate(*config).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("Error: {error:?}");
                ExitCode::FAILURE
            }
        };
    }
    let Some(outcome) = cli::execute(command).await else { return ExitCode::FAILURE };
    // Who closed the pipe has read enough.
    let _ = std::io::stdout().lock().write_all(outcome.text.as_bytes());
    ExitCode::from(outcome.code)
}

async fn operate(config: Config) -> anyhow::Result<()> {
    logs(&config)?;
    controller::run(config).await
}

fn logs(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log_level)?;
    // Colours are for people at a terminal, not for files.
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(std::io::stdout().is_terminal());
    match config.log_format {
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => logs.init(),
    }
    Ok(())
}
