"""Plays a run: operator, keeper, namespaces, users, faults at their moments; waits for rest; collects the records.

Knows no fault from the inside (faults.py), and judges nothing (judge.py).
"""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from localcluster import layout
from localcluster.errors import ClusterError
from localcluster.layout import Cluster
from story.api import BROKEN, Api, ApiError
from story.operator import NAMESPACE, RELEASE
from story.world import World

from . import clock, faults, schedule
from .clock import Clocked
from .keeper import Keeper
from .record import Done, Run
from .slot import Slot

Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    seed: int
    minutes: float
    namespaces: int
    rps: int
    bound: float


def play(cluster: Cluster, folder: Path, drawn: list[schedule.Fault], size: Size, built: bool, say: Say) -> Run:
    """A run from the first deployment to the records."""
    place = cluster.root / "chaos"
    place.mkdir(exist_ok=True)
    with layout.locked(place):
        no_clock = clock.install() or ("" if built else clock.build())
        operator = Clocked(cluster, place, settable=not no_clock)
        api = Api(cluster.node_ip, cluster.root / "pki")
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        if api.get("deployments", NAMESPACE, RELEASE):
            raise ClusterError(f"an operator is installed in `{cluster.name}` by its chart; the chaos run brings its own, so use another cluster")
        no_disk = faults.separate_disk(cluster)
        keeper = Keeper(cluster, operator)
        try:
            operator.start()
            keeper.start()
            return with_namespaces(faults.Ground(cluster, api, operator, keeper, [], no_clock, no_disk), folder, drawn, size, say)
        finally:
            keeper.stop()
            operator.stop()
            if not no_disk:
                faults.common_disk(cluster)


def with_namespaces(ground: faults.Ground, folder: Path, drawn: list[schedule.Fault], size: Size, say: Say) -> Run:
    """The worlds of the run; all of them go at its end."""
    with ExitStack() as stack:
        for number in range(size.namespaces):
            world = stack.enter_context(World(ground.cluster, ground.operator, folder, f"chaos-{number}-{os.getpid() % 10000}"))
            ground.slots.append(Slot(number, world, schedule.trials(size.seed, number), say))
            stack.callback(ground.slots[-1].watch.close)
        # Users outlast the faults by the time in which everything comes to rest, and a little more.
        minutes = int(size.minutes + size.bound / 60 + 10)
        with ThreadPoolExecutor(size.namespaces) as pool:
            users = list(pool.map(lambda slot: slot.begin(folder, size.rps, minutes), ground.slots))
        say(f"{size.namespaces} namespaces serve; {len(drawn)} faults begin")
        run = Run(size.seed, size.minutes, time.time(), 0.0, 0.0, size.bound, [], [])
        unrest = disturbed(ground, drawn, run, say)
        for each in users:
            each.stop()
        for slot in ground.slots:
            slot.undone()
            past = slot.past(folder)
            past.unrest = unrest.get(slot.number, "")
            run.pasts.append(past)
            with open(folder / f"versions-{slot.number}.jsonl", "w", encoding="utf-8") as lines:
                lines.writelines(json.dumps({"at": version.wall, "kind": version.kind} | version.object) + "\n" for version in slot.watch.versions)
        run.save(folder)
        say(f"brought back by the run: {ground.keeper.restarts}")
        return run


def disturbed(ground: faults.Ground, drawn: list[schedule.Fault], run: Run, say: Say) -> dict[int, str]:
    """Faults at their moments, trials beside them, then rest. Returns what was not at rest in time, by namespace."""
    over = threading.Event()
    began = time.monotonic()
    last = run.began + run.minutes * 60

    def deadline() -> float:
        return (run.last_fault or last) + run.bound

    with ThreadPoolExecutor(len(ground.slots)) as trials, ThreadPoolExecutor(32) as hands:
        running = [trials.submit(slot.run, over, deadline) for slot in ground.slots]
        hand = faults.Faults(ground)
        pending = []
        for fault in drawn:
            # Not a wait for anything: the moment is what was drawn.
            time.sleep(max(0.0, fault.at - (time.monotonic() - began)))
            pending.append(hands.submit(told, hand, fault, run, say))
        time.sleep(max(0.0, run.minutes * 60 - (time.monotonic() - began)))
        over.set()
        run.faults += [each.result() for each in pending]
        run.last_fault = max([run.began, *(one.ended for one in run.faults)])
        say("the faults are over; waiting for rest")
        for each in running:
            each.result()
        unrest = rest(ground, deadline())
    run.calm_after = time.time() - run.last_fault
    return unrest


def told(hand: faults.Faults, fault: schedule.Fault, run: Run, say: Say) -> Done:
    """One fault, with its line in the log."""
    done = hand.perform(fault)
    took = f"{done.began - run.began:7.1f} to {done.ended - run.began:7.1f} s" if done.outcome == "done" else done.outcome
    say(f"#{done.number:<3} {done.name} ({took}{', ' if done.note else ''}{done.note})")
    return done


def rest(ground: faults.Ground, deadline: float) -> dict[int, str]:
    """Until every namespace is at rest; what is not at the deadline, by namespace."""
    while True:
        found = {slot.number: unrest(slot) for slot in ground.slots}
        found = {number: why for number, why in found.items() if why}
        if not found or time.time() > deadline:
            return found
        time.sleep(0.5)


def unrest(slot: Slot) -> str:
    """As the slot says; a question that nobody answers is no rest."""
    try:
        return slot.unrest()
    except (ApiError, *BROKEN, OSError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
