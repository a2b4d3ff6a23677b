//! Pages that promise something name the test that would fail; a test that is gone or renamed is found here.
//! Does not run the tests that are named.

use std::path::Path;

/// Every `[text](../path)` of a page.
fn links(page: &str) -> Vec<(&str, &str)> {
    page.match_indices("](../")
        .filter_map(|(at, _)| {
            let (before, after) = (page.get(..at)?, page.get(at + 2..)?);
            Some((before.rsplit_once('[')?.1, after.split_once(')')?.0))
        })
        .collect()
}

/// What is wrong with a link: the file is missing, or the test is not in it.
fn problem(text: &str, path: &str) -> Option<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(path);
    if !file.exists() {
        return Some(format!("{path} does not exist"));
    }
    if text.starts_with('`') {
        return None;
    }
    let Ok(content) = std::fs::read_to_string(&file) else { return Some(format!("{path} is no text")) };
    let wanted = if file.extension().is_some_and(|end| end == "rs") { format!("fn {text}(") } else { text.to_owned() };
    (!content.contains(&wanted)).then(|| format!("{path} has no {wanted}"))
}

#[test]
fn every_promise_names_a_test_that_exists() {
    for page in ["SAFETY.md", "SECURITY.md"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page)).unwrap();
        let found = links(&text);
        assert!(found.len() >= 10, "{page} names {} tests", found.len());
        let problems: Vec<String> = found.into_iter().filter_map(|(text, path)| problem(text, path)).collect();
        assert!(problems.is_empty(), "{page}: {problems:#?}");
    }
}

#[test]
fn a_test_that_is_gone_is_found() {
    assert_eq!(
        links("| [a_test](../tests/api.rs), [`rules`](../src/act.rs) |"),
        [("a_test", "../tests/api.rs"), ("`rules`", "../src/act.rs")]
    );
    assert!(problem("no_such_test_anywhere", "../tests/promises.rs").is_some());
    assert!(problem("links", "../tests/no_such_file.rs").is_some());
    assert_eq!(problem("links", "../tests/promises.rs"), None);
}
