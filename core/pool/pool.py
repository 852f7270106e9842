"""The standard face of an executor: a ``concurrent.futures`` executor and a ``multiprocessing`` pool in one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, Executor
from concurrent.futures import Future as BaseFuture
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self

from core.errors import InputError
from core.futures import Future, FutureList
from core.job.launch import Launcher
from core.pool.results import AsyncResult, Callback, MapResults, OrderedResults, StreamResults, UnorderedResults
from core.task.call import Kind
from core.task.prepare import Prepared, Starred

_NO_KEYWORDS: Mapping[str, Any] = MappingProxyType({})
_CROWDED = 64


class Host(Protocol):
    """What a pool asks of its executor."""

    @property
    def workers(self) -> int:
        """Tasks that run at the same time."""

    def cancel(self, futures: Any = None) -> None:
        """Cancel futures, by force where they run."""


class PoolClosed(RuntimeError, ValueError):
    """The pool takes no more tasks: executors raise that as RuntimeError, pools as ValueError."""


class Pool(Executor):
    """An executor as other software expects one; ``FunctionExecutor.pool`` makes it.

    It has the methods of ``concurrent.futures.Executor`` and those of ``multiprocessing.Pool``. Arguments reach the
    function as they are: no tuple is spread, no text is an address, no parameter is filled. Tasks run on the executor's
    workers, which outlive the pool. Leaving its ``with`` waits for its tasks, or ends them if an exception leaves it.
    """

    def __init__(
        self,
        host: Host,
        launcher: Launcher,
        options: Mapping[str, Any],
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a function, not {type(initializer).__name__}")
        self._host, self._launcher, self._options = host, launcher, options
        self._initializer, self._initargs = initializer, initargs
        self._ident = os.urandom(8).hex()
        self._open = True
        self._broken: str | None = None
        self._work: list[FutureList] = []
        self._crowded = _CROWDED
        self._dropped: deque[FutureList] = deque()

    @property
    def _max_workers(self) -> int:
        return self._host.workers

    _processes = _max_workers  # what multiprocessing.Pool calls it

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run ``fn(*args, **kwargs)``; returns its future."""
        return self._start(fn, "call", [(args, kwargs)])[0]

    def map(  # type: ignore[override]
        self, fn: Callable[..., Any], *iterables: Any, timeout: float | None = None, chunksize: int | None = 1
    ) -> MapResults | list[Any]:
        """Run a function on each item, or on the items of several iterables side by side.

        Both standard forms are understood. ``map(fn, *iterables, timeout=, chunksize=)`` is that of executors: it
        returns at once, and its results can be iterated as they come, and read by index. ``map(fn, iterable,
        chunksize)``, with a number or None in third place, is that of pools: it waits, and returns a list.

        Parameters
        ----------
        fn : callable
        *iterables : iterables
            Read at once; the shortest ends them.
        timeout : float, optional
            Seconds after which iteration raises ``TimeoutError``.
        chunksize : int, optional
            Items sent together; 1 and None mean as many as take about 0.1 s.
        """
        if len(iterables) == 2 and isinstance(iterables[1], int | None):
            return self.map_async(fn, *iterables).get()  # type: ignore[no-any-return]
        if len(iterables) != 1:
            fn, iterables = Starred(fn), (zip(*iterables, strict=False),)
        futures = self._start(fn, "value", list(iterables[0]), chunksize)
        return MapResults(futures, timeout, self._dropped)

    def starmap(
        self, fn: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """Run a function on each item, whose elements are its arguments; returns the results."""
        return self.starmap_async(fn, iterable, chunksize).get()  # type: ignore[no-any-return]

    def apply(self, fn: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] = _NO_KEYWORDS) -> Any:
        """Run ``fn(*args, **kwds)`` in a worker; returns its result."""
        return self.submit(fn, *args, **kwds).result()

    def apply_async(
        self,
        fn: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = _NO_KEYWORDS,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """Run ``fn(*args, **kwds)`` in a worker; returns at once."""
        futures = self._start(fn, "call", [(tuple(args), dict(kwds))])
        return AsyncResult(futures, True, callback, error_callback)

    def map_async(
        self,
        fn: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """Run a function on each item; returns at once."""
        futures = self._start(fn, "value", list(iterable), chunksize)
        return AsyncResult(futures, False, callback, error_callback)

    def starmap_async(
        self,
        fn: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """Run a function on each item, whose elements are its arguments; returns at once."""
        return self.map_async(Starred(fn), iterable, chunksize, callback, error_callback)

    def imap(self, fn: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None) -> StreamResults:
        """Run a function on each item, read as workers need it; iterates over the results in order."""
        return OrderedResults(self._start(fn, "value", iter(iterable), chunksize))

    def imap_unordered(
        self, fn: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> StreamResults:
        """Run a function on each item, read as workers need it; iterates over the results as they come."""
        return UnorderedResults(self._start(fn, "value", iter(iterable), chunksize))

    def close(self) -> None:
        """Take no more tasks; those that were given are run."""
        self._open = False

    def terminate(self) -> None:
        """Take no more tasks, cancel those that wait, and end those that run."""
        self._open = False
        for futures in self._unfinished():
            self._host.cancel(futures)

    def join(self) -> None:
        """Wait until every task has ended; ``ValueError`` before `close` or `terminate`."""
        if self._open:
            raise ValueError("the pool is still open; close or terminate it first")
        self.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks.

        Parameters
        ----------
        wait : bool
            Return when every task has ended.
        cancel_futures : bool
            Cancel the tasks that wait; those that run go on.
        """
        self._open = False
        self._cancel_dropped()
        unfinished = self._unfinished()
        for futures in unfinished if cancel_futures else ():
            futures.cancel()
        for futures in unfinished if wait else ():
            futures.wait()

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.terminate()
        self.shutdown()

    def __reduce__(self) -> Any:
        raise TypeError("a pool cannot be sent to workers; make one of an executor inside the function")

    def _check(self) -> None:
        if self._broken is not None:
            raise BrokenExecutor(self._broken)
        if not self._open:
            raise PoolClosed("the pool is closed; make another with executor.pool()")

    def _start(
        self, fn: Callable[..., Any], kind: Kind, data: Iterable[Any], chunksize: int | None = None
    ) -> FutureList:
        self._check()
        if not callable(fn):
            raise TypeError(f"{type(fn).__name__} {fn!r:.60} is not callable")
        if chunksize is not None and chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, not {chunksize}")
        self._cancel_dropped()
        if self._initializer is not None:
            fn = Prepared(fn, self._initializer, self._initargs, self._ident)
        size = chunksize if chunksize != 1 else None
        try:
            futures = self._launcher.start(fn, kind, data, batch_size=size, **self._options)
        except InputError as error:  # of the serial backend, which reads all input first
            raise error.__cause__ or error from None
        if len(self._work) >= self._crowded:
            self._work = self._unfinished()
            self._crowded = max(_CROWDED, 2 * len(self._work))
        self._work.append(futures)
        if self._initializer is not None and futures.complete:
            for future in futures:
                future.add_done_callback(self._look)
        return futures

    def _look(self, future: BaseFuture[Any]) -> None:
        """Break as other executors do when an initializer has failed."""
        error = None if future.cancelled() else future.exception()
        if isinstance(error, BrokenExecutor):
            self._broken = str(error)

    def _unfinished(self) -> list[FutureList]:
        return [futures for futures in self._work if not futures.done()]

    def _cancel_dropped(self) -> None:
        while self._dropped:
            self._dropped.popleft().cancel()
