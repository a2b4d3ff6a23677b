//! The digits that are sent: images as ready-made JSON, their true labels, and what the teacher answers to them.

use anyhow::Context as _;
use serde::Deserialize;

/// The test split, so that the binary needs no file beside it.
const EMBEDDED: &str = include_str!("../../models/digits-test.json");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    pixel_scale: f32,
    labels: Vec<i64>,
    teacher: Vec<i64>,
    images: Vec<Vec<u8>>,
}

/// One digit.
#[derive(Clone, Debug)]
pub struct Digit {
    /// The 64 pixels in 0..1, as a JSON array.
    pub data: String,
    /// What it shows.
    pub label: i64,
    /// What the teacher says it shows.
    pub teacher: i64,
}

/// The embedded digits, or those of a file of the same form.
pub fn load(path: Option<&std::path::Path>) -> anyhow::Result<Vec<Digit>> {
    match path {
        None => parse(EMBEDDED).context("embedded digits"),
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            parse(&text).with_context(|| format!("{} is no set of digits", path.display()))
        }
    }
}

fn parse(text: &str) -> anyhow::Result<Vec<Digit>> {
    let file: File = serde_json::from_str(text)?;
    let count = file.images.len();
    anyhow::ensure!(count > 0, "no images");
    anyhow::ensure!(file.labels.len() == count && file.teacher.len() == count, "labels, teacher and images differ in number");
    let digit = |((image, label), teacher): ((Vec<u8>, i64), i64)| {
        anyhow::ensure!(image.len() == 64, "an image has {} pixels, expected 64", image.len());
        let pixels: Vec<f32> = image.iter().map(|&p| f32::from(p) / file.pixel_scale).collect();
        Ok(Digit { data: serde_json::to_string(&pixels)?, label, teacher })
    };
    file.images.into_iter().zip(file.labels).zip(file.teacher).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_digits_are_the_test_split() {
        let digits = load(None).unwrap();
        assert_eq!(digits.len(), 719);
        let agreeing = digits.iter().filter(|d| d.label == d.teacher).count();
        assert!(agreeing * 100 > digits.len() * 97, "the teacher answers {agreeing} of {} right", digits.len());
        let pixels: Vec<f64> = serde_json::from_str(&digits[0].data).unwrap();
        assert!(pixels.len() == 64 && pixels.iter().all(|p| (0.0..=1.0).contains(p)));
    }

    #[test]
    fn a_damaged_set_is_refused() {
        for text in [
            "{}",
            r#"{"pixelScale":16,"labels":[1],"teacher":[1],"images":[[0]]}"#,
            r#"{"pixelScale":16,"labels":[],"teacher":[],"images":[]}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
