"""The mount namespace that containerd and the kubelet share, so that their mounts and fixed paths never touch the machine.

Only what is pinned below the cluster's state is visible outside. Also removes that again.
"""

import subprocess
from pathlib import Path

from .errors import ClusterError
from .layout import Cluster, state_root

# Paths that containerd, its shims, CNI and the kubelet use whatever they are told, and the state folder that stands in for each.
FIXED_PATHS = {
    "/run/containerd": "containerd/run",
    "/var/lib/cni": "cni/cache",
    "/var/lib/kubelet": "kubelet/fixed",
    "/var/log/containers": "log/containers",
    "/var/log/pods": "log/pods",
}


def up(cluster: Cluster) -> None:
    """Makes and pins the namespace, once per boot."""
    pinned = cluster.mount_namespace
    if str(pinned) in below(pinned.parent):
        return
    pinned.parent.mkdir(parents=True, exist_ok=True)
    if str(pinned.parent) not in below(pinned.parent):
        # A namespace file can only be pinned on a private mount.
        run("mount", "--bind", str(pinned.parent), str(pinned.parent))
        run("mount", "--make-private", str(pinned.parent))
    pinned.touch()
    # Private from the machine first, then shared within, which the kubelet expects of its root.
    steps = ["mount --make-rshared /"]
    for fixed, inside in FIXED_PATHS.items():
        (cluster.root / inside).mkdir(parents=True, exist_ok=True)
        remember_made(Path(fixed))
        steps.append(f"mount --bind {cluster.root / inside} {fixed}")
    run("unshare", f"--mount={pinned}", "sh", "-ec", "\n".join(steps))


def remember_made(path: Path) -> None:
    """Makes a missing mount point and notes it, so that the last `down` can take it away again."""
    if not path.exists():
        path.mkdir(parents=True, exist_ok=True)
        note(path)


def note(path: Path) -> None:
    """Notes a folder of the machine that exists only because of the clusters."""
    with open(state_root() / ".made", "a", encoding="utf-8") as made:
        made.write(f"{path}\n")


def forget_made() -> list[str]:
    """Removes noted folders that are empty. Only when no cluster is left: removing a mount point would pull it from under another."""
    file = state_root() / ".made"
    removed = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        path = Path(line)
        if not path.is_dir() or any(path.iterdir()):
            continue
        # The ip program keeps its folder mounted on itself.
        for mounted in reversed(below(path)):
            run("umount", mounted)
        path.rmdir()
        removed.append(line)
    file.unlink(missing_ok=True)
    return removed


def below(folder: Path) -> list[str]:
    """Mount points at or below a folder as this process sees them, in mounting order."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point == str(folder) or point.startswith(f"{folder}/"):
            found.append(point)
    return found


def down(cluster: Cluster) -> list[str]:
    """Unmounts everything below the cluster's state; the pinned namespace and all mounts in it go with that."""
    points = list(reversed(below(cluster.root)))
    for point in points:
        run("umount", point)
    return [f"mount {point}" for point in points]


def run(*command: str) -> None:
    """Runs a mount command; its own words are the best explanation when it fails."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed: {result.stdout.strip()}")
