//! Whatever the samples are, the fold stays defined and repeatable, and nothing undefined passes.

use std::sync::Arc;

use chrono::DateTime;
use proptest::prelude::*;
use rollout_core::evidence::{Evidence, Reading, Readings, Sample, Series};
use rollout_core::judge::judge;
use rollout_core::plan::{Drift, Energy, EnergyBound, Guardrail, LevelBound, Measure, Test};
use rollout_core::revision::RevisionId;
use rollout_core::spec::StageKind;
use rollout_core::verdict::{Overall, Verdict};
use rollout_core::weights::{Exposure, Position};

use crate::plans::*;
use crate::world::*;

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (0u32..2_000).prop_map(f64::from),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(-1.0),
        1 => Just(1e300),
    ]
}

/// Drift over what happens to be in `le`, and energy of whatever reports.
fn odd() -> [Guardrail; 2] {
    let (bins, label) = (selector("classes_total", &[]), "le".to_owned());
    let mix = Drift { bins, label, measure: Measure::Psi, recorded: None, target: 0.1, critical: 0.2 };
    let joules = Energy {
        consumption: selector("gpu_energy_total", &[]),
        joules: 1.0,
        inferences: selector("requests_total", &[]),
        device_labels: Vec::new(),
        carbon: None,
        target: EnergyBound::Absolute(1.0),
        critical: EnergyBound::Absolute(2.0),
    };
    [guardrail("mix", Test::Drift(mix)), guardrail("energy", Test::Energy(joules))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_samples_give_defined_evidence_and_undefined_ones_no_pass(
        values in proptest::collection::vec(proptest::collection::vec(value(), 12), 1..30),
        ages in proptest::collection::vec(0i64..60_000, 1..30),
    ) {
        let absolute = LevelBound::Absolute(30.0);
        let guardrails = vec![accuracy(0.02, 0.05), errors(1.25), latency(0.05), nan(), power_limit(30.0, 50.0), power(absolute, absolute)];
        let guardrails = guardrails.into_iter().chain(odd()).collect();
        let plan = plan(vec![canary(&[50])], guardrails);
        let arms = World::new(1, 5_000, 2).arms();
        let start = |at| DateTime::from_timestamp_millis(at).unwrap();
        let (mut one, mut two) = (0..2)
            .map(|_| {
                let mut evidence = Evidence::start(&plan, RevisionId::new(CANDIDATE), start(T0), 0);
                evidence.moved(Position { stage: 0, step: 0 }, Exposure::new(50).unwrap(), StageKind::Canary, start(T0));
                evidence
            })
            .fold((None, None), |(a, _), e| (a.or(Some(e.clone())), Some(e)));
        let (one, two) = (one.as_mut().unwrap(), two.as_mut().unwrap());
        for (tick, values) in values.iter().enumerate() {
            let at = T0 + (tick as i64 + 1) * 5_000;
            let age = ages[tick % ages.len()];
            let mut world = World::new(1, 5_000, 2);
            world.now = at;
            let readings: Readings = Evidence::queries(&plan, &arms)
                .into_iter()
                .enumerate()
                .map(|(q, query)| {
                    let series = |revision: &str, pod: &str, i: usize, extra: (&str, &str)| {
                        let labels = [("espalier_dev_revision", revision), ("pod", pod), extra].map(|(k, v)| (k.to_owned(), v.to_owned()));
                        let value = values[(q + i) % values.len()];
                        Arc::new(Series { labels: Arc::new(labels.into()), samples: vec![Sample { at: at - age, value }] })
                    };
                    let all = [(STABLE, "s0"), (STABLE, "s1"), (CANDIDATE, "c0"), (CANDIDATE, "c1")];
                    let series = all.iter().enumerate().flat_map(|(i, (revision, pod))| {
                        ["0.1", "0.25", "+Inf"].map(|le| series(revision, pod, i, ("le", le)))
                    });
                    (query, Reading::Series(series.collect()))
                })
                .collect();
            one.absorb(&plan, &arms, start(at), &readings);
            two.absorb(&plan, &arms, start(at), &readings);
        }
        prop_assert_eq!(one.checkpoint(), two.checkpoint());
        let moment = rollout_core::judge::Moment {
            now: one.last_instant(),
            position: Position { stage: 0, step: 0 },
            exposure: Exposure::new(50).unwrap(),
            attempt_started: start(T0),
            stage_started: start(T0),
            step_started: start(T0),
            last_step: true,
        };
        let judgement = judge(&plan, one, &moment);
        for finding in &judgement.findings {
            for log_e in [finding.log_e_proof, finding.log_e_harm, finding.log_e_warning].into_iter().flatten() {
                prop_assert!(log_e.is_finite(), "{finding:?}");
            }
        }
        let unmeasurable = judgement.findings.iter().any(|f| f.verdict == Verdict::Unmeasurable);
        prop_assert!(!unmeasurable || !matches!(judgement.overall, Overall::StagePass(_)));
        let text = one.checkpoint().to_text();
        prop_assert!(rollout_core::evidence::Checkpoint::from_text(&text).is_ok(), "{text}");
    }
}
