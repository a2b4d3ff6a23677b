//! What the body of an answer means: series of raw samples, or the reason why there are none to trust.
//! Does no IO. NaN and infinite samples are passed on as they are; judging them is the core's work.

use std::borrow::Cow;
use std::fmt;

use rollout_core::evidence::{Sample, Series};
use rollout_core::verdict::Unmeasurable;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::labels::Labels;

/// The answer of a server, before anything is made of its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    /// Address of the server, for messages.
    pub address: &'a str,
    /// HTTP status.
    pub status: u16,
    /// Content type as sent; empty when absent.
    pub content_type: &'a str,
    /// The whole body.
    pub body: &'a [u8],
}

/// Why an answer has no series, and whether the server or only this query is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Only this query failed; others may well succeed.
    Query(Unmeasurable),
    /// Every query will fail until the server is back.
    Server(Unmeasurable),
    /// The body is larger than the cap; a shorter range may fit.
    TooLarge(Unmeasurable),
}

impl Failure {
    /// The reason, whoever is to blame.
    pub(super) fn into_reason(self) -> Unmeasurable {
        match self {
            Self::Query(reason) | Self::Server(reason) | Self::TooLarge(reason) => reason,
        }
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    status: String,
    #[serde(default, borrow)]
    data: Option<Data<'a>>,
    #[serde(default, rename = "errorType")]
    error_type: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(rename = "resultType", borrow)]
    kind: Cow<'a, str>,
    /// Read only when its type is known, which may be said after it; and series by series, so that an answer is never held in two forms.
    #[serde(borrow)]
    result: &'a RawValue,
}

#[derive(Deserialize)]
struct RawSeries<'a> {
    #[serde(borrow)]
    metric: RawLabels<'a>,
    #[serde(default)]
    values: RawSamples,
    /// Present only for native histograms.
    #[serde(default)]
    histograms: Option<IgnoredAny>,
}

/// Labels where they lie in the body, sorted by name: thousands of series are read at every instant, and most labels are known already.
struct RawLabels<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// One text that is copied only where it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for RawLabels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = RawLabels<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::with_capacity(8);
                while let Some((Text(name), Text(value))) = map.next_entry()? {
                    pairs.push((name, value));
                }
                pairs.sort();
                Ok(RawLabels(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Samples, and the first one whose time or value is no number.
#[derive(Default)]
struct RawSamples {
    samples: Vec<Sample>,
    odd: Option<(f64, String)>,
}

impl<'de> Deserialize<'de> for RawSamples {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = RawSamples;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("samples")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawSamples, A::Error> {
                let mut read = RawSamples::default();
                while let Some(Pair(seconds, Text(text))) = list.next_element()? {
                    match (milliseconds(seconds), text.parse::<f64>()) {
                        (Some(at), Ok(value)) => read.samples.push(Sample { at, value }),
                        _ => read.odd = read.odd.or_else(|| Some((seconds, text.into_owned()))),
                    }
                }
                Ok(read)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// A time and a value as sent.
#[derive(Deserialize)]
struct Pair<'a>(f64, #[serde(borrow)] Text<'a>);

/// What is read of an answer that does not have the expected form.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    data: Option<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default, rename = "resultType")]
    result_type: Option<String>,
}

/// The series of `raw`, oldest sample first; those that have labels of `known` share them.
pub(super) fn series(raw: Raw<'_>, known: &Labels) -> Result<Vec<Series>, Failure> {
    if !is_json(raw.content_type) {
        return Err(not_json(raw));
    }
    let answer: Answer<'_> = match serde_json::from_slice(raw.body) {
        Ok(answer) => answer,
        Err(error) => return Err(malformed(raw, &error)),
    };
    if answer.status != "success" || !(200..300).contains(&raw.status) {
        return Err(refused(raw, &answer));
    }
    if let Some(warnings) = answer.warnings.filter(|warnings| !warnings.is_empty()) {
        return Err(Failure::Query(Unmeasurable::Partial { warning: brief(&warnings.join("; ")).into_owned() }));
    }
    match answer.data {
        Some(Data { kind, result }) if kind == "matrix" => {
            let mut reader = serde_json::Deserializer::from_str(result.get());
            reader.deserialize_seq(Matrix { address: raw.address, known }).unwrap_or_else(|error| Err(malformed(raw, &error)))
        }
        Some(Data { kind, .. }) => Err(wrong_type(&brief(&kind))),
        None => Err(wrong_type("no data")),
    }
}

/// Makes series of a result one after the other; or the first reason not to trust it.
struct Matrix<'k> {
    address: &'k str,
    known: &'k Labels,
}

impl<'de> Visitor<'de> for Matrix<'_> {
    type Value = Result<Vec<Series>, Failure>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("series")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut all = Ok(Vec::new());
        while let Some(raw) = list.next_element::<RawSeries<'de>>()? {
            let one = convert(raw, self.address, self.known);
            all = all.and_then(|mut series: Vec<Series>| {
                series.push(one?);
                Ok(series)
            });
        }
        Ok(all)
    }
}

/// The series of a saved answer, oldest sample first, or why there are none to trust.
pub fn read_answer(body: &[u8]) -> Result<Vec<Series>, Unmeasurable> {
    series(Raw { address: "the file", status: 200, content_type: "application/json", body }, &Labels::default())
        .map_err(Failure::into_reason)
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || media.ends_with("+json")
}

fn convert(raw: RawSeries<'_>, address: &str, known: &Labels) -> Result<Series, Failure> {
    let RawLabels(labels) = raw.metric;
    if raw.histograms.is_some() {
        let name = labels.iter().find(|(name, _)| name == "__name__").map_or("a series", |(_, value)| value.as_ref());
        let found = format!("native histogram {}", brief(name));
        return Err(Failure::Query(Unmeasurable::WrongType { found, expected: "counters or gauges (float samples)".to_owned() }));
    }
    let RawSamples { mut samples, odd } = raw.values;
    if let Some((seconds, text)) = odd {
        let message = format!("{address} sent a sample that is not a number: time {seconds}, value {}", brief(&text));
        return Err(Failure::Query(Unmeasurable::Unavailable { message }));
    }
    samples.sort_by_key(|sample| sample.at);
    Ok(Series { labels: known.shared(&labels), samples })
}

/// Unix seconds as sent, to whole milliseconds. An f64 carries them exactly until far beyond year 9999.
#[allow(clippy::cast_possible_truncation, reason = "bounded by the range check")]
fn milliseconds(seconds: f64) -> Option<i64> {
    let rounded = (seconds * 1000.0).round();
    (rounded.is_finite() && rounded.abs() < 9.0e15).then_some(rounded as i64)
}

fn refused(raw: Raw<'_>, answer: &Answer<'_>) -> Failure {
    let kind = answer.error_type.as_deref().unwrap_or("error");
    let words = answer.error.as_deref().unwrap_or("no message");
    let message = format!("{} refused the query with {kind} (HTTP {}): {}", raw.address, raw.status, brief(words));
    let failure = Unmeasurable::Unavailable { message };
    if concerns_all(raw.status) { Failure::Server(failure) } else { Failure::Query(failure) }
}

/// Whether `status` says something about the caller or the server, not about one query.
const fn concerns_all(status: u16) -> bool {
    matches!(status, 300..=399 | 401 | 403 | 404 | 407 | 429 | 500 | 502 | 504)
}

fn not_json(raw: Raw<'_>) -> Failure {
    let kind = if raw.content_type.is_empty() { Cow::Borrowed("no content type") } else { brief(raw.content_type) };
    let hint = match raw.status {
        200..=299 => "is it a login page, or another address than the API's base?",
        300..=399 => "redirects are not followed; write the final address",
        401 | 403 => "check the credentials in the policy",
        404 => "check the path in the policy's address",
        _ => "the server or a proxy before it is in trouble",
    };
    let message = format!("{} answered HTTP {} with {kind} where JSON was expected: {hint}", raw.address, raw.status);
    Failure::Server(Unmeasurable::Unavailable { message })
}

fn malformed(raw: Raw<'_>, error: &serde_json::Error) -> Failure {
    // A result of an unknown type is still an honest answer: its name is worth more than the parser's complaint.
    if let Ok(Envelope { status: Some(status), data: Some(Kind { result_type: Some(kind) }) }) = serde_json::from_slice(raw.body)
        && status == "success"
        && kind != "matrix"
    {
        return wrong_type(&brief(&kind));
    }
    let message = format!("{} sent JSON (HTTP {}) that is not an answer of the query API: {error}", raw.address, raw.status);
    Failure::Query(Unmeasurable::Unavailable { message })
}

fn wrong_type(found: &str) -> Failure {
    Failure::Query(Unmeasurable::WrongType { found: found.to_owned(), expected: "matrix".to_owned() })
}

/// Foreign words are cut: they end up in a status that must stay small.
fn brief(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<Series>, Failure> {
        series(Raw { address: "http://p", status: 200, content_type: "application/json", body: body.as_bytes() }, &Labels::default())
    }

    fn matrix(result: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":{result}}}}}"#)
    }

    #[test]
    fn raw_samples_keep_their_milliseconds_and_their_odd_values() {
        let body = matrix(
            r#"[{"metric":{"__name__":"up","pod":"a"},"values":[[1700000001.25,"1e+06"],[1700000000.781,"3"],[1700000002,"NaN"],[1700000003,"+Inf"],[1700000004,"-Inf"]]}]"#,
        );
        let one = read(&body).unwrap().remove(0);
        assert_eq!(one.labels.get("pod").map(String::as_str), Some("a"));
        let at: Vec<i64> = one.samples.iter().map(|sample| sample.at).collect();
        assert_eq!(at, [1_700_000_000_781, 1_700_000_001_250, 1_700_000_002_000, 1_700_000_003_000, 1_700_000_004_000]);
        let values: Vec<f64> = one.samples.iter().map(|sample| sample.value).collect();
        assert_eq!(&values[..2], [3.0, 1e6]);
        assert!(values[2].is_nan() && values[3] == f64::INFINITY && values[4] == f64::NEG_INFINITY);
    }

    #[test]
    fn an_empty_matrix_is_an_answer_and_not_a_failure() {
        assert_eq!(read(&matrix("[]")), Ok(Vec::new()));
    }

    #[test]
    fn keys_may_come_in_any_order() {
        let body = r#"{"data":{"result":[{"values":[[1,"2"]],"metric":{}}],"resultType":"matrix"},"status":"success"}"#;
        assert_eq!(read(body).unwrap()[0].samples.len(), 1);
    }

    #[test]
    fn infos_do_not_make_a_result_partial_but_warnings_do() {
        let with =
            |key: &str| format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[]}},"{key}":["store x is away"]}}"#);
        assert_eq!(read(&with("infos")), Ok(Vec::new()));
        assert_eq!(read(&with("warnings")), Err(Failure::Query(Unmeasurable::Partial { warning: "store x is away".into() })));
    }

    #[test]
    fn long_foreign_words_are_cut_at_a_character() {
        assert_eq!(brief(&"é".repeat(300)).chars().count(), 201);
        assert_eq!(brief("short"), "short");
    }
}
