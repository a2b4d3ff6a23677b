//! One clock for all rollouts: at every aligned instant each server is asked once, the answers are folded and judged, and what must go
//! goes at once by the rollback lane. Decides nothing; the judge and `decide::escape` do.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use tracing::{debug, info};

use crate::context::Context;
use crate::lane;
use crate::tracker::{Behind, aligned_after};

/// How long after an instant its samples are read: a scrape that ended just before it has been stored by then.
const INGESTION: TimeDelta = TimeDelta::milliseconds(30);
/// The distance of ticks while nothing is watched.
const IDLE: TimeDelta = TimeDelta::seconds(1);

/// Samples until the process ends.
pub async fn run(ctx: Arc<Context>) {
    loop {
        let interval = ctx.tracker.shortest_interval().unwrap_or(IDLE).min(IDLE);
        let now = Utc::now();
        let at = aligned_after(now - INGESTION, interval);
        let wait = (at + INGESTION - now).to_std().unwrap_or(Duration::from_millis(1));
        tokio::time::sleep(wait).await;
        ctx.beats.beat("sampler");
        if ctx.leadership.may_write() {
            tick(&ctx, at).await;
            catch_up(&ctx);
        }
    }
}

/// One instant for every rollout that is due.
pub async fn tick(ctx: &Arc<Context>, at: DateTime<Utc>) {
    let questions = ctx.tracker.questions(at);
    let gathered = join_all(questions.iter().map(|(server, (asked, lookback))| async move {
        let answers = ctx.servers.gather(server, asked, at, *lookback).await;
        (server, answers)
    }))
    .await;
    let now = Utc::now();
    let mut failed = Vec::new();
    for (server, answers) in &gathered {
        for outcome in ctx.tracker.absorb(server, at, now, |namespace| answers.for_namespace(namespace)) {
            if outcome.failure.is_some() {
                failed.push(outcome);
            } else if outcome.wake {
                ctx.wake(&outcome.key);
            }
        }
    }
    // The most users first: at scale the API server takes a while for all of them.
    failed.sort_by_key(|outcome| std::cmp::Reverse(outcome.watched.exposure));
    for outcome in failed {
        tokio::spawn(lane::escape(Arc::clone(ctx), outcome, now));
    }
}

/// Folds history in where a rollout is behind, without holding up the others.
fn catch_up(ctx: &Arc<Context>) {
    for behind in ctx.tracker.behind(Utc::now()) {
        let ctx = Arc::clone(ctx);
        tokio::spawn(async move { replay(&ctx, &behind).await });
    }
}

async fn replay(ctx: &Context, behind: &Behind) {
    let to = Utc::now() - INGESTION;
    let from = behind.last - behind.lookback;
    debug!(namespace = behind.key.namespace, name = behind.key.name, %from, %to, "rebuilding evidence from Prometheus");
    let readings = ctx.servers.history(&behind.server, &behind.queries, from, to).await;
    ctx.tracker.caught_up(behind, to, &readings);
    info!(namespace = behind.key.namespace, name = behind.key.name, %from, %to, "evidence rebuilt from Prometheus");
}
