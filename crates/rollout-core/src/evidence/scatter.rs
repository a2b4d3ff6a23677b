//! Over-dispersion, from the champion alone: two halves of its pods at 60, 300 and 1800 s, or successive windows of a single pod; and the shocks of whole
//! arms that it shows. Keeps running sums of the estimator in `anytime_stats::overdispersion`, whose functions want all
//! windows at once; shocks of an hour stay invisible.

use anytime_stats::overdispersion::Overdispersion;
use anytime_stats::{Tally, Window};
use serde::{Deserialize, Serialize};

use super::shocks::Shocks;

/// Lengths of the windows in seconds, shortest first.
const SCALES: [f64; 3] = [60.0, 300.0, 1800.0];
/// Longest scale in seconds at which a single pod is compared with itself: what it does over half an hour may be the day's course, which both arms share.
const LONGEST_ALONE: f64 = 300.0;
/// Successive differences below which an estimate is noise.
const ENOUGH_SHORT: f64 = 5.0;
const ENOUGH_LONG: f64 = 4.0;

/// Running estimate for one guardrail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Scatter {
    scales: [Scale; 3],
    #[serde(rename = "h", default)]
    shocks: Shocks,
    /// Targets in what is compared with itself, summed over the seconds for which it was looked at, and these seconds.
    #[serde(rename = "g", default)]
    group: (f64, f64),
    /// Targets of the champion and of the candidate when they were last seen.
    #[serde(rename = "f", default)]
    targets: (f64, f64),
}

/// Running sums at one scale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Scale {
    /// Seconds of the open window.
    #[serde(rename = "t")]
    seconds: f64,
    #[serde(rename = "a")]
    half_a: Tally,
    #[serde(rename = "b")]
    half_b: Tally,
    /// Value and variance (in units of the outcome's own) of the last window; the flag says whether it had two halves.
    #[serde(rename = "l")]
    last: Option<(f64, f64, bool)>,
    #[serde(rename = "q")]
    squares: f64,
    #[serde(rename = "k")]
    pairs: f64,
    #[serde(rename = "n")]
    size: f64,
    #[serde(rename = "w")]
    windows: f64,
    #[serde(rename = "p")]
    pooled: Tally,
}

impl Scale {
    fn absorb(&mut self, seconds: f64, halves: (Tally, Tally), length: f64) {
        self.seconds += seconds;
        self.half_a += halves.0;
        self.half_b += halves.1;
        if self.seconds + 1e-9 < length {
            return;
        }
        let (a, b) = (self.half_a, self.half_b);
        (self.seconds, self.half_a, self.half_b) = (0.0, Tally::default(), Tally::default());
        let now = match (a.rate(), b.rate()) {
            (Some(rate_a), Some(rate_b)) => (rate_a - rate_b, 1.0 / a.total + 1.0 / b.total, true),
            (Some(rate), None) => (rate, 1.0 / a.total, false),
            (None, Some(rate)) => (rate, 1.0 / b.total, false),
            (None, None) => return,
        };
        if !now.2 && length > LONGEST_ALONE {
            self.last = None;
            return;
        }
        let sizes = if now.2 { f64::midpoint(a.total, b.total) } else { a.total + b.total };
        self.pooled += a;
        self.pooled += b;
        self.size += sizes;
        self.windows += 1.0;
        // A pod that came or went changes what is compared: such a pair says nothing.
        if let Some(before) = self.last.filter(|l| l.2 == now.2) {
            self.squares += (now.0 - before.0).powi(2) / (now.1 + before.1);
            self.pairs += 1.0;
        }
        self.last = Some(now);
    }

    fn mean_size(&self) -> f64 {
        self.size / self.windows.max(1.0)
    }

    /// Variance of one outcome; `None` until enough was seen. Beyond one event per trial (events per second) that of a Poisson count is the yardstick.
    fn spread(&self) -> Option<f64> {
        let rate = self.pooled.rate().filter(|_| self.pairs >= ENOUGH_SHORT)?;
        let spread = if rate < 1.0 { rate * (1.0 - rate) } else { rate };
        (spread > 0.0).then_some(spread)
    }
}

impl Scatter {
    /// Nothing seen; shocks of whole arms are looked for too.
    pub(super) fn of_arms() -> Self {
        Self { shocks: Shocks::unknown(), ..Self::default() }
    }

    /// Adds the champion's counts of one tick, by halves of its targets; with how many the champion and the candidate have, 0 where that is not known.
    /// Whether more may be known of shocks than before.
    pub(super) fn absorb(&mut self, seconds: f64, halves: (Tally, Tally), (champion, candidate): (usize, usize)) -> bool {
        for (scale, length) in self.scales.iter_mut().zip(SCALES) {
            scale.absorb(seconds, halves, length);
        }
        if champion > 0 {
            self.group.0 += seconds * (champion as f64 / 2.0).max(1.0);
            self.group.1 += seconds;
            self.targets.0 = champion as f64;
        }
        if candidate > 0 {
            self.targets.1 = candidate as f64;
        }
        let mut both = halves.0;
        both += halves.1;
        self.shocks.watch(seconds, both)
    }

    /// How many times fewer targets than the groups that were compared the champion and the candidate have; at least 1.
    fn fewer(&self) -> (f64, f64) {
        let (sum, seconds) = self.group;
        let of = |targets: f64| if seconds > 0.0 && targets > 0.0 { (sum / seconds / targets).max(1.0) } else { 1.0 };
        (of(self.targets.0), of(self.targets.1))
    }

    /// Adds what was seen before; nothing of the two is compared across the break.
    pub(super) fn remember(&mut self, other: &Self) {
        for (scale, other) in self.scales.iter_mut().zip(&other.scales) {
            scale.squares += other.squares;
            scale.pairs += other.pairs;
            scale.size += other.size;
            scale.windows += other.windows;
            scale.pooled += other.pooled;
        }
        self.group.0 += other.group.0;
        self.group.1 += other.group.1;
        self.shocks.remember(&other.shocks);
    }

    /// Takes over which shocks of whole arms are known of the whole.
    pub(super) fn expect(&mut self, shocks: &Shocks) {
        self.shocks.learn_from(shocks);
    }

    /// What is known of shocks of whole arms.
    pub(super) fn shocks(&self) -> &Shocks {
        &self.shocks
    }

    /// Adds the counts of both arms of one tick; `None` where these say nothing, because traffic has just changed.
    pub(super) fn compare(&mut self, seconds: f64, counts: Option<&Window>) {
        match counts {
            Some(counts) => self.shocks.absorb(seconds, counts),
            None => self.shocks.interrupt(),
        }
    }

    /// φ of a window of this length; at least 1, and 1 until enough was seen.
    pub(super) fn phi(&self, window: &Window, seconds: f64) -> f64 {
        let of_arms = self.shocks.phi(window, seconds);
        let (champion, candidate) = self.fewer();
        let of_arm = |estimate: Overdispersion| (estimate.of_fewer_targets(champion), estimate.of_fewer_targets(candidate));
        self.estimates().map(|(scale, estimate)| phi_at(scale, &of_arm(estimate), window, seconds)).fold(of_arms, f64::max)
    }

    /// What each scale says, with its length in seconds.
    fn estimates(&self) -> impl Iterator<Item = (f64, Overdispersion)> + '_ {
        let [short, long @ ..] = &self.scales;
        let h_short = short.spread().map(|spread| (short.squares / short.pairs / spread, spread));
        let clumps = h_short.map(|(h, _)| Overdispersion { clump: h.max(1.0), icc: 0.0 });
        let [length, lengths @ ..] = SCALES;
        let shocks = long.iter().zip(lengths).filter(|(scale, _)| scale.pairs >= ENOUGH_LONG).map(move |(long, length)| {
            let (h_short, spread) = h_short?;
            let h_long = long.squares / long.pairs / spread;
            Some((length, Overdispersion::of_two_scales((h_short, short.mean_size()), (h_long, long.mean_size()))))
        });
        let estimates = std::iter::once(clumps.map(|clumps| (length, clumps))).chain(shocks);
        estimates.flatten().filter(|(_, e)| e.clump.is_finite() && e.icc.is_finite())
    }
}

/// φ of a window of this length, of what wobbles together for as long as `scale`, as each arm does.
///
/// What wobbles together for so long also holds together all the windows inside it, so the estimate is taken at the counts that a window as long as
/// the scale would have: the windows inside it then carry, all together, no more evidence than that one would.
pub(super) fn phi_at(scale: f64, (champion, candidate): &(Overdispersion, Overdispersion), window: &Window, seconds: f64) -> f64 {
    let stretch = if seconds > 0.0 { scale / seconds } else { 1.0 };
    champion.phi_beside(candidate, window.champion.total * stretch, window.candidate.total * stretch)
}

/// Splits targets into two halves by a hash of their names: every second in the hash's order, so that two pods never share a half.
pub(super) fn first_half<'a>(targets: impl Iterator<Item = &'a str>) -> std::collections::BTreeSet<&'a str> {
    let mut ordered: Vec<(u64, &str)> = targets.map(|t| (fnv1a(t), t)).collect();
    ordered.sort_unstable();
    ordered.into_iter().map(|(_, target)| target).step_by(2).collect()
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use anytime_stats::overdispersion::{Halves, two_scale, two_scale_single};

    use super::*;

    fn rows(count: u32) -> Vec<(Tally, Tally)> {
        (0..count)
            .map(|i| {
                let wobble = f64::from(i * 7919 % 23) / 23.0;
                let slow = if (i / 5) % 2 == 0 { 6.0 } else { -6.0 };
                (Tally::new((20.0 + 12.0 * wobble + slow).round(), 300.0), Tally::new((24.0 - 9.0 * wobble).round(), 300.0))
            })
            .collect()
    }

    fn sized(champion: f64, candidate: f64) -> Window {
        Window::new(Tally::new(0.0, champion), Tally::new(0.0, candidate))
    }

    fn wobbling(minutes: u32) -> Scatter {
        let mut scatter = Scatter::default();
        for (a, b) in rows(minutes) {
            scatter.absorb(60.0, (a, b), (2, 2));
        }
        scatter
    }

    #[test]
    fn running_sums_give_what_all_windows_at_once_give() {
        let rows = rows(30);
        let mut scatter = Scatter::default();
        for (a, b) in &rows {
            scatter.absorb(60.0, (*a, *b), (2, 2));
        }
        let short: Vec<Halves> = rows.iter().map(|(a, b)| Halves { a: *a, b: *b }).collect();
        let long: Vec<Halves> = short
            .chunks(5)
            .map(|c| {
                c.iter().fold(Halves::default(), |mut sum, h| {
                    sum.a += h.a;
                    sum.b += h.b;
                    sum
                })
            })
            .collect();
        let reference = two_scale(&short, &long).unwrap().overdispersion;
        assert!(reference.icc > 0.0);
        let (length, estimate) = scatter.estimates().nth(1).unwrap();
        assert!((length - 300.0).abs() < 1e-12);
        assert!((estimate.icc - reference.icc).abs() < 1e-12 && (estimate.clump - reference.clump).abs() < 1e-12);
        assert!((scatter.phi(&sized(2700.0, 300.0), 300.0) - reference.phi(2700.0, 300.0)).abs() < 1e-9);
    }

    #[test]
    fn a_single_pod_is_compared_with_itself_a_window_later() {
        let rows: Vec<Tally> = rows(40).into_iter().map(|(a, _)| a).collect();
        let mut scatter = Scatter::default();
        for a in &rows {
            scatter.absorb(60.0, (*a, Tally::default()), (1, 1));
        }
        let long: Vec<Tally> = rows
            .chunks(5)
            .map(|c| {
                c.iter().fold(Tally::default(), |mut sum, t| {
                    sum += *t;
                    sum
                })
            })
            .collect();
        let reference = two_scale_single(&rows, &long).unwrap().overdispersion;
        assert!((scatter.estimates().nth(1).unwrap().1.icc - reference.icc).abs() < 1e-12);
    }

    #[test]
    fn what_wobbles_for_five_minutes_counts_as_one_in_windows_of_one() {
        let scatter = wobbling(30);
        let whole = scatter.phi(&sized(3000.0, 330.0), 300.0);
        assert!(whole > 2.0, "{whole}");
        for seconds in [15.0, 60.0, 300.0, 900.0] {
            let window = sized(10.0 * seconds, 1.1 * seconds);
            let phi = scatter.phi(&window, seconds);
            assert!((phi - whole).abs() < 1e-9, "{phi} in windows of {seconds} s, {whole} in one of the wobble's length");
        }
    }

    #[test]
    fn a_single_pods_way_through_the_day_is_no_wobble() {
        let mut alone = Scatter::default();
        for minute in 0..600_u32 {
            alone.absorb(60.0, (Tally::new((48.0 + 0.1 * f64::from(minute)).round(), 600.0), Tally::default()), (1, 1));
        }
        let phi = alone.phi(&sized(600.0, 600.0), 60.0);
        assert!(phi < 1.1, "{phi}");
    }

    #[test]
    fn one_pod_beside_eight_wobbles_as_four_times_one_of_their_halves() {
        let mut scatter = wobbling(30);
        let window = sized(2700.0, 300.0);
        let alike = scatter.phi(&window, 300.0);
        scatter.group = (4.0, 1.0);
        scatter.targets.0 = 8.0;
        for (candidate, times) in [(1, 4.0), (2, 2.0), (4, 1.0), (8, 1.0)] {
            scatter.targets.1 = f64::from(candidate);
            let estimate = scatter.estimates().nth(1).unwrap().1;
            let expected = estimate.phi_beside(&Overdispersion { icc: estimate.icc * times, ..estimate }, 2700.0, 300.0);
            let phi = scatter.phi(&window, 300.0);
            assert!((phi - expected).abs() < 1e-9 && phi >= alike, "{candidate} pods: {phi}, not {expected}");
        }
        assert!(scatter.phi(&window, 300.0) - alike < 1e-9, "as many pods as the champion's need no more patience than before");
    }

    #[test]
    fn a_champion_that_had_eight_pods_and_has_one_wobbles_more_than_it_did() {
        let mut before = Scatter::default();
        for (a, b) in rows(30) {
            before.absorb(60.0, (a, b), (8, 0));
        }
        let mut now = Scatter::default();
        now.remember(&before);
        now.absorb(1.0, (Tally::new(0.0, 5.0), Tally::default()), (1, 1));
        assert!((now.fewer().0 - 4.0).abs() < 0.01, "{:?}", now.fewer());
    }

    #[test]
    fn two_pods_never_share_a_half() {
        for (one, other) in [("digits-fp32-a", "digits-fp32-b"), ("x", "y"), ("pod-0", "pod-1")] {
            assert_eq!(first_half([one, other].into_iter()).len(), 1);
        }
    }
}
