//! Routes as small fixtures, and the properties that must hold for any route.

mod fixtures;
mod properties;

use serde_json::{Value, json};

use self::fixtures::{backend, f, mirror, refs, route, single, spec, split, sticky};
use super::*;
use crate::plan::{IdCarrier, PlannedStage};
use crate::spec::{Alphabet, StageKind};

#[test]
fn a_canary_sets_weights_and_names_the_revision_on_both_arms() {
    let rendered = render(&json!({"parentRefs": [{"name": "gw"}], "rules": [{"matches": [{"path": {"value": "/"}}]}]}), &split(1)).unwrap();
    assert_eq!(
        rendered,
        json!({"parentRefs": [{"name": "gw"}], "rules": [{
            "matches": [{"path": {"value": "/"}}],
            "backendRefs": [
                {"name": "d-r1", "port": 80, "weight": 99, "filters": f("r1")},
                {"name": "d-r2", "port": 80, "weight": 1, "filters": f("r2")},
            ],
        }]})
    );
}

#[test]
fn a_template_without_rules_is_one_rule_for_everything() {
    for template in [json!({}), json!({"rules": []}), json!({"rules": null})] {
        assert_eq!(render(&template, &single()).unwrap()["rules"], json!([{"backendRefs": refs(&[("d-r1", 100)])}]));
    }
}

#[test]
fn rules_with_backends_and_redirects_are_the_users_own() {
    let own = json!({"name": "docs", "backendRefs": [{"name": "docs", "port": 80}]});
    let redirect = json!({"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]});
    let rendered = render(&json!({"rules": [own, redirect, {"timeouts": {"request": "60s"}}]}), &single()).unwrap();
    assert_eq!(rendered["rules"], json!([own, redirect, {"timeouts": {"request": "60s"}, "backendRefs": refs(&[("d-r1", 100)])}]));
    assert_eq!(render(&json!({"rules": [own]}), &single()), Err(RouteProblem::NoModelRule));
}

#[test]
fn mirroring_all_is_a_filter_and_mirroring_a_share_is_a_rule_after_all_others() {
    let template = json!({"rules": [{}, {"matches": [{"path": {"value": "/docs"}}], "backendRefs": [{"name": "docs"}]}]});
    let copies = json!([{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "d-r2", "port": 80}}}]);
    let all = render(&template, &mirror(100)).unwrap();
    assert_eq!(all["rules"].as_array().unwrap().len(), 2);
    assert_eq!(all["rules"][0], json!({"filters": copies, "backendRefs": refs(&[("d-r1", 100), ("d-r2", 0)])}));
    let some = render(&template, &mirror(50)).unwrap();
    assert_eq!(some["rules"][0], json!({"backendRefs": refs(&[("d-r1", 100), ("d-r2", 0)])}));
    assert_eq!(
        some["rules"][2],
        json!({
            "name": "espalier-mirror-0",
            "matches": [{
                "path": {"type": "PathPrefix", "value": "/"},
                "headers": [{"name": "x-request-id", "type": "RegularExpression", "value": "^.*([0-7][0-9a-fA-F])$"}],
            }],
            "filters": copies,
            "backendRefs": refs(&[("d-r1", 100), ("d-r2", 0)]),
        })
    );
    assert_eq!(render(&template, &mirror(0)).unwrap()["rules"].as_array().unwrap().len(), 2);
}

#[test]
fn a_sticky_stage_adds_slice_before_control_after_all_rules() {
    let template = json!({"rules": [{"name": "main"}, {"matches": [{"path": {"value": "/docs"}}], "backendRefs": [{"name": "docs"}]}]});
    let rules = render(&template, &sticky(25, true)).unwrap()["rules"].clone();
    let id = |value: &str| {
        json!([{
            "path": {"type": "PathPrefix", "value": "/"},
            "headers": [{"name": "x-user-id", "type": "RegularExpression", "value": value}],
        }])
    };
    assert_eq!(rules[0], json!({"name": "main", "backendRefs": refs(&[("d-r1", 100), ("d-r2", 0)])}));
    assert_eq!(
        rules[2],
        json!({"name": "espalier-ab-main", "matches": id("^.*([0-3][0-9a-fA-F])$"), "backendRefs": refs(&[("d-r1", 0), ("d-r2", 100)])})
    );
    assert_eq!(
        rules[3],
        json!({"name": "espalier-control-main", "matches": id("^.+$"), "backendRefs": refs(&[("d-r1", 0), ("d-r1-control", 100)])})
    );
    let dark = render(&template, &sticky(0, false)).unwrap()["rules"].clone();
    assert_eq!(dark.as_array().unwrap().len(), 3);
    assert_eq!(dark[2]["backendRefs"], refs(&[("d-r1", 100), ("d-r1-control", 0)]));
}

#[test]
fn a_slice_of_everybody_leaves_nobody_out() {
    let rules = render(&json!({"rules": [{"name": "main"}]}), &sticky(100, true)).unwrap()["rules"].clone();
    // Without an id, and with an id that ends in a letter no alphabet has, requests go to the candidate as well.
    assert_eq!(rules[0]["backendRefs"], refs(&[("d-r1", 0), ("d-r2", 100)]));
    assert_eq!(rules[1]["name"], "espalier-ab-main");
    assert_eq!(rules[1]["matches"][0]["headers"][0]["value"], "^(.+)$");
    assert_eq!(rules[1]["backendRefs"], refs(&[("d-r1", 0), ("d-r2", 100)]));
    assert_eq!(exposure(&route(rules), "d-r2").share, Exposure::FULL);
}

#[test]
fn the_revision_header_is_merged_into_the_users_filter_of_that_type() {
    let live = route(json!([{"backendRefs": [{
        "name": "old", "port": 80, "weight": 7, "futureField": {"a": 1},
        "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                "set": [{"name": "x-team", "value": "a"}, {"name": "X-Espalier-Revision", "value": "forged"}], "remove": ["x-espalier-revision"],
            }},
            {"type": "URLRewrite", "urlRewrite": {"hostname": "h"}},
        ],
    }]}]));
    let stable = Backend { name: "old".into(), ..backend("d-r1", "r1") };
    let shape = Shape::Split { stable, candidate: backend("d-r2", "r2"), exposure: Exposure::new(5).unwrap() };
    let adopted = adopt(&live, "0", &shape).unwrap();
    let expected = |revision: &str| {
        json!([
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                "set": [{"name": "x-team", "value": "a"}, {"name": "x-espalier-revision", "value": revision}],
            }},
            {"type": "URLRewrite", "urlRewrite": {"hostname": "h"}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-espalier-revision", "value": revision}]}},
        ])
    };
    assert_eq!(
        adopted["spec"]["rules"][0]["backendRefs"],
        json!([
            {"name": "old", "port": 80, "weight": 95, "futureField": {"a": 1}, "filters": expected("r1")},
            {"name": "d-r2", "port": 80, "weight": 5, "filters": expected("r2")},
        ])
    );
    assert_eq!(release(&adopted, "0"), live);
}

#[test]
fn an_adopted_rule_is_found_by_name_or_index_and_others_stay() {
    let live = route(json!([{"backendRefs": [{"name": "a"}]}, {"name": "model", "backendRefs": [{"name": "b"}]}]));
    let by_name = adopt(&live, "model", &split(10)).unwrap();
    let by_index = adopt(&live, "1", &split(10)).unwrap();
    assert_eq!(by_name["spec"], by_index["spec"]);
    assert_eq!(by_name["spec"]["rules"][0], live["spec"]["rules"][0]);
    assert_eq!(adopt(&live, "2", &split(10)), Err(RouteProblem::NoSuchRule { rule: "2".into() }));
}

#[test]
fn copies_are_replaced_not_piled_up_even_where_names_are_dropped() {
    let live = route(json!([{"backendRefs": [{"name": "a"}]}, {"matches": [{"method": "GET"}], "backendRefs": [{"name": "b"}]}]));
    let mut route = live.clone();
    for shape in [mirror(10), mirror(100), sticky(0, true), sticky(5, true), sticky(50, true)] {
        route = adopt(&route, "0", &shape).unwrap();
        for rule in route["spec"]["rules"].as_array_mut().unwrap() {
            rule.as_object_mut().unwrap().remove("name");
        }
    }
    assert_eq!(route["spec"]["rules"].as_array().unwrap().len(), 4);
    assert_eq!(release(&route, "0"), live);
}

#[test]
fn two_rollouts_share_one_route() {
    let headers = json!([{"name": "x-a", "value": "1"}]);
    let live = route(json!([
        {"backendRefs": [{"name": "a"}]},
        {"matches": [{"path": {"type": "PathPrefix", "value": "/"}, "headers": headers}], "backendRefs": [{"name": "b"}]},
    ]));
    let first = adopt(&live, "0", &sticky(5, true)).unwrap();
    let both = adopt(&first, "1", &split(10)).unwrap();
    let again = adopt(&both, "0", &sticky(10, true)).unwrap();
    assert_eq!(again["spec"]["rules"].as_array().unwrap().len(), 4);
    assert_eq!(again["spec"]["rules"][1], both["spec"]["rules"][1]);
    assert_eq!(release(&release(&again, "0"), "1"), live);
}

#[test]
fn references_put_back_by_the_user_are_remembered_anew() {
    let live = route(json!([{"backendRefs": [{"name": "a"}]}]));
    let mut reapplied = adopt(&live, "0", &mirror(100)).unwrap();
    reapplied["spec"]["rules"] = json!([{"backendRefs": [{"name": "a2"}]}]);
    let again = adopt(&reapplied, "0", &split(10)).unwrap();
    assert_eq!(release(&again, "0"), route(json!([{"backendRefs": [{"name": "a2"}]}])));
    let mut forgotten = again;
    forgotten["metadata"]["annotations"] = json!({});
    assert_eq!(adopt(&forgotten, "0", &split(5)), Err(RouteProblem::MemoryLost { rule: "0".into() }));
}

#[test]
fn exposure_counts_slices_of_users_and_any_foreign_rule() {
    let live = |shape: &Shape| with_spec(&route(json!([{}])), render(&json!({}), shape).unwrap());
    let share = |route: &Value| exposure(route, "d-r2").share.percent();
    assert_eq!(share(&live(&split(25))), 25);
    let slice = live(&sticky(5, true));
    assert_eq!(
        exposure(&slice, "d-r2"),
        LiveExposure { share: Exposure::new(5).unwrap(), referenced: true, mirrored: false, sticky: true, all_zero: false }
    );
    let copied = exposure(&live(&mirror(10)), "d-r2");
    assert_eq!((copied.share, copied.mirrored, copied.sticky), (Exposure::ZERO, true, false));
    assert_eq!(exposure(&live(&single()), "d-r2"), LiveExposure::default());
    // A foreign edit of the pattern counts as everybody that the rule matches.
    let mut widened = slice;
    widened["spec"]["rules"][1]["matches"][0]["headers"][0]["value"] = json!(".*");
    assert_eq!(share(&widened), 100);
    // Weights are relative, absent is 1, and a part of a percent counts as a whole one.
    assert_eq!(share(&route(json!([{"backendRefs": [{"name": "d-r1"}, {"name": "d-r2"}]}]))), 50);
    assert_eq!(share(&route(json!([{"backendRefs": [{"name": "d-r1", "weight": 999}, {"name": "d-r2", "weight": 1}]}]))), 1);
    assert!(exposure(&route(json!([{"backendRefs": [{"name": "d-r2", "weight": 0}]}])), "d-r2").all_zero);
}

#[test]
fn lowering_moves_slice_users_back_and_leaves_mirrors_alone() {
    let live = with_spec(&route(json!([{}])), render(&json!({}), &sticky(25, true)).unwrap());
    let lowered = lower(&live, "d-r2", "d-r1");
    assert_eq!(exposure(&lowered, "d-r2").share, Exposure::ZERO);
    assert_eq!(lowered["spec"]["rules"][1]["backendRefs"], refs(&[("d-r1", 100), ("d-r2", 0)]));
    assert_eq!(lowered["spec"]["rules"][2], live["spec"]["rules"][2]);
    let copied = with_spec(&route(json!([{}])), render(&json!({}), &mirror(100)).unwrap());
    assert_eq!(lower(&copied, "d-r2", "d-r1"), copied);
}

#[test]
fn lowering_never_leaves_a_rule_without_any_weight() {
    let live = route(json!([{"backendRefs": [{"name": "d-r2", "weight": 100}]}]));
    assert_eq!(lower(&live, "d-r2", "d-r1"), live);
    assert_eq!(lower(&live, "d-r2", "d-r2"), live);
    // Stable named twice still gets 100 in all.
    let twice =
        route(json!([{"backendRefs": [{"name": "d-r1", "weight": 1}, {"name": "d-r1", "weight": 1}, {"name": "d-r2", "weight": 98}]}]));
    let weights: Vec<_> =
        lower(&twice, "d-r2", "d-r1")["spec"]["rules"][0]["backendRefs"].as_array().unwrap().iter().map(|r| r["weight"].clone()).collect();
    assert_eq!(weights, [100, 0, 0]);
}

#[test]
fn defaults_and_pruned_fields_are_no_difference_and_edits_are() {
    let template = json!({
        "parentRefs": [{"name": "gw"}],
        "rules": [{"matches": [{"headers": [{"name": "x", "value": "1"}]}], "filters": [{"type": "RequestRedirect", "requestRedirect": {}}]},
                  {"matches": [{"path": {"value": "/"}}]}],
    });
    let wanted = render(&template, &mirror(10)).unwrap();
    let mut live = with_spec(&json!({}), wanted.clone());
    let spec = &mut live["spec"];
    spec["parentRefs"][0] = json!({"name": "gw", "group": "gateway.networking.k8s.io", "kind": "Gateway"});
    spec["rules"][0]["matches"][0]["path"] = json!({"type": "PathPrefix", "value": "/"});
    spec["rules"][0]["matches"][0]["headers"][0]["type"] = json!("Exact");
    spec["rules"][0]["filters"][0]["requestRedirect"] = json!({"statusCode": 302});
    spec["rules"][1]["backendRefs"][0]["kind"] = json!("Service");
    spec["rules"][1]["backendRefs"][0]["group"] = json!("");
    spec["rules"][1]["futureDefault"] = json!("on");
    spec["rules"][2].as_object_mut().unwrap().remove("name");
    assert!(matches(&live, &wanted));
    for (pointer, field, value) in [
        ("/spec/rules/1/backendRefs/0", "weight", json!(98)),
        ("/spec/rules/1", "timeouts", json!({"request": "1s"})),
        ("/spec/rules/1/backendRefs/1", "name", json!("other")),
        ("/spec/rules/1/matches/0/path", "type", json!("Exact")),
        ("/spec/rules/1/matches/0", "method", json!("GET")),
        ("/spec/parentRefs/0", "sectionName", json!("https")),
        ("/spec", "hostnames", json!(["x"])),
        ("/spec/rules/2", "name", json!("renamed")),
    ] {
        let mut edited = live.clone();
        edited.pointer_mut(pointer).unwrap()[field] = value;
        assert!(!matches(&edited, &wanted), "{pointer}/{field}");
    }
}

#[test]
fn an_absent_weight_is_one() {
    let wanted = spec(&json!([{"backendRefs": [{"name": "own"}]}]));
    let with = |weight: i32| route(json!([{"backendRefs": [{"name": "own", "weight": weight}]}]));
    assert!(matches(&with(1), &wanted));
    assert!(!matches(&with(0), &wanted));
}

#[test]
fn acceptance_needs_every_parent_and_both_conditions_at_this_generation() {
    let condition = |kind: &str, status: &str, generation: i64| json!({"type": kind, "status": status, "observedGeneration": generation, "reason": "BackendNotFound", "message": "no d-r2"});
    let parent = |name: &str, conditions: Value| json!({"parentRef": {"name": name, "group": "gateway.networking.k8s.io", "kind": "Gateway"}, "conditions": conditions});
    let check = |parents: Value| {
        acceptance(&json!({
            "metadata": {"namespace": "ns", "generation": 3},
            "spec": {"parentRefs": [{"name": "gw"}, {"name": "gw2", "namespace": "ns"}]},
            "status": {"parents": parents},
        }))
    };
    let good = json!([condition("Accepted", "True", 3), condition("ResolvedRefs", "True", 3)]);
    assert_eq!(check(json!([parent("gw", good.clone()), parent("gw2", good.clone())])), Acceptance::Accepted);
    assert_eq!(check(json!([parent("gw", good.clone())])), Acceptance::Pending("Gateway gw2 has not answered for the route".into()));
    let stale = json!([condition("Accepted", "True", 3), condition("ResolvedRefs", "True", 2)]);
    assert_eq!(
        check(json!([parent("gw", stale), parent("gw2", good.clone())])),
        Acceptance::Pending("gw has not said ResolvedRefs for generation 3 yet".into())
    );
    let broken = json!([condition("Accepted", "True", 3), condition("ResolvedRefs", "False", 3)]);
    assert_eq!(
        check(json!([parent("gw", good), parent("gw2", broken)])),
        Acceptance::Refused("gw2 says ResolvedRefs is False, BackendNotFound: no d-r2".into())
    );
    assert!(std::matches!(acceptance(&json!({"spec": {}})), Acceptance::Refused(_)));
}

#[test]
fn managers_are_those_who_own_the_rules() {
    let entry =
        |manager: &str, fields: Value, subresource: &str| json!({"manager": manager, "fieldsV1": fields, "subresource": subresource});
    let rules = json!({"f:spec": {"f:rules": {}}});
    let route = json!({"metadata": {"managedFields": [
        entry("kubectl-edit", rules.clone(), ""),
        entry("espalier", rules.clone(), ""),
        entry("argocd-controller", rules.clone(), ""),
        entry("labels-only", json!({"f:metadata": {}}), ""),
        entry("contour", json!({"f:status": {}}), "status"),
    ]}});
    assert_eq!(managers(&route), ["argocd-controller", "kubectl-edit"]);
}

#[test]
fn the_last_change_of_the_rules_is_anybodys_and_not_of_labels_or_status() {
    let entry = |fields: Value, subresource: &str, time: &str| json!({"fieldsV1": fields, "subresource": subresource, "time": time});
    let rules = json!({"f:spec": {"f:rules": {}}});
    let mut route = json!({"metadata": {"managedFields": [
        entry(rules.clone(), "", "2027-01-15T08:00:10Z"),
        entry(rules.clone(), "", "2027-01-15T08:00:20Z"),
        entry(json!({"f:metadata": {}}), "", "2027-01-15T08:00:30Z"),
        entry(json!({"f:status": {}}), "status", "2027-01-15T08:00:40Z"),
        entry(rules, "", "yesterday"),
    ]}});
    assert_eq!(changed_at(&route).unwrap().to_rfc3339(), "2027-01-15T08:00:20+00:00");
    route["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(changed_at(&route), None);
}

#[test]
fn a_decision_survives_on_the_route() {
    let mut route = json!({"spec": {}});
    assert_eq!(read_note(&route), None);
    let decision = DecisionNote { id: "7".into(), revision: RevisionId::new("r2"), action: "RolledBack".into(), reason: "Harmful".into() };
    note(&mut route, &decision);
    assert_eq!(read_note(&route), Some(decision));
    route["metadata"]["annotations"][DECISION_ANNOTATION] = json!("{broken");
    assert_eq!(read_note(&route), None);
}

#[test]
fn references_enter_and_leave_empty() {
    let live = route(json!([{"backendRefs": refs(&[("d-r1", 100)])}]));
    let wanted = |shape: &Shape| render(&json!({}), shape).unwrap();
    assert_eq!(unprepared(&live, &wanted(&split(0))), Vec::<String>::new());
    assert_eq!(unprepared(&live, &wanted(&split(5))), ["d-r2"]);
    let ab = with_spec(&live, wanted(&sticky(5, true)));
    assert_eq!(unprepared(&ab, &wanted(&split(0))), ["d-r1-control"]);
    assert_eq!(unprepared(&ab, &wanted(&single())), ["d-r1-control", "d-r2"]);
    assert_eq!(unprepared(&with_spec(&live, wanted(&sticky(0, false))), &wanted(&single())), Vec::<String>::new());
}

fn stage(kind: StageKind, percent: i32, carrier: Option<IdCarrier>) -> PlannedStage {
    PlannedStage {
        name: format!("{kind:?}").to_lowercase(),
        kind,
        steps: vec![Exposure::new(percent).unwrap()],
        min: chrono::TimeDelta::zero(),
        step_min: chrono::TimeDelta::zero(),
        max: chrono::TimeDelta::zero(),
        assignment: carrier.map(|carrier| PlannedAssignment { carrier, alphabet: Alphabet::Hex }),
        approval_required: false,
    }
}

fn check_preflight(rules: &Value, expected: &[&str]) {
    let header = Some(IdCarrier::Header("X-User-Id".into()));
    let stages = [stage(StageKind::Shadow, 100, None), stage(StageKind::Canary, 5, None), stage(StageKind::ABTest, 50, header)];
    let found: Vec<&str> = preflight(&spec(rules), Target::Template, &stages).iter().map(RouteProblem::category).collect();
    assert_eq!(found, expected);
}

#[test]
fn preflight_finds_what_the_copies_would_break() {
    let docs = |matches: Value| json!([{"name": "m", "matches": [{"path": {"value": "/v1"}}]}, {"matches": matches, "backendRefs": [{"name": "docs"}]}]);
    check_preflight(&docs(json!([{"path": {"value": "/docs"}}])), &[]);
    check_preflight(&docs(json!([{"path": {"value": "/v1/docs"}}])), &[]);
    // As narrow as the copy: the first rule wins, and copies come last.
    check_preflight(&docs(json!([{"path": {"value": "/v1"}, "headers": [{"name": "x-env", "value": "beta"}]}])), &[]);
    check_preflight(&docs(json!([{"path": {"value": "/v1"}, "queryParams": [{"name": "beta", "value": "1"}]}])), &["RuleOutranked"]);
    // No request is both.
    let by_method =
        |method: &str, param: &str| json!({"path": {"value": "/v1"}, "method": method, "queryParams": [{"name": "beta", "value": param}]});
    let rules = json!([{"matches": [by_method("POST", "0")]}, {"matches": [by_method("GET", "0"), by_method("POST", "1")], "backendRefs": [{"name": "docs"}]}]);
    check_preflight(&rules, &[]);
    check_preflight(&json!([{"matches": [{"headers": [{"name": "x-user-id", "value": "1"}]}]}]), &["HeaderTaken"]);
    check_preflight(&json!([{"name": "a"}, {"name": "a"}]), &["DuplicateRuleName"]);
    check_preflight(&Value::Array(vec![json!({}); 6]), &["RouteTooLarge"]);
    check_preflight(&json!([{"matches": vec![json!({"path": {"value": "/a"}}); 50]}]), &["RouteTooLarge"]);
    check_preflight(&json!([{"backendRefs": [{"name": "docs"}]}]), &["NoModelRule"]);
}

#[test]
fn preflight_of_an_adopted_rule_looks_at_the_route_as_the_user_wrote_it() {
    let live = route(json!([{"backendRefs": [{"name": "a"}]}]));
    let stages = [stage(StageKind::ABTest, 50, Some(IdCarrier::Cookie("uid".into())))];
    let adopted = adopt(&live, "0", &sticky(50, true)).unwrap();
    assert_eq!(preflight(&adopted, Target::Adopted("0"), &stages), []);
    assert_eq!(preflight(&live, Target::Adopted("9"), &stages), [RouteProblem::NoSuchRule { rule: "9".into() }]);
}

#[test]
fn another_route_on_the_same_host_conflicts_when_it_competes() {
    let named = |name: &str, host: &str, matches: Value| {
        json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {
            "parentRefs": [{"name": "gw"}], "hostnames": [host], "rules": [{"matches": matches, "backendRefs": [{"name": "x"}]}],
        }})
    };
    let mut mine = named("mine", "a.example", json!([{"path": {"value": "/"}}]));
    mine["spec"]["rules"][0].as_object_mut().unwrap().remove("backendRefs");
    let stages = [stage(StageKind::ABTest, 50, Some(IdCarrier::Header("x-user-id".into())))];
    let check = |other: Value| -> Vec<&'static str> {
        conflicts(&mine, Target::Template, &stages, &other).iter().map(RouteProblem::category).collect()
    };
    assert_eq!(check(named("o", "a.example", json!([{}]))), ["RouteConflict", "RuleOutranked"]);
    assert_eq!(check(named("o", "a.example", json!([{"queryParams": [{"name": "q", "value": "1"}]}]))), ["RuleOutranked"]);
    assert_eq!(check(named("o", "a.example", json!([{"path": {"value": "/v1"}}]))), Vec::<&str>::new());
    assert_eq!(check(named("o", "b.example", json!([{}]))), Vec::<&str>::new());
    let mut elsewhere = named("o", "a.example", json!([{}]));
    elsewhere["spec"]["parentRefs"][0]["namespace"] = json!("edge");
    assert_eq!(check(elsewhere), Vec::<&str>::new());
}
