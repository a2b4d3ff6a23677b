//! Every situation was reached by some story, and each has its row in the table of conditions.

use std::collections::BTreeSet;

use rollout_core::decide::Situation;
use rollout_core::spec::ReadyWhen;
use rollout_core::verdict::{Failure, Overall};
use serde_json::json;

use crate::fixtures::{id_of, spec, spec_with, trial, trial_at, trying};
use crate::judge::{Judge, failure};
use crate::kstatus::{Reading, expected};

#[test]
fn each_situation_reads_as_its_row_says() {
    let s = String::new;
    let rows = [
        (Situation::Terminating(s()), Reading::InProgress, Reading::InProgress),
        (Situation::Invalid(s()), Reading::Failed, Reading::Failed),
        (Situation::PolicyMissing(s()), Reading::InProgress, Reading::InProgress),
        (Situation::Initializing(s()), Reading::InProgress, Reading::InProgress),
        (Situation::HoldingInitial(s()), Reading::Failed, Reading::Failed),
        (Situation::Running(s()), Reading::InProgress, Reading::Current),
        (Situation::AwaitingApproval(s()), Reading::InProgress, Reading::Current),
        (Situation::Paused(s()), Reading::InProgress, Reading::Current),
        (Situation::Suspended(s()), Reading::InProgress, Reading::Current),
        (Situation::Blind(s()), Reading::InProgress, Reading::Current),
        (Situation::CandidateUnready(s()), Reading::InProgress, Reading::Current),
        (Situation::TrafficNotApplied(s()), Reading::InProgress, Reading::InProgress),
        (Situation::Promoted(s()), Reading::Current, Reading::Current),
        (Situation::RolledBack(s()), Reading::Failed, Reading::Failed),
        (Situation::StableMissing(s()), Reading::Failed, Reading::Failed),
    ];
    for (situation, promoted, accepted) in rows {
        assert_eq!(expected(&situation, None, true), promoted, "{situation:?}");
        assert_eq!(expected(&situation, Some(ReadyWhen::Accepted), true), accepted, "{situation:?}");
        assert_eq!(
            expected(&situation, Some(ReadyWhen::Accepted), false),
            promoted,
            "without anything that serves nothing is ready: {situation:?}"
        );
    }
}

#[test]
fn with_ready_when_accepted_a_long_trial_is_ready_and_a_rollback_is_not() {
    let accepted = |model| {
        let stages = json!([{"name": "canary", "type": "Canary", "steps": ["5%", "50%"], "approval": "Required"}]);
        spec_with(model, json!({"readyWhen": "Accepted", "stages": stages}))
    };
    let mut world = trying(accepted("a"), accepted("b"));
    world.run_until("there", |w| w.is_at(0, 0));
    assert_eq!(world.condition("Ready"), ("True", "Accepted"));
    assert_eq!(world.condition("Reconciling"), ("", ""));
    assert_eq!(world.condition("Promoted").0, "False");
    world.run_until("waiting", |w| w.condition("Approved").0 == "False");
    assert_eq!(world.condition("Ready"), ("True", "Accepted"), "waiting for a person is shown in Approved");
    world.judge = Judge::who(|_, _| Some(Overall::Fail(failure("Harmful"))));
    world.rest();
    assert_eq!((world.condition("Ready"), world.condition("Stalled").0), (("False", "RolledBack"), "True"));
}

#[test]
fn transition_times_move_with_the_status_of_a_condition_only() {
    let mut world = trial_at(1, 0);
    let time = |w: &crate::world::World, kind: &str| w.status.conditions.iter().find(|c| c.kind == kind).map(|c| c.last_transition_time);
    let (available, ready) = (time(&world, "Available"), time(&world, "Ready"));
    world.run_until("there", |w| w.is_at(1, 2));
    assert_eq!((time(&world, "Available"), time(&world, "Ready")), (available, ready));
    world.run_until("promoted", |w| w.stable() == id_of(&spec("b")).as_str());
    assert_ne!(time(&world, "Ready"), ready);
    assert_eq!(time(&world, "Available"), available);
}

#[test]
fn unknown_fields_of_a_newer_version_survive_a_whole_story() {
    let mut world = trial();
    world.status.unknown.insert("fromTheFuture".into(), json!({"a": [1, 2]}));
    world.rest();
    assert_eq!(world.status.unknown.get("fromTheFuture"), Some(&json!({"a": [1, 2]})));
}

#[test]
fn the_columns_tell_the_story() {
    let mut world = trial();
    let mut seen = BTreeSet::new();
    while world.stable() != id_of(&spec("b")).as_str() {
        world.step();
        let shown = &world.status.display;
        seen.insert(format!("{} {} {}", shown.stage, shown.step, shown.weight));
        assert!(!shown.message.is_empty() && !shown.verdict.is_empty() && !shown.next_check.is_empty());
        let line = [&shown.stage, &shown.step, &shown.weight, &shown.verdict, &shown.stable, &shown.candidate];
        assert!(line.iter().map(|column| column.len().max(8) + 3).sum::<usize>() < 100, "{line:?}");
    }
    for expected in
        ["Deploying - 0%", "Shadow 1/1 0%", "Canary 1/3 1%", "Canary 2/3 5%", "Canary 3/3 25%", "ABTest 1/1 50%", "Promoting - 100%"]
    {
        assert!(seen.contains(expected), "{expected} is not in {seen:?}");
    }
    assert_eq!(world.status.display.stable, format!("b-{}", &id_of(&spec("b")).as_str()[..4]));
}

#[test]
fn words_without_end_are_cut_to_what_the_api_server_takes() {
    let endless = "é".repeat(20_000);
    for kind in ["Fail", "Lower", "Inconclusive"] {
        let (words, mut world) = (endless.clone(), trial());
        world.judge = Judge::who(move |a, _| {
            if a.stage != 1 || a.intent.percent() == 0 {
                return None;
            }
            let failure = Failure { guardrail: "accuracy".into(), reason: "Harmful".into(), message: words.clone() };
            Some(match kind {
                "Fail" => Overall::Fail(failure),
                "Lower" => Overall::Lower(failure),
                _ => Overall::Inconclusive(failure),
            })
        });
        world.run_until("there", |w| w.is_at(1, 0));
        world.ask(&endless, &endless, &endless);
        for _ in 0..20 {
            world.step();
        }
        assert!(world.status.decisions.iter().any(|d| d.message.len() > 500), "the words came through: {kind}");
    }
}

#[test]
fn words_that_steer_a_terminal_reach_no_status_and_no_event() {
    let mut world = trial();
    world.judge = Judge::who(|a, _| {
        let message = "region \u{1b}[2J\u{202e}me is 60% worse\nthan stable".to_owned();
        (a.stage == 1).then(|| Overall::Fail(Failure { guardrail: "accuracy".into(), reason: "Harmful".into(), message }))
    });
    world.run_until("rolled back", |w| !w.status.rejected.is_empty());
    world.ask("\u{1b}]0;mine\u{7}", "promote\u{202e}", "b");
    world.step();
    let said = serde_json::to_value(&world.status).unwrap().to_string() + &format!("{:?}", world.events);
    assert!(said.contains("region  [2J me is 60% worse than stable"), "{said}");
    assert!(!said.contains("\\u001b") && !said.contains("\\u0007") && !said.contains('\u{202e}'), "{said}");
}
