"""Words the numbers: lines for the terminal and docs/scale.md.

Judges nothing but puts the aim beside a number that has one.
"""

from statistics import median
from typing import Any

from measuring.counting import quantile

Numbers = dict[str, Any]


def spread(values: list[float]) -> str:
    """p50 / p99 / worst in milliseconds."""
    return f"{quantile(values, 0.5):.0f} / {quantile(values, 0.99):.0f} / {max(values):.0f}"


def counts(found: dict[str, float]) -> str:
    """`2 update httproutes, 1 …`, or 0."""
    return ", ".join(f"{count:g} {what}" for what, count in sorted(found.items())) or "0"


def rows(found: Numbers) -> list[tuple[str, str, str, str]]:
    """What was measured, the number, the aim, the load average during it."""
    about = found["about"]
    active, more, idle = about["rollouts"], sum(flip["rollouts"] for flip in found["flips"][:-1]), about["idle"]
    table: list[tuple[str, str, str, str]] = []

    def add(what: str, number: str, aim: str, part: Numbers) -> None:
        table.append((what, number, aim, f"{part['load']:.1f}"))

    one, everything, restart, quiet = found["active"], found["all"], found["restart"], found["quiet"]
    add("resident memory, no rollout", f"{found['empty']['memory']['now']:.0f} MiB", "", found["empty"])
    add(f"resident memory, {active} active", f"{one['memory']['highest_here']:.0f} MiB", "< 50 MiB", one)
    add("peak until then, all of their first and second models made", f"{one['memory']['peak']:.0f} MiB", "", one)
    add(f"resident memory, {active + more} active and {idle} idle", f"{everything['memory']['highest_here']:.0f} MiB", "< 100 MiB", everything)
    add("peak of that process, its start included", f"{everything['memory']['peak']:.0f} MiB", "", everything)
    add(f"Prometheus queries per second, {active} active", f"{one['queries_per_second']:.1f}", "", one)
    add(f"the same, {active + more} active and {idle} idle", f"{everything['queries_per_second']:.1f}", "the same", everything)
    add(f"API reads per second, {active + more} active and {idle} idle", f"{everything['reads_per_second']:.1f}", "", everything)
    add("API writes per second by the operator, the same", f"{everything['writes_per_second']:.1f}", "", everything)
    add("processor, the same", f"{everything['cpu_share'] * 100:.0f} % of a core", "", everything)
    add(f"restart beside {active + more} active and {idle} idle: ready", f"{restart['until_ready']:.1f} s", "", restart)
    add("restart: all with users on a candidate looked at", f"{restart['until_exposed']:.1f} s", "", restart)
    add("restart: all looked at", f"{restart['until_all']:.1f} s", "", restart)
    bare = median(turn["seconds"] for turn in found["bare"])
    for flip in found["flips"]:
        size = flip["rollouts"]
        add(f"{size} bad in the same second → weight 0: p50 / p99 / worst ms", spread(flip["milliseconds"]), "p99 < 2000" if size == 200 else "", flip)
        add(f"{size}: raises after the breach", str(flip["raises_after_breach"]), "0", flip)
    last = found["flips"][-1]
    # Fewer than this are written faster than they go bad, one by one within a second.
    aim = f"≤ {1.3 * bare:.2f} s" if last["rollouts"] >= 500 else ""
    add(f"{last['rollouts']}: from the breach to the last route", f"{last['last_zero_seconds']:.2f} s", aim, last)
    add("from the last bad scrape to the last route", f"{last['last_zero_after_last_bad_seconds']:.2f} s", "", last)
    turns = ", ".join(f"{turn['seconds']:.2f}" for turn in found["bare"])
    add(f"a bare client: {found['bare'][0]['puts']} route PUTs, median of {turns}", f"{bare:.2f} s", "", last)
    add("statuses written while the route of a candidate known to be bad waited", str(last["records_before_routes"]), "0", last)
    order = ", ".join(f"{share} %: {median(values):.0f}" for share, values in last["by_share"].items())
    add("median ms from the breach to weight 0, by exposure", order, "most users first", last)
    add("all on record after", f"{last['last_latched_seconds']:.1f} s", "", last)
    add(f"API writes in {quiet['seconds']:.0f} s when nothing is on trial", counts(quiet["writes"]), "0", quiet)
    add("resident memory then", f"{quiet['memory']['now']:.0f} MiB", "", quiet)
    return table


def text(found: Numbers) -> str:
    """For the terminal."""
    table = rows(found)
    width = max(len(what) for what, _, _, _ in table)
    lines = [f"{found['about']['command']}: {found['about']['machine']}, {found['about']['date']}", ""]
    return "\n".join(lines + [f"{what:<{width}}  {number:>24}  {aim:>20}  (load {load})" for what, number, aim, load in table])


def page(found: Numbers) -> str:
    """docs/scale.md."""
    table = "\n".join(f"| {what} | {number} | {aim} | {load} |" for what, number, aim, load in rows(found))
    before, after = found["active"]["by_query"], found["all"]["by_query"]
    queries = "\n".join(f"| `{query}` | {before.get(query, 0):.1f} | {rate:.1f} |" for query, rate in after.items())
    more = sum(flip["rollouts"] for flip in found["flips"][:-1])
    return PAGE.format(table=table, queries=queries, more=more, total=found["about"]["rollouts"] + more, copying=found["copying_seconds"], **found["about"])


PAGE = """# Scale

What thousands of rollouts cost, and how fast bad candidates lose their users when many go bad together. This page is written by

```sh
{command}
```

on {date}, with espalier {version} on {machine}. API server, etcd, fake kubelet, both stand-ins, the test and whatever else the machine did
shared these cores: load average {load_before:.1f} at the beginning and {load_after:.1f} at the end, and beside each number.

| What | Number | Aim | Load |
|---|---|---|---|
{table}

## How it is measured

- API server and etcd are real and run on the same machine; pods run on fake nodes (kwok). {total} rollouts have a Deployment, a Service and a
  pod for each of two revisions, an HTTPRoute, and a candidate with 5, 10, 20 or 40 % of the users. {idle} more are at rest: exact copies of one
  that the operator itself has brought there, children included (made in {copying:.0f} s while the operator was stopped). All lie in one namespace under
  one EvaluationPolicy with a proportion, a limit and a tripwire and an interval of 1 s. While many are active the controllers for workloads are
  stopped, once their work is done, so that what is measured is the operator.
- A stand-in for the gateway accepts every new version of a route; its writes compete with the operator's as a gateway's would. A stand-in for
  Prometheus answers with samples of one scrape per second and pod, each pod at a phase of its own, 15 ms after the scrape.
- The operator is a release build running as a process of the machine with default settings. Memory is VmRSS as the kernel tells it, the highest
  of readings four times a second; the peak is VmHWM.
- A breach: at its next scrape each candidate reports NaN outputs. The clock starts at the timestamp of that scrape and stops when a watch of the
  routes reads the version with weight 0. The next row counts from the moment at which the first could go bad until the last route, beside the
  time that a client needs that only writes the same number of routes with the same connection settings and as many in flight.
- *Raises after the breach* counts versions of a route that give the candidate more after its first bad scrape.
- A restart ends when there have been as many looks without error as there are rollouts; those with users on a candidate come first. What was
  recorded meanwhile is read after that, for minutes beside so many; the single candidate goes bad while it is being read. It is one of those
  that had no evidence on record yet when the operator was stopped.
- The first {more} that go bad are additional ones, so that {rollouts} are left for the last row.

| Query | per second, {rollouts} active | per second, {total} active |
|---|---|---|
{queries}
"""
