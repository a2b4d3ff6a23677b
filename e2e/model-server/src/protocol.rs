//! The Open Inference Protocol v2 over JSON, as far as one float32 input and two outputs need it, and the feedback message.
//! It checks shapes and turns JSON into numbers and back; it runs no model.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{CLASSES, MAX_ROWS, PIXELS};

/// Longest request id, in bytes.
const MAX_ID: usize = 128;

/// What is wrong with a request, as a sentence for its sender.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct BadRequest(String);

/// A checked inference request.
#[derive(Debug, PartialEq)]
pub struct Batch {
    /// Id given in the body, if any.
    pub id: Option<String>,
    /// Rows of [`PIXELS`] numbers.
    pub pixels: Vec<f32>,
}

/// A checked feedback message.
#[derive(Debug, PartialEq, Eq)]
pub struct Feedback {
    /// Id of the request that was answered.
    pub request_id: String,
    /// One true label per row of it.
    pub labels: Vec<i64>,
}

#[derive(Deserialize)]
struct InferBody {
    id: Option<String>,
    inputs: Vec<InputTensor>,
}

#[derive(Deserialize)]
struct InputTensor {
    shape: Vec<usize>,
    datatype: String,
    data: Value,
}

#[derive(Deserialize)]
struct FeedbackBody {
    request_id: String,
    label: Option<i64>,
    labels: Option<Vec<i64>>,
}

/// The answer to an inference request.
#[derive(Serialize)]
pub struct InferAnswer<'a> {
    /// Name in the URL.
    pub model_name: &'a str,
    /// The revision.
    pub model_version: &'a str,
    /// Id of the request, given or made.
    pub id: &'a str,
    /// Which revision, file and bytes answered.
    pub parameters: Parameters<'a>,
    /// Probabilities and labels.
    pub outputs: (Output<&'a [f32]>, Output<&'a [usize]>),
}

/// Identity of what answered.
#[derive(Clone, Copy, Serialize)]
pub struct Parameters<'a> {
    /// Revision given at start.
    pub revision: &'a str,
    /// Model file without its ending.
    pub model: &'a str,
    /// Digest of the model file.
    pub digest: &'a str,
}

/// One output tensor; NaN and infinities become `null`, which is all JSON has for them.
#[derive(Serialize)]
pub struct Output<T> {
    name: &'static str,
    datatype: &'static str,
    shape: Vec<usize>,
    data: T,
}

/// The two output tensors for a batch.
pub fn outputs<'a>(probabilities: &'a [f32], labels: &'a [usize]) -> (Output<&'a [f32]>, Output<&'a [usize]>) {
    (
        Output { name: "probabilities", datatype: "FP32", shape: vec![labels.len(), CLASSES], data: probabilities },
        Output { name: "label", datatype: "INT64", shape: vec![labels.len()], data: labels },
    )
}

/// Reads an inference request.
pub fn parse_infer(body: &[u8]) -> Result<Batch, BadRequest> {
    let body: InferBody = serde_json::from_slice(body).map_err(|e| BadRequest(format!("the body is not an inference request: {e}")))?;
    let id = body.id.map(checked_id).transpose()?;
    let [input] = body.inputs.as_slice() else {
        return Err(BadRequest(format!("{} inputs, expected one", body.inputs.len())));
    };
    if input.datatype != "FP32" {
        return Err(BadRequest(format!("datatype {}, expected FP32", input.datatype)));
    }
    let rows = match input.shape.as_slice() {
        [rows, PIXELS] if (1..=MAX_ROWS).contains(rows) => *rows,
        other => return Err(BadRequest(format!("shape {other:?}, expected [N, {PIXELS}] with N from 1 to {MAX_ROWS}"))),
    };
    let mut pixels = Vec::with_capacity(rows * PIXELS);
    flatten(&input.data, &mut pixels)?;
    if pixels.len() == rows * PIXELS {
        Ok(Batch { id, pixels })
    } else {
        Err(BadRequest(format!("{} numbers, expected {} for shape [{rows}, {PIXELS}]", pixels.len(), rows * PIXELS)))
    }
}

/// Reads a feedback message.
pub fn parse_feedback(body: &[u8]) -> Result<Feedback, BadRequest> {
    let body: FeedbackBody = serde_json::from_slice(body).map_err(|e| BadRequest(format!("the body is not a feedback message: {e}")))?;
    let labels = match (body.label, body.labels) {
        (Some(label), None) => vec![label],
        (None, Some(labels)) => labels,
        _ => return Err(BadRequest("expected either label or labels".to_owned())),
    };
    Ok(Feedback { request_id: checked_id(body.request_id)?, labels })
}

/// An id of acceptable length.
pub fn checked_id(id: String) -> Result<String, BadRequest> {
    if (1..=MAX_ID).contains(&id.len()) { Ok(id) } else { Err(BadRequest(format!("an id of {} bytes, expected 1 to {MAX_ID}", id.len()))) }
}

/// The protocol allows flat and nested arrays.
fn flatten(value: &Value, into: &mut Vec<f32>) -> Result<(), BadRequest> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| flatten(item, into)),
        Value::Number(number) => {
            // f32 is the tensor's type; a double loses what it cannot hold.
            #[allow(clippy::cast_possible_truncation)]
            into.push(number.as_f64().unwrap_or_default() as f32);
            Ok(())
        }
        other => Err(BadRequest(format!("found {other} among the data, expected numbers"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(shape: &str, datatype: &str, data: &str) -> String {
        format!(r#"{{"id":"r1","inputs":[{{"name":"image","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#)
    }

    #[test]
    fn flat_and_nested_data_mean_the_same() {
        let row = format!("[{}]", vec!["0.5"; PIXELS].join(","));
        let flat = format!("[{}]", vec!["0.5"; 2 * PIXELS].join(","));
        let nested = parse_infer(body("[2,64]", "FP32", &format!("[{row},{row}]")).as_bytes()).unwrap();
        assert_eq!(nested, parse_infer(body("[2,64]", "FP32", &flat).as_bytes()).unwrap());
        assert_eq!((nested.id.as_deref(), nested.pixels.len()), (Some("r1"), 128));
    }

    #[test]
    fn a_bad_request_hears_what_was_found_and_what_was_expected() {
        for (request, words) in [
            ("{".to_owned(), "the body is not an inference request"),
            (r#"{"inputs":[]}"#.to_owned(), "0 inputs, expected one"),
            (body("[1,64]", "INT8", "[]"), "datatype INT8, expected FP32"),
            (body("[0,64]", "FP32", "[]"), "shape [0, 64], expected [N, 64] with N from 1 to 64"),
            (body("[65,64]", "FP32", "[]"), "shape [65, 64]"),
            (body("[1,64]", "FP32", "[1,2]"), "2 numbers, expected 64"),
            (body("[1,64]", "FP32", r#"["a"]"#), "found \"a\" among the data"),
        ] {
            let message = parse_infer(request.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(words), "{request}: {message}");
        }
    }

    #[test]
    fn feedback_carries_one_label_or_one_per_row() {
        assert_eq!(parse_feedback(br#"{"request_id":"a","label":7,"user":"x"}"#).unwrap().labels, [7]);
        assert_eq!(parse_feedback(br#"{"request_id":"a","labels":[7,8]}"#).unwrap().labels, [7, 8]);
        assert!(parse_feedback(br#"{"request_id":"a"}"#).is_err());
        assert!(parse_feedback(br#"{"request_id":"","label":1}"#).is_err());
    }

    #[test]
    fn nan_travels_as_null() {
        let answer = InferAnswer {
            model_name: "digits",
            model_version: "r1",
            id: "a",
            parameters: Parameters { revision: "r1", model: "fp32", digest: "sha256:00" },
            outputs: outputs(&[f32::NAN, 0.5], &[0]),
        };
        let json = serde_json::to_string(&answer).unwrap();
        assert!(json.contains(r#""data":[null,0.5]"#), "{json}");
        assert!(json.contains(r#""name":"label","datatype":"INT64","shape":[1],"data":[0]"#), "{json}");
    }
}
