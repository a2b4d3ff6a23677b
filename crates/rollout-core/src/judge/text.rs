//! How measurements and bounds are said to people: percentage points, ratios, levels with their units. Judges nothing.

use anytime_stats::Tally;

use crate::evidence::UnlikeLabels;
use crate::plan::{CountBound, Direction, EnergyBound, LevelBound, LimitBound, Reference, Severe};
use crate::quantity::{AT_LEAST, duration_text};
use crate::verdict::WinFinding;
use crate::words;

/// A number with at most `places` decimals and without trailing zeros.
fn short(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Decimals that still show something of a small number.
fn places(value: f64) -> usize {
    match value.abs() {
        v if v >= 1.0 => 1,
        v if v >= 0.1 => 2,
        _ => 3,
    }
}

/// A share, such as `33.2%` or `0.02%`.
pub(super) fn percent(share: f64) -> String {
    let value = share * 100.0;
    format!("{}%", short(value, places(value)))
}

/// A difference of shares with its sign, such as `+1.2pp`.
pub(super) fn points(difference: f64) -> String {
    let value = difference * 100.0;
    signed(short(value, places(value)), "pp")
}

/// A ratio, such as `1.25x`.
pub(super) fn ratio(ratio: f64) -> String {
    format!("{}x", short(ratio, 2))
}

/// A level, such as `31.2W`.
pub(super) fn level(value: f64, unit: &str) -> String {
    format!("{}{unit}", short(value, places(value)))
}

/// A difference of levels, such as `+1.2W`.
pub(super) fn level_difference(value: f64, unit: &str) -> String {
    signed(short(value, places(value)), unit)
}

fn signed(number: String, unit: &str) -> String {
    if number.starts_with('-') || number == "0" { number + unit } else { format!("+{number}{unit}") }
}

/// A count with its thousands apart, such as `4 203`.
pub(super) fn count(n: f64) -> String {
    // Counts are far below what the integer holds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = n.max(0.0).round() as u64;
    words::count(whole)
}

/// A bound on energy as it is written.
pub(crate) fn energy_bound(bound: EnergyBound, unit: &str) -> String {
    match bound {
        EnergyBound::Ratio(factor) => format!("{}x vs stable", short(factor, 4)),
        EnergyBound::Absolute(limit) => format!("{}{unit}", short(limit, 4)),
    }
}

/// A number without a unit, as a bound on drift is written.
pub(crate) fn plain(value: f64) -> String {
    short(value, 6)
}

/// A distance without a unit, such as `0.031`.
pub(super) fn distance(value: f64) -> String {
    let places = match value {
        v if v >= 0.01 => 3,
        v if v >= 0.0001 => 4,
        _ => 6,
    };
    short(value, places)
}

/// A log e-value.
pub(super) fn log_e(value: f64) -> String {
    format!("{value:.1}")
}

/// `5.2% of the candidate's requests have no label, and 0.1% of stable's (of 1 204 and 10 811 requests, ln E 7.9 ≥ 6.9): …`.
pub(super) fn unlike_labels(unlike: &UnlikeLabels) -> String {
    let (candidate, stable) = (unlike.seen.candidate, unlike.seen.champion);
    let missing = |arm: Tally| percent((1.0 - arm.rate().unwrap_or_default()).max(0.0));
    format!(
        "{} of the candidate's requests have no label, and {} of stable's (of {} and {} requests, ln E {} ≥ {}): what is counted among the labels \
         says nothing of the models until they are missing alike",
        missing(candidate),
        missing(stable),
        count(candidate.total),
        count(stable.total),
        log_e(unlike.log_e),
        log_e(unlike.threshold)
    )
}

/// The arm's name in a sentence.
pub(super) const fn arm(reference: Reference) -> &'static str {
    match reference {
        Reference::Stable => "stable",
        Reference::Baseline => "baseline",
    }
}

/// A bound on counts as it is written.
pub(crate) fn count_bound(bound: CountBound) -> String {
    match bound {
        CountBound::Difference { margin, versus } => format!("{} vs {}", signed(short(margin * 100.0, 4), "pp"), arm(versus)),
        CountBound::Ratio { factor, versus } => format!("{}x vs {}", short(factor, 4), arm(versus)),
        CountBound::Absolute(limit) => format!("{}%", short(limit * 100.0, 4)),
    }
}

/// A bound on counts with the figures that a person would write.
pub(crate) fn count_bound_short(bound: CountBound) -> String {
    match bound {
        CountBound::Difference { margin, versus } => format!("{} vs {}", points(margin), arm(versus)),
        CountBound::Ratio { factor, versus } => format!("{} vs {}", ratio(factor), arm(versus)),
        CountBound::Absolute(limit) => percent(limit),
    }
}

/// What makes events the worse ones, such as `slower than 200ms`.
pub(super) fn slower(severe: &Severe) -> String {
    format!("slower than {}", duration_text(severe.slower_than))
}

/// A promised win, and whether it is there.
pub(super) fn win(win: &WinFinding) -> String {
    let WinFinding { promised, log_e: found, threshold } = win;
    let (found, threshold) = (log_e(*found), log_e(*threshold));
    if win.is_shown() {
        format!("the promised {promised} is shown: ln E {found} ≥ {threshold}")
    } else {
        format!("the promised {promised} is not shown yet: ln E {found} of {threshold}")
    }
}

/// A bound on a gap as it is written.
pub(crate) fn gap_bound(gap: f64) -> String {
    format!("{}pp", short(gap * 100.0, 4))
}

/// A bound on a level as it is written.
pub(crate) fn level_bound(bound: LevelBound, unit: &str, direction: Direction) -> String {
    match bound {
        LevelBound::Difference { margin, versus } => format!("{} vs {}", signed(short(margin, 4), unit), arm(versus)),
        LevelBound::Absolute(limit) => format!("{}{}{unit}", at_least(direction), short(limit, 4)),
    }
}

/// A hard limit as it is written.
pub(super) fn limit_bound(bound: LimitBound, unit: &str, direction: Direction) -> String {
    let (at_least, value) = (at_least(direction), short(bound.value(), 4));
    match bound {
        LimitBound::Absolute(_) => format!("{at_least}{value}{unit}"),
        LimitBound::Ratio { versus, .. } => format!("{at_least}{value}x vs {}", arm(versus)),
    }
}

const fn at_least(direction: Direction) -> &'static str {
    match direction {
        Direction::AtMost => "",
        Direction::AtLeast => AT_LEAST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([percent(0.332), percent(0.0002), percent(0.05), percent(0.0)], ["33.2%", "0.02%", "5%", "0%"]);
        assert_eq!([points(0.012), points(-0.003), points(0.0), points(-0.000_000_1)], ["+1.2pp", "-0.3pp", "0pp", "0pp"]);
        assert_eq!([count(4203.0), count(7.0), count(1_234_567.0)], ["4 203", "7", "1 234 567"]);
        assert_eq!([ratio(1.25), ratio(0.9)], ["1.25x", "0.9x"]);
        assert_eq!([distance(0.1234), distance(0.00312), distance(0.000_012), plain(0.25)], ["0.123", "0.0031", "0.000012", "0.25"]);
        assert_eq!([level(31.23, "W"), level_difference(-2.0, "W")], ["31.2W", "-2W"]);
    }

    #[test]
    fn bounds_read_as_they_are_written() {
        assert_eq!(count_bound(CountBound::Difference { margin: 0.02, versus: Reference::Stable }), "+2pp vs stable");
        assert_eq!(count_bound(CountBound::Ratio { factor: 1.25, versus: Reference::Baseline }), "1.25x vs baseline");
        assert_eq!(count_bound(CountBound::Absolute(0.05)), "5%");
        assert_eq!(level_bound(LevelBound::Absolute(30.0), "W", Direction::AtMost), "30W");
        assert_eq!(level_bound(LevelBound::Absolute(1000.0), "qps", Direction::AtLeast), "at least 1000qps");
        let half = LimitBound::Ratio { factor: 0.5, versus: Reference::Stable };
        assert_eq!(limit_bound(half, "MiB", Direction::AtMost), "0.5x vs stable");
        assert_eq!([energy_bound(EnergyBound::Ratio(0.8), "J"), energy_bound(EnergyBound::Absolute(1.0), "kg")], ["0.8x vs stable", "1kg"]);
    }
}
