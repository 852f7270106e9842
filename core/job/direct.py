"""Forms batches of the right size from a job's items, and sends lost tasks again."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from core import serialization
from core.data.generator import FailedInput, GeneratorReader, read_all
from core.futures import Future, FutureList, start_all
from core.job.job import Batch, Job
from core.job.options import Options
from core.serialization.definitions import Definitions
from core.task.protocol import BatchLost, BatchResult

TARGET = 0.1
"""Seconds of measured work in a batch: long against the cost of sending it, short against the wait for its results."""

AMORTISED = 10
"""A batch should take this many times what sending it costs, where that is more than `TARGET`."""

GROWTH = 8
"""A batch is at most this many times the largest that was measured: the first tasks may be untypically quick."""

BATCH_BYTES = 32 << 20
"""Inputs of a batch stop here, and so do its expected results."""

_WHILE_GROWING = 2
"""Batches per worker under way while their size is still being found."""

READ_AHEAD = 2
"""Batches per worker that are read from a generator before they are needed."""


@dataclass(slots=True)
class _Tasks:
    """Tasks to be sent."""

    task_ids: Sequence[int]
    items: Sequence[Any]
    attempts: int
    memory: int | None

    def part(self, start: int, end: int | None) -> _Tasks:
        return _Tasks(self.task_ids[start:end], self.items[start:end], self.attempts, self.memory)


class _Owner:
    """What the futures of a job know of it; a job that has ended is let go, however long they are held."""

    __slots__ = ("job", "job_id")

    def __init__(self, job: DirectJob) -> None:
        self.job_id = job.job_id
        self.job: DirectJob | None = job

    def notice_cancel(self) -> None:
        """Hear that a future was cancelled. Called from any thread."""
        if (job := self.job) is not None:
            job.notice_cancel()

    def reference(self, index: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Refuse: results of this job exist in this process only."""
        raise TypeError("only futures of a durable job can be pickled; pass durable=True, or return results")


class DirectJob(Job):
    """A job whose inputs and results travel with the calls.

    Parameters
    ----------
    data : sequence or other iterable
        A sequence is read by index; anything else by a `GeneratorReader`, never far ahead of the workers.
    inline : bool
        The backend runs tasks in the calling thread, so no other thread may read the input.
    """

    __slots__ = (
        *("_bytes", "_cost", "_count", "_feed", "_items", "_largest", "_mean"),
        *("_owner", "_position", "_redo"),
    )

    def __init__(
        self,
        job_id: str,
        name: str,
        definitions: Definitions,
        data: Iterable[Any],
        options: Options,
        futures: FutureList,
        inline: bool,
    ) -> None:
        super().__init__(job_id, name, definitions, options, futures)
        self._owner = _Owner(self)
        self._redo: deque[_Tasks] | None = None
        self._mean: float | None = None
        self._cost = math.inf
        self._largest = 1
        self._bytes = 0.0
        self._position = 0
        self._feed: GeneratorReader | None = None
        self._items: Sequence[Any] = ()
        self._count = 0
        if isinstance(data, Sequence) or inline:
            self._items = data if isinstance(data, Sequence) else read_all(data, job_id, definitions)
            self._count = len(self._items)
            futures.extend([Future(self._owner, i) for i in range(self._count)])
            futures.finish()
        else:
            self._feed = GeneratorReader(data, futures, self._owner, lambda: self.stir(self), definitions)

    @property
    def total(self) -> int | None:  # type: ignore[override]
        """Number of tasks, None while the input goes on."""
        if self._feed is None:
            return self._count
        return len(self.futures.made) if self._feed.exhausted else None

    @property
    def idle(self) -> bool:  # type: ignore[override]
        """Whether nothing is left to send."""
        if self._redo or self._position < len(self._items):
            return False
        return self._feed is None or (self._feed.exhausted and not self._feed.items)

    @property
    def _is_growing(self) -> bool:
        """Whether batches are small for want of measurements: then few are sent ahead."""
        if self.options.batch_size is not None:
            return False
        return self._mean is None or self._largest * GROWTH * self._mean < self._target

    @property
    def _target(self) -> float:
        """Seconds of work that a batch should have."""
        return TARGET if self._cost == math.inf else max(TARGET, AMORTISED * self._cost)

    def _size(self, workers: int) -> int:
        if self.options.batch_size is not None:
            return self.options.batch_size
        if self._mean is None:
            return 1
        mean = max(self._mean, 1e-7)
        size = min(self._target / mean, self._largest * GROWTH)
        if self._bytes:
            size = min(size, BATCH_BYTES / self._bytes)
        if self._feed is None and not self._redo:
            share = math.ceil((len(self._items) - self._position) / (2 * workers))
            worthwhile = 0.0 if self._cost == math.inf else self._cost / mean
            size = min(size, max(share, worthwhile))
        return max(1, int(size))

    def _take(self, workers: int) -> _Tasks | None:
        size = self._size(workers)
        if self._redo:
            tasks = self._redo.popleft()
            if len(tasks.items) > size:
                self._again(tasks.part(size, None), soon=True)
            return tasks.part(0, size)
        start = self._position
        if self._feed is None:
            items = self._items[start : start + size]
        else:
            items = self._feed.take(size, READ_AHEAD * workers * size)
        if not items:
            return None
        self._position = start + len(items)
        return _Tasks(range(start, self._position), items, 0, self.options.memory)

    def next_batch(self, batch_id: int, workers: int) -> Batch | None:
        """Form the next batch, or return None if nothing can be sent now."""
        if self._is_growing and len(self.inflight) >= _WHILE_GROWING * workers:
            return None
        while (tasks := self._take(workers)) is not None:
            tasks = self._living(tasks)
            if not tasks.items:
                continue
            packed = serialization.pack(tasks.items, BATCH_BYTES, self.definitions)
            if packed.count < len(tasks.items):
                self._again(tasks.part(packed.count, None), soon=True)
                tasks = tasks.part(0, packed.count)
            return self.form(batch_id, tasks.task_ids, tasks.items, tasks.attempts, tasks.memory, packed)
        return None

    def _again(self, tasks: _Tasks, soon: bool = False) -> None:
        """Have tasks sent once more, after others that are or before them."""
        if self._redo is None:
            self._redo = deque()
        (self._redo.appendleft if soon else self._redo.append)(tasks)

    def _living(self, tasks: _Tasks) -> _Tasks:
        """Leave out tasks that were cancelled, and fail those whose item another job failed to make."""
        alive = start_all([self.futures.made[i] for i in tasks.task_ids])
        for position, item in enumerate(tasks.items):
            if type(item) is FailedInput:
                alive[position] = False
                self.fail(tasks.task_ids[position], item.error, 0)
        if all(alive):
            return tasks
        keep = [position for position, ok in enumerate(alive) if ok]
        return self._choose(tasks.task_ids, tasks.items, keep, tasks.attempts, tasks.memory)

    @staticmethod
    def _choose(
        task_ids: Sequence[int], items: Sequence[Any], keep: Iterable[int], attempts: int, memory: int | None
    ) -> _Tasks:
        chosen = list(keep)
        return _Tasks([task_ids[i] for i in chosen], [items[i] for i in chosen], attempts, memory)

    def done(self, batch: Batch, worker: str, outcome: BatchResult | None) -> None:
        """Complete the futures of a batch, and learn from it how large the next should be."""
        assert outcome is not None
        assert batch.invocation.packed is not None
        count = len(batch.task_ids)
        mean = sum(outcome.durations) / count
        self._mean = mean if self._mean is None else (self._mean + mean) / 2
        self._largest = max(self._largest, count)
        if outcome.overhead > 0:
            self._cost = min(self._cost, outcome.overhead)
        sent, received = batch.invocation.packed.nbytes, outcome.values.nbytes
        outcome.bytes_in += sent
        outcome.bytes_out += received
        self._bytes = max(self._bytes / 2, sent / count, received / count)
        self.settle(batch.task_ids, worker, batch.attempts, outcome)

    def requeue(self, batch: Batch, positions: Iterable[int]) -> None:
        """Repeat tasks of a batch that are not to blame for its loss."""
        self._repeat(batch, positions, batch.attempts, batch.memory)

    def _repeat(self, batch: Batch, positions: Iterable[int], attempts: int, memory: int | None) -> None:
        left = [i for i in positions if not self.futures.made[batch.task_ids[i]].done()]
        if left:
            self._again(self._choose(batch.task_ids, batch.items, left, attempts, memory))

    def charge_attempt(self, batch: Batch, position: int | None, loss: BatchLost) -> None:
        """Repeat a batch; where it is not known which task ran, each goes alone, so that the next loss tells."""
        charged = self.charged(batch, position, loss)
        innocent = [i for i in range(len(batch.task_ids)) if i not in charged]
        for positions in [innocent] if position is not None else [[i] for i in innocent]:
            self.requeue(batch, positions)
        memory = self.more_memory(batch, loss)
        for suspect in charged:
            if not self.give_up(batch.task_ids[suspect], batch.attempts + 1, loss):
                self._repeat(batch, [suspect], batch.attempts + 1, memory)

    def close(self) -> None:
        """Let go of inputs and results."""
        self._count = self.ended
        self._feed = self._redo = None
        self._items = ()
        self._owner.job = None
        super().close()

    def stop_input(self, error: BaseException) -> None:
        """Read no more input; who iterates the futures gets the error at their end."""
        if self._feed is not None:
            self._feed.stop(error)

    def stop(self) -> None:
        """Read no more input and cancel everything that has not ended."""
        if self._feed is not None:
            self._feed.stop()
        self._redo = None
        super().stop()
