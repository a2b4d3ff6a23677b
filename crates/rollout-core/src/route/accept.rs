//! What the route's status and managed fields say: whether every gateway took this generation, and who else writes its rules.
//! Deliberately never asked before lowering: a weight counts only when accepted, but 0 is written without waiting.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::MANAGER;
use super::equal::same;
use super::json::{list, spec, text};

/// Whether the gateways carry the route as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Every parent accepted this generation and resolved its references.
    Accepted,
    /// A parent has not answered for this generation yet; says which.
    Pending(String),
    /// A parent refused this generation; says why.
    Refused(String),
}

/// Whether every parentRef of the spec has a parents entry with Accepted *and* `ResolvedRefs` True at the current generation. Accepted alone
/// is not enough: a route to a missing Service is Accepted, and a missing second Gateway has no entry at all.
pub fn acceptance(live: &Value) -> Acceptance {
    let generation = live.get("metadata").and_then(|metadata| metadata.get("generation")).and_then(Value::as_i64).unwrap_or(0);
    let parents = live.get("status").map_or(&[][..], |status| list(status, "parents"));
    let wanted = list(spec(live), "parentRefs");
    if wanted.is_empty() {
        return Acceptance::Refused("the route names no parentRefs, so no gateway carries it".to_owned());
    }
    let own_namespace = live.get("metadata").map(|metadata| text(metadata, "namespace")).unwrap_or_default();
    let mut pending = None;
    for reference in wanted {
        match parent_acceptance(reference, parents, generation, own_namespace) {
            Acceptance::Accepted => {}
            Acceptance::Pending(why) => pending = pending.or(Some(why)),
            refused @ Acceptance::Refused(_) => return refused,
        }
    }
    pending.map_or(Acceptance::Accepted, Acceptance::Pending)
}

/// One parentRef; more than one controller may answer for it, and one that accepts is enough.
fn parent_acceptance(reference: &Value, parents: &[Value], generation: i64, namespace: &str) -> Acceptance {
    let gateway = text(reference, "name");
    let mut worst = Acceptance::Pending(format!("{} {gateway} has not answered for the route", kind_of(reference)));
    for parent in parents {
        let answered = parent.get("parentRef").unwrap_or(&Value::Null);
        if !same(&json!({"parentRefs": [in_namespace(answered, namespace)]}), &json!({"parentRefs": [in_namespace(reference, namespace)]}))
        {
            continue;
        }
        match conditions_of(parent, gateway, generation) {
            Acceptance::Accepted => return Acceptance::Accepted,
            Acceptance::Pending(why) if matches!(worst, Acceptance::Pending(_)) => worst = Acceptance::Pending(why),
            Acceptance::Pending(_) => {}
            refused @ Acceptance::Refused(_) => worst = refused,
        }
    }
    worst
}

fn kind_of(reference: &Value) -> &str {
    match text(reference, "kind") {
        "" => "Gateway",
        kind => kind,
    }
}

fn in_namespace(reference: &Value, namespace: &str) -> Value {
    let mut reference = reference.clone();
    if let Some(map) = reference.as_object_mut() {
        map.entry("namespace").or_insert_with(|| json!(namespace));
    }
    reference
}

fn conditions_of(parent: &Value, gateway: &str, generation: i64) -> Acceptance {
    let mut pending = None;
    for kind in ["Accepted", "ResolvedRefs"] {
        let found = list(parent, "conditions").iter().find(|condition| text(condition, "type") == kind);
        let current = found.filter(|condition| condition.get("observedGeneration").and_then(Value::as_i64) == Some(generation));
        match current.map(|condition| (text(condition, "status"), condition)) {
            Some(("True", _)) => {}
            Some(("False", condition)) => {
                let (reason, message) = (text(condition, "reason"), text(condition, "message"));
                return Acceptance::Refused(format!("{gateway} says {kind} is False, {reason}: {message}"));
            }
            _ => pending = pending.or_else(|| Some(format!("{gateway} has not said {kind} for generation {generation} yet"))),
        }
    }
    pending.map_or(Acceptance::Accepted, Acceptance::Pending)
}

/// Field managers other than ours that own the rules: who edited the route, or will put it back. Sorted, each once.
pub fn managers(live: &Value) -> Vec<String> {
    let mut names: Vec<String> =
        owners_of_rules(live).map(|entry| text(entry, "manager").to_owned()).filter(|name| name != MANAGER).collect();
    names.sort();
    names.dedup();
    names
}

/// When anybody last changed the rules, by the API server's clock and to the second; `None` when the route does not tell.
pub fn changed_at(live: &Value) -> Option<DateTime<Utc>> {
    let times = owners_of_rules(live).filter_map(|entry| DateTime::parse_from_rfc3339(text(entry, "time")).ok());
    times.map(|time| time.with_timezone(&Utc)).max()
}

fn owners_of_rules(live: &Value) -> impl Iterator<Item = &Value> {
    let entries = live.get("metadata").map_or(&[][..], |metadata| list(metadata, "managedFields"));
    entries.iter().filter(|entry| text(entry, "subresource").is_empty() && entry.pointer("/fieldsV1/f:spec/f:rules").is_some())
}
