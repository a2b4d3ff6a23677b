"""A model that draws too much power is rolled back by the limit on the (simulated) accelerator; users notice nothing."""

from story.objects import canary
from story.waiting import check, same
from story.world import World


def tell(world: World) -> None:
    world.begin()
    users = world.traffic(60)
    world.wait_answers(users, 60)
    world.rollout("structured-50", stages=[canary(10, 50, stepMinDuration="60s")])
    candidate = world.candidate()
    world.wait_share(candidate["service"], 10)
    world.faults(f"espalier.dev/revision={candidate['revision']}", power_factor=6)
    latch = world.wait_rejected(candidate)
    check("by the power limit", same(world.decisions("RolledBack")[-1]["guardrail"], "power"))
    check("from the first step", same(world.ladder(candidate["service"]), [0.0, 10.0, 0.0]))
    total = users.stop()["total"]
    check("no request failed", same(total["not_ok"], 0))
    world.note(latch["message"])
