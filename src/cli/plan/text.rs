//! A plan for people: a table per stage, what decides, what would be faster. Words and columns only.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use rollout_core::words;

use super::report::{Planned, Report, Seconds, Stage};
use crate::cli::table;

pub(super) fn text(report: &Report) -> String {
    report.plans.iter().map(|plan| one(plan, &report.requests_per_second)).collect::<Vec<_>>().join("\n")
}

fn one(plan: &Planned, rps: &str) -> String {
    let subject = match &plan.rollout {
        Some(rollout) => format!("ModelRollout {rollout} with EvaluationPolicy {}", plan.policy),
        None => format!("EvaluationPolicy {} with the default stages", plan.policy),
    };
    let good = if plan.loss == "0%" { "as good as stable".to_owned() } else { format!("that uses up {} of its margins", plan.loss) };
    let mut lines = vec![
        format!("{subject} at {rps} requests/s"),
        format!(
            "A candidate {good} passes each stage with {}; one beyond a target is promoted with at most {}.",
            plan.power, plan.false_promotion
        ),
    ];
    for (number, one) in plan.stages.iter().enumerate() {
        lines.push(String::new());
        lines.extend(stage(number + 1, one));
    }
    lines.push(String::new());
    lines.push(match plan.time {
        Some(time) => format!("In all: usually {}, at most {}.", said(time.usual_seconds), said(time.longest_seconds)),
        None => "In all: never, as things are; see above.".to_owned(),
    });
    if !plan.smallest_margins.is_empty() {
        lines.push("In the days given, these margins can be proven:".to_owned());
        lines.extend(plan.smallest_margins.iter().map(|(name, margin)| format!("  - {name}: {margin}")));
    }
    lines.extend(plan.notes.iter().map(|note| format!("Note: {note}")));
    lines.extend(guesses(plan));
    if !plan.ways.is_empty() {
        lines.push(if plan.fits { "To be faster, one of:" } else { "To get there, one of:" }.to_owned());
        for way in &plan.ways {
            let time = way.time.map(|t| format!(" (usually {}, at most {} in all)", said(t.usual_seconds), said(t.longest_seconds)));
            lines.push(format!("  - {}{}", way.change, time.unwrap_or_default()));
        }
    }
    lines.join("\n") + "\n"
}

/// How to replace what was assumed by what is known.
fn guesses(plan: &Planned) -> Option<String> {
    let all = plan.stages.iter().flat_map(|stage| &stage.guardrails).filter(|one| one.assumed);
    let names: BTreeSet<&str> = all.map(|one| one.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    (!names.is_empty()).then(|| {
        format!("Note: Where it says assumed, stable is guessed; say what it does today with --base NAME=VALUE for {}.", names.join(", "))
    })
}

fn stage(number: usize, stage: &Stage) -> Vec<String> {
    let mut lines = vec![format!("{number}. Stage {} ({}), maxDuration {}", stage.name, stage.kind, said(stage.allowed_seconds))];
    let mirrored = if stage.kind == "Shadow" { "mirrored" } else { "of users" };
    for (index, step) in stage.steps.iter().enumerate() {
        lines.push(format!(
            "   step {}/{}: {} {mirrored}, {} requests/s to the candidate, {} or more",
            index + 1,
            stage.steps.len(),
            step.share,
            step.candidate_requests_per_second,
            said(step.least_seconds)
        ));
    }
    let mut rows = vec![["GUARDRAIL", "STABLE", "NEEDS", "USUALLY", "AT MOST"].map(str::to_owned).to_vec()];
    for one in &stage.guardrails {
        let assumed = if one.assumed { " (assumed)" } else { "" };
        let base = one.base.as_ref().map_or_else(|| "-".to_owned(), |base| format!("{base}{assumed}"));
        let [usual, longest] = times(one.time);
        rows.push(vec![one.name.clone(), base, one.needs.clone(), usual, longest]);
    }
    if stage.guardrails.is_empty() {
        lines.push("   no guardrail counts here".to_owned());
    } else {
        lines.extend(table::lines(&rows).into_iter().map(|line| format!("   {line}")));
    }
    lines.push(format!("   {}", verdict(stage)));
    lines
}

fn verdict(stage: &Stage) -> String {
    let decides = stage.decides.as_deref();
    let Some(time) = stage.time else {
        return format!("-> cannot pass: {} cannot be proven", decides.unwrap_or("a guardrail"));
    };
    let who = decides.map_or_else(|| "its steps decide, not a proof".to_owned(), |name| format!("{name} decides"));
    if stage.fits {
        return format!("-> usually {}, at most {}; {who}", said(time.usual_seconds), said(time.longest_seconds));
    }
    let late: Vec<&str> = stage.guardrails.iter().filter(|g| !g.fits).map(|g| g.name.as_str()).collect();
    let late = if late.is_empty() { "the steps".to_owned() } else { late.join(", ") };
    format!(
        "-> TOO LITTLE TRAFFIC: {late} may take {}, {} more than maxDuration {} allows",
        said(time.longest_seconds),
        said(time.longest_seconds - stage.allowed_seconds),
        said(stage.allowed_seconds)
    )
}

fn times(time: Option<Seconds>) -> [String; 2] {
    time.map_or_else(|| ["never".to_owned(), "never".to_owned()], |time| [said(time.usual_seconds), said(time.longest_seconds)])
}

fn said(seconds: i64) -> String {
    words::duration(TimeDelta::seconds(seconds))
}
