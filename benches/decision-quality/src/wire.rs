//! Espalier's samples by way of HTTP: the operator's own Prometheus client asks a server that has scraped the same pods.
//! An answer that fails is an error of the benchmark, not a measurement: it ends the run with words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use ::espalier::prometheus::{Server, Servers};
use anyhow::{Context as _, bail};
use chrono::{DateTime, TimeDelta, Utc};
use rollout_core::evidence::{Evidence, Query, Reading, Readings};
use rollout_core::plan::Plan;
use tokio::runtime::{Builder, Runtime};

use crate::fake::{self, Shared, Store};
use crate::feed::{self, NAMESPACE};
use crate::pod::Pod;
use crate::scenario::Scenario;

/// A server that holds the world's scrapes, and the operator's client for it.
pub struct Wire {
    runtime: Runtime,
    store: Shared,
    server: Server,
    servers: Servers,
    asked: BTreeMap<String, BTreeSet<Query>>,
    lookback: TimeDelta,
}

impl Wire {
    /// A server without samples, listening on this machine's loopback.
    pub fn open(scenario: &Scenario, plan: &Plan, pods: &[Pod]) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("no runtime for the server")?;
        let store: Shared = Arc::new(Store::new(scenario.columns()).into());
        let address = runtime.block_on(fake::serve(Arc::clone(&store))).context("no port for the server")?;
        let queries = Evidence::queries(plan, &feed::arms(pods));
        Ok(Self {
            runtime,
            store,
            server: Server::plain(&format!("http://{address}")).context("the server's own address")?,
            servers: Servers::default(),
            asked: BTreeMap::from([(NAMESPACE.to_owned(), queries)]),
            lookback: Evidence::lookback(plan),
        })
    }

    /// Stores what the last step's scrapes brought.
    pub fn take(&self, pods: &[Pod]) {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).take(pods);
    }

    /// The answers to the plan's queries at an instant.
    pub fn readings(&self, at: DateTime<Utc>) -> anyhow::Result<Arc<Readings>> {
        let gathered = self.runtime.block_on(self.servers.gather(&self.server, &self.asked, at, self.lookback));
        let readings = gathered.for_namespace(NAMESPACE);
        answered(&readings)?;
        Ok(readings)
    }

    /// The samples of a long range, as the operator asks for them after a restart.
    pub fn range(&self, queries: &BTreeSet<Query>, from: DateTime<Utc>, to: DateTime<Utc>) -> anyhow::Result<Readings> {
        let readings = self.runtime.block_on(self.servers.history(&self.server, queries, from, to));
        answered(&readings)?;
        Ok(readings)
    }
}

fn answered(readings: &Readings) -> anyhow::Result<()> {
    for (query, reading) in readings {
        if let Reading::Failed(reason) = reading {
            bail!("{query} was not answered: {reason}");
        }
    }
    Ok(())
}
