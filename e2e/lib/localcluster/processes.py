"""Long-lived processes: start detached, remember by pid and start time, stop by exactly that.

Nothing here ever looks a process up by name, and a recycled pid is never taken for ours.
"""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .errors import ClusterError


@dataclass(frozen=True)
class Process:
    """A process as its pid file knows it. `started` is the kernel's start time in clock ticks since boot."""

    pid: int
    started: int

    def stat(self) -> tuple[str, int] | None:
        """State letter and start time from the kernel, or None when the pid is gone."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The program's name, in parentheses, may itself hold spaces and parentheses.
        fields = text[text.rindex(")") + 2 :].split()
        return fields[0], int(fields[19])

    def alive(self) -> bool:
        """A zombie that nobody has reaped yet is not alive."""
        found = self.stat()
        return found is not None and found[1] == self.started and found[0] not in "ZX"

    def stopped(self) -> bool:
        """Whether the process is held by SIGSTOP."""
        found = self.stat()
        return self.alive() and found is not None and found[0] == "T"

    def signal(self, number: int) -> None:
        """Sends a signal if the process still is the one that was started."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass


def of_pid(pid: int) -> Process | None:
    """The process that has this pid now."""
    found = Process(pid, 0).stat()
    return Process(pid, found[1]) if found else None


def read(file: Path) -> Process | None:
    """What a pid file says, whether or not that process still lives."""
    try:
        pid, started = file.read_text(encoding="utf-8").split()
        return Process(int(pid), int(started))
    except (FileNotFoundError, ValueError):
        return None


def start(name: str, command: list[str], pid_file: Path, log: Path, env: dict[str, str] | None = None) -> Process:
    """Starts a program in a session of its own, its output appended to `log`.

    The command may begin with nsenter: that program replaces itself, so the pid is the program's.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd="/", start_new_session=True)
    process = of_pid(child.pid)
    if process is None:
        raise ClusterError(f"{name} ended at once; see {log}")
    pid_file.write_text(f"{process.pid} {process.started}", encoding="utf-8")
    return process


def stop_all(processes: list[Process], grace: float) -> None:
    """SIGTERM to all, and SIGKILL after `grace` seconds to those that are still there. A paused process is woken to hear it."""
    for process in processes:
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGCONT)
    if not wait_gone(processes, grace):
        kill_all(processes)


def kill_all(processes: list[Process]) -> None:
    """SIGKILL, and waits until the kernel agrees."""
    for process in processes:
        process.signal(signal.SIGKILL)
    if not wait_gone(processes, 10):
        left = ", ".join(str(process.pid) for process in processes if process.alive())
        raise ClusterError(f"processes {left} survived SIGKILL for 10 s; they are stuck in the kernel (see /proc/PID/stack)")


def wait_gone(processes: list[Process], seconds: float) -> bool:
    """Whether all of them ended within the time."""
    deadline = time.monotonic() + seconds
    while any(process.alive() for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
