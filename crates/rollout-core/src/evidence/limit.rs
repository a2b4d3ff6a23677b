//! Hard limits on gauges, without statistics: a level that one sample can cross, and a share of another arm's level that must hold for several
//! instants. Averages nothing; [`super::level`] does.

use serde::{Deserialize, Serialize};

use super::counts::role_of;
use super::query::Sought;
use super::series::Role;
use super::sift::Found;
use super::{Crossing, Lens, TickTimes};
use crate::plan::{Direction, Guardrail, LimitBound, Reference, Test};
use crate::verdict::Unmeasurable;

/// Instants in a row for which a ratio of two arms must hold before it counts, for the candidate or against it: both are gauges that move.
pub(crate) const LIMIT_TICKS: u32 = 3;

/// State of a hard limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LimitState {
    /// The worst value at the last instant, or the ratio of the arms' worst values.
    pub latest: Option<f64>,
    /// The candidate's and the reference's worst values behind the ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<(f64, f64)>,
    /// Instants in a row within the target, beyond it, and beyond critical; a gap ends only the first.
    #[serde(default, skip_serializing_if = "Runs::is_none")]
    runs: Runs,
    /// The first crossing of critical.
    pub crossed: Option<Crossing>,
}

/// Instants in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Runs {
    #[serde(rename = "w")]
    within: u32,
    #[serde(rename = "b")]
    beyond: u32,
    #[serde(rename = "c")]
    critical: u32,
}

impl Runs {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Within the target, long enough.
    Within,
    /// Beyond the target, long enough.
    Beyond,
    /// Neither for long enough: so many instants in a row so far.
    Watching(u32),
}

/// The parts of a test with a hard limit.
#[derive(Clone, Copy)]
struct Limits<'a> {
    sought: Sought<'a>,
    direction: Direction,
    target: LimitBound,
    critical: LimitBound,
}

impl LimitState {
    /// Reads one instant; `Err` when it cannot be measured.
    pub(super) fn absorb(&mut self, lens: &Lens<'_>, guardrail: &Guardrail, times: &TickTimes, active: bool) -> Result<(), Unmeasurable> {
        let Test::Limit { series, direction, target, critical, .. } = &guardrail.test else { return Ok(()) };
        let sought = Sought::of(guardrail, series, "");
        let limits = Limits { sought, direction: *direction, target: *target, critical: *critical };
        let outcome = match critical.versus() {
            None => self.level(lens, &limits, times, active),
            Some(versus) => self.ratio(lens, &limits, versus, active),
        };
        if outcome.is_err() {
            self.runs.within = 0;
        }
        outcome
    }

    fn level(&mut self, lens: &Lens<'_>, limits: &Limits<'_>, times: &TickTimes, active: bool) -> Result<(), Unmeasurable> {
        let found = lens.scope.fresh(&limits.sought, Role::Candidate)?;
        let worst = found.worst(limits.direction, times.start, lens.scope.instant)?;
        self.latest = worst.map(|(value, _)| value);
        let crossed = |value: f64| active && limits.direction.is_beyond(value, limits.critical.value());
        if let Some((value, target)) = worst.filter(|(value, _)| self.crossed.is_none() && crossed(*value)) {
            self.crossed = Some(Crossing { at: lens.scope.instant, value, target: target.to_owned() });
        }
        Ok(())
    }

    fn ratio(&mut self, lens: &Lens<'_>, limits: &Limits<'_>, versus: Reference, active: bool) -> Result<(), Unmeasurable> {
        let read = |role: Role| {
            let found = lens.scope.fresh(&limits.sought, role)?;
            // At the same instant: what was higher between two instants on one arm has no partner on the other.
            newest(&found, limits.direction, lens.scope.instant)
        };
        let (own, target) = read(Role::Candidate)?;
        let role = role_of(versus);
        let (other, _) = read(role)?;
        if other <= 0.0 || own < 0.0 {
            let name = limits.sought.name();
            let message = format!("{name} is {own} on the candidate and {other} on {}: there is no share to compare", role.word());
            return Err(Unmeasurable::NotComparable { message });
        }
        let ratio = own / other;
        (self.latest, self.levels) = (Some(ratio), Some((own, other)));
        let count = |before: u32, holds: bool| if holds && active { before.saturating_add(1) } else { 0 };
        let beyond = limits.direction.is_beyond(ratio, limits.target.value());
        let critical = limits.direction.is_beyond(ratio, limits.critical.value());
        self.runs = Runs {
            within: count(self.runs.within, !beyond),
            beyond: count(self.runs.beyond, beyond),
            critical: count(self.runs.critical, critical),
        };
        if self.runs.critical >= LIMIT_TICKS && self.crossed.is_none() {
            self.crossed = Some(Crossing { at: lens.scope.instant, value: ratio, target });
        }
        Ok(())
    }

    /// Where it stands against its target; `None` before the first measurement.
    pub(crate) fn standing(&self, direction: Direction, target: LimitBound) -> Option<Standing> {
        let latest = self.latest?;
        let beyond = direction.is_beyond(latest, target.value());
        let lasted = if beyond { self.runs.beyond } else { self.runs.within };
        Some(match (target, beyond) {
            (LimitBound::Ratio { .. }, _) if lasted < LIMIT_TICKS => Standing::Watching(lasted),
            (_, true) => Standing::Beyond,
            (_, false) => Standing::Within,
        })
    }

    /// Another stage or another share: what held before says nothing of what holds now.
    pub(super) fn moved(&mut self) {
        self.runs = Runs::default();
    }
}

/// The worst of the newest values, with its target.
fn newest(found: &Found<'_>, direction: Direction, instant: i64) -> Result<(f64, String), Unmeasurable> {
    let worst = found.worst(direction, instant, instant)?;
    let missing = || Unmeasurable::NoSeries { query: found.query.to_string(), arm: "an arm".into() };
    worst.map(|(value, target)| (value, target.to_owned())).ok_or_else(missing)
}
