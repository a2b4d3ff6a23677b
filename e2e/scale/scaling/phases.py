"""The measurements. Each returns plain numbers; page.py words them.

The fixed times are the lengths of measurements; everything else is waited for.
"""

import json
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from localcluster import commands
from measuring import counting, objects
from story.api import BROKEN, path, query
from story.waiting import wait_until

from .ground import Ground, settle

Numbers = dict[str, Any]
# Shares of the users that candidates have, in turn: who has most must go first.
SHARES = (40, 5, 20, 10)
READS = ("GET", "LIST", "WATCH")
# Seconds after its first bad scrape by which a candidate is known to be bad: the distance of looks, and the time that one takes.
KNOWN = 0.5
RESOURCES = ("modelrollouts", "evaluationpolicies", "httproutes", "deployments", "services", "endpointslices", "pods", "controllerrevisions", "events")


def shares(names: list[str]) -> dict[str, int]:
    """Which share of the users each candidate gets."""
    return {name: SHARES[number % len(SHARES)] for number, name in enumerate(names)}


def on_trial(ground: Ground, names: list[str], model: str) -> dict[str, Any]:
    """Has a candidate on trial in each of them."""
    ground.offer(names, model, shares(names))
    return ground.wait_trials(names, shares(names), 300 + 2 * len(names))


def serve(ground: Ground, names: list[str]) -> None:
    """Has a first model serve everybody."""
    ground.offer(names, "first", shares(names))
    ground.wait_serving(names, 300 + 2 * len(names))


def watch_on(ground: Ground, seconds: float) -> Numbers:
    """Looks on for a while: memory, queries, calls to the API server, processor time."""
    asked, calls, cpu = ground.prometheus.asked(), api_calls(ground), counting.cpu_seconds(ground.pid)
    writes, began = counting.operator_writes(ground.metrics), time.monotonic()
    highest = 0.0
    while time.monotonic() < began + seconds:
        time.sleep(0.25)
        highest = max(highest, ground.memory()["now"])
    took = time.monotonic() - began
    asked = ground.prometheus.asked() - asked
    after = api_calls(ground)
    return {
        "seconds": took,
        "memory": ground.memory() | {"highest_here": highest},
        "queries_per_second": sum(asked.values()) / took,
        "by_query": {text: count / took for text, count in sorted(asked.items())},
        "reads_per_second": (after["reads"] - calls["reads"]) / took,
        "writes_per_second": sum((counting.operator_writes(ground.metrics) - writes).values()) / took,
        "writes": dict(counting.operator_writes(ground.metrics) - writes),
        "cpu_share": (counting.cpu_seconds(ground.pid) - cpu) / took,
        "load": counting.load(),
    }


def api_calls(ground: Ground) -> Counter[str]:
    """Reads and writes of what the operator looks at, as the API server counts them."""
    connection = ground.api.connect()
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    counted: Counter[str] = Counter()
    for labels, value in counting.samples(text, "apiserver_request_total"):
        if labels.get("resource") in RESOURCES:
            counted["reads" if labels.get("verb") in READS else "writes"] += int(value)
    return counted


def idle(ground: Ground, seconds: float) -> Numbers:
    """What is written while nothing happens."""
    settle(ground, 10)
    seen = watch_on(ground, seconds)
    return seen


def restart(ground: Ground, rollouts: int, exposed: int) -> Numbers:
    """Starts the operator beside rollouts that are there already, until it has looked at each; as many as `exposed` have users on a candidate."""
    began = time.monotonic()
    until_ready = ground.start_operator()
    highest, looks, until_exposed = 0.0, 0.0, 0.0

    def look() -> object:
        nonlocal highest, looks, until_exposed
        highest = max(highest, ground.memory()["now"])
        page = counting.fetch(ground.metrics)
        looks = sum(value for labels, value in counting.samples(page, "espalier_reconcile_total") if labels["result"] == "ok")
        shown = sum(value > 0 for _, value in counting.samples(page, "espalier_rollout_exposure_percent"))
        if not until_exposed and shown >= exposed:
            until_exposed = time.monotonic() - began
        return looks >= rollouts or f"{looks:.0f} looks"

    wait_until(f"{rollouts} rollouts are looked at", look, 900, 0.25)
    return {
        "until_ready": until_ready,
        "until_exposed": until_exposed,
        "until_all": time.monotonic() - began,
        "looks": looks,
        "memory": ground.memory() | {"highest_here": highest},
        "load": counting.load(),
    }


class Records:
    """When the status of which rollout was written, from now on."""

    def __init__(self, ground: Ground) -> None:
        self.at: list[tuple[float, str, bool]] = []
        self.closed = False
        self.ground = ground
        listed = ground.api.call("GET", path("modelrollouts", objects.NAMESPACE) + query(limit="1"))
        self.connection = ground.api.connect(timeout=3700.0)
        threading.Thread(target=self.follow, args=(listed["metadata"]["resourceVersion"],), daemon=True).start()

    def follow(self, version: str) -> None:
        """Every version of every rollout; whether its candidate is latched is all that is read of it."""
        try:
            for _, found in self.ground.api.watch("modelrollouts", objects.NAMESPACE, self.connection, version):
                if self.closed:
                    return
                metadata = found["metadata"]
                self.at.append((time.time(), metadata.get("name", ""), bool(found.get("status", {}).get("rejected"))))
        except BROKEN:
            return

    def close(self) -> None:
        """Ends with the next version that comes."""
        self.closed = True


def flip(ground: Ground, trials: dict[str, Any]) -> Numbers:
    """These candidates go bad at their next scrape, all within a second."""
    records = Records(ground)
    time.sleep(1.0)
    began = time.time()
    bad = ground.prometheus.breach({name: one["revision"] for name, one in trials.items()})

    def waiting() -> list[str]:
        return [name for name, one in trials.items() if ground.routes.first_zero(name, one["service"], began) is None]

    wait_until("all are off", lambda: not waiting() or f"{len(waiting())} have users", 180, 0.05)
    zero = {name: float(ground.routes.first_zero(name, one["service"], began) or 0.0) for name, one in trials.items()}
    last = max(zero.values())
    latched = lambda: {name for _, name, rejected in list(records.at) if rejected}  # noqa: E731
    wait_until("all are latched", lambda: set(trials) <= latched() or f"{len(set(trials) - latched())} are not", 300, 0.5)
    recorded = [at for at, name, rejected in records.at if name in trials and rejected]
    records.close()
    by_share: dict[int, list[float]] = {}
    for name in trials:
        by_share.setdefault(int(shares_before(ground, name, trials[name]["service"], began)), []).append((zero[name] - began) * 1000)
    return {
        "rollouts": len(trials),
        "milliseconds": [(zero[name] - bad[name]) * 1000 for name in trials],
        "last_zero_seconds": last - began,
        "last_latched_seconds": max(recorded) - began,
        "records_before_routes": sum(any(bad[name] < at - KNOWN and zero[name] > at for name in trials) for at in recorded),
        "last_zero_after_last_bad_seconds": last - max(bad.values()),
        "first_record_after_last_zero_ms": (min(recorded) - last) * 1000,
        "raises_after_breach": sum(ground.routes.raises(name, one["service"], bad[name]) for name, one in trials.items()),
        "by_share": {str(share): found for share, found in sorted(by_share.items(), reverse=True)},
        "memory": ground.memory(),
        "load": counting.load(),
    }


def shares_before(ground: Ground, name: str, service: str, at: float) -> float:
    """The share that the candidate had."""
    return [change for change in ground.routes.changes[name] if change.at < at][-1].shares.get(service, 0.0)


def bare_client(ground: Ground, program: Path, prefix: str, times: int) -> list[Numbers]:
    """The same writes by a client that does nothing else; the operator must be stopped."""
    environment = commands.variables(ground.cluster) | {"HOME": "/tmp"}
    found = []
    for turn in range(times):
        command = [str(program), objects.NAMESPACE, prefix, "32", str(90 + turn)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout))
        time.sleep(5.0)
    return found
