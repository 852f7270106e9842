"""The loop of an executor: sends batches, completes futures, repeats what was lost, and tells listeners."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from core.compute.base import ComputeBackend
from core.errors import FanfoldError
from core.job.job import Batch, Job
from core.task.protocol import BatchDone, BatchLost, NotifyCredentials, Reply
from core.types import BatchInvoked, Event, JobCreated, JobDone, Listener, TaskSpeculated

BACKUP_AFTER = 0.5
"""Backup copies start when this share of a job is done (as in MapReduce: J. Dean, S. Ghemawat, OSDI 2004)."""

BACKUP_SLOWNESS = 3.0
"""A batch is a straggler at this many times the median duration of its tasks."""

BACKUP_SHARE = 0.1
"""At most this share of a job's tasks get a backup copy."""

_LOOK = 0.05


def _nobody() -> None:
    return None


class Scheduler:
    """Drives jobs over one backend: on a thread of its own, or, for an inline backend, in the caller's.

    Attributes
    ----------
    grant : Grant or None
        What lets workers speak to this driver other than by replies.
    job_ended : callable
        Called after a job has ended.
    """

    def __init__(self, backend: ComputeBackend, listeners: Iterable[Listener]) -> None:
        self.backend = backend
        self.listeners = list(listeners)
        self.grant: NotifyCredentials | None = None
        self.job_ended: Callable[[], None] = _nobody
        self._commands: deque[Callable[[], None]] = deque()
        self._jobs: deque[Job] = deque()
        self._batches: dict[int, Batch] = {}
        self._ids = itertools.count()
        self._closing = self._ended = False
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._driving = False
        self._invoking: int | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the backend and, unless it is inline, the thread that drives it."""
        self.backend.start()
        if not self.backend.capabilities.inline:
            self._thread = threading.Thread(target=self._drive, name="fanfold-monitor", daemon=True)
            self._thread.start()

    def submit(self, job: Job) -> None:
        """Take on a job. Called from any thread."""
        self.command(lambda: self._adopt(job))

    def command(self, action: Callable[[], None]) -> None:
        """Have the loop do something. Called from any thread."""
        with self._lock:
            if self._ended and self._failure is None:
                raise RuntimeError("the executor has been shut down")
            self._commands.append(action)
        if self.backend.capabilities.inline:
            if self._invoking == threading.get_ident():
                raise RuntimeError("a task cannot use the executor that runs it; make another inside the function")
            self._drive()
        else:
            self.backend.wake()
        if self._failure is not None:
            self._obey()

    @property
    def broken(self) -> bool:
        """Whether the loop has ended for a reason that failed every job."""
        return self._failure is not None

    def wake(self) -> None:
        """Have the loop look for work. Called from any thread."""
        self.backend.wake()

    def cancel(self, tasks: Mapping[Job, Collection[int] | None] | None = None) -> None:
        """Cancel tasks, or whole jobs (None), or all jobs, and wait until the workers of running tasks were told."""
        told = threading.Event()

        def act() -> None:
            every: Mapping[Job, Collection[int] | None] = dict.fromkeys(self._jobs)
            for job, chosen in (every if tasks is None else tasks).items():
                if job.finished:
                    continue
                if chosen is None:
                    job.stop()
                else:
                    for index in chosen:
                        job.futures.made[index].drop()
                for batch in list(job.inflight.values()):
                    if any(job.futures.made[i].cancelled() for i in batch.task_ids):
                        self._withdraw(batch)
                        job.requeue(batch, range(len(batch.task_ids)))
            told.set()

        self.command(act)
        if threading.current_thread() is not self._thread:  # a callback or listener runs in the loop itself
            told.wait(5)

    def close(self, force: bool = False) -> None:
        """End the loop when no job is left, or at once with `force`, and release the backend."""
        if force:
            self.cancel()
        self._closing = True
        if self._thread is None:
            self.backend.close(force)
            return
        self.backend.wake()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _adopt(self, job: Job) -> None:
        if self.listeners:
            job.emit = self._emit
        self._emit(JobCreated(job.job_id, time.time(), job.name, job.total))
        self._jobs.append(job)
        self._settle_job(job)

    def _emit(self, event: Event) -> None:
        for listener in list(self.listeners):
            try:
                listener(event)
            except Exception as error:
                self.listeners.remove(listener)
                logging.getLogger("fanfold").warning(
                    "listener %r raised %s: %s; it hears no more", listener, type(error).__name__, error
                )

    def _obey(self) -> None:
        while True:
            try:
                action = self._commands.popleft()
            except IndexError:  # another thread may take the last one
                break
            action()
        if self._failure is not None:
            self._fail_all(self._failure)

    def _drive(self) -> None:
        if self._driving:  # a listener or callback of an inline backend submitted a job: the outer loop runs it
            return
        self._driving = True
        try:
            while True:
                self._obey()
                self._fill()
                if self.backend.capabilities.inline and not self._batches and not self._commands:
                    wait = self._next_poll()
                    if wait is None:
                        return
                    time.sleep(wait)  # a job that another process drives
                with self._lock:
                    if self._closing and not self._jobs and not self._commands:
                        self._ended = True
                        break
                replies = self.backend.poll(self._next_poll())
                self._prefetch(replies)
                for reply in replies:
                    self._handle(reply)
                for job in list(self._jobs):
                    self._back_up(job)
                    self._settle_job(job)
        except KeyboardInterrupt:
            for job in list(self._jobs):
                job.stop()
                job.inflight.clear()
            self._batches.clear()
            raise
        except BaseException as error:
            with self._lock:
                self._failure = error
            self._obey()
        finally:
            self._driving = False
            self._invoking = None
            if not self.backend.capabilities.inline:
                self.backend.close(force=self._failure is not None)

    def _fail_all(self, cause: BaseException) -> None:
        """Leave nobody waiting for a loop that has ended."""
        error = cause if isinstance(cause, FanfoldError) else FanfoldError(f"the executor broke: {cause!r}")
        error.__cause__ = cause if error is not cause else cause.__cause__
        for job in list(self._jobs):
            job.stop_input(error)
            for future in job.futures.made:
                future.settle(None, error)
        self._jobs.clear()
        self.job_ended()

    def _next_poll(self) -> float | None:
        if self._closing and not self._jobs:
            return 0.0
        waits = [wait for job in self._jobs if (wait := job.next_poll()) is not None]
        if any(job.options.speculate and job.idle for job in self._jobs):
            waits.append(_LOOK)
        return min(waits, default=None)

    def _fill(self) -> None:
        room = self.backend.capacity()
        idle = 0
        while room > 0 and idle < len(self._jobs):
            job = self._jobs[0]
            self._jobs.rotate(-1)
            batch = job.next_batch(next(self._ids), self.backend.workers)
            if batch is None:
                idle += 1
                continue
            idle = 0
            room -= 1
            self._invoke(batch)

    def _invoke(self, batch: Batch) -> None:
        self._batches[batch.batch_id] = batch
        if self.listeners:
            job = batch.job
            self._emit(BatchInvoked(job.job_id, time.time(), batch.batch_id, tuple(batch.task_ids)))
        self._invoking = threading.get_ident()
        batch.invocation.notify = self.grant
        self.backend.invoke(batch.invocation)
        self._invoking = None

    def _prefetch(self, replies: Collection[Reply]) -> None:
        """Tell durable jobs which batches have ended, so that they read what these have committed all at once."""
        ended: dict[Job, list[Batch]] = {}
        for reply in replies:
            batch = self._batches.get(reply.batch_id)
            if batch is None or batch.abandoned or batch.invocation.durable is None:
                continue
            if isinstance(reply, BatchDone) or reply.started:
                ended.setdefault(batch.job, []).append(batch)
        for job, batches in ended.items():
            job.prefetch(batches)

    def _handle(self, reply: Reply) -> None:
        batch = self._batches.pop(reply.batch_id, None)
        if batch is None:
            return
        job = batch.job
        del job.inflight[batch.batch_id]
        if batch.abandoned:
            return
        try:
            self._account(batch, reply)
        except FanfoldError as error:
            self._break(job, error)

    def _account(self, batch: Batch, reply: Reply) -> None:
        job = batch.job
        if isinstance(reply, BatchLost):
            if batch.backup is None or batch.backup.abandoned:
                job.lost(batch, reply)
            else:
                batch.backup.backup = None  # the other copy is now the only one
            return
        job.done(batch, reply.worker, reply.outcome)
        if batch.backup is not None:
            self._withdraw(batch.backup)

    def _break(self, job: Job, error: FanfoldError) -> None:
        """Fail a job whose storage failed it; the others go on, and what it has committed stays."""
        for index in range(len(job.futures.made)):
            job.fail(index, error, 1)
        job.stop()

    def _withdraw(self, batch: Batch) -> None:
        """Make sure a batch that nobody needs does not keep a worker."""
        batch.abandoned = True
        if self.backend.revoke(batch.batch_id):
            self._batches.pop(batch.batch_id, None)
            batch.job.inflight.pop(batch.batch_id, None)
        else:
            self.backend.kill(batch.batch_id)

    def _back_up(self, job: Job) -> None:
        total = job.total
        if not (job.options.speculate and job.idle and total and job.ended >= BACKUP_AFTER * total and job.durations):
            return
        median = sorted(job.durations)[len(job.durations) // 2]
        now = time.monotonic()
        for batch in list(job.inflight.values()):
            if batch.running_since is None and self.backend.is_running(batch.batch_id):
                batch.running_since = now
            slow = batch.running_since is not None and now - batch.running_since > max(
                BACKUP_SLOWNESS * median * len(batch.task_ids), 2 * _LOOK
            )
            allowed = job.backups + len(batch.task_ids) <= max(1, BACKUP_SHARE * total)
            if slow and allowed and batch.backup is None and not batch.abandoned and not batch.is_backup:
                job.backups += len(batch.task_ids)
                ident = next(self._ids)
                invocation = replace(batch.invocation, batch_id=ident, attempt=batch.attempts + 1)
                copy = replace(batch, batch_id=ident, invocation=invocation, backup=batch, is_backup=True)
                batch.backup = job.launch(copy)
                for task_id in batch.task_ids:
                    self._emit(TaskSpeculated(job.job_id, time.time(), task_id))
                self._invoke(copy)

    def _settle_job(self, job: Job) -> None:
        try:
            for reply in job.look():
                self.backend.revoke(reply.batch_id)
                self._handle(reply)
        except FanfoldError as error:
            self._break(job, error)
        if job.finished and job in self._jobs:
            self._jobs.remove(job)
            for batch in list(job.inflight.values()):
                self._withdraw(batch)
            for call_hash in job.definitions.hashes:
                if not any(call_hash in other.definitions.hashes for other in self._jobs):
                    self.backend.forget(call_hash)
            self._emit(JobDone(job.job_id, time.time(), job.ended, job.failed, job.cancelled))
            job.close()
            self.job_ended()
