"""What an executor runs on, from its first call to its end."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from core.errors import StorageError
from core.futures import Future, wait
from core.job.history import JobHistory
from core.job.scheduler import Scheduler
from core.locks import watch_forks
from core.settings import ExecutorConfig

if TYPE_CHECKING:
    from core.events.listeners import EventLog
    from core.task.notices import CommitListener


class Lifetime:
    """Starts scheduler and listener once, and ends them once; does not know the executor, which may be forgotten.

    Parameters
    ----------
    scheduler, history, listener, log
        What the executor has; `listener` and `log` only if it was asked for them.
    reductions : list of Future
        Those under way: each has yet to submit its last task.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        history: JobHistory,
        listener: CommitListener | None,
        log: EventLog | None,
        reductions: Sequence[Future],
    ) -> None:
        self._scheduler, self._history = scheduler, history
        self._listener, self._log, self._reductions = listener, log, reductions
        self._starting = threading.Lock()
        self._finalizer: weakref.finalize[Any, Any] | None = None
        self.closed = self._ended = False
        self._ending: threading.Thread | None = None
        self._pid = os.getpid()

    def check(self, inside: bool = False) -> None:
        """Refuse to do anything for an executor that has ended, or, unless `inside`, is about to.

        Raises
        ------
        RuntimeError
            It has, or it belongs to another process.
        """
        if self._ended or (self.closed and not inside):
            raise RuntimeError("the executor has been shut down")
        if self._pid != os.getpid():
            raise RuntimeError("the executor belongs to the process that made it; make one in this process")

    @property
    def started(self) -> bool:
        """Whether the workers are there, or were."""
        return self._finalizer is not None

    def start(self, executor: object) -> bool:
        """Start the backend before a job opens files or threads that its workers would inherit, once.

        Returns whether this call did.
        """
        if self._finalizer is not None:
            return False
        with self._starting:
            return self._start(executor)

    def _start(self, executor: object) -> bool:
        if self._finalizer is not None:
            return False
        watch_forks()
        self._scheduler.start()
        if self._listener is not None:
            self._listener.start()
        self._finalizer = weakref.finalize(executor, _abandon, self._scheduler, self._listener, os.getpid())
        return True

    def end(self, wait: bool, force: bool) -> None:
        """Release everything; see ``FunctionExecutor.shutdown``."""
        if self._pid != os.getpid():
            return
        if self.closed:
            if wait and self._ending is not None and self._ending is not threading.current_thread():
                self._ending.join()
            return
        self.closed = True
        if self._finalizer is None:
            return
        self._finalizer.detach()
        if not wait and not force:
            self._ending = threading.Thread(target=self._end, args=(False,), name="fanfold-shutdown")
            self._ending.start()
            return
        self._end(force)

    def _end(self, force: bool) -> None:
        if not force:
            wait(list(self._reductions))
        self._ended = True
        self._scheduler.close(force)
        errors = []
        for job in self._history.jobs():
            try:
                job.leave()
            except StorageError as error:  # the others are to be parted from all the same
                errors.append(error)
            self._history.part(job)
        if self._listener is not None:
            self._listener.close()
        if self._log is not None:
            self._log.close()
        if errors:
            raise errors[0]


def open_log(scheduler: Scheduler, config: ExecutorConfig) -> EventLog | None:
    """Have events logged, if the executor is configured so."""
    if config.log is None:
        return None
    from core.events.listeners import EventLog

    log = EventLog(config.log)
    scheduler.listeners.append(log)
    return log


def open_listener(scheduler: Scheduler, config: ExecutorConfig) -> CommitListener | None:
    """Have workers tell of commits over Redis, if the executor is configured so and they cannot otherwise."""
    if config.notify is None or scheduler.backend.capabilities.carries_queues:
        return None
    from core.task.notices import CommitListener

    listener = CommitListener(config.notify)
    scheduler.credentials = listener.credentials
    return listener


def _abandon(scheduler: Scheduler, listener: CommitListener | None, process: int) -> None:
    """Release the workers of an executor that nobody closed, in the process that made it."""
    if os.getpid() == process:
        scheduler.close(force=True)
        if listener is not None:
            listener.close()
