"""How a backend waits: one mailbox for what others put before it, one back-off for what does not go through now."""

from __future__ import annotations

import math
import queue
import random
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from core.errors import FanfoldError

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Takes what is put by any thread, and gives it to the one that polls."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[list[T]] = queue.SimpleQueue()
        self._failure: FanfoldError | None = None

    def put(self, item: T) -> None:
        """Add an item; the poll that waits returns it."""
        self._queue.put([item])

    def wake(self) -> None:
        """End a poll that waits."""
        self._queue.put([])

    def fail(self, error: FanfoldError) -> None:
        """Have every poll raise an error, once what came before it is taken; the first error counts."""
        self._failure = self._failure or error
        self.wake()

    def poll(self, timeout: float | None) -> list[T]:
        """Return all that is there, waiting up to `timeout` seconds for the first.

        Raises
        ------
        FanfoldError
            What it was told to fail with.
        """
        found: list[T] = []
        try:
            found += self._queue.get(timeout=timeout)
            while True:
                found += self._queue.get_nowait()
        except queue.Empty:
            pass
        if self._failure is not None and not found:
            raise self._failure
        return found


class Backoff:
    """Pauses between attempts: each longer than the one before, until somebody else should decide.

    Parameters
    ----------
    least, most : float
        Seconds of the first pause, and of the longest.
    factor : float
        How much longer each pause is.
    jitter : float
        Share of a pause that chance may take away: many that wait for one service do not come together.
    timeout : float
        Seconds after which it `is_over`, counted from the last `reset` or `hear`.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(
        self,
        least: float,
        most: float,
        factor: float = 2.0,
        jitter: float = 0.0,
        timeout: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._least, self._most, self._factor, self._jitter = least, most, factor, jitter
        self._timeout, self._clock = timeout, clock
        self._pause, self._began = least, clock()

    def reset(self) -> None:
        """Begin anew: something went through."""
        self.hasten()
        self.hear()

    def hasten(self) -> None:
        """Make the next pause the shortest; the time until it is over goes on."""
        self._pause = self._least

    def hear(self) -> None:
        """Count the time until it is over from now; the pauses grow on."""
        self._began = self._clock()

    def next(self, asked: float = 0.0) -> float:
        """Return the seconds to wait now: at least as many as the other side `asked` for, up to the timeout."""
        pause = self._pause * (1 - self._jitter * random.random())
        self._pause = min(self._factor * self._pause, self._most)
        return max(pause, min(asked, self._timeout))

    @property
    def is_over(self) -> bool:
        """Whether nothing went through for as long as one can wait."""
        return self._clock() - self._began > self._timeout
