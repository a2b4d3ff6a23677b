//! Energy counters per pod and device: increments since the last instant, and whether a device is a pod's own.
//! A counter seen first is only a baseline, whatever the pod's age: it counts since the driver was loaded, not since the pod began.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::Lens;
use super::super::query::{By, Sought};
use super::super::series::{Role, Series};
use super::super::sift::Scope;
use crate::plan::{Energy, Guardrail};
use crate::verdict::Unmeasurable;

/// Meters remembered; above it, those that are gone are forgotten.
const MOST_METERS: usize = 1_024;

/// Counters of one arm as last seen, by pod and device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Meters {
    #[serde(rename = "m")]
    last: BTreeMap<String, f64>,
    /// Newest sample ever read, in milliseconds.
    #[serde(rename = "n")]
    newest: Option<i64>,
}

/// What the meters moved by.
pub(super) struct Consumed {
    /// In the counter's unit.
    pub amount: f64,
    pub pods: usize,
    pub meters: usize,
}

impl Meters {
    pub(super) fn count(
        &mut self,
        scope: &Scope<'_>,
        sought: &Sought<'_>,
        role: Role,
        device_labels: &[String],
    ) -> Result<Consumed, Unmeasurable> {
        let found = scope.fresh_or_gone(sought, role, self.newest)?;
        let mut now: BTreeMap<String, f64> = BTreeMap::new();
        for (target, series) in &found.targets {
            for one in series.iter().copied() {
                let Some(sample) = one.newest(scope.instant) else { continue };
                let value = found.defined(target, sample.value)?;
                let meter = now.entry(format!("{target} {}", device(one, device_labels))).or_insert(value);
                // Copies of one device's counter, as for its containers: the furthest is the newest.
                *meter = meter.max(value);
            }
        }
        self.newest = self.newest.max(found.newest(scope.instant));
        let amount = now
            .iter()
            .map(|(meter, value)| match self.last.get(meter) {
                Some(before) if value >= before => value - before,
                Some(_) => *value,
                None => 0.0,
            })
            .sum();
        let meters = now.len();
        self.last.extend(now);
        if self.last.len() > MOST_METERS {
            self.last.retain(|meter, _| found.targets.contains_key(meter.split(' ').next().unwrap_or_default()));
        }
        Ok(Consumed { amount, pods: found.targets.len(), meters })
    }
}

/// What tells a device from another: its labels, or everything that the series says where each is a meter of its own.
fn device(series: &Series, labels: &[String]) -> String {
    if labels.is_empty() {
        let own = series.labels.iter().filter(|(label, _)| !label.starts_with("__"));
        return own.map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(",");
    }
    labels.iter().map(|label| series.label(label)).collect::<Vec<_>>().join(",")
}

/// Every device that the arms use must be one pod's alone, whoever the other pod belongs to.
pub(super) fn check_devices(lens: &Lens<'_>, guardrail: &Guardrail, energy: &Energy) -> Result<(), Unmeasurable> {
    let (sought, labels) = (Sought::of(guardrail, &energy.consumption, ""), energy.device_labels.as_slice());
    if labels.is_empty() {
        return Ok(());
    }
    let pod_label = if let By::PodLabel(label) = sought.by { label } else { "pod" };
    let namespace = if pod_label.starts_with("exported_") { "exported_namespace" } else { "namespace" };
    let mut users: BTreeMap<String, BTreeSet<(&str, &str)>> = BTreeMap::new();
    let mut nameless = None;
    let mut own: BTreeSet<String> = BTreeSet::new();
    for role in [Role::Candidate, Role::Stable] {
        lens.scope.each_fresh(&sought, role, |series, belongs| {
            let name = device(series, labels);
            if belongs {
                if labels.first().is_some_and(|first| series.label(first).is_empty()) {
                    nameless = Some(series.label(pod_label));
                }
                own.insert(name.clone());
            }
            users.entry(name).or_default().insert((series.label(namespace), series.label(pod_label)));
        });
    }
    if let Some(pod) = nameless {
        let message = format!(
            "{} of {pod} has no label {} that names its device; name the labels in deviceLabels, or none ([]) where every series is a meter of its \
             pod alone",
            sought.name(),
            labels.first().map_or("", String::as_str)
        );
        return Err(Unmeasurable::NotComparable { message });
    }
    let shared = own.iter().find_map(|device| users.get(device).filter(|pods| pods.len() > 1).map(|pods| (device, pods)));
    match shared {
        Some((device, pods)) => {
            let pod = |index: usize| pods.iter().nth(index).map_or_else(String::new, |(_, pod)| (*pod).to_owned());
            Err(Unmeasurable::SharedDevice { query: sought.name(), device: device.clone(), one: pod(0), other: pod(1) })
        }
        None => Ok(()),
    }
}
