"""Manifests: the digits policy, rollout, and the workloads that a user runs himself, with times short enough for a test.

Builds dictionaries only; nothing here talks to a cluster.
"""

import copy
from typing import Any

from . import binaries

Object = dict[str, Any]
ROLLOUT = "digits"
COMPARER = "comparer"
GATEWAY = [{"name": "gw", "namespace": "gateway"}]
SHADOW = {"name": "shadow", "type": "Shadow", "percent": "100%", "stepMinDuration": "4s", "maxDuration": "5m"}
AB = {"name": "ab", "type": "ABTest", "percent": "50%", "assignment": {"header": "x-user-id"}, "stepMinDuration": "4s", "maxDuration": "5m"}


def canary(*percents: int, **changes: Any) -> Object:
    """A canary stage with these steps."""
    steps = [f"{percent}%" for percent in percents]
    return {"name": "canary", "type": "Canary", "steps": steps, "stepMinDuration": "4s", "maxDuration": "5m"} | changes


def ab_test(*percents: int, **changes: Any) -> Object:
    """A sticky stage with these steps."""
    return {key: value for key, value in AB.items() if key != "percent"} | {"steps": [f"{percent}%" for percent in percents]} | changes


GUARDRAILS: dict[str, Object] = {
    "accuracy": {
        "proportion": {"bad": 'model_predictions_total{correct="false"}', "total": "model_predictions_total"},
        "target": "+3pp vs stable",
        "critical": "+5pp vs stable",
    },
    # The critical bound leaves room for a test machine whose every process is late now and then.
    "latency": {"latency": {"histogram": "model_inference_duration_seconds", "slowerThan": "100ms"}, "target": "5%", "critical": "25%"},
    "errors": {
        "proportion": {"bad": 'model_inference_requests_total{code=~"5.."}', "total": "model_inference_requests_total"},
        "target": "2%",
        "critical": "5%",
    },
    "power": {"limit": {"query": "DCGM_FI_DEV_POWER_USAGE", "unit": "W"}, "target": "30W", "critical": "50W", "podLabel": "exported_pod"},
    "nan": {"tripwire": {"query": "model_nonfinite_outputs_total"}},
}


def policy(namespace: str, prometheus: str, guardrails: dict[str, Object] | None = None, **changes: Any) -> Object:
    """The digits policy: a look every second, short proof windows. A guardrail given as None is left out."""
    wanted = copy.deepcopy(GUARDRAILS) | (guardrails or {})
    spec: Object = {
        "prometheus": {"address": prometheus},
        "interval": "1s",
        "window": "2s",
        "requests": {"query": "envoy_cluster_upstream_rq_completed", "backendLabel": "envoy_cluster_name"},
        "guardrails": [{"name": name} | value for name, value in wanted.items() if value],
    }
    spec = {key: value for key, value in (spec | changes).items() if value is not None}
    return {
        "apiVersion": "espalier.dev/v1alpha1",
        "kind": "EvaluationPolicy",
        "metadata": {"name": ROLLOUT, "namespace": namespace},
        "spec": spec,
    }


def rollout(namespace: str, host: str, model: str, env: dict[str, str] | None = None, replicas: int = 2, **changes: Any) -> Object:
    """The digits rollout with an owned route for `host`. A field given as None is left out."""
    spec: Object = {
        "model": {"uri": binaries.model_uri(model)},
        "workload": {"template": deployment(replicas, "$(model.uri)", env), "port": 8080},
        "route": {"template": {"parentRefs": GATEWAY, "hostnames": [host], "rules": [{"matches": [{"path": {"value": "/"}}]}]}},
        "policyRef": {"name": ROLLOUT},
        "stages": [canary(10, 50)],
        "progressDeadline": "60s",
    }
    spec = {key: value for key, value in (spec | changes).items() if value is not None}
    return {
        "apiVersion": "espalier.dev/v1alpha1",
        "kind": "ModelRollout",
        "metadata": {"name": ROLLOUT, "namespace": namespace},
        "spec": spec,
    }


def deployment(replicas: int, uri: str, env: dict[str, str] | None = None, revision: str = "$(revision)") -> Object:
    """The model server as it goes into a rollout's template: no names, no selector."""
    downward = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "POD_IP": "status.podIP", "NODE_NAME": "spec.nodeName"}
    variables: list[Object] = [{"name": "ESPALIER_REVISION", "value": revision}]
    variables += [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}} for name, field in downward.items()]
    variables += [{"name": name, "value": value} for name, value in sorted((env or {}).items())]
    container = {
        "name": "server",
        "image": binaries.MODEL_SERVER_IMAGE,
        "imagePullPolicy": "Never",
        "args": [f"--model={uri}"],
        "env": variables,
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 8081}, {"name": "dcgm", "containerPort": 9400}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 3},
        "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": 8080}, "periodSeconds": 5, "failureThreshold": 6, "timeoutSeconds": 3},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "5m", "memory": "24Mi"}, "limits": {"memory": "96Mi"}},
    }
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8081", "espalier.dev/dcgm-port": "9400"}
    pod = {"metadata": {"annotations": annotations}, "spec": {"terminationGracePeriodSeconds": 15, "containers": [container]}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": replicas, "template": pod}}


def own_workload(namespace: str, name: str, model: str, replicas: int = 2, env: dict[str, str] | None = None) -> list[Object]:
    """A Deployment and a Service that the user runs, outside any rollout."""
    wanted = deployment(replicas, binaries.model_uri(model), env, revision=name)
    labels = {"app": name}
    wanted["metadata"] = {"name": name, "namespace": namespace}
    wanted["spec"]["selector"] = {"matchLabels": labels}
    wanted["spec"]["template"]["metadata"]["labels"] = labels
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": 8080, "targetPort": 8080}]},
    }
    return [wanted, service]


def comparer(namespace: str) -> list[Object]:
    """The collector that pairs the answers of two revisions, and the Service that model servers report to."""
    labels = {"app": COMPARER}
    container = {
        "name": "comparer",
        "image": binaries.COMPARER_IMAGE,
        "imagePullPolicy": "Never",
        "ports": [{"name": "http", "containerPort": 8082}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8082}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}},
    }
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8082"}
    pod = {"metadata": {"labels": labels, "annotations": annotations}, "spec": {"containers": [container]}}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": COMPARER, "namespace": namespace},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": COMPARER, "namespace": namespace},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 8082, "targetPort": 8082}]},
        },
    ]


def own_route(namespace: str, name: str, host: str, rules: list[Object]) -> Object:
    """An HTTPRoute that the user owns."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"parentRefs": GATEWAY, "hostnames": [host], "rules": rules},
    }
