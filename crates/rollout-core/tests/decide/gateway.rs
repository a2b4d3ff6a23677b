//! The gateway of the tests: takes a route when it is told to. Moves no traffic.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// The gateway takes the route: accepted, and resolved when every Service is there.
pub fn accept(live: &mut Value, services: &BTreeSet<String>) {
    let generation = live["metadata"]["generation"].clone();
    let refs: Vec<String> = live["spec"]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|rule| rule["backendRefs"].as_array().cloned().unwrap_or_default())
        .map(|r| r["name"].as_str().unwrap().to_owned())
        .collect();
    let missing = refs.iter().find(|name| !services.contains(*name));
    let condition = |kind: &str, good: bool, message: String| {
        json!({"type": kind, "status": if good { "True" } else { "False" }, "reason": if good { kind } else { "BackendNotFound" },
            "message": message, "observedGeneration": generation})
    };
    let resolved = condition("ResolvedRefs", missing.is_none(), missing.map_or_else(String::new, |m| format!("Service {m} not found")));
    live["status"] =
        json!({"parents": [{"parentRef": {"name": "gw"}, "conditions": [condition("Accepted", true, String::new()), resolved]}]});
}
