//! All queries of one instant for all rollouts of a server, sent once each.
//! A server that is down is asked once per gathering until it is back; nothing here judges a sample.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use rollout_core::evidence::{Query, Reading, Readings, Sample, Series};
use rollout_core::verdict::Unmeasurable;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{info, warn};

use super::answer::Failure;
use super::client::{BODY_LIMIT, Client, Exchange};
use super::gathered::Gathered;
use super::labels::Labels;
use super::server::{Server, ServerError};

/// Requests about instants in flight per server, when nothing else is said.
const AT_ONCE: usize = 16;
/// Requests about the past in flight per server beside them: together what Prometheus runs at once if nobody says otherwise.
const PAST_AT_ONCE: usize = 4;
/// Least time between two tries on a server that is down.
const REST: Duration = Duration::from_millis(900);
/// So many failures in a row, and the rest of a gathering is not sent.
const GIVE_UP: usize = 4;
/// Range of one request for history; halved while the answer is too large.
const HISTORY_CHUNK: TimeDelta = TimeDelta::hours(2);
/// Shortest range of one request for history.
const HISTORY_LEAST: TimeDelta = TimeDelta::minutes(1);

/// Every server that some rollout uses, one client each.
pub struct Servers {
    exchange: Option<Arc<dyn Exchange>>,
    links: Mutex<BTreeMap<Server, Arc<Link>>>,
    at_once: usize,
    past_at_once: usize,
    body_limit: usize,
    rest: Duration,
}

/// How a server is doing, for metrics and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Address of the server.
    pub address: String,
    /// Whether the last gathering about an instant got any answer.
    pub up: bool,
    /// Queries answered since the start, with a result or with a refusal.
    pub answered: u64,
    /// Queries that got no answer since the start, those not sent while it is down included.
    pub failed: u64,
    /// Why it is down.
    pub problem: Option<String>,
}

#[derive(Debug)]
struct Link {
    client: Client,
    /// Labels in the answers about instants.
    labels: Labels,
    rest: Duration,
    /// Questions about instants.
    instants: Queue,
    /// Questions about the past. They wait for each other alone and learn from each other alone: a server that takes too long for hours of
    /// samples is still asked who must go now.
    past: Queue,
}

/// Questions of one kind to one server.
#[derive(Debug)]
struct Queue {
    permits: Semaphore,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    down: Option<Down>,
    answered: u64,
    failed: u64,
    /// Which query is the next probe: a single bad query must not keep the server down.
    probes: usize,
}

#[derive(Clone, Debug)]
struct Down {
    reason: Unmeasurable,
    tried: Instant,
}

/// What happened to the queries of one gathering so far.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicUsize,
    failed: AtomicUsize,
    /// Failures since the last answer.
    streak: AtomicUsize,
    reason: Mutex<Option<Unmeasurable>>,
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers").field("links", &self.links).field("at_once", &self.at_once).finish_non_exhaustive()
    }
}

impl Default for Servers {
    fn default() -> Self {
        Self { past_at_once: PAST_AT_ONCE, ..Self::new(AT_ONCE) }
    }
}

impl Servers {
    /// No server yet; at most `at_once` requests about instants in flight per server, and as many about the past.
    pub fn new(at_once: usize) -> Self {
        let at_once = at_once.max(1);
        Self { exchange: None, links: Mutex::default(), at_once, past_at_once: at_once, body_limit: BODY_LIMIT, rest: REST }
    }

    /// No server yet, and `exchange` in place of HTTP.
    pub fn instead(exchange: Arc<dyn Exchange>) -> Self {
        Self { exchange: Some(exchange), ..Self::default() }
    }

    /// What every query of `asked` (by namespace) gives at `at`: the raw samples of the `lookback` before it.
    ///
    /// Each distinct query is sent once, however many namespaces ask it. Never fails: what is not known is [`Reading::Failed`].
    pub async fn gather(
        &self,
        server: &Server,
        asked: &BTreeMap<String, BTreeSet<Query>>,
        at: DateTime<Utc>,
        lookback: TimeDelta,
    ) -> Gathered {
        let queries: BTreeSet<&Query> = asked.values().flatten().collect();
        let readings = match self.link(server) {
            Ok(link) => link.ask_all(&queries, Span::Instant { at, lookback }).await,
            Err(error) => all_failed(&queries, &Unmeasurable::Unavailable { message: error.to_string() }),
        };
        Gathered::of(at, readings, asked)
    }

    /// The raw samples of every query of `asked` (by namespace) after `from` and up to `to`, as [`Self::history`] reads them; sent in the form
    /// that `narrow` gives it, which must select nothing less than what is looked for.
    pub async fn recorded(
        &self,
        server: &Server,
        asked: &BTreeMap<String, BTreeSet<Query>>,
        narrow: impl Fn(&Query) -> Query,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Gathered {
        let queries: BTreeMap<&Query, Query> = asked.values().flatten().map(|query| (query, narrow(query))).collect();
        let sent = queries.values().cloned().collect();
        let read = self.history(server, &sent, from, to).await;
        let readings = queries.into_iter().filter_map(|(query, sent)| Some((query.clone(), read.get(&sent)?.clone())));
        Gathered::of(to, readings.collect(), asked)
    }

    /// The raw samples of every query after `from` and up to `to`, for replay after a restart.
    ///
    /// Long ranges are asked in pieces; a query of which any piece fails is [`Reading::Failed`] as a whole, since a gap would look like
    /// silence. Everything is held in memory: ask for days one by one.
    pub async fn history(&self, server: &Server, queries: &BTreeSet<Query>, from: DateTime<Utc>, to: DateTime<Utc>) -> Readings {
        let queries: BTreeSet<&Query> = queries.iter().collect();
        match self.link(server) {
            Ok(link) => link.ask_all(&queries, Span::History { from, to }).await,
            Err(error) => all_failed(&queries, &Unmeasurable::Unavailable { message: error.to_string() }),
        }
    }

    /// Forgets servers that no rollout uses any more, with their connections and credentials.
    pub fn retain(&self, used: &BTreeSet<Server>) {
        lock(&self.links).retain(|server, _| used.contains(server));
    }

    /// How each server is doing.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        lock(&self.links).values().map(|link| link.snapshot()).collect()
    }

    fn link(&self, server: &Server) -> Result<Arc<Link>, ServerError> {
        let mut links = lock(&self.links);
        if let Some(link) = links.get(server) {
            return Ok(Arc::clone(link));
        }
        let link = Arc::new(Link {
            client: match &self.exchange {
                None => Client::new(server.clone(), self.body_limit)?,
                Some(exchange) => Client::instead(server.clone(), self.body_limit, Arc::clone(exchange)),
            },
            labels: Labels::nameless(),
            rest: self.rest,
            instants: Queue::of(self.at_once),
            past: Queue::of(self.past_at_once),
        });
        links.insert(server.clone(), Arc::clone(&link));
        Ok(link)
    }
}

impl Link {
    /// Asks each query once; while the server is down only one of them, as a probe.
    async fn ask_all(&self, queries: &BTreeSet<&Query>, span: Span) -> Readings {
        let queue = self.queue(span);
        let tally = Tally::default();
        let mut readings = Readings::new();
        let mut rest = queries.clone();
        match queue.probe(queries, self.rest) {
            Probe::NotNeeded => {}
            Probe::Resting(reason) => {
                lock(&queue.health).failed += queries.len() as u64;
                return all_failed(queries, &reason);
            }
            Probe::With(query) => {
                rest.remove(query);
                readings.insert(query.clone(), self.ask(query, &tally, span).await);
                if let Some(reason) = tally.in_vain() {
                    tally.failed.fetch_add(rest.len(), Ordering::Relaxed);
                    readings.extend(all_failed(&rest, &reason));
                    rest.clear();
                }
            }
        }
        let answers = join_all(rest.iter().map(|query| self.ask(query, &tally, span))).await;
        readings.extend(rest.into_iter().cloned().zip(answers));
        self.note(&tally, span);
        readings
    }

    fn queue(&self, span: Span) -> &Queue {
        match span {
            Span::Instant { .. } => &self.instants,
            Span::History { .. } => &self.past,
        }
    }

    async fn ask(&self, query: &Query, tally: &Tally, span: Span) -> Reading {
        // The semaphore is never closed, so an error here cannot happen; going on without a permit is the harmless reading of it.
        let _permit = self.queue(span).permits.acquire().await.ok();
        if let Some(reason) = tally.hopeless() {
            tally.failed.fetch_add(1, Ordering::Relaxed);
            return Reading::Failed(reason);
        }
        let outcome = match span {
            Span::Instant { at, lookback } => self.client.fetch(query, at, lookback, &self.labels).await,
            Span::History { from, to } => pieces(&self.client, query, from, to).await,
        };
        match outcome {
            Ok(series) => {
                tally.answered();
                Reading::Series(series.into_iter().map(Arc::new).collect())
            }
            Err(Failure::Server(reason)) => {
                tally.failed(&reason);
                Reading::Failed(reason)
            }
            Err(failure) => {
                tally.answered();
                Reading::Failed(failure.into_reason())
            }
        }
    }

    /// Takes over what a gathering found out; says so in the log when the server went away or came back.
    fn note(&self, tally: &Tally, span: Span) {
        let answered = tally.answered.load(Ordering::Relaxed);
        let failed = tally.failed.load(Ordering::Relaxed);
        let address = &self.client.server().address;
        let mut health = lock(&self.queue(span).health);
        health.answered += answered as u64;
        health.failed += failed as u64;
        let Some(reason) = tally.in_vain() else {
            // With no query at all nothing was learnt.
            if answered > 0 && health.down.take().is_some() {
                info!(server = %address, about = span.name(), "Prometheus answers again");
            }
            return;
        };
        let tried = Instant::now();
        if health.down.replace(Down { reason: reason.clone(), tried }).is_none() {
            warn!(server = %address, about = span.name(), category = reason.category(), %reason, "Prometheus cannot be asked");
        }
    }

    fn snapshot(&self) -> Snapshot {
        let (instants, past) = (lock(&self.instants.health), lock(&self.past.health));
        Snapshot {
            address: self.client.server().address.clone(),
            up: instants.down.is_none(),
            answered: instants.answered + past.answered,
            failed: instants.failed + past.failed,
            problem: instants.down.as_ref().map(|down| down.reason.to_string()),
        }
    }
}

impl Queue {
    fn of(at_once: usize) -> Self {
        Self { permits: Semaphore::new(at_once), health: Mutex::default() }
    }

    fn probe<'a>(&self, queries: &BTreeSet<&'a Query>, rest: Duration) -> Probe<'a> {
        let mut health = lock(&self.health);
        let Some(down) = health.down.clone() else { return Probe::NotNeeded };
        if down.tried.elapsed() < rest {
            return Probe::Resting(down.reason);
        }
        let turn = health.probes;
        health.probes = turn.wrapping_add(1);
        match queries.iter().nth(turn.checked_rem(queries.len()).unwrap_or_default()) {
            Some(query) => Probe::With(query),
            None => Probe::NotNeeded,
        }
    }
}

/// Which samples are asked for.
#[derive(Clone, Copy, Debug)]
enum Span {
    /// Those of the time just before an instant.
    Instant { at: DateTime<Utc>, lookback: TimeDelta },
    /// Those of a long range, in pieces.
    History { from: DateTime<Utc>, to: DateTime<Utc> },
}

impl Span {
    fn name(self) -> &'static str {
        match self {
            Self::Instant { .. } => "instants",
            Self::History { .. } => "the past",
        }
    }
}

/// How a gathering begins.
enum Probe<'a> {
    /// The server is up.
    NotNeeded,
    /// It is down, and was tried a moment ago.
    Resting(Unmeasurable),
    /// It is down; this query finds out.
    With(&'a Query),
}

impl Tally {
    fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.streak.store(0, Ordering::Relaxed);
    }

    fn failed(&self, reason: &Unmeasurable) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.streak.fetch_add(1, Ordering::Relaxed);
        *lock(&self.reason) = Some(reason.clone());
    }

    /// The reason not to send more: too many failures in a row.
    fn hopeless(&self) -> Option<Unmeasurable> {
        if self.streak.load(Ordering::Relaxed) >= GIVE_UP { lock(&self.reason).clone() } else { None }
    }

    /// The reason why nothing was answered, when nothing was.
    fn in_vain(&self) -> Option<Unmeasurable> {
        if self.answered.load(Ordering::Relaxed) == 0 { lock(&self.reason).clone() } else { None }
    }
}

fn all_failed(queries: &BTreeSet<&Query>, reason: &Unmeasurable) -> Readings {
    queries.iter().map(|&query| (query.clone(), Reading::Failed(reason.clone()))).collect()
}

/// A range in pieces, joined per set of labels.
async fn pieces(client: &Client, query: &Query, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<Series>, Failure> {
    let mut joined: BTreeMap<Arc<BTreeMap<String, String>>, Vec<Sample>> = BTreeMap::new();
    // With the names of metrics: recordings are told apart by them.
    let labels = Labels::default();
    let (mut start, mut chunk) = (from, HISTORY_CHUNK);
    while start < to {
        let end = to.min(start + chunk);
        match client.fetch(query, end, end - start, &labels).await {
            Ok(series) => series.into_iter().for_each(|one| append(joined.entry(one.labels).or_default(), one.samples)),
            Err(Failure::TooLarge(_)) if chunk > HISTORY_LEAST => {
                chunk = HISTORY_LEAST.max(chunk / 2);
                continue;
            }
            Err(failure) => return Err(failure),
        }
        start = end;
    }
    Ok(joined.into_iter().map(|(labels, samples)| Series { labels, samples }).collect())
}

/// Appends what is newer: servers before 3.0 include the left edge of a range, so that a sample can come twice.
fn append(samples: &mut Vec<Sample>, more: Vec<Sample>) {
    let newest = samples.last().map_or(i64::MIN, |sample| sample.at);
    samples.extend(more.into_iter().filter(|sample| sample.at > newest));
}

/// A value behind a mutex that nobody holds over an await; a panic elsewhere leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
