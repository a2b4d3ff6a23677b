//! A backtest for people: what would have been decided when, and what was known of each guardrail. Words and columns only.

use super::report::{Played, Report, after};
use crate::cli::table;

/// Attempts that are told in full; of more only the ends are.
const MOST_IN_FULL: usize = 1;

pub(super) fn text(report: &Report) -> String {
    let subject = match &report.rollout {
        Some(rollout) => format!("EvaluationPolicy {} and ModelRollout {rollout}", report.policy),
        None => format!("EvaluationPolicy {}", report.policy),
    };
    let pods = |n: usize| if n == 1 { "1 pod".to_owned() } else { format!("{n} pods") };
    let mut lines = vec![
        format!("{subject} over {}", report.source),
        format!(
            "candidate {} ({}) against {} ({}), {} to {}, every {}",
            report.candidate.name,
            pods(report.candidate.pods),
            report.stable.name,
            pods(report.stable.pods),
            report.start,
            report.end,
            report.interval
        ),
        String::new(),
        report.summary.clone(),
    ];
    let in_full = if report.attempts.len() > MOST_IN_FULL && report.injections.is_empty() { 0 } else { MOST_IN_FULL };
    if in_full == 0 {
        lines.push(String::new());
        lines.extend(ends(&report.attempts));
    }
    // Of attempts after each other the last one is where something happened.
    for attempt in report.attempts.iter().rev().take(in_full) {
        lines.extend(one(attempt));
    }
    if !report.notes.is_empty() {
        lines.push(String::new());
        lines.extend(report.notes.iter().map(|note| format!("Note: {note}")));
    }
    lines.extend(report.pictures.iter().map(|picture| format!("Picture: {picture}")));
    lines.join("\n") + "\n"
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

fn ends(attempts: &[Played]) -> Vec<String> {
    let mut rows = vec![row(["STARTED", "ENDED", "OUTCOME", "WHY"])];
    for attempt in attempts {
        let why = attempt.decisions.last().map(|decision| decision.message.as_str()).unwrap_or_default();
        rows.push(row([&attempt.started, &attempt.ended, &attempt.outcome, why]));
    }
    table::lines(&rows)
}

fn one(attempt: &Played) -> Vec<String> {
    let mut lines = vec![String::new(), format!("Decisions, by the time since {}", attempt.started)];
    let mut rows = vec![row(["AFTER", "STAGE", "STEP", "EXPOSURE", "DECISION"])];
    for decision in &attempt.decisions {
        let exposure = if decision.from == decision.to { decision.to.clone() } else { format!("{} to {}", decision.from, decision.to) };
        rows.push(row([&after(decision.after_seconds), &decision.stage, &decision.step, &exposure, &decision.message]));
    }
    lines.extend(table::lines(&rows));
    lines.push(String::new());
    lines.push("Verdicts, when each was reached first in its stage".to_owned());
    let mut rows = vec![row(["AFTER", "STAGE", "GUARDRAIL", "VERDICT", "MEASURED", "95%", "CANDIDATE", "STABLE"])];
    for told in &attempt.verdicts {
        let numbers = &told.numbers;
        rows.push(row([
            &after(told.after_seconds),
            &told.stage,
            &numbers.guardrail,
            &numbers.verdict,
            dash(&numbers.value),
            dash(&numbers.interval),
            &numbers.samples.to_string(),
            &numbers.reference_samples.to_string(),
        ]));
    }
    lines.extend(if attempt.verdicts.is_empty() { vec!["none".to_owned()] } else { table::lines(&rows) });
    lines.push(String::new());
    lines.push(format!("Guardrails at the end, {}", attempt.ended));
    let mut rows = vec![row(["GUARDRAIL", "VERDICT", "MEASURED", "95%", "TARGET", "CRITICAL", "LN E"])];
    for last in &attempt.guardrails {
        let numbers = &last.numbers;
        rows.push(row([
            &numbers.guardrail,
            &numbers.verdict,
            dash(&numbers.value),
            dash(&numbers.interval),
            &numbers.target,
            &numbers.critical,
            dash(&numbers.log_e),
        ]));
    }
    lines.extend(table::lines(&rows));
    lines
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
