"""Words the numbers: lines for the terminal and the page in docs/.

Judges nothing; a number that misses its aim is printed like any other.
"""

import platform
from pathlib import Path
from typing import Any

from .counting import quantile

Numbers = dict[str, Any]
MEGABYTE = 1024 * 1024


def machine() -> str:
    """Processor, cores and kernel."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), platform.machine())
    return f"{text.count('processor	:')} x {model}, Linux {platform.release()}"


def spread(values: list[float]) -> str:
    """p50 / p99 / max in milliseconds."""
    return f"{quantile(values, 0.5):.0f} / {quantile(values, 0.99):.0f} / {max(values):.0f}"


def brief(result: object) -> str:
    """For a line of progress."""
    parts = result if isinstance(result, tuple) else (result,)
    found = [part for part in parts if isinstance(part, dict) and "milliseconds" in part]
    return "".join(f", {spread(part['milliseconds'])} ms" for part in found)


def counts(found: dict[str, float]) -> str:
    """`2 update httproutes, 1 …`, or 0."""
    return ", ".join(f"{count:g} {what}" for what, count in sorted(found.items())) or "0"


def rows(found: Numbers) -> list[tuple[str, str, str]]:
    """What was measured, the number, the load average during it."""
    table = []

    def add(what: str, number: str, part: str) -> None:
        table.append((what, number, f"{found[part]['load']:.1f}"))

    for part, word in (("tripwire", "a tripwire moves"), ("limit", "a limit is crossed")):
        one = found[part]
        add(f"first bad scrape → weight 0, {word}, {len(one['milliseconds'])} runs: p50 / p99 / max ms", spread(one["milliseconds"]), part)
        add(f"raises after the breach, {word}", str(one["raises_after_breach"]), part)
    many, alone, flip = found["many"], found["alone"], found["flip"]
    add(f"the same, all {flip['rollouts']} rollouts at once: p50 / p99 / max ms", spread(flip["milliseconds"]), "flip")
    add(f"raises after the breach, all {flip['rollouts']} at once", str(flip["raises_after_breach"]), "flip")
    climb = found["climb"]
    kinds = climb["status_writes"]
    decisions, others = kinds.get("decision", 0), sum(kinds.values()) - kinds.get("decision", 0)
    per_raise = (climb["route_writes"] + decisions) / climb["raises"]
    add(f"API writes per raise ({climb['raises']} raises: {decisions} status, {climb['route_writes']} route)", f"{per_raise:.2f}", "climb")
    other_kinds = {kind: count for kind, count in kinds.items() if kind != "decision"}
    add(f"other status writes in the same {climb['seconds']:.0f} s (refreshes of evidence, 2 s windows)", counts(other_kinds), "climb")
    idle = found["idle"]
    add(f"API writes in {idle['seconds']:.0f} s with {idle['rollouts']} idle rollouts, by the operator", counts(idle["operator_writes"]), "idle")
    add("the same, by the API server", counts(idle["server_writes"]), "idle")
    add("Prometheus queries per second, 1 rollout on trial", f"{alone['queries_per_second']:.1f}", "alone")
    add(f"Prometheus queries per second, {many['rollouts']} on trial", f"{many['queries_per_second']:.1f}", "many")
    add("resident memory, 1 rollout on trial", f"{alone['resident_bytes'] / MEGABYTE:.0f} MiB", "alone")
    add(f"resident memory, {many['rollouts']} on trial", f"{many['resident_bytes'] / MEGABYTE:.0f} MiB", "many")
    add(f"processor, {many['rollouts']} on trial", f"{many['cpu_share'] * 100:.1f} % of a core", "many")
    add(f"processor, {idle['rollouts']} idle", f"{idle['cpu_share'] * 100:.2f} % of a core", "idle")
    return table


def text(found: Numbers) -> str:
    """For the terminal."""
    table = rows(found)
    width = max(len(what) for what, _, _ in table)
    lines = [f"{found['about']['command']}: {found['about']['machine']}, {found['about']['date']}", ""]
    return "\n".join(lines + [f"{what:<{width}}  {number:>20}  (load {load})" for what, number, load in table])


def page(found: Numbers) -> str:
    """docs/benchmark.md."""
    about = found["about"]
    table = "\n".join(f"| {what} | {number} | {load} |" for what, number, load in rows(found))
    queries = "\n".join(f"| `{query}` | {found['alone']['by_query'].get(query, 0):.1f} | {rate:.1f} |" for query, rate in found["many"]["by_query"].items())
    return PAGE.format(table=table, queries=queries, many=found["many"]["rollouts"], ramp=found["many"]["ramp_seconds"], **about)


PAGE = """# Benchmark

How fast a bad candidate loses its users, and what the operator costs the API server, Prometheus and the machine. This page is written by

```sh
{command}
```

on {date}, with espalier {version} on {machine}. The whole cluster (API server, etcd, gateway, scheduler, fake kubelet), the benchmark and
whatever else the machine did shared these cores: load average {load_before:.1f} at the beginning and {load_after:.1f} at the end, and
beside each number.

| What | Number | Load |
|---|---|---|
{table}

## How it is measured

- The cluster is the real one of `e2e/cluster`: Kubernetes, Contour and Envoy. Pods run on fake nodes (kwok), so that hundreds fit; every
  rollout is a ModelRollout with a Deployment per revision and its own HTTPRoute, under one EvaluationPolicy with a proportion, a limit and
  a tripwire, interval 1 s. The operator is a release build running as a process of the machine, with default settings.
- Prometheus is a stand-in on the same machine that answers the operator's queries with samples of one scrape per second and pod, each pod
  at a random phase; a sample can be read 15 ms after its scrape. A breach begins at a random moment; the first scrape after it is the
  first bad one, and its timestamp starts the clock. The clock stops when a watch of the routes reads the version with weight 0.
- p99 of fifty runs is the largest of them (nearest rank).
- *Raises after the breach* counts versions of a route, after the candidate's first bad scrape, that give the candidate more than the version
  before. With all rollouts at once the candidates are in the middle of a climb (a raise every two minutes each).
- *Writes per raise* counts changed versions of the route and versions of the status that record a decision. Status versions that only
  refresh the evidence are counted apart: at most one per window, never more often than every 5 s. Idle rollouts are half promoted, half
  rolled back; the API server's count is `apiserver_request_total` of writing verbs on the kinds that nobody else writes then.
- The {many} rollouts took {ramp:.0f} s from nothing to all candidates on trial; most of this is the gateway's own limit on status
  updates, for which every step waits.

| Query | per second, 1 rollout | per second, {many} rollouts |
|---|---|---|
{queries}
"""
