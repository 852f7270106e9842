"""Base of backends that start units and hear nothing back: cluster jobs, pods, asynchronous functions.

A unit is what the platform starts, watches and ends: a job array's element, a pod. It runs a list of batches whose
inputs and results are in storage, one commit a batch, so all that the platform is asked is which units have ended.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from core.compute.base import Capabilities
from core.compute.waiting import Backoff, Mailbox
from core.errors import ComputeUnavailable
from core.settings import Address, ExecutorConfig
from core.task import messages
from core.task.protocol import BatchLost, Invocation, LossReason, Reply
from core.task.versions import versions

POLL_MIN, POLL_MAX = 0.1, 5.0
"""Seconds between two looks at the units, growing while nothing ends."""

WAVES = 8
"""Batches accepted at first for each that may run: units get lists, and the last ones even out."""

LONGEST = 512
"""Batches in a unit's list at most: some hundred kilobytes, which every platform carries."""

WORTHWHILE = 30.0
"""Seconds that a unit should run, long against what a platform takes to start it; shorter ones make longer lists."""

UNAVAILABLE_TIMEOUT = 300.0
"""Seconds for which the platform may fail to answer before it counts as unavailable."""

_NOTES = ".now"
"""What follows a request file's name in that of the notes on which of its batches run."""


@dataclass(frozen=True, slots=True)
class WorkerJobEnd:
    """How a unit ended, as the platform tells it.

    `reason` None means by itself, with success; `began` says whether it may have run anything.
    """

    reason: LossReason | None
    message: str = ""
    began: bool = True


@dataclass(slots=True, eq=False)
class WorkerJob:
    """Batches that are started together; `ident` is the platform's name for what runs them.

    `running` has the batches that it has begun and not answered for, None where nobody can tell, and `found` those
    whose results are known; `launched` is a monotonic time. A unit that is `ending` is not wanted any more, and the
    platform `told` so.
    """

    number: int
    batches: dict[int, Invocation]
    ident: str = ""
    began: bool = False
    running: frozenset[int] | None = None
    found: set[int] = field(default_factory=set)
    launched: float = 0.0
    ending: bool = False
    told: bool = False

    def requests(self, software: Mapping[str, str]) -> bytes:
        """Return the unit's batches as the frames that ``core.worker.entry job`` reads."""
        frames = []
        for invocation in self.batches.values():
            message = messages.request(invocation, software, has_call=False)
            frames += [messages.FRAME.pack(len(message)), message]
        return b"".join(frames)


def take_notes(path: str) -> bool:
    """Begin the notes on a request file; returns whether there were some: the platform has started the unit again."""
    try:
        restarted = os.path.getsize(path + _NOTES) > 0
    except OSError:
        restarted = False
    _note(path, "")
    return restarted


def note(path: str, batch_id: int, runs: bool) -> None:
    """Tell whoever shares the folder of a request file that a batch of it begins, or has been answered for."""
    _note(path, f"{'+' if runs else '-'}{batch_id}\n")


def _note(path: str, line: str) -> None:
    # Opened each time: on a network file system others see what was written when the file is closed.
    with suppress(OSError):
        descriptor = os.open(path + _NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if line else os.O_TRUNC), 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(line)


def read_notes(path: str) -> frozenset[int]:
    """Return the batches of a request file that have begun and were not answered for."""
    try:
        with open(path + _NOTES, encoding="ascii") as file:
            return parse_notes(file)
    except (OSError, ValueError):
        return frozenset()


def parse_notes(lines: Iterable[str]) -> frozenset[int]:
    """Return the batches that begin and do not end in notes, of which the oldest may have been cut off."""
    running: set[int] = set()
    for line in lines:
        if line[:1] in ("+", "-") and line[1:].strip().isdigit():
            (running.add if line[0] == "+" else running.discard)(int(line[1:]))
    return frozenset(running)


class ClusterBackend(ABC):
    """Runs durable batches on units of a platform.

    A backend names itself, checks its address in ``__init__``, and says how to launch, watch and end units.

    Attributes
    ----------
    workers : int
        Batches that run at the same time at most.
    width : int
        Batches that one unit runs at the same time.
    """

    name = "fleet"
    capabilities = Capabilities(reports_completion=False, results_in_storage=True, speculates=True)

    def __init__(self, address: Address, config: ExecutorConfig, workers: int, width: int = 1) -> None:
        self.address, self.config = address, config
        self.workers = workers
        self.width = min(width, workers)
        self.versions: dict[str, str] = {}
        self._queued: deque[Invocation] = deque()
        self._worker_jobs: dict[int, WorkerJob] = {}
        self._mailbox: Mailbox[Reply] = Mailbox()
        self._numbers = 0
        self._waves = WAVES
        self._looks = Backoff(POLL_MIN, POLL_MAX, 1.5, timeout=UNAVAILABLE_TIMEOUT, clock=time.monotonic)
        self._next_look = self._next_launch = 0.0
        self._closed = False

    @abstractmethod
    def launch(self, worker_jobs: Sequence[WorkerJob]) -> None:
        """Start units, and set the `ident` of those that were started; the batches of the others are launched later.

        Raises
        ------
        ComputeUnavailable
            The platform has no room or does not answer now; the same units are launched again later.
        FanfoldError
            It never will: the executor ends with it.
        """

    @abstractmethod
    def observe(self, worker_jobs: Sequence[WorkerJob]) -> dict[int, WorkerJobEnd]:
        """Return the ends of those units that have ended, by number; set what is known of `began` and `running`.

        Raises
        ------
        ComputeUnavailable
            The platform does not answer now.
        """

    @abstractmethod
    def end(self, worker_jobs: Sequence[WorkerJob]) -> None:
        """Have the platform end units, whatever state they are in."""

    def prepare(self) -> None:
        """Check once, before the first launch, that the platform can be used."""
        return None

    def tidy(self, worker_jobs: Sequence[WorkerJob]) -> None:
        """Remove what ended units leave with the platform."""
        return None

    def release(self) -> None:
        """Undo `prepare`."""
        return None

    def start(self) -> None:
        """Check the platform."""
        self.versions = versions()
        self.prepare()
        self._looks.reset()

    def capacity(self) -> int:
        """Return how many further batches are accepted."""
        held = sum(len(worker_job.batches) for worker_job in self._worker_jobs.values())
        return self._waves * self.workers - held - len(self._queued)

    def invoke(self, invocation: Invocation) -> None:
        """Queue a batch for the next launch."""
        if not self._queued and not self._worker_jobs:  # nothing was asked of the platform meanwhile
            self._looks.reset()
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
        if self._worker_jobs and now >= self._next_look:
            self._look()
            timeout = 0.0
        elif self._worker_jobs or self._queued:
            left = max(0.0, (self._next_look if self._worker_jobs else self._next_launch) - now)
            timeout = left if timeout is None else min(left, timeout)
        return self._mailbox.poll(timeout)

    def _launch(self) -> None:
        """Deal what is queued out to as many units as may start; each gets a list, and units to come their share."""
        free = -(-self.workers // self.width) - len(self._worker_jobs)
        now = time.monotonic()
        if not self._queued or free <= 0 or now < self._next_launch:
            return
        share = max(self.width, -(-len(self._queued) * self.width // self.workers))
        count = min(free, -(-len(self._queued) // share))
        dealt = list(islice(self._queued, count * share))
        worker_jobs = [
            WorkerJob(self._numbers + index, {batch.batch_id: batch for batch in dealt[index::count]})
            for index in range(count)
        ]
        try:
            self.launch(worker_jobs)
        except ComputeUnavailable as error:
            self._next_launch = self._missed(error)
            return
        self._numbers += count
        for worker_job in worker_jobs:
            worker_job.launched = now
        for _ in dealt:
            self._queued.popleft()
        started = {worker_job.number: worker_job for worker_job in worker_jobs if worker_job.ident}
        self._worker_jobs |= started
        self._queued.extendleft(
            batch for worker_job in worker_jobs if not worker_job.ident for batch in worker_job.batches.values()
        )
        self._looks.reset()
        self._next_look = time.monotonic() + self._looks.next()
        if len(started) < count:
            self._next_launch = time.monotonic() + POLL_MAX

    def _missed(self, error: ComputeUnavailable) -> float:
        """Return when to try again what the platform did not answer."""
        if self._looks.is_over:
            raise error
        self._next_look = time.monotonic() + self._looks.next()
        return self._next_look

    def _look(self) -> None:
        try:
            self._dismiss(
                [worker_job for worker_job in self._worker_jobs.values() if worker_job.ending and not worker_job.told]
            )
            ends = self.observe(list(self._worker_jobs.values()))
        except ComputeUnavailable as error:
            self._missed(error)
            return
        now = time.monotonic()
        self._looks.hear()
        if ends:
            self._looks.hasten()
        self._next_look = now + self._looks.next()
        ended = [self._worker_jobs.pop(number) for number in ends if number in self._worker_jobs]
        if any(
            ends[worker_job.number].reason is None and now - worker_job.launched < WORTHWHILE for worker_job in ended
        ):
            self._waves = max(WAVES, min(2 * self._waves, LONGEST // self.width))
        for worker_job in ended:
            self._report(worker_job, ends[worker_job.number])
        if ended:
            with suppress(ComputeUnavailable):  # what is left there harms nobody
                self.tidy(ended)

    def _report(self, worker_job: WorkerJob, end: WorkerJobEnd) -> None:
        """Report the batches of a unit that has ended; those that are committed are known to be by then."""
        reason: LossReason = "killed" if worker_job.ending else end.reason or "died"
        message = end.message or "its worker ended without a word of it"
        for batch_id in worker_job.batches:
            # After success all is answered for; what is not is asked about once more.
            begun = end.began and (end.reason is None or worker_job.running is None or batch_id in worker_job.running)
            self._mailbox.put(BatchLost(batch_id, worker_job.ident, reason, message, None, begun))

    def _dismiss(self, worker_jobs: Sequence[WorkerJob]) -> None:
        if worker_jobs:
            self.end(worker_jobs)
            for worker_job in worker_jobs:
                worker_job.told = True

    def wake(self) -> None:
        """End a `poll` that waits."""
        self._mailbox.wake()

    def _holder(self, batch_id: int) -> WorkerJob | None:
        return next((worker_job for worker_job in self._worker_jobs.values() if batch_id in worker_job.batches), None)

    def is_running(self, batch_id: int) -> bool:
        """Whether a batch runs, or its unit does where no more is known."""
        worker_job = self._holder(batch_id)
        return (
            worker_job is not None
            and worker_job.began
            and (worker_job.running is None or batch_id in worker_job.running)
        )

    def revoke(self, batch_id: int) -> bool:
        """Take back a batch that is not launched; of one whose result is known, nothing more is wanted."""
        for invocation in self._queued:
            if invocation.batch_id == batch_id:
                self._queued.remove(invocation)
                return True
        worker_job = self._holder(batch_id)
        if worker_job is not None:
            worker_job.found.add(batch_id)
            if len(worker_job.found) == len(worker_job.batches):  # it is about to end, and others wait for its place
                self._look_soon()
        return False

    def _look_soon(self) -> None:
        self._looks.hasten()
        self._next_look = min(self._next_look, time.monotonic() + self._looks.next())

    def kill(self, batch_id: int) -> None:
        """End the unit of a batch: what else it held is repeated, and is not to blame."""
        worker_job = self._holder(batch_id)
        if worker_job is None:
            return
        del worker_job.batches[batch_id]
        self._mailbox.put(BatchLost(batch_id, worker_job.ident, "killed", "it was cancelled", None, False))
        self._look_soon()
        if not worker_job.ending:
            worker_job.ending = True
            with suppress(ComputeUnavailable):
                self._dismiss([worker_job])

    def forget(self, call_hash: str) -> None:
        """Do nothing: units keep no functions."""
        return None

    def close(self, force: bool = False) -> None:
        """End every unit and remove what is left of it."""
        if self._closed:
            return
        self._closed = True
        worker_jobs = list(self._worker_jobs.values())
        with suppress(ComputeUnavailable):
            if worker_jobs:
                self.end(worker_jobs)
                self.tidy(worker_jobs)
            self.release()
