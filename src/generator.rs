//! What the programs that write generated files have in common: their one flag.
//! Knows nothing of what they generate.

use anyhow::bail;

/// Whether `--check` asks to compare only. An error that names what was found for any other argument.
pub fn only_check() -> anyhow::Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Ok(false),
        ["--check"] => Ok(true),
        other => bail!("found arguments {other:?}, expected none or --check"),
    }
}
