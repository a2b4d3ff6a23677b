//! A SIMULATED GPU: turns the work that was really done into watts, energy and memory, under the names of NVIDIA's DCGM exporter.
//! No GPU is read and nothing here was measured on one; only the dependence on work, model size and faults is meant to be real.

use std::time::Instant;

use crate::exposition::{Kind, Page};

/// Board limit: the simulated card draws no more than this for computing, before the power fault.
const LIMIT_WATTS: f64 = 70.0;
/// The power gauge follows the draw with this time constant, as a board's own sensor does.
const SMOOTHING_SECONDS: f64 = 2.0;
/// Relative noise of the power gauge, plus or minus.
const NOISE: f64 = 0.01;

/// How the simulated card turns work into energy.
#[derive(Clone, Copy, Debug)]
pub struct GpuConfig {
    /// Draw without work, in W.
    pub idle_watts: f64,
    /// Energy of one float32 multiply-accumulate, everything included, in J.
    pub joules_per_mac: f64,
    /// Multiply-accumulates for one row.
    pub work_per_row: f64,
    /// Size of the model file; one KiB of it counts as one MiB of the card's memory.
    pub model_bytes: usize,
}

/// The simulated card.
pub struct Gpu {
    config: GpuConfig,
    watts: f64,
    energy_mj: f64,
    busy: f64,
    rows: u64,
    at: Instant,
}

impl Gpu {
    /// A card that idles since `now`.
    pub fn new(config: GpuConfig, power_factor: f64, now: Instant) -> Self {
        Self { config, watts: config.idle_watts * power_factor, energy_mj: 0.0, busy: 0.0, rows: 0, at: now }
    }

    /// Accounts for the time since the last tick: `rows` answered so far, the power fault in force, and a number in [0, 1) for the noise.
    pub fn tick(&mut self, now: Instant, rows: u64, power_factor: f64, dice: f64) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let joules = rows.saturating_sub(self.rows) as f64 * self.config.work_per_row * self.config.joules_per_mac;
        let room = LIMIT_WATTS - self.config.idle_watts;
        let computing = (joules / seconds).min(room);
        let draw = power_factor * (self.config.idle_watts + computing) * (1.0 + NOISE * (2.0 * dice - 1.0));
        let weight = 1.0 - (-seconds / SMOOTHING_SECONDS).exp();
        self.watts += (draw - self.watts) * weight;
        self.busy += (computing / room - self.busy) * weight;
        self.energy_mj += draw * seconds * 1000.0;
        self.rows = rows;
        self.at = now;
    }

    /// Appends the families of a DCGM exporter to a page; `workload` are the labels that name the pod.
    pub fn render(&self, page: &mut Page, workload: &[(&str, &str)], xid: u64) {
        let uuid = workload.iter().find(|(label, _)| *label == "pod").map_or("", |(_, pod)| pod);
        let uuid = format!("GPU-SIMULATED-{uuid}");
        let mut labels = vec![("gpu", "0"), ("UUID", uuid.as_str()), ("device", "simulated0"), ("modelName", "Simulated GPU")];
        labels.extend_from_slice(workload);
        let memory = (self.config.model_bytes as f64 / 1024.0).ceil();
        for (name, kind, help, value) in [
            ("DCGM_FI_DEV_POWER_USAGE", Kind::Gauge, "Power draw (in W). SIMULATED from the work done.", self.watts),
            (
                "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
                Kind::Counter,
                "Total energy since start (in mJ). SIMULATED from the work done.",
                self.energy_mj.floor(),
            ),
            ("DCGM_FI_DEV_FB_USED", Kind::Gauge, "Framebuffer used (in MiB). SIMULATED: one per KiB of the model file.", memory),
            ("DCGM_FI_DEV_GPU_UTIL", Kind::Gauge, "GPU utilization (in %). SIMULATED from the work done.", (100.0 * self.busy).round()),
            ("DCGM_FI_DEV_XID_ERRORS", Kind::Gauge, "Last XID error code, 0 for none. SIMULATED.", xid as f64),
        ] {
            page.family(name, kind, help);
            page.sample(name, &labels, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn run(factor: f64, rows_per_second: u64, model_bytes: usize) -> Gpu {
        let start = Instant::now();
        let config = GpuConfig { idle_watts: 11.0, joules_per_mac: 5e-7, work_per_row: 84_480.0, model_bytes };
        let mut gpu = Gpu::new(config, 1.0, start);
        for second in 1..=60 {
            gpu.tick(start + Duration::from_secs(second), second * rows_per_second, factor, 0.5);
        }
        gpu
    }

    #[test]
    fn watts_follow_work_and_the_power_fault() {
        for (factor, rate, expected) in [(1.0, 0, 11.0), (1.0, 100, 15.2), (5.0, 0, 55.0), (1.0, 100_000, 70.0)] {
            let gpu = run(factor, rate, 1);
            assert!((gpu.watts - expected).abs() < 0.1, "factor {factor}, {rate}/s: {} W, expected {expected}", gpu.watts);
            let joules = gpu.energy_mj / 1000.0;
            assert!((joules - 60.0 * expected).abs() < 5.0, "factor {factor}, {rate}/s: {joules} J");
        }
    }

    #[test]
    fn every_family_says_that_it_is_simulated_and_whose_it_is() {
        let mut page = Page::default();
        run(1.0, 0, 104_826).render(&mut page, &[("Hostname", "n"), ("container", "server"), ("namespace", "ml"), ("pod", "p-1")], 79);
        let text = page.finish();
        assert_eq!(text.matches("SIMULATED").count(), 10, "{text}");
        let memory = "DCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"GPU-SIMULATED-p-1\",device=\"simulated0\",modelName=\"Simulated GPU\",\
                      Hostname=\"n\",container=\"server\",namespace=\"ml\",pod=\"p-1\"} 103";
        assert!(text.lines().any(|line| line == memory), "{text}");
        assert!(text.lines().any(|line| line.starts_with("DCGM_FI_DEV_XID_ERRORS{") && line.ends_with(" 79")), "{text}");
    }
}
