//! How far each guardrail is: its evidence beside the two boundaries, as the status has it, and below the exposure that the decision log tells.
//! Draws what the operator wrote; what it looked like earlier is in Prometheus, and `espalier backtest --plot` draws it.

use chrono::{DateTime, Utc};
use rollout_core::status::{DecisionRecord, EvidenceStatus, Status};
use rollout_core::verdict::Verdict;

use super::guardrails::evidence;
use crate::cli::scale::Scale;
use crate::cli::svg::{Anchor, BOUND, GREEN, GRID, INK, NEUTRAL, PALE, SOFT, Stroke, Svg, WIDTH};

/// Left and right end of the axes.
const LEFT: f64 = 200.0;
const RIGHT: f64 = WIDTH - 150.0;
/// Height of a guardrail's row and of a bar in it.
const ROW: f64 = 48.0;
const BAR: f64 = 14.0;
/// Height of the exposure.
const EXPOSURE: f64 = 90.0;

/// The picture of this status.
pub(super) fn picture(title: &str, status: &Status) -> String {
    let mut svg = Svg::default();
    svg.text((16.0, 26.0), 15.0, Anchor::Start, title);
    let legend = "green: evidence that it is good enough, red: that it is harmful; the bar is full where the operator acts";
    svg.coloured((16.0, 44.0), 11.0, Anchor::Start, SOFT, legend);
    let mut top = 66.0;
    for one in status.evidence.iter().filter(|one| one.verdict != Verdict::Inactive) {
        row(&mut svg, top, one);
        top += ROW;
    }
    exposure(&mut svg, top + 26.0, status);
    svg.finish()
}

fn row(svg: &mut Svg, top: f64, one: &EvidenceStatus) {
    svg.text((16.0, top + 12.0), 13.0, Anchor::Start, &one.guardrail);
    svg.coloured((16.0, top + 28.0), 11.0, Anchor::Start, SOFT, &format!("{:?}", one.verdict));
    let Some(known) = evidence(&one.log_e) else {
        let words: String = one.message.chars().take(88).collect();
        svg.text((LEFT, top + 18.0), 11.0, Anchor::Start, &words);
        return;
    };
    for (index, (name, (now, limit), colour)) in [("proof", known.proof, GREEN), ("harm", known.harm, BOUND)].into_iter().enumerate() {
        let y = top + (BAR + 4.0) * index as f64;
        let scale = Scale::new((0.0, limit), (LEFT, RIGHT));
        svg.rectangle((LEFT, y), (RIGHT - LEFT, BAR), NEUTRAL);
        svg.rectangle((LEFT, y), (scale.at(now) - LEFT, BAR), colour);
        svg.line((RIGHT, y - 2.0), (RIGHT, y + BAR + 2.0), 2.0, colour);
        svg.coloured((RIGHT + 8.0, y + BAR - 3.0), 11.0, Anchor::Start, colour, &format!("{name} ln E {now:.2} of {limit:.2}"));
    }
}

/// Exposure as steps: what each decision, newest first in the log, changed, up to the last measurement.
fn exposure(svg: &mut Svg, top: f64, status: &Status) {
    let decisions: &[DecisionRecord] = &status.decisions;
    let (Some(newest), Some(oldest)) = (decisions.first(), decisions.last()) else { return };
    let seconds = |at: DateTime<Utc>| (at - oldest.time).num_milliseconds() as f64 / 1000.0;
    let end = status.checkpoint.as_ref().map_or(newest.time, |checkpoint| checkpoint.at.max(newest.time));
    // A last step that only just began must still be seen.
    let (x, y) = (Scale::new((0.0, seconds(end) * 1.04), (LEFT, RIGHT)), Scale::new((0.0, 100.0), (top + EXPOSURE, top)));
    svg.coloured((16.0, top + 12.0), 11.0, Anchor::Start, SOFT, "exposure");
    for tick in [0.0, 25.0, 50.0, 75.0, 100.0] {
        svg.line((LEFT, y.at(tick)), (RIGHT, y.at(tick)), 0.6, GRID);
        svg.coloured((LEFT - 6.0, y.at(tick) + 3.5), 10.0, Anchor::End, SOFT, &format!("{tick}%"));
    }
    let mut steps = vec![(LEFT, y.at(f64::from(oldest.from.percent())))];
    for decision in decisions.iter().rev() {
        let (at, from, to) = (x.at(seconds(decision.time)), f64::from(decision.from.percent()), f64::from(decision.to.percent()));
        steps.extend([(at, y.at(from)), (at, y.at(to))]);
    }
    steps.push((RIGHT, y.at(f64::from(newest.to.percent()))));
    let mut area = steps.clone();
    area.extend([(RIGHT, y.at(0.0)), (LEFT, y.at(0.0))]);
    svg.area(&area, PALE, 0.45);
    svg.curve(&steps, Stroke { width: 2.0, colour: INK, dashed: false });
    let days = seconds(end) > 86_400.0;
    let mut free = 0.0;
    for tick in x.times(5.0) {
        let at = oldest.time + chrono::TimeDelta::milliseconds(whole(tick * 1000.0));
        if x.at(tick) >= free {
            let label = if days { at.format("%d %b %H:%M") } else { at.format("%H:%M:%S") };
            svg.coloured((x.at(tick), top + EXPOSURE + 18.0), 10.0, Anchor::Middle, SOFT, &label.to_string());
            free = x.at(tick) + 80.0;
        }
    }
    svg.coloured((RIGHT + 40.0, top + EXPOSURE + 18.0), 10.0, Anchor::Start, SOFT, "UTC");
}

#[allow(clippy::cast_possible_truncation)] // Milliseconds of a decision log are far below what the integer holds.
fn whole(milliseconds: f64) -> i64 {
    milliseconds.round() as i64
}
