//! The time of day, as a value: the only place that asks the system for it. In tests it is whatever they say.
//! Not for measuring how long something takes: that is the monotonic clock's work.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use k8s_openapi::jiff::Timestamp;

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
