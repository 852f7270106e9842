"""A durable job, seen from the driver that runs it or from one that attaches to it later."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core import serialization
from core.errors import NotFound, StorageUnavailable
from core.futures import Future, FutureList, start_all
from core.job.attach import Tenure
from core.job.commits import CommitFinder, CommitReader, Part, Progress
from core.job.job import Batch, Job
from core.job.options import Options
from core.job.returned import stored_future
from core.serialization.definitions import Definitions
from core.storage.base import open_storage
from core.task import keys
from core.task.commit import Commit, JobRecord, commit, read_loss_report, split
from core.task.keys import CommitKey
from core.task.notices import CommitListener
from core.task.protocol import BatchDone, BatchLost, BatchResult, DurableRef, Invocation, Reply
from core.task.run import describe, in_task
from core.waiting import time_left


@dataclass(frozen=True, slots=True)
class _Todo:
    """A part to be sent."""

    part: Part
    attempts: int
    memory: int | None


class DurableJob(Job):
    """A job whose inputs and results are in storage.

    Batches are fixed when the job is made, so that their commits mean the same to every driver.

    Parameters
    ----------
    address : str
        Storage of the job.
    announced : bool
        The backend says when a batch has ended; if not, commits are looked for.
    listener : CommitListener, optional
        Hears which commits there are, for a backend that does not say.
    holder : str
        Names this executor among those that drive the job or look on.
    attached : bool
        The job was made by another driver: collect what is committed, and only look on while that driver lives.
    """

    keeps_objects = True

    def __init__(
        self,
        record: JobRecord,
        definitions: Definitions,
        address: str,
        key: bytes,
        options: Options,
        futures: FutureList,
        announced: bool,
        listener: CommitListener | None,
        holder: str,
        attached: bool = False,
    ) -> None:
        super().__init__(record.job_id, record.name, definitions, options, futures)
        self.record = record
        self._key = key
        self._storage = open_storage(address)  # its own, so that its requests are this job's
        self._announced = announced
        self._progress = Progress(record.batches, self._items)
        self._reader = CommitReader(self._storage, self._ref)
        self._finder = CommitFinder(
            self._storage, self.job_id, None if announced else listener, lambda: self.stir(self)
        )
        self._tenure = Tenure(self._storage, self.job_id, record.lease(holder))
        self._reports: set[str] = set()
        self._lost: list[BatchLost] = []
        self._todo: deque[_Todo] = deque()
        self._kept = self._stopped = False
        futures.extend([Future(self, i) for i in range(record.tasks)])
        futures.finish()
        if attached:
            self._tenure.attach()
            try:
                self._discover()
            except BaseException:
                self._tenure.release()
                raise
        self._todo.extend(self._open())

    @property
    def total(self) -> int:  # type: ignore[override]
        """Number of tasks."""
        return self.record.tasks

    @property
    def idle(self) -> bool:  # type: ignore[override]
        """Whether nothing is left to send."""
        return not self._todo

    def _ref(self, batch: int, item: int | None) -> DurableRef:
        return DurableRef(self._storage.address, self.job_id, self._key, batch, item)

    def _items(self, batch: int) -> range:
        return range(len(self.record.task_ids(batch)))

    def _open(self) -> list[_Todo]:
        return [_Todo(part, 0, self.options.memory) for part in self._progress.open()]

    def next_batch(self, batch_id: int, workers: int) -> Batch | None:
        """Form the next invocation, or return None if nothing can be sent now."""
        while self._todo and not self._tenure.is_watching:
            todo = self._todo.popleft()
            task_ids = self.record.task_ids(*todo.part)
            wanted = todo.part not in self._progress.attempts
            if wanted and any(start_all([self.futures.made[i] for i in task_ids])):
                ref = self._ref(*todo.part)
                return self.form(batch_id, task_ids, (), todo.attempts, todo.memory, durable=ref)
        return None

    def done(self, batch: Batch, worker: str, outcome: BatchResult | None) -> None:
        """Collect what a worker says it has committed."""
        self._collect(_part_of(batch))

    def prefetch(self, batches: Iterable[Batch]) -> None:
        """Begin to read the commits of batches that have ended, as far as they have any."""
        self._read_ahead(_part_of(batch) for batch in batches)

    def _read_ahead(self, parts: Iterable[Part]) -> None:
        self._reader.prefetch(part for part in parts if part not in self._progress.attempts)

    def _collect(self, part: Part) -> None:
        """Read a commit and give its values to their futures."""
        if part in self._progress.attempts:
            return
        made = self._reader.read(part)
        if made is not None:
            self._take(part, made)
        elif not self._progress.is_split(part[0]):  # by another driver: whoever drives the job now runs the items
            self._progress.split(part[0])
            self._todo.extend(_Todo((part[0], item), 0, self.options.memory) for item in self._items(part[0]))

    def _take(self, part: Part, made: Commit) -> None:
        self._progress.add(part, made.attempt)
        assert made.fetched is not None
        made.outcome.values = made.fetched
        self.settle(self.record.task_ids(*part), made.worker, made.attempt, made.outcome)

    def lost(self, batch: Batch, loss: BatchLost) -> None:
        """Collect a batch that was committed before its worker was reported lost; else repeat it."""
        if loss.started or not self._announced:
            # Where the storage does not say, the batch is repeated: of two commits the first counts.
            with contextlib.suppress(NotFound, StorageUnavailable):
                self._collect(_part_of(batch))
                return
        super().lost(batch, loss if self._announced else self._reported(batch.invocation, loss))

    def _reported(self, invocation: Invocation, loss: BatchLost) -> BatchLost:
        """Return the worker's own report on a loss where there is one: it knows which task ran."""
        ref = invocation.durable
        assert ref is not None
        key = keys.loss(self.job_id, ref.batch, ref.item, invocation.attempt)
        if loss.position is None and key not in self._reports:
            with contextlib.suppress(NotFound, StorageUnavailable):
                return self._report(key, invocation.batch_id)
        return loss

    def requeue(self, batch: Batch, positions: Sequence[int]) -> None:
        """Repeat a batch that is not to blame for its loss."""
        part = _part_of(batch)
        wanted = [i for i, task_id in enumerate(batch.task_ids) if not self.futures.made[task_id].done()]
        if len(wanted) == len(batch.task_ids):
            self._todo.append(_Todo(part, batch.attempts, batch.memory))
        elif wanted and self._take_apart(part[0]):  # what was cancelled is not run again with the others
            self._todo.extend(_Todo((part[0], item), batch.attempts, batch.memory) for item in wanted)

    def _take_apart(self, batch: int) -> bool:
        """Have the items of a batch committed one by one; returns False if it turns out to be committed."""
        if not split(self._storage, self._ref(batch, None)):
            self._collect((batch, None))
            return False
        self._progress.split(batch)
        return True

    def charge_attempt(self, batch: Batch, position: int | None, loss: BatchLost) -> None:
        """Repeat a batch item by item; commit the failure of an item that was tried enough."""
        number, item = _part_of(batch)
        items: Sequence[int] = [item] if item is not None else self._items(number)
        charged: Sequence[int] = [item] if item is not None else self.charged(batch, position, loss)
        if item is None and not self._take_apart(number):
            return
        for each in items:
            if each in charged:
                self._charge((number, each), batch, loss)
            else:
                self._todo.append(_Todo((number, each), batch.attempts, batch.memory))

    def _charge(self, part: Part, batch: Batch, loss: BatchLost) -> None:
        attempts = batch.attempts + 1
        task_id = self.record.task_ids(*part)[0]
        if not self.is_hopeless(attempts, loss):
            self.tell_retry(task_id, attempts, loss)
            self._todo.append(_Todo(part, attempts, self.more_memory(batch, loss)))
            return
        failure = describe(self.loss_error(task_id, attempts, loss), attempts)
        outcome = BatchResult(serialization.pack([None]), [0.0], {0: failure}, started=time.time())
        commit(self._storage, self._ref(*part), outcome, attempts - 1, loss.worker)
        self._collect(part)

    def poll(self) -> list[Reply]:
        """Renew the lease; look for commits that nobody announces; take over from a driver that died."""
        now = time.monotonic()
        if now >= self._tenure.next_look and self._tenure.renew():
            self._discover()
            self._todo = deque(self._open())
        told = self._hear(self._finder.notices(now), now)
        if (self._announced and not self._tenure.is_watching) or now < self._finder.next_look:
            return self._news() if told else []
        before = len(self._progress.attempts)
        self._discover()
        self._finder.looked(len(self._progress.attempts) > before, now)
        return self._news()

    def _news(self) -> list[Reply]:
        """Return what was found out about batches under way."""
        ended: list[tuple[bool, int]] = []
        for batch in self.inflight.values():
            attempt = self._progress.attempts.get(_part_of(batch))
            if attempt is not None:
                ended.append((attempt != batch.invocation.attempt, batch.batch_id))
        lost, self._lost = self._lost, []
        # Of two copies the one that committed comes first: it has ended, the other may still keep a worker.
        return [*(BatchDone(ident, "", None) for _, ident in sorted(ended)), *lost]

    def _hear(self, places: Sequence[str], now: float) -> bool:
        """Collect what was announced; returns whether anything was."""
        known = [(key, place) for place in places if (key := keys.parse_commit(place)) and self._progress.has(key)]
        try:
            self._take_in(known)
        except NotFound:
            self._finder.next_look = now  # it may have been told of before it can be read
        return bool(known)

    def _take_in(self, found: Sequence[tuple[CommitKey, str]]) -> None:
        """Collect commits and reports of losses that are in storage."""
        commits = []
        for key, place in found:
            if key.attempt is not None:
                self._hear_report(key, place)
            elif key.item is not None or not self._progress.is_split(key.batch):
                commits.append((key.batch, key.item))
        self._read_ahead(commits)
        for batch, item in commits:
            if item is not None:
                self._progress.split(batch)
            self._collect((batch, item))

    def next_poll(self) -> float | None:
        """Return the seconds until `poll` has something to do."""
        looks = not self._announced or self._tenure.is_watching
        return time_left(min(self._tenure.next_look, self._finder.next_look) if looks else self._tenure.next_look)

    def _discover(self) -> None:
        """List new commits, shard by shard from the lowest that is missing, and collect them."""
        if self._progress.complete:
            return
        sent = [_part_of(batch)[0] for batch in self.inflight.values()]
        last = max(sent) if sent and not self._tenure.is_watching else self.record.batches - 1
        for found in self._finder.list(self._progress.low, last):
            self._take_in([entry for entry in found if self._progress.has(entry[0])])

    def _hear_report(self, key: CommitKey, place: str) -> None:
        """Read a worker's report that it lost a batch, once."""
        if place in self._reports:
            return
        for batch in self.inflight.values():
            if _part_of(batch) == (key.batch, key.item) and batch.invocation.attempt == key.attempt:
                self._lost.append(self._report(place, batch.batch_id))

    def _report(self, place: str, batch_id: int) -> BatchLost:
        report = read_loss_report(self._storage, self._key, place)
        self._reports.add(place)
        return replace(report, batch_id=batch_id)

    def reference(self, index: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return what makes an equal future in another process; the job then stays in storage for it."""
        self._kept = True
        return stored_future, (self._storage.address, self.job_id, self._key, index)

    def close(self) -> None:
        """Let go of inputs and results, but remember inside a task whether they were asked for."""
        self._finder.close()
        self._reader.close()
        self._todo.clear()
        self._reports.clear()
        self._progress.attempts.clear()
        self.record = replace(self.record, call=b"", inputs=[])
        futures = self.futures
        super().close()
        if in_task():
            self.futures = futures

    def stop(self) -> None:
        """Cancel everything that has not ended; what is committed stays for whoever takes up the job."""
        self._stopped = True
        super().stop()

    def leave(self) -> None:
        """Delete a job that is complete or discarded; let go of one that others may take up.

        Inside a task, a job that nobody has asked for results outlives its executor: its futures may be what the
        task returns.
        """
        self._reader.close()
        wanted = self._kept or (in_task() and not any(future.fetched for future in self.futures.made))
        has_ended = self._progress.complete or (self.finished and not self._stopped)
        if self.discarded and not self._tenure.is_watching:
            self._tenure.remove()
        elif has_ended and not wanted:
            self._tenure.close()
        else:
            self._tenure.release()

    def remove(self) -> None:
        """Delete everything of the job, unless somebody looks on."""
        self._tenure.close()

    @property
    def requests(self) -> int:
        """Storage requests of driver and workers so far."""
        return super().requests + self._storage.requests


def _part_of(batch: Batch) -> Part:
    ref = batch.invocation.durable
    assert ref is not None
    return ref.batch, ref.item
