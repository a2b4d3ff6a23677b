//! What people and other programs do beside the operator: requests, edits, deletions, foreign weights, hostile objects, another version's status.
//! Each says what it did to the trace, and whose reaction nobody may expect meanwhile.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::limits;
use crate::store::{PODS, POLICIES, Place, ROLLOUTS, ROUTES, SERVICES, place, text};
use crate::stories::{NAME, NAMESPACE, apply, policy};
use crate::world::World;

/// Asks for something about what is on trial, or about what serves or was rejected.
pub fn ask(world: &mut World, rollout: &Place, action: &str, id: &str) {
    let Some(live) = world.store.get(ROLLOUTS, &rollout.0, &rollout.1) else { return };
    let of = match action {
        "rollback" => "/status/stable/revision",
        "retry" => "/status/rejected/0/revision",
        _ => "/status/candidate/revision",
    };
    let candidate = text(live, of).to_owned();
    let request = json!({"id": id, "action": action, "candidate": candidate, "actor": "ann", "reason": "because"}).to_string();
    world.edit(ROLLOUTS, &rollout.0, &rollout.1, "kubectl", false, |live| {
        live["metadata"]["annotations"]["espalier.dev/request"] = json!(request);
    });
    world.count(format!("request {action}"));
    world.say(&format!("ann asks to {action} {candidate} of {}", rollout.1));
}

/// Sets fields of the spec.
pub fn edit_spec(world: &mut World, rollout: &Place, what: &'static str, edit: impl FnOnce(&mut Value)) {
    world.edit(ROLLOUTS, &rollout.0, &rollout.1, "kubectl", false, |live| edit(&mut live["spec"]));
    let now = world.now;
    let is_held = world.store.get(ROLLOUTS, &rollout.0, &rollout.1).is_some_and(|live| limits::is_suspended(live));
    let subject = world.oracle.of(rollout);
    // Another edit gives no second time for a raise to arrive in.
    subject.suspended = is_held.then(|| subject.suspended.unwrap_or(now));
    world.count(what);
    world.say(&format!("kubectl: {what} of {}", rollout.1));
}

pub fn delete(world: &mut World, rollout: &Place) {
    world.count("deletion");
    world.say(&format!("kubectl deletes {}", rollout.1));
    world.remove(ROLLOUTS, &rollout.0, &rollout.1);
}

/// The shared policy asks for a little more.
pub fn edit_policy(world: &mut World) {
    world.count("policy edit");
    world.say("kubectl edits the policy");
    let target = format!("+{}pp vs stable", 2 + world.dice.roll(2));
    world.edit(POLICIES, NAMESPACE, NAME, "kubectl", false, |live| live["spec"]["guardrails"][0]["target"] = json!(target));
}

/// The shared policy is deleted, and made again later.
pub fn lose_policy(world: &mut World, back_after: TimeDelta) {
    world.count("policy deleted");
    world.say("kubectl deletes the policy");
    let spec = world.store.get(POLICIES, NAMESPACE, NAME).map_or_else(|| policy()["spec"].clone(), |live| live["spec"].clone());
    world.remove(POLICIES, NAMESPACE, NAME);
    let again = world.now + back_after;
    world.script(again, move |world| {
        world.say("kubectl makes the policy again");
        let mut object = policy();
        object["spec"] = spec;
        world.make(POLICIES, NAMESPACE, object, "kubectl");
    });
}

/// Somebody sets the weights of the model's rule by hand; nobody expects a reaction at once.
pub fn foreign(world: &mut World, rollout: &Place, weight: i64) {
    world.oracle.of(rollout).foreign = true;
    world.excuse(world.now + TimeDelta::seconds(30));
    edit_weights(world, rollout, weight);
}

/// The edit alone, which excuses nobody.
pub fn edit_weights(world: &mut World, rollout: &Place, weight: i64) {
    world.count("foreign weight");
    let (namespace, name) = world.route_of(rollout);
    world.say(&format!("kubectl-edit sets the second weight of {name} to {weight}"));
    world.edit(ROUTES, &namespace, &name, "kubectl-edit", false, |route| {
        if let Some([first, second, ..]) =
            route.pointer_mut("/spec/rules/0/backendRefs").and_then(Value::as_array_mut).map(Vec::as_mut_slice)
        {
            (first["weight"], second["weight"]) = (json!(100 - weight), json!(weight));
        }
    });
}

/// The route, a Service or a pod of a rollout is gone.
pub fn vandalise(world: &mut World, rollout: &Place, dice: &mut Dice) {
    let belongs = |object: &Value| text(object, "/metadata/labels/espalier.dev~1rollout") == rollout.1;
    let mut found: Vec<_> = world.store.list(PODS, Some(&rollout.0)).filter(|one| belongs(one)).map(|one| (PODS, place(one))).collect();
    found.extend(world.store.list(SERVICES, Some(&rollout.0)).filter(|one| belongs(one)).map(|one| (SERVICES, place(one))));
    if world.route_of(rollout) == *rollout {
        found.push((ROUTES, rollout.clone()));
    }
    if found.is_empty() {
        return;
    }
    let (of, (namespace, name)) = dice.pick(&found).clone();
    world.oracle.of(rollout).foreign = true;
    world.excuse(world.now + TimeDelta::seconds(60));
    world.count(format!("{} deleted", of.plural));
    world.say(&format!("kubectl deletes {} {name}", of.plural));
    world.remove(of, &namespace, &name);
}

/// Another version of the operator has been here: what it knows and we do not is in status, and what only we write is not.
pub fn another_version(world: &mut World, rollout: &Place) {
    world.count("status of another version");
    world.say(&format!("another version wrote the status of {}", rollout.1));
    world.edit(ROLLOUTS, &rollout.0, &rollout.1, "espalier", true, |live| {
        if let Some(status) = live.get_mut("status").and_then(Value::as_object_mut) {
            for field in ["checkpoint", "evidence", "display"] {
                status.remove(field);
            }
            status.insert("futureField".to_owned(), json!({"kept": [1, {"deep": null}]}));
        }
    });
}

/// Objects that somebody hostile or careless has made; `kinds` of them.
pub fn hostile(world: &mut World, dice: &mut Dice) {
    let deep = (0..60).fold(json!(1), |inner, _| json!([inner]));
    let steps: Vec<String> = (0..10_000).map(|step| format!("{}%", step % 100)).collect();
    let long = "x".repeat(60_000);
    let rollouts = [
        ("wrong-type", json!({"spec": {"model": 5}})),
        ("deep", json!({"spec": {"model": {"uri": deep}}})),
        ("unknown-kind", json!({"spec": {"stages": [{"name": "s", "type": "Magic"}]}})),
        ("many-steps", json!({"spec": {"stages": [{"name": "s", "type": "Canary", "steps": steps}]}})),
        (
            "long-note",
            json!({"metadata": {"annotations": {"espalier.dev/request": long}}, "spec": {"model": {"uri": "oci://registry.example/z@sha256:z"}}}),
        ),
        ("no-policy", json!({"spec": {"policyRef": {"name": "absent"}}})),
        ("no-route", json!({"spec": {"route": {"adopt": {"name": "absent"}}}})),
    ];
    let (name, object) = dice.pick(&rollouts).clone();
    // The last ones are well formed, and ask for what is not there.
    let whole = ["long-note", "no-policy", "no-route"].contains(&name);
    let mut made = if whole { crate::stories::rollout_of(name, "z") } else { json!({"metadata": {"name": name}}) };
    for (field, value) in object["spec"].as_object().into_iter().flatten() {
        made["spec"][field] = value.clone();
    }
    if let Some(annotations) = object.pointer("/metadata/annotations") {
        made["metadata"]["annotations"] = annotations.clone();
    }
    world.count(format!("hostile object {name}"));
    world.make(ROLLOUTS, NAMESPACE, made, "mallory");
    if dice.chance(40) {
        let route = json!({"metadata": {"name": "odd"}, "spec": {"parentRefs": 5, "hostnames": [7], "rules": {"none": true}}});
        world.count("hostile route");
        world.make(ROUTES, NAMESPACE, route, "mallory");
    }
}

/// A user's own Deployment and Service for a model, with the label `app`.
pub fn own_service(world: &mut World, name: &str, letter: &str) {
    let labels = json!({"app": name});
    let container = json!({"name": "server", "image": "server", "args": [crate::stories::uri(letter)]});
    let deployment = json!({"metadata": {"name": name}, "spec": {"replicas": 2, "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}});
    world.make(crate::store::DEPLOYMENTS, NAMESPACE, deployment, "kubectl");
    let service = json!({"metadata": {"name": name}, "spec": {"selector": labels, "ports": [{"port": 8080}]}});
    world.make(SERVICES, NAMESPACE, service, "kubectl");
}

/// A user's own route over a Service.
pub fn own_route(world: &mut World, name: &str, service: &str) {
    let spec = own_route_spec(name, service);
    world.make(SERVICES, NAMESPACE, json!({"metadata": {"name": "docs"}, "spec": {"ports": [{"port": 80}]}}), "kubectl");
    world.make(ROUTES, NAMESPACE, json!({"metadata": {"name": name}, "spec": spec}), "kubectl");
}

pub fn own_route_spec(name: &str, service: &str) -> Value {
    json!({"parentRefs": [{"name": "gw"}], "hostnames": [format!("{name}.example")], "rules": [
        {"name": "model", "matches": [{"path": {"type": "PathPrefix", "value": "/predict"}}], "timeouts": {"request": "10s"},
            "backendRefs": [{"name": service, "port": 8080, "weight": 100}]},
        {"name": "docs", "matches": [{"path": {"type": "PathPrefix", "value": "/docs"}}], "backendRefs": [{"name": "docs", "port": 80, "weight": 100}]},
    ]})
}

/// Applies the same rollout with another spec.
pub fn reapply(world: &mut World, object: &Value, what: &'static str) {
    world.count(what);
    apply(world, object);
}
