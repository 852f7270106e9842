"""A worker process as its driver knows it: what it holds, what it does, what it uses, how it ended."""

from __future__ import annotations

import math
import mmap
import os
import signal
import tempfile
from collections import OrderedDict
from dataclasses import dataclass, field

from core.compute.local.channel import Channel
from core.compute.local.forkserver import TASK_STATUS
from core.task.protocol import Invocation, LossReason


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """One worker: its channel, tokens and slot, the batches it holds, and what is known of its end."""

    ident: int
    channel: Channel
    claim_read: int
    claim_write: int
    task_status: mmap.mmap
    forkserver: int
    pid: int = 0
    held: OrderedDict[int, Invocation] = field(default_factory=OrderedDict)
    known: set[str] = field(default_factory=set)
    baseline: int = 0
    status: int | None = None
    lost_at: float = math.inf
    end_reason: tuple[LossReason, str] | None = None
    kill_at: float = math.inf
    suspect: tuple[int, int, float] | None = None
    claims: bytes = b""

    @property
    def name(self) -> str:
        """Return the name that statistics show."""
        return f"process-{self.ident}"

    def doing(self) -> tuple[int, int, float]:
        """Return (batch, position or -1, monotonic start) of what the worker says it does."""
        number, position, started = TASK_STATUS.unpack_from(self.task_status, 0)
        return number, position, started


def release(worker: WorkerProcess) -> None:
    """Close what the driver holds of a worker."""
    worker.channel.close()
    os.close(worker.claim_read)
    os.close(worker.claim_write)
    worker.task_status.close()


def anonymous_file(size: int) -> int:
    """Return a descriptor of a file without a name, of `size` bytes."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("fanfold-slot", os.MFD_CLOEXEC)
    else:
        descriptor, path = tempfile.mkstemp()
        os.unlink(path)
    os.ftruncate(descriptor, size)
    return descriptor


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory in bytes, 0 if it cannot be read."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE
    except (OSError, IndexError):
        return 0


def how_it_ended(status: int | None) -> str:
    """Say in words what a wait status means, None being unknown."""
    if status is None:
        return "its worker process ended"
    if os.WIFEXITED(status):
        return f"its worker process exited with status {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    name = signal.Signals(number).name if number in signal.Signals.__members__.values() else f"signal {number}"
    hint = {
        signal.SIGKILL: "; the system does that when memory runs out",
        signal.SIGSEGV: "; that is a fault in native code",
        signal.SIGABRT: "; native code gave up",
    }.get(signal.Signals(number) if name != f"signal {number}" else signal.SIGTERM, "")
    return f"its worker process was ended by {name}{hint}"
