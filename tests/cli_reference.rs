//! The committed pages of commands and of profiles are what the command line and the profiles say of themselves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[test]
fn docs_cli_md_is_what_the_command_line_says() {
    let committed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md")).unwrap();
    assert!(committed == espalier::cli::reference::page(), "docs/cli.md is old: run `cargo run --bin clidocs`");
}

#[test]
fn docs_profiles_md_is_what_the_profiles_say() {
    let committed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/profiles.md")).unwrap();
    assert!(committed == rollout_core::profile::page(), "docs/profiles.md is old: run `cargo run --bin clidocs`");
}
