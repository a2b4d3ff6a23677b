//! `espalier backtest`: what a policy would have decided over recorded data, and when. Reads flags, manifests and the recording, and hands on.
//! Decides and measures nothing: `rollout_core::replay` runs the operator's own evidence, judge and decision.

mod fetch;
mod inject;
mod openmetrics;
mod picture;
mod recording;
mod report;
mod run;
mod scene;
#[cfg(test)]
mod tests;
mod text;

use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use rollout_core::evidence::Readings;
use rollout_core::plan::Plan;
use rollout_core::quantity::{DurationText, duration_text};
use rollout_core::replay::{End, Subject};
use rollout_core::revision;
use rollout_core::spec::RolloutSpec;
use rollout_core::validate::validate;
use serde_json::json;

use super::input::{self, Input};
use super::plan::smallest_rollout;
use super::validate::{Checked, check};
use super::{Outcome, Output, svg};
use crate::api::{EvaluationPolicy, ModelRollout};
use inject::Injection;
use report::{Injected, Party, Report};
use run::{Attempt, Play};
use scene::{Pick, Scene, Wanted};

/// Exit code when there is no end: the recording was over before the decision, or the attempt ended without proof.
const OPEN: u8 = 2;
/// Exit code when the input cannot be used.
const UNUSABLE: u8 = 3;
/// How far back a server is asked when nothing is said.
const DAY: TimeDelta = TimeDelta::days(1);

/// Flags of `espalier backtest`.
#[derive(Clone, Debug, Parser)]
#[command(after_help = "\
The operator's own evidence, judge and decision run over the recording, instant by instant. The traffic is what was recorded: it does not follow what
is decided, and how it was split is not checked. Approvals are taken as given, and pods as ready.

Exit codes: 0 it would have promoted (--known-good, --split-stable: no false alarm; --inject: found), 1 it would have rolled back (a false alarm; not
found), 2 undecided or inconclusive, 3 the input cannot be used.

Examples:
  espalier backtest -f policy.yaml --from http://prometheus:9090 --last 24h --save day.json
  espalier backtest -f policy.yaml -f rollout.yaml --from day.json --plot pictures
  espalier backtest -f policy.yaml --from day.json --split-stable
  espalier backtest -f policy.yaml --from day.json --inject accuracy=+5pp@2h")]
pub struct Args {
    /// Files or folders with one policy, and perhaps one rollout, whose stages are replayed; - reads standard input.
    #[arg(short = 'f', long = "filename", required = true, value_name = "FILE", num_args = 1..)]
    pub files: Vec<String>,
    /// Where the data is: the base address of a Prometheus server, or a file as --save writes it, an answer of its query API, or `OpenMetrics` text.
    #[arg(long, value_name = "URL|FILE")]
    pub from: String,
    /// First instant, such as 2026-03-01T08:00:00Z; default: when both revisions were there.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub start: Option<DateTime<Utc>>,
    /// Last instant; default: the end of a file, or now.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub end: Option<DateTime<Utc>>,
    /// Only so long before the end; a server is asked for 24h when neither --start nor --last is given.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "start")]
    pub last: Option<TimeDelta>,
    /// The revision on trial, or labels of its series such as job=digits-v2; default: that of the rollout, or the later one of two in the data.
    #[arg(long, value_name = "REVISION|LABELS", value_parser = pick)]
    candidate: Option<Pick>,
    /// The revision that serves, or labels of its series.
    #[arg(long, value_name = "REVISION|LABELS", value_parser = pick)]
    stable: Option<Pick>,
    /// The original model, for bounds against the baseline.
    #[arg(long, value_name = "REVISION|LABELS", value_parser = pick)]
    baseline: Option<Pick>,
    /// Only series of this namespace.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Compares stable with itself, its pods in two halves: every alarm is false. Implies --known-good.
    #[arg(long, conflicts_with = "candidate")]
    pub split_stable: bool,
    /// The recorded candidate is known to be good: attempts follow each other until the end, and every rollback counts as a false alarm.
    #[arg(long)]
    pub known_good: bool,
    /// Makes the candidate worse and says when that is found: accuracy=+5pp@2h, errors=2x@30m, power=+5W@1h. May be repeated.
    #[arg(long, value_name = "NAME=CHANGE@TIME", value_parser = Injection::read, conflicts_with_all = ["known_good", "split_stable"])]
    inject: Vec<Injection>,
    /// Seed of the chance in --inject.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Keeps what was read, to be used by --from.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Draws the last attempt into this folder: one picture of all guardrails, and one of each.
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
    /// A file with a bearer token for the server.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A file with the server's certificate authorities in PEM form.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Form of what is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    let read = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).ok();
    let unix = || text.parse::<i64>().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    read.or_else(unix).ok_or_else(|| "expected a time such as 2026-03-01T08:00:00Z, or unix seconds".to_owned())
}

fn duration(text: &str) -> Result<TimeDelta, String> {
    DurationText::new(text)
        .parse()
        .and_then(|length| if length > TimeDelta::zero() { Ok(length) } else { Err("expected more than 0s".into()) })
}

fn pick(text: &str) -> Result<Pick, String> {
    Pick::read(text)
}

/// Runs the command.
pub async fn run(args: &Args) -> Outcome {
    match tested(args).await {
        Ok((report, code)) => Outcome::of(&report, || text::text(&report), args.output, code),
        Err(problems) => {
            let body = problems.join("\n") + "\n";
            Outcome::of(&json!({"errors": problems}), || body, args.output, UNUSABLE)
        }
    }
}

async fn tested(args: &Args) -> Result<(Report, u8), Vec<String>> {
    let case = Case::read(args, &input::read(&args.files))?;
    let one = |problem: String| vec![problem];
    let recording = fetch::recording(args, &case.subject.plan, &case.wanted).await.map_err(one)?;
    if let Some(file) = &args.save {
        recording.save(file).map_err(one)?;
    }
    let scene = Scene::set(recording, &case.wanted, &case.subject.plan).map_err(one)?;
    case.play(args, scene).map_err(one)
}

/// What is to be tested.
struct Case {
    policy: String,
    rollout: Option<String>,
    subject: Subject,
    wanted: Wanted,
    notes: Vec<String>,
}

impl Case {
    fn read(args: &Args, input: &Input) -> Result<Self, Vec<String>> {
        let good = check(input);
        let located = good.report.problems.iter();
        let broken = located.map(|p| format!("{}: {}: {}: found {}, expected {}", p.place, p.object, p.field, p.found, p.expected));
        let unreadable = good.report.unreadable.iter().map(|u| format!("{}: cannot be read: {}", u.file, u.message));
        let mut errors: Vec<String> = unreadable.chain(broken).collect();
        if good.policies.len() != 1 && errors.is_empty() {
            errors.push(format!("found {} policies in the files of -f, expected one EvaluationPolicy", good.policies.len()));
        }
        if good.rollouts.len() > 1 {
            errors.push(format!("found {} rollouts in the files of -f, expected one at most", good.rollouts.len()));
        }
        let (Some(policy), true) = (good.policies.first(), errors.is_empty()) else { return Err(errors) };
        let rollout = good.rollouts.first();
        let spec = match rollout {
            Some(rollout) => rollout.object.spec.clone(),
            None => smallest_rollout().map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?,
        };
        let plan = validate(&spec, &policy.object.spec).map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(Self::of(args, policy, rollout, spec, plan))
    }

    fn of(
        args: &Args,
        policy: &Checked<EvaluationPolicy>,
        rollout: Option<&Checked<ModelRollout>>,
        spec: RolloutSpec,
        mut plan: Plan,
    ) -> Self {
        let mut notes = Vec::new();
        let approvals: Vec<&str> = plan.stages.iter().filter(|stage| stage.approval_required).map(|stage| stage.name.as_str()).collect();
        if !approvals.is_empty() {
            notes.push(format!("The approval of {} is taken as given.", approvals.join(", ")));
        }
        if rollout.is_none() {
            notes.push("Without a rollout the default stages are replayed.".to_owned());
        }
        // The split is what was recorded, so there is nothing to check it against.
        plan.requests = None;
        let labels = |matchers: &std::collections::BTreeMap<String, String>| (!matchers.is_empty()).then(|| Pick::Labels(matchers.clone()));
        let of_rollout = || {
            let spec = &rollout?.object.spec;
            Some(
                labels(&plan.candidate_matchers)
                    .unwrap_or_else(|| Pick::Revision(revision::id(&spec.model, &spec.workload).as_str().to_owned())),
            )
        };
        let wanted = Wanted {
            candidate: args.candidate.clone().or_else(|| of_rollout().filter(|_| !args.split_stable)),
            stable: args.stable.clone().or_else(|| rollout.and_then(|_| labels(&plan.baseline_matchers))),
            baseline: args.baseline.clone(),
            namespace: args.namespace.clone(),
            split: args.split_stable,
        };
        Self {
            policy: policy.name.clone(),
            rollout: rollout.map(|rollout| rollout.name.clone()),
            subject: Subject { rollout: spec, policy: policy.object.spec.clone(), plan },
            wanted,
            notes,
        }
    }

    fn play(&self, args: &Args, scene: Scene) -> Result<(Report, u8), String> {
        let plan = &self.subject.plan;
        let (from, to) = window(args, &scene, plan)?;
        let mut injected = Vec::new();
        let mut scene = scene;
        for (index, injection) in args.inject.iter().enumerate() {
            let at;
            (scene, at) = injection.apply(scene, plan, from, args.seed.wrapping_add(index as u64))?;
            injected.push((injection, at));
        }
        let readings = scene.readings(plan)?;
        self.is_answered(&readings, &scene)?;
        let good = args.known_good || args.split_stable;
        let found_after = injected.iter().map(|(_, at)| *at).max();
        let play = Play { subject: &self.subject, scene: &scene, from, to, repeats: good || !injected.is_empty(), found_after };
        let mut progress = Progress::new("replaying");
        let attempts = play.attempts(&readings, &mut |done| progress.tell(done));
        progress.end();
        let mut report = self.report(args, &scene, (from, to), &attempts);
        report.notes.extend(notes(&scene, plan, &attempts));
        let code = if good {
            told_alarms(&mut report, &attempts)
        } else if injected.is_empty() {
            told_end(&mut report, &attempts)
        } else {
            told_injections(&mut report, &attempts, &injected)
        };
        if let (Some(folder), Some(last)) = (&args.plot, attempts.last()) {
            report.pictures = plot(folder, &report, last, plan, &scene)?;
        }
        Ok((report, code))
    }

    /// A policy none of whose metrics was recorded is the wrong policy, or the wrong recording.
    fn is_answered(&self, readings: &Readings, scene: &Scene) -> Result<(), String> {
        let metrics = scene.metrics();
        let asks = |query: &rollout_core::evidence::Query| query.selector().map(|selector| selector.metric).unwrap_or_default();
        let wanted: std::collections::BTreeSet<String> = readings.keys().map(asks).filter(|metric| metric != "up").collect();
        if wanted.iter().any(|metric| metrics.contains(metric)) {
            return Ok(());
        }
        let list = |names: Vec<&str>| names.join(", ");
        Err(format!(
            "none of the metrics that {} asks for is in the recording: found {}, expected {}",
            self.policy,
            list(metrics.iter().map(String::as_str).take(20).collect()),
            list(wanted.iter().map(String::as_str).collect())
        ))
    }

    fn report(&self, args: &Args, scene: &Scene, (from, to): (DateTime<Utc>, DateTime<Utc>), attempts: &[Attempt]) -> Report {
        let spec = &self.subject.rollout;
        let trial = rollout_core::replay::candidate(spec);
        let candidate = scene.candidate.clone();
        let stable = scene.stable.clone();
        let name = |message: &str| {
            let told = message.replace(trial.as_str(), &candidate).replace("against baseline", &format!("against {stable}"));
            told.replace("; baseline is kept", &format!("; {stable} is kept"))
        };
        let (of_candidate, of_stable) = scene.pods();
        Report {
            policy: self.policy.clone(),
            rollout: self.rollout.clone(),
            source: args.from.clone(),
            candidate: Party { name: scene.candidate.clone(), pods: of_candidate },
            stable: Party { name: scene.stable.clone(), pods: of_stable },
            start: report::time(from),
            end: report::time(to),
            interval: duration_text(self.subject.plan.interval),
            outcome: String::new(),
            summary: String::new(),
            alarms: None,
            injections: Vec::new(),
            attempts: attempts.iter().map(|attempt| report::played(attempt, &self.subject.plan, &name)).collect(),
            notes: self.notes.clone(),
            pictures: Vec::new(),
        }
    }
}

/// From when to when is replayed.
fn window(args: &Args, scene: &Scene, plan: &Plan) -> Result<(DateTime<Utc>, DateTime<Utc>), String> {
    let (first, last) = scene.times();
    let to = args.end.map_or(last, |end| end.min(last + plan.interval));
    let from = match (args.start, args.last) {
        (Some(start), _) => start,
        (None, Some(length)) => (to - length).max(first - plan.interval),
        // An attempt starts before its candidate's first sample.
        (None, None) => first - plan.interval,
    };
    // Decisions fall on instants, and so does their beginning.
    let step = plan.interval.num_milliseconds().max(1);
    let from = DateTime::from_timestamp_millis(from.timestamp_millis().div_euclid(step) * step).unwrap_or(from);
    if from >= to || from >= last {
        return Err(format!(
            "nothing to replay from {} to {}: both arms were recorded from {} to {}",
            report::time(from),
            report::time(to),
            report::time(first),
            report::time(last)
        ));
    }
    Ok((from, to))
}

fn notes(scene: &Scene, plan: &Plan, attempts: &[Attempt]) -> Vec<String> {
    let mut notes = report::blind_notes(attempts);
    if scene.moves.is_empty() {
        notes.push(
            "The recording does not say when traffic was moved. If it was, windows right after a raise may prove too early; record the operator's \
             own metrics as well."
                .to_owned(),
        );
    }
    let night = TimeDelta::days(1);
    let soon = |one: &Attempt| one.end == Some(End::Promoted) && one.ended - one.started < night;
    if attempts.len() == 1 && attempts.iter().any(soon) && plan.probation < night {
        notes.push("It would have been promoted within a day: what is bad only at other hours was not seen.".to_owned());
    }
    notes
}

fn told_end(report: &mut Report, attempts: &[Attempt]) -> u8 {
    let Some(attempt) = attempts.last() else { return UNUSABLE };
    report::word(attempt.end).clone_into(&mut report.outcome);
    let after = report::after((attempt.ended - attempt.started).num_seconds());
    let why = attempt.decisions.last().map(|decision| decision.message.clone()).unwrap_or_default();
    let (summary, code) = match attempt.end {
        Some(End::Promoted) => (format!("It would have PROMOTED the candidate after {after}."), 0),
        Some(End::RolledBack) => (format!("It would have ROLLED BACK the candidate after {after}: {why}."), 1),
        Some(End::Inconclusive) => (format!("It would have ended WITHOUT PROOF after {after}: {why}."), OPEN),
        None => (format!("UNDECIDED when the recording ended after {after}: {}.", waits(attempt)), OPEN),
    };
    report.summary = summary;
    code
}

fn waits(attempt: &Attempt) -> String {
    use rollout_core::verdict::Overall;
    match attempt.last.as_ref().map(|judgement| &judgement.overall) {
        Some(Overall::Hold(why)) => why.clone(),
        Some(Overall::Fail(failure) | Overall::Inconclusive(failure) | Overall::Lower(failure)) => failure.message.clone(),
        Some(Overall::StagePass(_) | Overall::StepPass(_)) => "the last step had just passed".to_owned(),
        None => "no instant was judged".to_owned(),
    }
}

fn told_alarms(report: &mut Report, attempts: &[Attempt]) -> u8 {
    let alarms = report::alarms(attempts);
    let code = u8::from(alarms.rolled_back > 0);
    let word = if code == 0 { "NoFalseAlarm" } else { "FalseAlarms" };
    word.clone_into(&mut report.outcome);
    let all = alarms.attempts;
    let share = if code == 0 { "no false alarm".to_owned() } else { format!("{} false alarms", alarms.rolled_back) };
    report.summary = format!(
        "{share} in {all} attempts on what is known to be good: {} promoted, {} rolled back, {} inconclusive, {} not decided when the recording ended.",
        alarms.promoted, alarms.rolled_back, alarms.inconclusive, alarms.undecided
    );
    report.alarms = Some(alarms);
    code
}

fn told_injections(report: &mut Report, attempts: &[Attempt], injected: &[(&Injection, DateTime<Utc>)]) -> u8 {
    let bad = |attempt: &&Attempt, at: DateTime<Utc>| attempt.ended > at && run::failed(attempt.end);
    let (mut sentences, mut missed) = (Vec::new(), false);
    for (injection, at) in injected {
        let found = attempts.iter().find(|attempt| bad(attempt, *at));
        let by = found.and_then(|attempt| attempt.decisions.last());
        missed |= found.is_none();
        sentences.push(match (found, by) {
            (Some(attempt), Some(by)) => {
                let word = if attempt.end == Some(End::RolledBack) { "rolled back" } else { "ended without proof" };
                let after = report::after((attempt.ended - *at).num_seconds());
                format!("{} at {} was FOUND after {after}: {word} by {}.", injection.text, report::time(*at), by.guardrail)
            }
            _ => format!("{} at {} was NOT FOUND until {}.", injection.text, report::time(*at), report.end),
        });
        report.injections.push(Injected {
            injection: injection.text.clone(),
            at: report::time(*at),
            found_at: found.map(|attempt| report::time(attempt.ended)),
            found_after_seconds: found.map(|attempt| (attempt.ended - *at).num_seconds()),
            by: by.map(|by| by.guardrail.clone()),
        });
    }
    let word = if missed { "NotFound" } else { "Found" };
    word.clone_into(&mut report.outcome);
    report.summary = sentences.join(" ");
    u8::from(missed)
}

fn plot(folder: &PathBuf, report: &Report, attempt: &Attempt, plan: &Plan, scene: &Scene) -> Result<Vec<String>, String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("--plot {}: cannot be made: {error}", folder.display()))?;
    let mut written = Vec::new();
    for (name, picture) in picture::pictures(report, attempt, plan, scene) {
        let path = folder.join(format!("{name}.svg"));
        svg::write(&path, &picture)?;
        written.push(path.display().to_string());
    }
    Ok(written)
}

/// Says on standard error how far a long work is, at a terminal only: logs of pipelines are not made longer.
struct Progress {
    what: &'static str,
    told: bool,
    shown: bool,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        Self { what, told: false, shown: std::io::stderr().is_terminal() }
    }

    fn tell(&mut self, done: f64) {
        if self.shown {
            self.told = true;
            // Nobody is left to tell when the terminal is gone.
            let _ = write!(std::io::stderr(), "\r{} {:>3.0}%", self.what, (done * 100.0).clamp(0.0, 100.0));
        }
    }

    fn end(&mut self) {
        if self.told {
            let _ = writeln!(std::io::stderr(), "\r{} 100%", self.what);
        }
    }
}
