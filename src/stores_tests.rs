//! Who is woken when a Service that the user runs, or a slice of it, changes.

use kube::client::Body;
use kube::runtime::reflector::store::Writer;

use super::*;

/// Rollouts as the controller keeps them, and the stores that ask them.
fn stores(rollouts: &[Value]) -> Stores {
    let mut writer: Writer<Card> = Writer::default();
    for one in rollouts {
        writer.apply_watcher_event(&watcher::Event::Apply(serde_json::from_value(one.clone()).unwrap()));
    }
    let stores = Stores { scopes: Vec::new(), rollouts: OnceLock::new(), filled: tokio::sync::watch::Sender::new(false) };
    stores.set_rollouts(writer.as_reader());
    stores
}

fn rollout(namespace: &str, name: &str, backend: &str, baseline: Option<&str>, status: &Value) -> Value {
    let mut spec = json!({
        "model": {"uri": "oci://r/m:1"}, "workload": {"backendRef": {"name": backend, "port": 80}}, "policyRef": {"name": "p"},
        "route": {"template": {"parentRefs": [{"name": "gw"}]}}, "stages": [{"name": "canary", "type": "Canary", "percent": "10%"}],
    });
    if let Some(baseline) = baseline {
        spec["baseline"] = json!({"backendRef": {"name": baseline, "port": 80}});
    }
    json!({
        "apiVersion": "espalier.dev/v1alpha1", "kind": "ModelRollout", "metadata": {"namespace": namespace, "name": name},
        "spec": spec, "status": status,
    })
}

fn serving(service: &str) -> Value {
    json!({"revision": service, "digest": "", "uri": "", "service": service, "port": 80, "since": "2026-01-02T03:04:05Z"})
}

fn woken(stores: &Stores, event: workload::Touched) -> Vec<String> {
    let mut found: Vec<_> = stores.concerned(&event.into()).into_iter().map(|key| format!("{}/{}", key.namespace, key.name)).collect();
    found.sort();
    found
}

#[test]
fn a_slice_without_our_label_wakes_the_rollouts_that_use_its_service_and_no_others() {
    let probation = json!({"stable": serving("new"), "probation": {"previous": serving("old"), "until": "2026-01-02T04:04:05Z"}});
    let stores = stores(&[
        rollout("ml", "desired", "digits-v2", None, &json!({})),
        rollout("ml", "compared", "other", Some("digits-v2"), &json!({})),
        rollout("ml", "stable", "other", None, &json!({"stable": serving("digits-v2")})),
        rollout("ml", "candidate", "other", None, &json!({"candidate": serving("digits-v2")})),
        rollout("ml", "probation", "new", None, &probation),
        rollout("prod", "elsewhere", "digits-v2", None, &json!({})),
        json!({"metadata": {"namespace": "ml", "name": "unreadable"}, "spec": {"workload": 1}}),
    ]);
    let slices = |namespace: &str, service: &str| workload::Touched { namespace: namespace.into(), group: Group::Service(service.into()) };
    assert_eq!(woken(&stores, slices("ml", "digits-v2")), ["ml/candidate", "ml/compared", "ml/desired", "ml/stable"]);
    assert_eq!(woken(&stores, slices("ml", "old")), ["ml/probation"]);
    assert_eq!(woken(&stores, slices("prod", "digits-v2")), ["prod/elsewhere"]);
    assert!(woken(&stores, slices("ml", "digits")).is_empty());
}

#[test]
fn what_carries_the_label_of_a_rollout_wakes_it_whatever_is_known_of_it() {
    let child = workload::Touched { namespace: "ml".into(), group: Group::Rollout("digits".into()) };
    assert_eq!(woken(&stores(&[]), child), ["ml/digits"]);
}

#[tokio::test]
async fn every_look_that_waits_for_the_stores_goes_on_once_they_are_filled() {
    // Several waiters on one of kube's stores are woken one alone, so that after a restart looks hung until their timeout.
    let service = tower::service_fn(|request: http::Request<Body>| async move {
        let query = request.uri().query().unwrap_or_default().to_owned();
        if query.contains("watch=true") {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let list = serde_json::json!({"metadata": {"resourceVersion": "1"}, "items": []}).to_string();
        Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(list.into_bytes())))
    });
    let (stores, wakes) = Stores::watch(&Client::new(service, "ml"), &[None]);
    tokio::spawn(wakes.for_each(|_| std::future::ready(())));
    let looks: Vec<_> = (0..20)
        .map(|_| {
            let stores = Arc::clone(&stores);
            tokio::spawn(async move { stores.filled().await })
        })
        .collect();
    stores.fill().await.unwrap();
    for look in looks {
        tokio::time::timeout(Duration::from_secs(5), look).await.unwrap().unwrap().unwrap();
    }
}
