"""Reads counters: writes as the operator counts them and as the API server does, the operator's memory, and the load of the machine.

Differences are taken by the caller.
"""

import os
import re
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

from story.api import Api

WRITES = ("POST", "PUT", "PATCH", "DELETE", "APPLY")
SAMPLE = re.compile(r"^(?P<name>\w+)\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# What nobody but the operator writes while the benchmark only looks on.
OWN = ("modelrollouts", "modelrollouts/status", "modelrollouts/finalizers", "httproutes", "services", "controllerrevisions")


def samples(text: str, name: str) -> list[tuple[dict[str, str], float]]:
    """Labels and values of one metric."""
    return [(dict(LABEL.findall(found["labels"])), float(found["value"])) for found in SAMPLE.finditer(text) if found["name"] == name]


def operator_writes(metrics: str) -> Counter[str]:
    """`espalier_api_writes_total` as "verb object" or, for failures, "verb object outcome"."""
    counted: Counter[str] = Counter()
    for labels, value in samples(fetch(metrics), "espalier_api_writes_total"):
        failed = "" if labels["outcome"] == "ok" else f" {labels['outcome']}"
        counted[f"{labels['verb']} {labels['object']}{failed}"] += int(value)
    return counted


def operator_value(metrics: str, name: str) -> float:
    """Sum over a metric of the operator with labels."""
    return sum(value for _, value in samples(fetch(metrics), name))


def fetch(address: str) -> str:
    """A page of text."""
    with urlopen(address, timeout=10) as answer:
        return str(answer.read().decode())


def server_writes(api: Api) -> Counter[str]:
    """`apiserver_request_total` of writing verbs to what only the operator writes, by resource."""
    connection = api.connect()
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    counted: Counter[str] = Counter()
    for labels, value in samples(text, "apiserver_request_total"):
        subresource = labels.get("subresource", "")
        resource = labels.get("resource", "") + (f"/{subresource}" if subresource else "")
        if labels.get("verb") in WRITES and resource in OWN and not labels.get("dry_run"):
            counted[resource] += int(value)
    return counted


def resident(pid: int) -> int:
    """Resident memory in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(pid: int) -> float:
    """Processor time used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load() -> float:
    """Load average of the last minute."""
    return os.getloadavg()[0]


def quantile(values: list[float], share: float) -> float:
    """Nearest rank: the smallest value that at least this share of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]
