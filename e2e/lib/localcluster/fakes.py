"""Fake nodes for tests of scale: pods on them become Ready without running anything (kwok).

They serve no traffic and no metrics. Only pods that ask for them land there, so real workloads stay on the real node.
"""

import json
from typing import Any

from . import checks, components, lifecycle, tools
from .layout import Cluster

LABEL = "espalier.dev/fake-node"


def up(cluster: Cluster, count: int) -> None:
    """Makes fake nodes 0 to count-1, starts what plays their kubelet, and waits until they are Ready."""
    tools.ensure(["kwok"])
    components.component(cluster, "kwok").start()
    file = cluster.root / "fake-nodes.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [node(number) for number in range(count)]}), encoding="utf-8")
    lifecycle.kubectl_apply(cluster, [str(file)])
    names = [str(node(number)["metadata"]["name"]) for number in range(count)]
    lifecycle.wait(cluster, "the fake nodes", lambda cluster: all_ready(cluster, names), 60)


def all_ready(cluster: Cluster, names: list[str]) -> bool:
    """Asked one by one: there are few of them."""
    return all(checks.condition(cluster, f"/api/v1/nodes/{name}", "Ready") for name in names)


def node(number: int) -> dict[str, Any]:
    """A big node, tainted, so that it takes only pods with the toleration."""
    room = {"cpu": "512", "memory": "4Ti", "pods": "2000"}
    name = f"fake{number}"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {LABEL: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
        },
        "spec": {"taints": [{"key": LABEL, "value": "true", "effect": "NoSchedule"}]},
        "status": {"allocatable": room, "capacity": room},
    }
