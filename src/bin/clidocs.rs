//! Writes `docs/cli.md` from the command line's definitions; with `--check` it only compares, and fails on a difference.
//! Runs no command.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use espalier::cli::reference;
use espalier::generator;

fn main() -> anyhow::Result<ExitCode> {
    let check = generator::only_check()?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let wanted = reference::page();
    if !check {
        std::fs::write(&path, wanted).with_context(|| format!("cannot write {}", path.display()))?;
    } else if std::fs::read_to_string(&path).unwrap_or_default() != wanted {
        eprintln!("docs/cli.md differs from the command line; run `cargo run --bin clidocs`");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
