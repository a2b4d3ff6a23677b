//! The crate reproduces every reference value, computed elsewhere at high precision and cross-checked against published software and tables.

mod oracle_support;

#[test]
fn every_reference_case_is_reproduced() {
    let outcomes = oracle_support::run(include_str!("data/statistics.json")).unwrap();
    let failed: Vec<String> =
        outcomes.iter().filter(|o| !o.passed).map(|o| format!("{}: got {}, expected {}", o.id, o.got, o.expected)).collect();
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
    assert!(outcomes.len() >= 85, "cases went missing: {}", outcomes.len());
}

#[test]
fn an_unknown_method_and_a_wrong_value_fail() {
    let file = r#"{"cases": [
        {"id": "unknown", "method": "no_such_method", "inputs": {}, "expected": {"x": 1}},
        {"id": "wrong", "method": "kolmogorov_sf", "inputs": {"x": 1.0}, "expected": {"sf": 0.5}, "tolerance": {"rel": 0, "abs": 1e-3}},
        {"id": "missing", "method": "kolmogorov_sf", "inputs": {"x": 1.0}, "expected": {"tail": 0.27}, "tolerance": {"rel": 0, "abs": 1e-3}}
    ]}"#;
    assert!(oracle_support::run(file).unwrap().iter().all(|o| !o.passed));
    assert!(oracle_support::run("{}").is_err());
}

/// What the runner says about one case.
fn said(case: &str) -> String {
    let outcomes = oracle_support::run(&format!(r#"{{"cases": [{case}]}}"#)).unwrap_or_default();
    assert!(outcomes.iter().all(|o| !o.passed), "{case}");
    outcomes.into_iter().map(|o| o.got).collect()
}

#[test]
fn a_case_that_cannot_be_run_fails_and_says_which_part_of_it_is_wrong() {
    let of = |inputs: &str| said(&format!(r#"{{"method": "srm", "inputs": {inputs}, "expected": {{"log_e": 0}}}}"#));
    assert_eq!(of(r#"{"expected_ratio": [1, 1]}"#), "input `counts` is missing");
    assert_eq!(of(r#"{"counts": "NaN"}"#), "input `counts` is \"NaN\", not a list of numbers");
    assert_eq!(of(r#"{"mixture_k": [5]}"#), "input `mixture_k` is [5]; the crate knows only [100,10000]");
    assert_eq!(of("7"), "`inputs` is missing or no object");
    assert_eq!(said("3"), "`expected` names no value");
    assert_eq!(said(r#"{"expected": {"x": 1}}"#), "`method` is missing or no text");
    let tail = r#""method": "kolmogorov_sf", "inputs": {"x": 1.0}, "expected": {"sf": 0.27}"#;
    assert!(said(&format!("{{{tail}}}")).ends_with("(no tolerance is stated: compared exactly)"));
    assert_eq!(said(&format!(r#"{{{tail}, "tolerance": {{"rel": "1e-3"}}}}"#)), "tolerance `rel` is \"1e-3\", not a number ≥ 0");
    for text in ["", "[1, 2", r#"{"cases": 3}"#, r#"{"cases": []}"#] {
        assert!(oracle_support::run(text).is_err(), "{text}");
    }
}

#[test]
fn a_proof_that_never_ends_has_no_number_of_windows_and_keeps_the_rest_of_its_answer() {
    let case = r#"{"cases": [{"id": "never", "method": "proof_eta", "tolerance": {"rel": 1e-9},
        "inputs": {"margin": 0.02, "theta_champion": 0.08, "candidate_bad": 300, "candidate_n": 600, "n_fixed": 0, "champion_n_per_window": 540,
            "candidate_n_per_window": 60, "log_masses": [0, 0, 0, 0], "threshold_e": 20},
        "expected": {"theta_candidate_shrunk": 0.5, "windows_left": null}}]}"#;
    let outcomes = oracle_support::run(case).unwrap();
    assert!(outcomes.iter().all(|o| o.passed), "{}", outcomes[0].got);
}
