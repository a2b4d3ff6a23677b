//! The rules by which deployment tools read a status, ported, and what they must read in every situation.

use rollout_core::decide::Situation;
use rollout_core::spec::ReadyWhen;
use rollout_core::status::Status;
use serde_json::Value;

/// What a tool makes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    InProgress,
    Failed,
    Current,
}

/// The rules, on the JSON that a tool sees.
pub fn read(status: &Value, generation: i64) -> Reading {
    if let Some(observed) = status.get("observedGeneration")
        && observed.as_i64().expect("observedGeneration is an integer") != generation
    {
        return Reading::InProgress;
    }
    let none = Vec::new();
    let conditions = status.get("conditions").and_then(Value::as_array).unwrap_or(&none);
    for condition in conditions {
        match (condition["type"].as_str().unwrap(), condition["status"].as_str().unwrap()) {
            ("Reconciling", "True") => return Reading::InProgress,
            ("Stalled", "True") => return Reading::Failed,
            _ => {}
        }
    }
    match conditions.iter().find(|c| c["type"] == "Ready").map(|c| c["status"].as_str().unwrap()) {
        Some("False" | "Unknown") => Reading::InProgress,
        Some(_) | None => Reading::Current,
    }
}

/// What must be read in a situation.
pub fn expected(situation: &Situation, ready_when: Option<ReadyWhen>, available: bool) -> Reading {
    let accepted = ready_when == Some(ReadyWhen::Accepted) && available;
    match situation {
        Situation::Promoted(_) => Reading::Current,
        Situation::Invalid(_) | Situation::HoldingInitial(_) | Situation::RolledBack(_) | Situation::StableMissing(_) => Reading::Failed,
        Situation::Running(_)
        | Situation::AwaitingApproval(_)
        | Situation::Paused(_)
        | Situation::Suspended(_)
        | Situation::Blind(_)
        | Situation::CandidateUnready(_)
            if accepted =>
        {
            Reading::Current
        }
        _ => Reading::InProgress,
    }
}

/// Checks a status that is to be written.
pub fn check(status: &Status, generation: i64, situation: &Situation, ready_when: Option<ReadyWhen>) {
    let json = serde_json::to_value(status).unwrap();
    let is = |kind: &str, value: &str| status.conditions.iter().any(|c| c.kind == kind && c.status == value);
    assert_eq!(status.observed_generation, generation, "the status describes what was seen");
    assert_eq!(
        read(&json, generation),
        expected(situation, ready_when, is("Available", "True")),
        "{situation:?}: {:#?}",
        status.conditions
    );
    assert_eq!(read(&json, generation + 1), Reading::InProgress, "an edit that was not seen yet is in progress");
    let mut kinds: Vec<_> = status.conditions.iter().map(|c| c.kind.as_str()).collect();
    for kind in ["Ready", "Available", "Promoted", "TrafficApplied", "PolicyResolved", "Settled"] {
        assert!(kinds.contains(&kind), "{kind} is always said");
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), status.conditions.len(), "each condition once");
    assert!(!is("Reconciling", "False") && !is("Stalled", "False"), "absent rather than False");
    assert!(!(is("Ready", "False") && !is("Stalled", "True") && !is("Reconciling", "True")), "a tool would wait for ever");
}

#[test]
fn an_object_that_was_never_seen_is_in_progress() {
    assert_eq!(read(&serde_json::json!({"observedGeneration": -1}), 1), Reading::InProgress);
}
