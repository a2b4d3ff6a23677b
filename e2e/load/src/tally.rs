//! Counts what users saw: per phase and in total, per revision, and which revisions each user met.
//! It sends nothing and reads no clock: instants come in as seconds since the start.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::quantiles::{Quantiles, Summary};
use crate::users::Users;

/// Revision of an answer that names none.
pub const UNKNOWN: &str = "unknown";
/// Changes of revision that are listed one by one, per phase.
const MAX_FLIPS: usize = 20;
/// Length of the sliding window in [`Recent`], in s.
const RECENT_SECONDS: u64 = 5;

/// How one request ended, as its user saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Status code, or `timeout`, `connect`, `broken` (cut off) or `unreadable` (200 without a usable answer).
    pub code: String,
    /// Revision that answered, if known.
    pub revision: Option<String>,
    /// Predicted digit, for a readable 200.
    pub label: Option<i64>,
    /// Whether a probability was missing or not finite.
    pub nonfinite: bool,
    /// Time from sending to the end of the answer.
    pub latency: Duration,
    /// Address of the server that answered, if it said so.
    pub served_by: Option<String>,
}

/// What was asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Index of the user, if the request had an id.
    pub user: Option<usize>,
    /// Index of the phase in which it was sent.
    pub phase: usize,
    /// The true digit.
    pub label: i64,
    /// The teacher's answer to it.
    pub teacher: i64,
}

/// What became of one true label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// The server joined it with its prediction.
    Joined,
    /// It did not.
    Failed,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct FeedbackCounts {
    sent: u64,
    joined: u64,
    failed: u64,
}

#[derive(Clone, Debug, Default)]
struct Revision {
    requests: u64,
    ok: u64,
    wrong: u64,
    wrong_but_teacher_right: u64,
    nonfinite: u64,
    by_code: BTreeMap<String, u64>,
    latency: Quantiles,
    feedback_joined: u64,
    first_s: f64,
    last_s: f64,
}

/// Revisions one user met in one phase, in the order of first sight.
#[derive(Clone, Debug)]
struct Track {
    met: Vec<String>,
    last: String,
    switched: u64,
    back: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Flip {
    user: String,
    at_s: f64,
    from: String,
    to: String,
}

/// Counters of one phase, or of all.
#[derive(Clone, Debug, Default)]
struct Stats {
    sent: u64,
    skipped: u64,
    answered: u64,
    wrong: u64,
    nonfinite: u64,
    by_code: BTreeMap<String, u64>,
    latency: Quantiles,
    feedback: FeedbackCounts,
    revisions: BTreeMap<String, Revision>,
    tracks: BTreeMap<usize, Track>,
    flips: Vec<Flip>,
}

struct Phase {
    name: String,
    started_s: f64,
    ended_s: Option<f64>,
    stats: Stats,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct RecentCounts {
    requests: u64,
    not_ok: u64,
    wrong: u64,
}

/// Everything counted so far.
pub struct Tally {
    total: Stats,
    phases: Vec<Phase>,
    recent: BTreeMap<u64, BTreeMap<String, RecentCounts>>,
}

/// The report, ready to be written as JSON.
#[derive(Serialize)]
pub struct Report {
    schema: u32,
    /// Milliseconds since 1970.
    started_unix_ms: u128,
    elapsed_s: f64,
    target_rps: f64,
    finished: bool,
    phase: String,
    recent: RecentReport,
    total: StatsReport,
    phases: Vec<PhaseReport>,
}

#[derive(Serialize)]
struct RecentReport {
    seconds: u64,
    revisions: BTreeMap<String, RecentCounts>,
}

#[derive(Serialize)]
struct PhaseReport {
    name: String,
    started_s: f64,
    ended_s: Option<f64>,
    stats: StatsReport,
}

#[derive(Serialize)]
struct StatsReport {
    sent: u64,
    skipped: u64,
    answered: u64,
    wrong: u64,
    wrong_but_teacher_right: u64,
    nonfinite: u64,
    not_ok: u64,
    unavailable: u64,
    by_code: BTreeMap<String, u64>,
    latency_ms: Summary,
    feedback: FeedbackCounts,
    revisions: BTreeMap<String, RevisionReport>,
    users: UsersReport,
}

#[derive(Serialize)]
struct RevisionReport {
    requests: u64,
    share: f64,
    ok: u64,
    wrong: u64,
    wrong_but_teacher_right: u64,
    nonfinite: u64,
    by_code: BTreeMap<String, u64>,
    latency_ms: Summary,
    feedback_joined: u64,
    first_s: f64,
    last_s: f64,
}

#[derive(Serialize)]
struct UsersReport {
    seen: usize,
    multi_revision: usize,
    switched: u64,
    flipped_back: usize,
    by_revision: BTreeMap<String, usize>,
    flips: Vec<Flip>,
}

/// Facts about the run that the counters do not hold.
#[derive(Clone, Copy, Debug)]
pub struct RunFacts {
    /// Milliseconds since 1970 at the start.
    pub started_unix_ms: u128,
    /// Seconds since the start.
    pub elapsed_s: f64,
    /// Requests per second asked for now.
    pub target_rps: f64,
    /// Whether sending has ended.
    pub finished: bool,
}

impl Default for Tally {
    fn default() -> Self {
        let first = Phase { name: "start".to_owned(), started_s: 0.0, ended_s: None, stats: Stats::default() };
        Self { total: Stats::default(), phases: vec![first], recent: BTreeMap::new() }
    }
}

impl Tally {
    /// Index of the phase that runs now.
    pub fn phase(&self) -> usize {
        self.phases.len().saturating_sub(1)
    }

    /// Starts a new phase; requests still in flight belong to the phase in which they were sent.
    pub fn mark(&mut self, name: String, at_s: f64) {
        if let Some(last) = self.phases.last_mut() {
            last.ended_s = Some(at_s);
        }
        self.phases.push(Phase { name, started_s: at_s, ended_s: None, stats: Stats::default() });
    }

    /// A request was sent.
    pub fn sent(&mut self, phase: usize) {
        self.each(phase, |stats| stats.sent += 1);
    }

    /// A request was not sent for want of room.
    pub fn skipped(&mut self, phase: usize, requests: u64) {
        self.each(phase, |stats| stats.skipped += requests);
    }

    /// A request ended.
    pub fn seen(&mut self, asked: Asked, seen: &Seen, at_s: f64, users: &Users) {
        self.each(asked.phase, |stats| stats.seen(asked, seen, at_s, users));
        let (wrong, ok) = (is_wrong(asked, seen), seen.label.is_some());
        let second = whole_seconds(at_s);
        let recent = self.recent.entry(second).or_default().entry(revision_of(seen).to_owned()).or_default();
        recent.requests += 1;
        recent.wrong += u64::from(wrong);
        recent.not_ok += u64::from(!ok);
        self.recent = self.recent.split_off(&second.saturating_sub(RECENT_SECONDS));
    }

    /// A true label was sent.
    pub fn feedback(&mut self, phase: usize, revision: Option<&str>, result: Feedback) {
        self.each(phase, |stats| {
            stats.feedback.sent += 1;
            if result == Feedback::Failed {
                stats.feedback.failed += 1;
                return;
            }
            stats.feedback.joined += 1;
            if let Some(counts) = stats.revisions.get_mut(revision.unwrap_or(UNKNOWN)) {
                counts.feedback_joined += 1;
            }
        });
    }

    /// Requests that got an HTTP answer of any kind.
    pub fn answered(&self) -> u64 {
        self.total.answered
    }

    /// The report as of now.
    pub fn report(&self, run: RunFacts) -> Report {
        let second = whole_seconds(run.elapsed_s);
        let mut recent: BTreeMap<String, RecentCounts> = BTreeMap::new();
        for (_, revisions) in self.recent.range(second.saturating_sub(RECENT_SECONDS)..) {
            for (name, counts) in revisions {
                let sum = recent.entry(name.clone()).or_default();
                sum.requests += counts.requests;
                sum.not_ok += counts.not_ok;
                sum.wrong += counts.wrong;
            }
        }
        let phase = |p: &Phase| PhaseReport {
            name: p.name.clone(),
            started_s: p.started_s,
            ended_s: p.ended_s.or(run.finished.then_some(run.elapsed_s)),
            stats: p.stats.report(),
        };
        Report {
            schema: 1,
            started_unix_ms: run.started_unix_ms,
            elapsed_s: run.elapsed_s,
            target_rps: run.target_rps,
            finished: run.finished,
            phase: self.phases.last().map(|p| p.name.clone()).unwrap_or_default(),
            recent: RecentReport { seconds: RECENT_SECONDS, revisions: recent },
            total: self.total.report(),
            phases: self.phases.iter().map(phase).collect(),
        }
    }

    fn each(&mut self, phase: usize, mut change: impl FnMut(&mut Stats)) {
        change(&mut self.total);
        if let Some(phase) = self.phases.get_mut(phase) {
            change(&mut phase.stats);
        }
    }
}

fn revision_of(seen: &Seen) -> &str {
    seen.revision.as_deref().unwrap_or(UNKNOWN)
}

fn is_wrong(asked: Asked, seen: &Seen) -> bool {
    seen.label.is_some_and(|label| label != asked.label)
}

// Seconds since the start are small and never negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole_seconds(seconds: f64) -> u64 {
    seconds as u64
}

impl Stats {
    fn seen(&mut self, asked: Asked, seen: &Seen, at_s: f64, users: &Users) {
        let wrong = u64::from(is_wrong(asked, seen));
        let nonfinite = u64::from(seen.nonfinite);
        self.answered += u64::from(!matches!(seen.code.as_str(), "timeout" | "connect" | "broken"));
        self.wrong += wrong;
        self.nonfinite += nonfinite;
        *self.by_code.entry(seen.code.clone()).or_default() += 1;
        self.latency.add(seen.latency);

        let name = revision_of(seen);
        let fresh = || Revision { first_s: at_s, ..Revision::default() };
        let revision = self.revisions.entry(name.to_owned()).or_insert_with(fresh);
        revision.requests += 1;
        revision.ok += u64::from(seen.label.is_some());
        revision.wrong += wrong;
        revision.wrong_but_teacher_right += wrong * u64::from(asked.teacher == asked.label);
        revision.nonfinite += nonfinite;
        *revision.by_code.entry(seen.code.clone()).or_default() += 1;
        revision.latency.add(seen.latency);
        revision.last_s = at_s;

        if let (Some(user), Some(name)) = (asked.user, &seen.revision) {
            self.track(user, name, at_s, users);
        }
    }

    fn track(&mut self, user: usize, revision: &str, at_s: f64, users: &Users) {
        let fresh = || Track { met: vec![revision.to_owned()], last: revision.to_owned(), switched: 0, back: false };
        let track = self.tracks.entry(user).or_insert_with(fresh);
        if track.last == revision {
            return;
        }
        let from = std::mem::replace(&mut track.last, revision.to_owned());
        track.switched += 1;
        if track.met.iter().any(|met| met == revision) {
            track.back = true;
        } else {
            track.met.push(revision.to_owned());
        }
        if self.flips.len() < MAX_FLIPS {
            self.flips.push(Flip { user: users.id(user).to_owned(), at_s, from, to: revision.to_owned() });
        }
    }

    fn report(&self) -> StatsReport {
        let code = |code: &str| self.by_code.get(code).copied().unwrap_or_default();
        let ended: u64 = self.by_code.values().sum();
        let revisions = self.revisions.iter().map(|(name, r)| (name.clone(), r.report(ended))).collect();
        StatsReport {
            sent: self.sent,
            skipped: self.skipped,
            answered: self.answered,
            wrong: self.wrong,
            wrong_but_teacher_right: self.revisions.values().map(|r| r.wrong_but_teacher_right).sum(),
            nonfinite: self.nonfinite,
            not_ok: ended - code("200"),
            unavailable: code("503"),
            by_code: self.by_code.clone(),
            latency_ms: self.latency.summary(),
            feedback: self.feedback,
            revisions,
            users: self.report_users(),
        }
    }

    fn report_users(&self) -> UsersReport {
        let mut by_revision = BTreeMap::new();
        for track in self.tracks.values() {
            *by_revision.entry(track.last.clone()).or_default() += 1;
        }
        UsersReport {
            seen: self.tracks.len(),
            multi_revision: self.tracks.values().filter(|t| t.met.len() > 1).count(),
            switched: self.tracks.values().map(|t| t.switched).sum(),
            flipped_back: self.tracks.values().filter(|t| t.back).count(),
            by_revision,
            flips: self.flips.clone(),
        }
    }
}

impl Revision {
    fn report(&self, of: u64) -> RevisionReport {
        RevisionReport {
            requests: self.requests,
            share: self.requests as f64 / of.max(1) as f64,
            ok: self.ok,
            wrong: self.wrong,
            wrong_but_teacher_right: self.wrong_but_teacher_right,
            nonfinite: self.nonfinite,
            by_code: self.by_code.clone(),
            latency_ms: self.latency.summary(),
            feedback_joined: self.feedback_joined,
            first_s: self.first_s,
            last_s: self.last_s,
        }
    }
}

impl Report {
    /// The story for a person: one line per phase and per revision in it.
    pub fn story(&self) -> String {
        let mut lines = Vec::new();
        let shown = self.phases.iter().map(|p| (p.name.as_str(), &p.stats)).filter(|(_, s)| s.sent > 0);
        let total = (self.phases.len() > 1).then_some(("total", &self.total));
        for (name, s) in shown.chain(total) {
            let ms = s.latency_ms.p95_p99();
            lines.push(format!(
                "{name}: {} requests, {} not ok ({} x 503), {} skipped, p95 {} ms, p99 {} ms; {} users, {} met several revisions, {} were sent back",
                s.sent, s.not_ok, s.unavailable, s.skipped, ms.0, ms.1, s.users.seen, s.users.multi_revision, s.users.flipped_back
            ));
            for (revision, r) in &s.revisions {
                lines.push(format!(
                    "  {revision}: {} answers ({:.1} %), {} wrong ({} of them the teacher gets right), {} not finite, {} not ok",
                    r.requests,
                    100.0 * r.share,
                    r.wrong,
                    r.wrong_but_teacher_right,
                    r.nonfinite,
                    r.requests - r.ok
                ));
            }
        }
        lines.join("\n")
    }
}
