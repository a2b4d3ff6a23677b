//! What goes on while nothing is on trial: what serves is looked after, and what disturbs it is told once.
//! How a rollout gets there is told elsewhere.

use chrono::TimeDelta;
use serde_json::json;

use crate::fixtures::{id_of, service, serving, spec, spec_with, trying};

#[test]
fn a_lost_service_is_told_of_before_a_spec_that_cannot_be_used() {
    let mut world = serving(spec("a"));
    world.apply(spec_with("b", json!({"stages": [{"name": "x", "type": "Canary", "steps": ["50%", "5%"]}]})));
    world.rest();
    assert_eq!(world.condition("Stalled"), ("True", "InvalidSpec"));
    world.workloads.get_mut(&id_of(&spec("a"))).unwrap().service = false;
    world.step();
    assert_eq!(world.condition("Stalled"), ("True", "StableBackendMissing"));
}

#[test]
fn edits_at_rest_are_told_once_until_the_gateways_have_taken_what_was_put_back() {
    let mut world = serving(spec("a"));
    world.gateway_delay = TimeDelta::minutes(1);
    world.events.clear();
    let edit = |w: &mut crate::world::World| w.edit_route(|r| r["spec"]["hostnames"] = json!(["other.example"]));
    for _ in 0..2 {
        edit(&mut world);
        world.step();
        assert_eq!(world.share(&service(&spec("a"))), 100);
    }
    assert_eq!(world.reasons(), ["ForeignEdit"]);
    world.rest();
    edit(&mut world);
    world.step();
    assert_eq!(world.reasons(), ["ForeignEdit", "ForeignEdit"]);
}

#[test]
fn an_arm_that_drains_is_waited_for_and_not_asked_every_second() {
    let bare = |model| {
        spec_with(model, json!({"stages": [{"name": "canary", "type": "Canary", "steps": ["5%", "50%"]}], "probation": {"duration": "0s"}}))
    };
    let mut world = trying(bare("a"), bare("b"));
    world.run_until("promoted", |w| w.stable() == id_of(&bare("b")).as_str() && w.condition("TrafficApplied").0 == "True");
    world.run_until("quiet", |w| w.decide().first.is_empty());
    let next = world.decide().next_check;
    assert!(next > TimeDelta::seconds(5) && next <= TimeDelta::seconds(15), "{next}");
}
