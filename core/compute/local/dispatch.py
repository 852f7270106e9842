"""Which worker runs which batch: batches wait, are sent ahead, and are taken back for a worker that idles."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections import deque
from collections.abc import Iterator
from typing import Any

from core.compute.local.channel import INLINE_BYTES, ConnectionLost
from core.compute.local.wire import CLAIM
from core.compute.local.worker import EMBEDDED
from core.compute.local.workers import WorkerProcess, WorkerTable
from core.serialization import Buffer
from core.task.protocol import Invocation

DEPTH_MIN = 2
"""Batches a worker holds at least: one that runs and one that waits, so that it never idles for the driver."""

DEPTH_MAX = 32
"""Batches a worker holds at most."""

HELD_SECONDS = 0.005
"""Seconds of work a worker holds, if that is more batches than `DEPTH_MIN`: each wakening costs both sides."""

_BATCH_SECONDS = 20e-6
"""Seconds a worker spends on a batch beside its tasks, about."""


class Dispatcher:
    """Hands batches to workers.

    A batch is held by a worker from `put` or later until its reply, and waits here while every worker holds enough.
    What was handed to a worker goes out with the next `flush`, many batches in one message.
    """

    def __init__(self, table: WorkerTable) -> None:
        self._table = table
        self._waiting: deque[Invocation] = deque()
        self._depth = DEPTH_MIN
        self._number = 0
        self._unsent: dict[WorkerProcess, None] = {}

    @property
    def room(self) -> int:
        """How many further batches the workers could hold; none before one has run half of its own: few are dear."""
        held = [len(worker.held) for worker in self._table.living()]
        if min(held, default=0) > self._depth // 2:
            return 0
        return self._depth * len(held) - sum(held) - len(self._waiting)

    def put(self, invocation: Invocation) -> None:
        """Take on a batch; `dispatch` hands it to a worker."""
        self._waiting.append(invocation)

    def learn(self, seconds: float) -> None:
        """Hear how long the tasks of a batch took: quick ones are sent further ahead."""
        self._depth = max(DEPTH_MIN, min(DEPTH_MAX, int(HELD_SECONDS / (seconds + _BATCH_SECONDS))))

    def dispatch(self) -> None:
        """Hand waiting batches to the workers that hold least."""
        living = [worker for worker in self._table.living() if worker.end_reason is None] if self._waiting else []
        while self._waiting and living:
            worker = min(living, key=_load)
            if len(worker.held) >= self._depth:
                return
            self._hold(worker, self._waiting.popleft())

    def _hold(self, worker: WorkerProcess, invocation: Invocation) -> None:
        self._number += 1
        worker.held[self._number] = invocation
        worker.unsent[self._number] = None
        self._unsent[worker] = None

    def steal(self) -> None:
        """Give a batch that waits behind a running one to a worker that has nothing to do."""
        for idle in [worker for worker in self._table.living() if not worker.held]:
            for worker in self._table.workers.values():
                if len(worker.held) > 1:
                    self._take_back(worker, next(reversed(worker.held)))
            if not self._waiting:
                return
            self._hold(idle, self._waiting.popleft())

    def _take_back(self, worker: WorkerProcess, number: int) -> bool:
        """Move a batch that has not begun, and any before it that has been sent, back to the queue."""
        back = []
        if number in worker.unsent:
            del worker.unsent[number]
            back.append(worker.held.pop(number))
        while number in worker.held:
            try:
                (claim,) = CLAIM.unpack(os.read(worker.claim_read, CLAIM.size))
            except BlockingIOError:
                break
            back.append(worker.held.pop(claim))
        self._waiting.extendleft(reversed(back))
        return number not in worker.held

    def flush(self) -> None:
        """Send every worker what it was handed."""
        while self._unsent:
            self.send(self._unsent.popitem()[0])

    def send(self, worker: WorkerProcess) -> None:
        """Send a worker what it was handed, as far as its socket takes it."""
        self._queue(worker)
        with contextlib.suppress(ConnectionLost):  # reading will find it lost, with its last words
            worker.channel.flush()
        if worker.is_blocked != worker.channel.unsent and worker.is_alive:
            worker.is_blocked = worker.channel.unsent
            self._table.watch(worker)

    def _queue(self, worker: WorkerProcess) -> None:
        if worker.unsent:
            # Claims come before their batches: a batch that finds none has been taken back.
            os.write(worker.claim_write, b"".join(map(CLAIM.pack, worker.unsent)))
            for message in _messages(worker):
                worker.channel.queue(message)
            worker.unsent.clear()

    def revoke(self, batch_id: int) -> bool:
        """Take back a batch for good, unless a worker has begun it."""
        holder = self.holder(batch_id)
        if holder is not None and not self._take_back(*holder):
            return False
        for invocation in self._waiting:
            if invocation.batch_id == batch_id:
                self._waiting.remove(invocation)
                return True
        return False

    def holder(self, batch_id: int) -> tuple[WorkerProcess, int] | None:
        """Return the worker that holds a batch, and the batch's number there."""
        for worker in self._table.workers.values():
            for number, invocation in worker.held.items():
                if invocation.batch_id == batch_id:
                    return worker, number
        return None

    def forget(self, call_hash: str) -> None:
        """Let every worker that has a function drop it."""
        for worker in self._table.living():
            if call_hash in worker.known:
                worker.known.discard(call_hash)
                self._queue(worker)
                worker.channel.queue([pickle.dumps(([call_hash], []), 5)])
                self._unsent[worker] = None

    def abandon(self, worker: WorkerProcess) -> None:
        """Take back every batch of a worker that is gone."""
        self._waiting.extendleft(reversed(worker.held.values()))
        worker.held.clear()
        self._unsent.pop(worker, None)


def _load(worker: WorkerProcess) -> int:
    return len(worker.held)


def _messages(worker: WorkerProcess) -> Iterator[list[Buffer]]:
    """Yield the messages that carry the unsent batches of a worker: small ones share one."""
    requests: list[tuple[Any, ...]] = []
    size = 0
    for number in worker.unsent:
        request, segments, embedded = _request(worker, number, worker.held[number])
        requests.append(request)
        size += embedded
        if segments or size > INLINE_BYTES // 2:
            yield [pickle.dumps(([], requests), 5), *segments]
            requests, size = [], 0
    if requests:
        yield [pickle.dumps(([], requests), 5)]


def _request(worker: WorkerProcess, number: int, invocation: Invocation) -> tuple[tuple[Any, ...], list[Buffer], int]:
    """Return a batch as `Worker` takes it, the segments that go with it, and how many bytes of values are in it."""
    packed = invocation.packed
    segments: list[Buffer] = []
    data, meta, buffers = None, None, 0
    has_call = packed is not None and invocation.call_hash not in worker.known
    if has_call:
        worker.known.add(invocation.call_hash)
        segments.append(invocation.call)
    if packed is not None:
        meta, buffers = packed.meta(), len(packed.buffers)
        if not buffers and len(packed.data) <= EMBEDDED:
            data = bytes(packed.data)
        else:
            segments += [packed.data, *packed.buffers]
    request = (
        number,
        invocation.call_hash,
        invocation.generation or invocation.job_id,
        has_call,
        data,
        meta,
        buffers,
        invocation.job_id,
        invocation.task_ids,
        invocation.attempt,
        invocation.durable,
        invocation.notify,
    )
    return request, segments, len(data or b"")
