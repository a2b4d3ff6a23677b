//! Pairs counted by who was right, as Prometheus reads them. It does not know where pairs come from.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::pairs::Pair;

/// Content type of [`Counts::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Who was right: both, one alone, or neither.
const OUTCOMES: [&str; 4] = ["both", "champion_only", "candidate_only", "neither"];
/// Pairs of revisions with series of their own; a namespace sees a handful.
const MAX_REVISIONS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    candidate: String,
    champion: String,
    outcome: &'static str,
}

/// All counters. Which of two revisions is the candidate is the reader's business, so every pair counts from both sides.
pub struct Counts {
    registry: Registry,
    pairs: Family<Labels, Counter>,
    alone: Gauge,
    known: Vec<(String, String)>,
}

impl Counts {
    /// Without series, for no revision has answered.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let (pairs, alone) = (Family::<Labels, Counter>::default(), Gauge::default());
        registry.register("comparer_labelled_pairs", "Requests that both revisions answered and whose true label is known", pairs.clone());
        registry.register("comparer_unpaired", "Requests that were forgotten without a second answer or a true label", alone.clone());
        Self { registry, pairs, alone, known: Vec::new() }
    }

    /// One pair.
    pub fn count(&mut self, pair: &Pair) {
        for (candidate, champion) in [(&pair.first, &pair.second), (&pair.second, &pair.first)] {
            let outcome = match (champion.1, candidate.1) {
                (true, true) => "both",
                (true, false) => "champion_only",
                (false, true) => "candidate_only",
                (false, false) => "neither",
            };
            if self.knows(&candidate.0, &champion.0) {
                self.pairs.get_or_create(&labels(&candidate.0, &champion.0, outcome)).inc();
            }
        }
    }

    /// All outcomes of two revisions exist at zero together, so that a first loss is an increase and not a new series.
    fn knows(&mut self, candidate: &str, champion: &str) -> bool {
        if self.known.iter().any(|(a, b)| a == candidate && b == champion) {
            return true;
        }
        if self.known.len() == MAX_REVISIONS {
            return false;
        }
        self.known.push((candidate.to_owned(), champion.to_owned()));
        for outcome in OUTCOMES {
            drop(self.pairs.get_or_create(&labels(candidate, champion, outcome)));
        }
        true
    }

    /// The page of metrics.
    pub fn text(&self, alone: u64) -> String {
        self.alone.set(i64::try_from(alone).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn labels(candidate: &str, champion: &str, outcome: &'static str) -> Labels {
    Labels { candidate: candidate.to_owned(), champion: champion.to_owned(), outcome }
}
