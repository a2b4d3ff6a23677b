//! A structural schema's checks in the words of the API server, for tests without one.
//! Does not evaluate rules; kube's CEL does. Covers what the two definitions use, and nothing else.

use serde_json::Value;

/// One refusal.
pub struct Refusal {
    /// `field: text`.
    pub text: String,
    /// Whether rules are not looked at because of it.
    pub is_blocking: bool,
}

/// What the API server would refuse before it looks at rules.
pub fn check(schema: &Value, object: &Value) -> Vec<Refusal> {
    let mut found = Vec::new();
    unknown(schema, object, "", &mut found);
    if found.is_empty() {
        visit(schema, object, "", &mut found);
    }
    found
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Fields that the schema does not have are refused before anything else, because clients ask for strict validation.
fn unknown(schema: &Value, value: &Value, path: &str, found: &mut Vec<Refusal>) {
    if let Value::Array(items) = value {
        for (index, item) in items.iter().enumerate() {
            unknown(&schema["items"], item, &format!("{path}[{index}]"), found);
        }
    }
    let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) else { return };
    if path == "metadata" {
        return;
    }
    for (name, field) in fields {
        let path = join(path, name);
        match known.get(name) {
            Some(schema) => unknown(schema, field, &path, found),
            None => found.push(Refusal { text: format!("unknown field \"{path}\""), is_blocking: true }),
        }
    }
}

/// The refusals of one field.
struct Field<'a> {
    path: &'a str,
    schema: &'a Value,
    found: &'a mut Vec<Refusal>,
}

impl Field<'_> {
    fn refuse(&mut self, text: impl std::fmt::Display, is_blocking: bool) {
        self.found.push(Refusal { text: format!("{}: {text}", self.path), is_blocking });
    }

    fn require(&mut self, name: &str) {
        self.found.push(Refusal { text: format!("{}: Required value", join(self.path, name)), is_blocking: true });
    }

    fn is_beyond(&self, key: &str, length: usize) -> bool {
        self.schema[key].as_u64().is_some_and(|limit| if key.starts_with("min") { (length as u64) < limit } else { length as u64 > limit })
    }
}

fn visit(schema: &Value, value: &Value, path: &str, found: &mut Vec<Refusal>) {
    let mut field = Field { path, schema, found };
    let wanted = schema["type"].as_str().expect("a structural schema");
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
        field.refuse(format_args!("Invalid value: \"{actual}\": {path} in body must be of type {wanted}: \"{actual}\""), true);
        return;
    }
    if let Some(values) = schema["enum"].as_array().filter(|values| !values.contains(value)) {
        let values = values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        field.refuse(format_args!("Unsupported value: {value}: supported values: {values}"), true);
    }
    match value {
        Value::String(text) => string(&mut field, text),
        Value::Number(number) => integer(&mut field, number.as_i64().expect("an integer")),
        Value::Array(items) => array(field, items),
        Value::Object(fields) => object(field, fields),
        Value::Null | Value::Bool(_) => {}
    }
}

fn string(field: &mut Field, text: &str) {
    let (path, schema) = (field.path, field.schema);
    if field.is_beyond("maxLength", text.len()) {
        field.refuse(format_args!("Too long: may not be more than {} bytes", schema["maxLength"]), true);
    }
    if field.is_beyond("minLength", text.len()) {
        field
            .refuse(format_args!("Invalid value: \"{text}\": {path} in body should be at least {} chars long", schema["minLength"]), false);
    }
    // The one pattern of the definitions, on names; everything else is a rule.
    let is_name = text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.chars().all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '-');
    if let Some(pattern) = schema["pattern"].as_str().filter(|_| !is_name) {
        assert_eq!(pattern, "^[a-z]([-a-z0-9]*[a-z0-9])?$");
        field.refuse(format_args!("Invalid value: \"{text}\": {path} in body should match '{pattern}'"), false);
    }
}

fn integer(field: &mut Field, number: i64) {
    let (path, schema) = (field.path, field.schema);
    if let Some(limit) = schema["minimum"].as_i64().filter(|limit| number < *limit) {
        field.refuse(format_args!("Invalid value: {number}: {path} in body should be greater than or equal to {limit}"), false);
    }
    if let Some(limit) = schema["maximum"].as_i64().filter(|limit| number > *limit) {
        field.refuse(format_args!("Invalid value: {number}: {path} in body should be less than or equal to {limit}"), false);
    }
}

fn array(mut field: Field, items: &[Value]) {
    let (path, schema) = (field.path, field.schema);
    let count = items.len();
    if field.is_beyond("minItems", count) {
        field.refuse(format_args!("Invalid value: {count}: {path} in body should have at least {} items", schema["minItems"]), false);
    }
    if field.is_beyond("maxItems", count) {
        field.refuse(format_args!("Too many: {count}: must have at most {} items", schema["maxItems"]), true);
    }
    duplicates(schema, items, path, field.found);
    for (index, item) in items.iter().enumerate() {
        visit(&schema["items"], item, &format!("{path}[{index}]"), field.found);
    }
}

fn object(mut field: Field, fields: &serde_json::Map<String, Value>) {
    let (path, schema) = (field.path, field.schema);
    let embedded: &[&str] = if schema["x-kubernetes-embedded-resource"] == true { &["apiVersion", "kind"] } else { &[] };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required.chain(embedded.iter().copied()) {
        if !fields.contains_key(name) {
            field.require(name);
        }
    }
    if field.is_beyond("maxProperties", fields.len()) {
        field.refuse(format_args!("Too many: {}: must have at most {} items", fields.len(), schema["maxProperties"]), true);
    }
    for (name, value) in fields {
        if let Some(schema) = schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
            visit(schema, value, &join(path, name), field.found);
        }
    }
}

fn duplicates(schema: &Value, items: &[Value], path: &str, found: &mut Vec<Refusal>) {
    let key = |item: &Value| match schema["x-kubernetes-list-type"].as_str() {
        Some("map") => Some(serde_json::json!({"name": item["name"]})),
        Some("set") => Some(item.clone()),
        _ => None,
    };
    for (index, item) in items.iter().enumerate() {
        let Some(own) = key(item) else { return };
        if items.iter().take(index).any(|earlier| key(earlier).as_ref() == Some(&own)) {
            found.push(Refusal { text: format!("{path}[{index}]: Duplicate value: {own}"), is_blocking: false });
        }
    }
}
