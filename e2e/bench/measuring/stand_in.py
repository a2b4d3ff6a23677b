"""What every stand-in for Prometheus has in common: a process of its own that answers queries and takes orders, and the side that starts it.

Knows nothing of pods or samples; the world that a stand-in serves does.
"""

import http.client
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol
from urllib.parse import parse_qs


class World(Protocol):
    """What a stand-in serves."""

    def answer(self, text: str, at: float) -> str:
        """The body for one range query."""

    def control(self, verb: str, body: dict[str, object]) -> object:
        """What the measurement sets and asks."""


class Handler(BaseHTTPRequestHandler):
    """Prometheus's query endpoint, and /control/VERB for the measurement."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 20
    world: World

    def do_POST(self) -> None:  # noqa: N802 - the base class names it
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/api/v1/query":
            form = parse_qs(text)
            body = self.world.answer(form["query"][0], float(form["time"][0]))
        else:
            body = json.dumps(self.world.control(self.path.rpartition("/")[2], json.loads(text or "{}")))
        data = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Silence: thousands of requests."""


class Server(ThreadingHTTPServer):
    """Says nothing when an operator that was stopped leaves its connections behind."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Only what is not a broken connection is worth words."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def serve(world: World) -> None:
    """The process itself: prints its port and serves until it is ended."""
    Handler.world = world
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


class StandIn:
    """The measurement's side: starts a module as the process and talks to it."""

    def __init__(self, module: str, seed: int) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen([sys.executable, "-m", module, str(seed)], stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.local = threading.local()

    @property
    def address(self) -> str:
        """Base address for policies."""
        return f"http://127.0.0.1:{self.port}"

    def control(self, verb: str, body: object = None) -> dict[str, float]:
        """One control call, on a connection per thread."""
        connection = getattr(self.local, "connection", None) or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.local.connection = connection
        connection.request("POST", f"/control/{verb}", json.dumps(body or {}))
        return dict(json.loads(connection.getresponse().read()))

    def asked(self) -> Counter[str]:
        """How often each query was asked so far."""
        return Counter({text: int(count) for text, count in self.control("asked").items()})

    def stop(self) -> None:
        """Ends the process."""
        self.process.terminate()
        self.process.wait(10)
