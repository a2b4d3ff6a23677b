//! Recorded series: read from Prometheus' own JSON answers or OpenMetrics text with times, kept by metric, selected as a server would, saved again.
//! Asks no server and judges no sample.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::Path;
use std::sync::Arc;

use regex::Regex;
use rollout_core::evidence::{Sample, Series};
use rollout_core::plan::{MatchOp, Selector};

use super::openmetrics;
use crate::cli::input::STDIN;
use crate::prometheus::read_answer;

/// Label that holds a series' metric.
const NAME: &str = "__name__";

/// Series by their labels; every one of them names its metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Recording {
    by_metric: BTreeMap<String, Vec<Arc<Series>>>,
}

impl Recording {
    /// These series, those of the same labels joined; series without a metric name are left out.
    pub(super) fn of(series: impl IntoIterator<Item = Series>) -> Self {
        let mut joined: BTreeMap<Arc<BTreeMap<String, String>>, Vec<Sample>> = BTreeMap::new();
        for one in series {
            let samples = joined.entry(one.labels).or_default();
            let in_order = samples.last().is_none_or(|last| one.samples.first().is_none_or(|first| last.at < first.at));
            samples.extend(one.samples);
            if !in_order {
                samples.sort_by_key(|sample| sample.at);
                samples.dedup_by_key(|sample| sample.at);
            }
        }
        let mut by_metric: BTreeMap<String, Vec<Arc<Series>>> = BTreeMap::new();
        for (labels, samples) in joined {
            let Some(metric) = labels.get(NAME).cloned() else { continue };
            by_metric.entry(metric).or_default().push(Arc::new(Series { labels, samples }));
        }
        Self { by_metric }
    }

    /// Reads a file or standard input; the error is a sentence.
    pub(super) fn read(file: &str) -> Result<Self, String> {
        let mut bytes = Vec::new();
        let read = if file == STDIN {
            std::io::stdin().read_to_end(&mut bytes)
        } else {
            std::fs::File::open(file).and_then(|mut opened| opened.read_to_end(&mut bytes))
        };
        read.map_err(|error| format!("--from {file}: cannot be read: {error}"))?;
        let recording = Self::parse(&bytes).map_err(|error| format!("--from {file}: {error}"))?;
        if recording.by_metric.is_empty() {
            return Err(format!(
                "--from {file}: holds no series with a metric name; expected what `espalier backtest --save` writes, an answer of Prometheus' query API, or OpenMetrics text with times"
            ));
        }
        Ok(recording)
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let is_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') && !openmetrics::has_bare_braces(bytes);
        if !is_json {
            let text = std::str::from_utf8(bytes).map_err(|error| format!("is neither JSON nor text: {error}"))?;
            return openmetrics::read(text).map(Self::of);
        }
        let whole = match read_answer(bytes) {
            Ok(series) => return Ok(Self::of(series)),
            Err(error) => error,
        };
        // One answer a line, as a shell loop over curl leaves them.
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)).collect();
        let answers: Option<Vec<Series>> =
            lines.iter().map(|line| read_answer(line).ok()).collect::<Option<Vec<_>>>().map(|all| all.concat());
        answers.map(Self::of).ok_or_else(|| whole.to_string())
    }

    /// Every series.
    pub(super) fn series(&self) -> impl Iterator<Item = &Arc<Series>> {
        self.by_metric.values().flatten()
    }

    /// Names of the metrics.
    pub(super) fn metrics(&self) -> impl Iterator<Item = &str> {
        self.by_metric.keys().map(String::as_str)
    }

    /// Every series by value.
    pub(super) fn into_series(self) -> impl Iterator<Item = Series> {
        self.by_metric.into_values().flatten().map(Arc::unwrap_or_clone)
    }

    /// First and last time of a sample, in milliseconds.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        let ends = |one: &Arc<Series>| Some((one.samples.first()?.at, one.samples.last()?.at));
        self.series().filter_map(ends).reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
    }

    /// The series that a server would answer; the error names a regular expression that is none.
    pub(super) fn select(&self, selector: &Selector) -> Result<Vec<Arc<Series>>, String> {
        let matchers = selector.matchers.iter().map(|(label, op, value)| Ok((label, Matcher::new(*op, value)?)));
        let matchers: Vec<(&String, Matcher<'_>)> = matchers.collect::<Result<_, String>>()?;
        let fits = |one: &Series| matchers.iter().all(|(label, matcher)| matcher.allows(one.labels.get(*label).map_or("", String::as_str)));
        Ok(self.by_metric.get(&selector.metric).into_iter().flatten().filter(|one| fits(one)).cloned().collect())
    }

    /// Writes everything as one answer of Prometheus' query API, a series a line.
    pub(super) fn save(&self, file: &Path) -> Result<(), String> {
        let told = |error: std::io::Error| format!("--save {}: cannot be written: {error}", file.display());
        let mut out = std::io::BufWriter::new(std::fs::File::create(file).map_err(told)?);
        let mut separator = "";
        out.write_all(b"{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[\n").map_err(told)?;
        for one in self.series() {
            out.write_all(format!("{separator}{}", line(one)).as_bytes()).map_err(told)?;
            separator = ",\n";
        }
        out.write_all(b"\n]}}\n").and_then(|()| out.flush()).map_err(told)
    }
}

fn line(series: &Series) -> String {
    // Labels are a map of strings, which always has a form in JSON.
    let mut text = format!("{{\"metric\":{},\"values\":[", serde_json::to_string(series.labels.as_ref()).unwrap_or_default());
    for (index, sample) in series.samples.iter().enumerate() {
        let (comma, seconds, rest) = (if index == 0 { "" } else { "," }, sample.at.div_euclid(1000), sample.at.rem_euclid(1000));
        let fraction = if rest == 0 { String::new() } else { format!(".{rest:03}") };
        // Writing into a string cannot fail.
        let _ = write!(text, "{comma}[{seconds}{fraction},\"{}\"]", value(sample.value));
    }
    text + "]}"
}

/// A number as Prometheus writes it.
fn value(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    number.to_string()
}

enum Matcher<'a> {
    Plain(MatchOp, &'a str),
    Pattern(bool, Regex),
}

impl<'a> Matcher<'a> {
    fn new(op: MatchOp, value: &'a str) -> Result<Self, String> {
        match op {
            MatchOp::Equal | MatchOp::NotEqual => Ok(Self::Plain(op, value)),
            MatchOp::Matches | MatchOp::NotMatches => Regex::new(&format!("^(?s:{value})$"))
                .map(|pattern| Self::Pattern(op == MatchOp::Matches, pattern))
                .map_err(|error| format!("found the matcher \"{value}\", expected a regular expression: {error}")),
        }
    }

    fn allows(&self, found: &str) -> bool {
        match self {
            Self::Plain(op, value) => (found == *value) == (*op == MatchOp::Equal),
            Self::Pattern(wanted, pattern) => pattern.is_match(found) == *wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use rollout_core::quantity::SelectorText;

    use super::*;

    const ANSWER: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[
        {"metric":{"__name__":"errors_total","pod":"a","code":"500"},"values":[[1700000001.25,"1"],[1700000016,"3"]]},
        {"metric":{"__name__":"errors_total","pod":"a","code":"404"},"values":[[1700000001,"NaN"],[1700000016,"+Inf"]]}]}}"#;

    fn count(recording: &Recording, selector: &str) -> usize {
        recording.select(&SelectorText::new(selector).parse().unwrap()).unwrap().len()
    }

    #[test]
    fn series_are_selected_as_a_server_does() {
        let recording = Recording::parse(ANSWER.as_bytes()).unwrap();
        let found = ["errors_total", "errors_total{code=\"500\"}", "errors_total{code=~\"5..|4\"}", "errors_total{code!~\"5.*\"}", "up"];
        assert_eq!(found.map(|selector| count(&recording, selector)), [2, 1, 1, 1, 0], "patterns are anchored at both ends");
        assert_eq!(count(&recording, "errors_total{zone=\"\"}"), 2, "a label that is not there is empty");
        assert_eq!(recording.span(), Some((1_700_000_001_000, 1_700_000_016_000)));
    }

    #[test]
    fn what_was_saved_reads_back_the_same() {
        let recording = Recording::parse(ANSWER.as_bytes()).unwrap();
        let file = std::env::temp_dir().join(format!("espalier-recording-{}", std::process::id()));
        recording.save(&file).unwrap();
        let back = Recording::read(file.to_str().unwrap()).unwrap();
        std::fs::remove_file(&file).unwrap();
        // NaN is not equal to itself, so the text is compared.
        assert_eq!(format!("{back:?}"), format!("{recording:?}"));
    }

    #[test]
    fn answers_may_stand_on_lines_of_their_own_and_overlap() {
        let answer = |values: &str| {
            format!(
                r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{"__name__":"up"}},"values":[{values}]}}]}}}}"#
            )
        };
        let text = format!("{}\n{}\n", answer("[30,\"1\"],[45,\"1\"]"), answer("[15,\"1\"],[30,\"1\"]"));
        let recording = Recording::parse(text.as_bytes()).unwrap();
        let times: Vec<i64> = recording.series().flat_map(|one| one.samples.iter().map(|s| s.at)).collect();
        assert_eq!(times, [15_000, 30_000, 45_000]);
    }

    #[test]
    fn what_is_no_recording_is_said_so() {
        let error = |text: &str| Recording::parse(text.as_bytes()).unwrap_err();
        assert!(
            error(r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#).contains("vector"),
            "an instant vector has no history"
        );
        assert!(error(r#"{"status":"error","error":"bad"}"#).contains("bad"));
        assert!(error("up 1\n").contains("line 1"), "{}", error("up 1\n"));
        assert!(Recording::read("/does/not/exist").unwrap_err().starts_with("--from /does/not/exist: cannot be read"));
    }
}
