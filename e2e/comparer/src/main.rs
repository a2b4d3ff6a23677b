//! Collects what two revisions answered to the same mirrored request and what the truth was, and shows the counts of pairs.
//! It is not in the path of any request: servers report to it when they like, and what it loses is only missing evidence.

mod counts;
mod pairs;
mod server;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Joins the answers of two revisions by request id and counts which of them were right.
#[derive(Clone, Debug, clap::Parser)]
#[command(version)]
struct Args {
    /// Address to listen on
    #[arg(long, env = "ESPALIER_LISTEN", default_value = "0.0.0.0")]
    listen: IpAddr,
    /// Port for reports and metrics; 0 takes a free one
    #[arg(long, env = "ESPALIER_PORT", default_value_t = 8082)]
    port: u16,
    /// Requests remembered at most
    #[arg(long, default_value_t = 65_536)]
    capacity: usize,
    /// Answers and labels of a request meet within this time, in s
    #[arg(long, default_value_t = 900)]
    window_s: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let address = SocketAddr::new(args.listen, args.port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    println!("comparing answers, http={}", listener.local_addr()?);
    let app = Arc::new(server::App::new(args.capacity, Duration::from_secs(args.window_s)));
    let mut terminate = signal(SignalKind::terminate())?;
    axum::serve(listener, server::router(app))
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await?;
    Ok(())
}
