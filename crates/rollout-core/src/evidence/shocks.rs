//! Shocks that all pods of an arm share: what the champion's own past shows of them at three scales, and whether the two arms of the attempt bear it out.
//! Differences between pods, which [`super::scatter`] looks at, do not move with them. Takes no decision; adds to the over-dispersion.

use anytime_stats::overdispersion::Overdispersion;
use anytime_stats::wobble::{Agreement, SecondDifferences, explained};
use anytime_stats::{Tally, Window};
use serde::{Deserialize, Serialize};

use super::scatter::phi_at;

/// Length in seconds of the short scale, at which only clumps show.
const SHORT: f64 = 60.0;
/// Lengths in seconds of shocks that are looked for.
const LONG: [f64; 3] = [300.0, 600.0, 1800.0];

/// The champion's rate before the attempt, in windows of every scale.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Course {
    short: Scale,
    long: [Scale; 3],
}

/// Windows of one length.
#[derive(Clone, Debug, Default, PartialEq)]
struct Scale {
    seconds: f64,
    open: Tally,
    differences: SecondDifferences,
}

impl Scale {
    fn absorb(&mut self, seconds: f64, counts: Tally, length: f64) {
        self.seconds += seconds;
        self.open += counts;
        if self.seconds + 1e-9 >= length {
            // One that is much longer than the others, as after a gap, is not one of them.
            self.differences.absorb((self.seconds < 1.5 * length).then_some(self.open));
            (self.seconds, self.open) = (0.0, Tally::default());
        }
    }
}

impl Course {
    /// Adds what the champion counted in some seconds.
    pub(super) fn absorb(&mut self, seconds: f64, counts: Tally) {
        self.short.absorb(seconds, counts, SHORT);
        for (scale, length) in self.long.iter_mut().zip(LONG) {
            scale.absorb(seconds, counts, length);
        }
    }

    /// The shocks it shows, with their length in seconds.
    fn shocks(&self) -> impl Iterator<Item = (f64, Overdispersion)> + '_ {
        let short = self.short.differences.wobble();
        let of = move |(scale, length): (&Scale, f64)| Some((length, explained(&short?, &scale.differences.wobble()?)));
        self.long.iter().zip(LONG).filter_map(of).filter(|(_, shock)| shock.icc > 0.0)
    }
}

/// What is known of shocks in an attempt, scale by scale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Shocks(Vec<Shock>);

/// Shocks of one length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Shock {
    /// In seconds; also that of the windows in which the arms are compared.
    #[serde(rename = "l")]
    length: f64,
    /// From the champion's past.
    #[serde(rename = "k")]
    known: Overdispersion,
    #[serde(rename = "a")]
    agreement: Agreement,
    /// Seconds and counts of the open window of both arms.
    #[serde(rename = "o")]
    open: (f64, Window),
}

impl Shocks {
    /// What the champion's past shows; `None` where it shows none.
    pub(super) fn of(course: &Course) -> Option<Self> {
        let shock = |(length, known)| Shock { length, known, agreement: Agreement::default(), open: (0.0, Window::default()) };
        let known = course.shocks().map(shock).collect::<Vec<_>>();
        (!known.is_empty()).then_some(Self(known))
    }

    /// Adds what both arms counted in some seconds.
    pub(super) fn absorb(&mut self, seconds: f64, counts: &Window) {
        for shock in &mut self.0 {
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
        for shock in &mut self.0 {
            shock.open = (0.0, Window::default());
            shock.agreement.interrupt();
        }
    }

    /// φ of a window of this length; at least 1.
    pub(super) fn phi(&self, window: &Window, seconds: f64) -> f64 {
        self.0.iter().map(|shock| shock.phi(window, seconds, shock.agreement.share())).fold(1.0, f64::max)
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

    fn course(rate: impl Fn(usize) -> f64) -> Course {
        let mut course = Course::default();
        (0..2_880).for_each(|i| course.absorb(60.0, minute(rate(i), i)));
        course
    }

    fn window(champion: f64, candidate: f64) -> Window {
        Window::new(Tally::new(0.0, champion), Tally::new(0.0, candidate))
    }

    #[test]
    fn a_shaken_past_deflates_and_a_calm_one_does_not() {
        let shocks = Shocks::of(&course(shaken)).unwrap();
        // Uniform shocks of ±1.2 points have a deviation of 0.69; chance has 0.35 in 6,000 requests: φ of an arm is 1 + (0.69/0.35)² = 4.9.
        let phi = shocks.phi(&window(6_000.0, 6_000.0), 600.0);
        assert!((3.5..6.5).contains(&phi), "{phi}");
        for seconds in [60.0, 300.0, 1_200.0] {
            let other = shocks.phi(&window(10.0 * seconds, 10.0 * seconds), seconds);
            assert!((other / phi - 1.0).abs() < 1e-9, "{other} in windows of {seconds} s, {phi} in those of the shock's length");
        }
        let calm = Shocks::of(&course(|_| 0.08)).map_or(1.0, |shocks| shocks.phi(&window(6_000.0, 6_000.0), 600.0));
        assert!(calm < 1.3, "{calm}");
    }

    #[test]
    fn what_the_arms_do_together_stops_deflating_and_what_they_do_apart_does_not() {
        let known = Shocks::of(&course(shaken)).unwrap();
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
        let mut course = course(shaken);
        let before = course.clone();
        course.absorb(86_400.0, minute(0.5, 0));
        assert_eq!(course.shocks().collect::<Vec<_>>(), before.shocks().collect::<Vec<_>>());
        let mut shocks = Shocks::of(&course).unwrap();
        let fresh = shocks.clone();
        shocks.absorb(300.0, &window(3_000.0, 3_000.0));
        shocks.interrupt();
        assert_eq!(shocks, fresh);
    }
}
