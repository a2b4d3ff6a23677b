//! What the cluster says about the workload of each revision, from objects that were listed or watched.
//! Pure. Readiness is ready endpoints, never a workload's own status, so that every kind is read the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rollout_core::observed::{Cause, WorkloadView};
use rollout_core::revision::RevisionId;

use super::{REVISION_LABEL, ROLLOUT_LABEL, cause, child_name, control_name, deployment};

/// Label by which slices name their Service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Objects of one namespace that carry the label of one rollout.
#[derive(Clone, Debug, Default)]
pub struct Owned {
    /// Workloads.
    pub deployments: Vec<Arc<Deployment>>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// Slices of these Services; they carry their Service's labels.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// Pods.
    pub pods: Vec<Arc<Pod>>,
}

/// What belongs to a Service that the user runs.
#[derive(Clone, Debug, Default)]
pub struct Foreign {
    /// The Service, if it exists.
    pub service: Option<Arc<Service>>,
    /// Its slices.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// Pods that its selector finds; empty when nobody looked, then only their names are known, from the slices.
    pub pods: Vec<Arc<Pod>>,
    /// Whether our control Service over its pods exists.
    pub control_exists: bool,
}

/// The workloads of `rollout` by revision; revisions of which nothing is left are absent.
pub fn owned_views(rollout: &str, objects: &Owned) -> BTreeMap<RevisionId, WorkloadView> {
    let services: BTreeSet<&str> = objects.services.iter().map(|one| name(&one.metadata)).collect();
    let metadata = objects.deployments.iter().map(|one| &one.metadata);
    let metadata = metadata.chain(objects.services.iter().map(|one| &one.metadata)).chain(objects.pods.iter().map(|one| &one.metadata));
    let revisions: BTreeSet<RevisionId> = metadata.filter_map(|meta| revision(rollout, meta)).collect();
    revisions.into_iter().map(|id| (id.clone(), view(rollout, &id, objects, &services))).collect()
}

fn view(rollout: &str, id: &RevisionId, objects: &Owned, services: &BTreeSet<&str>) -> WorkloadView {
    let child = child_name(rollout, id);
    let workload = objects.deployments.iter().find(|one| name(&one.metadata) == child);
    let pods: Vec<&Pod> =
        objects.pods.iter().filter(|pod| revision(rollout, &pod.metadata).as_ref() == Some(id)).map(AsRef::as_ref).collect();
    let ready_endpoints = ready_endpoints(&child, objects.slices.iter().map(AsRef::as_ref));
    let desired = workload.map_or(0, |one| deployment::desired(one));
    let cause = if ready_endpoints >= desired {
        None
    } else {
        cause::unready(pods.iter().copied()).or_else(|| workload.and_then(|one| deployment::cause(one))).or_else(|| no_pods(&child, &pods))
    };
    let (tripped, tripped_at) = cause::tripped(pods.iter().copied());
    WorkloadView {
        exists: workload.is_some_and(|one| one.metadata.deletion_timestamp.is_none()),
        service_exists: services.contains(child.as_str()),
        control_exists: services.contains(control_name(rollout, id).as_str()),
        desired,
        ready_endpoints,
        tripped,
        tripped_at,
        pods: created(&pods),
        cause,
    }
}

/// The workload behind a Service that the user runs: it wants one ready endpoint, whatever makes it.
///
/// Pods that only slices name count as older than anything: their counters are read from where they are first seen.
pub fn foreign_view(objects: &Foreign) -> WorkloadView {
    let Some(service) = &objects.service else {
        return WorkloadView { control_exists: objects.control_exists, desired: 1, ..WorkloadView::default() };
    };
    let service_name = name(&service.metadata);
    let listed: Vec<&Pod> = objects.pods.iter().map(AsRef::as_ref).collect();
    let mut pods = addressed(service_name, objects.slices.iter().map(AsRef::as_ref));
    let ready_endpoints = ready_endpoints(service_name, objects.slices.iter().map(AsRef::as_ref));
    let cause = if ready_endpoints > 0 {
        None
    } else {
        cause::unready(listed.iter().copied()).or_else(|| not_ready(service_name, &pods)).or_else(|| no_pods(service_name, &listed))
    };
    pods.extend(created(&listed));
    let (tripped, tripped_at) = cause::tripped(listed.iter().copied());
    WorkloadView {
        exists: true,
        service_exists: true,
        control_exists: objects.control_exists,
        desired: 1,
        ready_endpoints,
        tripped,
        tripped_at,
        pods,
        cause,
    }
}

/// Pods that the slices of `service` name.
fn addressed<'a>(service: &str, slices: impl IntoIterator<Item = &'a EndpointSlice>) -> BTreeMap<String, DateTime<Utc>> {
    let own = slices.into_iter().filter(|slice| label(&slice.metadata, SERVICE_NAME) == Some(service));
    let targets = own.flat_map(|slice| &slice.endpoints).filter_map(|one| one.target_ref.as_ref());
    let pods = targets.filter(|target| target.kind.as_deref() == Some("Pod")).filter_map(|target| target.name.clone());
    pods.map(|pod| (pod, DateTime::UNIX_EPOCH)).collect()
}

fn not_ready(service: &str, pods: &BTreeMap<String, DateTime<Utc>>) -> Option<Cause> {
    let message = || format!("none of the {} pods of {service} is ready", pods.len());
    (!pods.is_empty()).then(|| Cause { reason: "NotReady".to_owned(), message: message() })
}

/// Ready endpoints of `service` over all its slices, each pod once: with two address families or while slices are rewritten it is in two.
pub fn ready_endpoints<'a>(service: &str, slices: impl IntoIterator<Item = &'a EndpointSlice>) -> i32 {
    let own = slices.into_iter().filter(|slice| label(&slice.metadata, SERVICE_NAME) == Some(service));
    let ready: BTreeSet<&str> = own.flat_map(|slice| &slice.endpoints).filter(|one| is_ready(one)).filter_map(identity).collect();
    i32::try_from(ready.len()).unwrap_or(i32::MAX)
}

/// The API reads an absent `ready` as true; an endpoint that is going away is not counted whatever it says.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready.unwrap_or(true) && !conditions.terminating.unwrap_or(false))
}

fn identity(endpoint: &Endpoint) -> Option<&str> {
    let target = endpoint.target_ref.as_ref().and_then(|target| target.name.as_deref());
    target.or_else(|| endpoint.addresses.first().map(String::as_str))
}

fn no_pods(owner: &str, pods: &[&Pod]) -> Option<Cause> {
    let none = pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_some());
    none.then(|| Cause { reason: "NoPods".to_owned(), message: format!("{owner} has no pods yet") })
}

/// Pods that may hold counters: all but those that are done.
fn created(pods: &[&Pod]) -> BTreeMap<String, DateTime<Utc>> {
    let done = |pod: &Pod| matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"));
    let live = pods.iter().filter(|pod| !done(pod));
    live.filter_map(|pod| Some((pod.metadata.name.clone()?, created_at(&pod.metadata)?))).collect()
}

/// When an object was made, in the core's time.
fn created_at(meta: &ObjectMeta) -> Option<DateTime<Utc>> {
    meta.creation_timestamp.as_ref().and_then(|time| DateTime::from_timestamp_millis(time.0.as_millisecond()))
}

fn revision(rollout: &str, meta: &ObjectMeta) -> Option<RevisionId> {
    let ours = label(meta, ROLLOUT_LABEL) == Some(rollout);
    label(meta, REVISION_LABEL).filter(|_| ours).map(RevisionId::new)
}

pub(super) fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

pub(super) fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
