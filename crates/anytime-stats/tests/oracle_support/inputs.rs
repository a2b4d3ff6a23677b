//! What a case gives its method, read by name; remembers the first thing that was not there or had another form, to name it.
//! It checks forms, not domains: those belong to the crate.

use std::cell::OnceCell;
use std::ops::Index;

use serde_json::Value;

/// The inputs of one case.
pub struct Inputs<'a> {
    values: &'a Value,
    problem: OnceCell<String>,
}

impl<'a> Inputs<'a> {
    pub fn new(values: &'a Value) -> Self {
        Self { values, problem: OnceCell::new() }
    }

    /// Why there is no answer.
    pub fn problem(&self) -> String {
        self.problem
            .get()
            .cloned()
            .unwrap_or_else(|| "no answer: an input is of another form, or outside the domain of the method".to_owned())
    }

    /// `read` of the value, or a note that it is not `expected`. An explicit null is a stated absence, not a mistake.
    fn read<T>(&self, name: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value = &self[name];
        let found = read(value);
        if found.is_none() && !value.is_null() {
            let _ = self.problem.set(format!("input `{name}` is {value}, not {expected}"));
        }
        found
    }
}

impl Index<&str> for Inputs<'_> {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        if self.values.get(name).is_none() {
            let _ = self.problem.set(format!("input `{name}` is missing"));
        }
        &self.values[name]
    }
}

pub fn number(inputs: &Inputs<'_>, name: &str) -> Option<f64> {
    inputs.read(name, "a number", Value::as_f64)
}

pub fn numbers(inputs: &Inputs<'_>, name: &str) -> Option<Vec<f64>> {
    inputs.read(name, "a list of numbers", list)
}

pub fn list(values: &Value) -> Option<Vec<f64>> {
    values.as_array()?.iter().map(Value::as_f64).collect()
}

pub fn rows(inputs: &Inputs<'_>, name: &str) -> Option<Vec<Vec<f64>>> {
    inputs.read(name, "a list of lists of numbers", |value| value.as_array()?.iter().map(list).collect())
}

/// A parameter that the crate has fixed: a case that states another value, instead of being computed with ours, is refused.
pub fn only(inputs: &Inputs<'_>, name: &str, ours: &Value) -> Option<()> {
    // 48 and 48.0 are one number.
    let is_ours = |stated: &Value| stated == ours || (stated.is_number() && stated.as_f64() == ours.as_f64());
    match inputs.values.get(name) {
        Some(stated) if !is_ours(stated) => {
            let _ = inputs.problem.set(format!("input `{name}` is {stated}; the crate knows only {ours}"));
            None
        }
        _ => Some(()),
    }
}
