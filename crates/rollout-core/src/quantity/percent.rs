//! Percentages: whole ones for shares of traffic, decimal ones for risks and sparsity.
//! Does not round: what cannot be written exactly is refused.

use schemars::json_schema;

use super::{refusal, split_number, string_rule, text};
use crate::weights::Exposure;

text!(
    /// A share of traffic in whole percent, "1%" to "100%".
    PercentText,
    json_schema!({
        "type": "string",
        "maxLength": 16,
        "x-kubernetes-validations": string_rule("self.matches('^(100|[1-9][0-9]?)%$')", PercentText::EXPECTED),
    })
);

impl PercentText {
    /// The form, as messages name it.
    pub const EXPECTED: &'static str = "a whole percentage from 1% to 100%, such as 25%";

    /// The share, 1 to 100 percent; the error names what was found and what was expected.
    pub fn parse(&self) -> Result<Exposure, String> {
        self.0
            .strip_suffix('%')
            .filter(|digits| digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0'))
            .and_then(|digits| digits.parse().ok())
            .and_then(Exposure::new)
            .filter(|share| *share > Exposure::ZERO)
            .ok_or_else(|| refusal(&self.0, Self::EXPECTED))
    }
}

text!(
    /// A percentage that may have decimals, such as "5%" or "2.5%".
    ShareText,
    share_schema("0% to 100%", "80% or 2.5%", "0.0 <= share && share <= 100.0")
);

impl ShareText {
    const SPARSITY: (&'static str, &'static str) = ("0% to 100%", "80% or 2.5%");
    const RISK: (&'static str, &'static str) = ("above 0% to 20%", "5% or 2.5%");
    const CAPTURED: (&'static str, &'static str) = ("50% to 100%", "95%");

    /// A probability of deciding wrongly as a fraction, above 0 and at most 0.2.
    pub fn risk(&self) -> Result<f64, String> {
        self.fraction().filter(|share| *share > 0.0 && *share <= 0.2).ok_or_else(|| refusal(&self.0, &Self::expected_risk()))
    }

    /// A share as a fraction, 0 to 1.
    pub fn parse(&self) -> Result<f64, String> {
        self.fraction().filter(|share| *share <= 1.0).ok_or_else(|| refusal(&self.0, &Self::expected_share()))
    }

    /// A share of labels as a fraction, 0.5 to 1.
    pub fn captured(&self) -> Result<f64, String> {
        self.fraction().filter(|share| (0.5..=1.0).contains(share)).ok_or_else(|| refusal(&self.0, &Self::expected_captured()))
    }

    /// What messages say is expected of a share of labels.
    pub fn expected_captured() -> String {
        expected(Self::CAPTURED.0, Self::CAPTURED.1)
    }

    /// What messages say is expected of a risk.
    pub fn expected_risk() -> String {
        expected(Self::RISK.0, Self::RISK.1)
    }

    /// What messages say is expected of a share.
    pub fn expected_share() -> String {
        expected(Self::SPARSITY.0, Self::SPARSITY.1)
    }

    fn fraction(&self) -> Option<f64> {
        match split_number(&self.0) {
            Some((number, "%")) => Some(number / 100.0),
            _ => None,
        }
    }
}

fn expected(range: &str, examples: &str) -> String {
    format!("a percentage {range}, such as {examples}")
}

/// The schema of a risk: above 0% and at most 20%.
pub(crate) fn risk_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    share_schema(ShareText::RISK.0, ShareText::RISK.1, "0.0 < share && share <= 20.0")
}

/// The schema of a share of labels: 50% to 100%.
pub(crate) fn captured_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    share_schema(ShareText::CAPTURED.0, ShareText::CAPTURED.1, "50.0 <= share && share <= 100.0")
}

fn share_schema(range: &str, examples: &str, within: &str) -> schemars::Schema {
    let within = within.replace("share", "double(self.substring(0, size(self) - 1))");
    let rule = format!("self.matches('^[0-9]{{1,3}}([.][0-9]{{1,9}})?%$') && {within}");
    json_schema!({"type": "string", "maxLength": 16, "x-kubernetes-validations": string_rule(&rule, &expected(range, examples))})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_percentages_are_read_and_anything_else_is_named() {
        assert_eq!(PercentText::from("25%").parse().map(Exposure::percent), Ok(25));
        assert_eq!(PercentText::from("100%").parse().map(Exposure::percent), Ok(100));
        for bad in ["", "%", "0%", "101%", "25", "2.5%", " 25%", "+5%", "025%", "1000%", "٣%"] {
            assert_eq!(
                PercentText::from(bad).parse(),
                Err(format!("found \"{bad}\", expected a whole percentage from 1% to 100%, such as 25%"))
            );
        }
    }

    #[test]
    fn risks_are_above_zero_and_at_most_a_fifth() {
        assert_eq!(ShareText::from("2.5%").risk(), Ok(0.025));
        assert_eq!(ShareText::from("20%").risk(), Ok(0.2));
        for bad in ["0%", "20.1%", "5", "1e-2%", ".5%", "5.%", "-1%"] {
            assert!(ShareText::from(bad).risk().is_err_and(|text| text.starts_with(&format!("found \"{bad}\""))), "{bad}");
        }
    }

    #[test]
    fn sparsity_may_have_decimals_and_reach_its_ends() {
        assert_eq!(ShareText::from("0%").parse(), Ok(0.0));
        assert_eq!(ShareText::from("100%").parse(), Ok(1.0));
        assert!(ShareText::from("100.1%").parse().is_err());
    }
}
