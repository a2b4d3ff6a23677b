//! The committed page of commands is what the command line says of itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[test]
fn docs_cli_md_is_what_the_command_line_says() {
    let committed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md")).unwrap();
    assert!(committed == espalier::cli::reference::page(), "docs/cli.md is old: run `cargo run --bin clidocs`");
}
