"""The joblib backend: ``import core.joblib``, then ``joblib.parallel_config("fanfold")``.

A large array among the arguments of many calls travels once to each worker, mapped on this machine, and not with every
call; an array that changed between two calls is noticed.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Set
from functools import partial
from typing import Any

import joblib
from joblib.parallel import ParallelBackendBase

from core.errors import ConfigError
from core.executor import FunctionExecutor
from core.futures import Future
from core.job.direct import TARGET
from core.locks import process_lock
from core.pool.shared_arrays import ARRAYS, SharedArrays
from core.serialization.definitions import Definitions
from core.task.arrays import BatchRunner
from core.task.call import Call

GROWTH = 32
"""How many times as many calls a batch may have as the largest measured one.

joblib looks for results every 10 ms: a further round of growing would cost more than an uneven batch."""

Callback = Callable[[Future], object]


class FanfoldBackend(ParallelBackendBase):  # type: ignore[misc]
    """Runs the calls of ``joblib.Parallel`` on an executor.

    Parameters
    ----------
    executor : FunctionExecutor, optional
        The one to use; by default one is made, and kept for further calls with the same settings. ``n_jobs`` says how
        many of its workers are used, -1 all.
    **settings
        Of the executor to be made: ``compute="lambda://..."``, ``workers=``, ``storage=``, ``memory=`` ...
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        executor: FunctionExecutor | None = None,
        *,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        if executor is not None and settings:
            raise ConfigError(f"an executor has its settings; leave out {', '.join(sorted(settings))}")
        self._given, self._settings = executor, settings
        self._calls: _Calls | None = None

    @property
    def _executor(self) -> FunctionExecutor:
        return self._given or _kept_executor(self._settings)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many calls run at the same time: -1 means all workers, -2 all but one."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs == 1:
            return 1
        workers = self._executor.workers
        return min(n_jobs, workers) if n_jobs > 0 else max(1, workers + 1 + n_jobs)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        max_nbytes: int | None = None,
        mmap_mode: str | None = "r",
        **options: Any,
    ) -> int:
        """Make ready for one ``Parallel``."""
        self.parallel = parallel
        at_once = self.effective_n_jobs(n_jobs)
        if at_once > 1:
            largest = None if mmap_mode is None else max_nbytes
            self._calls = _Calls(self._executor, at_once, largest, mmap_mode != "r")
        return at_once

    def start_call(self) -> None:
        """Hear that a call of the ``Parallel`` begins."""
        if self._calls is not None:
            self._calls.start_call()

    def submit(self, func: Any, callback: Callback | None = None) -> None:
        """Run a batch of calls."""
        assert self._calls is not None
        self._calls.submit(func, callback)

    def retrieve_result_callback(self, out: Future) -> Any:
        """Return what a batch returned."""
        return out.result()[0]

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End every batch, those that run by force."""
        if self._calls is not None:
            self._calls.abort()

    def terminate(self) -> None:
        """Let go of what one ``Parallel`` needed; the workers stay."""
        if self._calls is not None:
            self._calls.close()
            self._calls = None

    def compute_batch_size(self) -> int:
        """Return how many calls the next batch has: as many as take `TARGET` seconds, by what workers measured."""
        return 1 if self._calls is None else self._calls.batch_size


class _Calls:
    """The batches of one ``Parallel`` on an executor, at most so many at once."""

    def __init__(self, executor: FunctionExecutor, at_once: int, largest: int | None, writable: bool) -> None:
        self.batch_size = 1
        self._executor, self._launcher = executor, executor._launcher
        self._options = self._launcher.options()
        self._shipped: tuple[Call, Definitions] | None = None
        self._carried: Set[str] = frozenset()
        self._at_once = at_once if at_once < executor.workers else None
        self._arrays = SharedArrays(executor._can.shares_files, largest, writable)
        self._waiting: deque[tuple[Any, Callback | None]] = deque()
        self._running: dict[Future, list[object]] = {}
        self._lock = threading.Lock()
        self._ended: queue.SimpleQueue[tuple[Future, Callback | None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._hear, name="fanfold-joblib", daemon=True).start()

    def submit(self, batch: Any, callback: Callback | None) -> None:
        """Run a batch, now or when it is its turn; whatever becomes of it, `callback` is told."""
        with self._lock:
            if self._at_once is not None and len(self._running) >= self._at_once:
                self._waiting.append((batch, callback))
                return
            held: list[object] = [batch]
            future = self._started(batch, held)
            self._running[future] = held
        future.add_done_callback(lambda _: self._ended.put((future, callback)))

    def start_call(self) -> None:
        """Send what functions refer to anew, and see which arrays have changed."""
        with self._lock:
            self._shipped = None
            self._arrays.start_call()

    def _started(self, batch: Any, held: list[object]) -> Future:
        launcher, carried = self._launcher, dict(self._arrays.carried)
        try:
            self._executor._lifetime.check()
            if self._shipped is None or carried.keys() != self._carried:
                self._carried = carried.keys()
                self._shipped = launcher.ship(BatchRunner(carried), "call", self._options)
            definitions = self._shipped[1]
            definitions.reducers = dict.fromkeys(ARRAYS, partial(self._arrays.reduce, carried, held))
            try:
                return launcher.launch(*self._shipped, [((batch,), {})], self._options)[0]
            finally:
                definitions.reducers = {}
        except Exception as error:
            failed = Future()
            failed.settle(None, error)
            return failed

    def _hear(self) -> None:
        """Tell of ends on a thread of its own: who is told reads the user's generator, which may wait for anything."""
        while (ended := self._ended.get()) is not None:
            future, callback = ended
            with self._lock:
                self._running.pop(future).clear()  # what pickled it still refers to the list
                self._measure(future)
                following = self._waiting.popleft() if self._waiting else None
            if following is not None:
                self.submit(*following)
            if callback is not None:
                callback(future)
            del ended, future, callback, following

    def _measure(self, future: Future) -> None:
        if not future.cancelled() and future.exception() is None:
            results, seconds = future.result()
            if len(results) >= self.batch_size:
                fitting = int(len(results) * TARGET / max(seconds, 1e-6))
                self.batch_size = max(1, min(fitting, len(results) * GROWTH))

    def abort(self) -> None:
        """End what runs, by force, and forget what waits."""
        with self._lock:
            self._waiting.clear()
            running = list(self._running)
        self._executor.cancel(running)

    def close(self) -> None:
        """End the thread, once it has told of all that ended, and let go of copies."""
        self._ended.put(None)
        self._arrays.clear()


_kept: dict[str, FunctionExecutor] = {}
_keeping = process_lock(threading.Lock)


def _kept_executor(settings: dict[str, Any]) -> FunctionExecutor:
    """Return the executor of the last call with these settings, as long as it works: workers stay warm."""
    name = repr((os.getpid(), sorted(settings.items())))
    with _keeping:
        executor = _kept.get(name)
        if executor is None or not executor.is_open:
            _kept.clear()
            executor = _kept[name] = FunctionExecutor(**settings)
        return executor


joblib.register_parallel_backend("fanfold", FanfoldBackend)
