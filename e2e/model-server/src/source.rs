//! Finds the file behind a model URI and proves that its bytes are the ones the URI names.
//! It fetches nothing over the network: an `oci://` URI only selects a file that is already in the models folder.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Why a URI led to no usable file. Every message names what was found and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("model URI '{0}' is neither file:///PATH nor oci://HOST/PATH/NAME[:TAG][@sha256:HEX]")]
    Scheme(String),
    #[error("model URI '{uri}' has the digest '{digest}', expected sha256: and 64 hex digits")]
    DigestForm { uri: String, digest: String },
    #[error("no model for '{uri}': {} cannot be read ({error}), and no file beside it has the digest asked for", path.display())]
    Missing { uri: String, path: PathBuf, error: std::io::Error },
    #[error("digest mismatch for '{uri}': {} has {found}, the URI asks for {expected}", path.display())]
    Mismatch { uri: String, path: PathBuf, found: String, expected: String },
}

/// A model file, read and verified.
#[derive(Debug)]
pub struct ModelFile {
    /// File name without `.onnx`, such as `pruned-90`.
    pub name: String,
    /// `sha256:` and 64 lower-case hex digits of the bytes.
    pub digest: String,
    /// The ONNX bytes.
    pub bytes: Vec<u8>,
}

/// What the URI says, before any file is touched.
struct Reference {
    path: PathBuf,
    digest: Option<String>,
}

/// Reads the file that `uri` names; `models_dir` holds `NAME.onnx` for `oci://…/NAME`.
///
/// When that file does not exist but the URI carries a digest, the file in `models_dir` with this digest is taken, so that
/// `oci://host/digits@sha256:…` works too.
pub fn open(uri: &str, models_dir: &Path) -> Result<ModelFile, SourceError> {
    let Reference { path, digest } = parse(uri, models_dir)?;
    match (std::fs::read(&path), digest) {
        (Ok(bytes), None) => Ok(model_file(&path, bytes)),
        (Ok(bytes), Some(expected)) => {
            let file = model_file(&path, bytes);
            if file.digest == expected {
                Ok(file)
            } else {
                Err(SourceError::Mismatch { uri: uri.to_owned(), path, found: file.digest, expected })
            }
        }
        (Err(error), digest) => digest.and_then(|wanted| by_digest(models_dir, &wanted)).ok_or_else(|| SourceError::Missing {
            uri: uri.to_owned(),
            path,
            error,
        }),
    }
}

fn parse(uri: &str, models_dir: &Path) -> Result<Reference, SourceError> {
    let (location, digest) = match uri.split_once('@') {
        Some((location, digest)) => (location, Some(digest)),
        None => (uri, None),
    };
    let digest = digest.map(|text| checked_digest(uri, text)).transpose()?;
    if let Some(path) = location.strip_prefix("file://").filter(|path| path.starts_with('/')) {
        return Ok(Reference { path: PathBuf::from(path), digest });
    }
    let name = location
        .strip_prefix("oci://")
        .and_then(|rest| rest.split_once('/'))
        .and_then(|(_host, path)| path.rsplit('/').next())
        .and_then(|last| last.split(':').next())
        .filter(|name| !name.is_empty() && *name != "." && *name != "..")
        .ok_or_else(|| SourceError::Scheme(uri.to_owned()))?;
    Ok(Reference { path: models_dir.join(format!("{name}.onnx")), digest })
}

fn checked_digest(uri: &str, digest: &str) -> Result<String, SourceError> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(digest.to_ascii_lowercase())
    } else {
        Err(SourceError::DigestForm { uri: uri.to_owned(), digest: digest.to_owned() })
    }
}

fn by_digest(models_dir: &Path, wanted: &str) -> Option<ModelFile> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(models_dir).ok()?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .filter_map(|path| std::fs::read(&path).ok().map(|bytes| model_file(&path, bytes)))
        .find(|file| file.digest == wanted)
}

fn model_file(path: &Path, bytes: Vec<u8>) -> ModelFile {
    let mut digest = String::from("sha256:");
    for byte in Sha256::digest(&bytes) {
        // Writing to a String cannot fail.
        let _ = write!(digest, "{byte:02x}");
    }
    ModelFile { name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), digest, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
    }

    #[test]
    fn a_file_uri_and_an_oci_uri_lead_to_the_same_bytes() {
        let dir = models();
        let by_path = open(&format!("file://{}/int8.onnx", dir.display()), Path::new("/nowhere")).unwrap();
        let by_name = open(&format!("oci://registry.example:5000/digits/int8:v1@{}", by_path.digest), &dir).unwrap();
        assert_eq!((by_name.name.as_str(), &by_name.bytes), ("int8", &by_path.bytes));
    }

    #[test]
    fn a_digest_alone_finds_its_file() {
        let dir = models();
        let known = open("oci://registry.example/digits/pruned-90", &dir).unwrap();
        assert_eq!(open(&format!("oci://registry.example/digits@{}", known.digest), &dir).unwrap().name, "pruned-90");
    }

    #[test]
    fn other_bytes_than_the_digest_says_are_refused() {
        let uri = format!("oci://registry.example/digits/fp32@sha256:{}", "0".repeat(64));
        let error = open(&uri, &models()).unwrap_err();
        assert!(matches!(error, SourceError::Mismatch { .. }));
        assert!(error.to_string().contains("digest mismatch for 'oci://registry.example/digits/fp32@sha256:000"), "{error}");
    }

    #[test]
    fn unusable_uris_are_refused_by_name() {
        for (uri, words) in [
            ("https://registry.example/fp32", "neither file:///PATH nor oci://"),
            ("oci://registry.example/", "neither file:///PATH nor oci://"),
            ("oci://registry.example/..", "neither file:///PATH nor oci://"),
            ("oci://registry.example/fp32@sha256:12", "expected sha256: and 64 hex digits"),
            ("oci://registry.example/no-such-model", "no model for"),
        ] {
            let message = open(uri, &models()).unwrap_err().to_string();
            assert!(message.contains(words), "{uri}: {message}");
        }
    }
}
