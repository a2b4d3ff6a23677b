"""A good pruned model goes through all stages and is promoted; the old one is parked.

Users never see an error, the mirrored stage never shows them the candidate, and the route rises one proven step at a time.
"""

from story.objects import AB, SHADOW, canary
from story.waiting import at_least, at_most, check, same, wait_until
from story.world import World


def tell(world: World) -> None:
    stable = world.begin()
    users = world.traffic(100)
    world.wait_answers(users, 100)
    world.rollout("structured-50", stages=[SHADOW, canary(10, 25, 50), AB])
    candidate = world.candidate()

    mirrored = f'sum(model_inference_requests_total{{namespace="{world.namespace}",espalier_dev_revision="{candidate["revision"]}"}})'
    wait_until("the candidate gets copies of requests", lambda: at_least(world.measured(mirrored), 50, " requests"), 60)
    check("while no user is sent to it", same(world.routes.highest("digits", candidate["service"]), 0.0))

    world.wait_serving("structured-50", 180)
    world.check_raises(candidate["service"], 10, 25, 50, 50)
    check("users were exposed step by step", same([step for step in world.ladder(candidate["service"]) if step], [10.0, 25.0, 50.0, 50.0, 100.0]))
    check("the last decision is the promotion", same(world.decisions()[-1]["action"], "Promoted"))

    old = stable["service"]
    wait_until("the old model is parked, not deleted", lambda: same(world.deployment(old)["spec"]["replicas"], 0), 60)
    total = users.stop()["total"]
    check("no request failed", same(total["by_code"], {"200": total["sent"]}))
    harm = 100 * total["wrong_but_teacher_right"] / total["answered"]
    check("answers stayed as good as promised", at_most(harm, 3, " % of the answers wrong where the old model is right"))
    world.note(f"{total['answered']} answers, {harm:.2f} % wrong where the old model is right")
