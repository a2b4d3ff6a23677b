//! What goes on while nothing is on trial: what serves is looked after, and what disturbs it is told once.
//! How a rollout gets there is told elsewhere.

use chrono::TimeDelta;
use rollout_core::decide::Write;
use rollout_core::status::Status;
use serde_json::json;

use crate::fixtures::{harm_at, id_of, policy, service, serving, spec, spec_with, trial, trying};
use crate::judge::Judge;
use crate::world::World;

#[test]
fn nobody_is_sent_to_a_first_revision_before_its_pods_are_ready() {
    let mut world = World::new(spec("a"), policy());
    world.run_until("routed", |w| w.route.is_some());
    assert_eq!(world.workloads[&id_of(&spec("a"))].ready, 2);
}

#[test]
fn a_lost_status_is_found_again_beside_older_revisions_and_with_the_name_of_the_model() {
    let mut world = serving(spec("a"));
    for model in ["b", "c"] {
        world.apply(spec(model));
        world.judge = if model == "b" { harm_at(1, 0, 30) } else { Judge::default() };
        world.run_until(model, |w| !w.status.rejected.is_empty() && (model == "b" || w.is_at(1, 2)));
    }
    world.foreign = true;
    world.status = Status::default();
    world.run_until("found", |w| w.status.stable.is_some());
    assert_eq!(world.stable(), id_of(&spec("a")).as_str());

    let mut world = trial();
    world.rest();
    world.status = Status::default();
    world.rest();
    let stable = world.status.stable.as_ref().unwrap();
    assert_eq!((stable.uri.as_str(), stable.digest.as_str()), ("oci://registry.example/b@sha256:b", "sha256:b"));
}

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
    let edit = |w: &mut World| w.edit_route(|r| r["spec"]["hostnames"] = json!(["other.example"]));
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
fn an_arm_that_drains_is_named_for_as_long_as_requests_may_take_and_not_asked_every_second() {
    let canary = json!({"name": "canary", "type": "Canary", "steps": ["5%", "50%"]});
    let bare = |model| spec_with(model, json!({"stages": [canary], "probation": {"duration": "0s"}}));
    let mut world = trying(bare("a"), bare("b"));
    world.run_until("promoted", |w| w.stable() == id_of(&bare("b")).as_str());
    let since = world.status.stable.as_ref().unwrap().since;
    let named = |w: &World| w.route.as_ref().unwrap().to_string().contains(&service(&bare("a")));
    world.run_until("quiet", |w| w.decide().first.is_empty() && w.condition("TrafficApplied").0 == "True");
    let next = world.decide().next_check;
    assert!(next > TimeDelta::seconds(5) && next <= TimeDelta::seconds(15), "{next}");
    world.run_until("taken out", |w| !named(w));
    assert!(world.now - since >= TimeDelta::seconds(15));
    world.rest();
    assert!(!named(&world));
}

#[test]
fn pods_that_somebody_sends_users_to_are_not_parked_though_nobody_knows_since_when() {
    let mut world = trial();
    world.judge = harm_at(1, 0, 30);
    world.rest();
    world.workloads.get_mut(&id_of(&spec("b"))).unwrap().desired = 2;
    world.edit_route(|route| {
        for reference in route["spec"]["rules"][0]["backendRefs"].as_array_mut().unwrap() {
            reference["weight"] = json!(50);
        }
    });
    world.route.as_mut().unwrap()["metadata"]["managedFields"] = json!([]);
    world.now += TimeDelta::seconds(1);
    world.run_until("taken", |_| true);
    assert_eq!(world.share(&service(&spec("b"))), 50);
    let first = world.decide().first;
    assert!(matches!(first[..], [Write::Route(_)]), "{first:?}");
}

#[test]
fn a_rule_of_the_user_gives_nobody_to_a_revision_that_was_rejected() {
    let mut world = trial();
    world.judge = harm_at(1, 0, 30);
    world.rest();
    let testers = json!({"name": "testers", "matches": [{"headers": [{"name": "x-qa", "value": "1"}]}],
        "backendRefs": [{"name": service(&spec("b")), "port": 8080}]});
    world.apply(spec_with("a", json!({"route": {"template": {"parentRefs": [{"name": "gw"}], "rules": [{"name": "model"}, testers]}}})));
    world.rest();
    assert_eq!((world.share(&service(&spec("a"))), world.share(&service(&spec("b")))), (100, 0));
    let message = &world.status.display.message;
    assert!(message.contains("names its Service"), "{message}");
}
