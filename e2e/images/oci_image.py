"""Writes a container image as a one-layer OCI archive that `ctr images import` takes: no registry, no daemon, no base image.

Does not compress and does not run anything in the image. The same input gives the same bytes, and so the same digest.
"""

import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

MEDIA = "application/vnd.oci.image."
USER = "65532:65532"
PASSWD = b"root:x:0:0::/:/sbin/nologin\nnonroot:x:65532:65532::/tmp:/sbin/nologin\n"


@dataclass(frozen=True)
class Image:
    """What goes in: a static program at /app, files or folders (source, absolute path in the image), environment."""

    reference: str
    binary: Path
    files: tuple[tuple[Path, str], ...] = ()
    environment: tuple[str, ...] = ()
    architecture: str = field(default="amd64")


def full_reference(name: str) -> str:
    """The name under which the kubelet looks an image up: `busy:1` means docker.io/library/busy:1."""
    path, _, tag = name.rpartition(":") if ":" in name.rsplit("/", 1)[-1] else (name, "", "latest")
    first = path.split("/", 1)[0]
    if "/" not in path:
        path = f"docker.io/library/{path}"
    elif "." not in first and ":" not in first and first != "localhost":
        path = f"docker.io/{path}"
    return f"{path}:{tag}"


def write(image: Image, out: Path) -> str:
    """Writes the archive and returns the manifest's digest. An interrupted write leaves no archive."""
    layer = layer_bytes(image)
    config = encode(
        {
            "architecture": image.architecture,
            "os": "linux",
            "config": {"Entrypoint": ["/app"], "Env": ["PATH=/", *image.environment], "User": USER, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
            "history": [{"created_by": "oci_image"}],
        }
    )
    manifest = encode(
        {
            "schemaVersion": 2,
            "mediaType": MEDIA + "manifest.v1+json",
            "config": descriptor("config.v1+json", config),
            "layers": [descriptor("layer.v1.tar", layer)],
        }
    )
    reference = full_reference(image.reference)
    listed = descriptor("manifest.v1+json", manifest) | {
        "platform": {"architecture": image.architecture, "os": "linux"},
        "annotations": {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference.rsplit(":", 1)[-1]},
    }
    scratch = out.with_name(f".{out.name}.{os.getpid()}")
    with tarfile.open(scratch, "w") as archive:
        add_file(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
        add_file(archive, "index.json", encode({"schemaVersion": 2, "manifests": [listed]}), 0o644)
        for blob in (config, manifest, layer):
            add_file(archive, "blobs/sha256/" + digest(blob).removeprefix("sha256:"), blob, 0o644)
    scratch.replace(out)
    return digest(manifest)


def layer_bytes(image: Image) -> bytes:
    """The file system: a user, a writable /tmp, the program, and the files."""
    contents: dict[str, tuple[bytes, int]] = {"etc/passwd": (PASSWD, 0o644), "app": (image.binary.read_bytes(), 0o755)}
    for source, target in image.files:
        for path, name in placed(source, target.strip("/")):
            contents[name] = (path.read_bytes(), 0o755 if os.access(path, os.X_OK) else 0o644)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        folders = {"tmp"} | {str(parent) for name in contents for parent in Path(name).parents if str(parent) != "."}
        for folder in sorted(folders):
            add_folder(layer, folder, 0o1777 if folder == "tmp" else 0o755)
        for name in sorted(contents):
            add_file(layer, name, *contents[name])
    return buffer.getvalue()


def placed(source: Path, target: str) -> list[tuple[Path, str]]:
    """A file goes to the target itself, the files of a folder below it."""
    if not source.is_dir():
        return [(source, target)]
    return [(path, f"{target}/{path.relative_to(source)}".lstrip("/")) for path in sorted(source.rglob("*")) if path.is_file()]


def add_file(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    """tarfile's defaults are time 0 and user 0, which is what makes the bytes reproducible."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    entry.mode = mode
    archive.addfile(entry, io.BytesIO(data))


def add_folder(archive: tarfile.TarFile, name: str, mode: int) -> None:
    """A folder entry, time 0 and user 0 as well."""
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE
    entry.mode = mode
    archive.addfile(entry)


def descriptor(kind: str, blob: bytes) -> dict[str, object]:
    """How OCI documents point at each other."""
    return {"mediaType": MEDIA + kind, "digest": digest(blob), "size": len(blob)}


def encode(document: dict[str, object]) -> bytes:
    """One spelling per document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def digest(blob: bytes) -> str:
    """Content address."""
    return "sha256:" + hashlib.sha256(blob).hexdigest()
