"""Prometheus stops for a minute mid-canary: exposure never rises meanwhile, nothing is rejected, and afterwards it goes on.

Two rollouts see the same outage. For the one with long windows a minute is bearable: it holds. The one with short windows is blind after
five of them: its candidate goes to 0, keeps its evidence and comes back.
"""

import time

from localcluster import lifecycle

from story.objects import canary
from story.waiting import at_most, check, holds_for, same
from story.world import World

# Everybody's Prometheus stops.
ALONE = True
OUTAGE = 60.0


def tell(world: World) -> None:
    with World(world.cluster, world.operator, world.folder, f"{world.namespace}-short") as short:
        for each, window in ((world, "15s"), (short, "2s")):
            each.begin()
            each.policy(window=window)
            each.wait_answers(each.traffic(100), 100)
            each.rollout("structured-50", stages=[canary(30, stepMinDuration="15s")])
        services = {each: each.candidate()["service"] for each in (world, short)}
        for each, service in services.items():
            each.wait_share(service, 30)
            each.wait_answers(each.users[0], 400)
        resumed = outage(services)
        for each in services:
            each.wait_serving("structured-50", 180)
        world.note(f"promoted {time.monotonic() - resumed:.0f} s after Prometheus was back")
        check("long windows hold", same(world.ladder(services[world]), [0.0, 30.0, 100.0]))
        check("short windows are lowered and come back", same(short.ladder(services[short]), [0.0, 30.0, 0.0, 30.0, 100.0]))
        check("for the reason that they are blind", same([one["reason"] for one in short.decisions("Lowered")], ["MetricsUnavailable"]))
        for each, service in services.items():
            each.check_raises(service, 30)
            check("no request failed", same(each.users[0].stop()["total"]["not_ok"], 0))


def outage(services: dict[World, str]) -> float:
    """A minute without Prometheus; returns when it was back."""
    candidates = {each: each.status()["candidate"]["revision"] for each in services}
    lifecycle.stop_component(next(iter(services)).cluster, "prometheus")
    try:
        look = lambda: at_most(max(each.share(service) for each, service in services.items()), 30, " %")  # noqa: E731
        holds_for("exposure does not rise blindly", look, OUTAGE)
        for each, revision in candidates.items():
            check("nothing is rejected for want of numbers", same(each.rejected(revision), {}))
            check("the status says what is missing", "cannot be measured" in each.shown() or "lowered" in each.shown() or each.shown())
    finally:
        lifecycle.start_component(next(iter(services)).cluster, "prometheus")
    return time.monotonic()
