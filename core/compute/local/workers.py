"""Worker processes as their driver knows them: how they start, what each holds, how one ended."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import selectors
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from core.compute.local.channel import Channel
from core.compute.local.launch import ForkServer
from core.compute.local.wire import Doing, TaskStatus
from core.errors import FanfoldError
from core.task.protocol import Invocation, LossReason

KILL_TIMEOUT = 1.0
"""Seconds between SIGTERM and SIGKILL for a task that is over its time."""

STATUS_TIMEOUT = 0.25
"""Seconds to wait for the fork server's word on how a worker ended."""

FAILED_STARTS_MAX = 5
"""Workers that may die one after the other before any has run a batch; then the backend gives up."""


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """One worker.

    Attributes
    ----------
    held : OrderedDict
        Its batches by number, in the order it will run them; it has not been sent those in `unsent` yet.
    known : set
        Hashes of the functions it has.
    baseline : int
        Bytes of memory it inherited.
    status : int or None
        Its wait status, once that is known.
    lost_at : float
        When its channel broke; infinite while it lives.
    """

    ident: int
    channel: Channel
    claim_read: int
    claim_write: int
    task_status: TaskStatus
    forkserver: ForkServer
    pid: int = 0
    held: OrderedDict[int, Invocation] = field(default_factory=OrderedDict)
    unsent: dict[int, None] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    is_blocked: bool = False
    baseline: int = 0
    status: int | None = None
    lost_at: float = math.inf
    end_reason: tuple[LossReason, str] | None = None
    kill_at: float = math.inf
    suspect: Doing | None = None

    @property
    def name(self) -> str:
        """Return the name that statistics show."""
        return f"process-{self.ident}"

    @property
    def is_alive(self) -> bool:
        """Whether it has not been found lost."""
        return self.lost_at == math.inf

    def release(self) -> None:
        """Close what the driver holds of it."""
        self.channel.close()
        os.close(self.claim_read)
        os.close(self.claim_write)
        self.task_status.close()


class WorkerTable:
    """Starts workers through a fork server, hears how they end, and replaces them.

    Parameters
    ----------
    count : int
        Workers to keep.
    threads : int
        Numerical threads of each.
    fresh : bool, optional
        Whether the fork server is a new interpreter; by default it is forked where that is safe.
    serve : callable
        Called with a worker and the events of its channel when the selector finds some.

    Attributes
    ----------
    failed_starts : int
        Workers that ended before they had run anything, since the last reply of any.
    """

    def __init__(
        self, count: int, threads: int, fresh: bool | None, serve: Callable[[WorkerProcess, int], None]
    ) -> None:
        self.workers: dict[int, WorkerProcess] = {}
        self._count, self._threads, self._fresh, self._serve = count, threads, fresh, serve
        self.forkserver: ForkServer | None = None
        self._next_ident = self.failed_starts = 0

    def start(self) -> None:
        """Start the fork server, and ask it for every worker."""
        self.forkserver = ForkServer(self._threads, self._fresh)  # first: nothing may exist that a fork would share
        self.selector = selectors.DefaultSelector()
        self._register()
        while len(self.workers) < self._count:
            self._spawn()

    def living(self) -> list[WorkerProcess]:
        """Return the workers that were not found lost."""
        return [worker for worker in self.workers.values() if worker.lost_at == math.inf]

    def _register(self) -> None:
        assert self.forkserver is not None
        self.selector.register(self.forkserver, selectors.EVENT_READ, self._hear)

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        claim_read, claim_write = os.pipe()
        os.set_blocking(claim_read, False)
        status_file = TaskStatus.file()
        status = TaskStatus(status_file)
        status.begin(-1)
        ident, self._next_ident = self._next_ident, self._next_ident + 1
        forkserver = self._request(ident, [theirs.fileno(), claim_read, status_file])
        os.close(status_file)
        theirs.close()
        worker = WorkerProcess(ident, Channel(ours), claim_read, claim_write, status, forkserver)
        self.workers[ident] = worker
        self.selector.register(worker.channel, selectors.EVENT_READ, lambda events: self._serve(worker, events))

    def _request(self, ident: int, descriptors: list[int]) -> ForkServer:
        """Have a worker made, if need be by a new fork server."""
        if self.forkserver is not None:
            try:
                self.forkserver.spawn(ident, descriptors)
                return self.forkserver
            except OSError:
                self._lose_forkserver()
        self.forkserver = ForkServer(self._threads, fresh=True)
        self._register()
        self.forkserver.spawn(ident, descriptors)
        return self.forkserver

    def _lose_forkserver(self) -> None:
        if self.forkserver is not None:
            self.selector.unregister(self.forkserver)
            self.forkserver.close()
            self.forkserver = None

    def _hear(self, _events: int) -> None:
        assert self.forkserver is not None
        message = self.forkserver.hear()
        if message is None:
            self._lose_forkserver()
            return
        kind, ident, number = message
        worker = self.workers.get(ident)
        if worker is None:
            return
        if kind == b"S":
            worker.pid, worker.baseline = number, resident_bytes(number)
            return
        worker.status = number
        if worker.is_alive:  # a process that its task left behind may hold the socket open
            self._serve(worker, selectors.EVENT_READ)
        self.lose(worker)

    def watch(self, worker: WorkerProcess) -> None:
        """Have the selector look for room in a worker's channel as long as that is full."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.is_blocked else 0)
        self.selector.modify(worker.channel, events, self.selector.get_key(worker.channel).data)

    def lose(self, worker: WorkerProcess) -> None:
        """Take note that a worker is gone."""
        if worker.is_alive:
            self.selector.unregister(worker.channel)
            worker.lost_at = time.monotonic()

    def terminate(self, worker: WorkerProcess, reason: LossReason, message: str) -> None:
        """End a worker by force; its task may clean up if it only ran out of time."""
        worker.end_reason = (reason, message)
        if reason == "timeout":
            self._signal(worker, signal.SIGTERM)
            worker.kill_at = time.monotonic() + KILL_TIMEOUT
        else:
            self._signal(worker, signal.SIGKILL)

    def _signal(self, worker: WorkerProcess, number: int) -> None:
        if worker.forkserver is self.forkserver:
            worker.forkserver.signal(worker.ident, number)
        elif worker.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, number)

    def kill_overdue(self, now: float) -> None:
        """End the workers whose task did not heed SIGTERM."""
        for worker in self.workers.values():
            if now >= worker.kill_at and worker.is_alive:
                self._signal(worker, signal.SIGKILL)
                worker.kill_at = math.inf

    def ended(self, now: float) -> list[WorkerProcess]:
        """Return the lost workers of which no more will be heard."""
        lost = (worker for worker in self.workers.values() if not worker.is_alive)
        return [worker for worker in lost if worker.status is not None or now >= worker.lost_at + STATUS_TIMEOUT]

    def replace(self, worker: WorkerProcess) -> None:
        """Let go of a worker that has ended, and start its successor.

        Raises
        ------
        FanfoldError
            Workers end one after the other before they have run anything.
        """
        del self.workers[worker.ident]
        self.failed_starts += worker.task_status.read().number < 0
        worker.release()
        if self.failed_starts >= FAILED_STARTS_MAX:
            raise FanfoldError(
                f"{self.failed_starts} worker processes ended before they had run anything "
                f"({how_it_ended(worker.status)}); see what they wrote to standard error"
            )
        self._spawn()

    def close(self, force: bool) -> None:
        """End the workers, with `force` the busy ones too, and the fork server."""
        for worker in self.workers.values():
            if force:
                self._signal(worker, signal.SIGKILL)
            worker.release()
        self.workers.clear()
        if self.forkserver is not None:
            self.forkserver.close()
        self.selector.close()


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory in bytes, 0 if it cannot be read."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE
    except (OSError, IndexError):
        return 0


_HINTS = {
    signal.SIGKILL: "; the system does that when memory runs out",
    signal.SIGSEGV: "; that is a fault in native code",
    signal.SIGABRT: "; native code gave up",
}


def how_it_ended(status: int | None) -> str:
    """Say in words what a wait status means, None being unknown."""
    if status is None:
        return "its worker process ended"
    if os.WIFEXITED(status):
        return f"its worker process exited with status {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    try:
        name, hint = signal.Signals(number).name, _HINTS.get(signal.Signals(number), "")
    except ValueError:  # one of the real-time signals
        name, hint = f"signal {number}", ""
    return f"its worker process was ended by {name}{hint}"
