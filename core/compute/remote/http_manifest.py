"""The manifest that makes Knative, OpenShift Serverless, Cloud Run or Code Engine run the HTTP worker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from core.compute.base import check_options
from core.errors import ConfigError
from core.settings import parse_duration, parse_size

OPTIONS = {
    "name": "fanfold",
    "namespace": "default",
    "memory": "2GiB",
    "cpu": "1",
    "scale": "100",
    "timeout": "15m",
    "secret": "fanfold-worker",
    "service_account": "",
}
"""Options of the manifest and their defaults; `scale` is the largest number of instances."""

_SECRETS = "/var/run/fanfold"


def knative(image: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Return a Knative Service (``serving.knative.dev/v1``), which Cloud Run and Code Engine understand too.

    One batch an instance; the worker's secret is referred to, never written down.

    Raises
    ------
    ConfigError
        An option is unknown or its value does not fit.
    """
    check_options("the manifest", options, OPTIONS)
    chosen = {**OPTIONS, **options}
    try:
        seconds, memory, scale = round(parse_duration(chosen["timeout"])), parse_size(chosen["memory"]), chosen["scale"]
        if int(scale) < 1 or float(chosen["cpu"]) <= 0:
            raise ValueError
    except ValueError:
        raise ConfigError(
            "the manifest needs timeout= as a time such as 15m, memory= as a size such as 2GiB, cpu= and scale= as "
            "numbers above 0"
        ) from None
    container: dict[str, Any] = {
        "image": image,
        "args": ["http"],
        "ports": [{"containerPort": 8080}],
        "env": [
            {"name": "FANFOLD_WORKER_TOKEN_FILE", "value": f"{_SECRETS}/token"},
            {"name": "FANFOLD_WORKER_SLOTS", "value": "1"},
        ],
        "resources": {"limits": {"cpu": chosen["cpu"], "memory": str(memory)}},
        "readinessProbe": {"httpGet": {"path": "/health"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "secret", "mountPath": _SECRETS, "readOnly": True},
            {"name": "scratch", "mountPath": "/tmp"},
        ],
    }
    spec: dict[str, Any] = {
        "containerConcurrency": 1,
        "timeoutSeconds": seconds,
        "containers": [container],
        "volumes": [
            {"name": "secret", "secret": {"secretName": chosen["secret"]}},
            {"name": "scratch", "emptyDir": {}},
        ],
    }
    if chosen["service_account"]:
        spec["serviceAccountName"] = chosen["service_account"]
    scaling = {"autoscaling.knative.dev/min-scale": "0", "autoscaling.knative.dev/max-scale": scale}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": chosen["name"], "namespace": chosen["namespace"], "labels": {"app": "fanfold"}},
        "spec": {"template": {"metadata": {"annotations": scaling}, "spec": spec}},
    }


def text(image: str, options: Mapping[str, str]) -> str:
    """Return the manifest as JSON, which is YAML too, below the commands that make its secret and apply it."""
    made = knative(image, options)
    name, namespace = made["metadata"]["name"], made["metadata"]["namespace"]
    secret = {**OPTIONS, **options}["secret"]
    head = (
        f"# The worker's secret, once: kubectl -n {namespace} create secret generic {secret} --from-file=token=FILE\n"
        f"# Apply this with kubectl, or oc on OpenShift; its address is in: kubectl -n {namespace} get ksvc {name}\n"
    )
    return head + json.dumps(made, indent=2)
