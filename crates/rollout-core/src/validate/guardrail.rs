//! One guardrail: exactly one kind, bounds in the form of that kind, the stages it counts in.
//! Does not know the rollout; whether its stages or a baseline exist is checked by the parent.

use chrono::TimeDelta;

use crate::plan::{
    Cohorts, CountBound, CountSource, Direction, Gap, Guardrail, LevelBound, LimitBound, Maturity, Paired, PlannedSlices, Reference,
    Selector, Severe, Test, Win,
};
use crate::profile;
use crate::quantity::{Bound, BoundText, DurationText, SelectorText, ShareText, duration_text, is_unit, ranges};
use crate::spec::{self, LatencyUnit, OnUnmeasurable, OnUnproven, StageKind, rules};

use super::{Problems, is_label, is_name, quoted};

/// Words in metric and label names that say: this needs the true answer, which shadow traffic never gets.
const OUTCOME_WORDS: [&str; 10] =
    ["correct", "incorrect", "wrong", "accuracy", "outcome", "feedback", "truth", "label", "conversion", "click"];
/// Events of the candidate from which on a slice counts, when nothing else is said.
const DEFAULT_SLICE_SAMPLES: i32 = 100;
/// Share of the labels that have come at the age of maturity, when nothing else is said.
const DEFAULT_CAPTURED: f64 = 0.95;
/// How long the requests of a cohort come, when nothing else is said.
const DEFAULT_WIDTH: TimeDelta = TimeDelta::hours(1);
/// Cohorts that may wait for their age: each has its counters in the checkpoint.
const MOST_COHORTS: i64 = 100;
const ALL_STAGES: [StageKind; 3] = [StageKind::Shadow, StageKind::Canary, StageKind::ABTest];

/// The problems of one guardrail, with its path in front.
struct Site<'a> {
    index: usize,
    problems: &'a mut Problems,
}

impl Site<'_> {
    fn add(&mut self, field: &str, found: impl Into<String>, expected: impl Into<String>) {
        let index = self.index;
        let dot = if field.is_empty() { "" } else { "." };
        self.problems.add(format_args!("guardrails[{index}]{dot}{field}"), found, expected);
    }

    fn check(&mut self, good: bool, field: &str, found: impl Into<String>, expected: impl Into<String>) {
        if !good {
            self.add(field, found, expected);
        }
    }

    fn selector(&mut self, field: &str, text: &SelectorText) -> Option<Selector> {
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
        profile: profile::origin(typed).map(|profile| profile.name.to_string()),
    })
}

fn planned_maturity(maturity: &spec::Maturity, typed: &spec::Guardrail, site: &mut Site) -> Option<Maturity> {
    let fits = typed.proportion.is_some() || typed.rate.is_some();
    site.check(fits, "maturity", "maturity beside another kind", rules::MATURING);
    let index = site.index;
    let age = site.problems.duration(format_args!("guardrails[{index}].maturity.age"), &maturity.age, ranges::MATURITY_AGE);
    let captured = match &maturity.captured {
        None => Some(DEFAULT_CAPTURED),
        Some(text) => {
            let read = text.captured().ok();
            site.check(read.is_some(), "maturity.captured", quoted(text.as_str()), ShareText::expected_captured());
            read
        }
    };
    let cohorts = planned_cohorts(maturity, age, typed, site);
    Some(Maturity { age: age?, captured: captured?, cohorts: cohorts.ok()? })
}

/// Cohorts, when labels name them; `Err` when what they name cannot be read.
fn planned_cohorts(
    maturity: &spec::Maturity,
    age: Option<TimeDelta>,
    typed: &spec::Guardrail,
    site: &mut Site,
) -> Result<Option<Cohorts>, ()> {
    let index = site.index;
    let width = match &maturity.cohort_width {
        None => Some(DEFAULT_WIDTH),
        Some(text) => site.problems.duration(format_args!("guardrails[{index}].maturity.cohortWidth"), text, ranges::COHORT_WIDTH),
    };
    let Some(label) = &maturity.cohort_label else {
        let width = maturity.cohort_width.as_ref().map_or_else(String::new, |width| quoted(width.as_str()));
        site.check(maturity.cohort_width.is_none(), "maturity.cohortWidth", width, "cohortLabel beside it");
        return Ok(None);
    };
    site.check(is_label(label), "maturity.cohortLabel", quoted(label), rules::LABEL);
    site.check(typed.slices.is_none(), "slices", "slices and cohortLabel", rules::UNSLICED);
    let counted = typed.proportion.is_some() || typed.rate.as_ref().is_none_or(|rate| rate.exposure.is_some());
    site.check(counted, "maturity.cohortLabel", "cohortLabel beside rate without exposure", rules::COUNTED);
    let width = width.ok_or(())?;
    if let Some(age) = age {
        let fits = age.num_seconds() <= width.num_seconds() * MOST_COHORTS;
        site.check(
            fits,
            "maturity.age",
            quoted(maturity.age.as_str()),
            format!("at most {MOST_COHORTS} times cohortWidth, {}", duration_text(width)),
        );
    }
    Ok(Some(Cohorts { label: label.clone(), width }))
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
        Sources::Level(series) if typed.limit.is_some() => {
            Test::Limit { series, unit, direction: direction(&target), target: limit_bound(&target)?, critical: limit_bound(&critical)? }
        }
        Sources::Level(series) => {
            Test::Level { series, unit, direction: direction(&target), target: level_bound(&target)?, critical: level_bound(&critical)? }
        }
    })
}

enum Sources {
    Counts(CountSource, Option<Severe>, CountSource),
    Paired([CountSource; 3], Option<String>),
    Gap(CountSource, CountSource, String, Vec<String>),
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

/// Target and critical bound, both in the form that the kind takes.
fn bounds(typed: &spec::Guardrail, site: &mut Site) -> Option<(Bound, Bound)> {
    let Some(target_text) = &typed.target else {
        site.add("target", "none", "a bound, such as +2pp vs stable, 1.25x vs stable, 5% or 30W");
        if let Some(critical) = &typed.critical {
            site.add("critical", format!("{} without target", quoted(critical.as_str())), "a target beside it");
        }
        return None;
    };
    let target = target_text.parse().ok().filter(|bound| fits(typed, bound));
    site.check(target.is_some(), "target", quoted(target_text.as_str()), forms(typed));
    let critical = match &typed.critical {
        None => target.clone(),
        Some(text) => {
            let target = target.as_ref()?;
            let critical = text.parse().ok().filter(|bound| fits(typed, bound) && is_no_stricter(bound, target));
            let side = if direction(target) == Direction::AtMost { "least" } else { "most" };
            let expected = format!("the form of target and at {side} its value, {}", quoted(target_text.as_str()));
            site.check(critical.is_some(), "critical", quoted(text.as_str()), expected);
            critical
        }
    };
    Some((target?, critical?))
}

/// Whether the kind of `typed` takes a bound like this.
fn fits(typed: &spec::Guardrail, bound: &Bound) -> bool {
    if typed.rate.is_some() {
        return matches!(bound, Bound::Ratio { factor, .. } if *factor >= 1.0);
    }
    if typed.paired.is_some() {
        return matches!(bound, Bound::Difference { margin, unit, versus: Reference::Stable } if unit == "pp" && *margin < 100.0);
    }
    if typed.fairness.is_some() {
        return matches!(bound, Bound::Absolute { value, unit } if unit == "pp" && *value > 0.0 && *value < 100.0);
    }
    if let Some(gauge) = typed.gauge.as_ref().or(typed.limit.as_ref()) {
        let own = gauge.unit.as_deref().unwrap_or_default();
        return match bound {
            Bound::Absolute { unit, .. } | Bound::AtLeast { unit, .. } => unit == own,
            Bound::Difference { unit, .. } => typed.limit.is_none() && unit == difference_unit(own),
            Bound::Ratio { .. } | Bound::RatioAtLeast { .. } => typed.limit.is_some(),
        };
    }
    match bound {
        Bound::Absolute { value, unit } => unit == "%" && *value > 0.0 && *value < 100.0,
        Bound::Difference { margin, unit, .. } => unit == "pp" && *margin < 100.0,
        Bound::Ratio { factor, .. } => *factor >= 1.0,
        Bound::AtLeast { .. } | Bound::RatioAtLeast { .. } => false,
    }
}

/// Percent differ by percentage points.
fn difference_unit(unit: &str) -> &str {
    if unit == "%" { "pp" } else { unit }
}

fn forms(typed: &spec::Guardrail) -> String {
    if typed.rate.is_some() {
        return rules::RATE_BOUND.to_owned();
    }
    if typed.paired.is_some() {
        return rules::PAIRED_BOUND.to_owned();
    }
    if typed.fairness.is_some() {
        return rules::GAP_BOUND.to_owned();
    }
    match (&typed.gauge, &typed.limit) {
        (Some(gauge), _) => {
            let unit = gauge.unit.as_deref().unwrap_or_default();
            let difference = difference_unit(unit);
            format!("\"30{unit}\", \"at least 30{unit}\" or \"+2{difference} vs stable\", in the unit of the gauge; stable or baseline")
        }
        (None, Some(limit)) => {
            let unit = limit.unit.as_deref().unwrap_or_default();
            format!("\"512{unit}\", \"at least 512{unit}\" or \"0.5x vs stable\", in the unit of the limit; stable or baseline")
        }
        (None, None) => rules::COUNT_BOUND.to_owned(),
    }
}

fn is_no_stricter(critical: &Bound, target: &Bound) -> bool {
    match (critical, target) {
        (Bound::Difference { margin, versus, .. }, Bound::Difference { margin: least, versus: same, .. }) => {
            margin >= least && versus == same
        }
        (Bound::Ratio { factor, versus }, Bound::Ratio { factor: least, versus: same }) => factor >= least && versus == same,
        (Bound::Absolute { value, .. }, Bound::Absolute { value: least, .. }) => value >= least,
        (Bound::RatioAtLeast { factor, versus }, Bound::RatioAtLeast { factor: most, versus: same }) => factor <= most && versus == same,
        (Bound::AtLeast { value, .. }, Bound::AtLeast { value: most, .. }) => value <= most,
        _ => false,
    }
}

fn count_bound(bound: &Bound) -> Option<CountBound> {
    match bound {
        Bound::Difference { margin, versus, .. } => Some(CountBound::Difference { margin: margin / 100.0, versus: *versus }),
        Bound::Ratio { factor, versus } => Some(CountBound::Ratio { factor: *factor, versus: *versus }),
        Bound::Absolute { value, .. } => Some(CountBound::Absolute(value / 100.0)),
        Bound::AtLeast { .. } | Bound::RatioAtLeast { .. } => None,
    }
}

/// Which side of a bound is good.
const fn direction(bound: &Bound) -> Direction {
    match bound {
        Bound::AtLeast { .. } | Bound::RatioAtLeast { .. } => Direction::AtLeast,
        Bound::Difference { .. } | Bound::Ratio { .. } | Bound::Absolute { .. } => Direction::AtMost,
    }
}

fn limit_bound(bound: &Bound) -> Option<LimitBound> {
    match bound {
        Bound::Absolute { value, .. } | Bound::AtLeast { value, .. } => Some(LimitBound::Absolute(*value)),
        Bound::Ratio { factor, versus } | Bound::RatioAtLeast { factor, versus } => {
            Some(LimitBound::Ratio { factor: *factor, versus: *versus })
        }
        Bound::Difference { .. } => None,
    }
}

fn level_bound(bound: &Bound) -> Option<LevelBound> {
    match bound {
        Bound::Difference { margin, versus, .. } => Some(LevelBound::Difference { margin: *margin, versus: *versus }),
        Bound::Absolute { value, .. } | Bound::AtLeast { value, .. } => Some(LevelBound::Absolute(*value)),
        Bound::Ratio { .. } | Bound::RatioAtLeast { .. } => None,
    }
}

/// The margin of a difference in percentage points, as a fraction.
fn margin(bound: &Bound) -> Option<f64> {
    match bound {
        Bound::Difference { margin, .. } => Some(margin / 100.0),
        _ => None,
    }
}

fn absolute(bound: &Bound) -> Option<f64> {
    match bound {
        Bound::Absolute { value, .. } => Some(*value),
        _ => None,
    }
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
