//! Replicas against one lease in memory, on a clock that the test moves: at no moment may two of them write.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, advance, sleep};
use tower::{BoxError, service_fn};

use super::*;

const S: fn(u64) -> Duration = Duration::from_secs;

/// What happens to the calls of one replica.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// Time before a write is applied.
    writes_held: Duration,
    /// The answer to an applied write never comes.
    answers_lost: bool,
    /// Nothing is answered at all.
    cut_off: bool,
}

/// A lease with resource versions, as the API server keeps it.
#[derive(Clone, Default)]
struct World {
    lease: Arc<Mutex<Option<Value>>>,
    faults: Arc<Mutex<BTreeMap<&'static str, Faults>>>,
}

impl World {
    fn set(&self, replica: &'static str, faults: Faults) {
        self.faults.lock().unwrap().insert(replica, faults);
    }

    fn client(&self, replica: &'static str) -> Client {
        let world = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let world = world.clone();
            async move { world.answer(replica, request).await }
        });
        Client::new(service, "ns")
    }

    async fn answer(self, replica: &'static str, request: Request<Body>) -> Result<Response<String>, BoxError> {
        let faults = self.faults.lock().unwrap().get(replica).copied().unwrap_or_default();
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        if faults.cut_off {
            std::future::pending::<()>().await;
        }
        let (code, answer) = if parts.method == Method::GET {
            self.lease.lock().unwrap().clone().map_or_else(|| refuse(404, "NotFound"), |lease| (200, lease))
        } else {
            // The write is on its way also when its caller gives up.
            let world = self.clone();
            let write = tokio::spawn(async move {
                sleep(faults.writes_held).await;
                world.apply(&parts.method, serde_json::from_slice(&body).unwrap())
            });
            write.await?
        };
        if faults.answers_lost && code < 300 && answer["kind"] != "Status" {
            std::future::pending::<()>().await;
        }
        Ok(Response::builder().status(code).body(answer.to_string())?)
    }

    fn apply(&self, method: &Method, mut new: Value) -> (u16, Value) {
        let mut lease = self.lease.lock().unwrap();
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
        let next = lease.as_ref().map_or(0, |lease| version(lease).parse::<u64>().unwrap()) + 1;
        match (method, lease.as_ref()) {
            (&Method::POST, Some(_)) => return refuse(409, "AlreadyExists"),
            (&Method::PUT, None) => return refuse(404, "NotFound"),
            (&Method::PUT, Some(old)) if version(old) != version(&new) => return refuse(409, "Conflict"),
            _ => {}
        }
        new["metadata"]["resourceVersion"] = json!(next.to_string());
        *lease = Some(new.clone());
        (200, new)
    }

    fn holder(&self) -> String {
        let lease = self.lease.lock().unwrap();
        lease.as_ref().and_then(|lease| lease["spec"]["holderIdentity"].as_str().map(str::to_owned)).unwrap_or_default()
    }
}

fn refuse(code: u16, reason: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "metadata": {}}))
}

async fn lead(world: &World, replica: &'static str) -> (Leadership, BoxFuture<'static, ()>) {
    acquire(world.client(replica), "ns", "espalier", Replica::of(replica)).await.unwrap()
}

/// Runs replicas until `end`, counts moments with two writers and says when the second one got the lease.
async fn second_leads(world: &World, first: &Leadership, replica: &'static str, end: Duration) -> Option<(Duration, Leadership)> {
    let start = Instant::now();
    let second = lead(world, replica);
    tokio::pin!(second);
    let mut leads: Option<(Duration, Leadership)> = None;
    while start.elapsed() < end {
        tokio::select! {
            biased;
            (leadership, _lost) = &mut second, if leads.is_none() => leads = Some((start.elapsed(), leadership)),
            () = sleep(Duration::from_millis(20)) => {}
        }
        let both = first.may_write() && leads.as_ref().is_some_and(|(_, second)| second.may_write());
        assert!(!both, "two leaders after {:?}", start.elapsed());
    }
    leads
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_the_other_waits_as_long_as_it_renews() {
    let world = World::default();
    let (first, _lost) = lead(&world, "a").await;
    assert!(second_leads(&world, &first, "b", S(600)).await.is_none());
    assert!(first.may_write());
}

#[tokio::test(start_paused = true)]
async fn of_many_that_start_together_one_leads() {
    let world = World::default();
    let contenders = ["a", "b", "c", "d"].map(|replica| {
        let world = world.clone();
        tokio::spawn(async move { lead(&world, replica).await })
    });
    sleep(S(60)).await;
    assert_eq!(contenders.iter().filter(|contender| contender.is_finished()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_followed_after_the_lease_stood_still_for_its_duration() {
    let world = World::default();
    let (first, lost) = lead(&world, "a").await;
    world.set("a", Faults { cut_off: true, ..Faults::default() });
    let (took, _second) = second_leads(&world, &first, "b", S(60)).await.expect("nobody followed");
    assert!(took >= S(15) && took <= S(18), "{took:?}");
    // It stopped by itself, before anybody followed, and says so.
    assert!(!first.may_write());
    lost.await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_the_api_stops_at_its_deadline() {
    let world = World::default();
    let (first, lost) = lead(&world, "a").await;
    let start = Instant::now();
    world.set("a", Faults { cut_off: true, ..Faults::default() });
    while first.may_write() {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(start.elapsed() <= S(10), "{:?}", start.elapsed());
    lost.await;
    assert!(start.elapsed() <= S(11), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn delayed_renewals_never_make_two_leaders() {
    for held in [1, 3, 4, 5, 6, 9, 11, 14, 16, 20, 40] {
        for lost in [false, true] {
            let world = World::default();
            let (first, _lost) = lead(&world, "a").await;
            world.set("a", Faults { writes_held: S(held), answers_lost: lost, cut_off: false });
            world.set("b", Faults { writes_held: Duration::from_millis(held * 100), ..Faults::default() });
            second_leads(&world, &first, "b", S(120)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_leader_may_not_write_when_it_goes_on() {
    let world = World::default();
    let (first, lost) = lead(&world, "a").await;
    sleep(S(5)).await;
    assert!(first.may_write());
    // No task of the process runs while it is frozen, and the clock goes on.
    advance(S(11)).await;
    assert!(!first.may_write());
    // Nor does a renewal bring it back: the lease was never taken, but its time had passed.
    lost.await;
    assert!(!first.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_lease_given_back_is_taken_at_the_next_look() {
    let world = World::default();
    let (first, lost) = lead(&world, "a").await;
    first.release().await;
    assert!(!first.may_write());
    assert_eq!(world.holder(), "");
    lost.await;
    let (took, second) = second_leads(&world, &first, "b", S(3)).await.expect("nobody followed");
    assert!(took <= S(2) && second.may_write(), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_on_its_way_does_not_bring_back_what_was_given_back() {
    let world = World::default();
    let (first, _lost) = lead(&world, "a").await;
    world.set("a", Faults { writes_held: S(1), ..Faults::default() });
    sleep(Duration::from_millis(2500)).await;
    let releasing = first.clone();
    let release = tokio::spawn(async move { releasing.release().await });
    tokio::task::yield_now().await;
    while !release.is_finished() {
        assert!(!first.may_write());
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_no_lost_lease() {
    let world = World::default();
    let (first, _lost) = lead(&world, "a").await;
    world.set("a", Faults { answers_lost: true, ..Faults::default() });
    sleep(S(6)).await;
    world.set("a", Faults::default());
    sleep(S(60)).await;
    assert!(first.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_or_stolen_lease_ends_the_leader() {
    for stolen in [json!(null), json!({"metadata": {"name": "espalier", "resourceVersion": "900"}, "spec": {"holderIdentity": "thief"}})] {
        let world = World::default();
        let (first, lost) = lead(&world, "a").await;
        *world.lease.lock().unwrap() = Some(stolen).filter(|lease| !lease.is_null());
        lost.await;
        assert!(!first.may_write());
    }
}

#[tokio::test]
async fn times_that_allow_two_leaders_are_refused() {
    let times = LeaseTimes { renew_deadline: S(12), ..LeaseTimes::default() };
    assert!(acquire_within(World::default().client("a"), "ns", "espalier", Replica::of("a"), times).await.is_err());
}
