//! Routes as their owners wrote them: dressed for every shape, read, lowered, and given back.
//! Knows no gateway.

use rollout_core::plan::{IdCarrier, PlannedAssignment};
use rollout_core::revision::RevisionId;
use rollout_core::route::{self, Backend, Shape};
use rollout_core::spec::Alphabet;
use rollout_core::weights::Exposure;
use serde_json::Value;

/// A whole `HTTPRoute`, as JSON.
pub fn route(data: &[u8]) {
    let Ok(live) = serde_json::from_slice::<Value>(data) else { return };
    let _ = (route::acceptance(&live), route::managers(&live), route::read_note(&live));
    let lowered = route::lower(&live, "digits-b", "digits-a");
    let (was, is) = (route::exposure(&live, "digits-b").share, route::exposure(&lowered, "digits-b").share);
    assert!(is <= was, "lowering raised {was:?} to {is:?}: {lowered}");
    // A rule of the user's own that names the candidate and not stable has nobody to send its users to; such a rule is reported.
    assert!(is == Exposure::ZERO || without_stable(&lowered), "lowering left users with the candidate: {lowered}");
    for shape in shapes() {
        if let Ok(rendered) = route::render(&live["spec"], &shape) {
            given(&live, &rendered, &shape);
        }
        for rule in ["0", "model", ""] {
            if let Ok(adopted) = route::adopt(&live, rule, &shape) {
                given(&live, &adopted["spec"], &shape);
                let released = route::release(&adopted, rule);
                assert_eq!(released["spec"]["parentRefs"], live["spec"]["parentRefs"], "giving a rule back changed what was not ours");
                assert_eq!(route::release(&released, rule), released, "giving back twice differs from once");
            }
        }
    }
}

/// Whether some rule does not name stable.
fn without_stable(route: &Value) -> bool {
    let names_stable = |rule: &Value| rule["backendRefs"].as_array().is_some_and(|refs| refs.iter().any(|one| one["name"] == "digits-a"));
    route["spec"]["rules"].as_array().is_some_and(|rules| !rules.iter().all(names_stable))
}

/// The candidate gets what the shape says, and no more, unless the owner of the route had named it before.
fn given(live: &Value, spec: &Value, shape: &Shape) {
    let whole = serde_json::json!({ "spec": spec });
    let found = route::exposure(&whole, "digits-b").share;
    let named = route::exposure(live, "digits-b").referenced;
    assert!(named || found <= shape.exposure(), "{found:?} instead of {:?} in {spec}", shape.exposure());
}

fn backend(name: &str) -> Backend {
    Backend { name: format!("digits-{name}"), port: 8080, revision: RevisionId::new(name) }
}

fn shapes() -> [Shape; 4] {
    let percent = |percent| Exposure::new(percent).unwrap();
    [
        Shape::Single { stable: backend("a") },
        Shape::Split { stable: backend("a"), candidate: backend("b"), exposure: percent(5) },
        Shape::Mirror { stable: backend("a"), candidate: backend("b"), percent: percent(25) },
        Shape::Sticky {
            stable: backend("a"),
            candidate: backend("b"),
            control: backend("a-control"),
            assignment: PlannedAssignment { carrier: IdCarrier::Header("x-user-id".into()), alphabet: Alphabet::Hex },
            offset: 7,
            slice: percent(50),
            control_on: true,
        },
    ]
}
