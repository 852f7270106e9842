"""How batches become Dask tasks: short ones in lots, large ones in threads of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from core.compute.remote.courier import Recent
from core.task.protocol import Invocation

LOT = 8
"""Short batches that go as one Dask task."""

SHORT = 0.005
"""Seconds that a lot may take to run: several times what Dask itself needs for a task."""

SCATTERED = 1 << 20
"""Requests of more bytes go to a Dask worker as data of their own, not within the task."""

CARRIERS = 4
"""Large requests and replies that travel at the same time."""

TIMES_ALONE = 2
"""Times that a batch is sent alone before the end of the workers that had it counts against it, unless it began."""


@dataclass(slots=True, eq=False)
class Flight:
    """A batch at the scheduler.

    `key` names it there, `future` is Dask's, `place` that of the batch in its lot, `is_alone` says that nothing else is
    in it; `is_fetched` says that the reply is being asked for, `began` that a worker said it begins.
    """

    key: str
    invocation: Invocation
    sent_at: float
    place: int = 0
    is_alone: bool = True
    future: Any = None
    is_fetched: bool = False
    began: bool = False


class Lots:
    """Batches that wait to be sent, and which of them go together: those of functions that are quick, so far."""

    def __init__(self) -> None:
        self._pending: list[Invocation] = []
        self._alone: dict[int, int] = {}
        self._means: Recent[float] = Recent()

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, invocation: Invocation) -> None:
        """Have a batch wait."""
        self._pending.append(invocation)

    def add_alone(self, invocation: Invocation) -> None:
        """Have a batch wait that is to share no Dask task: what ended the last one may have been another."""
        self._alone[invocation.batch_id] = self._alone.get(invocation.batch_id, 0) + 1
        self._pending.append(invocation)

    def was_alone(self, batch_id: int) -> bool:
        """Whether a batch was sent alone often enough to be told from its neighbours."""
        return self._alone.get(batch_id, 0) >= TIMES_ALONE

    def remove(self, batch_id: int) -> bool:
        """Take a batch back; False if it does not wait."""
        before = len(self._pending)
        self._pending = [invocation for invocation in self._pending if invocation.batch_id != batch_id]
        return len(self._pending) < before

    def size(self) -> int:
        """Return how many of the waiting batches may go together."""
        slowest = max((self._means.get(invocation.call_hash, SHORT) for invocation in self._pending), default=SHORT)
        return max(1, min(LOT, int(SHORT / max(slowest, 1e-9))))

    def take(self) -> list[list[Invocation]]:
        """Return all that waits, in the groups that go together."""
        size = self.size()
        alone = [[invocation] for invocation in self._pending if invocation.batch_id in self._alone]
        short = [invocation for invocation in self._pending if invocation.batch_id not in self._alone]
        self._pending = []
        return alone + [short[at : at + size] for at in range(0, len(short), size)]

    def settle(self, batch_id: int) -> None:
        """Hear that a batch is done with."""
        self._alone.pop(batch_id, None)

    def learn(self, call_hash: str, seconds: float) -> None:
        """Hear how long a batch of a function ran: one that is slow ends the lots."""
        self._means.use(call_hash, max(seconds, 0.8 * self._means.get(call_hash, SHORT)))


class Carriers:
    """Threads that carry what is too large for the driver's own, and the large functions that the cluster holds."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._threads = ThreadPoolExecutor(CARRIERS, thread_name_prefix="fanfold-dask")
        self._functions: Recent[Any] = Recent()
        self._scattering = threading.Lock()

    def start(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have a thread do something that takes its time."""
        self._threads.submit(work, *arguments)

    def data(self, message: bytes) -> Any:
        """Return a request as it goes into a Dask task, a large one as data of the cluster."""
        return message if len(message) <= SCATTERED else self._client.scatter(message, hash=False)

    def function(self, invocation: Invocation) -> Any:
        """Return a large function as data of the cluster, which moves it to each worker once."""
        with self._scattering:
            held = self._functions.get(invocation.call_hash) or self._client.scatter(invocation.call, hash=False)
            self._functions.use(invocation.call_hash, held)
            return held

    def forget(self, call_hash: str) -> None:
        """Let the cluster drop a large function, or send it anew: it may be lost with the worker that had it."""
        with self._scattering:
            self._functions.pop(call_hash, None)

    def close(self) -> None:
        """Carry no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._functions.clear()
