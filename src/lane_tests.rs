//! In which order rollbacks go, and how long others wait for them.

use super::*;
use crate::tracker::tests::watched;

fn errand(name: &str, exposure: i32) -> Errand {
    let failure = Failure { guardrail: "nan".into(), reason: "TripwireCrossed".into(), message: String::new() };
    let key = Key { namespace: "ml".into(), name: name.into() };
    Errand { key, watched: Arc::new(watched("1s", exposure)), failure, sampled: DateTime::UNIX_EPOCH }
}

#[test]
fn the_most_users_go_first_and_among_equals_who_came_first() {
    let lane = Lane::new(2);
    assert_eq!(lane.take_in([errand("five", 5), errand("fifty", 50), errand("ten", 10)]), 2, "no more workers than the lane is wide");
    assert_eq!(lane.take_in([errand("late fifty", 50), errand("all", 100)]), 0);
    let order: Vec<String> = std::iter::from_fn(|| lane.next()).map(|errand| errand.key.name).collect();
    assert_eq!(order, ["all", "fifty", "late fifty", "ten", "five"]);
    assert!(lane.next().is_none(), "the second worker ends too");
    assert_eq!(lane.take_in([errand("next", 1)]), 1, "a worker that ended is started anew");
}

#[tokio::test(start_paused = true)]
async fn others_wait_until_every_route_was_tried_once_and_not_for_ever() {
    let lane = Lane::new(2);
    assert!(!lane.is_busy());
    lane.take_in([errand("one", 5), errand("two", 5)]);
    assert!(lane.is_busy());
    lane.next();
    lane.tried();
    assert!(lane.is_busy(), "two is still to be written");
    lane.next();
    lane.tried();
    assert!(!lane.is_busy());
    lane.take_in([errand("never answered", 5)]);
    tokio::time::advance(RIGHT_OF_WAY).await;
    assert!(!lane.is_busy(), "an API server that takes no rollback must not stop everything else");
}

#[tokio::test(start_paused = true)]
async fn records_of_many_rollbacks_wait_a_moment_for_those_that_fail_next_and_that_of_one_does_not() {
    let lane = Lane::new(1);
    lane.take_in([errand("one", 5)]);
    lane.next();
    lane.tried();
    assert!(!lane.is_busy(), "one rollback is put on record at once");
    lane.take_in([errand("one", 5), errand("two", 5)]);
    for _ in 0..2 {
        lane.next();
        lane.tried();
    }
    assert!(lane.is_busy());
    tokio::time::advance(AFTERMATH).await;
    assert!(!lane.is_busy());
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_late_after_many_does_not_let_the_others_in_early() {
    let lane = Lane::new(1);
    lane.take_in([errand("one", 5), errand("two", 5)]);
    for _ in 0..2 {
        lane.next();
        lane.tried();
    }
    lane.take_in([errand("late", 5)]);
    lane.next();
    lane.tried();
    assert!(lane.is_busy());
    tokio::time::advance(AFTERMATH).await;
    assert!(!lane.is_busy());
}
