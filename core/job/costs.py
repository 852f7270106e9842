"""What batches of tasks have cost: one record each while a job runs, columns of numbers once it has ended."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from core.task.protocol import BatchResult
from core.types import TaskStats, Usage


@dataclass(slots=True)  # not frozen, which would make it dear to make, and every call makes one
class BatchCost:
    """What one batch cost, without its results; `tried` holds the positions that took other than `attempts`."""

    task_ids: Sequence[int]
    worker: str
    attempts: int
    tried: Mapping[int, int]
    durations: Sequence[float]
    started: float
    cpu: float
    peak_rss: int
    requests: int
    bytes_in: int
    bytes_out: int

    def rows(self) -> Iterator[TaskStats]:
        """Yield what each task cost; CPU time is shared out in proportion to duration, the rest evenly."""
        busy, count = sum(self.durations) or 1.0, len(self.task_ids)
        started = self.started
        for position, duration in enumerate(self.durations):
            shares = [
                total * (position + 1) // count - total * position // count
                for total in (self.bytes_in, self.bytes_out, self.requests)
            ]
            tried = self.tried.get(position, self.attempts)
            cpu = self.cpu * duration / busy
            task_id = self.task_ids[position]
            yield TaskStats(task_id, started, duration, cpu, self.worker, tried, self.peak_rss, *shares)
            started += duration


def cost_of(task_ids: Sequence[int], attempts: int, worker: str, outcome: BatchResult) -> BatchCost:
    """Return what a batch cost that had been tried `attempts` times before."""
    tried = outcome.attempts
    if outcome.failures:
        tried = {**tried, **{position: failure.attempts for position, failure in outcome.failures.items()}}
    return BatchCost(
        task_ids,
        sys.intern(worker),
        attempts + 1,
        tried,
        outcome.durations,
        outcome.started,
        outcome.cpu,
        outcome.peak_rss,
        outcome.requests,
        outcome.bytes_in,
        outcome.bytes_out,
    )


def add_to(usage: Usage, cost: BatchCost) -> None:
    """Add the tasks of a batch to sums."""
    seconds = sum(cost.durations)
    usage.tasks += len(cost.task_ids)
    usage.wall_seconds += seconds
    usage.cpu_seconds += cost.cpu
    usage.rss_seconds += seconds * cost.peak_rss
    usage.bytes_in += cost.bytes_in
    usage.bytes_out += cost.bytes_out


class JobKey(NamedTuple):
    """A job in a table: `number` counts the jobs of its executor."""

    number: int
    job_id: str
    name: str


_PER_TASK = 3
"""Columns of tasks; the others are of batches."""

_BATCH_BYTES, _TASK_BYTES = 200, 24
"""What a table needs, about: of a batch mostly for the name of its job, if that has no other."""


class CostTable:
    """Costs of batches in columns, whose size does not depend on what the tasks did."""

    def __init__(self) -> None:
        self._numbers = array("q")
        self._job_ids: list[str] = []
        self._names: list[str] = []
        self._workers: list[str] = []
        self._ints = [array("q") for _ in range(5)]  # tasks, peak memory, requests, bytes in, bytes out
        self._floats = [array("d") for _ in range(2)]  # start, CPU seconds
        self._task_ids, self._tried, self._durations = array("q"), array("l"), array("d")

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about."""
        return _BATCH_BYTES * len(self._numbers) + _TASK_BYTES * len(self._task_ids)

    def add(self, job: JobKey, cost: BatchCost) -> None:
        """Append a batch."""
        count = len(cost.task_ids)
        first = len(self._tried)
        self._numbers.append(job.number)
        self._job_ids.append(job.job_id)
        self._names.append(job.name)
        self._workers.append(cost.worker)
        tasks, rss, requests, bytes_in, bytes_out = self._ints
        tasks.append(count)
        rss.append(cost.peak_rss)
        requests.append(cost.requests)
        bytes_in.append(cost.bytes_in)
        bytes_out.append(cost.bytes_out)
        started, cpu = self._floats
        started.append(cost.started)
        cpu.append(cost.cpu)
        self._task_ids.extend(cost.task_ids)
        self._durations.extend(cost.durations)
        self._tried.extend([cost.attempts] * count)
        for position, tried in cost.tried.items():
            self._tried[first + position] = tried

    def copy(self) -> CostTable:
        """Return the same costs; quick, since columns are copied whole."""
        twin = CostTable()
        for ours, theirs in zip(self._columns(), twin._columns(), strict=True):
            theirs.extend(ours)
        return twin

    def _columns(self) -> list[Any]:
        """Return every list and array, those of tasks last."""
        named = [self._numbers, self._job_ids, self._names, self._workers]
        return [*named, *self._ints, *self._floats, self._task_ids, self._tried, self._durations]

    def batches(self) -> Iterator[tuple[JobKey, BatchCost]]:
        """Yield every batch, as it was added."""
        start = 0
        for index, key in enumerate(zip(self._numbers, self._job_ids, self._names, strict=True)):
            count, *ints = (column[index] for column in self._ints)
            started, cpu = (column[index] for column in self._floats)
            end = start + count
            tried = dict(enumerate(self._tried[start:end]))
            ids, durations = self._task_ids[start:end], self._durations[start:end]
            yield JobKey(*key), BatchCost(ids, self._workers[index], 1, tried, durations, started, cpu, *ints)
            start = end

    def shrink(self, largest: int, into: Usage) -> None:
        """Forget the oldest batches beyond so many bytes, but none of the latest job, and add them to sums."""
        size = self.nbytes
        batches = tasks = 0
        for job, cost in self.batches() if size > largest else ():
            if size <= largest or job.number == self._numbers[-1]:
                break
            add_to(into, cost)
            batches, tasks = batches + 1, tasks + len(cost.task_ids)
            size -= _BATCH_BYTES + _TASK_BYTES * len(cost.task_ids)
        columns = self._columns()
        for number, column in enumerate(columns):
            del column[: tasks if number >= len(columns) - _PER_TASK else batches]
