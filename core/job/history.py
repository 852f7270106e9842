"""What an executor's jobs took and cost, those that run and those that have ended."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING

from core.job.costs import BatchCost, CostTable, JobKey, add_to
from core.job.job import Job
from core.settings import ExecutorConfig
from core.types import Bill, TaskStats, Usage

if TYPE_CHECKING:
    import pandas

LARGEST_TABLE = 8 << 20
"""Bytes of what is remembered of each batch that has ended, about: some 35,000 single calls, or 350,000 tasks that
travelled together."""

_SLACK = 1.25
"""The table outgrows that by this much before it is cut, so that cutting costs each batch the same."""


class JobHistory:
    """The jobs of one executor.

    Of a job that has ended no object is kept, unless it `keeps_objects` in storage: only what its batches cost, in
    columns of numbers. When these outgrow `LARGEST_TABLE`, the oldest are summed up; the latest job stays whole.

    Attributes
    ----------
    running : dict
        Jobs that have not ended, by their ids, the oldest first.
    stored : dict
        Jobs that have ended and whose objects are still in storage.
    """

    def __init__(self) -> None:
        self.running: dict[str, Job] = {}
        self.stored: dict[str, Job] = {}
        self.begun = 0
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget what jobs that have ended cost."""
        with self._lock:
            self._table, self._summed = CostTable(), Usage()
            self._invocations = self._requests = 0

    def begin(self, job: Job) -> None:
        """Take up a job."""
        with self._lock:
            self.begun += 1
            job.number = self.begun
            self.running[job.job_id] = job

    def end(self, job: Job) -> None:
        """Keep of a job that has ended what it cost, and the job itself only for what it has in storage."""
        key = JobKey(job.number, job.job_id, sys.intern(job.name))
        with self._lock:
            if self.running.pop(job.job_id, None) is None:
                return
            for cost in job.costs:
                self._table.add(key, cost)
            self._invocations += job.invocations
            if job.keeps_objects:
                self.stored[job.job_id] = job
            else:
                self._requests += job.requests
            if self._table.nbytes > _SLACK * LARGEST_TABLE:
                self._table.shrink(LARGEST_TABLE, self._summed)

    def part(self, job: Job) -> None:
        """Let go of a job whose objects in storage are not this executor's any more."""
        with self._lock:
            if self.stored.pop(job.job_id, None) is not None:
                self._requests += job.requests

    def newest(self) -> int:
        """Return the number of the latest job that has not ended, 0 if all have."""
        with self._lock:
            return next((job.number for job in reversed(self.running.values())), 0)

    def clean(self) -> None:
        """Forget jobs that have ended, and delete what they keep in storage."""
        for job in list(self.stored.values()):
            job.remove()
            self.part(job)
        self.clear()

    def find(self, job_id: str) -> Job | None:
        """Return a job that runs, or has objects in storage."""
        return self.running.get(job_id) or self.stored.get(job_id)

    def jobs(self) -> list[Job]:
        """Return the jobs that run or have objects in storage."""
        with self._lock:
            return [*self.running.values(), *self.stored.values()]

    def _known(self) -> _Known:
        with self._lock:
            jobs = [*self.running.values(), *self.stored.values()]
            return _Known(
                self._table.copy(),
                [(job, list(job.costs)) for job in self.running.values()],
                replace(self._summed),
                self._invocations + sum(job.invocations for job in self.running.values()),
                self._requests + sum(job.requests for job in jobs),
            )

    def rows(self) -> Iterator[tuple[JobKey, TaskStats]]:
        """Yield one row a task, in the order of their jobs."""
        for job, cost in sorted(self._known().batches(), key=itemgetter(0)):
            for row in cost.rows():
                yield job, row

    def stats(self) -> pandas.DataFrame:
        """Return the rows as a table."""
        import pandas

        names = TaskStats.__slots__
        rows = [
            {"job_id": job.job_id, "function": job.name, **{name: getattr(row, name) for name in names}}
            for job, row in self.rows()
        ]
        return pandas.DataFrame(rows, columns=["job_id", "function", *names])

    def bill(self, backend: str, config: ExecutorConfig) -> Bill:
        """Return what all tasks have cost, those that are summed up and those that are not."""
        from core.events.prices import bill, price_of

        known = self._known()
        for _, cost in known.batches():
            add_to(known.usage, cost)
        return bill(backend, (), config.memory, known.invocations, known.requests, price_of(config), known.usage)


@dataclass(frozen=True, slots=True)
class _Known:
    """All that a history knows at one time; `usage` is of the tasks that are in no batch here."""

    ended: CostTable
    running: list[tuple[Job, list[BatchCost]]]
    usage: Usage
    invocations: int
    requests: int

    def batches(self) -> Iterator[tuple[JobKey, BatchCost]]:
        yield from self.ended.batches()
        for job, costs in self.running:
            key = JobKey(job.number, job.job_id, job.name)
            for cost in costs:
                yield key, cost
