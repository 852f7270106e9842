"""The compute protocol: how batches of tasks reach workers, and the registry that opens a backend by its address."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from core.errors import ConfigError
from core.task.protocol import Invocation, Reply

if TYPE_CHECKING:
    from core.settings import Address, ExecutorConfig
    from core.storage.base import Storage


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do, as the rest of the product asks.

    Attributes
    ----------
    inline : bool
        Batches run inside `invoke`, in the calling thread.
    shares_files : bool
        Workers can import the driver's modules and open its files.
    reports_completion : bool
        It says when a batch whose result is in storage has ended; where it cannot, the storage is looked through.
    results_in_storage : bool
        Results travel through storage alone: every job is durable.
    speculates : bool
        A backup copy of a slow task is likely to run on another machine.
    carries_queues : bool
        What its workers put into queues comes back the way their results do.
    enforces : frozenset
        Which of the limits ``"timeout"`` and ``"memory"`` end a running task.
    """

    inline: bool = False
    shares_files: bool = False
    reports_completion: bool = True
    results_in_storage: bool = False
    speculates: bool = False
    carries_queues: bool = False
    enforces: frozenset[str] = frozenset({"timeout", "memory"})

    def reach(self, storage: Storage, own: str) -> bool:
        """Whether workers see the objects of a storage; `own` is the address of the executor's, which they do see."""
        if not storage.shared:
            return self.inline
        if not storage.address.startswith("file://") or self.shares_files:
            return True
        return self.results_in_storage and own.partition("://")[0] in ("file", own)


class ComputeBackend(Protocol):
    """Runs batches. All methods but `wake` are called from one thread.

    Attributes
    ----------
    name : str
        Scheme of its address.
    workers : int
        Batches that run at the same time.
    capabilities : Capabilities
        What it can do.
    """

    name: str
    workers: int
    capabilities: Capabilities

    def start(self) -> None:
        """Make workers ready; may return before they are."""

    def capacity(self) -> int:
        """Return how many further batches would be accepted without idling anyone or queueing too deep."""

    def invoke(self, invocation: Invocation) -> None:
        """Accept a batch; never waits for it."""

    def poll(self, timeout: float | None) -> list[Reply]:
        """Return replies, waiting up to `timeout` seconds for the first; `wake` ends the wait."""

    def wake(self) -> None:
        """End a `poll` that waits. Called from any thread."""

    def is_running(self, batch_id: int) -> bool:
        """Whether a worker has begun a batch, as far as is known."""

    def revoke(self, batch_id: int) -> bool:
        """Take back a batch that has not begun; False if it has, or is unknown.

        Also called when a batch's end was found in storage: a backend that is not told of ends learns it here.
        """

    def kill(self, batch_id: int) -> None:
        """End a running batch by force; it is reported lost for the reason "killed"."""

    def forget(self, call_hash: str) -> None:
        """Let workers drop a function that no job needs any more."""

    def close(self, force: bool = False) -> None:
        """Release every worker; with `force`, also those that are busy."""


_BACKENDS = {
    "serial": "core.compute.serial:SerialBackend",
    "process": "core.compute.local.process:ProcessBackend",
    "container": "core.compute.remote.container:ContainerBackend",
    "dask": "core.compute.remote.dask:DaskBackend",
    "http": "core.compute.remote.http:HttpBackend",
    "https": "core.compute.remote.http:HttpBackend",
    "lambda": "core.compute.remote.aws_lambda:LambdaBackend",
    "openwhisk": "core.compute.remote.openwhisk:OpenWhiskBackend",
    "kubernetes": "core.compute.cluster.kubernetes:KubernetesBackend",
    "slurm": "core.compute.cluster.slurm:SlurmBackend",
}


def backend_names() -> list[str]:
    """Return the schemes of all known backends."""
    return sorted(_BACKENDS)


def backend_module(address: Address) -> ModuleType:
    """Return the module of the backend that an address names; it is imported on first use.

    Raises
    ------
    ConfigError
        The scheme is unknown.
    """
    target = _BACKENDS.get(address.scheme)
    if target is None:
        known = ", ".join(backend_names())
        raise ConfigError(f"no compute backend {address.scheme!r}; known: {known}")
    return import_module(target.partition(":")[0])


def check_options(what: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that something does not have.

    Raises
    ------
    ConfigError
        The first that is unknown, with those that are known.
    """
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"{what} has no option {unknown[0]!r}; known: {', '.join(known)}")


def check_workers(backend: ComputeBackend, asked: int | None) -> None:
    """Refuse a number of workers that the user gave and the backend does not have.

    Raises
    ------
    ConfigError
        It has another number.
    """
    if backend.workers != asked:
        has = f"compute backend {backend.name!r} has {backend.workers} worker(s), not {asked}"
        raise ConfigError(f"{has}; use 'process' for more, or leave the number out")


def open_backend(address: Address, config: ExecutorConfig) -> ComputeBackend:
    """Make the backend that an address names; its module is imported on first use.

    Raises
    ------
    ConfigError
        The scheme or an option is unknown, or the backend needs a package that is missing.
    """
    module = backend_module(address)
    backend: ComputeBackend = getattr(module, _BACKENDS[address.scheme].partition(":")[2])(address, config)
    return backend
