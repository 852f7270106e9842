"""The life of a worker process: it answers batches until its driver closes the channel."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import threading
from collections import deque
from typing import Any

from core import serialization
from core.compute.functions import Functions
from core.compute.local.channel import Channel, ConnectionLost
from core.compute.local.wire import CLAIM, VALUE, TaskStatus
from core.serialization import Buffer, Packed
from core.serialization.modules import LocalModules
from core.task import notices as notify
from core.task.protocol import BatchResult, DurableRef, NotifyCredentials
from core.task.run import become_worker, describe, failed, in_worker, run

EMBEDDED = 16 << 10
"""Bytes of values that are copied into the pickle around them: below it a segment of their own costs more."""


def live(channel_end: int, claim_end: int, status_file: int) -> None:
    """Be a worker.

    Raises
    ------
    ConnectionLost
        The driver has closed the channel, or is gone.
    """
    become_worker()
    if "numpy.random" in sys.modules:  # every fork would draw the same numbers
        sys.modules["numpy.random"].seed(list(os.urandom(16)))
    os.set_blocking(claim_end, False)
    status = TaskStatus(status_file)
    os.close(status_file)
    Worker(Channel(socket.socket(fileno=channel_end)), claim_end, status).serve()


class Worker:
    """What a worker process holds between batches: its ways to the driver, and the functions it was sent."""

    def __init__(self, channel: Channel, claim_end: int, status: TaskStatus) -> None:
        self._channel = channel
        self._claim_end = claim_end
        self._claim = -1
        self._status = status
        self._functions = Functions()
        self._modules, self._job = LocalModules(), ""
        self._lock = threading.Lock()
        notify.speak_through(self._publish)

    def serve(self) -> None:
        """Answer messages, each (functions to forget, batches to run), for ever."""
        while True:
            self._serve_one()

    def _serve_one(self) -> None:
        segments = deque(self._channel.receive())
        forgotten, requests = pickle.loads(segments.popleft())
        for call_hash in forgotten:
            self._functions.drop(call_hash)
        for request in requests:
            self._handle(segments, *request)

    def _handle(
        self,
        segments: deque[Buffer],
        number: int,
        call_hash: str,
        generation: str,
        has_call: bool,
        data: bytes | None,
        meta: tuple[int, list[int] | None, list[int] | None],
        buffers: int,
        *rest: Any,
    ) -> None:
        """Run a batch that came with some of the segments of its message, unless the driver took it back."""
        if has_call:
            self._functions.put(call_hash, segments.popleft())
        packed = None
        if meta is not None:
            held = data if data is not None else segments.popleft()
            packed = Packed(meta[0], held, meta[1], meta[2], [segments.popleft() for _ in range(buffers)])
        if not self._may_begin(number):
            return
        self._status.begin(number)
        answer = self._answer(number, call_hash, generation, packed, *rest)
        self._modules.note_new()
        if not in_worker():
            os._exit(0)  # a child that the task forked, and that came back from the function
        with self._lock:
            self._channel.send(answer)

    def _may_begin(self, number: int) -> bool:
        while self._claim < number:
            try:
                claim = os.read(self._claim_end, CLAIM.size)
            except BlockingIOError:
                return False
            if not claim:
                raise ConnectionLost
            (self._claim,) = CLAIM.unpack(claim)
        return self._claim == number

    def _publish(self, word: notify.QueueHeader, data: bytes) -> None:
        with self._lock:
            self._channel.send([pickle.dumps((VALUE, word), 5), data])

    def _answer(
        self,
        number: int,
        call_hash: str,
        generation: str,
        packed: Packed | None,
        job_id: str,
        task_ids: list[int],
        attempt: int,
        durable: DurableRef | None,
        grant: NotifyCredentials | None,
    ) -> list[Buffer]:
        """Run a batch; returns the segments of the reply."""
        notify.use(grant)
        if job_id != self._job:
            self._job = job_id
            self._modules.forget_changed()
        if packed is None:
            assert durable is not None
            return [pickle.dumps((number, self._commit(durable, attempt)), 5)]
        try:
            call = self._functions.get(call_hash, generation)
            items = serialization.unpack(packed, call.definitions)
            outcome = run(call, items, task_ids, job_id, attempt, self._status.mark)
        except Exception as error:
            outcome = failed(len(task_ids), error)
        return reply(number, outcome)

    def _commit(self, durable: DurableRef, attempt: int) -> Any:
        """Run a batch whose result goes to storage; returns why it could not."""
        from core.task.commit import run_committed

        try:
            run_committed(durable, attempt, self._status.mark)
        except Exception as error:
            return describe(error)
        return None


def reply(number: int, outcome: BatchResult) -> list[Buffer]:
    """Return the segments of a message that tells of a batch that was run."""
    values = outcome.values
    is_small = not values.buffers and len(values.data) <= EMBEDDED
    body = (
        number,
        values.meta(),
        bytes(values.data) if is_small else None,
        outcome.durations,
        outcome.failures,
        outcome.attempts,
        outcome.logs,
        outcome.started,
        outcome.cpu,
        outcome.peak_rss,
        outcome.requests,
        outcome.bytes_in,
        outcome.bytes_out,
    )
    return [pickle.dumps(body, 5)] if is_small else [pickle.dumps(body, 5), values.data, *values.buffers]


def read_reply(body: tuple[Any, ...], segments: list[Buffer]) -> BatchResult:
    """Inverse of `reply`, of the unpickled first segment and the others."""
    (count, ends, counts), data, *rest = body[1:]
    if data is not None:
        return BatchResult(Packed(count, data, ends, counts), *rest)
    return BatchResult(Packed(count, segments[0], ends, counts, segments[1:]), *rest)
