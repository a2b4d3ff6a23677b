"""Two replicas of the operator: the leader is killed, and the next one frozen and thawed; there is never more than one that acts."""

import time

from story.objects import canary
from story.operator import NAMESPACE, Processes, Replica, instead, leader
from story.waiting import Failed, at_most, check, holds_for, same, wait_until
from story.world import World

# The operator is replaced; as processes, so that a killed one is not started again by the kubelet at once.
ALONE = True


def tell(world: World) -> None:
    world.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    with instead(world.operator, Processes(world.cluster, world.folder, count=3, elect=True)) as operator:
        world.begin()
        users = world.traffic(80)
        world.wait_answers(users, 80)
        world.rollout("structured-50", stages=[canary(10, 25, 50)])
        good = world.candidate()
        world.wait_share(good["service"], 10)

        first = acting(world, operator)
        lease = leader(world.api)
        first.kill()
        killed = time.monotonic()
        second = taken_over(world, operator, lease)
        world.note(f"killed leader replaced after {time.monotonic() - killed:.1f} s")

        world.wait_share(good["service"], 25, 60)
        lease = leader(world.api)
        second.freeze()
        frozen = time.monotonic()
        taken_over(world, operator, lease)
        lease = leader(world.api)
        world.note(f"frozen leader replaced after {time.monotonic() - frozen:.1f} s")
        second.thaw()
        wait_until("a leader that lost its lease ends", lambda: not second.process.alive() or "it lives", 20)
        check("the third one keeps the lease", same(leader(world.api), lease))

        world.wait_serving("structured-50", 120)
        world.check_raises(good["service"], 10, 25, 50)
        world.rollout("pruned-90", stages=[canary(10, 50)])
        bad = world.candidate()
        world.wait_rejected(bad, seconds=60)
        check("the new leader is as strict", same(world.ladder(bad["service"]), [0.0, 10.0, 0.0]))
        holds_for("one leader", lambda: same(leader(world.api), lease), 3)
        check("no request failed", at_most(users.stop()["total"]["not_ok"], 0))


def acting(world: World, operator: Processes) -> Replica:
    """The replica that holds the lease."""
    holder = leader(world.api)
    found = next((replica for replica in operator.replicas() if holder.startswith(replica.name)), None)
    if found is None:
        raise Failed(f"a living replica holds the lease; found: {holder or 'nobody'}")
    return found


def taken_over(world: World, operator: Processes, before: str) -> Replica:
    """The replica that holds the lease after this holder; the lease lasts 15 s."""
    look = lambda: leader(world.api) not in ("", before) or f"{leader(world.api) or 'nobody'} leads"  # noqa: E731
    wait_until(f"another than {before} leads", look, 40)
    return acting(world, operator)
