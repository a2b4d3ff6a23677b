//! `espalier get` and `espalier status`: where a rollout is, in a few lines for people and in an exit code for pipelines.
//! Says what the status says; why it says so is for `explain`.

use std::time::Duration;

use clap::Parser;
use rollout_core::quantity::DurationText;
use rollout_core::status::{Condition, Status};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::cluster::{ClusterError, Rollouts, Target, UNREADABLE};
use super::{Outcome, Output, table};
use crate::api::ModelRollout;

/// Time between two looks while waiting.
const PAUSE: Duration = Duration::from_secs(2);

/// Flags of `espalier get`.
#[derive(Clone, Debug, Parser)]
#[command(after_help = "\
Exit codes: 0 promoted and serving, 1 rolled back or stalled, 2 in progress, 3 not found or not readable. Without NAME: 0, or 3 when the list cannot
be read.")]
pub struct GetArgs {
    /// The rollout; all of the namespace without it.
    pub name: Option<String>,
    /// Where it is.
    #[command(flatten)]
    pub target: Target,
    /// Form of what is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Flags of `espalier status`.
#[derive(Clone, Debug, Parser)]
#[command(after_help = "\
Exit codes: 0 promoted and serving, 1 rolled back or stalled, 2 in progress (also when --wait is over), 3 not found or not readable.

Example for a pipeline:
  kubectl apply -f rollout.yaml && espalier status digits --wait 24h")]
pub struct StatusArgs {
    /// The rollout.
    pub name: String,
    /// Where it is.
    #[command(flatten)]
    pub target: Target,
    /// Waits so long for the end, such as 30m or 24h; 0s looks once.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = wait)]
    pub wait: Duration,
    /// Form of what is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// A duration as manifests spell it.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    DurationText::from(text).parse()?.to_std().map_err(|error| error.to_string())
}

/// What became of a rollout so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Standing {
    /// The model of the spec serves everybody.
    Promoted,
    /// It was rolled back, or nothing moves without a person.
    Failed,
    /// Neither yet.
    InProgress,
}

impl Standing {
    /// 0 promoted, 1 failed, 2 in progress.
    pub const fn code(self) -> u8 {
        match self {
            Self::Promoted => 0,
            Self::Failed => 1,
            Self::InProgress => 2,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Failed => "failed",
            Self::InProgress => "in progress",
        }
    }
}

/// The condition of this type.
pub(super) fn condition<'a>(status: &'a Status, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.kind == kind)
}

/// Whether the condition of this type has this status.
pub(super) fn is(status: &Status, kind: &str, word: &str) -> bool {
    condition(status, kind).is_some_and(|condition| condition.status == word)
}

/// Whether the operator has seen the spec as it is now.
pub(super) fn is_current(rollout: &ModelRollout) -> bool {
    let seen = rollout.status.as_ref().map_or(-1, |status| status.observed_generation);
    seen >= rollout.metadata.generation.unwrap_or(0)
}

/// What became of it, by its conditions.
pub fn standing(rollout: &ModelRollout) -> Standing {
    let Some(status) = rollout.status.as_ref().filter(|_| is_current(rollout) && rollout.metadata.deletion_timestamp.is_none()) else {
        return Standing::InProgress;
    };
    if is(status, "Stalled", "True") || (is(status, "Ready", "False") && !is(status, "Reconciling", "True")) {
        Standing::Failed
    } else if is(status, "Ready", "True") && is(status, "Promoted", "True") {
        Standing::Promoted
    } else {
        Standing::InProgress
    }
}

/// What a pipeline reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    namespace: String,
    name: String,
    standing: Standing,
    reason: String,
    message: String,
    stage: String,
    step: String,
    weight: String,
    verdict: String,
    stable: String,
    candidate: String,
}

fn report(namespace: &str, rollout: &ModelRollout) -> Report {
    let status = rollout.status.clone().unwrap_or_default();
    let ready = condition(&status, "Ready").filter(|_| is_current(rollout));
    let unseen = || ("NotSeenYet".to_owned(), "the operator has not seen this spec yet".to_owned());
    let (reason, message) = ready.map_or_else(unseen, |ready| (ready.reason.clone(), ready.message.clone()));
    Report {
        namespace: namespace.to_owned(),
        name: rollout.metadata.name.clone().unwrap_or_default(),
        standing: standing(rollout),
        reason,
        message,
        stage: status.display.stage,
        step: status.display.step,
        weight: status.display.weight,
        verdict: status.display.verdict,
        stable: status.display.stable,
        candidate: status.display.candidate,
    }
}

/// What is printed when nothing could be read.
pub(super) fn unreadable(error: &ClusterError, output: Output) -> Outcome {
    Outcome::of(&json!({"error": error.to_string()}), || format!("{error}\n"), output, UNREADABLE)
}

/// Runs `espalier get`.
pub async fn get(args: &GetArgs) -> Outcome {
    match Rollouts::connect(&args.target).await {
        Ok(rollouts) => get_from(&rollouts, args).await,
        Err(error) => unreadable(&error, args.output),
    }
}

pub(super) async fn get_from(rollouts: &Rollouts, args: &GetArgs) -> Outcome {
    let Some(name) = &args.name else {
        return match rollouts.list().await {
            Ok(found) => {
                let reports: Vec<Report> = found.iter().map(|rollout| report(&rollouts.namespace, rollout)).collect();
                Outcome::of(&reports, || list(&rollouts.namespace, &reports), args.output, 0)
            }
            Err(error) => unreadable(&error, args.output),
        };
    };
    match rollouts.get(name).await {
        Ok(rollout) => {
            let code = standing(&rollout).code();
            Outcome::of(&rollout, || shown(&rollouts.namespace, &rollout), args.output, code)
        }
        Err(error) => unreadable(&error, args.output),
    }
}

/// Runs `espalier status`.
pub async fn status(args: &StatusArgs) -> Outcome {
    match Rollouts::connect(&args.target).await {
        Ok(rollouts) => status_from(&rollouts, args).await,
        Err(error) => unreadable(&error, args.output),
    }
}

pub(super) async fn status_from(rollouts: &Rollouts, args: &StatusArgs) -> Outcome {
    let until = Instant::now() + args.wait;
    let mut last: Option<Report> = None;
    loop {
        // A read that fails while somebody waits for hours is tried again; what is not there at all is said at once.
        match rollouts.get(&args.name).await {
            Ok(rollout) => last = Some(report(&rollouts.namespace, &rollout)),
            Err(error @ (ClusterError::NotFound { .. } | ClusterError::NoConnection(_))) => return unreadable(&error, args.output),
            Err(error) if Instant::now() >= until => return unreadable(&error, args.output),
            Err(_) => {}
        }
        let open = last.as_ref().is_none_or(|report| report.standing == Standing::InProgress);
        if !open || Instant::now() >= until {
            break;
        }
        sleep(PAUSE.min(until - Instant::now())).await;
    }
    let Some(report) = last else { return Outcome { text: String::new(), code: UNREADABLE } };
    let code = report.standing.code();
    Outcome::of(&report, || line(&report), args.output, code)
}

fn line(report: &Report) -> String {
    let Report { namespace, name, stage, step, weight, message, reason, .. } = report;
    let place = match report.standing {
        Standing::InProgress if step != "-" && !step.is_empty() => format!(" ({stage} {step}, {weight})"),
        _ => String::new(),
    };
    format!("{namespace}/{name}: {}{place}: {reason}: {message}\n", report.standing.word())
}

fn list(namespace: &str, reports: &[Report]) -> String {
    if reports.is_empty() {
        return format!("no ModelRollout in namespace {namespace}\n");
    }
    let mut rows = vec![["NAME", "STAGE", "STEP", "WEIGHT", "VERDICT", "STABLE", "CANDIDATE", "STANDING"].map(str::to_owned).to_vec()];
    for one in reports {
        let cells = [&one.name, &one.stage, &one.step, &one.weight, &one.verdict, &one.stable, &one.candidate];
        let cell = |text: &&String| if text.is_empty() { "-".to_owned() } else { (*text).clone() };
        rows.push(cells.iter().map(cell).chain([one.standing.word().to_owned()]).collect());
    }
    table::lines(&rows).join("\n") + "\n"
}

fn shown(namespace: &str, rollout: &ModelRollout) -> String {
    let report = report(namespace, rollout);
    let status = rollout.status.clone().unwrap_or_default();
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let row = |key: &str, value: String| vec![key.to_owned(), value];
    let rows = [
        row("Name", format!("{namespace}/{}", report.name)),
        row("Standing", format!("{} ({})", report.standing.word(), report.reason)),
        row("Serves", dash(&report.stable)),
        row("Candidate", dash(&report.candidate)),
        row("Place", format!("{} {}, {} of users", dash(&report.stage), dash(&report.step), dash(&report.weight))),
        row("Verdict", dash(&report.verdict)),
        row("Message", report.message.clone()),
    ];
    let mut lines = table::lines(&rows);
    if !status.evidence.is_empty() {
        let mut rows = vec![["GUARDRAIL", "VERDICT", "VALUE", "INTERVAL", "TARGET", "SAMPLES", "LEFT"].map(str::to_owned).to_vec()];
        for one in &status.evidence {
            let verdict = format!("{:?}", one.verdict);
            rows.push(vec![
                one.guardrail.clone(),
                verdict,
                dash(&one.value),
                dash(&one.interval),
                dash(&one.target),
                format!("{} vs {}", one.samples, one.reference_samples),
                dash(&one.eta),
            ]);
        }
        lines.push(String::new());
        lines.extend(table::lines(&rows));
    }
    lines.push(String::new());
    lines.push(format!("Why: kubectl espalier explain {} -n {namespace}", report.name));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::cli::testing::{rollout, server};

    fn with(generation: i64, conditions: &[(&str, &str)]) -> ModelRollout {
        let condition = |(kind, status): &(&str, &str)| {
            json!({
                "type": kind, "status": status, "observedGeneration": 1, "lastTransitionTime": "2026-01-02T03:04:05Z", "reason": "Because",
                "message": "a sentence",
            })
        };
        let conditions: Vec<Value> = conditions.iter().map(condition).collect();
        rollout(&json!({"observedGeneration": generation, "conditions": conditions}))
    }

    #[test]
    fn exit_codes_follow_the_conditions() {
        let code = |conditions: &[(&str, &str)]| standing(&with(1, conditions)).code();
        assert_eq!(code(&[("Ready", "True"), ("Promoted", "True")]), 0);
        assert_eq!(code(&[("Ready", "False"), ("Stalled", "True")]), 1);
        assert_eq!(code(&[("Ready", "Unknown"), ("Reconciling", "True")]), 2);
        // A policy that is not there yet may still come.
        assert_eq!(code(&[("Ready", "False"), ("Reconciling", "True")]), 2);
        // With readyWhen Accepted the object is Ready during a trial; a pipeline asks for the model.
        assert_eq!(code(&[("Ready", "True"), ("Promoted", "False")]), 2);
        assert_eq!(code(&[]), 2);
    }

    #[test]
    fn what_is_known_of_an_older_spec_says_nothing_about_this_one() {
        assert_eq!(standing(&with(0, &[("Ready", "True"), ("Promoted", "True")])), Standing::InProgress);
    }

    fn args(line: &str) -> StatusArgs {
        StatusArgs::try_parse_from(format!("status {line}").split(' ')).unwrap()
    }

    #[tokio::test]
    async fn what_is_not_there_is_3() {
        let (rollouts, _) = server(Vec::new());
        let outcome = status_from(&rollouts, &args("digits")).await;
        assert_eq!((outcome.code, outcome.text.as_str()), (3, "there is no ModelRollout digits in namespace ml\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_the_rollout_and_not_before() {
        let running = with(1, &[("Ready", "Unknown"), ("Reconciling", "True")]);
        let done = with(1, &[("Ready", "True"), ("Promoted", "True")]);
        let (rollouts, _) = server(vec![running.clone(), running.clone(), done]);
        let outcome = status_from(&rollouts, &args("digits --wait 1h")).await;
        assert_eq!((outcome.code, outcome.text.as_str()), (0, "ml/digits: promoted: Because: a sentence\n"));
        let (rollouts, _) = server(vec![running]);
        assert_eq!(status_from(&rollouts, &args("digits --wait 10s")).await.code, 2);
    }

    #[tokio::test]
    async fn json_has_the_standing_and_the_reason() {
        let (rollouts, _) = server(vec![with(1, &[("Ready", "False"), ("Stalled", "True")])]);
        let outcome = status_from(&rollouts, &args("digits -o json")).await;
        let read: Value = serde_json::from_str(&outcome.text).unwrap();
        assert_eq!((outcome.code, read["standing"].as_str(), read["reason"].as_str()), (1, Some("Failed"), Some("Because")));
    }
}
