"""A model that begins to fail at 10 % is rolled back for its errors; only its share of the users ever saw one."""

from story.objects import canary
from story.traffic import of_revision
from story.waiting import at_most, check, same
from story.world import World


def tell(world: World) -> None:
    world.begin()
    users = world.traffic(100)
    world.wait_answers(users, 100)
    world.rollout("structured-50", stages=[canary(10, 50, stepMinDuration="60s")])
    candidate = world.candidate()
    world.wait_share(candidate["service"], 10)
    world.faults(f"espalier.dev/revision={candidate['revision']}", error_rate=0.5)
    users.mark("failing")
    world.wait_rejected(candidate)
    check("by the error guardrail", same(world.decisions("RolledBack")[-1]["guardrail"], "errors"))
    check("from the first step", same(world.ladder(candidate["service"]), [0.0, 10.0, 0.0]))
    users.mark("afterwards")
    world.wait_answers(users, 300)
    failing, afterwards = users.phase("failing"), users.phase("afterwards")
    check("only its users saw errors", same(other_errors(failing, candidate["revision"]), 0))
    check("and they were as many as the step allows", at_most(failing["not_ok"] / failing["sent"], 0.1))
    check("then nobody", same(afterwards["not_ok"], 0))
    world.note(f"{failing['not_ok']} errors for users")


def other_errors(stats: dict, revision: str) -> int:
    """Errors of everything but this revision."""
    mine = of_revision(stats, revision)
    return int(stats["not_ok"] - (mine["requests"] - mine["by_code"].get("200", 0)))
