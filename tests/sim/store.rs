//! The objects of the simulated API server: versions, preconditions, generations, subresources, finalizers, selectors, and a log for watches.
//! Knows no HTTP and no faults; says what a real API server would answer to each change.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value, json};

/// Changes that a watch can still go on from; older ones answer 410.
const LOG: usize = 400;

/// A resource that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    pub group_version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    /// Whether status is written by itself.
    pub has_status: bool,
    /// Whether changes of the spec are counted.
    pub has_generation: bool,
}

const fn resource(
    group_version: &'static str,
    plural: &'static str,
    kind: &'static str,
    has_status: bool,
    has_generation: bool,
) -> Resource {
    Resource { group_version, plural, kind, has_status, has_generation }
}

pub const ROLLOUTS: Resource = resource("espalier.dev/v1alpha1", "modelrollouts", "ModelRollout", true, true);
pub const POLICIES: Resource = resource("espalier.dev/v1alpha1", "evaluationpolicies", "EvaluationPolicy", false, true);
pub const ROUTES: Resource = resource("gateway.networking.k8s.io/v1", "httproutes", "HTTPRoute", true, true);
pub const DEPLOYMENTS: Resource = resource("apps/v1", "deployments", "Deployment", true, true);
pub const RECORDS: Resource = resource("apps/v1", "controllerrevisions", "ControllerRevision", false, false);
pub const SERVICES: Resource = resource("v1", "services", "Service", true, false);
pub const PODS: Resource = resource("v1", "pods", "Pod", true, false);
pub const SLICES: Resource = resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", false, true);
pub const EVENTS: Resource = resource("events.k8s.io/v1", "events", "Event", false, false);
pub const LEASES: Resource = resource("coordination.k8s.io/v1", "leases", "Lease", false, false);

impl Resource {
    /// An object as a list holds it: those of built-in kinds without their kind.
    pub fn in_a_list(self, object: &Value) -> Cow<'_, Value> {
        if [ROLLOUTS, POLICIES, ROUTES].contains(&self) {
            return Cow::Borrowed(object);
        }
        let mut fields = object.as_object().cloned().unwrap_or_default();
        fields.retain(|name, _| name != "apiVersion" && name != "kind");
        Cow::Owned(Value::Object(fields))
    }
}

/// Everything that is served.
pub const SERVED: [Resource; 10] = [ROLLOUTS, POLICIES, ROUTES, DEPLOYMENTS, RECORDS, SERVICES, PODS, SLICES, EVENTS, LEASES];

/// Namespace and name.
pub type Place = (String, String);

/// A change, as watches tell of it.
#[derive(Clone, Debug)]
pub struct Change {
    pub version: u64,
    pub what: &'static str,
    pub object: Arc<Value>,
}

/// Why a change is refused: HTTP status, reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    /// As the API server sends it.
    pub fn body(&self) -> Value {
        let mut body =
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message, "code": self.code});
        if !self.reason.is_empty() {
            body["reason"] = json!(self.reason);
        }
        body
    }
}

type Answer = Result<Arc<Value>, Refusal>;

/// Who writes, when, and whether only the status is meant.
#[derive(Clone, Debug)]
pub struct Writer<'a> {
    pub manager: &'a str,
    /// RFC 3339.
    pub now: &'a str,
    pub status: bool,
    pub dry_run: bool,
}

#[derive(Default)]
pub struct Store {
    objects: BTreeMap<Resource, BTreeMap<Place, Arc<Value>>>,
    logs: BTreeMap<Resource, VecDeque<Change>>,
    version: u64,
    /// The last change of each resource that no watch is told of any more.
    forgotten: BTreeMap<Resource, u64>,
    uids: u64,
    /// Rollouts whose default status is told and not kept yet: the first write keeps it.
    unsaved: BTreeSet<Place>,
}

impl Store {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn get(&self, of: Resource, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.objects.get(&of)?.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Objects by namespace and name, of one namespace or of all.
    pub fn list<'a>(&'a self, of: Resource, namespace: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Value>> {
        let all = self.objects.get(&of).into_iter().flatten();
        all.filter(move |((place, _), _)| namespace.is_none_or(|wanted| wanted == place)).map(|(_, object)| object)
    }

    /// What changed after `version`; `None` when that is too long ago to tell.
    pub fn since(&self, of: Resource, version: u64) -> Option<Vec<Change>> {
        let Some(log) = self.logs.get(&of) else { return Some(Vec::new()) };
        let is_known = self.forgotten.get(&of).is_none_or(|forgotten| version >= *forgotten);
        is_known.then(|| log.iter().filter(|change| change.version > version).cloned().collect())
    }

    /// All but the last `left` changes of each resource are forgotten, as a server does every few minutes.
    pub fn compact(&mut self, left: usize) {
        for (of, log) in &mut self.logs {
            if let Some(last) = log.drain(..log.len().saturating_sub(left)).next_back() {
                self.forgotten.insert(*of, last.version);
            }
        }
    }

    pub fn last_change(&self, of: Resource) -> Option<&Change> {
        self.logs.get(&of)?.back()
    }

    pub fn create(&mut self, of: Resource, namespace: &str, mut object: Value, by: &Writer<'_>) -> Answer {
        let name = text(&object, "/metadata/name").to_owned();
        if name.is_empty() {
            // Services ask for an address before they ask for a name.
            let (code, reason) = if of == SERVICES { (500, "InternalError") } else { (422, "Invalid") };
            return Err(Refusal::new(code, reason, "metadata.name: Required value"));
        }
        if self.get(of, namespace, &name).is_some() {
            return Err(Refusal::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", of.plural)));
        }
        if !text(&object, "/metadata/resourceVersion").is_empty() {
            return Err(Refusal::new(500, "", "resourceVersion should not be set on objects to be created"));
        }
        self.uids += 1;
        let uid = format!("uid-{:04}", self.uids);
        object["apiVersion"] = json!(of.group_version);
        object["kind"] = json!(of.kind);
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.insert("namespace".into(), json!(namespace));
        metadata.insert("uid".into(), json!(uid));
        metadata.insert("creationTimestamp".into(), json!(by.now));
        if of.has_generation {
            metadata.insert("generation".into(), json!(1));
        }
        if of.has_status {
            object.as_object_mut().unwrap().remove("status");
        }
        if of == ROLLOUTS {
            object["status"] = json!({"observedGeneration": -1});
        }
        if by.dry_run {
            return Ok(Arc::new(object));
        }
        own(&mut object, &Value::Null, by.manager, by.now);
        if of == ROLLOUTS {
            self.unsaved.insert((namespace.to_owned(), name));
        }
        Ok(self.keep(of, "ADDED", object))
    }

    pub fn replace(&mut self, of: Resource, namespace: &str, name: &str, mut object: Value, by: &Writer<'_>) -> Answer {
        // Both may be created by an update; a Service that was read before has an address that is taken.
        match of {
            LEASES if self.get(of, namespace, name).is_none() => return self.create(of, namespace, object, by),
            SERVICES if self.get(of, namespace, name).is_none() => {
                return Err(Refusal::new(422, "Invalid", "spec.clusterIPs: Invalid value: provided IP is already allocated"));
            }
            _ => {}
        }
        let live = Arc::clone(self.get(of, namespace, name).ok_or_else(|| missing(of, name))?);
        let version = text(&object, "/metadata/resourceVersion");
        if !version.is_empty() && version != text(&live, "/metadata/resourceVersion") {
            return Err(conflict(of, name, "the object has been modified; please apply your changes to the latest version and try again"));
        }
        if version.is_empty() && of != SERVICES && of != EVENTS && of != PODS {
            return Err(Refusal::new(422, "Invalid", "metadata.resourceVersion: Invalid value: 0: must be specified for an update"));
        }
        let uid = text(&object, "/metadata/uid");
        if !uid.is_empty() && uid != text(&live, "/metadata/uid") {
            return Err(conflict(of, name, "Precondition failed: UID in precondition does not match"));
        }
        if by.status {
            let mut next = (*live).clone();
            next["status"] = object.get("status").cloned().unwrap_or(Value::Null);
            return Ok(self.commit(of, &live, next, by));
        }
        if of.has_status {
            set_or_remove(&mut object, "status", live.get("status"));
        }
        for field in ["uid", "creationTimestamp", "generation", "deletionTimestamp", "namespace", "name", "managedFields"] {
            let kept = live["metadata"].get(field).cloned();
            let metadata = object["metadata"].as_object_mut().unwrap();
            match kept {
                Some(value) => metadata.insert(field.to_owned(), value),
                None => metadata.remove(field),
            };
        }
        object["apiVersion"] = live["apiVersion"].clone();
        object["kind"] = live["kind"].clone();
        Ok(self.commit(of, &live, object, by))
    }

    /// A JSON merge patch (RFC 7386).
    pub fn patch(&mut self, of: Resource, namespace: &str, name: &str, change: &Value, by: &Writer<'_>) -> Answer {
        let live = Arc::clone(self.get(of, namespace, name).ok_or_else(|| missing(of, name))?);
        let uid = text(change, "/metadata/uid");
        if !uid.is_empty() && uid != text(&live, "/metadata/uid") {
            return Err(Refusal::new(422, "Invalid", "metadata.uid: Invalid value: field is immutable"));
        }
        let version = text(change, "/metadata/resourceVersion");
        if !version.is_empty() && version != text(&live, "/metadata/resourceVersion") {
            return Err(conflict(of, name, "the object has been modified; please apply your changes to the latest version and try again"));
        }
        let mut next = (*live).clone();
        merge(&mut next, change);
        next["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
        self.replace(of, namespace, name, next, by)
    }

    pub fn delete(&mut self, of: Resource, namespace: &str, name: &str, uid: Option<&str>, by: &Writer<'_>) -> Answer {
        let live = Arc::clone(self.get(of, namespace, name).ok_or_else(|| missing(of, name))?);
        if uid.is_some_and(|uid| uid != text(&live, "/metadata/uid")) {
            return Err(conflict(of, name, "Precondition failed: UID in precondition does not match"));
        }
        if finalizers(&live).is_empty() {
            return Ok(self.drop_object(of, &live));
        }
        if live.pointer("/metadata/deletionTimestamp").is_some() {
            return Ok(live);
        }
        let mut next = (*live).clone();
        next["metadata"]["deletionTimestamp"] = json!(by.now);
        if of.has_generation {
            next["metadata"]["generation"] = json!(live["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        Ok(self.keep(of, "MODIFIED", next))
    }

    /// Objects that this owner leaves behind.
    pub fn dependents(&self, uid: &str) -> Vec<(Resource, Place)> {
        let owned = |object: &Value| {
            object.pointer("/metadata/ownerReferences").and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one["uid"] == uid))
        };
        let all = self.objects.iter().flat_map(|(of, objects)| objects.iter().map(move |(place, object)| (*of, place, object)));
        all.filter(|(_, _, object)| owned(object)).map(|(of, place, _)| (of, place.clone())).collect()
    }

    fn commit(&mut self, of: Resource, live: &Value, mut next: Value, by: &Writer<'_>) -> Arc<Value> {
        if of.has_generation && !by.status && differs(of, live, &next) {
            next["metadata"]["generation"] = json!(live["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        if by.dry_run {
            return Arc::new(next);
        }
        own(&mut next, live, by.manager, by.now);
        if next.pointer("/metadata/deletionTimestamp").is_some() && finalizers(&next).is_empty() {
            self.drop_object(of, &next);
            return Arc::new(next);
        }
        // A write that changes nothing is no change.
        if !(of == ROLLOUTS && self.unsaved.remove(&place(live))) && next == *live {
            return Arc::new(next);
        }
        self.keep(of, "MODIFIED", next)
    }

    fn keep(&mut self, of: Resource, what: &'static str, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        self.objects.entry(of).or_default().insert(place(&object), Arc::clone(&object));
        self.log(of, what, Arc::clone(&object));
        object
    }

    fn drop_object(&mut self, of: Resource, object: &Value) -> Arc<Value> {
        self.version += 1;
        self.objects.entry(of).or_default().remove(&place(object));
        if of == ROLLOUTS {
            self.unsaved.remove(&place(object));
        }
        let mut last = object.clone();
        last["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let last = Arc::new(last);
        self.log(of, "DELETED", Arc::clone(&last));
        last
    }

    fn log(&mut self, of: Resource, what: &'static str, object: Arc<Value>) {
        let log = self.logs.entry(of).or_default();
        log.push_back(Change { version: self.version, what, object });
        if log.len() > LOG
            && let Some(first) = log.pop_front()
        {
            self.forgotten.insert(of, first.version);
        }
    }
}

/// Whether two versions of an object differ in what is counted as a new generation.
fn differs(of: Resource, one: &Value, other: &Value) -> bool {
    fn counted(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
        let fields = object.as_object().into_iter().flatten();
        fields.filter(|(name, _)| !["status", "apiVersion", "kind", "metadata"].contains(&name.as_str()))
    }
    // Slices count changes of their labels, too.
    let marks = of == SLICES && ["labels", "annotations"].into_iter().any(|name| one["metadata"].get(name) != other["metadata"].get(name));
    marks || !counted(one).eq(counted(other))
}

/// Who manages the fields that somebody may ask about: the rules of a route, the pods of a workload. Atomic, as in the API.
fn own(next: &mut Value, live: &Value, manager: &str, now: &str) {
    for (path, entry) in [("/spec/rules", json!({"f:spec": {"f:rules": {}}})), ("/spec/template", json!({"f:spec": {"f:template": {}}}))] {
        if next.pointer(path).is_none() || next.pointer(path) == live.pointer(path) {
            continue;
        }
        let entry = json!({"manager": manager, "operation": "Update", "apiVersion": next["apiVersion"], "time": now, "fieldsType": "FieldsV1",
            "fieldsV1": entry});
        next["metadata"]["managedFields"] = json!([entry]);
    }
}

fn missing(of: Resource, name: &str) -> Refusal {
    Refusal::new(404, "NotFound", format!("{} \"{name}\" not found", of.plural))
}

fn conflict(of: Resource, name: &str, why: &str) -> Refusal {
    Refusal::new(409, "Conflict", format!("Operation cannot be fulfilled on {} \"{name}\": {why}", of.plural))
}

fn set_or_remove(object: &mut Value, field: &str, value: Option<&Value>) {
    let fields = object.as_object_mut().unwrap();
    match value {
        Some(value) => fields.insert(field.to_owned(), value.clone()),
        None => fields.remove(field),
    };
}

fn merge(into: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *into = change.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let fields = into.as_object_mut().unwrap();
    for (key, value) in change {
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

pub fn finalizers(object: &Value) -> Vec<String> {
    let all = object.pointer("/metadata/finalizers").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

pub fn place(object: &Value) -> Place {
    (text(object, "/metadata/namespace").to_owned(), text(object, "/metadata/name").to_owned())
}

pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether the labels of `object` satisfy `selector`: `key`, `key=value`, joined by commas.
pub fn selected(object: &Value, selector: &str) -> bool {
    let labels = object.pointer("/metadata/labels");
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    selector.split(',').filter(|term| !term.is_empty()).all(|term| match term.split_once('=') {
        Some((key, value)) => label(key) == Some(value.trim_start_matches('=')),
        None => label(term).is_some(),
    })
}
