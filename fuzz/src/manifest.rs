//! Files that a person hands to the command line: read, validated, and planned with.
//! Reads no file itself.

use espalier::cli::input::{self, Input};
use espalier::cli::validate;

/// A file of manifests, in YAML or JSON.
pub fn manifest(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut input = Input::default();
    input::parse("file.yaml", &text, &mut input);
    for unreadable in &input.unreadable {
        assert!(!unreadable.message.is_empty());
    }
    let _ = validate::check(&input);
}
