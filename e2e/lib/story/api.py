"""The API server over its own protocol: get, apply, patch, delete, watch. One connection per thread.

Not kubectl, because scenarios look ten times a second and a program start for each look would be most of the machine's load.
"""

import http.client
import json
import ssl
import threading
import time
from pathlib import Path
from typing import Any, Iterator
from urllib.parse import urlencode

Object = dict[str, Any]
MANAGER = "scenario"
GROUPS = {
    "namespaces": "/api/v1",
    "pods": "/api/v1",
    "services": "/api/v1",
    "events": "/apis/events.k8s.io/v1",
    "deployments": "/apis/apps/v1",
    "controllerrevisions": "/apis/apps/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "httproutes": "/apis/gateway.networking.k8s.io/v1",
    "modelrollouts": "/apis/espalier.dev/v1alpha1",
    "evaluationpolicies": "/apis/espalier.dev/v1alpha1",
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1",
}
PLURALS = {
    "Namespace": "namespaces",
    "Pod": "pods",
    "Service": "services",
    "Deployment": "deployments",
    "HTTPRoute": "httproutes",
    "ModelRollout": "modelrollouts",
    "EvaluationPolicy": "evaluationpolicies",
}
# Seconds between tries while the API server says that it is busy.
BUSY_WAITS = (0.2, 0.5, 1.0, 2.0, 3.0)
BROKEN = (ConnectionError, http.client.HTTPException, TimeoutError, ssl.SSLError)


class ApiError(Exception):
    """An answer other than success; `code` is the HTTP status."""

    def __init__(self, verb: str, path: str, code: int, body: str) -> None:
        self.code = code
        message = json.loads(body).get("message", body) if body.startswith("{") else body
        super().__init__(f"{verb} {path} answered {code}: {message}")


class Api:
    """A client with the administrator's certificate."""

    def __init__(self, host: str, pki: Path) -> None:
        self.host = host
        self.context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self.context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self.local = threading.local()

    def connect(self, timeout: float = 30.0) -> http.client.HTTPSConnection:
        """A connection of its own, for watches."""
        return http.client.HTTPSConnection(self.host, 6443, timeout=timeout, context=self.context)

    def call(self, verb: str, path: str, body: object = None, kind: str = "application/json") -> Object:
        """One request. Every verb used here may be repeated, so a connection that the server had closed is made anew."""
        data = None if body is None else json.dumps(body)
        for wait in BUSY_WAITS:
            status, text = self.once(verb, path, data, kind)
            # The API server asks to come again, for example while it opens the storage of a new CRD.
            if status != 429:
                break
            time.sleep(wait)
        if status >= 300:
            raise ApiError(verb, path, status, text)
        return dict(json.loads(text))

    def once(self, verb: str, path: str, data: str | None, kind: str) -> tuple[int, str]:
        """Status and text of one answer."""
        for last in (False, True):
            connection = getattr(self.local, "connection", None) or self.connect()
            self.local.connection = connection
            try:
                connection.request(verb, path, data, {"Content-Type": kind} if data else {})
                response = connection.getresponse()
                return response.status, response.read().decode()
            except BROKEN:
                connection.close()
                self.local.connection = None
                if last:
                    raise
        raise AssertionError("the second try returns or raises")

    def get(self, plural: str, namespace: str, name: str) -> Object | None:
        """The object, or None when there is none."""
        try:
            return self.call("GET", path(plural, namespace, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(self, plural: str, namespace: str, selector: str = "") -> list[Object]:
        """All objects of a kind in a namespace."""
        return list(self.call("GET", path(plural, namespace) + query(labelSelector=selector))["items"])

    def apply(self, wanted: Object) -> Object:
        """Server-side apply, as a GitOps controller would."""
        metadata = wanted["metadata"]
        where = path(PLURALS[wanted["kind"]], metadata.get("namespace", ""), metadata["name"])
        options = query(fieldManager=MANAGER, force="true", fieldValidation="Strict")
        return self.call("PATCH", where + options, wanted, "application/apply-patch+yaml")

    def patch(self, plural: str, namespace: str, name: str, change: object, manager: str = MANAGER) -> Object:
        """A merge patch, or a JSON patch when the change is a list."""
        kind = "application/json-patch+json" if isinstance(change, list) else "application/merge-patch+json"
        return self.call("PATCH", path(plural, namespace, name) + query(fieldManager=manager), change, kind)

    def delete(self, plural: str, namespace: str, name: str, propagation: str = "Background") -> None:
        """Asks for deletion; an object that is gone already is fine."""
        try:
            self.call("DELETE", path(plural, namespace, name) + query(propagationPolicy=propagation))
        except ApiError as error:
            if error.code != 404:
                raise

    def watch(self, plural: str, namespace: str, connection: http.client.HTTPSConnection, version: str) -> Iterator[tuple[str, Object]]:
        """(ADDED | MODIFIED | DELETED, object) from a resource version on, until the connection is closed."""
        where = path(plural, namespace) + query(watch="true", resourceVersion=version, timeoutSeconds="3600")
        connection.request("GET", where)
        response = connection.getresponse()
        if response.status != 200:
            raise ApiError("GET", where, response.status, response.read().decode())
        for line in response:
            event = json.loads(line)
            yield event["type"], event["object"]


def path(plural: str, namespace: str, name: str = "") -> str:
    """Where a kind or an object lies."""
    parts = [GROUPS[plural]]
    if namespace:
        parts += ["namespaces", namespace]
    return "/".join([*parts, plural, *([name] if name else [])])


def query(**options: str) -> str:
    """Options that are not empty."""
    given = {key: value for key, value in options.items() if value}
    return "?" + urlencode(given) if given else ""
