"""The results that ``executor.get_result()`` and ``executor.wait()`` mean when they are not told which."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from core.futures import Future, FutureList, fetch, wait
from core.types import ReturnWhen
from core.waiting import deadline_of, share_of, time_left

Fetchable = FutureList | Future


_MANY = 256
"""Futures that others hold and whose results may have been had, before somebody looks: each is but a reference."""


class Unfetched:
    """The jobs of an executor whose results nobody has had yet, and the last one in any case.

    Those of `map` and `call_async` are kept for whoever asks. Of `submit`, as of any ``concurrent.futures.Executor``,
    the caller has the future: it counts here as long as somebody holds it, and is let go with the last who does.
    """

    def __init__(self) -> None:
        self._jobs: list[Fetchable | weakref.ref[Future]] = []
        self._kept, self._crowded = 0, (1, _MANY)

    def add(self, job: Fetchable) -> None:
        """Keep a job."""
        self._make_room()
        self._jobs.append(job)
        self._kept += 1

    def add_held(self, future: Future) -> None:
        """Add a future that others hold."""
        self._make_room()
        self._jobs.append(weakref.ref(future))

    def _make_room(self) -> None:
        """Let go of those whose results have been had, when there are twice as many as before; of kept ones soon."""
        if self._kept < self._crowded[0] and len(self._jobs) < self._crowded[1]:
            return
        wanted = set(map(id, self.jobs()))
        self._jobs = [entry for entry in self._jobs if id(_job_of(entry)) in wanted]
        self._kept = sum(not isinstance(entry, weakref.ref) for entry in self._jobs)
        self._crowded = 2 * self._kept + 1, 2 * len(self._jobs) + _MANY

    def drop(self, jobs: Iterable[Fetchable]) -> None:
        """Let go of jobs."""
        had = set(map(id, jobs))
        self._jobs = [entry for entry in self._jobs if id(_job_of(entry)) not in had]

    def jobs(self) -> list[Fetchable]:
        """Return the jobs, the oldest first."""
        living = [job for entry in self._jobs if (job := _job_of(entry)) is not None]
        return [job for job in living[:-1] if not job.fetched] + living[-1:]

    def results(self, timeout: float | None, throw_except: bool = True) -> Any:
        """Return the results of all and let go of them: one future's result, or a list."""
        jobs, deadline = self.jobs(), deadline_of(timeout)
        results: list[Any] = []
        for job in jobs:
            if isinstance(job, Future):
                results.append(fetch(job, time_left(deadline), throw_except))
            else:
                results.extend(job.results(time_left(deadline), throw_except))
        self.drop(jobs)
        return results[0] if len(jobs) == 1 and isinstance(jobs[0], Future) else results

    def wait(self, return_when: ReturnWhen, timeout: float | None) -> tuple[list[Future], list[Future]]:
        """Wait for all, or for any, of their futures; returns (done, not done)."""
        jobs, deadline = self.jobs(), deadline_of(timeout)
        for job in jobs if share_of(return_when) > 0 else ():
            if isinstance(job, FutureList):  # of a generator's tasks it still grows
                job.wait("ALL", time_left(deadline))
        futures = [future for job in jobs for future in ([job] if isinstance(job, Future) else job.made)]
        return wait(futures, return_when, time_left(deadline))


def _job_of(entry: Fetchable | weakref.ref[Future]) -> Fetchable | None:
    return entry() if isinstance(entry, weakref.ref) else entry
