"""A model that begins to answer NaN is off the route within three seconds of the first scraped NaN.

The clock starts with the sample that Prometheus stored and stops with the version of the route that has weight 0.
"""

from story.objects import canary
from story.waiting import at_most, check, same
from story.world import World


def tell(world: World) -> None:
    world.begin()
    users = world.traffic(100)
    world.wait_answers(users, 100)
    world.rollout("structured-50", stages=[canary(10, 50, stepMinDuration="60s")])
    candidate = world.candidate()
    world.wait_share(candidate["service"], 10)
    world.wait_answers(users, 400)
    world.faults(f"espalier.dev/revision={candidate['revision']}", nan_rate=1.0)
    world.wait_rejected(candidate)
    check("by the tripwire", same(world.decisions("RolledBack")[-1]["guardrail"], "nan"))
    check("from the first step", same(world.ladder(candidate["service"]), [0.0, 10.0, 0.0]))
    series = f'model_nonfinite_outputs_total{{namespace="{world.namespace}",espalier_dev_revision="{candidate["revision"]}"}}'
    scraped = world.first_sample_above(series, 0)
    off = world.routes.shares("digits", candidate["service"])[-1][0]
    seconds = off.wall - (scraped or 0.0)
    check("weight 0 soon after the first scraped NaN", at_most(seconds, 3, " s"))
    total = users.stop()["total"]
    check("no request failed", same(total["not_ok"], 0))
    world.note(f"weight 0 {seconds:.2f} s after the first scraped NaN; {total['nonfinite']} NaN answers")
