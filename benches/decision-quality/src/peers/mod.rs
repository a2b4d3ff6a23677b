//! The other policies, written from their published rules. They see the same worlds as Espalier, in windows of five minutes.
//! None of them moves traffic: the exposure follows the scenario's schedule, so that all of them judge the same data.

mod kayenta;
mod score;
mod sequential;
mod thresholds;

use crate::dice::Dice;
use crate::history::{Closed, WINDOW, Watcher};
use crate::outcome::{Decision, Outcome};
use crate::scenario::Scenario;
use crate::world::World;

pub use sequential::Briefing;

/// A policy that looks once per window.
pub trait Peer {
    /// What it does now that the last window of `history` is closed; never empty.
    fn look(&mut self, briefing: &Briefing<'_>, history: &[Closed]) -> Option<Decision>;
}

/// A policy by name, with where its rules are published.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its rules in a sentence, with the source.
    pub rules: &'static str,
    make: fn(&Briefing<'_>) -> Box<dyn Peer>,
}

/// All of them, in the order of the tables.
pub const ALL: [Entry; 9] = [
    Entry {
        name: "argo",
        rules: "Argo Rollouts AnalysisRun (argoproj/argo-rollouts, docs/features/analysis.md): every 5 minutes the candidate's value may not exceed stable's by more than the target; `failureLimit: 3`, `count: 24`. NaN (no requests) fails the `successCondition`.",
        make: |_| Box::new(thresholds::Argo::default()),
    },
    Entry {
        name: "flagger",
        rules: "Flagger canary analysis (fluxcd/flagger, docs/gitbook/usage/how-it-works.md): every 5 minutes the same comparison; 10 good checks promote (`maxWeight: 50`, `stepWeight: 5`), 5 failed checks in all roll back at the next tick (`threshold: 5`); no value is a failed check.",
        make: |_| Box::new(thresholds::Flagger::default()),
    },
    Entry {
        name: "kayenta",
        rules: "Kayenta's NetflixACAJudge (spinnaker/kayenta, docs/canary-config.md): Mann–Whitney on window values at 98 %, \"High\" when the lower limit of the shift exceeds a quarter of its estimate and the ratio of means exceeds 1; judged hourly on all data since the start, passed after 4 h; every metric critical.",
        make: |briefing| Box::new(kayenta::Kayenta::new(briefing, false)),
    },
    Entry {
        name: "kayenta-tuned",
        rules: "The same with the allowed ratio of means (`effectSize.allowedIncrease`) set to what the target allows.",
        make: |briefing| Box::new(kayenta::Kayenta::new(briefing, true)),
    },
    Entry {
        name: "peeking",
        rules: "A z-test of pooled counts against the target in both directions, one-sided 5 %, at every window.",
        make: |briefing| Box::new(sequential::Peeking::new(briefing, false)),
    },
    Entry {
        name: "peeking-zero",
        rules: "The same, but rolling back as soon as the candidate is significantly worse at all.",
        make: |briefing| Box::new(sequential::Peeking::new(briefing, true)),
    },
    Entry {
        name: "fixed",
        rules: "One look when the sample size for 90 % power at the scenario's nominal rates is in (Chow, Shao & Wang); z-tests of pooled counts, Bonferroni over guardrails for the rollback.",
        make: |briefing| Box::new(sequential::Fixed::new(briefing)),
    },
    Entry {
        name: "gs-pooled",
        rules: "Group-sequential, 24 looks, O'Brien–Fleming-type spending (Lan & DeMets 1983) on both sides; z of pooled counts.",
        make: |briefing| Box::new(sequential::GroupSequential::new(briefing, false)),
    },
    Entry {
        name: "gs-stratified",
        rules: "The same with the z of counts stratified by window (Mantel–Haenszel).",
        make: |briefing| Box::new(sequential::GroupSequential::new(briefing, true)),
    },
];

/// Plays one run for `entries`, all on the same history; outcomes in their order.
pub fn run(briefing: &Briefing<'_>, entries: &[Entry], dice: Dice) -> Vec<Outcome> {
    let scenario: &Scenario = briefing.scenario;
    let mut world = World::new(scenario, dice);
    let mut watcher = Watcher::new(scenario, &world.pods);
    world.step(0.0);
    watcher.take(&world.pods, false);
    let mut peers: Vec<(Box<dyn Peer>, Option<Outcome>)> = entries.iter().map(|entry| ((entry.make)(briefing), None)).collect();
    let mut history: Vec<Closed> = Vec::new();
    while world.seconds() < scenario.end() && peers.iter().any(|(_, outcome)| outcome.is_none()) {
        let share = scenario.scheduled_share(world.seconds());
        world.step(share);
        watcher.take(&world.pods, true);
        if world.seconds() + 1e-9 < (history.len() as f64 + 1.0) * WINDOW {
            continue;
        }
        history.push(watcher.close(world.seconds(), world.served));
        for (peer, outcome) in peers.iter_mut().filter(|(_, outcome)| outcome.is_none()) {
            *outcome =
                peer.look(briefing, &history).map(|decision| Outcome { decision, minutes: world.seconds() / 60.0, served: world.served });
        }
    }
    let undecided = Outcome { decision: Decision::Inconclusive, minutes: world.seconds() / 60.0, served: world.served };
    peers.into_iter().map(|(_, outcome)| outcome.unwrap_or(undecided)).collect()
}
