"""A job in progress, seen from the driver: its futures, what its tasks cost, and what becomes of lost ones."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core import serialization
from core.definitions import Definitions
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
from core.serialization import Unpackable
from core.task.protocol import BatchLost, BatchResult, Invocation, Reply, TaskFailure
from core.task.run import revive
from core.types import Event, RetryPolicy, TaskDone, TaskFailed, TaskLogged, TaskRetried, TaskStats

if TYPE_CHECKING:
    from core.data.partition import Listing

_PERMANENT: dict[str, type[FanfoldError]] = {
    kind.__name__: kind for kind in (InputError, IntegrityError, VersionMismatch)
}
_LOST: dict[str, type[TaskError]] = {"timeout": TaskTimeout, "memory": MemoryLimitExceeded}


@dataclass(frozen=True, slots=True)
class Options:
    """How the tasks of one job are run; see `FunctionExecutor`."""

    timeout: float | None = None
    memory: int | None = None
    retry: RetryPolicy = RetryPolicy()
    batch_size: int | None = None
    speculate: bool = False


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
    total : int or None
        Number of tasks, None while the input goes on.
    idle : bool
        Whether nothing is left to send.
    emit : callable or None
        Receives events; None if nobody listens.
    discarded : bool
        Whether the user cancelled the whole job.
    listing : Listing or None
        What found the job's data, where that is objects.
    """

    total: int | None
    idle: bool

    def __init__(self, job_id: str, name: str, definitions: Definitions, options: Options, futures: FutureList) -> None:
        self.job_id = job_id
        self.name = name
        self.definitions = definitions
        self.options = options
        self.futures = futures
        self.emit: Callable[[Event], None] | None = None
        self.wake: Callable[[], None] = _nobody
        self.inflight: dict[int, Batch] = {}
        self.durations: list[float] = []
        self.ended = self.failed = self.cancelled = self.backups = self.invocations = 0
        self._records: list[tuple[Sequence[int], int, str, BatchResult]] = []
        self._some_cancelled = False
        self.discarded = False
        self.listing: Listing | None = None

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
        self.futures = FutureList(self.job_id)
        self.definitions = Definitions()

    def stop_input(self, error: BaseException) -> None:
        """Read no more input."""
        return None

    def leave(self) -> None:
        """Part from the job because its executor closes."""
        return None

    def remove(self) -> None:
        """Delete what the job keeps in storage."""
        return None

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
        ended = 0
        for position, value in enumerate(serialization.unpack(outcome.values, self.definitions)):
            task_id = task_ids[position]
            if position in failures:
                failure = failures[position]
                error = revive(
                    failure, self.job_id, task_id, self.name, outcome.logs.get(position, ""), self.definitions
                )
                self.fail(task_id, error, failure.attempts)
            elif type(value) is Unpackable:
                reason = f"the result of task {task_id} of {self.name} cannot be sent back: {value.reason}"
                self.fail(task_id, SerializationError(reason), attempts + 1)
                failures[position] = TaskFailure("SerializationError", reason, "", None, attempts + 1)
            elif futures[task_id].settle(value):
                ended += 1
        self.ended += ended
        outcome.values = serialization.EMPTY
        self._records.append((task_ids, attempts, worker, outcome))
        if len(self.durations) < _SAMPLE:
            self.durations.extend(outcome.durations[:_SAMPLE])
        if self.emit is not None:
            for position, text in outcome.logs.items():
                self.tell(TaskLogged, task_ids[position], text)
            for position, stats in enumerate(_rows(task_ids, attempts, worker, outcome)):
                if position not in failures:
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
        self._some_cancelled = True
        self.wake()

    def count_cancelled(self) -> None:
        """Account for futures that were cancelled since the last look."""
        self._some_cancelled = False
        known = sum(future.cancelled() for future in self.futures.made)
        self.ended += known - self.cancelled
        self.cancelled = known

    def look(self) -> list[Reply]:
        """Do what wants doing once per turn of the loop; returns what it found out."""
        if self._some_cancelled:
            self.count_cancelled()
        return self.poll()

    def log(self, index: int) -> str:
        """Return what a task wrote to its standard streams."""
        for task_ids, _, _, outcome in reversed(self._records):
            if outcome.logs and index in task_ids:
                return outcome.logs.get(task_ids.index(index), "")
        return ""

    def reference(self, index: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Refuse: results of this job exist in this process only."""
        raise TypeError("only futures of a durable job can be pickled; pass durable=True, or return results")

    def stats(self) -> Iterator[TaskStats]:
        """Yield what each finished task cost."""
        for record in list(self._records):
            yield from _rows(*record)

    @property
    def requests(self) -> int:
        """Storage requests so far: of the workers, and to find the objects that are the job's data."""
        found = 0 if self.listing is None else self.listing.requests
        return found + sum(outcome.requests for _, _, _, outcome in list(self._records))


_SAMPLE = 1024


def _nobody() -> None:
    return None


def _is_permanent(loss: BatchLost) -> bool:
    return loss.failure is not None and loss.failure.kind in _PERMANENT


def _rows(task_ids: Sequence[int], attempts: int, worker: str, outcome: BatchResult) -> Iterator[TaskStats]:
    """Yield what each task of a batch cost; CPU time is shared out in proportion to duration, the rest evenly."""
    busy = sum(outcome.durations) or 1.0
    started = outcome.started
    count = len(task_ids)
    for position, duration in enumerate(outcome.durations):
        failure = outcome.failures.get(position)
        tried = failure.attempts if failure else outcome.attempts.get(position, attempts + 1)
        cpu = outcome.cpu * duration / busy
        transferred = [
            total * (position + 1) // count - total * position // count
            for total in (outcome.bytes_in, outcome.bytes_out, outcome.requests)
        ]
        yield TaskStats(task_ids[position], started, duration, cpu, worker, tried, outcome.peak_rss, *transferred)
        started += duration
