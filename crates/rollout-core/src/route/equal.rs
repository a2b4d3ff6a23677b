//! Whether two route specs mean the same: the API server fills in defaults and drops fields that its version does not know.
//! Strict about every field the Gateway API names, so that no foreign edit is overlooked.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::json::spec;

/// Fields of an `HTTPRoute` spec that have no default: one of these on one side only is a difference. Any other field on one side only is
/// a default or a pruned field of another API version.
const KNOWN: &[&str] = &[
    "parentRefs",
    "hostnames",
    "rules",
    "namespace",
    "sectionName",
    "port",
    "matches",
    "headers",
    "queryParams",
    "method",
    "filters",
    "backendRefs",
    "timeouts",
    "request",
    "backendRequest",
    "retry",
    "codes",
    "attempts",
    "backoff",
    "sessionPersistence",
    "sessionName",
    "absoluteTimeout",
    "idleTimeout",
    "set",
    "add",
    "remove",
    "requestHeaderModifier",
    "responseHeaderModifier",
    "requestMirror",
    "backendRef",
    "percent",
    "fraction",
    "numerator",
    "requestRedirect",
    "scheme",
    "hostname",
    "replaceFullPath",
    "replacePrefixMatch",
    "urlRewrite",
    "cors",
    "allowOrigins",
    "allowMethods",
    "allowHeaders",
    "extensionRef",
];

/// Whether the live route already says what `wanted`, a spec, says.
pub fn matches(live: &Value, wanted: &Value) -> bool {
    same(&with_default_rule(spec(live)), &with_default_rule(wanted))
}

fn with_default_rule(spec: &Value) -> Cow<'_, Value> {
    let Some(map) = spec.as_object().filter(|map| map.get("rules").and_then(Value::as_array).is_none_or(Vec::is_empty)) else {
        return Cow::Borrowed(spec);
    };
    let mut map = map.clone();
    map.insert("rules".to_owned(), json!([{}]));
    Cow::Owned(Value::Object(map))
}

/// Whether two parts of a spec mean the same.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    same_in("", one, other)
}

fn same_in(field: &str, one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let (ones, others) = (defaults(field, one), defaults(field, other));
            let (one, other) = (defaulted(one, &ones), defaulted(other, &others));
            one.keys().chain(other.keys()).all(|key| match (one.get(key), other.get(key)) {
                (Some(one), Some(other)) => same_in(key, one, other),
                _ => !(KNOWN.contains(key) || *key == "name" && field != "rules"),
            })
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same_in(field, one, other))
        }
        _ => one == other,
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// The object with the API's defaults, without nulls and empty lists.
fn defaulted<'a>(object: &'a Map<String, Value>, defaults: &'a Map<String, Value>) -> BTreeMap<&'a str, &'a Value> {
    let stated = object.iter().filter(|(_, value)| !is_empty(value));
    // What is stated comes last, and stays.
    defaults.iter().chain(stated).map(|(key, value)| (key.as_str(), value)).collect()
}

/// The API's defaults for an object. `field` is the field that holds it, directly or in a list.
fn defaults(field: &str, object: &Map<String, Value>) -> Map<String, Value> {
    let states = |key: &str| object.get(key).is_some_and(|value| !is_empty(value));
    let defaults = match field {
        "parentRefs" => json!({"group": "gateway.networking.k8s.io", "kind": "Gateway"}),
        "backendRefs" => json!({"group": "", "kind": "Service", "weight": 1}),
        "backendRef" => json!({"group": "", "kind": "Service"}),
        "rules" => json!({"matches": [{}]}),
        "matches" => json!({"path": {}}),
        "path" if !states("replaceFullPath") && !states("replacePrefixMatch") => {
            json!({"type": "PathPrefix", "value": "/"})
        }
        "headers" | "queryParams" => json!({"type": "Exact"}),
        "requestRedirect" => json!({"statusCode": 302}),
        "fraction" => json!({"denominator": 100}),
        "cors" => json!({"maxAge": 5}),
        "sessionPersistence" => json!({"type": "Cookie"}),
        "cookieConfig" => json!({"lifetimeType": "Session"}),
        _ => Value::Null,
    };
    if let Value::Object(defaults) = defaults { defaults } else { Map::new() }
}
