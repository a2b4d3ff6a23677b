//! One `ControllerRevision` per revision: what it was made of, so that the stable one can be rebuilt after Git has moved on.
//! Records are never changed, only adopted and pruned; their bytes are canonical, since the API server compares bytes.

use std::collections::BTreeSet;

use kube::Client;
use rollout_core::revision::{RevisionId, canonical};
use rollout_core::spec::{Model, Workload};
use serde_json::{Number, Value, json};

use super::apply::{ours, text, uid};
use super::build::{own_labels, owner_reference};
use super::calls::{Calls, Collection, Create, Created};
use super::error::WorkloadError;
use super::{Owner, REVISION_LABEL, ROLLOUT_LABEL, child_name};

/// Most records kept besides those in use.
const KEEP: usize = 10;

/// What one revision was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The revision.
    pub revision: RevisionId,
    /// Order of recording, growing from 1.
    pub number: i64,
    /// Model and workload as [`rollout_core::revision::content`] gives them.
    pub content: Value,
    uid: String,
    owned: bool,
}

impl Record {
    /// The model and the workload that were recorded; the workload's number of replicas is not part of a record.
    pub fn parts(&self) -> Result<(Model, Workload), WorkloadError> {
        let part = |key: &str| self.content.get(key).cloned().unwrap_or(Value::Null);
        let unreadable = |error: &serde_json::Error| WorkloadError::Unreadable {
            object: format!("ControllerRevision of {}", self.revision),
            message: error.to_string(),
        };
        let model = serde_json::from_value(part("model")).map_err(|error| unreadable(&error))?;
        let workload = serde_json::from_value(part("workload")).map_err(|error| unreadable(&error))?;
        Ok((model, workload))
    }
}

/// The records of rollouts.
#[derive(Clone)]
pub struct Records {
    calls: Calls,
}

impl Records {
    /// Reads and writes through `client`.
    pub const fn new(client: Client) -> Self {
        Self { calls: Calls::new(client) }
    }

    /// Every revision on record for this rollout's name, oldest first; records that an earlier object of this name left behind count.
    pub async fn list(&self, owner: &Owner) -> Result<Vec<Record>, WorkloadError> {
        let found = self.calls.list(&records(owner), &format!("{ROLLOUT_LABEL}={}", owner.name)).await?;
        let mut list: Vec<Record> = found.iter().filter_map(|live| read(owner, live)).collect();
        list.sort_by(|a, b| (a.number, &a.revision).cmp(&(b.number, &b.revision)));
        Ok(list)
    }

    /// Makes sure that `content` is on record as `revision`, owned by this rollout. Idle cost: one read.
    ///
    /// `known` is what [`Self::list`] gave; it only serves to number a new record. Another content under the same name is an error: two
    /// contents must never share a name.
    pub async fn ensure(&self, owner: &Owner, revision: &RevisionId, content: &Value, known: &[Record]) -> Result<(), WorkloadError> {
        let all = records(owner);
        let name = child_name(&owner.name, revision);
        let data = plain_numbers(content.clone());
        let Some(live) = self.existing(owner, revision, &data, known).await? else { return Ok(()) };
        ours(owner, revision, &all, &live)?;
        if live.get("data").cloned().map(plain_numbers) != Some(data) {
            return Err(WorkloadError::Collision { object: format!("ControllerRevision {name}") });
        }
        if !owned_by(owner, &live) {
            let change = json!({"metadata": {"ownerReferences": [owner_reference(owner)]}});
            self.calls.patch(&all, &name, uid(&live), change).await?;
        }
        Ok(())
    }

    /// The record of this name; `None` when there was none and `data` has just been recorded.
    async fn existing(&self, owner: &Owner, revision: &RevisionId, data: &Value, known: &[Record]) -> Result<Option<Value>, WorkloadError> {
        let all = records(owner);
        let name = child_name(&owner.name, revision);
        if let Some(live) = self.calls.get(&all, &name).await? {
            return Ok(Some(live));
        }
        let number = known.iter().map(|record| record.number).max().unwrap_or_default() + 1;
        let body = canonical(&object(owner, revision, data, number)).into_bytes();
        if let Created::New(_) = self.calls.create(&all, &name, body, Create::Really).await? {
            return Ok(None);
        }
        let gone = || WorkloadError::Conflict {
            call: "create",
            object: format!("ControllerRevision {name}"),
            message: "it came and went".to_owned(),
        };
        self.calls.get(&all, &name).await?.ok_or_else(gone).map(Some)
    }

    /// Deletes the oldest records beyond ten, but none of `in_use`; gives the revisions that went.
    pub async fn prune(&self, owner: &Owner, known: &[Record], in_use: &BTreeSet<RevisionId>) -> Result<Vec<RevisionId>, WorkloadError> {
        let spare: Vec<&Record> = known.iter().filter(|record| record.owned && !in_use.contains(&record.revision)).collect();
        let mut gone = Vec::new();
        for record in spare.iter().take(spare.len().saturating_sub(KEEP)) {
            self.calls.delete(&records(owner), &child_name(&owner.name, &record.revision), &record.uid).await?;
            gone.push(record.revision.clone());
        }
        Ok(gone)
    }
}

fn records(owner: &Owner) -> Collection {
    Collection::new("apps/v1", "controllerrevisions", &owner.namespace, "ControllerRevision")
}

fn object(owner: &Owner, revision: &RevisionId, data: &Value, number: i64) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": child_name(&owner.name, revision),
            "namespace": owner.namespace,
            "labels": own_labels(owner, revision),
            "ownerReferences": [owner_reference(owner)],
        },
        "data": data,
        "revision": number,
    })
}

fn read(owner: &Owner, live: &Value) -> Option<Record> {
    let revision = RevisionId::new(live.pointer("/metadata/labels")?.get(REVISION_LABEL)?.as_str()?);
    // A foreign object may carry our labels; only the name that we give makes it a record.
    (text(live, "/metadata/name") == child_name(&owner.name, &revision)).then(|| Record {
        number: live.get("revision").and_then(Value::as_i64).unwrap_or_default(),
        content: live.get("data").cloned().unwrap_or(Value::Null),
        uid: uid(live).to_owned(),
        owned: owned_by(owner, live),
        revision,
    })
}

fn owned_by(owner: &Owner, live: &Value) -> bool {
    let references = live.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
    references.into_iter().any(|one| text(one, "/uid") == owner.uid)
}

/// Whole numbers without a fraction or exponent, as the API server writes them: `1.0` in `data` would make every later patch fail.
#[allow(clippy::cast_possible_truncation, reason = "bounded by the range check")]
fn plain_numbers(value: Value) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => Value::Number(Number::from(float as i64)),
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(plain_numbers).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, plain_numbers(value))).collect(),
        other => other,
    }
}
