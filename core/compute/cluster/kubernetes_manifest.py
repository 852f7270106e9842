"""What the Kubernetes backend sends to a cluster: the Job of a unit, the Secret with its batches, and the rights."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.compute.base import check_options
from core.errors import ConfigError, MissingExtra
from core.settings import Address, ExecutorConfig, parse_duration

OPTIONS = ("image", "cpu", "service_account", "secret", "volume", "user", "wait", "deadline")

OVERHEAD = 256 << 20
"""Bytes a pod needs beside the memory of its tasks: three interpreters with numpy."""

KEPT = 3600
"""Seconds that a cluster keeps a Job which ended and which no driver removed."""

GRACE = 5
"""Seconds a pod has to end when it is not wanted any more."""

LOST_NODE = 30
"""Seconds after which pods of a node that does not answer count as lost, instead of Kubernetes' 300."""

REQUESTS = "/run/fanfold/requests"
CREDENTIALS = "/run/fanfold/credentials"
DRIVER = "fanfold/driver"
OWNER = "fanfold/owner"

RULES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("batch", "jobs", ("create", "delete", "list")),
    ("", "secrets", ("create",)),
    ("", "pods", ("list",)),
    ("", "events", ("list",)),
)
"""API group, resource and verbs of every call that the backend makes, in the one namespace."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_CPU = re.compile(r"(\d+(?:\.\d+)?)(m?)")
_DENIED_USER = re.compile(r'User "([^"]+)"')


@dataclass(frozen=True, slots=True)
class PodSettings:
    """Options of an address, checked."""

    image: str
    cpu: str
    width: int
    service_account: str
    secret: str
    volumes: tuple[tuple[str, str], ...]
    user: int | None
    wait: float
    deadline: int | None


def pod_settings(address: Address, config: ExecutorConfig) -> PodSettings:
    """Return the checked options of ``kubernetes://[CONTEXT/]NAMESPACE?option=value``.

    Raises
    ------
    ConfigError
        An option is unknown, missing or does not fit.
    """
    check_options("compute backend 'kubernetes'", address.options, OPTIONS)
    get = address.options.get
    image = get("image") or config.runtime
    if not image:
        raise ConfigError(
            "kubernetes: which image do pods run? Give runtime= or ?image=, such as registry.example.org/fanfold-base:1"
        )
    for name in ("service_account", "secret"):
        if name in address.options and not _NAME.fullmatch(address.options[name]):
            raise ConfigError(f"kubernetes: {name}={address.options[name]!r} is no name of a Kubernetes object")
    cpu = _CPU.fullmatch(get("cpu", "1"))
    try:
        cores = float(cpu[1]) / (1000 if cpu[2] else 1) if cpu else 0.0
        wait = parse_duration(get("wait", "10m"))
        deadline = math.ceil(parse_duration(address.options["deadline"])) if "deadline" in address.options else None
        user = int(address.options["user"]) if "user" in address.options else None
        if cores <= 0 or (user is not None and user < 0):
            raise ValueError
    except ValueError:
        raise ConfigError(
            "kubernetes: cpu= must be a number above 0 such as 2 or 500m, wait= and deadline= times such as 30s or 2h, "
            "user= the number of a user"
        ) from None
    volumes = [_volume(text) for text in get("volume", "").split(",") if text]
    return PodSettings(
        image,
        get("cpu", "1"),
        max(1, int(cores)),
        get("service_account", ""),
        get("secret", ""),
        tuple(volumes),
        user,
        wait,
        deadline,
    )


def _volume(text: str) -> tuple[str, str]:
    source, _, path = text.partition(":")
    if not path.startswith("/") or ":" in path or not (source.startswith("/") or _NAME.fullmatch(source)):
        raise ConfigError(
            f"kubernetes: volume={text!r} must be CLAIM:/path, or /path/on/node:/path where the cluster allows it; "
            "several are separated by commas"
        )
    return source, path


def job(name: str, driver: str, owner: str, memory: int | None, settings: PodSettings) -> dict[str, Any]:
    """Return the Job of one unit: one pod, never started again by itself, with no rights at all.

    Parameters
    ----------
    memory : int or None
        Bytes that each task may use.
    """
    requests, limits = {"cpu": settings.cpu}, {}
    if memory is not None:
        requests["memory"] = limits["memory"] = f"{math.ceil((memory * settings.width + OVERHEAD) / (1 << 20))}Mi"
    volumes: list[dict[str, Any]] = [
        {"name": "requests", "secret": {"secretName": name}},
        {"name": "scratch", "emptyDir": {}},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "requests", "mountPath": REQUESTS, "subPath": "requests", "readOnly": True},
        {"name": "scratch", "mountPath": "/tmp"},
    ]
    environment: list[dict[str, str]] = []
    if settings.secret:
        volumes.append({"name": "credentials", "secret": {"secretName": settings.secret}})
        mounts.append({"name": "credentials", "mountPath": CREDENTIALS, "readOnly": True})
        environment = [
            {"name": "AWS_SHARED_CREDENTIALS_FILE", "value": f"{CREDENTIALS}/credentials"},
            {"name": "AWS_CONFIG_FILE", "value": f"{CREDENTIALS}/config"},
        ]
    for index, (source, path) in enumerate(settings.volumes):
        kind = {"hostPath": {"path": source}} if source.startswith("/") else _claim(source)
        volumes.append({"name": f"volume-{index}", **kind})
        mounts.append({"name": f"volume-{index}", "mountPath": path})
    container: dict[str, Any] = {
        "name": "fanfold",
        "image": settings.image,
        "args": ["job", REQUESTS, str(settings.width)],
        "env": environment,
        "resources": {"limits": limits, "requests": requests},
        "volumeMounts": mounts,
        # The notes on which batches run are what a pod leaves behind, however it ends.
        "terminationMessagePath": f"{REQUESTS}.now",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    security: dict[str, Any] = {"runAsNonRoot": settings.user != 0, "seccompProfile": {"type": "RuntimeDefault"}}
    if settings.user is not None:
        security["runAsUser"] = settings.user
    lost = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": LOST_NODE}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE,
        "securityContext": security,
        "tolerations": [{"key": f"node.kubernetes.io/{name}", **lost} for name in ("not-ready", "unreachable")],
        "containers": [container],
        "volumes": volumes,
    }
    if settings.service_account:
        pod["serviceAccountName"] = settings.service_account
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": KEPT,
        "template": {"metadata": {"labels": _labels(driver)}, "spec": pod},
    }
    if settings.deadline is not None:
        spec["activeDeadlineSeconds"] = settings.deadline
    metadata = {"name": name, "labels": _labels(driver), "annotations": {OWNER: owner}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _claim(name: str) -> dict[str, Any]:
    return {"persistentVolumeClaim": {"claimName": name}}


def _labels(driver: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": "fanfold", DRIVER: driver}


def secret(made: Mapping[str, Any], driver: str, requests: bytes) -> dict[str, Any]:
    """Return the Secret with a unit's batches; deleting the Job `made`, as the cluster answered, removes it too."""
    metadata = made["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": metadata["name"], "labels": _labels(driver), "ownerReferences": [owner]},
        "type": "Opaque",
        "immutable": True,
        "data": {"requests": base64.b64encode(requests).decode()},
    }


def rights(namespace: str, refusal: str = "") -> str:
    """Return YAML that grants all that the backend does, to the user whom a `refusal` of the API server names."""
    try:
        import yaml
    except ImportError:
        raise MissingExtra(
            "compute backend 'kubernetes' needs the package kubernetes: pip install 'fanfold[kubernetes]'"
        ) from None
    found = _DENIED_USER.search(refusal)
    user = found[1] if found else "YOUR-USER"
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    if user.startswith("system:serviceaccount:"):
        place, _, name = user.removeprefix("system:serviceaccount:").partition(":")
        subject = {"kind": "ServiceAccount", "name": name, "namespace": place}
    metadata = {"name": "fanfold-driver", "namespace": namespace}
    version = "rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": [group], "resources": [name], "verbs": list(verbs)} for group, name, verbs in RULES]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "fanfold-driver"}
    role = {"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules}
    binding = {
        "apiVersion": version,
        "kind": "RoleBinding",
        "metadata": dict(metadata),
        "roleRef": reference,
        "subjects": [subject],
    }
    text: str = yaml.safe_dump_all([role, binding], sort_keys=False)
    return text
