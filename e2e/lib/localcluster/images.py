"""Brings images into a cluster's containerd, which has no registry to pull from. The writer itself is e2e/images/oci_image.py."""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from . import tools
from .errors import ClusterError
from .layout import Cluster

PAUSE = "espalier.test/pause:1"
COREDNS = "espalier.test/coredns:1"


def writer() -> ModuleType:
    """The image writer, loaded from where it lies: it is usable on its own, too."""
    if "oci_image" not in sys.modules:
        spec = importlib.util.spec_from_file_location("oci_image", tools.E2E / "images" / "oci_image.py")
        if spec is None or spec.loader is None:
            raise ClusterError(f"cannot load {tools.E2E / 'images' / 'oci_image.py'}")
        module = importlib.util.module_from_spec(spec)
        sys.modules["oci_image"] = module
        spec.loader.exec_module(module)
    return sys.modules["oci_image"]


def load(cluster: Cluster, archive: Path) -> None:
    """Imports and unpacks one archive."""
    command = ["ctr", "-a", str(cluster.containerd_socket), "-n", "k8s.io", "images", "import", str(archive)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        raise ClusterError(f"importing {archive} into `{cluster.name}` failed: {result.stdout.strip()}")


def present(cluster: Cluster) -> set[str]:
    """Names of the images that containerd has."""
    command = ["ctr", "-a", str(cluster.containerd_socket), "-n", "k8s.io", "images", "list", "-q"]
    return set(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.split())


def load_system(cluster: Cluster) -> None:
    """The pause image and CoreDNS; their archives stay beside the program they were made from."""
    have = present(cluster)
    for reference, name in ((PAUSE, "pause"), (COREDNS, "coredns")):
        if reference in have:
            continue
        binary = tools.program(name)
        archive = binary.with_suffix(".tar")
        if not archive.exists():
            writer().write(writer().Image(reference, binary), archive)
        load(cluster, archive)


def write_and_load(clusters: list[Cluster], reference: str, binary: Path, files: list[str], environment: list[str]) -> str:
    """Writes an image and imports it into every given cluster; returns its digest. `files` are SOURCE:TARGET."""
    oci = writer()
    image = oci.Image(reference, existing_file(binary), tuple(map(source_and_target, files)), tuple(environment))
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "image.tar"
        made = oci.write(image, archive)
        for cluster in clusters:
            load(cluster, archive)
    return str(made)


def source_and_target(text: str) -> tuple[Path, str]:
    """Splits SOURCE:TARGET."""
    source, separator, target = text.partition(":")
    if not separator or not target.startswith("/"):
        raise ClusterError(f"--file takes SOURCE:TARGET with an absolute target, found `{text}`")
    return existing_file(Path(source)), target


def existing_file(path: Path) -> Path:
    """A missing source is the commonest mistake here; say it in one sentence."""
    if not path.exists():
        raise ClusterError(f"{path} does not exist; build it first")
    return path
