//! The page of all commands and flags, made from the same definitions that `--help` prints.
//! Writes no file; `cargo run --bin clidocs` does, and a test compares.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory};

use super::Cli;

const HEADER: &str = "\
<!-- Generated from the command line's definitions by `cargo run --bin clidocs`; do not edit. -->
# Commands

`espalier` is one binary: the operator (`espalier run`) and the commands below. Put it into PATH as `kubectl-espalier`, and each of them is
also `kubectl espalier …`. Commands that read or ask a cluster use the kubeconfig as kubectl does. Every one prints text, or JSON with
`-o json`, and tells the outcome by its exit code. Exit code 64: the command line cannot be understood.
";

/// The whole page, in Markdown.
pub fn page() -> String {
    let mut root = Cli::command();
    root.build();
    let commands: Vec<&Command> = root.get_subcommands().filter(|command| command.get_name() != "help").collect();
    let mut page = HEADER.to_owned() + "\n| Command | What it does |\n|---|---|\n";
    for command in &commands {
        let name = command.get_name();
        // Writing into a string cannot fail.
        let _ = writeln!(page, "| [`espalier {name}`](#espalier-{name}) | {} |", about(command));
    }
    for command in commands {
        page += &section(command);
    }
    page
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn section(command: &Command) -> String {
    let mut usage = command.clone();
    let usage = usage.render_usage().to_string();
    let usage = usage.trim().trim_start_matches("Usage: ");
    let mut text = format!("\n## espalier {}\n\n{}\n\n```text\n{usage}\n```\n", command.get_name(), about(command));
    text += "\n| Flag | Meaning | Default |\n|---|---|---|\n";
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_id() != "help") {
        text += &row(arg);
    }
    if let Some(more) = command.get_after_help() {
        let _ = write!(text, "\n```text\n{more}\n```\n");
    }
    text
}

fn row(arg: &Arg) -> String {
    let value = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string).unwrap_or_default();
    let flag = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("`-{short}`, `--{long} {value}`"),
        (None, Some(long)) => format!("`--{long} {value}`"),
        _ => format!("`{value}`"),
    };
    let choices: Vec<String> = arg.get_possible_values().iter().map(|choice| format!("`{}`", choice.get_name())).collect();
    let choices = if choices.is_empty() { String::new() } else { format!(" One of {}.", choices.join(", ")) };
    let variable = arg.get_env().map(|name| format!(" Also `{}`.", name.to_string_lossy())).unwrap_or_default();
    let defaults: Vec<String> = arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    let default = match (defaults.is_empty(), arg.is_required_set()) {
        (false, _) => defaults.join(", "),
        (true, true) => "required".to_owned(),
        (true, false) => String::new(),
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = if help.ends_with('.') || help.is_empty() { help } else { help + "." };
    format!("| {flag} | {help}{choices}{variable} | {default} |\n").replace("{|", "{\\|")
}
