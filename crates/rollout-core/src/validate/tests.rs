//! What a spec means with its defaults, what only both resources together show, and what the hash covers.
//! The form of single fields is tested by the table of manifests in the root package.

use chrono::TimeDelta;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::plan::{CountSource, EnergyBound, IdCarrier, LevelBound, LimitBound, Measure};
use crate::spec::{Alphabet, OnInconclusive, OnUnmeasurable, Parked, ReadyWhen};
use crate::weights::Exposure;

fn rollout(change: &Value) -> RolloutSpec {
    let mut spec = json!({
        "model": {"uri": "oci://registry.example/digits@sha256:41ab"},
        "workload": {"template": {"apiVersion": "apps/v1", "kind": "Deployment"}, "port": 8080},
        "route": {"template": {}},
        "policyRef": {"name": "digits"},
    });
    merge(&mut spec, change);
    serde_json::from_value(spec).unwrap()
}

fn policy(change: &Value) -> PolicySpec {
    let mut spec = json!({
        "prometheus": {"address": "http://prometheus:9090"},
        "guardrails": [{"name": "errors", "proportion": {"bad": "errors_total", "total": "requests_total"}, "target": "+2pp vs stable"}],
    });
    merge(&mut spec, change);
    serde_json::from_value(spec).unwrap()
}

fn merge(target: &mut Value, change: &Value) {
    for (name, value) in change.as_object().unwrap() {
        target[name] = value.clone();
    }
}

fn one_guardrail(guardrail: &Value) -> Guardrail {
    // Another one counts in every stage, as some guardrail must.
    let other = json!({"name": "other", "limit": {"query": "power_watts", "unit": "W"}, "target": "30W"});
    let plan = validate(&rollout(&json!({})), &policy(&json!({"guardrails": [guardrail, other]}))).unwrap();
    plan.guardrails.into_iter().next().unwrap()
}

fn messages(spec: &Value, measured: &Value) -> Vec<String> {
    let problems = validate(&rollout(spec), &policy(measured)).unwrap_err();
    problems.into_iter().map(|problem| problem.message).collect()
}

fn percents(steps: &[Exposure]) -> Vec<i32> {
    steps.iter().map(|step| step.percent()).collect()
}

#[test]
fn the_smallest_specs_become_a_complete_plan() {
    let plan = validate(&rollout(&json!({})), &policy(&json!({}))).unwrap();
    let [shadow, canary] = plan.stages.as_slice() else { panic!("{:?}", plan.stages) };
    assert_eq!((shadow.name.as_str(), shadow.kind, percents(&shadow.steps)), ("shadow", StageKind::Shadow, vec![100]));
    assert_eq!((canary.name.as_str(), canary.kind, percents(&canary.steps)), ("canary", StageKind::Canary, vec![1, 5, 25]));
    assert_eq!((canary.min, canary.step_min, canary.max), (TimeDelta::zero(), TimeDelta::minutes(2), TimeDelta::hours(6)));
    assert_eq!((plan.window, plan.interval, plan.settle), (TimeDelta::minutes(1), TimeDelta::seconds(15), TimeDelta::minutes(1)));
    assert_eq!((plan.false_promotion, plan.false_rollback), (0.05, 0.05));
    assert_eq!((plan.on_inconclusive, plan.ready_when, plan.parked), (OnInconclusive::Rollback, ReadyWhen::Promoted, Parked::Full));
    assert_eq!((plan.probation, plan.progress_deadline, plan.rollback_window), (TimeDelta::zero(), TimeDelta::minutes(10), 2));
    assert!(!shadow.approval_required && plan.requests.is_none());
    assert_eq!(plan.hash.len(), 8);
}

#[test]
fn step_time_follows_the_window_and_settling_the_slower_of_window_and_request() {
    let plan = validate(&rollout(&json!({})), &policy(&json!({"window": "30s", "requestTimeout": "45s"}))).unwrap();
    assert_eq!(plan.settle, TimeDelta::seconds(45));
    assert!(plan.stages.iter().all(|stage| stage.step_min == TimeDelta::minutes(1)));
    let plan = validate(&rollout(&json!({})), &policy(&json!({"window": "30s", "requestTimeout": "5s"}))).unwrap();
    assert_eq!(plan.settle, TimeDelta::seconds(30));
}

#[test]
fn an_ab_test_keeps_its_assignment_and_its_approval() {
    let stages = json!([{"name": "ab", "type": "ABTest", "percent": "50%", "stepMinDuration": "0s", "assignment": {"cookie": "uid"}, "approval": "Required"}]);
    let plan = validate(&rollout(&json!({"stages": stages, "probation": {"duration": "24h"}})), &policy(&json!({}))).unwrap();
    let [stage] = plan.stages.as_slice() else { panic!("{:?}", plan.stages) };
    let assignment = stage.assignment.as_ref().unwrap();
    assert_eq!((&assignment.carrier, assignment.alphabet), (&IdCarrier::Cookie("uid".to_owned()), Alphabet::Hex));
    assert!(stage.approval_required);
    assert_eq!((stage.step_min, plan.probation), (TimeDelta::zero(), TimeDelta::hours(24)));
}

#[test]
fn bounds_become_fractions_and_critical_defaults_to_target() {
    let guardrail = one_guardrail(&json!({"name": "a", "proportion": {"bad": "b", "total": "t"}, "target": "+2pp vs stable"}));
    let expected = CountBound::Difference { margin: 0.02, versus: Reference::Stable };
    let Test::Counts { target, critical, .. } = guardrail.test else { panic!("{guardrail:?}") };
    assert_eq!((target, critical), (expected, expected));
    assert_eq!((guardrail.weight, guardrail.on_unmeasurable), (1.0, OnUnmeasurable::Hold));

    let guardrail = one_guardrail(&json!({"name": "a", "gauge": {"query": "g", "unit": "W"}, "target": "30W", "critical": "50.5W"}));
    let Test::Level { target, critical, unit, .. } = guardrail.test else { panic!("{guardrail:?}") };
    assert_eq!((target, critical, unit.as_str()), (LevelBound::Absolute(30.0), LevelBound::Absolute(50.5), "W"));

    let guardrail = one_guardrail(&json!({"name": "a", "limit": {"query": "g"}, "target": "100"}));
    assert!(
        matches!(guardrail.test, Test::Limit { target: LimitBound::Absolute(100.0), critical: LimitBound::Absolute(100.0), .. }),
        "{guardrail:?}"
    );
}

#[test]
fn drift_is_a_psi_from_stable_unless_something_else_is_said() {
    let guardrail = one_guardrail(&json!({"name": "a", "drift": {"bins": "p", "label": "predicted"}, "target": "0.1"}));
    let Test::Drift(drift) = &guardrail.test else { panic!("{guardrail:?}") };
    assert_eq!((drift.measure, drift.recorded.is_none(), drift.target, drift.critical), (Measure::Psi, true, 0.1, 0.1));
    assert_eq!(guardrail.stages.len(), 3);
    let recorded = json!({"bins": "p", "label": "bin", "measure": "CramersV", "reference": "Recorded", "recorded": "g"});
    let guardrail = one_guardrail(&json!({"name": "a", "drift": recorded, "target": "0.1", "critical": "0.3"}));
    let Test::Drift(drift) = &guardrail.test else { panic!("{guardrail:?}") };
    assert_eq!((drift.measure, drift.recorded.is_some(), drift.critical), (Measure::CramersV, true, 0.3));
}

#[test]
fn energy_counts_where_load_can_be_alike_and_carbon_is_a_factor() {
    let energy = json!({"consumption": "e", "unit": "Millijoules", "inferences": "r", "carbon": {"intensity": "400g/kWh", "pue": "1.2"}});
    let guardrail = one_guardrail(&json!({"name": "a", "energy": energy, "target": "16kg"}));
    assert_eq!(guardrail.stages, [StageKind::Shadow, StageKind::ABTest]);
    let Test::Energy(energy) = guardrail.test else { panic!("{guardrail:?}") };
    assert_eq!((energy.joules, energy.device_labels.as_slice(), energy.unit()), (1e-3, ["UUID".to_owned()].as_slice(), "kg"));
    // 120 J of 400 g/kWh at a PUE of 1.2 are 16 kg per million.
    assert!((energy.factor() * 120.0 - 16.0).abs() < 1e-9 && energy.target == EnergyBound::Absolute(16.0), "{energy:?}");
    let plain = json!({"consumption": "e", "inferences": "r", "deviceLabels": []});
    let guardrail = one_guardrail(&json!({"name": "a", "energy": plain, "target": "0.8x vs stable", "critical": "1x vs stable"}));
    let Test::Energy(energy) = guardrail.test else { panic!("{guardrail:?}") };
    assert_eq!((energy.target, energy.critical, energy.device_labels.len()), (EnergyBound::Ratio(0.8), EnergyBound::Ratio(1.0), 0));
}

#[test]
fn pairs_count_in_shadow_stages_and_become_fractions() {
    let guardrail = one_guardrail(&json!({
        "name": "a", "paired": {"candidateWrong": "b", "stableWrong": "c", "total": "p"}, "target": "+1pp vs stable", "critical": "+2pp vs stable",
    }));
    let Test::Paired(pairs) = &guardrail.test else { panic!("{guardrail:?}") };
    assert_eq!((pairs.target, pairs.critical, &pairs.revision_label), (0.01, 0.02, &None));
    assert_eq!(guardrail.stages, [StageKind::Shadow]);
}

#[test]
fn slices_take_the_critical_bound_and_block_unless_told_otherwise() {
    let mut typed = json!({"name": "a", "proportion": {"bad": "b", "total": "t"}, "target": "+2pp vs stable", "critical": "+5pp vs stable", "slices": {"label": "region"}});
    let bound = |margin| CountBound::Difference { margin, versus: Reference::Stable };
    let slices = one_guardrail(&typed).slices.unwrap();
    assert_eq!((slices.label.as_str(), slices.bound, slices.min_samples), ("region", bound(0.05), 100.0));
    assert_eq!(slices.on_unproven, crate::spec::OnUnproven::Block);
    typed["slices"] = json!({"label": "region", "target": "+9pp vs stable", "minSamples": 7, "onUnproven": "Warn"});
    let slices = one_guardrail(&typed).slices.unwrap();
    assert_eq!((slices.bound, slices.min_samples, slices.on_unproven), (bound(0.09), 7.0, crate::spec::OnUnproven::Warn));
}

#[test]
fn slices_are_part_of_the_hash_and_plans_without_them_keep_theirs() {
    let hash = |guardrail: Value| validate(&rollout(&json!({})), &policy(&json!({"guardrails": [guardrail]}))).unwrap().hash;
    let plain = json!({"name": "a", "proportion": {"bad": "b", "total": "t"}, "target": "+2pp vs stable"});
    let mut sliced = plain.clone();
    sliced["slices"] = json!({"label": "region"});
    assert_ne!(hash(plain.clone()), hash(sliced.clone()));
    let first = hash(sliced.clone());
    sliced["slices"]["minSamples"] = json!(7);
    assert_ne!(hash(sliced), first);
}

#[test]
fn a_stage_must_last_until_labels_are_mature() {
    let late = json!({"name": "late", "proportion": {"bad": "b", "total": "t"}, "target": "+2pp vs stable", "maturity": {"age": "36h"}});
    let other = json!({"name": "other", "limit": {"query": "power_watts", "unit": "W"}, "target": "30W"});
    let guardrails = json!({"guardrails": [late, other]});
    let expected = "expected at least 36h2m: labels of late count at an age of 36h, and two windows of 1m";
    let found = messages(&json!({}), &guardrails);
    assert_eq!(found.len(), 2, "in the shadow stage as in the canary: {found:?}");
    assert!(found[1] == format!("spec.stages[1].maxDuration: found \"6h\", {expected}"), "{found:?}");
    let mut checked = guardrails.clone();
    checked["guardrails"][0]["proportion"]["requests"] = json!("r");
    let found = messages(&json!({}), &checked);
    let twice = "labels of late count at an age of 36h, and are compared with their requests at twice that, in two windows of 1m";
    assert!(found[1].ends_with(&format!("expected at least 72h2m: {twice}")), "{found:?}");
    let stages = json!({"stages": [{"name": "canary", "type": "Canary", "percent": "5%", "maxDuration": "72h"}]});
    let plan = validate(&rollout(&stages), &policy(&guardrails)).unwrap();
    let maturity = plan.guardrails[0].maturity.clone().unwrap();
    assert_eq!((maturity.age, maturity.captured), (TimeDelta::hours(36), 0.95));
    let young = CountBound::Difference { margin: 0.02 * 0.95, versus: Reference::Stable };
    assert_eq!(maturity.diluted(CountBound::Difference { margin: 0.02, versus: Reference::Stable }), young);
}

#[test]
fn a_slow_request_is_one_above_the_edge_in_the_unit_of_the_histogram() {
    for (unit, expected) in [("Seconds", 0.1), ("Milliseconds", 100.0)] {
        let guardrail = one_guardrail(
            &json!({"name": "a", "latency": {"histogram": "h", "slowerThan": "100ms", "unit": unit}, "target": "5%", "orNotWorseThanStable": true}),
        );
        let Test::Counts { bad: CountSource::Above { edge, .. }, total, target, or_not_worse_than_stable, .. } = &guardrail.test else {
            panic!("{guardrail:?}")
        };
        assert_eq!((*edge, *target, *or_not_worse_than_stable), (expected, CountBound::Absolute(0.05), true));
        assert!(matches!(total, CountSource::Observations(_)));
    }
}

#[test]
fn a_rate_without_exposure_counts_seconds_of_pods() {
    let guardrail = one_guardrail(&json!({"name": "a", "rate": {"events": "e"}, "target": "2x vs stable"}));
    assert!(matches!(guardrail.test, Test::Counts { total: CountSource::PodSeconds, .. }), "{guardrail:?}");
}

#[test]
fn outcomes_count_only_where_users_answer() {
    let with = |bad: &str| one_guardrail(&json!({"name": "a", "proportion": {"bad": bad, "total": "t"}, "target": "5%"})).stages;
    let answered = vec![StageKind::Canary, StageKind::ABTest];
    for bad in ["predictions_total{correct=\"false\"}", "feedback_negative_total", "Wrong_answers"] {
        assert_eq!(with(bad), answered, "{bad}");
    }
    for bad in ["requests_total{code=\"500\"}", "relabel_total", "corrected_total"] {
        assert_eq!(with(bad).len(), 3, "{bad}");
    }
    let nan = one_guardrail(&json!({"name": "a", "tripwire": {"query": "wrong_total"}}));
    assert_eq!(nan.stages.len(), 3, "a tripwire counts everywhere");
}

#[test]
fn a_bound_against_the_baseline_needs_one() {
    let guardrails =
        json!([{"name": "a", "proportion": {"bad": "b", "total": "t"}, "target": "+2pp vs baseline", "critical": "+5pp vs baseline"}]);
    assert_eq!(
        messages(&json!({}), &json!({"guardrails": guardrails})),
        [
            "policy.spec.guardrails[0].target: found \"+2pp vs baseline\", expected \"vs stable\", or spec.baseline in the rollout to compare with",
            "policy.spec.guardrails[0].critical: found \"+5pp vs baseline\", expected \"vs stable\", or spec.baseline in the rollout to compare with",
        ]
    );
    let with_baseline = rollout(&json!({"baseline": {"backendRef": {"name": "old", "port": 80}, "matchers": {"job": "old"}}}));
    let plan = validate(&with_baseline, &policy(&json!({"guardrails": guardrails}))).unwrap();
    assert_eq!(plan.baseline_matchers.get("job").map(String::as_str), Some("old"));
}

#[test]
fn a_guardrail_that_would_never_be_looked_at_is_refused() {
    let guardrails = json!([{"name": "accuracy", "proportion": {"bad": "wrong_total", "total": "t"}, "target": "5%"}]);
    assert_eq!(
        messages(&json!({"stages": [{"name": "shadow", "type": "Shadow"}]}), &json!({"guardrails": guardrails})),
        ["policy.spec.guardrails[0].stages: found Canary, ABTest for \"accuracy\", expected one that the rollout has: Shadow"]
    );
}

#[test]
fn users_are_never_exposed_in_a_stage_without_guardrail() {
    let guardrails = json!([{"name": "nan", "tripwire": {"query": "nan_total"}, "stages": ["Shadow"]}]);
    assert_eq!(
        messages(&json!({}), &json!({"guardrails": guardrails})),
        [
            "spec.stages[1].type: found Canary without a guardrail that counts in it, expected at least one guardrail of the policy to count in every stage that exposes users"
        ]
    );
}

#[test]
fn a_stage_too_short_for_two_windows_of_the_policy_is_refused() {
    let stages = json!([{"name": "canary", "type": "Canary", "percent": "5%", "stepMinDuration": "1m", "maxDuration": "15m"}]);
    assert_eq!(
        messages(&json!({"stages": stages}), &json!({"window": "10m"})),
        [
            "spec.stages[0].maxDuration: found \"15m\", expected at least 20m: the longest of minDuration 0s, stepMinDuration 1m for each of 1 steps, and two windows of 10m"
        ]
    );
}

#[test]
fn all_problems_of_both_are_reported_at_once() {
    let found = messages(&json!({"progressDeadline": "soon", "policyRef": {"name": "A"}}), &json!({"window": "1d", "interval": "x"}));
    let fields: Vec<&str> = found.iter().filter_map(|message| message.split(": ").next()).collect();
    assert_eq!(fields, ["spec.policyRef.name", "spec.progressDeadline", "policy.spec.window", "policy.spec.interval"]);
}

#[test]
fn an_unknown_placeholder_is_found_before_anything_is_created() {
    let workload = json!({"template": {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"x": "$(model.name)"}}, "port": 80});
    let found = messages(&json!({"workload": workload}), &json!({}));
    assert!(found.iter().any(|message| message.starts_with("spec.workload.template.spec.x: found $(model.name)")), "{found:?}");
}

#[test]
fn the_hash_covers_what_is_judged_and_nothing_else() {
    let hash = |spec: &Value, measured: &Value| validate(&rollout(spec), &policy(measured)).unwrap().hash;
    let base = hash(&json!({}), &json!({}));
    assert_eq!(base, hash(&json!({"onInconclusive": "Pause", "progressDeadline": "1m", "probation": {"duration": "1h"}}), &json!({})));
    assert_eq!(
        base,
        hash(&json!({"model": {"uri": "oci://other"}}), &json!({"window": "60s", "prometheus": {"address": "http://elsewhere"}}))
    );
    let stages = json!([{"name": "canary", "type": "Canary", "percent": "5%"}]);
    let bound = json!([{"name": "errors", "proportion": {"bad": "errors_total", "total": "requests_total"}, "target": "+3pp vs stable"}]);
    let others = [
        hash(&json!({"stages": stages}), &json!({})),
        hash(&json!({}), &json!({"window": "30s"})),
        hash(&json!({}), &json!({"interval": "10s"})),
        hash(&json!({}), &json!({"risk": {"falsePromotion": "1%"}})),
        hash(&json!({}), &json!({"guardrails": bound})),
        hash(&json!({}), &json!({"requests": {"query": "requests_total"}})),
    ];
    for (index, other) in others.iter().enumerate() {
        assert_ne!(*other, base, "{index}");
    }
}

/// Mostly `good`, sometimes anything.
fn mostly(good: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![9 => Just(good.to_owned()), 1 => "[a-z%0-9.+ ]{0,8}"]
}

proptest! {
    /// A plan is complete whatever was typed: stages grow, shares are below all, risks are within their range.
    #[test]
    fn what_is_accepted_is_sound_and_nothing_panics(
        (max, window, risk) in (mostly("1h"), mostly("2m"), mostly("2.5%")),
        (bad, total, uri) in (mostly("errors_total"), mostly("requests_total{code=~\"2..\"}"), mostly("digits")),
        (target, critical) in (mostly("+2pp vs stable"), mostly("+5pp vs stable")),
        (percent, port, weight) in (1i32..110, -5i32..70000, -2i32..110),
    ) {
        let spec = rollout(&json!({
            "model": {"uri": format!("oci://{uri}")},
            "workload": {"template": {"apiVersion": "apps/v1", "kind": "Deployment"}, "port": port},
            "stages": [{"name": "canary", "type": "Canary", "steps": ["1%", format!("{percent}%")], "maxDuration": max}],
        }));
        let measured = policy(&json!({
            "window": window, "risk": {"falsePromotion": risk},
            "guardrails": [{"name": "a", "proportion": {"bad": bad, "total": total}, "target": target, "critical": critical, "weight": weight}],
        }));
        match validate(&spec, &measured) {
            Ok(plan) => {
                prop_assert!(plan.false_promotion > 0.0 && plan.false_promotion <= 0.2);
                for stage in &plan.stages {
                    prop_assert!(stage.steps.windows(2).all(|pair| pair[0] < pair[1]));
                    prop_assert!(stage.steps.iter().all(|step| *step < Exposure::FULL));
                    prop_assert!(stage.max >= plan.window * 2);
                }
            }
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    prop_assert!(problem.message.contains("found ") && problem.message.contains("expected "), "{}", problem.message);
                }
            }
        }
    }
}
