//! What the operator says about itself, in `OpenMetrics`: counts of looks, decisions, writes and queries, and how long a rollback takes.
//! Labels come from small fixed sets, except the rollouts' names, whose number is bounded here. Decides nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use rollout_core::weights::Exposure;

/// Content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Most rollouts that have series of their own.
pub const MAX_ROLLOUTS: usize = 2000;

/// A label whose values are words of the program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Word(String);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.as_str().encode(encoder)
    }
}

macro_rules! labels {
    ($($name:ident { $($label:ident),+ })+) => {
        $(
            #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
            struct $name { $($label: Word),+ }
        )+
    };
}

labels! {
    ByResult { result }
    ByAction { action }
    ByWrite { object, verb, outcome }
    ByOutcome { outcome }
    ByReason { reason }
    ByServer { server }
    ByRollout { namespace, name }
}

/// All series of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<ByResult, Counter>,
    reconcile_time: Histogram,
    decisions: Family<ByAction, Counter>,
    rollback_time: Histogram,
    writes: Family<ByWrite, Counter>,
    queries: Family<ByOutcome, Counter>,
    unmeasurable: Family<ByReason, Counter>,
    panics: Family<ByAction, Counter>,
    exposures: Family<ByRollout, Gauge>,
    rollouts: Mutex<BTreeMap<(String, String), Exposure>>,
    leader: Gauge,
    servers: Family<ByServer, Gauge>,
    events: Family<ByOutcome, Counter>,
    dropped_wakes: Counter,
    memory: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds(buckets: impl IntoIterator<Item = f64>) -> Histogram {
    Histogram::new(buckets)
}

impl Metrics {
    /// All series at their start.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            reconciles: Family::default(),
            reconcile_time: seconds([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            decisions: Family::default(),
            rollback_time: seconds([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0]),
            writes: Family::default(),
            queries: Family::default(),
            unmeasurable: Family::default(),
            panics: Family::default(),
            exposures: Family::default(),
            rollouts: Mutex::default(),
            leader: Gauge::default(),
            servers: Family::default(),
            events: Family::default(),
            dropped_wakes: Counter::default(),
            memory: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let own = self.registry.sub_registry_with_prefix("espalier");
        own.register("build", "Version of the operator", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        own.register("reconcile", "Looks at rollouts, by result", self.reconciles.clone());
        own.register_with_unit("reconcile_duration", "Time of one look", Unit::Seconds, self.reconcile_time.clone());
        own.register("decisions", "Decisions, by action", self.decisions.clone());
        let help = "Time from the sampled instant of a failure to the accepted write of weight 0";
        own.register_with_unit("rollback", help, Unit::Seconds, self.rollback_time.clone());
        own.register("api_writes", "Writes to the API server, by resource, verb and outcome", self.writes.clone());
        own.register("prometheus_queries", "Queries to Prometheus, by outcome", self.queries.clone());
        own.register("unmeasurable", "Guardrails found unmeasurable, by reason", self.unmeasurable.clone());
        own.register("panics", "Defects of the operator that were contained, by what it was doing", self.panics.clone());
        own.register("rollout_exposure_percent", "Share of users that the candidate answers", self.exposures.clone());
        own.register("leader", "1 while this process holds the lease", self.leader.clone());
        own.register("prometheus_up", "1 while a Prometheus server of some policy answers", self.servers.clone());
        own.register("events", "Kubernetes events, by outcome", self.events.clone());
        own.register("dropped_wakes", "Wakes that found the queue full; the timer looks instead", self.dropped_wakes.clone());
        self.registry.register_with_unit("process_resident_memory", "Resident memory", Unit::Bytes, self.memory.clone());
    }

    /// One look at a rollout ended: `ok`, or the category of its error.
    pub fn reconciled(&self, result: &str, took: Duration) {
        self.reconciles.get_or_create(&ByResult { result: word(result) }).inc();
        self.reconcile_time.observe(took.as_secs_f64());
    }

    /// A decision was made: Raised, Lowered, `RolledBack`, …
    pub fn decided(&self, action: &str) {
        self.decisions.get_or_create(&ByAction { action: word(action) }).inc();
    }

    /// A panic was contained while doing this: `look`, `instant`, `glance`, `recall`.
    pub fn panicked(&self, action: &str) {
        self.panics.get_or_create(&ByAction { action: word(action) }).inc();
    }

    /// A candidate has no users any more, this long after the instant whose samples failed it.
    pub fn rolled_back(&self, took: Duration) {
        self.rollback_time.observe(took.as_secs_f64());
    }

    /// A write to the API server ended. The fence of [`crate::client`] calls this for every write.
    pub fn wrote(&self, object: &str, verb: &str, outcome: &str) {
        self.writes.get_or_create(&ByWrite { object: word(object), verb: word(verb), outcome: word(outcome) }).inc();
    }

    /// A query to Prometheus ended: `ok`, or the category of what went wrong.
    pub fn queried(&self, outcome: &str) {
        self.queries.get_or_create(&ByOutcome { outcome: word(outcome) }).inc();
    }

    /// A guardrail could not be measured.
    pub fn unmeasurable(&self, reason: &str) {
        self.unmeasurable.get_or_create(&ByReason { reason: word(reason) }).inc();
    }

    /// The exposure of a rollout's candidate. Rollouts beyond [`MAX_ROLLOUTS`] have no series, idle ones first.
    pub fn exposure(&self, namespace: &str, name: &str, exposure: Exposure) {
        let mut rollouts = self.rollouts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), name.to_owned());
        if !rollouts.contains_key(&key) && rollouts.len() >= MAX_ROLLOUTS {
            let idle =
                rollouts.iter().find(|(_, shown)| exposure > Exposure::ZERO && **shown == Exposure::ZERO).map(|(key, _)| key.clone());
            let Some(idle) = idle else { return };
            self.exposures.remove(&ByRollout { namespace: word(&idle.0), name: word(&idle.1) });
            rollouts.remove(&idle);
        }
        rollouts.insert(key, exposure);
        let labels = ByRollout { namespace: word(namespace), name: word(name) };
        self.exposures.get_or_create(&labels).set(i64::from(exposure.percent()));
    }

    /// A rollout is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.rollouts.lock().unwrap_or_else(PoisonError::into_inner).remove(&(namespace.to_owned(), name.to_owned()));
        self.exposures.remove(&ByRollout { namespace: word(namespace), name: word(name) });
    }

    /// Whether this process holds the lease.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// The Prometheus servers in use, by address, and whether each answers. Servers that are not named any more have no series.
    pub fn prometheus(&self, servers: impl IntoIterator<Item = (String, bool)>) {
        self.servers.clear();
        for (server, up) in servers {
            self.servers.get_or_create(&ByServer { server: Word(server) }).set(i64::from(up));
        }
    }

    /// An event was published, dropped or failed.
    pub fn event(&self, outcome: &str) {
        self.events.get_or_create(&ByOutcome { outcome: word(outcome) }).inc();
    }

    /// A wake found the queue full.
    pub fn dropped_wake(&self) {
        self.dropped_wakes.inc();
    }

    /// Everything as text, with [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        if let Some(bytes) = resident_memory() {
            self.memory.set(bytes);
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn word(text: &str) -> Word {
    Word(text.to_owned())
}

/// Resident memory in bytes, where the system tells.
fn resident_memory() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_have_the_names_that_dashboards_use() {
        let metrics = Metrics::new();
        metrics.reconciled("ok", Duration::from_millis(7));
        metrics.decided("Raised");
        metrics.rolled_back(Duration::from_millis(600));
        metrics.wrote("httproutes", "update", "ok");
        metrics.queried("Timeout");
        metrics.unmeasurable("Stale");
        metrics.exposure("ml", "digits", Exposure::new(25).unwrap());
        metrics.leads(true);
        metrics.prometheus([("http://old:9090".to_owned(), true)]);
        metrics.prometheus([("http://prometheus:9090".to_owned(), false)]);
        metrics.event("dropped");
        metrics.dropped_wake();
        let text = metrics.encode();
        for line in [
            r#"espalier_reconcile_total{result="ok"} 1"#,
            r#"espalier_reconcile_duration_seconds_bucket{le="0.01"} 1"#,
            r#"espalier_decisions_total{action="Raised"} 1"#,
            r#"espalier_rollback_seconds_bucket{le="0.5"} 0"#,
            r#"espalier_rollback_seconds_bucket{le="1.0"} 1"#,
            r#"espalier_api_writes_total{object="httproutes",verb="update",outcome="ok"} 1"#,
            r#"espalier_prometheus_queries_total{outcome="Timeout"} 1"#,
            r#"espalier_unmeasurable_total{reason="Stale"} 1"#,
            r#"espalier_rollout_exposure_percent{namespace="ml",name="digits"} 25"#,
            "espalier_leader 1",
            r#"espalier_prometheus_up{server="http://prometheus:9090"} 0"#,
            r#"espalier_events_total{outcome="dropped"} 1"#,
            "espalier_dropped_wakes_total 1",
            "espalier_build_info{version=",
            "process_resident_memory_bytes ",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n") && !text.contains("http://old:9090"));
    }

    #[test]
    fn a_deleted_rollout_leaves_no_series_and_their_number_is_bounded() {
        let metrics = Metrics::new();
        for index in 0..MAX_ROLLOUTS + 5 {
            metrics.exposure("ml", &index.to_string(), Exposure::ZERO);
        }
        let series =
            |metrics: &Metrics| metrics.encode().lines().filter(|line| line.starts_with("espalier_rollout_exposure_percent{")).count();
        assert_eq!(series(&metrics), MAX_ROLLOUTS);
        metrics.forget("ml", "0");
        assert_eq!(series(&metrics), MAX_ROLLOUTS - 1);
        metrics.exposure("ml", "again", Exposure::FULL);
        assert!(metrics.encode().contains(r#"name="again"} 100"#));
        metrics.exposure("ml", "idle", Exposure::ZERO);
        metrics.exposure("ml", "on trial", Exposure::new(10).unwrap());
        let text = metrics.encode();
        assert!(text.contains(r#"name="on trial"} 10"#) && text.contains(r#"name="again"} 100"#) && !text.contains(r#"name="idle"}"#));
        assert_eq!(series(&metrics), MAX_ROLLOUTS);
    }
}
