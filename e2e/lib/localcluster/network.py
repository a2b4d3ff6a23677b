"""The network of one cluster: a namespace, a cable into it, and routes to its pods and Services.

Changes nothing else about the machine's network: no forwarding, no firewall rule, no address translation.
"""

import subprocess
from pathlib import Path

from . import mounts
from .errors import ClusterError
from .layout import Cluster


def enter(cluster: Cluster, with_mounts: bool = False) -> list[str]:
    """Command prefix that runs a program inside. `ip netns exec` would hide /sys/fs/cgroup, nsenter does not."""
    prefix = ["nsenter", f"--net=/run/netns/{cluster.namespace}"]
    return [*prefix, f"--mount={cluster.mount_namespace}"] if with_mounts else prefix


def exists(cluster: Cluster) -> bool:
    """Whether the namespace is there."""
    return Path(f"/run/netns/{cluster.namespace}").exists()


def up(cluster: Cluster) -> None:
    """Makes what is missing of namespace, cable, addresses and routes."""
    if not exists(cluster):
        if not Path("/run/netns").exists():
            mounts.note(Path("/run/netns"))
        ip("netns", "add", cluster.namespace)
    if not Path(f"/sys/class/net/{cluster.veth_outside}").exists():
        refuse_taken_range(cluster)
        ip("link", "add", cluster.veth_outside, "type", "veth", "peer", "name", "eth0", "netns", cluster.namespace)
    ip("addr", "replace", f"{cluster.gateway_ip}/24", "dev", cluster.veth_outside)
    ip("link", "set", cluster.veth_outside, "up")
    inside = f"link set lo up\naddr replace {cluster.node_ip}/24 dev eth0\nlink set eth0 up\nroute replace default via {cluster.gateway_ip}\n"
    run([*enter(cluster), "ip", "-batch", "-"], text=inside)
    # Set here because a Service must work from outside before the first pod makes the bridge plugin set it.
    run([*enter(cluster), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
    for network in (cluster.pod_range, cluster.service_range):
        ip("route", "replace", network, "via", cluster.node_ip)


def refuse_taken_range(cluster: Cluster) -> None:
    """A machine that already routes these ranges elsewhere would lose them."""
    routes = subprocess.check_output(["ip", "-4", "route", "show", "root", "10.0.0.0/8"], text=True)
    for network in (f"10.250.{cluster.number}.0/24", cluster.pod_range, cluster.service_range):
        if any(line.split()[0] == network for line in routes.splitlines()):
            raise ClusterError(f"this machine already routes {network} somewhere else (`ip route`), so cluster `{cluster.name}` cannot use it")


def down(cluster: Cluster) -> list[str]:
    """Removes the cable and the namespace; routes and firewall tables go with them. Says what it removed."""
    removed = []
    if Path(f"/sys/class/net/{cluster.veth_outside}").exists():
        ip("link", "del", cluster.veth_outside)
        removed.append(f"interface {cluster.veth_outside} and its routes")
    if exists(cluster):
        ip("netns", "del", cluster.namespace)
        removed.append(f"network namespace {cluster.namespace}")
    return removed


def ip(*arguments: str) -> None:
    """Runs the ip program."""
    run(["ip", *arguments])


def run(command: list[str], text: str = "") -> None:
    """Runs a network command; its own words are the best explanation when it fails."""
    result = subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed: {result.stdout.strip()}")
