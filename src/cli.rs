//! The command line: which commands there are and what each hands on to.
//! Does no work itself.

use clap::{Parser, Subcommand};

use crate::config::Config;

/// Puts compressed ML models into production with proof.
#[derive(Debug, Parser)]
#[command(name = "espalier", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the operator.
    Run(Box<Config>),
}
