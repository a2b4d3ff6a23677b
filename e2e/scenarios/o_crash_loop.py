"""A candidate that crashes is rolled back; and a rollback does not wait for a stable model that is scaling and not ready."""

import time

from story.objects import canary
from story.traffic import of_revision
from story.waiting import at_least, at_most, check, same, wait_until
from story.world import World


def tell(world: World) -> None:
    stable = world.begin()
    users = world.traffic(60)
    world.wait_answers(users, 60)

    world.rollout("structured-50", env={"ESPALIER_FAULT_CRASH_AFTER_S": "1"}, stages=[canary(10, 50)])
    crashing = world.candidate()
    latch = world.wait_rejected(crashing, seconds=90)
    check("rolled back for the pods, not for numbers", same(world.decisions("RolledBack")[-1]["guardrail"], "workload"))
    check("with the cause", "rash" in latch["message"] or latch["message"])
    check("at most the first step was exposed", at_most(world.routes.highest("digits", crashing["service"]), 10))
    world.note(latch["message"][:120])

    world.rollout("pruned-80-ft", stages=[canary(10, 50, stepMinDuration="60s")])
    candidate = world.candidate()
    world.wait_share(candidate["service"], 10)
    unready_stable(world, stable)
    began = time.monotonic()
    world.faults(f"espalier.dev/revision={candidate['revision']}", nan_rate=1.0)
    world.wait_rejected(candidate, seconds=30)
    seconds = world.routes.shares("digits", candidate["service"])[-1][0].at - began
    scaled = world.deployment(stable["service"])["status"]
    check("stable was not ready then", at_least(scaled["replicas"] - scaled.get("readyReplicas", 0), 1, " unready pods"))
    check("nobody waited for it", at_most(seconds, 5, " s"))
    total = users.stop()["total"]
    lost = total["not_ok"] - other_errors(total, crashing["revision"])
    check("only users of the crashing candidate saw errors", same(total["not_ok"], lost))
    world.note(f"rolled back {seconds:.1f} s after NaN with stable at {scaled.get('readyReplicas', 0)} of {scaled['replicas']}")


def unready_stable(world: World, stable: dict) -> None:
    """One pod of stable says that it is not ready, and more are asked for than the cluster can place."""
    labels = f"espalier.dev/revision={stable['revision']}"
    sick = world.pods(labels)[0]
    world.faults_on(sick, not_ready=True)
    world.api.patch("deployments", world.namespace, stable["service"], {"spec": {"replicas": 3}})

    def look() -> object:
        """The sick pod itself: one that is only starting would be ready a moment later."""
        status = world.deployment(stable["service"])["status"]
        now = next(pod for pod in world.pods(labels) if pod["metadata"]["name"] == sick["metadata"]["name"])
        ready = next(one["status"] for one in now["status"]["conditions"] if one["type"] == "Ready")
        return same((status["replicas"], ready), (3, "False"))

    wait_until("stable is scaling and not all ready", look, 30)


def other_errors(stats: dict, revision: str) -> int:
    """Errors of everything but this revision."""
    mine = of_revision(stats, revision)
    return int(stats["not_ok"] - (mine["requests"] - mine["by_code"].get("200", 0)))
