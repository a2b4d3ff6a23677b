//! What watches keep in memory: rollouts, policies, routes, and what runs revisions; and who to wake when one of them changes.
//! Copies may be old: they lower exposure and trigger looks, they never raise.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Service;
use kube::api::DynamicObject;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use rollout_core::revision::RevisionId;
use rollout_core::spec::PolicySpec;
use serde_json::Value;
use thiserror::Error;
use tracing::warn;

use crate::api::{EvaluationPolicy, ModelRollout};
use crate::gateway;
use crate::tracker::Key;
use crate::workload::{self, Foreign, Group, Owned, Owner, REVISION_LABEL, ROLLOUT_LABEL};

/// A dead watch is noticed this many seconds, plus five, after its last sign of life.
const WATCH_TIMEOUT: u32 = 60;
/// Objects in a page of a list.
const PAGE: u32 = 50;

/// Rollouts as the controller's own watch keeps them.
pub type Rollouts = Store<DeserializeGuard<ModelRollout>>;

/// A watch has ended, so that what it kept follows the cluster no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a watch has ended; what it kept is no longer true")]
pub struct WatchEnded;

struct Scope {
    namespace: Option<String>,
    policies: Store<DeserializeGuard<EvaluationPolicy>>,
    routes: Store<DynamicObject>,
    records: Store<ControllerRevision>,
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

    /// The route of a rollout as last seen; without `managedFields`.
    pub fn route(&self, key: &Key) -> Option<Value> {
        let name = self.route_name(key);
        let routes = &self.scope(&key.namespace)?.routes;
        let wanted = ObjectRef::new_with(&name, gateway::resource()).within(&key.namespace);
        serde_json::to_value(routes.get(&wanted)?.as_ref()).ok()
    }

    /// Every other route of the namespace, for the check that no other route answers the same requests.
    pub fn other_routes(&self, key: &Key, own: &str) -> Vec<Value> {
        let Some(scope) = self.scope(&key.namespace) else { return Vec::new() };
        let other = |route: &Arc<DynamicObject>| route.namespace().as_deref() == Some(key.namespace.as_str()) && route.name_any() != own;
        scope.routes.state().iter().filter(|r| other(r)).filter_map(|r| serde_json::to_value(r.as_ref()).ok()).collect()
    }

    /// Name of the route that a rollout uses: the adopted one, else its own name.
    pub fn route_name(&self, key: &Key) -> String {
        let rollout = self.rollouts.get().and_then(|r| r.get(&ObjectRef::new(&key.name).within(&key.namespace)));
        let adopted = rollout.and_then(|r| r.0.as_ref().ok()?.spec.route.adopt.as_ref().map(|a| a.name.clone()));
        adopted.unwrap_or_else(|| key.name.clone())
    }

    /// Revisions on record for a rollout.
    pub fn recorded(&self, key: &Key) -> BTreeSet<RevisionId> {
        let Some(scope) = self.scope(&key.namespace) else { return BTreeSet::new() };
        let of = |record: &Arc<ControllerRevision>| {
            let mine =
                record.namespace().as_deref() == Some(key.namespace.as_str()) && record.labels().get(ROLLOUT_LABEL) == Some(&key.name);
            mine.then(|| record.labels().get(REVISION_LABEL).cloned()).flatten().map(RevisionId::new)
        };
        scope.records.state().iter().filter_map(of).collect()
    }

    /// Workloads, Services, slices and pods of a rollout.
    pub fn owned(&self, owner: &Owner) -> Owned {
        self.scope(&owner.namespace).map(|s| s.workloads.owned(owner)).unwrap_or_default()
    }

    /// A Service that the user runs, with its slices; its pods are not watched and left out.
    pub fn foreign(&self, owner: &Owner, revision: &RevisionId, service: &str) -> Foreign {
        self.scope(&owner.namespace).map(|s| s.workloads.foreign(owner, revision, service)).unwrap_or_default()
    }

    /// Every Service of a namespace.
    pub fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        self.scope(namespace).map(|s| s.workloads.services(namespace)).unwrap_or_default()
    }

    /// Rollouts that a change may concern.
    fn concerned(&self, touched: &Touched) -> Vec<Key> {
        let key = |namespace: &str, name: &str| Key { namespace: namespace.to_owned(), name: name.to_owned() };
        // A walk over all rollouts that copies only what it finds: for a thousand of them it takes microseconds.
        let users = |namespace: &str, uses: &dyn Fn(&ModelRollout) -> bool| -> Vec<Key> {
            let mine =
                |one: &DeserializeGuard<ModelRollout>| one.meta().namespace.as_deref() == Some(namespace) && one.0.as_ref().is_ok_and(uses);
            let found = self.rollouts.get().map(|all| all.state_filter(mine)).unwrap_or_default();
            found.iter().map(|one| key(namespace, &one.name_any())).collect()
        };
        match touched {
            Touched::Child { namespace, rollout } => vec![key(namespace, rollout)],
            Touched::Service { namespace, name } => users(namespace, &|r| uses_service(r, name)),
            Touched::Policy { namespace, name } => users(namespace, &|r| r.spec.policy_ref.name == *name),
            Touched::Route { namespace, name } => users(namespace, &|r| match &r.spec.route.adopt {
                Some(adopted) => adopted.name == *name,
                None => r.metadata.name.as_ref() == Some(name),
            }),
        }
    }
}

/// Whether a rollout serves, tries, keeps or compares with the Service of this name, or is about to.
fn uses_service(rollout: &ModelRollout, service: &str) -> bool {
    let spec = &rollout.spec;
    let meant = [spec.baseline.as_ref().map(|b| &b.backend_ref), spec.workload.backend_ref.as_ref()];
    let status = rollout.status.as_ref();
    let arms = [status.and_then(|s| s.stable.as_ref()), status.and_then(|s| s.candidate.as_ref())];
    let previous = status.and_then(|s| s.probation.as_ref()).map(|p| &p.previous);
    meant.into_iter().flatten().any(|backend| backend.name == service)
        || arms.into_iter().chain([previous]).flatten().any(|arm| arm.service == service)
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
        }
    }
}

impl Scope {
    async fn ready(&self) -> Result<(), WatchEnded> {
        self.policies.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.routes.wait_until_ready().await.map_err(|_| WatchEnded)?;
        self.records.wait_until_ready().await.map_err(|_| WatchEnded)?;
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

        let writer = reflector::store::Writer::new(gateway::resource());
        let routes = writer.as_reader();
        let api = gateway::api(client, namespace.as_deref());
        let trim = |route: &mut DynamicObject| route.metadata.managed_fields = None;
        let of_routes = watcher(api, config.clone()).default_backoff().modify(trim).reflect(writer).touched_objects();
        let of_routes = quiet(of_routes, "HTTPRoute", |r| Some(Touched::Route { namespace: r.namespace()?, name: r.name_any() }));

        let (records, writer) = reflector::store();
        let api: Api<ControllerRevision> = match &namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let trim = |record: &mut ControllerRevision| {
            record.metadata.managed_fields = None;
            record.data = None;
        };
        let of_records = watcher(api, config.labels(ROLLOUT_LABEL)).default_backoff().modify(trim).reflect(writer).touched_objects();
        let of_records = quiet(of_records, "ControllerRevision", |r| {
            Some(Touched::Child { namespace: r.namespace()?, rollout: r.labels().get(ROLLOUT_LABEL)?.clone() })
        });

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

/// Drops what nobody reads from a rollout before it is kept.
pub fn trim_rollout(rollout: &mut DeserializeGuard<ModelRollout>) {
    rollout.meta_mut().managed_fields = None;
    if let Ok(rollout) = &mut rollout.0 {
        rollout.spec.workload.template = None;
        rollout.spec.route.template = None;
        if let Some(status) = &mut rollout.status {
            status.checkpoint = None;
            status.decisions.clear();
            status.evidence.clear();
        }
    }
}

/// How long a start waits for the stores.
pub const FILL_TIMEOUT: Duration = Duration::from_mins(1);

#[cfg(test)]
#[path = "stores_tests.rs"]
mod tests;
