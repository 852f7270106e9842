"""The data that moves through a job: frozen records and events, no behaviour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

MiB = 1 << 20


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how a task is tried again.

    Parameters
    ----------
    retries : int
        Further attempts after the first. A worker that dies or a task that runs out of time or memory
        always counts as an attempt; an exception of the user's function only if `retry_on` names it.
    retry_on : tuple of exception types
        Exceptions of the user's function worth another attempt.
    backoff, max_backoff : float
        Seconds before the first repetition after such an exception, doubled for each further one, at most
        `max_backoff`.
    memory_growth : float, optional
        Factor on the memory limit after a task ran out of memory. By default 2 for jobs whose state is in
        storage (their platforms can grant more) and 1 elsewhere.
    """

    retries: int = 2
    retry_on: tuple[type[BaseException], ...] = ()
    backoff: float = 0.1
    max_backoff: float = 30.0
    memory_growth: float | None = None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object: key below its storage's address, size in bytes, and a tag that changes with its content."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Partition:
    """A byte range of one object: the input of one task.

    Parameters
    ----------
    address, key : str
        The storage (as accepted by ``open_storage``) and the object below it.
    start, end : int
        Byte range. With `newline` set, the task owns the lines that start inside it.
    size : int
        Bytes of the whole object.
    etag : str
        Tag the object must still have when it is read.
    part, parts : int
        Index of this range within the object, and their number.
    newline : bytes, optional
        Line terminator that ranges are aligned to; None means raw bytes.
    header_lines : int
        Lines, or records, at the start of the object that every part begins with.
    data : bytes, optional
        The content itself, for storage that other processes cannot reach.
    records, delimiter
        As for ``Chunks``; with "csv", `start` and `end` are where records begin.
    """

    address: str
    key: str
    start: int
    end: int
    size: int
    etag: str
    part: int = 0
    parts: int = 1
    newline: bytes | None = b"\n"
    header_lines: int = 0
    data: bytes | None = None
    records: Literal["csv", "lines"] | None = None
    delimiter: str | None = None

    @property
    def is_cut(self) -> bool:
        """Whether this is not the whole object."""
        return self.start > 0 or self.end < self.size


@dataclass(frozen=True, slots=True)
class TaskStats:
    """What one finished task cost.

    Times are seconds; `started` is seconds since the epoch; `cpu` is the task's share of its batch's CPU time;
    `peak_rss` is the largest resident memory of its worker so far, in bytes; storage requests and bytes are its share
    of its batch's.
    """

    task_id: int
    started: float
    duration: float
    cpu: float
    worker: str
    attempts: int
    peak_rss: int
    bytes_in: int = 0
    bytes_out: int = 0
    requests: int = 0


@dataclass(slots=True)
class Usage:
    """Sums over tasks.

    Times in seconds; `rss_seconds` is the peak memory of a task's worker, in bytes, times the seconds that it took.
    """

    tasks: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    rss_seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class Bill:
    """What an executor's jobs have cost so far.

    `cpu_seconds` and `wall_seconds` are summed over tasks, `gb_seconds` is memory limit (or peak memory) in
    GB times wall seconds, `requests` counts storage requests of the driver and the workers. `cost` is in
    `currency` by the backend's price table of `price_date`; computing on one's own machine costs nothing.
    """

    backend: str
    tasks: int = 0
    invocations: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    gb_seconds: float = 0.0
    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    cost: float = 0.0
    currency: str = "USD"
    price_date: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job; `time` is seconds since the epoch."""

    job_id: str
    time: float


@dataclass(frozen=True, slots=True)
class JobCreated(Event):
    """A job was accepted; `tasks` is None while its input is a stream of unknown length."""

    name: str
    tasks: int | None


@dataclass(frozen=True, slots=True)
class BatchInvoked(Event):
    """A batch of tasks was handed to a worker or platform."""

    batch_id: int
    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TaskDone(Event):
    """A task returned its result."""

    stats: TaskStats


@dataclass(frozen=True, slots=True)
class TaskFailed(Event):
    """A task failed for good; `error` is its type and message."""

    task_id: int
    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class TaskRetried(Event):
    """A task is tried again; `reason` says what ended the last attempt."""

    task_id: int
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True)
class TaskSpeculated(Event):
    """A backup copy of a slow task was started."""

    task_id: int


@dataclass(frozen=True, slots=True)
class TaskLogged(Event):
    """Text a task wrote to its standard output or error."""

    task_id: int
    text: str


@dataclass(frozen=True, slots=True)
class JobDone(Event):
    """Every task of a job has ended."""

    tasks: int
    failed: int
    cancelled: int


Listener = Callable[[Event], None]
"""Receives every event of an executor, in order, on the executor's own thread; must not block."""

Retries = int | RetryPolicy | None
"""Further attempts, or how they are made; None where something else decides."""

ReturnWhen = Literal["ANY", "ALL", "ALWAYS", "ANY_COMPLETED", "ALL_COMPLETED"] | int
"""When a wait ends; a number is the percentage that has to be done, -1 any, 0 none: the constants of Lithops."""
