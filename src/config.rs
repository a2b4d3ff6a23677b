//! How the operator is started: every flag, its environment variable and its default.
//! Holds values only; nothing here connects or reads.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

/// Settings of the operator.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Namespaces to watch, separated by commas; empty watches all.
    #[arg(long, env = "ESPALIER_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Address of /livez and /readyz.
    #[arg(long, env = "ESPALIER_HEALTH_ADDR", default_value = "0.0.0.0:8081")]
    pub health_addr: SocketAddr,
    /// Address of /metrics.
    #[arg(long, env = "ESPALIER_METRICS_ADDR", default_value = "0.0.0.0:8080")]
    pub metrics_addr: SocketAddr,
    /// Whether only the holder of the lease acts; needed with more than one replica.
    #[arg(long, env = "ESPALIER_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Name of the lease.
    #[arg(long, env = "ESPALIER_LEASE_NAME", default_value = "espalier")]
    pub lease_name: String,
    /// Namespace of the lease.
    #[arg(long, env = "ESPALIER_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Rollouts reconciled at the same time, 1 to 64.
    #[arg(long, env = "ESPALIER_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,
    /// Rollback writes in flight at the same time, 1 to 256.
    #[arg(long, env = "ESPALIER_ROLLBACK_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub rollback_concurrency: u16,
    /// Form of the log.
    #[arg(long, env = "ESPALIER_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
    /// What is logged: off, error, warn, info, debug, trace, or a filter such as info,espalier=debug.
    #[arg(long, env = "ESPALIER_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// Name of this process in the lease; the pod's name in a cluster.
    #[arg(long, env = "POD_NAME", default_value = "espalier")]
    pub pod_name: String,
    /// Namespace of this process.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub pod_namespace: String,
}

impl Config {
    /// The namespace to watch when there is exactly one, `None` for all or several.
    pub fn namespaces(&self) -> Vec<Option<String>> {
        let named: Vec<_> = self.watch_namespaces.iter().map(|n| n.trim()).filter(|n| !n.is_empty()).map(|n| Some(n.to_owned())).collect();
        if named.is_empty() { vec![None] } else { named }
    }
}

/// Forms of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}
