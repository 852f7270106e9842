"""What a user gives as data, as the items of a job: a sequence, or a stream."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from core.data.chunks import Chunks
from core.data.generator import result_of
from core.data.partition import Listing, find_objects, partition
from core.errors import ConfigError, InputError
from core.futures import Future, FutureList
from core.storage.base import Storage
from core.types import Partition

_LONG = 1 << 20
"""Items of a computed sequence, such as a range, past which it is read like a generator."""


def items_of(data: Any, cut: Chunks, over_objects: bool, inline: bool) -> Iterable[Any]:
    """Return the items that data stands for.

    Parameters
    ----------
    over_objects : bool
        The function takes objects: each text or path in a list is an address.
    inline : bool
        The backend runs tasks in the calling thread, so futures among the data are waited for here.

    Raises
    ------
    InputError, ConfigError
        The data is of no use, or chunks were asked for of what is no object.
    """
    if isinstance(data, str | os.PathLike):
        return _partitions([data], cut)
    if isinstance(data, bytes | bytearray | memoryview):
        raise InputError("data is bytes; give a list of items, or the address of an object")
    if not isinstance(data, Iterable):
        raise InputError(f"data must be an iterable or an address, not {type(data).__name__}")
    if isinstance(data, list | tuple) and data and over_objects:
        if all(isinstance(item, str | os.PathLike) for item in data):
            return _partitions(data, cut)
    if isinstance(data, Iterator) and not isinstance(data, Listing) and over_objects:
        first = list(itertools.islice(data, 1))
        data = itertools.chain(first, data)
        if first and isinstance(first[0], str | os.PathLike):
            return _partitions(data, cut)
    if cut.asked:
        raise ConfigError(
            "chunks are made of objects: give data as an address, or name a parameter of the function obj"
        )
    if isinstance(data, list | tuple | FutureList):
        return _copied(data, inline)
    if isinstance(data, Sequence) and (len(data) <= _LONG or inline):
        return data if isinstance(data, range) else list(data)  # a slice of another kind may be anything, or fail
    if isinstance(data, Mapping | set | frozenset) or _is_array(data):
        return list(data)
    stream: Iterable[Any] = data
    return stream


def _is_array(data: Any) -> bool:
    return hasattr(data, "__array__") and hasattr(data, "__getitem__") and len(getattr(data, "shape", ())) > 0


def _copied(data: Sequence[Any], inline: bool) -> Iterable[Any]:
    """Copy a list against later changes; one with futures becomes a stream that waits for each."""
    if inline:
        return [result_of(item) for item in data]
    if isinstance(data, FutureList) or any(isinstance(item, Future) for item in data):
        return iter(data)
    return list(data)


def _partitions(addresses: Iterable[str | os.PathLike[str]], cut: Chunks) -> Listing:
    """Partition objects lazily, but find the first before returning, so that a wrong address is an error at once."""
    storages: dict[str, Storage] = {}
    stream = partition(find_objects(addresses, storages), cut)
    first = next(stream, None)
    if first is None:
        raise InputError("the partitioner returned no partitions")

    return Listing(itertools.chain((first,), stream), storages)


def recorded(items: Iterable[Any], into: list[Partition]) -> Listing:
    """Return partitions that are kept in `into` as they are read.

    Raises
    ------
    InputError
        An item is no partition; raised when it is read.
    """

    def each() -> Iterator[Partition]:
        for item in items:
            if not isinstance(item, Partition):
                raise InputError("reduce_by='object' needs objects: give data as an address")
            into.append(item)
            yield item

    return Listing(each(), items.storages if isinstance(items, Listing) else {})
