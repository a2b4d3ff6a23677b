"""A new candidate while another is on trial: the first one's users go back before the second one gets any."""

from story.objects import canary
from story.waiting import check, same
from story.world import World


def tell(world: World) -> None:
    world.begin()
    users = world.traffic(100)
    world.wait_answers(users, 100)
    world.rollout("pruned-80-ft", stages=[canary(10, 50, stepMinDuration="60s")])
    first = world.candidate()
    world.wait_share(first["service"], 10)

    world.rollout("structured-50", stages=[canary(10, 50)])
    second = world.candidate()
    world.wait_serving("structured-50", 120)
    check("the first one went up and down once", same(world.ladder(first["service"]), [0.0, 10.0, 0.0]))
    off = world.routes.first("digits", first["service"], 0, world.routes.first("digits", first["service"], 10).at)
    began = world.routes.first("digits", second["service"], 10)
    check("the second one got users only afterwards", off.at < began.at)
    check("the first one is not rejected: nothing was wrong with it", same(world.rejected(first["revision"]), {}))
    world.check_raises(second["service"], 10, 50)
    check("no request failed", same(users.stop()["total"]["not_ok"], 0))
