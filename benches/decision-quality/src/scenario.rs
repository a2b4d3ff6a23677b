//! What a world can be like: traffic, truth, and everything that goes wrong between a pod and a counter that somebody reads.
//! Holds data only; [`crate::catalogue`] names the worlds and [`crate::world`] plays them.

/// Length of a day in seconds.
pub const DAY: f64 = 86_400.0;
/// One minute in seconds.
pub const MINUTE: i64 = 60;
/// One hour in seconds.
pub const HOUR: i64 = 3_600;

/// Which arm answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What serves now.
    Champion,
    /// What is on trial.
    Candidate,
}

/// What is right to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Within every target: promotion is right, a rollback is false.
    Good,
    /// Beyond a critical bound: a rollback is right, promotion is false.
    Bad,
    /// Exactly at a bound, between target and critical, or not comparable: promotion and rollback are both false.
    Neither,
}

/// A world with known truth, and how it is watched.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is true in it, in a sentence.
    pub story: &'static str,
    /// What is right to decide.
    pub truth: Truth,
    /// How it is watched.
    pub setup: Setup,
    /// What the guardrails measure.
    pub rails: Vec<Rail>,
    /// Traffic and trouble.
    pub nature: Nature,
    /// What Espalier should reach here.
    pub goals: &'static [Goal],
    /// Why it may be missed, where the reason is known.
    pub limit: Option<&'static str>,
}

/// A time or share that Espalier should reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Median minutes to promotion, over all runs.
    Promoted(f64),
    /// Median minutes to rollback, over all runs.
    RolledBack(f64),
    /// Least share of runs that end in promotion.
    PromotedShare(f64),
}

/// How a rollout watches.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Seconds between instants.
    pub tick: i64,
    /// Seconds of a proof window.
    pub window: i64,
    /// Exposure of the steps in percent.
    pub steps: &'static [i32],
    /// Least seconds of a step.
    pub step_min: i64,
    /// Least seconds of the stage.
    pub min: i64,
    /// Longest judged seconds without proof; for the other policies the end.
    pub max: i64,
    /// Longest time of a request in seconds.
    pub timeout: i64,
    /// Pods of each arm.
    pub pods: usize,
    /// Pods of the candidate where it has not as many as the champion.
    pub candidate_pods: Option<usize>,
    /// Whether the champion has served for days before the attempt, so that its history can be read.
    pub history: bool,
}

/// One guardrail and the truth about it.
#[derive(Clone, Debug)]
pub struct Rail {
    /// Its name; part of metric names.
    pub name: &'static str,
    /// What is allowed.
    pub bound: Bound,
    /// The champion's rate of bad events, or its level.
    pub base: f64,
    /// What is different about the candidate.
    pub effect: Effect,
    /// Share of requests that it counts.
    pub fraction: f64,
    /// Whether it counts labels, beside the requests that they belong to.
    pub labels: bool,
    /// Seconds after which its labels count, and the share of them that has come by then.
    pub maturity: Option<(i64, f64)>,
}

impl Rail {
    /// Whether its total is a counter of its own, and not that of all requests.
    pub fn has_own_total(&self) -> bool {
        self.fraction < 1.0 || self.labels
    }
}

/// What a guardrail allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Difference of proportions.
    Points {
        /// Target.
        target: f64,
        /// Critical.
        critical: f64,
    },
    /// Ratio of rates.
    Times(f64),
    /// Absolute limit of a proportion.
    Limit(f64),
    /// Difference of levels.
    Level(f64),
}

/// What is different about the candidate; seconds count from the first exposure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// Added to the champion's rate or level.
    Plus(f64),
    /// Multiplies the champion's rate.
    Times(f64),
    /// Another addition from a moment on.
    From {
        /// Seconds.
        at: f64,
        /// Addition before.
        before: f64,
        /// Addition from then on.
        after: f64,
    },
    /// Added only at night, from hour 12 to hour 20 after the start.
    Night(f64),
    /// The rate while its pods cannot be scraped; equal to the champion's otherwise.
    Unseen(f64),
}

impl Effect {
    /// The candidate's rate or level where the champion's is `base`.
    pub fn on(self, base: f64, seconds: f64, unseen: bool) -> f64 {
        match self {
            Self::Plus(points) => base + points,
            Self::Times(factor) => base * factor,
            Self::From { at, before, after } => base + if seconds < at { before } else { after },
            Self::Night(points) => {
                let hour = seconds.rem_euclid(DAY) / 3600.0;
                base + if (12.0..20.0).contains(&hour) { points } else { 0.0 }
            }
            Self::Unseen(rate) => {
                if unseen {
                    rate
                } else {
                    base
                }
            }
        }
    }
}

/// Something that changes over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Course {
    /// Always this.
    Flat(f64),
    /// Between `low` and `high` over a day; starts low.
    Day {
        /// Lowest.
        low: f64,
        /// Highest, at hour 12.
        high: f64,
    },
    /// `usual`, but `other` between two moments in seconds.
    Between {
        /// Outside.
        usual: f64,
        /// Inside.
        other: f64,
        /// Begin.
        from: f64,
        /// End.
        to: f64,
    },
}

impl Course {
    /// Its value.
    pub fn at(self, seconds: f64) -> f64 {
        match self {
            Self::Flat(value) => value,
            Self::Day { low, high } => {
                let phase = (1.0 - (std::f64::consts::TAU * seconds / DAY).cos()) / 2.0;
                low + (high - low) * phase
            }
            Self::Between { usual, other, from, to } => {
                if (from..to).contains(&seconds) {
                    other
                } else {
                    usual
                }
            }
        }
    }
}

/// Rates that wobble together for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shock {
    /// Intra-class correlation of the requests that share it.
    pub icc: f64,
    /// Seconds for which it holds.
    pub hold: f64,
    /// Who shares it.
    pub shared: Sharing,
}

/// Who wobbles together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Each pod by itself.
    Pod,
    /// All pods of an arm; the two arms wobble apart.
    Arm,
    /// Everybody.
    World,
}

/// A time in which something is off, again and again: the last `length` seconds of every `every` seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beat {
    /// Period in seconds.
    pub every: f64,
    /// Length in seconds.
    pub length: f64,
}

impl Beat {
    /// Whether it is off.
    pub fn is_off(self, seconds: f64) -> bool {
        seconds.rem_euclid(self.every) >= self.every - self.length
    }
}

/// Incidents that hit both arms at once, at random moments of the first hours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Incidents {
    /// How many.
    pub count: u32,
    /// Seconds within which they begin.
    pub within: f64,
    /// Seconds of each.
    pub length: f64,
    /// Rate of bad events in them.
    pub rate: f64,
}

/// Traffic and trouble; everything is off by default.
#[derive(Clone, Debug)]
pub struct Nature {
    /// Requests per second of both arms.
    pub rps: Course,
    /// Multiplies the champion's rates.
    pub base: Course,
    /// Correlated failures.
    pub shock: Option<Shock>,
    /// Bad events that come as one: batches, retries, one user.
    pub clump: f64,
    /// All bad events of `every` seconds of a pod come in one stretch of `length` seconds.
    pub bursts: Option<Beat>,
    /// Incidents of both arms.
    pub incidents: Option<Incidents>,
    /// Seconds by which a failure completes later than a success.
    pub late_failures: i64,
    /// Mean seconds until a bad event is discovered.
    pub discovery: Option<f64>,
    /// Share of the candidate's wrong answers that are ever labelled.
    pub labelled: f64,
    /// Mean seconds between restarts of a pod, which reset its counters.
    pub restarts: Option<f64>,
    /// Every pod restarts at the moment at which the candidate's share is raised.
    pub restart_at_raise: bool,
    /// Seconds after which a pod of the candidate is replaced by a new one.
    pub renewal: Option<f64>,
    /// Share of scrapes that fail.
    pub lost: f64,
    /// Share of scrapes that arrive one instant late.
    pub late: f64,
    /// The candidate's pods cannot be scraped.
    pub hidden: Option<Beat>,
    /// One pod of each arm takes half of its traffic and has four times the others' rate.
    pub hot: bool,
    /// Real share of the candidate as a multiple of what was written.
    pub share: f64,
    /// No traffic between two moments in seconds.
    pub silence: Option<(f64, f64)>,
    /// Whether nothing is scraped in that time either.
    pub dark: bool,
    /// Lag-15 s autocorrelation and standard deviation of a pod's level.
    pub level: (f64, f64),
}

impl Default for Nature {
    fn default() -> Self {
        Self {
            rps: Course::Flat(10.0),
            base: Course::Flat(1.0),
            shock: None,
            clump: 1.0,
            bursts: None,
            incidents: None,
            late_failures: 0,
            discovery: None,
            labelled: 1.0,
            restarts: None,
            restart_at_raise: false,
            renewal: None,
            lost: 0.0,
            late: 0.0,
            hidden: None,
            hot: false,
            share: 1.0,
            silence: None,
            dark: false,
            level: (0.0, 0.0),
        }
    }
}

impl Nature {
    /// Requests per second of both arms.
    pub fn traffic(&self, seconds: f64) -> f64 {
        if self.silence.is_some_and(|(from, to)| (from..to).contains(&seconds)) { 0.0 } else { self.rps.at(seconds) }
    }
}

impl Setup {
    /// Pods of an arm.
    pub fn pods_of(&self, side: Side) -> usize {
        if side == Side::Candidate { self.candidate_pods.unwrap_or(self.pods) } else { self.pods }
    }
}

impl Scenario {
    /// Where each number of a pod stands: `up`, all requests, then bad events (or level) and own total of every guardrail.
    pub fn columns(&self) -> Vec<String> {
        let mut columns = vec!["up".to_owned(), "requests_total".to_owned()];
        for rail in &self.rails {
            columns.push(if matches!(rail.bound, Bound::Level(_)) { rail.name.to_owned() } else { format!("{}_bad_total", rail.name) });
            columns.push(format!("{}_requests_total", rail.name));
        }
        columns
    }

    /// Column of a guardrail's bad events or level.
    pub const fn bad_column(rail: usize) -> usize {
        2 + 2 * rail
    }

    /// Column of what a guardrail counts in all.
    pub fn total_column(rail: usize, of: &Rail) -> usize {
        if of.has_own_total() { 3 + 2 * rail } else { 1 }
    }

    /// What is right for a policy: one that knows no critical bound beside the target is right to roll back what is beyond the target.
    pub fn truth_for(&self, policy: &str) -> Truth {
        let apart = self.rails.iter().any(|rail| matches!(rail.bound, Bound::Points { target, critical } if target < critical));
        if apart && policy != crate::run::OURS { Truth::Bad } else { self.truth }
    }

    /// Share written for the candidate at `seconds` when nobody but the clock moves the steps.
    pub fn scheduled_share(&self, seconds: f64) -> f64 {
        let mut share = 0.0;
        for (step, percent) in self.setup.steps.iter().enumerate() {
            if seconds + 1e-9 >= step as f64 * self.setup.step_min as f64 {
                share = f64::from(*percent) / 100.0;
            }
        }
        share
    }

    /// Seconds before which nobody may promote: the least time of the stage, and of all steps.
    pub fn earliest(&self) -> f64 {
        self.setup.min.max(self.setup.step_min * i64::try_from(self.setup.steps.len()).unwrap_or(0)) as f64
    }

    /// Seconds after which a policy that watches the clock gives up.
    pub fn end(&self) -> f64 {
        self.setup.max as f64 + self.nature.silence.map_or(0.0, |(from, to)| to - from)
    }
}
