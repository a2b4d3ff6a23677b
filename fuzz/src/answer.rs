//! Answers of a metrics server, which may be anything that listens at its address: read, and folded into evidence.
//! Sends nothing.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::evidence::{Arm, Arms, Evidence, Reading, Readings};
use rollout_core::judge::{Moment, judge};
use rollout_core::plan::Plan;
use rollout_core::revision::RevisionId;
use rollout_core::spec::StageKind;
use rollout_core::validate::validate;
use rollout_core::verdict::Overall;
use rollout_core::weights::{Exposure, Position};
use serde_json::Value;

static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let case: Value = serde_json::from_str(include_str!("../corpus/rollout/canary.json")).unwrap();
    let (spec, policy) = (case["spec"].clone(), case["policy"].clone());
    validate(&serde_json::from_value(spec).unwrap(), &serde_json::from_value(policy).unwrap()).unwrap()
});

/// The body of an answer to a query of raw samples. The same answer to every query is never a reason to raise.
pub fn answer(data: &[u8]) {
    let reading = match espalier::prometheus::read_answer(data) {
        Ok(series) => Reading::Series(series.into_iter().map(Arc::new).collect()),
        Err(reason) => {
            assert!(!reason.to_string().is_empty());
            Reading::Failed(reason)
        }
    };
    let arm = |name: &str| Arm { namespace: "ns".into(), revision: Some(RevisionId::new(name)), ..Arm::default() };
    let arms = Arms { rollout: "digits".into(), candidate: arm("b"), stable: arm("a"), baseline: None };
    let began = DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap();
    let position = Position { stage: 1, step: 1 };
    let mut evidence = Evidence::start(&PLAN, RevisionId::new("b"), began, 0);
    evidence.moved(position, Exposure::new(5).unwrap(), StageKind::Canary, began);
    let mut now = began;
    for _ in 0..4 {
        now += PLAN.interval;
        let readings: Readings = Evidence::queries(&PLAN, &arms).into_iter().map(|query| (query, reading.clone())).collect();
        evidence.absorb(&PLAN, &arms, now, &readings);
        let moment = Moment {
            now,
            position,
            exposure: Exposure::new(5).unwrap(),
            attempt_started: began,
            stage_started: began,
            step_started: began,
            last_step: false,
        };
        let judgement = judge(&PLAN, &evidence, &moment);
        assert!(
            !matches!(judgement.overall, Overall::StagePass(_) | Overall::StepPass(_)),
            "a pass after {} of one and the same answer",
            now - began
        );
        let text = evidence.checkpoint().to_text();
        let read = rollout_core::evidence::Checkpoint::from_text(&text).unwrap();
        assert!(Evidence::restore(&PLAN, &read).is_ok(), "a checkpoint of our own cannot be read back");
    }
    assert!(now - began < TimeDelta::minutes(10));
}
