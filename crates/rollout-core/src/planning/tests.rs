//! The published example, and how plans must move when traffic, shares and margins do.

use serde_json::{Value, json};

use super::*;
use crate::validate::validate;

fn plan(stages: &Value, guardrails: &Value) -> Plan {
    let spec = json!({
        "model": {"uri": "oci://r/m:1"}, "workload": {"backendRef": {"name": "digits-v2", "port": 80}}, "policyRef": {"name": "p"},
        "route": {"template": {"parentRefs": [{"name": "gw"}], "rules": [{}]}}, "stages": stages,
    });
    let policy = json!({"prometheus": {"address": "http://p:9090"}, "guardrails": guardrails});
    validate(&serde_json::from_value(spec).unwrap(), &serde_json::from_value(policy).unwrap()).unwrap()
}

fn canary(steps: &Value, max: &str) -> Value {
    json!([{"name": "canary", "type": "Canary", "steps": steps, "maxDuration": max}])
}

fn accuracy(target: &str) -> Value {
    json!({"name": "accuracy", "proportion": {"bad": "wrong_total", "total": "all_total"}, "target": target})
}

fn at(rps: f64, name: &str, base: Base) -> Assumptions {
    Assumptions { bases: BTreeMap::from([(name.to_owned(), base)]), ..Assumptions::at(rps) }
}

fn minutes(forecast: &Forecast) -> (i64, i64) {
    let span = forecast.total().unwrap();
    (span.usual.num_minutes(), span.longest.num_minutes())
}

#[test]
fn the_worked_example_comes_out() {
    // Error 8 %, margin 2 pp, 5 % and 90 %, a tenth of 10 requests/s: 1 751 requests on the candidate, half an hour, at most an hour.
    let plan = plan(&canary(&json!(["10%"]), "6h"), &json!([accuracy("+2pp vs stable")]));
    let forecast = forecast(&plan, &at(10.0, "accuracy", Base::Share(0.08)));
    let guardrail = &forecast.stages[0].guardrails[0];
    let Need::Requests { candidate, per_second, .. } = guardrail.need else { panic!("{guardrail:?}") };
    assert_eq!((candidate.round(), per_second), (1751.0, 1.0));
    // One window after the change of traffic does not count.
    assert_eq!(minutes(&forecast), (30, 59));
    assert_eq!(forecast.stages[0].decides.as_deref(), Some("accuracy"));
}

#[test]
fn a_tenth_of_the_traffic_takes_ten_times_as_long_and_may_not_fit() {
    let plan = plan(&canary(&json!(["50%"]), "24h"), &json!([accuracy("+2pp vs stable")]));
    let little = forecast(&plan, &at(0.1, "accuracy", Base::Share(0.08)));
    assert!(!little.stages[0].fits());
    assert_eq!(little.underpowered().count(), 1);
    let span = little.total().unwrap();
    // 3 151 requests an arm: 17.5 h, plan 35 h.
    assert_eq!((span.usual.num_minutes(), span.longest.num_hours()), (1051, 35));
    assert!(forecast(&plan, &at(1.0, "accuracy", Base::Share(0.08))).stages[0].fits());
}

#[test]
fn earlier_steps_count_towards_the_proof_of_their_stage() {
    let alone = plan(&canary(&json!(["25%"]), "6h"), &json!([accuracy("+1pp vs stable")]));
    let mut slow = canary(&json!(["5%", "25%"]), "6h");
    slow[0]["stepMinDuration"] = json!("20m");
    let stepped = plan(&slow, &json!([accuracy("+1pp vs stable")]));
    let assumed = at(10.0, "accuracy", Base::Share(0.08));
    let (alone, stepped) = (forecast(&alone, &assumed).total().unwrap(), forecast(&stepped, &assumed).total().unwrap());
    assert!(stepped.usual > alone.usual && stepped.usual < alone.usual + TimeDelta::minutes(20), "{alone:?} {stepped:?}");
}

#[test]
fn a_stage_starts_its_proofs_anew() {
    let two = json!([
        {"name": "one", "type": "Canary", "percent": "10%"},
        {"name": "two", "type": "ABTest", "percent": "10%", "assignment": {"header": "x-user-id"}},
    ]);
    let forecast = forecast(&plan(&two, &json!([accuracy("+2pp vs stable")])), &at(10.0, "accuracy", Base::Share(0.08)));
    assert_eq!(forecast.stages[0].time, forecast.stages[1].time);
}

#[test]
fn every_guardrail_of_a_stage_gets_its_part_of_the_power() {
    let one = plan(&canary(&json!(["10%"]), "6h"), &json!([accuracy("+2pp vs stable")]));
    let second = json!({"name": "errors", "proportion": {"bad": "e_total", "total": "all_total"}, "target": "+5pp vs stable"});
    let two = plan(&canary(&json!(["10%"]), "6h"), &json!([accuracy("+2pp vs stable"), second]));
    let assumed = at(10.0, "accuracy", Base::Share(0.08));
    assert!(forecast(&two, &assumed).total().unwrap().usual > forecast(&one, &assumed).total().unwrap().usual);
}

#[test]
fn what_cannot_be_proven_says_why() {
    let latency = json!({"name": "latency", "latency": {"histogram": "h", "slowerThan": "100ms"}, "target": "5%"});
    let forecast = forecast(&plan(&canary(&json!(["10%"]), "6h"), &json!([latency])), &at(10.0, "latency", Base::Share(0.06)));
    let stage = &forecast.stages[0];
    assert!(!stage.fits() && stage.time.is_none() && forecast.total().is_none());
    let Need::Never { why } = &stage.guardrails[0].need else { panic!("{stage:?}") };
    assert_eq!(why, "stable itself is at 6.00%, which is not below the target of 5.00%");
}

#[test]
fn a_gauge_takes_its_first_day_of_batches_and_a_limit_only_a_look() {
    let power = json!({"name": "power", "gauge": {"query": "watts", "unit": "W"}, "target": "30W"});
    let memory = json!({"name": "memory", "limit": {"query": "bytes", "unit": "MiB"}, "target": "512MiB"});
    let plan = plan(&canary(&json!(["10%"]), "6h"), &json!([power, memory]));
    let stage = &forecast(&plan, &Assumptions::at(100.0)).stages[0];
    // 24 batches of five windows of a minute, and one window for traffic to settle.
    assert_eq!(stage.guardrails[0].time.unwrap().usual, TimeDelta::minutes(121));
    assert_eq!(stage.guardrails[1].need, Need::Look);
    let noisy = at(100.0, "power", Base::Level { level: 28.0, spread: Some(4.0) });
    let slow = &forecast(&plan, &noisy).stages[0].guardrails[0];
    let Need::Batches { batches, .. } = slow.need else { panic!("{slow:?}") };
    // ((1.645+1.282)·4/2)² for one arm.
    assert!((batches - 34.3).abs() < 0.2, "{batches}");
}

#[test]
fn pods_bring_the_seconds_and_a_difference_of_gauges_needs_three() {
    let restarts = json!({"name": "restarts", "rate": {"events": "restarts_total"}, "target": "5x vs stable"});
    let draw = json!({"name": "draw", "gauge": {"query": "watts", "unit": "W"}, "target": "+2W vs stable"});
    let plan = plan(&canary(&json!(["10%"]), "168h"), &json!([restarts, draw]));
    let with = |pods| forecast(&plan, &Assumptions { pods: Some(pods), ..Assumptions::at(100.0) }).stages[0].clone();
    let (few, many) = (with(2), with(4));
    let settle = TimeDelta::minutes(1);
    let ratio = (few.guardrails[0].time.unwrap().usual - settle).num_seconds() as f64
        / (many.guardrails[0].time.unwrap().usual - settle).num_seconds() as f64;
    assert!((ratio - 2.0).abs() < 0.01, "{ratio}");
    assert!(matches!(&few.guardrails[1].need, Need::Never { why } if why.contains("it takes 3")), "{few:?}");
    assert!(many.guardrails[1].time.is_some());
}

#[test]
fn a_guardrail_that_a_short_stage_cannot_prove_may_count_elsewhere_only() {
    let stages = json!([{"name": "shadow", "type": "Shadow", "maxDuration": "1h"}, {"name": "canary", "type": "Canary", "percent": "10%"}]);
    let power = json!({"name": "power", "gauge": {"query": "watts", "unit": "W"}, "target": "30W"});
    let ways = ways(&plan(&stages, &json!([accuracy("+2pp vs stable"), power])), &Assumptions::at(100.0));
    assert!(ways.iter().any(|way| way.change.starts_with("let power count only in ")), "{ways:?}");
}

#[test]
fn ways_to_be_faster_are_faster_and_sorted() {
    let plan = plan(&canary(&json!(["1%", "10%"]), "6h"), &json!([accuracy("+1pp vs stable")]));
    let assumed = at(10.0, "accuracy", Base::Share(0.08));
    let now = forecast(&plan, &assumed).total().unwrap();
    let ways = ways(&plan, &assumed);
    assert!(ways.iter().any(|way| way.change == "widen the target of accuracy to +2pp vs stable"), "{ways:?}");
    assert!(ways.iter().any(|way| way.change == "end stage canary at 25% of users"), "{ways:?}");
    let times: Vec<_> = ways.iter().map(|way| way.time.unwrap().longest).collect();
    assert!(times.iter().all(|time| *time < now.longest) && times.is_sorted(), "{ways:?}");
}

#[test]
fn the_smallest_margin_of_a_time_takes_that_time() {
    let plan = plan(&canary(&json!(["10%"]), "6h"), &json!([accuracy("+1pp vs stable")]));
    let assumed = at(10.0, "accuracy", Base::Share(0.08));
    assert_eq!(smallest_margin(&plan, &assumed, "accuracy", TimeDelta::minutes(60)).as_deref(), Some("+2pp vs stable"));
    assert_eq!(smallest_margin(&plan, &assumed, "nothing", TimeDelta::minutes(60)), None);
}

#[test]
fn no_traffic_is_never_and_no_panic() {
    let plan = plan(&canary(&json!(["1%"]), "6h"), &json!([accuracy("+1pp vs stable")]));
    for rps in [0.0, 1e-9, 1e12] {
        let _ = (forecast(&plan, &Assumptions::at(rps)).total(), ways(&plan, &Assumptions::at(rps)));
    }
    assert!(forecast(&plan, &Assumptions::at(0.0)).total().is_none());
}

#[test]
fn drift_needs_fewer_requests_with_a_wider_target_and_more_with_more_bins() {
    let drift = |target: &str, more: &Value| {
        let mut drift = json!({"bins": "p_total", "label": "predicted"});
        more.as_object().unwrap().iter().for_each(|(name, value)| drift[name] = value.clone());
        plan(&canary(&json!(["10%"]), "6h"), &json!([{"name": "mix", "drift": drift, "target": target}]))
    };
    let requests = |plan: &Plan, assumed: &Assumptions| match forecast(plan, assumed).stages[0].guardrails[0].need {
        Need::Requests { candidate, .. } => candidate,
        ref other => panic!("{other:?}"),
    };
    let (assumed, ten) = (Assumptions::at(10.0), requests(&drift("0.1", &json!({})), &Assumptions::at(10.0)));
    // Ten bins: the 90 % point of chi-square with 9 degrees is 14.7; as an index of 0.1 it is rejected at 2.5 % with a size of some 300.
    assert!((250.0..450.0).contains(&ten), "{ten}");
    assert!((requests(&drift("0.2", &json!({})), &assumed) * 2.0 / ten - 1.0).abs() < 0.01);
    assert!(requests(&drift("0.1", &json!({})), &at(10.0, "mix", Base::Bins(40))) > ten);
    assert!(requests(&drift("0.1", &json!({"reference": "Recorded", "recorded": "r"})), &assumed) < ten);
    assert!(requests(&drift("0.1", &json!({"measure": "KolmogorovSmirnov"})), &assumed) > 100.0);
    let ways = ways(&drift("0.01", &json!({})), &Assumptions::at(0.5));
    assert!(ways.iter().any(|way| way.change == "widen the target of mix to 0.02"), "{ways:?}");
}

#[test]
fn energy_takes_batches_at_like_load_and_never_elsewhere() {
    let guardrail = |target: &str, stages: &Value| {
        let energy = json!({"consumption": "e", "inferences": "r"});
        json!([{"name": "energy", "energy": energy, "target": target, "stages": stages}, {"name": "x", "limit": {"query": "g"}, "target": "1"}])
    };
    let shadow = json!([{"name": "shadow", "type": "Shadow"}, {"name": "canary", "type": "Canary", "percent": "10%"}]);
    let need = |target: &str, stages: &Value, assumed: &Assumptions| {
        let plan = plan(&shadow, &guardrail(target, stages));
        let stage = forecast(&plan, assumed).stages.into_iter().find(|s| s.guardrails.iter().any(|g| g.name == "energy")).unwrap();
        stage.guardrails.into_iter().find(|g| g.name == "energy").unwrap().need
    };
    let plain = need("0.8x vs stable", &json!(["Shadow"]), &Assumptions::at(100.0));
    assert!(matches!(plain, Need::Batches { fewest: 24.0, pods: 3, .. }), "{plain:?}");
    let noisy = at(100.0, "energy", Base::Level { level: 100.0, spread: Some(20.0) });
    // A saving of 0.64 is told from one of 0.8 with 16 J of room.
    let Need::Batches { batches, .. } = need("0.8x vs stable", &json!(["Shadow"]), &noisy) else { panic!() };
    assert!((10.0..40.0).contains(&batches), "{batches}");
    let canary = need("120J", &json!(["Canary"]), &Assumptions::at(100.0));
    assert!(matches!(&canary, Need::Never { why } if why.contains("needs like load")), "{canary:?}");
}

#[test]
fn labels_that_may_be_missing_take_from_the_margin_until_nothing_is_left() {
    let late = |captured: &str| {
        let mut accuracy = accuracy("+2pp vs stable");
        accuracy["maturity"] = json!({"age": "1h", "captured": captured});
        let plan = plan(&canary(&json!(["10%"]), "144h"), &json!([accuracy]));
        forecast(&plan, &at(10.0, "accuracy", Base::Share(0.08))).stages[0].guardrails[0].need.clone()
    };
    let requests = |need: &Need| match need {
        Need::Requests { candidate, .. } => *candidate,
        other => panic!("{other:?}"),
    };
    assert!((requests(&late("100%")) - 1751.0).abs() < 1.0);
    // 95 % of (8 % + 2 pp) is 1.5 pp more than 8 %: a sample of (2/1.5)² times the size.
    let ratio = requests(&late("95%")) / 1751.0;
    assert!((1.6..2.0).contains(&ratio), "{ratio}");
    let Need::Never { why } = late("80%") else { panic!() };
    assert!(why.starts_with("20% of the labels may be missing") && why.contains("8.00% on stable"), "{why}");
}
