//! Waits until the API server serves the kinds that the operator lives on, with every field that it writes, and says what is missing.
//! Installs nothing: CRDs come with the chart, and with the gateway.

use std::time::Duration;

use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::api::{VERSION, definitions};
use crate::client::{CALL_TIMEOUT, timed};
use crate::server::Readiness;

/// Group and version, and the plural names in it that are needed.
const NEEDED: [(&str, &[&str]); 2] =
    [("espalier.dev/v1alpha1", &["modelrollouts", "evaluationpolicies"]), ("gateway.networking.k8s.io/v1", &["httproutes"])];
/// Wait between looks.
const AGAIN: Duration = Duration::from_secs(2);

/// Returns when every needed kind is served. Until then `/readyz` says what is missing.
pub async fn served(client: &Client, readiness: &Readiness) {
    let mut said = String::new();
    while let Some(problem) = missing(client).await {
        if problem != said {
            warn!("{problem}");
            readiness.missing(problem.clone());
            said = problem;
        }
        sleep(AGAIN).await;
    }
    if !said.is_empty() {
        info!("every needed kind is served now");
    }
}

async fn missing(client: &Client) -> Option<String> {
    for (group_version, plurals) in NEEDED {
        let served = match timed(CALL_TIMEOUT, client.list_api_group_resources(group_version)).await {
            Ok(list) => list.resources.into_iter().map(|resource| resource.name).collect(),
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Some(format!("cannot ask the API server for the kinds of {group_version}: {error}")),
        };
        if let Some(problem) = absent(group_version, plurals, &served) {
            return Some(problem);
        }
    }
    outdated(client).await
}

fn absent(group_version: &str, plurals: &[&str], served: &[String]) -> Option<String> {
    let plural = plurals.iter().find(|plural| !served.iter().any(|name| name == *plural))?;
    let (group, version) = group_version.split_once('/')?;
    Some(format!("CRD {plural}.{group} is not served in version {version}; install it, and the operator goes on by itself"))
}

/// A field that the CRD does not know is dropped by the API server without a word: latches and evidence would be lost. Needs the right to get
/// the CRDs by name; without it nothing is checked.
async fn outdated(client: &Client) -> Option<String> {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    for ours in definitions().map(|definition| definition.object) {
        let name = ours.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        match timed(CALL_TIMEOUT, crds.get(name)).await {
            Ok(served) => {
                if let Some(field) = lacking(schema(&ours), schema(&served.data), "") {
                    let version = env!("CARGO_PKG_VERSION");
                    return Some(format!(
                        "CRD {name} does not know {field}, so it is older than this operator ({version}); apply the CRDs of version {version}"
                    ));
                }
            }
            Err(error) => debug!(name, %error, "the CRD cannot be read, so its age is not checked"),
        }
    }
    None
}

fn schema(crd: &Value) -> &Value {
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array);
    let ours = versions.into_iter().flatten().find(|version| version.get("name").and_then(Value::as_str) == Some(VERSION));
    ours.and_then(|version| version.pointer("/schema/openAPIV3Schema")).unwrap_or(&Value::Null)
}

/// The first field of `wanted` that `served` does not have.
fn lacking(wanted: &Value, served: &Value, at: &str) -> Option<String> {
    if let Some(items) = wanted.get("items") {
        return lacking(items, served.get("items").unwrap_or(&Value::Null), &format!("{at}[]"));
    }
    let fields = wanted.get("properties").and_then(Value::as_object)?;
    fields.iter().find_map(|(name, field)| {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        match served.get("properties").and_then(|known| known.get(name)) {
            Some(known) => lacking(field, known, &path),
            None => Some(path),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crd_that_is_missing_is_named() {
        let served = ["modelrollouts".to_owned(), "modelrollouts/status".to_owned()];
        let problem = absent(NEEDED[0].0, NEEDED[0].1, &served).unwrap();
        assert!(problem.starts_with("CRD evaluationpolicies.espalier.dev is not served in version v1alpha1"), "{problem}");
        assert!(absent(NEEDED[0].0, &["modelrollouts"], &served).is_none());
    }

    #[test]
    fn a_crd_that_would_drop_a_field_is_older_and_one_with_more_fields_is_not() {
        let ours = definitions()[0].object.clone();
        let mut served = ours.clone();
        let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties";
        served.pointer_mut(status).unwrap()["ofTomorrow"] = serde_json::json!({"type": "string"});
        assert_eq!(lacking(schema(&ours), schema(&served), ""), None);
        served.pointer_mut(&format!("{status}/rejected/items/properties")).unwrap().as_object_mut().unwrap().remove("attempts");
        assert_eq!(lacking(schema(&ours), schema(&served), "").as_deref(), Some("status.rejected[].attempts"));
    }
}
