//! The page that documents the profiles, made from their data. Writes no file; `cargo run --bin clidocs` does, and a test compares.

use std::fmt::Write as _;

use super::{Entry, Profile, all};
use crate::spec::{Guardrail, StageKind};

const HEADER: &str = "\
<!-- Generated from the profiles' data by `cargo run --bin clidocs`; do not edit. -->
# Profiles

A profile is a set of guardrails with their numbers, so that a policy can begin with one line:

```yaml
spec:
  prometheus: {address: http://prometheus:9090}
  profile: edge-classifier
  without: [fairness]            # guardrails of the profile that are left out
  guardrails:                    # your own come after those of the profile
  - name: accuracy               # the same name replaces the profile's guardrail as a whole
    proportion: {bad: 'answers_total{ok=\"no\"}', total: answers_total}
    target: +1pp vs stable
```

`espalier validate -f policy.yaml` lists what it expands to, and with `-o json` prints the policy written out. The written-out policy is what is
checked, hashed, pinned for an attempt and planned: where another version of the operator has other numbers, the evidence starts anew, and no
goalpost moves in silence.

A guardrail whose metric is missing is *Unmeasurable* and holds: absence of evidence is no proof. Then export the metric, replace the guardrail by
one of the same name, or leave it out with `without`.

Capacity cannot be seen under demand: a canary with 5% of the users never shows 1000 requests per second. A guardrail on throughput therefore reads
a gauge that a load test of the pod sets, or an estimate from its saturation; each pod counts for itself, and the worst one decides.
";

/// The whole page, in Markdown.
pub fn page() -> String {
    all().iter().fold(HEADER.to_owned(), |page, profile| page + &section(profile))
}

fn section(profile: &Profile) -> String {
    let mut text = format!("\n## {}\n\n{}\n\n", profile.name, profile.about);
    text += "| Guardrail | Measured | Promote when proven | Roll back when | Stages |\n|---|---|---|---|---|\n";
    for Entry { guardrail, .. } in &profile.guardrails {
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            guardrail.name,
            cell(&measured(guardrail)),
            target(guardrail),
            critical(guardrail),
            stages(guardrail)
        );
    }
    text.push('\n');
    for Entry { guardrail, why, needs } in &profile.guardrails {
        let _ = writeln!(text, "- `{}`: {why} Needs: {}", guardrail.name, lower(needs));
    }
    text
}

/// A needs sentence behind a colon keeps its first letter when that begins a name.
fn lower(text: &str) -> String {
    match text.strip_prefix("A ") {
        Some(rest) => format!("a {rest}"),
        None => text.to_owned(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// Kind and metric as they are written.
fn measured(guardrail: &Guardrail) -> String {
    let value = serde_json::to_value(guardrail).unwrap_or_default();
    let kinds = crate::spec::rules::KINDS.iter();
    let mut found = kinds.filter_map(|kind| value.get(*kind).map(|fields| (kind, fields)));
    let Some((kind, fields)) = found.next() else { return String::new() };
    let fields = fields.as_object().into_iter().flatten();
    let said = fields.map(|(name, value)| format!("{name} `{}`", plain(value))).collect::<Vec<_>>().join(", ");
    let pod = guardrail.pod_label.as_ref().map_or_else(String::new, |label| format!(", by `{label}`"));
    format!("{kind}: {said}{pod}")
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn target(guardrail: &Guardrail) -> String {
    let target = guardrail.target.as_ref().map_or_else(|| "none at all".to_owned(), |target| format!("`{target}`"));
    let or = guardrail.or_not_worse_than_stable.unwrap_or(false);
    if or { format!("{target}, or not worse than stable") } else { target }
}

fn critical(guardrail: &Guardrail) -> String {
    let bound = guardrail.critical.as_ref().or(guardrail.target.as_ref()).map_or_else(|| "one".to_owned(), |bound| format!("`{bound}`"));
    let edge = guardrail.latency.as_ref().and_then(|latency| latency.critically_slower_than.as_ref());
    edge.map_or_else(|| bound.clone(), |edge| format!("{bound} above {edge}"))
}

fn stages(guardrail: &Guardrail) -> String {
    let name = |kind: &StageKind| format!("{kind:?}");
    let kinds = crate::validate::stages_of(guardrail);
    if kinds.len() == 3 { "all".to_owned() } else { kinds.iter().map(name).collect::<Vec<_>>().join(", ") }
}
