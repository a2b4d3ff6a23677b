//! Everything that Espalier reads and did not write, each as one function from bytes: it must not panic, and what must hold of its answer is
//! asserted. The programs in `fuzz_targets` hand these functions to cargo-fuzz; the tests feed them the corpus and hostile changes of it.

// Assertions are what this crate is for.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod answer;
pub mod decision;
pub mod manifest;
pub mod mutate;
pub mod route;
#[path = "../../crates/rollout-core/tests/decide/schema.rs"]
mod schema;
#[cfg(test)]
mod smoke;

use std::path::Path;

/// A function that reads hostile bytes.
pub type Target = fn(&[u8]);

/// All of them by the names of their corpora and programs.
pub const TARGETS: [(&str, Target); 6] = [
    ("rollout", decision::rollout),
    ("status", decision::status),
    ("request", decision::request),
    ("route", route::route),
    ("answer", answer::answer),
    ("manifest", manifest::manifest),
];

/// Makes a program of a function: a fuzz target under cargo-fuzz, else one that replays the files it is given.
#[macro_export]
macro_rules! program {
    ($target:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $target(data));
        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            std::env::args().skip(1).try_for_each(|file| {
                $target(&std::fs::read(&file)?);
                println!("{file}: nothing to object to");
                Ok(())
            })
        }
    };
}

/// The files of a corpus, by name.
pub fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.display().to_string(), std::fs::read(&file).unwrap())).collect()
}
