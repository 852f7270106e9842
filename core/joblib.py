"""The joblib backend: ``import core.joblib``, then ``joblib.parallel_config("fanfold")``.

A large array among the arguments of many calls travels once to each worker, mapped on this machine, and not with every
call; an array that changed between two calls is noticed.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import operator
import os
import queue
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import joblib
import numpy as np
from joblib.parallel import ParallelBackendBase

from core import serialization
from core.definitions import Definitions
from core.errors import ConfigError
from core.executor import FunctionExecutor
from core.futures import Future
from core.job.direct import GROWTH, TARGET
from core.task.arrays import HEAD, BatchRunner, FileArray, carried_array, open_array, rebuild
from core.task.call import Call

Callback = Callable[[Future], object]
Array = np.ndarray[Any, Any]

_KINDS = (np.ndarray, np.memmap)


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
        self._executor, self._options = executor, executor._options()
        self._shipped: tuple[Call, Definitions] | None = None
        self._carried: Set[str] = frozenset()
        self._at_once = at_once if at_once < executor.workers else None
        self._arrays = _SharedArrays(executor._can.shares_files, largest, writable)
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
        executor, carried = self._executor, dict(self._arrays.carried)
        try:
            executor._lifetime.check()
            if self._shipped is None or carried.keys() != self._carried:
                self._carried = carried.keys()
                self._shipped = executor._ship(BatchRunner(carried), "call", self._options)
            definitions = self._shipped[1]
            definitions.reducers = dict.fromkeys(_KINDS, partial(self._arrays.reduce, carried, held))
            try:
                return executor._launch(*self._shipped, [((batch,), {})], self._options)[0]
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


class _SharedArrays:
    """Decides how each large array travels.

    On this machine as a mapping of a copy in shared memory; elsewhere with the function from its second batch on.

    Parameters
    ----------
    local : bool
        The workers see the files and descriptors of this process.
    largest : int, optional
        Bytes from which an array is large; None means that none is.
    writable : bool
        Tasks may write to their own copies of arrays.
    """

    def __init__(self, local: bool, largest: int | None, writable: bool) -> None:
        self._local, self._largest, self._writable = local, largest, writable
        self._seen: dict[int, _Known] = {}
        self.carried: dict[str, Array] = {}

    def start_call(self) -> None:
        """Trust no copy any more: between two calls arrays may have been written to.

        Within one they cannot, to any effect that joblib promises: it reads calls ahead of sending them.
        """
        for known in list(self._seen.values()):
            known.is_current = False
        self.carried.clear()

    def clear(self) -> None:
        """Let go of every copy that no batch under way needs."""
        self._seen.clear()
        self.carried.clear()

    def reduce(self, carried: Mapping[str, Array], held: list[object], value: Array) -> Any:
        """Return what an array of a batch is pickled as.

        Parameters
        ----------
        carried : mapping
            What travels with the function of this batch.
        held : list
            Takes what must live until the batch has ended.
        """
        root = _mapped_file(value) if self._local and value.size else None
        if root is not None:
            return open_array, (_in_file(value, root),)
        is_large = self._largest is not None and value.nbytes >= self._largest and not value.dtype.hasobject
        if type(value) is np.memmap or not is_large:
            return value.__reduce_ex__(5)
        known = self._known(value)
        if known.copy is not None:
            held.append(known.copy)
            return open_array, (known.copy.where(self._writable),)
        if known.name in carried:
            return carried_array, (known.name, self._writable)
        if known.sent:
            self.carried[known.name] = value
        known.sent = True
        return rebuild, (self._writable, *value.__reduce_ex__(5)[:3])

    def _known(self, array: Array) -> _Known:
        ident = id(array)
        known = self._seen.get(ident)
        if known is None or known.reference() is not array:
            known = self._seen[ident] = _Known(weakref.ref(array, lambda _: self._seen.pop(ident, None)))
        if not known.is_current and self._local and not (known.copy is not None and known.copy.equals(array)):
            known.copy = _Copy(array)
        if not known.is_current and not self._local:
            known.name = serialization.content_hash(_in_order(array).data.cast("B"))
        known.is_current = True
        return known


@dataclass(slots=True, eq=False)
class _Known:
    """A large array that was seen: its copy here, or what it is called elsewhere, as of the current call."""

    reference: weakref.ref[Any]
    copy: _Copy | None = None
    name: str = ""
    is_current: bool = False
    sent: bool = False


class _Copy:
    """A copy of an array in shared memory, which lives as long as this object."""

    def __init__(self, array: Array) -> None:
        flat = _in_order(array)
        self._name = os.urandom(16)
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("fanfold-array", os.MFD_CLOEXEC)
            self._path = f"/proc/{os.getpid()}/fd/{descriptor}"
            weakref.finalize(self, os.close, descriptor)
        else:
            descriptor, self._path = tempfile.mkstemp(prefix="fanfold-array-")
            weakref.finalize(self, _remove, descriptor, self._path)
        os.ftruncate(descriptor, HEAD + flat.nbytes)
        mapped = mmap.mmap(descriptor, HEAD + flat.nbytes)
        mapped[: len(self._name)] = self._name
        self._data: Array = np.ndarray(flat.shape, flat.dtype, mapped, HEAD)
        self._data[...] = flat
        self._shape, self._strides = array.shape, _strides(array)

    def equals(self, array: Array) -> bool:
        """Whether an array has the same shape, and the same bytes."""
        flat = _in_order(array)
        if (array.shape, _strides(array), array.dtype) != (self._shape, self._strides, self._data.dtype):
            return False
        return not _memcmp(flat.ctypes.data, self._data.ctypes.data, flat.nbytes)

    def where(self, writable: bool) -> FileArray:
        """Return what a worker opens."""
        data, writes = self._data, "copy" if writable else "no"
        return FileArray(self._path, HEAD, data.nbytes, 0, data.dtype, self._shape, self._strides, self._name, writes)


_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


def _remove(descriptor: int, path: str) -> None:
    os.close(descriptor)
    os.unlink(path)


def _in_order(array: Array) -> Array:
    """Return an array's elements in the order of a copy, without copying where they are contiguous."""
    return array.T if array.flags.f_contiguous else np.ascontiguousarray(array)


def _strides(array: Array) -> tuple[int, ...]:
    """Return the strides of a contiguous copy: those of the array itself where it is contiguous."""
    if array.flags.forc:
        return array.strides
    steps = itertools.accumulate(reversed(array.shape[1:]), operator.mul, initial=array.itemsize)
    return tuple(steps)[::-1]


def _mapped_file(array: Array) -> np.memmap[Any, Any] | None:
    """Return the mapping of a file that an array is a view of, if another process sees the same bytes there."""
    root: Any = array
    while isinstance(root, np.ndarray):
        base: Any = root.base
        if isinstance(root, np.memmap) and isinstance(base, mmap.mmap):
            return root if root.filename is not None and root.mode in ("r", "r+", "w+") else None
        root = base
    return None


def _in_file(array: Array, root: np.memmap[Any, Any]) -> FileArray:
    reach = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    before = -sum(min(0, step) for step in reach)
    length = before + sum(max(0, step) for step in reach) + array.itemsize
    offset = root.offset + array.ctypes.data - root.ctypes.data - before
    path = os.path.abspath(str(root.filename))
    writes = "no" if root.mode == "r" else "file"
    return FileArray(path, offset, length, before, array.dtype, array.shape, array.strides, b"", writes)


_kept: dict[str, FunctionExecutor] = {}
_keeping = threading.Lock()


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
