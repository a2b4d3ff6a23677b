//! Whether the API server would take a status: its bounds, types and enums, read from the schema that the CRD is made of.
//! Checks no rules in CEL; status has none.

use std::sync::LazyLock;

use rollout_core::status::Status;
use serde_json::Value;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(schemars::schema_for!(Status)).unwrap());

/// Fails with the path of what would be refused. A refused status would stop the rollout for good.
pub fn check(status: &Status) {
    let problems = problems(status);
    assert!(problems.is_empty(), "the API server would refuse this status: {problems:#?}");
}

/// What would be refused, each with its path.
pub fn problems(status: &Status) -> Vec<String> {
    let mut problems = Vec::new();
    walk(&SCHEMA, &serde_json::to_value(status).unwrap(), "status", &mut problems);
    problems
}

fn walk(schema: &Value, value: &Value, at: &str, problems: &mut Vec<String>) {
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => SCHEMA.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let mut must = |holds: bool, what: &str| {
        if !holds {
            problems.push(format!("{at}: {what}: {value}"));
        }
    };
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64).map_or(usize::MAX, |n| usize::try_from(n).unwrap());
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array) {
        must(allowed.contains(value), "not one of the allowed words");
    }
    if let Some(any) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
        let fits = |one: &Value| {
            let mut inner = Vec::new();
            walk(one, value, at, &mut inner);
            inner.is_empty()
        };
        must(any.iter().any(fits), "fits none of the forms");
        return;
    }
    if let Some(word) = schema.get("const") {
        must(word == value, "not the word");
    }
    match value {
        Value::String(text) => must(text.chars().count() <= bound("maxLength"), "too long"),
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            must(schema.get("minimum").and_then(Value::as_f64).is_none_or(|least| number >= least), "too small");
            must(schema.get("maximum").and_then(Value::as_f64).is_none_or(|most| number <= most), "too large");
        }
        Value::Array(items) => {
            must(items.len() <= bound("maxItems"), "too many items");
            for (index, item) in items.iter().enumerate() {
                walk(&schema["items"], item, &format!("{at}[{index}]"), problems);
            }
        }
        Value::Object(fields) => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                must(fields.contains_key(name), &format!("{name} is missing"));
            }
            for (name, field) in fields {
                if let Some(inner) = schema["properties"].get(name) {
                    walk(inner, field, &format!("{at}.{name}"), problems);
                }
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}
