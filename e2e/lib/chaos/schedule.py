"""Draws from a seed which faults come when and which models are tried where. The same seed draws the same, on every machine.

Touches nothing: what a fault finds when its moment has come is the business of faults.py.
"""

import random
from dataclasses import dataclass
from typing import Any, Iterator

from story.objects import AB, SHADOW, canary

# What a fault disturbs. The judge excuses by these words and by nothing else.
GATEWAY, PODS, CONTROL, METRICS, ROUTES = "gateway", "pods", "control plane", "metrics", "routes"


@dataclass(frozen=True)
class Card:
    """One kind of fault on one kind of thing. `seconds` is the range of its length; (0, 0) is a blow."""

    kind: str
    target: str
    group: str
    seconds: tuple[float, float] = (0.0, 0.0)

    @property
    def name(self) -> str:
        """Such as `freeze etcd`."""
        return f"{self.kind} {self.target}"


PARTS = (
    ("operator leader", CONTROL),
    ("operator standby", CONTROL),
    ("apiserver", CONTROL),
    ("etcd", CONTROL),
    ("prometheus", METRICS),
    ("contour", GATEWAY),
    ("envoy", GATEWAY),
    ("kubelet", PODS),
)
# From here on a fault takes much of a short run, in s.
LONG = 45.0
# A frozen leader for longer than its lease, too; a frozen kubelet for less than its node's, or Kubernetes itself takes all pods away.
FREEZES = {"operator leader": (3.0, 25.0), "kubelet": (5.0, 25.0)}
DECK = (
    *(Card("kill", part, group) for part, group in PARTS),
    *(Card("freeze", part, group, FREEZES.get(part, (3.0, 12.0))) for part, group in PARTS),
    *(Card("take away", part, CONTROL, (60.0, 60.0)) for part in ("apiserver", "etcd")),
    *(Card("kill", f"pod of {arm}", PODS) for arm in ("stable", "candidate")),
    *(Card("freeze", f"pod of {arm}", PODS, (3.0, 10.0)) for arm in ("stable", "candidate")),
    *(Card("delete", f"pod of {arm}", PODS) for arm in ("stable", "candidate")),
    Card("fill the disk of", "prometheus", METRICS, (10.0, 30.0)),
    *(Card(f"set {way} the clock of", "operator", METRICS, (10.0, 30.0)) for way in ("forward", "back")),
    *(Card("raise by hand", "candidate in the route", ROUTES) for _ in range(2)),
    *(Card("take out", what, ROUTES) for what in ("rule of the route", "candidate from the route")),
    Card("delete", "route", ROUTES),
    *(Card("delete", f"service of {arm}", ROUTES) for arm in ("stable", "candidate")),
    Card("delete", "policy", METRICS, (5.0, 15.0)),
)


@dataclass(frozen=True)
class Fault:
    """A card with its moment (seconds after the start), its length, its namespace and a number from 0 to 1 that picks among what is there."""

    number: int
    at: float
    card: Card
    seconds: float
    slot: int
    chance: float

    def line(self) -> str:
        """For the log and for people."""
        lasting = f" for {self.seconds:.0f} s" if self.seconds else ""
        return f"{self.at:7.1f} s  #{self.number:<3} {self.card.name}{lasting} (namespace {self.slot}, chance {self.chance:.3f})"


def faults(seed: int, seconds: float, slots: int, every: float) -> list[Fault]:
    """All faults of a run. Every card of the deck comes once before any comes again; all end before the run does."""
    dice = random.Random(f"faults of {seed}")
    drawn: list[Fault] = []
    deck: list[Card] = []
    # Something must be on trial before it can be disturbed.
    at = 5.0
    while True:
        deck = deck or shuffled(dice)
        # Mostly a rain of faults, now and then a calm in which something can be proven.
        at += dice.uniform(2.0, 4.0) * every if dice.random() < 0.1 else max(1.0, dice.expovariate(1.0 / (0.75 * every)))
        slot, chance, part = dice.randrange(slots), dice.random(), dice.random()
        fitting = [card for card in deck if at + card.seconds[1] <= seconds]
        if not fitting:
            return drawn
        card = fitting[0]
        deck.remove(card)
        length = card.seconds[0] + part * (card.seconds[1] - card.seconds[0])
        drawn.append(Fault(len(drawn) + 1, round(at, 1), card, round(length, 1), slot, chance))


def shuffled(dice: random.Random) -> list[Card]:
    """A whole deck. The longest ones lie in its first half, or a short run would end before them."""
    deck, long = [card for card in DECK if card.seconds[1] < LONG], [card for card in DECK if card.seconds[1] >= LONG]
    dice.shuffle(deck)
    for card in long:
        deck.insert(dice.randrange(len(deck) // 2), card)
    return deck


@dataclass(frozen=True)
class Trial:
    """One model that is put on trial. `flaw` is empty for a good one."""

    number: int
    model: str
    flaw: str
    env: dict[str, str]
    stages: list[dict[str, Any]]

    @property
    def good(self) -> bool:
        """Whether it must be promoted."""
        return not self.flaw

    def line(self) -> str:
        """For the log and for people."""
        shown = ", ".join(f"{stage['type']} {' '.join(stage.get('steps', [stage.get('percent', '')]))}" for stage in self.stages)
        return f"#{self.number:<3} {self.model} ({self.flaw or 'good'}) by {shown}"


GOOD = ("fp32", "structured-50", "pruned-80-ft", "int8")
# Flaw, model, and what makes it so.
FLAWS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("wrong answers", "pruned-90", {}),
    ("errors", "structured-50", {"ESPALIER_FAULT_ERROR_RATE": "0.4"}),
    ("slow", "structured-50", {"ESPALIER_FAULT_LATENCY_MS": "600"}),
    ("not finite", "pruned-80-ft", {"ESPALIER_FAULT_NAN_RATE": "0.2"}),
    ("power", "structured-50", {"ESPALIER_FAULT_POWER_FACTOR": "8"}),
    ("crashes", "structured-50", {"ESPALIER_FAULT_CRASH_AFTER_S": "4"}),
)
LIMIT = {"maxDuration": "2m"}


def trials(seed: int, slot: int) -> Iterator[Trial]:
    """The models of one namespace, without end. Each is a revision of its own, also where the model has served before."""
    dice = random.Random(f"trials of {seed} in {slot}")
    number = 0
    while True:
        number += 1
        flaw, model, env = ("", dice.choice(GOOD), {}) if dice.random() < 0.5 else dice.choice(FLAWS)
        yield Trial(number, model, flaw, {**env, "ESPALIER_CHAOS_TRIAL": f"{slot}-{number}"}, stages(dice))


def stages(dice: random.Random) -> list[dict[str, Any]]:
    """One of the usual ways."""
    one, other = dice.choice((5, 10)), dice.choice((25, 40, 50))
    ladder = canary(one, other, **LIMIT)
    shadow, half = SHADOW | LIMIT, AB | LIMIT
    return dice.choice(([ladder], [shadow, canary(other, **LIMIT)], [canary(one, **LIMIT), half], [half], [shadow, ladder], [shadow, half]))
