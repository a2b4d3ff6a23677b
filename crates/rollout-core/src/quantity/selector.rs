//! Selectors: a metric name with label matchers, `name{label="value"}`, and nothing else of the query language.
//! Does not add the matchers of an arm; the evidence does. Does not check that a regular expression compiles; the server says so.

use std::fmt;

use schemars::json_schema;

use super::{string_rule, text};
use crate::plan::{MatchOp, Selector};

/// The label that the operator itself matches.
const OWN_LABEL: &str = "espalier_dev_revision";

text!(
    /// A metric with label matchers, such as `model_predictions_total{correct="false"}`.
    SelectorText,
    json_schema!({
        "type": "string",
        "maxLength": 512,
        "x-kubernetes-validations": string_rule(RULE, SelectorText::EXPECTED),
    })
);

const RULE: &str = r#"self.matches('^[a-zA-Z_:][a-zA-Z0-9_:]*([{] *[a-zA-Z_][a-zA-Z0-9_]* *(=|!=|=~|!~) *"([^"\\\\\n]|\\\\["\\\\n])*" *(, *[a-zA-Z_][a-zA-Z0-9_]* *(=|!=|=~|!~) *"([^"\\\\\n]|\\\\["\\\\n])*" *)*[}])?$') && !self.matches('[{, ](espalier_dev_revision|__name__) *(=|!)')"#;

impl SelectorText {
    /// The form, as messages name it.
    pub const EXPECTED: &'static str = "a metric name with optional matchers, such as requests_total{code=\"500\"}; \
         functions, ranges and the labels espalier_dev_revision and __name__ are not part of it";

    /// The selector; the error names what was found and what was expected.
    pub fn parse(&self) -> Result<Selector, String> {
        read(&self.0)
            .filter(|selector| !selector.matchers.iter().any(|(label, _, _)| label == OWN_LABEL || label == "__name__"))
            .ok_or_else(|| super::refusal(&self.0, Self::EXPECTED))
    }
}

/// A selector with any labels.
pub(crate) fn read(text: &str) -> Option<Selector> {
    let (metric, mut rest) = split_name(text, true)?;
    let mut matchers = Vec::new();
    if !rest.is_empty() {
        rest = rest.strip_prefix('{')?;
        loop {
            let (matcher, after) = matcher(rest)?;
            matchers.push(matcher);
            let after = after.trim_start_matches(' ');
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None if after == "}" => break,
                None => return None,
            }
        }
    }
    Some(Selector { metric: metric.to_owned(), matchers })
}

fn matcher(text: &str) -> Option<((String, MatchOp, String), &str)> {
    let (label, rest) = split_name(text.trim_start_matches(' '), false)?;
    let rest = rest.trim_start_matches(' ');
    let (op, rest) = OPERATORS.iter().find_map(|(op, sign)| Some((*op, rest.strip_prefix(sign)?)))?;
    let (value, rest) = quoted(rest.trim_start_matches(' '))?;
    Some(((label.to_owned(), op, value), rest))
}

/// Longest sign first, so that `=` does not win over `=~`.
const OPERATORS: [(MatchOp, &str); 4] =
    [(MatchOp::Matches, "=~"), (MatchOp::NotMatches, "!~"), (MatchOp::NotEqual, "!="), (MatchOp::Equal, "=")];

fn split_name(text: &str, colons: bool) -> Option<(&str, &str)> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':');
    let end = text.bytes().take_while(|byte| good(*byte)).count();
    let (name, rest) = text.split_at_checked(end)?;
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) { None } else { Some((name, rest)) }
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.strip_prefix('"')?.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 2..)?)),
            '\n' => return None,
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                same @ ('"' | '\\') => same,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    None
}

impl fmt::Display for Selector {
    /// The canonical text: no spaces, values escaped; what [`SelectorText`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.metric)?;
        for (index, (label, op, value)) in self.matchers.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(f, "{}{label}{}\"{value}\"", if index == 0 { "{" } else { "," }, op.sign())?;
        }
        if self.matchers.is_empty() { Ok(()) } else { f.write_str("}") }
    }
}

impl MatchOp {
    /// The operator as it is written.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Matches => "=~",
            Self::NotMatches => "!~",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn selectors_are_read_and_printed_canonically() {
        for (text, canonical) in [
            ("up", "up"),
            ("job:errors:rate5m", "job:errors:rate5m"),
            ("model_predictions_total{correct=\"false\"}", "model_predictions_total{correct=\"false\"}"),
            ("a{ b = \"x\" , c!~\"y|z\" }", "a{b=\"x\",c!~\"y|z\"}"),
            (r#"a{b="say \"hi\" \\ \n"}"#, r#"a{b="say \"hi\" \\ \n"}"#),
            ("a{b=\"\"}", "a{b=\"\"}"),
        ] {
            assert_eq!(SelectorText::from(text).parse().unwrap().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn promql_beyond_a_selector_is_refused_with_the_value_found() {
        for bad in [
            "",
            "rate(a[5m])",
            "a[5m]",
            "a{}",
            "a{b=\"x\",}",
            "a{b=x}",
            "a{b='x'}",
            "{b=\"x\"}",
            "a offset 5m",
            "a + b",
            "a{b=\"x\"} or up",
            "a{b=\"x",
            "1a",
            "a{1b=\"x\"}",
            r#"a{b="\d"}"#,
            "a{b==\"x\"}",
            "a{espalier_dev_revision=\"x\"}",
            "a{__name__=\"b\"}",
            "a{b=\"x\ny\"}",
        ] {
            let error = SelectorText::from(bad).parse().unwrap_err();
            assert!(error.starts_with(&format!("found \"{bad}\", expected a metric name")), "{error}");
        }
    }

    fn selector() -> impl Strategy<Value = Selector> {
        let op = prop::sample::select(vec![MatchOp::Equal, MatchOp::NotEqual, MatchOp::Matches, MatchOp::NotMatches]);
        let matcher = ("[a-z][a-z0-9_]{0,8}", op, "[ -~\\n]{0,12}");
        ("[a-zA-Z_:][a-zA-Z0-9_:]{0,12}", prop::collection::vec(matcher, 0..4)).prop_map(|(metric, matchers)| Selector { metric, matchers })
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(selector in selector()) {
            prop_assert_eq!(SelectorText::new(selector.to_string()).parse(), Ok(selector));
        }

        #[test]
        fn reading_never_panics(text in "[a-z{}\"\\\\=!~, \\n\\PC]{0,40}") {
            let _ = SelectorText::new(text).parse();
        }
    }
}
