"""A model that is bad for one region only is rolled back for that region, while its average stays within the bounds.

Without slices the same model is as good as promoted: one region in six hardly moves the average.
"""

from story.objects import GUARDRAILS, canary
from story.traffic import of_revision
from story.waiting import at_most, check, same
from story.world import World

REGIONS = "eu,us,ap,sa,af,me"


def tell(world: World) -> None:
    env = {"ESPALIER_REGIONS": REGIONS}
    world.begin(env=env)
    slices = {"label": "region", "target": "+14pp vs stable", "minSamples": 30}
    world.policy({"accuracy": GUARDRAILS["accuracy"] | {"target": "+14pp vs stable", "critical": "+14pp vs stable", "slices": slices}})
    users = world.traffic(90, "--regions", REGIONS)
    world.wait_answers(users, 100)
    world.rollout("structured-50", env | {"ESPALIER_FAULT_WRONG_RATE": "0.45", "ESPALIER_FAULT_ONLY_REGION": "ap"}, stages=[canary(10, 50)])
    candidate = world.candidate()
    world.wait_rejected(candidate, seconds=150)
    decision = world.decisions("RolledBack")[-1]
    check("rolled back by accuracy", same(decision["guardrail"], "accuracy"))
    check("in the region that suffers", "region ap" in decision["message"] or decision["message"])
    total = users.stop()["total"]
    mine = of_revision(total, candidate["revision"])
    wrong = 100 * mine["wrong_but_teacher_right"] / mine["requests"]
    # About a hundred answers: chance alone moves their average by three standard errors, but not to that of the region.
    chance = 100 * (0.13 * 0.87 / mine["requests"]) ** 0.5
    check("the average would have passed", at_most(wrong, 13 + 3 * chance, " % wrong where the old model is right"))
    check("no request failed", same(total["not_ok"], 0))
    world.note(f"{decision['message'][:110]}; on average {wrong:.1f} % wrong because of it")
