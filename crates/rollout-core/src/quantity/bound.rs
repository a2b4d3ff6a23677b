//! Bounds read aloud: "+2pp vs stable" (at most two percentage points more), "1.25x vs stable", "5%", "30W", "at least 1000qps".
//! Does not decide which form a guardrail takes; [`crate::validate`] and the rules of the schema do.

use std::fmt;

use schemars::json_schema;

use super::{refusal, split_number, text};
use crate::plan::Reference;

text!(
    /// A bound such as "+2pp vs stable", "1.25x vs stable", "5%", "30W".
    BoundText,
    // The form depends on the kind of guardrail, so the rules that check it stand there: one refusal, naming the forms of that kind.
    json_schema!({"type": "string", "maxLength": 64})
);

/// A bound, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// `+2pp vs stable`, `+2W vs stable`: at most this much more than the reference.
    Difference {
        /// The number as written, at least 0.
        margin: f64,
        /// `pp`, or the unit of a gauge; may be empty.
        unit: String,
        /// Compared with what.
        versus: Reference,
    },
    /// `1.25x vs stable`: at most this many times the reference.
    Ratio {
        /// The factor, above 0.
        factor: f64,
        /// Compared with what.
        versus: Reference,
    },
    /// `5%`, `30W`, `100`, `5pp` for a gap: at most this.
    Absolute {
        /// The number as written, at least 0.
        value: f64,
        /// `%`, `pp`, or the unit of a gauge; may be empty.
        unit: String,
    },
    /// `at least 1000qps`: not below this.
    AtLeast {
        /// The number as written, at least 0.
        value: f64,
        /// `%` or the unit of a gauge; may be empty.
        unit: String,
    },
    /// `at least 0.9x vs stable`: not below this many times the reference.
    RatioAtLeast {
        /// The factor, above 0.
        factor: f64,
        /// Compared with what.
        versus: Reference,
    },
}

impl BoundText {
    /// The forms, as messages name them.
    pub const EXPECTED: &'static str = "a bound such as \"5%\", \"30W\", \"+2pp vs stable\" or \"1.25x vs stable\"";

    /// The bound; the error names what was found and what was expected.
    pub fn parse(&self) -> Result<Bound, String> {
        read(&self.0).ok_or_else(|| refusal(&self.0, Self::EXPECTED))
    }
}

/// What stands before a bound that is not to be fallen below.
pub(crate) const AT_LEAST: &str = "at least ";

fn read(text: &str) -> Option<Bound> {
    if let Some(text) = text.strip_prefix(AT_LEAST) {
        return match read_most(text)? {
            Bound::Absolute { value, unit } if unit != "pp" => Some(Bound::AtLeast { value, unit }),
            Bound::Ratio { factor, versus } => Some(Bound::RatioAtLeast { factor, versus }),
            _ => None,
        };
    }
    read_most(text)
}

fn read_most(text: &str) -> Option<Bound> {
    let (amount, versus) = match text.split_once(" vs ") {
        Some((amount, "stable")) => (amount, Some(Reference::Stable)),
        Some((amount, "baseline")) => (amount, Some(Reference::Baseline)),
        Some(_) => return None,
        None => (text, None),
    };
    let (plus, amount) = match amount.strip_prefix('+') {
        Some(rest) => (true, rest),
        None => (false, amount),
    };
    let (number, unit) = split_number(amount)?;
    match (plus, unit, versus) {
        (true, _, Some(versus)) if unit != "x" && unit != "%" && is_unit(unit) => {
            Some(Bound::Difference { margin: number, unit: unit.to_owned(), versus })
        }
        (false, "x", Some(versus)) if number > 0.0 => Some(Bound::Ratio { factor: number, versus }),
        (false, _, None) if unit != "x" && (unit == "%" || is_unit(unit)) => Some(Bound::Absolute { value: number, unit: unit.to_owned() }),
        _ => None,
    }
}

/// Whether `text` can be the unit of a gauge: at most 16 letters or slashes, starting with a letter, or nothing.
pub(crate) fn is_unit(text: &str) -> bool {
    text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'/') && !text.starts_with('/')
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |versus: &Reference| match versus {
            Reference::Stable => "stable",
            Reference::Baseline => "baseline",
        };
        match self {
            Self::Difference { margin, unit, versus } => write!(f, "+{margin}{unit} vs {}", name(versus)),
            Self::Ratio { factor, versus } => write!(f, "{factor}x vs {}", name(versus)),
            Self::Absolute { value, unit } => write!(f, "{value}{unit}"),
            Self::AtLeast { value, unit } => write!(f, "{AT_LEAST}{value}{unit}"),
            Self::RatioAtLeast { factor, versus } => write!(f, "{AT_LEAST}{factor}x vs {}", name(versus)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Bound) {
        assert_eq!(BoundText::from(text).parse(), Ok(expected), "{text}");
    }

    #[test]
    fn bounds_are_read_as_people_read_them_aloud() {
        let stable = Reference::Stable;
        check("+2pp vs stable", Bound::Difference { margin: 2.0, unit: "pp".into(), versus: stable });
        check("+2pp vs baseline", Bound::Difference { margin: 2.0, unit: "pp".into(), versus: Reference::Baseline });
        check("+2W vs stable", Bound::Difference { margin: 2.0, unit: "W".into(), versus: stable });
        check("+3 vs stable", Bound::Difference { margin: 3.0, unit: String::new(), versus: stable });
        check("1.25x vs stable", Bound::Ratio { factor: 1.25, versus: stable });
        check("5pp", Bound::Absolute { value: 5.0, unit: "pp".into() });
        check("0.5%", Bound::Absolute { value: 0.5, unit: "%".into() });
        check("512MiB", Bound::Absolute { value: 512.0, unit: "MiB".into() });
        check("100", Bound::Absolute { value: 100.0, unit: String::new() });
        check("at least 1000qps", Bound::AtLeast { value: 1000.0, unit: "qps".into() });
        check("at least 0.9x vs stable", Bound::RatioAtLeast { factor: 0.9, versus: stable });
    }

    #[test]
    fn unfinished_or_mixed_forms_are_refused_with_the_value_found() {
        for bad in [
            "",
            "2pp vs stable",
            "+2pp",
            "+2pp vs teacher",
            "1.25x",
            "0x vs stable",
            "+1.25x vs stable",
            "+2% vs stable",
            "5% vs stable",
            "-2pp vs stable",
            "5 %",
            "1e3",
            ".5%",
            "5.%",
            "+2pp  vs stable",
            "30/W",
            "NaN",
            "inf",
            "at least",
            "at least 5pp",
            "at least +2W vs stable",
            "at least at least 5",
            "At least 5",
            "at least  5",
        ] {
            let error = BoundText::from(bad).parse().unwrap_err();
            assert!(error.starts_with(&format!("found \"{bad}\", expected a bound such as")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,40}") {
            let _ = BoundText::new(text).parse();
        }

        #[test]
        fn what_is_printed_is_read_back(number in 1u32..1_000_000, places in 0u32..4, form in 0..6) {
            // Only what a person can write: the sum of two such numbers may need more decimals than a text may have.
            let number = f64::from(number) / 10f64.powi(i32::try_from(places).unwrap());
            let bound = match form {
                0 => Bound::Difference { margin: number, unit: "pp".into(), versus: Reference::Stable },
                1 => Bound::Ratio { factor: number, versus: Reference::Baseline },
                2 => Bound::Absolute { value: number, unit: "%".into() },
                3 => Bound::AtLeast { value: number, unit: "qps".into() },
                4 => Bound::RatioAtLeast { factor: number, versus: Reference::Stable },
                _ => Bound::Absolute { value: number, unit: "W".into() },
            };
            prop_assert_eq!(BoundText::new(bound.to_string()).parse(), Ok(bound));
        }
    }
}
