//! The corpus and hostile changes of it, from a fixed seed, through every target; the long search is cargo-fuzz's.
//! `ESPALIER_FUZZ_ROUNDS` sets the number of changes of each file.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::mutate::{self, Chance};
use crate::{TARGETS, Target, corpus};
use serde_json::Value;

fn rounds() -> usize {
    std::env::var("ESPALIER_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// Says which bytes it was, so that they can be kept as a file of the corpus.
fn run(target: Target, what: &str, data: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(data))) {
        let file = std::env::temp_dir().join(format!("espalier-fuzz-{}", what.replace(['/', ' '], "-")));
        std::fs::write(&file, data).unwrap();
        let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
        panic!("{what}: {}; the input is in {}", message.unwrap_or("a panic"), file.display());
    }
}

fn fuzz(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let files = corpus(name);
    assert!(files.len() >= 3, "the corpus of {name} has {} files", files.len());
    let mut runs = 0;
    for (file, data) in &files {
        run(target, file, data);
        let document: Option<Value> = serde_json::from_slice(data).ok();
        // A file of many thousand places is there for its size; changing one of them shows nothing new.
        let rounds = if data.len() > 50_000 { rounds().min(5) } else { rounds() };
        for round in 0..rounds {
            let mut chance = Chance::new(round as u64 * 7919 + data.len() as u64);
            let mut changed = match &document {
                Some(document) if round % 4 != 0 => {
                    let mut document = document.clone();
                    mutate::document(&mut document, &mut chance);
                    serde_json::to_vec(&document).unwrap()
                }
                _ => data.clone(),
            };
            if round % 4 == 0 {
                mutate::bytes(&mut changed, &mut chance);
            }
            run(target, &format!("{name} {round}"), &changed);
            runs += 1;
        }
    }
    println!("{name}: {} files, {runs} changes of them", files.len());
}

#[test]
fn rollouts_and_policies_of_any_content_are_decided_about() {
    fuzz("rollout");
}

#[test]
fn a_status_of_any_content_is_gone_on_from() {
    fuzz("status");
}

#[test]
fn requests_of_any_content_are_answered() {
    fuzz("request");
}

#[test]
fn routes_of_any_content_keep_the_candidate_within_its_share() {
    fuzz("route");
}

#[test]
fn answers_of_any_content_are_no_reason_to_raise() {
    fuzz("answer");
}

#[test]
fn manifests_of_any_content_are_read_or_refused() {
    fuzz("manifest");
}

#[test]
fn every_target_has_a_program() {
    for (name, _) in TARGETS {
        let program = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets").join(format!("{name}.rs"));
        assert!(std::fs::read_to_string(&program).is_ok_and(|text| text.contains("espalier_fuzz::program!")), "{}", program.display());
    }
}
