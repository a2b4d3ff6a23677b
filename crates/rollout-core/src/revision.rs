//! Names revisions: a short hash of what makes a (model, workload) pair different, over canonical JSON.
//! Does not create anything; the canonical bytes are also what a `ControllerRevision` stores.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::spec::{Model, Workload};

/// The short name of a revision: 8 lower-case hexadecimal characters, or `baseline`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct RevisionId(#[schemars(length(max = 40))] String);

impl RevisionId {
    /// The name of what the user's baseline Service runs.
    pub const BASELINE: &'static str = "baseline";

    /// A revision by its name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the user's baseline, which the operator neither creates nor scales.
    pub fn is_baseline(&self) -> bool {
        self.0 == Self::BASELINE
    }
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The content of a revision: the model and the workload without its scale.
pub fn content(model: &Model, workload: &Workload) -> Value {
    let mut workload = serde_json::to_value(workload).unwrap_or(Value::Null);
    if let Some(spec) = workload.pointer_mut("/template/spec").and_then(Value::as_object_mut) {
        spec.remove("replicas");
    }
    serde_json::json!({"model": serde_json::to_value(model).unwrap_or(Value::Null), "workload": workload})
}

/// The revision that `model` and `workload` make together; the number of replicas is not part of it.
pub fn id(model: &Model, workload: &Workload) -> RevisionId {
    let hash = Sha256::digest(canonical(&content(model, workload)).as_bytes());
    RevisionId(hash.iter().take(4).fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

/// A digest that names the model: what follows `@` in its URI, or the hash of the URI.
pub fn model_digest(model: &Model) -> String {
    match model.uri.rsplit_once('@') {
        Some((_, digest)) if digest.starts_with("sha256:") => digest.to_owned(),
        _ => {
            let hash = Sha256::digest(model.uri.as_bytes());
            hash.iter().fold("uri-sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
        }
    }
}

/// JSON as the API server's own encoder writes it: compact, keys sorted, `<`, `>`, `&`, U+2028 and U+2029 escaped.
///
/// `ControllerRevision.data` is compared byte by byte, so any other spelling makes every later patch fail.
pub fn canonical(value: &Value) -> String {
    // serde_json's map is ordered by key, and its writer is compact.
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(replicas: i32, image: &str) -> Workload {
        Workload {
            template: Some(json!({"kind": "Deployment", "spec": {"replicas": replicas, "template": {"image": image}}})),
            port: Some(8080),
            backend_ref: None,
            matchers: std::collections::BTreeMap::new(),
        }
    }

    fn model(uri: &str) -> Model {
        Model { uri: uri.into(), compression: None }
    }

    #[test]
    fn scale_is_not_identity_but_image_and_model_are() {
        let one = id(&model("oci://a"), &workload(1, "x"));
        assert_eq!(one, id(&model("oci://a"), &workload(7, "x")));
        assert_ne!(one, id(&model("oci://a"), &workload(1, "y")));
        assert_ne!(one, id(&model("oci://b"), &workload(1, "x")));
        assert_eq!(one.as_str().len(), 8);
    }

    #[test]
    fn canonical_json_is_what_the_api_server_writes() {
        assert_eq!(canonical(&json!({"b": "<&>", "a": [1, "\u{2028}"]})), r#"{"a":[1,"\u2028"],"b":"\u003c\u0026\u003e"}"#);
    }

    #[test]
    fn digest_comes_from_the_uri() {
        assert_eq!(model_digest(&model("oci://x/y@sha256:41ab")), "sha256:41ab");
        assert!(model_digest(&model("file:///m.onnx")).starts_with("uri-sha256:"));
    }
}
