//! Who is who in a recording: finds the candidate's and stable's series, marks them as the operator's own labels would, and answers the plan's queries.
//! Guesses nothing: where more than one answer is possible, the error lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rollout_core::evidence::{Arm, Arms, Evidence, Reading, Readings, Series};
use rollout_core::plan::{Plan, Test};
use rollout_core::revision::RevisionId;

use super::recording::Recording;

const REVISION: &str = "espalier_dev_revision";
const ROLLOUT: &str = "espalier_dev_rollout";
/// The arms' names in the replay.
pub(super) const CANDIDATE: &str = "candidate";
pub(super) const STABLE: &str = "stable";
/// The original model; not the word that stands for "whatever serves".
const TEACHER: &str = "original";
/// The operator's own record of what it decided.
pub(super) const EXPOSURE: &str = "espalier_rollout_exposure_percent";

/// How an arm is picked out of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// By the revision label of its pods.
    Revision(String),
    /// By labels of its series.
    Labels(BTreeMap<String, String>),
}

impl Pick {
    /// Reads `41ab0000` or `job=digits-v2,zone=a`.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if !text.contains('=') {
            let good = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            return good.then(|| Self::Revision(text.to_owned())).ok_or_else(|| expected(text));
        }
        let pairs = text.split(',').map(|pair| pair.split_once('=').filter(|(label, value)| !label.is_empty() && !value.is_empty()));
        let pairs: Option<BTreeMap<String, String>> = pairs.map(|pair| pair.map(|(l, v)| (l.to_owned(), v.to_owned()))).collect();
        pairs.map(Self::Labels).ok_or_else(|| expected(text))
    }

    fn owns(&self, series: &Series) -> bool {
        let is = |label: &str, value: &str| series.labels.get(label).is_some_and(|found| found == value);
        match self {
            Self::Revision(revision) => is(REVISION, revision),
            Self::Labels(labels) => labels.iter().all(|(label, value)| is(label, value)),
        }
    }
}

fn expected(text: &str) -> String {
    format!("found \"{text}\", expected a revision such as 41ab0000, or labels such as job=digits-v2")
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revision(revision) => f.write_str(revision),
            Self::Labels(labels) => {
                let pairs: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
                f.write_str(&pairs.join(","))
            }
        }
    }
}

/// The arms, as far as somebody named them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    pub candidate: Option<Pick>,
    pub stable: Option<Pick>,
    pub baseline: Option<Pick>,
    pub namespace: Option<String>,
    /// Compares stable with itself: its pods in two halves.
    pub split: bool,
}

/// A revision in the recording.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    revision: String,
    rollouts: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    pods: BTreeSet<String>,
    first: i64,
    last: i64,
}

/// A recording in which every arm is known.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// Who was taken for whom, for people.
    pub candidate: String,
    pub stable: String,
    arms: Arms,
    /// First sample of every pod, in milliseconds; of those that were there from the beginning it is not known when they came.
    came: BTreeMap<String, i64>,
    recording: Recording,
    /// The time in which both arms were there, in milliseconds.
    pub span: (i64, i64),
    /// Exposures that the operator recorded for this rollout: since when, in milliseconds, and percent.
    pub moves: Vec<(i64, f64)>,
}

impl Scene {
    /// Finds the arms and marks their series.
    pub(super) fn set(recording: Recording, wanted: &Wanted, plan: &Plan) -> Result<Self, String> {
        let known = known(&recording, wanted.namespace.as_deref());
        let picks = picks(wanted, &known)?;
        let rollout = rollout_of(&picks.candidate, &known);
        let moves = moves(&recording, &rollout, wanted.namespace.as_deref());
        let names = (picks.candidate.to_string(), picks.stable.to_string());
        let begin = recording.span().map_or(0, |span| span.0) + Evidence::lookback(plan).num_milliseconds();
        let (recording, mut parties) = mark(recording, &picks, wanted, plan)?;
        let span = span(&parties)?;
        let came = parties.values().flat_map(|party| party.targets.clone()).filter(|(_, first)| *first > begin).collect();
        let mut arm = |name: &str| parties.remove(name).map(|party| party.arm(name));
        let (candidate, stable, baseline) = (arm(CANDIDATE), arm(STABLE), arm(TEACHER));
        let (Some(candidate), Some(stable)) = (candidate, stable) else { return Err("an arm is missing".to_owned()) };
        let (candidate_name, stable_name) = if wanted.split { halves(&names.1) } else { names };
        let arms = Arms { rollout, candidate, stable, baseline };
        Ok(Self { candidate: candidate_name, stable: stable_name, arms, came, recording, span, moves })
    }

    /// The arms of an attempt that starts at `start`: pods that came later count from 0.
    pub(super) fn arms_since(&self, start: DateTime<Utc>) -> Arms {
        let mut arms = self.arms.clone();
        let young = |pod: &&String| self.came.get(*pod).is_some_and(|first| *first > start.timestamp_millis());
        for arm in [Some(&mut arms.candidate), Some(&mut arms.stable), arms.baseline.as_mut()].into_iter().flatten() {
            arm.young = arm.pods.iter().filter(young).cloned().collect();
        }
        arms
    }

    /// Pods of the candidate and of stable.
    pub(super) fn pods(&self) -> (usize, usize) {
        (self.arms.candidate.pods.len(), self.arms.stable.pods.len())
    }

    /// Whether a series is the candidate's own.
    pub(super) fn is_of_candidate(series: &Series) -> bool {
        series.labels.get(REVISION).is_some_and(|revision| revision == CANDIDATE)
    }

    /// Whether `pod` is one of the candidate's.
    pub(super) fn is_pod_of_candidate(&self, pod: &str) -> bool {
        self.arms.candidate.pods.contains(pod)
    }

    /// The answers to everything that the plan asks, whole.
    pub(super) fn readings(&self, plan: &Plan) -> Result<Readings, String> {
        let answer = |query: rollout_core::evidence::Query| {
            let selector = query.selector().ok_or_else(|| format!("{query} is no selector"))?;
            let series = self.recording.select(&selector)?;
            Ok((query, Reading::Series(series)))
        };
        Evidence::queries(plan, &self.arms).into_iter().map(answer).collect()
    }

    /// Names of the recorded metrics.
    pub(super) fn metrics(&self) -> BTreeSet<String> {
        self.recording.metrics().map(str::to_owned).collect()
    }

    /// The same scene with every series of the candidate changed.
    pub(super) fn with_series(self, change: impl FnMut(Series) -> Series) -> Self {
        let recording = Recording::of(self.recording.into_series().map(change));
        Self { recording, ..self }
    }

    /// The same scene with more series.
    pub(super) fn with_more(self, more: impl IntoIterator<Item = Series>) -> Self {
        let recording = Recording::of(self.recording.into_series().chain(more));
        Self { recording, ..self }
    }

    /// Every series.
    pub(super) fn series(&self) -> impl Iterator<Item = &Series> {
        self.recording.series().map(AsRef::as_ref)
    }

    /// When the recording begins and ends for both arms.
    pub(super) fn times(&self) -> (DateTime<Utc>, DateTime<Utc>) {
        let time = |ms: i64| DateTime::from_timestamp_millis(ms).unwrap_or_default();
        (time(self.span.0), time(self.span.1))
    }
}

fn halves(name: &str) -> (String, String) {
    (format!("one half of {name}"), format!("the other half of {name}"))
}

/// Pod of a series, else where it was scraped.
pub(super) fn target(series: &Series) -> &str {
    let label = |name: &str| series.labels.get(name).map(String::as_str).filter(|value| !value.is_empty());
    label("pod").or_else(|| label("instance")).unwrap_or_default()
}

fn known(recording: &Recording, namespace: Option<&str>) -> Vec<Known> {
    let mut found: BTreeMap<&str, Known> = BTreeMap::new();
    for series in recording.series() {
        let label = |name: &str| series.labels.get(name).filter(|value| !value.is_empty());
        let (Some(revision), Some(first), Some(last)) = (label(REVISION), series.samples.first(), series.samples.last()) else { continue };
        if namespace.is_some_and(|wanted| label("namespace").is_some_and(|found| found != wanted)) {
            continue;
        }
        let one = found.entry(revision).or_insert_with(|| Known {
            revision: revision.clone(),
            rollouts: BTreeSet::new(),
            namespaces: BTreeSet::new(),
            pods: BTreeSet::new(),
            first: first.at,
            last: last.at,
        });
        one.rollouts.extend(label(ROLLOUT).cloned());
        one.namespaces.extend(label("namespace").cloned());
        one.pods.insert(target(series).to_owned());
        (one.first, one.last) = (one.first.min(first.at), one.last.max(last.at));
    }
    found.into_values().collect()
}

struct Picks {
    candidate: Pick,
    stable: Pick,
    baseline: Option<Pick>,
}

fn picks(wanted: &Wanted, known: &[Known]) -> Result<Picks, String> {
    let baseline = wanted.baseline.clone();
    for (flag, pick) in [("--candidate", &wanted.candidate), ("--stable", &wanted.stable), ("--baseline", &wanted.baseline)] {
        if let Some(Pick::Revision(revision)) = pick
            && !known.iter().any(|one| one.revision == *revision)
        {
            return Err(format!("{flag} {revision}: no series of the recording belongs to it; {}", list(known)));
        }
    }
    let of = |known: &Known| Pick::Revision(known.revision.clone());
    if wanted.split {
        let stable = match (&wanted.stable, known) {
            (Some(stable), _) => stable.clone(),
            (None, [only]) => of(only),
            (None, _) => return Err(format!("name the revision to be compared with itself by --stable; {}", list(known))),
        };
        return Ok(Picks { candidate: stable.clone(), stable, baseline });
    }
    let others = |pick: &Pick| -> Vec<&Known> {
        let is_other = |one: &&Known| of(one) != *pick && Some(of(one)) != baseline;
        let same_rollout = known.iter().find(|one| of(one) == *pick).map(|one| one.rollouts.clone()).unwrap_or_default();
        known
            .iter()
            .filter(is_other)
            .filter(|one| same_rollout.is_empty() || one.rollouts.is_empty() || !one.rollouts.is_disjoint(&same_rollout))
            .collect()
    };
    let only = |pick: &Pick, flag: &str| match others(pick).as_slice() {
        [one] => Ok(of(one)),
        _ => Err(format!("name the other arm by {flag}; {}", list(known))),
    };
    let (candidate, stable) = match (&wanted.candidate, &wanted.stable) {
        (Some(candidate), Some(stable)) => (candidate.clone(), stable.clone()),
        (Some(candidate), None) => (candidate.clone(), only(candidate, "--stable")?),
        (None, Some(stable)) => (only(stable, "--candidate")?, stable.clone()),
        (None, None) => match known {
            // What came later is on trial.
            [one, other] if one.first > other.first => (of(one), of(other)),
            [one, other] if one.first < other.first => (of(other), of(one)),
            _ => return Err(format!("say which revision is on trial by --candidate, and which serves by --stable; {}", list(known))),
        },
    };
    if candidate == stable {
        return Err(format!("--candidate and --stable are both {candidate}; to compare a revision with itself use --split-stable"));
    }
    Ok(Picks { candidate, stable, baseline })
}

fn list(known: &[Known]) -> String {
    if known.is_empty() {
        return format!(
            "no series carries the label {REVISION}: pick the arms by labels, such as --candidate job=digits-v2 --stable job=digits-v1"
        );
    }
    let time = |ms: i64| DateTime::from_timestamp_millis(ms).unwrap_or_default().format("%F %T").to_string();
    let words = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let line = |one: &Known| {
        let rollout = if one.rollouts.is_empty() { String::new() } else { format!(" of rollout {}", words(&one.rollouts)) };
        let namespace = if one.namespaces.is_empty() { String::new() } else { format!(" in namespace {}", words(&one.namespaces)) };
        format!("  {}{rollout}{namespace}: {} pods, {} to {}", one.revision, one.pods.len(), time(one.first), time(one.last))
    };
    format!("the recording holds\n{}", known.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn rollout_of(candidate: &Pick, known: &[Known]) -> String {
    let Pick::Revision(revision) = candidate else { return String::new() };
    let one = known.iter().find(|one| one.revision == *revision);
    one.and_then(|one| one.rollouts.first().cloned()).unwrap_or_default()
}

/// What is known of one arm.
#[derive(Debug, Default)]
struct Party {
    namespaces: BTreeSet<String>,
    /// Targets and their first samples.
    targets: BTreeMap<String, i64>,
    first: Option<i64>,
    last: Option<i64>,
}

impl Party {
    fn take(&mut self, series: &Series) {
        let (Some(first), Some(last)) = (series.samples.first(), series.samples.last()) else { return };
        self.namespaces.extend(series.labels.get("namespace").cloned());
        let since = self.targets.entry(target(series).to_owned()).or_insert(first.at);
        *since = (*since).min(first.at);
        self.first = Some(self.first.map_or(first.at, |known| known.min(first.at)));
        self.last = self.last.max(Some(last.at));
    }

    fn arm(self, name: &str) -> Arm {
        Arm {
            namespace: self.namespaces.first().cloned().unwrap_or_default(),
            revision: Some(RevisionId::new(name)),
            pods: self.targets.into_keys().collect(),
            ..Arm::default()
        }
    }
}

/// Gives every series of an arm the revision label that its pods would have, and drops those of other revisions.
fn mark(recording: Recording, picks: &Picks, wanted: &Wanted, plan: &Plan) -> Result<(Recording, BTreeMap<&'static str, Party>), String> {
    let first_half = if wanted.split { half(&recording, picks, wanted)? } else { BTreeSet::new() };
    let pair_labels: Vec<&String> = plan
        .guardrails
        .iter()
        .filter_map(|guardrail| if let Test::Paired(pairs) = &guardrail.test { pairs.revision_label.as_ref() } else { None })
        .collect();
    let (mut kept, mut parties) = (Vec::new(), BTreeMap::<&'static str, Party>::new());
    for mut series in recording.into_series() {
        let elsewhere = wanted.namespace.as_ref().is_some_and(|wanted| series.labels.get("namespace").is_some_and(|found| found != wanted));
        let arms = [(CANDIDATE, Some(&picks.candidate)), (STABLE, Some(&picks.stable)), (TEACHER, picks.baseline.as_ref())];
        let mut owners: Vec<&'static str> =
            arms.into_iter().filter(|(_, pick)| pick.is_some_and(|pick| !elsewhere && pick.owns(&series))).map(|(name, _)| name).collect();
        if wanted.split && !owners.is_empty() {
            owners = vec![if first_half.contains(target(&series)) { CANDIDATE } else { STABLE }];
        }
        if let [one, other, ..] = owners.as_slice() {
            return Err(format!("the series {} belongs to {one} and to {other}; pick the arms by labels that differ", said(&series)));
        }
        for label in &pair_labels {
            if let (Some(value), Pick::Revision(revision)) = (Arc::make_mut(&mut series.labels).get_mut(*label), &picks.candidate)
                && value == revision
            {
                CANDIDATE.clone_into(value);
            }
        }
        match owners.first() {
            Some(owner) => {
                parties.entry(owner).or_default().take(&series);
                Arc::make_mut(&mut series.labels).insert(REVISION.into(), (*owner).into());
                Arc::make_mut(&mut series.labels).remove(ROLLOUT);
                kept.push(series);
            }
            // Exporters and collectors name no revision; what names another one is another rollout's.
            None if !series.labels.contains_key(REVISION) => kept.push(series),
            None => {}
        }
    }
    let named = [(CANDIDATE, &picks.candidate, "--candidate"), (STABLE, &picks.stable, "--stable")];
    for (name, pick, flag) in named {
        let Some(party) = parties.get(name) else {
            return Err(format!("{flag} {pick}: no series of the recording belongs to it"));
        };
        if party.namespaces.len() > 1 {
            let namespaces = party.namespaces.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(format!("{flag} {pick}: its series are in the namespaces {namespaces}; name one by --namespace"));
        }
    }
    Ok((Recording::of(kept), parties))
}

fn said(series: &Series) -> String {
    let labels: Vec<String> = series.labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    format!("{{{}}}", labels.join(","))
}

/// One half of stable's pods, every second one in the order of a hash of their names.
fn half(recording: &Recording, picks: &Picks, wanted: &Wanted) -> Result<BTreeSet<String>, String> {
    let here = |series: &&Arc<Series>| {
        wanted.namespace.as_ref().is_none_or(|wanted| series.labels.get("namespace").is_none_or(|found| found == wanted))
    };
    let pods: BTreeSet<&str> =
        recording.series().filter(here).filter(|series| picks.stable.owns(series)).map(|series| target(series)).collect();
    if pods.len() < 2 {
        return Err(format!(
            "--split-stable: {} has {} pods in the recording, expected at least 2: one for each half",
            picks.stable,
            pods.len()
        ));
    }
    let hash =
        |text: &str| text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut ordered: Vec<(u64, &str)> = pods.into_iter().map(|pod| (hash(pod), pod)).collect();
    ordered.sort_unstable();
    Ok(ordered.into_iter().step_by(2).map(|(_, pod)| pod.to_owned()).collect())
}

fn span(parties: &BTreeMap<&'static str, Party>) -> Result<(i64, i64), String> {
    let of = |name: &str| parties.get(name).and_then(|party| Some((party.first?, party.last?)));
    let (Some(candidate), Some(stable)) = (of(CANDIDATE), of(STABLE)) else {
        return Err("an arm has no samples".to_owned());
    };
    // What one arm did after the other was gone is no comparison.
    let (first, last) = (candidate.0.max(stable.0), candidate.1.min(stable.1));
    if first >= last {
        return Err("candidate and stable were never recorded at the same time: there is nothing to compare".to_owned());
    }
    Ok((first, last))
}

/// Changes of the exposure as the operator recorded it, the first value included.
fn moves(recording: &Recording, rollout: &str, namespace: Option<&str>) -> Vec<(i64, f64)> {
    let is = |series: &Series, label: &str, wanted: &str| series.labels.get(label).is_some_and(|found| found == wanted);
    let own = |series: &&Arc<Series>| {
        let there = namespace.is_none_or(|namespace| is(series, "exported_namespace", namespace) || is(series, "namespace", namespace));
        is(series, "__name__", EXPOSURE) && is(series, "name", rollout) && there
    };
    let mut moves: Vec<(i64, f64)> = Vec::new();
    let mut samples: Vec<_> = recording.series().filter(own).flat_map(|series| series.samples.iter()).collect();
    samples.sort_by_key(|sample| sample.at);
    for sample in samples {
        if moves.last().is_none_or(|(_, percent)| (percent - sample.value).abs() > 0.5) {
            moves.push((sample.at, sample.value));
        }
    }
    moves
}
