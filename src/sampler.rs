//! One clock for all rollouts: at every aligned instant each server is asked once, the answers are folded and judged, and what must go
//! goes at once by the rollback lane. Between instants a glance at tripwires and limits. Decides nothing; the judge and `decide::escape` do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use rollout_core::evidence::{Evidence, HISTORY_SPAN, History, Query, Reading, Readings};
use tracing::{debug, info, warn};

use crate::clock::Watchdog;
use crate::contain::contained_future;
use crate::context::Context;
use crate::lane;
use crate::prometheus::{Gathered, Server, Servers};
use crate::tracker::{Behind, Lot, Outcome, Questions, Recall, Tracker, Watched, aligned_after};

/// How long after an instant its samples are read: a scrape that ended just before it has been stored by then.
const INGESTION: TimeDelta = TimeDelta::milliseconds(30);
/// How much of the champion's past is read at once.
const PIECE: TimeDelta = TimeDelta::hours(1);
/// How much history is read first, and at least.
const FIRST_PIECE: TimeDelta = TimeDelta::seconds(30);
const LEAST_PIECE: TimeDelta = TimeDelta::seconds(10);
/// Samples of history that are held at once, about; each takes sixteen bytes here and more on its way.
const MOST_SAMPLES: usize = 200_000;
/// The longest distance of ticks: a rollout that comes in meanwhile may have shorter ones.
const IDLE: TimeDelta = TimeDelta::seconds(1);

/// Samples until the process ends. Instants and glances do not wait for each other: a slow glance must not cost an instant.
pub async fn run(ctx: Arc<Context>) {
    tokio::join!(at_instants(&ctx), between_instants(&ctx));
}

async fn at_instants(ctx: &Arc<Context>) {
    let mut watchdog = Watchdog::of(&ctx.clock);
    loop {
        let at = wait_for(ctx, Tracker::next_instant).await;
        ctx.beats.beat("sampler");
        if let Some(by) = watchdog.jump() {
            warn!(seconds = by.num_seconds(), "the clock was set; every step begins anew");
            ctx.tracker.clock_was_set(ctx.clock.now());
            // The moment that was waited for is one of the old clock.
            continue;
        }
        if ctx.leadership.may_write() {
            // First, so that what came in with a gap is not judged over it.
            catch_up(ctx);
            tick(ctx, at).await;
            recall(ctx);
        }
    }
}

async fn between_instants(ctx: &Arc<Context>) {
    loop {
        let at = wait_for(ctx, Tracker::next_glance).await;
        if ctx.leadership.may_write() {
            glance(ctx, at).await;
        }
    }
}

/// Sleeps until the samples of the next moment of this kind can be read, and returns that moment.
async fn wait_for(ctx: &Context, next: fn(&Tracker, DateTime<Utc>) -> Option<DateTime<Utc>>) -> DateTime<Utc> {
    let now = ctx.clock.now();
    let readable = now - INGESTION;
    let idle = aligned_after(readable, IDLE);
    let at = next(&ctx.tracker, readable).map_or(idle, |at| at.min(idle));
    tokio::time::sleep((at + INGESTION - now).to_std().unwrap_or(Duration::from_millis(1))).await;
    at
}

/// One instant for every rollout that is due.
pub async fn tick(ctx: &Arc<Context>, at: DateTime<Utc>) {
    let gathered = gather(ctx, ctx.tracker.questions(at), at).await;
    let now = ctx.clock.now();
    let judged = gathered.iter().flat_map(|(server, answers)| ctx.tracker.absorb(server, at, now, |watched| own(answers, watched)));
    let judged = judged.collect();
    act_on(ctx, judged, now);
    ctx.servers.retain(&ctx.tracker.servers());
    ctx.metrics.prometheus(ctx.servers.snapshots().into_iter().map(|server| (server.address, server.up)));
}

/// What must go goes, and where something changed the reconciler looks.
fn act_on(ctx: &Arc<Context>, judged: Vec<Outcome>, now: DateTime<Utc>) {
    let mut failed = Vec::new();
    for outcome in judged {
        outcome.unmeasurable.iter().for_each(|reason| ctx.metrics.unmeasurable(reason));
        if outcome.panicked {
            ctx.metrics.panicked("instant");
        }
        if outcome.failure.is_some() {
            failed.push(outcome);
        } else if outcome.wake {
            ctx.wake(&outcome.key);
        }
    }
    escape(ctx, failed, now);
}

/// One look between instants at every exposed rollout whose turn it is.
pub async fn glance(ctx: &Arc<Context>, at: DateTime<Utc>) {
    let gathered = gather(ctx, ctx.tracker.glances(at), at).await;
    let now = ctx.clock.now();
    let seen = gathered.iter().flat_map(|(server, answers)| ctx.tracker.glance(server, at, |watched| own(answers, watched)));
    let seen: Vec<Outcome> = seen.collect();
    seen.iter().filter(|outcome| outcome.panicked).for_each(|_| ctx.metrics.panicked("glance"));
    escape(ctx, seen, now);
}

async fn gather(ctx: &Context, questions: Questions, at: DateTime<Utc>) -> Vec<(Server, Gathered)> {
    join_all(questions.into_iter().map(|(server, (asked, lookback))| async move {
        let answers = ctx.servers.gather(&server, &asked, at, lookback).await;
        answers.outcomes().for_each(|outcome| ctx.metrics.queried(outcome));
        (server, answers)
    }))
    .await
}

/// What a rollout reads of the answers: a few of thousands of series, unless a guardrail looks at those of others too.
fn own(answers: &Gathered, watched: &Watched) -> Arc<Readings> {
    if Evidence::reads_others(&watched.plan) {
        return answers.for_namespace(&watched.arms.candidate.namespace);
    }
    Arc::new(answers.for_arms(&watched.arms))
}

fn escape(ctx: &Arc<Context>, failed: Vec<Outcome>, now: DateTime<Utc>) {
    lane::escape(ctx, failed.into_iter().filter_map(|outcome| Some((outcome.failure?, outcome.key, outcome.watched))), now);
}

/// Folds history in where rollouts are behind, without holding up the others.
fn catch_up(ctx: &Arc<Context>) {
    for lot in ctx.tracker.behind(ctx.clock.now()) {
        let ctx = Arc::clone(ctx);
        tokio::spawn(async move { replay(&ctx, lot).await });
    }
}

/// Reads what the champions of new attempts did in the days before. Nothing waits for it.
fn recall(ctx: &Arc<Context>) {
    let lot = ctx.tracker.to_recall();
    if lot.is_empty() {
        return;
    }
    let ctx = Arc::clone(ctx);
    tokio::spawn(async move {
        // A past that cannot be used is as one that nobody recorded.
        let histories = contained_future(past(&ctx.servers, &lot)).await.unwrap_or_else(|_| {
            ctx.metrics.panicked("recall");
            Vec::new()
        });
        ctx.tracker.recalled(lot.iter().zip(&histories));
        debug!(rollouts = lot.len(), "the champions' past is known");
    });
}

/// The past of the champions of attempts of one plan, in pieces, so that days of samples are never held at once: a history for each. Ends early
/// when a server gives no answer at all.
async fn past(servers: &Servers, lot: &[Recall]) -> Vec<History> {
    let Some(Recall { watched: first, .. }) = lot.first() else { return Vec::new() };
    let plan = &first.plan;
    let (interval, lookback) = (History::interval(plan), Evidence::lookback(plan));
    let mut histories: Vec<History> = lot.iter().map(|one| History::start(plan, one.watched.identity.started - HISTORY_SPAN)).collect();
    let starts = || lot.iter().map(|one| one.watched.identity.started);
    let (Some(from), Some(end)) = (starts().min(), starts().max()) else { return histories };
    // Asked for every revision, as at instants, the answer would hold days of all rollouts for the sake of a few.
    let stable = || lot.iter().filter_map(|one| one.watched.arms.stable.revision.as_ref()).filter(|revision| !revision.is_baseline());
    let narrow = |query: &Query| if stable().next().is_none() { query.clone() } else { query.of_revisions(stable()) };
    let mut asked: BTreeMap<String, BTreeSet<Query>> = BTreeMap::new();
    for one in lot {
        asked.entry(one.key.namespace.clone()).or_default().extend(History::queries(plan, &one.watched.arms));
    }
    let mut at = aligned_after(from - HISTORY_SPAN, interval);
    let mut piece = (PIECE / i32::try_from(lot.len()).unwrap_or(i32::MAX)).max(FIRST_PIECE);
    while at <= end {
        let to = end.min(at + piece);
        let answers = servers.recorded(&first.server, &asked, narrow, at - lookback, to).await;
        if answers.readings().values().all(|reading| matches!(reading, Reading::Failed(_))) {
            break;
        }
        for (one, history) in lot.iter().zip(&mut histories) {
            let readings = own(&answers, &one.watched);
            let (since, until) = (one.watched.identity.started - HISTORY_SPAN, one.watched.identity.started.min(to));
            let mut at = at;
            while at <= until {
                if at > since {
                    history.absorb(plan, &one.watched.arms, at, &readings);
                }
                at += interval;
            }
            // A hundred rollouts take seconds, in which instants must go on.
            tokio::task::yield_now().await;
        }
        while at <= to {
            at += interval;
        }
        piece = next_piece(piece, answers.samples());
    }
    histories
}

/// As much history at once as is held without regret, however many series there are.
fn next_piece(piece: TimeDelta, samples: usize) -> TimeDelta {
    if samples > MOST_SAMPLES {
        return (piece / 2).max(LEAST_PIECE);
    }
    if samples * 4 < MOST_SAMPLES { (piece * 2).min(PIECE) } else { piece }
}

/// Reads the history of many rollouts at once, server by server and piece by piece, so that a restart costs one reading and not one each.
async fn replay(ctx: &Arc<Context>, mut lot: Lot) {
    let to = ctx.clock.now() - INGESTION;
    let mut servers: BTreeMap<Server, Vec<&mut Behind>> = BTreeMap::new();
    for one in &mut lot.members {
        servers.entry(one.watched.server.clone()).or_default().push(one);
    }
    for (server, mut members) in servers {
        replay_from(ctx, &server, &mut members, to).await;
    }
    info!(rollouts = lot.members.len(), %to, "evidence rebuilt from Prometheus");
    let now = ctx.clock.now();
    act_on(ctx, ctx.tracker.caught_up(&lot, now), now);
}

async fn replay_from(ctx: &Context, server: &Server, members: &mut [&mut Behind], to: DateTime<Utc>) {
    let mut asked: BTreeMap<String, BTreeSet<Query>> = BTreeMap::new();
    for one in members.iter() {
        asked.entry(one.key.namespace.clone()).or_default().extend(Evidence::queries(&one.watched.plan, &one.watched.arms));
    }
    let Some(mut from) = members.iter().map(|one| one.last).min() else { return };
    let lookback = members.iter().map(|one| Evidence::lookback(&one.watched.plan)).max().unwrap_or_default();
    debug!(rollouts = members.len(), %from, %to, "rebuilding evidence from Prometheus");
    let mut piece = FIRST_PIECE;
    while from < to {
        let end = to.min(from + piece);
        let answers = ctx.servers.recorded(server, &asked, Query::clone, from - lookback, end).await;
        for one in members.iter_mut().filter(|one| one.last < end) {
            let readings = own(&answers, &one.watched);
            ctx.tracker.replayed(one, end, &readings);
            // A thousand rollouts take seconds, in which instants must go on.
            tokio::task::yield_now().await;
        }
        piece = next_piece(piece, answers.samples());
        from = end;
    }
}
