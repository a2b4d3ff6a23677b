//! Clocks that somebody sets, and times that lie behind or ahead of now.

use chrono::{SubsecRound, TimeDelta};

use crate::fixtures::{exposed_at, failure_free_end, id_of, killed, pods, service, spec, trial, trial_at};

#[test]
fn a_clock_that_is_put_forward_rejects_nobody_who_had_no_time_to_become_ready() {
    let mut world = trial_at(1, 1);
    pods(&mut world, "b").ready = 0;
    world.step();
    assert_eq!(world.candidate_share(), 0);
    world.now += TimeDelta::minutes(15);
    world.acting_since = world.now;
    world.step();
    assert_eq!(world.status.rejected, []);
    pods(&mut world, "b").ready = 2;
    world.rest();
    failure_free_end(&world, &spec("b"));
}

#[test]
fn a_clock_that_is_put_back_leaves_nobody_on_a_candidate_that_nobody_judges() {
    let mut world = exposed_at(1, 2, 25);
    world.judge.silent = true;
    world.now -= TimeDelta::minutes(15);
    let since = world.now;
    world.run_until("lowered", |w| w.candidate_share() == 0);
    assert!(world.now - since < TimeDelta::minutes(1), "what was judged last is no excuse for as long as it lies ahead");
}

#[test]
fn a_kill_that_was_decided_on_before_a_retry_is_not_held_against_it() {
    let mut world = trial_at(1, 1);
    let now = world.now;
    let workload = pods(&mut world, "b");
    (workload.tripped, workload.tripped_at) = (Some(killed()), Some(now));
    world.step();
    assert_eq!((world.share(&service(&spec("b"))), world.status.rejected[0].reason.as_str()), (0, "OOMKilled"));
    world.now += TimeDelta::minutes(1);
    world.ask("again", "retry", id_of(&spec("b")).as_str());
    world.run_until("tried again", |w| w.is_at(1, 1));
    let now = world.now;
    pods(&mut world, "b").tripped_at = Some(now);
    world.step();
    let latch = &world.status.rejected[0];
    assert_eq!((latch.reason.as_str(), latch.attempts), ("OOMKilled", 2), "the next one is");
}

#[test]
fn a_kill_that_nobody_has_decided_on_counts_whenever_it_was() {
    let mut world = trial();
    world.run_until("there", |w| w.status.attempt.is_some());
    let workload = world.workloads.entry(id_of(&spec("b"))).or_default();
    (workload.tripped, workload.tripped_at) = (Some(killed()), Some(world.now - TimeDelta::hours(1)));
    assert_eq!(world.decide().status.rejected[0].reason, "OOMKilled", "the first try may find pods that were there before it");

    world.rest();
    world.ask("again", "retry", id_of(&spec("b")).as_str());
    world.step();
    let second = world.status.attempt.as_ref().unwrap().started.trunc_subsecs(0);
    world.status.attempt.as_mut().unwrap().started = second + TimeDelta::milliseconds(700);
    for (at, rejections) in [(second - TimeDelta::seconds(1), 1), (second, 2)] {
        pods(&mut world, "b").tripped_at = Some(at);
        let rejected = &world.decide().status.rejected[0];
        assert_eq!(rejected.attempts, rejections, "pods tell their times in whole seconds: {at}");
    }
}
