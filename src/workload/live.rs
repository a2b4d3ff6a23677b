//! Where the objects of a view come from: live lists of one rollout, or stores that a watch keeps for all of them.
//! Reads only. Stores hold trimmed objects: what no view reads is dropped before it is kept.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, select_all};
use futures::{StreamExt, TryFutureExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use rollout_core::revision::RevisionId;
use serde::de::DeserializeOwned;
use tracing::warn;

use super::error::WorkloadError;
use super::view::{Foreign, Owned, SERVICE_NAME, label};
use super::{Owner, ROLLOUT_LABEL, control_name};

/// Longest wait for one call.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A dead watch is noticed this long, plus five seconds, after its last sign of life, in seconds.
const WATCH_TIMEOUT: u32 = 60;

/// What a watch keeps of all rollouts.
#[derive(Clone)]
pub struct Stores {
    deployments: Store<Deployment>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    pods: Store<Pod>,
}

/// A rollout of which some object changed: namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Touched {
    /// Namespace of the rollout.
    pub namespace: String,
    /// Name of the rollout.
    pub name: String,
}

impl Stores {
    /// Starts to watch labelled objects in `namespace`, or in all of them; the stream must be polled for the stores to follow, and ends
    /// never. Errors are logged and retried with backoff.
    pub fn watch(client: &Client, namespace: Option<&str>) -> (Self, BoxStream<'static, Touched>) {
        let (deployments, one) = follow(client, namespace, |deployment: &mut Deployment| trim_meta(deployment));
        let (services, two) = follow(client, namespace, |service: &mut Service| trim_meta(service));
        let (slices, three) = follow(client, namespace, |slice: &mut EndpointSlice| trim_meta(slice));
        let (pods, four) = follow(client, namespace, trim_pod);
        (Self { deployments, services, slices, pods }, select_all([one, two, three, four]).boxed())
    }

    /// Returns when every store has been filled once.
    pub async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.deployments.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.slices.wait_until_ready().await?;
        self.pods.wait_until_ready().await
    }
}

/// The objects of one rollout, from stores: fast, and as old as the watch.
pub fn owned_from(stores: &Stores, owner: &Owner) -> Owned {
    Owned {
        deployments: of(&stores.deployments, owner),
        services: of(&stores.services, owner),
        slices: of(&stores.slices, owner),
        pods: of(&stores.pods, owner),
    }
}

/// The objects of one rollout, listed live: for decisions that may raise.
pub async fn owned(client: &Client, owner: &Owner) -> Result<Owned, WorkloadError> {
    let selector = format!("{ROLLOUT_LABEL}={}", owner.name);
    let (deployments, services, slices, pods) = tokio::try_join!(
        list(client, &owner.namespace, &selector),
        list(client, &owner.namespace, &selector),
        list(client, &owner.namespace, &selector),
        list(client, &owner.namespace, &selector),
    )?;
    Ok(Owned { deployments, services, slices, pods })
}

/// What belongs to a Service that the user runs, read live; `revision` is how the rollout calls it.
pub async fn foreign(client: &Client, owner: &Owner, revision: &RevisionId, service: &str) -> Result<Foreign, WorkloadError> {
    let namespace = owner.namespace.as_str();
    let slices = format!("{SERVICE_NAME}={service}");
    let control = control_name(&owner.name, revision);
    let (found, control, slices) = tokio::try_join!(
        get::<Service>(client, namespace, service),
        get::<Service>(client, namespace, &control),
        list(client, namespace, &slices),
    )?;
    let selector = found.as_ref().and_then(|service| service.spec.as_ref()?.selector.as_ref()).filter(|selector| !selector.is_empty());
    let pods = match selector {
        Some(selector) => {
            let words: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            list(client, namespace, &words.join(",")).await?
        }
        None => Vec::new(),
    };
    Ok(Foreign { service: found.map(Arc::new), slices, pods, control_exists: control.is_some() })
}

/// Every Service of a namespace, read live, for [`super::foreign_selectors`].
pub async fn all_services(client: &Client, namespace: &str) -> Result<Vec<Arc<Service>>, WorkloadError> {
    list(client, namespace, "").await
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

async fn get<K>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, WorkloadError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let object = format!("{} {name}", K::kind(&()));
    let call = api.get_opt(name).map_err(|error| WorkloadError::of_call("get", &object, &error));
    let late = || WorkloadError::Timeout { call: "get", object: object.clone(), seconds: TIMEOUT.as_secs() };
    tokio::time::timeout(TIMEOUT, call).await.map_err(|_| late())?
}

fn of<K>(store: &Store<K>, owner: &Owner) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let own = |object: &K| {
        object.meta().namespace.as_deref() == Some(owner.namespace.as_str())
            && label(object.meta(), ROLLOUT_LABEL) == Some(owner.name.as_str())
    };
    store.state().into_iter().filter(|object| own(object)).collect()
}

fn follow<K>(client: &Client, namespace: Option<&str>, trim: fn(&mut K)) -> (Store<K>, BoxStream<'static, Touched>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let config = watcher::Config::default().labels(ROLLOUT_LABEL).timeout(WATCH_TIMEOUT).page_size(50);
    let (store, writer) = reflector::store();
    let events = watcher(api, config).default_backoff().modify(trim).reflect(writer).touched_objects();
    let touched = events.filter_map(async |event| match event {
        Ok(object) => touched(&object),
        Err(error) => {
            warn!(kind = %K::kind(&()), %error, "a watch of workloads was interrupted; it starts again");
            None
        }
    });
    (store, touched.boxed())
}

fn touched<K: Resource>(object: &K) -> Option<Touched> {
    let name = label(object.meta(), ROLLOUT_LABEL)?.to_owned();
    Some(Touched { namespace: object.namespace()?, name })
}

fn trim_meta<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    object.meta_mut().annotations = None;
}

/// Of a pod's spec only the memory limits are read.
fn trim_pod(pod: &mut Pod) {
    trim_meta(pod);
    if let Some(spec) = &mut pod.spec {
        let containers = std::mem::take(&mut spec.containers);
        let slim = containers.into_iter().map(|one| k8s_openapi::api::core::v1::Container {
            name: one.name,
            resources: one.resources,
            ..Default::default()
        });
        *spec = k8s_openapi::api::core::v1::PodSpec { containers: slim.collect(), ..Default::default() };
    }
}
