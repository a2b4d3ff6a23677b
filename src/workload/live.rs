//! Where the objects of a view come from: stores that a watch keeps for all rollouts, and live lists where a store is not enough.
//! Reads only. Stores hold trimmed objects: what no view reads is dropped before it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, select_all};
use futures::{StreamExt, TryFutureExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus};
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, ObjectReference, Pod, PodCondition, PodSpec, PodStatus, Service, ServiceSpec,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use rollout_core::revision::RevisionId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch::error::RecvError;
use tracing::warn;

use crate::index::{Group, Index, Sorting, index, mark};

use super::cause::{self, Tripped};
use super::error::WorkloadError;
use super::view::{Foreign, Owned, SERVICE_NAME, label, name, ready_endpoints};
use super::{Owner, REVISION_LABEL, ROLLOUT_LABEL, control_name, deployment};

/// Longest wait for one call.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A dead watch is noticed this long, plus five seconds, after its last sign of life, in seconds.
const WATCH_TIMEOUT: u32 = 60;
/// Objects in a page of a list: Services and slices are those of the whole cluster.
const PAGE: u32 = 250;
/// What labels of ours start with.
const OUR_LABELS: &str = "espalier.dev/";

/// What a watch keeps: workloads and pods of all rollouts, and every Service and slice, since users bring Services of their own.
#[derive(Clone)]
pub struct Stores {
    deployments: Index<Deployment>,
    services: Index<Service>,
    slices: Index<EndpointSlice>,
    pods: Index<Pod>,
}

/// Something changed in a group of objects; which rollouts that concerns is for those to say who know what a rollout uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Namespace of the objects, and of every rollout that uses them.
    pub namespace: String,
    /// What they have in common.
    pub group: Group,
}

impl Stores {
    /// Starts to watch in `namespace`, or in all of them; the stream must be polled for the stores to follow, and ends never. Errors are
    /// logged and retried with backoff.
    pub fn watch(client: &Client, namespace: Option<&str>) -> (Self, BoxStream<'static, Touched>) {
        let labelled = watcher::Config::default().labels(ROLLOUT_LABEL).timeout(WATCH_TIMEOUT).page_size(PAGE);
        let every = watcher::Config::default().timeout(WATCH_TIMEOUT).page_size(PAGE);
        let by_rollout = Sorting::by(|one: &Deployment| of_rollout(&one.metadata));
        let (deployments, one) = follow(client, namespace, labelled.clone(), trim_deployment, by_rollout);
        let by_service = Sorting { groups: groups_of_service, mark: mark_of_service };
        let (services, two) = follow(client, namespace, every.clone(), trim_service, by_service);
        let (slices, three) = follow(client, namespace, every, trim_slice, Sorting::by(groups_of_slice));
        let (pods, four) = follow(client, namespace, labelled, trim_pod, Sorting::by(|one: &Pod| of_rollout(&one.metadata)));
        (Self { deployments, services, slices, pods }, select_all([one, two, three, four]).boxed())
    }

    /// Returns when every store has been filled once.
    pub async fn ready(&self) -> Result<(), RecvError> {
        self.deployments.ready().await?;
        self.services.ready().await?;
        self.slices.ready().await?;
        self.pods.ready().await
    }

    /// The objects of one rollout, as old as the watch.
    pub fn owned(&self, owner: &Owner) -> Owned {
        let (namespace, group) = (owner.namespace.as_str(), Group::Rollout(owner.name.clone()));
        Owned {
            deployments: self.deployments.group(namespace, &group),
            services: self.services.group(namespace, &group),
            slices: self.slices.group(namespace, &group),
            pods: self.pods.group(namespace, &group),
        }
    }

    /// What belongs to a Service that the user runs, its pods left out; `revision` is how the rollout calls it. As old as the watch.
    pub fn foreign(&self, owner: &Owner, revision: &RevisionId, service: &str) -> Foreign {
        let namespace = owner.namespace.as_str();
        Foreign {
            service: self.services.get(namespace, service),
            slices: self.slices.group(namespace, &Group::Service(service.to_owned())),
            pods: Vec::new(),
            control_exists: self.services.get(namespace, &control_name(&owner.name, revision)).is_some(),
        }
    }

    /// Every Service of a namespace that may select pods of `rollout`, for [`super::foreign_selectors`]: not those that want pods of another.
    pub fn services(&self, namespace: &str, rollout: &str) -> impl Iterator<Item = Arc<Service>> {
        self.services.marked(namespace, &BTreeSet::from([mark(rollout)]))
    }
}

/// Pods that a Service selects, listed live, since nobody watches pods that are not ours; none without a selector.
pub async fn selected_pods(client: &Client, namespace: &str, service: &Service) -> Result<Vec<Arc<Pod>>, WorkloadError> {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
    let Some(selector) = selector else { return Ok(Vec::new()) };
    let words: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    list(client, namespace, &words.join(",")).await
}

/// What the pods of a revision that we label have tripped, listed live: for decisions that raise.
pub async fn tripped_now(client: &Client, owner: &Owner, revision: &RevisionId) -> Result<Tripped, WorkloadError> {
    let labels = format!("{ROLLOUT_LABEL}={},{REVISION_LABEL}={revision}", owner.name);
    let pods: Vec<Arc<Pod>> = list(client, &owner.namespace, &labels).await?;
    Ok(cause::tripped(pods.iter().map(AsRef::as_ref)))
}

/// Ready endpoints of a Service, counted live: for decisions that raise.
pub async fn ready_now(client: &Client, namespace: &str, service: &str) -> Result<i32, WorkloadError> {
    let slices: Vec<Arc<EndpointSlice>> = list(client, namespace, &format!("{SERVICE_NAME}={service}")).await?;
    Ok(ready_endpoints(service, slices.iter().map(AsRef::as_ref)))
}

async fn list<K>(client: &Client, namespace: &str, selector: &str) -> Result<Vec<Arc<K>>, WorkloadError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let object = format!("{} {selector}", K::plural(&()));
    let params = ListParams::default().labels(selector);
    let call = api.list(&params).map_err(|error| WorkloadError::of_call("list", &object, &error));
    let late = || WorkloadError::Timeout { call: "list", object: object.clone(), seconds: TIMEOUT.as_secs() };
    let found = tokio::time::timeout(TIMEOUT, call).await.map_err(|_| late())??;
    Ok(found.items.into_iter().map(Arc::new).collect())
}

fn follow<K>(
    client: &Client,
    namespace: Option<&str>,
    config: watcher::Config,
    trim: fn(&mut K),
    sorting: Sorting<K>,
) -> (Index<K>, BoxStream<'static, Touched>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (kept, mut writer) = index(sorting);
    let events = watcher(api, config).default_backoff().modify(trim).flat_map(move |event| {
        let concerned = match event {
            Ok(event) => writer.apply(&event),
            Err(error) => {
                warn!(kind = %K::kind(&()), %error, "a watch of workloads was interrupted; it starts again");
                BTreeSet::new()
            }
        };
        stream::iter(concerned.into_iter().map(|(namespace, group)| Touched { namespace, group }))
    });
    (kept, events.boxed())
}

fn of_rollout(meta: &ObjectMeta) -> Vec<Group> {
    label(meta, ROLLOUT_LABEL).map(|name| Group::Rollout(name.to_owned())).into_iter().collect()
}

fn groups_of_service(service: &Service) -> Vec<Group> {
    let itself = Group::Service(name(&service.metadata).to_owned());
    of_rollout(&service.metadata).into_iter().chain([itself]).collect()
}

fn groups_of_slice(slice: &EndpointSlice) -> Vec<Group> {
    let service = label(&slice.metadata, SERVICE_NAME).map(|name| Group::Service(name.to_owned()));
    of_rollout(&slice.metadata).into_iter().chain(service).collect()
}

/// The rollout whose pods a Service selects; a Service that names none may select any pod.
fn mark_of_service(service: &Service) -> u64 {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.and_then(|selector| selector.get(ROLLOUT_LABEL)).map_or(0, |rollout| mark(rollout))
}

/// Of a Deployment is read how many pods it wants, and what it says of itself when it cannot go on.
fn trim_deployment(deployment: &mut Deployment) {
    trim_child(&mut deployment.metadata);
    deployment.spec = deployment.spec.take().map(|spec| DeploymentSpec { replicas: spec.replicas, ..Default::default() });
    let telling = deployment.status.take().and_then(|status| status.conditions).map(|mut all| {
        all.retain(deployment::is_telling);
        all
    });
    deployment.status = Some(DeploymentStatus { conditions: telling.filter(|all| !all.is_empty()), ..Default::default() });
}

/// Of a child of ours: its name, when it was made and when it goes, and the labels that are read.
fn trim_child(meta: &mut ObjectMeta) {
    let (made, goes) = (meta.creation_timestamp.take(), meta.deletion_timestamp.take());
    trim_to_name(meta);
    (meta.creation_timestamp, meta.deletion_timestamp) = (made, goes);
}

/// Of an object that may be anybody's: what names it, its version, and the labels that are read.
fn trim_to_name(meta: &mut ObjectMeta) {
    let mut all = std::mem::take(meta);
    let labels: Option<BTreeMap<String, String>> = all.labels.take().map(|mut labels| {
        labels.retain(|key, _| key.starts_with(OUR_LABELS) || key == SERVICE_NAME);
        labels
    });
    *meta = ObjectMeta { name: all.name, namespace: all.namespace, resource_version: all.resource_version, labels, ..Default::default() };
}

/// Of a Service only the selector is read.
fn trim_service(service: &mut Service) {
    trim_to_name(&mut service.metadata);
    service.status = None;
    service.spec = service.spec.take().map(|spec| ServiceSpec { selector: spec.selector, ..Default::default() });
}

/// Of an endpoint is read who it is and how it does; an address only stands in for a name.
fn trim_slice(slice: &mut EndpointSlice) {
    trim_to_name(&mut slice.metadata);
    slice.ports = None;
    let endpoints = std::mem::take(&mut slice.endpoints).into_iter().map(|one| {
        let target = one.target_ref.map(|target| ObjectReference { kind: target.kind, name: target.name, ..Default::default() });
        let named = target.as_ref().is_some_and(|target| target.name.is_some());
        let addresses = if named { Vec::new() } else { one.addresses.into_iter().take(1).collect() };
        Endpoint { addresses, conditions: one.conditions, target_ref: target, ..Default::default() }
    });
    slice.endpoints = endpoints.collect();
}

/// Of a pod's spec only the memory limits are read, and of its status what explains why it is not ready.
fn trim_pod(pod: &mut Pod) {
    trim_child(&mut pod.metadata);
    if let Some(spec) = &mut pod.spec {
        let containers = std::mem::take(&mut spec.containers);
        let slim = containers.into_iter().map(|one| Container { name: one.name, resources: one.resources, ..Default::default() });
        *spec = PodSpec { containers: slim.collect(), ..Default::default() };
    }
    if let Some(status) = pod.status.take() {
        let slim = |mut one: ContainerStatus| {
            (one.allocated_resources, one.allocated_resources_status, one.resources, one.volume_mounts) = (None, None, None, None);
            (one.container_id, one.image_id, one.user) = (None, String::new(), None);
            one
        };
        let conditions = status.conditions.map(|all| all.into_iter().map(slim_condition).collect());
        pod.status = Some(PodStatus {
            phase: status.phase,
            reason: status.reason,
            message: status.message,
            conditions,
            container_statuses: status.container_statuses.map(|all| all.into_iter().map(slim).collect()),
            init_container_statuses: status.init_container_statuses.map(|all| all.into_iter().map(slim).collect()),
            ..Default::default()
        });
    }
}

fn slim_condition(one: PodCondition) -> PodCondition {
    PodCondition { type_: one.type_, status: one.status, reason: one.reason, message: one.message, ..Default::default() }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
