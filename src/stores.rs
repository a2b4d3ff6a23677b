//! What watches keep in memory: rollouts, policies, routes, and what belongs to revisions; and who to wake when one of them changes.
//! Copies may be old: they lower exposure and trigger looks, they never raise.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::DynamicObject;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use rollout_core::revision::RevisionId;
use rollout_core::spec::PolicySpec;
use serde_json::Value;
use tracing::warn;

use crate::api::{EvaluationPolicy, ModelRollout};
use crate::gateway;
use crate::tracker::Key;
use crate::workload::{self, Owned, Owner, REVISION_LABEL, ROLLOUT_LABEL};

/// A dead watch is noticed this many seconds, plus five, after its last sign of life.
const WATCH_TIMEOUT: u32 = 60;
/// Objects in a page of a list.
const PAGE: u32 = 50;

/// Rollouts as the controller's own watch keeps them.
pub type Rollouts = Store<DeserializeGuard<ModelRollout>>;

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
        let stores = Arc::new(Self { scopes, rollouts: OnceLock::new() });
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

    /// Returns when every store but that of the rollouts has been filled once.
    pub async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        for scope in &self.scopes {
            scope.policies.wait_until_ready().await?;
            scope.routes.wait_until_ready().await?;
            scope.records.wait_until_ready().await?;
            scope.workloads.ready().await?;
        }
        Ok(())
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
    pub fn recorded(&self, key: &Key) -> std::collections::BTreeSet<RevisionId> {
        let Some(scope) = self.scope(&key.namespace) else { return std::collections::BTreeSet::new() };
        let of = |record: &Arc<ControllerRevision>| {
            let mine =
                record.namespace().as_deref() == Some(key.namespace.as_str()) && record.labels().get(ROLLOUT_LABEL) == Some(&key.name);
            mine.then(|| record.labels().get(REVISION_LABEL).cloned()).flatten().map(RevisionId::new)
        };
        scope.records.state().iter().filter_map(of).collect()
    }

    /// Workloads, Services, slices and pods of a rollout.
    pub fn owned(&self, owner: &Owner) -> Owned {
        self.scope(&owner.namespace).map(|s| workload::owned_from(&s.workloads, owner)).unwrap_or_default()
    }

    /// Rollouts that a change may concern.
    fn concerned(&self, touched: &Touched) -> Vec<Key> {
        let all = || self.rollouts.get().map(Store::state).unwrap_or_default();
        let key = |namespace: &str, name: &str| Key { namespace: namespace.to_owned(), name: name.to_owned() };
        let users = |namespace: &str, uses: &dyn Fn(&ModelRollout) -> bool| -> Vec<Key> {
            let mine = all().into_iter().filter_map(|guard| guard.0.as_ref().ok().cloned());
            mine.filter(|r| r.namespace().as_deref() == Some(namespace) && uses(r)).map(|r| key(namespace, &r.name_any())).collect()
        };
        match touched {
            Touched::Child { namespace, rollout } => vec![key(namespace, rollout)],
            Touched::Policy { namespace, name } => users(namespace, &|r| r.spec.policy_ref.name == *name),
            Touched::Route { namespace, name } => users(namespace, &|r| match &r.spec.route.adopt {
                Some(adopted) => adopted.name == *name,
                None => r.name_any() == *name,
            }),
        }
    }
}

/// What a watch saw change.
enum Touched {
    Child { namespace: String, rollout: String },
    Policy { namespace: String, name: String },
    Route { namespace: String, name: String },
}

impl Scope {
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
        let of_workloads = of_workloads.map(|t| Touched::Child { namespace: t.namespace, rollout: t.name }).boxed();
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
