//! What is known about one guardrail: its verdict, its numbers and a sentence that says both. Does not weigh guardrails against each other.

use anytime_stats::intervals::proportion_interval;
use chrono::{DateTime, TimeDelta};

use super::drift::found_drift;
use super::energy::found_energy;
use super::gap::found_gap;
use super::limit::{found_limit, found_tripwire};
use super::outlook;
use super::slices::with_slices;
use super::text;
use crate::evidence::{CountState, LevelBounds, LevelState, Risk, State, Tracked, WINDOWS_PER_BATCH};
use crate::plan::{CountBound, CountSource, Guardrail, LevelBound, Maturity, Paired, Plan, Severe, Test, Win};
use crate::verdict::{Finding, LOOKS_WORSE, Unmeasurable, Verdict, WinFinding};
use crate::words;

/// E-value of harm against target above which nothing passes, although nothing is proven yet.
pub(super) const SUSPICIOUS: f64 = 5.0;
/// Windows after which displayed intervals are sharpest.
const PLANNED_WINDOWS: f64 = 60.0;
/// Level of displayed intervals.
pub(super) const DISPLAY_ALPHA: f64 = 0.05;
/// Batches before a level is judged without history.
pub(crate) const FIRST_BATCHES: u32 = 24;

/// A finding with what the judge needs beside its text.
pub(super) struct Found {
    pub finding: Finding,
    /// Harm against target is suspicious.
    pub suspicious: bool,
}

/// What all findings share.
pub(super) struct Bench<'a> {
    pub plan: &'a Plan,
    pub attempt: u32,
    /// Why nothing can be measured, such as a wrong split.
    pub trouble: Option<&'a Unmeasurable>,
    /// Since when traffic is what it is, since when it has settled, and the last instant, in milliseconds.
    pub since: i64,
    pub settled: i64,
    pub last: i64,
}

impl Bench<'_> {
    pub(super) fn find(&self, guardrail: &Guardrail, tracked: &Tracked, active: bool) -> Found {
        let risk = Risk::of(self.plan, guardrail, self.attempt);
        let blank = blank(guardrail, &risk);
        let mut found = match (&tracked.state, &guardrail.test) {
            (State::Counts(counts), Test::Counts { total, target, severe, .. }) => {
                let seconds = matches!(total, CountSource::PodSeconds);
                let words = if seconds { Words::Seconds } else { Words::Shares };
                let bounds = Bounds { target: *target, words, severe: severe.as_ref() };
                let found = found_counts(blank, counts, bounds, &risk);
                match counts.slices().zip(guardrail.slices.as_ref()) {
                    Some((slices, planned)) => with_slices(found, slices, planned, counts, &risk),
                    None => found,
                }
            }
            (State::Counts(counts), Test::Paired(pairs)) => {
                found_counts(blank, counts, Bounds { target: Paired::bound(pairs.target), words: Words::Pairs, severe: None }, &risk)
            }
            (State::Gap(state), Test::Gap(gap)) => found_gap(blank, state, gap, &risk),
            (State::Energy(state), Test::Energy(energy)) => {
                found_energy(blank, state, energy, scaled(self.plan.window, WINDOWS_PER_BATCH), &risk)
            }
            (State::Drift(state), Test::Drift(drift)) => found_drift(blank, state, drift, &risk),
            (State::Level(level), Test::Level { unit, target, critical, direction, .. }) => {
                let bounds = LevelBounds { target: *target, critical: *critical, direction: *direction };
                self.found_level(blank, level, bounds, unit, &risk)
            }
            (State::Limit(limit), test) => found_limit(blank, limit, test),
            (State::Tripwire(tripwire), _) => found_tripwire(blank, tripwire),
            _ => Found { finding: blank, suspicious: false },
        };
        found.finding.win = promised(guardrail, tracked, &risk);
        if let (Some(maturity), Verdict::Undecided, false) = (&guardrail.maturity, found.finding.verdict, found.suspicious) {
            self.say_immature(&mut found.finding, maturity);
        }
        let unlike = if let State::Counts(counts) = &tracked.state {
            self.wait_for_labels(&mut found.finding, counts);
            counts.unlike_labels().map(|unlike| Unmeasurable::UnlikeLabels { message: text::unlike_labels(&unlike) })
        } else {
            None
        };
        if let (Some(win), true) = (&found.finding.win, found.finding.verdict == Verdict::Proven) {
            found.finding.message = format!("{}; {}", found.finding.message, text::win(win));
        }
        if !active {
            found.finding.verdict = Verdict::Inactive;
            found.finding.reason = "Inactive".into();
            found.finding.message = format!("{} does not count in this stage", guardrail.name);
            found.suspicious = false;
        } else if let Some(unlike) = &unlike {
            // Neither for nor against the candidate: what was counted among such labels shows no difference of the models.
            cannot_be_measured(&mut found.finding, guardrail, unlike);
        } else if !matches!(found.finding.verdict, Verdict::Harmful | Verdict::Warning) {
            if let Some(problem) = tracked.problem.as_ref().or(self.trouble) {
                cannot_be_measured(&mut found.finding, guardrail, problem);
            } else if !tracked.read && found.finding.verdict == Verdict::Proven {
                found.finding.verdict = Verdict::Undecided;
                found.finding.reason = "NotReadYet".into();
                found.finding.message = format!("{} was not read since the evidence was restored", guardrail.name);
            }
        }
        found
    }

    /// A proof among labels waits until labels were compared with the requests they belong to.
    fn wait_for_labels(&self, finding: &mut Finding, counts: &CountState) {
        let Some(from) = counts.labels_wait_for(self.since, self.settled).filter(|_| finding.verdict == Verdict::Proven) else { return };
        let time = DateTime::from_timestamp_millis(from).unwrap_or_default().format("%Y-%m-%d %H:%M UTC");
        finding.verdict = Verdict::Undecided;
        finding.reason = "LabelsUnchecked".into();
        finding.message = format!("{}; whether labels are missing alike in both arms is checked from {time} on", finding.message);
    }

    /// Says since when labels count, while none does or those of this share of traffic do not yet.
    fn say_immature(&self, finding: &mut Finding, maturity: &Maturity) {
        let from = maturity.first_after(self.since, self.settled);
        if self.last >= from {
            return;
        }
        let time = DateTime::from_timestamp_millis(from).unwrap_or_default().format("%Y-%m-%d %H:%M UTC");
        let age = words::duration(maturity.age);
        finding.reason = "Immature".into();
        finding.eta = None;
        finding.message = if finding.samples == (0, 0) {
            let what = if maturity.cohorts.is_some() { "cohort" } else { "labels" };
            format!("{} has no mature {what} yet, the first at {time}: labels count at an age of {age}", finding.guardrail)
        } else {
            format!("{}; labels of this share of the traffic count from {time} on, at an age of {age}", finding.message)
        };
    }

    fn found_level(&self, finding: Finding, state: &LevelState, bounds: LevelBounds, unit: &str, risk: &Risk) -> Found {
        let (proof, harm, warning) = state.log_es(bounds);
        let compares = matches!(bounds.target, LevelBound::Difference { .. });
        // The process has the other sign where less is worse.
        let sign = bounds.direction.sign();
        let say = |value: f64| if compares { text::level_difference(value, unit) } else { text::level(value, unit) };
        let process = state.proving();
        let batches = process.map_or(0, anytime_stats::GaugeProcess::batches);
        let evaluation = process.and_then(|p| p.evaluate(0.0));
        let value = evaluation.map(|e| sign * e.mean).or(state.latest.filter(|_| !compares));
        let ends = |lower: f64, upper: f64| if sign < 0.0 { (-upper, -lower) } else { (lower, upper) };
        let interval = process.and_then(|p| p.interval(DISPLAY_ALPHA)).map(|i| ends(i.lower, i.upper));
        let interval = interval.map(|(lower, upper)| format!("{} to {}", say(lower), say(upper)));
        let length = words::duration(scaled(self.plan.window, WINDOWS_PER_BATCH));
        let subject = match (value, &interval) {
            (Some(value), Some(interval)) => {
                format!("{} is {} on average over {batches} batches of {length} (95%: {interval})", finding.guardrail, say(value))
            }
            (Some(value), None) => {
                format!("{} is {}; {batches} of {FIRST_BATCHES} batches of {length} are in", finding.guardrail, say(value))
            }
            (None, _) => format!("{} was not measured yet", finding.guardrail),
        };
        let finding = Finding {
            value: value.map(say),
            interval,
            samples: (u64::from(batches), if compares { u64::from(batches) } else { 0 }),
            effective_samples: evaluation.map(|e| whole(e.effective_batches)),
            ..finding
        };
        decided(finding, &subject, &Evidences { name: LOG_E, proof, harm, warning }, risk)
    }
}

fn cannot_be_measured(finding: &mut Finding, guardrail: &Guardrail, problem: &Unmeasurable) {
    finding.verdict = Verdict::Unmeasurable;
    finding.reason = problem.category().into();
    finding.message = format!("{} cannot be measured: {problem}{}", guardrail.name, of_profile(guardrail, problem));
    finding.eta = None;
}

/// What to do when the metric of a built-in guardrail does not exist.
fn of_profile(guardrail: &Guardrail, problem: &Unmeasurable) -> String {
    match (&guardrail.profile, problem) {
        (Some(profile), Unmeasurable::NoSeries { .. } | Unmeasurable::NoSuchEdge { .. } | Unmeasurable::NoSuchLabel { .. }) => format!(
            "; it is one of profile {profile}: export the metric, give a guardrail of this name of your own, or leave it out with without: [{}]",
            guardrail.name
        ),
        _ => String::new(),
    }
}

fn scaled(delta: TimeDelta, factor: f64) -> TimeDelta {
    #[allow(clippy::cast_possible_truncation)]
    TimeDelta::milliseconds((delta.num_milliseconds() as f64 * factor) as i64)
}

/// The target of a guardrail on counts, and how its counts are said.
#[derive(Clone, Copy)]
pub(super) struct Bounds<'a> {
    pub target: CountBound,
    pub words: Words,
    /// The worse events, when only these are critical.
    pub severe: Option<&'a Severe>,
}

/// How counts are said.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Words {
    /// Shares of bad events.
    Shares,
    /// Events in seconds.
    Seconds,
    /// Pairs in which one arm alone was wrong.
    Pairs,
}

/// The name of an e-value's logarithm in a sentence.
pub(super) const LOG_E: &str = "ln E";
/// The same of the inverse of an always-valid p-value.
pub(super) const LOG_P: &str = "ln(1/p)";

/// Log e-values: proof; harm and warning as now and highest.
pub(super) struct Evidences {
    /// What the numbers are called.
    pub name: &'static str,
    pub proof: f64,
    pub harm: (f64, f64),
    pub warning: (f64, f64),
}

/// What is known of the promised win.
fn promised(guardrail: &Guardrail, tracked: &Tracked, risk: &Risk) -> Option<WinFinding> {
    let (promised, log_e) = match (guardrail.win?, &guardrail.test, &tracked.state) {
        (Win::Ratio { factor, versus }, _, State::Counts(counts)) => {
            (text::count_bound(CountBound::Ratio { factor, versus }), counts.log_e_win().1)
        }
        (Win::Level(level), Test::Level { unit, direction, .. }, State::Level(state)) => {
            (text::level_bound(LevelBound::Absolute(level), unit, *direction), state.log_e_win(direction.sign() * level).1)
        }
        _ => return None,
    };
    Some(WinFinding { promised, log_e, threshold: risk.win_threshold })
}

fn blank(guardrail: &Guardrail, risk: &Risk) -> Finding {
    let (target, critical) = match &guardrail.test {
        Test::Counts { target, critical, severe, .. } => {
            let slower = severe.as_ref().map_or_else(String::new, |severe| format!(" {}", text::slower(severe)));
            (text::count_bound(*target), text::count_bound(*critical) + &slower)
        }
        Test::Paired(pairs) => (text::count_bound(Paired::bound(pairs.target)), text::count_bound(Paired::bound(pairs.critical))),
        Test::Gap(gap) => (text::gap_bound(gap.target), text::gap_bound(gap.critical)),
        Test::Energy(energy) => (text::energy_bound(energy.target, energy.unit()), text::energy_bound(energy.critical, energy.unit())),
        Test::Drift(drift) => (text::plain(drift.target), text::plain(drift.critical)),
        Test::Level { target, critical, unit, direction, .. } => {
            (text::level_bound(*target, unit, *direction), text::level_bound(*critical, unit, *direction))
        }
        Test::Limit { target, critical, unit, direction, .. } => {
            (text::limit_bound(*target, unit, *direction), text::limit_bound(*critical, unit, *direction))
        }
        Test::Tripwire { .. } => ("none at all".into(), "none at all".into()),
    };
    Finding {
        guardrail: guardrail.name.clone(),
        verdict: Verdict::Undecided,
        reason: "Collecting".into(),
        value: None,
        target,
        critical,
        interval: None,
        samples: (0, 0),
        effective_samples: None,
        slices: Vec::new(),
        log_e_proof: None,
        log_e_harm: None,
        log_e_warning: None,
        win: None,
        thresholds: (risk.proof_threshold, risk.harm_threshold),
        eta: None,
        message: format!("{} was not measured yet", guardrail.name),
    }
}

fn found_counts(finding: Finding, counts: &CountState, bounds: Bounds<'_>, risk: &Risk) -> Found {
    let evidences = Evidences { name: LOG_E, proof: counts.log_e_proof(), harm: counts.log_e_harm(), warning: counts.log_e_warning() };
    let seen = counts.seen();
    let (value, interval) = estimate(counts, bounds.target);
    let subject = subject(&finding.guardrail, counts, bounds, interval.as_deref());
    let eta = if evidences.proof < risk.proof_threshold {
        outlook::eta(counts, bounds.target, risk.proof_alpha, risk.proof_threshold)
    } else {
        None
    };
    let finding = Finding {
        value,
        interval,
        samples: (whole(seen.candidate.total), whole(seen.champion.total)),
        effective_samples: Some(whole(seen.candidate.total / counts.phi())),
        eta,
        ..finding
    };
    let mut found = decided(finding, &subject, &evidences, risk);
    if found.finding.verdict != Verdict::Undecided {
        found.finding.eta = None;
    }
    found
}

/// Estimate and interval in the target's own terms.
pub(super) fn estimate(counts: &CountState, target: CountBound) -> (Option<String>, Option<String>) {
    let (difference, ratio) = counts.estimates();
    let (estimate, interval, say): (_, _, fn(f64) -> String) = match target {
        CountBound::Difference { .. } => (difference.estimate(), difference.interval(DISPLAY_ALPHA, PLANNED_WINDOWS), text::points),
        CountBound::Ratio { .. } => (ratio.estimate(), ratio.interval(DISPLAY_ALPHA, PLANNED_WINDOWS), text::ratio),
        CountBound::Absolute(_) => {
            let seen = counts.seen().candidate;
            (seen.rate(), proportion_interval(seen, DISPLAY_ALPHA, 1000.0), text::percent)
        }
    };
    (estimate.map(say), interval.map(|i| format!("{} to {}", say(i.lower), say(i.upper))))
}

/// `accuracy is 31.4pp worse than stable (bad 33.2% of 214 vs 1.8% of 4 203)`.
pub(super) fn subject(name: &str, counts: &CountState, bounds: Bounds<'_>, interval: Option<&str>) -> String {
    let seen = counts.seen();
    let arm = |t: anytime_stats::Tally| {
        if bounds.words == Words::Seconds {
            format!("{} in {} s", text::count(t.bad), text::count(t.total))
        } else {
            t.rate().map_or_else(|| "none".into(), |rate| format!("{} of {}", text::percent(rate), text::count(t.total)))
        }
    };
    let bad = if bounds.words == Words::Pairs { "wrong alone in" } else { "bad" };
    let mut numbers = format!("{bad} {} vs {}", arm(seen.candidate), arm(seen.champion));
    if let Some((worse, severe)) = counts.severe().map(CountState::seen).zip(bounds.severe) {
        numbers = format!("{numbers}; {} {} vs {}", text::slower(severe), arm(worse.candidate), arm(worse.champion));
    }
    let numbers = interval.map_or_else(|| numbers.clone(), |interval| format!("{numbers}; 95%: {interval}"));
    let (difference, ratio) = counts.estimates();
    let claim = match bounds.target {
        CountBound::Difference { versus, .. } => difference.estimate().map(|d| {
            let size = text::points(d.abs());
            let size = size.trim_start_matches('+');
            match size {
                "0pp" => format!("{name} is the same as on {}", text::arm(versus)),
                _ if d > 0.0 => format!("{name} is {size} worse than {}", text::arm(versus)),
                _ => format!("{name} is {size} better than {}", text::arm(versus)),
            }
        }),
        CountBound::Ratio { versus, .. } => ratio.estimate().map(|r| format!("{name} is {} that of {}", text::ratio(r), text::arm(versus))),
        CountBound::Absolute(_) => seen.candidate.rate().map(|rate| format!("{name} is {}", text::percent(rate))),
    };
    format!("{} ({numbers})", claim.unwrap_or_else(|| format!("{name} has too few events to compare")))
}

/// Verdict, reason and sentence from three log e-values.
pub(super) fn decided(mut finding: Finding, subject: &str, evidences: &Evidences, risk: &Risk) -> Found {
    let Evidences { name, proof, harm, warning } = evidences;
    finding.log_e_proof = Some(*proof);
    finding.log_e_harm = Some(harm.0);
    finding.log_e_warning = Some(warning.0);
    let suspicious = warning.0 >= SUSPICIOUS.ln();
    let (target, critical) = (&finding.target, &finding.critical);
    let (verdict, reason, rest) = if harm.1 >= risk.harm_threshold {
        let rest = format!("beyond the critical {critical}: {name} {} ≥ {}", text::log_e(harm.1), text::log_e(risk.harm_threshold));
        (Verdict::Harmful, "Harmful", rest)
    } else if warning.1 >= risk.harm_threshold {
        let needed = text::log_e(risk.harm_threshold);
        let rest = format!("worse than the target {target}: {name} {} ≥ {needed}; it cannot be proven any more", text::log_e(warning.1));
        // A large regression gets here a moment before it is shown to be beyond the critical bound as well.
        let rest = if harm.1 > 0.0 && target != critical {
            format!("{rest}; beyond the critical {critical}: {} of {needed} so far", text::log_e(harm.1))
        } else {
            rest
        };
        (Verdict::Warning, "WorseThanTarget", rest)
    } else if suspicious {
        let rest = format!(
            "it may be worse than the target {target}: {name} {} of {}, above {} nothing passes",
            text::log_e(warning.0),
            text::log_e(risk.harm_threshold),
            text::log_e(SUSPICIOUS.ln())
        );
        (Verdict::Undecided, LOOKS_WORSE, rest)
    } else if *proof >= risk.proof_threshold {
        let rest = format!("within the target {target}: {name} {} ≥ {}", text::log_e(*proof), text::log_e(risk.proof_threshold));
        (Verdict::Proven, "Proven", rest)
    } else {
        let left = finding
            .eta
            .map_or_else(String::new, |(low, high)| format!(", about {} to {} left", words::duration(low), words::duration(high)));
        let rest = format!(
            "not yet proven within the target {target}: {name} {} of {}{left}",
            text::log_e(*proof),
            text::log_e(risk.proof_threshold)
        );
        (Verdict::Undecided, "Collecting", rest)
    };
    finding.verdict = verdict;
    finding.reason = reason.into();
    finding.message = format!("{subject}, {rest}");
    Found { finding, suspicious }
}

pub(super) fn whole(n: f64) -> u64 {
    // Counts are not negative; what is too large saturates.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = n.max(0.0).round() as u64;
    whole
}
