"""A slow model is rolled back in the shadow stage: its latency is measured on copies, and no user waits for it."""

from story.objects import SHADOW, canary
from story.waiting import at_most, check, same
from story.world import World


def tell(world: World) -> None:
    stable = world.begin()
    users = world.traffic(60)
    world.wait_answers(users, 60)
    world.rollout("structured-50", env={"ESPALIER_FAULT_LATENCY_MS": "300"}, stages=[SHADOW, canary(10)])
    candidate = world.candidate()
    latch = world.wait_rejected(candidate)
    check("by the latency guardrail", same(world.decisions("RolledBack")[-1]["guardrail"], "latency"))
    check("nobody was sent to it", same(world.routes.highest("digits", candidate["service"]), 0.0))
    total = users.stop()["total"]
    check("nobody got an answer of it", same(list(total["revisions"]), [stable["revision"]]))
    check("no request failed", same(total["not_ok"], 0))
    check("nobody waited for it", at_most(total["latency_ms"]["p50"], 150, " ms"))
    world.note(latch["message"])
