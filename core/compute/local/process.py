"""Warm worker processes on this machine."""

from __future__ import annotations

import array
import contextlib
import math
import mmap
import os
import pickle
import resource
import selectors
import signal
import socket
import sys
import time
from collections import deque

from core.compute.base import Capabilities
from core.compute.local.channel import Channel, ConnectionLost
from core.compute.local.forkserver import CLAIM, CONTROL, TASK_STATUS, VALUE, start_forkserver
from core.compute.local.workers import WorkerProcess, anonymous_file, how_it_ended, release, resident_bytes
from core.errors import ConfigError, FanfoldError
from core.serialization import Buffer, Packed
from core.settings import Address, ExecutorConfig
from core.task.notices import deliver
from core.task.protocol import BatchDone, BatchLost, BatchResult, Invocation, LossReason, Reply

DEPTH = 2
"""Batches a worker holds at least: one that runs and one that waits, so that it never idles for the driver."""

DEEPEST = 32
"""Batches a worker holds at most."""

AHEAD = 0.005
"""Seconds of work a worker holds, if that is more batches than `DEPTH`: each wakening of a process costs both sides."""

GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL for a task that is over its time."""

WATCH = 0.02
"""Seconds between two looks at the memory of workers that have a limit."""

RESPITE = 0.25
"""Seconds to wait for the fork server's word on how a worker ended."""

_DESCRIPTORS = 16
"""Open files to reckon with for each worker: its channel, tokens, slot, and shared memory under way."""

_OVERHEAD = 20e-6
"""Seconds a worker spends on a batch beside its tasks, about."""

_FAILED_STARTS_LIMIT = 5
"""Workers that may die one after the other before any has run a batch; then the backend gives up."""


def default_workers() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ProcessBackend:
    """Runs batches in worker processes that are started once and kept warm.

    Address: ``process`` or ``process?start=fork|fresh``; by default workers are forked where that is safe.

    One socket pair per worker, so that a dead worker poisons nothing; a batch that waits behind a long one is
    given to the first worker that idles. A worker that dies is replaced, and what it held is either handed on
    (if it had not begun) or reported lost with the task that ran.
    """

    name = "process"

    def __init__(self, address: Address, config: ExecutorConfig) -> None:
        start = address.options.get("start")
        unknown = sorted(set(address.options) - {"start"})
        if address.where or unknown or start not in (None, "fork", "fresh"):
            raise ConfigError(
                f"compute backend 'process' takes no place and only the option start=fork|fresh, not "
                f"{address.where or ', '.join(unknown) or f'start={start}'}"
            )
        if sys.platform == "win32":
            raise ConfigError("compute backend 'process' needs Linux or macOS; on Windows use WSL, or 'serial'")
        self.workers = config.workers or default_workers()
        enforces = frozenset({"timeout", "memory"} if os.path.exists("/proc/self/statm") else {"timeout"})
        self.capabilities = Capabilities(shares_files=True, carries_queues=True, enforces=enforces)
        self._fresh = None if start is None else start == "fresh"
        self._workers: dict[int, WorkerProcess] = {}
        self._waiting: deque[Invocation] = deque()
        self._replies: list[Reply] = []
        self._next_worker = self._sequence = self._failed_starts = self._forkserver = 0
        self._control: socket.socket | None = None
        self._closed = False
        self._depth = DEPTH
        self._unflushed: set[WorkerProcess] = set()

    def start(self) -> None:
        """Start the fork server and ask it for every worker.

        Raises
        ------
        ConfigError
            The process may not open enough files for so many workers.
        """
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        wanted = _DESCRIPTORS * (self.workers + 2)
        if allowed != resource.RLIM_INFINITY and wanted > allowed:
            raise ConfigError(
                f"{self.workers} workers need about {wanted} open files and this process may have {allowed}; "
                "raise the limit with 'ulimit -n', or use fewer workers"
            )
        self._control, self._forkserver = start_forkserver(
            self._fresh
        )  # first: nothing may exist that a fork would share
        self._selector = selectors.DefaultSelector()
        self._wakeup_read, self._wakeup_write = socket.socketpair()
        for end in (self._wakeup_read, self._wakeup_write):
            end.setblocking(False)
        self._selector.register(self._wakeup_read, selectors.EVENT_READ)
        self._selector.register(self._control, selectors.EVENT_READ)
        while len(self._workers) < self.workers:
            self._spawn()

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        claim_read, claim_write = os.pipe()
        os.set_blocking(claim_read, False)
        task_status_file = anonymous_file(TASK_STATUS.size)
        ident, self._next_worker = self._next_worker, self._next_worker + 1
        rights = array.array("i", [theirs.fileno(), claim_read, task_status_file])
        message = [CONTROL.pack(b"S", ident, 0)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        try:
            if self._control is None:
                raise OSError("no fork server")
            self._control.sendmsg(*message)
        except OSError:
            self._lose_forkserver()
            self._control, self._forkserver = start_forkserver(fresh=True)
            self._selector.register(self._control, selectors.EVENT_READ)
            self._control.sendmsg(*message)
        task_status = mmap.mmap(task_status_file, TASK_STATUS.size)
        TASK_STATUS.pack_into(task_status, 0, -1, -1, 0.0)
        os.close(task_status_file)
        theirs.close()
        worker = WorkerProcess(ident, Channel(ours), claim_read, claim_write, task_status, self._forkserver)
        self._workers[ident] = worker
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)

    def _lose_forkserver(self) -> None:
        if self._control is not None:
            self._selector.unregister(self._control)
            self._control.close()
            self._control = None
            _await_end(self._forkserver)

    def capacity(self) -> int:
        """Return how many batches the workers could hold beyond those they have."""
        free = sum(self._depth - len(worker.held) for worker in self._workers.values() if worker.lost_at == math.inf)
        return free - len(self._waiting)

    def invoke(self, invocation: Invocation) -> None:
        """Send a batch to the worker that holds least."""
        self._waiting.append(invocation)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._waiting:
            living = [w for w in self._workers.values() if w.lost_at == math.inf and w.end_reason is None]
            worker = min(living, key=lambda w: len(w.held), default=None)
            if worker is None or len(worker.held) >= self._depth:
                return
            self._send(worker, self._waiting.popleft())

    def _send(self, worker: WorkerProcess, invocation: Invocation) -> None:
        self._sequence += 1
        has_call = invocation.durable is None and invocation.call_hash not in worker.known
        packed = invocation.packed
        head = (
            "run",
            self._sequence,
            invocation.call_hash,
            has_call,
            invocation.job_id,
            invocation.task_ids,
            invocation.attempt,
            packed.meta() if packed else None,
            invocation.durable,
            invocation.notify,
        )
        segments: list[Buffer] = [pickle.dumps(head, 5), invocation.call if has_call else b""]
        if packed is not None:
            segments += [packed.data, *packed.buffers]
        if has_call:
            worker.known.add(invocation.call_hash)
        worker.held[self._sequence] = invocation
        worker.claims += CLAIM.pack(self._sequence)
        worker.channel.queue(segments)
        self._unflushed.add(worker)

    def _flush(self, worker: WorkerProcess) -> None:
        if worker.claims:  # before their batches: a batch that finds no token has been taken back
            os.write(worker.claim_write, worker.claims)
            worker.claims = b""
        with contextlib.suppress(ConnectionLost):  # reading will find it lost, with its last words
            worker.channel.flush()
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.channel.unsent else 0)
            if self._selector.get_key(worker.channel).events != events:
                self._selector.modify(worker.channel, events, worker)

    def _steal(self) -> None:
        """Give a batch that waits behind a running one to a worker that has nothing to do."""
        for idle in [w for w in self._workers.values() if not w.held and w.lost_at == math.inf]:
            for worker in self._workers.values():
                if len(worker.held) > 1:
                    self._take_back(worker, next(reversed(worker.held)))
            if not self._waiting:
                return
            self._send(idle, self._waiting.popleft())

    def _take_back(self, worker: WorkerProcess, sequence: int) -> bool:
        """Move a batch that has not begun, and any before it, back to the queue."""
        if worker in self._unflushed:
            self._unflushed.discard(worker)
            self._flush(worker)
        back = []
        while sequence in worker.held:
            try:
                (claim,) = CLAIM.unpack(os.read(worker.claim_read, CLAIM.size))
            except BlockingIOError:
                break
            back.append(worker.held.pop(claim))
        self._waiting.extendleft(reversed(back))
        return sequence not in worker.held

    def poll(self, timeout: float | None) -> list[Reply]:
        """Return replies, waiting for the first; see to limits and to workers that died meanwhile."""
        if not self._replies:
            self._steal()
            while self._unflushed:
                self._flush(self._unflushed.pop())
            for key, events in self._selector.select(self._next_poll(timeout)):
                worker = key.data
                if worker is not None:
                    if events & selectors.EVENT_WRITE:
                        self._flush(worker)
                    if events & selectors.EVENT_READ:
                        self._read(worker)
                elif key.fileobj is self._wakeup_read:
                    with contextlib.suppress(BlockingIOError):
                        self._wakeup_read.recv(4096)
                else:
                    self._hear_forkserver()
        self._watch(time.monotonic())
        self._dispatch()
        replies, self._replies = self._replies, []
        return replies

    def _next_poll(self, timeout: float | None) -> float | None:
        now, until = time.monotonic(), math.inf if timeout is None else time.monotonic() + timeout
        for worker in self._workers.values():
            until = min(until, worker.kill_at, worker.lost_at + RESPITE)
            if worker.suspect is not None:
                until = min(until, now + 0.001)
            for invocation in worker.held.values():
                if invocation.memory is not None and "memory" in self.capabilities.enforces:
                    until = min(until, now + WATCH)
                if invocation.timeout is not None:
                    _, position, started = worker.doing()
                    begun = started if position >= 0 else now
                    until = min(until, max(begun + invocation.timeout, now + 0.001))
        return None if until == math.inf else max(0.0, until - now)

    def _read(self, worker: WorkerProcess) -> None:
        if worker.lost_at < math.inf:  # the fork server told of its end among the same events
            return
        try:
            messages = worker.channel.drain()
        except ConnectionLost:
            messages = worker.channel.pending()
            self._selector.unregister(worker.channel)
            worker.lost_at = time.monotonic()
        for segments in messages:
            body = pickle.loads(segments[0])
            if body[0] == VALUE:
                deliver(body[1], bytes(segments[1]))
                continue
            invocation = worker.held.pop(body[0])
            self._failed_starts = 0
            if len(body) > 2:
                count, ends, counts = body[1]
                values = Packed(count, segments[1], ends, counts, segments[2:])
                self._replies.append(BatchDone(invocation.batch_id, worker.name, BatchResult(values, *body[2:])))
                self._depth = max(DEPTH, min(DEEPEST, int(AHEAD / (sum(body[2]) + _OVERHEAD))))
            elif body[1] is None:
                self._replies.append(BatchDone(invocation.batch_id, worker.name, None))
            else:
                failure, ident = body[1], invocation.batch_id
                why = f"{failure.kind}: {failure.message}"
                self._replies.append(BatchLost(ident, worker.name, "unavailable", why, None, True, failure))

    def _hear_forkserver(self) -> None:
        assert self._control is not None
        try:
            message = self._control.recv(CONTROL.size, socket.MSG_WAITALL)
        except OSError:
            message = b""
        if len(message) < CONTROL.size:
            self._lose_forkserver()
            return
        kind, ident, number = CONTROL.unpack(message)
        worker = self._workers.get(ident)
        if worker is None:
            return
        if kind == b"S":
            worker.pid, worker.baseline = number, resident_bytes(number)
        else:
            worker.status = number
            if worker.lost_at == math.inf:  # a process that its task left behind may hold the socket open
                self._read(worker)
            if worker.lost_at == math.inf:
                self._selector.unregister(worker.channel)
                worker.lost_at = time.monotonic()

    def _watch(self, now: float) -> None:
        for worker in list(self._workers.values()):
            if worker.lost_at < math.inf:
                if worker.status is not None or now >= worker.lost_at + RESPITE:
                    self._reap(worker)
                continue
            if now >= worker.kill_at:
                self._signal(worker, signal.SIGKILL)
                worker.kill_at = math.inf
            number, position, started = doing = worker.doing()
            invocation = worker.held.get(number)
            if invocation is None or worker.end_reason is not None:
                worker.suspect = None
                continue
            if invocation.timeout is not None and position >= 0 and now - started > invocation.timeout:
                if worker.suspect != doing:  # the record may have been half written: look again
                    worker.suspect = doing
                    continue
                self._terminate(worker, "timeout", f"it ran longer than its timeout of {invocation.timeout:g} s")
            worker.suspect = None
            if invocation.memory is not None and worker.pid and "memory" in self.capabilities.enforces:
                used = resident_bytes(worker.pid) - worker.baseline
                if used > invocation.memory:
                    limit = f"it used {used / 1e6:.0f} MB, over its memory limit of {invocation.memory / 1e6:.0f} MB"
                    self._terminate(worker, "memory", limit)

    def _terminate(self, worker: WorkerProcess, reason: LossReason, message: str) -> None:
        worker.end_reason = (reason, message)
        if reason == "timeout":
            self._signal(worker, signal.SIGTERM)
            worker.kill_at = time.monotonic() + GRACE
        else:
            self._signal(worker, signal.SIGKILL)

    def _signal(self, worker: WorkerProcess, number: int) -> None:
        if worker.forkserver == self._forkserver and self._control is not None:
            with contextlib.suppress(OSError):
                self._control.sendall(CONTROL.pack(b"K", worker.ident, number))
        elif worker.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, number)

    def _reap(self, worker: WorkerProcess) -> None:
        """Account for a dead worker's batches and start its successor."""
        del self._workers[worker.ident]
        self._unflushed.discard(worker)
        number, position, _ = worker.doing()
        reason, message = worker.end_reason or ("died", how_it_ended(worker.status))
        for sequence, invocation in reversed(worker.held.items()):
            if sequence == number:
                running = position if position >= 0 else None
                lost = BatchLost(invocation.batch_id, worker.name, reason, message, running, True)
                self._replies.append(lost)
            else:
                self._waiting.appendleft(invocation)
        if number < 0:
            self._failed_starts += 1
        release(worker)
        if self._failed_starts >= _FAILED_STARTS_LIMIT:
            raise FanfoldError(
                f"{self._failed_starts} worker processes ended before they had run anything ({message}); "
                "see what they wrote to standard error"
            )
        if not self._closed:
            self._spawn()

    def wake(self) -> None:
        """End a `poll` that waits."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._wakeup_write.send(b"!")

    def _holder(self, batch_id: int) -> tuple[WorkerProcess, int] | None:
        for worker in self._workers.values():
            for sequence, invocation in worker.held.items():
                if invocation.batch_id == batch_id:
                    return worker, sequence
        return None

    def is_running(self, batch_id: int) -> bool:
        """Whether a worker has begun a batch."""
        holder = self._holder(batch_id)
        return holder is not None and holder[0].doing()[0] == holder[1]

    def revoke(self, batch_id: int) -> bool:
        """Take back a batch that no worker has begun."""
        holder = self._holder(batch_id)
        if holder is not None and not self._take_back(*holder):
            return False
        for invocation in self._waiting:
            if invocation.batch_id == batch_id:
                self._waiting.remove(invocation)
                return True
        return False

    def kill(self, batch_id: int) -> None:
        """End the worker that runs a batch."""
        holder = self._holder(batch_id)
        if holder is not None and holder[0].end_reason is None:
            self._terminate(holder[0], "killed", "it was cancelled")

    def forget(self, call_hash: str) -> None:
        """Let every worker that has a function drop it."""
        for worker in self._workers.values():
            if call_hash in worker.known and worker.lost_at == math.inf:
                worker.known.discard(call_hash)
                worker.channel.queue([pickle.dumps(("forget", call_hash), 5)])
                self._unflushed.add(worker)

    def close(self, force: bool = False) -> None:
        """End the workers, the busy ones by force, and the fork server."""
        if self._closed:
            return
        self._closed = True
        for worker in self._workers.values():
            if force:
                self._signal(worker, signal.SIGKILL)
            release(worker)
        self._workers.clear()
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
            self._control.close()
            _await_end(self._forkserver)
        self._selector.close()
        self._wakeup_read.close()
        self._wakeup_write.close()


def _await_end(pid: int) -> None:
    """Wait a moment for a child to end, then make it."""
    deadline = time.monotonic() + 2 * GRACE
    with contextlib.suppress(ChildProcessError, ProcessLookupError):
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)
