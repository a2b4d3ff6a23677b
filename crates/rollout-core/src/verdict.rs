//! The words of a judgement: verdict per guardrail, pass or fail for all, and why.
//! Does not compute them; [`crate::judge`] does, and it alone can make a [`Pass`].

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::revision::RevisionId;
use crate::weights::Position;

/// What the evidence says about one guardrail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum Verdict {
    /// "Worse than target" is rejected at the promotion risk.
    Proven,
    /// "No worse than target" is rejected: it cannot be proven any more.
    Warning,
    /// "No worse than critical" is rejected, or a limit or tripwire is crossed.
    Harmful,
    /// Not enough evidence yet.
    Undecided,
    /// It cannot be measured; the reason says why. It never passes.
    Unmeasurable,
    /// It does not count in this stage.
    Inactive,
}

/// Why something cannot be measured. Each has its own reason in status, events and metrics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unmeasurable {
    /// No series matched.
    #[error("no series of {query} for {arm}")]
    NoSeries {
        /// The query as sent.
        query: String,
        /// Which arm has none.
        arm: String,
    },
    /// A sample is NaN.
    #[error("{query} is NaN on {target}")]
    NotANumber {
        /// The query as sent.
        query: String,
        /// The pod.
        target: String,
    },
    /// A sample is infinite.
    #[error("{query} is infinite on {target}")]
    Infinite {
        /// The query as sent.
        query: String,
        /// The pod.
        target: String,
    },
    /// The newest sample is too old.
    #[error("the newest sample of {query} for {arm} is {age} s old, at most {limit} s are expected")]
    Stale {
        /// The query as sent.
        query: String,
        /// Which arm.
        arm: String,
        /// Age in seconds.
        age: i64,
        /// Oldest accepted age in seconds.
        limit: i64,
    },
    /// Two scrapes of one pod.
    #[error("{query} has two series for pod {target} that differ only in scrape labels; scrape each pod once")]
    Duplicate {
        /// The query as sent.
        query: String,
        /// The pod.
        target: String,
    },
    /// The labels of both arms pick out the same series.
    #[error(
        "{query} of {target} is counted for both arms: give the workload and the baseline matchers that pick out their own series alone"
    )]
    Shared {
        /// The query as sent.
        query: String,
        /// The pod.
        target: String,
    },
    /// More bad events than events.
    #[error("{bad} bad events of {total} in all on {target}: bad must be a part of total")]
    Impossible {
        /// Bad events.
        bad: String,
        /// All events.
        total: String,
        /// The pod.
        target: String,
    },
    /// The histogram has no such edge.
    #[error("{histogram} has no edge at {wanted}; the nearest are {below} and {above}")]
    NoSuchEdge {
        /// Name of the histogram.
        histogram: String,
        /// The edge asked for.
        wanted: String,
        /// The next lower edge.
        below: String,
        /// The next higher edge.
        above: String,
    },
    /// No series has the label that names the slices.
    #[error("no series of {query} has the label {label}, whose values are the slices")]
    NoSuchLabel {
        /// The metric.
        query: String,
        /// The label.
        label: String,
    },
    /// No series has one of the groups.
    #[error("no series of {query} has {label}=\"{group}\", one of the groups to be compared")]
    NoSuchGroup {
        /// The metric.
        query: String,
        /// The label that names the groups.
        label: String,
        /// The group.
        group: String,
    },
    /// The server answered with a warning: the result may be partial.
    #[error("the server warned that the result is partial: {warning}")]
    Partial {
        /// Its words.
        warning: String,
    },
    /// The answer has another type than expected.
    #[error("the server answered {found} where {expected} was expected")]
    WrongType {
        /// What came.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The server did not answer, or with an error.
    #[error("{message}")]
    Unavailable {
        /// What happened.
        message: String,
    },
    /// Traffic is not split as written.
    #[error("{message}")]
    SampleRatioMismatch {
        /// Counts and expected shares.
        message: String,
    },
    /// Labels are missing otherwise in one arm than in the other.
    #[error("{message}")]
    UnlikeLabels {
        /// Shares without a label and counts, per arm.
        message: String,
    },
    /// The world has moved away from what was recorded, under both arms alike.
    #[error("{message}")]
    WorldDrifted {
        /// By how much, on both.
        message: String,
    },
    /// A device is used by more than one pod.
    #[error("{query} shows device {device} under {one} and {other}: its energy cannot be told apart; give every pod a device of its own")]
    SharedDevice {
        /// The metric.
        query: String,
        /// The device.
        device: String,
        /// One pod.
        one: String,
        /// Another pod.
        other: String,
    },
    /// The arms do not work equally hard.
    #[error("{message}")]
    UnlikeLoad {
        /// Requests per second and pod of both.
        message: String,
    },
    /// The gauge cannot be compared, for instance with one pod per arm.
    #[error("{message}")]
    NotComparable {
        /// Why.
        message: String,
    },
}

/// The category of [`Unmeasurable::UnlikeLabels`].
pub(crate) const UNLIKE_LABELS: &str = "UnlikeLabels";

impl Unmeasurable {
    /// A fixed word for metrics and events.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::NoSeries { .. } => "NoSeries",
            Self::NotANumber { .. } => "NotANumber",
            Self::Infinite { .. } => "Infinite",
            Self::Stale { .. } => "Stale",
            Self::Duplicate { .. } => "Duplicate",
            Self::Shared { .. } => "Shared",
            Self::Impossible { .. } => "Impossible",
            Self::NoSuchEdge { .. } => "NoSuchEdge",
            Self::NoSuchLabel { .. } => "NoSuchLabel",
            Self::NoSuchGroup { .. } => "NoSuchGroup",
            Self::Partial { .. } => "PartialResult",
            Self::WrongType { .. } => "WrongType",
            Self::Unavailable { .. } => "Unavailable",
            Self::SampleRatioMismatch { .. } => "SampleRatioMismatch",
            Self::UnlikeLabels { .. } => UNLIKE_LABELS,
            Self::WorldDrifted { .. } => "WorldDrifted",
            Self::SharedDevice { .. } => "SharedDevice",
            Self::UnlikeLoad { .. } => "UnlikeLoad",
            Self::NotComparable { .. } => "NotComparable",
        }
    }
}

/// What is known about one guardrail, for people and for the decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Name of the guardrail.
    pub guardrail: String,
    /// The verdict.
    pub verdict: Verdict,
    /// A fixed word: the category of an [`Unmeasurable`], or `Proven`, `Harmful`, `TripwireCrossed`, `LimitExceeded`, `Suspicious`, …
    pub reason: String,
    /// Estimate with unit, such as `+1.2pp`.
    pub value: Option<String>,
    /// The target as written.
    pub target: String,
    /// The critical bound as written.
    pub critical: String,
    /// Interval at 95 %, such as `+0.4pp to +2.1pp`.
    pub interval: Option<String>,
    /// Events or samples counted on the candidate and on the reference.
    pub samples: (u64, u64),
    /// Samples after over-dispersion or autocorrelation is taken off, on the candidate.
    pub effective_samples: Option<u64>,
    /// Its slices, by the values of their label; empty where none are asked for.
    pub slices: Vec<SliceFinding>,
    /// Natural log e-value of "proven better than target"; threshold beside it.
    pub log_e_proof: Option<f64>,
    /// Natural log e-value of "worse than critical".
    pub log_e_harm: Option<f64>,
    /// Natural log e-value of "worse than target".
    pub log_e_warning: Option<f64>,
    /// The promised win, where there is one.
    pub win: Option<WinFinding>,
    /// Log thresholds of proof and of harm.
    pub thresholds: (f64, f64),
    /// Time until proof, from half the estimate to twice it.
    pub eta: Option<(TimeDelta, TimeDelta)>,
    /// A sentence with the numbers.
    pub message: String,
}

/// What is known about a promised win.
#[derive(Clone, Debug, PartialEq)]
pub struct WinFinding {
    /// The promise as written, such as `0.8x vs stable`.
    pub promised: String,
    /// Highest natural log e-value of "better than promised" so far in the attempt.
    pub log_e: f64,
    /// The log e-value at which it is shown.
    pub threshold: f64,
}

impl WinFinding {
    /// Whether it is shown.
    pub fn is_shown(&self) -> bool {
        self.log_e >= self.threshold
    }
}

/// What is known about one slice of a guardrail.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceFinding {
    /// The slice as `label=value`, or that of all other values.
    pub slice: String,
    /// Proven, Harmful, or Undecided.
    pub verdict: Verdict,
    /// Whether it has the events from which on it must be proven.
    pub counts: bool,
    /// Estimate with unit, such as `+1.2pp`.
    pub value: Option<String>,
    /// Events counted on the candidate and on the reference.
    pub samples: (u64, u64),
    /// Natural log e-value of "better than the slices' bound".
    pub log_e_proof: f64,
    /// Natural log e-value of "worse than the slices' bound".
    pub log_e_harm: f64,
    /// Log thresholds of proof and of harm; that of harm is each slice's share of the guardrail's.
    pub thresholds: (f64, f64),
}

/// Proof that a candidate passed at one position under one plan. Only [`crate::judge`] makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    candidate: RevisionId,
    position: Position,
    plan_hash: String,
    at: DateTime<Utc>,
}

impl Pass {
    pub(crate) fn new(candidate: RevisionId, position: Position, plan_hash: String, at: DateTime<Utc>) -> Self {
        Self { candidate, position, plan_hash, at }
    }

    /// Whether this pass is about `candidate` at `position` under `plan_hash`.
    pub fn is_for(&self, candidate: &RevisionId, position: Position, plan_hash: &str) -> bool {
        self.candidate == *candidate && self.position == position && self.plan_hash == plan_hash
    }

    /// The newest instant that was judged.
    pub fn at(&self) -> DateTime<Utc> {
        self.at
    }
}

/// Why a candidate must go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The guardrail, or `workload`, or `request`.
    pub guardrail: String,
    /// A fixed word: `Harmful`, `TripwireCrossed`, `LimitExceeded`, `ProgressDeadlineExceeded`, …
    pub reason: String,
    /// A sentence with the numbers.
    pub message: String,
}

/// Reason of a finding that is not decided and looks worse than its target: nothing rises meanwhile.
pub const LOOKS_WORSE: &str = "Suspicious";

/// The judgement of all guardrails together.
#[derive(Clone, Debug, PartialEq)]
pub enum Overall {
    /// Every guardrail that is active in this stage is proven: the stage may end.
    StagePass(Pass),
    /// Enough for the next step of the same stage.
    StepPass(Pass),
    /// Back to stable now.
    Fail(Failure),
    /// It ends without proof: a warning, or the time is over.
    Inconclusive(Failure),
    /// Exposure to zero, evidence kept: blind, or the candidate went silent.
    Lower(Failure),
    /// Nothing to do; a sentence says what is missing.
    Hold(String),
}

/// All findings at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The newest instant that was judged.
    pub at: DateTime<Utc>,
    /// Per guardrail, in the plan's order.
    pub findings: Vec<Finding>,
    /// For all together.
    pub overall: Overall,
    /// Share of requests that really went to the candidate since the last weight change, in percent, when counted.
    pub realised_share: Option<f64>,
    /// The latest closed instant at which the realised share was measured above intent with proof, if any.
    pub share_above_intent: bool,
    /// Judged time in this stage.
    pub stage_judged: TimeDelta,
    /// Judged time in this step.
    pub step_judged: TimeDelta,
}
