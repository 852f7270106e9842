"""Runs the requests of a remote driver on worker processes of this machine: what stands behind every entry point.

A container, function instance, service or cluster node has the same engine inside as a laptop, so timeouts, memory
limits and deaths are found where they happen, with the task that ran.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence

from core import serialization
from core.compute.local.process import ProcessBackend
from core.compute.local.threads import usable_cores
from core.errors import FanfoldError, StorageError
from core.serialization import Buffer
from core.settings import Address, ExecutorConfig
from core.storage.clients import process_storage
from core.task import messages
from core.task.commit import write_loss_report
from core.task.messages import FUNCTIONS_KEPT, NeedsCall, PayloadRef, TooLarge
from core.task.protocol import BatchLost, Invocation, LossReason, Reply
from core.task.run import describe
from core.task.versions import check_versions

FUNCTIONS_LARGEST = 256 << 20
"""Bytes of functions that an agent remembers; the one used longest ago goes first."""

POLL_INTERVAL = 0.5
"""Seconds between two looks whether the caller still waits, and whether there is time left."""

OUT_OF_TIME = "it ran into the time limit of its platform; raise that limit, or give it less to do"

DESERTED = "whoever sent it does not wait for it any more"

OUT_OF_MEMORY = "the memory of its container ran out, and the kernel ended it"

ROOM_FOR_HEAD = 4096
"""Bytes kept free below a platform's limit for what wraps a message."""


class _Watch:
    """Whether the caller of a batch still waits, and whether there is time left."""

    def __init__(self, is_heard: Callable[[], bool] | None, until: float | None) -> None:
        self._is_heard, self._until = is_heard, until
        self.interval = None if is_heard is None and until is None else POLL_INTERVAL
        self.is_late = self._is_deserted = False

    def look(self) -> tuple[LossReason, str] | None:
        """Return why what runs must end, None if it may go on."""
        self.is_late = self.is_late or (self._until is not None and time.monotonic() >= self._until)
        self._is_deserted = self._is_deserted or (self._is_heard is not None and not self._is_heard())
        if self.is_late:
            return "timeout", OUT_OF_TIME
        return ("killed", DESERTED) if self._is_deserted else None


class Agent:
    """One worker process, and the functions it was sent. Used by one thread at a time.

    Parameters
    ----------
    name : str
        What statistics call this worker; by default host and process.
    largest : int, optional
        Bytes that a reply may have on its way back.
    workers : int
        Batches that run at the same time, for `run_all`.
    agents : int
        Agents of this process, which share its processors.
    """

    def __init__(self, name: str | None = None, largest: int | None = None, workers: int = 1, agents: int = 1) -> None:
        self.name = name or f"{os.uname().nodename}-{os.getpid()}"
        self._largest = largest
        self._workers = workers
        self._threads = max(1, usable_cores() // (workers * agents))
        self._calls: OrderedDict[str, bytes] = OrderedDict()
        self._backend = self._started()
        self._oom_kills = oom_kills()

    def _started(self) -> ProcessBackend:
        backend = ProcessBackend(
            Address("process", options={"threads": str(self._threads)}), ExecutorConfig(workers=self._workers)
        )
        backend.start()
        return backend

    def answer(
        self,
        message: Buffer,
        is_heard: Callable[[], bool] | None = None,
        until: float | None = None,
        function: bytes | None = None,
    ) -> bytes:
        """Run the batch of one request; returns the reply to send.

        `function` is what to run, if it came another way than within the request. A batch whose caller is not there any
        more, as `is_heard` says now and then, is ended, and one that still runs at the monotonic time `until`, when its
        platform is about to end this agent.
        """
        try:
            head, segments = messages.decode(message)
            if head.get("kind") == "spilled":
                spill = PayloadRef(head["address"], head["place"], bytes.fromhex(head["key"]))
                head, segments = messages.decode(_fetch(spill))
            check_versions(head["versions"])
            invocation, reply_to = messages.read_request(head, segments)
            invocation.call = function or invocation.call
        except (FanfoldError, LookupError, ValueError, TypeError, AttributeError) as error:
            return messages.reply(messages.refusal(0, describe(error)))
        if not self._supply(invocation, bool(head["has_call"] or function)):
            return messages.reply(NeedsCall(invocation.call_hash))
        (answer,) = self.run_all([invocation], is_heard, until=until)
        reply = messages.reply(answer, invocation)
        if self._largest is None or len(reply) + ROOM_FOR_HEAD <= self._largest:
            return reply
        if reply_to is None:
            return messages.reply(TooLarge(len(reply)))
        try:
            place = f"{reply_to.place}-{os.urandom(4).hex()}"
            process_storage(reply_to.address).put(place, serialization.sign(reply_to.key, place, reply))
        except StorageError as error:
            return messages.reply(messages.refusal(0, describe(error)))
        return messages.encode({"kind": "spilled", "place": place})

    def _supply(self, invocation: Invocation, has_call: bool) -> bool:
        """Give a batch its function; returns False if this agent has never been sent it."""
        if invocation.durable is not None:
            return True
        ident = invocation.call_hash
        if has_call:
            self._calls[ident] = invocation.call
            while len(self._calls) > 1 and self._keeps_too_much():
                self._backend.forget(self._calls.popitem(last=False)[0])
        if ident not in self._calls:
            return False
        self._calls.move_to_end(ident)
        invocation.call = self._calls[ident]
        return True

    def _keeps_too_much(self) -> bool:
        return len(self._calls) > FUNCTIONS_KEPT or sum(map(len, self._calls.values())) > FUNCTIONS_LARGEST

    def run_all(
        self,
        invocations: Sequence[Invocation],
        is_heard: Callable[[], bool] | None = None,
        begin: Callable[[int], None] | None = None,
        until: float | None = None,
    ) -> Iterator[Reply]:
        """Run batches, as many at a time as there are workers; yields each reply as it comes, `begin` hears of each."""
        waiting, running = deque(invocations), set[int]()
        watch = _Watch(is_heard, until)
        try:
            while waiting or running:
                while waiting and len(running) < self._workers:
                    invocation = waiting.popleft()
                    running.add(invocation.batch_id)
                    if begin is not None:
                        begin(invocation.batch_id)
                    self._backend.invoke(invocation)
                for reply in self._backend.poll(watch.interval):
                    running.remove(reply.batch_id)
                    yield self._told(reply, watch)
                if (end := watch.look()) is not None:
                    yield from self._end(waiting, running, *end)
        except Exception as error:  # what it held must not be taken for the answer to another request
            self._backend.close(force=True)
            self._backend = self._started()
            failure = describe(error)
            for ident in [*running, *(invocation.batch_id for invocation in waiting)]:
                yield BatchLost(ident, self.name, "died", failure.message, None, True, failure)

    def _told(self, reply: Reply, watch: _Watch) -> Reply:
        """Return the worker's word on a batch, with what only this agent knows of its end."""
        reply.worker = self.name
        if isinstance(reply, BatchLost) and reply.reason == "died" and self._is_out_of_memory():
            reply.reason, reply.message = "memory", OUT_OF_MEMORY
        if isinstance(reply, BatchLost) and reply.reason == "killed" and watch.is_late:
            reply.reason, reply.message = "timeout", OUT_OF_TIME
        return reply

    def _end(self, waiting: deque[Invocation], running: set[int], reason: LossReason, why: str) -> Iterator[BatchLost]:
        """Have no batch go on; yields the losses of those that have not begun."""
        ended = [invocation.batch_id for invocation in waiting]
        waiting.clear()
        for ident in list(running):
            if self._backend.revoke(ident):  # a worker killed before it begins would only be replaced
                running.remove(ident)
                ended.append(ident)
            else:
                self._backend.kill(ident)
        for ident in ended:
            yield BatchLost(ident, self.name, reason, why, None, True)

    def _is_out_of_memory(self) -> bool:
        """Whether the kernel has ended a process for the memory limit of this container since the last look."""
        before, self._oom_kills = self._oom_kills, oom_kills()
        return self._oom_kills > before

    def close(self) -> None:
        """End the worker."""
        self._backend.close(force=True)


def oom_kills() -> int:
    """Return how many processes of this control group the kernel has ended for want of memory, 0 if that is not told.

    See the kernel's documentation of ``memory.events`` (control groups 2) and ``memory.oom_control`` (1).
    """
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        try:
            with open(path, encoding="ascii") as file:
                return next(int(count) for name, count in map(str.split, file) if name == "oom_kill")
        except (OSError, StopIteration, ValueError):
            continue
    return 0


def answer_silently(agent: Agent, message: bytes, until: float | None = None) -> None:
    """Run a durable batch whose reply nobody reads, if need be until a monotonic time.

    Raises
    ------
    FanfoldError
        The loss of the batch could not be reported either; the platform should count the invocation as failed.
    """
    head, segments = messages.decode(message)
    invocation, _ = messages.read_request(head, segments)
    reply = messages.read_reply(agent.answer(message, until=until), invocation)
    if isinstance(reply, BatchLost):
        write_loss_report(invocation, reply)


def _fetch(spill: PayloadRef) -> memoryview:
    signed = process_storage(spill.address).get(spill.place)
    return serialization.verify(spill.key, spill.place, signed)
