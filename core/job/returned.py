"""Futures of durable jobs that arrive inside another task's result."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from core import serialization
from core.data.objects import process_storage
from core.definitions import Definitions
from core.errors import NotFound, SerializationError, WorkerDied
from core.futures import Future
from core.task.commit import LATEST, SOONEST, read_commit, read_record
from core.task.leases import read_lease, remove_job
from core.task.protocol import BatchResult, DurableRef
from core.task.run import revive


class _Stored:
    """A durable job whose futures came here inside a result; deletes the job once all of them have theirs."""

    def __init__(self, address: str, job_id: str, key: bytes) -> None:
        self.job_id = job_id
        self._address, self._key = address, key
        self._storage = process_storage(address)
        self._record = read_record(self._storage, key, job_id)
        self.definitions = Definitions.unread(self._record.call)
        self.pending: set[int] = set()

    def read(self, index: int) -> BatchResult | None:
        """Return the outcome of one task, None if it is not committed."""
        batch, item = divmod(index, self._record.batch_size)
        with contextlib.suppress(NotFound):
            ref = DurableRef(self._address, self.job_id, self._key, batch)
            made = read_commit(self._storage, ref)
            if made is None:
                made = read_commit(self._storage, DurableRef(self._address, self.job_id, self._key, batch, item))
                item = 0
            assert made is not None
            assert made.fetched is not None
            one = list(serialization.split(made.fetched))[item]
            failures = {0: made.outcome.failures[item]} if item in made.outcome.failures else {}
            return BatchResult(one, [made.outcome.durations[item]], failures)
        return None

    def check_driver(self, index: int) -> None:
        """Refuse to wait for a job that nobody drives.

        Raises
        ------
        WorkerDied
            Its driver is gone, and the task is not committed.
        """
        lease = read_lease(self._storage, self.job_id)
        if (lease is None or not lease.alive()) and self.read(index) is None:
            raise WorkerDied(
                f"task {index} of {self._record.name} has no result and its driver is gone; "
                f"FunctionExecutor.attach({self.job_id!r}) takes the job up",
                job_id=self.job_id,
                task_id=index,
            )

    def settled(self, index: int) -> None:
        """Delete the job when the last of its futures here has its result."""
        self.pending.discard(index)
        if not self.pending:
            remove_job(self._storage, self.job_id)

    def revive(self, outcome: BatchResult, index: int) -> BaseException | None:
        failure = outcome.failures.get(0)
        return revive(failure, self.job_id, index, self._record.name, "", self.definitions) if failure else None

    def log(self, index: int) -> str:
        return ""

    def notice_cancel(self) -> None:
        pass

    def reference(self, index: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        self.pending.discard(index)  # whoever gets the reference deletes the job
        return stored_future, (self._address, self.job_id, self._key, index)


class StoredFuture(Future):
    """A future of a durable job of another process: asks the storage."""

    def _await(self, timeout: float | None) -> None:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        owner = self._owner
        assert isinstance(owner, _Stored)
        delay = SOONEST
        while (outcome := owner.read(self.index)) is None:
            owner.check_driver(self.index)
            if time.monotonic() + delay > deadline:
                raise TimeoutError(f"task {self.index} of job {owner.job_id} has not ended after {timeout} s")
            time.sleep(delay)
            delay = min(delay * 1.5, LATEST)
        value, error = next(serialization.unpack(outcome.values, owner.definitions)), owner.revive(outcome, self.index)
        if type(value) is serialization.Unpackable:
            error = SerializationError(f"the result of task {self.index} cannot be sent back: {value.reason}")
        self.settle(value, error)
        owner.settled(self.index)


_stored: weakref.WeakValueDictionary[str, _Stored] = weakref.WeakValueDictionary()
_stored_lock = threading.Lock()


def stored_future(address: str, job_id: str, key: bytes, index: int) -> StoredFuture:
    """Return the future of one task of a job in storage, as unpickling a durable future does."""
    with _stored_lock:
        owner = _stored.get(job_id)
        if owner is None:
            owner = _stored[job_id] = _Stored(address, job_id, key)
    owner.pending.add(index)
    return StoredFuture(owner, index)
