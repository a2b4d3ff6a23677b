//! Measures how often rollout policies decide wrongly, in simulated worlds with known truth, and writes the page about it.
//! Espalier's own decisions come from `rollout_core`, fed with raw series; nothing of it is built a second time here.

mod catalogue;
mod dice;
mod espalier;
#[cfg(feature = "http")]
mod fake;
mod feed;
mod figure;
mod history;
mod outcome;
mod page;
mod pair;
mod peers;
mod pod;
mod run;
mod scenario;
mod source;
mod trouble;
mod verdict;
#[cfg_attr(not(feature = "http"), path = "no_wire.rs")]
mod wire;
mod world;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Parser;

use crate::outcome::Cell;
use crate::pair::Pair;
use crate::run::{Job, OURS};
use crate::scenario::Scenario;
use crate::source::Through;

/// Runs of every cell on the page, of a quick look, and of what goes through HTTP, where an instant costs a hundred times as much.
const RUNS: u64 = 2000;
const QUICK_RUNS: u64 = 50;
const HTTP_RUNS: u64 = 40;
const QUICK_HTTP_RUNS: u64 = 4;

/// How often do rollout policies decide wrongly?
#[derive(Parser)]
struct Args {
    /// Runs of every scenario and policy; 2000, or 40 through HTTP.
    #[arg(long)]
    runs: Option<u64>,
    /// Runs of every scenario that are played once more through HTTP, for the page; 40.
    #[arg(long)]
    http_runs: Option<u64>,
    /// 50 runs instead, 4 through HTTP.
    #[arg(long, conflicts_with_all = ["runs", "http_runs"])]
    quick: bool,
    /// How samples reach Espalier; `http` plays it both ways, prints how they agree, and writes no page.
    #[arg(long, value_enum, default_value_t = Through::Library)]
    through: Through,
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
    let mut twins: Vec<Option<Cell>> = Vec::new();
    for scenario in chosen {
        let start = Instant::now();
        let cells = job.play(&scenario)?;
        let library = start.elapsed().as_secs_f64();
        twins.push(job.play_http(&scenario).with_context(|| format!("{} through HTTP", scenario.name))?);
        eprintln!("{:<34} {library:>6.1} s, through HTTP {:>6.1} s", scenario.name, start.elapsed().as_secs_f64() - library);
        rows.push((scenario, cells));
    }
    eprintln!("{} scenarios, {} runs each, {:.0} s", rows.len(), job.runs, begin.elapsed().as_secs_f64());
    let pairs: Vec<Pair<'_>> =
        rows.iter().zip(&twins).filter_map(|((scenario, cells), twin)| Some(Pair::new(scenario, cells.first()?, twin.as_ref()?))).collect();
    if args.through == Through::Http {
        print!("{}", pair::section(&pairs));
        return Ok(());
    }
    page::write(&args.out, &job, &rows, &pairs).with_context(|| format!("cannot write {}", args.out.display()))?;
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
    let only_http = args.through == Through::Http;
    let (runs, http_runs) = match (only_http, args.quick) {
        (true, true) => (QUICK_HTTP_RUNS, QUICK_HTTP_RUNS),
        (true, false) => (args.runs.unwrap_or(HTTP_RUNS), u64::MAX),
        (false, true) => (QUICK_RUNS, QUICK_HTTP_RUNS),
        (false, false) => (args.runs.unwrap_or(RUNS), args.http_runs.unwrap_or(HTTP_RUNS)),
    };
    Ok(Job {
        runs,
        http_runs: http_runs.min(runs),
        seed: args.seed,
        selection: [selected("scenario", &args.scenario), selected("policy", &args.policy)].concat(),
        threads,
        ours: wanted(OURS),
        // The other policies have no way but one.
        entries: peers::ALL.into_iter().filter(|entry| !only_http && wanted(entry.name)).collect(),
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
