"""Suspend, approve, abort, promote: a person holds, allows, ends and hastens a rollout, and a stale request is refused."""

from story.objects import canary
from story.waiting import at_most, check, holds_for, same, wait_until
from story.world import World


def tell(world: World) -> None:
    world.begin()
    users = world.traffic(100)
    world.wait_answers(users, 100)
    gated = [canary(10, 50, approval="Required")]

    world.rollout("pruned-80-ft", stages=gated)
    first = world.candidate()
    world.wait_share(first["service"], 10)
    world.rollout("pruned-80-ft", stages=gated, suspend=True)
    wait_until("suspended", lambda: same(world.condition("Ready")[1], "Suspended"), 20)
    held = world.share(first["service"])
    holds_for("a suspended rollout stays where it is", lambda: same(world.share(first["service"]), held), 12)
    world.rollout("pruned-80-ft", stages=gated)

    wait_until("it asks for approval", lambda: same(world.condition("Approved"), ("False", "AwaitingApproval")) if awaits(world) else world.shown(), 90)
    holds_for("without approval nobody promotes it", lambda: same(world.share(first["service"]), 50.0), 5)
    check("a request about another candidate is refused", same(answer(world, "approve", "sha256:" + "0" * 64)[0], "Refused"))
    check("the right one is accepted", same(answer(world, "approve", first["revision"])[0], "Accepted"))
    world.wait_serving("pruned-80-ft", 30)
    world.check_raises(first["service"], 10, 50)

    world.rollout("int8", stages=[canary(10, 50, stepMinDuration="60s")])
    second = world.candidate()
    world.wait_share(second["service"], 10)
    check("abort is accepted", same(answer(world, "abort", second["revision"])[0], "Accepted"))
    latch = world.wait_rejected(second, seconds=10)
    check("it is latched with its reason", same(latch["reason"], "Aborted"))

    world.rollout("structured-50", stages=[canary(10, 50, stepMinDuration="60s")])
    third = world.candidate()
    world.wait_share(third["service"], 10)
    check("promote is accepted", same(answer(world, "promote", third["digest"])[0], "Accepted"))
    world.wait_serving("structured-50", 20)
    check("promote leaves out the steps", same([step for step in world.ladder(third["service"]) if step], [10.0, 100.0]))
    check("no request failed", at_most(users.stop()["total"]["not_ok"], 0))


def awaits(world: World) -> bool:
    """Whether the rollout waits for a person."""
    return world.condition("Approved")[1] == "AwaitingApproval"


def answer(world: World, action: str, candidate: str) -> tuple[str, str]:
    """Asks, and waits for what the status says about it."""
    asked = world.request(action, candidate)
    wait_until("the request is answered", lambda: same(world.status().get("lastRequest", {}).get("id"), asked), 20)
    last = world.status()["lastRequest"]
    return last["result"], last["message"]
