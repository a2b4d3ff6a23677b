//! Figures as plain SVG: wrong decisions of everybody, times of Espalier, requests before a rollback.
//! Draws what it is given; no style sheet, no script, no fonts of its own, so that any page shows them.

use std::fmt::Write as _;

use crate::outcome::{Cell, Decision};
use crate::run::OURS;
use crate::scenario::{Scenario, Truth};
use crate::verdict::{ALLOWED, percent};

/// Scenarios with their cells.
pub type Rows = [(Scenario, Vec<Cell>)];

const ROW: f64 = 18.0;
const NAMES: f64 = 250.0;
const TOP: f64 = 44.0;

/// A drawing under way.
struct Drawing {
    body: String,
    width: f64,
    height: f64,
}

/// Where a text is anchored.
#[derive(Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

impl Drawing {
    fn new(width: f64, height: f64) -> Self {
        Self { body: String::new(), width, height }
    }

    fn text(&mut self, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(self.body, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#);
    }

    fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
        let _ = writeln!(self.body, r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}"/>"#);
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(self.body, r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{stroke}"/>"#);
    }

    fn dot(&mut self, (x, y): (f64, f64), radius: f64, fill: &str) {
        let _ = writeln!(self.body, r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="{fill}"/>"#);
    }

    fn finish(self) -> String {
        let Self { body, width, height } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
        )
    }
}

/// A grid: the larger rate of wrong decisions, per scenario and policy.
pub fn wrong_decisions(rows: &Rows) -> String {
    const WIDE: f64 = 84.0;
    let policies: Vec<&str> = rows.first().map(|(_, cells)| cells.iter().map(|cell| cell.policy).collect()).unwrap_or_default();
    let mut drawing = Drawing::new(NAMES + WIDE * policies.len() as f64 + 10.0, TOP + ROW * rows.len() as f64 + 10.0);
    drawing.text(10.0, 16.0, Anchor::Start, "Wrong decisions in percent of the runs: the larger of false promotions and false rollbacks");
    for (column, policy) in policies.iter().enumerate() {
        drawing.text(NAMES + WIDE * (column as f64 + 0.5), TOP - 8.0, Anchor::Middle, policy);
    }
    for (line, (scenario, cells)) in rows.iter().enumerate() {
        let y = TOP + ROW * line as f64;
        drawing.text(NAMES - 8.0, y + 13.0, Anchor::End, scenario.name);
        for (column, cell) in cells.iter().enumerate() {
            let (x, worst) = (NAMES + WIDE * column as f64, cell.worst(scenario.truth_for(cell.policy)));
            drawing.rectangle((x, y), (WIDE - 1.0, ROW - 1.0), shade(worst));
            drawing.text(x + WIDE / 2.0, y + 13.0, Anchor::Middle, percent(worst).trim_end_matches(" %"));
        }
    }
    drawing.finish()
}

fn shade(wrong: f64) -> &'static str {
    match wrong {
        w if w <= ALLOWED => "#d9efd9",
        w if w <= 0.2 => "#fdf0c2",
        w if w <= 0.5 => "#fbcf9d",
        _ => "#f3a59a",
    }
}

/// A logarithmic axis.
struct Axis {
    left: f64,
    width: f64,
    decades: (f64, f64),
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let (low, high) = self.decades;
        self.left + self.width * ((value.max(1e-9).log10() - low) / (high - low)).clamp(0.0, 1.0)
    }

    fn draw(&self, drawing: &mut Drawing, bottom: f64) {
        let (mut decade, last) = self.decades;
        while decade <= last + 1e-9 {
            let (x, value) = (self.at(10f64.powf(decade)), 10f64.powf(decade));
            drawing.line((x, TOP), (x, bottom), "#dddddd");
            drawing.text(x, TOP - 6.0, Anchor::Middle, &format!("{value:.0}"));
            decade += 1.0;
        }
    }
}

/// Espalier's minutes to the end of a run: median and 90 % quantile, coloured by the commonest ending.
pub fn times(rows: &Rows) -> String {
    let bottom = TOP + ROW * rows.len() as f64;
    let mut drawing = Drawing::new(NAMES + 520.0, bottom + 10.0);
    let axis = Axis { left: NAMES, width: 490.0, decades: (0.0, 4.0) };
    drawing.text(10.0, 16.0, Anchor::Start, "Espalier: minutes to the decision, median to 90 % of the runs");
    axis.draw(&mut drawing, bottom);
    let legend = [(Decision::Promoted, "promoted"), (Decision::RolledBack, "rolled back"), (Decision::Inconclusive, "no proof")];
    for (at, (decision, word)) in legend.into_iter().enumerate() {
        let x = NAMES + 140.0 + 110.0 * at as f64;
        drawing.dot((x + 60.0, 12.0), 4.0, colour(decision));
        drawing.text(x + 68.0, 16.0, Anchor::Start, word);
    }
    for (line, (scenario, cells)) in rows.iter().enumerate() {
        let y = TOP + ROW * (line as f64 + 0.5);
        drawing.text(NAMES - 8.0, y + 4.0, Anchor::End, scenario.name);
        let Some(cell) = cells.iter().find(|cell| cell.policy == OURS) else { continue };
        let Some((median, late)) = cell.minutes(0.5, None).zip(cell.minutes(0.9, None)) else { continue };
        let fill = colour(commonest(cell));
        drawing.line((axis.at(median), y), (axis.at(late), y), fill);
        drawing.dot((axis.at(median), y), 4.0, fill);
    }
    drawing.finish()
}

fn commonest(cell: &Cell) -> Decision {
    let all = [Decision::Promoted, Decision::RolledBack, Decision::Inconclusive];
    all.into_iter().max_by(|a, b| cell.rate(*a).value.total_cmp(&cell.rate(*b).value)).unwrap_or(Decision::Inconclusive)
}

const fn colour(decision: Decision) -> &'static str {
    match decision {
        Decision::Promoted => "#2e7d32",
        Decision::RolledBack => "#c62828",
        Decision::Inconclusive => "#757575",
    }
}

/// Requests that the candidate had answered before it was rolled back, where that was right; hollow where it seldom was.
pub fn served(rows: &Rows) -> String {
    let bad: Vec<_> = rows.iter().filter(|(scenario, _)| scenario.truth == Truth::Bad).collect();
    let policies: Vec<&str> = rows.first().map(|(_, cells)| cells.iter().map(|cell| cell.policy).collect()).unwrap_or_default();
    let palette = ["#000000", "#e6550d", "#fd8d3c", "#756bb1", "#bcbddc", "#31a354", "#a1d99b", "#8c6d31", "#3182bd", "#9ecae1"];
    let bottom = TOP + ROW * bad.len() as f64;
    let mut drawing = Drawing::new(NAMES + 640.0, bottom.max(TOP + ROW * policies.len() as f64) + 10.0);
    let axis = Axis { left: NAMES, width: 470.0, decades: (1.0, 6.0) };
    drawing.text(
        10.0,
        16.0,
        Anchor::Start,
        "Requests that a bad candidate answered before its rollback (median; only where at least half of the runs roll back)",
    );
    axis.draw(&mut drawing, bottom);
    for (at, (policy, fill)) in policies.iter().zip(palette).enumerate() {
        let y = TOP + ROW * (at as f64 + 0.5);
        drawing.dot((NAMES + 510.0, y), 4.0, fill);
        drawing.text(NAMES + 520.0, y + 4.0, Anchor::Start, policy);
    }
    for (line, (scenario, cells)) in bad.into_iter().enumerate() {
        let y = TOP + ROW * (line as f64 + 0.5);
        drawing.text(NAMES - 8.0, y + 4.0, Anchor::End, scenario.name);
        for (cell, fill) in cells.iter().zip(palette).rev() {
            if cell.rate(Decision::RolledBack).value < 0.5 {
                continue;
            }
            if let Some(requests) = cell.served(Some(Decision::RolledBack)) {
                drawing.dot((axis.at(requests), y), if cell.policy == OURS { 5.0 } else { 3.5 }, fill);
            }
        }
    }
    drawing.finish()
}
