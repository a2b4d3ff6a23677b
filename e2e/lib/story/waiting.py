"""Bounded waits and checks whose failures say what was found. A test returns True, or what it found instead.

Never sleeps for a fixed time in the hope that something has happened by then.
"""

import time
from typing import Any, Callable


class Failed(AssertionError):
    """A sentence: what should have been, and what was found."""


def check(sentence: str, found: object) -> None:
    """Fails unless found is True."""
    if found is not True:
        raise Failed(f"{sentence}; found: {found}")


def wait_until(sentence: str, look: Callable[[], object], seconds: float = 60.0, every: float = 0.1) -> float:
    """Polls until look() returns True, and returns how long that took. Anything else is what was found so far."""
    began = time.monotonic()
    while True:
        found = look()
        now = time.monotonic()
        if found is True:
            return now - began
        if now - began > seconds:
            raise Failed(f"{sentence}: not within {seconds:.0f} s; last found: {found}")
        time.sleep(every)


def holds_for(sentence: str, look: Callable[[], object], seconds: float, every: float = 0.2) -> None:
    """Polls for the whole time and fails as soon as look() returns anything but True: for what must not happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        check(f"{sentence} for {seconds:.0f} s", look())
        time.sleep(every)


def same(found: Any, expected: Any) -> object:
    """True, or both sides."""
    return True if found == expected else f"{found!r} instead of {expected!r}"


def at_most(found: float, most: float, unit: str = "") -> object:
    """True, or the number."""
    return True if found <= most else f"{found:g}{unit}, more than {most:g}{unit}"


def at_least(found: float, least: float, unit: str = "") -> object:
    """True, or the number."""
    return True if found >= least else f"{found:g}{unit}, less than {least:g}{unit}"


def within(found: Any, allowed: Any) -> object:
    """True when every element of one collection is in the other."""
    extra = [element for element in found if element not in allowed]
    return True if not extra else f"{extra} beside {list(allowed)}"
