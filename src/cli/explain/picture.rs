//! Every guardrail as a row: what is allowed, what is not, and the interval that the measurement leaves, as far as the status has numbers.
//! Draws what the operator wrote; computes nothing.

use rollout_core::status::EvidenceStatus;
use rollout_core::verdict::Verdict;

use crate::cli::scale;
use crate::cli::svg::{Anchor, BAD, BOUND, DOUBTFUL, GOOD, INK, Svg, WIDTH};

/// Left and right end of the axis.
const LEFT: f64 = 200.0;
const RIGHT: f64 = WIDTH - 20.0;
/// Height of a row and of the band in it.
const ROW: f64 = 64.0;
const BAND: f64 = 26.0;

/// The picture of these guardrails; those that do not count in the stage are left out.
pub(super) fn picture(title: &str, evidence: &[EvidenceStatus]) -> String {
    let mut svg = Svg::default();
    svg.text((16.0, 26.0), 15.0, Anchor::Start, title);
    svg.text(
        (16.0, 44.0),
        11.0,
        Anchor::Start,
        "green: allowed, amber: beyond the target, red: beyond critical; blue: estimate and its 95% interval, however often one looks",
    );
    let mut top = 72.0;
    for one in evidence.iter().filter(|one| one.verdict != Verdict::Inactive) {
        row(&mut svg, top, one);
        top += ROW;
    }
    svg.finish()
}

fn row(svg: &mut Svg, top: f64, one: &EvidenceStatus) {
    svg.text((16.0, top + 14.0), 13.0, Anchor::Start, &one.guardrail);
    svg.text((16.0, top + 30.0), 11.0, Anchor::Start, &format!("{:?}", one.verdict));
    let (Some(value), Some(target)) = (number(&one.value), number(&one.target)) else {
        svg.text((LEFT, top + 18.0), 11.0, Anchor::Start, &one.message.chars().take(90).collect::<String>());
        return;
    };
    let critical = number(&one.critical).unwrap_or(target);
    let interval = one.interval.split_once(" to ").and_then(|(low, high)| Some((number(low)?, number(high)?)));
    let axis = Axis::around(&[value, target, critical, interval.map_or(value, |i| i.0), interval.map_or(value, |i| i.1)]);
    for (from, to, fill) in [(axis.low, target, GOOD), (target, critical, DOUBTFUL), (critical, axis.high, BAD)] {
        svg.rectangle((axis.at(from), top), (axis.at(to) - axis.at(from), BAND), fill);
    }
    bound(svg, axis.at(target), top, &one.target, true);
    if critical > target {
        bound(svg, axis.at(critical), top, &one.critical, axis.at(critical) - axis.at(target) > 130.0);
    }
    let middle = top + BAND / 2.0;
    if let Some((low, high)) = interval {
        svg.line((axis.at(low), middle), (axis.at(high), middle), 3.0, INK);
        for end in [low, high] {
            svg.line((axis.at(end), middle - 6.0), (axis.at(end), middle + 6.0), 2.0, INK);
        }
    }
    svg.dot((axis.at(value), middle), 5.0, INK);
    svg.text((axis.at(value), top - 3.0), 11.0, Anchor::Middle, &one.value);
}

fn bound(svg: &mut Svg, x: f64, top: f64, label: &str, has_room: bool) {
    svg.line((x, top), (x, top + BAND), 1.5, BOUND);
    // Two labels that would stand on each other are put below each other.
    let y = if has_room { top + BAND + 13.0 } else { top + BAND + 26.0 };
    svg.text((x, y), 10.0, Anchor::Middle, label);
}

/// From values to places.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn around(values: &[f64]) -> Self {
        let low = values.iter().copied().fold(0.0_f64, f64::min);
        let high = values.iter().copied().fold(0.0_f64, f64::max);
        let room = ((high - low) * 0.12).max(1e-9);
        Self { low: low - room, high: high + room }
    }

    fn at(&self, value: f64) -> f64 {
        LEFT + (value - self.low) / (self.high - self.low) * (RIGHT - LEFT)
    }
}

/// The number that a text begins with.
fn number(text: &str) -> Option<f64> {
    scale::number(text).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_holds_every_value_in_order() {
        let axis = Axis::around(&[-1.1, 0.4, 2.0, 5.0]);
        let places: Vec<f64> = [-1.1, 0.0, 0.4, 2.0, 5.0].iter().map(|value| axis.at(*value)).collect();
        assert!(places.is_sorted() && places[0] > LEFT && places[4] < RIGHT, "{places:?}");
    }
}
