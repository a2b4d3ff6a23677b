"""One namespace of the run: its users, and one model after the other on trial, until the run is over.

Applies and watches as a person would who has a GitOps controller; judges nothing.
"""

import threading
import time
from pathlib import Path
from typing import Callable, Iterator, TypeVar

from story.api import BROKEN, ApiError, Object
from story.objects import GUARDRAILS, ROLLOUT
from story.traffic import Traffic
from story.watching import Watch
from story.waiting import same
from story.world import World

from . import record
from .record import Tried
from .schedule import Trial

Got = TypeVar("Got")
# Bounds that a good model stays within on a busy machine, and that each flaw misses by far.
BOUNDS = {
    "accuracy": GUARDRAILS["accuracy"] | {"target": "+6pp vs stable", "critical": "+10pp vs stable"},
    "latency": {"latency": {"histogram": "model_inference_duration_seconds", "slowerThan": "200ms"}, "target": "10%", "critical": "40%"},
    "errors": GUARDRAILS["errors"] | {"target": "3%", "critical": "10%"},
}
PROBATION = "10s"


def patiently(what: Callable[[], Got], seconds: float = 120.0) -> Got:
    """Tries again while the API server is away or busy; any other answer is an error at once."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return what()
        except (*BROKEN, OSError) as error:
            last: Exception = error
        except ApiError as error:
            if error.code not in (403, 409, 429, 500, 503, 504):
                raise
            last = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {last}") from last
        time.sleep(0.3)


class Slot:
    """A world with trials in it."""

    def __init__(self, number: int, world: World, trials: Iterator[Trial], say: Callable[[str], None]) -> None:
        self.number, self.world, self.trials, self.say = number, world, trials, say
        self.watch = Watch(world.api, "modelrollouts", world.namespace, record.trimmed)
        self.tried: list[Tried] = []
        self.known: set[str] = set()

    def begin(self, folder: Path, rps: int, minutes: int) -> Traffic:
        """The first deployment, then users."""
        self.policy()
        self.world.rollout("fp32", probation={"duration": PROBATION}, progressDeadline="90s")
        self.world.wait_serving("fp32", 120)
        self.known = {self.status()["stable"]["revision"]}
        answers = str(record.answers_file(folder, self.number))
        users = self.world.traffic(rps, "--answers", answers, "--users", "200000", "--timeout-ms", "10000", minutes=minutes)
        self.world.wait_answers(users, 20)
        return users

    def policy(self, seconds: float = 120.0) -> None:
        """Applies the policy, also when it was deleted."""
        patiently(lambda: self.world.policy(BOUNDS), seconds)

    def status(self) -> Object:
        """The newest status that the watch told of; empty before the first."""
        versions = self.watch.versions
        return dict(versions[-1].object.get("status", {})) if versions else {}

    def run(self, over: threading.Event, deadline: Callable[[], float]) -> None:
        """Trial after trial until the run is over; the last one may end after that, until the deadline."""
        while not over.is_set():
            trial = next(self.trials)
            tried = Tried(trial.number, trial.model, trial.flaw, trial.line(), time.time())
            self.tried.append(tried)
            try:
                self.tell(trial, tried, deadline)
            except (TimeoutError, ApiError, OSError) as error:
                tried.message = tried.message or f"{type(error).__name__}: {error}"
            self.say(f"namespace {self.number}: {trial.line()}: {tried.end} {tried.guardrail or tried.reason} after {time.time() - tried.began:.0f} s")
            if tried.end == "Unfinished":
                return

    def tell(self, trial: Trial, tried: Tried, deadline: Callable[[], float]) -> None:
        """One trial from the commit to its end."""
        changes = {"stages": trial.stages, "probation": {"duration": PROBATION}, "progressDeadline": "90s"}
        # A GitOps controller never gives up either.
        patiently(lambda: self.world.rollout(trial.model, trial.env, **changes), 900.0)
        while time.time() < deadline():
            status = self.status()
            tried.revision = tried.revision or self.fresh(status)
            if tried.revision and self.ended(status, tried):
                break
            shown = status.get("display", {})
            tried.message = f"{shown.get('stage')} {shown.get('step')} {shown.get('verdict')}: {shown.get('message')}"
            time.sleep(0.2)
        self.known.add(tried.revision)

    def fresh(self, status: Object) -> str:
        """The revision in any role that was not there before this trial."""
        roles = [status.get(role, {}).get("revision", "") for role in ("candidate", "stable")]
        found = [*roles, *(one["revision"] for one in status.get("rejected", []))]
        return next((revision for revision in found if revision and revision not in self.known), "")

    def ended(self, status: Object, tried: Tried) -> bool:
        """Fills in the end when there is one."""
        about = [one for one in status.get("decisions", []) if one["revision"] == tried.revision]
        latch = next((one for one in status.get("rejected", []) if one["revision"] == tried.revision), None)
        if latch:
            decision = next((one for one in about if one["action"] == "RolledBack"), {})
            tried.end = "Inconclusive" if latch["reason"] == "Inconclusive" else "RolledBack"
            tried.guardrail, tried.reason, tried.message = decision.get("guardrail", ""), latch["reason"], latch["message"]
        elif status.get("stable", {}).get("revision") == tried.revision:
            tried.end, tried.reason, tried.message = "Promoted", "Promoted", ""
        else:
            return False
        tried.ended = time.time()
        return True

    def undone(self) -> None:
        """Marks what was promoted and taken back within its probation."""
        for version in self.watch.versions:
            for one in version.object.get("status", {}).get("rejected", []):
                for tried in self.tried:
                    if tried.revision == one["revision"] and tried.end == "Promoted":
                        tried.undone = f"{one['reason']}: {one['message']}"

    def unrest(self) -> str:
        """What is not at rest, in a sentence; empty when everything is."""
        status = self.status()
        conditions = status.get("conditions", {})
        if status.get("candidate") or status.get("attempt") or status.get("probation"):
            return f"a trial or probation goes on: {status.get('display', {}).get('message')}"
        settled = same(conditions.get("Settled", ("", ""))[0], "True")
        if settled is not True or "Reconciling" in conditions:
            return f"the rollout is not settled: {conditions}"
        stable = status["stable"]
        live = self.world.route()
        shares = record.shares(live) if live else {}
        if {name: share for name, share in shares.items() if share} != {stable["service"]: 100.0}:
            return f"the route gives {shares}, and status says {stable['service']}"
        deployments = self.world.api.list("deployments", self.world.namespace)
        extra = [one["metadata"]["name"] for one in deployments if one["spec"].get("replicas") and one["metadata"]["name"] != stable["service"]]
        if extra:
            return f"{', '.join(extra)} still have pods, and no rollout wants them"
        ready = next((one["status"].get("readyReplicas", 0) for one in deployments if one["metadata"]["name"] == stable["service"]), 0)
        return "" if ready == 2 else f"{ready} of 2 pods of {stable['service']} are ready"

    def past(self, folder: Path) -> record.Past:
        """Everything for the judge."""
        standings, services = record.standings(self.watch.versions)
        routes = record.routes(self.world.routes.watch.versions, ROLLOUT)
        answers = record.answers(record.answers_file(folder, self.number))
        return record.Past(self.number, services, standings, routes, self.tried, answers)
