"""The records that driver and workers exchange about a batch: what to run, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from core.serialization import Packed

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
class NotifyCredentials:
    """What lets a worker speak to the driver over Redis: where, on which channel, and the key that signs its words."""

    address: str
    channel: str
    key: bytes = field(repr=False)


@dataclass(slots=True)
class Invocation:
    """A batch on its way to a worker.

    Exactly one of `packed` (inputs travel with the call) and `durable` (they are in storage) is set.
    `call` is the pickled function with its options, `call_hash` its content hash: a worker that has seen the
    hash does not receive it again. Within a `generation`, by default a job, what a function keeps may stay with it.
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
    notify: NotifyCredentials | None = None
    generation: str = ""


@dataclass(slots=True)
class TaskFailure:
    """A task's exception: type name, message, traceback text, and the exception itself if it can be pickled."""

    kind: str
    message: str
    traceback: str
    pickled: bytes | None
    attempts: int


@dataclass(slots=True)
class BatchResult:
    """What a worker says of a batch it has run.

    `values` holds a value for each task, None where `failures` has an entry; `durations` are seconds per task;
    `attempts` and `logs` hold the tasks that needed more than one or wrote something; `overhead` is how many seconds
    passed between sending and answer beyond those of the tasks, 0 where that is not measured.
    """

    values: Packed
    durations: list[float]
    failures: dict[int, TaskFailure] = field(default_factory=dict)
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
    outcome: BatchResult | None


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
    failure: TaskFailure | None = None


Reply = BatchDone | BatchLost
