"""A stand-in for Prometheus: pods that do not exist, scraped every second at a phase of their own, and answers to range queries over them.

Runs as a process of its own so that measuring never waits for it. It knows selectors with label matchers and nothing else of PromQL, and keeps
only the newest samples. As in a real server a sample appears a little after the instant of its scrape.
"""

import json
import random
import re
import sys
import threading
import time
from collections import Counter, deque

from measuring.stand_in import StandIn, serve

# Seconds from the instant of a scrape to its samples being visible: fetching, parsing and appending them.
INGESTION = 0.015
# Requests per second that the users of one rollout send.
RATE = 100.0
# Scrapes that are remembered.
KEPT = 40
QUERY = re.compile(r"^(?P<name>\w+)\{(?P<matchers>.*)\}\[(?P<range>\d+)ms\]$")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"')
METRICS = ("up", "model_requests_total", "model_errors_total", "model_nonfinite_outputs_total", "model_power_watts")
GOOD_WATTS, BAD_WATTS = 12, 90


class Pod:
    """One scraped pod of one revision."""

    def __init__(self, rollout: str, revision: str, phase: float, now: float) -> None:
        name = f"{rollout}-{revision}-0"
        self.labels = {
            "namespace": "bench",
            "pod": name,
            "instance": f"{name}:8081",
            "job": "pods",
            "espalier_dev_rollout": rollout,
            "espalier_dev_revision": revision,
        }
        self.texts = {metric: json.dumps({"__name__": metric} | self.labels) for metric in METRICS}
        self.share = 0.0
        self.requests = 0.0
        self.breached = ""
        self.first_bad: float | None = None
        self.next = int(now) + phase
        self.scrapes: deque[tuple[float, dict[str, str]]] = deque(maxlen=KEPT)

    def advance(self, now: float) -> None:
        """Takes every scrape that is due."""
        while self.next + INGESTION <= now:
            self.requests += RATE * self.share
            if self.breached and self.first_bad is None:
                self.first_bad = self.next
            values = (1, round(self.requests), 0, 3 if self.breached == "nan" else 0, BAD_WATTS if self.breached == "power" else GOOD_WATTS)
            stamp = f"{self.next:.3f}"
            self.scrapes.append((self.next, {metric: f'[{stamp},"{value}"]' for metric, value in zip(METRICS, values)}))
            self.next += 1.0

    def matches(self, matchers: list[tuple[str, str, str]]) -> bool:
        """Whether a selector takes this pod."""
        for label, operator, value in matchers:
            found = self.labels.get(label, "")
            hit = found == value if operator in ("=", "!=") else re.fullmatch(value, found) is not None
            if hit == operator.startswith("!"):
                return False
        return True


class World:
    """All pods and what was asked about them."""

    def __init__(self, seed: int) -> None:
        self.lock = threading.Lock()
        self.random = random.Random(seed)
        self.pods: dict[tuple[str, str], Pod] = {}
        self.queries: Counter[str] = Counter()

    def answer(self, text: str, at: float) -> str:
        """The body for one range query."""
        with self.lock:
            self.queries[text] += 1
            asked = QUERY.match(text)
            if asked is None or asked["name"] not in METRICS:
                return '{"status":"success","data":{"resultType":"matrix","result":[]}}'
            metric, since = asked["name"], at - int(asked["range"]) / 1000
            matchers = [found.groups() for found in MATCHER.finditer(asked["matchers"])]
            now = time.time()
            series = []
            for pod in self.pods.values():
                if pod.matches(matchers):
                    pod.advance(now)
                    values = ",".join(texts[metric] for stamp, texts in pod.scrapes if since < stamp <= at)
                    if values:
                        series.append(f'{{"metric":{pod.texts[metric]},"values":[{values}]}}')
        return f'{{"status":"success","data":{{"resultType":"matrix","result":[{",".join(series)}]}}}}'

    def control(self, verb: str, body: dict[str, object]) -> object:
        """What the benchmark sets and asks."""
        with self.lock:
            now = time.time()
            for pod in self.pods.values():
                pod.advance(now)
            if verb == "shares":
                for rollout, shares in body.items():
                    self.share_out(rollout, dict(shares), now)  # type: ignore[call-overload]
            elif verb == "breach":
                for rollout, revision in dict(body["of"]).items():  # type: ignore[call-overload]
                    self.pods[rollout, revision].breached = str(body["kind"])
            elif verb == "asked":
                return dict(self.queries)
            elif verb == "first_bad":
                return {f"{rollout}/{revision}": pod.first_bad for (rollout, revision), pod in self.pods.items() if pod.first_bad}
            return {}

    def share_out(self, rollout: str, shares: dict[str, float], now: float) -> None:
        """The revisions of one rollout and the share of its users that each has; those not named have gone."""
        for key in [key for key in self.pods if key[0] == rollout and key[1] not in shares]:
            del self.pods[key]
        for revision, share in shares.items():
            pod = self.pods.get((rollout, revision))
            if pod is None:
                pod = self.pods[rollout, revision] = Pod(rollout, revision, self.random.random(), now)
            pod.share = share / 100


class FakePrometheus(StandIn):
    """The benchmark's side."""

    def __init__(self, seed: int) -> None:
        super().__init__("measuring.fake_prometheus", seed)

    def shares(self, of: dict[str, dict[str, float]]) -> None:
        """Revisions of rollouts with the share of users that each has, in percent."""
        self.control("shares", of)

    def breach(self, kind: str, of: dict[str, str]) -> None:
        """From its next scrape on, each of these revisions (by rollout) reports NaN outputs (`nan`) or too much power (`power`)."""
        self.control("breach", {"kind": kind, "of": of})

    def first_bad(self, rollout: str, revision: str) -> float | None:
        """The instant of the first bad scrape, in unix seconds."""
        return self.control("first_bad").get(f"{rollout}/{revision}")


if __name__ == "__main__":
    serve(World(int(sys.argv[1])))
