//! From a template and a shape to the spec of an `HTTPRoute`: references with weights, the revision header on both arms, copied rules.
//! Knows nothing of what is live; the order in which references enter and leave is the caller's, and `unprepared` checks it.

use serde_json::{Value, json};

use super::json::{is_service, list, matches_of, mirror_target, remove, rule_label, set, text};
use super::slice::{any_id, every_id, pattern};
use super::{Backend, REQUEST_ID_HEADER, REVISION_HEADER, RouteProblem, Shape};
use crate::plan::IdCarrier;
use crate::spec::Alphabet;
use crate::weights::{Exposure, Weights};

/// The spec of the route: the template with the model's rules dressed for `shape`, and copies of them after all rules of the user.
///
/// The model's rules are those without `backendRefs` that do not redirect; a template without rules is one rule for everything. Every
/// field that is not named here is kept as it is.
pub fn render(template: &Value, shape: &Shape) -> Result<Value, RouteProblem> {
    let mut spec = template.clone();
    let map = spec.as_object_mut().ok_or(RouteProblem::Malformed { field: "spec", expected: "an object" })?;
    let rules = match map.get("rules") {
        None | Some(Value::Null) => vec![json!({})],
        Some(Value::Array(rules)) if rules.is_empty() => vec![json!({})],
        Some(Value::Array(rules)) => rules.clone(),
        Some(_) => return Err(RouteProblem::Malformed { field: "spec.rules", expected: "a list" }),
    };
    let mut copies = Copies::default();
    let mut dressed = Vec::with_capacity(rules.len());
    let mut models = 0;
    for (index, rule) in rules.into_iter().enumerate() {
        if is_model_rule(&rule) {
            models += 1;
            dressed.push(dress(&rule, &rule_label(&rule, index), &[], shape, &mut copies)?);
        } else {
            dressed.push(rule);
        }
    }
    if models == 0 {
        return Err(RouteProblem::NoModelRule);
    }
    dressed.extend(copies.in_order());
    map.insert("rules".to_owned(), Value::Array(dressed));
    Ok(spec)
}

/// Whether the model answers this rule of a template: it names no backend, and does not answer by itself with a redirect.
pub(super) fn is_model_rule(rule: &Value) -> bool {
    rule.is_object()
        && list(rule, "backendRefs").is_empty()
        && !list(rule, "filters").iter().any(|filter| text(filter, "type") == "RequestRedirect")
}

/// What copies are for, as in their names.
pub(super) const PURPOSES: [&str; 3] = ["mirror", "ab", "control"];

/// The name of a copy of the rule called `label`.
pub(super) fn copy_name(purpose: &str, label: &str) -> String {
    format!("espalier-{purpose}-{label}")
}

/// Rules that are appended after all rules of the user, so that his win where both match as narrowly.
#[derive(Default)]
pub(super) struct Copies {
    sampled: Vec<Value>,
    slices: Vec<Value>,
    controls: Vec<Value>,
}

impl Copies {
    /// Slices come before controls: their matches are as narrow, and the first rule wins.
    pub(super) fn in_order(self) -> impl Iterator<Item = Value> {
        self.sampled.into_iter().chain(self.slices).chain(self.controls)
    }
}

/// A rule with the references of `shape`; copies that the shape needs go to `copies`. `users` are the references that the rule had when it
/// was adopted: their unknown fields and filters stay.
pub(super) fn dress(rule: &Value, label: &str, users: &[Value], shape: &Shape, copies: &mut Copies) -> Result<Value, RouteProblem> {
    let mut main = rule.clone();
    match shape {
        Shape::Single { stable } => set(&mut main, "backendRefs", json!([reference(stable, 100, users)])),
        Shape::Split { stable, candidate, exposure } => set(&mut main, "backendRefs", pair(stable, candidate, *exposure, users)),
        Shape::Mirror { stable, candidate, percent } => {
            let refs = pair(stable, candidate, Exposure::ZERO, users);
            set(&mut main, "backendRefs", refs.clone());
            if *percent == Exposure::FULL {
                add_mirror(&mut main, candidate);
            } else if let Some(value) = pattern(&IdCarrier::Header(REQUEST_ID_HEADER.to_owned()), Alphabet::Hex, 0, *percent) {
                let mut sampled = copy(rule, label, "mirror", REQUEST_ID_HEADER, &value, refs)?;
                add_mirror(&mut sampled, candidate);
                copies.sampled.push(sampled);
            }
        }
        Shape::Sticky { stable, candidate, control, assignment, offset, slice, control_on } => {
            // With everybody on the candidate nobody may be left out: neither an id with odd endings nor a request without one.
            let everybody = *slice == Exposure::FULL;
            let main_share = if everybody { Exposure::FULL } else { Exposure::ZERO };
            set(&mut main, "backendRefs", pair(stable, candidate, main_share, users));
            let header = match &assignment.carrier {
                IdCarrier::Header(name) => name.as_str(),
                IdCarrier::Cookie(_) => "cookie",
            };
            let ids = if everybody {
                Some(every_id(&assignment.carrier))
            } else {
                pattern(&assignment.carrier, assignment.alphabet, *offset, *slice)
            };
            if let Some(value) = ids {
                let refs = pair(stable, candidate, Exposure::FULL, users);
                copies.slices.push(copy(rule, label, "ab", header, &value, refs)?);
            }
            let on = if *control_on { Exposure::FULL } else { Exposure::ZERO };
            let refs = pair(stable, control, on, users);
            copies.controls.push(copy(rule, label, "control", header, &any_id(&assignment.carrier), refs)?);
        }
    }
    Ok(main)
}

fn pair(stable: &Backend, second: &Backend, exposure: Exposure, users: &[Value]) -> Value {
    let weights = Weights::of(exposure);
    json!([reference(stable, weights.stable(), users), reference(second, weights.candidate(), users)])
}

/// A reference to `backend`: the user's own with that name, else a new one that keeps the filters of his first.
fn reference(backend: &Backend, weight: i32, users: &[Value]) -> Value {
    let own = users.iter().find(|user| is_service(user, &backend.name)).cloned();
    let mut reference = own.unwrap_or_else(|| match users.first().and_then(|first| first.get("filters")) {
        Some(filters) => json!({"filters": filters}),
        None => json!({}),
    });
    let mut filters = list(&reference, "filters").to_vec();
    set_revision(&mut filters, "RequestHeaderModifier", "requestHeaderModifier", backend);
    set_revision(&mut filters, "ResponseHeaderModifier", "responseHeaderModifier", backend);
    set(&mut reference, "name", json!(backend.name));
    set(&mut reference, "port", json!(backend.port));
    set(&mut reference, "weight", json!(weight));
    set(&mut reference, "filters", Value::Array(filters));
    reference
}

/// Sets the revision header in the filter of this type; a second filter of one type is refused by the API server.
fn set_revision(filters: &mut Vec<Value>, kind: &str, field: &str, backend: &Backend) {
    let place = filters.iter().position(|filter| text(filter, "type") == kind).unwrap_or(filters.len());
    if place == filters.len() {
        filters.push(json!({"type": kind, field: {}}));
    }
    let Some(filter) = filters.get_mut(place) else { return };
    let mut modifier = filter.get(field).filter(|modifier| modifier.is_object()).cloned().unwrap_or_else(|| json!({}));
    for part in ["set", "add", "remove"] {
        let kept: Vec<Value> = list(&modifier, part).iter().filter(|header| !names_revision(header)).cloned().collect();
        if kept.is_empty() {
            remove(&mut modifier, part);
        } else {
            set(&mut modifier, part, Value::Array(kept));
        }
    }
    let mut headers = list(&modifier, "set").to_vec();
    headers.push(json!({"name": REVISION_HEADER, "value": backend.revision.as_str()}));
    set(&mut modifier, "set", Value::Array(headers));
    set(filter, field, modifier);
}

fn names_revision(header: &Value) -> bool {
    header.as_str().unwrap_or_else(|| text(header, "name")).eq_ignore_ascii_case(REVISION_HEADER)
}

fn add_mirror(rule: &mut Value, candidate: &Backend) {
    let mut filters = list(rule, "filters").to_vec();
    filters.retain(|filter| !mirror_target(filter).is_some_and(|target| is_service(target, &candidate.name)));
    filters.push(json!({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": candidate.name, "port": candidate.port}}}));
    set(rule, "filters", Value::Array(filters));
}

/// A copy of `rule` whose every match asks for one header more.
fn copy(rule: &Value, label: &str, purpose: &str, header: &str, value: &str, refs: Value) -> Result<Value, RouteProblem> {
    let mut matches = matches_of(rule);
    for each in &mut matches {
        // A match that cannot carry the header would match everything that the rule does, and send everybody to the copy's backends.
        if !each.is_object() {
            return Err(RouteProblem::Malformed { field: "a match", expected: "an object" });
        }
        let mut headers = list(each, "headers").to_vec();
        if headers.iter().any(|taken| text(taken, "name").eq_ignore_ascii_case(header)) {
            return Err(RouteProblem::HeaderTaken { rule: label.to_owned(), header: header.to_owned() });
        }
        headers.push(json!({"name": header, "type": "RegularExpression", "value": value}));
        set(each, "headers", Value::Array(headers));
    }
    let mut copy = rule.clone();
    set(&mut copy, "name", json!(copy_name(purpose, label)));
    set(&mut copy, "matches", Value::Array(matches));
    set(&mut copy, "backendRefs", refs);
    Ok(copy)
}
