//! `espalier validate`: every problem of the manifests, found without a cluster by the schema of the definitions and the operator's own checks.
//! Does not see what only a cluster knows: whether a Service, a policy in another file, or a metric exists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use clap::Parser;
use rollout_core::profile;
use rollout_core::quantity::BoundText;
use rollout_core::spec::{PolicySpec, ProfileName};
use rollout_core::validate::{Problem, validate, validate_policy, validate_rollout};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::input::{self, Document, Input, Place, Unreadable};
use super::{Outcome, Output};
use crate::api::{API_VERSION, EvaluationPolicy, GROUP, ModelRollout, definitions, strict};

/// Flags of `espalier validate`.
#[derive(Clone, Debug, Parser)]
#[command(after_help = "Exit codes: 0 no problem, 1 problems, 2 something could not be read or holds no manifest of ours.")]
pub struct Args {
    /// Files or folders with YAML or JSON, of one or more documents; - reads standard input. Other kinds are left alone.
    #[arg(short = 'f', long = "filename", required = true, value_name = "FILE", num_args = 1..)]
    pub files: Vec<String>,
    /// Form of what is printed.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// One problem and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Located {
    /// The document.
    #[serde(flatten)]
    pub place: Place,
    /// Kind and name of the object, as far as it has them.
    pub object: String,
    /// Path of the field.
    pub field: String,
    /// What stands there.
    pub found: String,
    /// What may stand there.
    pub expected: String,
}

/// What the manifests are worth.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Rollouts and policies that were checked.
    pub checked: usize,
    /// Objects of other kinds, which were left alone.
    pub skipped: usize,
    /// All problems, in the order of the files.
    pub problems: Vec<Located>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    /// What could not be checked, in sentences.
    pub notes: Vec<String>,
    /// Policies with a profile, written out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expanded: Vec<Expanded>,
}

/// A policy whose profile is written out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expanded {
    /// Name of the policy.
    pub policy: String,
    /// Its profile.
    pub profile: ProfileName,
    /// Its spec without the profile, which means the same.
    pub spec: PolicySpec,
}

impl Report {
    /// 0 good, 1 problems, 2 unreadable or empty.
    pub fn code(&self) -> u8 {
        match (self.unreadable.is_empty() && self.checked > 0, self.problems.is_empty()) {
            (false, _) => 2,
            (true, false) => 1,
            (true, true) => 0,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let report = check(&input::read(&args.files)).report;
    let code = report.code();
    Outcome::of(&report, || text(&report), args.output, code)
}

/// An object that can be read as what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked<T> {
    /// Where it stands.
    pub place: Place,
    /// Namespace as written, empty when it is not.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The object.
    pub object: T,
}

/// The report, and every object that has no problem of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Good {
    /// What is wrong.
    pub report: Report,
    /// Rollouts without a problem.
    pub rollouts: Vec<Checked<ModelRollout>>,
    /// Policies without a problem.
    pub policies: Vec<Checked<EvaluationPolicy>>,
}

/// Checks everything that was read: each object alone, then each rollout with its policy when both are there and good.
pub fn check(input: &Input) -> Good {
    let mut good = Good::default();
    good.report.unreadable.clone_from(&input.unreadable);
    let mut seen = BTreeSet::new();
    for document in &input.documents {
        one(document, &mut good, &mut seen);
    }
    together(&mut good, &seen);
    good.report.expanded = good.policies.iter().filter_map(expanded).collect();
    good.report.problems.sort_by(|a, b| a.place.cmp(&b.place));
    if good.report.checked == 0 && good.report.unreadable.is_empty() {
        good.report.notes.push(format!("no ModelRollout or EvaluationPolicy of {API_VERSION} in the input"));
    }
    good
}

fn expanded(policy: &Checked<EvaluationPolicy>) -> Option<Expanded> {
    let spec = &policy.object.spec;
    Some(Expanded { policy: policy.name.clone(), profile: spec.profile?, spec: profile::expanded(spec) })
}

/// Kind, namespace and name of an object.
type Identity = (String, String, String);

fn one(document: &Document, good: &mut Good, seen: &mut BTreeSet<Identity>) {
    let text = |pointer: &str| document.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (version, kind) = (text("/apiVersion"), text("/kind"));
    if version.split('/').next() != Some(GROUP) {
        good.report.skipped += 1;
        return;
    }
    good.report.checked += 1;
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let object = format!("{kind} {}", if name.is_empty() { "without a name" } else { &name });
    let mut problems: Vec<Problem> = Vec::new();
    if version != API_VERSION {
        problems.push(Problem::new("apiVersion", format!("\"{version}\""), format!("\"{API_VERSION}\"")));
    } else if name.is_empty() && text("/metadata/generateName").is_empty() {
        problems.push(Problem::new("metadata.name", "nothing", "a DNS label that starts with a letter, such as digits"));
    } else if !name.is_empty() && !seen.insert((kind.clone(), namespace.clone(), name.clone())) {
        problems.push(Problem::new("metadata.name", format!("{kind} \"{name}\" a second time"), "every object once"));
    }
    let mut is_whole = true;
    match kind.as_str() {
        "ModelRollout" => {
            let read = alone(&document.value, SCHEMAS.rollout(), |r: &ModelRollout| validate_rollout(&r.spec), &mut problems);
            is_whole = read.checked;
            good.rollouts.extend(read.object.map(|object| Checked { place: document.place.clone(), namespace, name, object }));
        }
        "EvaluationPolicy" => {
            let read = alone(&document.value, SCHEMAS.policy(), |p: &EvaluationPolicy| validate_policy(&p.spec), &mut problems);
            is_whole = read.checked;
            good.policies.extend(read.object.map(|object| Checked { place: document.place.clone(), namespace, name, object }));
        }
        other => problems.push(Problem::new("kind", format!("\"{other}\""), "\"ModelRollout\" or \"EvaluationPolicy\"")),
    }
    if !is_whole {
        good.report.notes.push(format!("{object} can only be checked in part as long as it cannot be read: there may be more problems"));
    }
    good.report.problems.extend(problems.into_iter().map(|problem| located(&document.place, &object, problem)));
}

fn located(place: &Place, object: &str, problem: Problem) -> Located {
    Located { place: place.clone(), object: object.to_owned(), field: problem.field, found: problem.found, expected: problem.expected }
}

/// The schemas of both kinds, made once.
struct Schemas(BTreeMap<String, Value>);

static SCHEMAS: LazyLock<Schemas> = LazyLock::new(|| {
    let schema = |object: &Value| {
        let text = |pointer: &str| object.pointer(pointer).cloned().unwrap_or_default();
        let kind = text("/spec/names/kind").as_str().unwrap_or_default().to_owned();
        (kind, text("/spec/versions/0/schema/openAPIV3Schema"))
    };
    Schemas(definitions().iter().map(|definition| schema(&definition.object)).collect())
});

impl Schemas {
    fn of(&self, kind: &str) -> &Value {
        static NONE: Value = Value::Null;
        self.0.get(kind).unwrap_or(&NONE)
    }

    fn rollout(&self) -> &Value {
        self.of("ModelRollout")
    }

    fn policy(&self) -> &Value {
        self.of("EvaluationPolicy")
    }
}

/// Reads and checks one object; its problems are added.
fn alone<T: DeserializeOwned>(
    value: &Value,
    schema: &Value,
    check: impl FnOnce(&T) -> Result<(), Vec<Problem>>,
    problems: &mut Vec<Problem>,
) -> Read<T> {
    let mut value = value.clone();
    // What a saved object says of its status is dropped when it is applied.
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    // The API server stops at the first kind of problem; a person wants to hear of all of them at once.
    let mut blocked = false;
    loop {
        let refusals = strict::check(schema, &value);
        blocked |= refusals.iter().any(|refusal| refusal.is_blocking);
        let repaired = strict::without_what_is_refused(&value, &refusals);
        add(problems, refusals.into_iter().map(|refusal| Problem::new(refusal.field, refusal.found, refusal.expected)));
        match repaired {
            Some(repaired) => value = repaired,
            None => break,
        }
    }
    let read = match serde_json::from_value::<T>(value) {
        Ok(read) => read,
        Err(error) => {
            // The schema names the field; the reader only knows that there is one.
            if !blocked {
                problems.push(Problem::new("spec", format!("a value that cannot be read ({error})"), "what `kubectl explain` shows"));
            }
            return Read { object: None, checked: false };
        }
    };
    add(problems, check(&read).err().unwrap_or_default());
    Read { object: problems.is_empty().then_some(read), checked: true }
}

/// One sentence per field suffices; the rules know better than the schema what text is expected.
fn add(problems: &mut Vec<Problem>, more: impl IntoIterator<Item = Problem>) {
    for problem in more {
        match problems.iter_mut().find(|known| known.field == problem.field) {
            None => problems.push(problem),
            Some(known) if known.expected == strict::TEXT => known.expected = problem.expected,
            Some(_) => {}
        }
    }
}

/// What came of reading one object.
struct Read<T> {
    /// The object, unless it has problems.
    object: Option<T>,
    /// Whether all of it could be checked.
    checked: bool,
}

/// Checks each good rollout with its policy.
fn together(good: &mut Good, seen: &BTreeSet<Identity>) {
    let report = &mut good.report;
    for rollout in &good.rollouts {
        let wanted = &rollout.object.spec.policy_ref.name;
        let Some(policy) = policy_of(rollout, &good.policies) else {
            let is_broken = seen.contains(&("EvaluationPolicy".to_owned(), rollout.namespace.clone(), wanted.clone()));
            let why = if is_broken { "has problems" } else { "is not in the input" };
            report.notes.push(format!("ModelRollout {} was checked without its EvaluationPolicy {wanted}, which {why}", rollout.name));
            continue;
        };
        for problem in validate(&rollout.object.spec, &policy.object.spec).err().unwrap_or_default() {
            let of_policy = problem.field.strip_prefix("policy.").map(str::to_owned);
            let (place, object) = match &of_policy {
                Some(_) => (&policy.place, format!("EvaluationPolicy {} with ModelRollout {}", policy.name, rollout.name)),
                None => (&rollout.place, format!("ModelRollout {} with EvaluationPolicy {}", rollout.name, policy.name)),
            };
            let field = of_policy.unwrap_or_else(|| problem.field.clone());
            report.problems.push(located(place, &object, Problem { field, ..problem }));
        }
    }
}

/// The policy that a rollout names, in its own namespace.
pub fn policy_of<'a>(rollout: &Checked<ModelRollout>, policies: &'a [Checked<EvaluationPolicy>]) -> Option<&'a Checked<EvaluationPolicy>> {
    policies.iter().find(|policy| policy.namespace == rollout.namespace && policy.name == rollout.object.spec.policy_ref.name)
}

fn text(report: &Report) -> String {
    let mut lines: Vec<String> = report.unreadable.iter().map(|one| format!("{}: cannot be read: {}", one.file, one.message)).collect();
    let mut last = None;
    for problem in &report.problems {
        let head = format!("{}: {}", problem.place, problem.object);
        if last.as_ref() != Some(&head) {
            lines.push(head.clone());
            last = Some(head);
        }
        lines.push(format!("  {}: found {}, expected {}", problem.field, problem.found, problem.expected));
    }
    report.expanded.iter().for_each(|one| lines.extend(written_out(one)));
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    let skipped = if report.skipped == 0 { String::new() } else { format!(", {} of other kinds left alone", report.skipped) };
    lines.push(format!("{} checked, {} found{skipped}", objects(report.checked), problems(report.problems.len())));
    lines.join("\n") + "\n"
}

/// A line for every guardrail of a policy with a profile.
fn written_out(one: &Expanded) -> Vec<String> {
    let mut lines = vec![format!("EvaluationPolicy {} with profile {} (written out by -o json):", one.policy, one.profile)];
    lines.extend(one.spec.guardrails.iter().map(|guardrail| {
        let bound = |text: &Option<BoundText>| text.as_ref().map(ToString::to_string);
        let bounds = match (bound(&guardrail.target), bound(&guardrail.critical)) {
            (None, _) => "none at all".to_owned(),
            (Some(target), None) => target,
            (Some(target), Some(critical)) => format!("{target}, critical {critical}"),
        };
        let from = if profile::origin(guardrail).is_some() { "" } else { " (your own)" };
        format!("  {}: {bounds}{from}", guardrail.name)
    }));
    lines
}

fn objects(n: usize) -> String {
    if n == 1 { "1 object".to_owned() } else { format!("{n} objects") }
}

fn problems(n: usize) -> String {
    if n == 1 { "1 problem".to_owned() } else { format!("{n} problems") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLOUT: &str = "
apiVersion: espalier.dev/v1alpha1
kind: ModelRollout
metadata: {name: digits}
spec:
  model: {uri: 'oci://registry.example/digits@sha256:41ab'}
  workload: {template: {apiVersion: apps/v1, kind: Deployment, spec: {replicas: 2}}, port: 8080}
  route: {template: {parentRefs: [{name: gw}], rules: [{}]}}
  policyRef: {name: digits}
";
    const POLICY: &str = "
apiVersion: espalier.dev/v1alpha1
kind: EvaluationPolicy
metadata: {name: digits}
spec:
  prometheus: {address: 'http://prometheus.monitoring:9090'}
  guardrails:
  - {name: accuracy, proportion: {bad: 'p{correct=\"false\"}', total: p}, target: +2pp vs stable}
";

    fn report(text: &str) -> Report {
        let mut input = Input::default();
        input::parse("all.yaml", text, &mut input);
        check(&input).report
    }

    #[test]
    fn good_manifests_have_no_problem() {
        let report = report(&format!("{ROLLOUT}---{POLICY}"));
        assert_eq!((report.code(), report.checked, report.notes.len()), (0, 2, 0), "{report:?}");
    }

    #[test]
    fn every_problem_is_told_with_its_place_not_only_the_first() {
        let rollout = ROLLOUT.replace("oci://", "").replace("port: 8080", "port: 70000").replace("policyRef: {name", "policyRef: {nam");
        let report = report(&format!("{rollout}---{}", POLICY.replace("+2pp", "2pp")));
        let fields: Vec<_> = report.problems.iter().map(|p| (p.place.document, p.field.as_str())).collect();
        assert!(fields.contains(&(1, "spec.policyRef.nam")) && fields.contains(&(2, "spec.guardrails[0].target")), "{fields:?}");
        // The API server would refuse the unknown field and say nothing of the rest; so would a reader that gives up there.
        assert!(fields.contains(&(1, "spec.workload.port")), "{fields:?}");
        assert!(report.notes.iter().any(|note| note.starts_with("ModelRollout digits can only be checked in part")), "{:?}", report.notes);
        assert_eq!(report.code(), 1);
    }

    #[test]
    fn an_unknown_field_and_a_number_without_its_quotes_do_not_hide_what_else_is_wrong() {
        let policy =
            POLICY.replace("total: p}", "total: p, totl: q}").replace("prometheus:9090", "nowhere").replace("+2pp vs stable}", "5}");
        let policy = policy.replace("'http://prometheus.monitoring:9090'", "'prometheus.monitoring:9090'");
        let report = report(&policy);
        let fields: Vec<_> = report.problems.iter().map(|p| p.field.as_str()).collect();
        assert_eq!(fields, ["spec.guardrails[0].proportion.totl", "spec.guardrails[0].target", "spec.prometheus.address"], "{report:?}");
        assert!(report.problems[1].found == "a whole number" && report.problems[1].expected.contains("+2pp vs stable"), "{report:?}");
        assert!(report.notes.is_empty(), "{report:?}");
    }

    #[test]
    fn schema_and_rules_together_say_one_thing_per_field() {
        let report = report(&ROLLOUT.replace("port: 8080", "port: 70000").replace("oci://registry.example", "registry.example"));
        let fields: Vec<_> = report.problems.iter().map(|p| p.field.as_str()).collect();
        assert_eq!(fields, ["spec.workload.port", "spec.model.uri"], "{report:?}");
    }

    #[test]
    fn a_rollout_is_held_against_its_policy_when_both_are_there() {
        let rollout = format!("{ROLLOUT}  stages: [{{name: shadow, type: Shadow}}]\n");
        let report = report(&format!("{rollout}---{POLICY}"));
        let [problem] = report.problems.as_slice() else { panic!("{report:?}") };
        assert_eq!((problem.place.document, problem.field.as_str()), (2, "spec.guardrails[0].stages"));
        assert_eq!(problem.object, "EvaluationPolicy digits with ModelRollout digits");
    }

    #[test]
    fn a_policy_of_another_namespace_is_not_the_rollouts_policy() {
        let report = report(&format!("{ROLLOUT}---{}", POLICY.replace("{name: digits}", "{name: digits, namespace: other}")));
        assert!(report.notes[0].contains("is not in the input"), "{report:?}");
    }

    #[test]
    fn objects_that_are_not_ours_are_left_alone_and_nothing_of_ours_is_no_success() {
        let report = report("apiVersion: v1\nkind: Service\nmetadata: {name: x}\n");
        assert_eq!((report.code(), report.skipped), (2, 1));
    }

    #[test]
    fn a_profile_is_written_out_and_what_is_written_out_is_a_good_policy() {
        let policy = POLICY.replace("  guardrails:", "  profile: edge-classifier\n  without: [throughput]\n  guardrails:");
        let first = report(&policy);
        assert_eq!(first.code(), 0, "{first:?}");
        let text = text(&first);
        assert!(text.contains("\n  latency: 5%, critical 5%\n") && text.contains("\n  nan: none at all\n"), "{text}");
        assert!(text.contains("  accuracy: +2pp vs stable (your own)\n") && !text.contains("throughput"), "{text}");
        let object = serde_json::json!({
            "apiVersion": API_VERSION, "kind": "EvaluationPolicy", "metadata": {"name": "digits"}, "spec": first.expanded[0].spec,
        });
        let again = report(&object.to_string());
        assert_eq!((again.code(), again.expanded.len()), (0, 0), "{again:?}");
    }

    #[test]
    fn another_version_a_missing_name_and_a_second_copy_are_problems() {
        let other = ROLLOUT.replace("v1alpha1", "v1");
        let nameless = POLICY.replace("metadata: {name: digits}", "metadata: {}");
        let report = report(&format!("{other}---{nameless}---{POLICY}---{POLICY}"));
        let found: Vec<_> = report.problems.iter().map(|p| (p.place.document, p.field.as_str())).collect();
        assert_eq!(found, [(1, "apiVersion"), (2, "metadata.name"), (4, "metadata.name")], "{report:?}");
    }

    #[test]
    fn a_saved_object_is_checked_without_its_status() {
        assert_eq!(report(&format!("{ROLLOUT}status: {{anything: 1}}\n---{POLICY}")).code(), 0);
    }

    #[test]
    fn the_text_names_file_line_field_found_and_expected() {
        let text = text(&report(&POLICY.replace("+2pp", "2pp")));
        assert!(
            text.starts_with(
                "all.yaml:2, document 1: EvaluationPolicy digits\n  spec.guardrails[0].target: found \"2pp vs stable\", expected "
            ),
            "{text}"
        );
        assert!(text.ends_with("1 object checked, 1 problem found\n"), "{text}");
    }
}
