//! One process of the operator: the unmodified code on a runtime of its own with a paused clock, so that it can be killed, frozen and started again.
//! Lets time pass; knows nothing of rollouts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Parser;
use espalier::clock::Clock;
use espalier::config::Config;
use espalier::controller::{Ground, Vitals, operate};
use espalier::leader::Replica;
use espalier::prometheus::Servers;
use kube::Client;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower::{Layer, service_fn};

use crate::prometheus::Line;
use crate::serve::{Caller, serve};
use crate::world::{Shared, lock};

/// Why time stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The wanted moment has come.
    Reached,
    /// The process died at a write.
    Crashed,
    /// The operator ended by itself.
    Ended,
}

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    config: Config,
}

/// A running operator.
pub struct Process {
    runtime: Runtime,
    operator: Option<JoinHandle<anyhow::Result<()>>>,
    world: Shared,
    began: (DateTime<Utc>, Instant),
    pub vitals: Vitals,
    /// Why it ended, when it ended by itself.
    pub end: String,
}

impl Process {
    /// Starts the only operator at the world's time.
    pub fn start(world: &Shared, name: &str, elect: bool) -> Self {
        Self::begin(world, name, elect, true)
    }

    /// Starts one of several operators, whose clocks are not quite the world's.
    pub fn start_replica(world: &Shared, name: &str) -> Self {
        Self::begin(world, name, true, false)
    }

    fn begin(world: &Shared, name: &str, elect: bool, on_agenda: bool) -> Self {
        let (now, seed) = {
            let mut world = lock(world);
            world.say(&format!("{name} starts"));
            (world.now, world.dice.next())
        };
        // What the libraries draw for the jitter of their backoffs.
        fastrand::seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let inside = runtime.enter();
        let origin = Instant::now();
        let time = move || now + chrono::TimeDelta::from_std(origin.elapsed()).unwrap();
        let skew = Arc::clone(&lock(world).skew);
        // The wall clock of the machine may jump; the time that passes does not.
        let clock = Clock::of(move || time() + chrono::TimeDelta::milliseconds(skew.load(Ordering::Relaxed)));
        let vitals = Vitals::default();
        let arguments = ["espalier", "--leader-elect", if elect { "true" } else { "false" }, "--pod-name", name];
        let config = CommandLine::parse_from(arguments).config;
        let caller = Caller { name: name.to_owned(), clock: Clock::of(time), on_agenda };
        let service = {
            let (world, caller) = (Arc::clone(world), caller.clone());
            service_fn(move |request| serve(Arc::clone(&world), caller.clone(), request))
        };
        let fenced = service.clone();
        let ground = Ground {
            reader: Client::new(service, "default"),
            fenced: Box::new(move |fence| Box::pin(async move { Ok(Client::new(fence.layer(fenced), "default")) })),
            servers: Servers::instead(Arc::new(Line { world: Arc::clone(world), clock: Clock::of(time) })),
            replica: Replica { identity: format!("{name}_{seed:016x}"), clock },
        };
        let operator = runtime.spawn(operate(config, ground, vitals.clone(), std::future::pending()));
        drop(inside);
        Self { runtime, operator: Some(operator), world: Arc::clone(world), began: (now, origin), vitals, end: String::new() }
    }

    /// How many tasks the operator has.
    pub fn tasks(&self) -> usize {
        self.runtime.metrics().num_alive_tasks()
    }

    fn instant(&self, at: DateTime<Utc>) -> Instant {
        self.began.1 + (at - self.began.0).to_std().unwrap_or_default()
    }

    /// Lets time pass until `until` for this process and everything that is due in the world.
    pub fn run_until(&mut self, until: DateTime<Utc>) -> Stopped {
        let Some(mut operator) = self.operator.take() else {
            lock(&self.world).run_due(until);
            return Stopped::Ended;
        };
        let bell = Arc::clone(&lock(&self.world).bell);
        let world = Arc::clone(&self.world);
        let instant = |at| self.instant(at);
        let (stopped, end) = self.runtime.block_on(async {
            loop {
                let next = {
                    let world = lock(&world);
                    if world.crashed {
                        break (Stopped::Crashed, None);
                    }
                    if world.oracle.violations.len() > 50 {
                        break (Stopped::Reached, None);
                    }
                    world.due().unwrap_or(until).min(until)
                };
                tokio::select! {
                    biased;
                    ended = &mut operator => break (Stopped::Ended, Some(format!("{ended:?}"))),
                    () = bell.notified() => {}
                    () = tokio::time::sleep_until(instant(next)) => {
                        lock(&world).run_due(next);
                        if next >= until {
                            break (Stopped::Reached, None);
                        }
                    }
                }
            }
        });
        match end {
            Some(end) => self.end = end,
            None => self.operator = Some(operator),
        }
        stopped
    }

    /// Lets time pass for this process alone; the world's agenda is somebody else's.
    pub fn step_until(&mut self, until: DateTime<Utc>) -> Stopped {
        let Some(mut operator) = self.operator.take() else { return Stopped::Ended };
        let instant = self.instant(until);
        let ended = self.runtime.block_on(async {
            tokio::select! {
                biased;
                ended = &mut operator => Some(format!("{ended:?}")),
                () = tokio::time::sleep_until(instant) => None,
            }
        });
        if let Some(end) = ended {
            self.end = end;
            return Stopped::Ended;
        }
        self.operator = Some(operator);
        Stopped::Reached
    }

    /// The process was stopped until the world's time and goes on now: all its timers have run out meanwhile.
    pub fn thaw(&self) {
        let now = lock(&self.world).now;
        self.runtime.block_on(async {
            let behind = self.instant(now).saturating_duration_since(Instant::now());
            tokio::time::advance(behind.max(Duration::from_millis(1))).await;
        });
    }

    /// The process is gone, at once and with everything it was about to do.
    pub fn kill(self) {
        let world = Arc::clone(&self.world);
        drop(self.runtime);
        let mut world = lock(&world);
        world.crashed = false;
        world.crash = None;
        world.forget_watches();
    }
}
