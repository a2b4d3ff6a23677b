//! The ONNX model: loads it with tract, answers batches of digits, and counts the work one answer takes.
//! It knows nothing of HTTP, metrics or faults.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::{Cost, TypedOp};

/// Inputs of one row: 8 x 8 pixels in 0..1.
pub const PIXELS: usize = 64;
/// Outputs of one row: the probability of each digit.
pub const CLASSES: usize = 10;
/// Most rows that one request may hold.
pub const MAX_ROWS: usize = 64;

/// Energy of an 8-bit integer product relative to a 32-bit float one; Horowitz (ISSCC 2014) has less than a tenth for the
/// multiplier alone, a quarter leaves room for moving the data.
const INT8_ENERGY: f64 = 0.25;

/// Why a file is not a servable digits model, or an input no batch of digits.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("the ONNX file cannot be loaded: {0}")]
    Load(String),
    #[error("inference failed: {0}")]
    Run(String),
    #[error("the model answered {found} numbers, expected {expected}")]
    OutputShape { found: usize, expected: usize },
}

/// A loaded model, ready to answer; cheap to share, safe to use from many tasks.
pub struct Model {
    plan: Arc<TypedRunnableModel>,
    work_per_row: f64,
}

impl Model {
    /// Loads and optimizes an ONNX model with input [N, 64] and output [N, 10], both float32.
    pub fn load(bytes: &[u8]) -> Result<Self, ModelError> {
        Self::load_with_tract(bytes).map_err(|e| ModelError::Load(format!("{e:#}")))
    }

    fn load_with_tract(bytes: &[u8]) -> TractResult<Self> {
        let model = onnx().model_for_read(&mut &*bytes)?;
        let rows = model.symbols.sym("N");
        let fact = f32::fact([rows.to_dim(), PIXELS.to_dim()]);
        let model = model.with_input_fact(0, fact.into())?.into_typed()?.into_decluttered()?;
        let work_per_row = work(&model, &rows)?;
        Ok(Self { plan: model.into_optimized()?.into_runnable()?, work_per_row })
    }

    /// Multiply-accumulates for one row, integer ones weighted by their energy (float32 = 1). Zeroed weights count in full: a
    /// dense kernel multiplies them all the same.
    pub fn work_per_row(&self) -> f64 {
        self.work_per_row
    }

    /// Probabilities, [`CLASSES`] per row; `pixels` holds whole rows of [`PIXELS`] numbers in 0..1.
    pub fn infer(&self, pixels: &[f32]) -> Result<Vec<f32>, ModelError> {
        let rows = pixels.len() / PIXELS;
        let run = || -> TractResult<Vec<f32>> {
            let input = Tensor::from_shape(&[rows, PIXELS], pixels)?;
            let outputs = self.plan.run(tvec!(input.into_tvalue()))?;
            let Some(first) = outputs.first() else { return Ok(Vec::new()) };
            Ok(first.to_plain_array_view::<f32>()?.iter().copied().collect())
        };
        let probabilities = run().map_err(|e| ModelError::Run(format!("{e:#}")))?;
        if probabilities.len() == rows * CLASSES {
            Ok(probabilities)
        } else {
            Err(ModelError::OutputShape { found: probabilities.len(), expected: rows * CLASSES })
        }
    }
}

/// Index of the largest probability of each row; 0 for a row of NaN, as the usual argmax has it.
pub fn labels(probabilities: &[f32]) -> Vec<usize> {
    let argmax = |row: &[f32]| {
        let better = |best: (usize, f32), (i, &p): (usize, &f32)| if p > best.1 { (i, p) } else { best };
        row.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0
    };
    probabilities.chunks(CLASSES).map(argmax).collect()
}

fn work(model: &TypedModel, rows: &Symbol) -> TractResult<f64> {
    let one_row = SymbolValues::default().with(rows, 1);
    let mut total = 0.0;
    for node in &model.nodes {
        let facts = model.node_input_facts(node.id)?;
        let op: &dyn TypedOp = node.op.as_ref();
        for (cost, count) in op.cost(&facts)? {
            if let Cost::FMA(kind) = cost {
                let count = count.eval(&one_row).to_i64()? as f64;
                total += count * if kind.is_float() { 1.0 } else { INT8_ENERGY };
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[derive(serde::Deserialize)]
    struct Digits {
        images: Vec<Vec<u8>>,
        labels: Vec<usize>,
        teacher: Vec<usize>,
    }

    #[derive(serde::Deserialize)]
    struct Catalogue {
        models: Vec<Entry>,
    }

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry {
        name: String,
        file: String,
        digest: String,
        weights: f64,
        precision: String,
        test_accuracy: f64,
    }

    fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(name);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn answers(model: &Model, digits: &Digits, batch: usize) -> Vec<usize> {
        let infer = |rows: &[Vec<u8>]| {
            let pixels: Vec<f32> = rows.iter().flatten().map(|&p| f32::from(p) / 16.0).collect();
            labels(&model.infer(&pixels).unwrap())
        };
        digits.images.chunks(batch).flat_map(infer).collect()
    }

    #[test]
    fn every_model_is_as_accurate_here_as_models_json_says() {
        let digits: Digits = read("digits-test.json");
        let catalogue: Catalogue = read("models.json");
        assert_eq!(catalogue.models.len(), 6);
        for entry in catalogue.models {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
            let file = crate::source::open(&format!("file://{}/{}@{}", dir.display(), entry.file, entry.digest), &dir).unwrap();
            let model = Model::load(&file.bytes).unwrap();
            let answers = answers(&model, &digits, MAX_ROWS);
            let right = answers.iter().zip(&digits.labels).filter(|(a, b)| a == b).count();
            let accuracy = right as f64 / digits.labels.len() as f64;
            assert!((accuracy - entry.test_accuracy).abs() < 0.002, "{}: {accuracy}, recorded {}", entry.name, entry.test_accuracy);
            let expected_work = entry.weights * if entry.precision == "int8" { INT8_ENERGY } else { 1.0 };
            assert!((model.work_per_row() - expected_work).abs() < 0.05 * expected_work, "{}: {}", entry.name, model.work_per_row());
            if entry.name == "fp32" {
                assert_eq!(answers, digits.teacher, "the load generator knows the teacher's answers");
            }
        }
    }

    #[test]
    fn an_answer_does_not_depend_on_its_batch() {
        let digits: Digits = read("digits-test.json");
        for name in ["fp32", "int8"] {
            let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../models/{name}.onnx"))).unwrap();
            let model = Model::load(&bytes).unwrap();
            assert_eq!(answers(&model, &digits, 1), answers(&model, &digits, 50), "{name}");
        }
    }

    #[test]
    fn nan_rows_are_labelled_zero_and_damaged_files_are_refused() {
        assert_eq!(labels(&[f32::NAN; CLASSES]), [0]);
        assert!(matches!(Model::load(b"not an onnx file"), Err(ModelError::Load(_))));
    }
}
