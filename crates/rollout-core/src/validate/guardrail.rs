//! One guardrail: exactly one kind, bounds in the form of that kind, the stages it counts in.
//! Does not know the rollout; whether its stages or a baseline exist is checked by the parent.

use chrono::TimeDelta;

use crate::plan::{CountSource, Direction, Drift, Energy, Gap, Guardrail, LevelBound, Paired, PlannedSlices, Selector, Severe, Test, Win};
use crate::profile;
use crate::quantity::{Bound, BoundText, DurationText, SelectorText, is_unit, ranges};
use crate::spec::{self, LatencyUnit, OnUnmeasurable, OnUnproven, StageKind, rules};

use super::bounds::{absolute, bounds, count_bound, direction, fits, is_no_stricter, level_bound, limit_bound, margin};
use super::maturity::planned_maturity;
use super::{Problems, drift, energy, is_label, is_name, quoted};

/// Words in metric and label names that say: this needs the true answer, which shadow traffic never gets.
const OUTCOME_WORDS: [&str; 10] =
    ["correct", "incorrect", "wrong", "accuracy", "outcome", "feedback", "truth", "label", "conversion", "click"];
/// Events of the candidate from which on a slice counts, when nothing else is said.
const DEFAULT_SLICE_SAMPLES: i32 = 100;
const ALL_STAGES: [StageKind; 3] = [StageKind::Shadow, StageKind::Canary, StageKind::ABTest];

/// The problems of one guardrail, with its path in front.
pub(super) struct Site<'a> {
    pub(super) index: usize,
    pub(super) problems: &'a mut Problems,
}

impl Site<'_> {
    pub(super) fn add(&mut self, field: &str, found: impl Into<String>, expected: impl Into<String>) {
        let index = self.index;
        let dot = if field.is_empty() { "" } else { "." };
        self.problems.add(format_args!("guardrails[{index}]{dot}{field}"), found, expected);
    }

    pub(super) fn check(&mut self, good: bool, field: &str, found: impl Into<String>, expected: impl Into<String>) {
        if !good {
            self.add(field, found, expected);
        }
    }

    pub(super) fn selector(&mut self, field: &str, text: &SelectorText) -> Option<Selector> {
        let index = self.index;
        self.problems.selector(format_args!("guardrails[{index}].{field}"), text)
    }
}

/// The guardrail with its defaults; `None` when a part of it cannot be read, which `problems` then explains.
pub(super) fn resolve(index: usize, typed: &spec::Guardrail, problems: &mut Problems) -> Option<Guardrail> {
    let site = &mut Site { index, problems };
    site.check(is_name(&typed.name, 40), "name", quoted(&typed.name), rules::NAME);
    let weight = typed.weight.unwrap_or(1);
    site.check((1..=100).contains(&weight), "weight", weight.to_string(), "a whole number from 1 to 100");
    let pod_label = typed.pod_label.as_deref();
    site.check(pod_label.is_none_or(is_label), "podLabel", quoted(pod_label.unwrap_or_default()), rules::LABEL);
    let or_not_worse = typed.or_not_worse_than_stable.unwrap_or(false);
    let has_absolute_share = (typed.proportion.is_some() || typed.latency.is_some())
        && typed.target.as_ref().is_some_and(|target| target.as_str().ends_with('%'));
    site.check(
        !or_not_worse || has_absolute_share,
        "orNotWorseThanStable",
        format!("true with target {}", typed.target.as_ref().map_or_else(|| "none".to_owned(), |target| quoted(target.as_str()))),
        "it only with an absolute target of a proportion or latency, such as 5%",
    );
    let maturity = typed.maturity.as_ref().map(|maturity| planned_maturity(maturity, typed, site));
    let test = test(typed, or_not_worse, site);
    let slices = typed.slices.as_ref().map(|slices| planned_slices(slices, typed, test.as_ref(), site));
    let test = test?;
    let win = match &typed.expect {
        Some(text) => Some(promised(text, typed, &test, site)?),
        None => None,
    };
    let slices = match slices {
        Some(read) => Some(read?),
        None => None,
    };
    let maturity = match maturity {
        Some(read) => Some(read?),
        None => None,
    };
    let requests = match typed.proportion.as_ref().and_then(|proportion| proportion.requests.as_ref().map(|text| (proportion, text))) {
        Some((proportion, text)) => Some(CountSource::Counter(labelled(proportion, text, typed, site)?)),
        None => None,
    };
    Some(Guardrail {
        name: typed.name.clone(),
        stages: stages(typed, &test),
        test,
        weight: f64::from(weight),
        on_unmeasurable: typed.on_unmeasurable.unwrap_or(OnUnmeasurable::Hold),
        pod_label: typed.pod_label.clone(),
        win,
        slices,
        maturity,
        requests,
        profile: profile::origin(typed).map(|profile| profile.name.to_string()),
    })
}

/// The requests of which a proportion's total counts those with a label.
fn labelled(proportion: &spec::Proportion, text: &SelectorText, typed: &spec::Guardrail, site: &mut Site) -> Option<Selector> {
    let requests = site.selector("proportion.requests", text);
    let total = proportion.total.parse().ok();
    let found = format!("{} as total and as requests", quoted(text.as_str()));
    site.check(requests.is_none() || requests != total, "proportion.requests", found, rules::LABELLED);
    let dated = typed.maturity.as_ref().is_some_and(|maturity| maturity.cohort_label.is_some());
    site.check(!dated, "proportion.requests", "requests and cohortLabel", rules::UNDATED);
    requests
}

/// The promised win, in the form of its kind.
fn promised(text: &BoundText, typed: &spec::Guardrail, test: &Test, site: &mut Site) -> Option<Win> {
    let (win, expected) = match test {
        Test::Counts { .. } => {
            let win = match text.parse() {
                Ok(Bound::Ratio { factor, versus }) if factor < 1.0 => Some(Win::Ratio { factor, versus }),
                _ => None,
            };
            (win, rules::COUNT_WIN.to_owned())
        }
        Test::Level { target: LevelBound::Absolute(target), unit: own, direction, .. } => {
            let win = match (text.parse(), *direction) {
                (Ok(Bound::Absolute { value, unit }), Direction::AtMost) if unit == *own && value < *target => Some(Win::Level(value)),
                (Ok(Bound::AtLeast { value, unit }), Direction::AtLeast) if unit == *own && value > *target => Some(Win::Level(value)),
                _ => None,
            };
            let target = typed.target.as_ref().map_or_else(String::new, |target| quoted(target.as_str()));
            let side = if *direction == Direction::AtMost { "below" } else { "above" };
            (win, format!("a level {side} target, {target}"))
        }
        _ => {
            let beside = if typed.gauge.is_some() { "a relative target" } else { "another kind" };
            site.add("expect", format!("expect beside {beside}"), rules::WINNERS);
            return None;
        }
    };
    site.check(win.is_some(), "expect", quoted(text.as_str()), expected);
    win
}

/// The slices with their defaults; `test` is `None` when the guardrail itself cannot be read.
fn planned_slices(slices: &spec::Slices, typed: &spec::Guardrail, test: Option<&Test>, site: &mut Site) -> Option<PlannedSlices> {
    site.check(is_label(&slices.label), "slices.label", quoted(&slices.label), rules::LABEL);
    let min_samples = slices.min_samples.unwrap_or(DEFAULT_SLICE_SAMPLES);
    let in_range = (1..=1_000_000).contains(&min_samples);
    site.check(in_range, "slices.minSamples", min_samples.to_string(), "a whole number from 1 to 1000000");
    let has_events =
        typed.proportion.is_some() || typed.latency.is_some() || typed.rate.as_ref().is_some_and(|rate| rate.exposure.is_some());
    if !has_events {
        let beside = if typed.rate.is_some() { "rate without exposure" } else { "another kind" };
        site.add("slices", format!("slices beside {beside}"), rules::SLICED);
        return None;
    }
    let Test::Counts { critical, .. } = test? else { return None };
    let bound = match &slices.target {
        None => *critical,
        Some(text) => {
            let own = typed.target.as_ref().and_then(|target| target.parse().ok())?;
            let read = text.parse().ok().filter(|bound| fits(typed, bound) && is_no_stricter(bound, &own));
            let whole = typed.target.as_ref().map_or_else(String::new, |target| quoted(target.as_str()));
            site.check(
                read.is_some(),
                "slices.target",
                quoted(text.as_str()),
                format!("the form of target and at least its value, {whole}"),
            );
            count_bound(&read?)?
        }
    };
    Some(PlannedSlices {
        label: slices.label.clone(),
        bound,
        min_samples: f64::from(min_samples),
        on_unproven: slices.on_unproven.unwrap_or(OnUnproven::Block),
    })
}

fn test(typed: &spec::Guardrail, or_not_worse: bool, site: &mut Site) -> Option<Test> {
    let present = [
        typed.proportion.is_some(),
        typed.rate.is_some(),
        typed.latency.is_some(),
        typed.paired.is_some(),
        typed.fairness.is_some(),
        typed.drift.is_some(),
        typed.energy.is_some(),
        typed.gauge.is_some(),
        typed.limit.is_some(),
        typed.tripwire.is_some(),
    ];
    let kinds: Vec<&str> = rules::KINDS.iter().zip(present).filter(|(_, present)| *present).map(|(kind, _)| *kind).collect();
    if kinds.len() != 1 {
        let found = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
        site.add("", found, format!("exactly one of {}", rules::KINDS.join(", ")));
        return None;
    }
    if let Some(tripwire) = &typed.tripwire {
        let beside = if typed.target.is_some() { "target" } else { "critical" };
        site.check(
            typed.target.is_none() && typed.critical.is_none(),
            "",
            format!("{beside} beside tripwire"),
            "no bound: a tripwire allows nothing",
        );
        return Some(Test::Tripwire { series: site.selector("tripwire.query", &tripwire.query)? });
    }
    let sources = sources(typed, site);
    let bounds = bounds(typed, site);
    let unit = typed.gauge.as_ref().or(typed.limit.as_ref()).and_then(|gauge| gauge.unit.clone()).unwrap_or_default();
    let (sources, (target, critical)) = (sources?, bounds?);
    Some(match sources {
        Sources::Counts(bad, severe, total) => Test::Counts {
            bad,
            severe,
            total,
            target: count_bound(&target)?,
            critical: count_bound(&critical)?,
            or_not_worse_than_stable: or_not_worse,
        },
        Sources::Paired([candidate_wrong, stable_wrong, total], revision_label) => {
            let (target, critical) = (margin(&target)?, margin(&critical)?);
            Test::Paired(Paired { candidate_wrong, stable_wrong, total, revision_label, target, critical })
        }
        Sources::Gap(bad, total, label, groups) => {
            // The gap is read aloud in percentage points.
            let (target, critical) = (absolute(&target)? / 100.0, absolute(&critical)? / 100.0);
            Test::Gap(Gap { bad, total, label, groups, target, critical })
        }
        Sources::Drift(drift) => Test::Drift(Drift { target: absolute(&target)?, critical: absolute(&critical)?, ..drift }),
        Sources::Energy(energy) => Test::Energy(Energy { target: energy::bound(&target)?, critical: energy::bound(&critical)?, ..energy }),
        Sources::Level(series) if typed.limit.is_some() => {
            Test::Limit { series, unit, direction: direction(&target), target: limit_bound(&target)?, critical: limit_bound(&critical)? }
        }
        Sources::Level(series) => {
            Test::Level { series, unit, direction: direction(&target), target: level_bound(&target)?, critical: level_bound(&critical)? }
        }
    })
}

pub(super) enum Sources {
    Counts(CountSource, Option<Severe>, CountSource),
    Paired([CountSource; 3], Option<String>),
    Gap(CountSource, CountSource, String, Vec<String>),
    /// Without its bounds.
    Drift(Drift),
    Energy(Energy),
    Level(Selector),
}

fn sources(typed: &spec::Guardrail, site: &mut Site) -> Option<Sources> {
    if let Some(proportion) = &typed.proportion {
        let bad = site.selector("proportion.bad", &proportion.bad);
        let total = site.selector("proportion.total", &proportion.total);
        let found = format!("{} as bad and as total", quoted(proportion.bad.as_str()));
        site.check(bad.is_none() || bad != total, "proportion.bad", found, "bad events to be some of all events");
        return Some(Sources::Counts(CountSource::Counter(bad?), None, CountSource::Counter(total?)));
    }
    if let Some(rate) = &typed.rate {
        let events = site.selector("rate.events", &rate.events);
        let exposure = match &rate.exposure {
            Some(exposure) => site.selector("rate.exposure", exposure).map(CountSource::Counter),
            None => Some(CountSource::PodSeconds),
        };
        return Some(Sources::Counts(CountSource::Counter(events?), None, exposure?));
    }
    if let Some(latency) = &typed.latency {
        return latency_sources(latency, site);
    }
    if let Some(paired) = &typed.paired {
        return paired_sources(paired, site);
    }
    if let Some(fairness) = &typed.fairness {
        return fairness_sources(fairness, site);
    }
    if let Some(drift) = &typed.drift {
        return drift::sources(drift, site).map(Sources::Drift);
    }
    if let Some(energy) = &typed.energy {
        return energy::sources(energy, site).map(Sources::Energy);
    }
    let (field, gauge) = match (&typed.gauge, &typed.limit) {
        (Some(gauge), _) => ("gauge", gauge),
        (None, Some(limit)) => ("limit", limit),
        (None, None) => return None,
    };
    let unit = gauge.unit.as_deref().unwrap_or_default();
    let good = unit == "%" || (is_unit(unit) && unit != "x" && unit != "pp");
    site.check(good, &format!("{field}.unit"), quoted(unit), rules::UNIT);
    site.selector(&format!("{field}.query"), &gauge.query).map(Sources::Level)
}

fn paired_sources(paired: &spec::Paired, site: &mut Site) -> Option<Sources> {
    let candidate = site.selector("paired.candidateWrong", &paired.candidate_wrong);
    let stable = site.selector("paired.stableWrong", &paired.stable_wrong);
    let total = site.selector("paired.total", &paired.total);
    let twice = |text: &SelectorText| format!("{} twice", quoted(text.as_str()));
    let is_alone = candidate.is_none() || (candidate != total && candidate != stable);
    site.check(is_alone, "paired.candidateWrong", twice(&paired.candidate_wrong), "three different counters");
    site.check(stable.is_none() || stable != total, "paired.stableWrong", twice(&paired.stable_wrong), "three different counters");
    let label = paired.revision_label.as_deref();
    site.check(label.is_none_or(is_label), "paired.revisionLabel", quoted(label.unwrap_or_default()), rules::LABEL);
    Some(Sources::Paired([candidate?, stable?, total?].map(CountSource::Counter), paired.revision_label.clone()))
}

fn fairness_sources(fairness: &spec::Fairness, site: &mut Site) -> Option<Sources> {
    let events = site.selector("fairness.events", &fairness.events);
    let total = site.selector("fairness.total", &fairness.total);
    let found = format!("{} as events and as total", quoted(fairness.events.as_str()));
    site.check(events.is_none() || events != total, "fairness.events", found, "events to be some of all events");
    site.check(is_label(&fairness.label), "fairness.label", quoted(&fairness.label), rules::LABEL);
    let groups = &fairness.groups;
    let distinct: std::collections::BTreeSet<&String> = groups.iter().filter(|group| (1..=64).contains(&group.len())).collect();
    let is_good = (2..=6).contains(&groups.len()) && distinct.len() == groups.len();
    site.check(
        is_good,
        "fairness.groups",
        format!("[{}]", groups.join(", ")),
        "2 to 6 different values of the label, of 1 to 64 characters",
    );
    Some(Sources::Gap(CountSource::Counter(events?), CountSource::Counter(total?), fairness.label.clone(), groups.clone()))
}

fn latency_sources(latency: &spec::Latency, site: &mut Site) -> Option<Sources> {
    let histogram = site.selector("latency.histogram", &latency.histogram);
    let suffixed = ["_bucket", "_count", "_sum"];
    let is_base = histogram.as_ref().is_none_or(|selector| !suffixed.iter().any(|suffix| selector.metric.ends_with(suffix)));
    site.check(
        is_base,
        "latency.histogram",
        quoted(latency.histogram.as_str()),
        "the base name of a histogram, without _bucket, _count or _sum",
    );
    let index = site.index;
    let mut read = |field: &str, text: &DurationText| {
        site.problems.duration(format_args!("guardrails[{index}].latency.{field}"), text, ranges::SLOWER_THAN)
    };
    let edge = read("slowerThan", &latency.slower_than);
    let higher = latency.critically_slower_than.as_ref().map(|text| (text, read("criticallySlowerThan", text)));
    if let (Some(edge), Some((text, Some(higher)))) = (edge, higher) {
        let expected = format!("an edge above slowerThan, {}", quoted(latency.slower_than.as_str()));
        site.check(higher > edge, "latency.criticallySlowerThan", quoted(text.as_str()), expected);
    }
    let (histogram, edge) = (histogram?, edge?);
    let above = |edge: TimeDelta| {
        let millis = edge.num_milliseconds() as f64;
        let edge = match latency.unit.unwrap_or(LatencyUnit::Seconds) {
            LatencyUnit::Seconds => millis / 1000.0,
            LatencyUnit::Milliseconds => millis,
        };
        CountSource::Above { histogram: histogram.clone(), edge }
    };
    let severe = match higher {
        Some((_, higher)) => Some(Severe { bad: above(higher?), slower_than: higher? }),
        None => None,
    };
    Some(Sources::Counts(above(edge), severe, CountSource::Observations(histogram)))
}

/// The kinds of stage in which a guardrail counts; none when it cannot be read.
pub fn stages_of(typed: &spec::Guardrail) -> Vec<StageKind> {
    resolve(0, typed, &mut Problems::below("spec")).map(|guardrail| guardrail.stages).unwrap_or_default()
}

/// The stages as given without repetition, or the default for the kind.
fn stages(typed: &spec::Guardrail, test: &Test) -> Vec<StageKind> {
    if !typed.stages.is_empty() {
        return ALL_STAGES.into_iter().filter(|kind| typed.stages.contains(kind)).collect();
    }
    if let Test::Paired(_) = test {
        // Only copied requests are answered by both.
        return vec![StageKind::Shadow];
    }
    if let Test::Energy(_) = test {
        // A small share of the traffic is not like load.
        return vec![StageKind::Shadow, StageKind::ABTest];
    }
    let needs_outcome = match test {
        Test::Counts { bad: CountSource::Counter(bad), total, .. } | Test::Gap(Gap { bad: CountSource::Counter(bad), total, .. }) => {
            is_outcome(bad) || matches!(total, CountSource::Counter(total) if is_outcome(total))
        }
        _ => false,
    };
    if needs_outcome { vec![StageKind::Canary, StageKind::ABTest] } else { ALL_STAGES.to_vec() }
}

fn is_outcome(selector: &Selector) -> bool {
    let labels = selector.matchers.iter().map(|(label, ..)| label.as_str());
    std::iter::once(selector.metric.as_str())
        .chain(labels)
        .flat_map(|name| name.split(['_', ':']))
        .any(|word| OUTCOME_WORDS.iter().any(|outcome| word.eq_ignore_ascii_case(outcome)))
}
