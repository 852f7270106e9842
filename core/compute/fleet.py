"""Base of backends that start units and hear nothing back: cluster jobs, pods, asynchronous functions.

A unit is what the platform starts, watches and ends: a job array's element, a pod. It runs a list of batches whose
inputs and results are in storage, one commit a batch, so all that the platform is asked is which units have ended.
"""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from core import messages
from core.compute.base import BatchLost, Invocation, LossReason, Reply
from core.config import Address, ExecutorConfig
from core.durable import versions
from core.errors import ComputeUnavailable

SOONEST, LATEST = 0.1, 5.0
"""Seconds between two looks at the units, growing while nothing ends."""

WAVES = 8
"""Batches accepted for each unit that may run: units get lists, and the last ones even out."""

PATIENCE = 300.0
"""Seconds for which the platform may fail to answer before it counts as unavailable."""


@dataclass(frozen=True, slots=True)
class UnitEnd:
    """How a unit ended, as the platform tells it.

    `reason` None means by itself, with success; `began` says whether it may have run anything.
    """

    reason: LossReason | None
    message: str = ""
    began: bool = True


@dataclass(slots=True, eq=False)
class Unit:
    """Batches that are started together; `ident` is the platform's name for what runs them."""

    number: int
    batches: dict[int, Invocation]
    ident: str = ""
    began: bool = False
    ending: bool = field(default=False)

    def requests(self, software: Mapping[str, str]) -> bytes:
        """Return the unit's batches as the frames that ``core.entry job`` reads."""
        frames = []
        for invocation in self.batches.values():
            message = messages.request(invocation, software, has_call=False)
            frames += [messages.FRAME.pack(len(message)), message]
        return b"".join(frames)


class FleetBackend(ABC):
    """Runs durable batches on units of a platform.

    A backend names itself, checks its address in ``__init__``, and says how to launch, watch and end units.

    Attributes
    ----------
    workers : int
        Units that run at the same time at most.
    """

    name = "fleet"
    inline = False
    shares_files = False
    announces = False
    stores = True
    speculates = True
    enforces: frozenset[str] = frozenset({"timeout", "memory"})

    def __init__(self, address: Address, config: ExecutorConfig, workers: int) -> None:
        self.address, self.config = address, config
        self.workers = workers
        self.versions: dict[str, str] = {}
        self._queued: deque[Invocation] = deque()
        self._units: dict[int, Unit] = {}
        self._replies: list[Reply] = []
        self._numbers = 0
        self._delay, self._next_look, self._heard = SOONEST, 0.0, 0.0
        self._bell_read, self._bell_write = socket.socketpair()
        for end in (self._bell_read, self._bell_write):
            end.setblocking(False)
        self._closed = False

    @abstractmethod
    def launch(self, units: Sequence[Unit]) -> None:
        """Start units, and set their `ident`.

        Raises
        ------
        ComputeUnavailable
            The platform has no room or does not answer now; the same units are launched again later.
        FanfoldError
            It never will: the executor ends with it.
        """

    @abstractmethod
    def observe(self, units: Sequence[Unit]) -> dict[int, UnitEnd]:
        """Return the ends of those units that have ended, by number, and set `began` of those that run.

        Raises
        ------
        ComputeUnavailable
            The platform does not answer now.
        """

    @abstractmethod
    def end(self, units: Sequence[Unit]) -> None:
        """Have the platform end units, whatever state they are in."""

    def prepare(self) -> None:
        """Check once, before the first launch, that the platform can be used."""
        return None

    def tidy(self, units: Sequence[Unit]) -> None:
        """Remove what ended units leave with the platform."""
        return None

    def release(self) -> None:
        """Undo `prepare`."""
        return None

    def start(self) -> None:
        """Check the platform."""
        self.versions = versions()
        self._heard = time.monotonic()
        self.prepare()

    def room(self) -> int:
        """Return how many further batches are accepted."""
        held = sum(len(unit.batches) for unit in self._units.values())
        return WAVES * self.workers - held - len(self._queued)

    def invoke(self, invocation: Invocation) -> None:
        """Queue a batch for the next launch."""
        self._queued.append(invocation)

    def poll(self, timeout: float | None) -> list[Reply]:
        """Launch what is queued, look at the units, and return the batches that were lost.

        Raises
        ------
        FanfoldError
            The platform cannot be used.
        """
        self._launch()
        now = time.monotonic()
        if self._units and now >= self._next_look:
            self._look()
        elif not self._replies:
            waits = [timeout] if timeout is not None else []
            if self._units or self._queued:
                waits.append(max(0.0, self._next_look - now))
            self._bell_read.settimeout(min(waits, default=None))
            with suppress(TimeoutError, BlockingIOError):
                self._bell_read.recv(4096)
        replies, self._replies = self._replies, []
        return replies

    def _launch(self) -> None:
        """Deal what is queued out to as many units as may start."""
        free = self.workers - len(self._units)
        if not self._queued or free <= 0:
            return
        count = min(free, len(self._queued))
        units = []
        for index in range(count):
            batches = {self._queued[i].batch_id: self._queued[i] for i in range(index, len(self._queued), count)}
            units.append(Unit(self._numbers + index, batches))
        try:
            self.launch(units)
        except ComputeUnavailable as error:
            self._missed(error)
            return
        self._numbers += count
        self._queued.clear()
        self._units.update((unit.number, unit) for unit in units)
        self._delay, self._next_look = SOONEST, time.monotonic() + SOONEST

    def _missed(self, error: ComputeUnavailable) -> None:
        now = time.monotonic()
        if now - self._heard > PATIENCE:
            raise error
        self._delay = min(2 * self._delay, LATEST)
        self._next_look = now + self._delay

    def _look(self) -> None:
        try:
            ends = self.observe(list(self._units.values()))
        except ComputeUnavailable as error:
            self._missed(error)
            return
        now = self._heard = time.monotonic()
        self._delay = SOONEST if ends else min(1.5 * self._delay, LATEST)
        self._next_look = now + self._delay
        ended = [self._units.pop(number) for number in ends if number in self._units]
        for unit in ended:
            end = ends[unit.number]
            reason: LossReason = "killed" if unit.ending else end.reason or "died"
            message = end.message or "its worker ended without a word of it"
            for batch_id in unit.batches:
                self._replies.append(BatchLost(batch_id, unit.ident, reason, message, None, end.began))
        if ended:
            self.tidy(ended)

    def wake(self) -> None:
        """End a `poll` that waits."""
        with suppress(OSError):
            self._bell_write.send(b"!")

    def _holder(self, batch_id: int) -> Unit | None:
        return next((unit for unit in self._units.values() if batch_id in unit.batches), None)

    def began(self, batch_id: int) -> bool:
        """Whether the unit of a batch runs."""
        unit = self._holder(batch_id)
        return unit is not None and unit.began

    def revoke(self, batch_id: int) -> bool:
        """Take back a batch that is not launched; of one whose result is known, nothing more is wanted."""
        for invocation in self._queued:
            if invocation.batch_id == batch_id:
                self._queued.remove(invocation)
                return True
        return False

    def kill(self, batch_id: int) -> None:
        """End the unit of a batch if no other batch of it is wanted; else let it run: its commit is harmless."""
        unit = self._holder(batch_id)
        if unit is None:
            return
        del unit.batches[batch_id]
        self._replies.append(BatchLost(batch_id, unit.ident, "killed", "it was cancelled", None, False))
        self.wake()
        if not unit.batches and not unit.ending:
            unit.ending = True
            with suppress(ComputeUnavailable):
                self.end([unit])

    def forget(self, call_hash: str) -> None:
        """Do nothing: units keep no functions."""
        return None

    def close(self, force: bool = False) -> None:
        """End every unit and remove what is left of it."""
        if self._closed:
            return
        self._closed = True
        units = list(self._units.values())
        with suppress(ComputeUnavailable):
            if units:
                self.end(units)
                self.tidy(units)
            self.release()
        self._bell_read.close()
        self._bell_write.close()
