"""Queues: values that running tasks send to the driver, such as the progress of a simulation."""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from core import serialization
from core.errors import ConfigError, SerializationError
from core.futures import Future
from core.job.history import JobHistory
from core.job.job import Job
from core.job.scheduler import Scheduler
from core.locks import process_lock
from core.settings import parse_size
from core.task import notices as notify
from core.task.run import running_definitions, running_task

SIZE = 64 << 20
"""Bytes of values that a queue holds, unless it is made otherwise."""

_OVERHEAD = 300
"""Bytes that a value takes here beside its own pickle, about."""

END_INTERVAL = 1.0
"""Seconds between two looks at whether jobs have ended; their end itself is told at once."""

_lock = process_lock(threading.Lock)
_numbers: dict[tuple[str, int], int] = {}


@functools.lru_cache(maxsize=1)
def _origin(process: int) -> str:
    return os.urandom(8).hex()  # a worker forked from this one, or one that gets its number, is another


@dataclass(frozen=True, slots=True)
class Entry:
    """A value from a queue, and the task and attempt that put it there."""

    value: Any
    job_id: str
    task_id: int
    attempt: int


class Queue:
    """Carries values from running tasks to the driver, live.

    Made by ``executor.queue()`` and passed to tasks like any argument. A task calls `put`; the driver iterates, or
    calls `get`. Values of one task keep their order. The queue ends when every job that the executor was given after
    it was made has ended.

    At most `size` bytes wait for the driver: beyond that the oldest are dropped, and counted in `dropped`, so that
    neither tasks nor results ever wait for whoever reads. A task that is run again, because its worker died, puts its
    values again: see `entries` for the attempt. While an executor has a queue, its new jobs get no backup copies of
    slow tasks, which would put theirs too, unless it was made with ``speculation=True``. Over Redis, values put while
    the connection is away are lost, and counted; results never are.

    Examples
    --------
    >>> def simulate(seed, progress):
    ...     for step in range(100):
    ...         progress.put((seed, step))
    >>> with FunctionExecutor() as executor:
    ...     queue = executor.queue()
    ...     futures = executor.map(simulate, range(4), extra_args=(queue,))
    ...     for seed, step in queue:
    ...         print(seed, step)
    """

    def __init__(
        self,
        size: int = SIZE,
        busy: Callable[[], bool] | None = None,
        changed: threading.Condition | None = None,
        catch_up: Callable[[], None] | None = None,
        ident: str | None = None,
    ) -> None:
        self._ident = ident or os.urandom(8).hex()
        self._size, self._busy = size, busy
        self._changed = changed or threading.Condition()
        self._catch_up = catch_up
        self._kept: deque[tuple[notify.QueueHeader, bytes]] = deque()
        self._bytes = 0
        self._heard: dict[str, int] = {}
        self.dropped = 0
        """Values that were put and will not be read."""
        if busy is not None:
            notify.receivers[self._ident] = self

    def put(self, value: Any) -> None:
        """Send a value to the driver; called by a running task, in its own process.

        Raises
        ------
        RuntimeError
            No task runs in this process.
        SerializationError
            The value cannot be pickled.
        """
        task = running_task()
        if task is None:
            raise RuntimeError("a queue takes values only from a running task, in the process that runs it")
        try:
            data = serialization.dumps(value, running_definitions())
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise SerializationError(f"a value for a queue cannot be pickled: {reason}") from error
        with _lock:  # numbers go out in order, whatever threads a task has
            process = os.getpid()
            number = _numbers[self._ident, process] = _numbers.get((self._ident, process), 0) + 1
            header = notify.QueueHeader(self._ident, _origin(process), number, *task)
            if self._ident in notify.receivers:
                notify.deliver(header, data)
            else:
                notify.send_value(header, data)

    def get(self, timeout: float | None = None) -> Any:
        """Return the next value, waiting for it.

        Raises
        ------
        TimeoutError
            None came within `timeout` seconds.
        EOFError
            None will come: every job has ended, and every value was read.
        """
        return self._next(timeout).value

    def __iter__(self) -> Iterator[Any]:
        for entry in self.entries():
            yield entry.value

    def entries(self) -> Iterator[Entry]:
        """Yield values together with the task and attempt that put each, until every job has ended."""
        while True:
            try:
                entry = self._next(None)
            except EOFError:
                return
            yield entry

    def _next(self, timeout: float | None) -> Entry:
        if self._busy is None:
            raise RuntimeError("a queue is read by the driver that made it; tasks only put")
        until = None if timeout is None else time.monotonic() + timeout
        caught_up = self._catch_up is None
        while True:
            with self._changed:
                if self._kept:
                    header, data = self._kept.popleft()
                    self._bytes -= len(data) + _OVERHEAD
                    break
                if self._busy():
                    left = END_INTERVAL if until is None else min(END_INTERVAL, until - time.monotonic())
                    if left <= 0:
                        raise TimeoutError(f"no value came within {timeout:g} s")
                    self._changed.wait(left)
                    continue
            if caught_up:
                raise EOFError("every job has ended, and every value was read")
            assert self._catch_up is not None
            self._catch_up()
            caught_up = True
        return Entry(serialization.loads(data), header.job_id, header.task_id, header.attempt)

    def take(self, header: notify.QueueHeader, data: bytes) -> None:
        """Hear of a value. Called from any thread."""
        with self._changed:
            last = self._heard.get(header.origin, 0)
            if header.number <= last:
                return  # somebody repeats what was said
            self._heard[header.origin] = header.number
            self.dropped += header.number - last - 1
            self._kept.append((header, data))
            self._bytes += len(data) + _OVERHEAD
            while self._bytes > self._size and len(self._kept) > 1:
                self._bytes -= len(self._kept.popleft()[1]) + _OVERHEAD
                self.dropped += 1
            self._changed.notify_all()

    def __reduce__(self) -> tuple[Callable[[str], Queue], tuple[str]]:
        return _at_task, (self._ident,)


def _at_task(ident: str) -> Queue:
    return Queue(ident=ident)


class QueueHub:
    """Makes the queues of one executor, and tells them when a job has ended.

    Parameters
    ----------
    scheduler, history, reductions
        What the executor runs.
    listener : CommitListener, optional
        Hears values over Redis.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        history: JobHistory,
        reductions: Sequence[Future],
        listener: notify.CommitListener | None,
    ) -> None:
        self._scheduler, self._history = scheduler, history
        self._reductions, self._listener = reductions, listener
        self._changed = threading.Condition()
        self._queues: weakref.WeakSet[Queue] = weakref.WeakSet()
        scheduler.job_ended += [history.end, self._tell_of_end]

    def __bool__(self) -> bool:
        """Whether anybody may read a queue."""
        return bool(self._queues)

    def queue(self, size: int | str) -> Queue:
        """Return a new queue, for the jobs that the executor is given from now on; see ``FunctionExecutor.queue``."""
        backend = self._scheduler.backend
        if not backend.capabilities.carries_queues and self._listener is None:
            raise ConfigError(
                f"a queue has no way back from workers of {backend.name!r}; "
                "give the executor notify='redis://HOST:PORT/DB', a Redis that the workers reach"
            )
        try:
            limit = parse_size(size)
        except ValueError:
            raise ConfigError(f"the size of a queue must be a size such as 64MB, not {size!r}") from None
        catch_up = None if self._listener is None else self._listener.catch_up
        queue = Queue(limit, functools.partial(self._is_busy, self._history.begun), self._changed, catch_up)
        self._queues.add(queue)
        return queue

    def _is_busy(self, begun: int) -> bool:
        """Whether a job that was begun after so many others has not ended, so that values may come."""
        if self._scheduler.broken:
            return False
        return self._history.newest() > begun or any(not known.done() for known in list(self._reductions))

    def _tell_of_end(self, job: Job) -> None:
        """Wake whoever waits for values of a job that has ended."""
        with self._changed:
            self._changed.notify_all()
