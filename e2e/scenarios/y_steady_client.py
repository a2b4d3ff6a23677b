"""A steady client at 300 requests a second through the whole story, a promotion and two rollbacks: not one request fails."""

from story.objects import AB, SHADOW, canary
from story.waiting import check, same, wait_until
from story.world import World

# 300 requests a second, their copies and their labels want both cores.
ALONE = True


def tell(world: World) -> None:
    stable = world.begin()
    users = world.traffic(300)
    world.wait_answers(users, 300)
    world.rollout("structured-50", stages=[SHADOW, canary(10, 50), AB])
    good = world.candidate()
    world.wait_serving("structured-50", 180)
    world.check_raises(good["service"], 10, 50, 50)
    wait_until("the old model is parked", lambda: same(world.deployment(stable["service"])["spec"]["replicas"], 0), 60)

    world.rollout("pruned-90", stages=[canary(10, 50)])
    bad = world.candidate()
    world.wait_rejected(bad, seconds=60)
    wait_until("the bad model is parked", lambda: same(world.deployment(bad["service"])["spec"]["replicas"], 0), 60)

    world.rollout("pruned-80-ft", stages=[canary(10, 50, stepMinDuration="60s")])
    broken = world.candidate()
    world.wait_share(broken["service"], 10)
    world.faults(f"espalier.dev/revision={broken['revision']}", nan_rate=1.0)
    world.wait_rejected(broken, seconds=30)
    wait_until("it is parked, too", lambda: same(world.deployment(broken["service"])["spec"]["replicas"], 0), 60)

    total = users.stop()["total"]
    check("not one request failed", same(total["by_code"], {"200": total["sent"]}))
    world.note(f"{total['sent']} requests, {total['skipped']} skipped, p99 {total['latency_ms']['p99']:.0f} ms")
