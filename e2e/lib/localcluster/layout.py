"""Where everything of one cluster lies: folders, addresses and names, all derived from its name and number.

Creates nothing; only `claim_number` writes, so that two clusters never share an address range.
"""

import fcntl
import json
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from .errors import ClusterError

DEFAULT_NAME = "espalier"
# Sixteen /20 ranges fit the pod and service networks; the number also is the third octet of the node's address.
MOST_CLUSTERS = 16


def state_root() -> Path:
    """The folder that holds one folder per cluster."""
    return Path(os.environ.get("ESPALIER_STATE") or "/var/lib/espalier-e2e")


@dataclass(frozen=True)
class Cluster:
    """One cluster by name and number. Ports are the same in every cluster, because each has a network of its own."""

    name: str
    number: int

    @property
    def root(self) -> Path:
        """State of this cluster; `down` removes it whole."""
        return state_root() / self.name

    @property
    def namespace(self) -> str:
        """Network namespace."""
        return f"e2e-{self.name}"

    @property
    def veth_outside(self) -> str:
        """The machine's end of the cable; interface names are limited to 15 characters, so the number stands for the name."""
        return f"e2e{self.number}"

    @property
    def gateway_ip(self) -> str:
        """The machine as the cluster sees it."""
        return f"10.250.{self.number}.1"

    @property
    def node_ip(self) -> str:
        """The node, and with it API server, gateway and Prometheus."""
        return f"10.250.{self.number}.2"

    @property
    def node_name(self) -> str:
        """Name of the only node."""
        return "node1"

    @property
    def pod_range(self) -> str:
        """Addresses of pods: 4,094 of them."""
        return f"10.244.{16 * self.number}.0/20"

    @property
    def service_range(self) -> str:
        """Addresses of Services."""
        return f"10.96.{16 * self.number}.0/20"

    @property
    def api_service_ip(self) -> str:
        """ClusterIP of `kubernetes.default`, by definition the first of the range."""
        return f"10.96.{16 * self.number}.1"

    @property
    def dns_ip(self) -> str:
        """ClusterIP of the cluster's DNS."""
        return f"10.96.{16 * self.number}.53"

    @property
    def cgroup(self) -> str:
        """Cgroup below which the kubelet puts every pod."""
        return f"/espalier-e2e-{self.name}"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd listens; `ctr -a` takes it."""
        return self.root / "containerd" / "containerd.sock"

    @property
    def mount_namespace(self) -> Path:
        """The mount namespace that containerd and the kubelet share, pinned so that it survives either of them."""
        return self.root / "namespaces" / "mnt"

    @property
    def kubeconfig(self) -> Path:
        """Administrator's credentials, usable from inside and outside the network namespace."""
        return self.root / "admin.kubeconfig"

    @property
    def gateway_url(self) -> str:
        """Envoy's HTTP listener."""
        return f"http://{self.node_ip}:8080"

    @property
    def prometheus_url(self) -> str:
        """Prometheus from pods, from the namespace and from the machine."""
        return f"http://{self.node_ip}:9090"

    def options(self) -> dict[str, str]:
        """What `up` was told, so that later commands agree with it."""
        file = self.root / "options.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def remember(self, options: dict[str, str]) -> None:
        """Writes what `up` was told."""
        (self.root / "options.json").write_text(json.dumps(options, sort_keys=True), encoding="utf-8")


def check_name(name: str) -> str:
    """A name ends up in paths, interface and cgroup names."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
        raise ClusterError(f"`{name}` cannot be a cluster's name: use 1 to 31 lower-case letters, digits and hyphens, a letter first")
    return name


def existing(name: str) -> Cluster | None:
    """The cluster of that name if `up` ever claimed a number for it."""
    file = state_root() / check_name(name) / "number"
    try:
        return Cluster(name, int(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None


def all_clusters() -> list[Cluster]:
    """Every cluster that has state on this machine."""
    names = sorted(entry.name for entry in state_root().glob("*") if entry.is_dir())
    return [cluster for cluster in map(existing, names) if cluster]


def required(name: str) -> Cluster:
    """The cluster of that name, or a sentence that says how to make it."""
    cluster = existing(name)
    if cluster is None:
        raise ClusterError(f"there is no cluster `{name}` under {state_root()}; `e2e/cluster up --name {name}` makes one")
    return cluster


def claim_number(name: str) -> Cluster:
    """Gives a new cluster the lowest free number (the default one always 0), under a lock shared by all commands."""
    check_name(name)
    if state_root().resolve().is_relative_to(Path(__file__).resolve().parents[3]):
        raise ClusterError(f"ESPALIER_STATE={state_root()} lies inside the source tree; choose a folder outside of it")
    with locked(state_root()):
        found = existing(name)
        if found:
            return found
        taken = {cluster.number for cluster in all_clusters()} | ({0} if name != DEFAULT_NAME else set())
        free = [number for number in range(MOST_CLUSTERS) if number not in taken]
        if not free:
            raise ClusterError(f"{MOST_CLUSTERS} clusters exist already; end one with `e2e/cluster down --name NAME`")
        cluster = Cluster(name, free[0])
        cluster.root.mkdir(parents=True, exist_ok=True)
        (cluster.root / "number").write_text(str(cluster.number), encoding="utf-8")
        return cluster


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a lock on a folder, which is made if missing. A folder that was removed while we waited is made and locked anew."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if same_folder(descriptor, folder):
                yield
                return
        finally:
            os.close(descriptor)


def same_folder(descriptor: int, folder: Path) -> bool:
    """Whether an open folder is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False
