"""Which jobs want something now: so that a turn of the loop costs what happened in it, not what there is."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections import deque

from core.job.job import Job


class Agenda:
    """The jobs of a loop: those to look at in this turn, those that may have something to send, those due later.

    All methods but `stir` are called from the loop alone.
    """

    def __init__(self) -> None:
        self._known: set[Job] = set()
        self._stirred: deque[Job] = deque()
        self._touched: dict[Job, None] = {}
        self._ready: deque[Job] = deque()
        self._in_line: set[Job] = set()
        self._due: list[tuple[float, int, Job]] = []
        self._due_at: dict[Job, float] = {}
        self._ticket = itertools.count()

    def add(self, job: Job) -> None:
        """Take up a job; it is looked at in this turn."""
        self._known.add(job)
        self.touch(job)

    def drop(self, job: Job) -> None:
        """Know a job no more."""
        self._known.discard(job)
        self._touched.pop(job, None)
        self._due_at.pop(job, None)

    def stir(self, job: Job) -> None:
        """Have a job looked at. Called from any thread."""
        self._stirred.append(job)

    def touch(self, job: Job) -> None:
        """Have a job looked at, because something happened to it."""
        self._touched[job] = None

    def take(self) -> list[Job]:
        """Return the jobs to look at, each once."""
        while self._stirred:
            self.touch(self._stirred.popleft())
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            at, _, job = heapq.heappop(self._due)
            if self._due_at.get(job) == at:
                del self._due_at[job]
                self.touch(job)
        jobs = [job for job in self._touched if job in self._known]
        self._touched.clear()
        return jobs

    def line_up(self, job: Job) -> None:
        """Let a job send when its turn comes."""
        if job not in self._in_line:
            self._in_line.add(job)
            self._ready.append(job)

    def next_ready(self) -> Job | None:
        """Return the job whose turn it is to send; it leaves the line."""
        while self._ready:
            job = self._ready.popleft()
            self._in_line.discard(job)
            if job in self._known:
                return job
        return None

    def schedule(self, job: Job, seconds: float | None) -> None:
        """Have a job looked at in so many seconds at the latest; None for no time of its own."""
        if seconds is None:
            return
        at = time.monotonic() + seconds
        # What is due sooner stays: the job is asked again then, and so has one place at a time.
        if at < self._due_at.get(job, math.inf):
            self._due_at[job] = at
            heapq.heappush(self._due, (at, next(self._ticket), job))

    def wait(self) -> float | None:
        """Return the seconds until a job is to be looked at, None if none is."""
        if self._stirred or self._touched:
            return 0.0
        while self._due and self._due_at.get(self._due[0][2]) != self._due[0][0]:
            heapq.heappop(self._due)
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
