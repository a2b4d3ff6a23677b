//! Placeholders in the workload's template: `$(model.uri)`, `$(model.digest)` and `$(revision)`, in string values only.
//! Leaves every other `$(…)` and every `$$` alone, byte for byte: the kubelet expands and unescapes these by the same scan.

use serde_json::Value;

use super::Problem;
use crate::revision::{RevisionId, model_digest};
use crate::spec::{Model, Workload};

/// The workload's template with its placeholders filled in.
///
/// `$$(model.uri)` stays as it is: where the kubelet expands variables it then shows `$(model.uri)`.
///
/// # Errors
/// The path of a string with an unknown `$(model.…)`, or of the template when there is none.
pub fn template(workload: &Workload, model: &Model, revision: &RevisionId) -> Result<Value, Problem> {
    let Some(template) = &workload.template else {
        return Err(Problem::new("spec.workload.template", "none", "a template to create the revision from"));
    };
    let values = Values { uri: &model.uri, digest: model_digest(model), revision: revision.as_str() };
    let mut filled = template.clone();
    fill(&mut filled, "spec.workload.template", &values)?;
    Ok(filled)
}

struct Values<'a> {
    uri: &'a str,
    digest: String,
    revision: &'a str,
}

fn fill(value: &mut Value, path: &str, values: &Values) -> Result<(), Problem> {
    match value {
        Value::String(text) => *text = expand(text, path, values)?,
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                fill(item, &format!("{path}[{index}]"), values)?;
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                fill(field, &format!("{path}.{name}"), values)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

fn expand(text: &str, path: &str, values: &Values) -> Result<String, Problem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(escaped) = after.strip_prefix('$') {
            out.push_str("$$");
            rest = escaped;
            continue;
        }
        let name = after.strip_prefix('(').and_then(|inner| inner.split_once(')')).map(|(name, _)| name);
        let filled = match name {
            Some("model.uri") => Some(values.uri),
            Some("model.digest") => Some(values.digest.as_str()),
            Some("revision") => Some(values.revision),
            Some(unknown) if unknown.starts_with("model.") => {
                return Err(Problem::new(
                    path,
                    format!("$({unknown})"),
                    "$(model.uri), $(model.digest) or $(revision); $$( writes a plain $(",
                ));
            }
            _ => None,
        };
        if let (Some(filled), Some(name)) = (filled, name) {
            out.push_str(filled);
            rest = after.get(name.len() + 2..).unwrap_or_default();
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fill_in(content: Value) -> Result<Value, Problem> {
        let workload = Workload { template: Some(content), port: Some(8080), backend_ref: None, matchers: BTreeMap::new() };
        template(&workload, &Model { uri: "oci://x/y@sha256:41ab".into(), compression: None }, &RevisionId::new("c0ffee00"))
    }

    #[test]
    fn placeholders_are_filled_in_everywhere_but_in_names() {
        let filled = fill_in(json!({"$(revision)": ["--model=$(model.uri)", {"d": "$(model.digest)/$(revision)", "n": 3}]}));
        assert_eq!(filled, Ok(json!({"$(revision)": ["--model=oci://x/y@sha256:41ab", {"d": "sha256:41ab/c0ffee00", "n": 3}]})));
    }

    #[test]
    fn escapes_and_variables_of_the_kubelet_stay() {
        for text in ["$$(model.uri)", "$(POD_IP)", "$(model", "$", "$$", "a$b", "$(modeluri)", "$$$$(revision)", "€$(X)€"] {
            assert_eq!(fill_in(json!(text)), Ok(json!(text)), "{text}");
        }
        assert_eq!(fill_in(json!("$$$(revision)")), Ok(json!("$$c0ffee00")));
    }

    #[test]
    fn an_unknown_model_placeholder_is_refused_with_its_path() {
        let problem = fill_in(json!({"spec": {"args": ["ok", "--m=$(model.url)"]}})).unwrap_err();
        assert_eq!(
            problem.message,
            "spec.workload.template.spec.args[1]: found $(model.url), expected $(model.uri), $(model.digest) or $(revision); $$( writes a plain $("
        );
    }

    proptest! {
        #[test]
        fn text_without_placeholders_is_untouched(text in "[a-z$() .]{0,40}") {
            prop_assume!(!text.contains("$(model.") && !text.contains("$(revision)"));
            prop_assert_eq!(fill_in(json!(text.clone())), Ok(json!(text)));
        }
    }
}
