//! What a replica does about the lease, from what it saw and how long ago by its own clock.
//! Does not write: compare-and-swap on the lease and stopping in time are the shell's. Never compares a timestamp in the lease with a
//! local clock, so skew between machines cannot make two leaders.

use std::time::Duration;

/// How long things take. A leader stops before others may take over: `renew_deadline` plus the longest call stays within `duration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long others wait after the last change that they saw.
    pub duration: Duration,
    /// How long after its last successful renewal a leader goes on.
    pub renew_deadline: Duration,
    /// How often a leader renews and the others look.
    pub period: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self { duration: Duration::from_secs(15), renew_deadline: Duration::from_secs(10), period: Duration::from_secs(2) }
    }
}

/// What the lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Identity of the holder; empty or absent when it was given back.
    pub holder: Option<String>,
    /// How long the holder asks others to wait, as it wrote it.
    pub duration: Option<Duration>,
}

/// What this replica knows by its own monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseObservation {
    /// How long ago this replica first saw the lease as it is now.
    pub unchanged_for: Duration,
    /// How long ago its own last successful write of the lease *began*; `None` when it does not lead.
    pub renewed: Option<Duration>,
}

/// What to do about the lease now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Write our identity, if the lease is still as seen.
    Acquire,
    /// Write a new renewal, if the lease is still as seen.
    Renew,
    /// Stop everything: the lease is somebody else's, or our time is over.
    Yield,
    /// Look again after this time.
    Wait(Duration),
}

/// What the replica `me` does about a lease, `None` when there is none yet.
pub fn evaluate(lease: Option<&LeaseView>, me: &str, seen: &LeaseObservation, times: &LeaseTimes) -> LeaseStep {
    let holder = lease.and_then(|lease| lease.holder.as_deref()).filter(|holder| !holder.is_empty());
    match (seen.renewed, holder) {
        (Some(age), _) if age >= times.renew_deadline => LeaseStep::Yield,
        (Some(_), Some(holder)) if holder == me => LeaseStep::Renew,
        // A lease that was deleted or emptied under a leader may be another's by now.
        (Some(_), _) => LeaseStep::Yield,
        (None, None) => LeaseStep::Acquire,
        // Our own write landed although its answer was lost: only another write proves that nobody took over since.
        (None, Some(holder)) if holder == me => LeaseStep::Acquire,
        (None, Some(_)) => {
            let patience = lease.and_then(|lease| lease.duration).unwrap_or(times.duration).max(times.duration);
            match patience.checked_sub(seen.unchanged_for) {
                None | Some(Duration::ZERO) => LeaseStep::Acquire,
                Some(left) => LeaseStep::Wait(left.min(times.period)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn check(holder: Option<&str>, unchanged: u64, renewed: Option<u64>, expected: LeaseStep) {
        let lease = holder.map(|holder| LeaseView { holder: Some(holder.into()), duration: Some(S(15)) });
        let seen = LeaseObservation { unchanged_for: S(unchanged), renewed: renewed.map(S) };
        assert_eq!(evaluate(lease.as_ref(), "me", &seen, &LeaseTimes::default()), expected, "{holder:?} {unchanged} {renewed:?}");
    }

    #[test]
    fn a_free_lease_is_taken() {
        check(None, 0, None, LeaseStep::Acquire);
        check(Some(""), 0, None, LeaseStep::Acquire);
    }

    #[test]
    fn a_held_lease_is_taken_only_after_it_stood_still_for_its_whole_duration() {
        check(Some("you"), 0, None, LeaseStep::Wait(S(2)));
        check(Some("you"), 14, None, LeaseStep::Wait(S(1)));
        check(Some("you"), 15, None, LeaseStep::Acquire);
    }

    #[test]
    fn a_leader_renews_until_its_deadline_and_then_stops() {
        check(Some("me"), 2, Some(2), LeaseStep::Renew);
        check(Some("me"), 9, Some(9), LeaseStep::Renew);
        check(Some("me"), 10, Some(10), LeaseStep::Yield);
        check(Some("me"), 0, Some(3600), LeaseStep::Yield);
    }

    #[test]
    fn a_leader_stops_when_the_lease_is_not_its_own_any_more() {
        check(Some("you"), 0, Some(1), LeaseStep::Yield);
        check(Some(""), 0, Some(1), LeaseStep::Yield);
        check(None, 0, Some(1), LeaseStep::Yield);
    }

    #[test]
    fn our_identity_alone_is_no_leadership() {
        check(Some("me"), 0, None, LeaseStep::Acquire);
    }

    #[test]
    fn others_wait_longer_when_the_holder_asked_for_it_and_never_shorter_than_our_own_duration() {
        let wait = |asked: u64, unchanged: u64| {
            let lease = LeaseView { holder: Some("you".into()), duration: Some(S(asked)) };
            evaluate(Some(&lease), "me", &LeaseObservation { unchanged_for: S(unchanged), renewed: None }, &LeaseTimes::default())
        };
        assert_eq!(wait(60, 59), LeaseStep::Wait(S(1)));
        assert_eq!(wait(1, 14), LeaseStep::Wait(S(1)));
    }
}
