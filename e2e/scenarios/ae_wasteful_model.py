"""Energy per inference: a smaller model shows the saving that was promised and is promoted, a wasteful one is rolled back.

Judged in an A/B stage of two halves, where both models carry the same load; the accelerator is simulated.
"""

from story.objects import ab_test
from story.waiting import check, same
from story.world import World

ENERGY = {
    "energy": {
        "consumption": "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "unit": "Millijoules",
        "inferences": 'model_inference_requests_total{code="200"}',
    },
    "target": "0.95x vs stable",
    "critical": "1.2x vs stable",
    "podLabel": "exported_pod",
}
# A ratio of levels takes three meters in each arm, and two dozen batches of five windows before the first proof.
STAGES = [ab_test(50, maxDuration="10m")]
# Work weighs more than idling on this simulated card, so that a smaller model can show what it saves.
CARD = {"ESPALIER_JOULES_PER_MAC": "0.000005"}


def tell(world: World) -> None:
    world.begin(env=CARD, replicas=3)
    world.policy({"power": None, "energy": ENERGY}, window="1s")
    users = world.traffic(100)
    world.wait_answers(users, 100)
    world.rollout("structured-50", CARD, replicas=3, stages=STAGES)
    world.candidate()
    world.wait_serving("structured-50", 300)

    world.rollout("pruned-80-ft", CARD | {"ESPALIER_FAULT_POWER_FACTOR": "2"}, replicas=3, stages=STAGES)
    candidate = world.candidate()
    world.wait_rejected(candidate, seconds=300)
    decision = world.decisions("RolledBack")[-1]
    check("rolled back for its energy", same(decision["guardrail"], "energy"))
    check("no request failed", same(users.stop()["total"]["not_ok"], 0))
    world.note(decision["message"][:140])
