//! The committed pages are what the commands and the profiles say: the reference of all flags, the profiles, and the example of a backtest.

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

#[path = "../examples/recording.rs"]
#[allow(dead_code, missing_docs, reason = "its own entry point is not used here")]
mod recording;

#[test]
fn the_recording_of_the_docs_is_what_its_generator_writes() {
    let committed = std::fs::read_to_string(recording::file()).unwrap();
    assert!(committed == recording::recorded().unwrap(), "the recording is old: run `cargo run --example recording`");
}

/// The page of backtests shows what its command prints; `ESPALIER_WRITE=1` puts in what it prints now.
#[tokio::test]
async fn docs_backtest_md_shows_what_its_command_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/backtest.md");
    let page = std::fs::read_to_string(path).unwrap();
    let command = page.lines().find(|line| line.starts_with("espalier backtest -f docs/")).unwrap();
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).unwrap();
    let run = async |line: &str| {
        let parsed = espalier::cli::parse(line.split(' ').map(Into::into)).unwrap();
        espalier::cli::execute(parsed.command).await.unwrap()
    };
    let outcome = run(command).await;
    let pictures = std::env::temp_dir().join(format!("espalier-docs-{}", std::process::id()));
    run(&format!("{command} --plot {}", pictures.display())).await;
    let picture = std::fs::read_to_string(pictures.join("accuracy.svg")).unwrap();
    std::fs::remove_dir_all(&pictures).unwrap();
    let committed = recording::file().with_file_name("accuracy.svg");
    let (before, rest) = page.split_once("```text\n").unwrap();
    let (shown, after) = rest.split_once("```\n").unwrap();
    if std::env::var_os("ESPALIER_WRITE").is_some() {
        std::fs::write(path, format!("{before}```text\n{}```\n{after}", outcome.text)).unwrap();
        std::fs::write(committed, picture).unwrap();
        return;
    }
    assert!(shown == outcome.text, "docs/backtest.md is old: run `ESPALIER_WRITE=1 cargo test --test cli_reference`\n{}", outcome.text);
    assert!(std::fs::read_to_string(committed).unwrap() == picture, "the picture in docs/backtest.md is old; make it in the same way");
}
