//! What the API server refuses before it looks at rules, in its own words: unknown fields, types, lengths, missing fields; and the object without that.
//! Does not evaluate rules; `rollout_core::validate` says the same as they do. Covers what the two definitions use, and nothing else.

use std::fmt;

use serde_json::{Map, Value, json};

/// The pattern of names, the only one of the definitions; everything else is a rule.
const NAME_PATTERN: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";

/// What is found where a field has a name that is not known.
const UNKNOWN: &str = "an unknown field";

/// What is expected where text is.
pub const TEXT: &str = "a string";

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Path of the field, such as `spec.stages[1].name`.
    pub field: String,
    /// What stands there.
    pub found: String,
    /// What may stand there.
    pub expected: String,
    /// The whole refusal as the API server words it.
    pub text: String,
    /// Whether rules are not looked at because of it.
    pub is_blocking: bool,
}

/// What the API server would refuse in `object` before it looks at rules; `schema` is structural, as in `crds/`.
pub fn check(schema: &Value, object: &Value) -> Vec<Refusal> {
    let mut found = Vec::new();
    unknown(schema, object, "", &mut found);
    if found.is_empty() {
        visit(schema, object, "", &mut found);
    }
    found
}

/// The object as it was probably meant, so that what else is wrong with it can be told: without unknown fields, and with text where a number or a
/// yes stands in its place. `None` when nothing can be done.
pub fn without_what_is_refused(object: &Value, refusals: &[Refusal]) -> Option<Value> {
    let mut repaired = object.clone();
    for refusal in refusals {
        let pointer = format!("/{}", refusal.field.replace('[', "/").replace(']', "").replace('.', "/"));
        match repaired.pointer_mut(&pointer) {
            Some(field @ (Value::Number(_) | Value::Bool(_))) if refusal.expected == TEXT => *field = Value::from(field.to_string()),
            Some(_) if refusal.found == UNKNOWN => {
                let (parent, name) = pointer.rsplit_once('/')?;
                if let Some(fields) = repaired.pointer_mut(parent).and_then(Value::as_object_mut) {
                    fields.remove(name);
                }
            }
            _ => {}
        }
    }
    (repaired != *object).then_some(repaired)
}

static NULL: Value = Value::Null;

fn at<'a>(value: &'a Value, key: &str) -> &'a Value {
    value.get(key).unwrap_or(&NULL)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Fields that the schema does not have are refused before anything else, because clients ask for strict validation.
fn unknown(schema: &Value, value: &Value, path: &str, found: &mut Vec<Refusal>) {
    if let Value::Array(items) = value {
        for (index, item) in items.iter().enumerate() {
            unknown(at(schema, "items"), item, &format!("{path}[{index}]"), found);
        }
    }
    let (Some(fields), Some(known)) = (value.as_object(), at(schema, "properties").as_object()) else { return };
    if path == "metadata" {
        return;
    }
    for (name, field) in fields {
        let path = join(path, name);
        match known.get(name) {
            Some(schema) => unknown(schema, field, &path, found),
            None => found.push(Refusal {
                text: format!("unknown field \"{path}\""),
                found: UNKNOWN.to_owned(),
                expected: known_fields(known, name),
                field: path,
                is_blocking: true,
            }),
        }
    }
}

/// The field that was probably meant, or all there are.
fn known_fields(known: &Map<String, Value>, typed: &str) -> String {
    let nearest = known.keys().map(|name| (distance(name, typed), name)).min();
    match nearest {
        Some((edits, name)) if edits <= 2 && edits < name.len() => format!("\"{name}\", if that was meant"),
        _ => format!("one of {}", known.keys().map(String::as_str).collect::<Vec<_>>().join(", ")),
    }
}

/// Letters to insert, remove or replace to get from one word to the other, upper and lower case being the same (Levenshtein 1966).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.to_lowercase().chars().enumerate() {
        let mut next = vec![above + 1];
        for ((kept, replaced), typed) in row.iter().skip(1).zip(&row).zip(&other) {
            let inserted = next.last().copied().unwrap_or(0);
            next.push((kept + 1).min(inserted + 1).min(replaced + usize::from(letter != *typed)));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// The refusals of one field.
struct Field<'a> {
    path: &'a str,
    schema: &'a Value,
    found: &'a mut Vec<Refusal>,
}

impl Field<'_> {
    /// `text` is what the API server says after the path.
    fn refuse(&mut self, text: impl fmt::Display, found: impl Into<String>, expected: impl Into<String>, is_blocking: bool) {
        let path = self.path;
        self.found.push(Refusal {
            field: path.to_owned(),
            found: found.into(),
            expected: expected.into(),
            text: format!("{path}: {text}"),
            is_blocking,
        });
    }

    fn require(&mut self, name: &str) {
        let field = join(self.path, name);
        self.found.push(Refusal {
            text: format!("{field}: Required value"),
            field,
            found: "nothing".to_owned(),
            expected: "a value".to_owned(),
            is_blocking: true,
        });
    }

    fn is_beyond(&self, key: &str, length: usize) -> bool {
        at(self.schema, key)
            .as_u64()
            .is_some_and(|limit| if key.starts_with("min") { (length as u64) < limit } else { length as u64 > limit })
    }
}

fn visit(schema: &Value, value: &Value, path: &str, found: &mut Vec<Refusal>) {
    let mut field = Field { path, schema, found };
    let wanted = at(schema, "type").as_str().unwrap_or("object");
    let actual = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::Null => "null",
    };
    if actual != wanted {
        let text = format!("Invalid value: \"{actual}\": {path} in body must be of type {wanted}: \"{actual}\"");
        field.refuse(text, with_article(actual), with_article(wanted), true);
        return;
    }
    if let Some(values) = at(schema, "enum").as_array().filter(|values| !values.contains(value)) {
        let values = values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        field.refuse(
            format_args!("Unsupported value: {value}: supported values: {values}"),
            value.to_string(),
            format!("one of {values}"),
            true,
        );
    }
    match value {
        Value::String(text) => string(&mut field, text),
        Value::Number(number) => integer(&mut field, number),
        Value::Array(items) => array(field, items),
        Value::Object(fields) => object(field, fields),
        Value::Null | Value::Bool(_) => {}
    }
}

fn with_article(kind: &str) -> String {
    match kind {
        "null" => "nothing".to_owned(),
        "object" => "an object".to_owned(),
        "array" => "a list".to_owned(),
        "integer" => "a whole number".to_owned(),
        "string" => TEXT.to_owned(),
        _ => format!("a {kind}"),
    }
}

fn string(field: &mut Field, text: &str) {
    let (path, schema) = (field.path, field.schema);
    let quoted = format!("\"{text}\"");
    if field.is_beyond("maxLength", text.len()) {
        let limit = at(schema, "maxLength");
        let bytes = format!("{} bytes", text.len());
        field.refuse(format_args!("Too long: may not be more than {limit} bytes"), bytes, format!("at most {limit} bytes"), true);
    }
    if field.is_beyond("minLength", text.len()) {
        let limit = at(schema, "minLength");
        let said = format!("Invalid value: {quoted}: {path} in body should be at least {limit} chars long");
        field.refuse(said, quoted.clone(), format!("at least {limit} characters"), false);
    }
    let is_name = text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.chars().all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '-');
    if at(schema, "pattern") == NAME_PATTERN && !is_name {
        field.refuse(
            format_args!("Invalid value: {quoted}: {path} in body should match '{NAME_PATTERN}'"),
            quoted.clone(),
            "a DNS label that starts with a letter, such as digits-v2",
            false,
        );
    }
}

fn integer(field: &mut Field, number: &serde_json::Number) {
    let (path, schema) = (field.path, field.schema);
    let value = number.as_i64().unwrap_or(i64::MAX);
    if let Some(limit) = at(schema, "minimum").as_i64().filter(|limit| value < *limit) {
        let said = format!("Invalid value: {number}: {path} in body should be greater than or equal to {limit}");
        field.refuse(said, number.to_string(), format!("at least {limit}"), false);
    }
    if let Some(limit) = at(schema, "maximum").as_i64().filter(|limit| value > *limit) {
        let said = format!("Invalid value: {number}: {path} in body should be less than or equal to {limit}");
        field.refuse(said, number.to_string(), format!("at most {limit}"), false);
    }
}

fn array(mut field: Field, items: &[Value]) {
    let (path, schema) = (field.path, field.schema);
    let count = items.len();
    if field.is_beyond("minItems", count) {
        let limit = at(schema, "minItems");
        let said = format!("Invalid value: {count}: {path} in body should have at least {limit} items");
        field.refuse(said, format!("{count} items"), format!("at least {limit}"), false);
    }
    if field.is_beyond("maxItems", count) {
        let limit = at(schema, "maxItems");
        let said = format!("Too many: {count}: must have at most {limit} items");
        field.refuse(said, format!("{count} items"), format!("at most {limit}"), true);
    }
    duplicates(schema, items, path, field.found);
    for (index, item) in items.iter().enumerate() {
        visit(at(schema, "items"), item, &format!("{path}[{index}]"), field.found);
    }
}

fn object(mut field: Field, fields: &Map<String, Value>) {
    let (path, schema) = (field.path, field.schema);
    let embedded: &[&str] = if at(schema, "x-kubernetes-embedded-resource") == true { &["apiVersion", "kind"] } else { &[] };
    let required = at(schema, "required").as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required.chain(embedded.iter().copied()) {
        if !fields.contains_key(name) {
            field.require(name);
        }
    }
    if field.is_beyond("maxProperties", fields.len()) {
        let (count, limit) = (fields.len(), at(schema, "maxProperties"));
        let said = format!("Too many: {count}: must have at most {limit} items");
        field.refuse(said, format!("{count} entries"), format!("at most {limit}"), true);
    }
    for (name, value) in fields {
        if let Some(schema) = at(schema, "properties").get(name).or_else(|| schema.get("additionalProperties")) {
            visit(schema, value, &join(path, name), field.found);
        }
    }
}

fn duplicates(schema: &Value, items: &[Value], path: &str, found: &mut Vec<Refusal>) {
    let key = |item: &Value| match at(schema, "x-kubernetes-list-type").as_str() {
        Some("map") => Some(json!({"name": at(item, "name")})),
        Some("set") => Some(item.clone()),
        _ => None,
    };
    for (index, item) in items.iter().enumerate() {
        let Some(own) = key(item) else { return };
        if items.iter().take(index).any(|earlier| key(earlier).as_ref() == Some(&own)) {
            let field = format!("{path}[{index}]");
            found.push(Refusal {
                text: format!("{field}: Duplicate value: {own}"),
                field,
                found: format!("{own} a second time"),
                expected: "every entry once".to_owned(),
                is_blocking: false,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_answered_with_the_field_that_was_meant() {
        let schema = json!({"type": "object", "properties": {"stages": {"type": "array"}, "suspend": {"type": "boolean"}}});
        let expected = |object: Value| check(&schema, &object).pop().map(|refusal| refusal.expected);
        assert_eq!(expected(json!({"stagess": []})).as_deref(), Some("\"stages\", if that was meant"));
        assert_eq!(expected(json!({"Suspend": true})).as_deref(), Some("\"suspend\", if that was meant"));
        assert_eq!(expected(json!({"strategy": {}})).as_deref(), Some("one of stages, suspend"));
    }

    #[test]
    fn distances_count_letters() {
        assert_eq!([distance("stages", "stages"), distance("stages", "stage"), distance("abc", "xbcd"), distance("", "ab")], [0, 1, 2, 2]);
    }
}
