//! Manifests from files, folders and standard input: every document with the place it came from.
//! Does not look into them; JSON is read as YAML, of which it is a part.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

/// Name of standard input on the command line and in places.
pub const STDIN: &str = "-";

/// Where an object stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file as it was named, or `-`.
    pub file: String,
    /// The line on which the document begins, from 1.
    pub line: usize,
    /// Number of the document in the file, from 1.
    pub document: usize,
    /// Number of the item, from 1, when the document is a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = if self.file == STDIN { "standard input" } else { &self.file };
        write!(f, "{file}:{}, document {}", self.line, self.document)?;
        self.item.map_or(Ok(()), |item| write!(f, ", item {item}"))
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// The file, or `-`.
    pub file: String,
    /// Why, and where in it if that is known.
    pub message: String,
}

/// All that was read and all that could not be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Input {
    /// Objects in the order of the files.
    pub documents: Vec<Document>,
    /// Files or documents that are no YAML, or not there.
    pub unreadable: Vec<Unreadable>,
}

/// Reads files, folders (their *.yaml, *.yml and *.json, by name) and standard input.
pub fn read(paths: &[String]) -> Input {
    let mut input = Input::default();
    for path in paths {
        let files = if path == STDIN { vec![PathBuf::from(STDIN)] } else { files(Path::new(path)) };
        if files.is_empty() {
            input.unreadable.push(Unreadable { file: path.clone(), message: "no *.yaml, *.yml or *.json in this folder".into() });
        }
        for file in files {
            let name = file.display().to_string();
            match text(&file) {
                Ok(text) => parse(&name, &text, &mut input),
                Err(error) => input.unreadable.push(Unreadable { file: name, message: error.to_string() }),
            }
        }
    }
    input
}

fn files(path: &Path) -> Vec<PathBuf> {
    // What is no folder is read as a file, and says itself what is wrong with it.
    let Ok(entries) = std::fs::read_dir(path) else { return vec![path.to_owned()] };
    let is_manifest = |path: &PathBuf| path.extension().and_then(|e| e.to_str()).is_some_and(|e| ["yaml", "yml", "json"].contains(&e));
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_manifest(path)).collect();
    files.sort();
    files
}

fn text(file: &Path) -> std::io::Result<String> {
    if file != Path::new(STDIN) {
        return std::fs::read_to_string(file);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// Adds the documents of one file, each parsed by itself, so that one that is broken hides no other.
pub fn parse(file: &str, text: &str, input: &mut Input) {
    for (line, document) in split(text) {
        // Line breaks in front keep the line numbers of messages those of the file.
        let padded = "\n".repeat(line) + &document;
        match serde_saphyr::from_str::<Value>(&padded) {
            Ok(Value::Null) => {}
            Ok(value) => {
                let number = 1 + input.documents.iter().filter(|d| d.place.file == file).map(|d| d.place.document).max().unwrap_or(0);
                let place = Place { file: file.to_owned(), line: line + 1, document: number, item: None };
                input.documents.extend(items(place, value));
            }
            Err(error) => input.unreadable.push(Unreadable { file: file.to_owned(), message: error.without_snippet().to_string() }),
        }
    }
}

/// Documents and the number of lines before each; as for kubectl, `---` at the start of a line ends one.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(0, String::new())];
    for (number, line) in text.lines().enumerate() {
        let rest = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        match (rest, documents.last_mut()) {
            (Some(rest), _) => documents.push((number, format!("{rest}\n"))),
            (None, Some((_, open))) => {
                open.push_str(line);
                open.push('\n');
            }
            (None, None) => {}
        }
    }
    let has_content = |text: &str| text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with(['#', '%']));
    documents.retain(|(_, document)| has_content(document));
    for (line, document) in &mut documents {
        // A document begins where its first word stands.
        let blank = document.lines().take_while(|line| line.trim().is_empty() || line.trim_start().starts_with('#')).count();
        *line += blank;
        *document = document.lines().skip(blank).fold(String::new(), |text, line| text + line + "\n");
    }
    documents
}

/// The items of a list as `kubectl get -o yaml` gives it, or the object itself.
fn items(place: Place, value: Value) -> Vec<Document> {
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    match value.get("items") {
        Some(Value::Array(items)) if is_list => items
            .iter()
            .enumerate()
            .map(|(index, item)| Document { place: Place { item: Some(index + 1), ..place.clone() }, value: item.clone() })
            .collect(),
        _ => vec![Document { place, value }],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> Input {
        let mut input = Input::default();
        parse("a.yaml", text, &mut input);
        input
    }

    #[test]
    fn documents_know_where_they_began() {
        let input = parsed("# first\na: 1\n---\n# nothing\n---\n\nb: 2\n--- # third\nc: |\n  text\n  --- not a separator\n");
        let places: Vec<_> = input.documents.iter().map(|d| (d.place.line, d.place.document)).collect();
        assert_eq!(places, [(2, 1), (7, 2), (9, 3)]);
        assert_eq!(input.documents[2].value, json!({"c": "text\n--- not a separator\n"}));
    }

    #[test]
    fn a_broken_document_hides_no_other_and_says_its_line() {
        let input = parsed("a: 1\n---\nb: [1\n---\nc: 3\n");
        assert_eq!(input.documents.len(), 2);
        assert!(input.unreadable[0].message.contains("line 3") || input.unreadable[0].message.contains("line 4"), "{:?}", input.unreadable);
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        assert_eq!(parsed("a: 1\na: 2\n").unreadable.len(), 1);
    }

    #[test]
    fn lists_and_json_are_taken_apart() {
        let input = parsed("{\"kind\": \"List\", \"items\": [{\"a\": 1}, {\"b\": 2}]}");
        assert_eq!(
            input.documents.iter().map(|d| d.place.to_string()).collect::<Vec<_>>(),
            ["a.yaml:1, document 1, item 1", "a.yaml:1, document 1, item 2"]
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_said_so() {
        let input = read(&["/does/not/exist.yaml".to_owned()]);
        assert!(input.documents.is_empty() && input.unreadable[0].file == "/does/not/exist.yaml");
    }
}
