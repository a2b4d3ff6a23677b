//! The same requests to the simulated and to a real API server: status, reason, versions, generations, subresources, pruning, defaults, rules,
//! deletion, lists and watches must be the same. `e2e/honest` starts the real one; messages are for people and are not compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use espalier::clock::Clock;
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

use crate::serve::{Caller, serve};
use crate::stories::{policy, rollout};
use crate::world::{World, at};

const NAMESPACE: &str = "honest";

/// A server that is asked, and what it said.
struct Asked {
    client: Client,
    /// The last version that was seen of each object, by path.
    versions: BTreeMap<String, String>,
    /// What was answered, by what was asked.
    log: Vec<(String, Value)>,
    topic: &'static str,
}

/// What is asked about, the same way for each kind.
struct Kind {
    topic: &'static str,
    group: &'static str,
    plural: &'static str,
    object: Value,
    /// A field of the spec, and another value for it.
    change: Option<(&'static str, Value)>,
    /// Fields that are compared besides metadata; none compares everything.
    compared: Option<&'static [&'static str]>,
    status: Option<Value>,
}

impl Kind {
    fn all(&self) -> String {
        format!("{}/namespaces/{NAMESPACE}/{}", self.group, self.plural)
    }

    fn one(&self, name: &str) -> String {
        format!("{}/{name}", self.all())
    }

    fn named(&self, name: &str) -> Value {
        let mut object = self.object.clone();
        object["metadata"] = json!({"name": name, "labels": {"app": name}});
        object
    }
}

impl Asked {
    fn new(client: Client) -> Self {
        Self { client, versions: BTreeMap::new(), log: Vec::new(), topic: "" }
    }

    async fn send(&self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let kind = if *method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let content = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method.clone()).uri(path).header("content-type", kind).body(Body::from(content)).unwrap();
        let answer = self.client.send(request).await.unwrap();
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes))))
    }

    /// Asks, and keeps what can be compared.
    async fn ask(&mut self, about: &Kind, say: &str, method: Method, path: &str, body: Value) -> Value {
        self.topic = about.topic;
        let (code, answer) = self.send(&method, path, &body).await;
        let seen = self.comparable(about, path, code, &answer);
        self.log.push((format!("{}: {say}", self.topic), seen));
        answer
    }

    fn comparable(&mut self, about: &Kind, path: &str, code: u16, answer: &Value) -> Value {
        if code >= 400 {
            return json!({"code": code, "kind": answer["kind"], "status": answer["status"], "reason": answer["reason"]});
        }
        if answer["kind"] == "Status" {
            return json!({"code": code, "status": answer["status"]});
        }
        if let Some(items) = answer["items"].as_array() {
            let items: Vec<Value> = items.iter().map(|one| self.object(about, path, one)).collect();
            let metadata = &answer["metadata"];
            let more = metadata["continue"].as_str().is_some_and(|token| !token.is_empty());
            let versioned = metadata["resourceVersion"].is_string();
            return json!({"code": code, "kind": answer["kind"], "apiVersion": answer["apiVersion"], "items": items, "more": more, "versioned": versioned});
        }
        json!({"code": code, "object": self.object(about, path, answer)})
    }

    /// An object without what differs between any two servers; its version is told as new or known.
    fn object(&mut self, about: &Kind, path: &str, object: &Value) -> Value {
        let mut object = object.clone();
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return object };
        let version = metadata.remove("resourceVersion").and_then(|version| version.as_str().map(str::to_owned));
        let place = format!("{} {name}", about.plural);
        let known = version.as_ref().is_some_and(|version| self.versions.get(&place) == Some(version));
        if let (Some(version), false) = (&version, path.contains("dryRun")) {
            self.versions.insert(place, version.clone());
        }
        let told = if version.is_none() {
            "none"
        } else if known {
            "known"
        } else {
            "new"
        };
        for field in ["uid", "creationTimestamp", "deletionTimestamp"] {
            if let Some(value) = metadata.get_mut(field) {
                *value = json!("some");
            }
        }
        metadata.remove("managedFields");
        metadata.remove("deletionGracePeriodSeconds");
        metadata.insert("version".to_owned(), json!(told));
        if let Some(compared) = about.compared {
            let kept = compared.iter().filter_map(|path| Some(((*path).to_owned(), object.pointer(path)?.clone())));
            let mut kept: serde_json::Map<String, Value> = kept.collect();
            for field in ["apiVersion", "kind", "metadata"] {
                kept.extend(object.get(field).map(|value| (field.to_owned(), value.clone())));
            }
            return Value::Object(kept);
        }
        object
    }

    /// Events of a watch that ends by itself.
    async fn watch(&mut self, about: &Kind, say: &str, path: &str) {
        let (code, answer) = self.send(&Method::GET, path, &Value::Null).await;
        let text = match answer {
            Value::String(lines) => lines,
            one => one.to_string(),
        };
        let mut events = Vec::new();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let object = &line["object"];
            events.push(match line["type"].as_str() {
                Some("ERROR") => json!({"type": "ERROR", "code": object["code"], "reason": object["reason"], "kind": object["kind"]}),
                Some("BOOKMARK") => continue,
                _ => json!({"type": line["type"], "object": self.object(about, path, object)}),
            });
        }
        self.log.push((format!("{}: {say}", about.topic), json!({"code": code, "events": events})));
    }
}

/// Creation, reading, replacing, patching.
async fn changes(asked: &mut Asked, of: &Kind) {
    let one = of.one("one");
    asked.ask(of, "read what is not there", Method::GET, &one, Value::Null).await;
    asked.ask(of, "try to create", Method::POST, &format!("{}?dryRun=All", of.all()), of.named("one")).await;
    asked.ask(of, "read what was only tried", Method::GET, &one, Value::Null).await;
    asked.ask(of, "create", Method::POST, &of.all(), of.named("one")).await;
    asked.ask(of, "create again", Method::POST, &of.all(), of.named("one")).await;
    let mut versioned = of.named("two");
    versioned["metadata"]["resourceVersion"] = json!("5");
    asked.ask(of, "create with a version", Method::POST, &of.all(), versioned).await;
    let mut nameless = of.named("two");
    nameless["metadata"] = json!({});
    asked.ask(of, "create without a name", Method::POST, &of.all(), nameless).await;
    let live = asked.ask(of, "read", Method::GET, &one, Value::Null).await;
    asked.ask(of, "replace by the same", Method::PUT, &one, live.clone()).await;
    let mut labelled = live.clone();
    labelled["metadata"]["labels"]["more"] = json!("1");
    asked.ask(of, "try to replace", Method::PUT, &format!("{one}?dryRun=All"), labelled.clone()).await;
    asked.ask(of, "replace", Method::PUT, &one, labelled.clone()).await;
    asked.ask(of, "replace from an old version", Method::PUT, &one, labelled.clone()).await;
    let live = asked.ask(of, "read after it", Method::GET, &one, Value::Null).await;
    let mut foreign = live.clone();
    foreign["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    asked.ask(of, "replace another of the same name", Method::PUT, &one, foreign).await;
    asked.ask(of, "replace what is not there", Method::PUT, &of.one("absent"), renamed(&live, "absent")).await;
    if let Some((path, value)) = &of.change {
        let mut changed = live.clone();
        *changed.pointer_mut(path).unwrap() = value.clone();
        asked.ask(of, "replace the spec", Method::PUT, &one, changed).await;
    }
    let patch = |change: Value| json!({"metadata": change});
    asked.ask(of, "patch", Method::PATCH, &one, patch(json!({"labels": {"patched": "yes"}}))).await;
    asked.ask(of, "patch to the same", Method::PATCH, &one, patch(json!({"labels": {"patched": "yes"}}))).await;
    asked.ask(of, "patch a field away", Method::PATCH, &one, patch(json!({"labels": {"patched": null}}))).await;
    asked.ask(of, "patch from an old version", Method::PATCH, &one, patch(json!({"resourceVersion": "1"}))).await;
    let other = json!({"uid": "00000000-0000-0000-0000-000000000000", "labels": {"patched": "no"}});
    asked.ask(of, "patch another of the same name", Method::PATCH, &one, patch(other)).await;
    asked.ask(of, "patch what is not there", Method::PATCH, &of.one("absent"), patch(json!({"labels": {"a": "b"}}))).await;
}

fn renamed(object: &Value, name: &str) -> Value {
    let mut object = object.clone();
    object["metadata"] = json!({"name": name});
    object
}

/// What belongs to status, and what does not.
async fn subresource(asked: &mut Asked, of: &Kind) {
    let Some(status) = &of.status else { return };
    let one = of.one("one");
    let live = asked.ask(of, "read for its status", Method::GET, &one, Value::Null).await;
    let mut both = live.clone();
    both["status"] = status.clone();
    if let Some((path, value)) = &of.change {
        *both.pointer_mut(path).unwrap() = value.clone();
    }
    both["metadata"]["labels"]["more"] = json!("2");
    asked.ask(of, "replace the status", Method::PUT, &format!("{one}/status"), both.clone()).await;
    asked.ask(of, "replace the status from an old version", Method::PUT, &format!("{one}/status"), both).await;
    let mut without = asked.ask(of, "read its status", Method::GET, &one, Value::Null).await;
    without.as_object_mut().unwrap().remove("status");
    asked.ask(of, "replace without the status", Method::PUT, &one, without).await;
}

/// Finalizers, preconditions, what a deletion answers.
async fn deletion(asked: &mut Asked, of: &Kind) {
    let one = of.one("one");
    asked.ask(of, "delete what is not there", Method::DELETE, &of.one("absent"), Value::Null).await;
    let other = json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
    asked.ask(of, "delete another of the same name", Method::DELETE, &one, other).await;
    let held = json!({"metadata": {"finalizers": ["espalier.dev/traffic"]}});
    asked.ask(of, "add a finalizer", Method::PATCH, &one, held).await;
    let background = json!({"propagationPolicy": "Background"});
    asked.ask(of, "delete what is held", Method::DELETE, &one, background.clone()).await;
    asked.ask(of, "delete it again", Method::DELETE, &one, background.clone()).await;
    asked.ask(of, "read what is going", Method::GET, &one, Value::Null).await;
    asked.ask(of, "let it go", Method::PATCH, &one, json!({"metadata": {"finalizers": null}})).await;
    asked.ask(of, "read what is gone", Method::GET, &one, Value::Null).await;
    asked.ask(of, "create anew", Method::POST, &of.all(), of.named("one")).await;
    asked.ask(of, "delete at once", Method::DELETE, &one, background).await;
}

/// Pages, selectors, watches.
async fn lists(asked: &mut Asked, of: &Kind) {
    let empty = asked.ask(of, "an empty list", Method::GET, &of.all(), Value::Null).await;
    let from = empty.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    for name in ["x", "y", "z"] {
        asked.ask(of, "create one of three", Method::POST, &of.all(), of.named(name)).await;
    }
    let page = asked.ask(of, "a first page", Method::GET, &format!("{}?limit=2", of.all()), Value::Null).await;
    let token = page.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default().to_owned();
    asked.ask(of, "the next page", Method::GET, &format!("{}?limit=2&continue={token}", of.all()), Value::Null).await;
    asked.ask(of, "one by its label", Method::GET, &format!("{}?labelSelector=app%3Dy", of.all()), Value::Null).await;
    asked.ask(of, "none by its label", Method::GET, &format!("{}?labelSelector=app%3Dnobody", of.all()), Value::Null).await;
    asked.ask(of, "change one of three", Method::PATCH, &of.one("x"), json!({"metadata": {"labels": {"more": "1"}}})).await;
    asked.ask(of, "delete one of three", Method::DELETE, &of.one("y"), Value::Null).await;
    let query = format!("{}?watch=1&timeoutSeconds=1&resourceVersion={from}", of.all());
    asked.watch(of, "what a watch tells", &query).await;
    asked.watch(of, "what a watch tells of one", &format!("{query}&labelSelector=app%3Dx")).await;
    for name in ["x", "z"] {
        asked.ask(of, "delete the others", Method::DELETE, &of.one(name), Value::Null).await;
    }
}

/// What admission says of our own kinds: unknown fields go, wrong types and broken rules are refused, defaults come.
async fn admission(asked: &mut Asked, of: &Kind) {
    let mut unknown = of.named("one");
    unknown["spec"]["model"]["futureField"] = json!(1);
    unknown["futureField"] = json!(1);
    asked.ask(of, "create with unknown fields", Method::POST, &of.all(), unknown).await;
    let bad = [
        ("a wrong type", "/spec/model/uri", json!(5)),
        ("a value out of its list", "/spec/stages/0/type", json!("Magic")),
        ("a broken rule", "/spec/stages/0/steps", json!(["50%", "5%"])),
        ("two of one", "/spec/workload", json!({"port": 1})),
        ("a missing field", "/spec/policyRef", json!({})),
    ];
    for (say, path, value) in bad {
        let mut object = of.named("two");
        *object.pointer_mut(path).unwrap() = value;
        asked.ask(of, say, Method::POST, &of.all(), object).await;
    }
    let live = asked.ask(of, "read for a bad change", Method::GET, &of.one("one"), Value::Null).await;
    let mut wrong = live.clone();
    wrong["spec"]["stages"][0]["steps"] = json!(["50%", "5%"]);
    asked.ask(of, "replace by what breaks a rule", Method::PUT, &of.one("one"), wrong).await;
    let mut wrong = live.clone();
    wrong["status"]["observedGeneration"] = json!("many");
    asked.ask(of, "a status of a wrong type", Method::PUT, &format!("{}/status", of.one("one")), wrong).await;
    let mut future = live;
    future["status"] = json!({"observedGeneration": 1, "futureField": {"kept": [1]}});
    asked.ask(of, "a status of tomorrow", Method::PUT, &format!("{}/status", of.one("one")), future).await;
    asked.ask(of, "delete it", Method::DELETE, &of.one("one"), Value::Null).await;
}

fn with(group: &str, kind: &str, mut object: Value) -> Value {
    object["apiVersion"] = json!(group.trim_start_matches("/apis/").trim_start_matches("/api/"));
    object["kind"] = json!(kind);
    object
}

/// Ours, and the route.
fn custom_kinds() -> Vec<Kind> {
    let ours = "/apis/espalier.dev/v1alpha1";
    let route = json!({"spec": {"parentRefs": [{"name": "gw"}], "hostnames": ["one.example"], "rules": [
        {"backendRefs": [{"name": "one", "port": 80}]}, {"matches": [{"path": {"value": "/two"}}], "backendRefs": [{"name": "two", "port": 80, "weight": 5}]}]}});
    let gateway = "/apis/gateway.networking.k8s.io/v1";
    vec![
        Kind {
            topic: "ModelRollout",
            group: ours,
            plural: "modelrollouts",
            object: with(ours, "ModelRollout", rollout("a")),
            change: Some(("/spec/policyRef/name", json!("another"))),
            compared: None,
            status: Some(json!({"observedGeneration": 1})),
        },
        Kind {
            topic: "EvaluationPolicy",
            group: ours,
            plural: "evaluationpolicies",
            object: with(ours, "EvaluationPolicy", policy()),
            change: Some(("/spec/window", json!("2m"))),
            compared: None,
            status: None,
        },
        Kind {
            topic: "HTTPRoute",
            group: gateway,
            plural: "httproutes",
            object: with(gateway, "HTTPRoute", route),
            change: Some(("/spec/hostnames", json!(["two.example"]))),
            compared: None,
            status: Some(json!({"parents": []})),
        },
    ]
}

/// Those that every API server has.
fn built_in_kinds() -> Vec<Kind> {
    let (apps, core) = ("/apis/apps/v1", "/api/v1");
    let pods = json!({"metadata": {"labels": {"app": "one"}}, "spec": {"containers": [{"name": "server", "image": "server"}]}});
    let deployment = json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "one"}}, "template": pods}});
    let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}]});
    let lease = json!({"spec": {"holderIdentity": "one", "leaseDurationSeconds": 15}});
    vec![
        Kind {
            topic: "Deployment",
            group: apps,
            plural: "deployments",
            object: with(apps, "Deployment", deployment),
            change: Some(("/spec/replicas", json!(3))),
            compared: Some(&["/spec/replicas"]),
            status: Some(json!({"replicas": 1})),
        },
        Kind {
            topic: "ControllerRevision",
            group: apps,
            plural: "controllerrevisions",
            object: with(apps, "ControllerRevision", json!({"revision": 1, "data": {"a": 1}})),
            change: None,
            compared: Some(&["/revision", "/data"]),
            status: None,
        },
        Kind {
            topic: "Service",
            group: core,
            plural: "services",
            object: with(core, "Service", json!({"spec": {"ports": [{"port": 80}]}})),
            change: None,
            compared: Some(&[]),
            status: None,
        },
        Kind {
            topic: "EndpointSlice",
            group: "/apis/discovery.k8s.io/v1",
            plural: "endpointslices",
            object: with("/apis/discovery.k8s.io/v1", "EndpointSlice", slice),
            change: None,
            compared: Some(&["/endpoints", "/addressType"]),
            status: None,
        },
        Kind {
            topic: "Lease",
            group: "/apis/coordination.k8s.io/v1",
            plural: "leases",
            object: with("/apis/coordination.k8s.io/v1", "Lease", lease),
            change: Some(("/spec/leaseDurationSeconds", json!(20))),
            compared: Some(&["/spec"]),
            status: None,
        },
    ]
}

async fn everything(client: Client) -> Vec<(String, Value)> {
    let mut asked = Asked::new(client);
    let kinds: Vec<Kind> = custom_kinds().into_iter().chain(built_in_kinds()).collect();
    for of in &kinds {
        changes(&mut asked, of).await;
        subresource(&mut asked, of).await;
        deletion(&mut asked, of).await;
        lists(&mut asked, of).await;
    }
    admission(&mut asked, &kinds[0]).await;
    let strange = Kind {
        topic: "nothing",
        group: "/apis/espalier.dev/v1alpha1",
        plural: "strangers",
        object: json!({}),
        change: None,
        compared: None,
        status: None,
    };
    asked.ask(&strange, "a kind that is not served", Method::GET, &strange.all(), Value::Null).await;
    let kinds = "/apis/espalier.dev/v1alpha1";
    let (code, answer) = asked.send(&Method::GET, kinds, &Value::Null).await;
    let names = answer["resources"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str());
    let names: BTreeSet<&str> = names.filter(|name| !name.contains('/')).collect();
    asked.log.push((
        "discovery".to_owned(),
        json!({"code": code, "kind": answer["kind"], "groupVersion": answer["groupVersion"], "names": names}),
    ));
    asked.log
}

fn simulated() -> Client {
    let mut world = World::new(1);
    world.tomorrow = false;
    // The real server has no gateway either.
    world.cluster.gateway_delay = chrono::TimeDelta::days(1);
    let world = Arc::new(Mutex::new(world));
    let origin = tokio::time::Instant::now();
    let clock = Clock::of(move || at(0) + chrono::TimeDelta::from_std(origin.elapsed()).unwrap());
    let caller = Caller { name: "honest".to_owned(), clock, on_agenda: false };
    let ticking = Arc::clone(&world);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = at(0) + chrono::TimeDelta::from_std(origin.elapsed()).unwrap();
            crate::world::lock(&ticking).run_due(now);
        }
    });
    Client::new(service_fn(move |request| serve(Arc::clone(&world), caller.clone(), request)), NAMESPACE)
}

#[tokio::test(start_paused = true)]
async fn the_simulated_api_server_answers_every_request_of_the_comparison() {
    let log = everything(simulated()).await;
    assert!(log.len() > 300, "{}", log.len());
    let strange: Vec<_> = log.iter().filter(|(_, seen)| seen["code"].as_u64().is_none_or(|code| code > 500)).collect();
    assert!(strange.is_empty(), "{strange:#?}");
}

/// Compares with the API server behind `ESPALIER_API` and its `ESPALIER_API_TOKEN`; `e2e/honest` starts it.
#[test]
#[ignore = "needs an API server with the definitions installed"]
fn the_simulated_api_server_answers_as_a_real_one() {
    let runtime = |paused| tokio::runtime::Builder::new_current_thread().enable_all().start_paused(paused).build().unwrap();
    let pretended = runtime(true).block_on(async { everything(simulated()).await });
    let real = runtime(false).block_on(async {
        let mut config = kube::Config::new(std::env::var("ESPALIER_API").expect("ESPALIER_API").parse().expect("an address"));
        config.accept_invalid_certs = true;
        config.auth_info.token = std::env::var("ESPALIER_API_TOKEN").ok().map(Into::into);
        config.default_retry = false;
        everything(Client::try_from(config).expect("a client")).await
    });
    let different: Vec<String> = real
        .iter()
        .zip(&pretended)
        .filter(|(real, pretended)| real != pretended)
        .map(|((say, real), (_, pretended))| format!("{say}\n  real      {real}\n  simulated {pretended}"))
        .collect();
    println!("{} of {} answers are the same", real.len() - different.len(), real.len());
    assert!(different.is_empty() && real.len() == pretended.len(), "{}", different.join("\n"));
}
