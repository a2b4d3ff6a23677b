//! Small readers and writers of the JSON of an `HTTPRoute`: the field names of the Gateway API live here.
//! Nothing here knows what a rollout is; a field of an unexpected type reads as absent.

use serde_json::{Map, Value, json};

use super::{REVISION_HEADER, RouteProblem};

/// The elements of a list field, empty when absent.
pub(super) fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text field, empty when absent.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The rules of a route's spec.
pub(super) fn rules(spec: &Value) -> &[Value] {
    list(spec, "rules")
}

/// The spec of a whole route.
pub(super) fn spec(route: &Value) -> &Value {
    route.get("spec").unwrap_or(&Value::Null)
}

/// The rules of a whole route, to change them.
pub(super) fn rules_mut(route: &mut Value) -> Result<&mut Vec<Value>, RouteProblem> {
    let spec = route.get_mut("spec").ok_or(RouteProblem::Malformed { field: "spec", expected: "an object" })?;
    spec.get_mut("rules").and_then(Value::as_array_mut).ok_or(RouteProblem::Malformed { field: "spec.rules", expected: "a list" })
}

/// Whether a reference names this Service of the route's namespace.
pub(super) fn is_service(reference: &Value, name: &str) -> bool {
    let kind = reference.get("kind").and_then(Value::as_str).unwrap_or("Service");
    text(reference, "name") == name && kind == "Service" && text(reference, "group").is_empty()
}

/// The weight of a backend reference; the API's default is 1.
pub(super) fn weight(reference: &Value) -> i64 {
    reference.get("weight").and_then(Value::as_i64).unwrap_or(1)
}

/// The matches of a rule, with the API's default for none.
pub(super) fn matches_of(rule: &Value) -> Vec<Value> {
    match list(rule, "matches") {
        [] => vec![json!({"path": {"type": "PathPrefix", "value": "/"}})],
        matches => matches.to_vec(),
    }
}

/// Whether one of the rule's references sets our revision header both ways: such a rule is managed.
pub(super) fn is_managed(rule: &Value) -> bool {
    list(rule, "backendRefs").iter().any(|reference| {
        let names = |field: &str| list(reference, "filters").iter().any(|filter| sets_revision(filter.get(field)));
        names("requestHeaderModifier") && names("responseHeaderModifier")
    })
}

fn sets_revision(modifier: Option<&Value>) -> bool {
    modifier.is_some_and(|modifier| list(modifier, "set").iter().any(|header| text(header, "name").eq_ignore_ascii_case(REVISION_HEADER)))
}

/// The Service that a mirror filter copies to.
pub(super) fn mirror_target(filter: &Value) -> Option<&Value> {
    (text(filter, "type") == "RequestMirror").then(|| filter.get("requestMirror")?.get("backendRef")).flatten()
}

/// How a rule is called in messages: its name, or its index.
pub(super) fn rule_label(rule: &Value, index: usize) -> String {
    match text(rule, "name") {
        "" => index.to_string(),
        name => name.to_owned(),
    }
}

/// Sets a field of a JSON object; another type is left alone, since the callers checked it.
pub(super) fn set(object: &mut Value, field: &str, value: Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert(field.to_owned(), value);
    }
}

/// Removes a field of a JSON object.
pub(super) fn remove(object: &mut Value, field: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(field);
    }
}

/// Writes one annotation, or removes it; an empty map of annotations goes with the last one.
pub(super) fn annotate(route: &mut Value, key: &str, value: Option<String>) {
    let Some(route) = route.as_object_mut() else { return };
    let Some(metadata) = route.entry("metadata").or_insert_with(|| Value::Object(Map::new())).as_object_mut() else { return };
    match value {
        Some(text) => {
            let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
            if !annotations.is_object() {
                *annotations = Value::Object(Map::new());
            }
            set(annotations, key, Value::String(text));
        }
        None => {
            if let Some(annotations) = metadata.get_mut("annotations") {
                remove(annotations, key);
                if annotations.as_object().is_some_and(Map::is_empty) {
                    metadata.remove("annotations");
                }
            }
        }
    }
}

/// One annotation of a route.
pub(super) fn annotation<'a>(route: &'a Value, key: &str) -> Option<&'a str> {
    route.get("metadata")?.get("annotations")?.get(key)?.as_str()
}
