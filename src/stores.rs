//! What watches keep in memory: rollouts, policies, routes, and what runs revisions; and who to wake when one of them changes.
//! Copies may be old: they lower exposure and trigger looks, they never raise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{DynamicObject, ObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use rollout_core::revision::RevisionId;
use rollout_core::spec::PolicySpec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use tracing::warn;

use crate::api::EvaluationPolicy;
use crate::card::{Card, Uses};
use crate::gateway;
use crate::index::{Group, Index, Sorting, index, mark};
use crate::tracker::Key;
use crate::workload::{self, Foreign, Owned, Owner, REVISION_LABEL, ROLLOUT_LABEL};

/// A dead watch is noticed this many seconds, plus five, after its last sign of life.
const WATCH_TIMEOUT: u32 = 60;
/// Objects in a page of a list.
const PAGE: u32 = 50;

/// Rollouts as the controller's own watch keeps them.
pub type Rollouts = Store<Card>;

/// A watch has ended, so that what it kept follows the cluster no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a watch has ended; what it kept is no longer true")]
pub struct WatchEnded;

struct Scope {
    namespace: Option<String>,
    policies: Store<DeserializeGuard<EvaluationPolicy>>,
    routes: Index<DynamicObject>,
    records: Index<ControllerRevision>,
    workloads: workload::Stores,
}

/// All stores, for every watched namespace.
pub struct Stores {
    scopes: Vec<Scope>,
    rollouts: OnceLock<Rollouts>,
    filled: tokio::sync::watch::Sender<bool>,
}

/// Rollouts to look at, as watches report changes of what belongs to them.
pub type Wakes = BoxStream<'static, Key>;

impl Stores {
    /// Starts the watches; the stream must be polled for the stores to follow.
    pub fn watch(client: &Client, namespaces: &[Option<String>]) -> (Arc<Self>, Wakes) {
        let mut scopes = Vec::new();
        let mut touched: Vec<BoxStream<'static, Touched>> = Vec::new();
        for namespace in namespaces {
            let (scope, events) = Scope::watch(client, namespace.clone());
            scopes.push(scope);
            touched.push(events);
        }
        let stores = Arc::new(Self { scopes, rollouts: OnceLock::new(), filled: tokio::sync::watch::Sender::new(false) });
        let all = Arc::clone(&stores);
        let wakes = stream::select_all(touched).flat_map(move |event| stream::iter(all.concerned(&event))).boxed();
        (stores, wakes)
    }

    /// Tells the stores where the controller keeps the rollouts.
    pub fn set_rollouts(&self, rollouts: Rollouts) {
        if self.rollouts.set(rollouts).is_err() {
            warn!("the store of rollouts was set twice; the first one stays");
        }
    }

    /// Whether a rollout is there, as far as its watch knows; before that is filled every one may be.
    pub fn may_have(&self, key: &Key) -> bool {
        self.rollouts.get().is_none_or(|rollouts| rollouts.get(&ObjectRef::new(&key.name).within(&key.namespace)).is_some())
    }

    /// Returns when every store but that of the rollouts has been filled once, and lets those go on who wait for that. For one task alone:
    /// kube's stores wake only the last of several that wait for them.
    pub async fn fill(&self) -> Result<(), WatchEnded> {
        for scope in &self.scopes {
            scope.ready().await?;
        }
        self.filled.send_replace(true);
        Ok(())
    }

    /// Returns when [`Self::fill`] has; any number of tasks may wait.
    pub async fn filled(&self) -> Result<(), WatchEnded> {
        self.filled.subscribe().wait_for(|filled| *filled).await.map(drop).map_err(|_| WatchEnded)
    }

    fn scope(&self, namespace: &str) -> Option<&Scope> {
        self.scopes.iter().find(|s| s.namespace.as_deref().is_none_or(|n| n == namespace))
    }

    /// The policy of this name: generation and spec, or why it cannot be read.
    pub fn policy(&self, namespace: &str, name: &str) -> Option<Result<(i64, PolicySpec), String>> {
        let found = self.scope(namespace)?.policies.get(&ObjectRef::new(name).within(namespace))?;
        Some(match &found.0 {
            Ok(policy) => Ok((policy.metadata.generation.unwrap_or(0), policy.spec.clone())),
            Err(invalid) => Err(invalid.error.clone()),
        })
    }

    /// The route of a rollout as last seen; without `managedFields` and without what gateways say of it.
    pub fn route(&self, key: &Key) -> Option<Value> {
        let found = self.scope(&key.namespace)?.routes.get(&key.namespace, &self.route_name(key))?;
        serde_json::to_value(found.as_ref()).ok()
    }

    /// Routes of the namespace beside `own` that may answer for one of these hosts, for the check that no other route answers the same
    /// requests. One at a time: together they may be larger than everything else that is held.
    pub fn other_routes(&self, key: &Key, own: &str, hosts: &[&str]) -> impl Iterator<Item = Value> {
        let marks = hosts.iter().map(|host| mark(host)).collect();
        let found = self.scope(&key.namespace).map(|scope| scope.routes.marked(&key.namespace, &marks));
        let other = move |route: &Arc<DynamicObject>| route.metadata.name.as_deref() != Some(own);
        found.into_iter().flatten().filter(other).filter_map(|route| serde_json::to_value(route.as_ref()).ok())
    }

    /// Name of the route that a rollout uses: the adopted one, else its own name.
    pub fn route_name(&self, key: &Key) -> String {
        let rollout = self.rollouts.get().and_then(|r| r.get(&ObjectRef::new(&key.name).within(&key.namespace)));
        let adopted = rollout.and_then(|r| r.uses.as_ref().ok()?.adopted.as_deref().map(str::to_owned));
        adopted.unwrap_or_else(|| key.name.clone())
    }

    /// Revisions on record for a rollout, each with the matchers that were written with it: empty for pods that we label.
    pub fn recorded(&self, key: &Key) -> BTreeMap<RevisionId, BTreeMap<String, String>> {
        let Some(scope) = self.scope(&key.namespace) else { return BTreeMap::new() };
        let records = scope.records.group(&key.namespace, &Group::Rollout(key.name.clone()));
        records.iter().filter_map(|record| Some((RevisionId::new(record.labels().get(REVISION_LABEL)?), matchers(record)))).collect()
    }

    /// Workloads, Services, slices and pods of a rollout.
    pub fn owned(&self, owner: &Owner) -> Owned {
        self.scope(&owner.namespace).map(|s| s.workloads.owned(owner)).unwrap_or_default()
    }

    /// A Service that the user runs, with its slices; its pods are not watched and left out.
    pub fn foreign(&self, owner: &Owner, revision: &RevisionId, service: &str) -> Foreign {
        self.scope(&owner.namespace).map(|s| s.workloads.foreign(owner, revision, service)).unwrap_or_default()
    }

    /// Every Service of a namespace that may select pods of `rollout`.
    pub fn services(&self, namespace: &str, rollout: &str) -> impl Iterator<Item = Arc<Service>> {
        self.scope(namespace).map(|scope| scope.workloads.services(namespace, rollout)).into_iter().flatten()
    }

    /// Rollouts that a change may concern.
    fn concerned(&self, touched: &Touched) -> Vec<Key> {
        let key = |namespace: &str, name: &str| Key { namespace: namespace.to_owned(), name: name.to_owned() };
        // A walk over all rollouts that copies only what it finds: for a thousand of them it takes microseconds.
        let users = |namespace: &str, uses: &dyn Fn(&Uses, &Card) -> bool| -> Vec<Key> {
            let mine = |one: &Card| one.meta().namespace.as_deref() == Some(namespace) && one.uses.as_ref().is_ok_and(|all| uses(all, one));
            let found = self.rollouts.get().map(|all| all.state_filter(mine)).unwrap_or_default();
            found.iter().map(|one| key(namespace, &one.name_any())).collect()
        };
        match touched {
            Touched::Child { namespace, rollout } => vec![key(namespace, rollout)],
            Touched::Service { namespace, name } => users(namespace, &|all, _| all.services.iter().any(|one| **one == **name)),
            Touched::Policy { namespace, name } => users(namespace, &|all, _| *all.policy == **name),
            Touched::Route { namespace, name } => users(namespace, &|all, one| match &all.adopted {
                Some(adopted) => **adopted == **name,
                None => one.meta().name.as_ref() == Some(name),
            }),
        }
    }
}

/// What a watch saw change.
enum Touched {
    Child { namespace: String, rollout: String },
    Service { namespace: String, name: String },
    Policy { namespace: String, name: String },
    Route { namespace: String, name: String },
}

impl From<workload::Touched> for Touched {
    fn from(touched: workload::Touched) -> Self {
        let namespace = touched.namespace;
        match touched.group {
            Group::Rollout(rollout) => Self::Child { namespace, rollout },
            Group::Service(name) => Self::Service { namespace, name },
            Group::Route(name) => Self::Route { namespace, name },
        }
    }
}

impl Scope {
    async fn ready(&self) -> Result<(), WatchEnded> {
        self.policies.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.routes.ready().await.map_err(|_| WatchEnded)?;
        self.records.ready().await.map_err(|_| WatchEnded)?;
        self.workloads.ready().await.map_err(|_| WatchEnded)
    }

    fn watch(client: &Client, namespace: Option<String>) -> (Self, BoxStream<'static, Touched>) {
        let config = watcher::Config::default().timeout(WATCH_TIMEOUT).page_size(PAGE);
        let (policies, writer) = reflector::store();
        let api: Api<DeserializeGuard<EvaluationPolicy>> = match &namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let of_policies = watcher(api, config.clone()).default_backoff().reflect(writer).touched_objects();
        let of_policies =
            quiet(of_policies, "EvaluationPolicy", |p| Some(Touched::Policy { namespace: p.namespace()?, name: p.name_any() }));

        let of_route = Sorting { groups: |route: &DynamicObject| vec![Group::Route(route.name_any())], mark: mark_of_route };
        let api = gateway::api(client, namespace.as_deref());
        let (routes, of_routes) = follow(watcher(api, config.clone()), "HTTPRoute", gateway::trim, of_route);

        let api: Api<ControllerRevision> = match &namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let of_rollout = Sorting::by(|record: &ControllerRevision| {
            record
                .metadata
                .labels
                .as_ref()
                .and_then(|all| all.get(ROLLOUT_LABEL))
                .map(|name| Group::Rollout(name.clone()))
                .into_iter()
                .collect()
        });
        let events = watcher(api, config.labels(ROLLOUT_LABEL));
        let (records, of_records) = follow(events, "ControllerRevision", trim_record, of_rollout);

        let (workloads, of_workloads) = workload::Stores::watch(client, namespace.as_deref());
        let of_workloads = of_workloads.map(Touched::from).boxed();
        let all = stream::select_all([of_policies, of_routes, of_records, of_workloads]).boxed();
        (Self { namespace, policies, routes, records, workloads }, all)
    }
}

/// Drops errors after saying them; the watch itself backs off and starts again.
fn quiet<K: Send + 'static>(
    events: impl futures::Stream<Item = Result<K, watcher::Error>> + Send + 'static,
    kind: &'static str,
    word: impl Fn(&K) -> Option<Touched> + Send + 'static,
) -> BoxStream<'static, Touched> {
    events
        .inspect_err(move |error| warn!(kind, %error, "a watch was interrupted; it starts again"))
        .filter_map(move |event| std::future::ready(event.ok().and_then(|object| word(&object))))
        .boxed()
}

/// Keeps what a watch tells in an index, and tells what it concerns.
fn follow<K>(
    events: impl futures::Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send + 'static,
    kind: &'static str,
    trim: fn(&mut K),
    sorting: Sorting<K>,
) -> (Index<K>, BoxStream<'static, Touched>)
where
    K: Resource + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let (kept, mut writer) = index(sorting);
    let events = events.default_backoff().modify(trim).flat_map(move |event| {
        let concerned = match event {
            Ok(event) => writer.apply(&event),
            Err(error) => {
                warn!(kind, %error, "a watch was interrupted; it starts again");
                BTreeSet::new()
            }
        };
        stream::iter(concerned.into_iter().map(|(namespace, group)| workload::Touched { namespace, group }.into()))
    });
    (kept, events.boxed())
}

/// The one host of a route; a route for several, for none or for a pattern may compete with any.
fn mark_of_route(route: &DynamicObject) -> u64 {
    let hosts = route.data.pointer("/spec/hostnames").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match hosts {
        [host] => host.as_str().filter(|host| !host.starts_with('*')).map_or(0, mark),
        _ => 0,
    }
}

/// Where a record says by which labels the series of its workload are found.
const MATCHERS: &str = "/workload/matchers";

fn matchers(record: &ControllerRevision) -> BTreeMap<String, String> {
    let found = record.data.as_ref().and_then(|data| data.0.pointer(MATCHERS)).cloned();
    found.and_then(|found| serde_json::from_value(found).ok()).unwrap_or_default()
}

/// Of a record only its labels and its matchers are read.
fn trim_record(record: &mut ControllerRevision) {
    let meta = std::mem::take(&mut record.metadata);
    let kept = matchers(record);
    record.metadata = ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        resource_version: meta.resource_version,
        labels: meta.labels,
        ..ObjectMeta::default()
    };
    record.data = (!kept.is_empty()).then(|| RawExtension(json!({"workload": {"matchers": kept}})));
}

/// How long a start waits for the stores.
pub const FILL_TIMEOUT: Duration = Duration::from_mins(1);

#[cfg(test)]
#[path = "stores_tests.rs"]
mod tests;
