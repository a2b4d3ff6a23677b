//! One rule of a route that belongs to the user: takes it over, and puts it back exactly.
//! Other rules are never touched. What the rule was is remembered in an annotation of the route itself, so that it survives the operator.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::{
    annotate, annotation, is_managed, is_service, list, matches_of, mirror_target, remove, rules, rules_mut, set, spec, text,
};
use super::render::{Copies, PURPOSES, copy_name, dress};
use super::slice::is_ours;
use super::{ADOPTED_ANNOTATION, DECISION_ANNOTATION, RouteProblem, Shape};

/// What an adopted rule was.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Adopted {
    /// The user's references, absent when the rule had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backend_refs: Option<Value>,
    /// Whether the rule had a list of filters.
    had_filters: bool,
    /// The Service that our mirror filter copies to, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mirror: Option<String>,
}

type Memory = BTreeMap<String, Adopted>;

fn memory(route: &Value) -> Memory {
    annotation(route, ADOPTED_ANNOTATION).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn remember(route: &mut Value, memory: &Memory) {
    let text = if memory.is_empty() { None } else { serde_json::to_string(memory).ok() };
    annotate(route, ADOPTED_ANNOTATION, text);
}

/// The whole route with this rule dressed for `shape`, and copies of it after all rules; everything else stays as it is.
///
/// `rule` is a rule's name or its index from 0. When somebody put the user's own references back, they are remembered anew.
pub fn adopt(live: &Value, rule: &str, shape: &Shape) -> Result<Value, RouteProblem> {
    let mut route = live.clone();
    let mut memory = memory(live);
    let index = find(live, rule)?;
    let current = rules(spec(live)).get(index).cloned().unwrap_or_default();
    let mut adopted = if is_managed(&current) {
        memory.get(rule).cloned().ok_or_else(|| RouteProblem::MemoryLost { rule: rule.to_owned() })?
    } else {
        Adopted { backend_refs: current.get("backendRefs").cloned(), had_filters: current.get("filters").is_some(), mirror: None }
    };
    let base = restored(&current, &adopted);
    let users = adopted.backend_refs.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
    let mut copies = Copies::default();
    let dressed = dress(&base, rule, &users, shape, &mut copies)?;
    adopted.mirror = match shape {
        Shape::Mirror { candidate, .. } => Some(candidate.name.clone()),
        _ => None,
    };
    let rules = rules_mut(&mut route)?;
    replace(rules, index, rule, &base, dressed);
    rules.extend(copies.in_order());
    memory.insert(rule.to_owned(), adopted);
    remember(&mut route, &memory);
    Ok(route)
}

/// The whole route with this rule as the user had it, without our copies and annotations.
pub fn release(live: &Value, rule: &str) -> Value {
    let mut route = live.clone();
    let mut memory = memory(live);
    if let Some(adopted) = memory.remove(rule)
        && let Ok(index) = find(live, rule)
        && let Ok(rules) = rules_mut(&mut route)
    {
        let current = rules.get(index).cloned().unwrap_or_default();
        let base = if is_managed(&current) { restored(&current, &adopted) } else { current };
        replace(rules, index, rule, &base, base.clone());
    }
    if memory.is_empty() {
        annotate(&mut route, DECISION_ANNOTATION, None);
    }
    remember(&mut route, &memory);
    route
}

/// Where the rule is: by name first, since a name may be a number.
fn find(route: &Value, rule: &str) -> Result<usize, RouteProblem> {
    let rules = rules(spec(route));
    let by_name = rules.iter().position(|each| text(each, "name") == rule);
    let by_index = || rule.parse().ok().filter(|index| *index < rules.len());
    by_name.or_else(by_index).ok_or_else(|| RouteProblem::NoSuchRule { rule: rule.to_owned() })
}

/// The rule with the user's references; of its filters only our mirror goes, so that later edits of the user stay.
fn restored(current: &Value, adopted: &Adopted) -> Value {
    let mut base = current.clone();
    match &adopted.backend_refs {
        Some(refs) => set(&mut base, "backendRefs", refs.clone()),
        None => remove(&mut base, "backendRefs"),
    }
    if let Some(mirror) = &adopted.mirror {
        let ours = |filter: &Value| mirror_target(filter).is_some_and(|target| is_service(target, mirror));
        let kept: Vec<Value> = list(&base, "filters").iter().filter(|filter| !ours(filter)).cloned().collect();
        if kept.is_empty() && !adopted.had_filters {
            remove(&mut base, "filters");
        } else {
            set(&mut base, "filters", Value::Array(kept));
        }
    }
    base
}

/// Puts `new` in the place of the rule and drops earlier copies of it.
fn replace(rules: &mut Vec<Value>, index: usize, label: &str, base: &Value, new: Value) {
    if let Some(place) = rules.get_mut(index) {
        *place = new;
    }
    let mut at = 0;
    rules.retain(|rule| {
        at += 1;
        at - 1 == index || !is_copy(rule, label, base)
    });
}

/// Whether a rule is a copy of the adopted one. Its name tells; where an older version of the API dropped names, each match must be the
/// match of `base` with one header of ours after its own.
fn is_copy(rule: &Value, label: &str, base: &Value) -> bool {
    if !is_managed(rule) {
        return false;
    }
    let name = text(rule, "name");
    if !name.is_empty() {
        return PURPOSES.iter().any(|purpose| name == copy_name(purpose, label));
    }
    let (ours, users) = (matches_of(rule), matches_of(base));
    ours.len() == users.len() && ours.iter().zip(&users).all(|(ours, users)| is_narrowed(ours, users))
}

fn is_narrowed(ours: &Value, users: &Value) -> bool {
    let Some((last, rest)) = list(ours, "headers").split_last() else { return false };
    let mut plain = ours.clone();
    if rest.is_empty() {
        remove(&mut plain, "headers");
    } else {
        set(&mut plain, "headers", Value::Array(rest.to_vec()));
    }
    text(last, "type") == "RegularExpression" && is_ours(text(last, "value")) && super::equal::same(&plain, users)
}
