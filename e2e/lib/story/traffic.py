"""Users: the load generator against the gateway, for one host name. Counts what they received; judges nothing."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from . import binaries

Stats = dict[str, Any]
# Begins elsewhere in each process, so that runs side by side rarely meet.
PORTS = iter([20000 + (os.getpid() * 131 + offset) % 12000 for offset in range(12000)])
PORTS_LOCK = threading.Lock()


class Traffic:
    """One running load generator; bounded in time whatever happens to its parent."""

    def __init__(self, url: str, host: str, folder: Path, rps: int, *flags: str, minutes: int = 15) -> None:
        self.control = f"127.0.0.1:{free_port()}"
        self.report = folder / f"traffic-{host}-{self.control.rpartition(':')[2]}.json"
        # Users are many machines elsewhere; here they must not starve the cluster that they share two cores with.
        command = ["nice", "-n", "2", str(binaries.program("espalier-load")), "--url", url, "--host", host, "--rps", str(rps)]
        command += ["--duration", f"{minutes}m", "--max-duration", f"{minutes}m"]
        command += ["--control", self.control, "--report", str(self.report), "--quiet", *flags]
        with open(folder / "traffic.log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        # A generator that cannot start must not look like users who stay away.
        self.stats()

    def call(self, path: str, body: object = None) -> Stats:
        """Asks the generator; it may need a moment until it listens."""
        data = None if body is None else json.dumps(body).encode()
        deadline = time.monotonic() + 10
        while True:
            try:
                with urlopen(Request(f"http://{self.control}{path}", data=data), timeout=10) as answer:
                    text = answer.read().decode()
                    return dict(json.loads(text)) if text.startswith("{") else {}
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def stats(self) -> Stats:
        """The whole report so far."""
        return self.call("/stats")

    def total(self) -> Stats:
        """Counts since the start."""
        return dict(self.stats()["total"])

    def phase(self, name: str) -> Stats:
        """Counts of one phase, also of one that has ended."""
        return dict(next(phase["stats"] for phase in self.stats()["phases"] if phase["name"] == name))

    def mark(self, name: str) -> None:
        """Begins a new phase."""
        self.call("/mark", {"name": name})

    def rate(self, rps: int) -> None:
        """Another rate from now on."""
        self.call("/rate", {"rps": rps})

    def stop(self) -> Stats:
        """Ends it and returns the last report."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return dict(json.loads(self.report.read_text(encoding="utf-8"))) if self.report.exists() else {}


def of_revision(stats: Stats, revision: str) -> Stats:
    """Counts of one revision; zeros when nobody met it."""
    empty: Stats = {"requests": 0, "share": 0.0, "ok": 0, "wrong": 0, "wrong_but_teacher_right": 0, "nonfinite": 0, "by_code": {}}
    return dict(stats["revisions"].get(revision, empty))


def free_port() -> int:
    """A port below those that the kernel gives to outgoing connections, handed out once per run."""
    with PORTS_LOCK:
        for port in PORTS:
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    continue
    raise OSError("no port from 20000 to 31999 is free")
