//! Writes `docs/cli.md` from the command line's definitions and `docs/profiles.md` from the profiles' data; with `--check` it only compares, and
//! fails on a difference. Runs no command.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use espalier::cli::reference;
use espalier::generator;
use rollout_core::profile;

fn main() -> anyhow::Result<ExitCode> {
    let check = generator::only_check()?;
    let mut code = ExitCode::SUCCESS;
    for (name, wanted) in [("docs/cli.md", reference::page()), ("docs/profiles.md", profile::page())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if !check {
            std::fs::write(&path, wanted).with_context(|| format!("cannot write {}", path.display()))?;
        } else if std::fs::read_to_string(&path).unwrap_or_default() != wanted {
            eprintln!("{name} differs from what it is made from; run `cargo run --bin clidocs`");
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}
