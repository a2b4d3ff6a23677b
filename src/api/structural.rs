//! From the schemas that Rust types give to the dialect that custom resources have to be defined in ("structural").
//! Does not add bounds or rules: these stand at the types.

use serde_json::{Map, Value, json};

/// The schema of `T`, inline and structural, with the docs of enum variants gathered in its description.
pub(super) fn schema_of<T: schemars::JsonSchema>() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    rewrite(&mut schema);
    schema
}

/// Keys with which Rust types say what a structural schema says otherwise, or not at all.
const FOREIGN: [&str; 5] = ["$schema", "title", "default", "writeOnly", "readOnly"];

fn rewrite(schema: &mut Value) {
    if schema == &Value::Bool(true) {
        *schema = json!({"x-kubernetes-preserve-unknown-fields": true});
    }
    let Some(fields) = schema.as_object_mut() else { return };
    for key in FOREIGN {
        fields.remove(key);
    }
    unwrap_option(fields);
    gather_variants(fields);
    if fields.get("additionalProperties") == Some(&Value::Bool(false)) {
        fields.remove("additionalProperties");
    }
    // int32 and int64 are formats of Kubernetes too; unsigned and floating ones are not, and the gate test refuses them.
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(rewrite);
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(schema) = fields.get_mut(nested) {
            rewrite(schema);
        }
    }
}

/// `Option<T>` is T: absence is spelled by leaving the field out, never by null.
fn unwrap_option(fields: &mut Map<String, Value>) {
    let not_null = |kind: &Value| kind != "null";
    if let Some(Value::Array(kinds)) = fields.get("type") {
        let kept: Vec<Value> = kinds.iter().filter(|kind| not_null(kind)).cloned().collect();
        if let [only] = kept.as_slice() {
            fields.insert("type".to_owned(), only.clone());
        }
    }
    if let Some(Value::Array(values)) = fields.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(choices)) = fields.remove("anyOf") {
        let mut kept = choices.into_iter().filter(|choice| choice.get("type").is_none_or(not_null));
        if let Some(Value::Object(only)) = kept.next() {
            for (key, value) in only {
                // The field's own description says more than the type's.
                fields.entry(key).or_insert(value);
            }
        }
    }
}

/// Turns one schema per documented variant into a plain enum, and keeps the docs.
fn gather_variants(fields: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = fields.remove("oneOf") else { return };
    let mut names = Vec::new();
    let mut docs = Vec::new();
    for variant in &variants {
        let doc = variant.get("description").and_then(Value::as_str);
        let const_name = variant.get("const").into_iter();
        let listed = variant.get("enum").and_then(Value::as_array).into_iter().flatten();
        for name in const_name.chain(listed) {
            if let (Some(doc), Some(name)) = (doc, name.as_str()) {
                docs.push(format!("{name}: {doc}"));
            }
            names.push(name.clone());
        }
    }
    fields.insert("type".to_owned(), json!("string"));
    fields.insert("enum".to_owned(), Value::Array(names));
    let own = fields.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = std::iter::once(own.to_owned()).chain(docs).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    fields.insert("description".to_owned(), Value::String(description));
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde_json::json;

    use super::*;

    /// A thing.
    #[derive(JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the schema of it is looked at")]
    struct Thing {
        /// The kind of thing.
        kind: Option<Kind>,
        /// How many.
        #[serde(default)]
        count: Option<i32>,
    }

    /// Kinds of thing.
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only the schema of it is looked at")]
    enum Kind {
        /// Large ones.
        Large,
        /// Small ones.
        Small,
    }

    #[test]
    fn options_and_documented_enums_become_structural() {
        assert_eq!(
            schema_of::<Thing>(),
            json!({
                "type": "object",
                "description": "A thing.",
                "properties": {
                    "kind": {
                        "type": "string",
                        "enum": ["Large", "Small"],
                        "description": "The kind of thing.\nLarge: Large ones.\nSmall: Small ones.",
                    },
                    "count": {"type": "integer", "format": "int32", "description": "How many."},
                },
            })
        );
    }
}
