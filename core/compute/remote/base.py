"""Base of backends that send a batch to a remote worker and wait for its answer: containers, HTTP, cloud functions."""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from core import serialization
from core.compute.base import Capabilities
from core.data.objects import process_storage
from core.errors import ComputeUnavailable, FanfoldError, InputError, IntegrityError, StorageError
from core.settings import Address, ExecutorConfig
from core.task import keys, messages
from core.task.messages import NeedsCall, PayloadRef, TooLarge
from core.task.protocol import BatchDone, BatchLost, Invocation, LossReason, Reply
from core.task.run import describe
from core.task.versions import versions

T = TypeVar("T")


ALWAYS_SENT = 32 << 10
"""Functions up to this many bytes travel with every request: cheaper than asking whether an instance has them."""

LOOK = 0.2
"""Seconds between two looks whether a batch that is to end has ended."""

FIRST_WAIT, LONGEST_WAIT = 0.05, 5.0
"""Seconds before a throttled or failed request is made again, doubled each time."""

PATIENCE = 120.0
"""Seconds for which no request may get through before the platform counts as unavailable."""


class Throttled(Exception):
    """The platform has no room now; the request was not begun. `wait` is how long it asks for, in seconds."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


def retry_after(text: str) -> float:
    """Return the seconds that a ``Retry-After`` header asks for, 0 if it names a date or nothing."""
    return float(text) if text.isdecimal() else 0.0


class NotStarted(Exception):
    """The request reached no worker and may be made again."""


class Oversized(Exception):
    """A request does not fit, and there is no storage to leave it in, or the platform finds it too large."""


class WorkerEnded(Exception):
    """The worker ended, or may have, while it ran the batch."""

    def __init__(self, message: str, reason: LossReason = "died", position: int | None = None) -> None:
        super().__init__(message)
        self.reason: LossReason = reason
        self.position = position


class Slot(ABC):
    """A place where one batch runs at a time: a live container, or one connection to a service.

    All methods but `interrupt` are called from the slot's own thread.
    """

    @abstractmethod
    def exchange(self, message: bytes, invocation: Invocation) -> bytes:
        """Send a request and return the reply.

        Raises
        ------
        Throttled, NotStarted, Oversized, WorkerEnded
            What became of the request.
        FanfoldError
            Nothing will work: credentials, image or settings are wrong. The executor ends with it.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """Make a running `exchange` raise `WorkerEnded` soon, if that can be done. Called from any thread."""

    def close(self) -> None:
        """Release what the slot holds."""
        return None


def _opening(index: int) -> int:
    """Return the number under which a slot is opened: no batch has it."""
    return -1 - index


def settled(reply: object, seconds: float) -> Reply:
    """Return the last word on a batch that was answered so many seconds after it was sent.

    Raises
    ------
    IntegrityError
        It is not the last word.
    """
    if isinstance(reply, BatchDone) and reply.outcome is not None:
        reply.outcome.overhead = seconds - sum(reply.outcome.durations)
    if isinstance(reply, BatchLost) and reply.reason == "killed":
        reply.reason = "died"
        reply.message = "its worker ended it: somebody between here and there broke the connection"
    if isinstance(reply, BatchDone | BatchLost):
        return reply
    raise IntegrityError("a worker asks again for a function that it was sent")


class RemoteBackend(ABC):
    """Runs each batch by one call to a remote worker, from a thread for each slot.

    A backend names itself, checks its address in ``__init__`` and opens its slots; everything else is here.

    Attributes
    ----------
    patience : float
        Seconds for which no request may get through before the platform counts as unavailable.
    largest : int or None
        Bytes a request or reply may have; larger ones go through the executor's storage.
    slots_each : int
        Slots for each worker: more than one where the platform queues batches and is slow to hand them on.
    """

    name = "remote"
    capabilities = Capabilities(speculates=True)
    largest: int | None = None
    slots_each = 1

    def __init__(self, address: Address, config: ExecutorConfig, workers: int) -> None:
        self.address, self.config = address, config
        self.workers = workers
        self.patience = PATIENCE
        self._waiting: deque[Invocation] = deque()
        self._running: dict[int, Slot] = {}
        self._killed: set[int] = set()
        self._changed = threading.Condition()
        self._replies: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._failure: FanfoldError | None = None
        self._versions: dict[str, str] = {}
        self._spill_key = os.urandom(32)
        self._opening: set[int] = set()
        self._struggling: set[int] = set()
        self._interrupting = threading.Lock()
        self._opened = 0
        self._heard = 0.0

    @abstractmethod
    def open_slot(self, index: int) -> Slot:
        """Make a slot, in its own thread; raises as `Slot.exchange` does."""

    def prepare(self) -> None:
        """Do once what all slots need; called before the first of them is opened."""
        return None

    def release(self) -> None:
        """Undo `prepare`, when every slot is closed."""
        return None

    def start(self) -> None:
        """Start the slots' threads; each makes its slot ready at once."""
        self._versions = versions()
        self.prepare()
        slots = range(self.slots_each * self.workers)
        self._opening.update(map(_opening, slots))
        for index in slots:
            thread = threading.Thread(
                target=self._serve, args=(index,), name=f"fanfold-{self.name}-{index}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def capacity(self) -> int:
        """Return how many batches to send: one waits for each worker, so that no slot idles for the driver."""
        with self._changed:
            return (self.slots_each + 1) * self.workers - len(self._waiting) - len(self._running)

    def invoke(self, invocation: Invocation) -> None:
        """Queue a batch for the next slot that is free."""
        with self._changed:
            self._waiting.append(invocation)
            self._changed.notify()

    def poll(self, timeout: float | None) -> list[Reply]:
        """Return replies, waiting for the first.

        Raises
        ------
        FanfoldError
            The platform cannot be used.
        """
        found: list[Reply] = []
        if self._killed:  # an interrupt comes to nothing if the request was only about to be sent
            timeout = min(LOOK, LOOK if timeout is None else timeout)
            for ident in list(self._killed):
                self._interrupt(ident)
        try:
            reply = self._replies.get(timeout=timeout)
            while True:
                if reply is not None:
                    found.append(reply)
                reply = self._replies.get_nowait()
        except queue.Empty:
            pass
        if self._failure is not None and not found:
            raise self._failure
        return found

    def _interrupt(self, batch_id: int) -> None:
        with self._interrupting:  # until then the slot does not begin another batch, which would be hit instead
            slot = self._running.get(batch_id)
            if slot is not None:
                slot.interrupt()

    def wake(self) -> None:
        """End a `poll` that waits."""
        self._replies.put(None)

    def is_running(self, batch_id: int) -> bool:
        """Whether a batch has been sent."""
        return batch_id in self._running

    def revoke(self, batch_id: int) -> bool:
        """Take back a batch that has not been sent."""
        with self._changed:
            for invocation in self._waiting:
                if invocation.batch_id == batch_id:
                    self._waiting.remove(invocation)
                    return True
        return False

    def kill(self, batch_id: int) -> None:
        """End the worker that runs a batch, where the platform can."""
        with self._changed:
            if batch_id not in self._running:
                return
            self._killed.add(batch_id)
            self._changed.notify_all()
        self._interrupt(batch_id)

    def forget(self, call_hash: str) -> None:
        """Do nothing: workers drop functions by their own count."""
        return None

    def close(self, force: bool = False) -> None:
        """End the slots, those that are busy by force."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        until = time.monotonic() + LONGEST_WAIT
        while (living := [thread for thread in self._threads if thread.is_alive()]) and time.monotonic() < until:
            for ident in list(self._running) if force else list(self._killed):
                self._interrupt(ident)
            living[0].join(LOOK)
        self.release()

    def _serve(self, index: int) -> None:
        """Run batches on one slot until the backend closes."""
        slot: Slot | None = None
        sent: set[str] = set()
        try:
            slot = self._persist(lambda: self.open_slot(index), _opening(index))
            with self._changed:
                self._opening.discard(_opening(index))
                self._opened += slot is not None
            while slot is not None:
                with self._changed:
                    while not self._waiting and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        return
                    invocation = self._waiting.popleft()
                    self._running[invocation.batch_id] = slot
                reply = self._run(slot, invocation, sent)
                if self._part_from(invocation.batch_id) and isinstance(reply, BatchLost):
                    reply.reason, reply.message = "killed", "it was cancelled"
                self._replies.put(reply)
        except FanfoldError as error:
            self._fail(error)
        except Exception as error:
            self._fail(FanfoldError(f"compute backend {self.name} broke: {type(error).__name__}: {error}"))
        finally:
            if slot is not None:
                slot.close()

    def _part_from(self, batch_id: int) -> bool:
        """Free a slot of a batch that has ended; returns whether it was to be ended."""
        with self._changed:
            if batch_id not in self._killed:
                del self._running[batch_id]
                return False
        with self._interrupting, self._changed:
            del self._running[batch_id]
            self._killed.discard(batch_id)
        return True

    def _fail(self, error: FanfoldError) -> None:
        if not self._closed:
            self._failure = self._failure or error
            self.wake()

    def _run(self, slot: Slot, invocation: Invocation, sent: set[str]) -> Reply:
        """Have a batch run; returns what became of it."""
        ident, call_hash = invocation.batch_id, invocation.call_hash
        has_call = len(invocation.call) <= ALWAYS_SENT or call_hash not in sent
        spilled: list[str] = []
        try:
            while True:
                message = self._message(invocation, has_call, spilled)
                sent_at = time.monotonic()
                answer = self._persist(lambda message=message: slot.exchange(message, invocation), ident)  # type: ignore[misc]
                if answer is None:
                    return BatchLost(ident, self.name, "killed", "it was cancelled", None, False)
                reply = messages.read_reply(answer, invocation)
                if isinstance(reply, PayloadRef):
                    spilled.append(reply.place)
                    reply = messages.read_reply(self._fetch(reply.place), invocation)
                if isinstance(reply, NeedsCall) and not has_call:
                    has_call = True
                    continue
                sent.add(call_hash)
                if isinstance(reply, TooLarge):
                    return self._oversized(invocation, f"its results are {reply.size / 1e6:.1f} MB")
                return settled(reply, time.monotonic() - sent_at)
        except WorkerEnded as end:
            sent.clear()
            return BatchLost(ident, self.name, end.reason, str(end), end.position, True)
        except Oversized as error:
            return self._oversized(invocation, str(error))
        except IntegrityError as error:
            return BatchLost(ident, self.name, "died", f"its answer cannot be read: {error}", None, True)
        except StorageError as error:
            return BatchLost(ident, self.name, "unavailable", str(error), None, True, describe(error))
        finally:
            if spilled and self.config.storage is not None:
                with suppress(StorageError):  # the batch is answered; the clean-up of the storage takes the rest
                    process_storage(self.config.storage).delete(spilled)

    def _message(self, invocation: Invocation, has_call: bool, spilled: list[str]) -> bytes:
        """Return the request for a batch, or one that says where in storage it is."""
        storage = self.config.storage
        spill = None
        if self.largest is not None and storage is not None and invocation.durable is None:
            spill = PayloadRef(storage, keys.message(invocation.job_id, os.urandom(8).hex()), self._spill_key)
        message = messages.request(invocation, self._versions, has_call, spill)
        if self.largest is None or len(message) <= self.largest:
            return message
        if spill is None or not (opened := process_storage(spill.address)).shared:
            what = "function is" if has_call and 2 * len(invocation.call) > len(message) else "inputs are"
            raise Oversized(f"its {what} {len(message) / 1e6:.1f} MB")
        opened.put(spill.place, serialization.sign(spill.key, spill.place, message))
        spilled.append(spill.place)
        return messages.encode(
            {"kind": "spilled", "address": spill.address, "place": spill.place, "key": spill.key.hex()}
        )

    def _oversized(self, invocation: Invocation, what: str) -> BatchLost:
        """Give up on a task that is too large; a batch of several is taken apart first."""
        assert self.largest is not None
        why = (
            f"{what}, and {self.name} carries {self.largest / 1e6:.1f} MB a call; "
            "give the executor a storage that the workers reach, such as storage='s3://bucket/prefix'"
        )
        failure = describe(InputError(why)) if len(invocation.task_ids) == 1 else None
        return BatchLost(invocation.batch_id, self.name, "unavailable", why, None, True, failure)

    def _fetch(self, place: str) -> memoryview:
        """Return a reply that was left in storage."""
        if self.config.storage is None:
            raise IntegrityError("a worker left it in a storage, and there is none")
        signed = process_storage(self.config.storage).get(place)
        return serialization.verify(self._spill_key, place, signed)

    def _persist(self, action: Callable[[], T], ident: int) -> T | None:
        """Do what may meet a busy or absent platform, again and again; None if it is not wanted any more.

        `ident` is the batch's number, or that of the opening of a slot.

        Raises
        ------
        ComputeUnavailable
            Nothing got through, on any slot, for as long as one can wait.
        """
        began, wait = time.monotonic(), FIRST_WAIT
        try:
            while True:
                with self._changed:
                    if self._closed or ident in self._killed:
                        return None
                try:
                    return action()
                except (Throttled, NotStarted) as error:
                    self._struggling.add(ident)
                    busy = any(other not in self._struggling for other in (*self._running, *self._opening))
                    others = busy or (ident in self._opening and self._opened > 0)
                    if not others and time.monotonic() - max(began, self._heard) > self.patience:
                        raise ComputeUnavailable(f"{self.name} runs nothing: {error}") from error
                    least = error.wait if isinstance(error, Throttled) else 0.0
                with self._changed:
                    pause = max(min(least, self.patience), wait * random.uniform(0.5, 1.0))
                    self._changed.wait_for(lambda: self._closed or ident in self._killed, pause)
                wait = min(2 * wait, LONGEST_WAIT)
        finally:
            self._struggling.discard(ident)
            self._heard = time.monotonic()
