//! Entry point: reads the command line, sets up logs, hands over. Nothing else.

use std::io::IsTerminal;

use clap::Parser;
use espalier::cli::{Cli, Command};
use espalier::config::{Config, LogFormat};
use espalier::controller;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Command::Run(config) = Cli::parse().command;
    logs(&config)?;
    controller::run(*config).await
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
