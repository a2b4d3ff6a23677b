//! The time of day, as a value: the only place that asks the system for it. In tests it is whatever they say.
//! Not for measuring how long something takes: that is the monotonic clock's work.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// The least by which a clock is set; what is less is how it is kept right all the time.
const LEAST_JUMP: TimeDelta = TimeDelta::seconds(2);

/// Tells the time of day; copies tell the same.
#[derive(Clone)]
pub struct Clock {
    read: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

impl Clock {
    /// The clock of this machine.
    pub fn system() -> Self {
        Self::of(Utc::now)
    }

    /// A clock that shows what `read` says.
    pub fn of(read: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self { read: Arc::new(read) }
    }

    /// Now, in UTC.
    pub fn now(&self) -> DateTime<Utc> {
        (self.read)()
    }

    /// Now, as Kubernetes objects carry it.
    pub fn timestamp(&self) -> Timestamp {
        let now = self.now();
        Timestamp::new(now.timestamp(), i32::try_from(now.timestamp_subsec_nanos()).unwrap_or(0)).unwrap_or_default()
    }
}

/// Notices when somebody sets a clock, by the one that nobody can set.
#[derive(Debug)]
pub struct Watchdog {
    clock: Clock,
    last: (DateTime<Utc>, Instant),
}

impl Watchdog {
    /// Watches this clock from now on.
    pub fn of(clock: &Clock) -> Self {
        Self { last: (clock.now(), Instant::now()), clock: clock.clone() }
    }

    /// By how much the clock was set since the last look, when it was; a drift of less than two seconds between looks is none.
    pub fn jump(&mut self) -> Option<TimeDelta> {
        let (then, since) = std::mem::replace(&mut self.last, (self.clock.now(), Instant::now()));
        let by = self.last.0 - then - elapsed(since);
        (by.abs() >= LEAST_JUMP).then_some(by)
    }
}

/// Since when one has acted by a clock: from the start, or from when the clock was set last. What is older may be as young as that.
#[derive(Debug)]
pub struct Tenure {
    since: Mutex<(Watchdog, DateTime<Utc>)>,
}

impl Tenure {
    /// Begins now.
    pub fn by(clock: &Clock) -> Self {
        Self { since: Mutex::new((Watchdog::of(clock), clock.now())) }
    }

    /// When it began, by the clock as it is now.
    pub fn since(&self) -> DateTime<Utc> {
        let (watchdog, since) = &mut *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if watchdog.jump().is_some() {
            *since = watchdog.last.0;
        }
        *since
    }
}

fn elapsed(since: Instant) -> TimeDelta {
    TimeDelta::from_std(since.elapsed()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_is_noticed_once_and_time_that_goes_by_is_not_a_jump() {
        let (skew, start) = (Arc::new(AtomicI64::new(0)), Instant::now());
        let read = Arc::clone(&skew);
        let clock =
            Clock::of(move || DateTime::UNIX_EPOCH + elapsed(start) + TimeDelta::seconds(1_800_000_000 + read.load(Ordering::Relaxed)));
        let mut watchdog = Watchdog::of(&clock);
        let (tenure, began) = (Tenure::by(&clock), clock.now());
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!((watchdog.jump(), tenure.since()), (None, began));
        skew.store(900, Ordering::Relaxed);
        assert_eq!((watchdog.jump(), watchdog.jump()), (Some(TimeDelta::seconds(900)), None));
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(tenure.since(), clock.now(), "nobody has waited for long by a clock that was just set");
        skew.store(-90, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(watchdog.jump(), Some(TimeDelta::seconds(-990)));
    }
}
