"""Asks a cluster whether its parts answer: API server, node, DNS, gateway, Prometheus. Reads only."""

import http.client
import json
import socket
import ssl
import struct
import time
from typing import Any, Callable
from urllib.error import URLError
from urllib.request import urlopen

from .errors import ClusterError
from .layout import Cluster

# Everything that can go wrong while the other side is still starting.
NOT_YET = (OSError, http.client.HTTPException, URLError, ValueError, KeyError)


def wait(what: str, check: Callable[[], bool], seconds: float, alive: Callable[[], str | None] = lambda: None) -> None:
    """Polls until the check holds. `alive` names a program that has died meanwhile: then waiting is in vain."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if check():
                return
            last = "not ready"
        except NOT_YET as error:
            last = f"{type(error).__name__}: {error}"
        dead = alive()
        if dead:
            raise ClusterError(f"{dead} ended while waiting for {what}")
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} did not become ready within {seconds:.0f} s ({last})")
        time.sleep(0.05)


def api_get(cluster: Cluster, path: str) -> bytes:
    """GET with the administrator's certificate. Raises ConnectionError for any answer but 200."""
    pki = cluster.root / "pki"
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    connection = http.client.HTTPSConnection(cluster.node_ip, 6443, timeout=5, context=context)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise ConnectionError(f"GET {path} answered {response.status}")
        return body
    finally:
        connection.close()


def condition(cluster: Cluster, path: str, wanted: str) -> bool:
    """Whether an object's status condition is True."""
    document: dict[str, Any] = json.loads(api_get(cluster, path))
    conditions = document.get("status", {}).get("conditions", [])
    return any(found["type"] == wanted and found["status"] == "True" for found in conditions)


def api_ready(cluster: Cluster) -> bool:
    """The API server's own opinion."""
    return api_get(cluster, "/readyz") == b"ok"


def node_ready(cluster: Cluster) -> bool:
    """The kubelet's report; that it listens shows that the report is not one of an earlier life."""
    return port_open(cluster, 10250) and condition(cluster, f"/api/v1/nodes/{cluster.node_name}", "Ready")


def gateway_programmed(cluster: Cluster) -> bool:
    """Contour's report, for the current generation of the Gateway."""
    return condition(cluster, "/apis/gateway.networking.k8s.io/v1/namespaces/gateway/gateways/gw", "Programmed")


def crds_established(cluster: Cluster) -> bool:
    """The kinds that the gateway's manifests and Contour need."""
    base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    names = ("gatewayclasses.gateway.networking.k8s.io", "gateways.gateway.networking.k8s.io", "httproutes.gateway.networking.k8s.io")
    return all(condition(cluster, f"{base}/{name}", "Established") for name in names)


def envoy_ready(cluster: Cluster) -> bool:
    """Envoy answers on its statistics port once it has its first configuration from Contour."""
    with urlopen(f"http://{cluster.node_ip}:8002/ready", timeout=2) as answer:
        return bool(answer.status == 200)


def prometheus_ready(cluster: Cluster) -> bool:
    """Prometheus's own opinion."""
    with urlopen(f"{cluster.prometheus_url}/-/ready", timeout=2) as answer:
        return bool(answer.status == 200)


def dns_answers(cluster: Cluster) -> bool:
    """An A query for the API server's Service name, through the ClusterIP: proves CoreDNS, kube-proxy and routing at once."""
    labels = b"".join(bytes([len(part)]) + part for part in b"kubernetes.default.svc.cluster.local".split(b"."))
    query = struct.pack(">HHHHHH", 0x4553, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(0.3)
        udp.sendto(query, (cluster.dns_ip, 53))
        answer = udp.recv(512)
    failed, answers = answer[3] & 0x0F, struct.unpack(">H", answer[6:8])[0]
    return failed == 0 and answers == 1 and answer.endswith(socket.inet_aton(cluster.api_service_ip))


def port_open(cluster: Cluster, port: int) -> bool:
    """Whether something listens on the node's address."""
    try:
        with socket.create_connection((cluster.node_ip, port), timeout=0.5):
            return True
    except OSError:
        return False
