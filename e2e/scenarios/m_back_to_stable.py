"""The spec goes back to what serves: the candidate is off at once, and later a return to a promoted model needs no analysis."""

import time

from story.objects import canary
from story.waiting import at_most, check, same
from story.world import World


def tell(world: World) -> None:
    stable = world.begin(stages=[canary(20)])
    users = world.traffic(100)
    world.wait_answers(users, 100)

    world.rollout("pruned-80-ft", stages=[canary(20, stepMinDuration="60s")])
    first = world.candidate()
    world.wait_share(first["service"], 20)
    world.rollout("fp32", stages=[canary(20)])
    seconds = world.wait_share(first["service"], 0, 10)
    check("the candidate is off at once", at_most(seconds, 3, " s"))
    world.wait_serving("fp32")
    check("it is not rejected: nothing was wrong with it", same(world.rejected(first["revision"]), {}))

    world.rollout("structured-50", stages=[canary(20)])
    second = world.candidate()
    world.wait_serving("structured-50", 120)
    world.check_raises(second["service"], 20)

    began = time.monotonic()
    world.rollout("fp32", stages=[canary(20)])
    world.wait_serving("fp32", 60)
    ladder = world.ladder(stable["service"], began)
    check("the way back has no steps", same([step for step in ladder if step], [100.0]))
    check("no request failed", same(users.stop()["total"]["not_ok"], 0))
    world.note(f"off after {seconds:.1f} s, back on the old model after {time.monotonic() - began:.1f} s")
