"""Follows every route: tells the stub Prometheus who has users, plays the gateway that accepts routes, and remembers who had which share when.

One watch in one thread; statuses are written by two others, since a gateway, too, is no part of the way of a rollback.
"""

import json
import queue
import threading
import time
from collections import defaultdict
from dataclasses import dataclass

from story.api import BROKEN, Api, ApiError, Object, path, query

from .stub_prometheus import StubPrometheus

CONTROLLER = "espalier.test/stand-in"
WRITERS = 2


@dataclass(frozen=True)
class Change:
    """One version of a route whose spec changed; `at` in unix seconds, when the watch told of it; `shares` in percent by Service."""

    at: float
    shares: dict[str, float]


class Routes:
    """Routes of one namespace; those whose names begin with `ignored` are of no interest and are accepted already."""

    def __init__(self, api: Api, namespace: str, prometheus: StubPrometheus, ignored: str) -> None:
        self.api, self.namespace, self.prometheus, self.ignored = api, namespace, prometheus, ignored
        self.changes: defaultdict[str, list[Change]] = defaultdict(list)
        self.generations: dict[str, tuple[str, int]] = {}
        self.news: dict[str, dict[str, float]] = {}
        self.lock = threading.Lock()
        self.closed = False
        self.waiting: queue.Queue[Object] = queue.Queue()
        for act in (self.follow, self.tell, *[self.accept] * WRITERS):
            threading.Thread(target=act, daemon=True).start()

    def follow(self) -> None:
        """The watch, from the present on when a version is too old."""
        version = "0"
        while not self.closed:
            connection = self.api.connect(timeout=3700.0)
            try:
                for kind, found in self.api.watch("httproutes", self.namespace, connection, version):
                    if kind == "ERROR":
                        version = "0"
                        break
                    version = found["metadata"]["resourceVersion"]
                    self.see(kind, found)
            except BROKEN:
                time.sleep(0.1)
            finally:
                connection.close()

    def see(self, kind: str, route: Object) -> None:
        """Takes one version over if its spec is new."""
        metadata = route["metadata"]
        name, version = metadata["name"], (metadata["uid"], metadata.get("generation", 0))
        if name.startswith(self.ignored) or (kind != "DELETED" and self.generations.get(name) == version):
            return
        self.generations[name] = version
        shares = shares_of(route) if kind != "DELETED" else {}
        self.changes[name].append(Change(time.time(), shares))
        with self.lock:
            self.news[name] = {service.removeprefix(f"{name}-"): share for service, share in shares.items()}
        if kind != "DELETED":
            self.waiting.put(route)

    def tell(self) -> None:
        """Passes shares on to Prometheus, many at once."""
        while not self.closed:
            with self.lock:
                news, self.news = self.news, {}
            if news:
                self.prometheus.shares(news)
            time.sleep(0.05)

    def accept(self) -> None:
        """Says of every new generation that it is accepted, as a gateway would."""
        while not self.closed:
            route = self.waiting.get()
            where = path("httproutes", self.namespace, route["metadata"]["name"]) + "/status" + query(fieldManager="gateway")
            change = {"status": status(route)}
            try:
                self.api.call("PATCH", where, change, "application/merge-patch+json")
            except ApiError as error:
                if error.code != 404:
                    raise

    def share(self, rollout: str, service: str) -> float:
        """What the newest version gives this Service; 0 when there is none."""
        changes = self.changes[rollout]
        return changes[-1].shares.get(service, 0.0) if changes else 0.0

    def first_zero(self, rollout: str, service: str, since: float) -> float | None:
        """When a version after `since` first gave this Service nothing."""
        return next((change.at for change in self.changes[rollout] if change.at >= since and not change.shares.get(service)), None)

    def raises(self, rollout: str, service: str, since: float) -> int:
        """How often the Service got more than before, after `since`."""
        found, before = 0, 0.0
        for change in list(self.changes[rollout]):
            share = change.shares.get(service, 0.0)
            found += share > before and change.at > since
            before = share
        return found


def shares_of(route: Object) -> dict[str, float]:
    """Percent by Service in the first rule."""
    rules = route["spec"].get("rules", [])
    refs = rules[0].get("backendRefs", []) if rules else []
    total = sum(ref.get("weight", 1) for ref in refs)
    return {ref["name"]: 100.0 * ref.get("weight", 1) / total if total else 0.0 for ref in refs}


def status(route: Object) -> Object:
    """Accepted by its parent at its generation."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    generation = route["metadata"].get("generation", 1)
    conditions = [
        {"type": kind, "status": "True", "reason": kind, "message": "", "lastTransitionTime": now, "observedGeneration": generation}
        for kind in ("Accepted", "ResolvedRefs")
    ]
    parents = [{"parentRef": parent, "controllerName": CONTROLLER, "conditions": conditions} for parent in route["spec"].get("parentRefs", [])]
    return json.loads(json.dumps({"parents": parents}))
