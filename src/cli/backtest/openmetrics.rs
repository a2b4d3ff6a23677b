//! `OpenMetrics` and Prometheus text in which every sample has its time, as `promtool tsdb dump` and `dump-openmetrics` write it.
//! Samples without a time are refused: a single scrape has no history.

use std::collections::BTreeMap;

use rollout_core::evidence::{Sample, Series};

/// Whether the text begins like `{__name__="up"} 1 1700000000000`, which is no JSON.
pub(super) fn has_bare_braces(bytes: &[u8]) -> bool {
    let inside = bytes.iter().skip_while(|byte| byte.is_ascii_whitespace()).skip(1).find(|byte| !byte.is_ascii_whitespace());
    inside.is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
}

/// All series of the text.
pub(super) fn read(text: &str) -> Result<Vec<Series>, String> {
    let mut found: BTreeMap<BTreeMap<String, String>, Vec<Sample>> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (labels, sample) = sample(line).ok_or_else(|| {
            let shown: String = line.chars().take(80).collect();
            format!("line {}: found \"{shown}\", expected a sample with its time, such as up{{pod=\"a\"}} 1 1700000000", number + 1)
        })?;
        found.entry(labels).or_default().push(sample);
    }
    Ok(found
        .into_iter()
        .map(|(labels, mut samples)| {
            samples.sort_by_key(|sample| sample.at);
            Series { labels: labels.into(), samples }
        })
        .collect())
}

fn sample(line: &str) -> Option<(BTreeMap<String, String>, Sample)> {
    let name_end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (name, mut rest) = line.split_at_checked(name_end)?;
    let mut labels = BTreeMap::new();
    if !name.is_empty() {
        labels.insert("__name__".to_owned(), name.to_owned());
    }
    if let Some(inside) = rest.strip_prefix('{') {
        rest = read_labels(inside, &mut labels)?;
    }
    let mut words = rest.split_ascii_whitespace();
    let value = words.next()?.parse().ok()?;
    let at = milliseconds(words.next()?)?;
    labels.contains_key("__name__").then_some((labels, Sample { at, value }))
}

/// Reads up to the closing brace; returns what follows.
fn read_labels<'a>(mut text: &'a str, labels: &mut BTreeMap<String, String>) -> Option<&'a str> {
    loop {
        text = text.trim_start_matches([' ', ',']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some(rest);
        }
        let (name, rest) = text.split_once('=')?;
        let mut value = String::new();
        let mut characters = rest.strip_prefix('"')?.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.trim().to_owned(), value);
        text = rest.get(end + 2..)?;
    }
}

/// `OpenMetrics` writes seconds, the older text milliseconds; no recording is from before 1973 or after the year 5000.
fn milliseconds(text: &str) -> Option<i64> {
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite() && number.abs() < 1e15)?;
    let scale = if number.abs() < 1e11 { 1000.0 } else { 1.0 };
    // Bounded by the check above.
    #[allow(clippy::cast_possible_truncation)]
    let whole = (number * scale).round() as i64;
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_dumps_of_promtool_are_read() {
        let open = "# TYPE up gauge\nup{pod=\"a\",path=\"c:\\\\x \\\"y\\\"\"} 1 1700000000.25\nup{pod=\"a\",path=\"c:\\\\x \\\"y\\\"\"} 0 1700000015\n# EOF\n";
        let plain = "{__name__=\"up\", path=\"c:\\\\x \\\"y\\\"\", pod=\"a\"} 1 1700000000250\n{__name__=\"up\", path=\"c:\\\\x \\\"y\\\"\", pod=\"a\"} 0 1700000015000\n";
        let read = read(open).unwrap();
        assert_eq!(read, super::read(plain).unwrap());
        assert_eq!(read[0].labels["path"], "c:\\x \"y\"");
        assert_eq!(read[0].samples, [Sample { at: 1_700_000_000_250, value: 1.0 }, Sample { at: 1_700_000_015_000, value: 0.0 }]);
        assert!(has_bare_braces(plain.as_bytes()) && !has_bare_braces(b" {\"status\":1}"));
    }

    #[test]
    fn a_scrape_without_times_is_refused_with_its_line() {
        assert!(read("# HELP x\nx 1\n").unwrap_err().starts_with("line 2: found \"x 1\", expected a sample with its time"));
        assert!(read("x{a=\"1} 1 5\n").is_err());
    }
}
