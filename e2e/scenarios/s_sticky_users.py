"""Sticky A/B: a user stays with one model, growth never sends anybody back, and ids that do not spread are reported, not judged."""

from story.objects import ab_test
from story.traffic import Traffic
from story.waiting import Failed, at_least, at_most, check, holds_for, same, wait_until
from story.world import World


def tell(world: World) -> None:
    world.begin()
    users = world.traffic(120, "--users", "600", "--no-id-fraction", "0.1")
    world.wait_answers(users, 100)
    world.rollout("structured-50", stages=[ab_test(20, 50, stepMinDuration="12s")])
    candidate = world.candidate()
    service = candidate["service"]
    world.wait_share(service, slice_of(20), 60)
    fifth = standing(world, users, service, 20)
    world.wait_share(service, slice_of(50), 90)
    half = standing(world, users, service, 50)
    world.wait_serving("structured-50", 120)

    for share, stats in ((20, fifth), (50, half)):
        check(f"at {share} % a user has one model", same(stats["users"]["multi_revision"], 0))
        met = stats["users"]["by_revision"]
        of_all = 100 * met[candidate["revision"]] / sum(met.values())
        # Six hundred users: three standard deviations are 5 to 6 points.
        check(f"at {share} % it is that share of the users", at_most(abs(of_all - share), 7, " points off"))
    world.note(f"{fifth['users']['seen']} users at 20 %, {half['users']['seen']} at 50 %")
    total = users.stop()["total"]
    check("growth and promotion send nobody back", same(total["users"]["flipped_back"], 0))
    check("no request failed", same(total["not_ok"], 0))
    wrong_split(world)


def standing(world: World, users: Traffic, service: str, percent: int) -> dict:
    """What users met while the slice stood still: counted from a moment after the gateway took it, to one before it grows."""
    world.wait_answers(users, users.stats()["phases"][-1]["stats"]["answered"] + 100)
    users.mark(f"slice {percent}")
    last: list[dict] = []

    def look() -> object:
        counted = users.phase(f"slice {percent}")
        if world.share(service) == slice_of(percent):
            last[:] = [counted]
        elif not last:
            raise Failed(f"the slice stands long enough to be looked at; found: it left {percent} % at once")
        enough = last[0]["answered"] >= 800
        return True if enough or world.share(service) != slice_of(percent) else f"{last[0]['answered']} answers"

    wait_until(f"users are counted at {percent} %", look, 60)
    return last[0]


def slice_of(percent: int) -> float:
    """The share of 256 endings, rounded down."""
    return round(100.0 * (percent * 256 // 100) / 256, 1)


def wrong_split(world: World) -> None:
    """All ids end alike, as with a suffix that says nothing: everybody is in the slice, or nobody."""
    users = world.traffic(60, "--users", "1")
    world.rollout("pruned-80-ft", stages=[ab_test(50)])
    candidate = world.candidate()
    world.wait_share(candidate["service"], slice_of(50), 60)
    reasons = lambda: {entry["reason"] for entry in world.status().get("evidence", [])}  # noqa: E731
    wait_until("the mismatch is reported", lambda: "SampleRatioMismatch" in reasons() or f"{reasons()}; {world.shown()}", 90)
    holds_for("nothing is concluded from it", lambda: same(world.share(candidate["service"]), slice_of(50)), 8)
    check("it does not count as harm", same(world.rejected(candidate["revision"]), {}))
    check("users went on", at_least(users.stop()["total"]["by_code"].get("200", 0), 300))
