//! Runs reference cases: reads a file of cases, calls the crate, compares with the expected values. Used by a test and by an example.
//! It holds no expected value itself and treats no case apart from its method. A case that cannot be run fails and says why.

#![allow(clippy::indexing_slicing, reason = "a JSON value without the key gives null; it does not panic")]

mod estimates;
mod evidence;
mod inputs;
mod operation;
mod reports;

use serde_json::Value;

use inputs::{Inputs, number, numbers, only, rows};

/// Outcome of one case.
pub struct Outcome {
    pub id: String,
    pub passed: bool,
    pub got: String,
    pub expected: String,
}

/// Runs every case of a file's text.
pub fn run(text: &str) -> Result<Vec<Outcome>, String> {
    let file: Value = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
    let cases = file["cases"].as_array().ok_or("there is no list `cases`")?;
    if cases.is_empty() {
        return Err("the list `cases` is empty".to_owned());
    }
    Ok(cases.iter().map(outcome).collect())
}

fn outcome(case: &Value) -> Outcome {
    let expected = &case["expected"];
    let (got, passed) = match compare(case) {
        Ok(compared) => compared,
        Err(problem) => (problem, false),
    };
    Outcome { id: case["id"].as_str().unwrap_or("(no id)").to_owned(), passed, got, expected: expected.to_string() }
}

/// What was computed, and whether it agrees.
fn compare(case: &Value) -> Result<(String, bool), String> {
    let expected = &case["expected"];
    if expected.as_object().is_none_or(serde_json::Map::is_empty) {
        return Err("`expected` names no value".to_owned());
    }
    let tolerance = Tolerance::of(case)?;
    let got = solve(case["method"].as_str().ok_or("`method` is missing or no text")?, &case["inputs"])?;
    let passed = tolerance.matches(&got, expected);
    let exactly = if !passed && case["tolerance"].is_null() { " (no tolerance is stated: compared exactly)" } else { "" };
    Ok((format!("{got}{exactly}"), passed))
}

fn solve(method: &str, inputs: &Value) -> Result<Value, String> {
    let solver = evidence::solver(method)
        .or_else(|| operation::solver(method))
        .or_else(|| reports::solver(method))
        .or_else(|| estimates::solver(method))
        .ok_or_else(|| format!("unknown method {method}"))?;
    if !inputs.is_object() {
        return Err("`inputs` is missing or no object".to_owned());
    }
    let inputs = Inputs::new(inputs);
    solver(&inputs).ok_or_else(|| inputs.problem())
}

/// What turns a case's inputs into the values it is compared by; `None` when an input is missing or outside the method's domain.
type Solver = fn(&Inputs<'_>) -> Option<Value>;

struct Tolerance {
    rel: f64,
    abs: f64,
}

impl Tolerance {
    /// What a case leaves out is 0.
    fn of(case: &Value) -> Result<Self, String> {
        let part = |name: &str| match &case["tolerance"][name] {
            Value::Null => Ok(0.0),
            value => value.as_f64().filter(|part| *part >= 0.0).ok_or_else(|| format!("tolerance `{name}` is {value}, not a number ≥ 0")),
        };
        Ok(Self { rel: part("rel")?, abs: part("abs")? })
    }

    /// Every expected key must be there and agree; what was computed beyond that is not compared.
    fn matches(&self, got: &Value, expected: &Value) -> bool {
        match (got, expected) {
            (Value::Object(got), Value::Object(expected)) => {
                expected.iter().all(|(key, want)| got.get(key).is_some_and(|value| self.matches(value, want)))
            }
            (Value::Array(got), Value::Array(expected)) => {
                got.len() == expected.len() && got.iter().zip(expected).all(|(value, want)| self.matches(value, want))
            }
            (Value::Number(got), Value::Number(expected)) => match (got.as_f64(), expected.as_f64()) {
                (Some(value), Some(want)) => (value - want).abs() <= self.abs + self.rel * want.abs(),
                _ => false,
            },
            _ => got == expected,
        }
    }
}
