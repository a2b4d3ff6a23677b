"""First deployment: the first model gets the route once it is ready, and no earlier.

Users knock from the beginning: before the first answer the gateway knows no such host, afterwards every answer is a good one.
"""

from story.traffic import of_revision
from story.waiting import at_most, check, same, within
from story.world import World


def tell(world: World) -> None:
    users = world.traffic(60)
    stable = world.begin()
    users.mark("serving")

    check("no baseline, no trial: promoted as the first", same(world.decisions("Promoted")[0]["reason"], "InitialDeployment"))
    check("the route went from nothing to everything in one write", same(world.ladder(stable["service"]), [100.0]))
    appeared = world.routes.of("digits")[0]
    ready = world.deployment(stable["service"])["status"]["readyReplicas"]
    check("both pods were ready before the route appeared", same(ready, 2))
    check("the Deployment is older than the route", world.deployment(stable["service"])["metadata"]["creationTimestamp"] <= appeared.object["metadata"]["creationTimestamp"])

    world.wait_answers(users, 300)
    served = users.phase("serving")
    check("every answer is good", same(served["not_ok"], 0))
    check("and comes from the first revision", same(list(served["revisions"]), [stable["revision"]]))
    whole = users.stop()["total"]
    # A gateway without any route does not listen at all; with the first one it may know the host a moment before the Service (NC).
    check("before that there was no such host", within(whole["by_code"], ["200", "404", "503", "connect"]))
    check("and never a server without pods", within([flags for _, flags in world.gateway_errors()], ["NC"]))
    wrong = of_revision(served, stable["revision"])["wrong"] / served["answered"]
    check("the answers are as right as the model is", at_most(100 * wrong, 4, " %"))
