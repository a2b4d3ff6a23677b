//! Writes `docs/decision-quality.md` and its figures from the cells. Every number in it was counted in this run; nothing is remembered.
//! Deliberately leaves out wall times and dates, so that the same command writes the same bytes.

use std::fmt::Write as _;
use std::path::Path;

use crate::figure;
use crate::outcome::{Cell, Decision, Rate};
use crate::pair::{self, Pair};
use crate::run::{Job, OURS};
use crate::scenario::{Scenario, Truth};
use crate::verdict::{ALLOWED, Kind, State, checks, minutes, percent};

/// What the rules that keep the risks cost in time.
const PRICE: &str = "The price of rules that keep the risks elsewhere: a window may add at most a third of the evidence that a proof needs (half of what a rollback needs), and over-dispersion is estimated as the largest of three scales, which is above 1 by chance.";

type Rows = [(Scenario, Vec<Cell>)];

/// Writes the page at `path` and the figures beside it.
pub fn write(path: &Path, job: &Job, rows: &Rows, pairs: &[Pair<'_>]) -> std::io::Result<()> {
    let folder = path.parent().map(|parent| parent.join("figures")).unwrap_or_default();
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("decision-quality-errors.svg"), figure::wrong_decisions(rows))?;
    std::fs::write(folder.join("decision-quality-times.svg"), figure::times(rows))?;
    std::fs::write(folder.join("decision-quality-served.svg"), figure::served(rows))?;
    std::fs::write(path, text(job, rows, pairs))
}

/// What a person in front of a terminal wants to know at the end.
pub fn closing_line(rows: &Rows) -> String {
    let states: Vec<State> = all_checks(rows).map(|(_, check)| check.state).collect();
    let count = |state| states.iter().filter(|s| **s == state).count();
    format!("{} promises met, {} not shown by this many runs, {} missed", count(State::Met), count(State::Open), count(State::Missed))
}

fn ours(cells: &[Cell]) -> Option<&Cell> {
    cells.iter().find(|cell| cell.policy == OURS)
}

fn all_checks(rows: &Rows) -> impl Iterator<Item = (&Scenario, crate::verdict::Check)> {
    rows.iter().flat_map(|(scenario, cells)| {
        let checks = ours(cells).map(|cell| checks(scenario, cell)).unwrap_or_default();
        checks.into_iter().map(move |check| (scenario, check))
    })
}

fn text(job: &Job, rows: &Rows, pairs: &[Pair<'_>]) -> String {
    let both_ways = if pairs.is_empty() { String::new() } else { pair::section(pairs) };
    let parts = [opening(job, rows), summary(rows), promises(rows), missed(rows), both_ways, details(rows), rules(job), method()];
    let mut page = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn opening(job: &Job, rows: &Rows) -> String {
    format!(
        "# Decision quality\n\n\
        How often does a rollout policy promote a model that is worse than allowed, or roll back one that is not? Here every policy decides in {} simulated\n\
        worlds whose truth is known. This page is generated; the same command writes the same bytes on any machine and any number of threads:\n\n\
        ```\ncargo run --release -p decision-quality -- --runs {} --http-runs {} --seed {}{}\n```\n\n\
        {} runs of every scenario and policy. Rates have their Monte-Carlo standard error behind ±; \"at most\" is the exact one-sided upper limit at 99 %.\n\
        `--scenario NAME…` and `--policy NAME…` look at a part, `--quick` takes 50 runs, `--through http` plays Espalier through a Prometheus server only, `--list`\n\
        names everything.\n\n\
        Three endings: *promoted*, *rolled back* (as worse than allowed) and *no proof* (time is over, or what is seen forbids both). Which of them is\n\
        wrong depends on the truth: a good candidate must not be rolled back, a bad one must not be promoted, and exactly at a bound both are wrong.\n\
        Espalier states a risk of 5 % for each; it is held to an upper limit of {}.\n",
        rows.len(),
        job.runs,
        job.http_runs,
        job.seed,
        job.selection,
        job.runs,
        percent(ALLOWED),
    )
}

fn summary(rows: &Rows) -> String {
    let mut out = "## In short\n\n| policy | right, mean of all scenarios | false rollbacks above 6.5 % in | worst | false promotions above 6.5 % in | worst |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
    let policies: Vec<&str> = rows.first().map(|(_, cells)| cells.iter().map(|cell| cell.policy).collect()).unwrap_or_default();
    for policy in policies {
        let cells: Vec<(&Scenario, &Cell)> =
            rows.iter().filter_map(|(scenario, cells)| Some((scenario, cells.iter().find(|cell| cell.policy == policy)?))).collect();
        let worst = |rate: fn(&Cell, Truth) -> Option<Rate>| {
            let found =
                cells.iter().filter_map(|(scenario, cell)| Some((scenario.name, rate(cell, scenario.truth_for(cell.policy))?.value)));
            let worst = found.fold(None, |best: Option<(&str, f64)>, one| if best.is_none_or(|b| one.1 > b.1) { Some(one) } else { best });
            worst.map_or_else(|| "–".to_owned(), |(name, value)| format!("{} ({name})", percent(value)))
        };
        let beyond = |rate: fn(&Cell, Truth) -> Option<Rate>| {
            let rates = cells.iter().filter_map(|(scenario, cell)| rate(cell, scenario.truth_for(cell.policy)));
            let (wrong, all) = rates.fold((0, 0), |(wrong, all), rate| (wrong + u32::from(rate.value > ALLOWED), all + 1));
            format!("{wrong} of {all}")
        };
        let right = cells.iter().map(|(scenario, cell)| cell.correct(scenario.truth_for(cell.policy)).value).sum::<f64>();
        let _ = writeln!(
            out,
            "| {policy} | {} | {} | {} | {} | {} |",
            percent(right / cells.len().max(1) as f64),
            beyond(Cell::false_rollback),
            worst(Cell::false_rollback),
            beyond(Cell::false_promotion),
            worst(Cell::false_promotion),
        );
    }
    out.push_str(
        "\nIn `night-only`, `labels-missing-not-at-random` and `late-labels` the counters of outcomes do not show what is wrong, or not before an hour is over.\n",
    );
    out.push_str("\n![Wrong decisions of every policy in every scenario](figures/decision-quality-errors.svg)\n");
    out
}

fn promises(rows: &Rows) -> String {
    let mut out = "## What Espalier promises and what it did\n\n| scenario | promise | found | |\n| --- | --- | --- | --- |\n".to_owned();
    for (scenario, check) in all_checks(rows) {
        let _ = writeln!(out, "| [{0}](#{0}) | {1} | {2} | {3} |", scenario.name, check.promise, check.found, check.state.word());
    }
    let _ = writeln!(out, "\n{}.", closing_line(rows));
    out.push_str("\n![Minutes to Espalier's decision](figures/decision-quality-times.svg)\n");
    out
}

fn missed(rows: &Rows) -> String {
    let mut out = "## What is missed, and why\n\n".to_owned();
    let mut any = false;
    for (scenario, cells) in rows {
        let mut broken = ours(cells).map(|cell| checks(scenario, cell)).unwrap_or_default();
        broken.retain(|check| check.state == State::Missed);
        if broken.is_empty() {
            continue;
        }
        any = true;
        let only_late = broken.iter().all(|check| check.kind == Kind::Goal);
        let why = scenario.limit.unwrap_or(if only_late { PRICE } else { "The cause is not known." });
        let found: Vec<String> = broken.iter().map(|check| format!("{}, found {}", check.promise, check.found)).collect();
        let _ = writeln!(out, "- **{}**: {}. {why}", scenario.name, found.join("; "));
    }
    if !any {
        out.push_str("Nothing.\n");
    }
    out
}

fn details(rows: &Rows) -> String {
    let mut out =
        "## Scenario by scenario\n\nTimes are over all runs, whatever their end; requests are the candidate's, before a rollback.\n\n\
        ![Requests before a rollback](figures/decision-quality-served.svg)\n"
            .to_owned();
    for (scenario, cells) in rows {
        let right = match scenario.truth {
            Truth::Good => "Right: promoted. Wrong: rolled back.",
            Truth::Bad => "Right: rolled back. Wrong: promoted.",
            Truth::Neither => "Right: no proof. Wrong: promoted, rolled back.",
        };
        let _ = writeln!(
            out,
            "\n### {}\n\n{} {right}\n\n| policy | right | promoted | rolled back | no proof | median | 90 % | requests before rollback |\n| --- | --- | --- | --- | --- | --- | --- | --- |",
            scenario.name, scenario.story
        );
        for cell in cells {
            let _ = writeln!(out, "{}", row(scenario, cell));
        }
    }
    out
}

fn row(scenario: &Scenario, cell: &Cell) -> String {
    let truth = scenario.truth_for(cell.policy);
    let rate = |decision| {
        let Rate { value, error, .. } = cell.rate(decision);
        let text = format!("{} ± {:.1}", percent(value).trim_end_matches(" %"), error * 100.0);
        let wrong = match decision {
            Decision::Promoted => truth != Truth::Good,
            Decision::RolledBack => truth != Truth::Bad,
            Decision::Inconclusive => false,
        };
        if wrong && value > ALLOWED { format!("**{text}**") } else { text }
    };
    let time = |quantile| cell.minutes(quantile, None).map_or_else(|| "–".to_owned(), minutes);
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} |",
        cell.policy,
        percent(cell.correct(truth).value),
        rate(Decision::Promoted),
        rate(Decision::RolledBack),
        rate(Decision::Inconclusive),
        time(0.5),
        time(0.9),
        cell.served(Some(Decision::RolledBack)).map_or_else(|| "–".to_owned(), |requests| format!("{requests:.0}")),
    )
}

fn rules(job: &Job) -> String {
    let mut out = "## The policies\n\n".to_owned();
    if job.ours {
        out.push_str(
            "- **espalier**: the operator's own `Evidence::absorb` and `judge` over raw per-pod series, risk 5 % and 5 %; one canary stage with the steps of the scenario.\n",
        );
    }
    for entry in &job.entries {
        let _ = writeln!(out, "- **{}**: {}", entry.name, entry.rules);
    }
    out
}

fn method() -> String {
    "## How it is played\n\n\
    - Unless a scenario says otherwise: 10 requests per second, 10 % of them on the candidate, base rate 8 %, target and critical +2 pp, two pods an arm, a\n  \
      scrape a minute, windows of 5 min, a stage of at least 1 h and at most 24 h. Requests are Poisson, bad events binomial.\n\
    - Every pod has its own counters and is scraped at its own moment of the interval, with jitter. Espalier gets the raw samples; it differences them itself,\n  \
      with resets, gaps and new pods. It looks at every scrape. It has read what the champion did in the two days before, except where the champion is new.\n\
    - The other policies get counts of the same scrapes in windows of 5 min, better than PromQL would give them: nothing is extrapolated, and a gap is\n  \
      charged when it ends. They do not move traffic; the scenario's schedule does. In scenarios with one step all policies see the very same samples.\n\
    - Nobody may promote before the least time of the stage. Who has not decided at its end has no proof; for Espalier the end counts judged time.\n\
    - Of the operator's decision loop the outline is followed: pass, raise, lower and try again after two calm windows, end. Gateways, readiness and\n  \
      probation are not played here; the end-to-end scenarios do that.\n\
    - `cargo bench -p anytime-stats --bench window` times one judgement of one guardrail-window, `cargo bench -p rollout-core --bench instant` the whole way\n  \
      from the samples of six pods to a judgement with its sentences.\n\
    - Not played: drift after a promotion, users who stick to an arm, and exposures below 1 %.\n"
        .to_owned()
}
