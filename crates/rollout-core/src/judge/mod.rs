//! The judge: from evidence to a verdict per guardrail and one judgement for all, with the sentence that says why.
//! It takes no decision: what a pass or a failure leads to is [`crate::decide`]'s. It alone makes a [`Pass`], and absence of evidence never does.

mod drift;
mod energy;
mod finding;
mod gap;
mod limit;
mod outlook;
mod slices;
mod text;

use chrono::{DateTime, TimeDelta, Utc};

use crate::evidence::{Arms, Evidence, Readings, SAMPLE_RATIO_ALPHA, State, freshness, silence};
use crate::plan::{Guardrail, Plan, PlannedStage};
use crate::spec::{OnUnmeasurable, StageKind};
use crate::verdict::{Failure, Finding, Judgement, Overall, Pass, UNLIKE_LABELS, Unmeasurable, Verdict};
use crate::weights::{Exposure, Position};
use crate::words;
pub(crate) use finding::FIRST_BATCHES;
use finding::{Bench, Found};
pub(crate) use text::{count_bound, count_bound_short, energy_bound, gap_bound, level_bound, plain};

/// Proof windows that a step must have.
pub(crate) const STEP_WINDOWS: u32 = 2;
/// Requests that the candidate must have answered in a step.
pub(crate) const STEP_REQUESTS: f64 = 20.0;
/// Windows without any measurement after which an exposed candidate is lowered.
const BLIND_WINDOWS: i32 = 5;
/// The longest a stage may last by the clock, however little of it could be judged.
const OUTER_LIMIT: TimeDelta = TimeDelta::days(7);

/// When and where the judge is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Now.
    pub now: DateTime<Utc>,
    /// Where the attempt is.
    pub position: Position,
    /// Share of users that the candidate serves.
    pub exposure: Exposure,
    /// When the attempt started.
    pub attempt_started: DateTime<Utc>,
    /// When the stage started.
    pub stage_started: DateTime<Utc>,
    /// When the step's weight took effect.
    pub step_started: DateTime<Utc>,
    /// Whether this is the last step of its stage.
    pub last_step: bool,
}

/// Judges all evidence at one moment.
pub fn judge(plan: &Plan, evidence: &Evidence, moment: &Moment) -> Judgement {
    let trouble = wrong_split(evidence);
    let bench = Bench {
        plan,
        attempt: evidence.attempt,
        trouble: trouble.as_ref(),
        since: evidence.place.since,
        settled: evidence.place.settled,
        last: evidence.clocks.last,
    };
    let kind = evidence.place.kind;
    let found: Vec<Found> = plan
        .guardrails
        .iter()
        .zip(&evidence.guardrails)
        .map(|(guardrail, tracked)| bench.find(guardrail, tracked, kind.is_some_and(|kind| guardrail.stages.contains(&kind))))
        .collect();
    let case = Case { plan, evidence, moment, found: &found, split_is_wrong: trouble.is_some() };
    let overall = case.overall();
    Judgement {
        at: evidence.last_instant(),
        overall,
        realised_share: evidence.realised_share().map(|share| share * 100.0),
        share_above_intent: above_intent(evidence),
        stage_judged: time(evidence.clocks.judged),
        step_judged: time(evidence.clocks.step),
        findings: found.into_iter().map(|f| f.finding).collect(),
    }
}

/// The failure that one look between two instants finds, before the next instant would: a tripwire or limit that the candidate has crossed by `at`
/// while users are on it. The evidence stays as it is. `readings` must hold the answers to [`Evidence::glance_queries`].
pub fn glance(plan: &Plan, evidence: &Evidence, arms: &Arms, at: DateTime<Utc>, readings: &Readings) -> Option<Failure> {
    let bench = Bench {
        plan,
        attempt: evidence.attempt,
        trouble: None,
        since: evidence.place.since,
        settled: evidence.place.settled,
        last: evidence.clocks.last,
    };
    let seen = evidence.glimpse(plan, arms, at, readings);
    let mut findings = seen.iter().map(|(guardrail, tracked)| bench.find(guardrail, tracked, true).finding);
    findings.find(|finding| finding.verdict == Verdict::Harmful).map(|finding| because(&finding))
}

/// Everything the judgement looks at.
struct Case<'a> {
    plan: &'a Plan,
    evidence: &'a Evidence,
    moment: &'a Moment,
    found: &'a [Found],
    split_is_wrong: bool,
}

impl Case<'_> {
    fn overall(&self) -> Overall {
        if let Some(failure) = self.harmful().or_else(|| self.unmeasurable_too_long()) {
            return Overall::Fail(failure);
        }
        if let Some(failure) = self.silent().or_else(|| self.blind()) {
            return Overall::Lower(failure);
        }
        let Some(stage) = self.plan.stages.get(self.moment.position.stage) else {
            return Overall::Hold("the position is outside the plan".into());
        };
        if let Some(failure) = self.warned() {
            return Overall::Inconclusive(failure);
        }
        let missing = self.missing(stage);
        let pass =
            || Pass::new(self.evidence.candidate.clone(), self.moment.position, self.plan.hash.clone(), self.evidence.last_instant());
        // A proof that came at the last moment is a proof; another step needs time that is there.
        match (missing.is_empty(), self.moment.last_step, self.out_of_time(stage)) {
            (true, true, _) => Overall::StagePass(pass()),
            (_, _, Some(failure)) => Overall::Inconclusive(failure),
            (true, false, None) => Overall::StepPass(pass()),
            (false, _, None) => Overall::Hold(missing.join("; ")),
        }
    }

    fn guardrails(&self) -> impl Iterator<Item = (&Guardrail, &Found)> {
        self.plan.guardrails.iter().zip(self.found)
    }

    fn first_with(&self, verdict: Verdict) -> Option<Failure> {
        self.found.iter().map(|f| &f.finding).find(|f| f.verdict == verdict).map(because)
    }

    fn harmful(&self) -> Option<Failure> {
        self.first_with(Verdict::Harmful)
    }

    /// Statistical ones only: these cannot be proven any more, while a limit may be met again.
    fn warned(&self) -> Option<Failure> {
        let mut warned =
            self.guardrails().filter(|(guardrail, found)| guardrail.test.has_risk() && found.finding.verdict == Verdict::Warning);
        warned.next().map(|(_, found)| because(&found.finding))
    }

    /// One missed scrape is not yet a reason to roll back; as long as it takes to be called silent is.
    fn unmeasurable_too_long(&self) -> Option<Failure> {
        let last = self.evidence.clocks.last;
        self.guardrails().zip(&self.evidence.guardrails).find_map(|((guardrail, found), tracked)| {
            let strict = guardrail.on_unmeasurable == OnUnmeasurable::Rollback && found.finding.verdict == Verdict::Unmeasurable;
            // A wrong split is nobody's own trouble: it has no instant from which on this guardrail could not be measured.
            let long = tracked.problem_since.is_some_and(|since| last - since >= silence(self.plan));
            (strict && long).then(|| because(&found.finding))
        })
    }

    fn silent(&self) -> Option<Failure> {
        let (clocks, place, traffic) = (&self.evidence.clocks, &self.evidence.place, &self.evidence.traffic);
        let stable_reports = traffic.stable_seen.is_some_and(|seen| clocks.last - seen <= freshness(self.plan));
        // A time in which nobody reported says nothing of the candidate.
        let quiet = clocks.last - place.since.max(traffic.candidate_seen.unwrap_or(0)).max(traffic.stable_since.unwrap_or(0));
        (self.moment.exposure > Exposure::ZERO && stable_reports && quiet >= silence(self.plan)).then(|| Failure {
            guardrail: "workload".into(),
            reason: "CandidateSilent".into(),
            message: format!(
                "the candidate has {} of the traffic and gave no sample for {}, while stable reports",
                self.moment.exposure,
                words::duration(TimeDelta::milliseconds(quiet))
            ),
        })
    }

    fn blind(&self) -> Option<Failure> {
        let place = &self.evidence.place;
        let since = self.evidence.clocks.measured.unwrap_or(place.since).max(place.since);
        let dark = TimeDelta::milliseconds(self.moment.now.timestamp_millis() - since);
        let limit = (self.plan.window * BLIND_WINDOWS).max(TimeDelta::milliseconds(silence(self.plan)));
        (self.moment.exposure > Exposure::ZERO && dark > limit).then(|| Failure {
            guardrail: "workload".into(),
            reason: "Blind".into(),
            message: format!(
                "nothing could be measured for {} while the candidate has {} of the traffic: {}",
                words::duration(dark),
                self.moment.exposure,
                self.unmeasurable().next().map_or("no instant was read", |finding| finding.message.as_str())
            ),
        })
    }

    fn out_of_time(&self, stage: &PlannedStage) -> Option<Failure> {
        let judged = time(self.evidence.clocks.judged);
        let clock = self.moment.now - self.moment.stage_started;
        let outer = OUTER_LIMIT.max(stage.max * 2);
        let over = if judged > stage.max {
            format!("{} was judged for {}, at most {} are allowed", stage.name, words::duration(judged), words::duration(stage.max))
        } else if clock > outer {
            format!("{} lasts {} by the clock, at most {} are allowed", stage.name, words::duration(clock), words::duration(outer))
        } else {
            return None;
        };
        let mut open: Vec<String> = self.blocking().map(|(_, found)| found.finding.message.clone()).collect();
        open.extend(self.nothing_won());
        let guardrail = self.blocking().next().map_or("stage", |(guardrail, _)| guardrail.name.as_str());
        let message = if open.is_empty() { over } else { format!("{over}; {}", open.join("; ")) };
        Some(Failure { guardrail: guardrail.into(), reason: "MaxDurationExceeded".into(), message })
    }

    fn unmeasurable(&self) -> impl Iterator<Item = &Finding> {
        self.found.iter().map(|f| &f.finding).filter(|f| f.verdict == Verdict::Unmeasurable)
    }

    /// Guardrails that count here and are not proven; those that may be ignored while they cannot be measured are left out.
    fn blocking(&self) -> impl Iterator<Item = (&Guardrail, &Found)> {
        self.guardrails().filter(|(guardrail, found)| match found.finding.verdict {
            Verdict::Proven | Verdict::Inactive => found.suspicious,
            Verdict::Unmeasurable => !self.ignored(guardrail, found),
            Verdict::Undecided | Verdict::Warning | Verdict::Harmful => true,
        })
    }

    /// What cannot be read may be ignored where the user says so; that it is known to mislead may not.
    fn ignored(&self, guardrail: &Guardrail, found: &Found) -> bool {
        guardrail.on_unmeasurable == OnUnmeasurable::Ignore && !self.split_is_wrong && found.finding.reason != UNLIKE_LABELS
    }

    /// Everything that a pass still lacks, in words.
    fn missing(&self, stage: &PlannedStage) -> Vec<String> {
        let mut missing = Vec::new();
        missing.extend(self.out_of_place());
        if self.split_is_wrong && !self.blocking().any(|(_, found)| found.finding.verdict == Verdict::Unmeasurable) {
            missing.push("traffic is not split as written".into());
        }
        for (_, found) in self.blocking() {
            // A step passes on no sign of harm; only the end of a stage needs proof.
            if self.moment.last_step || found.suspicious || found.finding.verdict == Verdict::Unmeasurable {
                missing.push(found.finding.message.clone());
            }
        }
        missing.extend(self.nothing_won());
        missing.extend(self.too_early(stage));
        missing.extend(self.too_little());
        missing
    }

    /// Before the pass that promotes, one of the promised wins must be there: a candidate that is merely harmless was not asked for.
    fn nothing_won(&self) -> Option<String> {
        let promotes = self.moment.last_step && self.moment.position.stage + 1 == self.plan.stages.len();
        let wins: Vec<_> = self.found.iter().filter_map(|f| f.finding.win.as_ref().map(|win| (&f.finding.guardrail, win))).collect();
        let none = promotes && !wins.is_empty() && !wins.iter().any(|(_, win)| win.is_shown());
        none.then(|| wins.iter().map(|(name, win)| format!("{name}: {}", text::win(win))).collect::<Vec<_>>().join("; "))
    }

    /// Evidence about another place or another time gives no pass.
    fn out_of_place(&self) -> Option<String> {
        let place = &self.evidence.place;
        if place.kind.is_none() || place.position != self.moment.position || place.exposure != self.moment.exposure {
            return Some("the evidence is not about this step yet".into());
        }
        if self.evidence.plan_hash() != self.plan.hash {
            return Some("the evidence was taken under another plan".into());
        }
        let age = self.moment.now - self.evidence.last_instant();
        let limit = TimeDelta::milliseconds(freshness(self.plan));
        (age > limit).then(|| format!("the last measurement is {} old", words::duration(age)))
    }

    fn too_early(&self, stage: &PlannedStage) -> Vec<String> {
        let clocks = &self.evidence.clocks;
        let short = |what: &str, measured: f64, least: TimeDelta| {
            let left = least - time(measured);
            (left > TimeDelta::zero()).then(|| format!("{what} lasts {} more", words::duration(left)))
        };
        let stage_left = if self.moment.last_step { short("the stage", clocks.stage, stage.min) } else { None };
        short("the step", clocks.step, stage.step_min).into_iter().chain(stage_left).collect()
    }

    /// Two proof windows and twenty candidate requests in the step.
    fn too_little(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let counted = self.guardrails().zip(&self.evidence.guardrails).filter_map(|((guardrail, found), tracked)| match &tracked.state {
            _ if found.finding.verdict == Verdict::Inactive => None,
            _ if found.finding.verdict == Verdict::Unmeasurable && self.ignored(guardrail, found) => None,
            // Once labels were old enough in the stage, a further step need not wait as long again: it has no older ones to show.
            State::Counts(counts) if guardrail.maturity.is_some() && counts.stage_windows() >= f64::from(STEP_WINDOWS) => None,
            State::Counts(counts) => Some(counts.step_windows()),
            State::Gap(gap) => Some(gap.step_windows()),
            State::Drift(drift) => Some(drift.step_windows()),
            _ => None,
        });
        // Without counts the windows are those of judged time.
        let settled = TimeDelta::milliseconds(millis(self.evidence.clocks.step_settled));
        let timed = || if settled >= self.plan.window * 2 { STEP_WINDOWS } else { u32::from(settled >= self.plan.window) };
        let windows = counted.min().unwrap_or_else(timed);
        if windows < STEP_WINDOWS {
            missing.push(format!("{windows} of {STEP_WINDOWS} proof windows of this step are in"));
        }
        if let Some(share) = self.evidence.share() {
            if share.candidate() < STEP_REQUESTS {
                missing.push(format!(
                    "the candidate answered {} of {} requests in this step",
                    text::count(share.candidate()),
                    text::count(STEP_REQUESTS)
                ));
            }
        } else if self.evidence.traffic.candidate_seen.is_none() {
            missing.push("the candidate has not reported yet".into());
        }
        missing
    }
}

fn because(finding: &Finding) -> Failure {
    Failure { guardrail: finding.guardrail.clone(), reason: finding.reason.clone(), message: finding.message.clone() }
}

/// Whether requests are split otherwise than written, beyond chance.
fn wrong_split(evidence: &Evidence) -> Option<Unmeasurable> {
    let (expected, share) = (evidence.traffic.expected?, evidence.share()?);
    let log_e = evidence.traffic.closed + share.log_e(expected.share, expected.unit);
    let threshold = -SAMPLE_RATIO_ALPHA.ln();
    let found = evidence.realised_share()?;
    let (wanted, unit) = if evidence.place.kind == Some(StageKind::Shadow) {
        (expected.share / (1.0 - expected.share), "of stable's requests were copied to the candidate")
    } else {
        (expected.share, "of the requests went to the candidate")
    };
    (log_e >= threshold).then(|| Unmeasurable::SampleRatioMismatch {
        message: format!(
            "traffic is not split as written: {} {unit}, {} were expected ({} requests, ln E {} ≥ {})",
            text::percent(found),
            text::percent(wanted),
            text::count(share.total()),
            text::log_e(log_e),
            text::log_e(threshold)
        ),
    })
}

/// More users than intended see the candidate, beyond chance. Where arms are users, requests do not show it.
fn above_intent(evidence: &Evidence) -> bool {
    let (Some(expected), Some(share)) = (evidence.traffic.expected, evidence.share()) else { return false };
    evidence.place.kind == Some(StageKind::Canary) && share.log_e_above(expected.share, evidence.place.raised) >= -SAMPLE_RATIO_ALPHA.ln()
}

fn time(seconds: f64) -> TimeDelta {
    TimeDelta::milliseconds(millis(seconds))
}

fn millis(seconds: f64) -> i64 {
    // Judged time is far below what the integer holds.
    #[allow(clippy::cast_possible_truncation)]
    let millis = (seconds * 1000.0).round() as i64;
    millis
}
