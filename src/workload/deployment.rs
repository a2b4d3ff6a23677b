//! All that is particular to `apps/v1` Deployment: where its parts are, what its conditions mean.
//! Another kind is another file like this one and a line in [`super::Kind`].

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use rollout_core::observed::Cause;
use serde_json::{Value, json};

pub(super) const API_VERSION: &str = "apps/v1";
pub(super) const KIND: &str = "Deployment";
pub(super) const PLURAL: &str = "deployments";
/// Where the pod template is.
pub(super) const POD_TEMPLATE: &str = "/spec/template";
/// Where an entry of `managedFields` says that its manager wrote the pod template.
pub(super) const POD_TEMPLATE_FIELDS: &str = "/fieldsV1/f:spec/f:template";

/// Pods wanted; the API's default is one.
pub(super) fn desired(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The number of pods that a live object asks for.
pub(super) fn replicas(live: &Value) -> i64 {
    live.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

/// The change that sets the number of pods and nothing else.
pub(super) fn scale(replicas: i32) -> Value {
    json!({"spec": {"replicas": replicas}})
}

/// Whether a condition says something that [`cause`] reads: a healthy Deployment has none.
pub(super) fn is_telling(condition: &DeploymentCondition) -> bool {
    matches!((condition.type_.as_str(), condition.status.as_str()), ("ReplicaFailure", "True") | ("Progressing", "False"))
}

/// Why the Deployment itself says that it cannot go on: pods that may not be created, or no progress.
pub(super) fn cause(deployment: &Deployment) -> Option<Cause> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let named = |kind: &str, status: &str| conditions.iter().find(|one| one.type_ == kind && one.status == status);
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    if let Some(failure) = named("ReplicaFailure", "True") {
        let words = failure.message.as_deref().unwrap_or("no reason given");
        let reason = if words.contains("exceeded quota") { "QuotaExceeded" } else { "PodsNotCreated" };
        return Some(Cause { reason: reason.to_owned(), message: format!("Deployment {name} cannot create pods: {words}") });
    }
    let stuck = named("Progressing", "False").filter(|one| one.reason.as_deref() == Some("ProgressDeadlineExceeded"))?;
    let words = stuck.message.as_deref().unwrap_or("no progress in time");
    Some(Cause { reason: "ProgressDeadlineExceeded".to_owned(), message: format!("Deployment {name}: {words}") })
}
