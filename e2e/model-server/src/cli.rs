//! The command line and the environment, as the user gave them.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::faults::FaultPatch;

/// Serves one digits model by the Open Inference Protocol v2, with metrics, switchable faults and a SIMULATED GPU exporter.
#[derive(Clone, Debug, clap::Parser)]
#[command(version)]
pub struct Args {
    /// Model to serve: `file:///PATH` or `oci://HOST/PATH/NAME[:TAG][@sha256:HEX]`; NAME.onnx is looked up in the models folder
    #[arg(long, env = "ESPALIER_MODEL")]
    pub model: String,
    /// Folder with the ONNX files
    #[arg(long, env = "ESPALIER_MODELS_DIR", default_value = "/models")]
    pub models_dir: PathBuf,
    /// Name of the model in URLs
    #[arg(long, env = "ESPALIER_MODEL_NAME", default_value = "digits")]
    pub model_name: String,
    /// Revision named in answers
    #[arg(long, env = "ESPALIER_REVISION", default_value = "")]
    pub revision: String,
    /// Address to listen on
    #[arg(long, env = "ESPALIER_LISTEN", default_value = "0.0.0.0")]
    pub listen: IpAddr,
    /// Port for inference and feedback; 0 takes a free one, here and below
    #[arg(long, env = "ESPALIER_PORT", default_value_t = 8080)]
    pub port: u16,
    /// Port for metrics and faults
    #[arg(long, env = "ESPALIER_METRICS_PORT", default_value_t = 8081)]
    pub metrics_port: u16,
    /// Port for the simulated GPU's metrics
    #[arg(long, env = "ESPALIER_DCGM_PORT", default_value_t = 9400)]
    pub dcgm_port: u16,
    /// Regions with a series of their own; all others count as "other"
    #[arg(long, env = "ESPALIER_REGIONS", value_delimiter = ',', default_value = "eu,us,ap")]
    pub regions: Vec<String>,
    /// Requests answered at a time
    #[arg(long, env = "ESPALIER_MAX_CONCURRENCY", default_value_t = 128)]
    pub max_concurrency: usize,
    /// Requests that may wait; more are refused with 503
    #[arg(long, env = "ESPALIER_MAX_QUEUE", default_value_t = 256)]
    pub max_queue: usize,
    /// After SIGTERM, time to keep serving while load balancers take this server out, in ms
    #[arg(long, env = "ESPALIER_DRAIN_DELAY_MS", default_value_t = 3000)]
    pub drain_delay_ms: u64,
    /// Time after start during which the server is not ready, in ms
    #[arg(long, env = "ESPALIER_STARTUP_DELAY_MS", default_value_t = 0)]
    pub startup_delay_ms: u64,
    /// True labels are joined with predictions no older than this, in s
    #[arg(long, env = "ESPALIER_FEEDBACK_WINDOW_S", default_value_t = 900)]
    pub feedback_window_s: u64,
    /// Predictions remembered at most
    #[arg(long, env = "ESPALIER_FEEDBACK_CAPACITY", default_value_t = 65_536)]
    pub feedback_capacity: usize,
    /// Where answers and true labels are reported for comparison, such as <http://comparer:8082/reports>; nowhere when absent
    #[arg(long, env = "ESPALIER_COMPARER")]
    pub comparer: Option<String>,
    /// Draw of the simulated GPU without work, in W
    #[arg(long, env = "ESPALIER_IDLE_WATTS", default_value_t = 11.0)]
    pub idle_watts: f64,
    /// Simulated energy of one multiply-accumulate, in J
    #[arg(long, env = "ESPALIER_JOULES_PER_MAC", default_value_t = 5e-7)]
    pub joules_per_mac: f64,
    /// Seed of all chance
    #[arg(long, env = "ESPALIER_SEED", default_value_t = 1)]
    pub seed: u64,
    /// Faults in force from the start
    #[command(flatten)]
    pub faults: FaultPatch,
    /// Name of this pod
    #[arg(long, env = "POD_NAME", default_value = "")]
    pub pod: String,
    /// Namespace of this pod
    #[arg(long, env = "POD_NAMESPACE", default_value = "")]
    pub namespace: String,
    /// Address of this pod, for the x-served-by header
    #[arg(long, env = "POD_IP")]
    pub pod_ip: Option<IpAddr>,
    /// Name of this node
    #[arg(long, env = "NODE_NAME", default_value = "")]
    pub node: String,
    /// Name of this container
    #[arg(long, env = "ESPALIER_CONTAINER", default_value = "server")]
    pub container: String,
}
