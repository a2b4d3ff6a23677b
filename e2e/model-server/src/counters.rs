//! What has been counted so far, and how it reads as metrics. All series exist at zero from the start, so that a first failure
//! is an increase and not a new series. It does not know where counts come from.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::exposition::{Kind, Page};
use crate::model::CLASSES;

/// Upper edges of the duration buckets, in seconds; 0.1 and 0.2 are the usual latency targets.
const EDGES: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Status codes that inference can end with; 499 is a client that went away.
const CODES: [u16; 6] = [200, 400, 404, 499, 500, 503];
/// Slice of requests whose region is not one of the configured ones.
pub const OTHER_REGION: &str = "other";

/// What became of one message with a true label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeedbackResult {
    /// It met its prediction.
    Joined,
    /// Its prediction already had one.
    Duplicate,
    /// No such prediction is remembered.
    Unknown,
}

impl FeedbackResult {
    const ALL: [Self; 3] = [Self::Joined, Self::Duplicate, Self::Unknown];

    fn label(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Duplicate => "duplicate",
            Self::Unknown => "unknown",
        }
    }
}

/// Right and wrong predictions of one region.
#[derive(Clone, Copy, Default)]
struct Outcomes {
    right: u64,
    wrong: u64,
}

/// Answers of one region by what they decide, for the fairness of decisions: a digit of 5 or more is the positive one.
#[derive(Clone, Copy, Default)]
struct Decisions {
    positive: u64,
    negative: u64,
}

/// The smallest digit that counts as a positive decision.
const POSITIVE: usize = 5;

/// All counters of the server, kept under one lock so that a scrape sees them at one instant.
pub struct Counters {
    requests: BTreeMap<u16, u64>,
    buckets: [u64; EDGES.len()],
    seconds: f64,
    outcomes: BTreeMap<String, Outcomes>,
    decisions: BTreeMap<String, Decisions>,
    classes: [u64; CLASSES],
    nonfinite: u64,
    rows: u64,
    feedback: BTreeMap<FeedbackResult, u64>,
}

impl Counters {
    /// Zeroes for the given regions and [`OTHER_REGION`].
    pub fn new(regions: &[String]) -> Self {
        let names: Vec<String> = regions.iter().cloned().chain([OTHER_REGION.to_owned()]).collect();
        Self {
            requests: CODES.iter().map(|&code| (code, 0)).collect(),
            buckets: [0; EDGES.len()],
            seconds: 0.0,
            outcomes: names.iter().map(|name| (name.clone(), Outcomes::default())).collect(),
            decisions: names.into_iter().map(|name| (name, Decisions::default())).collect(),
            classes: [0; CLASSES],
            nonfinite: 0,
            rows: 0,
            feedback: FeedbackResult::ALL.iter().map(|&r| (r, 0)).collect(),
        }
    }

    /// The slice that a region header belongs to.
    pub fn region<'a>(&self, header: Option<&'a str>) -> &'a str {
        header.filter(|name| self.outcomes.contains_key(*name)).unwrap_or(OTHER_REGION)
    }

    /// One inference request ended.
    pub fn request(&mut self, code: u16, took: Duration) {
        *self.requests.entry(code).or_default() += 1;
        let seconds = took.as_secs_f64();
        self.seconds += seconds;
        if let Some(bucket) = EDGES.iter().zip(&mut self.buckets).find(|(edge, _)| seconds <= **edge).map(|(_, bucket)| bucket) {
            *bucket += 1;
        }
    }

    /// One batch of a region was answered with these labels, `nonfinite` of its rows with a NaN or an infinity.
    pub fn answered(&mut self, region: &str, labels: &[usize], nonfinite: usize) {
        let mut decisions = self.decisions.get_mut(region);
        for &label in labels {
            if let Some(decisions) = decisions.as_deref_mut() {
                let count = if label < POSITIVE { &mut decisions.negative } else { &mut decisions.positive };
                *count += 1;
            }
            if let Some(count) = self.classes.get_mut(label) {
                *count += 1;
            }
        }
        self.rows += labels.len() as u64;
        self.nonfinite += nonfinite as u64;
    }

    /// A message with true labels arrived; `right` of its `rows` predictions were right.
    pub fn feedback(&mut self, result: FeedbackResult, region: &str, right: usize, rows: usize) {
        *self.feedback.entry(result).or_default() += 1;
        if let Some(outcomes) = self.outcomes.get_mut(region) {
            outcomes.right += right as u64;
            outcomes.wrong += rows.saturating_sub(right) as u64;
        }
    }

    /// Rows answered so far: the work done.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends the families to a page of metrics.
    pub fn render(&self, page: &mut Page) {
        let name = "model_inference_requests_total";
        page.family(name, Kind::Counter, "Inference requests by HTTP status; 499 is a client that went away.");
        for (code, count) in &self.requests {
            page.sample(name, &[("code", &code.to_string())], *count as f64);
        }
        self.render_durations(page);
        let name = "model_predictions_total";
        page.family(name, Kind::Counter, "Predictions whose true label has arrived.");
        for (region, outcomes) in &self.outcomes {
            page.sample(name, &[("correct", "true"), ("region", region)], outcomes.right as f64);
            page.sample(name, &[("correct", "false"), ("region", region)], outcomes.wrong as f64);
        }
        let name = "model_decisions_total";
        page.family(name, Kind::Counter, "Answers by what they decide (a digit of 5 or more is positive) and for which group.");
        for (region, decisions) in &self.decisions {
            page.sample(name, &[("decision", "positive"), ("group", region)], decisions.positive as f64);
            page.sample(name, &[("decision", "negative"), ("group", region)], decisions.negative as f64);
        }
        let name = "model_feedback_total";
        page.family(name, Kind::Counter, "Messages with true labels, by what became of them.");
        for (result, count) in &self.feedback {
            page.sample(name, &[("result", result.label())], *count as f64);
        }
        let name = "model_predictions_by_class_total";
        page.family(name, Kind::Counter, "Predictions by predicted class.");
        for (class, count) in self.classes.iter().enumerate() {
            page.sample(name, &[("class", &class.to_string())], *count as f64);
        }
        page.single("model_nonfinite_outputs_total", Kind::Counter, "Predictions with a NaN or an infinity.", self.nonfinite as f64);
    }

    fn render_durations(&self, page: &mut Page) {
        let name = "model_inference_duration_seconds";
        page.family(name, Kind::Histogram, "Time from the arrival of a request to its answer, queue included.");
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (edge, count) in EDGES.iter().zip(&self.buckets) {
            below += count;
            page.sample(&bucket, &[("le", &edge.to_string())], below as f64);
        }
        let total: u64 = self.requests.values().sum();
        page.sample(&bucket, &[("le", "+Inf")], total as f64);
        page.sample(&format!("{name}_sum"), &[], self.seconds);
        page.sample(&format!("{name}_count"), &[], total as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(counters: &Counters) -> String {
        let mut page = Page::default();
        counters.render(&mut page);
        page.finish()
    }

    #[test]
    fn every_series_exists_at_zero_before_the_first_request() {
        let text = text(&Counters::new(&["eu".into(), "us".into()]));
        for series in [
            r#"model_inference_requests_total{code="200"} 0"#,
            r#"model_inference_requests_total{code="500"} 0"#,
            r#"model_inference_duration_seconds_bucket{le="0.1"} 0"#,
            r#"model_inference_duration_seconds_bucket{le="+Inf"} 0"#,
            "model_inference_duration_seconds_count 0",
            r#"model_predictions_total{correct="true",region="eu"} 0"#,
            r#"model_predictions_total{correct="false",region="other"} 0"#,
            r#"model_predictions_by_class_total{class="9"} 0"#,
            r#"model_decisions_total{decision="positive",group="eu"} 0"#,
            r#"model_feedback_total{result="unknown"} 0"#,
            "model_nonfinite_outputs_total 0",
        ] {
            assert!(text.lines().any(|line| line == series), "{series} is missing in\n{text}");
        }
    }

    #[test]
    fn a_duration_on_an_edge_counts_below_it() {
        let mut counters = Counters::new(&[]);
        counters.request(200, Duration::from_millis(100));
        counters.request(200, Duration::from_millis(101));
        counters.request(499, Duration::from_mins(1));
        let text = text(&counters);
        for series in [
            r#"model_inference_duration_seconds_bucket{le="0.05"} 0"#,
            r#"model_inference_duration_seconds_bucket{le="0.1"} 1"#,
            r#"model_inference_duration_seconds_bucket{le="0.2"} 2"#,
            r#"model_inference_duration_seconds_bucket{le="10"} 2"#,
            r#"model_inference_duration_seconds_bucket{le="+Inf"} 3"#,
            "model_inference_duration_seconds_count 3",
            r#"model_inference_requests_total{code="499"} 1"#,
        ] {
            assert!(text.lines().any(|line| line == series), "{series} is missing in\n{text}");
        }
    }

    #[test]
    fn decisions_count_for_the_group_that_asked() {
        let mut counters = Counters::new(&["eu".into()]);
        counters.answered("eu", &[4, 5, 9], 0);
        let text = text(&counters);
        assert!(text.contains(r#"model_decisions_total{decision="positive",group="eu"} 2"#), "{text}");
        assert!(text.contains(r#"model_decisions_total{decision="negative",group="eu"} 1"#), "{text}");
        assert!(text.contains(r#"model_decisions_total{decision="negative",group="other"} 0"#), "{text}");
    }

    #[test]
    fn regions_are_a_bounded_set() {
        let mut counters = Counters::new(&["eu".into()]);
        assert_eq!((counters.region(Some("eu")), counters.region(Some("mars")), counters.region(None)), ("eu", "other", "other"));
        counters.feedback(FeedbackResult::Joined, "eu", 2, 3);
        let text = text(&counters);
        assert!(text.contains(r#"model_predictions_total{correct="true",region="eu"} 2"#), "{text}");
        assert!(text.contains(r#"model_predictions_total{correct="false",region="eu"} 1"#), "{text}");
    }
}
