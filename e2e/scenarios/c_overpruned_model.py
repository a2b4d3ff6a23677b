"""An over-pruned model, just as fast and without errors, is rolled back for its wrong answers.

It never gets past its first step, and what it cost the users is counted.
"""

from story.objects import canary
from story.traffic import of_revision
from story.waiting import at_most, check, holds_for, same, wait_until
from story.world import World


def tell(world: World) -> None:
    world.begin()
    users = world.traffic(100)
    world.wait_answers(users, 100)
    world.rollout("pruned-90", stages=[canary(10, 50)])
    candidate = world.candidate()
    service = candidate["service"]
    world.wait_share(service, 10)
    users.mark("exposed")
    latch = world.wait_rejected(candidate)
    check("rolled back for its answers", same(latch["reason"], world.decisions("RolledBack")[-1]["reason"]))
    check("by the accuracy guardrail", same(world.decisions("RolledBack")[-1]["guardrail"], "accuracy"))
    check("from the first step", same(world.ladder(service), [0.0, 10.0, 0.0]))
    exposed = users.phase("exposed")
    check("users met it no more than the step allows", at_most(of_revision(exposed, candidate["revision"])["share"], 0.16))

    users.mark("afterwards")
    holds_for("nobody is sent to it again", lambda: same(world.share(service), 0.0), 5)
    check("Git sees that the commit did not make it", same(world.condition("Ready"), ("False", "RolledBack")))
    wait_until("its pods go", lambda: same(world.deployment(service)["spec"]["replicas"], 0), 40)
    check("no answer came from it", same(of_revision(users.phase("afterwards"), candidate["revision"])["requests"], 0))
    total = users.stop()["total"]
    check("no request failed", same(total["not_ok"], 0))
    first, last = world.routes.first("digits", service, 10), world.routes.shares("digits", service)[-1][0]
    seconds = last.at - first.at if first else 0.0
    world.note(f"{total['wrong_but_teacher_right']} wrong answers because of it, {seconds:.1f} s at 10 %")
