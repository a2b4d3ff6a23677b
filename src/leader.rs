//! Holds the lease: compare-and-swap on every write of it, expiry by the local monotonic clock, and a right to write that ends by itself.
//! Does not fence writes that are on their way; preconditions on every write do. Rules are in [`rollout_core::lease`].

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use rollout_core::lease::{LeaseObservation, LeaseStep, LeaseTimes, LeaseView, evaluate};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::client::{CALL_TIMEOUT, CallError, FIELD_MANAGER, timed};
use crate::clock::Clock;

/// Wait after a write of the lease that somebody else was faster with.
const AFTER_CONFLICT: Duration = Duration::from_millis(100);
/// Longest that giving the lease back may take.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(6);

/// Why the lease cannot be held safely.
#[derive(Debug, Error)]
pub enum LeaderError {
    /// Another replica could lead while our last write is still on its way.
    #[error("the renew deadline {renew_deadline:?} plus the longest call {call:?} must be within the lease duration {duration:?}")]
    Times {
        /// How long a leader goes on without a renewal.
        renew_deadline: Duration,
        /// Longest call.
        call: Duration,
        /// How long others wait.
        duration: Duration,
    },
}

/// The right to write: valid until a moment that only a renewed lease moves on.
#[derive(Clone, Debug)]
pub struct Leadership {
    right: Right,
}

#[derive(Clone, Debug)]
enum Right {
    Always,
    Never,
    Lease { until: Arc<Mutex<Option<Instant>>>, release: mpsc::Sender<oneshot::Sender<()>> },
}

impl Leadership {
    /// For a process that is alone by its deployment, and for tests.
    pub const fn always() -> Self {
        Self { right: Right::Always }
    }

    /// For a process that only reads.
    pub const fn never() -> Self {
        Self { right: Right::Never }
    }

    /// Whether we may write now. To be asked before every write: a process that was frozen finds its time passed when it goes on.
    pub fn may_write(&self) -> bool {
        match &self.right {
            Right::Always => true,
            Right::Never => false,
            Right::Lease { until, .. } => until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until),
        }
    }

    /// Stops writing at once and gives the lease back, so that another replica leads within its next look.
    pub async fn release(&self) {
        let Right::Lease { until, release } = &self.right else { return };
        *until.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let (done, is_done) = oneshot::channel();
        if release.send(done).await.is_ok() && timeout(RELEASE_TIMEOUT, is_done).await.is_err() {
            warn!("the lease was not given back in time; another replica waits for it to expire");
        }
    }
}

/// One process that may lead.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its name in the lease; no two processes may share one, not even one after the other.
    pub identity: String,
    /// The time of day, for what people read of the lease. Nothing is decided by it.
    pub clock: Clock,
}

impl Replica {
    /// This process, in the pod of this name.
    pub fn of(pod: &str) -> Self {
        // A restarted process is another candidate: it must not take the old one's lease for its own.
        Self { identity: format!("{pod}_{:016x}", RandomState::new().build_hasher().finish()), clock: Clock::system() }
    }
}

/// Waits until the lease is ours. The future resolves when it is not ours any more: the process must end then.
pub async fn acquire(
    client: Client,
    namespace: &str,
    name: &str,
    replica: Replica,
) -> Result<(Leadership, BoxFuture<'static, ()>), LeaderError> {
    acquire_within(client, namespace, name, replica, LeaseTimes::default()).await
}

/// [`acquire`] with other times.
pub async fn acquire_within(
    client: Client,
    namespace: &str,
    name: &str,
    replica: Replica,
    times: LeaseTimes,
) -> Result<(Leadership, BoxFuture<'static, ()>), LeaderError> {
    let LeaseTimes { duration, renew_deadline, .. } = times;
    if renew_deadline + CALL_TIMEOUT > duration {
        return Err(LeaderError::Times { renew_deadline, call: CALL_TIMEOUT, duration });
    }
    let mut elector = Elector {
        api: Api::namespaced(client, namespace),
        name: name.to_owned(),
        me: replica.identity,
        clock: replica.clock,
        times,
        seen: None,
    };
    let renewed = elector.acquired().await;
    let until = Arc::new(Mutex::new(Some(renewed + renew_deadline)));
    let (release, released) = mpsc::channel(1);
    let (alive, mut lost) = watch::channel(());
    let shared = Arc::clone(&until);
    tokio::spawn(async move {
        elector.hold(renewed, &shared, released).await;
        *shared.lock().unwrap_or_else(PoisonError::into_inner) = None;
        drop(alive);
    });
    let lost = async move { while lost.changed().await.is_ok() {} }.boxed();
    Ok((Leadership { right: Right::Lease { until, release } }, lost))
}

/// The lease as last read, and since when it has looked so here.
struct Seen {
    lease: Option<Lease>,
    since: Instant,
}

struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    clock: Clock,
    times: LeaseTimes,
    seen: Option<Seen>,
}

impl Elector {
    /// Returns when the lease is ours: the moment at which the write that made it so began.
    async fn acquired(&mut self) -> Instant {
        let mut said = None;
        loop {
            if let Err(error) = self.look(CALL_TIMEOUT).await {
                warn!(lease = self.name, %error, "the lease cannot be read; trying again");
                sleep(self.times.period).await;
                continue;
            }
            let wait = match self.step(None) {
                LeaseStep::Acquire => match self.write(CALL_TIMEOUT).await {
                    Ok(began) => return began,
                    Err(error) if error.is_conflict() || error.category() == "AlreadyExists" => AFTER_CONFLICT,
                    Err(error) => {
                        warn!(lease = self.name, %error, "the lease cannot be written; trying again");
                        self.times.period
                    }
                },
                LeaseStep::Wait(wait) => wait,
                LeaseStep::Renew | LeaseStep::Yield => self.times.period,
            };
            let holder = self.view().and_then(|view| view.holder);
            if holder != said {
                info!(lease = self.name, holder = holder.as_deref().unwrap_or("nobody"), "standing by");
                said = holder;
            }
            sleep(wait).await;
        }
    }

    /// Renews until the lease is lost or given back.
    async fn hold(&mut self, mut renewed: Instant, until: &Mutex<Option<Instant>>, mut released: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut next = renewed + self.times.period;
        loop {
            tokio::select! {
                biased;
                done = released.recv() => {
                    self.give_back().await;
                    if let Some(done) = done {
                        // Nobody may be waiting any more.
                        let _ = done.send(());
                    }
                    return;
                }
                () = sleep_until(next) => {}
            }
            match self.renew(renewed).await {
                Ok(Some(began)) => {
                    renewed = began;
                    let mut until = until.lock().unwrap_or_else(PoisonError::into_inner);
                    // Given back while the renewal was on its way: the right does not come back.
                    if until.is_some() {
                        *until = Some(renewed + self.times.renew_deadline);
                    }
                    next = (renewed + self.times.period).max(Instant::now() + self.times.period / 4);
                }
                Ok(None) => {
                    warn!(lease = self.name, "the lease is lost");
                    return;
                }
                Err(error) => {
                    warn!(lease = self.name, %error, "the lease could not be renewed; trying again until the deadline");
                    next = Instant::now() + self.times.period / 4;
                }
            }
        }
    }

    /// One renewal: when its write began, or `None` when we lead no more.
    async fn renew(&mut self, renewed: Instant) -> Result<Option<Instant>, CallError> {
        for _ in 0..2 {
            let age = renewed.elapsed();
            if self.step(Some(age)) != LeaseStep::Renew {
                return Ok(None);
            }
            let left = self.times.renew_deadline.saturating_sub(age).min(CALL_TIMEOUT);
            match self.write(left).await {
                Ok(began) => return Ok(Some(began)),
                // Also the trace of an own write whose answer was lost.
                Err(error) if error.is_conflict() || error.is_not_found() => self.look(left).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(if self.step(Some(renewed.elapsed())) == LeaseStep::Renew { Some(renewed) } else { None })
    }

    fn view(&self) -> Option<LeaseView> {
        let spec = self.seen.as_ref()?.lease.as_ref()?.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
        Some(LeaseView { holder: spec.and_then(|spec| spec.holder_identity.clone()), duration: seconds.map(Duration::from_secs) })
    }

    fn step(&self, renewed: Option<Duration>) -> LeaseStep {
        let unchanged_for = self.seen.as_ref().map_or(Duration::ZERO, |seen| seen.since.elapsed());
        evaluate(self.view().as_ref(), &self.me, &LeaseObservation { unchanged_for, renewed }, &self.times)
    }

    async fn look(&mut self, limit: Duration) -> Result<(), CallError> {
        let lease = timed(limit, self.api.get_opt(&self.name)).await?;
        let version = |lease: Option<&Lease>| lease.and_then(ResourceExt::resource_version);
        let same = self.seen.as_ref().is_some_and(|seen| version(seen.lease.as_ref()) == version(lease.as_ref()));
        if !same {
            self.seen = Some(Seen { lease, since: Instant::now() });
        }
        Ok(())
    }

    /// Writes the lease as ours if it still is as seen; the moment at which the write began.
    async fn write(&mut self, limit: Duration) -> Result<Instant, CallError> {
        let began = Instant::now();
        let old = self.seen.as_ref().and_then(|seen| seen.lease.clone());
        let spec = old.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let ours = spec.holder_identity.as_deref() == Some(self.me.as_str());
        let now = MicroTime(self.clock.timestamp());
        let spec = LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(self.times.duration.as_secs()).ok(),
            acquire_time: if ours { spec.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(spec.lease_transitions.unwrap_or(0).saturating_add(i32::from(!ours))),
            ..spec
        };
        self.send(old, spec, limit).await.map(|()| began)
    }

    async fn give_back(&mut self) {
        let Some(old) = self.seen.as_ref().and_then(|seen| seen.lease.clone()) else { return };
        let Some(spec) = old.spec.clone().filter(|spec| spec.holder_identity.as_deref() == Some(self.me.as_str())) else { return };
        let spec = LeaseSpec { holder_identity: Some(String::new()), renew_time: Some(MicroTime(self.clock.timestamp())), ..spec };
        match self.send(Some(old), spec, CALL_TIMEOUT).await {
            Ok(()) => info!(lease = self.name, "the lease is given back"),
            Err(error) => warn!(lease = self.name, %error, "the lease could not be given back; it expires by itself"),
        }
    }

    /// Compare-and-swap: the old object's resource version goes with the write, and a new object must not exist yet.
    async fn send(&mut self, old: Option<Lease>, spec: LeaseSpec, limit: Duration) -> Result<(), CallError> {
        let params = PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let written = if let Some(mut lease) = old {
            lease.spec = Some(spec);
            lease.metadata.managed_fields = None;
            timed(limit, self.api.replace(&self.name, &params, &lease)).await?
        } else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            timed(limit, self.api.create(&params, &Lease { metadata, spec: Some(spec) })).await?
        };
        self.seen = Some(Seen { lease: Some(written), since: Instant::now() });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
