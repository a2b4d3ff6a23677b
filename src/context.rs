//! What every part of the shell shares: clients, stores, the tracker, leadership, and the way to wake the reconciler.
//! Holds things together; does nothing with them.

use std::sync::Arc;

use kube::Client;
use kube::runtime::reflector::ObjectRef;
use rollout_core::observed::Observed;
use tokio::sync::mpsc;

use crate::card::Card;
use crate::clock::{Clock, Tenure};
use crate::config::Config;
use crate::events::Events;
use crate::first::FirstLooks;
use crate::lane::Lane;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::prometheus::{SecretSource, Servers};
use crate::server::Heartbeats;
use crate::stores::Stores;
use crate::tracker::{Key, Tracker};
use crate::workload::Owner;

/// Rollouts that wait to be looked at before their time; what does not fit is looked at by its timer.
pub const WAKE_QUEUE: usize = 4096;

/// Shared by all tasks.
pub struct Context {
    /// Talks to the API server.
    pub client: Client,
    /// The time of day.
    pub clock: Clock,
    /// Since when this process acts by this clock.
    pub tenure: Tenure,
    /// How the operator was started.
    pub config: Config,
    /// What watches keep.
    pub stores: Arc<Stores>,
    /// Evidence of watched rollouts.
    pub tracker: Tracker,
    /// Prometheus servers in use.
    pub servers: Servers,
    /// Where credentials come from.
    pub secrets: SecretSource,
    /// Our own metrics.
    pub metrics: Arc<Metrics>,
    /// Where events go.
    pub events: Events,
    /// Whether we may write.
    pub leadership: Leadership,
    /// Signs of life of the loops.
    pub beats: Heartbeats,
    /// Who is looked at first after a start.
    pub first: FirstLooks,
    /// Rollbacks on their way.
    pub lane: Lane,
    /// Wakes the reconciler.
    pub wake: mpsc::Sender<ObjectRef<Card>>,
}

impl Context {
    /// Has the reconciler look at this rollout now. Never waits.
    pub fn wake(&self, key: &Key) {
        if self.wake.try_send(ObjectRef::new(&key.name).within(&key.namespace)).is_err() {
            self.metrics.dropped_wake();
        }
    }

    /// Lets go of everything that is kept of a rollout that is gone.
    pub fn forget(&self, key: &Key) {
        self.tracker.forget(key);
        self.first.had(key);
        self.metrics.forget(&key.namespace, &key.name);
    }
}

/// The rollout as the owner of its children.
pub fn owner(observed: &Observed) -> Owner {
    Owner { namespace: observed.namespace.clone(), name: observed.name.clone(), uid: observed.uid.clone() }
}
