//! One pod: answers requests, counts them, is scraped or not.
//! Everything that happens to a counter before somebody reads it happens here, and nothing of what is concluded from it.

use std::collections::VecDeque;

use crate::dice::Dice;
use crate::scenario::{Bound, Rail, Scenario, Shock, Side};

/// What a scrape read.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// Unix milliseconds.
    pub at: i64,
    /// One value per column of the scenario.
    pub values: Vec<f64>,
}

/// A pod.
pub struct Pod {
    /// Its arm.
    pub side: Side,
    /// Its place in the arm.
    pub index: usize,
    /// How many pods stood in this place before.
    pub generation: u32,
    /// How long before the instant it is scraped, in milliseconds.
    pub offset: i64,
    /// Until when it has served, in unix milliseconds.
    pub until: i64,
    /// What the scrapes since the last step brought, oldest first.
    pub delivered: Vec<Scrape>,
    /// When the last scrape failed, in unix milliseconds; `None` when it did not, or when nobody tried.
    pub failed: Option<i64>,
    /// Share of its arm's traffic, and its rate as a multiple of the arm's.
    weight: f64,
    tilt: f64,
    values: Vec<f64>,
    waiting: Option<Scrape>,
    shock: (i64, f64),
    burst: (i64, f64),
    unfinished: VecDeque<(i64, usize, f64)>,
    undiscovered: f64,
    born: i64,
}

/// What a pod lives through in one step.
pub struct Serving<'a> {
    /// The world's rules.
    pub scenario: &'a Scenario,
    /// Share written for the candidate, averaged over the step.
    pub share: f64,
    /// Part of the step before the share was raised, in a step that begins with a raise.
    pub raised: Option<f64>,
    /// Unix milliseconds of the first exposure.
    pub origin: i64,
    /// End of the step: the scrape.
    pub until: i64,
    /// Incidents of both arms, in seconds since the first exposure.
    pub incidents: &'a [(f64, f64)],
    /// The shock of those that share it, when it is not this pod's own.
    pub shared_shock: Option<f64>,
}

/// A stretch of time in seconds since the first exposure.
#[derive(Clone, Copy)]
struct Stretch {
    from: f64,
    to: f64,
}

impl Stretch {
    fn middle(self) -> f64 {
        f64::midpoint(self.from, self.to)
    }

    fn length(self) -> f64 {
        self.to - self.from
    }

    /// Share of it that lies in another one.
    fn overlap(self, from: f64, to: f64) -> f64 {
        (self.to.min(to) - self.from.max(from)).max(0.0) / self.length()
    }
}

impl Pod {
    /// A pod whose counters stand at zero at `born`.
    pub fn new(scenario: &Scenario, side: Side, index: usize, born: i64, offset: i64) -> Self {
        let pods = scenario.setup.pods_of(side) as f64;
        let (weight, tilt) = match (scenario.nature.hot, index) {
            (false, _) => (1.0 / pods, 1.0),
            (true, 0) => (0.5, 1.6),
            (true, _) => (0.5 / (pods - 1.0), 0.4),
        };
        let mut values = vec![0.0; scenario.columns().len()];
        if let Some(up) = values.first_mut() {
            *up = 1.0;
        }
        for (rail, slot) in scenario.rails.iter().zip(values.iter_mut().skip(2).step_by(2)) {
            if matches!(rail.bound, Bound::Level(_)) {
                *slot = rail.base;
            }
        }
        Self {
            side,
            index,
            generation: 0,
            offset,
            until: born,
            delivered: Vec::new(),
            failed: None,
            weight,
            tilt,
            values,
            waiting: None,
            shock: (i64::MIN, 1.0),
            burst: (i64::MIN, 0.0),
            unfinished: VecDeque::new(),
            undiscovered: if side == Side::Champion { known_to_be_undiscovered(scenario) * weight } else { 0.0 },
            born,
        }
    }

    /// Its name; a replacement has another one.
    pub fn name(&self) -> String {
        let arm = match self.side {
            Side::Champion => "stable",
            Side::Candidate => "candidate",
        };
        format!("{arm}-{}-{}", self.index, self.generation)
    }

    /// The present shock as a multiple of the rate.
    pub fn shock(&self) -> f64 {
        self.shock.1
    }

    /// The present value of a column.
    #[cfg(test)]
    pub fn value(&self, column: usize) -> f64 {
        self.values[column]
    }

    /// Answers until the next scrape and is scraped; returns the requests it answered.
    pub fn serve(&mut self, serving: &Serving<'_>, dice: &mut Dice) -> f64 {
        let nature = &serving.scenario.nature;
        self.replace_if_due(serving);
        let mut stretch = self.stretch(serving);
        let mut answered = 0.0;
        if let Some(mean) = nature.restarts
            && dice.unit() < stretch.length() / mean
        {
            let part = dice.unit();
            answered += self.restart(serving, &mut stretch, part, dice);
        }
        if let Some(before) = serving.raised.filter(|_| nature.restart_at_raise) {
            answered += self.restart(serving, &mut stretch, before, dice);
        }
        answered += self.answer(serving, stretch, dice);
        self.until = serving.until;
        self.be_scraped(serving, stretch.to, dice);
        answered
    }

    /// Answers for a part of the stretch and restarts: what was counted since the last scrape is never read. Returns the requests it answered.
    fn restart(&mut self, serving: &Serving<'_>, stretch: &mut Stretch, part: f64, dice: &mut Dice) -> f64 {
        let cut = stretch.from + part * stretch.length();
        let answered = self.answer(serving, Stretch { from: stretch.from, to: cut }, dice);
        self.values.iter_mut().skip(1).for_each(|value| *value = 0.0);
        stretch.from = cut;
        answered
    }

    fn stretch(&self, serving: &Serving<'_>) -> Stretch {
        let seconds = |at: i64| (at - serving.origin) as f64 / 1000.0;
        Stretch { from: seconds(self.until), to: seconds(serving.until) }
    }

    fn replace_if_due(&mut self, serving: &Serving<'_>) {
        let Some(age) = serving.scenario.nature.renewal.filter(|_| self.side == Side::Candidate) else { return };
        // Half a period between the pods, so that they do not all go at once.
        let first = if self.generation == 0 { age * (0.5 + 0.5 * self.index as f64) } else { age };
        if (self.until - self.born) as f64 / 1000.0 >= first {
            let (until, generation) = (self.until, self.generation + 1);
            *self = Self { generation, ..Self::new(serving.scenario, self.side, self.index, until, self.offset) };
        }
    }

    fn answer(&mut self, serving: &Serving<'_>, stretch: Stretch, dice: &mut Dice) -> f64 {
        let (scenario, nature) = (serving.scenario, &serving.scenario.nature);
        let candidate = (serving.share * nature.share).min(1.0);
        let share = if self.side == Side::Candidate { candidate } else { 1.0 - candidate };
        let n = dice.poisson(nature.traffic(stretch.middle()) * share * self.weight * stretch.length());
        self.add(1, n);
        self.update_shock(serving, stretch, dice);
        for (index, rail) in scenario.rails.iter().enumerate() {
            let bad_column = Scenario::bad_column(index);
            if matches!(rail.bound, Bound::Level(_)) {
                self.drift(rail, bad_column, serving, stretch, dice);
                continue;
            }
            let own = if rail.fraction < 1.0 { dice.binomial(n, rail.fraction) } else { n };
            let rate = self.rate(rail, serving, stretch, dice);
            let bad = clumped(own, rate, nature.clump, dice);
            self.count(index, rail, (bad, own), stretch, serving, dice);
        }
        n
    }

    fn add(&mut self, column: usize, amount: f64) {
        if let Some(value) = self.values.get_mut(column) {
            *value += amount;
        }
    }

    /// Puts the outcomes of `own` requests where they can be read, now or later.
    fn count(&mut self, index: usize, rail: &Rail, (bad, own): (f64, f64), stretch: Stretch, serving: &Serving<'_>, dice: &mut Dice) {
        let nature = &serving.scenario.nature;
        let (bad_column, total_column) = (Scenario::bad_column(index), Scenario::total_column(index, rail));
        if total_column != 1 {
            self.add(total_column, own);
        }
        let mut counted = bad;
        if nature.labelled < 1.0 && self.side == Side::Candidate {
            counted = dice.binomial(bad, nature.labelled);
            self.add(total_column, counted - bad);
        }
        if let Some(mean) = nature.discovery {
            self.undiscovered += counted;
            counted = dice.binomial(self.undiscovered, 1.0 - (-stretch.length() / mean).exp());
            self.undiscovered -= counted;
        }
        if nature.late_failures > 0 {
            self.unfinished.push_back((serving.until + nature.late_failures * 1000, index, counted));
            self.add(total_column, -counted);
            counted = 0.0;
            while let Some((_, at, finished)) = self.unfinished.pop_front_if(|(due, at, _)| *due <= serving.until && *at == index) {
                debug_assert_eq!(at, index);
                counted += finished;
            }
            self.add(total_column, counted);
        }
        self.add(bad_column, counted);
    }

    /// The chance that a request is bad.
    fn rate(&mut self, rail: &Rail, serving: &Serving<'_>, stretch: Stretch, dice: &mut Dice) -> f64 {
        let nature = &serving.scenario.nature;
        let base = rail.base * nature.base.at(stretch.middle());
        let mut rate = match self.side {
            Side::Champion => base,
            Side::Candidate => rail.effect.on(base, stretch.middle(), nature.hidden.is_some_and(|h| h.is_off(stretch.middle()))),
        };
        rate *= self.tilt * self.shock.1;
        if let Some(burst) = nature.bursts {
            #[expect(clippy::cast_possible_truncation, reason = "a count of periods")]
            let period = (stretch.middle() / burst.every).floor() as i64;
            if self.burst.0 != period {
                self.burst = (period, (period as f64 + dice.unit() * (1.0 - burst.length / burst.every)) * burst.every);
            }
            rate *= burst.every / burst.length * stretch.overlap(self.burst.1, self.burst.1 + burst.length);
        }
        if let Some(incidents) = nature.incidents {
            for (from, to) in serving.incidents {
                let part = stretch.overlap(*from, *to);
                rate = rate * (1.0 - part) + incidents.rate * part;
            }
        }
        rate.clamp(0.0, 1.0)
    }

    fn update_shock(&mut self, serving: &Serving<'_>, stretch: Stretch, dice: &mut Dice) {
        let Some(Shock { icc, hold, .. }) = serving.scenario.nature.shock else { return };
        #[expect(clippy::cast_possible_truncation, reason = "a count of periods")]
        let period = (stretch.middle() / hold).floor() as i64;
        if let Some(shared) = serving.shared_shock {
            self.shock = (period, shared);
        } else if self.shock.0 != period {
            let mean = serving.scenario.rails.first().map_or(0.1, |rail| rail.base * serving.scenario.nature.base.at(stretch.middle()));
            self.shock = (period, dice.beta(mean, icc) / mean);
        }
    }

    /// A level follows a first-order autoregression around its mean.
    fn drift(&mut self, rail: &Rail, column: usize, serving: &Serving<'_>, stretch: Stretch, dice: &mut Dice) {
        let (lag, deviation) = serving.scenario.nature.level;
        let mean = match self.side {
            Side::Champion => rail.base,
            Side::Candidate => rail.effect.on(rail.base, stretch.middle(), false),
        };
        let memory = lag.powf(stretch.length() / 15.0);
        if let Some(value) = self.values.get_mut(column) {
            *value = mean + memory * (*value - mean) + deviation * (1.0 - memory * memory).sqrt() * dice.normal();
        }
    }

    fn be_scraped(&mut self, serving: &Serving<'_>, seconds: f64, dice: &mut Dice) {
        let nature = &serving.scenario.nature;
        self.delivered.clear();
        self.delivered.extend(self.waiting.take());
        let hidden = self.side == Side::Candidate && nature.hidden.is_some_and(|hidden| hidden.is_off(seconds));
        let dark = nature.dark && nature.silence.is_some_and(|(from, to)| (from..to).contains(&seconds));
        let lost = nature.lost > 0.0 && dice.unit() < nature.lost;
        self.failed = ((hidden || lost) && !dark).then_some(serving.until);
        if hidden || dark || lost {
            return;
        }
        let scrape = Scrape { at: serving.until, values: self.values.clone() };
        if nature.late > 0.0 && dice.unit() < nature.late {
            self.waiting = Some(scrape);
        } else {
            self.delivered.push(scrape);
        }
    }
}

/// Bad events that an arm with all the traffic has not discovered yet when it has served for days.
fn known_to_be_undiscovered(scenario: &Scenario) -> f64 {
    let (Some(mean), Some(rail)) = (scenario.nature.discovery, scenario.rails.first()) else { return 0.0 };
    if scenario.setup.history { (rail.base * scenario.nature.traffic(0.0) * mean).round() } else { 0.0 }
}

/// Bad events among `n` when they come `clump` at a time; the mean stays `n` times `rate`.
fn clumped(n: f64, rate: f64, clump: f64, dice: &mut Dice) -> f64 {
    if clump <= 1.0 {
        return dice.binomial(n, rate);
    }
    let groups = (n / clump).floor();
    clump * dice.binomial(groups, rate) + dice.binomial(n - groups * clump, rate)
}
