"""What driver, fork server and workers share beside the messages of a channel."""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

CONTROL = struct.Struct("<cqq")
"""To the fork server: (b"S", worker, 0) with three descriptors, (b"K", worker, signal); back: (b"S", worker, pid),
(b"D", worker, status)."""

CLAIM = struct.Struct("<q")
"""The right to start a batch, by number: whoever reads it from the pipe, worker or driver, has the batch."""

VALUE = -1
"""Stands for the number of a batch in messages that carry a value for a queue."""


class Doing(NamedTuple):
    """A reading of `TaskStatus`: a batch, -1 for none; a position in it, -1 for none; its monotonic start."""

    number: int
    position: int
    started: float


class TaskStatus:
    """What a worker is doing, in memory that it shares with its driver.

    The driver may read while the worker writes, and mix two tasks: whoever acts on a reading takes a second one.
    """

    _RECORD = struct.Struct("<qqd")

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, self._RECORD.size)
        self._number = -1

    @classmethod
    def file(cls) -> int:
        """Return a descriptor of a file without a name, to be mapped at both ends."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("fanfold-status", os.MFD_CLOEXEC)
        else:
            import tempfile  # not needed on Linux

            descriptor, path = tempfile.mkstemp()
            os.unlink(path)
        os.ftruncate(descriptor, cls._RECORD.size)
        return descriptor

    def begin(self, number: int) -> None:
        """Say that a batch has begun, and none of its tasks yet."""
        self._number = number
        self.mark(-1, 0.0)

    def mark(self, position: int, started: float) -> None:
        """Say that a task of the batch starts, or with -1 that none runs."""
        self._RECORD.pack_into(self._memory, 0, self._number, position, started)

    def read(self) -> Doing:
        """Return what was said last."""
        return Doing(*self._RECORD.unpack_from(self._memory))

    def close(self) -> None:
        """Unmap the memory."""
        self._memory.close()
