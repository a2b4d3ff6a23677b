//! What one guardrail needs at one traffic: candidate requests, batches of a gauge, or a look; or why it can never be proven.
//! Knows no stage and no time.

use anytime_stats::planning::{
    Precision, below_limit, no_drift, noninferiority_proportions, noninferiority_rates, paired_noninferiority, two_means_normal,
};

use super::{Assumptions, Base, Traffic};
use crate::evidence::{LEAST_PODS, LOAD};
use crate::judge::FIRST_BATCHES;
use crate::plan::{CountBound, CountSource, Direction, Drift, Energy, EnergyBound, Gap, Guardrail, LevelBound, Reference, Test};

/// Share of bad events when nothing is known: differences and ratios.
const ASSUMED_SHARE: f64 = 0.05;
const ASSUMED_SHARE_OF_RATIO: f64 = 0.01;
/// Events per second and pod when nothing is known: one an hour.
const ASSUMED_RATE: f64 = 1.0 / 3600.0;
/// Share of pairs in which only stable is wrong when nothing is known.
const ASSUMED_PAIRS: f64 = 0.02;
/// Bins of a drift when nothing is known.
const ASSUMED_BINS: u32 = 10;
/// Part of a limit that is used up when nothing is known.
const ASSUMED_PART: f64 = 0.5;

/// Room of a bound that is only rounding.
const ROUNDING: f64 = 1e-9;

/// What a proof needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// Events on the candidate.
    Requests {
        /// How many, over-dispersion included: the fixed sample.
        candidate: f64,
        /// How many of them come in a second.
        per_second: f64,
        /// Whether they are seconds of pods rather than requests.
        seconds: bool,
    },
    /// Batches of five windows of a gauge.
    Batches {
        /// The fixed sample; 0 when the spread of the gauge is not known.
        batches: f64,
        /// The fewest that are judged.
        fewest: f64,
        /// Pods that each arm must have; 0 without a comparison.
        pods: usize,
    },
    /// One look: a limit or a tripwire.
    Look,
    /// It cannot be proven.
    Never {
        /// Why, in a sentence.
        why: String,
    },
}

impl Need {
    pub(super) fn is_possible(&self) -> bool {
        !matches!(self, Self::Never { .. })
    }
}

/// What was taken for stable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Basis {
    /// The value.
    pub base: Base,
    /// Whether nobody gave it.
    pub assumed: bool,
}

/// A guardrail and what is assumed.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub guardrail: &'a Guardrail,
    pub assumptions: &'a Assumptions,
    pub precision: Precision,
}

impl Inputs<'_> {
    /// The need at this traffic, and what was taken for stable.
    pub(super) fn at(&self, traffic: Traffic) -> (Need, Option<Basis>) {
        match &self.guardrail.test {
            Test::Counts { total, target, .. } => {
                let seconds = matches!(total, CountSource::PodSeconds);
                let basis = self.basis_of_counts(*target, seconds);
                (self.counts_with_age(*target, basis.base, traffic, seconds), Some(basis))
            }
            Test::Level { target, direction, .. } => {
                let basis = self.given();
                (self.level(*target, *direction, basis.map(|basis| basis.base)), basis)
            }
            Test::Paired(paired) => {
                let basis = self.given().unwrap_or(Basis { base: Base::Share(ASSUMED_PAIRS), assumed: true });
                (self.paired(paired.target, basis.base, traffic), Some(basis))
            }
            Test::Gap(gap) => {
                let basis = self.given().unwrap_or(Basis { base: Base::Share(ASSUMED_SHARE), assumed: true });
                (self.gap(gap, basis.base, traffic), Some(basis))
            }
            Test::Energy(energy) => {
                let basis = self.given();
                (self.energy(energy, basis.map(|basis| basis.base), traffic), basis)
            }
            Test::Drift(drift) => {
                let basis = self.given().unwrap_or(Basis { base: Base::Bins(ASSUMED_BINS), assumed: true });
                (self.drift(drift, basis.base.value(), traffic), Some(basis))
            }
            Test::Limit { .. } | Test::Tripwire { .. } => (Need::Look, None),
        }
    }

    /// Pairs in which only one was wrong; the base is the share in which only stable was.
    fn paired(&self, margin: f64, base: Base, traffic: Traffic) -> Need {
        let stable_only = base.value();
        let candidate_only = (stable_only + self.assumptions.loss * margin).min(1.0);
        let fixed = paired_noninferiority(stable_only, candidate_only, margin, self.precision);
        self.requests(fixed, traffic, || "the expected loss leaves no room below the target".to_owned())
    }

    /// Two of the groups against each other, all groups being as large.
    fn gap(&self, gap: &Gap, base: Base, traffic: Traffic) -> Need {
        let rate = base.value();
        let other = (rate + self.assumptions.loss * gap.target).min(1.0);
        let each = noninferiority_proportions(rate, other, gap.target, 1.0, self.precision);
        let fixed = each.map(|each| each * gap.groups.len() as f64);
        self.requests(fixed, traffic, || format!("at {rate} no gap of {} can be told from none", gap.target))
    }

    /// Enough to see that nothing drifts, enlarged by the room that the expected loss takes.
    fn drift(&self, drift: &Drift, bins: f64, traffic: Traffic) -> Need {
        let ratio = if drift.recorded.is_some() { f64::INFINITY } else { traffic.reference / traffic.candidate };
        // A number of bins that was typed: far below what the integer holds.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bins = bins.clamp(2.0, 64.0) as usize;
        let room = 1.0 - drift.measure.part_of_distance(self.assumptions.loss * drift.target, drift.target);
        let fixed = no_drift(drift.measure, drift.target, bins, ratio, self.precision).filter(|_| room > 0.0);
        self.requests(fixed.map(|fixed| fixed / (room * room)), traffic, || "the expected loss leaves no room below the target".to_owned())
    }

    /// Batches as for a level; a saving that is promised is assumed to be kept twice over, because one that is just kept can never be proven.
    fn energy(&self, energy: &Energy, base: Option<Base>, traffic: Traffic) -> Need {
        // Both arms are taken to have as many pods.
        let load = traffic.candidate / traffic.reference;
        if !LOAD.contains(&load) {
            let why = format!(
                "energy per inference includes idle power and needs like load, but the candidate gets {load:.2} times the requests of stable; \
                 let it count in a shadow of all requests or an A/B test of half of them"
            );
            return Need::Never { why };
        }
        let kept = |factor: f64| if factor < 1.0 { factor * factor } else { 1.0 };
        let target = match (energy.target, base) {
            (EnergyBound::Ratio(factor), Some(Base::Level { level, .. })) => {
                LevelBound::Difference { margin: level * (factor - kept(factor)), versus: Reference::Stable }
            }
            (EnergyBound::Ratio(factor), _) => LevelBound::Difference { margin: factor, versus: Reference::Stable },
            (EnergyBound::Absolute(limit), _) => LevelBound::Absolute(limit),
        };
        self.level(target, Direction::AtMost, base)
    }

    fn requests(&self, fixed: Option<f64>, traffic: Traffic, never: impl FnOnce() -> String) -> Need {
        match fixed {
            _ if traffic.candidate <= 0.0 => Need::Never { why: "the candidate gets no requests".to_owned() },
            Some(fixed) => {
                let candidate = (fixed * self.assumptions.overdispersion).max(1.0);
                Need::Requests { candidate, per_second: traffic.candidate, seconds: false }
            }
            None => Need::Never { why: never() },
        }
    }

    fn given(&self) -> Option<Basis> {
        self.assumptions.bases.get(&self.guardrail.name).map(|base| Basis { base: *base, assumed: false })
    }

    fn basis_of_counts(&self, target: CountBound, seconds: bool) -> Basis {
        let assumed = match target {
            _ if seconds => Base::PerSecond(ASSUMED_RATE),
            CountBound::Difference { .. } => Base::Share(ASSUMED_SHARE),
            CountBound::Ratio { .. } => Base::Share(ASSUMED_SHARE_OF_RATIO),
            CountBound::Absolute(limit) => Base::Share(limit * ASSUMED_PART),
        };
        self.given().unwrap_or(Basis { base: assumed, assumed: true })
    }

    /// Counts whose labels come late: what may still be missing of them takes from the margin.
    fn counts_with_age(&self, target: CountBound, base: Base, traffic: Traffic, seconds: bool) -> Need {
        let Some(maturity) = &self.guardrail.maturity else { return self.counts(target, base, traffic, seconds) };
        let provable = maturity.provable(target, base.value());
        let room = match provable {
            CountBound::Difference { margin, .. } => margin > ROUNDING,
            CountBound::Ratio { factor, .. } => factor > 1.0 + ROUNDING,
            CountBound::Absolute(_) => true,
        };
        if room || seconds {
            return self.counts(provable, base, traffic, seconds);
        }
        let missing = (1.0 - maturity.captured) * 100.0;
        let why = format!(
            "{missing:.0}% of the labels may be missing on the candidate, which hides more than the target allows at {:.2}% on stable;              wait for more of them with a longer age and a higher captured, or count by cohorts",
            base.value() * 100.0
        );
        Need::Never { why }
    }

    fn counts(&self, target: CountBound, base: Base, traffic: Traffic, seconds: bool) -> Need {
        let rate = base.value();
        // Seconds of pods: as many of one arm as of the other.
        let pods = f64::from(self.assumptions.pods.unwrap_or(1));
        let (per_second, ratio) = if seconds { (pods, 1.0) } else { (traffic.candidate, traffic.reference / traffic.candidate) };
        let loss = self.assumptions.loss;
        let needed = match target {
            CountBound::Difference { margin, .. } => {
                noninferiority_proportions(rate, (rate + loss * margin).min(1.0), margin, ratio, self.precision)
            }
            CountBound::Ratio { factor, .. } => noninferiority_rates(rate, factor.powf(loss), factor, ratio, self.precision),
            CountBound::Absolute(limit) => below_limit(rate + loss * (limit - rate).max(0.0), limit, self.precision),
        };
        match needed {
            _ if per_second <= 0.0 => Need::Never { why: "the candidate gets no requests".to_owned() },
            Some(fixed) => Need::Requests { candidate: (fixed * self.assumptions.overdispersion).max(1.0), per_second, seconds },
            None => Need::Never { why: never(target, rate) },
        }
    }

    fn level(&self, target: LevelBound, direction: Direction, base: Option<Base>) -> Need {
        let (level, spread) = match base {
            Some(Base::Level { level, spread }) => (Some(level), spread),
            Some(Base::Share(level) | Base::PerSecond(level)) => (Some(level), None),
            Some(Base::Bins(_)) | None => (None, None),
        };
        let fewest = f64::from(FIRST_BATCHES);
        let (room, arms, pods) = match target {
            LevelBound::Difference { margin, .. } => (Some(margin * (1.0 - self.assumptions.loss)), 1.0, LEAST_PODS),
            LevelBound::Absolute(limit) => (level.map(|level| direction.sign() * (limit - level) * (1.0 - self.assumptions.loss)), 0.5, 0),
        };
        if let Some(room) = room.filter(|room| *room <= 0.0) {
            return Need::Never { why: format!("the expected level leaves no room below the target ({room:.3})") };
        }
        if let Some(few) = self.assumptions.pods.filter(|few| (*few as usize) < pods) {
            let why = format!("with {few} pods in each arm a difference may be one of machines; it takes {pods}, or an absolute target");
            return Need::Never { why };
        }
        // The planning function is for two sides and two arms; a proof has one side.
        let one_sided = Precision { alpha: self.precision.alpha * 2.0, power: self.precision.power };
        let fixed =
            room.zip(spread.filter(|spread| *spread > 0.0)).and_then(|(room, spread)| two_means_normal(room / spread, 1.0, one_sided));
        Need::Batches { batches: fixed.unwrap_or(0.0) * arms, fewest, pods }
    }
}

fn never(target: CountBound, rate: f64) -> String {
    let rate = rate * 100.0;
    match target {
        CountBound::Absolute(limit) => format!("stable itself is at {rate:.2}%, which is not below the target of {:.2}%", limit * 100.0),
        CountBound::Ratio { .. } if rate <= 0.0 => "stable has no such event at all, so there is nothing to compare with".to_owned(),
        CountBound::Difference { .. } | CountBound::Ratio { .. } => "the target leaves no room for chance; give it a margin".to_owned(),
    }
}
