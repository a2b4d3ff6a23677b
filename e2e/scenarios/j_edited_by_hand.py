"""The weight is edited by hand: upward it is lowered again within seconds, downward it only rises again with fresh proof."""

import time

from story.objects import canary
from story.waiting import at_least, at_most, check, same, wait_until
from story.world import World


def tell(world: World) -> None:
    stable = world.begin()
    users = world.traffic(100)
    world.wait_answers(users, 100)
    world.rollout("structured-50", stages=[canary(10, 20)])
    candidate = world.candidate()
    service = candidate["service"]
    world.wait_share(service, 10)

    edited = time.monotonic()
    world.weigh({stable["service"]: 30, service: 70})
    # The answer may be faster than any poll; the watch sees every version.
    wait_until("the edit is seen", lambda: world.routes.first("digits", service, 70, edited) is not None, 5)
    raised = world.routes.first("digits", service, 70, edited)
    world.wait_lowered(service, 10, 10)
    lowered = next(version for version, share in world.routes.shares("digits", service, raised.at) if share <= 10)
    check("a raise by hand is taken back", at_most(lowered.at - raised.at, 2, " s"))
    wait_until("it is on record", lambda: any(text.startswith("ForeignEdit: a-person raised") for text in world.events()) or world.events(), 10)

    world.wait_share(service, 10, 60)
    edited = time.monotonic()
    world.weigh({stable["service"]: 100, service: 0})
    world.wait_share(service, 0, 5)
    world.wait_serving("structured-50", 120)
    again = world.routes.first("digits", service, 10, edited)
    check("a lowered weight rises again from the first step, with fresh proof", at_least(again.at - edited, 4, " s"))
    check("one step at a time", same([step for step in world.ladder(service, edited) if step][:3], [10.0, 20.0, 100.0]))
    check("no request failed", same(users.stop()["total"]["not_ok"], 0))
    world.note(f"taken back after {lowered.at - raised.at:.2f} s")
