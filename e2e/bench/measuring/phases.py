"""The measurements, in the order in which they run. Each returns plain numbers; report.py words them.

Nothing here sleeps in the hope that something has happened; the fixed times are the lengths of measurements.
"""

import random
import time
from collections import Counter
from typing import Any

from story.waiting import wait_until

from . import counting, objects
from .ground import Ground, settle

Numbers = dict[str, Any]
# A step that lasts longer than any measurement.
STAYS = "6h"
TRIAL_SHARE = 10
CLIMB = [10, 20, 30, 40, 50, 60, 70, 80, 90]


def one_rollout(ground: Ground, seconds: float) -> Numbers:
    """Queries and memory while a single candidate is on trial."""
    ground.serve(["alone"], 60)
    ground.offer(["alone"], "second", [TRIAL_SHARE], STAYS)
    ground.on_trial(["alone"], TRIAL_SHARE, 60)
    return observe(ground, seconds)


def observe(ground: Ground, seconds: float) -> Numbers:
    """Looks on for a while: queries by text, memory at the end, processor time."""
    asked, cpu, began = ground.prometheus.asked(), counting.cpu_seconds(ground.pid), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    asked, cpu = ground.prometheus.asked() - asked, counting.cpu_seconds(ground.pid) - cpu
    return {
        "seconds": took,
        "queries_per_second": sum(asked.values()) / took,
        "by_query": {text: count / took for text, count in sorted(asked.items())},
        "resident_bytes": counting.resident(ground.pid),
        "cpu_share": cpu / took,
        "load": counting.load(),
    }


def climb(ground: Ground) -> Numbers:
    """Writes while one rollout goes through nine raises, from the first raise to the last."""
    ground.serve(["climber"], 60, objects.CLIMBING)
    before = counting.operator_writes(ground.metrics)
    ground.offer(["climber"], "second", CLIMB, "4s", objects.CLIMBING)
    candidate = ground.on_trial(["climber"], CLIMB[0], 60)["climber"]["service"]
    ground.on_trial(["climber"], CLIMB[-1], 300)
    raises = ground.routes.raises("climber", candidate, 0.0)
    routes = [change for change in ground.routes.changes["climber"] if raises[0] < change.at <= raises[-1]]
    # A raise is on record before it is on the route: the statuses after the record of the first raise, up to that of the last one.
    statuses = ground.rollouts.status_writes("climber", 0.0, time.time())
    recorded = [number for number, write in enumerate(statuses) if (write.kind, write.detail) == ("decision", "Raised")]
    statuses = statuses[recorded[0] + 1 : recorded[-1] + 1]
    wait_until("the climber is promoted", lambda: ground.rollouts.newest()["climber"]["status"].get("attempt") is None or "not yet", 120)
    settle(ground, 8)
    return {
        "raises": len(raises) - 1,
        "route_writes": len(routes),
        "status_writes": dict(Counter(write.kind for write in statuses)),
        "details": dict(Counter(f"{write.kind}: {write.detail}" for write in statuses)),
        "whole_attempt": dict(counting.operator_writes(ground.metrics) - before),
        "seconds": raises[-1] - raises[0],
        "load": counting.load(),
    }


def reactions(ground: Ground, kind: str, model: str, names: list[str], chance: random.Random) -> Numbers:
    """One breach after the other, each at a random moment: from the first bad scrape to weight 0 on the route."""
    ground.offer(names, model, [TRIAL_SHARE], STAYS)
    trials = ground.on_trial(names, TRIAL_SHARE, 300)
    milliseconds, raised = [], 0
    for name in names:
        time.sleep(chance.uniform(0.3, 1.3))
        candidate = trials[name]
        began = time.time()
        ground.prometheus.breach(kind, {name: candidate["revision"]})
        look = lambda: ground.routes.first_zero(name, candidate["service"], began) is not None or "has users"  # noqa: B023, E731
        wait_until(f"{name} is off", look, 30, 0.01)
        bad = ground.prometheus.first_bad(name, candidate["revision"])
        zero = ground.routes.first_zero(name, candidate["service"], began)
        assert bad is not None and zero is not None
        milliseconds.append((zero - bad) * 1000)
    wait_until("all are latched", lambda: all(rejected(ground, name, trials[name]["revision"]) for name in names) or "not yet", 120)
    for name in names:
        bad = ground.prometheus.first_bad(name, trials[name]["revision"])
        raised += len(ground.routes.raises(name, trials[name]["service"], bad or time.time()))
    return {"milliseconds": milliseconds, "raises_after_breach": raised, "load": counting.load()}


def rejected(ground: Ground, name: str, revision: str) -> bool:
    """Whether a revision is latched."""
    status = ground.rollouts.newest()[name].get("status", {})
    return any(entry["revision"] == revision for entry in status.get("rejected", []))


def promote(ground: Ground, names: list[str]) -> None:
    """Has a person promote these, so that idle rollouts are of both kinds. What is refused, such as while the gateway is busy, is asked again."""
    ground.offer(names, "fourth", [TRIAL_SHARE], STAYS)
    trials = ground.on_trial(names, TRIAL_SHARE, 300)
    asked: set[str] = set()

    def look() -> object:
        newest = ground.rollouts.newest()
        waiting = [name for name in names if newest[name]["status"].get("attempt")]
        requests = {name: newest[name]["status"].get("lastRequest", {}) for name in waiting}
        for name, request in requests.items():
            if name not in asked or request.get("result") == "Refused":
                ground.request(name, "promote", trials[name]["revision"])
                asked.add(name)
        return True if not waiting else f"{len(waiting)} wait: {requests[waiting[0]]}"

    wait_until("they are promoted", look, 180, 1.0)


def idle(ground: Ground, seconds: float) -> Numbers:
    """Writes while nothing happens, by the operator's count and by the API server's."""
    settle(ground, 15)
    own, server, cpu = counting.operator_writes(ground.metrics), counting.server_writes(ground.api), counting.cpu_seconds(ground.pid)
    looks, began = counting.operator_value(ground.metrics, "espalier_reconcile_total"), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return {
        "seconds": took,
        "rollouts": len(ground.rollouts.newest()),
        "operator_writes": dict(counting.operator_writes(ground.metrics) - own),
        "server_writes": dict(counting.server_writes(ground.api) - server),
        "looks": counting.operator_value(ground.metrics, "espalier_reconcile_total") - looks,
        "cpu_share": (counting.cpu_seconds(ground.pid) - cpu) / took,
        "resident_bytes": counting.resident(ground.pid),
        "load": counting.load(),
    }


def many(ground: Ground, names: list[str], seconds: float) -> tuple[Numbers, Numbers]:
    """Queries and memory with many candidates on trial, then all of them go bad at once, in the middle of their climb."""
    began = time.monotonic()
    ground.serve(names, 900)
    ground.offer(names, "second", CLIMB, "2m")
    trials = ground.on_trial(names, CLIMB[0], 900)
    ramp = time.monotonic() - began
    seen = observe(ground, seconds)
    # Some have been raised by then, some are about to be: a raise after the breach has every chance.
    first = names[0]
    highest = lambda: ground.routes.share(first, trials[first]["service"])  # noqa: E731
    wait_until("the first has been raised", lambda: highest() >= CLIMB[1] or f"{highest():g} %", 600)
    return seen | {"rollouts": len(names), "ramp_seconds": ramp}, flip(ground, trials)


def flip(ground: Ground, trials: dict[str, Any]) -> Numbers:
    """All candidates go bad at their next scrape."""
    before = counting.operator_writes(ground.metrics)
    shares = Counter(f"{ground.routes.share(name, one['service']):g}%" for name, one in trials.items())
    began = time.time()
    ground.prometheus.breach("nan", {name: one["revision"] for name, one in trials.items()})

    def waiting() -> list[str]:
        return [name for name, one in trials.items() if ground.routes.first_zero(name, one["service"], began) is None]

    wait_until("all are off", lambda: not waiting() or f"{len(waiting())} have users", 120, 0.05)
    wait_until("all are latched", lambda: all(rejected(ground, name, one["revision"]) for name, one in trials.items()) or "not yet", 300, 1.0)
    settle(ground, 10)
    bad = ground.prometheus.control("first_bad")
    reactions_ms, raised, raised_late = [], 0, 0
    for name, one in trials.items():
        at = bad[f"{name}/{one['revision']}"]
        zero = ground.routes.first_zero(name, one["service"], began) or 0.0
        reactions_ms.append((zero - at) * 1000)
        raised += len(ground.routes.raises(name, one["service"], at))
        raised_late += len(ground.routes.raises(name, one["service"], zero))
    return {
        "rollouts": len(trials),
        "shares_before": dict(shares),
        "milliseconds": reactions_ms,
        "raises_after_breach": raised,
        "raises_after_zero": raised_late,
        "writes": dict(counting.operator_writes(ground.metrics) - before),
        "resident_bytes": counting.resident(ground.pid),
        "load": counting.load(),
    }
