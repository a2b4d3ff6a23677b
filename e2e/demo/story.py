"""Tells the story of the demo on a running local cluster: first deployment, a good pruned model, a broken one; and what users received.

Only watches and applies: every decision that is shown was taken by the operator. `story.py CLUSTER [--plain]`.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "lib"))
from story import binaries  # noqa: E402

CONTROL = "127.0.0.1:17070"
STORY = [
    ("structured-50", "StructuredPruning", "half the neurons removed, then retrained: smaller, faster, as accurate"),
    ("pruned-90", "UnstructuredPruning", "90% of the weights set to zero, not retrained: as fast, no errors, and wrong answers"),
]
LIMIT_SECONDS = 420


class Failed(Exception):
    """The story did not end as it should."""


class Cluster:
    """kubectl and helm against one local cluster."""

    def __init__(self, name: str) -> None:
        text = subprocess.check_output([ROOT / "e2e" / "cluster", "env", "--name", name], text=True)
        self.env = dict(os.environ)
        for line in text.splitlines():
            key, _, value = line.removeprefix("export ").partition("=")
            if key:
                self.env[key] = os.path.expandvars(" ".join(shlex.split(value)))
        self.gateway = self.env["ESPALIER_GATEWAY_URL"]

    def run(self, *command: str, text: str | None = None, quiet: bool = True) -> str:
        """One command; its error is shown in full."""
        done = subprocess.run(command, env=self.env, input=text, text=True, capture_output=quiet, check=False)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command[:6])} …: {(done.stderr or '').strip()}")
        return done.stdout or ""

    def apply(self, text: str) -> None:
        """Applies manifests."""
        self.run("kubectl", "apply", "-f", "-", text=text)

    def rollout(self) -> dict:
        """The ModelRollout as it is now."""
        return json.loads(self.run("kubectl", "get", "mro", "digits", "-n", "demo", "-o", "json"))


def stats(path: str = "/stats", body: dict | None = None) -> dict:
    """What users received so far, from the load generator."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{CONTROL}{path}", data=data, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            text = answer.read()
            return json.loads(text) if text.strip() else {}
    except (urllib.error.URLError, OSError, ValueError):
        return {}


class Screen:
    """A tree that is drawn over itself on a terminal, and appended line by line elsewhere."""

    def __init__(self, plain: bool) -> None:
        self.plain = plain
        self.lines = 0
        self.last = ""
        self.start = time.monotonic()

    def show(self, lines: list[str], headline: str) -> None:
        """Draws, or says the headline when it has changed."""
        if self.plain:
            if headline != self.last:
                print(f"  {time.monotonic() - self.start:5.0f}s  {headline}", flush=True)
                self.last = headline
            return
        width = os.get_terminal_size().columns if sys.stdout.isatty() else 160
        if self.lines:
            print(f"\x1b[{self.lines}A", end="")
        for line in lines:
            print(f"\x1b[2K{line[: width - 1]}")
        for _ in range(len(lines), self.lines):
            print("\x1b[2K")
        self.lines = max(self.lines, len(lines))

    def settle(self) -> None:
        """What is on the screen stays."""
        self.lines = 0
        self.last = ""


MARKS = {"Proven": "✔", "Harmful": "✘", "Warning": "!", "Unmeasurable": "?", "Undecided": "·", "Inactive": " "}


def tree(rollout: dict, seen: dict) -> tuple[list[str], str]:
    """The rollout as lines of a tree, and the one line that matters."""
    status = rollout.get("status", {})
    shown = status.get("display", {})
    attempt = status.get("attempt") or {}
    stages = rollout["spec"]["stages"]
    lines = [f"  ModelRollout digits   {shown.get('stage', '?')} {shown.get('step', '')}   weight {shown.get('weight', '?')}   {shown.get('verdict', '')}"]
    lines.append(f"  ├─ stable    {shown.get('stable', '-'):<24} candidate {shown.get('candidate', '-')}")
    current = attempt.get("stage", -1) if attempt.get("phase") != "Deploying" else -1
    bar = []
    for index, stage in enumerate(stages):
        steps = ",".join(stage.get("steps") or [stage.get("percent", "")])
        mark = "●" if index == current else ("✔" if attempt and index < current else "○")
        bar.append(f"{mark} {stage['name']} {steps}")
    lines.append("  ├─ stages    " + "   ".join(bar))
    for entry in status.get("evidence", []):
        eta = f"  proof in {entry['eta']}" if entry.get("eta") and entry["verdict"] == "Undecided" else ""
        interval = f" ({entry['interval']})" if entry.get("interval") else ""
        numbers = f"{entry.get('value') or '-'}{interval}, target {entry.get('target') or '0'}, n {entry['samples']}/{entry['referenceSamples']}"
        lines.append(f"  │    {MARKS.get(entry['verdict'], ' ')} {entry['guardrail']:<10} {entry['verdict']:<12} {numbers}{eta}")
    recent = (seen.get("recent") or {}).get("revisions") or {}
    parts = [f"{name}: {count['requests']} requests, {count['wrong']} wrong" for name, count in sorted(recent.items())]
    lines.append("  ├─ users, last 5 s   " + ("; ".join(parts) or "-"))
    lines.append("  └─ " + shown.get("message", ""))
    headline = f"{shown.get('stage')} {shown.get('step')} {shown.get('weight')}: {shown.get('message', '')}"
    return lines, headline


def follow(cluster: Cluster, screen: Screen, revision_is_new: str | None, ends: tuple[str, ...]) -> dict:
    """Watches until the rollout ends in one of `ends` for the generation that was applied."""
    until = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < until:
        rollout = cluster.rollout()
        screen.show(*tree(rollout, stats()))
        status = rollout.get("status", {})
        conditions = {c["type"]: c for c in status.get("conditions", [])}
        current = status.get("observedGeneration") == rollout["metadata"]["generation"]
        reason = conditions.get("Ready", {}).get("reason")
        served = status.get("stable", {}).get("uri", "")
        if current and reason in ends and not status.get("attempt"):
            if reason != "Promoted" or revision_is_new is None or revision_is_new in served:
                screen.settle()
                return rollout
        time.sleep(0.5)
    raise Failed(f"nothing was decided within {LIMIT_SECONDS} s; look at `kubectl describe mro digits -n demo`")


def manifest(model: str, method: str) -> str:
    """The rollout that asks for this model."""
    text = (HERE / "rollout.yaml").read_text(encoding="utf-8")
    return text.replace("@MODEL_URI@", binaries.model_uri(model)).replace("@METHOD@", method)


def install(cluster: Cluster) -> None:
    """The operator as pods, with its own chart; then the policy."""
    cluster.run(
        "helm", "upgrade", "--install", "espalier", str(ROOT / "charts" / "espalier"), "-n", "espalier-system", "--create-namespace", "--wait",
        "--timeout", "120s", "--set", "image.repository=espalier.test/espalier,image.tag=dev,image.pullPolicy=Never",
    )
    cluster.apply('{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}')
    cluster.apply((HERE / "policy.yaml").read_text(encoding="utf-8"))


def load(cluster: Cluster) -> subprocess.Popen:
    """Users: real digits through the gateway, and the true label shortly after each answer."""
    report = tempfile.NamedTemporaryFile(prefix="espalier-demo-", suffix=".json", delete=False)
    report.close()
    command = [
        str(binaries.program("espalier-load")), "--url", cluster.gateway, "--host", "digits.example", "--model", "digits", "--rps", "120",
        "--duration", "30m", "--control", CONTROL, "--report", report.name, "--quiet",
    ]
    users = subprocess.Popen(command, env=cluster.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 20
    while not stats().get("total", {}).get("answered"):
        if users.poll() is not None or time.monotonic() > until:
            raise Failed(f"the load generator got no answer through {cluster.gateway}")
        time.sleep(0.1)
    return users


def received(seen: dict, phase: str, revision: str) -> dict:
    """What users got from one revision in one phase."""
    for entry in seen.get("phases", []):
        if entry["name"] == phase:
            return entry["stats"]["revisions"].get(revision, {})
    return {}


def table(rows: list[list[str]]) -> None:
    """Columns as wide as they need to be."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for index, row in enumerate(rows):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        if index == 0:
            print("  " + "  ".join("─" * width for width in widths))


def tell(cluster: Cluster, screen: Screen) -> int:
    """The story itself. Returns the exit code."""
    print("\nThe operator is installed by its Helm chart, two replicas, restricted pods.", flush=True)
    install(cluster)
    print("\nFirst deployment: the teacher, fp32. Nothing serves yet, so it goes live as soon as it is ready.", flush=True)
    cluster.apply(manifest("fp32", "None"))
    follow(cluster, screen, "fp32", ("Promoted",))
    users = load(cluster)
    outcomes = []
    try:
        for model, method, what in STORY:
            print(f"\nkubectl apply: {model}: {what}.", flush=True)
            stats("/mark", {"name": model})
            cluster.apply(manifest(model, method))
            rollout = follow(cluster, screen, model, ("Promoted", "RolledBack"))
            time.sleep(3)
            outcomes.append((model, rollout, stats()))
    finally:
        users.terminate()
        users.wait(timeout=20)
    return ending(cluster, outcomes)


def ending(cluster: Cluster, outcomes: list[tuple[str, dict, dict]]) -> int:
    """The decision table, what users received, and where to look next."""
    good, bad = outcomes
    print("\nWhat was decided\n")
    rows = [["time", "revision", "stage", "step", "action", "exposure", "why"]]
    for entry in reversed(bad[1]["status"].get("decisions", [])):
        why = entry["message"] if len(entry["message"]) < 110 else entry["message"][:107] + "…"
        rows.append([entry["time"][11:19], entry["revision"], entry.get("stage", ""), entry.get("step", ""), entry["action"], f"{entry['from']}→{entry['to']}%", why])
    table(rows)
    print("\nWhat users received\n")
    rows = [["model", "ended as", "requests by it", "wrong", "wrong because of it", "not answered (503)"]]
    verdicts = []
    for model, rollout, seen in outcomes:
        conditions = {c["type"]: c for c in rollout["status"]["conditions"]}
        ended = conditions["Ready"]["reason"]
        verdicts.append(ended)
        status = rollout["status"]
        revision = status["stable"]["revision"] if ended == "Promoted" else status["rejected"][0]["revision"]
        got = received(seen, model, revision)
        phase = next((p["stats"] for p in seen.get("phases", []) if p["name"] == model), {})
        rows.append([model, ended, str(got.get("requests", 0)), str(got.get("wrong", 0)), str(got.get("wrong_but_teacher_right", 0)), str(phase.get("unavailable", "?"))])
    table(rows)
    rejected = (bad[1]["status"].get("rejected") or [{}])[0]
    print(f"\n{bad[0]} was rolled back because: {rejected.get('message', '?')}")
    print(
        "\nWhere to look next (the cluster stays up; ./demo down removes it)\n"
        f"  eval \"$(e2e/cluster env --name {sys.argv[1]})\"\n"
        "  kubectl get mro -n demo -o wide\n"
        "  kubectl describe mro digits -n demo\n"
        "  kubectl get events -n demo --field-selector involvedObject.kind=ModelRollout\n"
        "  kubectl get httproute digits -n demo -o yaml\n"
    )
    if verdicts != ["Promoted", "RolledBack"]:
        print(f"expected one Promoted and one RolledBack, got {verdicts}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Runs the story."""
    plain = "--plain" in sys.argv or not sys.stdout.isatty()
    try:
        return tell(Cluster(sys.argv[1]), Screen(plain))
    except Failed as failed:
        print(f"\ndemo: {failed}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
