//! Foreign Services that would select a candidate's pods: they send users to it past every weight.
//! Pure; only compares selectors with labels and leaves what to do about it to the decision.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use rollout_core::revision::RevisionId;

use super::{Owner, child_name, control_name};

/// A sentence for each Service of the namespace that selects pods with `pod_labels` and is not one of `revision`'s own.
///
/// `services` must be all Services of the namespace, labelled or not.
pub fn foreign_selectors<'a>(
    owner: &Owner,
    revision: &RevisionId,
    pod_labels: &BTreeMap<String, String>,
    services: impl IntoIterator<Item = &'a Service>,
) -> Vec<String> {
    let own = [child_name(&owner.name, revision), control_name(&owner.name, revision)];
    let mut found: Vec<String> = services
        .into_iter()
        .filter_map(|service| {
            let name = service.metadata.name.as_deref().unwrap_or_default();
            let selector = service.spec.as_ref()?.selector.as_ref().filter(|selector| !selector.is_empty())?;
            let selects = selector.iter().all(|(key, value)| pod_labels.get(key) == Some(value));
            let words: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            (selects && !own.iter().any(|own| own == name)).then(|| {
                format!(
                    "Service {name} selects the candidate's pods by {}: users would reach them past every weight; give the template other labels",
                    words.join(",")
                )
            })
        })
        .collect();
    found.sort();
    found
}
