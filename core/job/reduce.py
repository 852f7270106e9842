"""The second half of map_reduce."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any

from core.errors import ConfigError, InputError
from core.futures import Future, FutureList, follow
from core.storage.address import join_address
from core.types import Partition


def check_reduction(reduce_fn: Any, combine: Any, reduce_by: Any) -> None:
    """Refuse what cannot be a reduction, before the map begins.

    Raises
    ------
    ConfigError
        See the message.
    """
    if reduce_by not in (None, "object"):
        raise ConfigError(f"reduce_by must be None or 'object', not {reduce_by!r}")
    for function in (reduce_fn, combine):
        if function is not None and not callable(function):
            raise ConfigError(f"reduce_fn and combine must be functions, not {type(function).__name__}")


@dataclass(slots=True, eq=False)
class Reduction:
    """A reduction that follows a map, and the owner of the future that stands for both.

    Parameters
    ----------
    submit : callable
        Runs a function on a list of results in a worker, and returns its future.
    cancel : callable
        Cancels futures.
    futures : FutureList
        Those of the map.
    groups : sequence of Partition, optional
        The input of each map task, made before its future: results of one object are reduced together.
    """

    submit: Callable[[Callable[..., Any], list[Any]], Future]
    cancel: Callable[[FutureList | Iterable[Future]], None]
    futures: FutureList
    reduce_fn: Callable[..., Any]
    combine: Callable[[Any, Any], Any] | None
    groups: Sequence[Partition] | None
    job_id: str = ""
    _calls: list[Future] = field(default_factory=list)
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def start(self, inline: bool) -> Future:
        """Begin, and return the future of the reduced value; `inline`: end before returning."""
        final = Future(self)
        final.start()
        if inline:
            self._work(final)
        else:
            threading.Thread(target=self._work, args=(final,), name="fanfold-reduce", daemon=True).start()
        return final

    def notice_cancel(self) -> None:
        """Cancel the map, and what is being reduced."""
        self._cancelled.set()
        with contextlib.suppress(RuntimeError):  # the executor has ended, and the map with it
            self.cancel(self.futures)
            self.cancel(list(self._calls))

    def reference(self, index: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Refuse: the reduction is done by this process."""
        raise TypeError("the future of a reduction cannot be pickled; return its result")

    def _work(self, final: Future) -> None:
        try:
            final.settle(self._reduced())
        except BaseException as error:
            final.settle(None, error)
            self.notice_cancel()
        self.futures, self.groups = FutureList(), None
        self._calls.clear()

    def _reduced(self) -> Any:
        reduced = {name: self._call(merged) for name, merged in self._merged()}
        if self.groups is None:
            return (reduced[""] if reduced else self._call([])).result()
        return {name: future.result() for name, future in reduced.items()}

    def _call(self, merged: list[Any]) -> Future:
        if self._cancelled.is_set():
            raise CancelledError
        call = self.submit(self.reduce_fn, merged)
        self._calls.append(call)
        if self._cancelled.is_set():  # while it was submitted
            self.notice_cancel()
        return call

    def _merged(self) -> Iterator[tuple[str, list[Any]]]:
        """Yield the results that belong together, each group when its last is there."""
        merged: list[Any] = []
        name, seen = "", set[str]()
        for index, future in enumerate(self.futures):
            before, name = name, self._group(index)
            if merged and name != before:
                yield before, merged
                merged = []
                seen.add(before)
                if name in seen:  # it was reduced when the first of its results were there
                    raise InputError(f"{name} is in the data again after other objects; give each object once")
            self._merge(merged, follow(future.result()))
            self.futures.release(index)
        if merged:
            yield name, merged

    def _group(self, index: int) -> str:
        if self.groups is None:
            return ""
        return join_address(self.groups[index].address, self.groups[index].key)

    def _merge(self, merged: list[Any], value: Any) -> None:
        if self.combine is None or not merged:
            merged.append(value)
        else:
            merged[0] = self.combine(merged[0], value)
