//! The rollout's half of the plan: model, workload, route, stages, and what happens without proof.
//! Does not look inside the two templates beyond kind and placeholders; the API server checks the rest when a child is created.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;

use super::{Problems, is_label, is_name, is_token, quoted, template};
use crate::plan::{IdCarrier, PlannedAssignment, PlannedStage};
use crate::quantity::{PercentText, ShareText, duration_text, ranges};
use crate::revision;
use crate::spec::{
    Alphabet, Approval, Assignment, BackendRef, OnInconclusive, Parked, ReadyWhen, RolloutSpec, RouteSpec, Stage, StageKind, Workload,
    rules,
};
use crate::weights::Exposure;

/// How long a stage may take without proof when nothing is said.
const DEFAULT_MAX: TimeDelta = TimeDelta::hours(6);

/// What a rollout means.
pub(super) struct Wanted {
    pub(super) stages: Vec<UntimedStage>,
    pub(super) on_inconclusive: OnInconclusive,
    pub(super) probation: TimeDelta,
    pub(super) parked: Parked,
    pub(super) ready_when: ReadyWhen,
    pub(super) progress_deadline: TimeDelta,
    pub(super) rollback_window: usize,
    pub(super) baseline_matchers: BTreeMap<String, String>,
    pub(super) candidate_matchers: BTreeMap<String, String>,
}

/// A stage whose least step time may still depend on the policy's window.
#[derive(Clone)]
pub(super) struct UntimedStage {
    stage: PlannedStage,
    has_step_min: bool,
}

impl UntimedStage {
    /// The stage under a policy with this window.
    pub(super) fn complete(mut self, window: TimeDelta) -> PlannedStage {
        if !self.has_step_min {
            self.stage.step_min = window * 2;
        }
        self.stage
    }
}

/// The rollout with its defaults; `None` when a part of it cannot be read, which `problems` then explains.
pub(super) fn resolve(spec: &RolloutSpec, problems: &mut Problems) -> Option<Wanted> {
    let before = problems.list.len();
    check_model(spec, problems);
    check_workload(&spec.workload, problems);
    check_route(&spec.route, problems);
    problems.check(is_name(&spec.policy_ref.name, 63), "policyRef.name", quoted(&spec.policy_ref.name), rules::NAME);
    if let Some(baseline) = &spec.baseline {
        check_backend("baseline.backendRef", &baseline.backend_ref, problems);
        check_matchers("baseline.matchers", &baseline.matchers, problems);
        let own = spec.workload.backend_ref.as_ref().map(|backend| backend.name.as_str());
        problems.check(
            own != Some(baseline.backend_ref.name.as_str()),
            "workload.backendRef.name",
            format!("{} as workload and as baseline", quoted(&baseline.backend_ref.name)),
            "two different Services",
        );
    }
    let stages = stages(&spec.stages, problems);
    let probation = spec.probation.as_ref();
    let probation_time = match probation {
        None => Some(TimeDelta::zero()),
        Some(probation) => problems.duration("probation.duration", &probation.duration, ranges::PROBATION),
    };
    let progress_deadline = match &spec.progress_deadline {
        None => Some(TimeDelta::minutes(10)),
        Some(text) => problems.duration("progressDeadline", text, ranges::PROGRESS_DEADLINE),
    };
    let rollback_window = spec.rollback_window.unwrap_or(2);
    problems.check((0..=10).contains(&rollback_window), "rollbackWindow", rollback_window.to_string(), "a whole number from 0 to 10");
    if problems.list.len() > before {
        return None;
    }
    Some(Wanted {
        stages,
        on_inconclusive: spec.on_inconclusive.unwrap_or(OnInconclusive::Rollback),
        probation: probation_time?,
        parked: probation.and_then(|probation| probation.parked).unwrap_or(Parked::Full),
        ready_when: spec.ready_when.unwrap_or(ReadyWhen::Promoted),
        progress_deadline: progress_deadline?,
        rollback_window: usize::try_from(rollback_window).ok()?,
        baseline_matchers: spec.baseline.as_ref().map(|baseline| baseline.matchers.clone()).unwrap_or_default(),
        candidate_matchers: spec.workload.matchers.clone(),
    })
}

fn check_model(spec: &RolloutSpec, problems: &mut Problems) {
    let uri = spec.model.uri.as_str();
    let scheme_is_good = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+.-".contains(&byte))
    };
    let good = uri.split_once("://").is_some_and(|(scheme, rest)| {
        scheme_is_good(scheme) && !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'$')
    });
    problems.check(good && uri.len() <= 1024, "model.uri", quoted(uri), rules::URI);
    if let Some(sparsity) = spec.model.compression.as_ref().and_then(|compression| compression.sparsity.as_ref()) {
        problems.check(sparsity.parse().is_ok(), "model.compression.sparsity", quoted(sparsity.as_str()), ShareText::expected_share());
    }
    if spec.workload.template.is_some()
        && let Err(problem) = template(&spec.workload, &spec.model, &revision::id(&spec.model, &spec.workload))
    {
        problems.list.push(problem);
    }
}

fn check_workload(workload: &Workload, problems: &mut Problems) {
    let (template, backend) = (&workload.template, &workload.backend_ref);
    exactly_one("workload", [("template", template.is_some()), ("backendRef", backend.is_some())], problems);
    if let Some(template) = template {
        let text = |field| template.get(field).and_then(serde_json::Value::as_str).unwrap_or_default();
        let kind = format!("{} {}", text("apiVersion"), text("kind"));
        problems.check(kind == "apps/v1 Deployment", "workload.template", kind, "apps/v1 Deployment");
        problems.check(workload.port.is_some(), "workload.port", "no port", "the port of the pods that answers requests, beside template");
        problems.check(
            workload.matchers.is_empty(),
            "workload.matchers",
            "matchers",
            "no matchers beside template, whose pods carry the revision as a label",
        );
    }
    if let Some(port) = workload.port {
        check_port("workload.port", port, problems);
        problems.check(backend.is_none() || template.is_some(), "workload.port", "a port", "no port beside backendRef, which has its own");
    }
    if let Some(backend) = backend {
        check_backend("workload.backendRef", backend, problems);
    }
    check_matchers("workload.matchers", &workload.matchers, problems);
}

fn check_route(route: &RouteSpec, problems: &mut Problems) {
    exactly_one("route", [("template", route.template.is_some()), ("adopt", route.adopt.is_some())], problems);
    if let Some(template) = &route.template {
        problems.check(template.is_object(), "route.template", template.to_string(), "the spec of an HTTPRoute");
    }
    if let Some(rule) = route.adopt.as_ref().and_then(|adopt| adopt.rule.as_deref()) {
        let is_index = rule.len() <= 2 && !rule.is_empty() && rule.bytes().all(|byte| byte.is_ascii_digit());
        let is_rule_name = rule.len() <= 63
            && rule.starts_with(|first: char| first.is_ascii_lowercase())
            && !rule.ends_with(['-', '.'])
            && rule.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte));
        problems.check(is_index || is_rule_name, "route.adopt.rule", quoted(rule), "the name of a rule, or its index from 0 to 99");
    }
}

fn exactly_one(field: &str, [a, b]: [(&str, bool); 2], problems: &mut Problems) {
    let found = if a.1 { format!("{} and {}", a.0, b.0) } else { "neither".to_owned() };
    problems.check(a.1 != b.1, field, found, format!("exactly one of {}, {}", a.0, b.0));
}

fn check_port(field: &str, port: i32, problems: &mut Problems) {
    problems.check((1..=65535).contains(&port), field, port.to_string(), "a port from 1 to 65535");
}

fn check_backend(field: &str, backend: &BackendRef, problems: &mut Problems) {
    problems.check(is_name(&backend.name, 40), format_args!("{field}.name"), quoted(&backend.name), rules::NAME);
    check_port(&format!("{field}.port"), backend.port, problems);
    let (group, kind) = (backend.group.as_deref().unwrap_or_default(), backend.kind.as_deref().unwrap_or("Service"));
    problems.check(group.is_empty() && kind == "Service", field, format!("{group}/{kind}"), "a Service of the core group");
}

fn check_matchers(field: &str, matchers: &BTreeMap<String, String>, problems: &mut Problems) {
    let good = matchers.len() <= 16 && matchers.iter().all(|(label, value)| is_label(label) && value.len() <= 256);
    let labels = matchers.keys().cloned().collect::<Vec<_>>().join(", ");
    problems.check(good, field, quoted(&labels), "names of Prometheus labels other than espalier_dev_revision, such as job");
}

/// The stages with their defaults, except for what depends on the policy.
fn stages(typed: &[Stage], problems: &mut Problems) -> Vec<UntimedStage> {
    if typed.is_empty() {
        return default_stages();
    }
    problems.check(typed.len() <= 10, "stages", typed.len().to_string(), "at most 10 stages");
    let mut names = BTreeSet::new();
    for (index, stage) in typed.iter().enumerate() {
        problems.check(
            names.insert(&stage.name),
            format_args!("stages[{index}].name"),
            format!("{} a second time", quoted(&stage.name)),
            "a name of its own for every stage",
        );
    }
    typed.iter().enumerate().filter_map(|(index, typed)| stage(index, typed, problems)).collect()
}

fn default_stages() -> Vec<UntimedStage> {
    let stage = |name: &str, kind, steps: &[i32]| UntimedStage {
        stage: PlannedStage {
            name: name.to_owned(),
            kind,
            steps: steps.iter().filter_map(|percent| Exposure::new(*percent)).collect(),
            min: TimeDelta::zero(),
            step_min: TimeDelta::zero(),
            max: DEFAULT_MAX,
            assignment: None,
            approval_required: false,
        },
        has_step_min: false,
    };
    vec![stage("shadow", StageKind::Shadow, &[100]), stage("canary", StageKind::Canary, &[1, 5, 25])]
}

fn stage(index: usize, typed: &Stage, problems: &mut Problems) -> Option<UntimedStage> {
    let path = format!("stages[{index}]");
    problems.check(is_name(&typed.name, 40), format_args!("{path}.name"), quoted(&typed.name), rules::NAME);
    let steps = steps(&path, typed, problems);
    let assignment = assignment(&path, typed, problems);
    let mut duration = |field: &str, text: Option<&_>, range, default| match text {
        None => Some(default),
        Some(text) => problems.duration(format_args!("{path}.{field}"), text, range),
    };
    let min = duration("minDuration", typed.min_duration.as_ref(), ranges::STAGE_MIN, TimeDelta::zero());
    let step_min = duration("stepMinDuration", typed.step_min_duration.as_ref(), ranges::STAGE_MIN, TimeDelta::zero());
    let max = duration("maxDuration", typed.max_duration.as_ref(), ranges::STAGE_MAX, DEFAULT_MAX);
    let (min, step_min, max, steps) = (min?, step_min?, max?, steps?);
    problems.check(
        min <= max,
        format_args!("{path}.minDuration"),
        quoted(&duration_text(min)),
        format!("at most maxDuration, {}", duration_text(max)),
    );
    problems.check(
        step_min * i32::try_from(steps.len()).unwrap_or(i32::MAX) <= max,
        format_args!("{path}.stepMinDuration"),
        format!("{} for every step", quoted(&duration_text(step_min))),
        format!("all steps to fit into maxDuration, {}", duration_text(max)),
    );
    let stage = PlannedStage {
        name: typed.name.clone(),
        kind: typed.kind,
        steps,
        min,
        step_min,
        max,
        assignment,
        approval_required: typed.approval == Some(Approval::Required),
    };
    Some(UntimedStage { stage, has_step_min: typed.step_min_duration.is_some() })
}

fn steps(path: &str, typed: &Stage, problems: &mut Problems) -> Option<Vec<Exposure>> {
    let before = problems.list.len();
    let is_shadow = typed.kind == StageKind::Shadow;
    let listed = format!("\"{}\"", typed.steps.iter().map(PercentText::as_str).collect::<Vec<_>>().join(", "));
    problems.check(typed.percent.is_none() || typed.steps.is_empty(), path, "percent and steps", "one of them: percent is a single step");
    problems.check(
        is_shadow || typed.percent.is_some() || !typed.steps.is_empty(),
        path,
        "neither percent nor steps",
        "one of them for Canary and ABTest, such as steps: [1%, 5%, 25%]",
    );
    problems.check(
        !is_shadow || typed.steps.is_empty(),
        format_args!("{path}.steps"),
        listed.clone(),
        "percent for a Shadow stage, such as 100%",
    );
    problems.check(typed.steps.len() <= 20, format_args!("{path}.steps"), typed.steps.len().to_string(), "at most 20 steps");
    let mut read = |field: String, text: &PercentText| {
        let share = text.parse().ok();
        problems.check(share.is_some(), field, quoted(text.as_str()), PercentText::EXPECTED);
        share
    };
    let percent = typed.percent.as_ref().map(|text| read(format!("{path}.percent"), text));
    let mut steps = Vec::new();
    for (index, text) in typed.steps.iter().enumerate() {
        steps.extend(read(format!("{path}.steps[{index}]"), text));
    }
    let grows = steps.iter().zip(steps.iter().skip(1)).all(|(one, next)| one < next);
    problems.check(grows, format_args!("{path}.steps"), listed, "steps that grow, such as 1%, 5%, 25%");
    match percent {
        Some(share) => steps.extend(share),
        None if is_shadow => steps.push(Exposure::FULL),
        None => {}
    }
    problems.check(
        is_shadow || !steps.contains(&Exposure::FULL),
        path,
        "100%",
        "at most 99% in Canary and ABTest: the rest is what the candidate is compared with, and promotion follows the last step",
    );
    if problems.list.len() > before { None } else { Some(steps) }
}

/// What is wrong with it is in `problems`; then the `None` is never looked at.
fn assignment(path: &str, typed: &Stage, problems: &mut Problems) -> Option<PlannedAssignment> {
    let field = format!("{path}.assignment");
    match (&typed.assignment, typed.kind) {
        (None, StageKind::ABTest) => {
            problems.add(field, "none", "the header or cookie with the id of the user, for ABTest, such as {header: x-user-id}");
            None
        }
        (None, _) => None,
        (Some(_), StageKind::Shadow | StageKind::Canary) => {
            problems.add(field, format!("an assignment in a {:?} stage", typed.kind), "it in ABTest only");
            None
        }
        (Some(assignment), StageKind::ABTest) => {
            let carrier = carrier(&field, assignment, problems)?;
            Some(PlannedAssignment { carrier, alphabet: assignment.alphabet.unwrap_or(Alphabet::Hex) })
        }
    }
}

fn carrier(field: &str, assignment: &Assignment, problems: &mut Problems) -> Option<IdCarrier> {
    exactly_one(field, [("header", assignment.header.is_some()), ("cookie", assignment.cookie.is_some())], problems);
    let (name, text, carrier) = match (&assignment.header, &assignment.cookie) {
        (Some(header), None) => ("header", header, IdCarrier::Header(header.clone())),
        (None, Some(cookie)) => ("cookie", cookie, IdCarrier::Cookie(cookie.clone())),
        _ => return None,
    };
    problems.check(is_token(text), format_args!("{field}.{name}"), quoted(text), rules::TOKEN);
    is_token(text).then_some(carrier)
}
