"""What the methods of a pool return: iterators and handles in the sense of the standard library."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import queue
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any, NoReturn

from core.futures import Future, FutureList

Callback = Callable[[Any], object] | None

_logger = logging.getLogger("fanfold")


class PoolTimeout(multiprocessing.TimeoutError, TimeoutError):
    """A result did not come in time: a ``multiprocessing.TimeoutError``, as of pools, and one of the language."""


class MapResults(Iterator[Any]):
    """The results of a ``map``, in the order of its input.

    An iterator, as ``concurrent.futures`` returns: what was read is let go of, and what has not begun is cancelled when
    a task fails, time runs out or the iterator is dropped. ``len`` and an index read it as numpy reads a list.

    Parameters
    ----------
    futures : FutureList
        Complete.
    timeout : float, optional
        Seconds from now after which `PoolTimeout` is raised.
    dropped : deque
        Takes futures that nobody will read.
    """

    def __init__(self, futures: FutureList, timeout: float | None, dropped: deque[FutureList]) -> None:
        self._futures, self._dropped = futures, dropped
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._next = 0

    def __len__(self) -> int:
        return len(self._futures)

    def __getitem__(self, index: int) -> Any:
        position = range(len(self))[index]
        if position < self._next:
            raise RuntimeError(f"result {position} was read by iteration and let go of; keep list(...) of the results")
        return self._result(position)

    def __next__(self) -> Any:
        """Return the next result."""
        if self._next == len(self):
            raise StopIteration
        result = self._result(self._next)
        self._futures.release(self._next)
        self._next += 1
        return result

    def _result(self, index: int) -> Any:
        future = self._futures.made[index]
        try:
            return future.result(_left(self._deadline))
        except BaseException as error:
            self._futures.cancel()
            self._next = len(self)
            if isinstance(error, TimeoutError) and not future.done():
                raise PoolTimeout(f"the result of item {index} did not come in time") from None
            raise

    def __del__(self) -> None:
        if 0 < self._next < len(self._futures.made):  # cancelling takes locks, which may be held where this is called
            self._dropped.append(self._futures)


class StreamResults(Iterator[Any]):
    """The results of an ``imap``. One that failed is raised in its turn, and the others follow."""

    def __init__(self, futures: FutureList) -> None:
        self._futures = futures
        self._given = 0

    def __next__(self) -> Any:
        """Return the next result."""
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result; ``PoolTimeout`` if none comes within `timeout` seconds."""
        future = self._take(_deadline(timeout))
        self._given += 1
        self._futures.release(future.index)
        return future.result()

    @abstractmethod
    def _take(self, deadline: float | None) -> Future:
        """Return the next future that has ended."""

    def _end(self) -> NoReturn:
        """End as the input ended."""
        try:
            len(self._futures)
        except Exception as error:
            raise error.__cause__ or error from None
        raise StopIteration


class OrderedResults(StreamResults):
    """The results of an ``imap``, in the order of its input."""

    def _take(self, deadline: float | None) -> Future:
        if not self._futures.grow(self._given + 1, _left(deadline)):
            raise PoolTimeout("the input gave no item in time")
        if self._given == len(self._futures.made):
            self._end()
        future = self._futures.made[self._given]
        if not _has_ended(future, deadline):
            raise PoolTimeout(f"the result of item {future.index} did not come in time")
        return future


class UnorderedResults(StreamResults):
    """The results of an ``imap_unordered``, as they come."""

    def __init__(self, futures: FutureList) -> None:
        super().__init__(futures)
        self._ended: queue.SimpleQueue[Future | int] = queue.SimpleQueue()
        self._total: int | None = None
        threading.Thread(target=self._listen, name="fanfold-imap", daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(Exception):  # the input's own, which `_end` raises
            for future in self._futures:
                future.add_done_callback(self._ended.put)  # type: ignore[arg-type]
        self._ended.put(len(self._futures.made))

    def _take(self, deadline: float | None) -> Future:
        while self._given != self._total:
            try:
                ended = self._ended.get(timeout=_left(deadline))
            except queue.Empty:
                raise PoolTimeout("no result came in time") from None
            if isinstance(ended, Future):
                return ended
            self._total = ended
        self._end()


class AsyncResult:
    """The result of one call, or of all calls of a map, as ``multiprocessing.Pool`` hands it out.

    Parameters
    ----------
    futures : FutureList
        Complete.
    single : bool
        It is that of one call.
    callback, error_callback : callable, optional
        Called with the result or the exception, on a thread of the executor, before `get` returns.
    """

    def __init__(
        self, futures: FutureList, single: bool, callback: Callback = None, error_callback: Callback = None
    ) -> None:
        self._futures, self._single = futures, single
        self._callbacks = (callback, error_callback)
        self._told: threading.Event | None = None
        if callback is None and error_callback is None:
            return
        self._told = threading.Event()
        if single:
            futures[0].add_done_callback(self._tell)
        else:
            threading.Thread(target=self._tell, name="fanfold-callback", daemon=True).start()

    def get(self, timeout: float | None = None) -> Any:
        """Return the result or raise the first failure; ``PoolTimeout`` if it takes longer than `timeout` seconds."""
        self.wait(timeout)
        if not self.ready():
            raise PoolTimeout(f"the result did not come within {timeout} s")
        return self._value()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the result, at most `timeout` seconds."""
        if self._told is None:
            self._futures.wait(timeout=timeout)
        else:
            self._told.wait(timeout)

    def ready(self) -> bool:
        """Whether every call has ended."""
        return self._futures.done() if self._told is None else self._told.is_set()

    def successful(self) -> bool:
        """Whether no call failed; ``ValueError`` while they go on."""
        if not self.ready():
            raise ValueError(f"{self!r} is not ready")
        return not any(future.cancelled() or future.exception() for future in self._futures)

    def _value(self) -> Any:
        return self._futures.made[0].result() if self._single else [future.result() for future in self._futures]

    def _tell(self, _: object = None) -> None:
        assert self._told is not None
        callback, error_callback = self._callbacks
        try:
            try:
                value = self._value()
            except (Exception, CancelledError) as error:
                callback, value = error_callback, error
            if callback is not None:
                callback(value)
        except Exception:
            _logger.exception("a callback of the pool raised")
        finally:
            self._told.set()


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _has_ended(future: Future, deadline: float | None) -> bool:
    with contextlib.suppress(TimeoutError, CancelledError):
        future.exception(_left(deadline))
    return future.done()
