"""What all measurements stand on: the cluster, the operator as a process of this machine, the fake Prometheus, and the watches.

Leaves nothing behind but the cluster: `close` ends what it started and deletes the namespace.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from localcluster import commands, fakes, processes
from localcluster.layout import Cluster
from story.api import Api, ApiError, Object
from story.operator import apply_crds
from story.waiting import wait_until

from . import counting, objects
from .fake_prometheus import FakePrometheus
from .history import Rollouts, Routes
from .objects import CLIMBING, NAMESPACE, POLICY

HEALTH, METRICS = "127.0.0.1:18981", "127.0.0.1:18980"
# Objects that are written side by side when many are made.
HANDS = 8


class Ground:
    """Everything that measurements use."""

    def __init__(self, cluster: Cluster, binary: Path, seed: int) -> None:
        self.cluster, self.binary = cluster, binary
        self.folder = cluster.root / "bench"
        self.folder.mkdir(exist_ok=True)
        self.api = Api(cluster.node_ip, cluster.root / "pki")
        self.prometheus = FakePrometheus(seed)
        self.operator: processes.Process | None = None

    def open(self) -> None:
        """Brings everything up."""
        fakes.up(self.cluster, 1)
        apply_crds(self.cluster)
        self.clear()
        self.api.apply(objects.namespace())
        # Windows of a minute are the default; the one for climbing is as short as its steps.
        self.api.apply(objects.policy(POLICY, self.prometheus.address, "1m"))
        self.api.apply(objects.policy(CLIMBING, self.prometheus.address, "2s"))
        self.routes = Routes(self.api, self.prometheus)
        self.rollouts = Rollouts(self.api)
        self.start_operator()

    def close(self) -> None:
        """Takes everything down again."""
        self.clear()
        self.stop_operator()
        self.prometheus.stop()

    def clear(self) -> None:
        """Deletes the namespace; rollouts first, while there is an operator for their finalizers."""
        self.remove_rollouts()
        if self.api.get("namespaces", "", NAMESPACE):
            self.api.delete("namespaces", "", NAMESPACE)
            wait_until("the namespace is gone", lambda: self.api.get("namespaces", "", NAMESPACE) is None or "still there", 180)

    def remove_rollouts(self) -> None:
        """Deletes every rollout with its children, and waits until their pods are gone."""
        names = [found["metadata"]["name"] for found in self.listed("modelrollouts")]
        for_all(lambda name: self.api.delete("modelrollouts", NAMESPACE, name), names)
        if names and not (self.operator and self.operator.alive()):
            for_all(self.drop_finalizer, names)
        wait_until("the rollouts are gone", lambda: not self.listed("modelrollouts") or "still there", 180, 0.5)
        wait_until("their pods are gone", lambda: not self.listed("pods") or f"{len(self.listed('pods'))} left", 300, 0.5)

    def drop_finalizer(self, name: str) -> None:
        """For what an earlier run left behind."""
        try:
            self.api.patch("modelrollouts", NAMESPACE, name, {"metadata": {"finalizers": None}})
        except ApiError as error:
            if error.code != 404:
                raise

    def listed(self, plural: str) -> list[Object]:
        """All objects of a kind; none when the namespace does not exist."""
        return self.api.list(plural, NAMESPACE)

    # The operator.

    @property
    def metrics(self) -> str:
        """Address of its metrics."""
        return f"http://{METRICS}/metrics"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.operator is not None
        return self.operator.pid

    def start_operator(self) -> None:
        """One replica, without a lease, at its default settings otherwise."""
        environment = commands.variables(self.cluster) | {"POD_NAME": "bench", "POD_NAMESPACE": NAMESPACE, "HOME": "/tmp"}
        self.operator = start_operator(self.binary, self.folder, environment, HEALTH, METRICS)
        wait_ready(HEALTH, 60)

    def stop_operator(self) -> None:
        """SIGTERM."""
        if self.operator:
            processes.stop_all([self.operator], grace=20)
            self.operator = None

    # Rollouts.

    def apply_all(self, wanted: list[Object]) -> None:
        """Applies many objects side by side."""
        for_all(self.api.apply, wanted)

    def serve(self, names: list[str], seconds: float, policy: str = POLICY) -> None:
        """Makes rollouts whose first model serves everybody."""
        self.apply_all([objects.rollout(name, "first", [10], "6h", policy) for name in names])

        def look() -> object:
            newest = self.rollouts.newest()
            waiting = [name for name in names if condition(newest.get(name, {}), "Promoted") != "True" or not self.serves(newest[name])]
            return True if not waiting else f"{len(waiting)} of {len(names)} wait, such as {message(newest.get(waiting[0], {}))}"

        wait_until(f"{len(names)} rollouts serve their first model", look, seconds, 0.5)

    def serves(self, rollout: Object) -> bool:
        """Whether the gateway has taken the route and stable has everybody."""
        name, stable = rollout["metadata"]["name"], rollout["status"].get("stable", {})
        return self.routes.share(name, stable.get("service", "")) == 100.0

    def offer(self, names: list[str], model: str, steps: list[int], step_minimum: str, policy: str = POLICY) -> None:
        """Commits another model to rollouts."""
        self.apply_all([objects.rollout(name, model, steps, step_minimum, policy) for name in names])

    def on_trial(self, names: list[str], percent: float, seconds: float) -> dict[str, Object]:
        """Waits until every candidate has at least this share and is judged; returns status.candidate by rollout."""
        found: dict[str, Object] = {}

        def look() -> object:
            newest = self.rollouts.newest()
            waiting = []
            for name in names:
                status = newest[name].get("status", {})
                candidate = status.get("candidate", {})
                current = newest[name]["spec"]["model"]["uri"] == candidate.get("uri")
                judging = (status.get("attempt") or {}).get("phase") == "Judging"
                if current and judging and self.routes.share(name, candidate["service"]) >= percent:
                    found[name] = candidate
                else:
                    waiting.append(name)
            return True if not waiting else f"{len(waiting)} of {len(names)} wait, such as {message(newest[waiting[0]])}"

        wait_until(f"{len(names)} candidates have {percent:g} % of the users", look, seconds, 0.2)
        return found

    def request(self, name: str, action: str, candidate: str) -> None:
        """Sets the request annotation."""
        text = json.dumps({"id": f"{action}-{time.monotonic_ns()}", "action": action, "candidate": candidate, "actor": "bench"})
        self.api.patch("modelrollouts", NAMESPACE, name, {"metadata": {"annotations": {"espalier.dev/request": text}}})


def start_operator(binary: Path, folder: Path, environment: dict[str, str], health: str, metrics: str) -> processes.Process:
    """One replica, without a lease, at its default settings otherwise; its log and its pid lie in `folder`."""
    command = [str(binary), "run", "--leader-elect=false", "--log-format=json", f"--health-addr={health}", f"--metrics-addr={metrics}"]
    return processes.start("operator", command, folder / "operator.pid", folder / "operator.log", environment)


def wait_ready(health: str, seconds: float) -> None:
    """Until /readyz says yes."""

    def look() -> object:
        try:
            with urlopen(f"http://{health}/readyz", timeout=2) as answer:
                return answer.status == 200 or answer.status
        except (URLError, OSError) as error:
            return str(error)

    wait_until("the operator is ready", look, seconds)


def for_all(act: object, of: list) -> None:
    """Side by side; the first failure is raised."""
    with ThreadPoolExecutor(HANDS) as pool:
        list(pool.map(act, of))  # type: ignore[arg-type]


def condition(rollout: Object, kind: str) -> str:
    """Status of a condition."""
    found = rollout.get("status", {}).get("conditions", [])
    return next((str(one["status"]) for one in found if one["type"] == kind), "")


def message(rollout: Object) -> str:
    """Name and message of a rollout, for waits that do not end."""
    return f"{rollout.get('metadata', {}).get('name')}: {rollout.get('status', {}).get('display', {}).get('message')}"


def settle(ground: Ground, seconds: float) -> None:
    """Waits until the operator has written nothing for so long."""
    last = [counting.operator_writes(ground.metrics), time.monotonic()]

    def look() -> object:
        now = counting.operator_writes(ground.metrics)
        if now != last[0]:
            last[:] = [now, time.monotonic()]
        return time.monotonic() - float(last[1]) >= seconds or "still writing"  # type: ignore[arg-type]

    wait_until(f"the operator writes nothing for {seconds:g} s", look, 180, 0.5)
