"""Services that the user runs himself: the operator moves traffic between them and touches nothing of them."""

from story.objects import ab_test, canary, own_workload
from story.waiting import check, same, wait_until
from story.world import World


def tell(world: World) -> None:
    world.apply(*own_workload(world.namespace, "fp32", "fp32"), *own_workload(world.namespace, "pruned", "structured-50"))
    world.apply(*own_workload(world.namespace, "broken", "pruned-90"))
    for name in ("fp32", "pruned", "broken"):
        wait_until(f"{name} is ready", lambda name=name: same(world.deployment(name).get("status", {}).get("readyReplicas"), 2))
    before = {name: world.deployment(name)["metadata"]["generation"] for name in ("fp32", "pruned", "broken")}
    world.policy()
    baseline = {"backendRef": {"name": "fp32", "port": 8080}, "matchers": {"app": "fp32"}}

    def offer(model: str, service: str, stages: list) -> dict:
        workload = {"backendRef": {"name": service, "port": 8080}, "matchers": {"app": service}}
        world.rollout(model, workload=workload, baseline=baseline, stages=stages)
        return world.candidate()

    bad = offer("pruned-90", "broken", [canary(10, 50)])
    world.wait_share("fp32", 100)
    users = world.traffic(100)
    world.wait_ok(users, 50)
    users.mark("on trial")
    world.wait_rejected(bad, seconds=90)
    check("the bad one got its first step", same([step for step in world.ladder("broken") if step], [10.0]))
    check("by the accuracy guardrail", same(world.decisions("RolledBack")[-1]["guardrail"], "accuracy"))

    offer("structured-50", "pruned", [canary(10), ab_test(50)])
    world.wait_serving("structured-50", 120)
    world.check_raises("pruned", 10, 50)
    check("the comparison had a control Service of the rollout's own", world.api.get("services", world.namespace, "digits-baseline-control") is not None)
    check("nothing of the user's was touched", same({name: world.deployment(name)["metadata"]["generation"] for name in before}, before))
    names = {found["metadata"]["name"] for found in world.api.list("deployments", world.namespace)}
    check("and nothing was added", same(names, {"fp32", "pruned", "broken"}))
    check("no request failed", same(users.phase("on trial")["not_ok"], 0))
