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
from core.errors import FanfoldError, contained
from core.job.agenda import Agenda
from core.job.backups import STRAGGLER_INTERVAL, stragglers, wants_looking
from core.job.calls import Calls
from core.job.job import Batch, Job
from core.task.protocol import BatchDone, BatchLost, NotifyCredentials, Reply
from core.types import BatchInvoked, Event, JobCreated, JobDone, Listener, TaskSpeculated

CANCEL_TIMEOUT = 5.0
"""Seconds for which whoever cancels waits until the workers were told."""

_logger = logging.getLogger("fanfold")


class Scheduler:
    """Drives jobs over one backend: on a thread of its own, or, for an inline backend, in the caller's.

    Attributes
    ----------
    credentials : NotifyCredentials or None
        What lets workers speak to this driver other than by replies.
    job_ended : list of callable
        Called with each job that has ended, before it lets go of anything.
    """

    def __init__(self, backend: ComputeBackend, listeners: Iterable[Listener]) -> None:
        self.backend = backend
        self.listeners = list(listeners)
        self.credentials: NotifyCredentials | None = None
        self.job_ended: list[Callable[[Job], None]] = []
        self._agenda = Agenda()
        self._commands: deque[Callable[[], None]] = deque()
        self._jobs: dict[Job, None] = {}
        self._calls = Calls()
        self._batches: dict[int, Batch] = {}
        self._ids = itertools.count()
        self._closing = self._ended = self._woken = self._driving = False
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
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
        job.stir = self._stir
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
            self.wake()
        if self._failure is not None:
            self._obey()

    @property
    def broken(self) -> bool:
        """Whether the loop has ended for a reason that failed every job."""
        return self._failure is not None

    def wake(self) -> None:
        """Have the loop look for work. Called from any thread."""
        if not self._woken:  # the loop takes this back before it looks, so that a second call has nothing to add
            self._woken = True
            self.backend.wake()

    def _stir(self, job: Job) -> None:
        self._agenda.stir(job)
        self.wake()

    def cancel(self, tasks: Mapping[Job, Collection[int] | None] | None = None) -> None:
        """Cancel tasks, or whole jobs (None), or all jobs, and wait until the workers of running tasks were told."""
        told = threading.Event()

        def act() -> None:
            every: Mapping[Job, Collection[int] | None] = dict.fromkeys(self._jobs)
            for job, chosen in (every if tasks is None else tasks).items():
                if job in self._jobs:
                    self._cancel(job, chosen)
            told.set()

        self.command(act)
        if threading.current_thread() is not self._thread:  # a callback or listener runs in the loop itself
            told.wait(CANCEL_TIMEOUT)

    def _cancel(self, job: Job, chosen: Collection[int] | None) -> None:
        if chosen is None:
            job.stop()
        else:
            for index in chosen:
                job.futures.made[index].drop()
        self._agenda.touch(job)
        try:
            for batch in list(job.inflight.values()):
                if any(job.futures.made[i].cancelled() for i in batch.task_ids):
                    self._withdraw(batch)
                    job.requeue(batch, range(len(batch.task_ids)))
        except Exception as error:
            self._break(job, error)

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
        self._jobs[job] = None
        self._agenda.add(job)
        if self.listeners:
            job.emit = self._emit
            self._emit(JobCreated(job.job_id, time.time(), job.name, job.total))

    def _emit(self, event: Event) -> None:
        for listener in list(self.listeners):
            if (error := contained(listener, event)) is not None:
                self.listeners.remove(listener)
                _logger.warning("listener %r raised %s: %s; it hears no more", listener, type(error).__name__, error)

    def _obey(self) -> None:
        self._woken = False
        while True:
            try:
                action = self._commands.popleft()
            except IndexError:  # another thread may take the last one
                break
            action()
        if self._failure is not None:
            self._fail_all(self._failure)

    def _drive(self) -> None:
        while self._drive_once() and self.backend.capabilities.inline and self._commands:
            pass  # another thread's came while the last turn ended

    def _drive_once(self) -> bool:
        """Run the loop; returns False if it runs already: then that one does what others have asked for."""
        with self._lock:
            if self._driving:
                return False
            self._driving = True
        try:
            while self._turn():
                pass
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
        return True

    def _turn(self) -> bool:
        """Do what there is to do, and wait for more; returns False when there will be none."""
        self._obey()
        self._look()
        self._fill()
        if self.backend.capabilities.inline and not self._batches and not self._commands:
            wait = self._agenda.wait()
            if wait is None:
                return False
            time.sleep(wait)  # a job that another process drives
        if self._closing and self._is_over():
            return False
        replies = self.backend.poll(self._agenda.wait())
        self._prefetch(replies)
        for reply in replies:
            self._handle(reply)
        return True

    def _is_over(self) -> bool:
        with self._lock:
            self._ended = not self._jobs and not self._commands
            return self._ended

    def _fail_all(self, cause: BaseException) -> None:
        """Leave nobody waiting for a loop that has ended."""
        error = cause if isinstance(cause, FanfoldError) else FanfoldError(f"the executor broke: {cause!r}")
        error.__cause__ = cause if error is not cause else cause.__cause__
        for job in list(self._jobs):
            job.stop_input(error)
            for future in job.futures.made:
                future.settle(None, error)
            del self._jobs[job]
            self._tell_of_end(job)

    def _fill(self) -> None:
        room = self.backend.capacity()
        while room > 0 and (job := self._agenda.next_ready()) is not None:
            try:
                batch = job.next_batch(next(self._ids), self.backend.workers)
            except Exception as error:
                self._break(job, error)
                continue
            if batch is not None:
                if not job.idle:
                    self._agenda.line_up(job)
                room -= 1
                self._invoke(batch)

    def _invoke(self, batch: Batch) -> None:
        self._batches[batch.batch_id] = batch
        self._calls.use(batch.job, batch.invocation)
        if self.listeners:
            job = batch.job
            self._emit(BatchInvoked(job.job_id, time.time(), batch.batch_id, tuple(batch.task_ids)))
        self._invoking = threading.get_ident()
        batch.invocation.notify = self.credentials
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
        self._agenda.touch(job)
        if batch.abandoned:
            return
        try:
            self._account(batch, reply)
        except Exception as error:
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

    def _break(self, job: Job, cause: Exception) -> None:
        """Fail a job whose storage failed it, or was tampered with; the others go on, and what is committed stays."""
        error = cause if isinstance(cause, FanfoldError) else FanfoldError(f"job {job.job_id} broke: {cause!r}")
        error.__cause__ = cause if error is not cause else cause.__cause__
        job.stop_input(error)
        for index in range(len(job.futures.made)):
            job.fail(index, error, 1)
        job.stop()
        self._agenda.touch(job)

    def _withdraw(self, batch: Batch) -> None:
        """Make sure a batch that nobody needs does not keep a worker."""
        batch.abandoned = True
        if self.backend.revoke(batch.batch_id):
            self._batches.pop(batch.batch_id, None)
            batch.job.inflight.pop(batch.batch_id, None)
        else:
            self.backend.kill(batch.batch_id)

    def _look(self) -> None:
        # Apart from the turn, which waits: what it has in hand then would be kept until something happens.
        for job in self._agenda.take():
            self._look_at(job)

    def _look_at(self, job: Job) -> None:
        """Let a job find out what nobody tells it, and part from it if it has ended."""
        try:
            for reply in job.look():
                self.backend.revoke(reply.batch_id)
                self._handle(reply)
        except Exception as error:
            self._break(job, error)
        if job.finished:
            self._end(job)
            return
        if not job.idle:
            self._agenda.line_up(job)
        self._agenda.schedule(job, job.next_poll())
        if wants_looking(job):
            self._back_up(job)
            self._agenda.schedule(job, STRAGGLER_INTERVAL)

    def _back_up(self, job: Job) -> None:
        now = time.monotonic()
        if now < job.next_backup:
            return
        job.next_backup = now + STRAGGLER_INTERVAL / 2
        for batch in stragglers(job, self.backend.is_running, now):
            ident = next(self._ids)
            invocation = replace(batch.invocation, batch_id=ident, attempt=batch.attempts + 1)
            copy = replace(batch, batch_id=ident, invocation=invocation, backup=batch, is_backup=True)
            batch.backup = job.launch(copy)
            for task_id in batch.task_ids:
                self._emit(TaskSpeculated(job.job_id, time.time(), task_id))
            self._invoke(copy)

    def _end(self, job: Job) -> None:
        del self._jobs[job]
        self._agenda.drop(job)
        for batch in list(job.inflight.values()):
            self._withdraw(batch)
        for call_hash in self._calls.release(job):
            self.backend.forget(call_hash)
        if self.listeners:
            self._emit(JobDone(job.job_id, time.time(), job.ended, job.failed, job.cancelled))
        self._tell_of_end(job)
        job.close()

    def _tell_of_end(self, job: Job) -> None:
        for told in self.job_ended:
            told(job)
