//! Runs reference cases: reads a file of cases, calls the crate, compares with the expected values. Used by a test and by an example.
//! It holds no expected value itself and treats no case apart from its method.

#![allow(clippy::indexing_slicing, reason = "a JSON value without the key gives null; it does not panic")]

mod estimates;
mod evidence;
mod operation;
mod reports;

use serde_json::Value;

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
    let cases = file["cases"].as_array().ok_or("no array `cases`")?;
    Ok(cases.iter().map(outcome).collect())
}

fn outcome(case: &Value) -> Outcome {
    let method = case["method"].as_str().unwrap_or("");
    let expected = &case["expected"];
    let (got, passed) = match solve(method, &case["inputs"]) {
        Ok(got) => (got.to_string(), Tolerance::of(case).matches(&got, expected)),
        Err(problem) => (problem, false),
    };
    Outcome { id: case["id"].as_str().unwrap_or("?").to_owned(), passed, got, expected: expected.to_string() }
}

fn solve(method: &str, inputs: &Value) -> Result<Value, String> {
    let solver = evidence::solver(method)
        .or_else(|| operation::solver(method))
        .or_else(|| reports::solver(method))
        .or_else(|| estimates::solver(method))
        .ok_or_else(|| format!("unknown method {method}"))?;
    solver(inputs).ok_or_else(|| "inputs of another form, or no answer".to_owned())
}

/// What turns a case's inputs into the values it is compared by; `None` when an input is missing.
type Solver = fn(&Value) -> Option<Value>;

struct Tolerance {
    rel: f64,
    abs: f64,
}

impl Tolerance {
    fn of(case: &Value) -> Self {
        let part = |name: &str| case["tolerance"][name].as_f64().unwrap_or(0.0);
        Self { rel: part("rel"), abs: part("abs") }
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

fn number(inputs: &Value, name: &str) -> Option<f64> {
    inputs[name].as_f64()
}

fn numbers(inputs: &Value, name: &str) -> Option<Vec<f64>> {
    list(&inputs[name])
}

fn list(values: &Value) -> Option<Vec<f64>> {
    values.as_array()?.iter().map(Value::as_f64).collect()
}

fn rows(inputs: &Value, name: &str) -> Option<Vec<Vec<f64>>> {
    inputs[name].as_array()?.iter().map(list).collect()
}
