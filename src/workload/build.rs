//! The objects that one revision needs, as values: workload, Service and control Service.
//! Pure; keeps every field of the user's template and adds only name, labels, owner, scale and one environment variable.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use rollout_core::revision::RevisionId;
use serde_json::{Map, Value, json};

use super::error::WorkloadError;
use super::{Kind, Owner, REVISION_ENV, REVISION_LABEL, ROLLOUT_LABEL, child_name, control_name};

/// Fields of metadata that a template cannot bring along: they belong to live objects, or are ours.
const FOREIGN_METADATA: [&str; 10] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "ownerReferences",
    "selfLink",
];

/// What one revision needs in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    /// Kind of the workload.
    pub kind: Kind,
    /// The revision.
    pub revision: RevisionId,
    /// The object that owns the pods.
    pub workload: Value,
    /// The Service over its pods, of the same name.
    pub service: Value,
    /// The control Service over the same pods, for `ABTest`.
    pub control: Value,
}

impl Children {
    /// Labels that the pods will carry.
    pub fn pod_labels(&self) -> BTreeMap<String, String> {
        let labels = self.workload.pointer(self.kind.pod_template()).and_then(|template| template.pointer("/metadata/labels"));
        let pairs = labels.and_then(Value::as_object).into_iter().flatten();
        pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }
}

/// The children of `revision`: `template` has its placeholders replaced already; `port` is where its pods answer.
///
/// `replicas` overrides the template's own number; with `None` the template decides. Fails when the template is of an unsupported kind or
/// has no containers; whether it is a valid object is for the API server to say.
pub fn build(owner: &Owner, revision: &RevisionId, template: &Value, port: i32, replicas: Option<i32>) -> Result<Children, WorkloadError> {
    let kind = Kind::of(template)?;
    let own = own_labels(owner, revision);
    let mut workload = template.clone();
    let fields = object_at(&mut workload, "")?;
    fields.remove("status");
    let metadata = child_object(fields, "metadata", "metadata")?;
    metadata.retain(|field, _| !FOREIGN_METADATA.contains(&field.as_str()));
    metadata.insert("name".to_owned(), json!(child_name(&owner.name, revision)));
    metadata.insert("namespace".to_owned(), json!(owner.namespace));
    metadata.insert("ownerReferences".to_owned(), json!([owner_reference(owner)]));
    add_labels(metadata, &own, "metadata")?;
    let spec = child_object(fields, "spec", "spec")?;
    if let Some(replicas) = replicas {
        spec.insert("replicas".to_owned(), json!(replicas));
    }
    let selector = child_object(spec, "selector", "spec.selector")?;
    merge(child_object(selector, "matchLabels", "spec.selector.matchLabels")?, &own);
    let pods = child_object(spec, "template", "spec.template")?;
    add_labels(child_object(pods, "metadata", "spec.template.metadata")?, &own, "spec.template.metadata")?;
    tell_revision(pods, revision)?;
    let selector = Value::Object(own.clone());
    Ok(Children {
        kind,
        revision: revision.clone(),
        workload,
        service: service(owner, &child_name(&owner.name, revision), &own, &selector, &port_of(port, &json!(port))),
        control: service(owner, &control_name(&owner.name, revision), &own, &selector, &port_of(port, &json!(port))),
    })
}

/// A control Service over the pods of a Service that the user runs, for `ABTest` while that one is stable.
///
/// Fails when `live` has no selector (then no second Service can find the same pods) or no such port.
pub fn control_for_service(owner: &Owner, revision: &RevisionId, live: &Service, port: i32) -> Result<Value, WorkloadError> {
    let name = live.metadata.name.as_deref().unwrap_or_default();
    let malformed = |found: &str, expected| WorkloadError::Malformed { path: format!("Service {name}"), found: found.to_owned(), expected };
    let spec = live.spec.as_ref();
    let selector = spec.and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
    let selector =
        selector.ok_or_else(|| malformed("without a selector", "a Service with a selector, so that a control Service finds its pods"))?;
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let found = ports.iter().find(|one| one.port == port).ok_or_else(|| malformed("without this port", "the port named in backendRef"))?;
    let target = match &found.target_port {
        Some(target) => serde_json::to_value(target).unwrap_or_else(|_| json!(port)),
        None => json!(port),
    };
    let mut wanted = port_of(port, &target);
    if let (Some(protocol), Some(fields)) = (&found.app_protocol, wanted.as_object_mut()) {
        fields.insert("appProtocol".to_owned(), json!(protocol));
    }
    Ok(service(owner, &control_name(&owner.name, revision), &own_labels(owner, revision), &json!(selector), &wanted))
}

/// The owner reference that makes the rollout the controller of its children.
pub(super) fn owner_reference(owner: &Owner) -> Value {
    json!({
        "apiVersion": "espalier.dev/v1alpha1",
        "kind": "ModelRollout",
        "name": owner.name,
        "uid": owner.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// The two labels of everything that belongs to `revision`.
pub(super) fn own_labels(owner: &Owner, revision: &RevisionId) -> Map<String, Value> {
    Map::from_iter([(ROLLOUT_LABEL.to_owned(), json!(owner.name)), (REVISION_LABEL.to_owned(), json!(revision.as_str()))])
}

fn port_of(port: i32, target: &Value) -> Value {
    json!({"name": "http", "port": port, "targetPort": target, "protocol": "TCP"})
}

fn service(owner: &Owner, name: &str, labels: &Map<String, Value>, selector: &Value, port: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": {"selector": selector, "ports": [port]},
    })
}

/// Sets the revision in each container that does not set it itself.
fn tell_revision(pods: &mut Map<String, Value>, revision: &RevisionId) -> Result<(), WorkloadError> {
    let containers = child_object(pods, "spec", "spec.template.spec")?.get_mut("containers").and_then(Value::as_array_mut);
    let Some(containers) = containers.filter(|list| !list.is_empty()) else {
        return Err(malformed("spec.template.spec.containers", "missing or empty", "a list with at least one container"));
    };
    for container in containers {
        let fields = object_at(container, "spec.template.spec.containers[]")?;
        let env = fields.entry("env").or_insert_with(|| json!([]));
        let Some(env) = env.as_array_mut() else {
            return Err(malformed("spec.template.spec.containers[].env", "not a list", "a list of environment variables"));
        };
        if !env.iter().any(|one| one.get("name").and_then(Value::as_str) == Some(REVISION_ENV)) {
            env.push(json!({"name": REVISION_ENV, "value": revision.as_str()}));
        }
    }
    Ok(())
}

fn add_labels(metadata: &mut Map<String, Value>, own: &Map<String, Value>, path: &str) -> Result<(), WorkloadError> {
    merge(child_object(metadata, "labels", &format!("{path}.labels"))?, own);
    Ok(())
}

fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    into.extend(from.iter().map(|(key, value)| (key.clone(), value.clone())));
}

/// The object under `key`, made when absent or null.
fn child_object<'a>(fields: &'a mut Map<String, Value>, key: &str, path: &str) -> Result<&'a mut Map<String, Value>, WorkloadError> {
    let child = fields.entry(key.to_owned()).or_insert(Value::Null);
    if child.is_null() {
        *child = json!({});
    }
    object_at(child, path)
}

fn object_at<'a>(value: &'a mut Value, path: &str) -> Result<&'a mut Map<String, Value>, WorkloadError> {
    value.as_object_mut().ok_or_else(|| malformed(path, "not an object", "an object"))
}

fn malformed(path: &str, found: &str, expected: &'static str) -> WorkloadError {
    let dot = if path.is_empty() { "" } else { "." };
    WorkloadError::Malformed { path: format!("spec.workload.template{dot}{path}"), found: found.to_owned(), expected }
}
