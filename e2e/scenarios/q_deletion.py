"""The rollout is deleted while its candidate has users: they go back first, and a recreated object takes up what serves.

Deleted with --cascade=orphan, as when a GitOps controller is reinstalled; without, Kubernetes removes the owned pods and route as well.
"""

import time

from story.objects import canary
from story.route_log import share
from story.waiting import check, holds_for, same, wait_until
from story.world import World


def tell(world: World) -> None:
    stable = world.begin()
    users = world.traffic(100)
    world.wait_answers(users, 100)
    world.rollout("structured-50", stages=[canary(10, 50, stepMinDuration="60s")])
    candidate = world.candidate()
    world.wait_share(candidate["service"], 10)

    world.api.delete("modelrollouts", world.namespace, "digits", propagation="Orphan")
    wait_until("the object goes", lambda: same(world.object(), {}), 20)
    left = world.route()
    gone = time.monotonic()
    check("the candidate's users went back before the object went", same(share(left, candidate["service"]), 0.0))
    check("stable has everybody", same(share(left, stable["service"]), 100.0))
    check("its pods stay", same(world.deployment(stable["service"])["status"].get("readyReplicas"), 2))

    users.mark("recreated")
    world.rollout("structured-50", stages=[canary(10, 50)])
    world.wait_adopted(stable)
    holds_for("no model jumps to everybody", lambda: world.share(candidate["service"]) < 100 or "100 %", 5)
    world.wait_serving("structured-50", 120)
    ladder = [step for step in world.ladder(candidate["service"], gone) if step]
    check("the candidate was tried properly", same(ladder, [10.0, 50.0, 100.0]))
    check("no request failed", same(users.stop()["total"]["not_ok"], 0))
