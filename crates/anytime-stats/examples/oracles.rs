//! Checks files of reference cases: `cargo run --release --example oracles -- FILE...`.
//! Prints one line per case and a closing count; fails when a case fails, cannot be run, or a file cannot be read. It writes nothing.

use std::process::ExitCode;

#[path = "../tests/oracle_support/mod.rs"]
mod oracle_support;

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: oracles FILE...");
        return ExitCode::from(2);
    }
    let (mut passed, mut failed, mut unread) = (0_u32, 0_u32, 0_u32);
    for file in files {
        let outcomes = match std::fs::read_to_string(&file).map_err(|e| e.to_string()).and_then(|text| oracle_support::run(&text)) {
            Ok(outcomes) => outcomes,
            Err(problem) => {
                println!("FAIL {file}: {problem}");
                unread += 1;
                continue;
            }
        };
        for outcome in outcomes {
            let word = if outcome.passed { "pass" } else { "FAIL" };
            println!("{word} {} got {} expected {}", outcome.id, outcome.got, outcome.expected);
            if outcome.passed {
                passed += 1;
            } else {
                failed += 1;
            }
        }
    }
    let closing = if unread == 0 { String::new() } else { format!(", {unread} files without cases that can be read") };
    println!("{passed} passed, {failed} failed{closing}");
    if unread > 0 {
        return ExitCode::from(2);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
