//! Writes `crds/` from the Rust types; with `--check` it only compares, and fails on a difference.
//! Does not talk to a cluster.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use espalier::api::definitions;
use espalier::generator;

const HEADER: &str = "# Generated from the Rust types by `cargo run --bin crdgen`; do not edit.\n";

fn main() -> anyhow::Result<ExitCode> {
    let check = generator::only_check()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let mut drifted = Vec::new();
    for definition in definitions() {
        let path = folder.join(definition.file);
        let wanted = HEADER.to_owned() + &serde_saphyr::to_string(&definition.object).context("cannot write YAML")?;
        if check {
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            if found != wanted {
                drifted.push(definition.file);
            }
        } else {
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
            std::fs::write(&path, wanted).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    if drifted.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("crds/ differs from the Rust types in {}; run `cargo run --bin crdgen`", drifted.join(", "));
    Ok(ExitCode::FAILURE)
}
