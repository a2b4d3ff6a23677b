//! Reads the table of manifests and compares the answers of an API server with it.
//! Does not judge a manifest itself.

use serde_json::Value;

/// Which of the two resources a manifest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rollout,
    Policy,
}

impl Kind {
    pub fn plural(self) -> &'static str {
        match self {
            Self::Rollout => "modelrollouts",
            Self::Policy => "evaluationpolicies",
        }
    }
}

/// A manifest and the messages it must get, sorted; none means that it is good.
pub struct Case {
    pub name: String,
    pub kind: Kind,
    pub object: Value,
    pub messages: Vec<String>,
}

/// The whole table.
pub fn cases() -> Vec<Case> {
    let table: Value = serde_saphyr::from_str(include_str!("table.yaml")).expect("table.yaml is YAML");
    let case = |entry: &Value| {
        let kind = if entry["kind"] == "rollout" { Kind::Rollout } else { Kind::Policy };
        let mut object = if kind == Kind::Rollout { table["rollout"].clone() } else { table["policy"].clone() };
        merge(&mut object, &entry["change"]);
        let listed = entry["messages"].as_array().expect("messages");
        let mut messages: Vec<String> = listed.iter().map(|message| message.as_str().expect("text").to_owned()).collect();
        messages.sort();
        Case { name: entry["name"].as_str().expect("a name").to_owned(), kind, object, messages }
    };
    table["cases"].as_array().expect("cases").iter().map(case).collect()
}

/// JSON merge patch, RFC 7386.
pub fn merge(target: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let fields = target.as_object_mut().expect("an object");
    for (name, value) in change {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// What a refusal says: one `field: text` per cause, sorted.
pub fn causes(status: &Value) -> Vec<String> {
    let message = status["message"].as_str().unwrap_or_default();
    if let Some((_, strict)) = message.split_once("strict decoding error: ") {
        return strict.split(", ").map(str::to_owned).collect();
    }
    let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    let mut texts: Vec<String> = causes
        .iter()
        // Says only that rules were skipped, which is no message about the manifest.
        .filter(|cause| cause["field"] != "<nil>")
        .map(|cause| format!("{}: {}", cause["field"].as_str().unwrap_or_default(), cause["message"].as_str().unwrap_or_default()))
        .collect();
    texts.sort();
    if texts.is_empty() { vec![message.to_owned()] } else { texts }
}

/// Whether the answers are the expected ones, with or without the "Invalid value" that servers put before the message of a rule.
pub fn same(found: &[String], expected: &[String]) -> bool {
    let is_same = |found: &str, expected: &str| {
        let Some((field, text)) = expected.split_once(": ") else { return found == expected };
        let by_rule =
            text.starts_with("found ") && found.starts_with(&format!("{field}: Invalid value: ")) && found.ends_with(&format!(": {text}"));
        found == expected || by_rule
    };
    found.len() == expected.len() && expected.iter().all(|expected| found.iter().any(|found| is_same(found, expected)))
}
