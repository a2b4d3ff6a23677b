"""Manifests of the benchmark: one policy for all, and rollouts whose pods run on fake nodes.

Builds dictionaries only.
"""

from typing import Any

Object = dict[str, Any]
NAMESPACE = "bench"
POLICY = "bench"
CLIMBING = "climbing"
FAKE_NODE = "espalier.dev/fake-node"
GUARDRAILS: list[Object] = [
    {"name": "errors", "proportion": {"bad": "model_errors_total", "total": "model_requests_total"}, "target": "2%"},
    {"name": "power", "limit": {"query": "model_power_watts", "unit": "W"}, "target": "30W", "critical": "50W"},
    {"name": "nan", "tripwire": {"query": "model_nonfinite_outputs_total"}},
]


def namespace() -> Object:
    """Where everything lies."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}


def policy(name: str, prometheus: str, window: str) -> Object:
    """The guardrails, looked at every second, with proof windows of this length."""
    spec = {"prometheus": {"address": prometheus}, "interval": "1s", "window": window, "guardrails": GUARDRAILS}
    return {"apiVersion": "espalier.dev/v1alpha1", "kind": "EvaluationPolicy", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def rollout(name: str, model: str, steps: list[int], step_minimum: str, policy_name: str = POLICY) -> Object:
    """A rollout with one canary stage and an owned route on the cluster's gateway."""
    stage = {"name": "canary", "type": "Canary", "steps": [f"{step}%" for step in steps], "stepMinDuration": step_minimum, "maxDuration": "6h"}
    spec = {
        "model": {"uri": f"oci://models.espalier.test/{model}:1"},
        "workload": {"template": workload(), "port": 8080},
        "route": {"template": {"parentRefs": [{"name": "gw", "namespace": "gateway"}], "hostnames": [f"{name}.bench.example"], "rules": [{}]}},
        "policyRef": {"name": policy_name},
        "stages": [stage],
    }
    return {"apiVersion": "espalier.dev/v1alpha1", "kind": "ModelRollout", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def workload() -> Object:
    """A Deployment that asks for a fake node; its image is never pulled."""
    container = {"name": "server", "image": "models.espalier.test/server:1", "args": ["--model=$(model.uri)"], "ports": [{"containerPort": 8080}]}
    tolerations = [{"key": FAKE_NODE, "operator": "Exists", "effect": "NoSchedule"}]
    pod = {"spec": {"nodeSelector": {FAKE_NODE: "true"}, "tolerations": tolerations, "terminationGracePeriodSeconds": 0, "containers": [container]}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 1, "template": pod}}
