//! Measures how often rollout policies decide wrongly, in simulated worlds with known truth, and writes the page about it.
//! Espalier's own decisions come from `rollout_core`, fed with raw series; nothing of it is built a second time here.

mod catalogue;
mod dice;
mod espalier;
mod feed;
mod figure;
mod history;
mod outcome;
mod page;
mod peers;
mod pod;
mod run;
mod scenario;
mod trouble;
mod verdict;
mod world;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Parser;

use crate::outcome::Cell;
use crate::run::{Job, OURS};
use crate::scenario::Scenario;

/// Runs of a quick look.
const QUICK_RUNS: u64 = 50;

/// How often do rollout policies decide wrongly?
#[derive(Parser)]
struct Args {
    /// Runs of every scenario and policy.
    #[arg(long, default_value_t = 2000)]
    runs: u64,
    /// 50 runs instead.
    #[arg(long)]
    quick: bool,
    /// Only these scenarios.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    scenario: Vec<String>,
    /// Only these policies.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    policy: Vec<String>,
    /// Seed of all chance.
    #[arg(long, default_value_t = 20_260_301)]
    seed: u64,
    /// Where the page goes; figures go to the folder `figures` beside it.
    #[arg(long, default_value = "docs/decision-quality.md")]
    out: PathBuf,
    /// Threads; results do not depend on it.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Name every scenario and policy, and end.
    #[arg(long)]
    list: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let scenarios = catalogue::all();
    if args.list {
        list(&scenarios);
        return Ok(());
    }
    let job = job(&args)?;
    let chosen = choose(scenarios, &args.scenario)?;
    let begin = Instant::now();
    let mut rows: Vec<(Scenario, Vec<Cell>)> = Vec::new();
    for scenario in chosen {
        let start = Instant::now();
        let cells = job.play(&scenario);
        eprintln!("{:<34} {:>6.1} s", scenario.name, start.elapsed().as_secs_f64());
        rows.push((scenario, cells));
    }
    eprintln!("{} scenarios, {} runs each, {:.0} s", rows.len(), job.runs, begin.elapsed().as_secs_f64());
    page::write(&args.out, &job, &rows).with_context(|| format!("cannot write {}", args.out.display()))?;
    println!("{}", page::closing_line(&rows));
    Ok(())
}

fn list(scenarios: &[Scenario]) {
    for scenario in scenarios {
        println!("{:<34} {}", scenario.name, scenario.story);
    }
    println!();
    println!("{OURS:<16} The operator's own evidence and judge.");
    for entry in peers::ALL {
        println!("{:<16} {}", entry.name, entry.rules);
    }
}

fn job(args: &Args) -> anyhow::Result<Job> {
    let known: Vec<&str> = std::iter::once(OURS).chain(peers::ALL.iter().map(|entry| entry.name)).collect();
    if let Some(unknown) = args.policy.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no policy {unknown}; there are {}", known.join(", "));
    }
    let wanted = |name: &str| args.policy.is_empty() || args.policy.iter().any(|wanted| wanted == name);
    let threads = args.threads.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    Ok(Job {
        runs: if args.quick { QUICK_RUNS } else { args.runs },
        seed: args.seed,
        selection: [selected("scenario", &args.scenario), selected("policy", &args.policy)].concat(),
        threads,
        ours: wanted(OURS),
        entries: peers::ALL.into_iter().filter(|entry| wanted(entry.name)).collect(),
    })
}

fn selected(what: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" --{what} {}", names.join(" ")) }
}

fn choose(scenarios: Vec<Scenario>, wanted: &[String]) -> anyhow::Result<Vec<Scenario>> {
    if let Some(unknown) = wanted.iter().find(|name| !scenarios.iter().any(|scenario| scenario.name == name.as_str())) {
        bail!("no scenario {unknown}; --list names them");
    }
    Ok(scenarios.into_iter().filter(|scenario| wanted.is_empty() || wanted.iter().any(|name| name == scenario.name)).collect())
}
