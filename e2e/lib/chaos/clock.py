"""The operator as two processes whose wall clock can be set: libfaketime is loaded before them and reads the offset from a file.

Only their wall clock: time namespaces move the monotonic clock and never this one, and the machine's own clock belongs to everybody.
"""

import os
import subprocess
from pathlib import Path

from localcluster import processes
from localcluster.layout import Cluster
from story import binaries
from story.operator import Processes

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
PACKAGE = "libfaketime"


def install() -> str:
    """Makes the library available; returns why that is not possible, or nothing."""
    if not LIBRARY.exists():
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", PACKAGE]
        done = subprocess.run(command, env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"), capture_output=True, text=True, check=False)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
            return f"Debian's package {PACKAGE} cannot be installed: {lines[-1]}"
    return "" if LIBRARY.exists() else f"{LIBRARY} is not there"


def dynamic_program() -> Path:
    """The debug build: a static program, as it goes into images, cannot load a library. It also checks its arithmetic."""
    return binaries.target_folder().parents[1] / "debug" / "espalier"


def build() -> str:
    """Builds that; returns why that is not possible, or nothing."""
    command = ["cargo", "build", "--locked", "-p", "espalier", "--bin", "espalier"]
    done = subprocess.run(command, cwd=binaries.ROOT, check=False)
    return "the operator cannot be built for the system's C library" if done.returncode else ""


class Clocked(Processes):
    """Two replicas with the lease between them. Without the library they are the ordinary program, and their clock cannot be set."""

    def __init__(self, cluster: Cluster, folder: Path, settable: bool) -> None:
        super().__init__(cluster, folder, count=2, elect=True)
        self.settable = settable

    def program(self) -> Path:
        """The build that can load a library, where that works."""
        return dynamic_program() if self.settable else super().program()

    def offset_file(self, number: int) -> Path:
        """The offset of one replica."""
        return self.folder / f"clock-{number}"

    def start_one(self, number: int) -> None:
        """Clears up after the one before, too."""
        self.clear(number)
        super().start_one(number)

    def stop(self) -> None:
        """And leaves nothing behind."""
        super().stop()
        for number in range(self.count):
            self.clear(number)

    def clear(self, number: int) -> None:
        """libfaketime leaves shared memory behind that is named after its process."""
        process = processes.read(self.pid_file(number))
        if process and not process.alive():
            for name in (f"faketime_shm_{process.pid}", f"sem.faketime_sem_{process.pid}"):
                (Path("/dev/shm") / name).unlink(missing_ok=True)

    def surroundings(self, number: int) -> dict[str, str]:
        """What libfaketime reads."""
        if not self.settable:
            return {}
        file = self.offset_file(number)
        if not file.exists():
            self.set_clock(number, 0)
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set_clock(self, number: int, seconds: int) -> None:
        """Sets the clock of one replica so far ahead of the machine's, or behind it. Seen within a second."""
        file = self.offset_file(number)
        beside = file.with_suffix(".new")
        beside.write_text(f"{seconds:+d}\n", encoding="utf-8")
        beside.rename(file)
