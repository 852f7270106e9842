"""Futures that cost little until somebody waits for them, and the list that a map returns."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import Future as BaseFuture
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import Any, Protocol, overload

from core.errors import contained
from core.locks import process_lock
from core.types import ReturnWhen
from core.waiting import ANY, await_some, deadline_of, needed, share_of, time_left

_logger = logging.getLogger("fanfold")
_transition = process_lock(threading.Lock)
_ended = (FINISHED, CANCELLED, CANCELLED_AND_NOTIFIED)


class Owner(Protocol):
    """What a future asks of the job it belongs to."""

    job_id: str

    def notice_cancel(self) -> None:
        """Hear that a future was cancelled."""

    def reference(self, index: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return a picklable constructor of an equal future for another process."""


class Maps(Protocol):
    """What a list of futures asks of the executor it came from."""

    @property
    def map(self) -> Callable[..., FutureList]:
        """Run a function on every item."""

    @property
    def map_reduce(self) -> Callable[..., Future]:
        """Map, then reduce."""


class Future(BaseFuture[Any]):
    """The result of one task; a ``concurrent.futures.Future``.

    A job has a million of these, so the condition that waiting needs is made on the first wait. One lock guards every
    change of state, which is what makes making it late safe.

    Attributes
    ----------
    log : str
        What the task wrote to its standard streams, up to the worker's limit; there once the task has ended.
    fetched : bool
        Whether anybody has had its result, or the exception that it failed with.
    """

    _state = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _waiters: Any = ()
    _done_callbacks: Any = ()
    _changed: threading.Condition | None = None
    log = ""
    fetched = False

    def __init__(self, owner: Owner | None = None, index: int = 0) -> None:
        self._owner = owner
        self.index = index

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        changed = self._changed
        if changed is None:
            with _transition:
                changed = self._changed
                if changed is None:
                    self._waiters, self._done_callbacks = [], []
                    changed = self._changed = threading.Condition()
        return changed

    def settle(self, result: Any, error: BaseException | None = None) -> bool:
        """Finish the future unless it has ended; returns whether this call did."""
        notice = "add_result" if error is None else "add_exception"
        return self._end((PENDING, RUNNING), FINISHED, notice, result, error)

    def _end(
        self, states: tuple[str, ...], state: str, notice: str, result: Any = None, error: BaseException | None = None
    ) -> bool:
        with _transition:
            if self._changed is None:
                return self._change(states, state, result, error)
        with self._condition:  # whoever waits looks at the state and enlists in one go
            with _transition:
                if not self._change(states, state, result, error):
                    return False
            for waiter in self._waiters:
                getattr(waiter, notice)(self)
            self._condition.notify_all()
        for callback in self._done_callbacks:
            if (raised := contained(callback, self)) is not None:
                _logger.error("a callback of %r raised an exception", self, exc_info=raised)
        return True

    def _change(self, states: tuple[str, ...], state: str, result: Any, error: BaseException | None) -> bool:
        if self._state not in states:
            return False
        self._result, self._exception, self._state = result, error, state
        return True

    def start(self) -> bool:
        """Mark the future as handed to a worker; False if it has been cancelled."""
        with _transition:
            if self._state in _ended:
                return False
            self._state = RUNNING
            return True

    def drop(self) -> bool:
        """Cancel even if running; returns whether this call did."""
        return self._cancel((PENDING, RUNNING))

    def cancel(self) -> bool:
        """Cancel the task unless a worker has it; returns whether it is cancelled."""
        return self._cancel((PENDING,)) or self._state in (CANCELLED, CANCELLED_AND_NOTIFIED)

    def _cancel(self, states: tuple[str, ...]) -> bool:
        if not self._end(states, CANCELLED_AND_NOTIFIED, "add_cancelled"):
            return False
        if self._owner is not None:
            self._owner.notice_cancel()
        return True

    def done(self) -> bool:
        """Return whether the task has ended."""
        return self._state in _ended

    def cancelled(self) -> bool:
        """Return whether the task was cancelled."""
        return self._state in (CANCELLED, CANCELLED_AND_NOTIFIED)

    def running(self) -> bool:
        """Return whether a worker has the task."""
        return self._state == RUNNING

    def set_running_or_notify_cancel(self) -> bool:
        """Mark as running, as ``concurrent.futures`` executors do."""
        return self.start()

    def set_result(self, result: Any) -> None:
        """Set the result."""
        self.settle(result)

    def set_exception(self, exception: BaseException | None) -> None:
        """Set the exception."""
        self.settle(None, exception)

    def result(self, timeout: float | None = None) -> Any:
        """Return the task's result, waiting for it.

        Raises
        ------
        TimeoutError
            It did not end within `timeout` seconds; the task itself goes on.
        CancelledError
            It was cancelled.
        TaskError
            It failed. An exception of the task's function that can be pickled is raised as its own type, with the
            remote traceback as its cause.
        """
        if self._state != FINISHED:
            self._await(timeout)
        self.fetched = True
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                self = None  # type: ignore[assignment]  # the traceback would keep the future alive
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception that the task failed with, or None."""
        if self._state != FINISHED:
            self._await(timeout)
        self.fetched = self.fetched or self._exception is not None
        return self._exception

    def _await(self, timeout: float | None) -> None:
        changed = self._condition
        with changed:
            if not changed.wait_for(lambda: self._state in _ended, timeout):
                raise TimeoutError(f"task {self.index} has not ended after {timeout} s; it goes on")
        if self._state != FINISHED:
            raise CancelledError

    @property
    def job_id(self) -> str:
        """Identifier of the job."""
        return self._owner.job_id if self._owner else ""

    def __reduce__(self) -> Any:
        if self._owner is None:
            raise TypeError("only futures of a durable job can be pickled; pass durable=True, or return results")
        return self._owner.reference(self.index)

    def __repr__(self) -> str:
        return f"<Future {self.job_id}[{self.index}] {self._state.lower()}>"


class FutureList(Sequence[Future]):
    """The futures of one map, in input order.

    While the input is a generator the list grows. Iterating yields futures as they are made; ``futures[3]`` and
    ``futures[2:5]`` wait for the items that they name; ``len``, negative indices and slices without an end wait for
    the end of the input. `made` holds those made so far, and `complete` says whether the input has ended.
    """

    def __init__(self, job_id: str = "", executor: Maps | None = None) -> None:
        self.job_id = job_id
        self.made: list[Future] = []
        self._executor = executor
        self.complete = self._failed = False
        self._error: BaseException | None = None
        self._grown: threading.Condition | None = None

    def extend(self, futures: Iterable[Future]) -> None:
        """Append futures; for the executor."""
        self.made.extend(futures)
        self._tell()

    def finish(self, error: BaseException | None = None) -> None:
        """Declare the list complete, or its input broken; for the executor."""
        self._error = error
        self.complete = True
        self._tell()

    def _tell(self) -> None:
        # Whoever waits makes the condition before it looks at the list, so one that is not there yet misses nothing.
        if self._grown is not None:
            with self._grown:
                self._grown.notify_all()

    def grow(self, count: float, timeout: float | None = None) -> bool:
        """Wait until so many futures are made or no more will be; returns whether that is so."""
        if self.complete or len(self.made) >= count:
            return True
        with _transition:
            if self._grown is None:
                self._grown = threading.Condition()
        with self._grown:
            return self._grown.wait_for(lambda: self.complete or len(self.made) >= count, timeout)

    def release(self, index: int) -> None:
        """Forget one future, so that a stream of results can be freed as it is consumed; for the executor."""
        self.made[index] = _forgotten

    def __iter__(self) -> Iterator[Future]:
        index = 0
        while True:
            while index < len(self.made):
                yield self.made[index]
                index += 1
            self.grow(index + 1)
            if self.complete and index >= len(self.made):
                if self._error is not None:
                    raise self._error
                return

    def __len__(self) -> int:
        self.grow(math.inf)
        if self._error is not None:
            raise self._error
        return len(self.made)

    @overload
    def __getitem__(self, index: int) -> Future: ...
    @overload
    def __getitem__(self, index: slice) -> list[Future]: ...
    def __getitem__(self, index: int | slice) -> Future | list[Future]:
        self.grow(needed(index))
        try:
            return self.made[index]
        except IndexError:
            if self._error is None:
                raise
            raise self._error from None

    @property
    def fetched(self) -> bool:
        """Whether every result has been asked for, as far as there was any before a failure."""
        return self._failed or (self.complete and all(future.fetched for future in self.made))

    def done(self) -> bool:
        """Whether the input has ended and every task with it."""
        return self.complete and all(future.done() for future in self.made)

    def results(self, timeout: float | None = None, throw_except: bool = True) -> list[Any]:
        """Return every result in input order; raises the first failure in that order.

        Without `throw_except`, a task that failed or was cancelled has None in its place, and a warning in the log.

        Raises
        ------
        TimeoutError
            Not all ended within `timeout` seconds; the job goes on.
        """
        deadline = deadline_of(timeout)
        if deadline is not None and not self.grow(math.inf, timeout):
            raise TimeoutError(f"the input of job {self.job_id} has not ended after {timeout} s; it goes on")
        results = []
        for future in self:
            try:
                results.append(fetch(future, time_left(deadline), throw_except))
            except BaseException:
                self._failed = future.done() and (future.cancelled() or future._exception is not None)
                raise
        return results

    get_result = results

    def wait(self, return_when: ReturnWhen = "ALL", timeout: float | None = None) -> tuple[list[Future], list[Future]]:
        """Wait for tasks; returns (done, not done), each in input order."""
        deadline = deadline_of(timeout)
        if share := share_of(return_when):
            self.grow(1 if share == ANY else math.inf, timeout)
        return wait(self, return_when, time_left(deadline))

    def map(self, fn: Callable[..., Any], **options: Any) -> FutureList:
        """Map another function over the results, each as soon as those before it are there."""
        return self._maps().map(fn, self, **options)

    def map_reduce(self, map_fn: Callable[..., Any], reduce_fn: Callable[..., Any], **options: Any) -> Future:
        """Map another function over the results, and reduce what it returns."""
        return self._maps().map_reduce(map_fn, self, reduce_fn, **options)

    def _maps(self) -> Maps:
        if self._executor is None:
            raise TypeError("these futures belong to no executor; give them to one: executor.map(fn, futures)")
        return self._executor

    def __add__(self, other: Iterable[Future]) -> FutureList:
        """Return the futures of both as one list, once the inputs of both have ended."""
        if not isinstance(other, FutureList | list | tuple):
            return NotImplemented
        return as_list([*self, *other], self._executor)

    def __radd__(self, other: Iterable[Future] | int) -> FutureList:
        """Return the futures of both as one list; ``sum`` of several lists begins with 0."""
        if other != 0 and not isinstance(other, list | tuple):
            return NotImplemented
        return as_list([*(other if isinstance(other, list | tuple) else ()), *self], self._executor)

    def cancel(self) -> bool:
        """Cancel every task that no worker has; returns whether all are cancelled."""
        return all([future.cancel() for future in list(self.made)])

    def __reduce__(self) -> Any:
        return as_list, (self[:], None, self.job_id)

    def __repr__(self) -> str:
        known = "" if self.complete else "at least "
        return f"<FutureList {self.job_id}: {known}{len(self.made)} tasks>"


def as_list(futures: Iterable[Future] | FutureList, executor: Maps | None = None, job_id: str = "") -> FutureList:
    """Return futures as a `FutureList`."""
    if isinstance(futures, FutureList):
        return futures
    known = FutureList(job_id, executor)
    known.extend(futures)
    known.finish()
    return known


def start_all(futures: Iterable[Future]) -> list[bool]:
    """Mark futures as handed to a worker; False for each that has ended, by cancellation or a faster copy."""
    alive = []
    with _transition:
        for future in futures:
            ok = future._state not in _ended
            if ok:
                future._state = RUNNING
            alive.append(ok)
    return alive


_forgotten = Future()
_forgotten.settle(None)


def follow(value: Any, timeout: float | None = None) -> Any:
    """Replace futures in a result by their own results: a task may return futures of a durable job."""
    if isinstance(value, Future):
        return follow(value.result(timeout), timeout)
    if isinstance(value, FutureList):
        return value.results(timeout)
    if type(value) is list and value and isinstance(value[0], Future):
        return [follow(item, timeout) for item in value]
    return value


def fetch(future: Future, timeout: float | None, throw_except: bool = True) -> Any:
    """Return a future's result, followed; without `throw_except`, None in the place of a failure, which is logged."""
    try:
        return follow(future.result(timeout), timeout)
    except Exception as error:
        if throw_except or not future.done():  # its time to wait is over, not the task
            raise
        kind = type(error).__name__
        _logger.warning("task %d of job %s gives None: it failed with %s: %s", future.index, future.job_id, kind, error)
        return None


def wait(
    futures: Iterable[Future] | FutureList | Future, return_when: ReturnWhen = "ALL", timeout: float | None = None
) -> tuple[list[Future], list[Future]]:
    """Wait for futures.

    Parameters
    ----------
    return_when : "ALL", "ANY", "ALWAYS" or int
        Return when all have ended, when one has, at once, or when this percentage has. The constants of Lithops mean
        what they mean there: ``ALL_COMPLETED`` (100), ``ANY_COMPLETED`` (-1) and ``ALWAYS`` (0).
    timeout : float, optional
        Seconds to wait at most; never an error, and the tasks go on.

    Returns
    -------
    (done, not done)
        Two lists in the order given.
    """
    futures = futures.made if isinstance(futures, FutureList) else futures
    known = [futures] if isinstance(futures, Future) else list(futures)
    share = share_of(return_when)
    if share == 100 and timeout is None:
        for future in known:
            with contextlib.suppress(CancelledError):
                if not future.done():
                    future._await(None)
    else:
        await_some(known, 1 if share == ANY else -(-share * len(known) // 100), timeout)
    done = [future for future in known if future.done()]
    ended = set(map(id, done))
    return done, [future for future in known if id(future) not in ended]
