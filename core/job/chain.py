"""Calls whose arguments are results of other tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from core.errors import InputError
from core.futures import Future, FutureList, follow


def _awaits(value: Any) -> bool:
    return isinstance(value, Future | FutureList) or (
        type(value) in (list, tuple) and len(value) > 0 and isinstance(value[0], Future)
    )


def awaits_futures(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an argument is a future, or a list or tuple that begins with one: longer ones are not searched."""
    return any(map(_awaits, args)) or (bool(kwargs) and any(map(_awaits, kwargs.values())))


def call_later(
    start: Callable[[tuple[Any, ...], dict[str, Any]], Future],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    inline: bool,
) -> Future:
    """Return the future of a call that starts when the futures among its arguments have their results.

    Parameters
    ----------
    start : callable
        Starts the call with results in the place of futures.
    inline : bool
        Wait and run before returning, for backends that run everything in the calling thread.
    """
    final = Future()

    def work() -> None:
        final.start()
        try:
            call = start(*_resolved(args, kwargs))
            final.settle(call.result())
        except CancelledError:
            final.drop()
        except BaseException as error:
            final.settle(None, error)

    if inline:
        work()
    else:
        threading.Thread(target=work, name="fanfold-chain", daemon=True).start()
    return final


def _resolved(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        return tuple(map(_result_of, args)), {name: _result_of(value) for name, value in kwargs.items()}
    except CancelledError:
        raise InputError("the task whose result this call needs was cancelled") from None


def _result_of(value: Any) -> Any:
    if not _awaits(value):
        return value
    results = follow(list(value) if isinstance(value, tuple) else value)
    return tuple(results) if isinstance(value, tuple) else results
