//! The generator as a person runs it: two scenarios, few runs, twice with different numbers of threads.
//! Rates are not asserted; that is what the page itself is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn generate(name: &str, threads: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let page = folder.join("page.md");
    let output = Command::new(env!("CARGO_BIN_EXE_decision-quality"))
        .args(["--runs", "4", "--http-runs", "1", "--threads", threads, "--scenario", "s1-aa", "s5-big-regression", "--out"])
        .arg(&page)
        .output()
        .expect("the generator runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    page
}

#[test]
fn a_page_with_figures_is_written_and_does_not_depend_on_threads() {
    let (one, two) = (generate("one", "1"), generate("two", "2"));
    let text = std::fs::read_to_string(&one).unwrap();
    assert_eq!(text, std::fs::read_to_string(&two).unwrap());
    for part in [
        "## In short",
        "### s1-aa",
        "### s5-big-regression",
        "| espalier |",
        "| gs-stratified |",
        "2 of 2 runs ended in the same decision",
        "--runs 4 --http-runs 1 --seed 20260301 --scenario s1-aa s5-big-regression",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    for figure in ["errors", "times", "served"] {
        let path = format!("figures/decision-quality-{figure}.svg");
        assert!(text.contains(&path), "{path} is not linked");
        let svg = std::fs::read_to_string(one.with_file_name(&path)).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    }
}

#[test]
fn unknown_names_are_refused_with_the_known_ones() {
    let output = Command::new(env!("CARGO_BIN_EXE_decision-quality")).args(["--policy", "nobody"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("no policy nobody") && error.contains("gs-stratified"), "{error}");
}
