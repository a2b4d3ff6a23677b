//! The answers of one server at one instant, and who sees which of their series: thousands of rollouts share an answer, and each reads a few.
//! Asks nothing. What is left out is plainly another's; whether a series belongs to an arm is still for the reader to decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use chrono::{DateTime, Utc};
use rollout_core::evidence::{Arms, Query, REVISION_LABEL, ROLLOUT_LABEL, Reading, Readings, Series};

use crate::index::mark;

/// Answers of one server at one instant.
#[derive(Debug)]
pub struct Gathered {
    /// The instant that was asked for.
    pub at: DateTime<Utc>,
    readings: Readings,
    asked: BTreeMap<String, BTreeSet<Query>>,
    shelves: OnceLock<BTreeMap<Query, Shelf>>,
    views: Mutex<BTreeMap<String, Arc<Readings>>>,
    owners: OnceLock<BTreeMap<Query, Owners>>,
}

/// Positions of one reading's series: by the namespaces that they name, and those that name none.
#[derive(Debug, Default)]
struct Shelf {
    by_namespace: BTreeMap<String, Vec<usize>>,
    for_all: Vec<usize>,
}

/// Positions of one reading's series by the rollout and the revision that they name, as sorted hashes of both.
#[derive(Debug)]
struct Owners(Vec<(u64, usize)>);

impl Gathered {
    pub(super) fn of(at: DateTime<Utc>, readings: Readings, asked: &BTreeMap<String, BTreeSet<Query>>) -> Self {
        Self { at, readings, asked: asked.clone(), shelves: OnceLock::new(), views: Mutex::default(), owners: OnceLock::new() }
    }

    /// How many samples there are in all.
    pub fn samples(&self) -> usize {
        let count = |reading: &Reading| match reading {
            Reading::Series(series) => series.iter().map(|one| one.samples.len()).sum(),
            Reading::Failed(_) => 0,
        };
        self.readings.values().map(count).sum()
    }

    /// The readings that `namespace` asked for, with the series that may be its own.
    ///
    /// Series that plainly belong to other namespaces are left out, so that hundreds of rollouts do not each look at all
    /// series. Whether a series belongs to an arm is still for the reader to decide. Made once per namespace, then shared.
    pub fn for_namespace(&self, namespace: &str) -> Arc<Readings> {
        if let Some(view) = self.views.lock().unwrap_or_else(PoisonError::into_inner).get(namespace) {
            return Arc::clone(view);
        }
        let shelves = self.shelves.get_or_init(|| self.sort());
        let wanted = self.asked.get(namespace).into_iter().flatten();
        let view: Readings = wanted
            .filter_map(|query| {
                let reading = match (self.readings.get(query)?, shelves.get(query)) {
                    (Reading::Series(series), Some(shelf)) => Reading::Series(shelf.pick(namespace, series)),
                    (reading, _) => reading.clone(),
                };
                Some((query.clone(), reading))
            })
            .collect();
        let view = Arc::new(view);
        self.views.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace.to_owned(), Arc::clone(&view));
        view
    }

    /// The readings that a rollout with these `arms` asked for, with the series that may be its own: of thousands in its namespace a few.
    ///
    /// A guardrail that looks at series of others too, such as at whose devices are shared, needs [`Self::for_namespace`].
    pub fn for_arms(&self, arms: &Arms) -> Readings {
        let owners = self.owners.get_or_init(|| self.by_owner());
        let wanted = self.asked.get(&arms.candidate.namespace).into_iter().flatten();
        wanted
            .filter_map(|query| {
                let reading = match (self.readings.get(query)?, owners.get(query)) {
                    (Reading::Series(series), Some(owners)) => Reading::Series(owners.pick(arms, series)),
                    (reading, _) => reading.clone(),
                };
                Some((query.clone(), reading))
            })
            .collect()
    }

    fn by_owner(&self) -> BTreeMap<Query, Owners> {
        let of = |(query, reading): (&Query, &Reading)| match reading {
            Reading::Series(series) if query.is_of_every_revision() => Some((query.clone(), Owners::of(series))),
            _ => None,
        };
        self.readings.iter().filter_map(of).collect()
    }

    /// How each query ended: `ok`, or the category of what went wrong.
    pub fn outcomes(&self) -> impl Iterator<Item = &'static str> {
        self.readings.values().map(|reading| match reading {
            Reading::Series(_) => "ok",
            Reading::Failed(problem) => problem.category(),
        })
    }

    /// Every reading, unfiltered.
    pub const fn readings(&self) -> &Readings {
        &self.readings
    }

    fn sort(&self) -> BTreeMap<Query, Shelf> {
        self.readings
            .iter()
            .filter_map(|(query, reading)| match reading {
                // Only default arms end in "any workload with this label"; arms with matchers of their own may be anywhere.
                Reading::Series(series) if query.as_str().ends_with("!=\"\"}") => Some((query.clone(), self.shelve(series))),
                _ => None,
            })
            .collect()
    }

    fn shelve(&self, series: &[Arc<Series>]) -> Shelf {
        let mut shelf = Shelf::default();
        for (position, one) in series.iter().enumerate() {
            let Some(claimants) = self.claimants(one) else {
                shelf.for_all.push(position);
                continue;
            };
            for namespace in claimants {
                shelf.by_namespace.entry(namespace.clone()).or_default().push(position);
            }
        }
        shelf
    }

    /// The asking namespaces that `series` may belong to; `None` when it does not say.
    ///
    /// It says so by `namespace`, by `exported_namespace`, or by the head of a gateway's `namespace_service_port`; an exporter's series that
    /// names a pod but not that pod's namespace says nothing.
    fn claimants(&self, series: &Series) -> Option<BTreeSet<&String>> {
        let label = |name: &str| series.labels.get(name).map(String::as_str);
        let (scraped, exported) = (label("namespace"), label("exported_namespace"));
        let unsaid = exported.is_none() && series.labels.keys().any(|name| name.starts_with("exported_"));
        if unsaid || (scraped.is_none() && exported.is_none()) {
            return None;
        }
        let heads = series.labels.values().filter_map(|value| value.split_once('_').map(|(head, _)| head));
        let named = scraped.into_iter().chain(exported).chain(heads);
        Some(named.filter_map(|name| self.asked.get_key_value(name).map(|(namespace, _)| namespace)).collect())
    }
}

impl Owners {
    fn of(series: &[Arc<Series>]) -> Self {
        let label = |one: &Series, name: &str| one.labels.get(name).map_or(0, |value| mark(value));
        let key = |one: &Arc<Series>| label(one, ROLLOUT_LABEL).rotate_left(1) ^ label(one, REVISION_LABEL);
        let mut positions: Vec<(u64, usize)> = series.iter().enumerate().map(|(position, one)| (key(one), position)).collect();
        positions.sort_unstable();
        Self(positions)
    }

    /// Series that name a revision of `arms` and their rollout, or no rollout at all: what is not said contradicts nobody.
    fn pick(&self, arms: &Arms, series: &[Arc<Series>]) -> Vec<Arc<Series>> {
        let revisions = [Some(&arms.candidate), Some(&arms.stable), arms.baseline.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|arm| arm.revision.as_ref());
        let revisions: BTreeSet<u64> = revisions.map(|revision| mark(revision.as_str())).collect();
        let mut picked: Vec<usize> = Vec::new();
        for revision in revisions {
            for rollout in [mark(&arms.rollout), 0] {
                let key = rollout.rotate_left(1) ^ revision;
                let from = self.0.partition_point(|(other, _)| *other < key);
                let own = self.0.iter().skip(from).take_while(|(other, _)| *other == key);
                picked.extend(own.map(|(_, position)| *position));
            }
        }
        // In the order of the answer, as if nothing had been left out.
        picked.sort_unstable();
        picked.dedup();
        picked.into_iter().filter_map(|position| series.get(position).map(Arc::clone)).collect()
    }
}

impl Shelf {
    fn pick(&self, namespace: &str, series: &[Arc<Series>]) -> Vec<Arc<Series>> {
        let own = self.by_namespace.get(namespace).into_iter().flatten();
        own.chain(&self.for_all).filter_map(|&position| series.get(position).map(Arc::clone)).collect()
    }
}

#[cfg(test)]
mod tests {
    use rollout_core::evidence::{Arm, Sample};
    use rollout_core::revision::RevisionId;

    use super::*;

    fn gathered(text: &str, labels: &[&[(&str, &str)]]) -> Gathered {
        let series = labels.iter().zip(0_i32..).map(|(labels, number)| {
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Arc::new(Series { labels: Arc::new(labels), samples: vec![Sample { at: 0, value: f64::from(number) }] })
        });
        let query = Query::new(text);
        let asked = BTreeMap::from([("ml".to_owned(), BTreeSet::from([query.clone()]))]);
        Gathered::of(DateTime::UNIX_EPOCH, Readings::from([(query, Reading::Series(series.collect()))]), &asked)
    }

    fn seen(gathered: &Gathered, rollout: &str, candidate: &str, stable: &str) -> Vec<f64> {
        let arm = |revision: &str| Arm { namespace: "ml".into(), revision: Some(RevisionId::new(revision)), ..Arm::default() };
        let arms = Arms { rollout: rollout.into(), candidate: arm(candidate), stable: arm(stable), baseline: None };
        let readings = gathered.for_arms(&arms);
        assert_eq!(readings.len(), 1);
        let Some(Reading::Series(series)) = readings.values().next() else { panic!("a reading is missing") };
        series.iter().map(|one| one.samples[0].value).collect()
    }

    const R: &str = "espalier_dev_revision";
    const N: &str = "espalier_dev_rollout";

    #[test]
    fn a_rollout_sees_the_series_of_its_own_revisions_and_those_that_name_no_rollout() {
        let all: [&[(&str, &str)]; 6] = [
            &[(R, "b"), (N, "one")],
            &[(R, "b"), (N, "two")],
            &[(R, "b")],
            &[(R, "a"), (N, "one")],
            &[(R, "c"), (N, "one")],
            &[("pod", "p")],
        ];
        let gathered = gathered(r#"errors_total{espalier_dev_revision!=""}"#, &all);
        assert_eq!(seen(&gathered, "one", "b", "a"), [0.0, 2.0, 3.0], "in the order of the answer");
        assert_eq!(seen(&gathered, "two", "b", "a"), [1.0, 2.0]);
        assert_eq!(seen(&gathered, "two", "a", "a"), Vec::<f64>::new());
    }

    #[test]
    fn what_is_not_told_apart_by_the_revision_alone_is_seen_whole() {
        let all: [&[(&str, &str)]; 2] = [&[(R, "b"), (N, "one")], &[(R, "x"), (N, "two")]];
        for text in [r#"up{job="legacy"}"#, r#"power{exported_pod!=""}"#, r#"shares{espalier_dev_revision=""}"#] {
            assert_eq!(seen(&gathered(text, &all), "one", "b", "a"), [0.0, 1.0], "{text}");
        }
    }
}
