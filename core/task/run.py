"""Runs one batch of tasks; the same code on every backend."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from core import serialization
from core.errors import SerializationError, TaskError
from core.serialization import Unpackable
from core.serialization.definitions import Definitions
from core.serialization.tokens import registry
from core.storage.clients import spent
from core.task.call import Call, apply
from core.task.protocol import BatchResult, TaskFailure

LOG_LIMIT = 64 << 10
"""Characters of a task's output that are kept: the last ones."""

Mark = Callable[[int, float], None]
"""Told the position of each task in its batch, and the monotonic time, when it starts; -1 when none runs."""

_HERE = os.path.dirname(os.path.abspath(__file__))


def become_worker() -> None:
    """Declare this process a worker, once, before it runs anything."""
    registry.become_worker()


def in_worker() -> bool:
    """Whether this process is a worker."""
    return registry.worker == os.getpid()


@dataclass(slots=True)
class _Running:
    """The batch that this process runs; the task is the one whose duration comes next."""

    process: int
    job_id: str
    task_ids: Sequence[int]
    durations: Sequence[float]
    attempt: int
    definitions: Definitions | None


_running: _Running | None = None


def running_task() -> tuple[str, int, int] | None:
    """Return (job, task, attempt) of what runs in this process, None if nothing does."""
    batch = _running
    if batch is None or batch.process != os.getpid() or len(batch.durations) >= len(batch.task_ids):
        return None
    return batch.job_id, batch.task_ids[len(batch.durations)], batch.attempt


def in_task() -> bool:
    """Whether what is done here is done for a task, whose result may refer to it."""
    return in_worker() or running_task() is not None


def running_definitions() -> Definitions | None:
    """Return what the call that runs in this process defined, for values that leave it."""
    batch = _running
    return None if batch is None or batch.process != os.getpid() else batch.definitions


class _Log:
    """The end of what a task writes to either stream."""

    def __init__(self) -> None:
        self.kept: deque[str] = deque()
        self._size = 0

    def add(self, text: str) -> None:
        self.kept.append(text)
        self._size += len(text)
        while self._size - len(self.kept[0]) > LOG_LIMIT:
            self._size -= len(self.kept.popleft())

    def take(self) -> str:
        text = "".join(self.kept)[-LOG_LIMIT:]
        self.kept.clear()
        self._size = 0
        return text


class _Tee(io.TextIOBase):
    """Passes text on to a stream and keeps it in a log."""

    def __init__(self, stream: TextIO | None, log: _Log) -> None:
        self._stream = stream
        self._log = log

    def write(self, text: str) -> int:
        if self._stream is not None:
            self._stream.write(text)
        self._log.add(text)
        return len(text)

    def flush(self) -> None:
        # Python flushes what it collects, and the stream may have been closed long before.
        if self._stream is not None and not self._stream.closed:
            self._stream.flush()

    def fileno(self) -> int:
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def writable(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"


_latest: tuple[TextIO | None, TextIO | None, _Log, _Tee, _Tee] | None = None


def _listeners(out: TextIO | None, err: TextIO | None) -> tuple[_Log, _Tee, _Tee]:
    """Return a log and what to put in the place of two streams: the same as last time, if they are."""
    global _latest
    if _latest is None or _latest[0] is not out or _latest[1] is not err:
        log = _Log()
        _latest = out, err, log, _Tee(out, log), _Tee(err, log)
    if _latest[2].kept:
        _latest[2].take()  # written while no task ran
    return _latest[2:]


@contextlib.contextmanager
def _surroundings(call: Call, batch: _Running) -> Iterator[_Log]:
    """Give a batch the job's environment variables, and standard streams that are listened to."""
    global _running
    outer, _running = _running, batch
    before = {name: os.environ.get(name) for name, _ in call.env}
    if before:
        os.environ.update(call.env)
    if call.folder is not None:
        with contextlib.suppress(OSError):
            os.chdir(call.folder)
    streams = sys.stdout, sys.stderr
    log, sys.stdout, sys.stderr = _listeners(*streams)
    try:
        yield log
    finally:
        _running = outer
        sys.stdout, sys.stderr = streams
        for stream in streams:
            with contextlib.suppress(Exception):
                stream.flush()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run(
    call: Call,
    items: Iterator[Any],
    task_ids: Sequence[int],
    job_id: str,
    attempt: int = 0,
    mark: Mark | None = None,
) -> BatchResult:
    """Run a function on a batch of items.

    Every failure, of the function or of its item or result, belongs to its own task; the others go on.

    Parameters
    ----------
    items : iterator
        As many as `task_ids`; an `Unpackable` fails its task.
    attempt : int
        How often these tasks have been tried before.
    """
    values: list[Any] = []
    durations: list[float] = []
    failures: dict[int, TaskFailure] = {}
    attempts: dict[int, int] = {}
    logs: dict[int, str] = {}
    function = call.function
    direct = call.is_plain
    clock = time.monotonic
    epoch, cpu = time.time(), time.process_time()
    spent_before = spent()
    plain = (int, float, str, bytes, type(None))
    packing, last = serialization.Packing(call.definitions), len(task_ids) - 1
    batch = _Running(os.getpid(), job_id, task_ids, durations, attempt, call.definitions)
    if call.definitions is not None:
        call.definitions.activate()
    with _surroundings(call, batch) as output:
        before = clock()
        for position in range(len(task_ids)):
            if mark is not None:
                mark(position, before)  # before the item is read: reading it may end the worker
            item = kept = next(items)
            if call.retry.retry_on:  # the function may change what it got before it fails
                kept = packing.snapshot(item)
            try:
                if direct and type(item) in plain:
                    value = function(item)
                else:
                    value = apply(call, _readable(item), task_ids[position], f"{job_id}/{task_ids[position]}", attempt)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and not in_worker():
                    raise  # a person at the keyboard of an in-process backend
                value = None
                failure = _retried(call, kept, task_ids[position], job_id, attempt, error, mark, position)
                batch.attempt = attempt
                if isinstance(failure, TaskFailure):
                    failures[position] = failure
                else:
                    value = failure[0]
                    attempts[position] = failure[1]
            now = clock()
            durations.append(now - before)
            if position < last and type(value) not in plain:
                value, now = packing.snapshot(value), clock()  # later tasks may change what this one returned
            values.append(value)
            before = now
            if output.kept:
                logs[position] = output.take()
        if mark is not None:
            mark(-1, before)
    packed = serialization.pack(values, definitions=call.definitions)
    cpu = time.process_time() - cpu
    costs = (now - before for now, before in zip(spent(), spent_before, strict=True))
    return BatchResult(packed, durations, failures, attempts, logs, epoch, cpu, peak_rss(), *costs)


def _retried(
    call: Call, item: Any, task_id: int, job_id: str, attempt: int, error: BaseException, mark: Mark | None, at: int
) -> TaskFailure | tuple[Any, int]:
    """Repeat a failed task as its policy says, with the item as it was; returns its failure, or (value, attempts)."""
    policy = call.retry
    tries = attempt + 1
    while True:
        if tries > policy.retries or not isinstance(error, policy.retry_on):
            return describe(error, tries, call.definitions)
        delay = min(policy.backoff * 2.0 ** (tries - 1), policy.max_backoff)
        delay *= (1 + os.urandom(1)[0] / 255) / 2  # tasks that failed together return apart
        if mark is not None:
            mark(at, time.monotonic() + delay)  # waiting takes none of the task's time
        time.sleep(delay)
        if _running is not None:
            _running.attempt = tries
        try:
            return apply(call, _as_it_was(item, call), task_id, f"{job_id}/{task_id}", tries), tries + 1
        except BaseException as repeated:
            if isinstance(repeated, KeyboardInterrupt) and not in_worker():
                raise
            error = repeated
            tries += 1


def _as_it_was(kept: Any, call: Call) -> Any:
    if type(kept) is not serialization.Packed:
        return kept
    return _readable(next(serialization.unpack(serialization.copied(kept), call.definitions)))


def _readable(item: Any) -> Any:
    if type(item) is Unpackable:
        raise SerializationError(f"the item cannot be read by the worker: {item.reason}")
    return item


def failed(count: int, error: BaseException) -> BatchResult:
    """Return the outcome of a batch whose function cannot be loaded: each task fails with the reason."""
    failure = describe(error)
    values = serialization.pack([None] * count)
    return BatchResult(values, [0.0] * count, dict.fromkeys(range(count), failure), started=time.time())


def describe(error: BaseException, attempts: int = 1, definitions: Definitions | None = None) -> TaskFailure:
    """Turn an exception into what a driver can show, whatever the exception is."""
    frames = error.__traceback__
    while frames is not None and os.path.dirname(os.path.abspath(frames.tb_frame.f_code.co_filename)) == _HERE:
        frames = frames.tb_next
    if isinstance(error, StopIteration):  # no future can raise it, nor a generator (PEP 479)
        error, frames = _ended_early(error.with_traceback(frames)), None
    try:
        shown = traceback.TracebackException(type(error), error, frames)
        text = "".join(shown.format()).rstrip()
    except Exception:
        text = f"{type(error).__name__} (its message cannot be shown)"
    try:
        message = str(error)
    except Exception:
        message = "(its message cannot be shown)"
    if isinstance(error, SystemExit):
        message = f"the function called sys.exit({error.code!r})"
    # Raised as their own type, SystemExit and KeyboardInterrupt would end the driver.
    pickled = serialization.dump_exception(error, definitions) if isinstance(error, Exception) else None
    return TaskFailure(type(error).__name__, message, text, pickled, attempts)


def _ended_early(cause: StopIteration) -> RuntimeError:
    error = RuntimeError("the function raised StopIteration")
    error.__cause__ = cause
    return error


def revive(
    failure: TaskFailure,
    job_id: str,
    task_id: int,
    name: str,
    log: str = "",
    definitions: Definitions | None = None,
) -> BaseException:
    """Make the exception that a failed task's future raises.

    An exception that could be pickled comes back as its own type, caused by a `TaskError` whose message is the
    remote traceback, and which was caused by what the exception was; any other comes as that `TaskError`.
    """
    where = f"task {task_id} of {name} failed with {failure.kind}: {failure.message}"
    if failure.attempts > 1:
        where = f"{where} (after {failure.attempts} attempts)"
    remote = TaskError(
        f"{where}\n\n{failure.traceback}", job_id=job_id, task_id=task_id, attempts=failure.attempts, log=log
    )
    if failure.pickled is not None:
        try:
            error = serialization.loads(failure.pickled, definitions)
        except Exception:
            return remote
        if isinstance(error, BaseException):
            remote.__cause__, remote.__context__ = error.__cause__, error.__context__
            remote.__suppress_context__ = error.__suppress_context__
            error.__cause__ = remote
            return error
    return remote


def peak_rss() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
