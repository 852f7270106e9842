"""What a pool sends in place of a function: it takes its arguments from one item, or prepares the worker first."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import Any


class Starred:
    """Calls a function with the elements of the one item it gets."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self._function = func
        self.__qualname__ = _name(func)

    def __call__(self, item: Iterable[Any], /) -> Any:
        """Call the function."""
        return self._function(*item)


class Prepared:
    """Calls a function once its pool's initializer has run in this process.

    Parameters
    ----------
    pool : str
        Tells one pool from another, since workers outlive pools.
    """

    _process = 0  # where it is ready

    def __init__(
        self, func: Callable[..., Any], initializer: Callable[..., object], initargs: tuple[Any, ...], pool: str
    ) -> None:
        self._function = func
        self.__qualname__ = _name(func)
        self.initializer, self.initargs, self.pool = initializer, initargs, pool

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function; ``BrokenExecutor`` if the initializer failed in this process."""
        if self._process != os.getpid():
            name = self.pool, os.getpid()
            if name not in _prepared:
                _prepared[name] = _prepare(self.initializer, self.initargs)
            _prepared[name].reach(self.initializer)
            self._process = os.getpid()
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[object, ...]:
        return Prepared, (self._function, self.initializer, self.initargs, self.pool)


def _name(func: Any) -> str:
    return str(getattr(func, "__qualname__", type(func).__qualname__))


@dataclass(slots=True)
class _Preparation:
    """What an initializer did: the globals that it set in its own namespace, or its failure."""

    namespace: dict[str, Any]
    made: dict[str, Any]
    failure: BaseException | None = None

    def reach(self, initializer: Callable[..., object]) -> None:
        """Give what was made to a copy of the initializer's namespace.

        Functions that are pickled by value, such as those of ``__main__``, come with globals of their own at each call.
        """
        if self.failure is not None:
            kind = type(self.failure).__name__
            reason = f"the initializer of the pool failed in this worker with {kind}: {self.failure}"
            raise BrokenExecutor(reason) from self.failure
        namespace = _globals(initializer)
        if namespace is not self.namespace:
            namespace.update(self.made)


_prepared: dict[tuple[str, int], _Preparation] = {}


def _prepare(initializer: Callable[..., object], initargs: tuple[Any, ...]) -> _Preparation:
    namespace = _globals(initializer)
    before = dict(namespace)
    try:
        initializer(*initargs)
    except BaseException as error:
        return _Preparation(namespace, {}, error)
    made = {name: value for name, value in namespace.items() if name not in before or before[name] is not value}
    return _Preparation(namespace, made)


def _globals(function: Any) -> dict[str, Any]:
    while isinstance(function, functools.partial):
        function = function.func
    found: dict[str, Any] = getattr(getattr(function, "__func__", function), "__globals__", {})
    return found
