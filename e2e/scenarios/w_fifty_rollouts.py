"""Fifty rollouts at once, half of them bad, and one that cannot work: each ends as it should, and none disturbs another.

Each has its own Services, route, host and users, judged by the gateway's own counters per backend. The pods behind the Services are shared,
so that two cores can carry them.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from story.api import Object
from story.objects import canary, own_workload, rollout
from story.traffic import Traffic
from story.waiting import at_most, check, same, wait_until
from story.world import World

# It takes the whole machine.
ALONE = True
GOOD = [f"good-{number:02}" for number in range(25)]
BAD = [f"bad-{number:02}" for number in range(25)]
LATENCY = {
    "latency": {"histogram": "envoy_cluster_upstream_rq_time", "slowerThan": "500ms", "unit": "Milliseconds"},
    "target": "10%",
    "critical": "40%",
}


def one(world: World, name: str, pods: str, **changes: Any) -> list[Object]:
    """A rollout from Service NAME-old to Service NAME-new."""
    arms = {f"{name}-old": "fp32", f"{name}-new": pods}
    services = [service_over(world, service, app) for service, app in arms.items()]
    old, new = (
        {"backendRef": {"name": service, "port": 8080}, "matchers": {"envoy_cluster_name": f"{world.namespace}_{service}_8080"}} for service in arms
    )
    wanted = rollout(world.namespace, host(world, name), pods, workload=new, baseline=old, **({"stages": [canary(20, 50)]} | changes))
    wanted["metadata"]["name"] = name
    return [*services, wanted]


def service_over(world: World, name: str, app: str) -> Object:
    """One more Service over a Deployment's pods."""
    service = own_workload(world.namespace, app, app)[1]
    service["metadata"]["name"] = name
    return service


def host(world: World, name: str) -> str:
    """A host name of its own."""
    return f"{name}.{world.host}"


def tell(world: World) -> None:
    for model in ("fp32", "structured-50", "pruned-90"):
        world.apply(own_workload(world.namespace, model, model)[0])
    for model in ("fp32", "structured-50", "pruned-90"):
        wait_until(f"{model} is ready", lambda model=model: same(world.deployment(model).get("status", {}).get("readyReplicas"), 2))
    world.faults("app=pruned-90", latency_ms=1000)
    world.policy({name: None for name in ("accuracy", "errors", "power", "nan")} | {"latency": LATENCY})
    world.apply(*one(world, "lost", "structured-50", policyRef={"name": "missing"}))
    for good, bad in zip(GOOD, BAD):
        world.apply(*one(world, good, "structured-50"), *one(world, bad, "pruned-90"))
    users: dict[str, Traffic] = {}
    wait_until("everybody has users", lambda: same(len(started(world, users)), len(GOOD + BAD)), 120)
    for each in users.values():
        world.wait_ok(each, 10)
        each.mark("served")

    wait_until("all bad ones are rolled back", lambda: everyone(world, BAD, "RolledBack"), 180)
    wait_until("all good ones are promoted", lambda: everyone(world, GOOD, "Promoted"), 240)
    for name in GOOD:
        world.check_raises(f"{name}-new", 20, 50, name=name)
    for name in BAD:
        check(f"{name} had its first step and no more", same(world.ladder(f"{name}-new", name=name), [0.0, 20.0, 0.0]))
    check("the lost one says why", same(reason(world, "lost"), "PolicyNotFound"))
    for name, each in users.items():
        check(f"no request of {name} failed", same(each.phase("served")["not_ok"], 0))
    totals = stopped(users)
    slow = sum(one["requests"] for name in BAD for revision, one in totals[name]["revisions"].items() if revision not in ("baseline", "unknown"))
    exposed = [seconds_exposed(world, name) for name in BAD]
    # A fifth of ten requests a second, and a few that were on their way.
    check("users of the bad ones met them no more than the step allows", at_most(slow, 1.3 * 0.2 * 10 * (sum(exposed) + len(BAD)), " slow answers"))
    world.note(f"bad ones exposed {min(exposed):.0f} to {max(exposed):.0f} s; {slow} slow answers")


def started(world: World, users: dict[str, Traffic]) -> dict[str, Traffic]:
    """Users for every route that the gateway has taken. In its first moment it may know a route and not yet its endpoints or its cluster, which
    is no rollout's fault."""
    for route in world.api.list("httproutes", world.namespace):
        name = route["metadata"]["name"]
        if route.get("status", {}).get("parents") and name not in users and name in GOOD + BAD:
            users[name] = world.traffic(10, "--feedback", "off", "--timeout-ms", "5000", host=host(world, name))
    return users


def stopped(users: dict[str, Traffic]) -> dict[str, Any]:
    """The totals of all users, who stop side by side."""
    with ThreadPoolExecutor(16) as pool:
        return dict(zip(users, pool.map(lambda each: each.stop()["total"], users.values())))


def seconds_exposed(world: World, name: str) -> float:
    """How long a bad one had users."""
    _, (up, _), (down, _) = world.routes.shares(name, f"{name}-new")
    return down.at - up.at


def everyone(world: World, names: list[str], verdict: str) -> object:
    """True when each of these rollouts shows this verdict."""
    found = world.api.list("modelrollouts", world.namespace)
    shown = {each["metadata"]["name"]: each.get("status", {}).get("display", {}).get("verdict") for each in found}
    missing = {name: shown.get(name) for name in names if shown.get(name) != verdict}
    return True if not missing else f"{len(missing)} of {len(names)} are not {verdict}, such as {dict(list(missing.items())[:3])}"


def reason(world: World, name: str) -> str:
    """Reason of the condition Ready."""
    found = world.api.get("modelrollouts", world.namespace, name) or {}
    return next((each["reason"] for each in found.get("status", {}).get("conditions", []) if each["type"] == "Ready"), "")
