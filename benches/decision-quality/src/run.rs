//! Plays scenarios many times, on as many threads as asked, with the same result on any number of them.
//! Writes nothing; progress goes to the caller.

use std::num::NonZeroUsize;

use crate::dice::Dice;
use crate::espalier;
use crate::outcome::{Cell, Outcome};
use crate::peers::{self, Briefing, Entry};
use crate::scenario::Scenario;

/// Name of the project's own policy.
pub const OURS: &str = "espalier";

/// What to play.
pub struct Job {
    /// Runs of every cell.
    pub runs: u64,
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
    pub fn play(&self, scenario: &Scenario) -> Vec<Cell> {
        let (plan, briefing) = (espalier::plan(scenario), Briefing::new(scenario));
        let one = |run: u64| -> Vec<Outcome> {
            let dice = || Dice::new(self.seed, scenario.name, run);
            let mut outcomes = Vec::new();
            if self.ours {
                outcomes.push(espalier::run(scenario, &plan, dice()));
            }
            if !self.entries.is_empty() {
                outcomes.extend(peers::run(&briefing, &self.entries, dice()));
            }
            outcomes
        };
        let threads = self.threads.get() as u64;
        let mut rows: Vec<(u64, Vec<Outcome>)> = std::thread::scope(|scope| {
            let one = &one;
            let share =
                |thread: u64| move || (thread..self.runs).step_by(self.threads.get()).map(|run| (run, one(run))).collect::<Vec<_>>();
            let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(share(thread))).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
        });
        rows.sort_by_key(|(run, _)| *run);
        let names = self.ours.then_some(OURS).into_iter().chain(self.entries.iter().map(|entry| entry.name));
        names
            .enumerate()
            .map(|(at, policy)| Cell { policy, outcomes: rows.iter().filter_map(|(_, outcomes)| outcomes.get(at).copied()).collect() })
            .collect()
    }
}
