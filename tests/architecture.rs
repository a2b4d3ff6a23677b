//! The walls of the house, proven from `cargo metadata`: what the pure crates must not be able to reach.

#![expect(clippy::expect_used, reason = "a test that cannot read its own workspace should say so and end")]

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Crates that bring IO, an async runtime or Kubernetes. The clock is a feature of chrono, which has a test of its own: metadata knows the
/// features of the workspace as a whole, not those of one crate.
const FORBIDDEN: [&str; 11] =
    ["kube", "kube-client", "kube-core", "k8s-openapi", "tokio", "reqwest", "hyper", "axum", "async-std", "socket2", "mio"];

fn metadata() -> Metadata {
    MetadataCommand::new().exec().expect("cargo metadata")
}

/// Every crate that `root` reaches by normal and build dependencies.
fn reached(metadata: &Metadata, root: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let name = |id: &PackageId| metadata.packages.iter().find(|p| p.id == *id).map(|p| p.name.to_string()).expect("a known package");
    let start = metadata.packages.iter().find(|p| p.name.as_str() == root).expect("the crate is in the workspace");
    let mut seen = BTreeSet::new();
    let mut open = vec![start.id.clone()];
    while let Some(id) = open.pop() {
        let node = resolve.nodes.iter().find(|n| n.id == id).expect("a node");
        for dep in &node.deps {
            let shipped = dep.dep_kinds.iter().any(|k| k.kind != DependencyKind::Development);
            if shipped && seen.insert(name(&dep.pkg)) {
                open.push(dep.pkg.clone());
            }
        }
    }
    seen
}

#[test]
fn the_pure_crates_reach_no_kube_tokio_reqwest_or_clock() {
    let metadata = metadata();
    for root in ["rollout-core", "anytime-stats"] {
        let reached = reached(&metadata, root);
        let broken: Vec<_> = FORBIDDEN.iter().filter(|f| reached.contains(**f)).collect();
        assert!(broken.is_empty(), "{root} reaches {broken:?}");
    }
}

#[test]
fn chrono_in_the_core_has_no_clock() {
    let metadata = metadata();
    let core = metadata.packages.iter().find(|p| p.name.as_str() == "rollout-core").expect("the core");
    let chrono = core.dependencies.iter().find(|d| d.name == "chrono" && d.kind == DependencyKind::Normal).expect("chrono");
    assert!(!chrono.uses_default_features, "chrono's default features bring the clock");
    assert!(!chrono.features.iter().any(|f| f == "clock" || f == "now"), "{:?}", chrono.features);
}

#[test]
fn the_statistics_know_no_word_of_rollouts_and_depend_on_nothing_of_ours() {
    let reached = reached(&metadata(), "anytime-stats");
    assert!(!reached.contains("rollout-core") && !reached.contains("espalier"), "{reached:?}");
}

#[test]
fn the_core_reads_no_clock_and_does_no_io() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/crates");
    let mut stack = vec![std::path::PathBuf::from(root)];
    let mut looked = 0;
    while let Some(folder) = stack.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && path.file_name().is_some_and(|n| n != "tests" && n != "examples" && n != "target") {
                stack.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                for word in ["Utc::now", "SystemTime", "Instant::now", "std::fs", "std::net", "std::env"] {
                    assert!(!text.contains(word), "{} uses {word}", path.display());
                }
                looked += 1;
            }
        }
    }
    assert!(looked > 20, "only {looked} files were looked at");
}
