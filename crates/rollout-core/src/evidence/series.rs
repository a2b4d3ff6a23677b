//! What the shell hands in: raw series per query, and how the series of each arm are recognised.
//! Holds no state and asks nothing; [`super::query`] says what to ask, [`super::sift`] reads the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::query::REVISION_LABEL;
use crate::plan::Selector;
use crate::revision::RevisionId;
use crate::verdict::Unmeasurable;

/// One raw sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Unix milliseconds, as scraped.
    pub at: i64,
    /// The value.
    pub value: f64,
}

/// One raw series: its labels and its samples, oldest first. Samples after the instant in question are ignored, so one long answer serves a replay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Labels, with or without `__name__`. Every metric of a pod has the same ones, at every instant anew: who reads many shares them.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Raw samples, oldest first.
    pub samples: Vec<Sample>,
}

impl Series {
    /// The value of a label, empty when it is not there.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Samples at or before `instant`, oldest first.
    pub(super) fn until(&self, instant: i64) -> &[Sample] {
        self.samples.get(..known(&self.samples, instant)).unwrap_or_default()
    }

    /// The newest sample at or before `instant`.
    pub(super) fn newest(&self, instant: i64) -> Option<Sample> {
        self.until(instant).last().copied()
    }
}

/// How many samples are at or before `instant`. Scrapes are even, so a replay of days finds its place near where it should be.
fn known(samples: &[Sample], instant: i64) -> usize {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return 0 };
    if last.at <= instant {
        return samples.len();
    }
    if first.at > instant {
        return 0;
    }
    let share = (instant - first.at) as f64 / (last.at - first.at) as f64;
    // A share below 1 of a length.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let guess = (share * (samples.len() - 1) as f64) as usize;
    let is_known = |index: usize| samples.get(index).is_some_and(|sample| sample.at <= instant);
    let (mut low, mut high, mut reach) = (guess, guess + 1, 1);
    while low > 0 && !is_known(low) {
        (high, low, reach) = (low, low.saturating_sub(reach), reach * 2);
    }
    while is_known(high) {
        (low, high, reach) = (high, high + reach, reach * 2);
    }
    let high = high.min(samples.len());
    low + samples.get(low..high).unwrap_or_default().partition_point(|sample| sample.at <= instant)
}

/// The answer to one query at one instant, shared by all rollouts that asked it.
#[derive(Clone, Debug)]
pub enum Reading {
    /// The series that matched, possibly none.
    Series(Vec<Arc<Series>>),
    /// No usable answer, and why.
    Failed(Unmeasurable),
}

/// An instant selector as it is sent, without a range; the shell appends the range of [`super::Evidence::lookback`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Query(String);

impl Query {
    /// A query by its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text to send.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it asks for the series of every revision, told apart by [`REVISION_LABEL`] alone.
    pub fn is_of_every_revision(&self) -> bool {
        self.0.strip_suffix("!=\"\"}").is_some_and(|head| head.ends_with(REVISION_LABEL))
    }

    /// The same for the series of these revisions, where it asks for those of every revision; for what few rollouts share, such as the past.
    #[must_use]
    pub fn of_revisions<'a>(&self, revisions: impl IntoIterator<Item = &'a RevisionId>) -> Self {
        let names: BTreeSet<&str> = revisions.into_iter().map(RevisionId::as_str).collect();
        let (sign, names) = (if names.len() == 1 { "=" } else { "=~" }, names.into_iter().collect::<Vec<_>>().join("|"));
        Self(self.0.replace(&format!("{REVISION_LABEL}!=\"\""), &format!("{REVISION_LABEL}{sign}\"{names}\"")))
    }

    /// What it selects; `None` when the text is no selector, which those of the evidence always are.
    pub fn selector(&self) -> Option<Selector> {
        crate::quantity::selector(&self.0)
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All answers of one instant.
pub type Readings = BTreeMap<Query, Reading>;

/// How the series of one arm are recognised.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arm {
    /// Namespace of its pods.
    pub namespace: String,
    /// The revision that its pods carry as `espalier_dev_revision`; none, or the baseline's, for a workload that the user runs.
    pub revision: Option<RevisionId>,
    /// Names of its pods.
    pub pods: BTreeSet<String>,
    /// Labels that pick out its series when its pods do not carry the revision; empty for the default.
    pub matchers: BTreeMap<String, String>,
    /// `namespace_service_port` in a gateway's metrics.
    pub backend: Option<String>,
    /// Pods that were created after the attempt started: their counters count from 0.
    pub young: BTreeSet<String>,
}

/// The arms of one rollout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arms {
    /// Name of the rollout, as its pods carry it in `espalier_dev_rollout`.
    pub rollout: String,
    /// What is on trial.
    pub candidate: Arm,
    /// What serves; in an A/B test its `backend` is the control backend.
    pub stable: Arm,
    /// The original model, when it is not what serves.
    pub baseline: Option<Arm>,
}

/// The part an arm plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Role {
    Candidate,
    Stable,
    Baseline,
}

impl Role {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Candidate => "the candidate",
            Self::Stable => "stable",
            Self::Baseline => "the baseline",
        }
    }
}

impl Arms {
    /// The arm of a role; the baseline is stable itself while the original model still serves.
    pub(super) fn of(&self, role: Role) -> Result<&Arm, Unmeasurable> {
        match (role, &self.baseline) {
            (Role::Candidate, _) => Ok(&self.candidate),
            (Role::Stable, _) => Ok(&self.stable),
            (Role::Baseline, Some(arm)) => Ok(arm),
            (Role::Baseline, None) if self.stable.revision.as_ref().is_none_or(RevisionId::is_baseline) => Ok(&self.stable),
            (Role::Baseline, None) => {
                Err(Unmeasurable::NotComparable { message: "a bound compares with the baseline, but no baseline is running".into() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_sample_is_found_however_uneven_the_scrapes_are() {
        let even: Vec<i64> = (0..500).map(|n| n * 15_000).collect();
        let gaps: Vec<i64> = (0..300_i64).map(|n| n * n * 37 + if n > 150 { 86_400_000 } else { 0 }).collect();
        for times in [vec![], vec![7], vec![7, 7, 7], even, gaps] {
            let samples: Vec<Sample> = times.iter().map(|at| Sample { at: *at, value: 0.0 }).collect();
            for instant in times.iter().flat_map(|at| [at - 1, *at, at + 1, at + 40_000_000]).chain([-5]) {
                assert_eq!(known(&samples, instant), samples.partition_point(|s| s.at <= instant), "{instant} of {}", samples.len());
            }
        }
    }

    #[test]
    fn the_past_of_one_revision_is_asked_for_without_that_of_all_others() {
        let every = Query::new(r#"errors_total{code=~"5..",espalier_dev_revision!=""}"#);
        let (first, other) = (RevisionId::new("3f0c"), RevisionId::new("1a2b"));
        assert_eq!(every.of_revisions([&first]).as_str(), r#"errors_total{code=~"5..",espalier_dev_revision="3f0c"}"#);
        let both = every.of_revisions([&first, &other, &first]);
        assert_eq!(both.as_str(), r#"errors_total{code=~"5..",espalier_dev_revision=~"1a2b|3f0c"}"#);
        let pods = Query::new(r#"power{exported_pod!=""}"#);
        assert_eq!(pods.of_revisions([&first]), pods);
    }
}
