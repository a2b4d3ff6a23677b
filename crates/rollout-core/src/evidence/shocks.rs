//! Shocks that all pods of an arm share: what the champion shows of them at three scales, in its past or else within the attempt, and whether the two
//! arms bear it out. Differences between pods, which [`super::scatter`] looks at, do not move with them. Takes no decision; adds to the over-dispersion.

use anytime_stats::overdispersion::Overdispersion;
use anytime_stats::wobble::{Agreement, SecondDifferences, explained};
use anytime_stats::{Tally, Window};
use serde::{Deserialize, Serialize};

use super::scatter::phi_at;

/// Length in seconds of the short scale, at which only clumps show.
const SHORT: f64 = 60.0;
/// Lengths in seconds of shocks that are looked for.
const LONG: [f64; 3] = [300.0, 600.0, 1800.0];

/// The champion's rate in windows of every scale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Course {
    #[serde(rename = "s")]
    short: Scale,
    #[serde(rename = "l")]
    long: [Scale; 3],
}

/// Windows of one length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Scale {
    #[serde(rename = "t")]
    seconds: f64,
    #[serde(rename = "o")]
    open: Tally,
    #[serde(rename = "d")]
    differences: SecondDifferences,
}

impl Scale {
    /// Whether this closed a window.
    fn absorb(&mut self, seconds: f64, counts: Tally, length: f64) -> bool {
        self.seconds += seconds;
        self.open += counts;
        let closes = self.seconds + 1e-9 >= length;
        if closes {
            // One that is much longer than the others, as after a gap, is not one of them.
            self.differences.absorb((self.seconds < 1.5 * length).then_some(self.open));
            (self.seconds, self.open) = (0.0, Tally::default());
        }
        closes
    }
}

impl Course {
    /// Whether this closed a window at a long scale.
    fn absorb(&mut self, seconds: f64, counts: Tally) -> bool {
        self.short.absorb(seconds, counts, SHORT);
        self.long.iter_mut().zip(LONG).fold(false, |any, (scale, length)| scale.absorb(seconds, counts, length) || any)
    }

    /// Whether it has seen so much that the attempt adds little.
    fn is_settled(&self) -> bool {
        self.long.iter().all(|scale| scale.differences.is_settled())
    }

    /// The shocks it shows, with their length in seconds: what the longer scales have more of than the shortest at which anything is known, which is not
    /// the short one where events are rare or instants far apart.
    fn shocks(&self) -> Vec<(f64, Overdispersion)> {
        let wobble = |(scale, length): (&Scale, f64)| Some((length, scale.differences.wobble()?));
        let mut known = std::iter::once((&self.short, SHORT)).chain(self.long.iter().zip(LONG)).filter_map(wobble);
        let Some((_, least)) = known.next() else { return Vec::new() };
        known.map(|(length, wobble)| (length, explained(&least, &wobble))).filter(|(_, shock)| shock.icc > 0.0).collect()
    }
}

/// What is known of shocks in an attempt, scale by scale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Shocks {
    /// What the champion did, while more of it would say more; nothing in a slice, which is told.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    course: Option<Box<Course>>,
    #[serde(rename = "k", default, skip_serializing_if = "Vec::is_empty")]
    known: Vec<Shock>,
}

/// Shocks of one length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Shock {
    /// In seconds; also that of the windows in which the arms are compared.
    #[serde(rename = "l")]
    length: f64,
    /// From the champion alone.
    #[serde(rename = "k")]
    known: Overdispersion,
    #[serde(rename = "a")]
    agreement: Agreement,
    /// Seconds and counts of the open window of both arms.
    #[serde(rename = "o")]
    open: (f64, Window),
}

impl Shocks {
    /// Nothing is known; the champion will show it.
    pub(super) fn unknown() -> Self {
        Self { course: Some(Box::default()), known: Vec::new() }
    }

    /// Adds what the champion counted in some seconds, within the attempt or before it; whether something may be known now that was not.
    pub(super) fn watch(&mut self, seconds: f64, champion: Tally) -> bool {
        let Some(course) = &mut self.course else { return false };
        let closed = course.absorb(seconds, champion);
        if closed {
            let found = course.shocks();
            self.learn(found.into_iter());
        }
        closed
    }

    /// Takes over what was seen of the champion before the attempt, in the place of the attempt's own first minutes.
    pub(super) fn remember(&mut self, past: &Self) {
        let Some(course) = past.course.as_ref().filter(|course| **course != Box::default()) else { return };
        self.course = (!course.is_settled()).then(|| course.clone());
        self.learn_from(past);
    }

    /// Takes over what is known elsewhere, but not how far the arms agree here.
    pub(super) fn learn_from(&mut self, other: &Self) {
        self.learn(other.known.iter().map(|shock| (shock.length, shock.known)));
    }

    fn learn(&mut self, found: impl Iterator<Item = (f64, Overdispersion)>) {
        let mut before = std::mem::take(&mut self.known);
        let with_agreement = found.map(|(length, known)| {
            let same = before.iter().position(|shock| (shock.length - length).abs() < 1.0).map(|index| before.swap_remove(index));
            same.map_or_else(
                || Shock { length, known, agreement: Agreement::default(), open: (0.0, Window::default()) },
                |shock| Shock { known, ..shock },
            )
        });
        self.known = with_agreement.collect();
    }

    /// Adds what both arms counted in some seconds.
    pub(super) fn absorb(&mut self, seconds: f64, counts: &Window) {
        for shock in &mut self.known {
            shock.open.0 += seconds;
            shock.open.1 += *counts;
            if shock.open.0 + 1e-9 >= shock.length {
                let (seconds, window) = std::mem::take(&mut shock.open);
                shock.agreement.absorb(&window, shock.phi(&window, seconds, 1.0));
            }
        }
    }

    /// Traffic changed: what is counted before and after is not compared.
    pub(super) fn interrupt(&mut self) {
        for shock in &mut self.known {
            shock.open = (0.0, Window::default());
            shock.agreement.interrupt();
        }
    }

    /// φ of a window of this length; at least 1.
    pub(super) fn phi(&self, window: &Window, seconds: f64) -> f64 {
        self.known.iter().map(|shock| shock.phi(window, seconds, shock.agreement.share())).fold(1.0, f64::max)
    }
}

impl Shock {
    /// φ of a window of this length, when only a share of the shock counts.
    fn phi(&self, window: &Window, seconds: f64, share: f64) -> f64 {
        let shared = Overdispersion { icc: self.known.icc * share, ..self.known };
        phi_at(self.length, &(shared, shared), window, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minutes of a champion that answers 600 requests in each, with its rate of ten minutes at a time; a fixed pattern stands for chance.
    fn minute(rate: f64, minute: usize) -> Tally {
        let noise = (minute as f64 * 0.618_033_988_749_895 + (minute * minute) as f64 * 0.414_213_562_373_095).fract() - 0.5;
        Tally::new((600.0 * rate + noise * (12.0 * 600.0 * rate * (1.0 - rate)).sqrt()).round(), 600.0)
    }

    fn shaken(minute: usize) -> f64 {
        let block = minute / 10;
        0.08 + 0.024 * ((block * block) as f64 * 0.618_033_988_749_895).fract() - 0.012
    }

    fn seen(minutes: usize, rate: impl Fn(usize) -> f64) -> Shocks {
        let mut shocks = Shocks::unknown();
        for i in 0..minutes {
            shocks.watch(60.0, minute(rate(i), i));
        }
        shocks
    }

    fn window(champion: f64, candidate: f64) -> Window {
        Window::new(Tally::new(0.0, champion), Tally::new(0.0, candidate))
    }

    #[test]
    fn a_shaken_past_deflates_and_a_calm_one_does_not() {
        let shocks = seen(2_880, shaken);
        // Uniform shocks of ±1.2 points have a deviation of 0.69; chance has 0.35 in 6,000 requests: φ of an arm is 1 + (0.69/0.35)² = 4.9.
        let phi = shocks.phi(&window(6_000.0, 6_000.0), 600.0);
        assert!((3.5..6.5).contains(&phi), "{phi}");
        for seconds in [60.0, 300.0, 1_200.0] {
            let other = shocks.phi(&window(10.0 * seconds, 10.0 * seconds), seconds);
            assert!((other / phi - 1.0).abs() < 1e-9, "{other} in windows of {seconds} s, {phi} in those of the shock's length");
        }
        let calm = seen(2_880, |_| 0.08).phi(&window(6_000.0, 6_000.0), 600.0);
        assert!(calm < 1.3, "{calm}");
    }

    #[test]
    fn what_the_arms_do_together_stops_deflating_and_what_they_do_apart_does_not() {
        let known = seen(2_880, shaken);
        let (mut together, mut apart) = (known.clone(), known.clone());
        for i in 0..720 {
            let champion = minute(shaken(i), i);
            together.absorb(60.0, &Window::new(champion, minute(shaken(i) + 0.02, i + 7_919)));
            apart.absorb(60.0, &Window::new(champion, minute(shaken(i + 40_000), i + 7_919)));
        }
        let phi = |shocks: &Shocks| shocks.phi(&window(6_000.0, 6_000.0), 600.0);
        assert!(phi(&together) < 1.0 + 0.4 * (phi(&known) - 1.0), "{} of {}", phi(&together), phi(&known));
        assert!(phi(&apart) > 1.0 + 0.6 * (phi(&known) - 1.0), "{} of {}", phi(&apart), phi(&known));
    }

    #[test]
    fn a_gap_and_a_change_of_traffic_are_not_compared() {
        let mut shocks = seen(2_880, shaken);
        let before = shocks.clone();
        shocks.watch(86_400.0, minute(0.5, 0));
        let known = |shocks: &Shocks| shocks.known.iter().map(|shock| shock.known).collect::<Vec<_>>();
        assert_eq!(known(&shocks), known(&before));
        let fresh = shocks.clone();
        shocks.absorb(300.0, &window(3_000.0, 3_000.0));
        shocks.interrupt();
        assert_eq!(shocks, fresh);
    }

    #[test]
    fn a_new_champion_shows_its_shocks_within_the_hour_and_a_calm_one_shows_none() {
        let both = window(6_000.0, 6_000.0);
        assert!((seen(29, shaken).phi(&both, 600.0) - 1.0).abs() < 1e-9, "four differences of five minutes take thirty");
        let early = seen(60, shaken).phi(&both, 600.0);
        assert!(early > 2.5, "{early}");
        let calm: Vec<f64> = (30..600).step_by(10).map(|minutes| seen(minutes, |_| 0.08).phi(&both, 600.0)).collect();
        assert!(calm.iter().all(|phi| *phi < 1.5), "{calm:?}");
    }

    #[test]
    fn shocks_show_where_events_are_rare_or_instants_far_apart() {
        let both = window(6_000.0, 6_000.0);
        let phi = |seconds: f64, share: f64| {
            let mut shocks = Shocks::unknown();
            for i in 0..2_880 {
                let minute = minute(shaken(i), i);
                shocks.watch(seconds, Tally::new((minute.bad * share).round(), minute.total * share));
            }
            shocks.phi(&both, 600.0)
        };
        assert!(phi(60.0, 0.08) > 2.0, "{}", phi(60.0, 0.08));
        assert!(phi(120.0, 1.0) > 2.0, "{}", phi(120.0, 1.0));
    }

    #[test]
    fn a_past_takes_the_place_of_the_first_minutes_and_a_long_one_ends_the_watch() {
        let mut shocks = seen(7, |_| 0.2);
        shocks.remember(&Shocks::unknown());
        assert_eq!(shocks, seen(7, |_| 0.2), "no past is none");
        shocks.remember(&seen(300, shaken));
        assert_eq!(shocks, seen(300, shaken));
        shocks.remember(&seen(2_880, shaken));
        assert!(shocks.course.is_none() && !shocks.known.is_empty());
    }

    #[test]
    fn what_the_arms_agreed_on_stays_known_while_more_is_learnt() {
        let mut shocks = seen(300, shaken);
        (0..300).for_each(|i| shocks.absorb(60.0, &Window::new(minute(shaken(i), i), minute(shaken(i), i + 7_919))));
        let agreement = |shocks: &Shocks| shocks.known.iter().find(|shock| (shock.length - 600.0).abs() < 1.0).map(|shock| shock.agreement);
        let (before, known) = (agreement(&shocks).unwrap(), shocks.known.len());
        shocks.learn_from(&seen(1_200, shaken));
        assert!(before.share() < 1.0 && shocks.known.len() > known);
        assert_eq!(agreement(&shocks), Some(before));
    }
}
