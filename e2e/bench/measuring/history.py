"""What the API server's watch told of routes and rollouts, sorted by name and with the time it was told, for measuring reactions and counting writes.

The time is taken when the watch's line has been read, so every reaction includes the way through the watch.
"""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass

from story.api import Api, Object
from story.watching import Version, Watch

from .fake_prometheus import FakePrometheus
from .objects import NAMESPACE


@dataclass(frozen=True)
class Change:
    """One version of a route whose spec changed. `at` is in unix seconds; `shares` maps Services to percent."""

    at: float
    shares: dict[str, float]


@dataclass(frozen=True)
class StatusWrite:
    """One version of a rollout whose status changed, and why it was written as far as the content tells."""

    at: float
    kind: str
    detail: str


class Routes:
    """Follows the routes, and tells the fake Prometheus how users are shared out."""

    def __init__(self, api: Api, prometheus: FakePrometheus) -> None:
        self.watch = Watch(api, "httproutes", NAMESPACE)
        self.prometheus = prometheus
        self.changes: defaultdict[str, list[Change]] = defaultdict(list)
        self.generations: dict[str, int] = {}
        self.read = 0
        threading.Thread(target=self.follow, name="shares", daemon=True).start()

    def follow(self) -> None:
        """Looks for news until the watch is closed."""
        while not self.watch.closed:
            self.catch_up()
            time.sleep(0.01)

    def catch_up(self) -> None:
        """Takes over what the watch has told since the last time."""
        news: dict[str, dict[str, float]] = {}
        versions = self.watch.versions
        while self.read < len(versions):
            version = versions[self.read]
            self.read += 1
            generation = version.object["metadata"].get("generation", 0)
            uid = version.object["metadata"]["uid"]
            if version.exists and self.generations.get(version.name) == (uid, generation):
                continue
            self.generations[version.name] = (uid, generation)
            shares = shares_of(version)
            self.changes[version.name].append(Change(version.wall, shares))
            news[version.name] = {service.removeprefix(f"{version.name}-"): share for service, share in shares.items()}
        if news:
            self.prometheus.shares(news)

    def share(self, rollout: str, service: str) -> float:
        """What the newest version gives this Service; 0 when there is none."""
        changes = self.changes[rollout]
        return changes[-1].shares.get(service, 0.0) if changes else 0.0

    def first_zero(self, rollout: str, service: str, since: float) -> float | None:
        """When a version after `since` first gave this Service nothing."""
        return next((change.at for change in self.changes[rollout] if change.at >= since and not change.shares.get(service)), None)

    def raises(self, rollout: str, service: str, since: float) -> list[float]:
        """When the Service got more than before, after `since`."""
        found, before = [], 0.0
        for change in list(self.changes[rollout]):
            share = change.shares.get(service, 0.0)
            if share > before and change.at > since:
                found.append(change.at)
            before = share
        return found


def shares_of(version: Version) -> dict[str, float]:
    """Percent by Service in the first rule; empty when the route is gone."""
    rules = version.object["spec"].get("rules", []) if version.exists else []
    refs = rules[0].get("backendRefs", []) if rules else []
    total = sum(ref.get("weight", 1) for ref in refs)
    return {ref["name"]: 100.0 * ref.get("weight", 1) / total if total else 0.0 for ref in refs}


class Rollouts:
    """Follows the rollouts."""

    def __init__(self, api: Api) -> None:
        self.watch = Watch(api, "modelrollouts", NAMESPACE)

    def newest(self) -> dict[str, Object]:
        """The newest version of every rollout that exists."""
        found: dict[str, Object] = {}
        for version in list(self.watch.versions):
            if version.exists:
                found[version.name] = version.object
            else:
                found.pop(version.name, None)
        return found

    def status_writes(self, name: str, since: float, until: float) -> list[StatusWrite]:
        """Every write of one rollout's status in this time."""
        versions = [version for version in list(self.watch.versions) if version.name == name and version.exists]
        pairs = zip(versions, versions[1:])
        return [explain(old, new) for old, new in pairs if since <= new.wall <= until and old.object.get("status") != new.object.get("status")]


def explain(old: Version, new: Version) -> StatusWrite:
    """A write that records a decision, one that records another change, or one that only refreshes evidence."""
    before, after = old.object.get("status", {}), new.object.get("status", {})
    newest = [status.get("decisions", [{}])[0].get("id") if status.get("decisions") else None for status in (before, after)]
    if newest[0] != newest[1]:
        return StatusWrite(new.wall, "decision", str(after["decisions"][0].get("action")))
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    verdicts = [[(one["guardrail"], one["verdict"]) for one in status.get("evidence", [])] for status in (before, after)]
    conditions = [[(one["type"], one["status"], one["reason"]) for one in status.get("conditions", [])] for status in (before, after)]
    if conditions[0] != conditions[1]:
        words = [f"{one[0]}={one[1]}/{one[2]}" for one in conditions[1] if one not in conditions[0]]
        return StatusWrite(new.wall, "condition", " ".join(words))
    if before.get("attempt") != after.get("attempt"):
        fields = [key for key in after.get("attempt") or {} if (before.get("attempt") or {}).get(key) != after["attempt"][key]]
        return StatusWrite(new.wall, "attempt", " ".join(fields))
    if verdicts[0] != verdicts[1]:
        return StatusWrite(new.wall, "verdict", " ".join(f"{name}={verdict}" for name, verdict in verdicts[1]))
    return StatusWrite(new.wall, "refresh" if "checkpoint" in changed else "other", " ".join(changed))
