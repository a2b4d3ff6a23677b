"""What the chart's tests share: counting checks, running Helm, and rendered manifests as Python objects.

Holds no expectations about the chart itself.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CHART = ROOT / "charts/espalier"
NAMESPACE = "espalier-system"
Object = dict[str, Any]

results: list[bool] = []


def check(sentence: str, test: Callable[[], object]) -> None:
    """Runs one check. A test returns True, or what it found instead."""
    try:
        found = test()
    except Exception as error:  # noqa: BLE001 - a check that cannot run has failed, and the others still count
        found = f"{type(error).__name__}: {error}"
    results.append(found is True)
    print(f"{'ok' if found is True else 'FAILED':<7}{sentence}" + ("" if found is True else f"\n       found: {found}"), flush=True)


def summary() -> int:
    """Prints the totals; the exit status."""
    failed = results.count(False)
    print(f"{results.count(True)} passed, {failed} failed")
    return 1 if failed or not results else 0


def helm_path() -> str:
    """$HELM, or the program of the tool cache, or the one on PATH."""
    if os.environ.get("HELM"):
        return os.environ["HELM"]
    listing = subprocess.run([str(ROOT / "e2e/tools/build"), "--print"], capture_output=True, text=True, check=False).stdout
    for line in listing.splitlines():
        name, path, *state = line.split("\t")
        if name == "helm" and state == ["built"]:
            return path
    found = shutil.which("helm")
    if not found:
        sys.exit("helm was not found in $HELM, the tool cache or PATH; run e2e/tools/build helm")
    return found


HELM = helm_path()


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Helm without a cluster."""
    environment = {**os.environ, "KUBECONFIG": os.devnull}
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False, env=environment)


def values(overrides: Object) -> str:
    """A values file with `overrides`; JSON is YAML."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(overrides, file)
    return file.name


def template(overrides: Object | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`helm template` with values given as an object or as a file."""
    path = str(overrides) if isinstance(overrides, Path) else values(overrides)
    try:
        return helm("template", "espalier", str(CHART), "--namespace", NAMESPACE, "--values", path, *arguments)
    finally:
        if not isinstance(overrides, Path):
            os.unlink(path)


def parse(text: str) -> list[Object]:
    """The documents of a YAML stream."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        done = helm("template", "x", str(HERE / "to-json"), "--set-file", f"stream={file.name}")
    if done.returncode != 0:
        raise AssertionError(done.stderr.strip())
    items = json.loads(done.stdout[done.stdout.index("{"):])["items"]
    broken = [item["Error"] for item in items if set(item) == {"Error"}]
    if broken:
        raise AssertionError(f"not YAML: {broken}")
    return items


def render(overrides: Object | Path | None = None, *arguments: str) -> list[Object]:
    """The objects of the chart with these values."""
    done = template(overrides if overrides is not None else {}, *arguments)
    if done.returncode != 0:
        raise AssertionError(done.stderr.strip())
    return parse(done.stdout)


def refusal(overrides: Object, *arguments: str) -> str:
    """What Helm says when it refuses these values; empty when it does not."""
    done = template(overrides, *arguments)
    return done.stderr if done.returncode != 0 else ""


def of_kind(objects: list[Object], *kinds: str) -> Iterator[Object]:
    """The objects of these kinds, in order."""
    return (item for item in objects if item["kind"] in kinds)


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """The only object of a kind (and name)."""
    found = [item for item in of_kind(objects, kind) if name in (None, item["metadata"]["name"])]
    if len(found) != 1:
        raise AssertionError(f"expected one {kind} {name or ''}, found {[item['metadata']['name'] for item in found]}")
    return found[0]


def operator(objects: list[Object]) -> Object:
    """The pod spec of the operator."""
    return one(objects, "Deployment")["spec"]["template"]["spec"]


def identity(item: Object) -> str:
    """Kind, namespace and name in one text."""
    return f"{item['kind']}/{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"
