//! `espalier plan`: what the manifests need at a given traffic, before anything runs.
//! Reads flags and manifests and words the answer; the computing is `rollout_core::planning`.

mod base;
mod picture;
mod report;
mod text;

use std::path::PathBuf;

use chrono::TimeDelta;
use clap::Parser;
use rollout_core::plan::Plan;
use rollout_core::planning::{Assumptions, Way, forecast, smallest_margin, ways};
use rollout_core::quantity::{PercentText, ShareText};
use rollout_core::spec::RolloutSpec;
use rollout_core::validate::{Problem, validate};
use serde_json::json;

use super::input::{self, Input};
use super::validate::{Good, check, policy_of};
use super::{Outcome, Output, svg};
use crate::api::EvaluationPolicy;
use report::{Planned, Report};

/// Flags of `espalier plan`.
#[derive(Clone, Debug, Parser)]
#[command(after_help = "\
Times are those of a candidate that is as good as stable (see --loss). More than half of all proofs are done within the usual time, nineteen of
twenty within the longest. A guardrail without --base is planned with a value that the answer names.

Exit codes: 0 every proof fits into its stage, 1 some guardrail cannot be proven within maxDuration at this traffic, 2 the input cannot be used.

Examples:
  espalier plan -f rollout.yaml -f policy.yaml --rps 50 --base accuracy=8% --base errors=0.2%
  espalier plan -f policy.yaml --rps 3/m --share 50% --days 2")]
pub struct Args {
    /// Files or folders with rollouts and their policies; - reads standard input. A policy alone is planned with the default stages.
    #[arg(short = 'f', long = "filename", required = true, value_name = "FILE", num_args = 1..)]
    pub files: Vec<String>,
    /// Requests to the route in all: a second (50), a minute (30/m), an hour (100/h) or a day (5000/d).
    #[arg(long, value_name = "N", value_parser = base::rps)]
    pub rps: f64,
    /// Plans with this share of users in the last step of every stage that exposes users.
    #[arg(long, value_name = "PERCENT")]
    pub share: Option<String>,
    /// What stable does today on a guardrail: accuracy=8% (bad events), restarts=2/h (events per pod), power=24W or power=24W+-2W (mean and
    /// standard deviation over five windows; for energy per inference likewise, as energy=120J), mix=12 (bins of a drift). May be repeated.
    #[arg(long = "base", value_name = "NAME=RATE")]
    pub bases: Vec<String>,
    /// How much of its margin the candidate really uses up: half a margin takes four times as long.
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    pub loss: String,
    /// Variance of counts over that of independent requests, 1 or more; retries and incidents make it larger.
    #[arg(long, value_name = "PHI", default_value_t = 1.0, value_parser = base::overdispersion)]
    pub overdispersion: f64,
    /// Pods of each arm; default: the replicas of the rollout's template.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub pods: Option<u32>,
    /// Says besides how small a margin could be proven in so many days.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=365))]
    pub days: Option<u16>,
    /// Draws the times besides.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Form of what is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Exit code when the input cannot be used.
const UNUSABLE: u8 = 2;

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let drawn = planned(args, &input::read(&args.files)).and_then(|report| {
        let Some(path) = &args.svg else { return Ok(report) };
        svg::write(path, &picture::picture(&report)).map(|()| report).map_err(|error| vec![error])
    });
    match drawn {
        Ok(report) => {
            let code = u8::from(report.plans.iter().any(|plan| !plan.fits));
            Outcome::of(&report, || text::text(&report), args.output, code)
        }
        Err(problems) => {
            let body = problems.join("\n") + "\n";
            match args.output {
                Output::Text => Outcome { text: body, code: UNUSABLE },
                Output::Json => Outcome::of(&json!({"errors": problems}), String::new, Output::Json, UNUSABLE),
            }
        }
    }
}

/// A rollout or a policy alone, and what it means.
struct Subject {
    rollout: Option<String>,
    policy: String,
    plan: Plan,
    /// Replicas of the template, when the operator makes the pods.
    pods: Option<u32>,
}

fn planned(args: &Args, input: &Input) -> Result<Report, Vec<String>> {
    let good = check(input);
    let broken =
        good.report.problems.iter().map(|p| format!("{}: {}: {}: found {}, expected {}", p.place, p.object, p.field, p.found, p.expected));
    let mut errors: Vec<String> =
        good.report.unreadable.iter().map(|u| format!("{}: cannot be read: {}", u.file, u.message)).chain(broken).collect();
    if errors.is_empty() && good.report.checked == 0 {
        errors.extend(good.report.notes.clone());
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let subjects = subjects(&good)?;
    let plans = subjects.iter().map(|subject| one(args, subject)).collect::<Result<Vec<_>, _>>()?;
    for name in args.bases.iter().filter_map(|text| text.split('=').next()) {
        if !subjects.iter().any(|subject| subject.plan.guardrails.iter().any(|guardrail| guardrail.name == name)) {
            errors.push(format!("--base {name}: no policy in the input has a guardrail of this name"));
        }
    }
    if errors.is_empty() { Ok(Report { requests_per_second: format!("{}", args.rps), plans }) } else { Err(errors) }
}

/// Every rollout with its policy, and every policy that no rollout of the input names.
fn subjects(good: &Good) -> Result<Vec<Subject>, Vec<String>> {
    let (mut subjects, mut errors) = (Vec::new(), Vec::new());
    for rollout in &good.rollouts {
        let wanted = &rollout.object.spec.policy_ref.name;
        let Some(policy) = policy_of(rollout, &good.policies) else {
            errors.push(format!(
                "{}: EvaluationPolicy {wanted} of ModelRollout {} is not in the input; add its file with -f",
                rollout.place, rollout.name
            ));
            continue;
        };
        match validate(&rollout.object.spec, &policy.object.spec) {
            Ok(plan) => {
                let pods = replicas(&rollout.object.spec);
                subjects.push(Subject { rollout: Some(rollout.name.clone()), policy: policy.name.clone(), plan, pods });
            }
            Err(problems) => errors.extend(problems.iter().map(ToString::to_string)),
        }
    }
    let is_named = |name: &str, namespace: &str| {
        good.rollouts.iter().any(|rollout| rollout.namespace == namespace && rollout.object.spec.policy_ref.name == name)
    };
    for policy in good.policies.iter().filter(|policy| !is_named(&policy.name, &policy.namespace)) {
        match with_default_stages(&policy.object) {
            Ok(plan) => subjects.push(Subject { rollout: None, policy: policy.name.clone(), plan, pods: None }),
            Err(problems) => errors.extend(problems.iter().map(ToString::to_string)),
        }
    }
    if errors.is_empty() { Ok(subjects) } else { Err(errors) }
}

/// Pods that a template asks for; 1 when it does not say, as for the API server.
fn replicas(spec: &RolloutSpec) -> Option<u32> {
    let template = spec.workload.template.as_ref()?;
    let asked = template.pointer("/spec/replicas").and_then(serde_json::Value::as_u64).unwrap_or(1);
    u32::try_from(asked).ok().filter(|pods| *pods > 0)
}

/// The plan of a policy under the stages that a rollout has when it names none.
fn with_default_stages(policy: &EvaluationPolicy) -> Result<Plan, Vec<Problem>> {
    validate(&smallest_rollout()?, &policy.spec)
}

/// A rollout that names nothing but what it must.
pub(super) fn smallest_rollout() -> Result<RolloutSpec, Vec<Problem>> {
    let backend = |name: &str| json!({"backendRef": {"name": name, "port": 80}});
    let spec = json!({
        "model": {"uri": "oci://example/model"}, "workload": backend("candidate"), "baseline": backend("stable"),
        "route": {"template": {}}, "policyRef": {"name": "policy"},
    });
    serde_json::from_value(spec).map_err(|error| vec![Problem::new("spec", error.to_string(), "the smallest rollout")])
}

fn one(args: &Args, subject: &Subject) -> Result<Planned, Vec<String>> {
    let assumptions = Assumptions { pods: args.pods.or(subject.pods), ..assumptions(args, &subject.plan)? };
    let forecast = forecast(&subject.plan, &assumptions);
    let mut ways = ways(&subject.plan, &assumptions);
    ways.splice(0..0, longer_stages(&forecast));
    let margins = args.days.into_iter().flat_map(|days| {
        let limit = TimeDelta::days(i64::from(days));
        let names = subject.plan.guardrails.iter().map(|guardrail| guardrail.name.clone());
        let smallest = names.filter_map(|name| smallest_margin(&subject.plan, &assumptions, &name, limit).map(|margin| (name, margin)));
        smallest.collect::<Vec<_>>()
    });
    let margins = margins.collect();
    Ok(report::planned(subject.rollout.as_deref(), &subject.policy, &subject.plan, &assumptions, &forecast, &ways, margins))
}

/// Stages that a longer `maxDuration` would help, as ways with the time that the plan takes anyway.
fn longer_stages(forecast: &rollout_core::planning::Forecast) -> Vec<Way> {
    let longer = |stage: &rollout_core::planning::StageForecast| {
        let needed = stage.time.filter(|time| time.longest > stage.allowed)?;
        let hours = TimeDelta::hours((needed.longest.num_minutes() + 59) / 60);
        // The API takes at most a week.
        (hours <= TimeDelta::hours(168)).then(|| Way {
            change: format!("allow stage {} a maxDuration of {}", stage.name, rollout_core::quantity::duration_text(hours)),
            time: forecast.total(),
        })
    };
    forecast.stages.iter().filter_map(longer).collect()
}

fn assumptions(args: &Args, plan: &Plan) -> Result<Assumptions, Vec<String>> {
    let mut errors = Vec::new();
    let mut keep = |what: &str, error: String| errors.push(format!("{what}: {error}"));
    let share = args.share.as_ref().and_then(|text| PercentText::new(text.clone()).parse().map_err(|error| keep("--share", error)).ok());
    if share.is_some_and(|share| share.percent() > 99) {
        keep("--share", "found \"100%\", expected at most 99%: the rest is what the candidate is compared with".to_owned());
    }
    let loss = ShareText::new(args.loss.clone())
        .parse()
        .and_then(|loss| if loss < 1.0 { Ok(loss) } else { Err("expected less than 100%".into()) });
    let loss = loss.map_err(|error| keep("--loss", error)).unwrap_or_default();
    let mut bases = std::collections::BTreeMap::new();
    for text in &args.bases {
        match base::base(text, plan) {
            Ok(Some((name, base))) => {
                bases.insert(name, base);
            }
            // Another plan's guardrail.
            Ok(None) => {}
            Err(error) => keep("--base", error),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Assumptions { share, bases, loss, overdispersion: args.overdispersion, ..Assumptions::at(args.rps) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "
apiVersion: espalier.dev/v1alpha1
kind: EvaluationPolicy
metadata: {name: digits}
spec:
  prometheus: {address: 'http://prometheus.monitoring:9090'}
  guardrails:
  - {name: accuracy, proportion: {bad: 'p{correct=\"false\"}', total: p}, target: +2pp vs stable}
  - {name: power, gauge: {query: watts, unit: W}, target: 30W}
  - {name: nan, tripwire: {query: nonfinite_total}}
";
    const ROLLOUT: &str = "
apiVersion: espalier.dev/v1alpha1
kind: ModelRollout
metadata: {name: digits}
spec:
  model: {uri: 'oci://registry.example/digits@sha256:41ab'}
  workload: {backendRef: {name: digits-v2, port: 80}}
  route: {template: {parentRefs: [{name: gw}], rules: [{}]}}
  policyRef: {name: digits}
  stages: [{name: canary, type: Canary, steps: [1%, 10%], maxDuration: 3h}]
";

    fn args(line: &str) -> Args {
        Args::try_parse_from(format!("plan -f x {line}").split(' ')).unwrap()
    }

    fn report(line: &str, text: &str) -> Result<Report, Vec<String>> {
        let mut input = Input::default();
        input::parse("all.yaml", text, &mut input);
        planned(&args(line), &input)
    }

    #[test]
    fn little_traffic_says_which_guardrail_does_not_fit_and_by_how_much() {
        let both = format!("{ROLLOUT}---{POLICY}");
        assert!(report("--rps 50 --base accuracy=8%", &both).unwrap().plans[0].fits);
        let little = report("--rps 2 --base accuracy=8%", &both).unwrap();
        assert!(!little.plans[0].fits);
        let said = text::text(&little);
        assert!(said.contains("accuracy") && said.contains("more than maxDuration 3h allows"), "{said}");
        assert!(said.contains("allow stage canary a maxDuration of"), "{said}");
    }

    #[test]
    fn a_policy_alone_is_planned_with_the_default_stages() {
        let report = report("--rps 50 --days 1", POLICY).unwrap();
        assert_eq!(report.plans[0].stages.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["shadow", "canary"]);
        assert!(report.plans[0].smallest_margins.contains_key("accuracy"), "{report:?}");
        assert!(text::text(&report).contains("default stages"));
    }

    #[test]
    fn what_was_assumed_is_named_and_what_was_given_is_not() {
        let both = format!("{ROLLOUT}---{POLICY}");
        let said = |line: &str| text::text(&report(line, &both).unwrap());
        assert!(said("--rps 50").contains("5% (assumed)"), "{}", said("--rps 50"));
        assert!(said("--rps 50").contains("--base NAME=VALUE for accuracy"), "{}", said("--rps 50"));
        assert!(!said("--rps 50 --base accuracy=8% --base power=24W").contains("--base NAME"));
        assert!(!said("--rps 50 --base accuracy=8% --base power=24W").contains("assumed)"));
    }

    #[test]
    fn drift_and_energy_are_planned_with_what_is_known_of_them() {
        let drift = "  - {name: mix, drift: {bins: p, label: predicted}, target: '0.1'}\n";
        let energy = "  - {name: energy, energy: {consumption: e, inferences: r}, target: 0.8x vs stable}\n";
        let both = format!(
            "{}---{POLICY}{drift}{energy}",
            ROLLOUT.replace("stages: [", "stages: [{name: shadow, type: Shadow, maxDuration: 6h}, ")
        );
        let said = |line: &str| text::text(&report(line, &both).unwrap());
        assert!(said("--rps 50").contains("10 bins (assumed)"), "{}", said("--rps 50"));
        let known = said("--rps 50 --base mix=40 --base energy=120J+-6J");
        assert!(known.contains("40 bins") && known.contains("120J±6J") && known.contains("3 pods in each arm"), "{known}");
        for line in ["--rps 50 --base mix=1", "--rps 50 --base mix=10%", "--rps 50 --base energy=120W"] {
            let problems = report(line, &both).unwrap_err();
            assert!(problems.iter().any(|problem| problem.contains("--base") || problem.contains("expected")), "{problems:?}");
        }
    }

    #[test]
    fn flags_that_make_no_sense_are_refused_with_their_name() {
        let both = format!("{ROLLOUT}---{POLICY}");
        for (line, wanted) in [
            ("--rps 50 --share 100%", "--share"),
            ("--rps 50 --loss 100%", "--loss"),
            ("--rps 50 --base acuracy=8%", "--base acuracy"),
            ("--rps 50 --base accuracy=8W", "--base"),
            ("--rps 50 --base power=24", "--base"),
            ("--rps 50 --base nan=1%", "--base"),
        ] {
            let errors = report(line, &both).unwrap_err();
            assert!(errors[0].starts_with(wanted), "{line}: {errors:?}");
        }
        for line in ["--rps 0", "--rps -1", "--rps x", "--rps 5/y", "--rps 5 --overdispersion 0.5", "--rps 5 --days 0"] {
            assert!(Args::try_parse_from(format!("plan -f x {line}").split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn half_a_margin_and_the_hours_that_nobody_sees_are_mentioned() {
        let report = report("--rps 50 --base accuracy=8%", &format!("{ROLLOUT}---{POLICY}")).unwrap();
        let notes = &report.plans[0].notes;
        assert!(notes.len() == 2 && notes[0].contains("half of its margins") && notes[1].contains("probation of 24h"), "{notes:?}");
        let watched = format!("{ROLLOUT}  probation: {{duration: 24h}}\n---{POLICY}");
        let mut input = Input::default();
        input::parse("all.yaml", &watched, &mut input);
        assert_eq!(planned(&args("--rps 50 --loss 10%"), &input).unwrap().plans[0].notes, Vec::<String>::new());
    }

    #[test]
    fn the_picture_has_a_bar_for_every_guardrail_and_the_end_of_every_stage() {
        let report = report("--rps 2", &format!("{ROLLOUT}---{POLICY}")).unwrap();
        let picture = picture::picture(&report);
        assert!(["accuracy", "power", "nan", "maxDuration 3h"].iter().all(|word| picture.contains(word)), "{picture}");
    }

    #[test]
    fn a_rollout_without_its_policy_cannot_be_planned() {
        assert!(report("--rps 50", ROLLOUT).unwrap_err()[0].contains("is not in the input; add its file with -f"));
        assert!(report("--rps 50", "a: 1").unwrap_err()[0].contains("no ModelRollout"));
    }
}
