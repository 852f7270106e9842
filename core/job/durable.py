"""A durable job, seen from the driver that runs it or from one that attaches to it later."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future as Reading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from core import serialization
from core.definitions import Definitions
from core.errors import InputError, NotFound, StorageError, StorageUnavailable
from core.futures import Future, FutureList, start_all
from core.job.job import Batch, Job, Options
from core.job.returned import stored_future
from core.storage.base import open_storage
from core.task import keys
from core.task.commit import LATEST, SOONEST, Commit, JobRecord, commit, read_commit, split
from core.task.leases import LEASE, Lease, read_lease, remove_job, this_owner, write_lease
from core.task.notices import CommitListener
from core.task.protocol import BatchDone, BatchLost, BatchResult, DurableRef, Invocation, Reply
from core.task.run import describe, in_worker

SAFETY = 5.0
"""Seconds between two looks for commits, at most, while notices tell of them."""

READERS = 8
"""Commits that are read at the same time from storage where a request takes a while."""

_NEAR = ("file://", "memory://")
"""Storage that answers sooner than a thread would."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A batch, or one item of a batch that was taken apart."""

    batch: int
    item: int | None
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
    notices : Notices, optional
        Hears which commits there are, for a backend that does not say.
    attached : bool
        The job was made by another driver: collect what is committed, and only look on while that driver lives.
    """

    def __init__(
        self,
        record: JobRecord,
        definitions: Definitions,
        address: str,
        key: bytes,
        options: Options,
        futures: FutureList,
        announced: bool,
        notices: CommitListener | None = None,
        attached: bool = False,
    ) -> None:
        super().__init__(record.job_id, record.name, definitions, options, futures)
        self.record = record
        self._address, self._key = address, key
        self._storage = open_storage(address)  # its own, so that its requests are this job's
        self._is_near = self._storage.address.startswith(_NEAR)
        self._readers: ThreadPoolExecutor | None = None
        self._ahead: dict[tuple[int, int | None], Reading[Commit | None]] = {}
        self._announced = announced
        self._notices = None if announced else notices
        self._turn = 0
        self._trusts = True
        if self._notices is not None:
            self._notices.watch(self.job_id)
        self._collected: dict[tuple[int, int | None], int] = {}  # the attempt that was committed
        self._split: dict[int, int] = {}
        self._words: set[str] = set()
        self._lost: list[BatchLost] = []
        self._low = 0
        self._delay = SOONEST
        self._next_look = 0.0
        self._next_lease = time.monotonic() + LEASE / 3
        self._watching = False
        self._kept = self._stopped = False
        self._todo: deque[_Part] = deque()
        futures.extend([Future(self, i) for i in range(record.tasks)])
        futures.finish()
        if attached:
            self._discover()
            self._watching = not self._take_over()
            if self._watching:
                self._next_lease = time.monotonic() + LATEST
        self._todo = deque(self._open_parts())

    @property
    def total(self) -> int:  # type: ignore[override]
        """Number of tasks."""
        return self.record.tasks

    @property
    def idle(self) -> bool:  # type: ignore[override]
        """Whether nothing is left to send."""
        return not self._todo

    @property
    def complete(self) -> bool:
        """Whether every batch is committed."""
        return self._low >= self.record.batches

    def _ref(self, batch: int, item: int | None) -> DurableRef:
        return DurableRef(self._address, self.job_id, self._key, batch, item)

    def _items(self, batch: int) -> range:
        return range(len(self.record.task_ids(batch)))

    def _open_parts(self) -> list[_Part]:
        """Return what is not committed."""
        parts: list[_Part] = []
        for batch in range(self._low, self.record.batches):
            items: Sequence[int | None] = [*self._items(batch)] if batch in self._split else [None]
            parts += [
                _Part(batch, item, 0, self.options.memory) for item in items if (batch, item) not in self._collected
            ]
        return parts

    def next_batch(self, batch_id: int, workers: int) -> Batch | None:
        """Form the next invocation, or return None if nothing can be sent now."""
        while self._todo and not self._watching:
            part = self._todo.popleft()
            task_ids = self.record.task_ids(part.batch, part.item)
            if (part.batch, part.item) in self._collected or not any(
                start_all([self.futures.made[i] for i in task_ids])
            ):
                continue
            invocation = Invocation(
                batch_id,
                self.job_id,
                b"",
                self.definitions.hash,
                task_ids,
                part.attempts,
                self.options.timeout,
                part.memory,
                durable=self._ref(part.batch, part.item),
            )
            return self.launch(Batch(batch_id, self, task_ids, (), part.attempts, part.memory, invocation))
        return None

    def done(self, batch: Batch, worker: str, outcome: BatchResult | None) -> None:
        """Collect what a worker says it has committed."""
        assert batch.invocation.durable is not None
        self._collect(batch.invocation.durable.batch, batch.invocation.durable.item)

    def prefetch(self, batches: Iterable[Batch]) -> None:
        """Begin to read the commits of batches that have ended, as far as they have any."""
        refs = (batch.invocation.durable for batch in batches)
        self._read_ahead([(ref.batch, ref.item) for ref in refs if ref is not None])

    def _read_ahead(self, parts: Sequence[tuple[int, int | None]]) -> None:
        self._ahead.clear()  # what was not committed then may be now
        if self._is_near or len(parts) < 2:
            return
        if self._readers is None:
            self._readers = ThreadPoolExecutor(READERS, "fanfold-commits")
        for part in parts:
            if part not in self._collected and part not in self._ahead:
                self._ahead[part] = self._readers.submit(read_commit, self._storage, self._ref(*part))

    def _collect(self, batch: int, item: int | None) -> None:
        """Read a commit and give its values to their futures."""
        if (batch, item) in self._collected:
            return
        reading = self._ahead.pop((batch, item), None)
        if reading is None:
            self._take(batch, item, read_commit(self._storage, self._ref(batch, item)))
        else:
            self._take(batch, item, reading.result())

    def _take(self, batch: int, item: int | None, made: Commit | None) -> None:
        """Give the values of a commit to their futures; without one the batch was taken apart."""
        if made is None:
            if batch not in self._split:  # by another driver: whoever drives the job now runs the items
                self._mark_split(batch)
                self._todo.extend(_Part(batch, i, 0, self.options.memory) for i in self._items(batch))
            return
        self._collected[batch, item] = made.attempt
        assert made.fetched is not None
        made.outcome.values = made.fetched
        self.settle(self.record.task_ids(batch, item), made.worker, made.attempt, made.outcome)
        if item is not None:
            self._split[batch] -= 1
        while not self.complete and ((self._low, None) in self._collected or self._split.get(self._low) == 0):
            self._low += 1

    def _mark_split(self, batch: int) -> None:
        self._split.setdefault(batch, len(self._items(batch)))

    def lost(self, batch: Batch, loss: BatchLost) -> None:
        """Collect a batch that was committed before its worker was reported lost; else repeat it."""
        assert batch.invocation.durable is not None
        if loss.started or not self._announced:
            # Where the storage does not say, the batch is repeated: of two commits the first counts.
            with contextlib.suppress(NotFound, StorageUnavailable):
                self._collect(batch.invocation.durable.batch, batch.invocation.durable.item)
                return
        super().lost(batch, loss if self._announced else self._said(batch.invocation, loss))

    def _said(self, invocation: Invocation, loss: BatchLost) -> BatchLost:
        """Return the worker's own word on a loss where there is one: it knows which task ran."""
        ref = invocation.durable
        assert ref is not None
        key = keys.loss(self.job_id, ref.batch, ref.item, invocation.attempt)
        if loss.position is None and key not in self._words:
            with contextlib.suppress(NotFound, StorageUnavailable):
                return self._word(key, invocation.batch_id)
        return loss

    def requeue(self, batch: Batch, positions: Sequence[int]) -> None:
        """Repeat a batch that is not to blame for its loss."""
        assert batch.invocation.durable is not None
        part = batch.invocation.durable
        wanted = [i for i, task_id in enumerate(batch.task_ids) if not self.futures.made[task_id].done()]
        if len(wanted) == len(batch.task_ids):
            self._todo.append(_Part(part.batch, part.item, batch.attempts, batch.memory))
        elif wanted:  # what was cancelled is not run again with the others
            if not split(self._storage, self._ref(part.batch, None)):
                self._collect(part.batch, None)
                return
            self._mark_split(part.batch)
            self._todo.extend(_Part(part.batch, item, batch.attempts, batch.memory) for item in wanted)

    def charge_attempt(self, batch: Batch, position: int | None, loss: BatchLost) -> None:
        """Repeat a batch item by item; commit the failure of an item that was tried enough."""
        assert batch.invocation.durable is not None
        part = batch.invocation.durable
        items: Sequence[int]
        charged: Sequence[int]
        if part.item is not None:
            items, charged = [part.item], [part.item]
        else:
            if not split(self._storage, self._ref(part.batch, None)):
                self._collect(part.batch, None)
                return
            self._mark_split(part.batch)
            items = self._items(part.batch)
            charged = self.charged(batch, position, loss)
        memory = batch.memory
        if loss.reason == "memory" and memory is not None:
            memory = int(memory * (self.options.retry.memory_growth or 1))
        for item in items:
            attempts = batch.attempts + (item in charged)
            task_id = self.record.task_ids(part.batch, item)[0]
            if item not in charged:
                self._todo.append(_Part(part.batch, item, attempts, batch.memory))
            elif not self.is_hopeless(attempts, loss):
                self.tell_retry(task_id, attempts, loss)
                self._todo.append(_Part(part.batch, item, attempts, memory))
            else:
                failure = describe(self.loss_error(task_id, attempts, loss), attempts)
                outcome = BatchResult(serialization.pack([None]), [0.0], {0: failure}, started=time.time())
                commit(self._storage, self._ref(part.batch, item), outcome, attempts - 1, loss.worker)
                self._collect(part.batch, item)

    def poll(self) -> list[Reply]:
        """Renew the lease; look for commits that nobody announces; take over from a driver that died."""
        now = time.monotonic()
        if self._notices is not None and self._notices.turn != self._turn:  # something may have been missed
            self._turn, self._trusts = self._notices.turn, True
            self._delay, self._next_look = SOONEST, now
        if now >= self._next_lease:
            self._next_lease = now + (LATEST if self._watching else LEASE / 3)
            watched, self._watching = self._watching, not self._take_over()
            if watched and not self._watching:
                self._discover()
                self._todo = deque(self._open_parts())
        told = self._take_notices(now)
        if (self._announced and not self._watching) or now < self._next_look:
            return self._news() if told else []
        before = len(self._collected)
        self._discover()
        found = len(self._collected) > before
        if self._hears():
            self._trusts = not found  # what nobody told of shows that not every worker can
        if self._hears():
            self._delay = min(max(2 * self._delay, LATEST), SAFETY)
        else:
            self._delay = SOONEST if found else min(self._delay * 1.5, LATEST)
        self._next_look = now + self._delay
        return self._news()

    def _news(self) -> list[Reply]:
        """Return what was found out about batches under way."""
        ended: list[tuple[bool, int]] = []
        for batch in self.inflight.values():
            part = batch.invocation.durable
            if part is not None and (part.batch, part.item) in self._collected:
                attempt = self._collected[part.batch, part.item]
                ended.append((attempt != batch.invocation.attempt, batch.batch_id))
        lost, self._lost = self._lost, []
        # Of two copies the one that committed comes first: it has ended, the other may still keep a worker.
        return [*(BatchDone(ident, "", None) for _, ident in sorted(ended)), *lost]

    def _hears(self) -> bool:
        """Whether notices make looking at the storage needless, as far as is known."""
        return self._notices is not None and self._notices.healthy and self._trusts and not self._watching

    def _take_notices(self, now: float) -> bool:
        """Collect what was announced since the last time; returns whether anything was."""
        places = [] if self._notices is None else self._notices.take(self.job_id)
        if not places:
            return False
        if not self._trusts:
            self._trusts, self._delay = True, LATEST
            self._next_look = now + self._delay
        parts = [keys.parse_commit(place) for place in places if not keys.is_loss(place)]
        self._read_ahead(parts)
        try:
            for place in places:
                if keys.is_loss(place):
                    self._hear(place)
            for batch, item in parts:
                if item is not None:
                    self._mark_split(batch)
                self._collect(batch, item)
        except NotFound:
            self._next_look = now  # it may have been told of before it can be read
        return True

    def next_poll(self) -> float | None:
        """Return the seconds until `poll` has something to do."""
        wants = [self._next_lease]
        if not self._announced or self._watching:
            wants.append(self._next_look)
        return max(0.0, min(wants) - time.monotonic())

    def _discover(self) -> None:
        """List new commits, shard by shard from the lowest that is missing, and collect them."""
        if self.complete:
            return
        low = self._low
        after = keys.commit(self.job_id, low - 1) + "~" if low % keys.SHARD else ""
        sent = [batch.invocation.durable.batch for batch in self.inflight.values() if batch.invocation.durable]
        last = max(sent) if sent and not self._watching else self.record.batches - 1
        for shard in range(low // keys.SHARD, last // keys.SHARD + 1):
            prefix = keys.commits(self.job_id, shard)
            listing = self._storage.list(prefix, after if after > prefix else "")
            found = []
            for info in listing:
                if keys.is_loss(info.key):
                    self._hear(info.key)
                else:
                    found.append(keys.parse_commit(info.key))
            self._read_ahead([part for part in found if part[1] is not None or part[0] not in self._split])
            for batch, item in found:
                if item is not None:
                    self._mark_split(batch)
                if item is not None or batch not in self._split:
                    self._collect(batch, item)

    def _hear(self, key: str) -> None:
        """Read a worker's word that it lost a batch, once."""
        if key in self._words:
            return
        batch, item = keys.parse_commit(key)
        sent = [
            known.batch_id
            for known in self.inflight.values()
            if (ref := known.invocation.durable) is not None
            and (ref.batch, ref.item) == (batch, item)
            and keys.loss(self.job_id, batch, item, known.invocation.attempt) == key
        ]
        if sent:
            self._lost += [self._word(key, ident) for ident in sent]

    def _word(self, key: str, batch_id: int) -> BatchLost:
        body = serialization.verify(self._key, key, self._storage.get(key))
        self._words.add(key)
        said: BatchLost = serialization.loads(body)
        return replace(said, batch_id=batch_id)

    def _take_over(self) -> bool:
        """Hold the lease; returns False if another driver that lives does."""
        lease = read_lease(self._storage, self.job_id)
        if lease is None and next(self._storage.list(keys.record(self.job_id)), None) is None:
            raise InputError(f"job {self.job_id} was removed from {self._address}, by its driver or by a clean-up")
        if lease is not None and lease.alive() and lease.owner != this_owner():
            return False
        write_lease(self._storage, self.job_id, self._lease(LEASE))
        return True

    def _lease(self, seconds: float) -> Lease:
        record = self.record
        return Lease(this_owner(), time.time() + seconds, record.name, record.created, record.tasks, record.batch_size)

    def reference(self, index: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return what makes an equal future in another process; the job then stays in storage for it."""
        self._kept = True
        return stored_future, (self._address, self.job_id, self._key, index)

    def close(self) -> None:
        """Let go of results, but remember inside a task whether they were asked for."""
        if self._notices is not None:
            self._notices.leave(self.job_id)
        self._dismiss_readers()
        if not in_worker():
            super().close()

    def stop(self) -> None:
        """Cancel everything that has not ended; what is committed stays for whoever takes up the job."""
        self._stopped = True
        super().stop()

    def leave(self) -> None:
        """Delete a job that is complete or discarded; let go of one that others may take up.

        Inside a task, a job that nobody has asked for results outlives its executor: its futures may be what the
        task returns.
        """
        self._dismiss_readers()
        fetched = any(future.fetched for future in self.futures.made)
        wanted = self._kept or (in_worker() and not fetched)
        ended = self.complete or (self.finished and not self._stopped)
        if ((ended and not wanted) or self.discarded) and not self._watching:
            self.remove()
        elif not self._watching:
            with contextlib.suppress(StorageError):
                write_lease(self._storage, self.job_id, self._lease(0.0))

    def _dismiss_readers(self) -> None:
        self._ahead.clear()
        if self._readers is not None:
            self._readers.shutdown(wait=False, cancel_futures=True)
            self._readers = None

    def remove(self) -> None:
        """Delete everything of the job."""
        remove_job(self._storage, self.job_id)

    @property
    def requests(self) -> int:
        """Storage requests of driver and workers so far."""
        return super().requests + self._storage.requests
