"""What a run leaves behind: faults as they really happened, versions of rollouts and routes, trials and their ends, answers that users got.

Data only, in forms that go to files and come back, so that a run can be judged again. All times are unix seconds.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Iterable

from story import route_log
from story.api import Object
from story.watching import Version

CONDITIONS = ("Ready", "Reconciling", "Stalled", "Settled")
EVERYBODY = -1


@dataclass
class Done:
    """A fault that was tried. `outcome`: done; missed, when there was nothing to hit; or skipped, when this machine cannot do it."""

    number: int
    name: str
    group: str
    slot: int
    began: float
    ended: float
    outcome: str = "done"
    note: str = ""
    # Route edits only: the version that the edit made, the revision that it favours, and the percent that it got.
    uid: str = ""
    generation: int = 0
    revision: str = ""
    percent: float = 0.0


@dataclass
class Standing:
    """A version of a rollout's status: most percent of the users by revision, and what is latched."""

    at: float
    exposure: dict[str, float]
    rejected: list[str]


@dataclass
class Route:
    """A version of the route: percent by Service; empty when it was gone. `heard`: when the gateway reported on it, 0 if it never did."""

    at: float
    uid: str
    generation: int
    shares: dict[str, float]
    heard: float = 0.0


@dataclass
class Answer:
    """What one request became."""

    sent: float
    ended: float
    code: str
    revision: str


@dataclass
class Tried:
    """A trial and its end: Promoted, RolledBack, Inconclusive, or Unfinished. `undone`: taken back in probation, with the reason."""

    number: int
    model: str
    flaw: str
    way: str
    began: float
    revision: str = ""
    ended: float = 0.0
    end: str = "Unfinished"
    guardrail: str = ""
    reason: str = ""
    message: str = ""
    undone: str = ""


@dataclass
class Past:
    """All that is known of one namespace."""

    slot: int
    services: dict[str, str] = field(default_factory=dict)
    standings: list[Standing] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    trials: list[Tried] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    # A sentence, when the namespace was not at rest in time after the last fault.
    unrest: str = ""


@dataclass
class Run:
    """A whole run. `calm_after`: how long everything took to come to rest after the last fault, in s."""

    seed: int
    minutes: float
    began: float
    last_fault: float
    calm_after: float
    bound: float
    faults: list[Done]
    pasts: list[Past]

    def save(self, folder: Path) -> None:
        """One file for everything but the answers, which lie beside it as the load generator wrote them."""
        whole = asdict(self)
        for past in whole["pasts"]:
            del past["answers"]
        (folder / "run.json").write_text(json.dumps(whole), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "Run":
        """Reads what `save` and the load generators wrote."""
        whole: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        faults = [Done(**one) for one in whole.pop("faults")]
        pasts = [past_of(one, folder) for one in whole.pop("pasts")]
        return Run(faults=faults, pasts=pasts, **whole)


def past_of(one: dict[str, Any], folder: Path) -> Past:
    """One namespace, with its answers."""
    return Past(
        slot=one["slot"],
        services=one["services"],
        standings=[Standing(**each) for each in one["standings"]],
        routes=[Route(**each) for each in one["routes"]],
        trials=[Tried(**each) for each in one["trials"]],
        answers=answers(answers_file(folder, one["slot"])),
        unrest=one["unrest"],
    )


def answers_file(folder: Path, slot: int) -> Path:
    """Where the users of a namespace write."""
    return folder / f"answers-{slot}.tsv"


def answers(file: Path) -> list[Answer]:
    """The lines of the load generator in the order of sending. A last line that was cut off is left out."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        words = line.split("\t")
        if len(words) == 4:
            found.append(Answer(int(words[0]) / 1000, int(words[1]) / 1000, words[2], words[3]))
    return sorted(found, key=lambda answer: answer.sent)


def trimmed(rollout: Object) -> Object:
    """The parts of a rollout that are judged. Whole statuses of an hour would not fit into memory."""
    metadata, status = rollout["metadata"], rollout.get("status", {})
    kept = {key: status[key] for key in ("observedGeneration", "stable", "candidate", "rejected", "display", "probation") if key in status}
    attempt = status.get("attempt")
    if attempt:
        kept["attempt"] = {key: attempt.get(key) for key in ("intent", "phase", "stage", "step", "lowered")}
    kept["decisions"] = [{key: value for key, value in one.items() if key != "numbers"} for one in status.get("decisions", [])[:6]]
    kept["conditions"] = {one["type"]: (one["status"], one["reason"]) for one in status.get("conditions", []) if one["type"] in CONDITIONS}
    names = ("name", "generation", "resourceVersion")
    return {"metadata": {key: metadata[key] for key in names if key in metadata}, "status": kept}


def standings(versions: Iterable[Version]) -> tuple[list[Standing], dict[str, str]]:
    """Changes of exposure and latches, and the Service of every revision that was seen."""
    found: list[Standing] = []
    services: dict[str, str] = {}
    for version in versions:
        status = version.object.get("status", {})
        exposure: dict[str, float] = {}
        for role, percent in (("candidate", float((status.get("attempt") or {}).get("intent") or 0)), ("stable", 100.0)):
            serving = status.get(role)
            if serving:
                services[serving["revision"]] = serving["service"]
                exposure[serving["revision"]] = percent
        rejected = sorted(one["revision"] for one in status.get("rejected", []))
        if not found or (found[-1].exposure, found[-1].rejected) != (exposure, rejected):
            found.append(Standing(version.wall, exposure, rejected))
    return found, services


def routes(versions: Iterable[Version], name: str) -> list[Route]:
    """Versions of a route whose weights may differ, each with the gateway's first report on it."""
    found: list[Route] = []
    for version in versions:
        if version.name != name:
            continue
        metadata = version.object["metadata"]
        uid, generation = metadata["uid"], int(metadata.get("generation", 0))
        last = found[-1] if found else None
        if last is None or (last.uid, last.generation) != (uid, generation) or bool(last.shares) != version.exists:
            last = Route(version.wall, uid, generation, shares(version.object) if version.exists else {})
            found.append(last)
        if not last.heard and reported(version.object) >= generation:
            last.heard = version.wall
    return found


def reported(route: Object) -> int:
    """The oldest generation that any of its gateways last spoke about."""
    spoken = [one.get("observedGeneration", 0) for parent in route.get("status", {}).get("parents", []) for one in parent.get("conditions", [])]
    return min(spoken, default=0)


def shares(route: Object) -> dict[str, float]:
    """Percent of the users by Service."""
    names = {ref["name"] for rule in route["spec"].get("rules", []) for ref in rule.get("backendRefs") or []}
    return {name: route_log.share(route, name) for name in sorted(names)}
