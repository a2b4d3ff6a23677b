//! `espalier explain`: numbered plain sentences about one rollout, from a cluster or from a saved object.
//! Reads and prints; what is said is put together by the parts below, from the object alone.

mod actions;
mod guardrails;
mod picture;
mod place;
mod progress;
mod risk;
mod story;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Parser};
use serde_json::Value;

use super::cluster::{Rollouts, Target, UNREADABLE};
use super::status::unreadable;
use super::{Outcome, Output, input, svg};
use crate::api::{API_VERSION, ModelRollout};
use story::{Story, story};

/// Flags of `espalier explain`.
#[derive(Clone, Debug, Parser)]
#[command(group = ArgGroup::new("source").required(true).multiple(true).args(["name", "file"]), after_help = "\
Exit codes: 0 explained, 3 not found, not readable, or the picture not writable.

Example with a saved object:
  kubectl get mro digits -o yaml > digits.yaml; espalier explain -f digits.yaml")]
pub struct Args {
    /// The rollout; with --filename the one of this name in the file.
    pub name: Option<String>,
    /// A saved rollout with its status, YAML or JSON; - reads standard input.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub file: Option<String>,
    /// Where it is.
    #[command(flatten)]
    pub target: Target,
    /// Draws the guardrails besides: intervals against target and critical.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Draws into this folder: guardrails.svg as above, and progress.svg with evidence against its boundaries and the exposure over time.
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
    /// Form of what is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Runs the command.
pub async fn run(args: &Args) -> Outcome {
    let read = match (&args.file, &args.name) {
        (Some(file), name) => saved(file, name.as_deref()),
        (None, Some(name)) => match Rollouts::connect(&args.target).await {
            Ok(rollouts) => match rollouts.get(name).await {
                Ok(rollout) => Ok(rollout),
                Err(error) => return unreadable(&error, args.output),
            },
            Err(error) => return unreadable(&error, args.output),
        },
        // The group of the flags asks for one of them.
        (None, None) => Err("neither a name nor a file".to_owned()),
    };
    let drawn = read.and_then(|rollout| draw(args, &rollout).map(|()| rollout));
    match drawn {
        Ok(rollout) => explained(&rollout, Utc::now(), args.output),
        Err(error) => Outcome::of(&serde_json::json!({"error": error}), || format!("{error}\n"), args.output, UNREADABLE),
    }
}

fn explained(rollout: &ModelRollout, now: DateTime<Utc>, output: Output) -> Outcome {
    let story = story(rollout, now);
    Outcome::of(&story, || text(&story), output, 0)
}

fn draw(args: &Args, rollout: &ModelRollout) -> Result<(), String> {
    if let Some(path) = &args.svg {
        svg::write(path, &drawing(rollout))?;
    }
    let Some(folder) = &args.plot else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| format!("--plot {}: cannot be made: {error}", folder.display()))?;
    svg::write(&folder.join("guardrails.svg"), &drawing(rollout))?;
    let status = rollout.status.clone().unwrap_or_default();
    svg::write(&folder.join("progress.svg"), &progress::picture(&story::title(rollout), &status))
}

fn drawing(rollout: &ModelRollout) -> String {
    let evidence = rollout.status.as_ref().map(|status| status.evidence.clone()).unwrap_or_default();
    picture::picture(&story::title(rollout), &evidence)
}

/// The one rollout of a file, or the one of this name.
fn saved(file: &str, name: Option<&str>) -> Result<ModelRollout, String> {
    let input = input::read(&[file.to_owned()]);
    if let Some(broken) = input.unreadable.first() {
        return Err(format!("{}: cannot be read: {}", broken.file, broken.message));
    }
    let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_rollout = |value: &Value| text(value, "/kind") == "ModelRollout" && text(value, "/apiVersion") == API_VERSION;
    let is_named = |value: &Value| name.is_none_or(|name| text(value, "/metadata/name") == name);
    let mut found: Vec<_> = input.documents.into_iter().filter(|d| is_rollout(&d.value) && is_named(&d.value)).collect();
    match (found.pop(), found.len()) {
        (Some(one), 0) => {
            let read: ModelRollout =
                serde_json::from_value(one.value).map_err(|error| format!("{}: no ModelRollout that can be read: {error}", one.place))?;
            if read.status.is_none() {
                // What a person wrote says nothing of what became of it.
                return Err(format!(
                    "{}: found a ModelRollout without a status, expected one that was saved from a cluster, as by `kubectl get mro {} -o yaml`",
                    one.place,
                    read.metadata.name.as_deref().unwrap_or("NAME")
                ));
            }
            Ok(read)
        }
        (Some(_), more) => Err(format!("{file} holds {} rollouts; name one of them", more + 1)),
        (None, _) => Err(format!("{file} holds no ModelRollout{}", name.map(|name| format!(" called {name}")).unwrap_or_default())),
    }
}

/// The story with its sentences numbered through.
fn text(story: &Story) -> String {
    let mut lines = vec![story.title.clone()];
    let mut number = 0;
    for section in &story.sections {
        lines.push(String::new());
        lines.push(section.title.clone());
        for sentence in &section.sentences {
            number += 1;
            lines.push(format!("{number:>3}. {}", sentence.text));
            lines.extend(sentence.details.iter().map(|detail| format!("       {detail}")));
        }
    }
    if !story.actions.is_empty() {
        lines.push(String::new());
        lines.push("What you can do now".to_owned());
        for action in &story.actions {
            number += 1;
            lines.push(format!("{number:>3}. {}", action.what));
            lines.extend(action.command.iter().map(|command| format!("       {command}")));
        }
    }
    lines.join("\n") + "\n"
}
