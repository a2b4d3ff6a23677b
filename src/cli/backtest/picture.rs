//! Pictures of an attempt: all verdicts over time, and for each guardrail its evidence with both boundaries, its interval against the bounds, and the exposure.
//! Draws what was judged; computes nothing but places.

use rollout_core::plan::Plan;
use rollout_core::verdict::{Finding, Verdict};

use super::report::{Report, after};
use super::run::{Attempt, Mark, Point};
use super::scene::Scene;
use crate::cli::scale::{Scale, number};
use crate::cli::svg::{AMBER, Anchor, BAD, BOUND, DOUBTFUL, GOOD, GREEN, GRID, INK, NEUTRAL, PALE, SOFT, Stroke, Svg, TEXT, VIOLET, WIDTH};

/// Left and right end of the axes.
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 150.0;
/// Heights of the panels.
const EVIDENCE: f64 = 190.0;
const MEASURED: f64 = 150.0;
const EXPOSURE: f64 = 70.0;
/// Between two panels.
const GAP: f64 = 44.0;

const fn solid(colour: &'static str) -> Stroke {
    Stroke { width: 2.0, colour, dashed: false }
}

const fn dashed(colour: &'static str) -> Stroke {
    Stroke { width: 1.5, colour, dashed: true }
}

/// The pictures of one attempt by name: `overview`, and each guardrail that was measured.
pub(super) fn pictures(report: &Report, attempt: &Attempt, plan: &Plan, scene: &Scene) -> Vec<(String, String)> {
    let Some(judgement) = &attempt.last else { return Vec::new() };
    let view = View { report, attempt, plan, scene };
    let mut pictures = vec![("overview".to_owned(), view.overview(&judgement.findings))];
    for (index, finding) in judgement.findings.iter().enumerate() {
        if attempt.points.iter().any(|point| point.guardrails.get(index).is_some_and(|mark| mark.proof.is_some())) {
            pictures.push((finding.guardrail.clone(), view.guardrail(index, finding)));
        }
    }
    pictures
}

struct View<'a> {
    report: &'a Report,
    attempt: &'a Attempt,
    plan: &'a Plan,
    scene: &'a Scene,
}

impl View<'_> {
    fn time(&self) -> Scale {
        Scale::new((0.0, self.seconds(self.attempt.ended)), (LEFT, RIGHT))
    }

    fn seconds(&self, at: chrono::DateTime<chrono::Utc>) -> f64 {
        (at - self.attempt.started).num_milliseconds() as f64 / 1000.0
    }

    fn title(&self, svg: &mut Svg, title: &str) {
        svg.text((16.0, 26.0), 15.0, Anchor::Start, title);
        let arms = format!(
            "{} against {}, from {}",
            self.report.candidate.name,
            self.report.stable.name,
            self.report.attempts.last().map_or("", |a| a.started.as_str())
        );
        svg.coloured((16.0, 44.0), 11.0, Anchor::Start, SOFT, &arms);
    }

    /// Verdicts as strips over time, and the exposure below.
    fn overview(&self, findings: &[Finding]) -> String {
        let mut svg = Svg::default();
        self.title(&mut svg, &format!("{}: what {} would have decided", self.report.outcome, self.report.policy));
        legend(&mut svg, 64.0);
        let (top, row, x) = (100.0, 26.0, self.time());
        let bottom = top + row * findings.len() as f64;
        for (index, finding) in findings.iter().enumerate() {
            let y = top + row * index as f64;
            for (from, to, verdict) in self.strips(index) {
                svg.rectangle((x.at(from), y), (x.at(to) - x.at(from), row - 8.0), colour(verdict));
            }
            svg.text((RIGHT + 8.0, y + 13.0), 12.0, Anchor::Start, &short(&finding.guardrail, 22));
        }
        self.stages(&mut svg, top - 14.0, bottom);
        self.exposure(&mut svg, bottom + GAP - 10.0);
        svg.finish()
    }

    /// Stretches of the same verdict: from, to in seconds.
    fn strips(&self, index: usize) -> Vec<(f64, f64, Verdict)> {
        let mut strips: Vec<(f64, f64, Verdict)> = Vec::new();
        let mut from = 0.0;
        for point in &self.attempt.points {
            let Some(mark) = point.guardrails.get(index) else { continue };
            let to = self.seconds(point.at);
            match strips.last_mut() {
                Some(last) if last.2 == mark.verdict => last.1 = to,
                _ => strips.push((from, to, mark.verdict)),
            }
            from = to;
        }
        strips
    }

    /// Evidence, interval and exposure of one guardrail.
    fn guardrail(&self, index: usize, finding: &Finding) -> String {
        let mut svg = Svg::default();
        self.title(&mut svg, &format!("{}: {:?}", finding.guardrail, finding.verdict));
        let marks: Vec<(f64, &Mark)> =
            self.attempt.points.iter().filter_map(|point| Some((self.seconds(point.at), point.guardrails.get(index)?))).collect();
        let top = 98.0;
        self.stages(&mut svg, top - 12.0, top + EVIDENCE);
        self.evidence(&mut svg, top, &marks, finding);
        let second = top + EVIDENCE + GAP;
        self.measured(&mut svg, second, &marks, finding);
        self.exposure(&mut svg, second + MEASURED + GAP);
        svg.finish()
    }

    fn evidence(&self, svg: &mut Svg, top: f64, marks: &[(f64, &Mark)], finding: &Finding) {
        let (needed, most) = finding.thresholds;
        let lines = [
            (
                "proof",
                GREEN,
                marks.iter().filter_map(|(x, m)| Some((*x, m.proof.filter(|_| m.verdict != Verdict::Inactive)?))).collect::<Vec<_>>(),
            ),
            ("worse than target", AMBER, marks.iter().filter_map(|(x, m)| Some((*x, m.warning?))).collect()),
            ("worse than critical", BOUND, marks.iter().filter_map(|(x, m)| Some((*x, m.harm?))).collect()),
        ];
        let same = finding.target == finding.critical;
        let values = || lines.iter().flat_map(|(_, _, points)| points.iter().map(|(_, y)| *y));
        let low = values().fold(-1.0_f64, f64::min).max(-1.5 * most);
        let high = values().fold(most.max(needed), f64::max).min(4.0 * most.max(needed)) * 1.08;
        let (x, y) = (self.time(), Scale::new((low, high), (top + EVIDENCE, top)));
        axis(svg, &y, top, "evidence, ln E", &|value| format!("{value}"));
        svg.line((LEFT, y.at(0.0)), (RIGHT, y.at(0.0)), 1.0, SOFT);
        let mut labels = vec![(y.at(needed), GREEN, format!("proven at {needed:.1}")), (y.at(most), BOUND, format!("harm at {most:.1}"))];
        svg.curve(&[(LEFT, y.at(needed)), (RIGHT, y.at(needed))], dashed(GREEN));
        svg.curve(&[(LEFT, y.at(most)), (RIGHT, y.at(most))], dashed(BOUND));
        for (name, colour, points) in &lines {
            if same && *name == "worse than target" {
                continue;
            }
            for part in unbroken(points) {
                let places: Vec<(f64, f64)> = part.iter().map(|(at, value)| (x.at(*at), y.at(*value))).collect();
                svg.curve(&places, solid(colour));
            }
            if let Some((_, last)) = points.last() {
                labels.push((y.at(*last), colour, (*name).to_owned()));
            }
        }
        side(svg, labels, top, top + EVIDENCE);
    }

    fn measured(&self, svg: &mut Svg, top: f64, marks: &[(f64, &Mark)], finding: &Finding) {
        let (Some((target, unit)), Some((critical, _))) = (number(&finding.target), number(&finding.critical)) else { return };
        let unit = unit.split_once(" vs ").map_or(unit, |(unit, _)| unit);
        let read = |text: &Option<String>| text.as_deref().and_then(number).map(|(value, _)| value);
        let estimates: Vec<(f64, f64)> = marks.iter().filter_map(|(at, mark)| Some((*at, read(&mark.value)?))).collect();
        let both = |mark: &Mark| {
            let (low, high) = mark.interval.as_ref()?.split_once(" to ")?;
            Some((number(low)?.0, number(high)?.0))
        };
        let intervals: Vec<(f64, f64, f64)> =
            marks.iter().filter_map(|(at, mark)| both(mark).map(|(low, high)| (*at, low, high))).collect();
        // The first intervals are as wide as the picture is high; they must not make it higher.
        let reach = (critical - target).abs().max(critical.abs()).max(target.abs()) * 1.5;
        let lowest = estimates.iter().map(|(_, v)| *v).chain(intervals.iter().map(|(_, low, _)| *low)).fold(target.min(0.0), f64::min);
        let highest = estimates.iter().map(|(_, v)| *v).chain(intervals.iter().map(|(_, _, high)| *high)).fold(critical, f64::max);
        let last = estimates.last().map_or(0.0, |(_, v)| *v);
        let low = lowest.max(target.min(last) - reach);
        let high = highest.min(critical.max(last) + reach);
        let room = (high - low) * 0.08;
        // A share or a level that is never below 0 needs no room there.
        let floor = if finding.target.contains(" vs ") || low < 0.0 { low - room } else { low };
        let (x, y) = (self.time(), Scale::new((floor, high + room), (top + MEASURED, top)));
        for (from, to, fill) in [(y.low(), target, GOOD), (target, critical, DOUBTFUL), (critical, y.high(), BAD)] {
            svg.rectangle((LEFT, y.at(to)), (RIGHT - LEFT, y.at(from) - y.at(to)), fill);
        }
        let name = if finding.target.contains(" vs ") { "difference, 95%" } else { "measured, 95%" };
        let name = if unit == "x" { "ratio, 95%" } else { name };
        axis(svg, &y, top, name, &|value| format!("{value}{unit}"));
        let upper = intervals.iter().map(|(at, _, high)| (x.at(*at), y.at(*high)));
        let lower = intervals.iter().rev().map(|(at, low, _)| (x.at(*at), y.at(*low)));
        svg.area(&upper.chain(lower).collect::<Vec<_>>(), PALE, 0.55);
        let line: Vec<(f64, f64)> = estimates.iter().map(|(at, value)| (x.at(*at), y.at(*value))).collect();
        svg.curve(&line, solid(INK));
        let mut labels = vec![(y.at(target), TEXT, format!("target {}", finding.target))];
        svg.curve(&[(LEFT, y.at(target)), (RIGHT, y.at(target))], dashed(SOFT));
        if (critical - target).abs() > 1e-12 {
            labels.push((y.at(critical), BOUND, format!("critical {}", finding.critical)));
            svg.curve(&[(LEFT, y.at(critical)), (RIGHT, y.at(critical))], dashed(BOUND));
        }
        if let Some((_, last)) = estimates.last() {
            labels.push((y.at(*last), INK, finding.value.clone().unwrap_or_default()));
        }
        side(svg, labels, top, top + MEASURED);
    }

    /// Exposure as steps, with the share of requests that the recording really has.
    fn exposure(&self, svg: &mut Svg, top: f64) {
        let points = &self.attempt.points;
        let promoted = self.attempt.end == Some(rollout_core::replay::End::Promoted);
        let of = |point: &Point| f64::from(point.exposure.percent());
        let decided = points.iter().map(of).fold(if promoted { 100.0 } else { 0.0 }, f64::max);
        let realised = points.iter().filter_map(|point| point.realised).filter(|share| *share <= 100.0).fold(0.0, f64::max);
        let (x, y) = (self.time(), Scale::new((0.0, decided.max(realised).max(1.0)), (top + EXPOSURE, top)));
        axis(svg, &y, top, "exposure", &|value| format!("{value}%"));
        let mut steps: Vec<(f64, f64)> = Vec::new();
        for point in points {
            let place = (x.at(self.seconds(point.at)), y.at(of(point)));
            // An exposure counts from the instant after which it was decided.
            let before = steps.last().map_or(LEFT, |(x, _)| *x);
            steps.extend([(before, place.1), place]);
        }
        if promoted {
            steps.push((x.at(self.seconds(self.attempt.ended)), y.at(100.0)));
        }
        if let (Some((from, _)), Some((to, _))) = (steps.first().copied(), steps.last().copied()) {
            let mut shape = steps.clone();
            shape.extend([(to, y.at(0.0)), (from, y.at(0.0))]);
            svg.area(&shape, PALE, 0.45);
        }
        svg.curve(&steps, solid(INK));
        let shares: Vec<(f64, f64)> = points
            .iter()
            .filter_map(|point| Some((x.at(self.seconds(point.at)), y.at(point.realised.filter(|share| *share <= 100.0)?))))
            .collect();
        svg.curve(&shares, dashed(AMBER));
        let mut labels = vec![(y.at(points.last().map_or(0.0, of)), INK, "decided".to_owned())];
        labels.extend(shares.last().map(|(_, y)| (*y, AMBER, "requests, recorded".to_owned())));
        side(svg, labels, top, top + EXPOSURE);
        self.below(svg, top + EXPOSURE);
    }

    /// Times below the lowest axis, with what was moved and injected.
    fn below(&self, svg: &mut Svg, bottom: f64) {
        let x = self.time();
        for (at, percent) in &self.scene.moves {
            let seconds = (*at - self.attempt.started.timestamp_millis()) as f64 / 1000.0;
            if seconds > 0.0 && seconds < x.high() {
                svg.line((x.at(seconds), bottom), (x.at(seconds), bottom + 5.0), 2.0, AMBER);
                svg.coloured((x.at(seconds), bottom + 32.0), 9.0, Anchor::Middle, AMBER, &format!("moved to {percent}%"));
            }
        }
        for injected in &self.report.injections {
            let Ok(at) = chrono::DateTime::parse_from_rfc3339(&injected.at) else { continue };
            let at = x.at(self.seconds(at.to_utc()));
            if at > LEFT {
                svg.line((at, bottom), (at, bottom + 5.0), 2.0, BOUND);
                svg.coloured((at, bottom + 45.0), 9.0, Anchor::Middle, BOUND, &format!("injected {}", injected.injection));
            }
        }
        for tick in x.times(7.0) {
            let label = if tick == 0.0 { "0".to_owned() } else { after_text(tick) };
            svg.coloured((x.at(tick), bottom + 18.0), 10.0, Anchor::Middle, SOFT, &label);
        }
        svg.coloured((RIGHT + 8.0, bottom + 18.0), 10.0, Anchor::Start, SOFT, "since the start");
    }

    /// Where each stage begins, with its name where there is room for it.
    fn stages(&self, svg: &mut Svg, top: f64, bottom: f64) {
        let x = self.time();
        let mut begins: Vec<(f64, String)> = Vec::new();
        for decision in &self.attempt.decisions {
            let name = if decision.stage.is_empty() { continue } else { &decision.stage };
            let is_new = self.plan.stages.iter().any(|stage| stage.name == *name) && begins.iter().all(|(_, known)| known != name);
            if is_new && ["Mirrored", "Raised"].contains(&decision.action.as_str()) {
                begins.push((x.at(self.seconds(decision.time)), name.clone()));
            }
        }
        let mut free = 0.0;
        for (at, name) in &begins {
            svg.line((*at, top), (*at, bottom), 1.0, SOFT);
            if *at >= free {
                svg.coloured((*at + 3.0, top + 7.0), 10.0, Anchor::Start, SOFT, name);
                free = at + 10.0 + 6.5 * name.chars().count() as f64;
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // Seconds of a recording are far below what the integer holds.
fn after_text(seconds: f64) -> String {
    after(seconds.round() as i64)
}

/// Parts of a line between which nothing is missing: time only goes on, so a value of `None` left a gap that is not drawn over.
fn unbroken(points: &[(f64, f64)]) -> Vec<&[(f64, f64)]> {
    let steps = points.windows(2).filter_map(|pair| if let [a, b] = pair { Some(b.0 - a.0) } else { None });
    let usual = steps.fold(0.0_f64, f64::max).max(1.0);
    points.chunk_by(|a, b| b.0 - a.0 <= usual).collect()
}

/// Name and ticks at the left, lines across.
fn axis(svg: &mut Svg, y: &Scale, top: f64, name: &str, say: &dyn Fn(f64) -> String) {
    svg.coloured((16.0, top - 18.0), 11.0, Anchor::Start, SOFT, name);
    for tick in y.ticks(4.0) {
        svg.line((LEFT, y.at(tick)), (RIGHT, y.at(tick)), 0.6, GRID);
        // Sums of steps carry the noise of their digits.
        let rounded = (tick * 1e6).round() / 1e6;
        svg.coloured((LEFT - 6.0, y.at(tick) + 3.5), 10.0, Anchor::End, SOFT, &say(rounded));
    }
    svg.line((LEFT, y.at(y.low())), (LEFT, y.at(y.high())), 1.0, SOFT);
}

/// Labels at the right, moved apart where they would stand on each other.
fn side(svg: &mut Svg, mut labels: Vec<(f64, &str, String)>, top: f64, bottom: f64) {
    const ROOM: f64 = 13.0;
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut places: Vec<f64> = Vec::new();
    for (y, _, _) in &labels {
        let least = places.last().map_or(top + 4.0, |last| last + ROOM);
        places.push(y.max(least));
    }
    // What was pushed out at the bottom pushes back.
    let mut most = bottom + 4.0;
    for place in places.iter_mut().rev() {
        *place = place.min(most);
        most = *place - ROOM;
    }
    for ((_, colour, text), y) in labels.iter().zip(places) {
        svg.coloured((RIGHT + 8.0, y + 3.5), 11.0, Anchor::Start, colour, &short(text, 24));
    }
}

fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

const fn colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Proven => GREEN,
        Verdict::Warning => AMBER,
        Verdict::Harmful => BOUND,
        Verdict::Undecided => PALE,
        Verdict::Unmeasurable => VIOLET,
        Verdict::Inactive => NEUTRAL,
    }
}

fn legend(svg: &mut Svg, y: f64) {
    let mut x = 16.0;
    for verdict in [Verdict::Undecided, Verdict::Proven, Verdict::Warning, Verdict::Harmful, Verdict::Unmeasurable, Verdict::Inactive] {
        let word = format!("{verdict:?}");
        svg.rectangle((x, y - 9.0), (10.0, 10.0), colour(verdict));
        svg.text((x + 14.0, y), 11.0, Anchor::Start, &word);
        x += 28.0 + 6.4 * word.chars().count() as f64;
    }
}
