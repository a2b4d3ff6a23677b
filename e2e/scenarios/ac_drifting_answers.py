"""Answers that drift are found without labels: a model with the old mix of answers is promoted, one that favours a digit is rolled back."""

from story.objects import canary
from story.waiting import check, same
from story.world import World

DRIFT = {"drift": {"bins": "model_predictions_by_class_total", "label": "class"}, "target": "0.1", "critical": "0.25"}


def tell(world: World) -> None:
    world.begin()
    world.policy({"accuracy": None, "prediction-mix": DRIFT})
    users = world.traffic(100, "--feedback", "off")
    world.wait_answers(users, 100)
    world.rollout("structured-50", stages=[canary(50)])
    world.candidate()
    world.wait_serving("structured-50", 150)
    proven = [decision for decision in world.decisions() if decision["action"] == "Promoted"]
    check("the same mix of answers is promoted", same(len(proven) > 0, True))

    world.rollout("pruned-80-ft", {"ESPALIER_FAULT_CONSTANT_RATE": "0.5"}, stages=[canary(50)])
    candidate = world.candidate()
    world.wait_rejected(candidate, seconds=120)
    decision = world.decisions("RolledBack")[-1]
    check("rolled back for its mix of answers", same(decision["guardrail"], "prediction-mix"))
    check("no request failed", same(users.stop()["total"]["not_ok"], 0))
    world.note(decision["message"][:140])
