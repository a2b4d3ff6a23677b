//! Plays a scenario scrape by scrape: pods that answer, fail, restart, vanish and are read at their own offsets.
//! Knows the truth and nothing of policies; whoever asks for a step says how much traffic the candidate gets.

use crate::dice::Dice;
use crate::pod::{Pod, Serving};
use crate::scenario::{Scenario, Sharing, Side};

/// Start of every attempt in unix milliseconds; a multiple of every interval in use.
pub const T0: i64 = 1_800_000_000_000;

/// A running world.
pub struct World<'a> {
    scenario: &'a Scenario,
    dice: Dice,
    /// Now, in unix milliseconds.
    pub now: i64,
    /// All pods; the candidate's after the champion's.
    pub pods: Vec<Pod>,
    /// Requests that the candidate has answered.
    pub served: f64,
    incidents: Vec<(f64, f64)>,
    share: f64,
    /// Milliseconds of a step.
    tick: i64,
}

impl<'a> World<'a> {
    /// The world of one run, before its first step.
    pub fn new(scenario: &'a Scenario, dice: Dice) -> Self {
        Self::from(scenario, dice, T0, scenario.setup.tick * 1000)
    }

    /// The world so many seconds before the attempt, scraped once a minute; nobody but the champion is asked.
    pub fn before(scenario: &'a Scenario, dice: Dice, seconds: i64) -> Self {
        Self::from(scenario, dice, T0 - seconds * 1000, 60_000)
    }

    fn from(scenario: &'a Scenario, mut dice: Dice, now: i64, tick: i64) -> Self {
        let incidents = scenario.nature.incidents.map_or_else(Vec::new, |incidents| {
            (0..incidents.count)
                .map(|_| {
                    let from = dice.unit() * incidents.within;
                    (from, from + incidents.length)
                })
                .collect()
        });
        let mut pods = Vec::new();
        for side in [Side::Champion, Side::Candidate] {
            for index in 0..scenario.setup.pods_of(side) {
                // Scrapes of a target keep their place in the interval; the place depends on the target.
                #[expect(clippy::cast_possible_truncation, reason = "less than an interval")]
                let offset = (dice.unit() * tick as f64) as i64;
                pods.push(Pod::new(scenario, side, index, now - offset, offset));
            }
        }
        Self { scenario, dice, now, pods, served: 0.0, incidents, share: 0.0, tick }
    }

    /// Seconds since the first exposure, which begins one interval after the start.
    pub fn seconds(&self) -> f64 {
        (self.now - T0) as f64 / 1000.0 - self.scenario.setup.tick as f64
    }

    /// One interval with this share written for the candidate since the last instant; every pod is scraped once, at its offset.
    pub fn step(&mut self, share: f64) {
        let tick = self.tick;
        let changed = self.now;
        self.now += tick;
        let sharing = self.scenario.nature.shock.map_or(Sharing::Pod, |shock| shock.shared);
        let mut lead: Option<(Side, f64)> = None;
        for pod in &mut self.pods {
            let jitter = tick / 50;
            #[expect(clippy::cast_possible_truncation, reason = "less than an interval")]
            let wobble = (self.dice.unit() * jitter as f64) as i64;
            let until = (self.now - pod.offset - wobble).max(pod.until + 1);
            let before = ((changed - pod.until) as f64 / (until - pod.until) as f64).clamp(0.0, 1.0);
            // In a shared shock all pods follow the first of those that share it.
            let follows = |side: Side| match sharing {
                Sharing::Pod => false,
                Sharing::Arm => side == pod.side,
                Sharing::World => true,
            };
            let shared = lead.filter(|(side, _)| follows(*side)).map(|(_, factor)| factor);
            let serving = Serving {
                scenario: self.scenario,
                share: before * self.share + (1.0 - before) * share,
                raised: (share > self.share).then_some(before),
                origin: T0 + self.scenario.setup.tick * 1000,
                until,
                incidents: &self.incidents,
                shared_shock: shared,
            };
            let answered = pod.serve(&serving, &mut self.dice);
            if pod.side == Side::Candidate {
                self.served += answered;
            }
            if shared.is_none() {
                lead = Some((pod.side, pod.shock()));
            }
        }
        self.share = share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    fn play(name: &str, steps: usize, share: f64) -> World<'static> {
        let scenarios: &'static [Scenario] = Box::leak(catalogue::all().into_boxed_slice());
        let scenario = scenarios.iter().find(|s| s.name == name).unwrap();
        let mut world = World::new(scenario, Dice::new(3, name, 0));
        (0..steps).for_each(|_| world.step(share));
        world
    }

    fn rate(world: &World<'_>, side: Side) -> (f64, f64) {
        let of = world.pods.iter().filter(|pod| pod.side == side);
        let (bad, all) = of.fold((0.0, 0.0), |sum, pod| (sum.0 + pod.value(2), sum.1 + pod.value(1)));
        (bad / all, all)
    }

    #[test]
    fn rates_traffic_and_share_are_what_the_scenario_says() {
        let world = play("s3-at-margin", 1_000, 0.1);
        let (champion, champion_n) = rate(&world, Side::Champion);
        let (candidate, candidate_n) = rate(&world, Side::Candidate);
        assert!((champion - 0.08).abs() < 0.002 && (candidate - 0.10).abs() < 0.005, "{champion} {candidate}");
        assert!((candidate_n / (candidate_n + champion_n) - 0.1).abs() < 0.003);
        assert!(((candidate_n + champion_n) / 600_000.0 - 1.0).abs() < 0.01);
    }

    #[test]
    fn correlated_failures_keep_the_rate() {
        for name in ["bursty-pods-at-margin", "clumps-at-margin", "all-failures-in-bursts-at-margin", "hot-pod-at-margin"] {
            let world = play(name, 1_440, 0.1);
            let (champion, candidate) = (rate(&world, Side::Champion).0, rate(&world, Side::Candidate).0);
            let base = world.scenario.rails[0].base;
            assert!((champion - base).abs() < 0.1 * base, "{name}: {champion}");
            assert!((candidate - base - 0.02).abs() < 0.15 * base, "{name}: {candidate}");
        }
    }

    #[test]
    fn a_restart_resets_counters_and_a_lost_scrape_delivers_nothing() {
        let world = play("resets", 600, 0.1);
        assert!(rate(&world, Side::Champion).1 < 200_000.0, "counters that never fell");
        let mut world = play("rough-scrapes", 0, 0.1);
        let delivered: usize = (0..500)
            .map(|_| {
                world.step(0.1);
                world.pods.iter().map(|pod| pod.delivered.len()).sum::<usize>()
            })
            .sum();
        let expected = 500 * world.pods.len() * 8 / 10;
        assert!(delivered.abs_diff(expected) < expected / 10, "{delivered} of about {expected}");
    }
}
