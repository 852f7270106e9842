"""The second half of map_reduce."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

from core.futures import Future, FutureList, follow
from core.storage.address import join_address
from core.types import Partition

Submit = Callable[[Callable[..., Any], list[Any]], Future]


def reduce_job(
    submit: Submit,
    cancel: Callable[[FutureList], None],
    futures: FutureList,
    reduce_fn: Callable[..., Any],
    combine: Callable[[Any, Any], Any] | None,
    groups: Sequence[Partition] | None,
    inline: bool,
) -> Future:
    """Return the future of a reduction that follows a map.

    Parameters
    ----------
    submit : callable
        Runs a function on a list of results in a worker, and returns its future.
    cancel : callable
        Cancels the map.
    groups : sequence of Partition, optional
        The input of each map task, made before its future: results of one object are reduced together.
    inline : bool
        Reduce before returning, for backends that run everything in the calling thread.
    """
    final = Future()

    def work() -> None:
        final.start()
        try:
            if groups is None:
                final.settle(_reduce(submit, futures, reduce_fn, combine))
            else:
                final.settle(_reduce_objects(submit, futures, reduce_fn, combine, groups))
        except BaseException as error:
            final.settle(None, error)
            with contextlib.suppress(RuntimeError):  # the executor has ended, and the map with it
                cancel(futures)

    if inline:
        work()
    else:
        threading.Thread(target=work, name="fanfold-reduce", daemon=True).start()
    return final


def _reduce(
    submit: Submit,
    futures: FutureList,
    reduce_fn: Callable[..., Any],
    combine: Callable[[Any, Any], Any] | None,
) -> Any:
    merged: list[Any] = []
    for index, future in enumerate(futures):
        _merge(merged, follow(future.result()), combine)
        futures.release(index)
    return submit(reduce_fn, merged).result()


def _reduce_objects(
    submit: Submit,
    futures: FutureList,
    reduce_fn: Callable[..., Any],
    combine: Callable[[Any, Any], Any] | None,
    groups: Sequence[Partition],
) -> dict[str, Any]:
    pending: dict[str, Future] = {}
    merged: list[Any] = []
    name = ""
    for index, future in enumerate(futures):
        group = groups[index]
        before, name = name, join_address(group.address, group.key)
        if merged and name != before:
            pending[before] = submit(reduce_fn, merged)
            merged = []
        _merge(merged, follow(future.result()), combine)
        futures.release(index)
    if merged:
        pending[name] = submit(reduce_fn, merged)
    return {address: future.result() for address, future in pending.items()}


def _merge(merged: list[Any], value: Any, combine: Callable[[Any, Any], Any] | None) -> None:
    if combine is None or not merged:
        merged.append(value)
    else:
        merged[0] = combine(merged[0], value)
