//! Serves one compressed digits model with a real ONNX runtime, for the end-to-end scenarios.
//! This file starts and stops the server; it answers nothing itself.

mod admin;
mod app;
mod cli;
mod counters;
mod exposition;
mod faults;
mod gpu;
mod memory;
mod model;
mod protocol;
mod reporter;
mod source;
#[cfg(test)]
mod tests;

use std::future::IntoFuture as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::app::{App, Identity, lock};
use crate::counters::Counters;
use crate::faults::{Action, Dice, Faults};
use crate::gpu::{Gpu, GpuConfig};
use crate::memory::Memory;
use crate::model::Model;
use crate::reporter::Reporter;

/// The simulated GPU looks at the work done this often.
const GPU_TICK: Duration = Duration::from_millis(500);
/// Requests still in flight after the drain delay get this long.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    admin::note_start();
    let args = cli::Args::parse();
    let listen = |port| async move {
        let address = SocketAddr::new(args.listen, port);
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
    };
    let (public, metrics, dcgm) = (listen(args.port).await?, listen(args.metrics_port).await?, listen(args.dcgm_port).await?);
    let (app, actions) = assemble(&args, public.local_addr()?)?;
    println!(
        "serving model={} digest={} revision={} http={} metrics={} dcgm={} (the GPU is simulated)",
        app.identity.model_file,
        app.identity.digest,
        app.identity.revision,
        public.local_addr()?,
        metrics.local_addr()?,
        dcgm.local_addr()?
    );
    for action in &actions {
        admin::act(&app, action);
    }
    tokio::spawn(axum::serve(metrics, admin::router(Arc::clone(&app), args.max_concurrency)).into_future());
    tokio::spawn(axum::serve(dcgm, admin::dcgm_router(Arc::clone(&app))).into_future());
    tokio::spawn(watch_work(Arc::clone(&app)));
    tokio::spawn(become_ready(Arc::clone(&app), Duration::from_millis(args.startup_delay_ms)));
    serve(app, public, Duration::from_millis(args.drain_delay_ms)).await
}

/// Loads the model and puts the parts together.
fn assemble(args: &cli::Args, public: SocketAddr) -> anyhow::Result<(Arc<App>, Vec<Action>)> {
    let began = Instant::now();
    let file = source::open(&args.model, &args.models_dir)?;
    let model = Model::load(&file.bytes).with_context(|| format!("model '{}'", file.name))?;
    let load = began.elapsed();

    let mut faults = Faults::default();
    let actions = faults.apply(&args.faults).context("faults at start")?;
    let reached = args.pod_ip.unwrap_or(if public.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { public.ip() });
    let identity = Identity {
        model_name: args.model_name.clone(),
        revision: args.revision.clone(),
        model_file: file.name,
        digest: file.digest,
        served_by: SocketAddr::new(reached, public.port()).to_string(),
        workload: vec![
            ("Hostname", args.node.clone()),
            ("container", args.container.clone()),
            ("namespace", args.namespace.clone()),
            ("pod", args.pod.clone()),
        ],
        load,
        model_bytes: file.bytes.len(),
    };
    let gpu = GpuConfig {
        idle_watts: args.idle_watts,
        joules_per_mac: args.joules_per_mac,
        work_per_row: model.work_per_row(),
        model_bytes: file.bytes.len(),
    };
    let app = App {
        identity,
        model,
        counters: Mutex::new(Counters::new(&args.regions)),
        gpu: Mutex::new(Gpu::new(gpu, faults.power_factor(), Instant::now())),
        faults: Mutex::new(faults),
        memory: Mutex::new(Memory::new(args.feedback_capacity, Duration::from_secs(args.feedback_window_s))),
        dice: Dice::new(args.seed),
        ballast: Mutex::default(),
        serving: AtomicBool::new(false),
        slots: Semaphore::new(args.max_concurrency),
        queued: AtomicUsize::new(0),
        max_queue: args.max_queue,
        made_ids: AtomicU64::new(0),
        reporter: args.comparer.as_deref().map(|url| Reporter::start(url, &args.revision)).transpose()?,
    };
    Ok((Arc::new(app), actions))
}

async fn become_ready(app: Arc<App>, after: Duration) {
    tokio::time::sleep(after).await;
    app.serving.store(true, Ordering::Relaxed);
}

async fn watch_work(app: Arc<App>) {
    let mut ticks = tokio::time::interval(GPU_TICK);
    loop {
        let now = ticks.tick().await.into_std();
        let rows = lock(&app.counters).rows();
        let factor = lock(&app.faults).power_factor();
        lock(&app.gpu).tick(now, rows, factor, app.dice.roll());
    }
}

/// Serves until SIGTERM or SIGINT, then leaves without dropping a request: not ready at once, still serving for `drain`, then
/// only what is in flight.
async fn serve(app: Arc<App>, public: TcpListener, drain: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(public, app::router(Arc::clone(&app))).with_graceful_shutdown(async move {
        // A dropped sender stops the server as well.
        let _ = stopped.await;
    });
    let mut server = tokio::spawn(server.into_future());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut server => return Ok(ended??),
    }
    app.serving.store(false, Ordering::Relaxed);
    tokio::time::sleep(drain).await;
    let _ = stop.send(());
    let Ok(ended) = tokio::time::timeout(LAST_REQUESTS, server).await else {
        eprintln!("requests still in flight after {} s are given up", LAST_REQUESTS.as_secs());
        return Ok(());
    };
    Ok(ended??)
}
