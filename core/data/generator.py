"""Reads a job's input from a generator, at the pace of the workers."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from typing import Any

from core.errors import InputError
from core.futures import Future, FutureList, Owner


class GeneratorReader:
    """Reads a generator on a thread of its own, never further ahead than was asked for."""

    def __init__(self, iterable: Iterable[Any], futures: FutureList, owner: Owner, wake: Callable[[], None]) -> None:
        self.items: deque[Any] = deque()
        self.exhausted = False
        self._futures = futures
        self._owner = owner
        self._want = 1
        self._wake = wake
        self._stopped = False
        self._changed = threading.Condition()
        self._iterator = iter(iterable)
        self._thread = threading.Thread(target=self._read, name="fanfold-feed", daemon=True)
        self._thread.start()

    def want(self, count: int) -> None:
        """Have `count` items ready."""
        if count > self._want or len(self.items) < count:
            with self._changed:
                self._want = count
                self._changed.notify()

    def stop(self, error: BaseException | None = None) -> None:
        """Read no further, and wait for nothing: the generator may be waiting itself."""
        with self._changed:
            if not self.exhausted:
                self._stopped = self.exhausted = True
                self._futures.finish(error or CancelledError("the job was cancelled before its input had ended"))
            self._changed.notify()

    def _read(self) -> None:
        index = 0
        error: BaseException | None = None
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or len(self.items) < self._want)
                    count = max(1, self._want - len(self.items))
                for item in itertools.islice(self._iterator, count):
                    item = result_of(item)
                    with self._changed:
                        if self._stopped:
                            return
                        self._futures.extend([Future(self._owner, index)])
                        self.items.append(item)
                    if len(self.items) <= 1:  # counted after the append: the workers may just have emptied it
                        self._wake()
                    index += 1
                    count -= 1
                if count > 0:
                    break
        except BaseException as cause:
            error = _broken(self._owner.job_id, cause, index, "the tasks of those items go on")
        with self._changed:
            if self._stopped:
                return
            self.exhausted = True
        self._futures.finish(error)
        self._wake()


def read_all(iterable: Iterable[Any], job_id: str) -> list[Any]:
    """Return all items, and results in the place of futures.

    Raises
    ------
    InputError
        The iterable raised.
    """
    items: list[Any] = []
    try:
        for item in iterable:
            items.append(result_of(item))
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
