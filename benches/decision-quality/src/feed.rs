//! Hands scrapes to the operator's own evidence in the form in which Prometheus would: raw series per query, with labels and timestamps.
//! Counts nothing and differences nothing; that is `rollout_core`'s work, and the benchmark must not do it for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollout_core::evidence::{Arm, Arms, Evidence, Query, Reading, Readings, Sample, Series};
use rollout_core::plan::Plan;
use rollout_core::revision::RevisionId;

use crate::pod::Pod;
use crate::scenario::{Scenario, Side};

/// Revision of the candidate.
pub const CANDIDATE: &str = "bbbbbbbb";
const STABLE: &str = "aaaaaaaa";
/// Namespace and name of the rollout.
pub const NAMESPACE: &str = "bench";
/// Samples kept of each series: more than the lookback reaches.
const KEPT: usize = 24;

/// Raw series, kept up to date.
pub struct Feed {
    /// The answers to the plan's queries.
    pub readings: Readings,
    /// The two arms.
    pub arms: Arms,
    columns: BTreeMap<Query, usize>,
    generations: Vec<u32>,
}

impl Feed {
    /// Series without samples for all pods.
    pub fn new(scenario: &Scenario, plan: &Plan, pods: &[Pod]) -> Self {
        let arms = arms(pods);
        let names = scenario.columns();
        let columns: BTreeMap<Query, usize> = Evidence::queries(plan, &arms)
            .into_iter()
            .filter_map(|query| {
                let metric = query.as_str().split('{').next().unwrap_or_default();
                let column = names.iter().position(|name| name == metric)?;
                Some((query, column))
            })
            .collect();
        let readings =
            columns.keys().map(|query| (query.clone(), Reading::Series(pods.iter().map(|pod| Arc::new(series(pod))).collect()))).collect();
        Self { readings, arms, columns, generations: pods.iter().map(|pod| pod.generation).collect() }
    }

    /// Takes what the last step's scrapes brought.
    pub fn take(&mut self, pods: &[Pod]) {
        let renewed: Vec<bool> = pods.iter().zip(&self.generations).map(|(pod, before)| pod.generation != *before).collect();
        if renewed.contains(&true) {
            self.arms = arms(pods);
            self.generations = pods.iter().map(|pod| pod.generation).collect();
        }
        for (query, reading) in &mut self.readings {
            let (Some(column), Reading::Series(list)) = (self.columns.get(query), reading) else { continue };
            for ((pod, renewed), one) in pods.iter().zip(&renewed).zip(list) {
                if *renewed {
                    *one = Arc::new(series(pod));
                }
                let samples = &mut Arc::make_mut(one).samples;
                let new = pod.delivered.iter();
                samples.extend(new.filter_map(|scrape| Some(Sample { at: scrape.at, value: *scrape.values.get(*column)? })));
                if samples.len() > KEPT {
                    samples.drain(..samples.len() - KEPT / 2);
                }
            }
        }
    }
}

/// Revision of an arm's pods.
pub const fn revision(side: Side) -> &'static str {
    match side {
        Side::Champion => STABLE,
        Side::Candidate => CANDIDATE,
    }
}

fn series(pod: &Pod) -> Series {
    let labels = [("espalier_dev_revision", revision(pod.side).to_owned()), ("pod", pod.name())];
    Series { labels: Arc::new(labels.into_iter().map(|(label, value)| (label.to_owned(), value)).collect()), samples: Vec::new() }
}

/// The arms as the cluster would show them.
pub fn arms(pods: &[Pod]) -> Arms {
    let arm = |side: Side| {
        let own = || pods.iter().filter(move |pod| pod.side == side);
        Arm {
            namespace: NAMESPACE.into(),
            revision: Some(RevisionId::new(revision(side))),
            pods: own().map(Pod::name).collect(),
            young: own().filter(|pod| pod.generation > 0).map(Pod::name).collect(),
            ..Arm::default()
        }
    };
    Arms { rollout: NAMESPACE.into(), candidate: arm(Side::Candidate), stable: arm(Side::Champion), baseline: None }
}
