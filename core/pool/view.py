"""An executor with other options: what `FunctionExecutor.options` returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any, Protocol

from core.errors import ConfigError
from core.futures import Future, FutureList
from core.job.launch import Launcher
from core.job.unfetched import Unfetched
from core.pool.pool import Host, Pool

OPTIONS = ("timeout", "memory", "retries", "durable", "extra_env", "include_modules", "exclude_modules")


class Viewed(Host, Protocol):
    """What a view asks of its executor."""

    @property
    def map(self) -> Callable[..., FutureList]:
        """Run a function on every item."""

    @property
    def map_reduce(self) -> Callable[..., Future]:
        """Map, then reduce."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Release the workers."""


class ExecutorView(Executor):
    """The same executor, jobs and workers; calls made through it have options of their own.

    What is not here (``wait``, ``get_result``, ``stats`` ...) is the executor's.
    """

    def __init__(self, executor: Viewed, launcher: Launcher, latest: Unfetched, options: dict[str, Any]) -> None:
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise ConfigError(f"options() has no {', '.join(unknown)}; known: {', '.join(OPTIONS)}")
        launcher.options(**{name: options.get(name) for name in OPTIONS[:3]})  # refuses what cannot be
        self._executor, self._given = executor, options
        self._launcher, self._latest = launcher, latest

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._executor, name)

    def options(self, **options: Any) -> ExecutorView:
        """Return a view with these options too."""
        return ExecutorView(self._executor, self._launcher, self._latest, {**self._given, **options})

    def call_async(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run ``fn(*args, **kwargs)`` once; returns its future."""
        future = self._launcher.call(fn, args, kwargs, **self._given)
        self._latest.add(future)
        return future

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run ``fn(*args, **kwargs)`` once."""
        future = self._launcher.call(fn, args, kwargs, **self._given)
        self._latest.add_held(future)
        return future

    @property
    def _max_workers(self) -> int:
        return self._executor.workers

    def map(  # type: ignore[override]
        self, fn: Callable[..., Any], data: Any, **options: Any
    ) -> FutureList:
        """Run a function on every item; `options` as for the executor's."""
        return self._executor.map(fn, data, **{**self._given, **options})

    def map_reduce(
        self, map_fn: Callable[..., Any], data: Any, reduce_fn: Callable[..., Any], **options: Any
    ) -> Future:
        """Map, then reduce; `options` as for the executor's."""
        return self._executor.map_reduce(map_fn, data, reduce_fn, **{**self._given, **options})

    def pool(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> Pool:
        """Return a pool whose tasks have these options."""
        return Pool(self._executor, self._launcher, self._given, initializer, tuple(initargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut down the executor itself."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)
