"""The policy is edited while a candidate is on trial: nobody stays exposed under the old terms, and the evidence starts anew."""

from story.objects import GUARDRAILS, canary
from story.waiting import check, same
from story.world import World


def tell(world: World) -> None:
    world.begin()
    users = world.traffic(100)
    world.wait_answers(users, 100)
    world.rollout("structured-50", stages=[canary(10, 50)])
    candidate = world.candidate()
    world.wait_share(candidate["service"], 50)
    before = world.status()["attempt"]
    world.policy({"accuracy": GUARDRAILS["accuracy"] | {"target": "+4pp vs stable", "critical": "+6pp vs stable"}})
    world.wait_share(candidate["service"], 0, 10)
    world.wait_serving("structured-50", 120)
    check("from the beginning, once", same(world.ladder(candidate["service"])[:6], [0.0, 10.0, 50.0, 0.0, 10.0, 50.0]))
    world.check_raises(candidate["service"], 10, 50)
    restarted = world.decisions("Restarted")
    check("it is on record", same([one["reason"] for one in restarted], ["PolicyChanged"]))
    check("the new terms were pinned", "+4pp" not in before["pinned"])
    check("no request failed", same(users.stop()["total"]["not_ok"], 0))
