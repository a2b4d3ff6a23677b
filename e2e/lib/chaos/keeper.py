"""Brings back what died, as a machine's service manager would for the parts and the kubelet for the operator. Kubernetes keeps the pods.

Decides nothing about faults; who takes a part away tells the keeper to leave it so.
"""

import threading
import time

from localcluster import checks, components
from localcluster.errors import ClusterError
from localcluster.layout import Cluster

from .clock import Clocked

# Seconds from a death to the next start.
RESTART = 1.0
PARTS = ("etcd", "apiserver", "controller-manager", "scheduler", "kubelet", "kube-proxy", "contour", "envoy", "prometheus")


class Keeper:
    """Looks twice a second until it is stopped."""

    def __init__(self, cluster: Cluster, operator: Clocked) -> None:
        self.cluster, self.operator = cluster, operator
        self.away: set[str] = set()
        self.restarts: dict[str, int] = {}
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.keep, name="keeper", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self.thread.start()

    def stop(self) -> None:
        """Ends; nothing is started any more when this returns."""
        self.stopped.set()
        self.thread.join(10)

    def keep(self) -> None:
        """Starts what has been dead for a while."""
        dead_since: dict[str, float] = {}
        while not self.stopped.wait(0.5):
            now = time.monotonic()
            dead = {name for name in PARTS if name not in self.away and components.component(self.cluster, name).process() is None}
            living = {replica.name for replica in self.operator.replicas()}
            dead |= {f"process-{number}" for number in range(self.operator.count) if f"process-{number}" not in living}
            dead_since = {name: dead_since.get(name, now) for name in dead}
            for name, since in dead_since.items():
                if now - since >= RESTART and name not in self.away:
                    self.revive(name)

    def revive(self, name: str) -> None:
        """One start; the next round tries again if it fails."""
        self.restarts[name] = self.restarts.get(name, 0) + 1
        try:
            if name.startswith("process-"):
                self.operator.start_one(int(name.rpartition("-")[2]))
            else:
                components.component(self.cluster, name).start()
        except (ClusterError, OSError):
            return

    def wait_back(self, name: str, seconds: float) -> bool:
        """Until a part does its work again; False when the time is over."""
        try:
            checks.wait(name, lambda: bool(components.component(self.cluster, name).process()) and answers(self.cluster, name), seconds)
        except ClusterError:
            return False
        return True


def answers(cluster: Cluster, name: str) -> bool:
    """Whether a part does its work. etcd is only seen through the API server."""
    known = {
        "etcd": checks.api_ready,
        "apiserver": checks.api_ready,
        "prometheus": checks.prometheus_ready,
        "envoy": checks.envoy_ready,
        "kubelet": checks.node_ready,
    }
    check = known.get(name)
    return check(cluster) if check else checks.port_open(cluster, components.PORTS[name])
