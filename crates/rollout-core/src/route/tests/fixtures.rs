//! Routes and shapes in few words.

use serde_json::{Value, json};

use crate::plan::{IdCarrier, PlannedAssignment};
use crate::revision::RevisionId;
use crate::route::{Backend, Shape};
use crate::spec::Alphabet;
use crate::weights::Exposure;

pub(super) fn backend(name: &str, revision: &str) -> Backend {
    Backend { name: name.into(), port: 80, revision: RevisionId::new(revision) }
}

pub(super) fn stable() -> Backend {
    backend("d-r1", "r1")
}

pub(super) fn candidate() -> Backend {
    backend("d-r2", "r2")
}

fn percent(percent: i32) -> Exposure {
    Exposure::new(percent).unwrap()
}

pub(super) fn single() -> Shape {
    Shape::Single { stable: stable() }
}

pub(super) fn split(exposure: i32) -> Shape {
    Shape::Split { stable: stable(), candidate: candidate(), exposure: percent(exposure) }
}

pub(super) fn mirror(share: i32) -> Shape {
    Shape::Mirror { stable: stable(), candidate: candidate(), percent: percent(share) }
}

pub(super) fn sticky(slice: i32, control_on: bool) -> Shape {
    Shape::Sticky {
        stable: stable(),
        candidate: candidate(),
        control: backend("d-r1-control", "r1"),
        assignment: PlannedAssignment { carrier: IdCarrier::Header("x-user-id".into()), alphabet: Alphabet::Hex },
        offset: 0,
        slice: percent(slice),
        control_on,
    }
}

/// The filters that name a revision.
pub(super) fn f(revision: &str) -> Value {
    json!([
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-espalier-revision", "value": revision}]}},
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-espalier-revision", "value": revision}]}},
    ])
}

/// References with weights; the revision is what follows the first dash, without `-control`.
pub(super) fn refs(weights: &[(&str, i32)]) -> Value {
    let revision = |name: &str| name.trim_start_matches("d-").trim_end_matches("-control").to_owned();
    weights.iter().map(|(name, weight)| json!({"name": name, "port": 80, "weight": weight, "filters": f(&revision(name))})).collect()
}

pub(super) fn spec(rules: &Value) -> Value {
    json!({"parentRefs": [{"name": "gw"}], "rules": rules})
}

// Fixtures are written in place.
#[allow(clippy::needless_pass_by_value)]
pub(super) fn route(rules: Value) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "digits", "namespace": "ns"}, "spec": spec(&rules)})
}
