//! The rollback lane: one write that takes users off a candidate, out before anything else is read or written, the most users first.
//! It waits for nothing but the API server, works from the route as last seen, and leaves the reason on the route; the reconciler records it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rollout_core::decide;
use rollout_core::verdict::Failure;
use rollout_core::weights::Exposure;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::context::Context;
use crate::gateway;
use crate::tracker::{Key, Watched};

/// Waits between tries; the last one repeats.
const RETRIES: [Duration; 4] = [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(1)];
/// Tries before the reconciler is left alone with it.
const MOST_TRIES: usize = 60;
/// The longest time for which other writes let rollbacks go first: an API server that takes none of them must not stop everything.
const RIGHT_OF_WAY: Duration = Duration::from_secs(20);
/// For how long after the last of many rollbacks others still wait: what makes many candidates fail shows over a scrape interval, and the
/// next ones must not find the API server busy with the records of the first.
const AFTERMATH: Duration = Duration::from_millis(500);

/// Rollbacks on their way.
#[derive(Debug)]
pub struct Lane {
    queue: Mutex<Queue>,
    /// First tries in flight at the same time.
    width: usize,
    /// Turns for what did not work at first.
    retries: Semaphore,
}

#[derive(Debug, Default)]
struct Queue {
    /// What waits, by how many users it concerns and then by age: the last one goes first.
    waiting: BTreeMap<(Exposure, std::cmp::Reverse<u64>), Errand>,
    /// Counts what ever came.
    number: u64,
    /// Who works on the queue.
    workers: usize,
    /// What was not tried once yet, what waits included.
    untried: usize,
    /// Since when there is something that was not tried.
    since: Option<Instant>,
    /// How many came since then.
    burst: usize,
    /// Until when others wait although everything was tried.
    aftermath: Option<Instant>,
}

#[derive(Debug)]
struct Errand {
    key: Key,
    watched: Arc<Watched>,
    failure: Failure,
    sampled: DateTime<Utc>,
}

impl Lane {
    /// An empty lane with this many first tries in flight at the same time, and as many others.
    pub fn new(width: usize) -> Self {
        Self { queue: Mutex::default(), width: width.max(1), retries: Semaphore::new(width.max(1)) }
    }

    /// Whether routes are still to be written by which users leave a candidate. Other writes wait for them, but not for ever.
    pub fn is_busy(&self) -> bool {
        let queue = self.lock();
        queue.since.is_some_and(|since| since.elapsed() < RIGHT_OF_WAY) || queue.aftermath.is_some_and(|end| Instant::now() < end)
    }

    /// Takes errands in; returns how many workers are to be started for them.
    fn take_in(&self, errands: impl IntoIterator<Item = Errand>) -> usize {
        let mut queue = self.lock();
        for errand in errands {
            queue.number += 1;
            queue.untried += 1;
            queue.burst += 1;
            let place = (errand.watched.exposure, std::cmp::Reverse(queue.number));
            queue.waiting.insert(place, errand);
        }
        if queue.untried > 0 && queue.since.is_none() {
            queue.since = Some(Instant::now());
        }
        let started = queue.waiting.len().min(self.width.saturating_sub(queue.workers));
        queue.workers += started;
        started
    }

    /// The next errand, the one with the most users; none ends the worker that asks.
    fn next(&self) -> Option<Errand> {
        let mut queue = self.lock();
        let next = queue.waiting.pop_last().map(|(_, errand)| errand);
        if next.is_none() {
            queue.workers -= 1;
        }
        next
    }

    fn tried(&self) {
        let mut queue = self.lock();
        queue.untried -= 1;
        if queue.untried == 0 {
            queue.since = None;
            // One that comes after many does not end their aftermath.
            if queue.burst > self.width {
                queue.aftermath = Some(Instant::now() + AFTERMATH);
            }
            queue.burst = 0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes all users off these candidates, which failed at the instant `sampled`. Returns at once.
pub fn escape(ctx: &Arc<Context>, failed: impl IntoIterator<Item = (Failure, Key, Arc<Watched>)>, sampled: DateTime<Utc>) {
    let errands = failed.into_iter().map(|(failure, key, watched)| Errand { key, watched, failure, sampled });
    for _ in 0..ctx.lane.take_in(errands) {
        let ctx = Arc::clone(ctx);
        tokio::spawn(async move {
            while let Some(errand) = ctx.lane.next() {
                first_try(&ctx, errand).await;
            }
        });
    }
}

/// One try, after which the worker is free: routes that the API server refuses hold up nobody else's.
async fn first_try(ctx: &Arc<Context>, errand: Errand) {
    let mut live = ctx.stores.route(&errand.key);
    let done = try_once(ctx, &errand, &mut live).await;
    ctx.lane.tried();
    if done {
        ctx.wake(&errand.key);
    } else {
        tokio::spawn(try_again(Arc::clone(ctx), errand));
    }
}

async fn try_again(ctx: Arc<Context>, errand: Errand) {
    for attempt in 0..MOST_TRIES {
        sleep(RETRIES.get(attempt).or(RETRIES.last()).copied().unwrap_or_default()).await;
        let Ok(_turn) = ctx.lane.retries.acquire().await else { return };
        if try_once(&ctx, &errand, &mut None).await {
            return ctx.wake(&errand.key);
        }
    }
    error!(namespace = errand.key.namespace, name = errand.key.name, "the rollback write failed {MOST_TRIES} times");
    ctx.wake(&errand.key);
}

/// Whether there is nothing more to do: the users are off, or were off, or it is another's turn to write.
async fn try_once(ctx: &Context, errand: &Errand, live: &mut Option<serde_json::Value>) -> bool {
    let Errand { key, watched, failure, sampled } = errand;
    if !ctx.leadership.may_write() {
        return true;
    }
    if live.is_none() {
        *live = gateway::get(&ctx.client, &key.namespace, &ctx.stores.route_name(key)).await.ok().flatten();
    }
    let number = i32::try_from(watched.attempt).unwrap_or(i32::MAX);
    let write =
        live.as_ref().and_then(|live| decide::escape(live, &watched.candidate, &watched.stable, number, &watched.sequence, failure));
    let Some(write) = write else { return true };
    match gateway::replace(&ctx.client, write.object()).await {
        Ok(_) => {
            let took = ctx.clock.now() - *sampled;
            ctx.metrics.rolled_back(took.to_std().unwrap_or_default());
            info!(
                namespace = key.namespace, name = key.name, revision = %watched.candidate.revision, exposure = watched.exposure.percent(),
                guardrail = failure.guardrail, reason = failure.reason, milliseconds = took.num_milliseconds(),
                "users are off the candidate: {}", failure.message
            );
            true
        }
        Err(problem) => {
            warn!(namespace = key.namespace, name = key.name, error = %problem, "the rollback write failed; trying again");
            *live = None;
            false
        }
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
