"""The cluster's own subtree in every cgroup hierarchy: it confines pods, and it is how `down` finds every last process.

Sets no limits; the kubelet does that for pods.
"""

import os
import time
from pathlib import Path

from . import processes
from .errors import ClusterError
from .layout import Cluster

MOUNT = Path("/sys/fs/cgroup")
# The components and whatever they start live here, pods in `kubepods` beside it.
HOST = "host"


def hierarchies() -> list[Path]:
    """One folder per controller on cgroup v1, the single tree on v2."""
    if (MOUNT / "cgroup.controllers").exists():
        return [MOUNT]
    return [entry for entry in sorted(MOUNT.iterdir()) if entry.is_dir() and not entry.is_symlink() and (entry / "cgroup.procs").exists()]


def trees(cluster: Cluster) -> list[Path]:
    """The cluster's folder in each hierarchy."""
    return [hierarchy / cluster.cgroup.lstrip("/") for hierarchy in hierarchies()]


def up(cluster: Cluster) -> None:
    """Makes the subtree, because the kubelet refuses a cgroup root that does not exist."""
    for tree in trees(cluster):
        enable_controllers(tree.parent)
        tree.mkdir(exist_ok=True)
        enable_controllers(tree)
        copy_cpuset(tree)
        (tree / HOST).mkdir(exist_ok=True)
        copy_cpuset(tree / HOST)


def enable_controllers(folder: Path) -> None:
    """On v2 a child gets only the controllers that its parent hands down."""
    available = folder / "cgroup.controllers"
    if folder.is_relative_to(MOUNT / "unified") or not available.exists():
        return
    for controller in available.read_text(encoding="utf-8").split():
        (folder / "cgroup.subtree_control").write_text(f"+{controller}", encoding="utf-8")


def copy_cpuset(folder: Path) -> None:
    """On v1 a cpuset starts empty, and an empty one takes no process."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = folder / name
        if (folder.parent / name).exists() and file.exists() and not file.read_text(encoding="utf-8").strip():
            file.write_text((folder.parent / name).read_text(encoding="utf-8"), encoding="utf-8")


def join_host(cluster: Cluster) -> list[str]:
    """Command prefix that puts a program into the cluster's cgroup, where `down` finds it even if its pid was never noted."""
    files = " ".join(f"{tree / HOST / 'cgroup.procs'}" for tree in trees(cluster))
    return ["sh", "-c", f'for file in {files}; do echo $$ > "$file"; done; exec "$@"', "join"]


def members(cluster: Cluster) -> list[processes.Process]:
    """Every process in the subtree: components, shims, pods."""
    pids: set[int] = set()
    for tree in trees(cluster):
        for folder in folders_leaves_first(tree):
            try:
                pids.update(int(line) for line in (folder / "cgroup.procs").read_text(encoding="utf-8").split())
            except OSError:
                # The kubelet and runc remove cgroups while we read.
                continue
    found = (processes.of_pid(pid) for pid in sorted(pids))
    return [process for process in found if process and process.alive()]


def down(cluster: Cluster) -> list[str]:
    """Kills every member, again until none is left (a shim may still be starting something), and removes the subtree."""
    killed = set()
    deadline = time.monotonic() + 20
    while found := members(cluster):
        if time.monotonic() > deadline:
            raise ClusterError(f"{len(found)} processes in {cluster.cgroup} do not end: {[process.pid for process in found]}")
        killed.update(process.pid for process in found)
        processes.kill_all(found)
    removed = [f"{len(killed)} more processes (containers and what manages them)"] if killed else []
    for tree in trees(cluster):
        if tree.exists():
            remove_tree(tree, deadline)
            removed.append(f"cgroup {tree}")
    return removed


def folders_leaves_first(tree: Path) -> list[Path]:
    """The tree's folders, children before parents; those that vanish meanwhile are skipped."""
    return [Path(folder) for folder, _, _ in os.walk(tree, topdown=False)]


def remove_tree(tree: Path, deadline: float) -> None:
    """Leaves first. The kernel may hold a cgroup for a moment after its last process ended."""
    for folder in folders_leaves_first(tree):
        while folder.exists():
            try:
                folder.rmdir()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise ClusterError(f"cannot remove cgroup {folder}: {error.strerror}") from error
                time.sleep(0.02)
