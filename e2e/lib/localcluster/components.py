"""The programs a cluster consists of: command line, port and place of each, and their configuration files.

Starts nothing by itself; lifecycle.py decides what runs when.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from string import Template

from . import cgroups, images, network, processes, tools
from .errors import ClusterError
from .layout import Cluster

TEMPLATES = Path(__file__).parent / "templates"
NAMES = (
    "etcd",
    "apiserver",
    "controller-manager",
    "scheduler",
    "containerd",
    "kubelet",
    "kube-proxy",
    "contour",
    "envoy",
    "prometheus",
)
# Runs only in clusters that were given fake nodes.
OPTIONAL = ("kwok",)
# The port that says "up" for each; containerd listens on a socket.
PORTS = {
    "etcd": 2379,
    "apiserver": 6443,
    "controller-manager": 10257,
    "scheduler": 10259,
    "kubelet": 10250,
    "kube-proxy": 10256,
    "contour": 8000,
    "envoy": 8080,
    "prometheus": 9090,
    "kwok": 10247,
}


@dataclass(frozen=True)
class Component:
    """One long-lived program of one cluster."""

    cluster: Cluster
    name: str

    @property
    def pid_file(self) -> Path:
        """Where its pid and start time are kept."""
        return self.cluster.root / "pids" / self.name

    @property
    def log(self) -> Path:
        """Its output."""
        return self.cluster.root / "log" / f"{self.name}.log"

    def process(self) -> processes.Process | None:
        """Its process if it lives."""
        process = processes.read(self.pid_file)
        return process if process and process.alive() else None

    def start(self) -> None:
        """Starts it unless it runs already."""
        if self.process() is None:
            processes.start(self.name, self.command(), self.pid_file, self.log)

    def command(self) -> list[str]:
        """The whole command line, from entering the namespaces to the last flag."""
        enter = network.enter(self.cluster, with_mounts=self.name in ("containerd", "kubelet"))
        return [*cgroups.join_host(self.cluster), *enter, *COMMANDS[self.name](self.cluster)]


def component(cluster: Cluster, name: str) -> Component:
    """A component by name, or a sentence with the names there are."""
    if name not in NAMES + OPTIONAL:
        raise ClusterError(f"there is no component `{name}`; there are {', '.join(NAMES + OPTIONAL)}")
    return Component(cluster, name)


def all_of(cluster: Cluster) -> list[Component]:
    """Every component in the order in which they depend on each other, and the optional ones that were started."""
    optional = [found for name in OPTIONAL if (found := Component(cluster, name)).log.exists()]
    return [*(Component(cluster, name) for name in NAMES), *optional]


def etcd(cluster: Cluster) -> list[str]:
    """Without fsync: a cluster for tests does not outlive a power failure, and slow disks would slow every write."""
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [
        str(tools.program("etcd")),
        f"--data-dir={cluster.root}/etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver(cluster: Cluster) -> list[str]:
    """InternalIP first, or logs and exec would look the node's name up in DNS."""
    pki = f"{cluster.root}/pki"
    return [
        str(tools.program("kube-apiserver")),
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        "--secure-port=6443",
        f"--advertise-address={cluster.node_ip}",
        f"--service-cluster-ip-range={cluster.service_range}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-client-certificate={pki}/admin.crt",
        f"--kubelet-client-key={pki}/admin.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/service-accounts.pub",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        "--profiling=false",
    ]


def controller_manager(cluster: Cluster) -> list[str]:
    """One replica needs no leader election; the client limits are for tests that make fifty workloads at once."""
    return [
        str(tools.program("kube-controller-manager")),
        f"--kubeconfig={cluster.root}/controller-manager.kubeconfig",
        f"--root-ca-file={cluster.root}/pki/ca.crt",
        f"--service-account-private-key-file={cluster.root}/pki/service-accounts.key",
        "--use-service-account-credentials=true",
        f"--cluster-cidr={cluster.pod_range}",
        "--allocate-node-cidrs=false",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    ]


def scheduler(cluster: Cluster) -> list[str]:
    """As for the controller manager."""
    return [
        str(tools.program("kube-scheduler")),
        f"--kubeconfig={cluster.root}/scheduler.kubeconfig",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    ]


def containerd(cluster: Cluster) -> list[str]:
    """Debian's containerd."""
    return ["containerd", "-c", f"{cluster.root}/containerd.toml"]


def kubelet(cluster: Cluster) -> list[str]:
    """Its root folder lies in the cluster's state, so that volumes never touch the machine's /var/lib/kubelet."""
    return [
        str(tools.program("kubelet")),
        f"--kubeconfig={cluster.root}/kubelet.kubeconfig",
        f"--config={cluster.root}/kubelet.yaml",
        f"--root-dir={cluster.root}/kubelet/root",
        f"--cert-dir={cluster.root}/kubelet/pki",
        f"--hostname-override={cluster.node_name}",
        f"--node-ip={cluster.node_ip}",
    ]


def kube_proxy(cluster: Cluster) -> list[str]:
    """The conntrack flags keep it from writing sysctls, which belong to the whole machine."""
    return [
        str(tools.program("kube-proxy")),
        f"--kubeconfig={cluster.root}/kube-proxy.kubeconfig",
        "--proxy-mode=nftables",
        f"--cluster-cidr={cluster.pod_range}",
        f"--hostname-override={cluster.node_name}",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ]


def contour(cluster: Cluster) -> list[str]:
    """The default client limits would delay route status by half a minute when 200 routes change at once."""
    return [
        str(tools.program("contour")),
        "serve",
        f"--config-path={cluster.root}/contour.yaml",
        f"--kubeconfig={cluster.root}/admin.kubeconfig",
        "--insecure",
        "--xds-address=127.0.0.1",
        "--xds-port=8001",
        "--disable-leader-election",
        f"--ingress-status-address={cluster.node_ip}",
        "--envoy-http-access-log=/dev/stdout",
        "--kubernetes-client-qps=500",
        "--kubernetes-client-burst=1000",
        # Their resources are not in the standard channel of the Gateway API.
        "--disable-feature=tlsroutes",
        "--disable-feature=tcproutes",
    ]


def envoy(cluster: Cluster) -> list[str]:
    """Hot restart would use shared memory, which clusters have in common."""
    return [
        str(tools.program("envoy")),
        # Envoy's parser wants the value as a word of its own.
        *("--config-path", f"{cluster.root}/envoy.json"),
        *("--service-cluster", "gateway"),
        *("--service-node", cluster.node_name),
        "--disable-hot-restart",
        *("--concurrency", "2"),
        *("--log-level", "warning"),
    ]


def prometheus(cluster: Cluster) -> list[str]:
    """Listens on the node's address, so that pods reach it."""
    return [
        str(tools.program("prometheus")),
        f"--config.file={cluster.root}/prometheus.yml",
        f"--storage.tsdb.path={cluster.root}/prometheus",
        "--storage.tsdb.retention.time=12h",
        "--web.listen-address=0.0.0.0:9090",
        "--web.enable-lifecycle",
        "--log.level=warn",
    ]


def kwok(cluster: Cluster) -> list[str]:
    """Plays the kubelet of nodes that carry its annotation. A node without leases would go NotReady and take its pods with it."""
    stages = sorted((tools.folder("kwok") / "manifests").glob("*.yaml"))
    return [
        str(tools.program("kwok")),
        f"--kubeconfig={cluster.root}/admin.kubeconfig",
        *(f"--config={stage}" for stage in stages),
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--node-lease-duration-seconds=40",
        # The default range holds only 254 pods.
        "--cidr=10.128.0.0/16",
        f"--server-address=127.0.0.1:{PORTS['kwok']}",
    ]


COMMANDS = {
    "etcd": etcd,
    "apiserver": apiserver,
    "controller-manager": controller_manager,
    "scheduler": scheduler,
    "containerd": containerd,
    "kubelet": kubelet,
    "kube-proxy": kube_proxy,
    "contour": contour,
    "envoy": envoy,
    "prometheus": prometheus,
    "kwok": kwok,
}


def render(cluster: Cluster, template: str) -> str:
    """A template with this cluster's addresses and paths."""
    values = {
        "root": cluster.root,
        "kubeconfig": cluster.kubeconfig,
        "containerd_socket": cluster.containerd_socket,
        "node_ip": cluster.node_ip,
        "dns_ip": cluster.dns_ip,
        "pod_range": cluster.pod_range,
        "cgroup": cluster.cgroup,
        "pause_image": images.PAUSE,
        "coredns_image": images.COREDNS,
        "scrape_interval": cluster.options()["scrape_interval"],
    }
    return Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)


def write_configuration(cluster: Cluster) -> None:
    """Every file that a component reads at its start."""
    (cluster.root / "cni" / "conf").mkdir(parents=True, exist_ok=True)
    for template in ("containerd.toml", "kubelet.yaml", "contour.yaml", "prometheus.yml"):
        (cluster.root / template).write_text(render(cluster, template), encoding="utf-8")
    (cluster.root / "cni" / "conf" / "10-node.conflist").write_text(render(cluster, "cni.conflist"), encoding="utf-8")
    (cluster.root / "resolv.conf").write_text(f"nameserver {cluster.dns_ip}\n", encoding="utf-8")
    write_envoy_bootstrap(cluster)


def write_envoy_bootstrap(cluster: Cluster) -> None:
    """Contour writes it. Statistics are flushed every second instead of every five, or latencies would lag behind the scrapes."""
    file = cluster.root / "envoy.json"
    command = [str(tools.program("contour")), "bootstrap", str(file), "--xds-address=127.0.0.1", "--xds-port=8001"]
    command += [f"--admin-address={cluster.root}/envoy-admin.sock"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        raise ClusterError(f"`contour bootstrap` failed: {result.stdout.strip()}")
    bootstrap = json.loads(file.read_text(encoding="utf-8"))
    bootstrap["stats_flush_interval"] = "1s"
    file.write_text(json.dumps(bootstrap, indent=1), encoding="utf-8")
