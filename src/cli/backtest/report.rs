//! A backtest as `-o json` prints it: when which decision would have been taken, and what was known of each guardrail then.
//! Computes nothing but times since the start; the words are the operator's.

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::plan::Plan;
use rollout_core::replay::{End, First};
use rollout_core::status::DecisionRecord;
use rollout_core::verdict::{Finding, Verdict};
use rollout_core::words;
use serde::Serialize;

use super::run::Attempt;

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    pub source: String,
    pub candidate: Party,
    pub stable: Party,
    pub start: String,
    pub end: String,
    pub interval: String,
    /// In a word: `Promoted`, `RolledBack`, `Inconclusive`, `Undecided`, `NoFalseAlarm`, `FalseAlarms`, `Found` or `NotFound`.
    pub outcome: String,
    /// The same in a sentence.
    pub summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarms: Option<Alarms>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub injections: Vec<Injected>,
    pub attempts: Vec<Played>,
    /// What a person should know besides, in sentences.
    pub notes: Vec<String>,
    /// Pictures that were written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<String>,
}

/// One arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Party {
    pub name: String,
    pub pods: usize,
}

/// Attempts on what is known to be good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Alarms {
    pub attempts: usize,
    pub promoted: usize,
    pub rolled_back: usize,
    pub inconclusive: usize,
    pub undecided: usize,
}

/// An injected regression and when it was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Injected {
    pub injection: String,
    pub at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_after_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Played {
    pub started: String,
    pub ended: String,
    pub instants: u64,
    pub outcome: String,
    pub decisions: Vec<Decided>,
    pub verdicts: Vec<Told>,
    pub guardrails: Vec<Last>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Decided {
    pub at: String,
    pub after_seconds: i64,
    pub action: String,
    pub stage: String,
    pub step: String,
    pub from: String,
    pub to: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub guardrail: String,
    pub reason: String,
    pub message: String,
}

/// The first time of a verdict in a stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    pub at: String,
    pub after_seconds: i64,
    pub stage: String,
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// A guardrail at the end of the attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Last {
    #[serde(flatten)]
    pub numbers: Numbers,
    /// Share of the instants at which it could not be measured.
    pub unmeasurable: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What was known of a guardrail.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Numbers {
    pub guardrail: String,
    pub verdict: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interval: String,
    pub target: String,
    pub critical: String,
    pub samples: u64,
    pub reference_samples: u64,
    /// Natural logarithms of e-values beside their thresholds, as the operator writes them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_e: String,
    pub message: String,
}

pub(super) fn time(at: DateTime<Utc>) -> String {
    at.format("%FT%TZ").to_string()
}

/// How an attempt ended, in a word.
pub(super) fn word(end: Option<End>) -> &'static str {
    match end {
        Some(End::Promoted) => "Promoted",
        Some(End::RolledBack) => "RolledBack",
        Some(End::Inconclusive) => "Inconclusive",
        None => "Undecided",
    }
}

pub(super) fn alarms(attempts: &[Attempt]) -> Alarms {
    let count = |end: Option<End>| attempts.iter().filter(|attempt| attempt.end == end).count();
    Alarms {
        attempts: attempts.len(),
        promoted: count(Some(End::Promoted)),
        rolled_back: count(Some(End::RolledBack)),
        inconclusive: count(Some(End::Inconclusive)),
        undecided: count(None),
    }
}

/// One attempt; `names` replaces what the replay calls the revision.
pub(super) fn played(attempt: &Attempt, plan: &Plan, name: &dyn Fn(&str) -> String) -> Played {
    let after = |at: DateTime<Utc>| (at - attempt.started).num_seconds();
    let stage = |first: &First| plan.stages.get(first.stage).map(|stage| stage.name.clone()).unwrap_or_default();
    let last = attempt.last.iter().flat_map(|judgement| &judgement.findings).zip(&attempt.unmeasurable);
    Played {
        started: time(attempt.started),
        ended: time(attempt.ended),
        instants: attempt.instants,
        outcome: word(attempt.end).to_owned(),
        decisions: attempt.decisions.iter().map(|decision| decided(decision, after(decision.time), name)).collect(),
        verdicts: attempt
            .firsts
            .iter()
            .map(|first| Told { at: time(first.at), after_seconds: after(first.at), stage: stage(first), numbers: numbers(&first.finding) })
            .collect(),
        guardrails: last
            .map(|(finding, (instants, why))| Last {
                numbers: numbers(finding),
                unmeasurable: format!("{:.0}%", (*instants as f64 / attempt.instants.max(1) as f64 * 100.0).ceil()),
                why: why.clone(),
            })
            .collect(),
    }
}

fn decided(decision: &DecisionRecord, after_seconds: i64, name: &dyn Fn(&str) -> String) -> Decided {
    Decided {
        at: time(decision.time),
        after_seconds,
        action: decision.action.clone(),
        stage: decision.stage.clone(),
        step: decision.step.clone(),
        from: decision.from.to_string(),
        to: decision.to.to_string(),
        guardrail: decision.guardrail.clone(),
        reason: decision.reason.clone(),
        message: name(&decision.message),
    }
}

fn numbers(finding: &Finding) -> Numbers {
    let said = |log_e: Option<f64>| log_e.map_or_else(|| "-".to_owned(), |log_e| format!("{log_e:.2}"));
    let (proof, harm) = finding.thresholds;
    let log_e = finding.log_e_proof.map(|_| {
        let [p, h, w] = [finding.log_e_proof, finding.log_e_harm, finding.log_e_warning].map(said);
        format!("proof {p}/{proof:.2} harm {h}/{harm:.2} warning {w}/{harm:.2}")
    });
    Numbers {
        guardrail: finding.guardrail.clone(),
        verdict: format!("{:?}", finding.verdict),
        value: finding.value.clone().unwrap_or_default(),
        interval: finding.interval.clone().unwrap_or_default(),
        target: finding.target.clone(),
        critical: finding.critical.clone(),
        samples: finding.samples.0,
        reference_samples: finding.samples.1,
        log_e: log_e.unwrap_or_default(),
        message: finding.message.clone(),
    }
}

/// What to know about attempts of which parts could not be measured.
pub(super) fn blind_notes(attempts: &[Attempt]) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(judgement) = attempts.iter().rev().find_map(|attempt| attempt.last.as_ref()) else { return notes };
    for (index, finding) in judgement.findings.iter().enumerate() {
        let of = |attempt: &Attempt| attempt.unmeasurable.get(index).map_or(0, |(count, _)| *count);
        let (missing, all): (u64, u64) = attempts.iter().fold((0, 0), |sum, one| (sum.0 + of(one), sum.1 + one.instants));
        if missing * 2 > all && finding.verdict != Verdict::Inactive {
            let why = attempts.iter().rev().find_map(|one| one.unmeasurable.get(index).map(|(_, why)| why).filter(|why| !why.is_empty()));
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            notes.push(format!("{} could not be measured at {missing} of {all} instants{why}", finding.guardrail));
        }
    }
    notes
}

/// A time since the start, for people.
pub(super) fn after(seconds: i64) -> String {
    words::duration(TimeDelta::seconds(seconds))
}
