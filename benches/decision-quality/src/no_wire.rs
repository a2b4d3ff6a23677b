//! Stands in for the way through HTTP where the benchmark was built without it: says so when asked.
//! Never holds a sample.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::bail;
use chrono::{DateTime, Utc};
use rollout_core::evidence::{Query, Readings};
use rollout_core::plan::Plan;

use crate::pod::Pod;
use crate::scenario::Scenario;

/// No way.
pub struct Wire(());

impl Wire {
    /// Always an error.
    pub fn open(_: &Scenario, _: &Plan, _: &[Pod]) -> anyhow::Result<Self> {
        bail!("this build has no way through HTTP: build it with the feature http, or ask for --http-runs 0")
    }

    /// Stores nothing.
    pub fn take(&self, _: &[Pod]) {}

    /// No answers.
    pub fn readings(&self, _: DateTime<Utc>) -> anyhow::Result<Arc<Readings>> {
        Ok(Arc::default())
    }

    /// No samples.
    pub fn range(&self, _: &BTreeSet<Query>, _: DateTime<Utc>, _: DateTime<Utc>) -> anyhow::Result<Readings> {
        Ok(Readings::new())
    }
}
