//! What is remembered of revisions that were rejected, and whose workloads are scaled when they are of no use: the operator's own, never the user's.
//! How a rejection comes about is told elsewhere.

use rollout_core::decide::{Write, decide};
use rollout_core::revision::RevisionId;
use serde_json::json;

use crate::fixtures::{baseline, harm_at, id_of, over_baseline, service, spec, spec_with, trial, user_service};
use crate::judge::Judge;
use crate::world::World;

#[test]
fn each_rejected_revision_is_latched_once_the_newest_first() {
    let mut world = trial();
    world.judge = harm_at(1, 0, 30);
    world.rest();
    world.apply(spec("c"));
    world.rest();
    world.ask("1", "retry", id_of(&spec("c")).as_str());
    world.rest();
    let latched: Vec<(&RevisionId, i32)> = world.status.rejected.iter().map(|r| (&r.revision, r.attempts)).collect();
    assert_eq!(latched, [(&id_of(&spec("c")), 2), (&id_of(&spec("b")), 1)]);
}

#[test]
fn what_served_before_is_remembered_once_and_what_serves_is_not_among_it() {
    let mut world = trial();
    world.rest();
    for (model, before) in [("a", "b"), ("b", "a")] {
        world.apply(spec(model));
        world.rest();
        let history: Vec<_> = world.status.history.iter().map(|h| &h.revision).collect();
        assert_eq!(history, [&id_of(&spec(before))], "{model} serves again");
    }
}

#[test]
fn a_checkpoint_ends_with_its_attempt_and_is_kept_when_there_is_no_newer_one() {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(1, 1) && w.status.checkpoint.is_some());
    let mut seen = world.observe();
    seen.checkpoint = None;
    let judgement = world.judge.judge(&world.status, world.plan().ok().as_ref(), world.now);
    assert!(judgement.is_some());
    let decided = decide(&seen, &world.plan(), judgement.as_ref(), world.now);
    assert_eq!(decided.status.checkpoint, world.status.checkpoint);
    world.judge = harm_at(1, 1, 0);
    world.run_until("rejected", |w| !w.status.rejected.is_empty());
    assert_eq!(world.status.checkpoint, None);
}

#[test]
fn a_rollback_repairs_what_it_sends_users_to() {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(1, 1) && w.candidate_share() == 5);
    world.workloads.get_mut(&id_of(&spec("a"))).unwrap().desired = 0;
    world.judge = harm_at(1, 1, 0);
    world.run_until("harm", |w| !w.decide().status.rejected.is_empty());
    let first = world.decide().first;
    assert!(matches!(&first[..], [Write::Route(_), Write::Ensure(stable)] if *stable == id_of(&spec("a"))), "{first:?}");
}

#[test]
fn a_rejected_workload_of_the_user_is_not_scaled() {
    let blue = spec_with("b", json!({"baseline": baseline(), "workload": {"backendRef": {"name": "blue", "port": 80}}}));
    let mut world = over_baseline(blue.clone());
    user_service(&mut world, &id_of(&blue), "blue");
    world.judge = harm_at(1, 0, 30);
    world.rest();
    assert_eq!(world.status.rejected.len(), 1);
    assert_eq!(world.workloads[&id_of(&blue)].desired, 1);
}

#[test]
fn what_the_operator_made_is_parked_also_when_the_user_runs_the_next_one() {
    let mut world = trial();
    world.judge = harm_at(1, 0, 30);
    world.run_until("rejected", |w| !w.status.rejected.is_empty());
    let green = spec_with("c", json!({"suspend": true, "workload": {"backendRef": {"name": "green", "port": 80}}}));
    user_service(&mut world, &id_of(&green), "green");
    world.apply(green);
    world.rest();
    assert_eq!(world.workloads[&id_of(&spec("b"))].desired, 0);
}

#[test]
fn a_rejected_revision_stays_named_without_users_for_as_long_as_its_service_is_there() {
    let named = |w: &World| w.route.as_ref().unwrap().to_string().contains(&service(&spec("b")));
    let mut world = trial();
    world.judge = harm_at(1, 0, 30);
    world.rest();
    for asked in ["b", "a"] {
        world.apply(spec(asked));
        world.rest();
        assert!(named(&world), "to take it out would cost the requests that it still answers");
        assert_eq!((world.share(&service(&spec("a"))), world.share(&service(&spec("b")))), (100, 0));
    }
    world.workloads.get_mut(&id_of(&spec("b"))).unwrap().service = false;
    world.rest();
    assert!(!named(&world));
}

#[test]
fn a_rejected_revision_is_kept_for_a_retry_when_another_one_serves() {
    let mut world = trial();
    world.judge = harm_at(1, 0, 30);
    world.rest();
    world.judge = Judge::default();
    world.apply(spec("c"));
    world.rest();
    assert!(!world.route.as_ref().unwrap().to_string().contains(&service(&spec("b"))));
    assert_eq!(world.workloads.get(&id_of(&spec("b"))).map(|pods| pods.desired), Some(0));
}

#[test]
fn a_route_that_is_made_anew_names_no_rejected_revision() {
    let mut world = trial();
    world.judge = harm_at(1, 0, 30);
    world.rest();
    world.foreign = true;
    world.route = None;
    world.rest();
    assert_eq!(world.share(&service(&spec("a"))), 100);
    assert!(!world.route.as_ref().unwrap().to_string().contains(&service(&spec("b"))));
}
