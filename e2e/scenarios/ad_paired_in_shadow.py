"""Pairs in the shadow: both models answer the same requests, a collector joins them with the truth, and a bad model never meets a user."""

from story.objects import COMPARER, GUARDRAILS, SHADOW, canary, comparer
from story.traffic import of_revision
from story.waiting import at_least, check, same, wait_until
from story.world import World

PAIRED = {
    "paired": {
        "candidateWrong": 'comparer_labelled_pairs_total{outcome="champion_only"}',
        "stableWrong": 'comparer_labelled_pairs_total{outcome="candidate_only"}',
        "total": "comparer_labelled_pairs_total",
        "revisionLabel": "candidate",
    },
    "target": "+4pp vs stable",
    "critical": "+8pp vs stable",
}
# The Service's address is in the pods' environment, so that a static program needs no resolver.
REPORTS = {"ESPALIER_COMPARER": "http://$(COMPARER_SERVICE_HOST):8082/reports"}


def tell(world: World) -> None:
    world.apply(*comparer(world.namespace))
    ready = lambda: same(world.deployment(COMPARER).get("status", {}).get("readyReplicas"), 1)  # noqa: E731
    wait_until("the comparer is ready", ready, 60)
    world.begin(env=REPORTS)
    world.policy({"accuracy": GUARDRAILS["accuracy"] | {"stages": ["Canary"]}, "same-requests": PAIRED})
    users = world.traffic(90)
    world.wait_answers(users, 100)

    stages = [SHADOW, canary(50)]
    world.rollout("structured-50", REPORTS, stages=stages)
    good = world.candidate()
    world.wait_serving("structured-50", 180)
    pairs = f'sum(comparer_labelled_pairs_total{{namespace="{world.namespace}",candidate="{good["revision"]}"}})'
    check("it was judged on pairs", at_least(world.measured(pairs), 100, " pairs"))

    world.rollout("pruned-90", REPORTS, stages=stages)
    candidate = world.candidate()
    world.wait_rejected(candidate, seconds=120)
    decision = world.decisions("RolledBack")[-1]
    check("rolled back by the pairs", same(decision["guardrail"], "same-requests"))
    check("before any user met it", same(world.routes.highest("digits", candidate["service"]), 0.0))
    total = users.stop()["total"]
    check("no answer came from it", same(of_revision(total, candidate["revision"])["requests"], 0))
    check("no request failed", same(total["not_ok"], 0))
    world.note(decision["message"][:140])
