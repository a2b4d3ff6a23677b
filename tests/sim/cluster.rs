//! The cluster's own controllers, as small as they can be: Deployments get pods, Services get slices, routes are accepted, what lost its owner goes.
//! Level-triggered like the real ones, and late like them; decides nothing about exposure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::store::{Change, DEPLOYMENTS, PODS, Place, ROUTES, Resource, SERVICES, SLICES, place, selected, text};
use crate::world::{Task, World};

/// A controller that looks at something.
#[derive(Clone, Debug)]
pub enum Look {
    Deployment(Place),
    Pod(Place),
    Endpoints(String),
    Gateway(Place),
    Orphans(String),
}

/// How a model behaves, by the letter in its URI.
#[derive(Clone, Debug)]
pub struct Model {
    /// Share of wrong answers.
    pub bad: f64,
    /// Watts.
    pub power: f64,
    /// From when on some outputs are not finite.
    pub nonfinite_from: Option<DateTime<Utc>>,
    /// From when on the share of wrong answers is this one.
    pub worse_from: Option<(DateTime<Utc>, f64)>,
    /// Whether it is good in one second and bad in the next: half of the wrong answers of a bad one.
    pub flips: bool,
    /// How long a pod takes until it is ready; `None` is for ever.
    pub startup: Option<TimeDelta>,
    /// How long after its start a pod is killed for memory.
    pub killed_after: Option<TimeDelta>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            bad: 0.02,
            power: 20.0,
            nonfinite_from: None,
            worse_from: None,
            flips: false,
            startup: Some(TimeDelta::seconds(8)),
            killed_after: None,
        }
    }
}

impl Model {
    /// The share of wrong answers at a moment.
    pub fn bad_share(&self, now: DateTime<Utc>) -> f64 {
        if self.flips {
            return if now.timestamp() % 2 == 0 { self.bad } else { 0.3 };
        }
        self.worse_from.filter(|(from, _)| *from <= now).map_or(self.bad, |(_, bad)| bad)
    }
}

pub struct Cluster {
    pub models: BTreeMap<String, Model>,
    pub gateway_delay: TimeDelta,
    /// Whether the gateway refuses every route.
    pub gateway_refuses: bool,
    /// What the slices of each Service tell.
    pub told: BTreeMap<Place, Told>,
    pods: u64,
    /// Namespaces whose endpoints are about to be looked at.
    stirred: BTreeSet<String>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            models: BTreeMap::new(),
            gateway_delay: TimeDelta::milliseconds(120),
            gateway_refuses: false,
            told: BTreeMap::new(),
            pods: 0,
            stirred: BTreeSet::new(),
        }
    }
}

/// Ready endpoints of one Service, as its slices tell them.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub ready: usize,
    /// Since when there is none.
    pub none_since: Option<DateTime<Utc>>,
    /// What was told before, and until when.
    before: Vec<(DateTime<Utc>, usize)>,
}

impl Told {
    fn tell(&mut self, ready: usize, now: DateTime<Utc>) {
        self.before.retain(|(until, _)| now - until < TimeDelta::seconds(1));
        self.before.push((now, self.ready));
        self.ready = ready;
        self.none_since = (ready == 0).then(|| self.none_since.unwrap_or(now));
    }

    /// The most that anybody was told from `since` on.
    pub fn most(&self, since: DateTime<Utc>) -> usize {
        self.before.iter().filter(|(until, _)| *until >= since).map(|(_, ready)| *ready).chain([self.ready]).max().unwrap_or(0)
    }
}

/// The letter of the model that a pod template or a pod runs.
pub fn model_of(pod: &Value) -> String {
    let args = pod.pointer("/spec/containers/0/args/0").and_then(Value::as_str).unwrap_or_default();
    args.split("registry.example/").nth(1).and_then(|rest| rest.split('@').next()).unwrap_or_default().to_owned()
}

/// Something changed: the controllers that it concerns will look.
pub fn notice(world: &mut World, of: Resource, change: &Change) {
    let (namespace, name) = place(&change.object);
    let soon = |world: &mut World, milliseconds: i64, look: Look| world.after(TimeDelta::milliseconds(milliseconds), Task::Cluster(look));
    if change.what == "DELETED" {
        let uid = text(&change.object, "/metadata/uid").to_owned();
        soon(world, 700, Look::Orphans(uid));
    }
    if of == DEPLOYMENTS {
        soon(world, 60, Look::Deployment((namespace.clone(), name.clone())));
    }
    // A slice that goes with the Service of before is made again for the one of the same name.
    let slice_lost = of == SLICES && change.what == "DELETED";
    if (of == PODS || of == SERVICES || slice_lost) && world.cluster.stirred.insert(namespace.clone()) {
        soon(world, 90, Look::Endpoints(namespace.clone()));
    }
    if of == PODS && change.what == "DELETED" {
        let owner = text(&change.object, "/metadata/ownerReferences/0/name").to_owned();
        soon(world, 60, Look::Deployment((namespace.clone(), owner)));
    }
    if slice_lost {
        let service = text(&change.object, "/metadata/labels/kubernetes.io~1service-name").to_owned();
        let now = world.now;
        world.cluster.told.entry((namespace.clone(), service)).or_default().tell(0, now);
    }
    if of == ROUTES && change.what == "DELETED" {
        world.truth.drop_route(&(namespace.clone(), name.clone()));
    }
    if of == ROUTES && change.what != "DELETED" {
        let delay = world.cluster.gateway_delay.num_milliseconds();
        soon(world, delay, Look::Gateway((namespace.clone(), name)));
    }
    if of == SERVICES {
        let routes: Vec<Place> = world.store.list(ROUTES, Some(&namespace)).map(|route| place(route)).collect();
        for route in routes {
            let delay = world.cluster.gateway_delay.num_milliseconds();
            soon(world, delay, Look::Gateway(route));
        }
    }
}

pub fn look(world: &mut World, look: Look) {
    match look {
        Look::Deployment(place) => deployment(world, &place),
        Look::Pod(place) => pod(world, &place),
        Look::Endpoints(namespace) => endpoints(world, &namespace),
        Look::Gateway(place) => gateway(world, &place),
        Look::Orphans(uid) => orphans(world, &uid),
    }
}

fn deployment(world: &mut World, (namespace, name): &Place) {
    let Some(live) = world.store.get(DEPLOYMENTS, namespace, name).cloned() else { return };
    let uid = text(&live, "/metadata/uid");
    let wanted = usize::try_from(live.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)).unwrap_or(0);
    let mine = |pod: &Value| pod.pointer("/metadata/ownerReferences/0/uid").and_then(Value::as_str) == Some(uid);
    let pods: Vec<String> =
        world.store.list(PODS, Some(namespace)).filter(|pod| mine(pod)).map(|pod| text(pod, "/metadata/name").to_owned()).collect();
    for surplus in pods.iter().skip(wanted) {
        world.remove(PODS, namespace, surplus);
    }
    for _ in pods.len()..wanted {
        world.cluster.pods += 1;
        let pod = format!("{name}-p{}", world.cluster.pods);
        let template = live.pointer("/spec/template").cloned().unwrap_or_default();
        let object = json!({
            "metadata": {"name": pod, "labels": template.pointer("/metadata/labels"), "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid, "controller": true}]},
            "spec": template.get("spec"),
        });
        world.make(PODS, namespace, object, "kube-controller-manager");
        let model = world.cluster.models.get(&model_of(&template)).cloned().unwrap_or_default();
        let place = (namespace.clone(), pod.clone());
        let state = match model.startup {
            Some(startup) => {
                let jitter = TimeDelta::milliseconds(world.dice.between(0, 900));
                world.after(startup + jitter, Task::Cluster(Look::Pod(place)));
                json!({"waiting": {"reason": "ContainerCreating"}})
            }
            None => json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
        };
        status_of_pod(world, namespace, &pod, false, &state, &Value::Null, 0);
    }
}

/// A pod becomes ready, and may be killed for memory later.
fn pod(world: &mut World, (namespace, name): &Place) {
    let Some(live) = world.store.get(PODS, namespace, name).cloned() else { return };
    let was_ready = is_ready(&live);
    let restarts = live.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_i64).unwrap_or(0);
    let model = world.cluster.models.get(&model_of(&live)).cloned().unwrap_or_default();
    let running = json!({"running": {"startedAt": world.stamp()}});
    match (was_ready, model.killed_after) {
        (false, killed_after) => {
            let last = live.pointer("/status/containerStatuses/0/lastState").cloned().unwrap_or_default();
            status_of_pod(world, namespace, name, true, &running, &last, restarts);
            if let Some(after) = killed_after {
                world.after(after, Task::Cluster(Look::Pod((namespace.clone(), name.clone()))));
            }
        }
        (true, Some(_)) => {
            let last = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": world.stamp()}});
            status_of_pod(world, namespace, name, false, &json!({"waiting": {"reason": "CrashLoopBackOff"}}), &last, restarts + 1);
            world.truth.restarted(name);
            world.after(TimeDelta::seconds(20), Task::Cluster(Look::Pod((namespace.clone(), name.clone()))));
        }
        (true, None) => {}
    }
}

fn status_of_pod(world: &mut World, namespace: &str, name: &str, ready: bool, state: &Value, last: &Value, restarts: i64) {
    let word = if ready { "True" } else { "False" };
    world.edit(PODS, namespace, name, "kubelet", true, |pod| {
        pod["status"] = json!({
            "phase": if ready { "Running" } else { "Pending" },
            "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": word}],
            "containerStatuses": [{"name": "server", "image": "server", "imageID": "", "ready": ready, "started": ready,
                "restartCount": restarts, "state": state, "lastState": if last.is_null() { json!({}) } else { last.clone() }}],
        });
    });
}

pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    conditions.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// Ready pods that a Service selects, now, by the cluster's truth and not by its slices.
pub fn ready_pods(world: &World, namespace: &str, service: &str) -> Vec<Place> {
    let Some(live) = world.store.get(SERVICES, namespace, service) else { return Vec::new() };
    let selector = selector_of(live);
    // A Service without a selector has no endpoints of its own.
    if selector.is_empty() {
        return Vec::new();
    }
    let pods = world.store.list(PODS, Some(namespace)).filter(|pod| selected(pod, &selector) && is_ready(pod));
    pods.map(|pod| place(pod)).collect()
}

fn selector_of(service: &Value) -> String {
    let pairs = service.pointer("/spec/selector").and_then(Value::as_object).into_iter().flatten();
    pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect::<Vec<_>>().join(",")
}

fn endpoints(world: &mut World, namespace: &str) {
    world.cluster.stirred.remove(namespace);
    let services: Vec<_> = world.store.list(SERVICES, Some(namespace)).cloned().collect();
    for service in services {
        let (name, selector) = (text(&service, "/metadata/name").to_owned(), selector_of(&service));
        if selector.is_empty() {
            continue;
        }
        let endpoints: Vec<Value> = world
            .store
            .list(PODS, Some(namespace))
            .filter(|pod| selected(pod, &selector))
            .enumerate()
            .map(|(number, pod)| {
                let (pod_name, ready) = (text(pod, "/metadata/name"), is_ready(pod));
                json!({"addresses": [format!("10.0.0.{number}")], "conditions": {"ready": ready, "serving": ready, "terminating": false},
                    "targetRef": {"kind": "Pod", "name": pod_name, "namespace": namespace}})
            })
            .collect();
        let ready = endpoints.iter().filter(|one| one.pointer("/conditions/ready") == Some(&json!(true))).count();
        let told = world.cluster.told.entry((namespace.to_owned(), name.clone())).or_default();
        if told.ready != ready || told.none_since.is_none() && ready == 0 {
            told.tell(ready, world.now);
        }
        let slice = format!("{name}-s1");
        let labels = service.pointer("/metadata/labels").cloned().unwrap_or_default();
        if let Some(live) = world.store.get(SLICES, namespace, &slice) {
            if live["endpoints"] != json!(endpoints) {
                world.edit(SLICES, namespace, &slice, "endpointslice-controller", false, |live| live["endpoints"] = json!(endpoints));
            }
            continue;
        }
        let mut labels = if labels.is_object() { labels } else { json!({}) };
        labels["kubernetes.io/service-name"] = json!(name);
        let owner = json!([{"apiVersion": "v1", "kind": "Service", "name": name, "uid": text(&service, "/metadata/uid")}]);
        let object =
            json!({"metadata": {"name": slice, "labels": labels, "ownerReferences": owner}, "addressType": "IPv4", "endpoints": endpoints});
        world.make(SLICES, namespace, object, "endpointslice-controller");
    }
}

/// The gateway takes the newest route, or says why not; from then on traffic follows it.
fn gateway(world: &mut World, (namespace, name): &Place) {
    let Some(live) = world.store.get(ROUTES, namespace, name).cloned() else { return };
    let services: BTreeSet<String> =
        world.store.list(SERVICES, Some(namespace)).map(|one| text(one, "/metadata/name").to_owned()).collect();
    let rules = live.pointer("/spec/rules").and_then(Value::as_array).cloned().unwrap_or_default();
    let refs = rules.iter().flat_map(|rule| rule["backendRefs"].as_array().cloned().unwrap_or_default());
    let absent = refs.map(|one| text(&one, "/name").to_owned()).find(|one| !services.contains(one));
    let generation = live["metadata"]["generation"].clone();
    let refuses = world.cluster.gateway_refuses;
    let condition = |kind: &str, good: bool, bad: &str| {
        json!({"type": kind, "status": if good { "True" } else { "False" }, "reason": if good { kind } else { bad }, "message": "",
            "observedGeneration": generation, "lastTransitionTime": "2027-01-15T08:00:00Z"})
    };
    let conditions =
        [condition("Accepted", !refuses, "NotAllowedByListeners"), condition("ResolvedRefs", absent.is_none(), "BackendNotFound")];
    let parents: Vec<Value> = live
        .pointer("/spec/parentRefs")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|parent| json!({"parentRef": parent, "controllerName": "example.com/gateway", "conditions": conditions}))
        .collect();
    let status = json!({"parents": parents});
    if !refuses {
        world.truth.take_route((namespace.clone(), name.clone()), &live, world.now);
    }
    if live.get("status") != Some(&status) {
        world.edit(ROUTES, namespace, name, "gateway", true, |route| route["status"] = status);
    }
}

fn orphans(world: &mut World, uid: &str) {
    for (of, (namespace, name)) in world.store.dependents(uid) {
        world.remove(of, &namespace, &name);
    }
}
