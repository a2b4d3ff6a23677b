//! The table of bad manifests, run without a cluster and, on request, against a real API server; and what every definition must have.
//! Does not test the operator; `espalier::api::strict` words schema errors as the API server does, here and in `espalier validate`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "admission/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use espalier::api::strict;
use espalier::api::{EvaluationPolicy, ModelRollout, definitions, evaluation_policies, model_rollouts};
use espalier::cli::input::{Document, Input, Place};
use espalier::cli::validate::check;
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rollout_core::status::Status;
use rollout_core::validate::{Problem, validate, validate_policy};
use serde_json::{Value, json};
use table::{Case, Kind, cases};

fn schema_of(definition: &Value) -> &Value {
    &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// The schema of a kind, and its rules compiled once.
fn compiled(kind: Kind) -> &'static (Value, CompiledSchema) {
    static BOTH: LazyLock<[(Value, CompiledSchema); 2]> = LazyLock::new(|| {
        [model_rollouts(), evaluation_policies()].map(|definition| {
            let schema = schema_of(&definition).clone();
            let rules = compile_schema(&schema);
            (schema, rules)
        })
    });
    match kind {
        Kind::Rollout => &BOTH[0],
        Kind::Policy => &BOTH[1],
    }
}

/// The refusals that the API server would give, as `field: text`.
fn refusals(kind: Kind, object: &Value) -> Vec<String> {
    let (schema, rules) = compiled(kind);
    let found = strict::check(schema, object);
    // A missing field, a wrong type or a value out of an enum keeps the rules from being looked at.
    let is_blocked = found.iter().any(|error| error.is_blocking);
    let mut texts: Vec<String> = found.into_iter().map(|error| error.text).collect();
    if !is_blocked {
        let refused = Validator::new().validate_compiled(rules, object, None).err();
        texts.extend(refused.into_iter().flatten().map(|error| format!("{}: {}", error.field_path, error.message)));
    }
    texts
}

#[test]
fn every_manifest_of_the_table_gets_exactly_its_messages() {
    let cases = cases();
    assert!(cases.iter().filter(|case| !case.messages.is_empty()).count() >= 60);
    let mut wrong = Vec::new();
    for case in cases {
        let mut found = refusals(case.kind, &case.object);
        found.sort();
        if found != case.messages {
            wrong.push(format!("{}\n  found    {found:#?}\n  expected {:#?}", case.name, case.messages));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_a_rule_refuses_validate_refuses_in_the_same_words() {
    let base = cases().into_iter().find(|case| case.kind == Kind::Policy).unwrap().object;
    let policy: EvaluationPolicy = serde_json::from_value(base).unwrap();
    for case in cases() {
        let problems = match case.kind {
            Kind::Rollout => {
                serde_json::from_value::<ModelRollout>(case.object).ok().map(|rollout| validate(&rollout.spec, &policy.spec).err())
            }
            Kind::Policy => serde_json::from_value::<EvaluationPolicy>(case.object).ok().map(|policy| validate_policy(&policy.spec).err()),
        };
        let Some(problems) = problems else { continue };
        let problems = problems.unwrap_or_default();
        if case.messages.is_empty() {
            assert!(problems.is_empty(), "{}: {problems:#?}", case.name);
        }
        let of_rules: Vec<&String> = case.messages.iter().filter(|message| message.contains(": found ")).collect();
        let is_same = |message: &str| {
            let means =
                |problem: &Problem| message.starts_with(&format!("{}: found ", problem.field)) && message.ends_with(&problem.expected);
            problems.iter().any(|problem| message == problem.message || (message.contains("another key") && means(problem)))
        };
        assert!(of_rules.is_empty() || of_rules.iter().any(|message| is_same(message)), "{}: {problems:#?}", case.name);
    }
}

#[test]
fn espalier_validate_refuses_what_admission_refuses_at_the_same_fields() {
    for case in cases() {
        let place = Place { file: "table".to_owned(), line: 1, document: 1, item: None };
        let input = Input { documents: vec![Document { place, value: case.object }], unreadable: Vec::new() };
        let report = check(&input).report;
        assert_eq!(report.code() != 0, !case.messages.is_empty(), "{}: {report:#?}", case.name);
        for message in &case.messages {
            let unknown = message.strip_prefix("unknown field ").map(|field| field.trim_matches('"'));
            let field = unknown.or_else(|| message.split(": ").next()).unwrap();
            assert!(report.problems.iter().any(|problem| problem.field.starts_with(field)), "{}: {message}: {report:#?}", case.name);
        }
    }
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9]{1,3}", "[0-9]{1,2}[.][0-9]{1,2}", "0[.]9", "100", "[.0-9]{0,4}"]
}

/// A sign in front of the number of a bound and what follows it.
fn form() -> impl Strategy<Value = (String, String)> {
    let unit = prop::sample::select(vec!["%", "pp", "x", "W", "", "kW", "5"]);
    let versus = prop::sample::select(vec!["", " vs stable", " vs baseline", " vs teacher", " vs  stable"]);
    let whole = prop::sample::select(vec![
        ("", "%"),
        ("+", "pp vs stable"),
        ("", "x vs stable"),
        ("", "W"),
        ("+", "W vs baseline"),
        ("at least ", "W"),
        ("at least ", "x vs stable"),
    ]);
    prop_oneof![
        ("([+]|at least )?", unit, versus).prop_map(|(plus, unit, versus)| (plus, format!("{unit}{versus}"))),
        whole.prop_map(|(plus, rest)| (plus.to_owned(), rest.to_owned())),
    ]
}

/// A target and a critical bound, mostly of the same form.
fn bounds() -> impl Strategy<Value = (String, Option<String>)> {
    let critical = prop::option::of((number(), prop::option::weighted(0.2, form())));
    (number(), form(), critical).prop_map(|(number, form, critical)| {
        let text = |number: &str, (plus, rest): &(String, String)| format!("{plus}{number}{rest}");
        let critical = critical.map(|(number, other)| text(&number, other.as_ref().unwrap_or(&form)));
        (text(&number, &form), critical)
    })
}

fn kind_of_guardrail() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"proportion": {"bad": "b", "total": "t"}}),
        json!({"rate": {"events": "e"}}),
        json!({"latency": {"histogram": "h", "slowerThan": "100ms"}}),
        json!({"gauge": {"query": "g", "unit": "W"}}),
        json!({"gauge": {"query": "g", "unit": "%"}}),
        json!({"limit": {"query": "g"}}),
    ])
}

/// Whether admission and `validate` both accept `spec`, or both refuse it.
fn assert_agreement(kind: Kind, spec: &Value) -> Result<(), TestCaseError> {
    static GOOD: LazyLock<Vec<Case>> = LazyLock::new(cases);
    let good = |kind| GOOD.iter().find(|case| case.kind == kind && case.messages.is_empty()).unwrap().object.clone();
    let policy: EvaluationPolicy = serde_json::from_value(good(Kind::Policy)).unwrap();
    let mut object = good(kind);
    table::merge(&mut object["spec"], spec);
    let refused = refusals(kind, &object);
    let problems = match kind {
        Kind::Rollout => validate(&serde_json::from_value::<ModelRollout>(object).unwrap().spec, &policy.spec).err(),
        Kind::Policy => validate_policy(&serde_json::from_value::<EvaluationPolicy>(object).unwrap().spec).err(),
    };
    prop_assert_eq!(refused.is_empty(), problems.is_none(), "{} {:?} {:?}", spec, refused, problems);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn admission_and_validate_agree_on_bounds(mut guardrail in kind_of_guardrail(), (target, critical) in bounds()) {
        guardrail["name"] = json!("a");
        guardrail["target"] = json!(target);
        if let Some(critical) = critical {
            guardrail["critical"] = json!(critical);
        }
        assert_agreement(Kind::Policy, &json!({"guardrails": [guardrail]}))?;
    }

    #[test]
    fn admission_and_validate_agree_on_durations_selectors_and_risks(
        window in "([0-9]{1,2}h)?([0-9]{1,3}m)?([0-9]{1,2}s)?([0-9]{1,4}ms)?",
        query in "[a-z_:]{1,3}([{] ?[a-z_1]{1,2} ?(=|=~|!=|!) ?\"[a-z\\\\n]{0,3}\"[}])?",
        risk in "[0-9]{1,2}([.][0-9]{0,2})?%?",
    ) {
        assert_agreement(Kind::Policy, &json!({"window": window, "interval": "1s"}))?;
        assert_agreement(Kind::Policy, &json!({"requests": {"query": query}}))?;
        assert_agreement(Kind::Policy, &json!({"risk": {"falsePromotion": risk}}))?;
    }

    #[test]
    fn admission_and_validate_agree_on_steps_and_names(
        steps in prop::collection::vec("(1|[0-9]|[1-9][0-9]|100)%", 1..5), name in "[a-zA-Z0-9-]{1,4}", uri in "[a-z]{0,2}(://)?[a-z$ /]{0,3}",
    ) {
        assert_agreement(Kind::Rollout, &json!({"stages": [{"name": "canary", "type": "Canary", "steps": steps}]}))?;
        assert_agreement(Kind::Rollout, &json!({"policyRef": {"name": name}, "model": {"uri": uri}}))?;
    }
}

/// Reads the table to the API server behind `ESPALIER_API`, as dry runs; `e2e/admission` prepares it.
#[tokio::test]
#[ignore = "needs an API server with the definitions installed"]
async fn a_real_api_server_gives_the_same_messages() {
    let address = std::env::var("ESPALIER_API").expect("ESPALIER_API, the address of a kubectl proxy");
    let config = kube::Config::new(address.parse().expect("an address"));
    let client = kube::Client::try_from(config).expect("a client");
    let mut wrong = Vec::new();
    let mut checked = 0;
    for case in cases() {
        let path = format!("/apis/espalier.dev/v1alpha1/namespaces/default/{}?dryRun=All&fieldValidation=Strict", case.kind.plural());
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&case.object).expect("JSON"))
            .expect("a request");
        let found = match client.request::<Value>(request).await {
            Ok(_) => Vec::new(),
            Err(kube::Error::Api(status)) => table::causes(&serde_json::to_value(&*status).expect("JSON")),
            Err(error) => panic!("{}: {error}", case.name),
        };
        checked += 1;
        if !table::same(&found, &case.messages) {
            wrong.push(format!("{}\n  found    {found:#?}\n  expected {:#?}", case.name, case.messages));
        }
    }
    println!("{} of {checked} manifests got exactly their messages", checked - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Calls `visit` with the path of every schema below `schema`.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), field, visit);
    }
    for (key, sign) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            walk(&format!("{path}{sign}"), &schema[key], visit);
        }
    }
}

fn faults(path: &str, schema: &Value) -> Vec<&'static str> {
    let kind = schema["type"].as_str().unwrap_or_default();
    let is_element = path.ends_with("[]") || path.ends_with("{}");
    let format = schema["format"].as_str().unwrap_or_default();
    let is_open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let has_children = schema["properties"].is_object() || schema["additionalProperties"].is_object();
    let checks = [
        (!["object", "array", "string", "integer", "boolean"].contains(&kind), "type is missing or a float"),
        (!["", "int32", "int64", "date-time"].contains(&format), "a format that Kubernetes does not know"),
        // The API server takes no description of metadata itself.
        (
            !is_element && path != ".metadata" && schema["description"].as_str().is_none_or(|text| text.len() < 20),
            "a description of at least 20 characters is missing",
        ),
        (kind == "array" && !schema["items"].is_object(), "items are missing"),
        (kind == "array" && !schema["maxItems"].is_u64(), "maxItems is missing"),
        (kind == "array" && !schema["x-kubernetes-list-type"].is_string(), "x-kubernetes-list-type is missing"),
        (kind == "string" && format.is_empty() && !schema["enum"].is_array() && !schema["maxLength"].is_u64(), "maxLength is missing"),
        (schema["additionalProperties"].is_object() && !schema["maxProperties"].is_u64(), "maxProperties is missing"),
        (kind == "object" && path != ".metadata" && !is_open && !has_children, "an object without fields"),
        (schema.get("default").is_some() && path != ".status", "a default, which the API server would write into users' objects"),
        (schema.get("nullable").is_some(), "nullable"),
        (["oneOf", "anyOf", "allOf", "not", "$ref"].iter().any(|key| schema.get(key).is_some()), "not structural"),
    ];
    checks.into_iter().filter(|(bad, _)| *bad).map(|(_, text)| text).collect()
}

#[test]
fn every_field_of_every_definition_is_typed_bounded_and_described() {
    let mut found = Vec::new();
    for definition in definitions() {
        walk("", schema_of(&definition.object), &mut |path, schema| {
            found.extend(faults(path, schema).into_iter().map(|fault| format!("{} {path}: {fault}", definition.file)));
        });
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_gate_sees_each_fault() {
    let bad = json!({"type": "object", "description": "short", "default": {}, "properties": {
        "a": {"type": "number", "format": "double"}, "b": {"type": "array"}, "c": {"type": "string", "nullable": true},
        "d": {"type": "integer", "format": "uint32"}, "e": {"type": "object", "additionalProperties": {"type": "string"}}}});
    let mut count = 0;
    walk("", &bad, &mut |path, schema| count += faults(path, schema).len());
    // Root 2; a 3; b description, items, maxItems, list type; c description, maxLength, nullable; d 2; e 2 and maxLength of its values.
    assert_eq!(count, 17);
}

#[test]
fn definitions_are_small_enough_for_a_plain_apply() {
    for definition in definitions() {
        let bytes = serde_json::to_vec(&definition.object).unwrap().len();
        assert!(bytes < 200_000, "{} has {bytes} bytes", definition.file);
    }
}

#[test]
fn every_rule_says_what_was_found_and_what_is_expected() {
    for definition in definitions() {
        walk("", schema_of(&definition.object), &mut |path, schema| {
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                let message = rule["messageExpression"].as_str().unwrap_or_default();
                assert!(message.starts_with("'found ") && message.contains("expected "), "{path}: {rule}");
            }
        });
    }
}

#[test]
fn names_have_the_only_pattern_because_the_checks_without_a_server_know_no_other() {
    for definition in definitions() {
        walk("", schema_of(&definition.object), &mut |path, schema| {
            let pattern = schema["pattern"].as_str().unwrap_or("^[a-z]([-a-z0-9]*[a-z0-9])?$");
            assert_eq!(pattern, "^[a-z]([-a-z0-9]*[a-z0-9])?$", "{path}");
        });
    }
}

#[test]
fn a_fresh_object_is_seen_by_nobody_yet_and_columns_tell_the_story() {
    let definition = model_rollouts();
    assert_eq!(schema_of(&definition)["properties"]["status"]["default"], json!({"observedGeneration": -1}));
    let version = &definition["spec"]["versions"][0];
    assert!(version["subresources"]["status"].is_object());
    let columns = |wide: i64| -> Vec<&str> {
        let all = version["additionalPrinterColumns"].as_array().unwrap();
        all.iter().filter(|column| column["priority"] == wide).map(|column| column["name"].as_str().unwrap()).collect()
    };
    assert_eq!(columns(0), ["Stage", "Step", "Weight", "Verdict", "Ready", "Stable", "Candidate", "Age"]);
    assert_eq!(columns(1), ["Policy", "Next-Check", "Message"]);
}

/// Paths of all fields below `value`, list items counted as one.
fn paths(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    for (name, field) in value.as_object().into_iter().flatten() {
        found.insert(format!("{path}.{name}"));
        paths(&format!("{path}.{name}"), field, found);
    }
    for item in value.as_array().into_iter().flatten() {
        paths(&format!("{path}[]"), item, found);
    }
}

#[test]
fn a_status_with_every_field_is_neither_pruned_nor_refused() {
    let full: Value = serde_saphyr::from_str(include_str!("admission/status.yaml")).unwrap();
    let status: Status = serde_json::from_value(full.clone()).unwrap();
    assert_eq!(status.unknown.keys().collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(serde_json::to_value(&status).unwrap(), full);

    let definition = model_rollouts();
    let schema = &schema_of(&definition)["properties"]["status"];
    let refused: Vec<String> = strict::check(schema, &full).into_iter().map(|refusal| refusal.text).collect();
    assert!(refused.is_empty(), "{refused:#?}");

    let (mut known, mut given) = (BTreeSet::new(), BTreeSet::new());
    walk("", schema, &mut |path, _| {
        known.insert(path.to_owned());
    });
    paths("", &full, &mut given);
    let missing: Vec<&String> = known.difference(&given).filter(|path| !path.is_empty() && !path.ends_with("[]")).collect();
    assert!(missing.is_empty(), "the full status lacks {missing:?}");
}

#[test]
fn definitions_are_what_is_committed() {
    for definition in definitions() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crds").join(definition.file);
        let committed: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(committed, definition.object, "{}: run `cargo run --bin crdgen`", definition.file);
    }
}

#[test]
fn objects_survive_a_round_trip_with_their_type() {
    for case in cases().into_iter().filter(|case| case.messages.is_empty()) {
        let back = match case.kind {
            Kind::Rollout => serde_json::to_value(serde_json::from_value::<ModelRollout>(case.object.clone()).unwrap()),
            Kind::Policy => serde_json::to_value(serde_json::from_value::<EvaluationPolicy>(case.object.clone()).unwrap()),
        };
        assert_eq!(back.unwrap(), case.object, "{}", case.name);
    }
}
