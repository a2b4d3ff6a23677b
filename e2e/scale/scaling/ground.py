"""What the measurements stand on: a cluster reduced to API server, etcd and fake nodes, the operator as a process, and both stand-ins.

Ends every process that it starts. The cluster itself is made and removed by the caller.
"""

import json
import time
from pathlib import Path

from localcluster import commands, components, fakes, lifecycle, processes
from localcluster.layout import Cluster
from measuring import counting, objects
from measuring.ground import for_all, message, start_operator, wait_ready
from story.api import Api, Object
from story.operator import apply_crds
from story.waiting import wait_until

from .routes import Routes
from .stub_prometheus import StubPrometheus

HEALTH, METRICS = "127.0.0.1:18991", "127.0.0.1:18990"
# Copies have names of this form; none of them is ever watched by the test.
IDLE = "idle"
# Programs of the cluster that nothing here needs and that would take the machine's time.
SPARE = ("contour", "envoy", "prometheus", "kube-proxy", "kubelet", "containerd")
# As the chart sets it.
ALLOCATOR = {"_RJEM_MALLOC_CONF": "narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0"}
# Pods that fit a fake node.
ROOM = 2000


class Ground:
    """Everything that measurements use."""

    def __init__(self, cluster: Cluster, binary: Path, seed: int, pods: int) -> None:
        self.cluster, self.binary, self.pods = cluster, binary, pods
        self.folder = cluster.root / "scale"
        self.folder.mkdir(exist_ok=True)
        self.api = Api(cluster.node_ip, cluster.root / "pki")
        self.prometheus = StubPrometheus(objects.NAMESPACE, seed)
        self.operator: processes.Process | None = None

    def open(self) -> None:
        """Brings everything up."""
        fakes.up(self.cluster, self.pods // ROOM + 1)
        apply_crds(self.cluster)
        self.without(*SPARE)
        self.api.apply(objects.namespace())
        self.api.apply(objects.policy(objects.POLICY, self.prometheus.address, "1m"))
        self.routes = Routes(self.api, objects.NAMESPACE, self.prometheus, IDLE)
        self.start_operator()

    def close(self) -> None:
        """Ends what was started here."""
        self.routes.closed = True
        self.stop_operator()
        self.prometheus.stop()

    def without(self, *names: str) -> None:
        """Stops programs of the cluster."""
        for name in names:
            if components.component(self.cluster, name).process():
                lifecycle.stop_component(self.cluster, name)

    @property
    def metrics(self) -> str:
        """Address of the operator's metrics."""
        return f"http://{METRICS}/metrics"

    @property
    def pid(self) -> int:
        """The operator's process."""
        assert self.operator is not None
        return self.operator.pid

    def start_operator(self) -> float:
        """One replica, without a lease, at its default settings otherwise. Returns the seconds until it is ready."""
        began = time.monotonic()
        environment = commands.variables(self.cluster) | ALLOCATOR | {"POD_NAME": "scale", "POD_NAMESPACE": objects.NAMESPACE, "HOME": "/tmp"}
        self.operator = start_operator(self.binary, self.folder, environment, HEALTH, METRICS)
        wait_ready(HEALTH, 120)
        return time.monotonic() - began

    def stop_operator(self) -> None:
        """SIGTERM."""
        if self.operator:
            processes.stop_all([self.operator], grace=20)
            self.operator = None

    def memory(self) -> dict[str, float]:
        """Resident memory of the operator now and at its highest, in MiB."""
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return {name: int(lines[field].split()[0]) / 1024 for name, field in (("now", "VmRSS"), ("peak", "VmHWM"))}

    def offer(self, names: list[str], model: str, shares: dict[str, int]) -> None:
        """Commits a model to rollouts, whose candidates then stay at one share of the users."""
        for_all(lambda name: self.api.apply(objects.rollout(name, model, [shares[name]], "6h")), names)

    def listed(self, names: list[str]) -> dict[str, Object]:
        """The rollouts as they are, asked for page by page."""
        wanted, found, more = set(names), {}, ""
        while True:
            page = self.api.call("GET", f"/apis/espalier.dev/v1alpha1/namespaces/{objects.NAMESPACE}/modelrollouts?limit=500" + (f"&continue={more}" if more else ""))
            found |= {one["metadata"]["name"]: one for one in page["items"] if one["metadata"]["name"] in wanted}
            more = page["metadata"].get("continue", "")
            if not more:
                return found

    def wait_serving(self, names: list[str], seconds: float) -> None:
        """Until the first model of each has everybody and is on record."""

        def look() -> object:
            found = self.listed(names)
            waiting = [name for name in names if not self.serves(found.get(name, {}))]
            return True if not waiting else f"{len(waiting)} of {len(names)} wait, such as {message(found.get(waiting[0], {}))}"

        wait_until(f"{len(names)} rollouts serve their first model", look, seconds, 2.0)

    def serves(self, rollout: Object) -> bool:
        """Whether everybody is on stable and nothing is on trial."""
        status = rollout.get("status", {})
        stable = status.get("stable", {})
        promoted = any(one["type"] == "Promoted" and one["status"] == "True" for one in status.get("conditions", []))
        return promoted and self.routes.share(rollout["metadata"]["name"], stable.get("service", "")) == 100.0

    def wait_trials(self, names: list[str], shares: dict[str, int], seconds: float) -> dict[str, Object]:
        """Until every candidate has its share and is judged; returns status.candidate by rollout."""
        trials: dict[str, Object] = {}

        def look() -> object:
            found = self.listed([name for name in names if name not in trials])
            for name, rollout in found.items():
                status = rollout.get("status", {})
                candidate = status.get("candidate") or {}
                judging = (status.get("attempt") or {}).get("phase") == "Judging"
                if judging and rollout["spec"]["model"]["uri"] == candidate.get("uri") and self.routes.share(name, candidate["service"]) >= shares[name]:
                    trials[name] = candidate
            waiting = [name for name in names if name not in trials]
            return True if not waiting else f"{len(waiting)} of {len(names)} wait, such as {message(found[waiting[0]])}"

        wait_until(f"{len(names)} candidates have their share of the users", look, seconds, 2.0)
        return trials


def settle(ground: Ground, seconds: float) -> None:
    """Waits until the operator has written nothing but refreshed evidence for so long."""
    last: list[object] = [None, time.monotonic()]

    def look() -> object:
        now = json.dumps({what: count for what, count in counting.operator_writes(ground.metrics).items() if "status" not in what}, sort_keys=True)
        if now != last[0]:
            last[:] = [now, time.monotonic()]
        return time.monotonic() - float(last[1]) >= seconds or "still writing"  # type: ignore[arg-type]

    wait_until(f"the operator makes no change for {seconds:g} s", look, 300, 0.5)
