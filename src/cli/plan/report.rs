//! A plan as `-o json` prints it: times in seconds, everything else as people say it.
//! Adds what a person should know besides; the computing is `rollout_core::planning`.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use rollout_core::plan::{Plan, Test};
use rollout_core::planning::{Assumptions, Base, Basis, Forecast, GuardrailForecast, Need, Span, StageForecast, Way, forecast};
use rollout_core::words;
use serde::Serialize;

/// All plans of the input.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub requests_per_second: String,
    pub plans: Vec<Planned>,
}

/// The plan of one rollout, or of a policy with the default stages.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Planned {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    pub policy: String,
    pub false_promotion: String,
    pub power: String,
    pub loss: String,
    /// Whether every proof fits into its stage.
    pub fits: bool,
    #[serde(flatten)]
    pub time: Option<Seconds>,
    pub stages: Vec<Stage>,
    pub ways: Vec<Faster>,
    /// What a person should know besides, in sentences.
    pub notes: Vec<String>,
    /// By guardrail, when a number of days was given.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub smallest_margins: BTreeMap<String, String>,
}

/// Two times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Seconds {
    pub usual_seconds: i64,
    pub longest_seconds: i64,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stage {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub fits: bool,
    pub allowed_seconds: i64,
    pub least_seconds: i64,
    #[serde(flatten)]
    pub time: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decides: Option<String>,
    pub steps: Vec<Step>,
    pub guardrails: Vec<Guardrail>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    pub share: String,
    pub candidate_requests_per_second: String,
    pub least_seconds: i64,
}

/// One guardrail in one stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Guardrail {
    pub name: String,
    /// What stable does today.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    pub assumed: bool,
    /// In words.
    pub needs: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<i64>,
    pub possible: bool,
    pub fits: bool,
    #[serde(flatten)]
    pub time: Option<Seconds>,
}

/// One change and the time it leads to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Faster {
    pub change: String,
    #[serde(flatten)]
    pub time: Option<Seconds>,
}

impl From<Span> for Seconds {
    fn from(span: Span) -> Self {
        Self { usual_seconds: span.usual.num_seconds(), longest_seconds: span.longest.num_seconds() }
    }
}

/// A plan in words.
pub(super) fn planned(
    rollout: Option<&str>,
    policy: &str,
    plan: &Plan,
    assumptions: &Assumptions,
    expected: &Forecast,
    ways: &[Way],
    smallest_margins: BTreeMap<String, String>,
) -> Planned {
    Planned {
        rollout: rollout.map(str::to_owned),
        policy: policy.to_owned(),
        false_promotion: percent(plan.false_promotion),
        power: percent(assumptions.power),
        loss: percent(assumptions.loss),
        fits: expected.underpowered().next().is_none(),
        time: expected.total().map(Seconds::from),
        stages: expected.stages.iter().map(|one| stage(plan, one)).collect(),
        ways: ways.iter().map(|way| Faster { change: way.change.clone(), time: way.time.map(Seconds::from) }).collect(),
        smallest_margins,
        notes: notes(plan, assumptions, expected),
    }
}

fn notes(plan: &Plan, assumptions: &Assumptions, now: &Forecast) -> Vec<String> {
    let mut notes = Vec::new();
    let said = |span: Span| format!("usually {}, at most {}", words::duration(span.usual), words::duration(span.longest));
    if assumptions.loss <= 0.0 {
        let half = forecast(plan, &Assumptions { loss: 0.5, ..assumptions.clone() });
        let time = half.total().map_or_else(|| "it would never be done".to_owned(), |span| format!("it takes {}", said(span)));
        notes.push(format!("If the candidate really uses up half of its margins, {time}."));
    }
    let day = TimeDelta::days(1);
    if plan.probation < day && now.total().is_some_and(|span| span.usual < day) {
        notes.push(
            "It may be over in less than a day, and no probation of a day follows: what is bad only at other hours is never seen. \
             Give the last stage a minDuration of 24h, or the rollout a probation of 24h."
                .to_owned(),
        );
    }
    notes
}

fn stage(plan: &Plan, stage: &StageForecast) -> Stage {
    Stage {
        name: stage.name.clone(),
        kind: format!("{:?}", stage.kind),
        fits: stage.fits(),
        allowed_seconds: stage.allowed.num_seconds(),
        least_seconds: stage.least.num_seconds(),
        time: stage.time.map(Seconds::from),
        decides: stage.decides.clone(),
        steps: stage
            .steps
            .iter()
            .map(|step| Step {
                share: step.share.to_string(),
                candidate_requests_per_second: figures(step.candidate_rps),
                least_seconds: step.least.num_seconds(),
            })
            .collect(),
        guardrails: stage.guardrails.iter().map(|one| guardrail(plan, stage, one)).collect(),
    }
}

fn guardrail(plan: &Plan, stage: &StageForecast, one: &GuardrailForecast) -> Guardrail {
    let unit = plan.guardrails.iter().find(|g| g.name == one.name).map_or("", |g| match &g.test {
        Test::Level { unit, .. } | Test::Limit { unit, .. } => unit.as_str(),
        Test::Energy(energy) => energy.unit(),
        Test::Counts { .. } | Test::Paired(_) | Test::Gap(_) | Test::Drift(_) | Test::Tripwire { .. } => "",
    });
    let requests = match one.need {
        // The clamp keeps it inside the integer.
        #[allow(clippy::cast_possible_truncation)]
        Need::Requests { candidate, .. } => Some(candidate.ceil().clamp(0.0, 9e15) as i64),
        _ => None,
    };
    Guardrail {
        name: one.name.clone(),
        base: one.basis.map(|basis| base(basis, unit)),
        assumed: one.basis.is_some_and(|basis| basis.assumed),
        needs: needs(&one.need, requests),
        requests,
        possible: one.time.is_some(),
        fits: one.time.is_some_and(|time| time.longest <= stage.allowed),
        time: one.time.map(Seconds::from),
    }
}

fn base(basis: Basis, unit: &str) -> String {
    match basis.base {
        Base::Share(share) => percent(share),
        Base::Bins(bins) => format!("{bins} bins"),
        Base::PerSecond(rate) => format!("{}/h", figures(rate * 3_600.0)),
        Base::Level { level, spread: None } => format!("{}{unit}", figures(level)),
        Base::Level { level, spread: Some(spread) } => format!("{}{unit}±{}{unit}", figures(level), figures(spread)),
    }
}

fn needs(need: &Need, requests: Option<i64>) -> String {
    let number = |n: i64| words::count(n.unsigned_abs());
    match need {
        Need::Requests { seconds: true, .. } => format!("{} seconds of pods", number(requests.unwrap_or(0))),
        Need::Requests { .. } => format!("{} requests", number(requests.unwrap_or(0))),
        Need::Batches { batches, fewest, pods } => {
            let arms = if *pods > 0 { format!(", {pods} pods in each arm") } else { String::new() };
            let least = if *batches > 0.0 { "" } else { "at least " };
            format!("{least}{} batches of five windows{arms}", figures(batches.max(*fewest).ceil()))
        }
        Need::Look => "one look".to_owned(),
        Need::Never { why } => format!("cannot be proven: {why}"),
    }
}

fn percent(share: f64) -> String {
    format!("{}%", figures(share * 100.0))
}

/// A number with at most three figures after the first digit and no zeros at the end.
fn figures(value: f64) -> String {
    let places = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 1.0 {
        2
    } else {
        4
    };
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_figures_that_people_need() {
        assert_eq!([figures(0.0002), figures(5.0), figures(12.345), figures(1751.2), figures(0.0)], ["0.0002", "5", "12.35", "1751", "0"]);
    }
}
