//! What the API server makes of an object before it is kept: unknown fields of our own kinds go, schema and rules are asked, routes get their defaults.
//! Only for what comes as a request: what the world's people put in place may be as wrong as an old object.

use std::sync::LazyLock;

use espalier::api::{evaluation_policies, model_rollouts, strict};
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::{Value, json};

use crate::store::{POLICIES, ROLLOUTS, ROUTES, Refusal, Resource};

struct Definition {
    schema: Value,
    rules: CompiledSchema,
}

static DEFINITIONS: LazyLock<[Definition; 2]> = LazyLock::new(|| {
    [model_rollouts(), evaluation_policies()].map(|definition| {
        let schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        let rules = compile_schema(&schema);
        Definition { schema, rules }
    })
});

/// What is kept of `object`, or why it is refused. Rules are asked where the spec may have changed.
pub fn admit(of: Resource, object: &mut Value, status: bool, tomorrow: bool) -> Result<(), Refusal> {
    let definition = match of {
        ROLLOUTS => &DEFINITIONS[0],
        POLICIES => &DEFINITIONS[1],
        ROUTES => {
            complete(object);
            return Ok(());
        }
        _ => return Ok(()),
    };
    if status {
        // Fields of tomorrow are in the definition of tomorrow, which is there before its operator; the rest of the object is not looked at.
        let (schema, written) = (&definition.schema["properties"]["status"], &mut object["status"]);
        prune(schema, written, if tomorrow { Unknown::Stays } else { Unknown::Goes });
        // The check of duplicates knows lists by name alone, and conditions are one by type.
        let known = |text: &str| !text.starts_with("unknown field") && !text.contains("Duplicate value");
        let wrong = strict::check(schema, written).into_iter().find(|one| known(&one.text));
        return wrong.map_or(Ok(()), |one| Err(Refusal::new(422, "Invalid", format!("status.{}", one.text))));
    }
    let frame = ["apiVersion", "kind", "metadata"].map(|name| (name, object[name].take()));
    prune(&definition.schema, object, Unknown::Goes);
    for (name, value) in frame {
        object[name] = value;
    }
    let mut wrong = strict::check(&definition.schema, object);
    wrong.retain(|one| !one.field.starts_with("status"));
    if let Some(first) = wrong.first() {
        return Err(Refusal::new(422, "Invalid", first.text.clone()));
    }
    let refused = Validator::new().validate_compiled(&definition.rules, object, None).err();
    refused
        .into_iter()
        .flatten()
        .next()
        .map_or(Ok(()), |error| Err(Refusal::new(422, "Invalid", format!("{}: {}", error.field_path, error.message))))
}

/// What becomes of fields that the schema does not have.
#[derive(Clone, Copy)]
enum Unknown {
    Stays,
    Goes,
}

/// Fields that a structural schema does not have are dropped in silence, and so is what is null.
fn prune(schema: &Value, value: &mut Value, unknown: Unknown) {
    match value {
        Value::Object(fields) => {
            let (known, values) = (schema["properties"].as_object(), &schema["additionalProperties"]);
            let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
            if let Some(known) = known {
                fields.retain(|name, field| match unknown {
                    _ if known.contains_key(name) => !field.is_null(),
                    Unknown::Stays => true,
                    Unknown::Goes => open,
                });
            }
            for (name, field) in fields.iter_mut() {
                match known.and_then(|known| known.get(name)) {
                    Some(schema) => prune(schema, field, unknown),
                    None if values.is_object() => prune(values, field, unknown),
                    None => {}
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| prune(&schema["items"], item, unknown)),
        _ => {}
    }
}

/// The defaults of an `HTTPRoute`'s schema, as far as the operator reads them. Unknown fields stay, as under a Gateway API of tomorrow.
fn complete(route: &mut Value) {
    let each = |value: &mut Value, name: &str, fill: &dyn Fn(&mut Value)| {
        value.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten().for_each(fill);
    };
    let default = |value: &mut Value, name: &str, to: Value| {
        if let Some(fields) = value.as_object_mut() {
            fields.entry(name).or_insert(to);
        }
    };
    let backend = |one: &mut Value| {
        default(one, "group", json!(""));
        default(one, "kind", json!("Service"));
    };
    let Some(spec) = route.get_mut("spec") else { return };
    each(spec, "parentRefs", &|parent| {
        default(parent, "group", json!("gateway.networking.k8s.io"));
        default(parent, "kind", json!("Gateway"));
    });
    each(spec, "rules", &|rule| {
        default(rule, "matches", json!([{"path": {"type": "PathPrefix", "value": "/"}}]));
        each(rule, "matches", &|one| {
            default(one, "path", json!({"type": "PathPrefix", "value": "/"}));
            if let Some(path) = one.get_mut("path") {
                default(path, "type", json!("PathPrefix"));
                default(path, "value", json!("/"));
            }
            each(one, "headers", &|header| default(header, "type", json!("Exact")));
        });
        let mirrors = |holder: &mut Value| {
            each(holder, "filters", &|filter| {
                if let Some(target) = filter.pointer_mut("/requestMirror/backendRef") {
                    backend(target);
                }
            });
        };
        mirrors(rule);
        each(rule, "backendRefs", &|one| {
            backend(one);
            default(one, "weight", json!(1));
            mirrors(one);
        });
    });
}
