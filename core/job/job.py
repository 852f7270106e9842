"""A job in progress, seen from the driver: its futures, what its tasks cost, and what becomes of lost ones."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core import serialization
from core.errors import (
    FanfoldError,
    InputError,
    IntegrityError,
    MemoryLimitExceeded,
    SerializationError,
    StorageUnavailable,
    TaskError,
    TaskTimeout,
    VersionMismatch,
    WorkerDied,
)
from core.futures import FutureList
from core.job.costs import BatchCost, cost_of
from core.job.options import Options
from core.serialization import Packed, Unpackable
from core.serialization.definitions import Definitions
from core.task.protocol import BatchLost, BatchResult, DurableRef, Invocation, Reply, TaskFailure
from core.task.run import revive
from core.types import Event, TaskDone, TaskFailed, TaskLogged, TaskRetried

if TYPE_CHECKING:
    from core.data.partition import Listing

_PERMANENT: dict[str, type[FanfoldError]] = {
    kind.__name__: kind for kind in (InputError, IntegrityError, VersionMismatch)
}
_LOST: dict[str, type[TaskError]] = {"timeout": TaskTimeout, "memory": MemoryLimitExceeded}

_SAMPLE = 1024
"""Durations of tasks from which a straggler is told, at most."""


@dataclass(slots=True, eq=False)
class Batch:
    """Tasks of one job that travel together, and the invocation they travel in.

    `attempts` counts how often they were tried before; `running_since` is the monotonic time at which it was first seen
    to run, for jobs that speculate; `backup` is the other copy of a speculated batch; a batch that is `abandoned` is no
    longer wanted, whatever its worker says.
    """

    batch_id: int
    job: Job
    task_ids: Sequence[int]
    items: Sequence[Any]
    attempts: int
    memory: int | None
    invocation: Invocation
    running_since: float | None = None
    backup: Batch | None = None
    is_backup: bool = False
    abandoned: bool = False


class Job(ABC):
    """Base of a job in progress.

    Attributes
    ----------
    number : int
        Counts the jobs of an executor.
    total : int or None
        Number of tasks, None while the input goes on.
    idle : bool
        Whether nothing is left to send.
    emit : callable or None
        Receives events; None if nobody listens.
    stir : callable
        Has the executor's loop look at a job. Called from any thread.
    costs : list
        What its batches have cost.
    next_backup : float
        Monotonic time before which nobody looks for stragglers again.
    discarded : bool
        Whether the user cancelled the whole job.
    keeps_objects : bool
        Whether something of it is in storage, to be removed when its executor parts from it.
    listing : Listing or None
        What found the job's data, where that is objects.
    """

    __slots__ = (
        *("backups", "cancelled", "costs", "definitions", "discarded", "durations", "emit", "ended", "failed"),
        *("futures", "inflight", "invocations", "job_id", "listing", "name", "next_backup", "number", "options"),
        *("stir", "_cancels", "_worker_requests"),
    )
    total: int | None
    idle: bool
    keeps_objects = False

    def __init__(self, job_id: str, name: str, definitions: Definitions, options: Options, futures: FutureList) -> None:
        self.job_id = job_id
        self.name = name
        self.number = 0
        self.definitions = definitions
        self.options = options
        self.futures = futures
        self.emit: Callable[[Event], None] | None = None
        self.stir: Callable[[Job], None] = _nobody
        self.inflight: dict[int, Batch] = {}
        self.durations: list[float] = []
        self.costs: list[BatchCost] = []
        self.ended = self.failed = self.cancelled = self.backups = self.invocations = 0
        self.next_backup = 0.0
        self.discarded = False
        self.listing: Listing | None = None
        self._cancels: list[None] = []
        self._worker_requests = 0

    @property
    def finished(self) -> bool:
        """Whether every task has ended."""
        return self.ended == self.total

    @abstractmethod
    def next_batch(self, batch_id: int, workers: int) -> Batch | None:
        """Form the next batch, or return None if nothing can be sent now."""

    @abstractmethod
    def done(self, batch: Batch, worker: str, outcome: BatchResult | None) -> None:
        """Complete the futures of a batch."""

    @abstractmethod
    def charge_attempt(self, batch: Batch, position: int | None, loss: BatchLost) -> None:
        """Repeat a batch after a loss that a task of it may have caused: the `charged` count an attempt."""

    @abstractmethod
    def requeue(self, batch: Batch, positions: Sequence[int]) -> None:
        """Repeat tasks of a batch that are not to blame for its loss."""

    def poll(self) -> list[Reply]:
        """Look for results that nobody announces."""
        return []

    def next_poll(self) -> float | None:
        """Return the seconds after which `poll` wants to be called, None for never."""
        return None

    def prefetch(self, batches: Iterable[Batch]) -> None:
        """Hear of batches that have ended, before each is `done` or `lost`."""
        return None

    def close(self) -> None:
        """Let go of inputs and results once every task has ended: whoever wants results has the futures."""
        self.futures, self.definitions = _EMPTY, _NOTHING
        self.costs = []

    def stop_input(self, error: BaseException) -> None:
        """Read no more input."""
        return None

    def leave(self) -> None:
        """Part from the job because its executor closes."""
        return None

    def remove(self) -> None:
        """Delete what the job keeps in storage."""
        return None

    def form(
        self,
        batch_id: int,
        task_ids: Sequence[int],
        items: Sequence[Any],
        attempts: int,
        memory: int | None,
        packed: Packed | None = None,
        durable: DurableRef | None = None,
    ) -> Batch:
        """Return a batch that is about to be invoked; its input is `packed`, or in storage where `durable` says."""
        call = b"" if packed is None else self.definitions.data
        call_hash, timeout = self.definitions.hash, self.options.timeout
        invocation = Invocation(
            batch_id, self.job_id, call, call_hash, task_ids, attempts, timeout, memory, packed, durable
        )
        return self.launch(Batch(batch_id, self, task_ids, items, attempts, memory, invocation))

    def launch(self, batch: Batch) -> Batch:
        """Account for a batch that is about to be invoked."""
        self.inflight[batch.batch_id] = batch
        self.invocations += 1
        return batch

    def lost(self, batch: Batch, loss: BatchLost) -> None:
        """Repeat the tasks of a batch that no worker will answer, or fail those that were tried enough."""
        if loss.reason == "killed" or not loss.started:
            self.requeue(batch, range(len(batch.task_ids)))
        else:
            self.charge_attempt(batch, loss.position, loss)

    def settle(self, task_ids: Sequence[int], worker: str, attempts: int, outcome: BatchResult) -> None:
        """Give the values and failures of an outcome to their futures, unless another copy was first."""
        futures = self.futures.made
        failures = outcome.failures
        for position, text in outcome.logs.items():
            futures[task_ids[position]].log = text
        ended = 0
        for position, value in enumerate(serialization.unpack(outcome.values, self.definitions)):
            task_id = task_ids[position]
            if position in failures:
                self._fail_as_told(task_id, failures[position])
            elif type(value) is Unpackable:
                failures[position] = self._fail_unreadable(task_id, value, attempts + 1)
            elif futures[task_id].settle(value):
                ended += 1
        self.ended += ended
        cost = cost_of(task_ids, attempts, worker, outcome)
        self.costs.append(cost)
        self._worker_requests += cost.requests
        if self.options.speculate and len(self.durations) < _SAMPLE:
            self.durations.extend(cost.durations[:_SAMPLE])
        if self.emit is not None:
            self._tell_of(cost, outcome)

    def _fail_as_told(self, task_id: int, failure: TaskFailure) -> None:
        log = self.futures.made[task_id].log
        error = revive(failure, self.job_id, task_id, self.name, log, self.definitions)
        self.fail(task_id, error, failure.attempts)

    def _fail_unreadable(self, task_id: int, value: Unpackable, attempts: int) -> TaskFailure:
        reason = f"the result of task {task_id} of {self.name} cannot be sent back: {value.reason}"
        self.fail(task_id, SerializationError(reason), attempts)
        return TaskFailure("SerializationError", reason, "", None, attempts)

    def _tell_of(self, cost: BatchCost, outcome: BatchResult) -> None:
        for position, text in outcome.logs.items():
            self.tell(TaskLogged, cost.task_ids[position], text)
        for position, stats in enumerate(cost.rows()):
            if position not in outcome.failures:
                self.tell(TaskDone, stats)

    def fail(self, task_id: int, error: BaseException, attempts: int) -> None:
        """Fail a task for good."""
        if self.futures.made[task_id].settle(None, error):
            self.ended += 1
            self.failed += 1
            self.tell(TaskFailed, task_id, attempts, f"{type(error).__name__}: {error}")

    def give_up(self, task_id: int, attempts: int, loss: BatchLost) -> bool:
        """Fail a task that was tried enough, or tell that it is tried again; returns whether it failed."""
        if self.is_hopeless(attempts, loss):
            self.fail(task_id, self.loss_error(task_id, attempts, loss), attempts)
            return True
        self.tell_retry(task_id, attempts, loss)
        return False

    def charged(self, batch: Batch, position: int | None, loss: BatchLost) -> Sequence[int]:
        """Return the positions of tasks that count an attempt: the one that ran, or that was alone in its batch."""
        if position is not None:
            return [position]
        count = len(batch.task_ids)
        return range(count) if count == 1 or _is_permanent(loss) else ()

    def is_hopeless(self, attempts: int, loss: BatchLost) -> bool:
        """Whether a task was tried enough, or cannot succeed however often it is tried."""
        return _is_permanent(loss) or attempts > self.options.retry.retries

    def more_memory(self, batch: Batch, loss: BatchLost) -> int | None:
        """Return the memory limit of the next attempt at a task that counted one."""
        if loss.reason != "memory" or batch.memory is None:
            return batch.memory
        return int(batch.memory * (self.options.retry.memory_growth or 1))

    def tell_retry(self, task_id: int, attempts: int, loss: BatchLost) -> None:
        """Tell that a task is tried again."""
        self.tell(TaskRetried, task_id, attempts, loss.message)

    def loss_error(self, task_id: int, attempts: int, loss: BatchLost) -> FanfoldError:
        """Return the exception of a task whose worker ended."""
        tried = f" (tried {attempts} times)" if attempts > 1 else ""
        message = f"task {task_id} of {self.name} did not finish: {loss.message}{tried}"
        if loss.failure is not None and _is_permanent(loss):
            return _PERMANENT[loss.failure.kind](message)
        if loss.reason == "unavailable":
            return StorageUnavailable(message)
        kind = _LOST.get(loss.reason, WorkerDied)
        return kind(message, job_id=self.job_id, task_id=task_id, attempts=attempts)

    def tell(self, kind: Callable[..., Event], *values: Any) -> None:
        """Emit an event of this job."""
        if self.emit is not None:
            self.emit(kind(self.job_id, time.time(), *values))

    def stop(self) -> None:
        """Cancel everything that has not ended."""
        for future in self.futures.made:
            future.drop()
        self.count_cancelled()

    def notice_cancel(self) -> None:
        """Hear that a future was cancelled. Called from any thread."""
        self._cancels.append(None)  # a list, since threads that add to a number lose count
        self.stir(self)

    def count_cancelled(self) -> None:
        """Account for futures that were cancelled since the last look."""
        known = len(self._cancels)
        self.ended += known - self.cancelled
        self.cancelled = known

    def look(self) -> list[Reply]:
        """Do what wants doing once per turn of the loop; returns what it found out."""
        self.count_cancelled()
        return self.poll()

    @property
    def requests(self) -> int:
        """Storage requests so far: of the workers, and to find the objects that are the job's data."""
        return self._worker_requests + (0 if self.listing is None else self.listing.requests)


_EMPTY, _NOTHING = FutureList(), Definitions()


def _nobody(job: Job) -> None:
    return None


def _is_permanent(loss: BatchLost) -> bool:
    return loss.failure is not None and loss.failure.kind in _PERMANENT
