"""Judges a recorded run: what users received against what was intended, how trials ended, and whether everything came to rest.

Pure: reads records, touches nothing, and knows no clock. A fault excuses only what it disturbs, and only for as long as stated here.
"""

import math
from dataclasses import dataclass
from typing import Iterable

from .record import EVERYBODY, Answer, Done, Past, Route, Run, Standing, Tried
from .schedule import CONTROL, GATEWAY, METRICS, PODS, ROUTES

# Chance of one false alarm per test; an hour has some ten thousand tests.
ALARM = 1e-8
# Users are counted in slices of this length, in s.
SLICE = 5.0
# What a written weight takes to reach the gateway, and what two watches may differ by, in s.
HEARD = 2.0
# How long after its end a fault still disturbs, in s: the gateway and the watches of others come back with waits between their tries.
SETTLE = {GATEWAY: 15.0, CONTROL: 15.0, PODS: 20.0, ROUTES: 10.0, METRICS: 0.0}
# A raise by hand is taken back within this time while nothing else is disturbed, in s; after a disturbance once a new leader may write.
REACTION, TAKEOVER = 3.0, 25.0
# Without control plane for longer than this the node's lease runs out, and Kubernetes itself takes its pods from the Services; and the gateway
# waits for up to a minute between two tries to hear of endpoints again. In s.
LEASE, RETRY = 30.0, 75.0
# After its API server failed more than once, the gateway was seen to hear of no endpoint for 112 s; pods that went meanwhile are still its own. In s.
DEAF = 120.0
# What the clocks of the run and of its users may differ by, in s.
CLOCKS = 0.2
# The policy's risk of rolling back a model within every critical bound.
FALSE_ROLLBACK = 0.05
# What must be disturbed for a good model to fail by these; other guardrails are no fault's doing.
EXCUSES = {"latency": {PODS, GATEWAY, CONTROL}, "errors": {PODS, GATEWAY, CONTROL}, "workload": {PODS, GATEWAY, CONTROL, METRICS, ROUTES}}


@dataclass(frozen=True)
class Violation:
    """A promise that was not kept. `rule` is one of intent, reaction, latch, end, rest, errors."""

    rule: str
    slot: int
    at: float
    text: str


@dataclass
class Findings:
    """All violations, and the numbers that the report shows."""

    violations: list[Violation]
    reactions: list[tuple[float, bool]]
    by_chance: int
    answers: int
    errors: int
    errors_in_peace: int
    beyond_while_deaf: int
    # The longest that the gateway took to report on a version of a route, in s.
    slowest_gateway: float


class Judge:
    """One run under judgement."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.violations: list[Violation] = []
        self.reactions: list[tuple[float, bool]] = []
        self.errors = self.errors_in_peace = self.beyond_while_deaf = self.by_chance = 0

    def findings(self) -> Findings:
        """Everything, rule by rule."""
        for past in self.run.pasts:
            raised = self.hands(past)
            self.routes(past, raised)
            self.users(past, raised)
            self.peace(past)
            self.ends(past)
            if past.unrest:
                self.blame("rest", past, self.run.last_fault, past.unrest)
        self.chance()
        answers = sum(len(past.answers) for past in self.run.pasts)
        ordered = sorted(self.violations, key=lambda one: one.at)
        heard = [route.heard - route.at for past in self.run.pasts for route in past.routes if route.heard]
        counted = (answers, self.errors, self.errors_in_peace, self.beyond_while_deaf)
        return Findings(ordered, self.reactions, self.by_chance, *counted, slowest_gateway=max(heard, default=0.0))

    def blame(self, rule: str, past: Past, at: float, text: str) -> None:
        """Adds a violation."""
        self.violations.append(Violation(rule, past.slot, at, text))

    # What was disturbed when.

    def disturbances(self, slot: int, *groups: str) -> list[Done]:
        """Faults of these groups that touch a namespace."""
        return [one for one in self.run.faults if one.outcome == "done" and one.group in groups and one.slot in (slot, EVERYBODY)]

    def overlapping(self, slot: int, since: float, until: float, *groups: str) -> list[Done]:
        """Those of them that disturb within a time, their settling included."""
        return [one for one in self.disturbances(slot, *groups) if one.began <= until and one.ended + SETTLE[one.group] >= since]

    def heard_since(self, past: Past, at: float) -> float:
        """The oldest moment whose weights the gateway may still have. It has at least the last version that it reported on, unless it is
        itself disturbed: a new process reports before its proxies have connected to it."""
        since = at - HEARD
        while found := [one for one in self.overlapping(past.slot, since, at, GATEWAY) if one.began - HEARD < since]:
            since = min(one.began - HEARD for one in found)
        known = [route for route in past.routes if 0 < route.heard <= since]
        replaced = known and any(known[-1].at < route.at <= at for route in past.routes)
        return min(since, known[-1].at) if replaced else since

    # Rule 1 and 2: nobody beyond the intent, nobody on a rejected revision.

    def hands(self, past: Past) -> list[Standing]:
        """Every raise by hand, from the edit to the first version that is back within the intent; and how long that took."""
        found = []
        for done in self.disturbances(past.slot, ROUTES):
            if not done.revision:
                continue
            service = past.services.get(done.revision, "")
            mine = next((route for route in past.routes if (route.uid, route.generation) == (done.uid, done.generation)), None)
            after = [route for route in past.routes if mine and route.at >= mine.at and route is not mine]
            back = next((route for route in after if within(route, service, self.allowed(past, [], done.revision, route.at - HEARD, route.at))), None)
            until = back.at if back else math.inf
            found.append(Standing(done.began, {done.revision: done.percent}, []))
            found.append(Standing(until, {}, []))
            if mine and mine.shares.get(service, 0.0) > self.allowed(past, [], done.revision, mine.at - HEARD, mine.at):
                self.reaction(past, done, until - mine.at)
        return found

    def reaction(self, past: Past, done: Done, seconds: float) -> None:
        """Whether a raise by hand was taken back in time."""
        until = done.began + REACTION
        disturbed = False
        while True:
            found = self.overlapping(past.slot, done.began - SETTLE[CONTROL], until, CONTROL)
            latest = max([until, *(one.ended + TAKEOVER for one in found)])
            disturbed = disturbed or bool(found)
            if latest <= until:
                break
            until = latest
        self.reactions.append((seconds, disturbed))
        if seconds > until - done.began:
            text = f"a raise of {done.revision} to {done.percent:g} % by hand (#{done.number}) was taken back after {seconds:.1f} s"
            self.blame("reaction", past, done.began, f"{text}, not within {until - done.began:.1f} s")

    def allowed(self, past: Past, raised: list[Standing], revision: str, since: float, until: float) -> float:
        """The largest share that this revision was meant to have, or had by hand, at any moment of a time."""
        most = 0.0
        for number, standing in enumerate(past.standings):
            left = past.standings[number + 1].at if number + 1 < len(past.standings) else math.inf
            if standing.at <= until and left >= since:
                most = max(most, standing.exposure.get(revision, 0.0))
        for start, end in zip(raised[::2], raised[1::2]):
            if start.at <= until and end.at + HEARD >= since:
                most = max(most, start.exposure.get(revision, 0.0))
        return most

    def routes(self, past: Past, raised: list[Standing]) -> None:
        """No version of the route, but one made by hand, gives a revision more than its intent."""
        revisions = {service: revision for revision, service in past.services.items()}
        for route in past.routes:
            for service, share in route.shares.items():
                revision = revisions.get(service, "")
                since = min([route.at - HEARD, *(one.began for one in self.overlapping(past.slot, route.at - HEARD, route.at, CONTROL))])
                if revision and not within(route, service, self.allowed(past, raised, revision, since, route.at + HEARD)):
                    self.blame("intent", past, route.at, f"generation {route.generation} of the route gives {revision} {share:g} %, which was never intended")

    def users(self, past: Past, raised: list[Standing]) -> None:
        """What users got, slice by slice and per trial, against the intent and what chance allows."""
        expected: dict[str, float] = {}
        found: dict[str, int] = {}
        for part in slices(past.answers):
            since, until = self.heard_since(past, part[0].sent), max(answer.ended for answer in part) + HEARD
            for revision in sorted({answer.revision for answer in part} & past.services.keys()):
                got = sum(1 for answer in part if answer.revision == revision)
                percent = self.allowed(past, raised, revision, since, until)
                strict = self.allowed(past, raised, revision, part[0].sent - HEARD, until)
                self.beyond_while_deaf += got if percent > 0 and strict == 0 else 0
                if percent >= 100:
                    continue
                expected[revision] = expected.get(revision, 0.0) + len(part) * percent / 100
                found[revision] = found.get(revision, 0) + got
                if tail(len(part), percent / 100, got) < ALARM:
                    self.beyond(past, part, revision, got, percent)
        for revision, got in found.items():
            if poisson_bound(expected[revision], got) < ALARM:
                text = f"{got} users got {revision}, where its intents make {expected[revision]:.1f} of them likely"
                self.blame("intent", past, past.answers[0].sent, text)

    def beyond(self, past: Past, part: list[Answer], revision: str, got: int, percent: float) -> None:
        """Names what was broken: the latch or the intent."""
        at = part[0].sent
        latched = [standing for standing in past.standings if standing.at <= at]
        rule = "latch" if percent == 0 and latched and revision in latched[-1].rejected else "intent"
        said = "which is rejected" if rule == "latch" else f"whose intent was at most {percent:g} %"
        self.blame(rule, past, at, f"{got} of {len(part)} users within {SLICE:g} s got {revision}, {said}")

    # Rule 5: no errors of our own making.

    def peace(self, past: Past) -> None:
        """While gateway and pods were left in peace, only users of a flawed model may see errors."""
        flawed = {trial.revision for trial in past.trials if trial.flaw}
        worst: dict[int, list[Answer]] = {}
        for answer in past.answers:
            if answer.code == "200" or answer.revision in flawed:
                continue
            self.errors += 1
            if not self.disturbed(past, answer):
                self.errors_in_peace += 1
                worst.setdefault(int(answer.sent // SLICE), []).append(answer)
        for found in worst.values():
            codes = sorted({answer.code for answer in found})
            self.blame("errors", past, found[0].sent, f"{len(found)} answers were {', '.join(codes)} while gateway and pods were left in peace")

    def disturbed(self, past: Past, answer: Answer) -> bool:
        """Whether a fault, or a candidate whose pods crash by themselves, may have made this error."""
        if self.overlapping(past.slot, answer.sent, answer.ended + CLOCKS, GATEWAY, PODS, ROUTES):
            return True
        if self.deaf(past, answer):
            return True
        away = [one for one in self.overlapping(past.slot, answer.sent - RETRY, answer.ended, CONTROL) if one.ended - one.began >= LEASE]
        crashing = [trial for trial in past.trials if trial.flaw == "crashes"]
        return bool(away) or any(trial.began <= answer.ended and answer.sent <= (trial.ended or math.inf) + HEARD for trial in crashing)

    def deaf(self, past: Past, answer: Answer) -> bool:
        """Whether the gateway may not know yet what a fault did to pods or Services, because its API server or etcd had failed."""
        servers = [one for one in self.disturbances(past.slot, CONTROL) if "operator" not in one.name]
        gone = self.disturbances(past.slot, PODS, ROUTES)
        return any(
            one.began <= answer.ended
            and one.ended + DEAF >= answer.sent
            and any(other.began <= answer.ended and other.ended + SETTLE[other.group] >= one.began for other in gone)
            for one in servers
        )

    # Rule 3: every trial ends as it should.

    def ends(self, past: Past) -> None:
        """Bad ones rolled back, good ones promoted, or an end that the faults account for."""
        for trial in past.trials:
            what = f"trial {trial.number} ({trial.model}, {trial.flaw or 'good'}) ended {trial.end}"
            why = f"{trial.guardrail or '-'}: {trial.reason}: {trial.message[:160]}"
            if trial.end == "Unfinished":
                self.blame("end", past, trial.began, f"{what}: {trial.message[:200]}")
            elif trial.flaw and trial.end == "Promoted":
                self.blame("end", past, trial.ended, what)
            elif not trial.flaw and trial.end != "Promoted" and not self.excused(past, trial):
                self.blame("end", past, trial.ended, f"{what} ({why}), and no fault accounts for it")

    def excused(self, past: Past, trial: Tried) -> bool:
        """Whether a fault within the trial can have been the cause of its end."""
        groups = {METRICS, CONTROL, GATEWAY, PODS, ROUTES} if trial.end == "Inconclusive" else EXCUSES.get(trial.guardrail, set())
        if trial.guardrail == "accuracy" and trial.end == "RolledBack":
            self.by_chance += 1
            return True
        return bool(groups and self.overlapping(past.slot, trial.began, trial.ended, *sorted(groups)))

    def chance(self) -> None:
        """Good models that were rolled back for their answers are no more than the policy's risk allows."""
        good = sum(1 for past in self.run.pasts for trial in past.trials if not trial.flaw)
        if tail(good, FALSE_ROLLBACK, self.by_chance) < 1e-3:
            text = f"{self.by_chance} of {good} good models were rolled back for their answers; the risk is {100 * FALSE_ROLLBACK:g} %"
            self.violations.append(Violation("end", EVERYBODY, self.run.last_fault, text))


def within(route: Route, service: str, percent: float) -> bool:
    """Whether a route gives a Service no more than that; slices of ids are rounded down."""
    return route.shares.get(service, 0.0) <= percent + 0.05


def slices(answers: list[Answer]) -> Iterable[list[Answer]]:
    """Answers in the order of sending, cut into equal times."""
    part: list[Answer] = []
    for answer in answers:
        if part and answer.sent - part[0].sent >= SLICE:
            yield part
            part = []
        part.append(answer)
    if part:
        yield part


def tail(trials: int, chance: float, least: int) -> float:
    """P(X >= least) for X binomial(trials, chance)."""
    if least <= 0 or chance >= 1:
        return 1.0
    if chance <= 0:
        return 0.0
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * math.log(chance) + (trials - k) * math.log1p(-chance)
        for k in range(least, trials + 1)
    ]
    return min(1.0, math.fsum(math.exp(one) for one in logs))


def poisson_bound(mean: float, found: int) -> float:
    """Chernoff's bound of P(X >= found) for a sum of independent indicators with this mean."""
    if found <= mean:
        return 1.0
    if mean <= 0:
        return 0.0
    return math.exp(found - mean - found * math.log(found / mean))
