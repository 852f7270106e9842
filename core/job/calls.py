"""The functions that workers are to keep: those that jobs use, and the last few that none does any more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

MOST_IDLE = 32
"""Functions that workers keep although no job uses them: to send and load one again is a good part of a short call."""

IDLE_BYTES = 4 << 20
"""Bytes that these may have together, pickled: what is larger, such as a captured array, goes with its last job."""


class Calls:
    """Counts the jobs that use each function."""

    def __init__(self) -> None:
        self._users: dict[str, int] = {}
        self._sizes: OrderedDict[str, int] = OrderedDict()  # of those that no job uses, the one used last at the end
        self._used: dict[str, int] = {}
        self._idle_bytes = 0

    def use(self, call_hash: str, size: int) -> None:
        """Note that one more job uses a function of so many bytes."""
        self._idle_bytes -= self._sizes.pop(call_hash, 0)
        self._users[call_hash] = self._users.get(call_hash, 0) + 1
        self._used[call_hash] = size

    def release(self, call_hash: str) -> Iterator[str]:
        """Note that a job has ended; yields the functions that workers may forget."""
        self._users[call_hash] -= 1
        if self._users[call_hash]:
            return
        del self._users[call_hash]
        size = self._sizes[call_hash] = self._used.pop(call_hash)
        self._idle_bytes += size
        while len(self._sizes) > MOST_IDLE or self._idle_bytes > IDLE_BYTES:
            forgotten, size = self._sizes.popitem(last=False)
            self._idle_bytes -= size
            yield forgotten
