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


class Feed:
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

    def stop(self) -> None:
        """Read no further."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _is_stopped(self) -> bool:
        return self._stopped

    def _read(self) -> None:
        index = 0
        error: BaseException | None = None
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or len(self.items) < self._want)
                    count = max(1, self._want - len(self.items))
                starved = not self.items
                for item in itertools.islice(self._iterator, count):
                    item = result_of(item)
                    self._futures.extend([Future(self._owner, index)])
                    self.items.append(item)
                    index += 1
                    if starved:
                        self._wake()
                        starved = False
                    count -= 1
                    if self._is_stopped():
                        break
                if count > 0 or self._is_stopped():
                    break
        except BaseException as cause:
            error = InputError(
                f"the data of job {self._owner.job_id} raised {type(cause).__name__} after {index} items: {cause}; "
                "the tasks of those items go on"
            )
            error.__cause__ = cause
        self.exhausted = True
        self._futures.finish(error)
        self._wake()


class Upstream:
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
        return Upstream(InputError("the task whose result this task needs was cancelled"))
    except Exception as error:
        return Upstream(error)
