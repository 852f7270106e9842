"""Warm worker processes on this machine."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import re
import resource
import selectors
import socket
import sys
import time
from typing import Any

from core.compute.base import Capabilities
from core.compute.local.channel import ConnectionLost
from core.compute.local.dispatch import Dispatcher
from core.compute.local.limits import limit_passed, next_look
from core.compute.local.threads import usable_cores
from core.compute.local.wire import VALUE
from core.compute.local.worker import read_reply
from core.compute.local.workers import WorkerProcess, WorkerTable, how_it_ended
from core.errors import ConfigError
from core.serialization import Buffer
from core.settings import Address, ExecutorConfig
from core.task.notices import deliver
from core.task.protocol import BatchDone, BatchLost, Invocation, Reply

FILES_PER_WORKER = 16
"""Open files to reckon with for each worker: its channel, claims, status, and shared memory under way."""


_OPTIONS = {"start": re.compile("fork|fresh"), "threads": re.compile("[1-9][0-9]*")}


class ProcessBackend:
    """Runs batches in worker processes that are started once and kept warm.

    Address: ``process``, with the options ``start=fork|fresh`` (by default workers are forked where that is safe) and
    ``threads=N``: numerical threads of each worker, by default its share of the processors, that is as many as make
    workers times threads the number of processors. Environment variables of the user's own (``OMP_NUM_THREADS``,
    ``OPENBLAS_NUM_THREADS`` ...) win over both.

    One socket pair per worker, so that a dead worker poisons nothing; a batch that waits behind a long one is
    given to the first worker that idles. A worker that dies is replaced, and what it held is either handed on
    (if it had not begun) or reported lost with the task that ran.
    """

    name = "process"

    def __init__(self, address: Address, config: ExecutorConfig) -> None:
        wrong = [
            f"{name}={value}"
            for name, value in address.options.items()
            if name not in _OPTIONS or not _OPTIONS[name].fullmatch(value)
        ]
        if address.where or wrong:
            raise ConfigError(
                "compute backend 'process' takes no place and only the options start=fork|fresh and threads=N, "
                f"not {address.where or ', '.join(wrong)}"
            )
        if sys.platform == "win32":
            raise ConfigError("compute backend 'process' needs Linux or macOS; on Windows use WSL, or 'serial'")
        self.workers = config.workers or usable_cores()
        self._watches_memory = os.path.exists("/proc/self/statm")
        enforces = frozenset({"timeout", "memory"} if self._watches_memory else {"timeout"})
        self.capabilities = Capabilities(shares_files=True, carries_queues=True, enforces=enforces)
        fresh = {"fork": False, "fresh": True}.get(address.options.get("start", ""))
        self.threads = int(address.options.get("threads", max(1, usable_cores() // self.workers)))
        self._table = WorkerTable(self.workers, self.threads, fresh, self._serve)
        self._dispatcher = Dispatcher(self._table)
        self._replies: list[Reply] = []
        self._closed = self._is_woken = False

    def start(self) -> None:
        """Start the fork server and ask it for every worker.

        Raises
        ------
        ConfigError
            The process may not open enough files for so many workers, or make so many processes.
        """
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        wanted, held = FILES_PER_WORKER * (self.workers + 2), len(os.listdir("/dev/fd"))
        if allowed != resource.RLIM_INFINITY and held + wanted > allowed:
            raise ConfigError(
                f"{self.workers} workers need about {wanted} open files beside the {held} there are, and this process "
                f"may have {allowed}; raise the limit with 'ulimit -n', or use fewer workers"
            )
        try:
            self._table.start()
        except OSError as error:
            raise ConfigError(
                f"{self.workers} workers cannot be started: {error.strerror}; raise the limits that 'ulimit -a' shows, "
                "or use fewer workers"
            ) from error
        self._wakeup_read, self._wakeup_write = socket.socketpair()
        for end in (self._wakeup_read, self._wakeup_write):
            end.setblocking(False)
        self._table.selector.register(self._wakeup_read, selectors.EVENT_READ, self._wake_up)

    def capacity(self) -> int:
        """Return how many batches the workers could hold beyond those they have."""
        return self._dispatcher.room

    def invoke(self, invocation: Invocation) -> None:
        """Queue a batch for the worker that holds least when the next `poll` begins."""
        self._dispatcher.put(invocation)

    def poll(self, timeout: float | None) -> list[Reply]:
        """Return replies, waiting for the first; see to limits and to workers that died meanwhile."""
        if not self._replies:
            self._dispatcher.dispatch()
            self._dispatcher.steal()
            self._dispatcher.flush()
            for key, events in self._table.selector.select(self._next_poll(timeout)):
                key.data(events)
        self._watch(time.monotonic())
        replies, self._replies = self._replies, []
        return replies

    def _next_poll(self, timeout: float | None) -> float | None:
        now = time.monotonic()
        until = math.inf if timeout is None else now + timeout
        for worker in self._table.workers.values():
            until = min(until, next_look(worker, now, self._watches_memory))
        return None if until == math.inf else max(0.0, until - now)

    def _serve(self, worker: WorkerProcess, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._dispatcher.send(worker)
        if events & selectors.EVENT_READ and worker.is_alive:  # else the fork server told of its end just before
            self._read(worker)

    def _read(self, worker: WorkerProcess) -> None:
        try:
            messages = worker.channel.drain()
        except ConnectionLost:
            messages = worker.channel.pending()
            self._table.lose(worker)
        for segments in messages:
            body = pickle.loads(segments[0])
            if body[0] == VALUE:
                deliver(body[1], bytes(segments[1]))
            else:
                self._replies.append(self._reply(worker, body, segments[1:]))

    def _reply(self, worker: WorkerProcess, body: tuple[Any, ...], segments: list[Buffer]) -> Reply:
        number, failure = body[:2]
        ident = worker.held.pop(number).batch_id
        self._table.failed_starts = 0
        if len(body) > 2:
            outcome = read_reply(body, segments)
            self._dispatcher.learn(sum(outcome.durations))
            return BatchDone(ident, worker.name, outcome)
        if failure is None:
            return BatchDone(ident, worker.name, None)
        why = f"{failure.kind}: {failure.message}"
        return BatchLost(ident, worker.name, "unavailable", why, None, True, failure)

    def _watch(self, now: float) -> None:
        for worker in self._table.ended(now):
            self._reap(worker)
        self._table.kill_overdue(now)
        for worker in self._table.living():
            passed = limit_passed(worker, now, self._watches_memory)
            if passed is not None:
                self._table.terminate(worker, *passed)

    def _reap(self, worker: WorkerProcess) -> None:
        """Account for a dead worker's batches and start its successor."""
        number, position, _ = worker.task_status.read()
        reason, message = worker.end_reason or ("died", how_it_ended(worker.status))
        lost = worker.held.pop(number, None)
        if lost is not None:
            running = position if position >= 0 else None
            self._replies.append(BatchLost(lost.batch_id, worker.name, reason, message, running, True))
        self._dispatcher.abandon(worker)
        self._table.replace(worker)

    def _wake_up(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup_read.recv(4096)
        # Only then: one that comes between the two is swallowed, and would silence all that follow if it counted.
        # Nothing is missed, since what a wakening is about has been noted before, and is looked at after this.
        self._is_woken = False

    def wake(self) -> None:
        """End a `poll` that waits."""
        if not self._is_woken:
            self._is_woken = True
            with contextlib.suppress(BlockingIOError, OSError):
                self._wakeup_write.send(b"!")

    def is_running(self, batch_id: int) -> bool:
        """Whether a worker has begun a batch."""
        holder = self._dispatcher.holder(batch_id)
        return holder is not None and holder[0].task_status.read().number == holder[1]

    def revoke(self, batch_id: int) -> bool:
        """Take back a batch that no worker has begun."""
        return self._dispatcher.revoke(batch_id)

    def kill(self, batch_id: int) -> None:
        """End the worker that runs a batch."""
        holder = self._dispatcher.holder(batch_id)
        if holder is not None and holder[0].end_reason is None:
            self._table.terminate(holder[0], "killed", "it was cancelled")

    def forget(self, call_hash: str) -> None:
        """Let every worker that has a function drop it."""
        self._dispatcher.forget(call_hash)

    def close(self, force: bool = False) -> None:
        """End the workers, the busy ones by force, and the fork server."""
        if not self._closed:
            self._closed = True
            self._table.close(force)
            self._wakeup_read.close()
            self._wakeup_write.close()
