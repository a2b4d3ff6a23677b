"""A route of the user's own is adopted: only the named rule changes, and on deletion it is put back as it was."""

from story.objects import GATEWAY, canary, own_route, own_workload
from story.waiting import check, same, wait_until
from story.world import World

RULES = [
    {"name": "docs", "matches": [{"path": {"type": "PathPrefix", "value": "/docs"}}], "backendRefs": [{"name": "fp32", "port": 8080}]},
    {
        "name": "model",
        "matches": [{"path": {"type": "PathPrefix", "value": "/v2"}}],
        "timeouts": {"request": "10s"},
        "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-team", "value": "digits"}]}}],
        "backendRefs": [{"name": "fp32", "port": 8080, "weight": 1}],
    },
]


def tell(world: World) -> None:
    world.apply(*own_workload(world.namespace, "fp32", "fp32"), own_route(world.namespace, "mine", world.host, RULES))
    wait_until("the user's own model serves", lambda: same(world.deployment("fp32").get("status", {}).get("readyReplicas"), 2))
    users = world.traffic(100)
    world.wait_ok(users, 50)
    users.mark("adopted")
    before = world.route("mine")["spec"]
    world.policy()
    world.rollout(
        "structured-50",
        route={"adopt": {"name": "mine", "rule": "model"}},
        baseline={"backendRef": {"name": "fp32", "port": 8080}},
        stages=[canary(10, 50, stepMinDuration="60s")],
    )
    candidate = world.candidate()
    world.wait_share(candidate["service"], 10, name="mine")
    during = world.route("mine")["spec"]
    check("the gateway is still the user's", same(during["parentRefs"][0]["name"], GATEWAY[0]["name"]))
    check("the other rule is untouched", same(during["rules"][0], before["rules"][0]))
    adopted = during["rules"][1]
    kept = ("name", "matches", "timeouts", "filters")
    check("what the user wrote stays", same({key: adopted[key] for key in kept}, {key: before["rules"][1][key] for key in kept}))
    world.wait_answers(users, 500)

    world.api.delete("modelrollouts", world.namespace, "digits")
    wait_until("the object goes", lambda: same(world.object(), {}), 20)
    check("the route is as it was", same(world.route("mine")["spec"], before))
    steps = world.ladder(candidate["service"], name="mine")
    check("the candidate had its step and no more", same([step for step in steps if step], [10.0]))
    served = users.phase("adopted")
    world.wait_answers(users, served["answered"] + 200)
    check("no request failed", same(users.phase("adopted")["not_ok"], 0))
