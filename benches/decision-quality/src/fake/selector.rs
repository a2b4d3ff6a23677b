//! Reads a range selector such as `errors_total{code="500",pod!=""}[20000ms]`, and matches labels with it.
//! Regular expressions are understood as far as the operator writes them: literal alternatives, anchored at both ends.

use std::collections::BTreeMap;

/// One metric, matchers and a range.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeSelector {
    /// Metric name.
    pub metric: String,
    /// Milliseconds before the time of the query.
    pub range: i64,
    matchers: Vec<Matcher>,
}

#[derive(Clone, Debug, PartialEq)]
struct Matcher {
    label: String,
    /// Whether the label must have one of the values, or none of them.
    wanted: bool,
    values: Vec<String>,
}

impl RangeSelector {
    /// Parses the whole text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = || format!("{text} is not a range selector");
        let (selector, range) = text.strip_suffix(']').and_then(|t| t.rsplit_once('[')).ok_or_else(refused)?;
        let (metric, matchers) = match selector.split_once('{') {
            Some((metric, rest)) => (metric, rest.strip_suffix('}').ok_or_else(refused)?),
            None => (selector, ""),
        };
        let named = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        if !named(metric) {
            return Err(refused());
        }
        Ok(Self { metric: metric.to_owned(), range: duration(range).ok_or_else(refused)?, matchers: matchers_of(matchers)? })
    }

    /// Whether a series with these labels is meant; a label that is not there is empty.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matchers.iter().all(|matcher| {
            let found = labels.get(&matcher.label).map_or("", String::as_str);
            matcher.values.iter().any(|value| value == found) == matcher.wanted
        })
    }
}

fn duration(text: &str) -> Option<i64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(unit)
}

fn matchers_of(text: &str) -> Result<Vec<Matcher>, String> {
    let mut matchers = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(['=', '!']).ok_or_else(|| format!("no operator in {rest:?}"))?;
        let (label, after) = rest.split_at(end);
        let operators = [("=~", true, true), ("!~", false, true), ("!=", false, false), ("=", true, false)];
        let found = operators.into_iter().find_map(|(op, wanted, regex)| Some((after.strip_prefix(op)?, wanted, regex)));
        let (after, wanted, regex) = found.ok_or_else(|| format!("no operator in {rest:?}"))?;
        let (value, after) = quoted(after)?;
        let values = if regex { alternatives(&value)? } else { vec![value] };
        matchers.push(Matcher { label: label.trim().to_owned(), wanted, values });
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Ok(matchers)
}

/// The text between two quotes with its escapes resolved, and what follows.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let broken = || format!("no quoted value in {text:?}");
    let mut chars = text.strip_prefix('"').ok_or_else(broken)?.chars();
    let mut value = String::new();
    loop {
        match chars.next().ok_or_else(broken)? {
            '"' => return Ok((value, chars.as_str())),
            '\\' => value.push(match chars.next().ok_or_else(broken)? {
                'n' => '\n',
                other => other,
            }),
            plain => value.push(plain),
        }
    }
}

/// The literals of `a|b\.c`; anything cleverer is refused, since nobody here could match it.
fn alternatives(regex: &str) -> Result<Vec<String>, String> {
    let mut all = vec![String::new()];
    let mut chars = regex.chars();
    while let Some(c) = chars.next() {
        let literal = match c {
            '|' => {
                all.push(String::new());
                continue;
            }
            '\\' => chars.next().ok_or_else(|| format!("a broken escape in {regex:?}"))?,
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' => {
                return Err(format!("{regex:?} is more than literals"));
            }
            plain => plain,
        };
        if let Some(last) = all.last_mut() {
            last.push(literal);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn matchers_do_what_their_operators_say() {
        let selector = RangeSelector::parse(r#"bad_total{rev!="",pod=~"a-1\\.x|b",code!~"200",le="+Inf"}[20000ms]"#).unwrap();
        assert_eq!((selector.metric.as_str(), selector.range), ("bad_total", 20_000));
        let all = [("rev", "r"), ("pod", "a-1.x"), ("code", "500"), ("le", "+Inf")];
        assert!(selector.matches(&labels(&all)));
        for (label, value) in [("rev", ""), ("pod", "a-1yx"), ("code", "200"), ("le", "1")] {
            let mut other = labels(&all);
            other.insert(label.to_owned(), value.to_owned());
            assert!(!selector.matches(&other), "{label}={value}");
        }
    }

    #[test]
    fn what_cannot_be_matched_here_is_refused() {
        for text in ["up", "up[1d]", "up[x]", "rate(up[5m])", "up{a}[5m]", "up{a=b}[5m]", r#"up{a=~"x.*"}[5m]"#, "{a=\"b\"}[5m]"] {
            assert!(RangeSelector::parse(text).is_err(), "{text}");
        }
    }
}
