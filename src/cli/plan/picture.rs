//! A plan as bars: the usual time of every guardrail, the longest, and where its stage ends. Draws the report; computes nothing.

use chrono::TimeDelta;
use rollout_core::words;

use super::report::{Guardrail, Planned, Report, Stage};
use crate::cli::svg::{Anchor, BAD, BOUND, INK, PALE, Svg, WIDTH};

/// Left and right end of the bars.
const LEFT: f64 = 170.0;
const RIGHT: f64 = WIDTH - 190.0;
/// Height of a row and of its bar.
const ROW: f64 = 24.0;
const BAR: f64 = 14.0;

/// The picture of all plans of a report.
pub(super) fn picture(report: &Report) -> String {
    let mut svg = Svg::default();
    for plan in &report.plans {
        one(&mut svg, plan, &report.requests_per_second);
    }
    svg.finish()
}

fn one(svg: &mut Svg, plan: &Planned, rps: &str) {
    let top = svg.height() + 26.0;
    let subject =
        plan.rollout.as_ref().map_or_else(|| format!("policy {}", plan.policy), |rollout| format!("{rollout} with policy {}", plan.policy));
    svg.text((16.0, top), 15.0, Anchor::Start, &format!("{subject} at {rps} requests/s"));
    svg.text(
        (16.0, top + 18.0),
        11.0,
        Anchor::Start,
        "dark: half of all proofs are done; pale: nineteen of twenty; line: maxDuration of the stage",
    );
    for stage in &plan.stages {
        bars(svg, stage);
    }
}

fn bars(svg: &mut Svg, stage: &Stage) {
    let top = svg.height() + 24.0;
    svg.text((16.0, top), 13.0, Anchor::Start, &format!("{} ({})", stage.name, stage.kind));
    let allowed = stage.allowed_seconds.max(1) as f64;
    let longest = stage.guardrails.iter().filter_map(|g| Some(g.time?.longest_seconds as f64)).fold(allowed, f64::max);
    // A bar that is ten times too long would hide the others.
    let scale = (RIGHT - LEFT) / longest.min(allowed * 2.0);
    let first = top + 10.0;
    let x = |seconds: f64| LEFT + (seconds * scale).min(RIGHT - LEFT);
    for (index, guardrail) in stage.guardrails.iter().enumerate() {
        bar(svg, first + ROW * index as f64, guardrail, &x, allowed);
    }
    let bottom = first + ROW * stage.guardrails.len().max(1) as f64;
    svg.line((x(allowed), first - 4.0), (x(allowed), bottom), 1.5, BOUND);
    svg.text((x(allowed), bottom + 10.0), 10.0, Anchor::Middle, &format!("maxDuration {}", said(stage.allowed_seconds)));
}

fn bar(svg: &mut Svg, top: f64, guardrail: &Guardrail, x: &impl Fn(f64) -> f64, allowed: f64) {
    svg.text((28.0, top + 11.0), 12.0, Anchor::Start, &guardrail.name);
    let Some(time) = guardrail.time else {
        svg.text((LEFT, top + 11.0), 11.0, Anchor::Start, &guardrail.needs.chars().take(90).collect::<String>());
        return;
    };
    let (usual, longest) = (time.usual_seconds as f64, time.longest_seconds as f64);
    let pale = if longest > allowed { BAD } else { PALE };
    svg.rectangle((LEFT, top), (x(longest) - LEFT, BAR), pale);
    svg.rectangle((LEFT, top), (x(usual) - LEFT, BAR), INK);
    let label = format!("{}, at most {}", said(time.usual_seconds), said(time.longest_seconds));
    svg.text((RIGHT + 10.0, top + 11.0), 11.0, Anchor::Start, &label);
}

fn said(seconds: i64) -> String {
    words::duration(TimeDelta::seconds(seconds))
}
