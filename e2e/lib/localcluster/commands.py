"""The command line of e2e/cluster: parses, calls one function per command, turns errors into one line."""

import argparse
import os
import sys
from pathlib import Path

from . import components, fakes, images, layout, lifecycle, network, tools
from .errors import ClusterError
from .layout import Cluster

DESCRIPTION = """A real one-node Kubernetes 1.34 with gateway (Contour, Envoy), DNS and Prometheus, in a network namespace of its own.

Needs root on Debian 12 and Go; builds its programs once into a cache (e2e/tools/build)."""


def say(line: str) -> None:
    """Progress, line by line even into a pipe."""
    print(line, flush=True)


def main(arguments: list[str]) -> int:
    """Exit status: 0 fine, 1 an error told in a sentence, otherwise that of the program run by `exec`."""
    options = parser().parse_args(arguments)
    if options.command not in ("status", "kubeconfig", "env", "logs") and os.geteuid() != 0:
        say("cluster: this needs root, because it makes namespaces, mounts and cgroups")
        return 1
    try:
        return int(options.run(options) or 0)
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """One sub-command per function below."""
    top = argparse.ArgumentParser(prog="cluster", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    default = os.environ.get("ESPALIER_CLUSTER", layout.DEFAULT_NAME)

    def add(name: str, run: object, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--name", default=default, help=f"which cluster (default: ESPALIER_CLUSTER, else {layout.DEFAULT_NAME})")
        command.set_defaults(run=run)
        return command

    command = add("up", cluster_up, "make the cluster, or complete what is missing of it")
    command.add_argument("--scrape-interval", help="Prometheus's scrape interval (default 1s)")
    add("down", lambda options: lifecycle.down(options.name, say), "end everything and remove every trace")
    add("status", status, "one line per component; exit status 1 unless all are up")
    add("list", list_clusters, "every cluster on this machine")
    add("kubeconfig", lambda options: say(str(layout.required(options.name).kubeconfig)), "print the path of the administrator's kubeconfig")
    add("env", env, "print exports for a shell: eval \"$(e2e/cluster env)\"")
    command = add("exec", execute, "run a program in the cluster's network with KUBECONFIG and PATH set (default: a shell)")
    command.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD")
    command = add("logs", logs, "print a component's log")
    command.add_argument("-f", "--follow", action="store_true")
    command.add_argument("component", choices=components.NAMES + components.OPTIONAL)
    for name, run, text in (
        ("stop-component", lifecycle.stop_component, "end one component and leave it ended"),
        ("start-component", lifecycle.start_component, "start it again and wait until it answers"),
        ("pause", lambda cluster, component: lifecycle.pause_component(cluster, component, True), "freeze one component (SIGSTOP)"),
        ("resume", lambda cluster, component: lifecycle.pause_component(cluster, component, False), "thaw it (SIGCONT)"),
    ):
        command = add(name, on_component(run), text)
        command.add_argument("component", choices=components.NAMES + components.OPTIONAL)
    command = add("fake-nodes", fake_nodes, f"add nodes whose pods become Ready without running (label and taint {fakes.LABEL}=true)")
    command.add_argument("count", type=int, metavar="COUNT")
    command = add("image", image, "write an image around a static program and import it")
    command.add_argument("reference", metavar="NAME:TAG")
    command.add_argument("binary", type=Path, metavar="BINARY")
    command.add_argument("--file", action="append", default=[], metavar="SOURCE:TARGET", help="a file or folder to put in as well")
    command.add_argument("--env", action="append", default=[], metavar="KEY=VALUE")
    command.add_argument("--also", action="append", default=[], metavar="CLUSTER", help="import into this cluster, too")
    command = add("load-image", load_image, "import an image archive")
    command.add_argument("archive", type=Path, metavar="TAR")
    return top


def cluster_up(options: argparse.Namespace) -> None:
    """Ends with what a person does next."""
    cluster = lifecycle.up(options.name, options.scrape_interval, say)
    named = "" if cluster.name == layout.DEFAULT_NAME else f" --name {cluster.name}"
    say(f"gateway {cluster.gateway_url}, Prometheus {cluster.prometheus_url}; try: e2e/cluster exec{named} kubectl get pods -A")


def status(options: argparse.Namespace) -> int:
    """Also tells when there is none."""
    return 0 if lifecycle.status(layout.required(options.name), say) else 1


def list_clusters(_: argparse.Namespace) -> None:
    """Name and node address."""
    for cluster in layout.all_clusters():
        say(f"{cluster.name:<20}{cluster.node_ip}")


def variables(cluster: Cluster) -> dict[str, str]:
    """What programs that use a cluster want to know."""
    return {
        "ESPALIER_CLUSTER": cluster.name,
        "ESPALIER_NODE_IP": cluster.node_ip,
        "ESPALIER_GATEWAY_URL": cluster.gateway_url,
        "ESPALIER_PROMETHEUS_URL": cluster.prometheus_url,
        "ESPALIER_NETNS": f"/run/netns/{cluster.namespace}",
        "CONTAINERD_ADDRESS": str(cluster.containerd_socket),
        "CONTAINERD_NAMESPACE": "k8s.io",
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": f"{tools.search_path()}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}",
    }


def env(options: argparse.Namespace) -> None:
    """The addresses also work outside the network namespace: the machine has routes to node, pods and Services."""
    for key, value in variables(layout.required(options.name)).items():
        say(f"export {key}='{value}'")


def execute(options: argparse.Namespace) -> int:
    """Replaces this process, so that signals and the exit status go straight through."""
    cluster = layout.required(options.name)
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    environment = dict(os.environ, **variables(cluster))
    command = [*network.enter(cluster), *(words or [os.environ.get("SHELL", "/bin/sh")])]
    os.execvpe(command[0], command, environment)


def logs(options: argparse.Namespace) -> int:
    """Follows across restarts of the component."""
    log = components.component(layout.required(options.name), options.component).log
    if not log.exists():
        raise ClusterError(f"{options.component} has not written anything yet ({log})")
    command = ["tail", "-n", "+1", *(["-F"] if options.follow else []), str(log)]
    os.execvp(command[0], command)


def on_component(run: object) -> object:
    """Adapts a function of cluster and component name."""
    return lambda options: run(layout.required(options.name), options.component)  # type: ignore[operator]


def fake_nodes(options: argparse.Namespace) -> None:
    """For tests of scale."""
    fakes.up(layout.required(options.name), options.count)


def image(options: argparse.Namespace) -> None:
    """Prints the digest, by which the same content is recognised."""
    clusters = [layout.required(name) for name in (options.name, *options.also)]
    say(images.write_and_load(clusters, options.reference, options.binary, options.file, options.env))


def load_image(options: argparse.Namespace) -> None:
    """For archives written elsewhere."""
    images.load(layout.required(options.name), images.existing_file(options.archive))
