"""FunctionExecutor: what a user calls. Wires partitioner, jobs, monitor and backend together."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from core.compute.base import open_backend
from core.data.chunks import Chunks, chunks_of
from core.data.generator import FailedInput, read_all
from core.data.items import items_of, recorded
from core.data.objects import process_storage
from core.data.partition import Listing
from core.errors import ConfigError
from core.futures import Future, FutureList, Unfetched, as_list, fetch, wait
from core.job.chain import awaits_futures, call_later
from core.job.direct import DirectJob
from core.job.history import Account
from core.job.job import Job, Options
from core.job.queue import Hearing
from core.job.reduce import reduce_job
from core.job.scheduler import Scheduler
from core.serialization import Packing
from core.settings import default_storage, load_config, parse_address, parse_setting
from core.task.call import Kind, check_items, dump_call, make_call, working_folder
from core.task.modules import LocalModules
from core.task.signature import takes_objects
from core.types import Listener, Partition, RetryPolicy, ReturnWhen

if TYPE_CHECKING:
    from core.data.buckets import StorageHandle
    from core.events.listeners import EventLog
    from core.pool.pool import Pool
    from core.pool.view import ExecutorView
    from core.task.notices import CommitListener

Retries = int | RetryPolicy | None

_logger = logging.getLogger("fanfold")


class FunctionExecutor(Account, Hearing, Executor):
    """Runs a function on thousands of items.

    A ``concurrent.futures.Executor`` whose ``map`` follows PyWren and Lithops: one function, one iterable, futures
    back. Nothing is started before the first call.

    Parameters
    ----------
    compute : str, optional
        Address of the backend: ``process`` (warm worker processes on this machine), ``serial`` (this process), or a
        platform such as ``container://IMAGE`` or ``lambda://FUNCTION?region=eu-west-1``.
    storage : str, optional
        Address of the storage that durable jobs live in and that functions get as ``storage``.
    workers : int, optional
        Tasks that run at the same time; by default the processors of this machine.
    runtime : str, optional
        Image that remote workers run, where the address does not name it.
    memory : int or str, optional
        Bytes a task may use, such as ``"512MB"``, beyond what its worker inherited; a task over it is ended.
    timeout : float or str, optional
        Seconds a task may run; a task over it is ended.
    retries : int or RetryPolicy, optional
        Further attempts of a task whose worker died or that ran out of time or memory (2 by default).
    durable : bool, optional
        Keep inputs and results of jobs in `storage`, so that they outlive this process; see `attach`.
    speculation : bool, optional
        Run backup copies of slow tasks; by default where a copy is likely to run on another machine.
    notify : str, optional
        ``redis://HOST:PORT/DB`` over which workers tell of results in storage, so that they need not be looked for.
    listeners : iterable of callables
        Receive every event; see ``ProgressBar`` and ``EventLog``.
    config : path, optional
        Configuration file to use instead of ``fanfold.toml`` and the user's own.

    Raises
    ------
    ConfigError
        A setting is wrong; the message says which, where it came from and what is valid.
    """

    def __init__(
        self,
        compute: str | None = None,
        storage: str | None = None,
        *,
        workers: int | None = None,
        runtime: str | None = None,
        memory: int | str | None = None,
        timeout: float | str | None = None,
        retries: Retries = None,
        durable: bool | None = None,
        speculation: bool | None = None,
        notify: str | None = None,
        listeners: Iterable[Listener] = (),
        config: str | Path | None = None,
    ) -> None:
        self.config = load_config(
            config,
            compute=compute,
            storage=storage,
            workers=workers,
            runtime=runtime,
            memory=memory,
            timeout=timeout,
            retries=retries,
            durable=durable,
            speculation=speculation,
            notify=notify,
        )
        self._backend = open_backend(parse_address(self.config.compute), self.config)
        if workers is not None and self._backend.workers != self.config.workers:
            has = f"compute backend {self._backend.name!r} has {self._backend.workers} worker(s), not {workers}"
            raise ConfigError(f"{has}; use 'process' for more, or leave the number out")
        self._can = self._backend.capabilities
        heard = list(listeners)
        self._log: EventLog | None = None
        if self.config.log is not None:
            from core.events.listeners import EventLog

            self._log = EventLog(self.config.log)
            heard.append(self._log)
        self._scheduler = Scheduler(self._backend, heard)
        self._hear_workers()
        self._starting = threading.Lock()
        self._finalizer: weakref.finalize[Any, Any] | None = None
        self._jobs: list[Job] = []
        self._latest = Unfetched()
        self._reductions: list[Future] = []
        self._closed = self._ended = False
        self._local = LocalModules()
        self._ending: threading.Thread | None = None
        self._pid = os.getpid()

    @property
    def workers(self) -> int:
        """Tasks that run at the same time."""
        return self._backend.workers

    @property
    def is_open(self) -> bool:
        """Whether it takes further calls."""
        return not (self._closed or self._scheduler.broken)

    _max_workers = workers  # where software that takes any concurrent.futures executor looks for it

    @property
    def storage(self) -> StorageHandle:
        """The executor's storage, as functions get it; without one, the default of durable jobs."""
        from core.data.buckets import StorageHandle

        return StorageHandle(process_storage(self.config.storage or default_storage()))

    def call_async(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run ``fn(*args, **kwargs)`` once; returns its future.

        An argument that is a future, or a list or tuple that begins with one, is replaced by its result: the call waits
        for it, and fails as it fails. See `options` for a timeout and the like of one call.
        """
        return self._call(fn, args, kwargs)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run ``fn(*args, **kwargs)`` once, as every ``concurrent.futures.Executor`` does."""
        return self.call_async(fn, *args, **kwargs)

    def options(self, **options: Any) -> ExecutorView:
        """Return this executor with other options for what is called through it; the workers are the same.

        Parameters
        ----------
        timeout, memory, retries, durable, extra_env, include_modules, exclude_modules
            As for `map`.

        Raises
        ------
        ConfigError
            There is no such option, or its value cannot be.

        Examples
        --------
        >>> executor.options(timeout="5m", memory="2GB", retries=0).call_async(simulate, seed)
        """
        from core.pool.view import ExecutorView

        return ExecutorView(self, options)

    def pool(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> Pool:
        """Return this executor as other software expects one: see `core.pool.pool.Pool`.

        Parameters
        ----------
        initializer : callable, optional
            Run with `initargs` in each worker before its first task of this pool.
        """
        from core.pool.pool import Pool

        return Pool(self, {}, initializer, tuple(initargs))

    def map(  # type: ignore[override]
        self,
        fn: Callable[..., Any],
        data: Iterable[Any] | str | os.PathLike[str],
        *,
        extra_args: Sequence[Any] | Mapping[str, Any] = (),
        extra_env: Mapping[str, str] | None = None,
        include_modules: Iterable[ModuleType | str] = (),
        exclude_modules: Iterable[ModuleType | str] = (),
        batch_size: int | None = None,
        timeout: float | str | None = None,
        memory: int | str | None = None,
        retries: Retries = None,
        durable: bool | None = None,
        chunk_bytes: int | None = None,
        chunks: Chunks | None = None,
    ) -> FutureList:
        """Run a function on every item, or on every object or chunk of objects.

        Parameters
        ----------
        fn : callable
            Gets the item; a tuple is spread over its positional parameters when it takes that many, a dict over its
            keywords when they are its own. Parameters named ``storage``, ``boto3_client``, ``task_id``, ``task_key``
            and ``attempt`` that have no default and that the item does not give are filled. Over objects its
            parameter ``obj``, or else its first, gets a handle (``obj.key``, ``obj.read()``, ``obj.lines()``,
            ``obj.data_stream`` ...).
        data : iterable, or address
            Any iterable; a generator is read as workers need items. A string or path is an object, folder, prefix
            or pattern of objects; so is each element when `fn`, if it is no builtin, has a parameter ``obj`` without
            default.
        extra_args : tuple, list or dict
            Further arguments of every call, after the item's or by name.
        extra_env : mapping
            Environment variables of the tasks.
        include_modules : iterable of modules or names
            Modules that travel with the function because workers cannot import them.
        exclude_modules : iterable of modules or names
            Modules that do not travel, because workers have their own.
        batch_size : int, optional
            Tasks sent together; by default as many as take about 0.1 s.
        timeout, memory, retries, durable
            As for the executor, for this job.
        chunks : Chunks, optional
            How objects are cut into chunks of whole lines or records; by default each object is one task.
        chunk_bytes : int, optional
            Short for ``chunks=Chunks(bytes=...)``.

        Raises
        ------
        ConfigError, InputError, SerializationError
            The call cannot work. Nothing has been run.
        """
        cut = chunks_of(chunks, chunk_bytes)
        items = items_of(data, cut, takes_objects(fn, extra_args), self._can.inline)
        options = self._options(timeout, memory, retries, batch_size, durable)
        modules = (include_modules, exclude_modules)
        futures = self._start(fn, "item", items, options, extra_args, extra_env, modules, durable)
        self._latest.add(futures)
        return futures

    def map_reduce(
        self,
        map_fn: Callable[..., Any],
        data: Iterable[Any] | str | os.PathLike[str],
        reduce_fn: Callable[..., Any],
        *,
        reduce_by: Literal["object"] | None = None,
        combine: Callable[[Any, Any], Any] | None = None,
        extra_args_reduce: Sequence[Any] | Mapping[str, Any] = (),
        **options: Any,
    ) -> Future:
        """Map, then reduce the list of results to one value.

        Parameters
        ----------
        map_fn, data, options
            As for `map`.
        reduce_fn : callable
            Gets the list of map results in input order, and runs in a worker.
        reduce_by : "object", optional
            Reduce the results of each object by themselves, as soon as they are there; the future's result is a dict
            from the object's address to its reduced value, in input order.
        combine : callable, optional
            Associative function of two results. They are merged here in input order as they arrive, so that they
            never all sit in memory; `reduce_fn` then gets a list of the one merged value.
        extra_args_reduce : tuple, list or dict
            Further arguments of `reduce_fn`, after the list of results or by name.
        """
        if reduce_by not in (None, "object"):
            raise ConfigError(f"reduce_by must be None or 'object', not {reduce_by!r}")
        for function in (reduce_fn, combine):
            if function is not None and not callable(function):
                raise ConfigError(f"reduce_fn and combine must be functions, not {type(function).__name__}")
        partitions: list[Partition] = []
        if reduce_by == "object":
            cut = chunks_of(options.pop("chunks", None), options.pop("chunk_bytes", None))
            over_objects = takes_objects(map_fn, options.get("extra_args", ()))
            data = recorded(items_of(data, cut, over_objects, self._can.inline), partitions)
        futures = self.map(map_fn, data, **options)
        self._latest.drop([futures])
        groups = partitions if reduce_by else None
        submit = partial(self._reduce, extra_args_reduce)
        final = reduce_job(submit, self.cancel, futures, reduce_fn, combine, groups, self._can.inline)
        self._reductions = [known for known in self._reductions if not known.done()] + [final]
        self._latest.add(final)
        return final

    def wait(
        self,
        futures: Iterable[Future] | FutureList | Future | None = None,
        return_when: ReturnWhen = "ALL",
        timeout: float | None = None,
    ) -> tuple[list[Future], list[Future]]:
        """Wait for futures, by default those of the latest jobs not yet fetched; returns (done, not done)."""
        if futures is None:
            return self._latest.wait(return_when, timeout)
        if isinstance(futures, FutureList):
            return futures.wait(return_when, timeout)
        return wait(futures, return_when, timeout)

    def get_result(
        self,
        futures: Iterable[Future] | FutureList | Future | None = None,
        timeout: float | None = None,
        throw_except: bool = True,
    ) -> Any:
        """Return results, by default of the latest jobs not yet fetched.

        One future gives its result, several a list; results of several jobs follow one another. A result that is a
        future of a durable job is followed. Without `throw_except`, a task that failed or was cancelled gives None,
        and a warning in the log, instead of raising its exception here.

        Raises
        ------
        TimeoutError
            Not all ended within `timeout` seconds; the jobs go on and can be asked again.
        """
        if futures is None:
            return self._latest.results(timeout, throw_except)
        if isinstance(futures, Future):
            return fetch(futures, timeout, throw_except)
        return as_list(futures).results(timeout, throw_except)

    def cancel(self, futures: Iterable[Future] | FutureList | Future | None = None) -> None:
        """Cancel futures, by default all of this executor; running tasks are ended by force."""
        self._check_process()
        if futures is None:
            for job in self._jobs:
                job.discarded = True
            self._scheduler.cancel(dict.fromkeys(self._jobs))
            return
        chosen: dict[Job, set[int] | None] = {}
        jobs = {job.job_id: job for job in self._jobs}
        if isinstance(futures, FutureList) and futures.job_id in jobs:
            jobs[futures.job_id].discarded = True
            chosen[jobs[futures.job_id]] = None
        else:
            for future in [futures] if isinstance(futures, Future) else futures:
                if future.job_id in jobs:
                    tasks = chosen.setdefault(jobs[future.job_id], set())
                    assert tasks is not None
                    tasks.add(future.index)
                else:
                    future.cancel()
        self._scheduler.cancel(chosen)

    def clean(self) -> None:
        """Forget finished jobs, their statistics included, and delete what they keep in storage."""
        for job in [job for job in self._jobs if job.finished]:
            job.remove()
            self._jobs.remove(job)

    @classmethod
    def attach(cls, job_id: str, storage: str | None = None, **settings: Any) -> FunctionExecutor:
        """Take up a durable job, from any process that has its key; its results are the executor's latest.

        What is committed is not run again. If its driver lives, this executor only looks on; if it died, this one
        runs what is left.

        Parameters
        ----------
        job_id : str
            As ``FutureList.job_id`` or ``fanfold jobs`` gives it.
        storage : str, optional
            Where the job is, if this machine's records do not know.

        Raises
        ------
        InputError
            There is no such job, or this user does not hold its key.
        """
        from core.job.attach import attach

        executor = cls(storage=storage, **settings)
        try:
            executor._start_backend()
            job = attach(job_id, storage, executor._backend, executor, executor._notices)
            futures = job.futures
            executor._adopt(job)
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise
        executor._latest.add(futures)
        return executor

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Release the workers.

        Parameters
        ----------
        wait : bool
            Return when every task has ended.
        cancel_futures : bool
            End running tasks and cancel waiting ones. What a durable job has committed stays.
        """
        if self._pid != os.getpid():
            return
        if self._closed:
            if wait and self._ending is not None and self._ending is not threading.current_thread():
                self._ending.join()
            return
        self._closed = True
        if self._finalizer is None:
            return
        self._finalizer.detach()
        if not wait and not cancel_futures:
            self._ending = threading.Thread(target=self._end, args=(False,), name="fanfold-shutdown")
            self._ending.start()
            return
        self._end(cancel_futures)

    def _end(self, force: bool) -> None:
        if not force:
            wait(self._reductions)  # each has yet to submit its last task
        self._ended = True
        self._scheduler.close(force)
        for job in self._jobs:
            job.leave()
        if self._notices is not None:
            self._notices.close()
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(cancel_futures=kind is not None)

    def __reduce__(self) -> Any:
        raise TypeError("an executor cannot be sent to workers; make one inside the function")

    def _call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        **options: Any,
    ) -> Future:
        if awaits_futures(args, kwargs):
            self._check_process()

            def start(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future:
                return self._run(fn, "call", [(args, kwargs)], inside=True, **options)[0]

            future = call_later(start, args, kwargs, self._can.inline)
            self._reductions = [known for known in self._reductions if not known.done()] + [future]
        else:
            future = self._run(fn, "call", [(args, kwargs)], **options)[0]
        self._latest.add(future)
        return future

    def _run(
        self,
        fn: Callable[..., Any],
        kind: Kind,
        data: Iterable[Any],
        *,
        extra_args: Sequence[Any] | Mapping[str, Any] = (),
        extra_env: Mapping[str, str] | None = None,
        include_modules: Iterable[ModuleType | str] = (),
        exclude_modules: Iterable[ModuleType | str] = (),
        batch_size: int | None = None,
        timeout: float | str | None = None,
        memory: int | str | None = None,
        retries: Retries = None,
        durable: bool | None = None,
        inside: bool = False,
        reducers: Mapping[type, Callable[[Any], Any]] = MappingProxyType({}),
    ) -> FutureList:
        options = self._options(timeout, memory, retries, batch_size, durable)
        modules = (include_modules, exclude_modules)
        return self._start(fn, kind, data, options, extra_args, extra_env, modules, durable, inside, reducers)

    def _reduce(self, extra: Sequence[Any] | Mapping[str, Any], fn: Callable[..., Any], results: list[Any]) -> Future:
        """Run the last task of a map_reduce, even while the executor closes."""
        args, kwargs = ((), dict(extra)) if isinstance(extra, Mapping) else (tuple(extra), {})
        return self._start(fn, "call", [((results, *args), kwargs)], inside=True)[0]

    def _check_process(self, inside: bool = False) -> None:
        if self._ended or (self._closed and not inside):
            raise RuntimeError("the executor has been shut down")
        if self._pid != os.getpid():
            raise RuntimeError("the executor belongs to the process that made it; make one in this process")

    def _start_backend(self) -> None:
        """Start the backend before a job opens files or threads that its workers would inherit."""
        with self._starting:
            if self._finalizer is not None:
                return
            self._scheduler.start()
            self._local.note()
            if self._notices is not None:
                self._notices.start()
            self._finalizer = weakref.finalize(self, _abandon, self._scheduler, self._notices, os.getpid())

    def _adopt(self, job: Job) -> None:
        job.wake = self._scheduler.wake
        self._jobs.append(job)
        self._scheduler.submit(job)

    def _options(
        self,
        timeout: float | str | None = None,
        memory: int | str | None = None,
        retries: Retries = None,
        batch_size: int | None = None,
        durable: bool | None = None,
    ) -> Options:
        given = {"timeout": timeout, "memory": memory, "retries": retries}
        settled = {
            name: getattr(self.config, name) if value is None else parse_setting(name, value, "argument")
            for name, value in given.items()
        }
        if batch_size is not None and (isinstance(batch_size, bool) or int(batch_size) != batch_size or batch_size < 1):
            raise ConfigError(f"batch_size must be a whole number of at least 1, not {batch_size!r}")
        speculate = self.config.speculation
        if speculate is None:
            speculate = self._can.speculates and not self._queues  # a copy would put its values again
        return Options(settled["timeout"], settled["memory"], settled["retries"], batch_size, speculate)

    def _start(
        self,
        fn: Callable[..., Any],
        kind: Kind,
        data: Iterable[Any],
        options: Options | None = None,
        extra_args: Sequence[Any] | Mapping[str, Any] = (),
        extra_env: Mapping[str, str] | None = None,
        modules: tuple[Iterable[ModuleType | str], Iterable[ModuleType | str]] = ((), ()),
        durable: bool | None = None,
        inside: bool = False,
        reducers: Mapping[type, Callable[[Any], Any]] = MappingProxyType({}),
    ) -> FutureList:
        self._check_process(inside)
        options = options or self._options()
        durable = self._can.results_in_storage or (self.config.durable if durable is None else durable)
        if durable and options.retry.memory_growth is None:
            options = replace(options, retry=replace(options.retry, memory_growth=2.0))
        extras = extra_args if isinstance(extra_args, Mapping) else tuple(extra_args)
        call = make_call(
            fn,
            kind=kind,
            extra_args=extras,
            env=extra_env,
            retry=options.retry,
            storage=self.config.storage,
            folder=working_folder() if self._can.shares_files else None,
        )
        check_items(call, data)
        include, exclude = map(list, modules)
        imports = self._finalizer is not None and self._can.shares_files and not self._can.inline
        shipped = dump_call(call, include, self._can.shares_files, exclude, self._local if imports else None)
        shipped.reducers = reducers
        _logger.debug("%s ships %d bytes, modules by value: %s", call.name, len(shipped.data), include or "none")
        job_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.urandom(4).hex()}"
        futures = FutureList(job_id, self)
        if kind == "call":
            data = [Packing(shipped).snapshot(item) for item in data]
        self._start_backend()
        if durable:
            from core.job.attach import create

            items = read_all(data, job_id, shipped)
            for item in items:
                if isinstance(item, FailedInput):
                    raise item.error
            place, heard = self.config.storage, self._notices
            job: Job = create(job_id, call.name, shipped, items, options, futures, self._backend, place, heard)
        else:
            job = DirectJob(
                job_id,
                call.name,
                shipped,
                data,
                options,
                futures,
                self._scheduler.wake,
                self._can.inline,
            )
        job.listing = data if isinstance(data, Listing) else None
        self._adopt(job)
        return futures


def _abandon(monitor: Scheduler, notices: CommitListener | None, process: int) -> None:
    """Release the workers of an executor that nobody closed, in the process that made it."""
    if os.getpid() == process:
        monitor.close(force=True)
        if notices is not None:
            notices.close()
