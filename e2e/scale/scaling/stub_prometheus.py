"""A stand-in for Prometheus that holds thousands of pods: one scrape per second and pod, each pod at a phase of its own.

Runs as a process of its own. It knows selectors on the label of the revision and nothing else of PromQL. Counters grow evenly, so that any
stretch of the past can be told without having been kept: what changed is remembered, not every sample.
"""

import json
import math
import random
import re
import sys
import threading
import time
from collections import Counter

from measuring.stand_in import StandIn, serve

# Seconds from the instant of a scrape to its samples being visible.
INGESTION = 0.015
# Requests per second that the users of one rollout send.
RATE = 100.0
# Longest range, in seconds, that is answered from what was written down ready to send.
READY = 12
QUERY = re.compile(r"^(?P<name>\w+)\{(?P<matchers>.*)\}\[(?P<range>\d+)ms\]$")
REVISIONS = re.compile(r'espalier_dev_revision=~?"([^"]+)"')
METRICS = ("up", "model_requests_total", "model_errors_total", "model_nonfinite_outputs_total", "model_power_watts")
WATTS = 12


class Pod:
    """One scraped pod of one revision."""

    def __init__(self, namespace: str, rollout: str, revision: str, phase: float, now: float) -> None:
        name = f"{rollout}-{revision}-0"
        labels = {
            "namespace": namespace,
            "pod": name,
            "instance": f"{name}:8081",
            "job": "pods",
            "espalier_dev_rollout": rollout,
            "espalier_dev_revision": revision,
        }
        self.revision = revision
        self.heads = {metric: f'{{"metric":{json.dumps({"__name__": metric} | labels)},"values":[' for metric in METRICS}
        self.started = math.floor(now) + phase
        # Since when which share of the users came, and how many requests there were by then.
        self.changes: list[tuple[float, float, float]] = [(self.started, 0.0, 0.0)]
        self.bad_since: float | None = None
        self.scraped = self.started - 1.0
        self.ready: dict[str, list[str]] = {metric: [] for metric in METRICS}
        self.texts: dict[str, str] = {}

    def serve(self, share: float, now: float) -> None:
        """From now on this share of the users comes."""
        since, old, requests = self.changes[-1]
        if share != old:
            self.changes.append((now, share, requests + RATE * old * (now - since)))

    def requests(self, at: float) -> int:
        """How many requests there were."""
        since, share, requests = next((change for change in reversed(self.changes) if change[0] <= at), self.changes[0])
        return round(requests + RATE * share * max(0.0, at - since))

    def values(self, at: float) -> tuple[object, ...]:
        """What a scrape at this instant finds, metric by metric."""
        return (1, self.requests(at), 0, 3 if self.bad_since is not None and at >= self.bad_since else 0, WATTS)

    def advance(self, now: float) -> None:
        """Takes every scrape that is due."""
        due = self.scraped + 1.0
        if due + INGESTION > now:
            return
        while due + INGESTION <= now:
            for metric, value in zip(METRICS, self.values(due)):
                self.ready[metric].append(f'[{due:.3f},"{value}"]')
            self.scraped, due = due, due + 1.0
        for metric, texts in self.ready.items():
            del texts[:-READY]
            self.texts[metric] = f"{self.heads[metric]}{','.join(texts)}]}}"

    def past(self, metric: str, since: float, until: float) -> str:
        """Samples of any stretch of time."""
        place = METRICS.index(metric)
        first = self.started + max(0, math.floor(since - self.started) + 1)
        count = math.floor(min(until, self.scraped) - first) + 1
        values = ",".join(f'[{first + number:.3f},"{self.values(first + number)[place]}"]' for number in range(max(0, count)))
        return f"{self.heads[metric]}{values}]}}" if values else ""


class World:
    """All pods and what was asked about them."""

    def __init__(self, seed: int) -> None:
        self.lock = threading.Lock()
        self.one_past = threading.Lock()
        self.random = random.Random(seed)
        self.pods: dict[tuple[str, str], Pod] = {}
        self.queries: Counter[str] = Counter()

    def answer(self, text: str, at: float) -> str:
        """The body for one range query. What is younger than asked for may be in it, as the contract of the reader allows."""
        asked = QUERY.match(text)
        series: list[str] = []
        with self.lock:
            self.queries[text] += 1
            if asked is not None and asked["name"] in METRICS:
                metric, seconds, now = asked["name"], int(asked["range"]) / 1000, time.time()
                only = REVISIONS.search(asked["matchers"])
                wanted = set(only[1].split("|")) if only else None
                pods = [pod for pod in self.pods.values() if wanted is None or pod.revision in wanted]
                for pod in pods:
                    pod.advance(now)
                near = seconds <= READY and now - at < 2
                if near:
                    series = [pod.texts.get(metric, "") for pod in pods]
        # As with a real server, who asks for now does not wait for somebody else's history.
        if asked is not None and asked["name"] in METRICS and not near:
            with self.one_past:
                series = [pod.past(metric, at - seconds, at) for pod in pods]
        return f'{{"status":"success","data":{{"resultType":"matrix","result":[{",".join(filter(None, series))}]}}}}'

    def control(self, verb: str, body: dict[str, object]) -> object:
        """What the test sets and asks."""
        with self.lock:
            now = time.time()
            if verb == "shares":
                for rollout, shares in dict(body["of"]).items():  # type: ignore[call-overload]
                    self.share_out(str(body["namespace"]), rollout, shares, now)
            elif verb == "breach":
                found = {}
                for rollout, revision in dict(body["of"]).items():  # type: ignore[call-overload]
                    pod = self.pods[rollout, revision]
                    pod.advance(now)
                    pod.bad_since = found[rollout] = pod.scraped + 1.0
                return found
            elif verb == "asked":
                return dict(self.queries)
            return {}

    def share_out(self, namespace: str, rollout: str, shares: dict[str, float], now: float) -> None:
        """The revisions of one rollout and the percentage of its users that each has; those not named have gone."""
        for key in [key for key in self.pods if key[0] == rollout and key[1] not in shares]:
            del self.pods[key]
        for revision, share in shares.items():
            pod = self.pods.get((rollout, revision))
            if pod is None:
                pod = self.pods[rollout, revision] = Pod(namespace, rollout, revision, self.random.random(), now)
            pod.serve(share / 100, now)


class StubPrometheus(StandIn):
    """The test's side."""

    def __init__(self, namespace: str, seed: int) -> None:
        super().__init__("scaling.stub_prometheus", seed)
        self.namespace = namespace

    def shares(self, of: dict[str, dict[str, float]]) -> None:
        """Revisions of rollouts with the share of users that each has, in percent."""
        self.control("shares", {"namespace": self.namespace, "of": of})

    def breach(self, of: dict[str, str]) -> dict[str, float]:
        """From its next scrape on, each of these revisions (by rollout) reports NaN outputs; returns the instants of these scrapes."""
        return self.control("breach", {"of": of})


if __name__ == "__main__":
    serve(World(int(sys.argv[1])))
