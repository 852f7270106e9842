"""The compute protocol: how batches of tasks reach workers, and the registry that opens a backend by its address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Literal, Protocol

from core.errors import ConfigError
from core.serialization import Packed

if TYPE_CHECKING:
    from core.config import Address, ExecutorConfig

LossReason = Literal["died", "timeout", "memory", "killed", "unavailable"]


@dataclass(frozen=True, slots=True)
class DurableRef:
    """Names a batch whose input and result are in storage, and carries what authenticates both.

    `item` is the one item to run of a batch that was split.
    """

    address: str
    job_id: str
    key: bytes = field(repr=False)
    batch: int
    item: int | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """What lets a worker speak to the driver over Redis: where, on which channel, and the key that signs its words."""

    address: str
    channel: str
    key: bytes = field(repr=False)


@dataclass(slots=True)
class Invocation:
    """A batch on its way to a worker.

    Exactly one of `packed` (inputs travel with the call) and `durable` (they are in storage) is set.
    `call` is the pickled function with its options, `call_hash` its content hash: a worker that has seen the
    hash does not receive it again.
    """

    batch_id: int
    job_id: str
    call: bytes
    call_hash: str
    task_ids: Sequence[int]
    attempt: int
    timeout: float | None = None
    memory: int | None = None
    packed: Packed | None = None
    durable: DurableRef | None = None
    notify: Grant | None = None


@dataclass(slots=True)
class Failure:
    """A task's exception: type name, message, traceback text, and the exception itself if it can be pickled."""

    kind: str
    message: str
    traceback: str
    pickled: bytes | None
    attempts: int


@dataclass(slots=True)
class Outcome:
    """What a worker says of a batch it has run.

    `values` holds a value for each task, None where `failures` has an entry; `durations` are seconds per task;
    `attempts` and `logs` hold the tasks that needed more than one or wrote something; `overhead` is how many seconds
    passed between sending and answer beyond those of the tasks, 0 where that is not measured.
    """

    values: Packed
    durations: list[float]
    failures: dict[int, Failure] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    logs: dict[int, str] = field(default_factory=dict)
    started: float = 0.0
    cpu: float = 0.0
    peak_rss: int = 0
    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    overhead: float = 0.0


@dataclass(slots=True)
class BatchDone:
    """A batch was run; `outcome` is None if it was committed to storage instead."""

    batch_id: int
    worker: str
    outcome: Outcome | None


@dataclass(slots=True)
class BatchLost:
    """A batch will not be answered.

    `position` is the index within the batch of the task that ran when the worker ended, None if none did;
    `started` says whether the batch may have begun; `message` says what happened, in one sentence; `failure` is what
    kept a worker from reading the batch or committing it.
    """

    batch_id: int
    worker: str
    reason: LossReason
    message: str
    position: int | None
    started: bool
    failure: Failure | None = None


Reply = BatchDone | BatchLost


class ComputeBackend(Protocol):
    """Runs batches. All methods but `wake` are called from one thread.

    Attributes
    ----------
    name : str
        Scheme of its address.
    workers : int
        Batches that run at the same time.
    inline : bool
        Batches run inside `invoke`, in the calling thread.
    shares_files : bool
        Workers can import the driver's modules and open its files.
    announces : bool
        It says when a batch whose result is in storage has ended; where it cannot, the storage is looked through.
    stores : bool
        Results travel through storage alone: every job is durable.
    speculates : bool
        A backup copy of a slow task is likely to run on another machine.
    streams : bool
        What its workers put into queues comes back the way their results do.
    enforces : frozenset
        Which of the limits ``"timeout"`` and ``"memory"`` end a running task.
    """

    name: str
    workers: int
    inline: bool
    shares_files: bool
    announces: bool
    stores: bool
    speculates: bool
    streams: bool
    enforces: frozenset[str]

    def start(self) -> None:
        """Make workers ready; may return before they are."""

    def room(self) -> int:
        """Return how many further batches would be accepted without idling anyone or queueing too deep."""

    def invoke(self, invocation: Invocation) -> None:
        """Accept a batch; never waits for it."""

    def poll(self, timeout: float | None) -> list[Reply]:
        """Return replies, waiting up to `timeout` seconds for the first; `wake` ends the wait."""

    def wake(self) -> None:
        """End a `poll` that waits. Called from any thread."""

    def began(self, batch_id: int) -> bool:
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
    "process": "core.compute.process:ProcessBackend",
    "container": "core.compute.container:ContainerBackend",
    "dask": "core.compute.dask:DaskBackend",
    "http": "core.compute.http:HttpBackend",
    "https": "core.compute.http:HttpBackend",
    "lambda": "core.compute.aws_lambda:LambdaBackend",
    "openwhisk": "core.compute.openwhisk:OpenWhiskBackend",
    "kubernetes": "core.compute.kubernetes:KubernetesBackend",
    "slurm": "core.compute.slurm:SlurmBackend",
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
