"""Jobs of a Kubernetes or OpenShift cluster: ``kubernetes://[CONTEXT/]NAMESPACE?image=IMAGE``.

Units are Jobs of one pod each. Their lists of batches, with the keys of their jobs, lie in Secrets that belong to the
Jobs; inputs and results are in the executor's storage. Everything is learnt from the state of Jobs and pods.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from core.compute.cluster.base import ClusterBackend, WorkerJob, WorkerJobEnd
from core.compute.cluster.kubernetes_manifest import DRIVER, OWNER, job, pod_settings, rights, secret
from core.compute.cluster.kubernetes_pods import Pending, check_refusal, check_start, end_of_pod, has_begun
from core.errors import (
    ComputeDenied,
    ComputeError,
    ComputeUnavailable,
    ConfigError,
    FanfoldError,
    MissingExtra,
    excerpt,
)
from core.settings import Address, ExecutorConfig
from core.storage.owner import this_owner
from core.task.leases import Lease

DEFAULT_WORKERS = 32
"""Tasks that run at the same time unless ``workers`` says."""

REQUEST_TIMEOUT = (5.0, 20.0)
"""Seconds to connect to the API server, and to wait for its answer."""

LARGEST = 1 << 20
"""Bytes that a Secret may hold (Kubernetes documentation, "Secrets", restriction on data size)."""

MESSAGE_LARGEST = 2000
"""Characters of a refusal that are looked at."""

_TOGETHER = 8
"""Units that are launched or ended at the same time."""

_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
_QUOTA = re.compile(r"exceeded quota")


class KubernetesBackend(ClusterBackend):
    """Runs batches in pods.

    Address: ``kubernetes://[CONTEXT/]NAMESPACE`` or ``kubernetes`` (what the current context says), with the options
    of `OPTIONS`.
    """

    name = "kubernetes"

    def __init__(self, address: Address, config: ExecutorConfig) -> None:
        try:
            import kubernetes  # noqa: F401
        except ImportError:
            raise MissingExtra(
                "compute backend 'kubernetes' needs the package kubernetes: pip install 'fanfold[kubernetes]'"
            ) from None
        self._settings = pod_settings(address, config)
        width = self._settings.width
        super().__init__(address, config, config.workers or max(DEFAULT_WORKERS, width), width)
        self._context, _, self._namespace = address.where.rpartition("/")
        self._driver = f"fanfold-{uuid4().hex[:8]}"
        self._names = itertools.count()
        self._batch: Any = None
        self._core: Any = None
        self._pending = Pending(self._settings.wait)
        self._pods: dict[int, str] = {}
        self._image_works = False
        self._renewing = threading.Lock()

    def prepare(self) -> None:
        """Connect, and end what drivers of this machine left that were killed.

        Raises
        ------
        ConfigError
            There is no configuration of a cluster, or no such context.
        ComputeDenied
            The cluster refuses the credentials, or listing Jobs.
        ComputeUnavailable
            It does not answer.
        """
        from kubernetes import client

        made = self._connect()
        self._batch, self._core = client.BatchV1Api(made), client.CoreV1Api(made)
        for left in self._list(self._batch.list_namespaced_job, label_selector="app.kubernetes.io/name=fanfold"):
            owner = left["metadata"].get("annotations", {}).get(OWNER, "")
            if owner.count(":") >= 2 and not Lease(owner, math.inf, "", 0.0, 0, 0).alive():
                self._delete(left["metadata"]["name"])

    def _connect(self) -> Any:
        import kubernetes

        client: Any = kubernetes.client
        config: Any = kubernetes.config
        settings = client.Configuration()
        # The package itself reads the variable once, when it is imported.
        file = os.environ.get("KUBECONFIG") or "~/.kube/config"
        try:
            try:
                contexts, current = config.list_kube_config_contexts(file)
            except config.ConfigException:
                if self._context or not os.path.exists(_NAMESPACE):
                    raise
                config.load_incluster_config(client_configuration=settings)
                with open(_NAMESPACE, encoding="ascii") as mounted:
                    self._namespace = self._namespace or mounted.read().strip()
            else:
                config.load_kube_config(file, context=self._context or None, client_configuration=settings)
                chosen = next((row for row in contexts if row["name"] == self._context), current)
                self._namespace = self._namespace or chosen["context"].get("namespace", "default")
        except config.ConfigException as error:
            raise ConfigError(
                f"kubernetes: no cluster is configured for {self._context or 'the current context'}: {error}; log in "
                "(oc login, or your provider's command), or name a file in KUBECONFIG"
            ) from None
        settings.retries = False  # the fleet asks again, and waits longer each time
        return client.ApiClient(settings)

    def launch(self, worker_jobs: Sequence[WorkerJob]) -> None:
        """Create the Job of each unit and its Secret; those that a quota keeps out get no `ident`."""
        refused: list[ComputeUnavailable] = []

        def one(worker_job: WorkerJob) -> None:
            try:
                self._create(worker_job)
            except ComputeUnavailable as error:
                refused.append(error)

        try:
            with ThreadPoolExecutor(_TOGETHER) as threads:
                list(threads.map(one, worker_jobs))
        except FanfoldError:
            with suppress(FanfoldError):
                self.end([worker_job for worker_job in worker_jobs if worker_job.ident])
            raise
        if len(refused) == len(worker_jobs):
            raise refused[0]

    def _create(self, worker_job: WorkerJob) -> None:
        requests = worker_job.requests(self.versions)
        if len(requests) > LARGEST:
            raise ComputeError(
                f"kubernetes: {len(worker_job.batches)} batches are described by {len(requests)} bytes, and a Secret "
                f"holds {LARGEST}; use more workers or a larger batch_size"
            )
        memory = max((batch.memory for batch in worker_job.batches.values() if batch.memory is not None), default=None)
        name = f"{self._driver}-{next(self._names)}"
        body = job(name, self._driver, this_owner(), memory, self._settings)
        made = self._call(self._batch.create_namespaced_job, self._namespace, body)
        try:
            self._call(self._core.create_namespaced_secret, self._namespace, secret(made, self._driver, requests))
        except FanfoldError:
            self._delete(name)
            raise
        worker_job.ident = name
        self._pending.begin(worker_job.number)

    def observe(self, worker_jobs: Sequence[WorkerJob]) -> dict[int, WorkerJobEnd]:
        """Look at this driver's Jobs and pods.

        Raises
        ------
        ConfigError, ComputeDenied, ComputeError
            Pods will never start, or have not for as long as one can wait.
        """
        mine = f"{DRIVER}={self._driver}"
        jobs = {
            row["metadata"]["name"]: row for row in self._list(self._batch.list_namespaced_job, label_selector=mine)
        }
        pods: dict[str, list[dict[str, Any]]] = {}
        for pod in self._list(self._core.list_namespaced_pod, label_selector=mine):
            pods.setdefault(pod["metadata"]["labels"].get("job-name", ""), []).append(pod)
        ends: dict[int, WorkerJobEnd] = {}
        for worker_job in worker_jobs:
            end = self._end_of(worker_job, jobs.get(worker_job.ident), pods.get(worker_job.ident, []))
            if end is not None:
                ends[worker_job.number] = end
                self._pods.pop(worker_job.number, None)
            if end is not None or worker_job.began:
                self._pending.end(worker_job.number)
        if not any(worker_job.began and worker_job.number not in ends for worker_job in worker_jobs):
            self._give_up(self._pending.overdue())
        return ends

    def _give_up(self, number: int | None) -> None:
        if number is None:
            return
        if number in self._pods:
            chosen = f"involvedObject.uid={self._pods[number]},type=Warning"
            for event in self._list(self._core.list_namespaced_event, field_selector=chosen):
                self._pending.heard(number, event.get("message", ""))
        raise self._pending.error(self._namespace, number)

    def _end_of(
        self, worker_job: WorkerJob, job: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]]
    ) -> WorkerJobEnd | None:
        if job is None:
            return WorkerJobEnd("died", f"somebody deleted Kubernetes' job {worker_job.ident}")
        for row in job.get("status", {}).get("conditions") or []:
            if row["type"] == "Failed" and row["status"] == "True" and row.get("reason") == "DeadlineExceeded":
                return WorkerJobEnd("timeout", f"Kubernetes' job {worker_job.ident} ran longer than its deadline")
        uid = self._pods.get(worker_job.number)
        # A pod that is being deleted has a successor already, which the unit's end removes.
        oldest = sorted(pods, key=lambda row: "deletionTimestamp" not in row["metadata"])
        pod = next((row for row in oldest if uid in (None, row["metadata"]["uid"])), None)
        if uid is not None and pod is None:
            return WorkerJobEnd("died", f"the pod of Kubernetes' job {worker_job.ident} was deleted")
        if pod is None:
            if not worker_job.ending:
                self._why_no_pod(worker_job)
            return None
        self._pods[worker_job.number] = pod["metadata"]["uid"]
        worker_job.began = worker_job.began or has_begun(pod)
        self._image_works = self._image_works or worker_job.began
        if not worker_job.ending and not worker_job.began:
            self._pending.heard(worker_job.number, check_start(pod, self._settings.image, self._image_works))
        return end_of_pod(worker_job, pod, self._settings.image)

    def _why_no_pod(self, worker_job: WorkerJob) -> None:
        """Find out from the cluster's events why a Job has no pod."""
        chosen = f"involvedObject.kind=Job,involvedObject.name={worker_job.ident},reason=FailedCreate"
        for event in self._list(self._core.list_namespaced_event, field_selector=chosen):
            self._pending.heard(worker_job.number, check_refusal(event.get("message", "")))

    def end(self, worker_jobs: Sequence[WorkerJob]) -> None:
        """Delete units' Jobs; the cluster then ends their pods and removes their Secrets."""
        with ThreadPoolExecutor(_TOGETHER) as threads:
            list(threads.map(lambda worker_job: self._delete(worker_job.ident), worker_jobs))

    def tidy(self, worker_jobs: Sequence[WorkerJob]) -> None:
        """Delete ended units' Jobs; what cannot be deleted now is when the executor closes."""
        with suppress(ComputeUnavailable):
            self.end(worker_jobs)

    def release(self) -> None:
        """Delete Jobs that are left, even those whose creation was never confirmed."""
        if self._batch is None:
            return
        for left in self._list(self._batch.list_namespaced_job, label_selector=f"{DRIVER}={self._driver}"):
            self._delete(left["metadata"]["name"])
        self._batch.api_client.close()

    def _delete(self, name: str) -> None:
        self._call(self._batch.delete_namespaced_job, name, self._namespace, propagation_policy="Background")

    def _list(self, method: Callable[..., Any], **options: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._call(method, self._namespace, **options).get("items") or []
        return items

    def _call(self, method: Callable[..., Any], *arguments: object, **options: str) -> dict[str, Any]:
        """Make one request; returns the answer, {} if what it is about is gone."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        client = self._batch.api_client
        try:
            try:
                return _answer(method, *arguments, **options)
            except ApiException as error:
                if error.status != HTTPStatus.UNAUTHORIZED:
                    raise
                # The configuration's token may have been renewed since: what it says now is tried once.
                self._renew(client)
                return _answer(method, *arguments, **options)
        except ApiException as error:
            return self._refused(error.status, _message(error))
        except (HTTPError, OSError, ValueError, RecursionError) as error:
            raise ComputeUnavailable(f"kubernetes: the API server does not answer: {excerpt(str(error))}") from None

    def _renew(self, refused: Any) -> None:
        """Read the configuration of the cluster again, unless another thread has since `refused` was in use."""
        with self._renewing:
            if self._batch.api_client is refused:
                self._batch.api_client = self._core.api_client = self._connect()

    def _refused(self, status: int, message: str) -> dict[str, Any]:
        if status == 404 and "namespaces" not in message:
            return {}
        if status == 401:
            raise ComputeDenied("kubernetes: the cluster does not accept these credentials; log in again")
        if status == 403 and _QUOTA.search(message):
            check_refusal(message)  # raises where waiting is in vain
            raise ComputeUnavailable(f"kubernetes: {message}")
        if status == 403 and " cannot " in message:
            raise ComputeDenied(
                f"kubernetes: {message}; whoever administers the namespace grants this and all else that is needed "
                f"with kubectl apply -f -, given:\n{rights(self._namespace, message)}"
            )
        if status == 403:
            raise ComputeDenied(f"kubernetes: {message}")
        if status in (400, 404, 413, 422):
            raise ConfigError(f"kubernetes: {message}")
        if status in (409, 429) or status >= 500:
            raise ComputeUnavailable(f"kubernetes: {message}")
        raise ComputeError(f"kubernetes: status {status}: {message}")


def _answer(method: Callable[..., Any], *arguments: object, **options: str) -> dict[str, Any]:
    answer = method(*arguments, _request_timeout=REQUEST_TIMEOUT, _preload_content=False, **options)
    found = json.loads(answer.data)
    if not isinstance(found, dict):
        raise ValueError("what it says is no object of its API")
    return found


def _message(error: Any) -> str:
    try:
        return excerpt(str(json.loads(error.body)["message"]), MESSAGE_LARGEST)
    except (TypeError, ValueError, KeyError, RecursionError):
        return excerpt(str(error.body or error.reason))


def manifest(address: Address, image: str, options: Mapping[str, str]) -> str:
    """Return YAML of the rights that the driver needs; pods need none.

    Raises
    ------
    ConfigError
        An option was given: there is none.
    """
    if options:
        raise ConfigError(f"the rights have no option {min(options)!r}")
    head = (
        f"# Nothing else is deployed: Jobs are made as needed, and run {image} once it is pushed to a registry.\n"
        "# Put the name of the driver's user or service account in place of YOUR-USER, and apply this with kubectl.\n"
    )
    return head + rights(address.where.rpartition("/")[2] or "default")
