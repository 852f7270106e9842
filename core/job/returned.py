"""Futures of durable jobs that arrive inside another task's result."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from core import serialization
from core.errors import FanfoldError, NotFound, SerializationError, StorageError, WorkerDied
from core.futures import Future
from core.job.attach import new_holder
from core.job.commits import Part
from core.locks import process_lock
from core.serialization.definitions import Definitions
from core.storage.clients import process_storage
from core.task.commit import POLL_MAX, POLL_MIN, Commit, read_commit, read_record
from core.task.leases import close_job, read_lease
from core.task.protocol import DurableRef
from core.task.run import revive


class StoredJob:
    """A durable job whose futures came here inside a result; removes the job once all of them have theirs.

    While somebody waits for any of them, a thread looks through the storage with growing pauses.
    """

    def __init__(self, address: str, job_id: str, key: bytes) -> None:
        self.job_id = job_id
        self._address, self._key = address, key
        self._storage = process_storage(address)
        self._record = read_record(self._storage, key, job_id)
        self._definitions = Definitions.unread(self._record.call)
        self._lock = threading.Lock()
        self._pending: set[int] = set()
        self._awaited: dict[int, list[StoredFuture]] = {}
        self._thread: threading.Thread | None = None

    def expect(self, index: int) -> None:
        """Keep the job in storage until a task has ended."""
        self._pending.add(index)

    def wait_for(self, future: StoredFuture) -> None:
        """Settle a future as soon as its task has ended."""
        with self._lock:
            waiting = self._awaited.setdefault(future.index, [])
            if future not in waiting:
                waiting.append(future)
            if self._thread is None or not self._thread.is_alive():  # no thread lives on in a fork
                self._thread = threading.Thread(target=self._watch, name="fanfold-returned", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        delay = POLL_MIN
        while True:
            with self._lock:
                awaited = sorted(self._awaited)
                if not awaited:
                    self._thread = None
                    return
            found = self._look_for(awaited)
            delay = POLL_MIN if found else min(1.5 * delay, POLL_MAX)
            time.sleep(delay)

    def _look_for(self, awaited: Iterable[int]) -> bool:
        """Settle the futures of those tasks that have ended, each commit read once; returns whether any has."""
        commits: dict[Part, Commit | None] = {}
        found = False
        try:
            lease = read_lease(self._storage, self.job_id)  # before commits: a driver commits, then goes
        except FanfoldError:
            lease = None
        is_driven = lease is not None and lease.alive()
        for index in awaited:
            try:
                found |= self._settle_if_ended(index, commits, is_driven)
            except FanfoldError as error:
                self._settle(index, None, error)
        return found

    def _settle_if_ended(self, index: int, commits: dict[Part, Commit | None], is_driven: bool) -> bool:
        """Settle the futures of a task if it has ended.

        Raises
        ------
        WorkerDied
            It has not, and nobody drives its job.
        """
        batch, item = divmod(index, self._record.batch_size)
        whole = self._read(commits, batch, None)
        made = whole or self._read(commits, batch, item)
        if made is not None:
            self._end(index, made, 0 if whole is None else item)
        elif not is_driven:
            raise WorkerDied(
                f"task {index} of {self._record.name} has no result and its driver is gone; "
                f"FunctionExecutor.attach({self.job_id!r}) takes the job up",
                job_id=self.job_id,
                task_id=index,
            )
        return made is not None

    def _read(self, known: dict[Part, Commit | None], batch: int, item: int | None) -> Commit | None:
        """Return a commit, None if there is none or the batch was taken apart."""
        if (batch, item) not in known:
            known[batch, item] = None
            with contextlib.suppress(NotFound):
                ref = DurableRef(self._address, self.job_id, self._key, batch, item)
                known[batch, item] = read_commit(self._storage, ref)
        return known[batch, item]

    def _end(self, index: int, made: Commit, position: int) -> None:
        assert made.fetched is not None
        log, failure = made.outcome.logs.get(position, ""), made.outcome.failures.get(position)
        value = next(serialization.unpack(list(serialization.split(made.fetched))[position], self._definitions))
        error: BaseException | None = None
        if failure is not None:
            error = revive(failure, self.job_id, index, self._record.name, log, self._definitions)
        elif type(value) is serialization.Unpackable:
            error = SerializationError(f"the result of task {index} cannot be sent back: {value.reason}")
        self._had(index)
        self._settle(index, value, error, log)

    def _settle(self, index: int, value: Any, error: BaseException | None, log: str = "") -> None:
        for future in self._awaited[index]:
            future.log = log
            future.settle(value, error)
        with self._lock:
            del self._awaited[index]

    def _had(self, index: int) -> None:
        """Remove the job when the last of its tasks that are expected here has ended."""
        self._pending.discard(index)
        if self._pending:
            return
        with contextlib.suppress(StorageError):  # the clean-up of the storage takes what is left
            close_job(self._storage, self.job_id, self._record.lease(new_holder()))

    def notice_cancel(self) -> None:
        """Do nothing: another process drives the job."""

    def reference(self, index: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return what makes an equal future elsewhere: whoever gets it removes the job."""
        self._pending.discard(index)
        return stored_future, (self._address, self.job_id, self._key, index)


class StoredFuture(Future):
    """A future of a durable job of another process, looked for in its storage as soon as anybody waits for it."""

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        condition = super()._condition
        if not super().done():
            assert isinstance(self._owner, StoredJob)
            self._owner.wait_for(self)
        return condition

    def done(self) -> bool:
        """Return whether the task has ended, as far as is known; to ask has it looked for."""
        _ = self._condition
        return super().done()


_stored: weakref.WeakValueDictionary[str, StoredJob] = weakref.WeakValueDictionary()
_stored_lock = process_lock(threading.Lock)


def stored_future(address: str, job_id: str, key: bytes, index: int) -> StoredFuture:
    """Return the future of one task of a job in storage, as unpickling a durable future does."""
    with _stored_lock:
        owner = _stored.get(job_id)
        if owner is None:
            owner = _stored[job_id] = StoredJob(address, job_id, key)
    owner.expect(index)
    return StoredFuture(owner, index)
