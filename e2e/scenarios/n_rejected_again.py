"""A rejected model is not tried again by a re-apply or a restart of the operator; a retry request does."""

from story.objects import canary
from story.waiting import check, holds_for, same, wait_until
from story.world import World

# The operator is restarted.
ALONE = True


def tell(world: World) -> None:
    stable = world.begin()
    users = world.traffic(100)
    world.wait_answers(users, 100)
    world.rollout("pruned-90", stages=[canary(10, 50)])
    candidate = world.candidate()
    world.wait_rejected(candidate)
    ladder = [0.0, 10.0, 0.0]
    check("tried once", same(world.ladder(candidate["service"]), ladder))

    world.rollout("fp32", stages=[canary(10, 50)])
    world.wait_serving("fp32")
    world.rollout("pruned-90", stages=[canary(10, 50)], progressDeadline="90s")
    world.operator.stop()
    world.operator.start()
    wait_until("the re-applied spec is seen", lambda: same(world.status()["observedGeneration"], world.object()["metadata"]["generation"]))
    users.mark("latched")
    holds_for("it is not tried again", lambda: same((world.ladder(candidate["service"]), world.condition("Ready")[1]), (ladder, "RolledBack")), 8)
    check("users met only the stable model", same(list(users.phase("latched")["revisions"]), [stable["revision"]]))

    asked = world.request("retry", candidate["revision"])
    wait_until("the request is answered", lambda: same(world.status().get("lastRequest", {}).get("id"), asked))
    check("it is accepted", same(world.status()["lastRequest"]["result"], "Accepted"))
    world.wait_share(candidate["service"], 10)
    world.wait_rejected(candidate, attempts=2)
    check("tried a second time", same(world.ladder(candidate["service"]), ladder + [10.0, 0.0]))
    check("no request failed", same(users.stop()["total"]["not_ok"], 0))
