"""How a function and its data become a job: shipped once, given to the scheduler of its executor."""

from __future__ import annotations

import functools
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from core.compute.base import ComputeBackend
from core.data.generator import taken_now
from core.data.partition import Listing
from core.futures import Future, FutureList, Maps
from core.job.chain import awaits_futures, call_later
from core.job.direct import DirectJob
from core.job.history import JobHistory
from core.job.job import Job
from core.job.lifetime import Lifetime
from core.job.options import Options, options_of
from core.job.queue import QueueHub
from core.job.scheduler import Scheduler
from core.serialization.definitions import Definitions
from core.serialization.modules import LocalModules
from core.settings import ExecutorConfig
from core.task.call import Call, Kind, check_items, dump_call, make_call, working_folder

if TYPE_CHECKING:
    from core.task.notices import CommitListener

_logger = logging.getLogger("fanfold")


class Launcher:
    """Starts jobs for an executor, which it does not keep alive.

    Parameters
    ----------
    executor, config, backend, scheduler, history, lifetime, queues, reductions, listener
        The executor, and what it has.
    """

    def __init__(
        self,
        executor: Maps,
        config: ExecutorConfig,
        backend: ComputeBackend,
        scheduler: Scheduler,
        history: JobHistory,
        lifetime: Lifetime,
        queues: QueueHub,
        reductions: list[Future],
        listener: CommitListener | None,
    ) -> None:
        self._executor = weakref.ref(executor)
        self._config, self._backend, self._can = config, backend, backend.capabilities
        self._scheduler, self._history, self._lifetime = scheduler, history, lifetime
        self._queues, self._reductions, self._listener = queues, reductions, listener
        self._local = LocalModules()

    def options(self, **given: Any) -> Options:
        """Return the options of a call; what is not given is the executor's."""
        return options_of(self._config, self._can, bool(self._queues), **given)

    def start(
        self,
        fn: Callable[..., Any],
        kind: Kind,
        data: Iterable[Any],
        *,
        extra_args: Sequence[Any] | Mapping[str, Any] = (),
        extra_env: Mapping[str, str] | None = None,
        include_modules: Iterable[ModuleType | str] = (),
        exclude_modules: Iterable[ModuleType | str] = (),
        inside: bool = False,
        label: str = "",
        **limits: Any,
    ) -> FutureList:
        """Run a function on data of one kind; `inside` means that it was asked for before the executor closed."""
        self._lifetime.check(inside)
        options = self.options(**limits)
        call, shipped = self.ship(fn, kind, options, extra_args, extra_env, include_modules, exclude_modules)
        check_items(call, data)
        return self.launch(replace(call, name=label) if label else call, shipped, data, options, inside)

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], **options: Any) -> Future:
        """Run a function once, when the futures among its arguments have their results."""
        if not awaits_futures(args, kwargs):
            return self.start(fn, "call", [(args, kwargs)], **options).made[0]
        self._lifetime.check()

        def start(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future:
            return self.start(fn, "call", [(args, kwargs)], inside=True, **options)[0]

        return self.keep_open(call_later(start, args, kwargs, self._can.inline))

    def reduce(self, extra: Sequence[Any] | Mapping[str, Any], fn: Callable[..., Any], results: list[Any]) -> Future:
        """Run the last task of a map_reduce, even while the executor closes."""
        args, kwargs = ((), dict(extra)) if isinstance(extra, Mapping) else (tuple(extra), {})
        return self.start(fn, "call", [((results, *args), kwargs)], inside=True)[0]

    def keep_open(self, future: Future) -> Future:
        """Keep the executor open until a future is settled that has yet to submit its last task."""
        self._reductions[:] = [*(known for known in self._reductions if not known.done()), future]
        return future

    def ship(
        self,
        fn: Callable[..., Any],
        kind: Kind,
        options: Options,
        extra_args: Sequence[Any] | Mapping[str, Any] = (),
        extra_env: Mapping[str, str] | None = None,
        include: Iterable[ModuleType | str] = (),
        exclude: Iterable[ModuleType | str] = (),
    ) -> tuple[Call, Definitions]:
        """Return a function as workers get it, for one job or for several."""
        call = make_call(
            fn,
            kind=kind,
            extra_args=extra_args if isinstance(extra_args, tuple | Mapping) else tuple(extra_args),
            env=extra_env,
            retry=options.retry,
            storage=self._config.storage,
            folder=working_folder() if self._can.shares_files else None,
        )
        included = list(include)
        imports = self._lifetime.started and self._can.shares_files and not self._can.inline
        shipped = dump_call(call, included, self._can.shares_files, list(exclude), self._local if imports else None)
        _logger.debug("%s ships %d bytes, modules by value: %s", call.name, len(shipped.data), included or "none")
        return call, shipped

    def launch(
        self, call: Call, shipped: Definitions, data: Iterable[Any], options: Options, inside: bool = False
    ) -> FutureList:
        """Start a job of a function that was shipped."""
        futures = FutureList(_new_job_id(), self._executor())
        if isinstance(data, list) and not inside:  # results that go on to a reduction are nobody else's
            data = taken_now(data, shipped)
        self.start_backend()
        job = self._job(call.name, shipped, data, options, futures)
        job.listing = data if isinstance(data, Listing) else None
        try:
            self._adopt(job)
        except RuntimeError:  # the executor was shut down meanwhile
            job.remove()
            raise
        return futures

    def start_backend(self) -> None:
        """Start the backend, once."""
        if self._lifetime.start(self._executor()):
            self._local.note()

    def attach(self, job_id: str, storage: str | None) -> FutureList:
        """Take up a durable job, or look on; see ``FunctionExecutor.attach``."""
        from core.job.create import attach

        self.start_backend()
        executor = self._executor()
        assert executor is not None  # whose method this is called from
        job = attach(job_id, storage, self._backend, executor, self._listener)
        futures = job.futures
        self._adopt(job)
        return futures

    def cancel(self, futures: Iterable[Future] | FutureList | Future | None) -> None:
        """Cancel futures, or all of them; running tasks are ended by force."""
        whole = self._history.jobs() if futures is None else []
        if isinstance(futures, FutureList):
            known = self._history.find(futures.job_id)
            whole, futures = ([], futures.made) if known is None else ([known], None)
        for job in whole:
            job.discarded = True
        some = self._tasks_of([futures] if isinstance(futures, Future) else futures or ())
        self._scheduler.cancel({**some, **dict.fromkeys(whole)})

    def _tasks_of(self, futures: Iterable[Future]) -> dict[Job, set[int]]:
        """Return the tasks of some futures by job; cancel those that are no task's."""
        tasks: dict[Job, set[int]] = {}
        for future in futures:
            job = self._history.find(future.job_id)
            if job is not None:
                tasks.setdefault(job, set()).add(future.index)
            elif future in self._reductions:
                future.drop()
            else:
                future.cancel()
        return tasks

    def _adopt(self, job: Job) -> None:
        self._history.begin(job)
        try:
            self._scheduler.submit(job)
        except RuntimeError:
            self._history.end(job)
            self._history.part(job)
            raise

    def _job(self, name: str, call: Definitions, data: Iterable[Any], options: Options, futures: FutureList) -> Job:
        if not options.durable:
            return DirectJob(futures.job_id, name, call, data, options, futures, self._can.inline)
        from core.job.create import create

        return create(name, call, data, options, futures, self._backend, self._config.storage, self._listener)


def _new_job_id() -> str:
    """Return a name that no other job has, and that sorts by time."""
    return f"{_shown(int(time.time()))}-{os.urandom(4).hex()}"


@functools.lru_cache(maxsize=1)
def _shown(second: int) -> str:
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(second))
