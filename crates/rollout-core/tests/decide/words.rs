//! What people read of a decision: the rows of the evidence, the columns, the conditions that no tool waits on, the log, the events.
//! Which situation follows from what is told elsewhere.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::decide::{Decision, decide};
use rollout_core::revision::RevisionId;
use rollout_core::status::{EvidenceStatus, SliceStatus, Status};
use rollout_core::verdict::{Finding, Overall, SliceFinding, Verdict, WinFinding};
use serde_json::json;

use crate::fixtures::{baseline, harm_at, id_of, over_baseline, policy, service, serving, spec, spec_with, trial, trying};
use crate::judge::{Judge, failure, finding, judgement};
use crate::world::World;

/// What the operator makes of these findings at this moment.
fn decided(world: &World, findings: Vec<Finding>, overall: Overall) -> Decision {
    let judgement = judgement(world.now, findings, overall);
    decide(&world.observe(), &world.plan(), Some(&judgement), world.now)
}

/// A candidate at 5 %, of which no evidence is shown yet.
fn at_five() -> World {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(1, 1) && w.candidate_share() == 5);
    world.status.evidence.clear();
    world
}

fn told(world: &World, findings: Vec<Finding>) -> Status {
    decided(world, findings, Overall::Hold("watching".into())).status
}

fn named(name: &str, verdict: Verdict) -> Finding {
    Finding { guardrail: name.into(), ..finding(verdict) }
}

fn condition<'a>(status: &'a Status, kind: &str) -> (&'a str, &'a str, &'a str) {
    let found = status.conditions.iter().find(|c| c.kind == kind);
    found.map_or(("", "", ""), |c| (c.status.as_str(), c.reason.as_str(), c.message.as_str()))
}

#[test]
fn a_row_of_the_evidence_has_every_number_that_a_decision_can_be_checked_with() {
    let (twentieth, eightieth, share) = (20.0_f64.ln(), 80.0_f64.ln(), 1360.0_f64.ln());
    let full = Finding {
        effective_samples: Some(150),
        slices: vec![SliceFinding {
            slice: "region=eu".into(),
            verdict: Verdict::Proven,
            counts: true,
            value: Some("-0.1pp".into()),
            samples: (120, 2400),
            log_e_proof: 3.2,
            log_e_harm: -1.1,
            thresholds: (twentieth, share),
        }],
        win: Some(WinFinding { promised: "0.8x vs stable".into(), log_e: 1.25, threshold: 3.69 }),
        thresholds: (twentieth, eightieth),
        eta: Some((TimeDelta::minutes(12), TimeDelta::minutes(48))),
        ..finding(Verdict::Undecided)
    };
    let row = EvidenceStatus {
        guardrail: "accuracy".into(),
        verdict: Verdict::Undecided,
        reason: "Undecided".into(),
        value: "+0.3pp".into(),
        target: "+2pp vs stable".into(),
        critical: "+5pp vs stable".into(),
        interval: "-0.4pp to +1.0pp".into(),
        samples: 200,
        reference_samples: 4000,
        effective_samples: Some(150),
        log_e: "proof 1.00/3.00 harm -0.50/4.38 warning -0.20/4.38".into(),
        win: "0.8x vs stable 1.25/3.69".into(),
        risk: "promotion 5% rollback 1.25% each slice 0.0735%".into(),
        slices: vec![SliceStatus {
            slice: "region=eu".into(),
            verdict: Verdict::Proven,
            counts: true,
            value: "-0.1pp".into(),
            samples: 120,
            reference_samples: 2400,
            log_e: "proof 3.20/3.00 harm -1.10/7.22".into(),
        }],
        eta: "12m to 48m".into(),
        message: "accuracy is +0.3pp vs stable, at most +2pp are allowed".into(),
    };
    assert_eq!(told(&at_five(), vec![full]).evidence, [row]);
}

#[test]
fn a_row_of_the_evidence_leaves_out_what_a_guardrail_does_not_have() {
    let world = at_five();
    let half = Finding { log_e_proof: None, log_e_warning: None, thresholds: (3.0, 4.0), ..finding(Verdict::Undecided) };
    let limit = |thresholds| Finding { log_e_proof: None, log_e_harm: None, log_e_warning: None, thresholds, ..finding(Verdict::Proven) };
    let rows = told(&world, vec![half, limit((0.0, 0.0)), limit((0.0, 4.0)), limit((3.0, 0.0))]).evidence;
    assert_eq!(rows[0].log_e, "proof - harm -0.50/4.00 warning -");
    assert!(rows[0].win.is_empty() && rows[0].eta.is_empty() && rows[0].slices.is_empty(), "{:?}", rows[0]);
    for row in &rows[1..] {
        assert_eq!((row.log_e.as_str(), row.risk.as_str()), ("", ""), "a limit has no risk to share");
    }
}

#[test]
fn the_risk_of_the_plan_that_is_judged_by_is_stated() {
    let mut world = at_five();
    world.status.risk = None;
    let status = told(&world, vec![finding(Verdict::Proven)]);
    assert_eq!(status.risk.unwrap().plan_hash, status.attempt.unwrap().plan_hash);
}

#[test]
fn guardrails_are_as_healthy_as_the_worst_of_them() {
    use Verdict::{Harmful, Inactive, Proven, Undecided, Unmeasurable, Warning};
    let world = at_five();
    for (verdicts, expected) in [
        (vec![Proven, Unmeasurable, Warning, Harmful], ("False", "Harmful")),
        (vec![Proven, Unmeasurable, Warning], ("False", "Warning")),
        (vec![Proven, Unmeasurable], ("Unknown", "Stale")),
        (vec![Proven, Undecided], ("True", "NoHarmSeen")),
        (vec![Proven, Inactive], ("True", "Proven")),
        (vec![], ("", "")),
    ] {
        let findings = verdicts.iter().enumerate().map(|(n, verdict)| named(&format!("g{n}"), *verdict)).collect();
        let status = told(&world, findings);
        let (healthy, reason, _) = condition(&status, "GuardrailsHealthy");
        assert_eq!((healthy, reason), expected, "{verdicts:?}");
    }
}

#[test]
fn the_column_of_verdicts_counts_what_is_proven_of_what_is_asked_here() {
    let world = at_five();
    let findings =
        vec![named("a", Verdict::Proven), named("b", Verdict::Proven), named("c", Verdict::Undecided), named("d", Verdict::Inactive)];
    assert_eq!(told(&world, findings).display.verdict, "Proven 2/3");
    assert_eq!(told(&world, vec![named("c", Verdict::Inactive)]).display.verdict, "Waiting");
}

/// A rollout whose status was lost in the middle of a trial, with the route.
fn lost() -> World {
    let mut world = trial();
    world.run_until("there", |w| w.is_at(1, 2));
    world.foreign = true;
    world.status = Status::default();
    world.route = None;
    world
}

fn broken() -> rollout_core::spec::RolloutSpec {
    spec_with("b", json!({"stages": [{"name": "x", "type": "Canary", "steps": ["50%", "5%"]}]}))
}

#[test]
fn the_column_of_verdicts_has_a_word_for_everything_that_can_hold_a_rollout() {
    let shown = |mut world: World, reason: &str| {
        world.run_until(reason, |w| w.condition("Ready").1 == reason);
        world.status.display.verdict
    };
    assert_eq!(shown(serving(spec("a")), "Promoted"), "Promoted");
    let mut world = trial();
    world.judge = harm_at(1, 0, 30);
    assert_eq!(shown(world, "RolledBack"), "RolledBack");
    assert_eq!(shown(trying(spec("a"), broken()), "InvalidSpec"), "Invalid");
    let asked = json!({"stages": [{"name": "one", "type": "Canary", "steps": ["5%"], "approval": "Required"}]});
    assert_eq!(shown(trying(spec("a"), spec_with("b", asked)), "AwaitingApproval"), "Approve?");
    let mut world = at_five();
    world.ask("1", "pause", id_of(&spec("b")).as_str());
    assert_eq!(shown(world, "Paused"), "Paused");
    assert_eq!(shown(trying(spec("a"), spec_with("b", json!({"suspend": true}))), "Suspended"), "Suspended");
    let mut world = at_five();
    world.judge = Judge::who(|a, _| (a.step == 1).then(|| Overall::Lower(failure("Blind"))));
    assert_eq!(shown(world, "MetricsUnavailable"), "Blind");
    let mut world = at_five();
    world.workloads.get_mut(&id_of(&spec("b"))).unwrap().ready = 0;
    assert_eq!(shown(world, "CandidateUnready"), "NotReady");
    assert_eq!(shown(World::new(spec_with("b", json!({"baseline": baseline()})), policy()), "StableBackendMissing"), "StableGone");
    assert_eq!(shown(lost(), "HoldingInitial"), "Holding");
    let mut world = at_five();
    world.deleting = true;
    assert_eq!(world.decide().status.display.verdict, "Deleting");
}

#[test]
fn trouble_that_no_decision_tells_of_is_one_warning() {
    let mut foreign = World::new(spec("a"), policy());
    let mut route = crate::fixtures::user_route();
    route["metadata"]["name"] = json!("digits");
    foreign.set_route(route);
    let mut missing = serving(spec("a"));
    missing.policy = None;
    missing.apply(spec("b"));
    let cases = [
        ("InvalidSpec", trying(spec("a"), broken())),
        ("PolicyNotFound", missing),
        ("HoldingInitial", lost()),
        ("TrafficNotApplied", foreign),
        ("StableBackendMissing", World::new(spec_with("b", json!({"baseline": baseline()})), policy())),
    ];
    for (reason, mut world) in cases {
        world.run_until(reason, |w| w.condition("Ready").1 == reason);
        for _ in 0..6 {
            world.step();
        }
        let told: Vec<_> = world.events.iter().filter(|e| e.reason == reason).collect();
        assert_eq!(told.len(), 1, "{reason}: {:?}", world.events);
        assert!(told[0].warning && !told[0].message.is_empty(), "{:?}", told[0]);
    }
}

#[test]
fn a_rollout_is_settled_only_when_nothing_is_on_trial_or_under_way() {
    let mut world = trial();
    while world.stable() != id_of(&spec("b")).as_str() {
        world.step();
        assert!(world.status.attempt.is_none() || world.condition("Settled").0 == "False", "{:?}", world.status.attempt);
    }
    for suspended in [false, true] {
        let mut world = at_five();
        if suspended {
            world.apply(spec_with("b", json!({"suspend": true})));
        } else {
            world.ask("1", "pause", id_of(&spec("b")).as_str());
        }
        world.step();
        assert_eq!(world.condition("Settled").0, "False", "a trial that is held is not over");
    }
    let mut world = at_five();
    world.apply(spec("c"));
    world.step();
    assert_eq!((world.status.attempt.is_some(), world.condition("Settled").0), (false, "False"), "another trial is about to start");
    let cancelled = &world.status.decisions[0];
    assert_eq!((cancelled.action.as_str(), &cancelled.revision), ("Cancelled", &id_of(&spec("b"))), "it is about the one that goes");
}

#[test]
fn what_is_not_promoted_is_on_trial_until_it_was_rejected() {
    let mut world = at_five();
    assert_eq!(world.condition("Promoted"), ("False", "OnTrial"));
    world.judge = harm_at(1, 1, 0);
    world.rest();
    assert_eq!(world.condition("Promoted"), ("False", "RolledBack"));
    world.judge = Judge::default();
    world.ask("1", "retry", id_of(&spec("b")).as_str());
    world.run_until("tried again", |w| w.is_at(1, 0));
    assert_eq!(world.condition("Promoted"), ("False", "OnTrial"), "the latch holds, and it is on trial once more");
    world.judge = harm_at(1, 0, 0);
    world.run_until("rejected", |w| w.status.attempt.is_none());
    world.apply(spec_with("c", json!({"suspend": true})));
    world.rest();
    assert_eq!(world.condition("Promoted"), ("False", "OnTrial"), "another revision was rejected, not this one");
}

#[test]
fn an_approval_names_the_stage_as_people_count() {
    let stages = json!([{"name": "one", "type": "Canary", "steps": ["5%"], "approval": "Required"}, {"name": "two", "type": "Canary", "steps": ["50%"]}]);
    let b = spec_with("b", json!({"stages": stages}));
    let mut world = trying(spec("a"), b.clone());
    world.run_until("waiting", |w| w.condition("Approved").0 == "False");
    world.ask("1", "approve", id_of(&b).as_str());
    world.step();
    assert_eq!(condition(&world.status, "Approved"), ("True", "Approved", "stage 1 was approved"));
}

#[test]
fn a_candidate_that_loses_its_endpoints_is_lowered_when_it_has_users_and_held_when_it_has_none() {
    for (stage, step, action, begins, ends) in [
        (0, 0, "Held", "no endpoint of", "is ready while it gets mirrored requests"),
        (1, 1, "Lowered", "exposure 5% to 0%: no endpoint of", "is ready while it has 5% of the users"),
    ] {
        let mut world = trial();
        world.run_until("there", |w| w.is_at(stage, step) && w.candidate_share() == if step == 1 { 5 } else { 0 });
        world.workloads.get_mut(&id_of(&spec("b"))).unwrap().ready = 0;
        world.step();
        assert_eq!(world.status.decisions[0].action, action);
        let message = &world.events.last().unwrap().message;
        assert!(message.starts_with(begins) && message.ends_with(ends), "{message}");
        assert!(message.contains(&service(&spec("b"))), "{message}");
    }
}

#[test]
fn a_baseline_that_stays_away_is_told_once() {
    let mut world = over_baseline(spec_with("b", json!({"baseline": baseline()})));
    world.run_until("there", |w| w.candidate_share() == 5);
    let stable = world.status.stable.clone().unwrap().revision;
    world.workloads.remove(&stable);
    world.services.clear();
    for _ in 0..20 {
        world.step();
    }
    assert_eq!(world.status.decisions.iter().filter(|d| d.reason == "StableBackendMissing").count(), 1);
    assert_eq!(world.reasons().iter().filter(|reason| **reason == "StableBackendMissing").count(), 1);
}

#[test]
fn the_log_says_where_it_was_decided_and_on_which_numbers() {
    let world = at_five();
    let unknown = Finding { value: None, interval: None, ..named("latency", Verdict::Unmeasurable) };
    let findings = vec![finding(Verdict::Harmful), named("drift", Verdict::Inactive), unknown];
    let decision = decided(&world, findings, Overall::Fail(failure("Harmful")));
    let record = &decision.status.decisions[0];
    assert_eq!((record.action.as_str(), record.stage.as_str(), record.step.as_str()), ("RolledBack", "canary", "2/3"));
    assert_eq!((&record.revision, record.from.percent(), record.to.percent()), (&id_of(&spec("b")), 5, 0));
    assert_eq!((record.guardrail.as_str(), record.reason.as_str()), ("accuracy", "Harmful"));
    assert_eq!(
        record.numbers,
        [
            "accuracy: Harmful +0.3pp (-0.4pp to +1.0pp), target +2pp vs stable, critical +5pp vs stable, n 200 vs 4000",
            "latency: Unmeasurable not measured, target +2pp vs stable, critical +5pp vs stable, n 200 vs 4000",
        ]
    );
}

#[test]
fn the_note_that_a_rollback_leaves_on_the_route_names_the_decision_in_the_log() {
    let mut world = at_five();
    world.judge = harm_at(1, 1, 0);
    world.run_until("rejected", |w| !w.status.rejected.is_empty());
    let note = rollout_core::route::read_note(world.route.as_ref().unwrap()).unwrap();
    assert_eq!(note.id, world.status.decisions[0].id);
}

#[test]
fn decisions_are_numbered_one_after_the_other_and_name_whom_they_are_about() {
    let mut world = trial();
    world.rest();
    let ids: Vec<Vec<&str>> = world.status.decisions.iter().map(|d| d.id.split('.').collect()).collect();
    let numbers: Vec<u64> = ids.iter().map(|id| id[2].parse().unwrap()).collect();
    assert!(numbers.len() > 5 && numbers.windows(2).all(|pair| pair[0] == pair[1] + 1), "newest first, none left out: {numbers:?}");
    let about: BTreeSet<RevisionId> = world.status.decisions.iter().map(|d| d.revision.clone()).collect();
    assert_eq!(about, [id_of(&spec("a")), id_of(&spec("b"))].into(), "{ids:?}");
}

/// More than `least` moments, a minute from one to the next; the first two may lie otherwise.
fn assert_once_a_minute(mut stored: Vec<DateTime<Utc>>, least: usize) {
    stored.dedup();
    assert!(stored.len() > least, "{stored:?}");
    assert!(stored[1..].windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::minutes(1)), "{stored:?}");
}

#[test]
fn evidence_that_goes_on_is_stored_once_a_window() {
    let mut world = at_five();
    world.apply(spec_with("b", json!({"suspend": true})));
    let mut stored = Vec::new();
    for _ in 0..60 {
        world.step();
        stored.extend(world.status.checkpoint.as_ref().map(|c| c.at));
    }
    assert_once_a_minute(stored, 8);
}

#[test]
fn evidence_of_a_probation_is_stored_once_a_window_too() {
    let mut world = trial();
    world.run_until("promoted", |w| w.status.probation.is_some() && w.condition("TrafficApplied").0 == "True");
    let mut stored = Vec::new();
    while world.status.probation.is_some() {
        world.step();
        stored.extend(world.status.checkpoint.as_ref().map(|c| c.at));
    }
    assert_once_a_minute(stored, 6);
}

#[test]
fn who_waits_for_a_deployment_reads_how_many_pods_are_ready_now() {
    let mut world = trial();
    world.run_until("deploying", |w| w.workloads.contains_key(&id_of(&spec("b"))));
    for (ready, shown) in [(0, "0 of 2 endpoints ready"), (1, "1 of 2 endpoints ready")] {
        world.workloads.get_mut(&id_of(&spec("b"))).unwrap().ready = ready;
        world.step();
        assert!(world.status.display.message.contains(shown), "{}", world.status.display.message);
    }
}
