//! The profiles mean what they promise: the required numbers, valid policies, an expansion that users control, and hashes that cover it.

use serde_json::{Value, json};

use super::*;
use crate::spec::RolloutSpec;
use crate::validate::{Problem, validate, validate_policy};

fn policy(change: &Value) -> PolicySpec {
    let mut spec = json!({"prometheus": {"address": "http://prometheus:9090"}});
    for (name, value) in change.as_object().unwrap() {
        spec[name] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn rollout(change: &Value) -> RolloutSpec {
    let mut spec = json!({
        "model": {"uri": "oci://registry.example/digits@sha256:41ab"},
        "workload": {"template": {"apiVersion": "apps/v1", "kind": "Deployment"}, "port": 8080},
        "route": {"template": {}},
        "policyRef": {"name": "digits"},
    });
    for (name, value) in change.as_object().unwrap() {
        spec[name] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn names(policy: &PolicySpec) -> Vec<&str> {
    policy.guardrails.iter().map(|guardrail| guardrail.name.as_str()).collect()
}

fn messages(policy: &PolicySpec) -> Vec<String> {
    validate_policy(policy).unwrap_err().into_iter().map(|Problem { message, .. }| message).collect()
}

#[test]
fn the_file_has_every_profile_once_and_each_is_a_valid_policy_and_plan() {
    let listed: Vec<ProfileName> = all().iter().map(|profile| profile.name).collect();
    assert_eq!(listed, [ProfileName::EdgeClassifier, ProfileName::Tabular, ProfileName::Llm]);
    for profile in all() {
        let policy = policy(&json!({"profile": profile.name}));
        assert_eq!(validate_policy(&policy), Ok(()), "{}", profile.name);
        let plan = validate(&rollout(&json!({})), &policy).unwrap();
        assert_eq!(plan.guardrails.len(), profile.guardrails.len());
        assert!(profile.guardrails.len() <= MAX_PROFILE, "{}", profile.name);
        for entry in &profile.guardrails {
            assert!(entry.why.ends_with('.') && entry.needs.ends_with('.'), "{}: {}", profile.name, entry.guardrail.name);
        }
    }
}

/// The required numbers, one by one: name, kind, field of the kind with its value, target, critical.
#[test]
fn the_edge_classifier_has_the_required_numbers() {
    let required = [
        ("accuracy", "/proportion/bad", "model_predictions_total{correct=\"false\"}", "+2pp vs stable", "+5pp vs stable"),
        ("latency", "/latency/slowerThan", "100ms", "5%", "5%"),
        ("latency", "/latency/criticallySlowerThan", "200ms", "5%", "5%"),
        ("memory", "/limit/query", "DCGM_FI_DEV_FB_USED", "0.5x vs stable", "0.7x vs stable"),
        ("power", "/gauge/query", "DCGM_FI_DEV_POWER_USAGE", "30W", "50W"),
        ("fairness", "/fairness/events", "model_decisions_total{decision=\"positive\"}", "1pp", "5pp"),
        ("drift", "/drift/measure", "PSI", "0.1", "0.25"),
        ("throughput", "/limit/unit", "qps", "at least 1000qps", "at least 500qps"),
        ("carbon", "/energy/carbon/intensity", "400g/kWh", "1kg", "5kg"),
    ];
    let profile = of(ProfileName::EdgeClassifier).unwrap();
    for (name, field, value, target, critical) in required {
        let entry = profile.guardrails.iter().find(|entry| entry.guardrail.name == name).unwrap();
        let typed = serde_json::to_value(&entry.guardrail).unwrap();
        let found = [field, "/target", "/critical"].map(|field| typed.pointer(field).and_then(Value::as_str).unwrap_or_default());
        assert_eq!(found, [value, target, critical], "{name}");
    }
    let mut expected: Vec<&str> = required.iter().map(|row| row.0).collect();
    expected.dedup();
    expected.push("nan");
    let mut found: Vec<&str> = profile.names().collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected, "no more and no less");
}

#[test]
fn a_users_guardrail_of_the_same_name_replaces_the_profiles_as_a_whole() {
    let own = json!({"name": "memory", "limit": {"query": "process_resident_memory_bytes"}, "target": "0.8x vs stable"});
    let policy = policy(&json!({"profile": "edge-classifier", "without": ["fairness", "throughput"], "guardrails": [own]}));
    assert_eq!(validate_policy(&policy), Ok(()));
    let expanded = expanded(&policy);
    assert_eq!(names(&expanded), ["accuracy", "latency", "power", "drift", "carbon", "nan", "memory"], "the user's come last");
    let memory = expanded.guardrails.last().unwrap();
    assert_eq!((memory.pod_label.as_deref(), &memory.critical), (None, &None), "nothing of the profile's is left in it");
    assert_eq!(super::expanded(&expanded), expanded, "what is written out stays as it is");
}

#[test]
fn what_is_written_out_is_the_same_plan_and_the_hash_covers_the_profile() {
    let hash = |change: &Value| validate(&rollout(&json!({})), &policy(change)).unwrap().hash;
    let named = policy(&json!({"profile": "edge-classifier"}));
    let plan = validate(&rollout(&json!({})), &named).unwrap();
    assert_eq!(validate(&rollout(&json!({})), &expanded(&named)).unwrap(), plan);
    assert_ne!(hash(&json!({"profile": "edge-classifier", "without": ["power"]})), plan.hash);
    assert_ne!(hash(&json!({"profile": "tabular"})), plan.hash);
}

#[test]
fn a_guardrail_of_a_profile_says_so_in_the_plan() {
    let own = json!({"name": "own", "tripwire": {"query": "x_total"}});
    let plan = validate(&rollout(&json!({})), &policy(&json!({"profile": "llm", "guardrails": [own]}))).unwrap();
    let of = |name: &str| plan.guardrails.iter().find(|g| g.name == name).unwrap().profile.clone();
    assert_eq!((of("errors").as_deref(), of("own")), (Some("llm"), None));
}

#[test]
fn what_cannot_be_left_out_or_is_too_much_is_named() {
    let found = messages(&policy(&json!({"profile": "llm", "without": ["fairness"]})));
    assert_eq!(
        found,
        [
            "spec.without: found \"fairness\", expected guardrails of the profile: first-token, between-tokens, queue, errors, truncated, aborted, \
          answer-length, corrupted"
        ]
    );
    let trip = |i: usize| json!({"name": format!("t{i}"), "tripwire": {"query": "x_total"}});
    assert_eq!(
        messages(&policy(&json!({"without": ["accuracy"], "guardrails": [trip(0)]}))),
        ["spec.without: found \"accuracy\", expected a profile beside it"]
    );
    assert_eq!(messages(&policy(&json!({}))), ["spec.guardrails: found none, expected 1 to 32 guardrails, or a profile"]);
    let many: Vec<Value> = (0..21).map(trip).collect();
    assert_eq!(
        messages(&policy(&json!({"profile": "llm", "guardrails": many}))),
        ["spec.guardrails: found more than 20, expected at most 20 guardrails beside a profile"]
    );
    let everything: Vec<&str> = of(ProfileName::Tabular).unwrap().names().collect();
    assert_eq!(
        messages(&policy(&json!({"profile": "tabular", "without": everything}))),
        ["spec.guardrails: found none, expected 1 to 32 guardrails, or a profile"]
    );
}

#[test]
fn problems_of_own_guardrails_keep_their_place_and_those_of_a_profile_name_it() {
    let own = json!({"name": "own", "tripwire": {"query": "x_total"}, "weight": 0});
    let found = messages(&policy(&json!({"profile": "llm", "guardrails": [own]})));
    assert_eq!(found, ["spec.guardrails[0].weight: found 0, expected a whole number from 1 to 100"]);
    let shadow = rollout(&json!({"stages": [{"name": "shadow", "type": "Shadow"}]}));
    let own = json!({"name": "own", "tripwire": {"query": "x_total"}, "stages": ["Canary"]});
    let problems = validate(&shadow, &policy(&json!({"profile": "edge-classifier", "guardrails": [own]}))).unwrap_err();
    let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["policy.spec.profile", "policy.spec.guardrails[0].stages"], "{problems:#?}");
    assert!(
        problems[0].message.contains("\"accuracy\" of the profile") && problems[0].message.contains("without"),
        "{}",
        problems[0].message
    );
}

#[test]
fn the_page_names_every_guardrail_with_its_bounds() {
    let page = page();
    for profile in all() {
        assert!(page.contains(&format!("\n## {}\n", profile.name)));
        for entry in &profile.guardrails {
            assert!(page.contains(&format!("| `{}` | ", entry.guardrail.name)) && page.contains(&entry.why), "{}", entry.guardrail.name);
        }
    }
    assert!(page.contains("| `5%` | `5%` above 200ms | all |"), "{page}");
}
