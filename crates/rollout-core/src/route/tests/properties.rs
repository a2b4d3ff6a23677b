//! What holds for any route: unknown fields survive, lowering changes weights only, a managed rule sums to 100.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::fixtures::{mirror, route, single, split, sticky};
use crate::route::{Shape, adopt, exposure, lower, matches, release, render, with_spec};
use crate::weights::Exposure;

/// Any JSON under names that no version of the API has.
fn unknown() -> impl Strategy<Value = Map<String, Value>> {
    let leaf =
        prop_oneof![any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from), "[ -~é\u{2028}]{0,6}".prop_map(Value::from)];
    let tree = leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..3).prop_map(|map| Value::Object(map.into_iter().collect()))
        ]
    });
    prop::collection::btree_map("zz[a-z]{1,3}", tree, 0..3).prop_map(|map| map.into_iter().collect())
}

/// An object of the API with unknown fields beside its own.
fn with_unknown(own: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    (own, unknown()).prop_map(|(mut own, unknown)| {
        own.as_object_mut().unwrap().extend(unknown);
        own
    })
}

fn a_filter() -> impl Strategy<Value = Value> {
    with_unknown(prop_oneof![
        Just(json!({"type": "URLRewrite", "urlRewrite": {"hostname": "h", "zzKeep": 1}})),
        Just(json!({"type": "ExtensionRef", "extensionRef": {"group": "g", "kind": "k", "name": "n"}})),
        Just(json!({"type": "FromTheFuture", "fromTheFuture": {"a": [1, 2.5]}})),
        Just(json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-own", "value": "1"}], "zzKeep": true}})),
        Just(json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["server"]}})),
    ])
}

fn filters() -> impl Strategy<Value = Option<Value>> {
    prop::option::of(prop::collection::vec(a_filter(), 0..3).prop_map(|mut filters| {
        filters.dedup_by_key(|filter| filter["type"].clone());
        Value::from(filters)
    }))
}

fn a_match() -> impl Strategy<Value = Value> {
    with_unknown((prop_oneof![Just("/"), Just("/v1"), Just("/v1/models")], any::<bool>(), any::<bool>()).prop_map(
        |(path, exact, header)| {
            let mut each = json!({"path": {"type": if exact { "Exact" } else { "PathPrefix" }, "value": path, "zzKeep": null}});
            if header {
                each["headers"] = json!([{"name": "x-env", "value": "beta", "zzKeep": 1}]);
            }
            each
        },
    ))
}

fn a_reference() -> impl Strategy<Value = Value> {
    let name = prop_oneof![Just("d-r1"), Just("d-r2"), Just("other")];
    with_unknown((name, prop::option::of(0..200i32), filters()).prop_map(|(name, weight, filters)| {
        let mut reference = json!({"name": name, "port": 80});
        if let Some(weight) = weight {
            reference["weight"] = json!(weight);
        }
        if let Some(filters) = filters {
            reference["filters"] = filters;
        }
        reference
    }))
}

fn a_rule(references: impl Strategy<Value = Vec<Value>>) -> impl Strategy<Value = Value> {
    with_unknown((prop::collection::vec(a_match(), 0..3), filters(), references).prop_map(|(matches, filters, references)| {
        let mut rule = json!({});
        if !matches.is_empty() {
            rule["matches"] = Value::from(matches);
        }
        if let Some(filters) = filters {
            rule["filters"] = filters;
        }
        if !references.is_empty() {
            rule["backendRefs"] = Value::from(references);
        }
        rule
    }))
}

fn a_route() -> impl Strategy<Value = Value> {
    let rules = prop::collection::vec(a_rule(prop::collection::vec(a_reference(), 0..3)), 1..4);
    (rules, unknown(), unknown()).prop_map(|(rules, in_spec, in_status)| {
        let mut route = route(Value::from(rules));
        route["spec"].as_object_mut().unwrap().extend(in_spec);
        route["status"] = Value::Object(in_status);
        route
    })
}

fn a_template() -> impl Strategy<Value = Value> {
    let rules = (a_rule(Just(Vec::new())), prop::collection::vec(a_rule(prop::collection::vec(a_reference(), 1..3)), 0..3));
    (rules, unknown(), 0..4usize).prop_map(|((model, mut rules), in_spec, at)| {
        rules.insert(at.min(rules.len()), model);
        let mut spec = route(Value::from(rules))["spec"].clone();
        spec.as_object_mut().unwrap().extend(in_spec);
        spec
    })
}

fn a_shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(single()),
        (0..=100).prop_map(split),
        (0..=100).prop_map(mirror),
        (0..=100, any::<bool>()).prop_map(|(slice, on)| sticky(slice, on))
    ]
}

fn bytes(value: &Value) -> String {
    value.to_string()
}

/// Whether every value of `one` is in `other` at the same place, byte for byte; lists may have grown at the end, weights may differ.
fn contained(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.iter().all(|(key, value)| key == "weight" || other.get(key).is_some_and(|other| contained(value, other)))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() <= other.len() && one.iter().zip(other).all(|(one, other)| contained(one, other))
        }
        _ => bytes(one) == bytes(other),
    }
}

/// Every path at which two values differ.
fn differences(path: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys()) {
                let null = Value::Null;
                differences(&format!("{path}/{key}"), one.get(key).unwrap_or(&null), other.get(key).unwrap_or(&null), found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                differences(&format!("{path}/{index}"), one, other, found);
            }
        }
        _ if bytes(one) == bytes(other) => {}
        _ => found.push(path.to_owned()),
    }
}

fn sums_to_100(rule: &Value) -> bool {
    rule["backendRefs"].as_array().unwrap().iter().map(|reference| reference["weight"].as_i64().unwrap()).sum::<i64>() == 100
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rendering_keeps_every_byte_of_the_template(template in a_template(), shape in a_shape()) {
        let rendered = render(&template, &shape).unwrap();
        prop_assert!(contained(&template, &rendered), "{template}\n{rendered}");
        let ours = rendered["rules"].as_array().unwrap().iter().filter(|rule| rule.to_string().contains("x-espalier-revision"));
        prop_assert!(ours.clone().count() >= 1);
        for rule in ours {
            prop_assert!(sums_to_100(rule), "{rule}");
        }
        let in_place = matches(&with_spec(&json!({}), rendered.clone()), &rendered);
        prop_assert!(in_place);
    }

    #[test]
    fn adopting_keeps_other_rules_and_releasing_restores_every_byte(live in a_route(), shapes in prop::collection::vec(a_shape(), 1..4), rule in 0..4usize) {
        let rules = live["spec"]["rules"].as_array().unwrap().clone();
        let rule = rule.min(rules.len() - 1);
        let mut adopted = live.clone();
        for shape in &shapes {
            adopted = adopt(&adopted, &rule.to_string(), shape).unwrap();
            for (index, other) in rules.iter().enumerate().filter(|(index, _)| *index != rule) {
                prop_assert_eq!(other.to_string(), adopted["spec"]["rules"][index].to_string());
            }
            prop_assert!(sums_to_100(&adopted["spec"]["rules"][rule]));
        }
        prop_assert_eq!(release(&adopted, &rule.to_string()).to_string(), live.to_string());
    }

    #[test]
    fn lowering_changes_weights_only_and_ends_all_exposure_beside_stable(live in a_route()) {
        let lowered = lower(&live, "d-r2", "d-r1");
        let mut found = Vec::new();
        differences("", &live, &lowered, &mut found);
        for path in found {
            prop_assert!(path.starts_with("/spec/rules/") && path.ends_with("/weight"), "{path}");
        }
        for rule in lowered["spec"]["rules"].as_array().unwrap() {
            let names: Vec<&str> = rule["backendRefs"].as_array().into_iter().flatten().map(|r| r["name"].as_str().unwrap()).collect();
            if names.contains(&"d-r1") {
                prop_assert_eq!(exposure(&json!({"spec": {"rules": [rule]}}), "d-r2").share, Exposure::ZERO);
            }
        }
        prop_assert_eq!(lower(&lowered, "d-r2", "d-r1"), lowered);
    }

    #[test]
    fn any_shape_lowers_to_zero_without_losing_a_reference(template in a_template(), shape in a_shape()) {
        let mut live = with_spec(&json!({}), render(&template, &shape).unwrap());
        live["spec"]["rules"].as_array_mut().unwrap().retain(|rule| rule.to_string().contains("x-espalier-revision"));
        let lowered = lower(&live, "d-r2", "d-r1");
        prop_assert_eq!(exposure(&lowered, "d-r2").share, Exposure::ZERO);
        for rule in lowered["spec"]["rules"].as_array().unwrap() {
            prop_assert!(sums_to_100(rule), "{rule}");
        }
    }

    #[test]
    fn a_rendered_shape_gives_exactly_its_exposure(shape in a_shape()) {
        let live = with_spec(&json!({}), render(&json!({}), &shape).unwrap());
        prop_assert_eq!(exposure(&live, "d-r2").share, shape.exposure());
    }
}
