//! How long a client takes that does nothing but write routes, with the operator's own connection settings: the yardstick for rollbacks.
//! Changes the first weight of every route of a namespace whose name begins with the given letters. For clusters of tests only.
//!
//! `espalier-bare-client NAMESPACE PREFIX IN-FLIGHT WEIGHT` prints one line of JSON.

use std::time::Instant;

use anyhow::Context;
use espalier::{client, gateway};
use futures::{StreamExt, stream};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [namespace, prefix, width, weight] = words.as_slice() else {
        anyhow::bail!("expected NAMESPACE PREFIX IN-FLIGHT WEIGHT, found {} words", words.len());
    };
    let (width, weight): (usize, i64) = (width.parse().context("IN-FLIGHT")?, weight.parse().context("WEIGHT")?);
    let client = client::connect().await?;
    let listed = gateway::api(&client, Some(namespace)).list(&ListParams::default()).await?;
    let mut routes: Vec<Value> = Vec::new();
    for route in listed.items.into_iter().filter(|route| route.name_any().starts_with(prefix.as_str())) {
        let mut route = serde_json::to_value(route)?;
        if let Some(found) = route.pointer_mut("/spec/rules/0/backendRefs/0/weight") {
            *found = json!(weight);
        }
        if let Some(whole) = route.as_object_mut() {
            whole.insert("apiVersion".into(), json!("gateway.networking.k8s.io/v1"));
            whole.insert("kind".into(), json!("HTTPRoute"));
        }
        routes.push(route);
    }
    let began = Instant::now();
    let writes = routes.iter().map(|route| gateway::replace(&client, route));
    let done: Vec<_> = stream::iter(writes).buffer_unordered(width).collect().await;
    let seconds = began.elapsed().as_secs_f64();
    let failed = done.iter().filter(|one| one.is_err()).count();
    println!("{}", json!({"puts": done.len(), "failed": failed, "seconds": seconds}));
    Ok(())
}
