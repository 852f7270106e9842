"""An executor with other options: what `FunctionExecutor.options` returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any, Protocol

from core.errors import ConfigError
from core.futures import Future, FutureList
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

    @property
    def _call(self) -> Callable[..., Future]:
        """Run a function once, with options."""

    @property
    def _latest(self) -> Any:
        """What `get_result` without arguments returns."""

    def _options(self, **options: Any) -> object:
        """Check and settle options."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Release the workers."""


class ExecutorView(Executor):
    """The same executor, jobs and workers; calls made through it have options of their own.

    Whatever is not here (``wait``, ``get_result``, ``stats`` ...) is the executor's.
    """

    def __init__(self, executor: Viewed, options: dict[str, Any]) -> None:
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise ConfigError(f"options() has no {', '.join(unknown)}; known: {', '.join(OPTIONS)}")
        executor._options(**{name: options.get(name) for name in OPTIONS[:3]})  # refuses what cannot be
        self._executor, self._given = executor, options

    def __getattr__(self, name: str) -> Any:
        if name in ("_executor", "_given"):
            raise AttributeError(name)
        return getattr(self._executor, name)

    def options(self, **options: Any) -> ExecutorView:
        """Return a view with these options too."""
        return ExecutorView(self._executor, {**self._given, **options})

    def call_async(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run ``fn(*args, **kwargs)`` once; returns its future."""
        return self._executor._call(fn, args, kwargs, self._executor._latest.add, **self._given)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run ``fn(*args, **kwargs)`` once."""
        return self._executor._call(fn, args, kwargs, self._executor._latest.add_held, **self._given)

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
        return Pool(self._executor, self._given, initializer, tuple(initargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut down the executor itself."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)
