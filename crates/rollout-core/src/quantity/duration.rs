//! Durations such as "500ms", "30s", "1h30m": hours, minutes, seconds, milliseconds, in this order.
//! Does not accept days or fractions: what it accepts, the CEL function `duration` accepts too.

use chrono::TimeDelta;
use schemars::{Schema, json_schema};

use super::{refusal, string_rule, text};

/// Shape of a duration. At least one part is required besides.
const PATTERN: &str = "^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?([0-9]{1,9}ms)?$";

text!(
    /// A duration such as "500ms", "30s", "2m", "1h30m".
    DurationText,
    ANY.schema()
);

const ANY: DurationRange = DurationRange { min: "0s", max: "8760h", example: "30s" };

impl DurationText {
    /// The duration, 0s to 8760h; the error names what was found and what was expected.
    pub fn parse(&self) -> Result<TimeDelta, String> {
        ANY.check(self)
    }
}

/// A duration as [`DurationText`] spells it, largest unit first; negative ones count as zero.
pub fn duration_text(duration: TimeDelta) -> String {
    let mut rest = duration.num_milliseconds().max(0);
    let mut text = String::new();
    for (unit, millis) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= millis {
            text.push_str(&(rest / millis).to_string());
            text.push_str(unit);
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// The durations that a field takes, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationRange {
    /// The shortest.
    pub min: &'static str,
    /// The longest.
    pub max: &'static str,
    /// One that people use.
    pub example: &'static str,
}

/// The ranges of the fields of both resources, used by the schema and by [`crate::validate`].
pub mod ranges {
    use super::DurationRange;

    const fn range(min: &'static str, max: &'static str, example: &'static str) -> DurationRange {
        DurationRange { min, max, example }
    }

    /// `spec.window` of a policy.
    pub const WINDOW: DurationRange = range("1s", "1h", "1m");
    /// `spec.interval` of a policy.
    pub const INTERVAL: DurationRange = range("1s", "5m", "15s");
    /// `spec.requestTimeout` of a policy.
    pub const REQUEST_TIMEOUT: DurationRange = range("100ms", "1h", "30s");
    /// `spec.prometheus.timeout` of a policy.
    pub const PROMETHEUS_TIMEOUT: DurationRange = range("100ms", "60s", "5s");
    /// `slowerThan` of a latency guardrail.
    pub const SLOWER_THAN: DurationRange = range("1ms", "1h", "100ms");
    /// `maturity.age` of a guardrail.
    pub const MATURITY_AGE: DurationRange = range("1s", "168h", "36h");
    /// `maturity.cohortWidth` of a guardrail.
    pub const COHORT_WIDTH: DurationRange = range("1m", "24h", "1h");
    /// `minDuration` and `stepMinDuration` of a stage.
    pub const STAGE_MIN: DurationRange = range("0s", "168h", "2m");
    /// `maxDuration` of a stage; the outer limit is a week of clock time.
    pub const STAGE_MAX: DurationRange = range("1s", "168h", "6h");
    /// `spec.probation.duration` of a rollout.
    pub const PROBATION: DurationRange = range("0s", "720h", "24h");
    /// `spec.progressDeadline` of a rollout.
    pub const PROGRESS_DEADLINE: DurationRange = range("1s", "24h", "10m");
}

impl DurationRange {
    /// What messages say is expected.
    pub fn expected(self) -> String {
        format!("a duration from {} to {}, such as {}", self.min, self.max, self.example)
    }

    /// The duration if it is in range; the error names what was found and what was expected.
    pub fn check(self, text: &DurationText) -> Result<TimeDelta, String> {
        let found = read(text.as_str()).filter(|found| {
            let (min, max) = (read(self.min), read(self.max));
            min.is_some_and(|min| *found >= min) && max.is_some_and(|max| *found <= max)
        });
        found.ok_or_else(|| refusal(text.as_str(), &self.expected()))
    }

    pub(crate) fn schema(self) -> Schema {
        let rule = format!(
            "self != '' && self.matches('{PATTERN}') && duration(self) >= duration('{}') && duration(self) <= duration('{}')",
            self.min, self.max
        );
        json_schema!({"type": "string", "maxLength": 32, "x-kubernetes-validations": string_rule(&rule, &self.expected())})
    }
}

fn read(text: &str) -> Option<TimeDelta> {
    // "ms" is looked at before "m" and "s", but stands last.
    let parts: [(&str, usize, i64); 4] = [("h", 5, 3_600_000), ("m", 5, 60_000), ("s", 6, 1_000), ("ms", 9, 1)];
    let mut rest = text;
    let mut total: i64 = 0;
    let mut next = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits)?;
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, after) = after.split_at_checked(letters)?;
        let (index, (_, most, millis)) = parts.iter().enumerate().skip(next).find(|(_, part)| part.0 == unit)?;
        if digits == 0 || digits > *most {
            return None;
        }
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(*millis)?)?;
        next = index + 1;
        rest = after;
    }
    if text.is_empty() { None } else { TimeDelta::try_milliseconds(total) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_mean_them() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("2m", 120_000), ("1h30m", 5_400_000), ("24h", 86_400_000), ("0s", 0), ("1m500ms", 60_500)]
        {
            assert_eq!(DurationText::from(text).parse(), Ok(TimeDelta::milliseconds(millis)), "{text}");
        }
    }

    #[test]
    fn other_spellings_are_refused_with_the_value_found() {
        for bad in ["", "5", "1.5h", "1d", "30 s", "-5s", "30s1m", "1m1m", "h", "9000h", "1H", "٣s", "1ms1s"] {
            let error = DurationText::from(bad).parse().unwrap_err();
            assert_eq!(error, format!("found \"{bad}\", expected a duration from 0s to 8760h, such as 30s"));
        }
    }

    #[test]
    fn every_range_contains_its_ends_and_its_example() {
        use ranges::*;
        let all = [
            WINDOW,
            INTERVAL,
            REQUEST_TIMEOUT,
            PROMETHEUS_TIMEOUT,
            SLOWER_THAN,
            MATURITY_AGE,
            COHORT_WIDTH,
            STAGE_MIN,
            STAGE_MAX,
            PROBATION,
            PROGRESS_DEADLINE,
        ];
        for range in all {
            for text in [range.min, range.max, range.example] {
                assert!(range.check(&text.into()).is_ok(), "{range:?} {text}");
            }
        }
        assert_eq!(INTERVAL.check(&"301s".into()), Err("found \"301s\", expected a duration from 1s to 5m, such as 15s".to_owned()));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,20}") {
            let _ = DurationText::new(text).parse();
        }

        #[test]
        fn sums_of_parts_are_what_is_read(h in 0i64..8000, m in 0i64..600, s in 0i64..600, ms in 0i64..5000) {
            let read = DurationText::new(format!("{h}h{m}m{s}s{ms}ms")).parse();
            prop_assert_eq!(read, Ok(TimeDelta::milliseconds(((h * 60 + m) * 60 + s) * 1000 + ms)));
        }

        #[test]
        fn what_is_printed_is_read_back(millis in 0i64..30_000_000_000) {
            let duration = TimeDelta::milliseconds(millis);
            prop_assert_eq!(DurationText::new(duration_text(duration)).parse(), Ok(duration));
        }
    }
}
