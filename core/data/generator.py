"""Reads a job's input from a generator, at the pace of the workers."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from typing import Any

from core import serialization
from core.errors import InputError
from core.futures import Future, FutureList, Owner
from core.serialization.definitions import Definitions

AHEAD_BYTES = 64 << 20
"""Items that are read ahead stop here: what two batches carry at most."""

_BOOKKEEPING = 256
"""Bytes that an item has beside its pickle, about."""


class GeneratorReader:
    """Reads a generator on a thread of its own, never further ahead than was asked for.

    An item is taken as it is when the generator yields it, for the generator may use its memory again.
    """

    def __init__(
        self,
        iterable: Iterable[Any],
        futures: FutureList,
        owner: Owner,
        wake: Callable[[], None],
        definitions: Definitions,
    ) -> None:
        self.items: deque[Any] = deque()
        self.exhausted = False
        self._futures = futures
        self._owner = owner
        self._packing = serialization.Packing(definitions)
        self._want = 1
        self._bytes = 0
        self._wake = wake
        self._stopped = False
        self._changed = threading.Condition()
        self._iterator = iter(iterable)
        self._thread = threading.Thread(target=self._read, name="fanfold-feed", daemon=True)
        self._thread.start()

    def take(self, count: int, ahead: int) -> list[Any]:
        """Return up to `count` items; have `ahead` ready for the next time, as far as they fit."""
        with self._changed:
            taken = [self.items.popleft() for _ in range(min(count, len(self.items)))]
            self._bytes -= sum(map(_size, taken))
            self._want = ahead
            if self._has_room():
                self._changed.notify()
        return taken

    def _has_room(self) -> bool:
        return len(self.items) < self._want and self._bytes < AHEAD_BYTES

    def stop(self, error: BaseException | None = None) -> None:
        """Read no further, and wait for nothing: the generator may be waiting itself."""
        with self._changed:
            if not self.exhausted:
                self._stopped = self.exhausted = True
                self._futures.finish(error or CancelledError("the job was cancelled before its input had ended"))
            self._changed.notify()

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            while self._read_some():
                pass
        except BaseException as cause:
            error = _broken(self._owner.job_id, cause, len(self._futures.made), "the tasks of those items go on")
        with self._changed:
            if self._stopped:
                return
            self.exhausted = True
        self._futures.finish(error)
        self._wake()

    def _read_some(self) -> bool:
        """Read what is wanted, once something is; returns False if there is no more to read."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._has_room())
            if self._stopped:
                return False
            wanted = self._want - len(self.items)
        read = 0
        for item in itertools.islice(self._iterator, wanted):
            read += 1
            if not self._add(item):
                break
        else:
            return read == wanted and not self._stopped
        return not self._stopped

    def _add(self, item: Any) -> bool:
        """Take an item; returns whether another would fit."""
        item = kept(item, self._packing)
        with self._changed:
            if self._stopped:
                return False
            self._futures.extend([Future(self._owner, len(self._futures.made))])
            self.items.append(item)
            self._bytes += _size(item)
        if len(self.items) <= 1:  # counted after the append: the workers may just have emptied it
            self._wake()
        return self._bytes < AHEAD_BYTES


def _size(item: Any) -> int:
    if type(item) is serialization.Packed:
        return item.nbytes
    return len(item) if type(item) in (str, bytes) else 0


def kept(item: Any, packing: serialization.Packing) -> Any:
    """Return an item, or the result of the future that stands for it, as it is now, whatever becomes of it."""
    item = result_of(item)
    return item if type(item) is FailedInput else packing.snapshot(item)


def taken_now(items: list[Any], definitions: Definitions) -> list[Any]:
    """Return items as they are now, as far as copies of those that may change fit into `AHEAD_BYTES`."""
    packing, room = serialization.Packing(definitions), AHEAD_BYTES
    taken: list[Any] = []
    for item in items:
        if room < 0:
            return taken + items[len(taken) :]
        taken.append(kept(item, packing))
        if type(taken[-1]) is serialization.Packed:
            room -= taken[-1].nbytes + _BOOKKEEPING
    return taken


def read_all(iterable: Iterable[Any], job_id: str, definitions: Definitions) -> Sequence[Any]:
    """Return all items, each as it is when it is read, and results in the place of futures.

    Raises
    ------
    InputError
        The iterable raised.
    """
    if isinstance(iterable, Sequence):
        return [result_of(item) for item in iterable]
    items: list[Any] = []
    packing = serialization.Packing(definitions)
    try:
        for item in iterable:
            items.append(kept(item, packing))
    except Exception as cause:
        raise _broken(job_id, cause, len(items), "nothing was run") from cause
    return items


def _broken(job_id: str, cause: BaseException, count: int, what: str) -> InputError:
    error = InputError(f"the data of job {job_id} raised {type(cause).__name__} after {count} items: {cause}; {what}")
    error.__cause__ = cause
    return error


class FailedInput:
    """Stands for an item that another job failed to make."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def result_of(item: Any) -> Any:
    """Return an item, or the result of the future that stands for it."""
    if not isinstance(item, Future):
        return item
    try:
        return item.result()
    except CancelledError:
        return FailedInput(InputError("the task whose result this task needs was cancelled"))
    except Exception as error:
        return FailedInput(error)
