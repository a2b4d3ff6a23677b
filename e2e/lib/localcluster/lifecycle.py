"""Brings a cluster up step by step, tears it down without a trace, and stops or pauses single components.

What a component is lies in components.py, how readiness is asked in checks.py.
"""

import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Callable, Iterator

from . import cgroups, checks, components, images, layout, mounts, network, pki, processes, tools
from .errors import ClusterError
from .layout import Cluster

Say = Callable[[str], None]


@contextmanager
def phase(say: Say, name: str) -> Iterator[None]:
    """Prints how long a step took."""
    began = time.monotonic()
    yield
    say(f"  {name:<42}{time.monotonic() - began:6.1f} s")


def up(name: str, scrape_interval: str | None, say: Say) -> Cluster:
    """Makes the cluster, or completes what is missing of it. Returns when everything answers."""
    began = time.monotonic()
    tools.ensure_debian_packages(say)
    tools.ensure(say=say)
    cluster = layout.claim_number(name)
    with layout.locked(cluster.root):
        say(f"cluster `{name}` at {cluster.node_ip}")
        with phase(say, "network, mounts, certificates"):
            forget_dead(cluster)
            cluster.remember({"scrape_interval": scrape_interval or cluster.options().get("scrape_interval", "1s")})
            network.up(cluster)
            mounts.up(cluster)
            cgroups.up(cluster)
            pki.up(cluster)
            components.write_configuration(cluster)
        with ThreadPoolExecutor(4) as pool:
            start(cluster, "etcd", "apiserver", "containerd")
            loading = pool.submit(load_images, cluster)
            with phase(say, "etcd and API server"):
                wait(cluster, "the API server", checks.api_ready, 60)
            start(cluster, "controller-manager", "scheduler", "kubelet", "kube-proxy", "prometheus")
            with phase(say, "custom resources, addons, images"):
                apply_manifests(cluster)
                loading.result()
            start(cluster, "contour", "envoy")
            with phase(say, "node, DNS, gateway, Prometheus"):
                wait_ready(cluster, pool)
    say(f"cluster `{name}` is ready after {time.monotonic() - began:.1f} s")
    return cluster


def start(cluster: Cluster, *names: str) -> None:
    """Starts components that do not run."""
    for name in names:
        components.component(cluster, name).start()


def forget_dead(cluster: Cluster) -> None:
    """A crash of last time must not look like one of now."""
    for component in components.all_of(cluster):
        if component.process() is None:
            component.pid_file.unlink(missing_ok=True)


def load_images(cluster: Cluster) -> None:
    """containerd answers within a second; then its images."""
    wait(cluster, "containerd", lambda cluster: cluster.containerd_socket.exists() and containerd_answers(cluster), 30)
    images.load_system(cluster)


def containerd_answers(cluster: Cluster) -> bool:
    """The socket appears before anybody accepts on it."""
    command = ["ctr", "-a", str(cluster.containerd_socket), "version"]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def apply_manifests(cluster: Cluster) -> None:
    """Custom resources first, because objects of their kinds cannot be sent before they are established."""
    crds = sorted(file for name in ("gateway-api", "contour") for file in (tools.folder(name) / "manifests").glob("*.yaml"))
    addons = cluster.root / "addons.yaml"
    addons.write_text(components.render(cluster, "addons.yaml"), encoding="utf-8")
    gateway = cluster.root / "gateway.yaml"
    gateway.write_text(components.render(cluster, "gateway.yaml"), encoding="utf-8")
    kubectl_apply(cluster, [*map(str, crds), str(addons)])
    wait(cluster, "the Gateway API's custom resources", checks.crds_established, 30)
    kubectl_apply(cluster, [str(gateway)])


def kubectl_apply(cluster: Cluster, files: list[str]) -> None:
    """Server-side, because the Gateway API's schemas do not fit an annotation."""
    command = [str(tools.program("kubectl")), "--kubeconfig", str(cluster.kubeconfig), "apply", "--server-side", "--force-conflicts"]
    for file in files:
        command += ["-f", file]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        raise ClusterError(f"applying manifests failed: {result.stdout.strip()[-2000:]}")


def wait_ready(cluster: Cluster, pool: ThreadPoolExecutor) -> None:
    """Everything that users of a cluster rely on, waited for side by side."""
    awaited = (
        ("the node", checks.node_ready),
        ("cluster DNS", checks.dns_answers),
        ("the Gateway", checks.gateway_programmed),
        ("Envoy", checks.envoy_ready),
        ("Prometheus", checks.prometheus_ready),
    )
    futures = [pool.submit(wait, cluster, what, check, 120) for what, check in awaited]
    for future in futures:
        future.result()


def wait(cluster: Cluster, what: str, check: Callable[[Cluster], bool], seconds: float) -> None:
    """Waits for one thing, and gives up at once when a started component has died."""
    checks.wait(what, lambda: check(cluster), seconds, alive=lambda: dead_component(cluster))


def dead_component(cluster: Cluster) -> str | None:
    """A component that was started and is gone, with the end of its log."""
    for component in components.all_of(cluster):
        if component.pid_file.exists() and component.process() is None:
            lines = component.log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
            return "\n".join([f"{component.name} (log {component.log}):", *lines, "it"])
    return None


def down(name: str, say: Say) -> None:
    """Ends every process of the cluster and removes all that `up` made. Works on what a failed `up` left, too."""
    cluster = layout.existing(name)
    if cluster is None:
        say(f"there is no cluster `{name}`; nothing to remove")
    else:
        with layout.locked(cluster.root):
            for line in remove(cluster):
                say(f"removed {line}")
    with layout.locked(layout.state_root()):
        if not layout.all_clusters():
            for folder in mounts.forget_made():
                say(f"removed {folder}")
            # Whatever else lies here was not made by this program and stays.
            if not any(layout.state_root().iterdir()):
                layout.state_root().rmdir()


def remove(cluster: Cluster) -> list[str]:
    """Processes first, then what they held: cgroups, mounts, network, files."""
    removed = []
    running = [component for component in components.all_of(cluster) if component.process()]
    processes.kill_all([process for component in running if (process := component.process())])
    if running:
        removed.append(f"processes {', '.join(component.name for component in running)}")
    removed += cgroups.down(cluster)
    removed += mounts.down(cluster)
    removed += network.down(cluster)
    shutil.rmtree(cluster.root)
    removed.append(f"state {cluster.root}")
    return removed


def stop_component(cluster: Cluster, name: str) -> None:
    """SIGTERM, SIGKILL after ten seconds; forgets the pid, so that nobody takes it for a crash."""
    component = components.component(cluster, name)
    process = component.process()
    if process is None:
        raise ClusterError(f"{name} of `{cluster.name}` does not run")
    processes.stop_all([process], grace=10)
    component.pid_file.unlink(missing_ok=True)


def start_component(cluster: Cluster, name: str) -> None:
    """Starts it with the flags `up` uses, and returns when it answers."""
    component = components.component(cluster, name)
    component.start()
    readiness = {
        "apiserver": checks.api_ready,
        "kubelet": checks.node_ready,
        "envoy": checks.envoy_ready,
        "prometheus": checks.prometheus_ready,
        "containerd": containerd_answers,
    }.get(name)
    if readiness:
        wait(cluster, name, readiness, 60)


def pause_component(cluster: Cluster, name: str, paused: bool) -> None:
    """SIGSTOP or SIGCONT: the process keeps its connections and answers nothing."""
    process = components.component(cluster, name).process()
    if process is None:
        raise ClusterError(f"{name} of `{cluster.name}` does not run")
    process.signal(signal.SIGSTOP if paused else signal.SIGCONT)
    checks.wait(f"{name} to be {'paused' if paused else 'resumed'}", lambda: process.stopped() == paused, 5)


def status(cluster: Cluster, say: Say) -> bool:
    """One line per component; True when all are up."""
    every_one = True
    for component in components.all_of(cluster):
        process = component.process()
        state = "down" if process is None else "paused" if process.stopped() else "up"
        every_one &= state == "up"
        port = components.PORTS.get(component.name)
        where = f":{port}" if port else str(cluster.containerd_socket)
        say(f"{component.name:<20}{state:<8}{process.pid if process else '-':<9}{where}")
    return every_one
