"""The operator is killed ten times at random moments of a good and of a bad rollout: same ends, no raise without a pass, the latch kept."""

import random
import time

from story.objects import ROLLOUT, canary
from story.operator import Processes, instead
from story.waiting import check, holds_for, same
from story.world import World

# The operator is killed; as a process of its own, because a pod killed ten times waits minutes for its next start.
ALONE = True
KILLS = 10


def tell(world: World) -> None:
    seed = int(time.time())
    moments = random.Random(seed)
    world.note(f"seed {seed}")
    with instead(world.operator, Processes(world.cluster, world.folder)) as operator, World(
        world.cluster, operator, world.folder, f"{world.namespace}-bad"
    ) as bad:
        for each, model in ((world, "structured-50"), (bad, "pruned-90")):
            each.begin()
            each.wait_answers(each.traffic(80), 80)
            each.rollout(model, stages=[canary(10, 25, 50)])
        good_one, bad_one = world.candidate(), bad.candidate()
        for _ in range(KILLS):
            # Not a wait for anything: the moment is what is drawn.
            time.sleep(moments.uniform(0.2, 4.0))
            for replica in operator.replicas():
                replica.kill()
            operator.start()
        world.wait_serving("structured-50", 180)
        latch = bad.wait_rejected(bad_one, seconds=60)
        ladder = bad.ladder(bad_one["service"])
        check("the bad one was tried once and went no further", same(ladder, [0.0, 10.0, 0.0]))
        check("one attempt is on record", same(latch["attempts"], 1))
        operator.stop()
        operator.start()
        holds_for("a last restart keeps the latch", lambda: same(bad.ladder(bad_one["service"]), ladder), 4)
        world.check_raises(good_one["service"], 10, 25, 50)
        check("the good one was never taken off", same(world.ladder(good_one["service"]), [0.0, 10.0, 25.0, 50.0, 100.0]))
        for each in (world, bad):
            check("no request failed", same(each.users[0].stop()["total"]["not_ok"], 0))
            check("one route", same(each.routes.names(), [ROLLOUT]))
