//! The rollback lane: one write that takes users off a candidate, out before anything else is read or written.
//! It waits for nothing but the API server, works from the route as last seen, and leaves the reason on the route; the reconciler records it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rollout_core::decide;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::context::Context;
use crate::gateway;
use crate::tracker::Outcome;

/// Waits between tries; the last one repeats.
const RETRIES: [Duration; 4] = [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(1)];
/// Tries before the reconciler is left alone with it.
const MOST_TRIES: usize = 60;

/// Takes all users off the candidate of this outcome.
pub async fn escape(ctx: Arc<Context>, outcome: Outcome, sampled: DateTime<Utc>) {
    let Some(failure) = outcome.failure.clone() else { return };
    let watched = &outcome.watched;
    let Ok(_permit) = ctx.lane.acquire().await else { return };
    let mut live = ctx.stores.route(&outcome.key);
    for attempt in 0..MOST_TRIES {
        if !ctx.leadership.may_write() {
            return;
        }
        if live.is_none() {
            live = gateway::get(&ctx.client, &outcome.key.namespace, &ctx.stores.route_name(&outcome.key)).await.ok().flatten();
        }
        let number = i32::try_from(watched.attempt).unwrap_or(i32::MAX);
        let write =
            live.as_ref().and_then(|live| decide::escape(live, &watched.candidate, &watched.stable, number, &watched.sequence, &failure));
        let Some(write) = write else { break };
        match gateway::replace(&ctx.client, write.object()).await {
            Ok(_) => {
                let took = ctx.clock.now() - sampled;
                ctx.metrics.rolled_back(took.to_std().unwrap_or_default());
                info!(
                    namespace = outcome.key.namespace, name = outcome.key.name, revision = %watched.candidate.revision,
                    guardrail = failure.guardrail, reason = failure.reason, milliseconds = took.num_milliseconds(),
                    "users are off the candidate: {}", failure.message
                );
                break;
            }
            Err(problem) => {
                warn!(namespace = outcome.key.namespace, name = outcome.key.name, error = %problem, "the rollback write failed; trying again");
                live = None;
                let wait = RETRIES.get(attempt).or(RETRIES.last()).copied().unwrap_or_default();
                sleep(wait).await;
            }
        }
        if attempt + 1 == MOST_TRIES {
            error!(namespace = outcome.key.namespace, name = outcome.key.name, "the rollback write failed {MOST_TRIES} times");
        }
    }
    ctx.wake(&outcome.key);
}
