//! Why pods are not ready, and what tripped without statistics, in the cluster's own words.
//! Pure functions on pods; the most telling cause of the most troubled pod wins, always the same one for the same pods.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodCondition};
use rollout_core::observed::Cause;

/// A container that has failed this often and is not ready is in a crash loop, even while it happens to run.
const CRASH_LOOP_RESTARTS: i32 = 3;
/// Longest words taken over from the cluster: they end up in a status that must stay small.
const LONGEST: usize = 300;

/// Waiting reasons of the kubelet by how much they tell, worst first.
const WAITING: [&str; 14] = [
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "ErrImagePull",
    "ImageInspectError",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
    "PreCreateHookError",
    "PreStartHookError",
    "PostStartHookError",
    "KillContainerError",
];

/// The best explanation why not all of `pods` are ready; `None` when nothing stands out.
pub(super) fn unready<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Option<Cause> {
    let troubled = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && !is_ready(pod));
    let causes = troubled.map(|pod| (explain(pod), name(pod)));
    causes.min_by(|(a, one), (b, other)| (a.0, one).cmp(&(b.0, other))).map(|((_, cause), _)| cause)
}

/// What tripped, and when for the latest of all, where the cluster says it.
pub type Tripped = (Option<Cause>, Option<DateTime<Utc>>);

/// What must never happen to a candidate: a container killed for memory, or one that crashes again and again. The latest, and when it was.
pub(super) fn tripped<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Tripped {
    let mut found = Vec::new();
    for pod in pods {
        for status in statuses(pod) {
            let container = format!("pod {}, container {}", name(pod), status.name);
            if let Some(end) = ends(status).find(|end| end.reason.as_deref() == Some("OOMKilled")) {
                let message = format!("{container} was killed for memory (exit code {}, {} restarts)", end.exit_code, status.restart_count);
                let at = end.finished_at.as_ref().and_then(|time| DateTime::from_timestamp_millis(time.0.as_millisecond()));
                found.push((at.map(Reverse), 0, name(pod), cause("OOMKilled", message)));
            } else if crash_loop(status) {
                found.push((None, 1, name(pod), cause("CrashLoop", format!("{container} crashes again and again: {}", crash(status)))));
            }
        }
    }
    // What has no time goes on now: nothing is later.
    let latest = found.into_iter().min_by_key(|(at, rank, pod, _)| (*at, *rank, *pod));
    latest.map_or((None, None), |(at, _, _, cause)| (Some(cause), at.map(|at| at.0)))
}

/// The cause for one pod and its rank, 0 the most telling: a container that says what is wrong (0 to 19), then the pod, then mere waiting.
fn explain(pod: &Pod) -> (usize, Cause) {
    let containers = statuses(pod).filter_map(|status| container(pod, status));
    let worst = containers.min_by(|a, b| (a.0, &a.1.message).cmp(&(b.0, &b.1.message)));
    let pods = || evicted(pod).map(|cause| (20, cause)).or_else(|| unscheduled(pod).map(|cause| (21, cause)));
    worst.or_else(pods).unwrap_or_else(|| waiting(pod))
}

fn container(pod: &Pod, status: &ContainerStatus) -> Option<(usize, Cause)> {
    let who = format!("pod {}, container {}", name(pod), status.name);
    if !status.ready && ends(status).any(|end| end.reason.as_deref() == Some("OOMKilled")) {
        let limit = memory_limit(pod, &status.name)
            .map_or_else(|| "no memory limit of its own".to_owned(), |limit| format!("its limit is {limit}"));
        return Some((0, cause("OOMKilled", format!("{who} was killed for memory; {limit}"))));
    }
    if let Some(state) = status.state.as_ref().and_then(|state| state.waiting.as_ref()) {
        let reason = state.reason.as_deref().unwrap_or_default();
        let place = WAITING.iter().position(|known| *known == reason)?;
        let words = match reason {
            "CrashLoopBackOff" => crash(status),
            _ => state.message.as_deref().unwrap_or("no message").to_owned(),
        };
        let image = if place < 6 { format!(" (image {})", status.image) } else { String::new() };
        return Some((place + 1, cause(reason, format!("{who}{image}: {words}"))));
    }
    let end = status.state.as_ref().and_then(|state| state.terminated.as_ref()).filter(|end| end.exit_code != 0)?;
    Some((16, cause("ContainerFailed", format!("{who} ended: {}", ending(end)))))
}

/// Scheduling, from the pod's own condition: the scheduler's words name the missing resource.
fn unscheduled(pod: &Pod) -> Option<Cause> {
    let condition = condition(pod, "PodScheduled").filter(|condition| condition.status == "False")?;
    let words = condition.message.as_deref().unwrap_or("no node fits");
    let reason = condition.reason.as_deref().unwrap_or("Unschedulable");
    Some(cause(reason, format!("pod {} cannot be scheduled: {words}", name(pod))))
}

fn evicted(pod: &Pod) -> Option<Cause> {
    let status = pod.status.as_ref()?;
    let reason = status.reason.as_deref().filter(|_| status.phase.as_deref() == Some("Failed"))?;
    Some(cause(reason, format!("pod {} failed: {}", name(pod), status.message.as_deref().unwrap_or("no message"))))
}

/// Nothing is broken yet: running without being ready, or still being made.
fn waiting(pod: &Pod) -> (usize, Cause) {
    let late = statuses(pod).find(|status| !status.ready && status.state.as_ref().is_some_and(|state| state.running.is_some()));
    if let Some(status) = late {
        let probe = if status.started == Some(false) { "startup probe" } else { "readiness probe" };
        let message = format!("pod {}, container {}, runs but its {probe} has not succeeded", name(pod), status.name);
        return (22, cause("NotReady", message));
    }
    let gate = condition(pod, "Ready").filter(|ready| ready.reason.as_deref() == Some("ReadinessGatesNotReady"));
    if let Some(message) = gate.and_then(|ready| ready.message.as_deref()) {
        return (23, cause("ReadinessGatesNotReady", format!("pod {}: {message}", name(pod))));
    }
    let making = statuses(pod).filter_map(|status| status.state.as_ref()?.waiting.as_ref()).find_map(|state| state.reason.as_deref());
    (24, cause(making.unwrap_or("Pending"), format!("pod {} is being started", name(pod))))
}

fn crash_loop(status: &ContainerStatus) -> bool {
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref()).and_then(|state| state.reason.as_deref());
    let failed = ends(status).any(|end| end.exit_code != 0);
    waiting == Some("CrashLoopBackOff") || (!status.ready && failed && status.restart_count >= CRASH_LOOP_RESTARTS)
}

fn crash(status: &ContainerStatus) -> String {
    let last = ends(status).next().map_or_else(|| "no exit code known".to_owned(), ending);
    format!("{last} ({} restarts)", status.restart_count)
}

fn ending(end: &ContainerStateTerminated) -> String {
    let reason = end.reason.as_deref().unwrap_or("Error");
    match end.message.as_deref().map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("exit code {}, {reason}: {message}", end.exit_code),
        None => format!("exit code {}, {reason}", end.exit_code),
    }
}

/// How a container ended now, or the last time.
fn ends(status: &ContainerStatus) -> impl Iterator<Item = &ContainerStateTerminated> {
    let states = [status.state.as_ref(), status.last_state.as_ref()];
    states.into_iter().flatten().filter_map(|state| state.terminated.as_ref())
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let main = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    init.iter().filter(|one| !one.ready).chain(main)
}

fn memory_limit<'a>(pod: &'a Pod, container: &str) -> Option<&'a str> {
    let one = pod.spec.as_ref()?.containers.iter().find(|one| one.name == container)?;
    Some(one.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.as_str())
}

fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|one| one.type_ == kind)
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn cause(reason: &str, message: String) -> Cause {
    let message = match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
        None => message,
    };
    Cause { reason: reason.to_owned(), message }
}
