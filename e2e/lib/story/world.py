"""A world for one scenario: its own namespace, host name, users and route log, and the few verbs that scenarios are written in.

Expects nothing by itself; every expectation is in the scenario or in a wait_… that it calls.
"""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

from localcluster.layout import Cluster

from . import binaries, objects
from .api import Api, ApiError, Object
from .objects import ROLLOUT
from .operator import Operator
from .route_log import RouteLog, describe
from .traffic import Traffic
from .watching import Watch
from .waiting import Failed, at_least, at_most, check, same, wait_until, within


class World:
    """Everything that one scenario touches. Use as a context; on leaving, all of it goes."""

    def __init__(self, cluster: Cluster, operator: Operator, folder: Path, name: str) -> None:
        self.cluster, self.operator, self.folder = cluster, operator, folder
        self.namespace = name
        self.host = f"{name}.example"
        self.api = Api(cluster.node_ip, cluster.root / "pki")
        self.users: list[Traffic] = []
        self.notes: list[str] = []

    def __enter__(self) -> "World":
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": {"espalier.dev/scenario": "true"}}})
        self.routes = RouteLog(self.api, self.namespace)
        self.slices = Watch(self.api, "endpointslices", self.namespace)
        return self

    def __exit__(self, *_: object) -> None:
        self.routes.close()
        self.slices.close()
        for users in self.users:
            users.stop()
        self.remove()

    def remove(self) -> None:
        """Deletes the namespace; a finalizer that no operator removes in time is taken off."""
        for found in self.api.list("modelrollouts", self.namespace):
            self.api.delete("modelrollouts", self.namespace, found["metadata"]["name"])
        deadline = time.monotonic() + 5
        while self.api.list("modelrollouts", self.namespace) and time.monotonic() < deadline:
            time.sleep(0.1)
        for found in self.api.list("modelrollouts", self.namespace):
            try:
                self.api.patch("modelrollouts", self.namespace, found["metadata"]["name"], {"metadata": {"finalizers": None}})
            except ApiError:
                pass  # it has gone meanwhile
        self.api.delete("namespaces", "", self.namespace)

    # What a user does.

    def apply(self, *wanted: Object) -> None:
        """Applies objects as a GitOps controller would."""
        for one in wanted:
            self.api.apply(one)

    def policy(self, guardrails: dict[str, Any] | None = None, **changes: Any) -> None:
        """Applies the digits policy with changes."""
        self.apply(objects.policy(self.namespace, self.cluster.prometheus_url, guardrails, **changes))

    def rollout(self, model: str, env: dict[str, str] | None = None, **changes: Any) -> None:
        """Applies the digits rollout: the whole desired object, as a commit would."""
        self.apply(objects.rollout(self.namespace, self.host, model, env, **changes))

    def traffic(self, rps: int = 60, *flags: str, host: str = "", minutes: int = 15) -> Traffic:
        """Starts users, who stay no longer than that."""
        users = Traffic(self.cluster.gateway_url, host or self.host, self.folder, rps, *flags, minutes=minutes)
        self.users.append(users)
        return users

    def request(self, action: str, candidate: str, **more: str) -> str:
        """Sets the request annotation and returns its id."""
        found = f"{action}-{time.monotonic_ns()}"
        text = json.dumps({"id": found, "action": action, "candidate": candidate, "actor": "scenario"} | more)
        self.api.patch("modelrollouts", self.namespace, ROLLOUT, {"metadata": {"annotations": {"espalier.dev/request": text}}})
        return found

    def weigh(self, weights: dict[str, int], name: str = ROLLOUT) -> None:
        """Edits the weights of the route's first rule by hand, in one write."""
        refs = self.route(name)["spec"]["rules"][0]["backendRefs"]
        change = [
            {"op": "replace", "path": f"/spec/rules/0/backendRefs/{index}/weight", "value": weights[ref["name"]]}
            for index, ref in enumerate(refs)
        ]
        self.api.patch("httproutes", self.namespace, name, change, manager="a-person")

    def faults(self, selector: str, **fields: Any) -> None:
        """Switches faults on every running pod that the labels select."""
        for pod in self.pods(selector):
            self.faults_on(pod, **fields)

    def faults_on(self, pod: Object, **fields: Any) -> None:
        """Switches faults on one pod. One that crashes on the spot gives no answer."""
        try:
            address = f"http://{pod['status']['podIP']}:8081/admin/faults"
            with urlopen(Request(address, data=json.dumps(fields).encode()), timeout=5) as answer:
                answer.read()
        except OSError:
            if not fields.get("crash_now"):
                raise

    # What a user sees.

    def object(self) -> Object:
        """The rollout; empty when it does not exist."""
        return self.api.get("modelrollouts", self.namespace, ROLLOUT) or {}

    def status(self) -> Object:
        """Its status."""
        return dict(self.object().get("status", {}))

    def shown(self) -> str:
        """The columns of kubectl get, in a line."""
        shown = self.status().get("display", {})
        words = [shown.get(key, "") for key in ("stage", "step", "weight", "verdict")]
        return f"{' '.join(words)}: {shown.get('message', '')}"

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        found = next((c for c in self.status().get("conditions", []) if c["type"] == kind), {})
        return str(found.get("status", "")), str(found.get("reason", ""))

    def rejected(self, revision: str) -> Object:
        """The latched rejection of a revision; empty when there is none."""
        return next((entry for entry in self.status().get("rejected", []) if entry["revision"] == revision), {})

    def decisions(self, action: str = "") -> list[Object]:
        """The decision log, oldest first."""
        found = reversed(self.status().get("decisions", []))
        return [decision for decision in found if action in ("", decision["action"])]

    def events(self) -> list[str]:
        """Reasons and notes of the events about the rollout."""
        found = [event for event in self.api.list("events", self.namespace) if event.get("regarding", {}).get("kind") == "ModelRollout"]
        return [f"{event.get('reason')}: {event.get('note', '')}" for event in found]

    def pods(self, selector: str) -> list[Object]:
        """Running pods that are not going away."""
        found = self.api.list("pods", self.namespace, selector)
        return [pod for pod in found if pod["status"].get("podIP") and not pod["metadata"].get("deletionTimestamp")]

    def deployment(self, name: str) -> Object:
        """A Deployment; empty when it does not exist."""
        return self.api.get("deployments", self.namespace, name) or {}

    def route(self, name: str = ROLLOUT) -> Object:
        """The live HTTPRoute; empty when it does not exist."""
        return self.api.get("httproutes", self.namespace, name) or {}

    def share(self, service: str, name: str = ROLLOUT) -> float:
        """The share that this Service has in the newest version of the route."""
        return (self.routes.ladder(name, service) or [0.0])[-1]

    def ladder(self, service: str, since: float = 0.0, name: str = ROLLOUT) -> list[float]:
        """All shares that this Service had, in order."""
        return self.routes.ladder(name, service, since)

    def measured(self, query: str) -> float:
        """The first value of an instant query; 0 when there is none."""
        with urlopen(f"{self.cluster.prometheus_url}/api/v1/query?query={quote(query)}", timeout=10) as answer:
            series = json.load(answer)["data"]["result"]
        return float(series[0]["value"][1]) if series else 0.0

    def first_sample_above(self, query: str, least: float, seconds: int = 120) -> float | None:
        """When Prometheus stored its first sample above this value (unix seconds), from raw samples."""
        address = f"{self.cluster.prometheus_url}/api/v1/query?query={quote(f'{query}[{seconds}s]')}"
        with urlopen(address, timeout=10) as answer:
            series = json.load(answer)["data"]["result"]
        return min((at for one in series for at, value in one["values"] if float(value) > least), default=None)

    def gateway_errors(self) -> list[tuple[str, str]]:
        """Time and Envoy's reason (response flags) of every 503 at this world's host: NC for a cluster that Envoy does not know, UH for one without
        a healthy endpoint, UF for a connection that failed."""
        found = []
        with open(self.cluster.root / "log" / "envoy.log", encoding="utf-8", errors="replace") as log:
            for line in log:
                if self.host in line and '"response_code":503' in line:
                    entry = json.loads(line)
                    found.append((entry["@timestamp"], entry["response_flags"]))
        return found

    # What most stories begin and end with.

    def begin(self, model: str = "fp32", **changes: Any) -> Object:
        """The first deployment: policy and rollout, until the first model serves everybody. Returns the entry of status.stable."""
        self.policy()
        self.rollout(model, **changes)
        self.wait_serving(model)
        return dict(self.status()["stable"])

    def wait_serving(self, model: str, seconds: float = 60) -> None:
        """Until the model is stable and everybody's."""
        uri = binaries.model_uri(model)

        def look() -> object:
            stable = self.status().get("stable", {})
            if stable.get("uri") != uri:
                return f"stable {stable.get('uri') or 'nothing'}; {self.shown()}"
            return same((self.share(stable["service"]), self.condition("Promoted")[0]), (100.0, "True"))

        wait_until(f"{model} serves everybody", look, seconds)

    def candidate(self, seconds: float = 20) -> Object:
        """The entry of status.candidate for the spec as it is now."""
        uri = self.object()["spec"]["model"]["uri"]
        generation = self.object()["metadata"]["generation"]

        def look() -> object:
            status = self.status()
            found = (status.get("candidate", {}).get("uri"), status.get("observedGeneration"))
            return True if found[0] == uri and (found[1] or 0) >= generation else f"{found}; {self.shown()}"

        wait_until("the new model is on trial", look, seconds)
        return dict(self.status()["candidate"])

    def wait_answers(self, users: Traffic, count: int, seconds: float = 60) -> None:
        """Until users have got so many answers in the present phase."""

        def look() -> object:
            answered = users.stats()["phases"][-1]["stats"]["answered"]
            return True if answered >= count else f"{answered} answers"

        wait_until(f"users got {count} answers", look, seconds)

    def wait_ok(self, users: Traffic, count: int, seconds: float = 60) -> None:
        """Until users have got so many good answers within the last seconds and no other."""

        def look() -> object:
            recent = users.stats()["recent"]["revisions"].values()
            found = (sum(one["requests"] for one in recent), sum(one["not_ok"] for one in recent))
            return True if found[0] >= count and not found[1] else f"{found[0]} answers, {found[1]} of them errors"

        wait_until(f"users get good answers at {self.host}", look, seconds)

    def wait_lowered(self, service: str, percent: float, seconds: float) -> None:
        """Until the newest route gives this Service at most this share."""
        wait_until(f"{service} has at most {percent:g} %", lambda: at_most(self.share(service), percent, " %"), seconds)

    def wait_adopted(self, serving: Object, seconds: float = 30) -> None:
        """Until a recreated rollout says that this revision serves."""
        look = lambda: same(self.status().get("stable", {}).get("revision"), serving["revision"])  # noqa: E731
        wait_until("the recreated rollout takes up what serves", look, seconds)

    def emptied(self, service: str, since: float) -> float:
        """When the watch told that no endpoint of this Service is ready any more."""
        for version in list(self.slices.versions):
            mine = version.object["metadata"].get("labels", {}).get("kubernetes.io/service-name") == service
            ready = [one for one in version.object.get("endpoints") or [] if one["conditions"].get("ready")]
            if mine and version.at >= since and (not version.exists or not ready):
                return version.at
        raise Failed(f"{service} has lost its last endpoint; found: it never did")

    def wait_share(self, service: str, percent: float, seconds: float = 60, name: str = ROLLOUT) -> float:
        """Until the newest route gives this Service this share."""
        look = lambda: True if self.share(service, name) == percent else f"{self.share(service, name):g} %; {self.shown()}"  # noqa: E731
        return wait_until(f"{service} has {percent:g} %", look, seconds)

    def wait_rejected(self, serving: Object, attempts: int = 1, seconds: float = 60) -> Object:
        """Until a revision is latched as rejected so many times and has no users; returns the latch."""
        revision, service = serving["revision"], serving["service"]

        def look() -> object:
            times = self.rejected(revision).get("attempts", 0)
            if times < attempts:
                return f"rejected {times} time(s); {self.shown()}"
            return True if self.share(service) == 0 else f"rejected, and {self.share(service):g} % of the users"

        wait_until(f"revision {revision} is rolled back", look, seconds)
        return self.rejected(revision)

    # What must hold in every story.

    def check_raises(self, service: str, *steps: float, least: float = 4.0, name: str = ROLLOUT) -> None:
        """Every raise went to the next of these steps (all stages in a row) and no further, came at least `least` seconds after the one before,
        and names its decision. A candidate that was taken off may begin again at the first step."""
        ladder = [*steps, 100.0]
        changes = self.routes.shares(name, service)
        reached, raised_at = 0, float("-inf")
        for (_, before), (version, now) in zip(changes, changes[1:]):
            if now <= before:
                continue
            again = before == 0 and round(now, 1) == ladder[0]
            expected = ladder[min(reached, len(ladder) - 1)]
            check("a raise goes to the next step", again or same(round(now, 1), expected))
            reached = 1 if again and expected != ladder[0] else reached + 1
            check("a raise waits for evidence about the step before", reached == 1 or at_least(version.at - raised_at, least, " s"))
            check("a raise names its decision", "espalier.dev/decision" in version.object["metadata"].get("annotations", {}))
            raised_at = version.at

    # What a failure is understood from.

    def note(self, text: str) -> None:
        """A measured number that the runner prints beside the result."""
        self.notes.append(text)

    def evidence(self) -> list[str]:
        """Status, routes, events, pods, what users saw, operator log."""
        lines = ["status:"]
        for found in self.api.list("modelrollouts", self.namespace)[:4]:
            status = {key: value for key, value in found.get("status", {}).items() if key != "checkpoint"}
            lines += [found["metadata"]["name"], json.dumps(status, indent=1)]
        lines += ["routes:", *describe([v for name in self.routes.names() for v in self.routes.of(name)][-30:])]
        lines += ["events:", *self.events()[-20:]]
        lines += ["pods:", *[pod_text(pod) for pod in self.api.list("pods", self.namespace)]]
        for users in self.users:
            lines += ["users:", json.dumps(users.stop().get("total", {}))]
        lines += ["503 by the gateway:", *[" ".join(one) for one in self.gateway_errors()[:10]]]
        mine = [text for text in self.operator.log_tail(3000) if self.namespace in text]
        return [*lines, "operator:", *mine[-40:]]


def pod_text(pod: Object) -> str:
    """Name, phase, readiness and restarts."""
    statuses = pod["status"].get("containerStatuses", [])
    state = [f"ready={one['ready']} restarts={one['restartCount']} {json.dumps(one['state'])[:160]}" for one in statuses]
    return f"{pod['metadata']['name']} {pod['status'].get('phase')} {' '.join(state)}"


def clock(text: str) -> float:
    """A timestamp of the API as unix seconds."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
