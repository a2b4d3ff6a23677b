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
        {"id": "unknown", "method": "no_such_method", "inputs": {}, "expected": {}},
        {"id": "wrong", "method": "kolmogorov_sf", "inputs": {"x": 1.0}, "expected": {"sf": 0.5}, "tolerance": {"rel": 0, "abs": 1e-3}},
        {"id": "missing", "method": "kolmogorov_sf", "inputs": {"x": 1.0}, "expected": {"tail": 0.27}, "tolerance": {"rel": 0, "abs": 1e-3}}
    ]}"#;
    assert!(oracle_support::run(file).unwrap().iter().all(|o| !o.passed));
    assert!(oracle_support::run("{}").is_err());
}
