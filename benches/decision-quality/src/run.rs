//! Plays scenarios many times, on as many threads as asked, with the same result on any number of them.
//! Writes nothing; progress goes to the caller.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;

use crate::dice::Dice;
use crate::espalier::{self, Chance};
use crate::outcome::Cell;
use crate::peers::{self, Briefing, Entry};
use crate::scenario::Scenario;
use crate::source::Through;

/// Name of the project's own policy.
pub const OURS: &str = "espalier";

/// What to play.
pub struct Job {
    /// Runs of every cell.
    pub runs: u64,
    /// Runs of every scenario that Espalier plays once more, through HTTP.
    pub http_runs: u64,
    /// Seed of everything.
    pub seed: u64,
    /// The part that was asked for, as it stands on the command line; empty for everything.
    pub selection: String,
    /// Threads to use.
    pub threads: NonZeroUsize,
    /// Whether Espalier plays.
    pub ours: bool,
    /// The other policies that play.
    pub entries: Vec<Entry>,
}

impl Job {
    /// All runs of one scenario: one cell per policy, Espalier first.
    pub fn play(&self, scenario: &Scenario) -> anyhow::Result<Vec<Cell>> {
        let (plan, briefing) = (espalier::plan(scenario), Briefing::new(scenario));
        let rows = self.each(self.runs, |run| {
            let mut outcomes = Vec::new();
            if self.ours {
                outcomes.push(espalier::run(scenario, &plan, self.chance(scenario, run), Through::Library)?);
            }
            if !self.entries.is_empty() {
                outcomes.extend(peers::run(&briefing, &self.entries, self.dice(scenario, run)));
            }
            Ok(outcomes)
        })?;
        let names = self.ours.then_some(OURS).into_iter().chain(self.entries.iter().map(|entry| entry.name));
        Ok(names
            .enumerate()
            .map(|(at, policy)| Cell { policy, outcomes: rows.iter().filter_map(|outcomes| outcomes.get(at).copied()).collect() })
            .collect())
    }

    /// The first runs of Espalier once more, the same worlds through HTTP; `None` when none are asked for.
    pub fn play_http(&self, scenario: &Scenario) -> anyhow::Result<Option<Cell>> {
        let plan = espalier::plan(scenario);
        let runs = if self.ours { self.http_runs.min(self.runs) } else { 0 };
        let outcomes = self.each(runs, |run| espalier::run(scenario, &plan, self.chance(scenario, run), Through::Http))?;
        Ok((!outcomes.is_empty()).then_some(Cell { policy: OURS, outcomes }))
    }

    fn chance(&self, scenario: &Scenario, run: u64) -> Chance {
        // Another seed for the days before: what follows it is the same world for every policy.
        Chance { before: Dice::new(!self.seed, scenario.name, run), during: self.dice(scenario, run) }
    }

    fn dice(&self, scenario: &Scenario, run: u64) -> Dice {
        Dice::new(self.seed, scenario.name, run)
    }

    /// Plays so many runs on all threads, in any order; the results are in the order of the runs.
    fn each<T: Send>(&self, runs: u64, one: impl Fn(u64) -> anyhow::Result<T> + Sync) -> anyhow::Result<Vec<T>> {
        let next = AtomicU64::new(0);
        let work = || -> anyhow::Result<Vec<(u64, T)>> {
            let mut done = Vec::new();
            loop {
                // Whoever is free takes the next one: runs differ much in length.
                let run = next.fetch_add(1, Ordering::Relaxed);
                if run >= runs {
                    return Ok(done);
                }
                done.push((run, one(run)?));
            }
        };
        let mut rows: Vec<(u64, T)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads.get()).map(|_| scope.spawn(work)).collect();
            let joined = workers.into_iter().map(|worker| worker.join().ok().context("a run ended in a panic")?);
            joined.collect::<anyhow::Result<Vec<_>>>().map(|parts| parts.into_iter().flatten().collect())
        })?;
        rows.sort_by_key(|(run, _)| *run);
        Ok(rows.into_iter().map(|(_, result)| result).collect())
    }
}
