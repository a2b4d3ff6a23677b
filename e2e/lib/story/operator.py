"""The operator under control: as pods installed with the chart, or as processes on the machine; killed, frozen, restarted by pid.

Both forms have the same few verbs. Does not know what the operator should do.
"""

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Protocol

from localcluster import commands, network, processes
from localcluster.layout import Cluster

from . import binaries
from .api import Api
from .waiting import wait_until

NAMESPACE = "espalier-system"
RELEASE = "espalier"
CHART = binaries.ROOT / "charts" / "espalier"


@dataclass(frozen=True)
class Replica:
    """One operator process. `name` is its identity in the lease."""

    name: str
    process: processes.Process

    def kill(self) -> None:
        """SIGKILL: no chance to clean up."""
        self.process.signal(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: alive for the kernel, dead for everybody else."""
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.signal(signal.SIGCONT)


class Operator(Protocol):
    """What both forms can do."""

    def start(self) -> None:
        """Starts it and waits until it is ready."""

    def stop(self) -> None:
        """Ends it as a cluster would: SIGTERM, and waits until it is gone."""

    def replicas(self) -> list[Replica]:
        """The processes that live now."""

    def log_tail(self, lines: int) -> list[str]:
        """The newest lines of all replicas."""


class Processes:
    """The operator as processes inside the cluster's network, with the administrator's rights."""

    def __init__(self, cluster: Cluster, folder: Path, count: int = 1, elect: bool = False) -> None:
        self.cluster, self.folder, self.count, self.elect = cluster, folder, count, elect

    def pid_file(self, number: int) -> Path:
        """Remembers the process across runs of the harness, so that none is ever left behind."""
        return self.folder / f"operator-{number}.pid"

    def log_file(self, number: int) -> Path:
        """Everything it said since the folder was made."""
        return self.folder / f"operator-{number}.log"

    def start(self) -> None:
        """Starts what does not run."""
        apply_crds(self.cluster)
        for number in range(self.count):
            self.start_one(number)
        for number in range(self.count):
            # A replica without the lease is live, but not ready.
            path = "/livez" if self.elect else "/readyz"
            wait_until(f"operator process {number} answers {path}", lambda: answers(f"http://{self.cluster.node_ip}:{18081 + 10 * number}{path}"), 30)

    def start_one(self, number: int) -> None:
        """Starts one replica unless it lives."""
        known = processes.read(self.pid_file(number))
        if known and known.alive():
            return
        environment = commands.variables(self.cluster) | {"POD_NAME": f"process-{number}", "POD_NAMESPACE": NAMESPACE, "HOME": "/tmp", "NO_COLOR": "1"}
        if os.environ.get("ESPALIER_LOG_LEVEL"):
            environment["ESPALIER_LOG_LEVEL"] = os.environ["ESPALIER_LOG_LEVEL"]
        environment |= self.surroundings(number)
        command = [*network.enter(self.cluster), str(self.program()), "run"]
        command += [f"--leader-elect={str(self.elect).lower()}", "--log-format=text"]
        command += [f"--health-addr=0.0.0.0:{18081 + 10 * number}", f"--metrics-addr=0.0.0.0:{18080 + 10 * number}"]
        processes.start("operator", command, self.pid_file(number), self.log_file(number), environment)

    def program(self) -> Path:
        """What is run."""
        return binaries.program("espalier")

    def surroundings(self, _number: int) -> dict[str, str]:
        """More variables for one replica."""
        return {}

    def stop(self) -> None:
        """SIGTERM, SIGKILL after 20 s."""
        living = [replica.process for replica in self.replicas()]
        processes.stop_all(living, grace=20)

    def replicas(self) -> list[Replica]:
        """Those that live."""
        found = [(number, processes.read(self.pid_file(number))) for number in range(self.count)]
        return [Replica(f"process-{number}", process) for number, process in found if process and process.alive()]

    def log_tail(self, lines: int) -> list[str]:
        """Of every replica in turn."""
        tails: list[str] = []
        for number in range(self.count):
            file = self.log_file(number)
            if file.exists():
                tails += file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return tails


class Pods:
    """The operator installed with its Helm chart: real pods, real rights."""

    def __init__(self, cluster: Cluster, api: Api, count: int = 2) -> None:
        self.cluster, self.api, self.count = cluster, api, count

    def start(self) -> None:
        """helm upgrade --install, and waits for every pod."""
        helm(self.cluster, "upgrade", "--install", RELEASE, str(CHART), "--create-namespace", "--force-conflicts", *values(self.count), "--wait", "--timeout", "90s")

    def stop(self) -> None:
        """Scales to zero; the release stays."""
        self.api.patch("deployments", NAMESPACE, RELEASE, {"spec": {"replicas": 0}})
        wait_until("the operator's pods are gone", lambda: self.pod_names() in ([],) or f"pods {self.pod_names()}", 60)

    def pods(self) -> list[dict[str, object]]:
        """Pods of the release."""
        return self.api.list("pods", NAMESPACE, f"app.kubernetes.io/name={RELEASE}")

    def pod_names(self) -> list[str]:
        """Their names."""
        return [str(pod["metadata"]["name"]) for pod in self.pods()]  # type: ignore[index]

    def replicas(self) -> list[Replica]:
        """Pods whose container runs, with the pid that containerd gives."""
        return containers(self.cluster, self.pods())

    def log_tail(self, lines: int) -> list[str]:
        """Of every pod in turn."""
        tails: list[str] = []
        for name in self.pod_names():
            tails.append(f"--- {name}")
            command = ["kubectl", "-n", NAMESPACE, "logs", name, f"--tail={lines}"]
            tails += run(command, commands.variables(self.cluster), check=False).splitlines()
        return tails


def containers(cluster: Cluster, pods: list[dict[str, object]]) -> list[Replica]:
    """The running containers of these pods; one is named after its pod."""
    listed = run(["ctr", "-a", str(cluster.containerd_socket), "-n", "k8s.io", "tasks", "list"], dict(os.environ)).splitlines()
    pids = {words[0]: int(words[1]) for words in map(str.split, listed[1:]) if words[2:3] == ["RUNNING"]}
    found: list[Replica] = []
    for pod in pods:
        status = pod["status"].get("containerStatuses", [])  # type: ignore[attr-defined]
        for container in status:
            pid = pids.get(str(container.get("containerID", "")).removeprefix("containerd://"))
            process = processes.of_pid(pid) if pid else None
            if process:
                found.append(Replica(str(pod["metadata"]["name"]), process))  # type: ignore[index]
    return found


def values(count: int) -> list[str]:
    """Settings of the chart for images that lie in containerd already."""
    image = binaries.OPERATOR_IMAGE.rpartition(":")
    registry, _, repository = image[0].partition("/")
    pairs = {
        "image.registry": registry,
        "image.repository": repository,
        "image.tag": image[2],
        "image.pullPolicy": "Never",
        "replicas": str(count),
        "operator.logFormat": "text",
        "metrics.scrapeAnnotations": "true",
    }
    return [word for key, value in pairs.items() for word in ("--set", f"{key}={value}")]


def helm(cluster: Cluster, *words: str) -> str:
    """Runs Helm for the operator's namespace."""
    environment = commands.variables(cluster) | {"HOME": "/tmp", "NO_COLOR": "1"}
    return run([*network.enter(cluster), "helm", "--namespace", NAMESPACE, *words], environment)


def apply_crds(cluster: Cluster) -> None:
    """The generated CRDs, and waits until they are served."""
    environment = commands.variables(cluster)
    run(["kubectl", "apply", "--server-side", "--force-conflicts", "-f", str(binaries.ROOT / "crds")], environment)
    names = ["crd/modelrollouts.espalier.dev", "crd/evaluationpolicies.espalier.dev"]
    run(["kubectl", "wait", "--for=condition=Established", "--timeout=30s", *names], environment)


def leader(api: Api, name: str = RELEASE) -> str:
    """The holder of the lease; empty when nobody holds it."""
    lease = api.get("leases", NAMESPACE, name)
    return str((lease or {}).get("spec", {}).get("holderIdentity") or "")


def answers(url: str) -> object:
    """True on 200."""
    done = subprocess.run(["curl", "-s", "-o", "/dev/null", "-m", "2", "-w", "%{http_code}", url], stdout=subprocess.PIPE, text=True, check=False)
    return True if done.stdout == "200" else f"{done.stdout} from {url}"


def run(command: list[str], environment: dict[str, str], check: bool = True) -> str:
    """Runs a program; its own words are the best explanation when it fails."""
    # Without a home kubectl would put its cache into the working directory.
    done = subprocess.run(command, env={"HOME": "/tmp"} | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stdout.strip()[-2000:]}")
    return done.stdout


@contextmanager
def instead(standing: Operator, other: Operator) -> Iterator[Operator]:
    """Another operator for a while; the standing one comes back whatever happens."""
    standing.stop()
    try:
        other.start()
        yield other
    finally:
        other.stop()
        time.sleep(0)
        standing.start()


def describe(replicas: list[Replica]) -> str:
    """Names and pids."""
    return json.dumps({replica.name: replica.process.pid for replica in replicas})
