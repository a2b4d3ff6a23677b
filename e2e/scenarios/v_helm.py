"""Helm installs, upgrades and uninstalls the operator; the CRDs, the rollouts and what they serve stay, and kubectl wait works.

Everything runs with the chart's own rights, in the restricted security profile.
"""

from localcluster import commands

from story import binaries
from story.objects import canary
from story.operator import CHART, NAMESPACE, RELEASE, Pods, helm, instead, run, values
from story.waiting import at_least, check, same, wait_until
from story.world import World

# The operator is replaced, and the CRDs are removed at the beginning.
ALONE = True
CRDS = ("modelrollouts.espalier.dev", "evaluationpolicies.espalier.dev")


class Released(Pods):
    """The operator as a user installs it, from a cluster that has never seen it."""

    def start(self) -> None:
        """A namespace with the restricted profile, and helm install."""
        namespace = {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
        self.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": namespace})
        clear(self)
        helm(self.cluster, "install", RELEASE, str(CHART), *values(self.count), "--wait", "--timeout", "90s")

    def stop(self) -> None:
        """helm uninstall."""
        helm(self.cluster, "uninstall", RELEASE, "--ignore-not-found", "--wait")


def clear(pods: Pods) -> None:
    """As if the operator had never been here."""
    helm(pods.cluster, "uninstall", RELEASE, "--ignore-not-found", "--wait")
    for name in CRDS:
        pods.api.delete("customresourcedefinitions", "", name)
    wait_until("the CRDs are gone", lambda: not any(pods.api.get("customresourcedefinitions", "", name) for name in CRDS) or "still there", 60)


def kubectl_wait(world: World, condition: str) -> None:
    """kubectl wait, as a pipeline would."""
    command = ["kubectl", "-n", world.namespace, "wait", f"--for={condition}", "--timeout=120s", "modelrollout/digits"]
    run(command, commands.variables(world.cluster))


def tell(world: World) -> None:
    with instead(world.operator, Released(world.cluster, world.api)) as operator:
        world.operator, standing = operator, world.operator
        try:
            story(world)
        finally:
            world.operator = standing


def story(world: World) -> None:
    """Install was the first chapter."""
    stable = world.begin()
    kubectl_wait(world, "condition=Available")
    kubectl_wait(world, "condition=Promoted")
    users = world.traffic(80)
    world.wait_answers(users, 80)

    world.rollout("structured-50", stages=[canary(10, 50)])
    candidate = world.candidate()
    world.wait_share(candidate["service"], 10)
    more = ("--set", "operator.concurrency=4", "--set", "operator.logLevel=info\\,espalier=debug")
    helm(world.cluster, "upgrade", RELEASE, str(CHART), *values(2), *more, "--wait", "--timeout", "90s")
    digest = binaries.model_uri("structured-50").partition("@")[2]
    kubectl_wait(world, f"jsonpath={{.status.stable.digest}}={digest}")
    kubectl_wait(world, "condition=Promoted")
    world.check_raises(candidate["service"], 10, 50)

    helm(world.cluster, "uninstall", RELEASE, "--wait")
    users.mark("uninstalled")
    for name in CRDS:
        check(f"{name} stays", world.api.get("customresourcedefinitions", "", name) is not None)
    check("the rollout stays", same(world.status()["stable"]["revision"], candidate["revision"]))
    world.wait_answers(users, 200)
    check("the route serves on", same(list(users.phase("uninstalled")["revisions"]), [candidate["revision"]]))

    helm(world.cluster, "install", RELEASE, str(CHART), *values(2), "--wait", "--timeout", "90s")
    world.rollout("fp32", stages=[canary(10, 50)])
    world.wait_serving("fp32", 60)
    check("the new installation knows the history", same(world.status()["stable"]["revision"], stable["revision"]))
    total = users.stop()["total"]
    check("no request failed", same(total["not_ok"], 0))
    check("enough users to tell", at_least(total["answered"], 1000))
