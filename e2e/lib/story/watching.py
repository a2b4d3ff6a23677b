"""Everything that the API server's watch tells of one kind in one namespace, in order and with the time it was told.

Judges nothing, forgets nothing until it is closed.
"""

import http.client
import threading
import time
from dataclasses import dataclass
from typing import Callable

from .api import BROKEN, Api, ApiError, Object


@dataclass(frozen=True)
class Version:
    """One version of one object. `at` is monotonic, `wall` in unix seconds, both when the watch told of it."""

    at: float
    wall: float
    kind: str
    object: Object

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.object["metadata"]["name"])

    @property
    def exists(self) -> bool:
        """Whether the object was there."""
        return self.kind != "DELETED"


class Watch:
    """Follows one kind in one namespace in a thread of its own. `keep` says what is remembered of an object; all by default."""

    def __init__(self, api: Api, plural: str, namespace: str, keep: Callable[[Object], Object] = dict) -> None:
        self.api, self.plural, self.namespace, self.keep = api, plural, namespace, keep
        self.versions: list[Version] = []
        self.closed = False
        self.connection: http.client.HTTPSConnection | None = None
        threading.Thread(target=self.follow, name=f"{plural} of {namespace}", daemon=True).start()

    def follow(self) -> None:
        """Goes on from the last version seen when the connection ends, and from the present when that one is too old."""
        version = "0"
        while not self.closed:
            self.connection = self.api.connect(timeout=3700.0)
            try:
                for kind, found in self.api.watch(self.plural, self.namespace, self.connection, version):
                    if kind == "ERROR":
                        version = "0"
                        break
                    version = found["metadata"]["resourceVersion"]
                    self.versions.append(Version(time.monotonic(), time.time(), kind, self.keep(found)))
            except ApiError as error:
                version = "0" if error.code == 410 else version
                time.sleep(0.2)
            except (*BROKEN, OSError, ValueError, AttributeError):
                time.sleep(0.05)

    def close(self) -> None:
        """Ends the watch."""
        self.closed = True
        socket = self.connection.sock if self.connection else None
        if socket is not None:
            socket.close()
