//! Anything at any time, from a seed: specs, requests, policies, pods, Services, gateways, judgements and crashes in any order.
//! The world checks every write; afterwards the faults end, and a fresh revision must get through without a person.

use chrono::TimeDelta;
use rollout_core::observed::Cause;
use rollout_core::verdict::Overall;
use serde_json::json;

use crate::fixtures::{failure_free_end, policy, spec, spec_with, trial};
use crate::judge::{Judge, failure};
use crate::world::{Crash, World};

/// A generator that gives the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }
}

fn opinion(dice: &mut Dice) -> Judge {
    let (stage, step, kind) = (i32::try_from(dice.roll(3)).unwrap(), i32::try_from(dice.roll(3)).unwrap(), dice.roll(5));
    Judge::who(move |attempt, _| {
        if attempt.stage != stage || attempt.step != step {
            return None;
        }
        match kind {
            0 => Some(Overall::Fail(failure("Harmful"))),
            1 => Some(Overall::Inconclusive(failure("Warning"))),
            2 => Some(Overall::Lower(failure("CandidateSilent"))),
            3 => Some(Overall::Hold("nothing to say".into())),
            _ => None,
        }
    })
}

fn some_spec(dice: &mut Dice) -> rollout_core::spec::RolloutSpec {
    let model = dice.pick(&["a", "b", "c", "d"]);
    match dice.roll(6) {
        0 => spec_with(model, json!({"suspend": true})),
        1 => spec_with(model, json!({"onInconclusive": "Pause"})),
        2 => spec_with(model, json!({"stages": [{"name": "x", "type": "Canary", "steps": ["50%", "5%"]}]})),
        3 => spec_with(
            model,
            json!({"stages": [{"name": "ab", "type": "ABTest", "steps": ["10%", "30%"], "assignment": {"header": "x-id"}}]}),
        ),
        _ => spec(model),
    }
}

fn some_pods(world: &mut World, dice: &mut Dice) {
    let revisions: Vec<_> = world.workloads.keys().cloned().collect();
    let revision = &revisions[usize::try_from(dice.roll(revisions.len() as u64)).unwrap()];
    let ready_at = world.now + TimeDelta::seconds(90);
    let workload = world.workloads.get_mut(revision).unwrap();
    match dice.roll(4) {
        0 => (workload.ready, workload.ready_at) = (0, Some(ready_at)),
        1 => workload.service = false,
        2 => workload.control = false,
        _ => workload.tripped = Some(Cause { reason: "OOMKilled".into(), message: "killed for memory".into() }),
    }
}

fn something(world: &mut World, dice: &mut Dice) {
    match dice.roll(11) {
        0 => world.apply(some_spec(dice)),
        1 | 2 => {
            let candidate =
                world.status.candidate.as_ref().or(world.status.stable.as_ref()).map(|s| s.revision.to_string()).unwrap_or_default();
            let verb = dice.pick(&["promote", "abort", "retry", "pause", "resume", "approve", "rollback", "nonsense"]);
            let id = dice.roll(1 << 20).to_string();
            world.ask(&id, verb, &candidate);
        }
        3 => {
            let generation = world.policy.as_ref().map_or(1, |(g, _)| *g) + 1;
            let mut edited = serde_json::to_value(policy()).unwrap();
            edited["guardrails"][0]["target"] = json!(dice.pick(&["+1pp vs stable", "+2pp vs stable", "+9pp vs stable"]));
            world.policy = (dice.roll(4) > 0).then(|| (generation + 10, serde_json::from_value(edited).unwrap()));
        }
        4 | 5 => some_pods(world, dice),
        6 => world.gateway_delay = TimeDelta::seconds(i64::try_from(dice.roll(60)).unwrap()),
        7 => world.judge = opinion(dice),
        8 => world.judge.silent = dice.roll(2) == 0,
        9 => world.judge.regret = (dice.roll(3) == 0).then(|| failure("Harmful")),
        _ => {
            let (at, lands) = (world.writes + 1 + usize::try_from(dice.roll(3)).unwrap(), dice.roll(2) == 0);
            world.crash = Some(Crash { at, lands, downtime: TimeDelta::seconds(i64::try_from(dice.roll(400)).unwrap()) });
        }
    }
}

fn story(seed: u64, foreign: bool) {
    let mut dice = Dice(seed);
    let mut world = trial();
    world.judge.interval = TimeDelta::seconds(30);
    for _ in 0..60 {
        for _ in 0..=dice.roll(12) {
            world.step();
        }
        something(&mut world, &mut dice);
        world.judge.interval = TimeDelta::seconds(30);
        if foreign && dice.roll(3) == 0 && world.route.is_some() {
            let weight = i64::try_from(dice.roll(101)).unwrap();
            world.edit_route(|route| {
                let rules = route["spec"]["rules"].as_array_mut().unwrap();
                if weight == 100 {
                    rules.truncate(1);
                    rules[0]["backendRefs"] = json!([{"name": "elsewhere", "port": 80, "weight": 100}]);
                } else if let [first, second, ..] = rules[0]["backendRefs"].as_array_mut().unwrap().as_mut_slice() {
                    (first["weight"], second["weight"]) = (json!(100 - weight), json!(weight));
                }
            });
        }
    }
    // The faults end.
    world.judge = Judge::default();
    world.gateway_delay = TimeDelta::milliseconds(50);
    world.policy = Some((1000, policy()));
    world.request = None;
    for workload in world.workloads.values_mut() {
        workload.tripped = None;
        if workload.desired > 0 {
            (workload.ready, workload.ready_at) = (workload.desired, None);
        }
    }
    world.apply(spec("fresh"));
    world.rest();
    failure_free_end(&world, &spec("fresh"));
}

/// How many seeds: few by default, as many as wanted with `ESPALIER_CHAOS_SEEDS`.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    0..std::env::var("ESPALIER_CHAOS_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

#[test]
fn after_anything_a_fresh_revision_gets_through() {
    for seed in seeds(12) {
        eprintln!("seed {seed}");
        story(seed, false);
    }
}

#[test]
fn after_anything_and_other_hands_on_the_route_a_fresh_revision_gets_through() {
    for seed in seeds(8) {
        eprintln!("seed {seed}");
        story(seed, true);
    }
}
