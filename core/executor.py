"""FunctionExecutor: what a user calls. Wires partitioner, jobs, scheduler and backend together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Self

from core.compute.base import check_workers, open_backend
from core.data.chunks import Chunks, chunks_of
from core.data.items import items_of, recorded
from core.futures import Future, FutureList, as_list, fetch, wait
from core.job.history import JobHistory
from core.job.launch import Launcher
from core.job.lifetime import Lifetime, open_listener, open_log
from core.job.queue import SIZE, Queue, QueueHub
from core.job.reduce import Reduction, check_reduction
from core.job.scheduler import Scheduler
from core.job.unfetched import Unfetched
from core.settings import default_storage, load_config, parse_address
from core.storage.clients import process_storage
from core.task.signature import takes_objects
from core.types import Bill, Listener, Partition, Retries, ReturnWhen

if TYPE_CHECKING:
    import pandas

    from core.data.buckets import StorageHandle
    from core.events.prices import Estimate
    from core.pool.pool import Pool
    from core.pool.view import ExecutorView
    from core.storage.base import Storage


class FunctionExecutor(Executor):
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
        places = {"compute": compute, "storage": storage, "runtime": runtime, "notify": notify}
        limits = {"workers": workers, "memory": memory, "timeout": timeout, "retries": retries}
        self.config = load_config(config, **places, **limits, durable=durable, speculation=speculation)
        self._backend = open_backend(parse_address(self.config.compute), self.config)
        if workers is not None:
            check_workers(self._backend, self.config.workers)
        self._can = self._backend.capabilities
        self._scheduler = Scheduler(self._backend, listeners)
        log, self._listener = open_log(self._scheduler, self.config), open_listener(self._scheduler, self.config)
        self._history, self._latest = JobHistory(), Unfetched()
        self._reductions: list[Future] = []
        self._queues = QueueHub(self._scheduler, self._history, self._reductions, self._listener)
        self._lifetime = Lifetime(self._scheduler, self._history, self._listener, log, self._reductions)
        parts = self._scheduler, self._history, self._lifetime, self._queues, self._reductions, self._listener
        self._launcher = Launcher(self, self.config, self._backend, *parts)

    @property
    def workers(self) -> int:
        """Tasks that run at the same time."""
        return self._backend.workers

    @property
    def is_open(self) -> bool:
        """Whether it takes further calls."""
        return not (self._lifetime.closed or self._scheduler.broken)

    def reaches(self, storage: Storage) -> bool:
        """Whether the workers see the objects of a storage too.

        Buckets count as seen: whether a platform's identity may use them, the first request tells.
        """
        return self._can.reach(storage, self.config.storage or default_storage())

    _max_workers = workers  # where software that takes any concurrent.futures executor looks for it

    @property
    def storage(self) -> StorageHandle:
        """The executor's storage, as functions get it; without one, the default of durable jobs."""
        from core.data.buckets import StorageHandle

        return StorageHandle(process_storage(self.config.storage or default_storage()))

    def call_async(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run ``fn(*args, **kwargs)`` once; returns its future, which is kept for `get_result` too.

        An argument that is a future, or a list or tuple that begins with one, is replaced by its result: the call waits
        for it, and fails as it fails. See `options` for a timeout and the like of one call.
        """
        future = self._launcher.call(fn, args, kwargs)
        self._latest.add(future)
        return future

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run ``fn(*args, **kwargs)`` once, as every ``concurrent.futures.Executor`` does.

        The caller has the future and nobody else: its result is let go with it, though the call is made all the same.
        """
        future = self._launcher.call(fn, args, kwargs)
        self._latest.add_held(future)
        return future

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

        return ExecutorView(self, self._launcher, self._latest, options)

    def pool(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> Pool:
        """Return this executor as other software expects one: see `core.pool.pool.Pool`.

        Parameters
        ----------
        initializer : callable, optional
            Run with `initargs` in each worker before its first task of this pool.
        """
        from core.pool.pool import Pool

        return Pool(self, self._launcher, {}, initializer, tuple(initargs))

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
        label: str = "",
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
            Any iterable; a generator is read as workers need items. An item is taken as it is when it is read; of a
            list, at once, but for those that may change and have more than 64 MiB before them. A string or path is an
            object, folder, prefix or pattern of objects; so is each element when `fn`, if it is no builtin, has a
            parameter ``obj`` without default.
        extra_args : tuple, list or dict
            Further arguments of every call, after the item's or by name; tasks of one worker share them.
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
        label : str, optional
            What the job is called in progress bars and events, instead of the function's name.

        Raises
        ------
        ConfigError, InputError, SerializationError
            The call cannot work. Nothing has been run.
        """
        cut = chunks_of(chunks, chunk_bytes)
        items = items_of(data, cut, takes_objects(fn, extra_args), self._can.inline)
        extra: dict[str, Any] = {"extra_args": extra_args, "extra_env": extra_env, "batch_size": batch_size}
        modules: dict[str, Any] = {"include_modules": include_modules, "exclude_modules": exclude_modules}
        limits: dict[str, Any] = {"timeout": timeout, "memory": memory, "retries": retries, "durable": durable}
        futures = self._launcher.start(fn, "item", items, label=label, **extra, **modules, **limits)
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
        check_reduction(reduce_fn, combine, reduce_by)
        partitions: list[Partition] = []
        if reduce_by == "object":
            cut = chunks_of(options.pop("chunks", None), options.pop("chunk_bytes", None))
            over_objects = takes_objects(map_fn, options.get("extra_args", ()))
            data = recorded(items_of(data, cut, over_objects, self._can.inline), partitions)
        futures = self.map(map_fn, data, **options)
        self._latest.drop([futures])
        groups = partitions if reduce_by else None
        submit = partial(self._launcher.reduce, extra_args_reduce)
        final = Reduction(submit, self.cancel, futures, reduce_fn, combine, groups).start(self._can.inline)
        self._launcher.keep_open(final)
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
        """Cancel futures, by default all of this executor; running tasks are ended by force.

        To cancel the future of a `map_reduce` cancels its map and its reduction.
        """
        self._lifetime.check()
        self._launcher.cancel(futures)

    def clean(self) -> None:
        """Forget finished jobs, their statistics included, and delete what they keep in storage."""
        self._history.clean()

    def queue(self, size: int | str = SIZE) -> Queue:
        """Return a new queue, to be passed to tasks of this executor; see `core.Queue`.

        Parameters
        ----------
        size : int or str
            Bytes of values that may wait to be read, such as ``"64MB"``; beyond that the oldest are dropped.

        Raises
        ------
        ConfigError
            Nothing carries values from this backend's workers: give the executor ``notify="redis://..."``.
        """
        return self._queues.queue(size)

    def stats(self) -> pandas.DataFrame:
        """Return one row a finished task: job, task, start, duration, CPU seconds, worker, attempts, memory, bytes.

        Of jobs that have ended, the latest and as many before it as fit into 8 MB: some 35,000 calls, or 350,000 tasks
        of maps. Older ones are in the sums of `bill` alone.
        """
        return self._history.stats()

    def plot(self, path: str | Path) -> None:
        """Draw a timeline of the tasks that `stats` has, one line a worker, to a PNG, SVG or PDF file."""
        from core.events.listeners import timeline

        timeline([row for _, row in self._history.rows()], path)

    def bill(self) -> Bill:
        """Return what the jobs of this executor have cost so far, all of them."""
        return self._history.bill(self._backend.name, self.config)

    def estimate(
        self,
        invocations: int,
        seconds: float,
        memory: int = 0,
        *,
        puts: int = 0,
        gets: int = 0,
        compute: str | None = None,
    ) -> Estimate:
        """Return what a job would be charged; starts and runs nothing.

        Parameters
        ----------
        invocations : int
            Batches of tasks.
        seconds : float
            Seconds that one takes.
        memory : int, optional
            Bytes a worker needs; what the executor or the platform grants, if that is more.
        puts, gets : int, optional
            Requests that its functions make of the storage: writing or listing, reading.
        compute : str, optional
            Another compute address to ask the price of.
        """
        from core.events.prices import estimate

        readers = self._backend.workers if self.config.durable or self._can.results_in_storage else 0
        return estimate(self.config, invocations, seconds, memory, puts, gets, compute, readers)

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
        executor = cls(storage=storage, **settings)
        try:
            executor._latest.add(executor._launcher.attach(job_id, storage))
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise
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
        self._lifetime.end(wait, cancel_futures)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.shutdown(cancel_futures=kind is not None)

    def __reduce__(self) -> Any:
        raise TypeError("an executor cannot be sent to workers; make one inside the function")
