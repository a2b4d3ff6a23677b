//! Saved rollouts and what is said of them, word for word. `ESPALIER_WRITE_EXPECTED=1 cargo test explain` writes the texts anew, to be read in the diff.

use std::path::{Path, PathBuf};

use rollout_core::revision;

use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/explain/testdata")
}

/// A saved rollout; `REVISION` in it stands for the revision of its own spec.
fn saved_rollout(name: &str) -> ModelRollout {
    let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    let raw: ModelRollout = serde_json::from_str(&text).unwrap();
    let revision = revision::id(&raw.spec.model, &raw.spec.workload);
    serde_json::from_str(&text.replace("REVISION", revision.as_str())).unwrap()
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    names
}

fn now() -> DateTime<Utc> {
    "2026-01-02T05:00:00Z".parse().unwrap()
}

#[test]
fn every_saved_rollout_is_explained_as_written_down() {
    let names = names();
    assert!(names.len() >= 12, "{names:?}");
    let mut wrong = Vec::new();
    for name in names {
        let path = folder().join(format!("{name}.txt"));
        let found = explained(&saved_rollout(&name), now(), Output::Text).text;
        if std::env::var_os("ESPALIER_WRITE_EXPECTED").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        if found != std::fs::read_to_string(&path).unwrap_or_default() {
            wrong.push(format!("{name}:\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_that_is_named_is_one_that_this_binary_takes() {
    use clap::CommandFactory;
    let mut seen = 0;
    for name in names() {
        for line in explained(&saved_rollout(&name), now(), Output::Text).text.lines() {
            if let Some(command) = line.trim().strip_prefix("kubectl espalier ") {
                let words = std::iter::once("espalier").chain(command.split(' '));
                assert!(crate::cli::Cli::command().try_get_matches_from(words).is_ok(), "{name}: {line}");
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn json_holds_the_same_sentences_and_commands() {
    let outcome = explained(&saved_rollout("awaiting-approval"), now(), Output::Json);
    let read: Value = serde_json::from_str(&outcome.text).unwrap();
    assert_eq!(read["sections"][0]["title"], "What serves");
    assert!(read["actions"][0]["command"].as_str().unwrap().starts_with("kubectl espalier approve digits -n ml --candidate "));
}

#[test]
fn every_saved_rollout_can_be_drawn_with_its_active_guardrails() {
    for name in names() {
        let rollout = saved_rollout(&name);
        let picture = drawing(&rollout);
        let status = rollout.status.clone().unwrap_or_default();
        let progress = progress::picture("title", &status);
        assert!(progress.ends_with("</svg>\n") && !progress.contains("NaN") && !progress.contains("inf"), "{name}");
        assert_eq!(progress.contains(">exposure</text>"), !status.decisions.is_empty(), "{name}");
        let evidence = status.evidence;
        for one in evidence.iter().filter(|one| one.verdict != rollout_core::verdict::Verdict::Inactive) {
            assert!(picture.contains(&format!(">{}</text>", one.guardrail)), "{name}: {}", one.guardrail);
            assert!(progress.contains(&format!(">{}</text>", one.guardrail)), "{name}: {}", one.guardrail);
        }
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n") && !picture.contains("NaN"), "{name}");
    }
}

#[test]
fn a_file_with_more_than_one_rollout_wants_a_name() {
    let folder = std::env::temp_dir().join(format!("espalier-explain-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("two.yaml");
    let one = serde_json::to_string(&saved_rollout("promoted")).unwrap();
    std::fs::write(&file, format!("{one}\n---\n{}\n", one.replace("\"digits\"", "\"letters\""))).unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(saved(path, None).unwrap_err(), format!("{path} holds 2 rollouts; name one of them"));
    assert_eq!(saved(path, Some("letters")).unwrap().metadata.name.as_deref(), Some("letters"));
    assert_eq!(saved(path, Some("words")).unwrap_err(), format!("{path} holds no ModelRollout called words"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_rollout_as_a_person_wrote_it_has_nothing_to_explain() {
    let file = std::env::temp_dir().join(format!("espalier-explain-written-{}.json", std::process::id()));
    let written = ModelRollout { status: None, ..saved_rollout("promoted") };
    std::fs::write(&file, serde_json::to_string(&written).unwrap()).unwrap();
    let problem = saved(file.to_str().unwrap(), None).unwrap_err();
    assert!(problem.contains("without a status") && problem.contains("kubectl get mro digits -o yaml"), "{problem}");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn any_status_is_explained_without_a_panic() {
    let full: Value = serde_saphyr::from_str(include_str!("../../../tests/admission/status.yaml")).unwrap();
    let mut rollout = saved_rollout("promoted");
    rollout.status = serde_json::from_value(full).unwrap();
    let mut said = 0;
    for pinned in ["", "{}", "null", "{\"policy\": 1, \"stages\": 2}"] {
        if let Some(attempt) = rollout.status.as_mut().and_then(|status| status.attempt.as_mut()) {
            (attempt.pinned, attempt.stage, attempt.step, attempt.number) = (pinned.to_owned(), -1, i32::MAX - 1, i32::MAX - 1);
        }
        said += explained(&rollout, now(), Output::Text).text.len();
    }
    assert!(said > 1000);
}
