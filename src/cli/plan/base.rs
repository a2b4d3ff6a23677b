//! Numbers that a person types for a plan: traffic, and what stable does today. Reads them, or says what was found and expected.

use rollout_core::plan::{CountSource, Plan, Test};
use rollout_core::planning::Base;
use rollout_core::quantity::ShareText;

/// Requests per second from `50`, `30/m`, `100/h`, `5000/d`.
pub(super) fn rps(text: &str) -> Result<f64, String> {
    per_second(text).filter(|rate| *rate > 0.0).ok_or_else(|| "expected a number above 0, such as 50, 30/m, 100/h or 5000/d".to_owned())
}

fn per_second(text: &str) -> Option<f64> {
    let (number, seconds) = match text.split_once('/') {
        None => (text, 1.0),
        Some((number, unit)) => {
            let seconds = [("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("d", 86_400.0)];
            (number, seconds.into_iter().find(|(name, _)| *name == unit)?.1)
        }
    };
    number.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0).map(|number| number / seconds)
}

/// A factor of 1 or more.
pub(super) fn overdispersion(text: &str) -> Result<f64, String> {
    let read = text.parse::<f64>().ok().filter(|factor| factor.is_finite() && *factor >= 1.0);
    read.ok_or_else(|| "expected a number of 1 or more, such as 1.5".to_owned())
}

/// Name and value of `NAME=RATE`; `None` when the plan has no such guardrail.
pub(super) fn base(text: &str, plan: &Plan) -> Result<Option<(String, Base)>, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("found \"{text}\", expected NAME=RATE, such as accuracy=8%"))?;
    let Some(guardrail) = plan.guardrails.iter().find(|guardrail| guardrail.name == name) else { return Ok(None) };
    let expected = |form: &str| format!("found \"{text}\", expected {form}");
    let read = match &guardrail.test {
        Test::Counts { total: CountSource::PodSeconds, .. } => per_second(value)
            .filter(|_| value.contains('/'))
            .map(Base::PerSecond)
            .ok_or_else(|| expected("events per pod and time, such as 2/h")),
        Test::Counts { .. } | Test::Paired(_) | Test::Gap(_) => {
            let share = ShareText::new(value).parse();
            share.map(Base::Share).map_err(|_| expected("the share of bad events, such as 8% or 0.02%"))
        }
        Test::Energy(energy) => {
            let unit = energy.unit();
            level(value, unit).ok_or_else(|| expected(&format!("what stable takes per inference, such as 120{unit} or 120{unit}+-6{unit}")))
        }
        Test::Drift(_) => {
            let bins = value.parse::<u32>().ok().filter(|bins| (2..=64).contains(bins));
            bins.map(Base::Bins).ok_or_else(|| expected("the number of bins, 2 to 64"))
        }
        Test::Level { unit, .. } => {
            level(value, unit).ok_or_else(|| expected(&format!("a level in the unit of the gauge, such as 24{unit} or 24{unit}+-2{unit}")))
        }
        Test::Limit { .. } | Test::Tripwire { .. } => Err(expected("no value: a limit or a tripwire takes one look")),
    };
    read.map(|base| Some((name.to_owned(), base)))
}

fn level(text: &str, unit: &str) -> Option<Base> {
    let number = |text: &str| text.strip_suffix(unit)?.parse::<f64>().ok().filter(|number| number.is_finite());
    let (level, spread) = match text.split_once("+-").or_else(|| text.split_once('±')) {
        Some((level, spread)) => (level, Some(number(spread).filter(|spread| *spread > 0.0)?)),
        None => (text, None),
    };
    Some(Base::Level { level: number(level)?, spread })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_read_per_second_minute_hour_and_day() {
        assert_eq!([rps("50"), rps("30/m"), rps("36/h"), rps("8640/d")], [Ok(50.0), Ok(0.5), Ok(0.01), Ok(0.1)]);
        assert!(["", "0", "-1", "inf", "NaN", "5/w", "5/"].iter().all(|bad| rps(bad).is_err()));
    }

    #[test]
    fn levels_carry_their_unit_and_perhaps_a_spread() {
        assert_eq!(level("24W", "W"), Some(Base::Level { level: 24.0, spread: None }));
        assert_eq!(level("24W+-2.5W", "W"), Some(Base::Level { level: 24.0, spread: Some(2.5) }));
        assert_eq!(level("24W±2.5W", "W"), Some(Base::Level { level: 24.0, spread: Some(2.5) }));
        assert!(["24", "24kW", "24W+-0W", "W", "24W+-"].iter().all(|bad| level(bad, "W").is_none()));
    }
}
