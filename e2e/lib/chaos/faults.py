"""Does the faults: signals to parts and pods, hand-made edits and deletions, a full disk, a wrong clock. And undoes what would not mend itself.

Decides nothing about when; says of each what it hit, or why it could not.
"""

import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from localcluster import components, lifecycle, processes
from localcluster.layout import Cluster
from story.api import BROKEN, Api, ApiError, Object
from story.objects import ROLLOUT
from story.operator import Replica, containers, leader

from .clock import Clocked
from .keeper import Keeper
from .record import EVERYBODY, Done, shares
from .schedule import ROUTES, Fault
from .slot import Slot, patiently

# Who edits by hand, as managedFields name him.
PERSON = "a-person"
# Room for Prometheus in ordinary times.
DISK = "1g"
# How long a fault looks for something to hit, and a part may take to come back, in s.
SEARCH, RETURN = 15.0, 90.0
# What the run itself must put back is tried for so long, in s.
LAST_RESORT = 900.0
# The largest step of a clock, in s.
STEP = 90


class Missed(Exception):
    """There was nothing to hit."""


class Skipped(Exception):
    """This machine cannot do it."""


@dataclass
class Ground:
    """Everything that faults may touch."""

    cluster: Cluster
    api: Api
    operator: Clocked
    keeper: Keeper
    slots: list[Slot]
    # Why the clock or the disk cannot be had; empty when they can.
    no_clock: str = ""
    no_disk: str = ""


class Faults:
    """Does one fault after the other, each in the thread of its caller."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.busy: dict[str, threading.Lock] = {}
        self.guard = threading.Lock()

    def perform(self, fault: Fault) -> Done:
        """One fault from the blow until what was hit works again."""
        card = fault.card
        everybody = card.group != ROUTES and not card.target.startswith("pod of") and card.target != "policy"
        done = Done(fault.number, card.name, card.group, EVERYBODY if everybody else fault.slot, time.time(), 0.0)
        try:
            self.act(fault, done)
        except Missed as error:
            done.outcome, done.note = "missed", str(error)
        except Skipped as error:
            done.outcome, done.note = "skipped", str(error)
        except (TimeoutError, ApiError, OSError, RuntimeError) as error:
            done.note = f"{done.note}; {type(error).__name__}: {error}".strip("; ")
        done.ended = time.time()
        return done

    def act(self, fault: Fault, done: Done) -> None:
        """Chooses the hand that does it."""
        kind, target = fault.card.kind, fault.card.target
        if target in components.NAMES and kind in ("kill", "freeze", "take away"):
            self.part(fault, done)
        elif target.startswith("operator ") and kind in ("kill", "freeze"):
            self.replica(fault, done)
        elif target.startswith("pod of"):
            self.pod(fault, done)
        elif kind == "fill the disk of":
            self.disk(fault, done)
        elif target == "operator":
            self.clock(fault, done)
        elif target == "policy":
            self.policy(fault, done)
        elif kind == "delete":
            self.delete(fault, done)
        else:
            self.edit(fault, done)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """One fault at a time for one thing: a frozen part that is killed would be neither."""
        with self.guard:
            lock = self.busy.setdefault(name, threading.Lock())
        if not lock.acquire(blocking=False):
            raise Missed(f"another fault had {name} at that moment")
        try:
            yield
        finally:
            lock.release()

    # Parts that are processes of this machine.

    def part(self, fault: Fault, done: Done) -> None:
        """SIGKILL, SIGSTOP for a while, or SIGKILL and no return for a while."""
        name, kind = fault.card.target, fault.card.kind
        keeper = self.ground.keeper
        with self.alone(name):
            process = components.component(self.ground.cluster, name).process()
            if process is None:
                raise Missed(f"{name} was not running")
            done.began = time.time()
            if kind == "freeze":
                self.freeze(Replica(name, process), fault.seconds)
            elif kind == "kill":
                process.signal(signal.SIGKILL)
                processes.wait_gone([process], 5)
            else:
                keeper.away.add(name)
                try:
                    process.signal(signal.SIGKILL)
                    time.sleep(fault.seconds)
                finally:
                    keeper.away.discard(name)
            self.back(name, done)

    def back(self, name: str, done: Done) -> None:
        """Waits until the part works again."""
        if not self.ground.keeper.wait_back(name, RETURN):
            done.note = f"{name} did not answer within {RETURN:.0f} s after it was brought back"

    def freeze(self, victim: Replica, seconds: float) -> None:
        """Whatever happens, nothing stays frozen."""
        victim.freeze()
        try:
            time.sleep(seconds)
        finally:
            victim.thaw()

    def replica(self, fault: Fault, done: Done) -> None:
        """The replica that holds the lease, or the other."""
        role = fault.card.target.rpartition(" ")[2]
        with self.alone("operator"):
            try:
                holder = leader(self.ground.api)
            except (ApiError, *BROKEN, OSError):
                holder = ""
            replicas = self.ground.operator.replicas()
            # Without an API server nobody can say who leads; then one of the two is as good as the other.
            wanted = [one for one in replicas if (bool(holder) and holder.startswith(one.name)) == (role == "leader")] or replicas
            if not wanted:
                raise Missed("no replica of the operator was running")
            victim = wanted[int(fault.chance * len(wanted))]
            done.began, done.note = time.time(), victim.name
            if fault.card.kind == "kill":
                victim.kill()
            else:
                self.freeze(victim, fault.seconds)
            deadline = time.monotonic() + RETURN
            while len(self.ground.operator.replicas()) < self.ground.operator.count and time.monotonic() < deadline:
                time.sleep(0.2)

    # Pods.

    def slot(self, fault: Fault, arm: str, routed: bool = False) -> tuple[Slot, Object]:
        """A namespace with something in that role (and in the route, if asked), the drawn one if possible, and the entry in its status."""
        count = len(self.ground.slots)
        deadline = time.monotonic() + SEARCH
        while True:
            for offset in range(count):
                slot = self.ground.slots[(fault.slot + offset) % count]
                serving = slot.status().get(arm)
                if serving and (not routed or serving["service"] in newest(slot)):
                    return slot, serving
            if time.monotonic() > deadline:
                raise Missed(f"no namespace had a {arm} within {SEARCH:.0f} s")
            time.sleep(0.5)

    def pod(self, fault: Fault, done: Done) -> None:
        """SIGKILL or SIGSTOP of its process, or its deletion."""
        arm = fault.card.target.rpartition(" ")[2]
        slot, serving = self.slot(fault, arm)
        done.slot = slot.number
        pods = patiently(lambda: slot.world.pods(f"espalier.dev/revision={serving['revision']}"))
        if not pods:
            raise Missed(f"revision {serving['revision']} had no pod")
        pod = pods[int(fault.chance * len(pods))]
        name = pod["metadata"]["name"]
        done.note = name
        with self.alone(name):
            done.began = time.time()
            if fault.card.kind == "delete":
                patiently(lambda: slot.world.api.delete("pods", slot.world.namespace, name))
                return
            running = containers(self.ground.cluster, [pod])
            if not running:
                raise Missed(f"no container of {name} was running")
            if fault.card.kind == "kill":
                running[0].kill()
            else:
                self.freeze(running[0], fault.seconds)

    # Disk and clock.

    def disk(self, fault: Fault, done: Done) -> None:
        """The file system that holds Prometheus's data shrinks to what is used, and grows again."""
        if self.ground.no_disk:
            raise Skipped(self.ground.no_disk)
        folder = data_folder(self.ground.cluster)
        with self.alone("disk"):
            found = os.statvfs(folder)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize // 1024
            done.began = time.time()
            run("mount", "-o", f"remount,size={used + 4}k", str(folder))
            try:
                time.sleep(fault.seconds)
                done.note = f"full at {used} KiB"
            finally:
                run("mount", "-o", f"remount,size={DISK}", str(folder))
            self.back("prometheus", done)

    def clock(self, fault: Fault, done: Done) -> None:
        """Both replicas, or the leader alone, are so many seconds ahead or behind for a while."""
        if self.ground.no_clock:
            raise Skipped(self.ground.no_clock)
        ahead = "forward" in fault.card.kind
        step = 2 + int(fault.chance * (STEP - 2))
        age = time.time() - (self.ground.cluster.root / "pki" / "ca.crt").stat().st_mtime
        if not ahead and age < step + 5:
            raise Skipped(f"{step} s back is before the cluster's certificates began {age:.0f} s ago")
        numbers = range(self.ground.operator.count) if int(fault.chance * 1000) % 2 else (0,)
        with self.alone("clock"):
            done.began, done.note = time.time(), f"{step if ahead else -step:+d} s for {len(numbers)} of {self.ground.operator.count} replicas"
            for number in numbers:
                self.ground.operator.set_clock(number, step if ahead else -step)
            try:
                time.sleep(fault.seconds)
            finally:
                for number in numbers:
                    self.ground.operator.set_clock(number, 0)

    # What people do.

    def policy(self, fault: Fault, done: Done) -> None:
        """Deleted, and applied again, as a GitOps controller would."""
        slot = self.ground.slots[fault.slot]
        with self.alone(f"policy of {slot.number}"):
            patiently(lambda: slot.world.api.delete("evaluationpolicies", slot.world.namespace, ROLLOUT))
            try:
                time.sleep(fault.seconds)
            finally:
                # However long the API server is away: a policy that stays deleted would hold its namespace for the rest of the run.
                slot.policy(LAST_RESORT)

    def delete(self, fault: Fault, done: Done) -> None:
        """The route or a Service; the operator makes them again, and that is waited for."""
        if fault.card.target == "route":
            slot, plural, name = self.ground.slots[fault.slot], "httproutes", ROLLOUT
        else:
            slot, serving = self.slot(fault, fault.card.target.rpartition(" ")[2])
            plural, name = "services", serving["service"]
        done.slot, done.note = slot.number, name
        old = patiently(lambda: slot.world.api.get(plural, slot.world.namespace, name))
        if not old:
            raise Missed(f"there was no {name} in {plural}")
        done.began = time.time()
        patiently(lambda: slot.world.api.delete(plural, slot.world.namespace, name))
        deadline = time.monotonic() + RETURN
        while time.monotonic() < deadline:
            found = patiently(lambda: slot.world.api.get(plural, slot.world.namespace, name))
            if found and found["metadata"]["uid"] != old["metadata"]["uid"]:
                done.note = f"{name}, made again after {time.time() - done.began:.1f} s"
                return
            if plural == "services" and name not in wanted(slot):
                done.note = f"{name}, which no role needs any more"
                return
            time.sleep(0.2)
        done.note = f"{name} was not made again within {RETURN:.0f} s"

    def edit(self, fault: Fault, done: Done) -> None:
        """Weights up, a rule out, or the candidate out."""
        slot, serving = self.slot(fault, "candidate", routed=True)
        done.slot = slot.number
        for _ in range(3):
            live = patiently(slot.world.route)
            change = edits(fault, live, serving["service"])
            if not change:
                raise Missed(f"the route had nothing to edit for {serving['revision']}")
            change.insert(0, {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]})
            done.began = time.time()
            try:
                edited = patiently(lambda: slot.world.api.patch("httproutes", slot.world.namespace, ROLLOUT, change, manager=PERSON))
            except ApiError as error:
                # The operator wrote meanwhile, so the edit was of something that is gone.
                done.note = str(error)
                continue
            metadata = edited["metadata"]
            done.uid, done.generation, done.note = metadata["uid"], int(metadata["generation"]), serving["revision"]
            if fault.card.kind == "raise by hand":
                done.revision, done.percent = serving["revision"], round(shares(edited).get(serving["service"], 0.0), 2)
                done.note = f"{serving['revision']} to {done.percent:g} %"
            return
        raise Missed(f"the route changed under every edit: {done.note}")


def wanted(slot: Slot) -> set[str]:
    """Services of the roles as they are now."""
    status = slot.status()
    return {status[role]["service"] for role in ("stable", "candidate") if status.get(role)}


def newest(slot: Slot) -> dict[str, float]:
    """Shares by Service in the newest version of the route."""
    versions = slot.world.routes.of(ROLLOUT)
    return shares(versions[-1].object) if versions and versions[-1].exists else {}


def edits(fault: Fault, route: Object, service: str) -> list[dict[str, Any]]:
    """A JSON patch for what the card says; empty when the route has nothing of the kind."""
    rules = route.get("spec", {}).get("rules", [])
    places = [
        (number, index, len(rule["backendRefs"]))
        for number, rule in enumerate(rules)
        for index, ref in enumerate(rule.get("backendRefs") or [])
        if ref["name"] == service
    ]
    if fault.card.kind == "raise by hand":
        # By hand means in every rule that knows the candidate, or sticky users would not notice.
        up = 60 + int(fault.chance * 40)
        change = []
        for number, index, count in places:
            for other in range(count):
                weight = up if other == index else (100 - up) // max(1, count - 1)
                change.append({"op": "add", "path": f"/spec/rules/{number}/backendRefs/{other}/weight", "value": weight})
        return change
    if fault.card.target == "rule of the route":
        return [{"op": "remove", "path": f"/spec/rules/{len(rules) - 1}"}] if len(rules) > 1 else []
    return [{"op": "remove", "path": f"/spec/rules/{number}/backendRefs/{index}"} for number, index, count in reversed(places) if count > 1]


# Prometheus's data on a file system of its own, so that it can be full.


def data_folder(cluster: Cluster) -> Path:
    """Where Prometheus writes."""
    return cluster.root / "prometheus"


def separate_disk(cluster: Cluster) -> str:
    """Puts Prometheus's data into memory of a fixed size; returns why that is not possible, or nothing. `cluster down` unmounts it."""
    folder = data_folder(cluster)
    if os.path.ismount(folder):
        # An earlier run was cut off.
        return ""
    lifecycle.stop_component(cluster, "prometheus")
    try:
        run("mount", "-t", "tmpfs", "-o", f"size={DISK}", "espalier-chaos", str(folder))
        return ""
    except RuntimeError as error:
        return f"a file system for Prometheus cannot be mounted: {error}"
    finally:
        lifecycle.start_component(cluster, "prometheus")


def common_disk(cluster: Cluster) -> None:
    """Takes that away again."""
    lifecycle.stop_component(cluster, "prometheus")
    run("umount", str(data_folder(cluster)))
    lifecycle.start_component(cluster, "prometheus")


def run(*command: str) -> None:
    """A program whose own words explain its failure."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed: {done.stdout.strip()}")
