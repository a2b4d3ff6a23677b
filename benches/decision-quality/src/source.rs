//! The two ways in which samples reach Espalier: straight into the library, or through a Prometheus and the operator's client for it.
//! Both tell of the same scrapes; neither counts anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rollout_core::evidence::{Arms, Query, Readings};
use rollout_core::plan::Plan;

use crate::feed::{self, Feed};
use crate::pod::Pod;
use crate::scenario::Scenario;
use crate::wire::Wire;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Through {
    /// Straight into the library.
    Library,
    /// Through a server's HTTP API.
    Http,
}

/// Samples of one run.
pub enum Source {
    /// Kept as the library wants them.
    Library(Feed),
    /// Asked for at every instant.
    Http {
        /// Server and client.
        wire: Box<Wire>,
        /// The arms as of the last instant.
        arms: Arms,
        /// The answers of the last instant.
        readings: Arc<Readings>,
    },
}

impl Source {
    /// No samples yet.
    pub fn open(through: Through, scenario: &Scenario, plan: &Plan, pods: &[Pod]) -> anyhow::Result<Self> {
        Ok(match through {
            Through::Library => Self::Library(Feed::new(scenario, plan, pods)),
            Through::Http => {
                let wire = Box::new(Wire::open(scenario, plan, pods)?);
                Self::Http { wire, arms: feed::arms(pods), readings: Arc::default() }
            }
        })
    }

    /// Takes what the last step's scrapes brought.
    pub fn store(&mut self, pods: &[Pod]) {
        match self {
            Self::Library(feed) => feed.take(pods),
            Self::Http { wire, arms, .. } => {
                wire.take(pods);
                *arms = feed::arms(pods);
            }
        }
    }

    /// The same, and asks what is known of it at `now`.
    pub fn take(&mut self, pods: &[Pod], now: DateTime<Utc>) -> anyhow::Result<()> {
        self.store(pods);
        if let Self::Http { wire, readings, .. } = self {
            *readings = wire.readings(now)?;
        }
        Ok(())
    }

    /// The samples of a long range; the library's own source keeps none.
    pub fn range(&self, queries: &BTreeSet<Query>, from: DateTime<Utc>, to: DateTime<Utc>) -> anyhow::Result<Readings> {
        match self {
            Self::Library(_) => Ok(Readings::new()),
            Self::Http { wire, .. } => wire.range(queries, from, to),
        }
    }

    /// The two arms.
    pub const fn arms(&self) -> &Arms {
        match self {
            Self::Library(feed) => &feed.arms,
            Self::Http { arms, .. } => arms,
        }
    }

    /// The answers to the plan's queries.
    pub fn readings(&self) -> &Readings {
        match self {
            Self::Library(feed) => &feed.readings,
            Self::Http { readings, .. } => readings,
        }
    }
}
