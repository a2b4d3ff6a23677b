//! What a Prometheus that scrapes the world's pods has stored: series by metric and labels, samples with the time of their scrape.
//! A scrape that fails leaves `up` at 0 and nothing else; series of pods that are gone just end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::selector::RangeSelector;
use crate::feed::{NAMESPACE, revision};
use crate::pod::Pod;

/// Samples kept of each series: two days of them, one a minute, with room.
const KEPT: usize = 8192;

/// Samples by series.
#[derive(Debug, Default)]
pub struct Store {
    columns: Vec<String>,
    /// One entry per pod that was ever seen.
    pods: BTreeMap<String, Held>,
}

/// Series of one pod, one per column of the scenario.
#[derive(Debug)]
struct Held {
    labels: BTreeMap<String, String>,
    series: Vec<Vec<(i64, f64)>>,
}

impl Store {
    /// Nothing scraped yet; `columns` are the metrics of every pod, `up` first.
    pub fn new(columns: Vec<String>) -> Self {
        Self { columns, pods: BTreeMap::new() }
    }

    /// Stores what the last step's scrapes brought.
    pub fn take(&mut self, pods: &[Pod]) {
        for pod in pods {
            if pod.delivered.is_empty() && pod.failed.is_none() {
                continue;
            }
            let count = self.columns.len();
            let held = self.pods.entry(pod.name()).or_insert_with(|| Held { labels: labels(pod), series: vec![Vec::new(); count] });
            for scrape in &pod.delivered {
                for (series, value) in held.series.iter_mut().zip(&scrape.values) {
                    insert(series, scrape.at, *value);
                }
            }
            if let (Some(at), Some(up)) = (pod.failed, held.series.first_mut()) {
                insert(up, at, 0.0);
            }
        }
    }

    /// The answer to a range selector at `end`, in unix milliseconds: samples after the left edge, up to the right one.
    pub fn matrix(&self, selector: &RangeSelector, end: i64) -> String {
        let mut body = String::from(r#"{"status":"success","data":{"resultType":"matrix","result":["#);
        let column = self.columns.iter().position(|name| *name == selector.metric);
        let mut separator = "";
        for held in self.pods.values().filter(|held| selector.matches(&held.labels)) {
            let Some(series) = column.and_then(|column| held.series.get(column)) else { continue };
            let place = |instant: i64| series.partition_point(|(at, _)| *at <= instant);
            let inside = series.get(place(end - selector.range)..place(end)).unwrap_or_default();
            if inside.is_empty() {
                continue;
            }
            let mut metric = held.labels.clone();
            metric.insert("__name__".into(), selector.metric.clone());
            let _ = write!(body, r#"{separator}{{"metric":{},"values":["#, serde_json::json!(metric));
            for (i, (at, value)) in inside.iter().enumerate() {
                let comma = if i == 0 { "" } else { "," };
                let _ = write!(body, r#"{comma}[{}.{:03},"{value}"]"#, at / 1000, at % 1000);
            }
            body.push_str("]}");
            separator = ",";
        }
        body.push_str("]}}");
        body
    }
}

/// Scrapes may come late, but samples are stored in order.
fn insert(series: &mut Vec<(i64, f64)>, at: i64, value: f64) {
    let place = series.partition_point(|(before, _)| *before < at);
    series.insert(place, (at, value));
    if series.len() > KEPT {
        series.drain(..KEPT / 2);
    }
}

fn labels(pod: &Pod) -> BTreeMap<String, String> {
    let name = pod.name();
    let labels = [
        ("espalier_dev_revision", revision(pod.side).to_owned()),
        ("espalier_dev_rollout", NAMESPACE.to_owned()),
        ("instance", format!("{name}:8080")),
        ("job", NAMESPACE.to_owned()),
        ("namespace", NAMESPACE.to_owned()),
        ("pod", name),
    ];
    labels.into_iter().map(|(label, value)| (label.to_owned(), value)).collect()
}
