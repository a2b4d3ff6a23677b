"""Certificates and kubeconfigs of one cluster, made with openssl (EC P-256). Nothing is renewed: clusters are short-lived."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .errors import ClusterError
from .layout import Cluster

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
# Ten years, so that no test ever depends on the date.
DAYS = "3650"


@dataclass(frozen=True)
class Identity:
    """A certificate to sign: file name, subject, alternative names."""

    file: str
    subject: str
    names: str = ""


def identities(cluster: Cluster) -> list[Identity]:
    """Everybody who talks to the API server with a certificate, and the API server itself."""
    ips = f"IP:127.0.0.1,IP:{cluster.node_ip},IP:{cluster.api_service_ip}"
    dns = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost"
    return [
        Identity("apiserver", "/CN=kube-apiserver", f"{ips},{dns}"),
        Identity("admin", "/O=system:masters/CN=admin"),
        Identity("controller-manager", "/CN=system:kube-controller-manager"),
        Identity("scheduler", "/CN=system:kube-scheduler"),
        Identity("kube-proxy", "/CN=system:kube-proxy"),
        Identity("kubelet", f"/O=system:nodes/CN=system:node:{cluster.node_name}", f"DNS:{cluster.node_name},IP:{cluster.node_ip}"),
    ]


def up(cluster: Cluster) -> None:
    """Makes the authority, all certificates, the key pair of service accounts and one kubeconfig per client."""
    pki = cluster.root / "pki"
    done = pki / "complete"
    if done.exists():
        return
    pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    openssl("req", "-x509", *CURVE, "-keyout", "ca.key", "-out", "ca.crt", "-subj", f"/CN={cluster.name}-ca", "-days", DAYS, cwd=pki)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda identity: sign(pki, identity), identities(cluster)))
    openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", "service-accounts.key", cwd=pki)
    openssl("ec", "-in", "service-accounts.key", "-pubout", "-out", "service-accounts.pub", cwd=pki)
    for client in ("admin", "controller-manager", "scheduler", "kube-proxy", "kubelet"):
        write_kubeconfig(cluster, client)
    done.touch()


def sign(pki: Path, identity: Identity) -> None:
    """A key and a certificate for one identity."""
    name = identity.file
    extensions = pki / f"{name}.ext"
    # Without any extension openssl makes version 1 certificates, which TLS libraries such as rustls refuse.
    names = f"subjectAltName={identity.names}\n" if identity.names else ""
    extensions.write_text(f"extendedKeyUsage=clientAuth,serverAuth\n{names}", encoding="utf-8")
    openssl("req", *CURVE, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", identity.subject, cwd=pki)
    # A serial made of the name instead of a shared counter file, because identities are signed side by side.
    authority = ["-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", f"0x{int.from_bytes(name.encode()[:8], 'big'):x}"]
    openssl("x509", "-req", "-in", f"{name}.csr", *authority, "-days", DAYS, "-out", f"{name}.crt", "-extfile", extensions.name, cwd=pki)


def write_kubeconfig(cluster: Cluster, client: str) -> None:
    """The node's address instead of a loopback one, so that the file also works outside the namespace."""
    pki = cluster.root / "pki"
    (cluster.root / f"{client}.kubeconfig").write_text(
        f"""apiVersion: v1
kind: Config
clusters:
- name: {cluster.name}
  cluster: {{server: "https://{cluster.node_ip}:6443", certificate-authority: {pki}/ca.crt}}
users:
- name: {client}
  user: {{client-certificate: {pki}/{client}.crt, client-key: {pki}/{client}.key}}
contexts:
- name: {cluster.name}
  context: {{cluster: {cluster.name}, user: {client}}}
current-context: {cluster.name}
""",
        encoding="utf-8",
    )


def openssl(*arguments: str, cwd: Path) -> None:
    """Runs openssl; it talks a lot even when it succeeds."""
    result = subprocess.run(["openssl", *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        raise ClusterError(f"`openssl {' '.join(arguments)}` failed: {result.stdout.strip()}")
