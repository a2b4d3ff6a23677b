"""The stable Service is deleted at 1 %, and all pods of the candidate die at 25 %: weight 0 within a second of the watch event."""

import time

from story.objects import canary
from story.waiting import at_least, at_most, check, same, wait_until
from story.world import World


def tell(world: World) -> None:
    stable = world.begin()
    users = world.traffic(150)
    world.wait_answers(users, 100)
    world.rollout("structured-50", stages=[canary(1, 25, stepMinDuration="10s")])
    candidate = world.candidate()
    service = candidate["service"]
    world.wait_share(service, 1)
    users.mark("service deleted")
    deleted = time.monotonic()
    world.api.delete("services", world.namespace, stable["service"])
    world.wait_share(service, 0, 10)
    off = world.routes.first("digits", service, 0, deleted)
    check("the candidate does not take over for a lost stable", at_most(off.at - deleted, 1, " s"))
    check("it never had more than its step", at_most(world.routes.highest("digits", service), 1))
    look = lambda: True if world.api.get("services", world.namespace, stable["service"]) else "no Service"  # noqa: E731
    wait_until("the stable Service is made again", look, 10)
    first = off.at - deleted

    world.wait_share(service, 25, 120)
    users.mark("candidate dead")
    world.wait_answers(users, 100)
    before = users.phase("candidate dead")["not_ok"]
    check("users were fine in between", same(before, 0))
    killed = time.monotonic()
    world.faults(f"espalier.dev/revision={candidate['revision']}", crash_now=True)
    world.wait_share(service, 0, 10)
    off = world.routes.first("digits", service, 0, killed)
    empty = world.emptied(service, killed)
    check("weight 0 within a second of the watch event", at_most(off.at - empty, 1, " s"))
    lost = users.phase("candidate dead")["not_ok"] - before
    sent = 150 * (off.at - killed + 1.0)
    check("only its share of the users noticed", at_most(lost, 0.25 * sent + 10, " errors"))
    world.wait_ok(users, 100, 10)
    users.mark("afterwards")
    world.wait_answers(users, 200)
    check("then nobody", same(users.phase("afterwards")["not_ok"], 0))
    check("enough users to tell", at_least(users.stop()["total"]["answered"], 1000))
    world.note(f"{first:.2f} s after the Service, {off.at - empty:.2f} s after the last endpoint; {lost} errors")
