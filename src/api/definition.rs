//! The definitions of the two resources: names, columns, selectable fields, and the schemas of the Rust types.
//! Does not install anything; `crds/` holds what this prints, and CI compares them.

use rollout_core::spec::{PolicySpec, RolloutSpec};
use rollout_core::status::Status;
use serde_json::{Value, json};

use super::structural::schema_of;
use super::{GROUP, VERSION};

/// A `CustomResourceDefinition` and the file it is kept in.
pub struct Definition {
    /// Name of the file below `crds/`.
    pub file: &'static str,
    /// The object itself.
    pub object: Value,
}

/// Both definitions.
pub fn definitions() -> [Definition; 2] {
    [
        Definition { file: "modelrollouts.yaml", object: model_rollouts() },
        Definition { file: "evaluationpolicies.yaml", object: evaluation_policies() },
    ]
}

/// What differs between the two.
struct Names {
    kind: &'static str,
    singular: &'static str,
    plural: &'static str,
    short: &'static str,
    categories: &'static [&'static str],
    longest_name: u32,
}

/// The definition of `ModelRollout`.
pub fn model_rollouts() -> Value {
    let mut status = schema_of::<Status>();
    if let Some(fields) = status.as_object_mut() {
        // kstatus calls an object without status done; -1 says that nobody has looked yet.
        fields.insert("default".to_owned(), json!({"observedGeneration": -1}));
        fields.remove("required");
    }
    let names = Names {
        kind: "ModelRollout",
        singular: "modelrollout",
        plural: "modelrollouts",
        short: "mro",
        categories: &["espalier", "all"],
        longest_name: 40,
    };
    let version = json!({
        "additionalPrinterColumns": rollout_columns(),
        "selectableFields": [{"jsonPath": ".spec.policyRef.name"}],
        "subresources": {"status": {}},
    });
    let about = "A model on its way into production: mirrored, tried on a share of users, then promoted with proof or rolled back.";
    definition(&names, about, &version, &schema_of::<RolloutSpec>(), Some(&status))
}

/// The definition of `EvaluationPolicy`.
pub fn evaluation_policies() -> Value {
    let names = Names {
        kind: "EvaluationPolicy",
        singular: "evaluationpolicy",
        plural: "evaluationpolicies",
        short: "evpol",
        categories: &["espalier"],
        longest_name: 63,
    };
    let version = json!({
        "additionalPrinterColumns": [
            column("Server", "string", ".spec.prometheus.address", 0, "The Prometheus server with the measurements."),
            column("Guardrails", "string", ".spec.guardrails[*].name", 0, "What must not get worse."),
            column("Profile", "string", ".spec.profile", 0, "Built-in guardrails that stand before them."),
            column("Window", "string", ".spec.window", 1, "Length of a proof window, when it is not 1m."),
            column("Age", "date", ".metadata.creationTimestamp", 0, "When the policy was created."),
        ],
    });
    let about = "What \"good enough\" means for a model: where measurements come from, and what must not get worse by how much.";
    definition(&names, about, &version, &schema_of::<PolicySpec>(), None)
}

fn definition(names: &Names, about: &str, extra: &Value, spec: &Value, status: Option<&Value>) -> Value {
    let mut properties = json!({
        "apiVersion": {"type": "string", "maxLength": 64, "description": "Group and version of this object, espalier.dev/v1alpha1."},
        "kind": {"type": "string", "maxLength": 64, "description": format!("Kind of this object, {}.", names.kind)},
        // The API server takes bounds of the name here and nothing else, no description either. CEL on it is over the cost budget.
        "metadata": {"type": "object", "properties": {"name": {
            "type": "string",
            "maxLength": names.longest_name,
            "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$",
            "description": "Name of the object, a DNS label; names of Services and workloads are made from it.",
        }}},
        "spec": spec,
    });
    if let (Some(status), Some(fields)) = (status, properties.as_object_mut()) {
        fields.insert("status".to_owned(), status.clone());
    }
    let mut version = json!({
        "name": VERSION,
        "served": true,
        "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "description": about, "required": ["spec"], "properties": properties}},
    });
    if let (Some(version), Some(extra)) = (version.as_object_mut(), extra.as_object()) {
        version.extend(extra.clone());
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{GROUP}", names.plural)},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.kind,
                "listKind": format!("{}List", names.kind),
                "singular": names.singular,
                "plural": names.plural,
                "shortNames": [names.short],
                "categories": names.categories,
            },
            "versions": [version],
        },
    })
}

fn rollout_columns() -> Vec<Value> {
    let display = |field: &str| format!(".status.display.{field}");
    let text = |name, path: &str, wide, about| column(name, "string", path, wide, about);
    vec![
        text("Stage", &display("stage"), 0, "Stage that is live, such as Canary, or Idle."),
        text("Step", &display("step"), 0, "Step of the stage, such as 2/3."),
        text("Weight", &display("weight"), 0, "Share of user requests that the candidate answers."),
        text("Verdict", &display("verdict"), 0, "What is known of the candidate, in a word."),
        text("Ready", ".status.conditions[?(@.type==\"Ready\")].status", 0, "Whether the object is where it should be."),
        text("Stable", &display("stable"), 0, "The model that serves."),
        text("Candidate", &display("candidate"), 0, "The model on trial."),
        text("Policy", ".spec.policyRef.name", 1, "The policy that says what is good enough."),
        text("Next-Check", &display("nextCheck"), 1, "When the operator looks again on its own."),
        text("Message", &display("message"), 1, "What is going on, in a sentence."),
        column("Age", "date", ".metadata.creationTimestamp", 0, "When the rollout was created."),
    ]
}

fn column(name: &str, kind: &str, path: &str, priority: i32, about: &str) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path, "priority": priority, "description": about})
}
