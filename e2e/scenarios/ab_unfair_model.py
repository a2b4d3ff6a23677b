"""A model that decides otherwise for one group only is rolled back for its unfairness, without a single true label."""

from story.objects import canary
from story.waiting import check, same
from story.world import World

FAIRNESS = {
    "fairness": {
        "events": 'model_decisions_total{decision="positive"}',
        "total": "model_decisions_total",
        "label": "group",
        "groups": ["eu", "us", "ap"],
    },
    "target": "10pp",
    "critical": "15pp",
}


def tell(world: World) -> None:
    world.begin()
    world.policy({"accuracy": None, "fairness": FAIRNESS})
    users = world.traffic(90, "--feedback", "off")
    world.wait_answers(users, 100)
    unfair = {"ESPALIER_FAULT_CONSTANT_RATE": "0.8", "ESPALIER_FAULT_ONLY_REGION": "ap"}
    world.rollout("structured-50", unfair, stages=[canary(10, 50)])
    candidate = world.candidate()
    world.wait_rejected(candidate, seconds=120)
    decision = world.decisions("RolledBack")[-1]
    check("rolled back for its unfairness", same(decision["guardrail"], "fairness"))
    check("and the group is named", "ap" in decision["message"] or decision["message"])
    check("no request failed", same(users.stop()["total"]["not_ok"], 0))
    world.note(decision["message"][:140])
