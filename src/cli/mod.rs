//! The command line: which commands there are, what each hands on to, and the exit codes they share.
//! Does no work itself. `run` is the operator; everything else is for people and pipelines, and writes nothing but request annotations.

pub mod backtest;
pub mod cluster;
pub mod explain;
pub mod input;
pub mod plan;
pub mod reference;
pub mod request;
mod scale;
pub mod status;
mod svg;
mod table;
#[cfg(test)]
mod testing;
pub mod validate;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::config::Config;

/// Exit code when the command line cannot be understood, as in `sysexits.h`: every lower one has a meaning of its own.
pub const USAGE: u8 = 64;

/// Puts compressed ML models into production with proof.
///
/// Installed as `kubectl-espalier` somewhere in PATH, every command is also `kubectl espalier …`.
#[derive(Debug, Parser)]
#[command(name = "espalier", version, max_term_width = 120, after_help = "Exit code 64: the command line cannot be understood.")]
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
    /// Checks manifests without a cluster, as the API server and the operator would.
    Validate(validate::Args),
    /// Says how many requests and how much time a rollout needs at your traffic, before it starts.
    Plan(plan::Args),
    /// Says what a policy would have decided over recorded data, and when.
    Backtest(Box<backtest::Args>),
    /// Says in plain sentences where a rollout is, why, and what a person can do now.
    Explain(explain::Args),
    /// Shows one rollout or all of a namespace.
    Get(status::GetArgs),
    /// Tells a pipeline by its exit code what became of a rollout.
    Status(status::StatusArgs),
    /// Promotes the candidate now, without waiting for proof.
    Promote(request::Args),
    /// Rolls the candidate back and rejects it.
    Abort(request::Args),
    /// Tries a rejected revision once more, at half the promotion risk.
    Retry(request::Args),
    /// Approves the stage that waits for a person.
    Approve(request::Args),
    /// Holds exposure where it is; harm still rolls back.
    Pause(request::Args),
    /// Goes on after a pause.
    Resume(request::Args),
    /// Returns to the old revision while the new one is on probation.
    Rollback(request::Args),
}

/// Form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// What a command prints and its exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output; ends with a line break unless it is empty.
    pub text: String,
    /// The exit code; its meaning is in the command's `--help`.
    pub code: u8,
}

impl Outcome {
    /// `report` in the form asked for.
    pub fn of(report: &impl Serialize, text: impl FnOnce() -> String, output: Output, code: u8) -> Self {
        let text = match output {
            Output::Text => text(),
            // The reports hold strings, numbers and lists, which all have a form in JSON.
            Output::Json => serde_json::to_string_pretty(report).unwrap_or_default() + "\n",
        };
        Self { text, code }
    }
}

/// Reads the command line.
///
/// # Errors
/// The exit code, when the line was no command or asked only for help; what there is to say has been printed.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    read(arguments).map_err(|error| {
        // Nothing is left to tell it to when the terminal is gone.
        let _ = error.print();
        ExitCode::from(code(&error))
    })
}

fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut command = Cli::command();
    // Help must show the words that the person typed.
    if arguments.first().is_some_and(is_plugin) {
        command = command.bin_name("kubectl espalier");
    }
    command.try_get_matches_from_mut(arguments).and_then(|matches| Cli::from_arg_matches(&matches))
}

/// Help and version are no mistakes.
fn code(error: &clap::Error) -> u8 {
    if error.use_stderr() { USAGE } else { 0 }
}

fn is_plugin(program: &OsString) -> bool {
    Path::new(program).file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("kubectl-"))
}

/// Runs any command but the operator, which needs logs and signals of its own; `None` for that one.
pub async fn execute(command: Command) -> Option<Outcome> {
    Some(match command {
        Command::Run(_) => return None,
        Command::Validate(args) => validate::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Backtest(args) => backtest::run(&args).await,
        Command::Explain(args) => explain::run(&args).await,
        Command::Get(args) => status::get(&args).await,
        Command::Status(args) => status::status(&args).await,
        Command::Promote(args) => request::run(rollout_core::decide::Verb::Promote, &args).await,
        Command::Abort(args) => request::run(rollout_core::decide::Verb::Abort, &args).await,
        Command::Retry(args) => request::run(rollout_core::decide::Verb::Retry, &args).await,
        Command::Approve(args) => request::run(rollout_core::decide::Verb::Approve, &args).await,
        Command::Pause(args) => request::run(rollout_core::decide::Verb::Pause, &args).await,
        Command::Resume(args) => request::run(rollout_core::decide::Verb::Resume, &args).await,
        Command::Rollback(args) => request::run(rollout_core::decide::Verb::Rollback, &args).await,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        read(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_messages_of_the_operator_mention_exists() {
        for line in ["espalier approve digits", "espalier promote digits -n ml --candidate 41ab0000", "espalier resume digits --reason ok"]
        {
            assert!(parsed(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn the_operator_starts_as_before() {
        let Command::Run(config) = parsed("espalier run --leader-elect false --log-format text").unwrap().command else { panic!("run") };
        assert!(!config.leader_elect);
    }

    #[test]
    fn a_line_that_is_no_command_does_not_look_like_a_rollout_in_progress() {
        for line in ["espalier status", "espalier staus digits", "espalier plan -f x"] {
            assert_eq!(code(&parsed(line).unwrap_err()), USAGE, "{line}");
        }
        assert_eq!(code(&parsed("espalier --help").unwrap_err()), 0);
    }

    #[test]
    fn a_plugin_of_kubectl_shows_its_own_name() {
        assert!(is_plugin(&"/usr/local/bin/kubectl-espalier".into()));
        assert!(!is_plugin(&"/app".into()));
        let help = read(["kubectl-espalier", "status", "--help"].map(OsString::from)).unwrap_err().to_string();
        assert!(help.contains("Usage: kubectl espalier status"), "{help}");
    }
}
