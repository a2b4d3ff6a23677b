//! What would go wrong with a route once stages add rules to it, found before the first request is at risk.
//! Does not ask a gateway what it supports; that needs a cluster.

use serde_json::{Value, json};

use super::equal::same;
use super::json::{is_managed, list, matches_of, remove, rule_label, rules, spec, text};
use super::render::is_model_rule;
use super::{Backend, REQUEST_ID_HEADER, RouteProblem, Shape, Target, adopt, render};
use crate::plan::{IdCarrier, PlannedStage};
use crate::revision::RevisionId;
use crate::spec::StageKind;
use crate::weights::Exposure;

const MAX_RULES: usize = 16;
const MAX_MATCHES_PER_RULE: usize = 64;
const MAX_MATCHES: usize = 128;

/// Every problem that the stages would have with the user's route: a template's spec, or a whole live route for an adopted rule.
pub fn preflight(template_or_live: &Value, target: Target<'_>, stages: &[PlannedStage]) -> Vec<RouteProblem> {
    let mut problems = Vec::new();
    let spec = target_spec(template_or_live, target);
    duplicate_names(&spec, &mut problems);
    let users_names_differ = problems.is_empty();
    for stage in stages {
        let Some(shape) = widest(stage) else { continue };
        let rendered = match target {
            Target::Template => render(&spec, &shape),
            Target::Adopted(rule) => adopt(&json!({"spec": spec}), rule, &shape).map(|route| self::spec(&route).clone()),
        };
        match rendered {
            Ok(rendered) => {
                sizes(&rendered, &stage.name, &mut problems);
                if users_names_differ {
                    duplicate_names(&rendered, &mut problems);
                }
                outranked(&spec, target, stage, &mut problems);
            }
            Err(problem) => push(&mut problems, problem),
        }
    }
    problems
}

/// Problems between the user's route and another route, both given as whole routes: a match that is the same on the same host, and requests
/// that a copy would take from the other. Routes that share no parent or no host have none.
pub fn conflicts(route: &Value, target: Target<'_>, stages: &[PlannedStage], other: &Value) -> Vec<RouteProblem> {
    let mut problems = Vec::new();
    let name = other.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("without a name");
    if !share_parent(route, other) || !share_host(spec(route), spec(other)) {
        return problems;
    }
    let mine = target_spec(spec_or_route(route, target), target);
    for (label, base) in bases(&mine, target) {
        for theirs in rules(spec(other)).iter().flat_map(matches_of) {
            if matches_of(base).iter().any(|ours| same(&plain(ours), &plain(&theirs))) {
                push(&mut problems, RouteProblem::SameMatch { rule: label.clone(), other: name.to_owned() });
            }
            for stage in stages.iter().filter(|stage| extra_header(stage).is_some()) {
                if matches_of(base).iter().any(|ours| takes(ours, &theirs)) {
                    let (stage, rule, other) = (stage.name.clone(), label.clone(), format!("route {name}"));
                    push(&mut problems, RouteProblem::Outranks { stage, rule, other });
                }
            }
        }
    }
    problems
}

fn spec_or_route<'a>(route: &'a Value, target: Target<'_>) -> &'a Value {
    if target == Target::Template { spec(route) } else { route }
}

fn push(problems: &mut Vec<RouteProblem>, problem: RouteProblem) {
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

/// The spec to look at: a template as it is, a live route without what an earlier adoption added.
fn target_spec(route: &Value, target: Target<'_>) -> Value {
    let mut spec = match target {
        Target::Template => route.clone(),
        Target::Adopted(rule) => spec(&super::release(route, rule)).clone(),
    };
    if rules(&spec).is_empty() && target == Target::Template {
        super::json::set(&mut spec, "rules", json!([{}]));
    }
    spec
}

/// The rules that get copies.
fn bases<'a>(spec: &'a Value, target: Target<'_>) -> Vec<(String, &'a Value)> {
    let numbered = rules(spec).iter().enumerate();
    let wanted = numbered.filter(|(index, rule)| match target {
        Target::Template => is_model_rule(rule) || is_managed(rule),
        Target::Adopted(name) => text(rule, "name") == name || *name == index.to_string(),
    });
    wanted.map(|(index, rule)| (rule_label(rule, index), rule)).collect()
}

/// The shape with the most rules that a stage needs.
fn widest(stage: &PlannedStage) -> Option<Shape> {
    let backend = |name: &str| Backend { name: name.to_owned(), port: 80, revision: RevisionId::new(name) };
    let (stable, candidate, control) = (backend("stable"), backend("candidate"), backend("control"));
    let first = stage.steps.first().copied().unwrap_or(Exposure::FULL);
    Some(match stage.kind {
        StageKind::Shadow => Shape::Mirror { stable, candidate, percent: first },
        StageKind::Canary => Shape::Split { stable, candidate, exposure: first },
        StageKind::ABTest => {
            let assignment = stage.assignment.clone()?;
            Shape::Sticky { stable, candidate, control, assignment, offset: 0, slice: first, control_on: true }
        }
    })
}

/// The header that the stage's copies match on, `None` when it needs no copies.
fn extra_header(stage: &PlannedStage) -> Option<&str> {
    match stage.kind {
        StageKind::Canary => None,
        StageKind::Shadow => stage.steps.iter().any(|step| *step < Exposure::FULL).then_some(REQUEST_ID_HEADER),
        StageKind::ABTest => stage.assignment.as_ref().map(|assignment| match &assignment.carrier {
            IdCarrier::Header(name) => name.as_str(),
            IdCarrier::Cookie(_) => "cookie",
        }),
    }
}

fn sizes(spec: &Value, stage: &str, problems: &mut Vec<RouteProblem>) {
    let counts: Vec<usize> = rules(spec).iter().map(|rule| matches_of(rule).len()).collect();
    if counts.len() > MAX_RULES {
        push(problems, RouteProblem::TooManyRules { stage: stage.to_owned(), found: counts.len() });
    }
    let (all, most) = (counts.iter().sum::<usize>(), counts.iter().max().copied().unwrap_or(0));
    if all > MAX_MATCHES || most > MAX_MATCHES_PER_RULE {
        let found = if all > MAX_MATCHES { all } else { most };
        push(problems, RouteProblem::TooManyMatches { stage: stage.to_owned(), found });
    }
}

fn duplicate_names(spec: &Value, problems: &mut Vec<RouteProblem>) {
    let names: Vec<&str> = rules(spec).iter().map(|rule| text(rule, "name")).filter(|name| !name.is_empty()).collect();
    for (index, name) in names.iter().enumerate() {
        if names.iter().take(index).any(|earlier| earlier == name) {
            push(problems, RouteProblem::DuplicateName { name: (*name).to_owned() });
        }
    }
}

/// Rules of the same route that a copy would take requests from. Copies of two rules of the model keep their order among themselves.
fn outranked(spec: &Value, target: Target<'_>, stage: &PlannedStage, problems: &mut Vec<RouteProblem>) {
    if extra_header(stage).is_none() {
        return;
    }
    let bases = bases(spec, target);
    for (label, base) in &bases {
        let others = rules(spec).iter().enumerate().filter(|(_, rule)| !bases.iter().any(|(_, base)| std::ptr::eq(*base, *rule)));
        for (index, other) in others {
            if matches_of(base).iter().any(|ours| matches_of(other).iter().any(|theirs| takes(ours, theirs))) {
                let other = format!("rule {}", rule_label(other, index));
                push(problems, RouteProblem::Outranks { stage: stage.name.clone(), rule: label.clone(), other });
            }
        }
    }
}

/// How narrow a match is by the Gateway API: path type, length of the path, method, number of headers, number of query parameters.
type Rank = (u8, usize, bool, usize, usize);

fn rank(each: &Value) -> Rank {
    let path = each.get("path").unwrap_or(&Value::Null);
    let value = if text(path, "value").is_empty() { "/" } else { text(path, "value") };
    // Where regular expressions rank is the gateway's choice: above prefixes, as in most.
    let kind = match text(path, "type") {
        "Exact" => 2,
        "RegularExpression" => 1,
        _ => 0,
    };
    (kind, value.len(), !text(each, "method").is_empty(), list(each, "headers").len(), list(each, "queryParams").len())
}

/// Whether `ours` with one header more would win requests that `theirs` wins, or may win, today.
fn takes(ours: &Value, theirs: &Value) -> bool {
    let (kind, length, method, headers, params) = rank(ours);
    let copied = (kind, length, method, headers + 1, params);
    rank(theirs) >= rank(ours) && copied > rank(theirs) && !disjoint(ours, theirs)
}

/// Whether no request can fit both: another method, or another exact value of one path, header or query parameter.
fn disjoint(ours: &Value, theirs: &Value) -> bool {
    let differ = |one: &str, other: &str| !one.is_empty() && !other.is_empty() && one != other;
    let exact_path = |each: &Value| {
        let path = each.get("path").unwrap_or(&Value::Null);
        if text(path, "type") == "Exact" { text(path, "value").to_owned() } else { String::new() }
    };
    differ(text(ours, "method"), text(theirs, "method"))
        || differ(&exact_path(ours), &exact_path(theirs))
        || ["headers", "queryParams"].iter().any(|field| {
            list(ours, field).iter().any(|one| {
                list(theirs, field).iter().any(|other| {
                    let exact = |each: &Value| matches!(text(each, "type"), "" | "Exact");
                    let named = text(one, "name").eq_ignore_ascii_case(text(other, "name"));
                    named && exact(one) && exact(other) && text(one, "value") != text(other, "value")
                })
            })
        })
        || prefixes_apart(ours, theirs)
}

/// Whether two path prefixes cover no path in common.
fn prefixes_apart(ours: &Value, theirs: &Value) -> bool {
    let prefix = |each: &Value| {
        let path = each.get("path").unwrap_or(&Value::Null);
        matches!(text(path, "type"), "" | "PathPrefix").then(|| text(path, "value").trim_end_matches('/').to_owned())
    };
    let covers = |one: &str, other: &str| other == one || other.strip_prefix(one).is_some_and(|rest| rest.starts_with('/'));
    match (prefix(ours), prefix(theirs)) {
        (Some(one), Some(other)) => !covers(&one, &other) && !covers(&other, &one),
        _ => false,
    }
}

/// A match as the API server would complete it, to compare with [`same`].
fn plain(each: &Value) -> Value {
    let mut each = each.clone();
    if list(&each, "headers").is_empty() {
        remove(&mut each, "headers");
    }
    json!({"matches": [each]})
}

fn share_parent(one: &Value, other: &Value) -> bool {
    let keys = |route: &Value| -> Vec<(String, String)> {
        let own = route.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        let namespace = |parent: &Value| match text(parent, "namespace") {
            "" => own.to_owned(),
            namespace => namespace.to_owned(),
        };
        list(spec(route), "parentRefs").iter().map(|parent| (namespace(parent), text(parent, "name").to_owned())).collect()
    };
    let theirs = keys(other);
    keys(one).iter().any(|key| theirs.contains(key))
}

fn share_host(one: &Value, other: &Value) -> bool {
    let (ours, theirs) = (list(one, "hostnames"), list(other, "hostnames"));
    let fits = |one: &str, other: &str| one.strip_prefix('*').is_some_and(|suffix| other.ends_with(suffix));
    // No hostnames is every host of the listener; the narrower name wins, and only equal or overlapping names compete.
    (ours.is_empty() && theirs.is_empty())
        || ours
            .iter()
            .filter_map(Value::as_str)
            .any(|one| theirs.iter().filter_map(Value::as_str).any(|other| one == other || (fits(one, other) && fits(other, one))))
}
