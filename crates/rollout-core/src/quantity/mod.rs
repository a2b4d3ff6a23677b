//! Quantities as people write them ("25%", "30s", "+2pp vs stable"), each with its schema and its one reading.
//! Does not know which quantity is sensible where; [`crate::validate`] does. No number here is ever a float in the API.

mod bound;
mod duration;
mod percent;
mod selector;

pub(crate) use bound::{AT_LEAST, is_unit};
pub use bound::{Bound, BoundText};
pub use duration::{DurationRange, DurationText, duration_text, ranges};
pub use percent::{PercentText, ShareText};
pub(crate) use percent::{captured_schema, risk_schema};
pub use selector::SelectorText;
pub(crate) use selector::read as selector;

use serde_json::{Value, json};

/// Declares a string newtype that travels as a plain string and carries its own inline schema.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $schema:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text as given; nothing is checked before `parse`.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}
use text;

/// The sentence every refusal uses, on both sides of the API server.
pub(crate) fn refusal(found: &str, expected: &str) -> String {
    format!("found \"{found}\", expected {expected}")
}

/// A rule on a string whose message is [`refusal`] with the string itself.
pub(crate) fn string_rule(rule: &str, expected: &str) -> Value {
    json!([{
        "rule": rule,
        "message": format!("expected {expected}"),
        "messageExpression": format!("'found \"' + self + '\", expected {expected}'"),
    }])
}

/// The leading decimal number of `text` and what follows; digits, optionally a point and digits, no sign, no exponent.
pub(crate) fn split_number(text: &str) -> Option<(f64, &str)> {
    let whole = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.get(whole..)?;
    let fraction = match rest.strip_prefix('.') {
        Some(digits) => 1 + digits.bytes().take_while(u8::is_ascii_digit).count(),
        None => 0,
    };
    if whole == 0 || whole > 12 || fraction == 1 || fraction > 10 {
        return None;
    }
    let (number, rest) = text.split_at_checked(whole + fraction)?;
    Some((number.parse().ok()?, rest))
}
