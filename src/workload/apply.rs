//! Writes the objects of revisions: creates after a dry run, adopts what is labelled as ours, repairs Services, scales, deletes.
//! Never overwrites an object of someone else, and of an existing workload changes nothing but its scale and owner.

use kube::Client;
use rollout_core::revision::RevisionId;
use serde_json::{Value, json};

use super::build::{Children, owner_reference};
use super::calls::{Calls, Collection, Create, Created};
use super::error::WorkloadError;
use super::{FIELD_MANAGER, Kind, Owner, REVISION_LABEL, ROLLOUT_LABEL, child_name, control_name};

/// What was changed, for events; empty when everything was as wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ensured {
    /// Objects that were made, as kind and name.
    pub created: Vec<String>,
    /// Objects of ours that had lost their owner and have one again.
    pub adopted: Vec<String>,
    /// Objects whose scale or selector was put right.
    pub repaired: Vec<String>,
    /// Sentences about pods that someone else changed: such a workload is not what its revision says. Nothing was done about it.
    pub edited: Vec<String>,
}

/// Writes to the workloads of rollouts.
#[derive(Clone)]
pub struct Workloads {
    calls: Calls,
}

impl Workloads {
    /// Writes through `client`.
    pub const fn new(client: Client) -> Self {
        Self { calls: Calls::new(client) }
    }

    /// Makes sure that workload and Service of a revision exist and are ours, and that the workload has `replicas` pods or more if some are named: more may
    /// be an autoscaler's, and taking them away under load would hurt those who are served.
    ///
    /// A new object is first tried as a dry run. Idle cost: two reads. An object of someone else is an error that names them.
    pub async fn ensure(&self, owner: &Owner, children: &Children, replicas: Option<i32>) -> Result<Ensured, WorkloadError> {
        let mut done = Ensured::default();
        let kind = children.kind;
        let workloads = collection(owner, kind);
        let name = child_name(&owner.name, &children.revision);
        let live = match self.calls.get(&workloads, &name).await? {
            Some(live) => self.adopt(owner, &children.revision, &workloads, live, &mut done).await?,
            None => self.create(owner, &children.revision, &workloads, &children.workload, &mut done).await?,
        };
        done.edited.extend(editors(kind, &live).map(|who| format!("{} {name}: its pod template was changed by {who}", kind.name())));
        if let Some(replicas) = replicas
            && kind.replicas(&live) < i64::from(replicas)
        {
            self.calls.patch(&workloads, &name, uid(&live), kind.scaled(replicas)).await?;
            done.repaired.push(format!("{} {name}", kind.name()));
        }
        self.service(owner, &children.revision, &children.service, &mut done).await?;
        Ok(done)
    }

    /// Makes sure that one Service exists, is ours and selects the pods it should: the revision's own, or a control Service.
    pub async fn ensure_service(&self, owner: &Owner, revision: &RevisionId, service: &Value) -> Result<Ensured, WorkloadError> {
        let mut done = Ensured::default();
        self.service(owner, revision, service, &mut done).await?;
        Ok(done)
    }

    /// Sets the number of pods of a revision; 0 parks it. Does nothing when there is no such workload; true when something was written.
    pub async fn scale(&self, owner: &Owner, kind: Kind, revision: &RevisionId, replicas: i32) -> Result<bool, WorkloadError> {
        let workloads = collection(owner, kind);
        let name = child_name(&owner.name, revision);
        let Some(live) = self.calls.get(&workloads, &name).await? else { return Ok(false) };
        ours(owner, revision, &workloads, &live)?;
        if kind.replicas(&live) == i64::from(replicas) {
            return Ok(false);
        }
        self.calls.patch(&workloads, &name, uid(&live), kind.scaled(replicas)).await?;
        Ok(true)
    }

    /// Deletes workload, Service and control Service of a revision, as far as they exist and are ours.
    pub async fn delete(&self, owner: &Owner, kind: Kind, revision: &RevisionId) -> Result<(), WorkloadError> {
        let name = child_name(&owner.name, revision);
        self.remove(owner, revision, &collection(owner, kind), &name).await?;
        self.remove(owner, revision, &services(owner), &name).await?;
        self.delete_control(owner, revision).await
    }

    /// Deletes the control Service of a revision, if there is one and it is ours.
    pub async fn delete_control(&self, owner: &Owner, revision: &RevisionId) -> Result<(), WorkloadError> {
        self.remove(owner, revision, &services(owner), &control_name(&owner.name, revision)).await
    }

    async fn remove(&self, owner: &Owner, revision: &RevisionId, all: &Collection, name: &str) -> Result<(), WorkloadError> {
        let Some(live) = self.calls.get(all, name).await? else { return Ok(()) };
        ours(owner, revision, all, &live)?;
        self.calls.delete(all, name, uid(&live)).await
    }

    async fn service(&self, owner: &Owner, revision: &RevisionId, wanted: &Value, done: &mut Ensured) -> Result<(), WorkloadError> {
        let all = services(owner);
        let name = text(wanted, "/metadata/name");
        let Some(live) = self.calls.get(&all, name).await? else {
            return self.create(owner, revision, &all, wanted, done).await.map(drop);
        };
        let live = self.adopt(owner, revision, &all, live, done).await?;
        // Anything else about the Service may be the user's; what makes traffic arrive is not.
        let same = live.pointer("/spec/selector") == wanted.pointer("/spec/selector") && same_port(&live, wanted);
        if !same {
            let spec = json!({"selector": selector_change(&live, wanted), "ports": wanted.pointer("/spec/ports")});
            self.calls.patch(&all, name, uid(&live), json!({"spec": spec})).await?;
            done.repaired.push(format!("Service {name}"));
        }
        Ok(())
    }

    async fn create(
        &self,
        owner: &Owner,
        revision: &RevisionId,
        all: &Collection,
        wanted: &Value,
        done: &mut Ensured,
    ) -> Result<Value, WorkloadError> {
        let name = text(wanted, "/metadata/name");
        let body = wanted.to_string().into_bytes();
        for how in [Create::DryRun, Create::Really] {
            match self.calls.create(all, name, body.clone(), how).await? {
                Created::New(live) if how == Create::Really => {
                    done.created.push(format!("{} {name}", all.kind));
                    return Ok(live);
                }
                Created::New(_) => {}
                Created::AlreadyExists => break,
            }
        }
        // It appeared since we looked: whoever made it decides what follows.
        let gone =
            || WorkloadError::Conflict { call: "create", object: format!("{} {name}", all.kind), message: "it came and went".to_owned() };
        let live = self.calls.get(all, name).await?.ok_or_else(gone)?;
        self.adopt(owner, revision, all, live, done).await
    }

    /// The live object, with us as its owner; an error when it is someone else's.
    async fn adopt(
        &self,
        owner: &Owner,
        revision: &RevisionId,
        all: &Collection,
        live: Value,
        done: &mut Ensured,
    ) -> Result<Value, WorkloadError> {
        ours(owner, revision, all, &live)?;
        if controller(&live).and_then(|one| one.get("uid")).and_then(Value::as_str) == Some(owner.uid.as_str()) {
            return Ok(live);
        }
        let name = text(&live, "/metadata/name").to_owned();
        let others = live.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
        let mut references: Vec<Value> = others.filter(|one| one.get("controller") != Some(&json!(true))).cloned().collect();
        references.push(owner_reference(owner));
        let change = json!({"metadata": {"ownerReferences": references}});
        let adopted = self.calls.patch(all, &name, uid(&live), change).await?;
        done.adopted.push(format!("{} {name}", all.kind));
        Ok(adopted)
    }
}

/// Whether `live` may be touched: it carries both labels, and no one but an (earlier) rollout of this name controls it.
pub(super) fn ours(owner: &Owner, revision: &RevisionId, all: &Collection, live: &Value) -> Result<(), WorkloadError> {
    let label = |key: &str| live.pointer("/metadata/labels").and_then(|labels| labels.get(key)).and_then(Value::as_str);
    let foreign =
        |who: String| Err(WorkloadError::Foreign { object: format!("{} {}", all.kind, text(live, "/metadata/name")), owner: who });
    if let Some(other) = controller(live) {
        let part = |key| other.get(key).and_then(Value::as_str).unwrap_or("unknown");
        if part("kind") != "ModelRollout" || part("name") != owner.name {
            return foreign(format!("{} {}", part("kind"), part("name")));
        }
    }
    if label(ROLLOUT_LABEL) == Some(owner.name.as_str()) && label(REVISION_LABEL) == Some(revision.as_str()) {
        return Ok(());
    }
    let managers = live.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    let manager = managers.into_iter().find_map(|one| one.get("manager").and_then(Value::as_str));
    foreign(
        manager
            .map_or_else(|| "someone else (its labels are not ours)".to_owned(), |manager| format!("{manager} (its labels are not ours)")),
    )
}

/// Who, besides us, wrote below the pod template.
fn editors(kind: Kind, live: &Value) -> impl Iterator<Item = &str> {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    let edits = entries.filter(move |one| one.pointer(kind.pod_template_fields()).is_some());
    edits.filter_map(|one| one.get("manager").and_then(Value::as_str)).filter(|manager| *manager != FIELD_MANAGER)
}

fn controller(live: &Value) -> Option<&Value> {
    let references = live.pointer("/metadata/ownerReferences").and_then(Value::as_array)?;
    references.iter().find(|one| one.get("controller") == Some(&json!(true)))
}

/// Our ports are single; the server adds fields to them, so only what we set is compared.
fn same_port(live: &Value, wanted: &Value) -> bool {
    let ports = |object: &Value| object.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let (live, wanted) = (ports(live), ports(wanted));
    live.len() == wanted.len()
        && live
            .iter()
            .zip(&wanted)
            .all(|(live, wanted)| wanted.as_object().is_some_and(|fields| fields.iter().all(|(key, value)| live.get(key) == Some(value))))
}

/// A merge patch to the wanted selector: keys that are too many are set to null.
fn selector_change(live: &Value, wanted: &Value) -> Value {
    let keys = |object: &Value| object.pointer("/spec/selector").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut change = keys(live);
    change.values_mut().for_each(|value| *value = Value::Null);
    change.extend(keys(wanted));
    Value::Object(change)
}

fn collection(owner: &Owner, kind: Kind) -> Collection {
    Collection::new(kind.api_version(), kind.plural(), &owner.namespace, kind.name())
}

fn services(owner: &Owner) -> Collection {
    Collection::new("v1", "services", &owner.namespace, "Service")
}

pub(super) fn uid(live: &Value) -> &str {
    text(live, "/metadata/uid")
}

pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
