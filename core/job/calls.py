"""The functions that workers are to keep: those that jobs use, and the last few that none does any more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from core.job.job import Job
from core.task.protocol import Invocation

MOST_IDLE = 32
"""Functions that workers keep although no job uses them: to send and load one again is a good part of a short call."""

IDLE_BYTES = 4 << 20
"""Bytes that these may have together, pickled: what is larger, such as a captured array, goes with its last job."""


class Calls:
    """Knows which jobs use what was sent to workers, by its hash."""

    def __init__(self) -> None:
        self._users: dict[str, set[Job]] = {}
        self._generations: dict[str, str] = {}  # the first of the jobs that use each since it was idle
        self._idle: OrderedDict[str, int] = OrderedDict()  # bytes of what no job uses, the one used last at the end
        self._sizes: dict[str, int] = {}
        self._idle_bytes = 0

    def use(self, job: Job, invocation: Invocation) -> None:
        """Note that a job uses the function of an invocation, and tell the invocation since when some job does."""
        call_hash = invocation.call_hash
        users = self._users.get(call_hash)
        if users is None:
            users = self._users[call_hash] = set()
            self._generations[call_hash] = job.job_id
            self._idle_bytes -= self._idle.pop(call_hash, 0)
            self._sizes[call_hash] = len(invocation.call)
        users.add(job)
        invocation.generation = self._generations[call_hash]

    def release(self, job: Job) -> Iterator[str]:
        """Note that a job has ended; yields what workers may forget."""
        for call_hash in job.definitions.hashes:
            users = self._users.get(call_hash, set())
            users.discard(job)
            if not users and self._users.pop(call_hash, None) is not None:
                self._idle[call_hash] = self._sizes.pop(call_hash)
                del self._generations[call_hash]
                self._idle_bytes += self._idle[call_hash]
        while len(self._idle) > MOST_IDLE or self._idle_bytes > IDLE_BYTES:
            forgotten, size = self._idle.popitem(last=False)
            self._idle_bytes -= size
            yield forgotten
