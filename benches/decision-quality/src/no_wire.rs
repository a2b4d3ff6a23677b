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

/// There is none.
pub enum Wire {}

impl Wire {
    /// Always an error.
    pub fn open(_: &Scenario, _: &Plan, _: &[Pod]) -> anyhow::Result<Self> {
        bail!("this build has no way through HTTP: build it with the feature http, or ask for --http-runs 0")
    }

    /// Nothing can call it.
    pub fn take(&self, _: &[Pod]) {
        match *self {}
    }

    /// Nothing can call it.
    pub fn readings(&self, _: DateTime<Utc>) -> anyhow::Result<Arc<Readings>> {
        match *self {}
    }

    /// Nothing can call it.
    pub fn range(&self, _: &BTreeSet<Query>, _: DateTime<Utc>, _: DateTime<Utc>) -> anyhow::Result<Readings> {
        match *self {}
    }
}
