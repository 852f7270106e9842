"""Base of backends that send a batch to a remote worker and wait for its answer: containers, HTTP, cloud functions."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from core.compute.base import Capabilities
from core.compute.remote.courier import Courier, Recent
from core.compute.remote.slot import ExchangeError, NotStarted, Slot, Throttled
from core.compute.waiting import Backoff, Mailbox
from core.errors import ComputeError, ComputeUnavailable, FanfoldError
from core.settings import Address, ExecutorConfig
from core.task.protocol import BatchLost, Invocation, Reply

_logger = logging.getLogger("fanfold")

T = TypeVar("T")

POLL_INTERVAL = 0.2
"""Seconds between two looks whether a batch that is to end has ended."""

BACKOFF_MIN, BACKOFF_MAX = 0.05, 5.0
"""Seconds before a throttled or failed request is made again, doubled each time."""

UNAVAILABLE_TIMEOUT = 120.0
"""Seconds for which no request may get through before the platform counts as unavailable."""
NOTICE_TIMEOUT = 10.0
"""Seconds after which a person who waits is told that none does."""

CLOSE_TIMEOUT = 5.0
"""Seconds that the slots have to end when the backend closes."""


class Reach:
    """Whether a platform can be reached, from what all slots meet: one that gets through speaks for the others.

    Each try has a number: a batch's, or a negative one for the opening of a slot.
    """

    def __init__(self) -> None:
        self._tries: dict[int, bool] = {}
        self._opened = False
        self._heard = 0.0

    @property
    def struggling(self) -> list[int]:
        """The tries that have met a busy or absent platform."""
        return [number for number, struggles in list(self._tries.items()) if struggles]

    def begin(self, number: int) -> None:
        """Hear of a try."""
        self._tries[number] = False

    def fail(self, number: int) -> bool:
        """Hear that a try met a busy or absent platform; returns whether none gets through."""
        self._tries[number] = True
        is_spare = number < 0 and self._opened
        return not is_spare and all(list(self._tries.values()))

    def end(self, number: int, succeeded: bool) -> None:
        """Hear that a try has ended."""
        del self._tries[number]
        self._opened = self._opened or (succeeded and number < 0)
        self._heard = time.monotonic()

    def silence(self, began: float) -> float:
        """Return the seconds since anything got through, or since a try began."""
        return time.monotonic() - max(began, self._heard)


class RemoteBackend(ABC):
    """Runs each batch by one call to a remote worker, from a thread for each slot.

    A backend names itself, checks its address in ``__init__`` and opens its slots; everything else is here.

    Attributes
    ----------
    unavailable_timeout : float
        Seconds for which no request may get through before the platform counts as unavailable.
    notice_timeout : float
        Seconds after which a warning says that none does.
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
        self.unavailable_timeout, self.notice_timeout = UNAVAILABLE_TIMEOUT, NOTICE_TIMEOUT
        self.reach = Reach()
        self._waiting: deque[Invocation] = deque()
        self._running: dict[int, Slot] = {}
        self._killed: set[int] = set()
        self._changed = threading.Condition()
        self._mailbox: Mailbox[Reply] = Mailbox()
        self._threads: list[threading.Thread] = []
        self._closed = self._noticed = False
        self._interrupting = threading.Lock()

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
        """Start the slots' threads; each makes its slot ready at once.

        Raises
        ------
        FanfoldError
            The platform cannot be used.
        """
        try:
            self.prepare()
        except ExchangeError as error:
            raise ComputeError(f"{self.name} cannot be used: {error}") from None
        self._courier = Courier(self.name, self.largest, self.config.storage)
        for index in range(self.slots_each * self.workers):
            name = f"fanfold-{self.name}-{index}"
            self._threads.append(threading.Thread(target=self._serve, args=(index,), name=name, daemon=True))
        for thread in self._threads:
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
        if self._killed:  # an interrupt comes to nothing if the request was only about to be sent
            timeout = min(POLL_INTERVAL, POLL_INTERVAL if timeout is None else timeout)
            for ident in list(self._killed):
                self._interrupt(ident)
        return self._mailbox.poll(timeout)

    def _interrupt(self, batch_id: int) -> None:
        with self._interrupting:  # until then the slot does not begin another batch, which would be hit instead
            slot = self._running.get(batch_id)
            if slot is not None:
                slot.interrupt()

    def wake(self) -> None:
        """End a `poll` that waits."""
        self._mailbox.wake()

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
        until = time.monotonic() + CLOSE_TIMEOUT
        while (living := [thread for thread in self._threads if thread.is_alive()]) and time.monotonic() < until:
            for ident in list(self._running) if force else list(self._killed):
                self._interrupt(ident)
            living[0].join(POLL_INTERVAL)
        self.release()

    def _serve(self, index: int) -> None:
        """Run batches on one slot until the backend closes."""
        slot: Slot | None = None
        sent: Recent[None] = Recent()
        try:
            slot = self._persist(lambda: self.open_slot(index), -1 - index)
            while slot is not None and (invocation := self._next(slot)) is not None:
                self._mailbox.put(self._run(slot, invocation, sent))
        except FanfoldError as error:
            self._fail(error)
        except Exception as error:
            self._fail(FanfoldError(f"compute backend {self.name} broke: {type(error).__name__}: {error}"))
        finally:
            if slot is not None:
                slot.close()

    def _next(self, slot: Slot) -> Invocation | None:
        """Return the batch that a slot is to run, waiting for one; None if the backend closes."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            invocation = self._waiting.popleft()
            self._running[invocation.batch_id] = slot
            return invocation

    def _run(self, slot: Slot, invocation: Invocation, sent: Recent[None]) -> Reply:
        """Have a batch run; returns what became of it."""
        ident = invocation.batch_id

        def send(message: bytes) -> bytes | None:
            return self._persist(lambda: slot.exchange(message, invocation), ident)

        reply = self._courier.run(invocation, sent, send)
        if self._part_from(ident) and isinstance(reply, BatchLost):
            reply.reason, reply.message = "killed", "it was cancelled"
        return reply

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
            self._mailbox.fail(error)

    def _persist(self, action: Callable[[], T], number: int) -> T | None:
        """Do what may meet a busy or absent platform, again and again; None if it is not wanted any more.

        `number` is the batch's, or a negative one for the opening of a slot.

        Raises
        ------
        ComputeUnavailable
            Nothing got through, on any slot, for as long as one can wait.
        """
        began, made = time.monotonic(), None
        backoff = Backoff(BACKOFF_MIN, BACKOFF_MAX, jitter=0.5, timeout=self.unavailable_timeout)
        self.reach.begin(number)
        try:
            while not self._is_unwanted(number):
                try:
                    made = action()
                    break
                except (Throttled, NotStarted) as error:
                    silence = self.reach.silence(began) if self.reach.fail(number) else 0.0
                    if silence > self.unavailable_timeout:
                        raise ComputeUnavailable(f"{self.name} runs nothing: {error}") from error
                    if silence > self.notice_timeout:
                        self._notice(error)
                    pause = backoff.next(error.wait)
                with self._changed:
                    self._changed.wait_for(lambda: self._is_unwanted(number), pause)
        finally:
            self.reach.end(number, made is not None)
        return made

    def _notice(self, error: Exception) -> None:
        """Say, once, that nothing gets through."""
        with self._changed:
            is_news, self._noticed = not self._noticed, True
        if is_news:
            most = self.unavailable_timeout
            _logger.warning(
                "%s runs nothing so far: %s; after %g s without an answer the job ends", self.name, error, most
            )

    def _is_unwanted(self, number: int) -> bool:
        return self._closed or number in self._killed
