"""What a person and a machine read after a run: the tables and the JSON. Judges nothing."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .judge import Findings
from .record import Run
from .schedule import DECK


def summary(run: Run, findings: Findings) -> dict[str, Any]:
    """Everything that the tables show, for machines."""
    undisturbed = [seconds for seconds, disturbed in findings.reactions if not disturbed]
    disturbed = [seconds for seconds, disturbed in findings.reactions if disturbed]
    trials = [trial for past in run.pasts for trial in past.trials]
    return {
        "schema": 1,
        "seed": run.seed,
        "minutes": run.minutes,
        "namespaces": len(run.pasts),
        "faults": faults(run),
        "skipped": {one.name: one.note for one in run.faults if one.outcome == "skipped"},
        "ends": ends(run),
        "takenBackInProbation": [f"{one.model} ({one.flaw or 'good'}): {one.undone}" for one in trials if one.undone],
        "answers": findings.answers,
        "errors": {"all": findings.errors, "inPeace": findings.errors_in_peace},
        "answersBeyondIntentWhileTheGatewayCouldNotHear": findings.beyond_while_deaf,
        "slowestReportOfTheGatewaySeconds": round(findings.slowest_gateway, 1),
        "handMadeRaises": {"takenBack": len(findings.reactions), "worstSeconds": most(undisturbed), "worstSecondsWithTheControlPlaneDisturbed": most(disturbed)},
        "rolledBackByChance": findings.by_chance,
        "atRestAfterSeconds": round(run.calm_after, 1),
        "atRestBoundSeconds": run.bound,
        "violations": [asdict(one) | {"at": round(one.at - run.began, 1)} for one in findings.violations],
    }


def most(found: list[float]) -> float | None:
    """The largest, rounded; None when there is none."""
    return round(max(found), 2) if found else None


def faults(run: Run) -> dict[str, dict[str, int]]:
    """How often each card was done, missed and skipped."""
    counts = Counter((one.name, one.outcome) for one in run.faults)
    names = list(dict.fromkeys(card.name for card in DECK))
    return {name: {outcome: counts[name, outcome] for outcome in ("done", "missed", "skipped")} for name in names}


def ends(run: Run) -> list[dict[str, Any]]:
    """How often which kind of model ended how, by what."""
    found = Counter((one.flaw or "good", one.end, one.guardrail) for past in run.pasts for one in past.trials)
    return [{"flaw": flaw, "end": end, "guardrail": guardrail, "rollouts": count} for (flaw, end, guardrail), count in sorted(found.items())]


def text(found: dict[str, Any]) -> str:
    """The same as tables."""
    lines = [f"seed {found['seed']}, {found['minutes']:g} minutes of faults, {found['namespaces']} namespaces", ""]
    lines += [f"{'fault':<46}{'done':>6}{'missed':>8}{'skipped':>9}"]
    for name, counts in found["faults"].items():
        lines.append(f"{name:<46}{counts['done']:>6}{counts['missed']:>8}{counts['skipped']:>9}")
    lines += [f"  skipped: {name}: {why}" for name, why in found["skipped"].items()]
    lines += ["", f"{'model':<16}{'end':<16}{'by':<14}{'rollouts':>8}"]
    lines += [f"{one['flaw']:<16}{one['end']:<16}{one['guardrail'] or '-':<14}{one['rollouts']:>8}" for one in found["ends"]]
    lines += [f"  taken back in probation: {one}" for one in found["takenBackInProbation"]]
    raises, errors = found["handMadeRaises"], found["errors"]
    lines += [
        "",
        f"answers to users: {found['answers']}; errors that no flawed model made: {errors['all']}, of them with gateway and pods in peace: {errors['inPeace']}",
        f"raises by hand: {raises['takenBack']}; taken back within {seconds(raises['worstSeconds'])} at worst, "
        f"with the control plane disturbed within {seconds(raises['worstSecondsWithTheControlPlaneDisturbed'])}",
        f"answers beyond the intent while the gateway could not hear of it: {found['answersBeyondIntentWhileTheGatewayCouldNotHear']}; "
        f"it took {found['slowestReportOfTheGatewaySeconds']:g} s at worst to report on a version of a route",
        f"everything at rest {found['atRestAfterSeconds']:g} s after the last fault (bound {found['atRestBoundSeconds']:g} s)",
        "",
        f"violations: {len(found['violations'])}",
    ]
    lines += [f"  {one['at']:7.1f} s  namespace {one['slot']}  {one['rule']}: {one['text']}" for one in found["violations"]]
    return "\n".join(lines)


def seconds(found: float | None) -> str:
    """A number with its unit, or a dash."""
    return "-" if found is None else f"{found:g} s"


def write(folder: Path, found: dict[str, Any]) -> None:
    """Both forms into the run's folder."""
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "results.txt").write_text(text(found) + "\n", encoding="utf-8")
